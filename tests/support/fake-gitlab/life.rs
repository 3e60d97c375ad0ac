//! The life of a pipeline: made, run, ended, retried, canceled. A test drives it, or it goes by itself.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Time;
use crate::gitlab::Gitlab;
use crate::state::{Due, Job, JobPlan, MergeRequest, Pipeline, State, Upstream};
use crate::webhooks::{self, Event};

/// The sha before the first.
const NO_SHA: &str = "0000000000000000000000000000000000000000";

/// What a new pipeline is to be.
#[derive(Debug)]
pub struct New {
    /// Its branch or tag, or the ref of a merge request.
    pub branch: String,
    /// Whether that is a tag.
    pub is_tag: bool,
    /// Its commit; none: the newest of its branch.
    pub sha: Option<String>,
    /// Why it runs.
    pub source: String,
    /// Who has started it.
    pub username: String,
    /// Its name.
    pub name: Option<String>,
    /// Its variables.
    pub variables: Vec<(String, String)>,
    /// Its jobs; none: those of the project.
    pub jobs: Option<Vec<JobPlan>>,
    /// Its merge request.
    pub merge_request: Option<MergeRequest>,
    /// The pipeline that has started it.
    pub upstream: Option<Upstream>,
    /// When it was made; none: now.
    pub created_at: Option<Time>,
    /// Whether it stays as it is until a test says otherwise, whatever its project does.
    pub is_driven: bool,
    /// Whether webhooks say nothing of it.
    pub is_quiet: bool,
    /// The chain of events that the request belongs to.
    pub event_uuid: Option<String>,
}

/// What a pipeline does by itself.
#[derive(Debug)]
pub struct Step {
    pipeline: u64,
    run: u64,
    to: Vec<(Duration, String)>,
}

/// Makes a pipeline in a project that is there.
pub fn create(state: &mut State, project: u64, new: New) -> u64 {
    let (id, now) = (state.number("pipeline"), state.now());
    let created_at = new.created_at.unwrap_or(now);
    let Some(owner) = state.projects.get_mut(&project) else { return id };
    owner.last_iid += 1;
    owner.pipelines.push(id);
    let head = owner.commit(Some(&new.branch)).map(|commit| commit.sha.clone());
    let before = owner.branch(Some(&new.branch)).and_then(|branch| branch.commits.iter().rev().nth(1));
    let before_sha = before.map_or_else(|| NO_SHA.to_owned(), |commit| commit.sha.clone());
    let (iid, plans) = (owner.last_iid, new.jobs.unwrap_or_else(|| owner.jobs.clone()));
    let is_protected = owner.branch(Some(&new.branch)).is_some_and(|branch| branch.is_protected);
    let jobs = plans.into_iter().map(|plan| job(state, plan, created_at)).collect();
    let pipeline = Pipeline {
        id,
        iid,
        project,
        branch: new.branch,
        is_tag: new.is_tag,
        is_protected,
        sha: new.sha.or(head).unwrap_or_else(|| NO_SHA.to_owned()),
        before_sha,
        source: new.source,
        status: "created".into(),
        name: new.name,
        username: new.username,
        variables: new.variables,
        created_at,
        updated_at: created_at,
        started_at: None,
        finished_at: None,
        merge_request: new.merge_request,
        upstream: new.upstream,
        jobs,
        is_quiet: new.is_quiet,
        run: 0,
        event_uuid: new.event_uuid,
    };
    state.pipelines.insert(id, pipeline);
    if !new.is_driven {
        goes_by_itself(state, id, &["pending", "running"]);
    }
    id
}

/// Lets a pipeline go on by itself where its project's do: through these statuses to the next end of its project's script.
fn goes_by_itself(state: &mut State, id: u64, through: &[&str]) {
    let default = state.settings.auto_ms;
    let Some(pipeline) = state.pipelines.get(&id) else { return };
    let Some(project) = state.projects.get_mut(&pipeline.project) else { return };
    let Some(length) = project.auto_ms.or(default) else { return };
    let end = project.script.pop_front().unwrap_or_else(|| "success".into());
    let mut to: Vec<_> =
        through.iter().map(|status| (Duration::from_millis(length / 4), (*status).to_owned())).collect();
    to.push((Duration::from_millis(length / 2), end));
    state.due.push(Due::Step(Step { pipeline: id, run: pipeline.run, to }));
}

/// Does what a pipeline does by itself, for as long as nobody else starts or stops it.
pub async fn go(gitlab: Arc<Gitlab>, step: Step) {
    for (delay, status) in step.to {
        tokio::time::sleep(delay).await;
        let goes_on = gitlab.with(|state| {
            let is_same = state.pipelines.get(&step.pipeline).is_some_and(|pipeline| pipeline.run == step.run);
            if is_same {
                advance(state, step.pipeline, &status);
            }
            is_same
        });
        if !goes_on {
            return;
        }
    }
}

/// Brings a pipeline to a status on the way that GitLab takes, with a webhook for every step. Besides statuses there are
/// `warnings`, a success in spite of a failed job, and `stuck`, which runs and never ends.
pub fn advance(state: &mut State, id: u64, target: &str) {
    let Some(pipeline) = state.pipelines.get(&id) else { return };
    let end = match target {
        "warnings" => "success",
        "stuck" => "running",
        other => other,
    };
    for status in way(&pipeline.status, end) {
        if status == end {
            prepare_end(state, id, target);
        }
        set(state, id, &status);
    }
}

/// The same, as if it had ended then.
pub fn advance_at(state: &mut State, id: u64, target: &str, end: Option<Time>) {
    let ahead = state.clock.ahead;
    if let Some(end) = end {
        state.clock.ahead += end - state.now();
    }
    advance(state, id, target);
    state.clock.ahead = ahead;
}

/// Ends what a pipeline does by itself.
pub fn take_over(state: &mut State, id: u64) {
    if let Some(pipeline) = state.pipelines.get_mut(&id) {
        pipeline.run += 1;
    }
}

/// The statuses from one to another.
fn way(from: &str, to: &str) -> Vec<String> {
    let before: &[&str] = match (from, to) {
        _ if from == to => return Vec::new(),
        (_, "skipped" | "canceled" | "canceling" | "created" | "preparing" | "waiting_for_resource" | "scheduled") => {
            &[]
        }
        (_, "pending") | ("running", _) => &[],
        ("pending" | "success" | "failed" | "canceled" | "canceling", "running") => &[],
        ("pending" | "success" | "failed" | "canceled" | "canceling", _) => &["running"],
        (_, "running") => &["pending"],
        _ => &["pending", "running"],
    };
    before.iter().map(|status| (*status).to_owned()).chain([to.to_owned()]).collect()
}

/// Sees that there is a job of the kind that this end needs.
fn prepare_end(state: &mut State, id: u64, target: &str) {
    let now = state.now();
    let approval = (target == "manual").then(|| {
        let plan = JobPlan { name: "approve".into(), stage: "deploy".into(), manual: true, allow_failure: false };
        job(state, plan, now)
    });
    let Some(pipeline) = state.pipelines.get_mut(&id) else { return };
    if target == "warnings" {
        if let Some(job) = pipeline.jobs.iter_mut().filter(|job| !job.is_retried && !job.plan.manual).last() {
            job.plan.allow_failure = true;
            job.end("failed", now);
        }
    } else if let Some(approval) = approval
        && !pipeline.latest_jobs().any(|job| job.plan.manual && !job.plan.allow_failure)
    {
        pipeline.jobs.push(approval);
    }
}

/// Gives a pipeline a status at once, with the times and jobs that go with it, and tells the hooks.
pub fn set(state: &mut State, id: u64, status: &str) {
    let now = state.now();
    let Some(pipeline) = state.pipelines.get_mut(&id) else { return };
    if pipeline.status == status {
        return;
    }
    let is_first = matches!(pipeline.status.as_str(), "created" | "waiting_for_resource" | "preparing" | "pending");
    if status == "running" && is_first {
        pipeline.started_at.get_or_insert(now);
    }
    if matches!(status, "success" | "failed" | "canceled") {
        pipeline.finished_at = Some(now);
    }
    status.clone_into(&mut pipeline.status);
    pipeline.updated_at = now;
    jobs_follow(&mut pipeline.jobs, status, now);
    let uuid = pipeline.event_uuid.take();
    if !pipeline.is_quiet {
        webhooks::happened(state, Event { pipeline: id, uuid });
    }
}

/// Gives the jobs the statuses that go with that of their pipeline.
fn jobs_follow(jobs: &mut [Job], status: &str, now: Time) {
    let mut has_failed = false;
    for job in jobs.iter_mut().filter(|job| !job.is_retried && job.finished_at.is_none()) {
        let waits_for_somebody = job.plan.manual && matches!(job.status.as_str(), "created" | "manual");
        match status {
            "pending" if job.status == "created" && !job.plan.manual => job.status = "pending".into(),
            "running" if !waits_for_somebody => {
                job.status = "running".into();
                job.started_at.get_or_insert(now);
            }
            "success" | "manual" if waits_for_somebody => job.status = "manual".into(),
            "success" | "manual" => job.end("success", now),
            "failed" if waits_for_somebody || has_failed => job.status = "skipped".into(),
            "failed" => {
                has_failed = true;
                job.end("failed", now);
            }
            "canceled" if !waits_for_somebody => job.end("canceled", now),
            "skipped" => job.status = "skipped".into(),
            _ => {}
        }
    }
}

/// Runs what has failed again, in the same pipeline. Where nothing has, nothing happens.
pub fn retry(state: &mut State, id: u64) {
    let now = state.now();
    let Some(pipeline) = state.pipelines.get_mut(&id) else { return };
    let mut again = Vec::new();
    for job in pipeline.jobs.iter_mut().filter(|job| !job.is_retried) {
        match job.status.as_str() {
            "failed" | "canceled" => {
                job.is_retried = true;
                again.push(job.plan.clone());
            }
            "skipped" => job.status = "created".into(),
            _ => {}
        }
    }
    if again.is_empty() {
        return;
    }
    let jobs: Vec<_> = again.into_iter().map(|plan| job(state, plan, now)).collect();
    starts_again(state, id, |pipeline| pipeline.jobs.extend(jobs));
}

/// Starts a manual job; false where there is none that waits for it.
pub fn play(state: &mut State, id: u64, name: Option<&str>) -> bool {
    let Some(pipeline) = state.pipelines.get(&id) else { return false };
    let waits = |job: &Job| job.status == "manual" && name.is_none_or(|name| job.plan.name == name);
    let Some(job) = pipeline.latest_jobs().find(|job| waits(job)).map(|job| job.id) else { return false };
    starts_again(state, id, |pipeline| {
        if let Some(job) = pipeline.jobs.iter_mut().find(|other| other.id == job) {
            job.status = "pending".into();
        }
    });
    true
}

/// Lets a manual job that has run already wait once more, under a new id, so that it can be played again.
pub fn rearm(state: &mut State, id: u64, name: Option<&str>) -> bool {
    let now = state.now();
    let Some(pipeline) = state.pipelines.get_mut(&id) else { return false };
    let has_run = |job: &&mut Job| {
        !job.is_retried && job.plan.manual && job.finished_at.is_some() && name.is_none_or(|name| job.plan.name == name)
    };
    let Some(old) = pipeline.jobs.iter_mut().find(has_run) else { return false };
    old.is_retried = true;
    let plan = old.plan.clone();
    let mut new = job(state, plan, now);
    new.status = "manual".into();
    if let Some(pipeline) = state.pipelines.get_mut(&id) {
        pipeline.jobs.push(new);
    }
    true
}

fn starts_again(state: &mut State, id: u64, change: impl FnOnce(&mut Pipeline)) {
    let Some(pipeline) = state.pipelines.get_mut(&id) else { return };
    pipeline.run += 1;
    change(pipeline);
    advance(state, id, "running");
    goes_by_itself(state, id, &[]);
}

/// Ends a pipeline that has not ended.
pub fn cancel(state: &mut State, id: u64) {
    let Some(pipeline) = state.pipelines.get_mut(&id) else { return };
    if !matches!(pipeline.status.as_str(), "success" | "failed" | "canceled" | "skipped") {
        pipeline.run += 1;
        set(state, id, "canceled");
    }
}

fn job(state: &mut State, plan: JobPlan, now: Time) -> Job {
    Job {
        id: state.number("job"),
        plan,
        status: "created".into(),
        created_at: now,
        started_at: None,
        finished_at: None,
        is_retried: false,
    }
}

impl Job {
    fn end(&mut self, status: &str, now: Time) {
        status.clone_into(&mut self.status);
        self.started_at.get_or_insert(now);
        self.finished_at = Some(now);
    }
}
