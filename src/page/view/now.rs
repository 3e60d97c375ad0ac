//! What goes on now: slots, the jobs in them, who waits and for what, and what somebody should do something about.

use std::collections::BTreeMap;

use serde::Serialize;

use super::doctor::Doctor;
use super::seconds;
use crate::executor::Usage;
use crate::protocol::daemon::{LeaseStatus, Status, StepStatus};
use crate::protocol::hold::HoldRow;

/// Now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Now {
    /// The daemon's version.
    pub version: String,
    /// Since when it runs.
    pub started_at: String,
    /// Since when no new jobs are taken.
    pub drained_since: Option<String>,
    /// What somebody should know or do something about.
    pub warnings: Vec<String>,
    /// What doctor found when it looked last; none: it has not looked yet.
    pub doctor: Option<Doctor>,
    /// Slots that are in use.
    pub busy: usize,
    /// Every slot.
    pub slots: Vec<Slot>,
    /// Who waits, the first first.
    pub waiting: Vec<Waiting>,
    /// Failed jobs that are kept, or about to be.
    pub held: Vec<Held>,
}

/// A failed job that is kept: it has no slot, and its containers and directories stay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Held {
    /// GitLab's id of the job.
    pub id: i64,
    /// Its page in GitLab.
    pub url: Option<String>,
    /// The project's path.
    pub project: String,
    /// `failed` where it has not ended yet, or `held`.
    pub state: String,
    /// Until when.
    pub until: String,
    /// Who asked for it.
    pub by: String,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slot {
    /// Its profile.
    pub profile: String,
    /// Its number in the profile.
    pub index: u32,
    /// Whether it goes with its job.
    pub goes: bool,
    /// The job that has it.
    pub job: Option<Job>,
}

/// A job that has a slot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// GitLab's id.
    pub id: i64,
    /// Its page in GitLab.
    pub url: Option<String>,
    /// The project's path.
    pub project: String,
    /// leased, preparing, ready, running or ending.
    pub state: String,
    /// The stage that runs.
    pub stage: Option<String>,
    /// What its preparation waits for now, the first begun first.
    pub steps: Vec<StepStatus>,
    /// Since when the job is here.
    pub since: String,
    /// Since when the stage runs.
    pub stage_since: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// Bytes of memory now.
    pub memory: Option<u64>,
    /// Bytes of memory at most, so far.
    pub memory_peak: Option<u64>,
    /// Bytes of memory that it may have.
    pub memory_limit: Option<u64>,
    /// CPUs now.
    pub cpus: Option<f64>,
    /// CPUs at most, within two seconds, since the job or the daemon was started.
    pub cpus_peak: Option<f64>,
    /// CPUs that it may have.
    pub cpus_limit: Option<f64>,
}

/// A job that waits for a slot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Waiting {
    /// GitLab's id of the job.
    pub id: i64,
    /// Its page in GitLab.
    pub url: Option<String>,
    /// The project's path.
    pub project: String,
    /// The profile.
    pub profile: String,
    /// Since when.
    pub since: String,
    /// For what, in words.
    pub waits_for: String,
    /// When it fails.
    pub until: Option<String>,
}

/// What goes on now. `gitlab` is where GitLab is, by the configuration.
#[must_use]
pub fn now(status: &Status, holds: &[HoldRow], usage: &BTreeMap<String, Usage>, gitlab: Option<&str>) -> Now {
    let by_id: BTreeMap<&str, &LeaseStatus> = status.leases.iter().map(|lease| (lease.id.as_str(), lease)).collect();
    let slots = status.slots.iter().map(|slot| Slot {
        profile: slot.profile.clone(),
        index: slot.index,
        goes: slot.goes,
        job: slot.lease.as_deref().and_then(|id| by_id.get(id)).map(|lease| job(lease, usage.get(&lease.id), gitlab)),
    });
    let waiting = status.leases.iter().filter(|lease| lease.state == "waiting").map(|lease| Waiting {
        id: lease.job_id,
        url: job_link(lease, gitlab),
        project: lease.project_path.clone(),
        profile: lease.profile.clone(),
        since: lease.since.clone(),
        waits_for: lease.waits.as_ref().map(|wait| wait.what.clone()).unwrap_or_default(),
        until: lease.waits.as_ref().map(|wait| wait.until.clone()),
    });
    let of_job = |lease: &LeaseStatus| {
        lease.problem.as_ref().map(|problem| format!("job {} of {}: {problem}", lease.job_id, lease.project_path))
    };
    let mut waiting: Vec<Waiting> = waiting.collect();
    waiting.sort_by(|one, other| one.since.cmp(&other.since));
    Now {
        version: status.daemon.version.clone(),
        started_at: status.daemon.started_at.clone(),
        drained_since: status.daemon.drained_since.clone(),
        warnings: status.daemon.warnings.iter().cloned().chain(status.leases.iter().filter_map(of_job)).collect(),
        doctor: None,
        busy: status.slots.iter().filter(|slot| slot.lease.is_some()).count(),
        slots: slots.collect(),
        waiting,
        held: holds.iter().filter_map(|row| held(status, row, gitlab)).collect(),
    }
}

/// A held job; nothing of one that somebody waits for, which takes nothing.
fn held(status: &Status, row: &HoldRow, gitlab: Option<&str>) -> Option<Held> {
    let id = row.job.filter(|_| row.state != "waiting")?;
    let lease = status.leases.iter().find(|lease| lease.job_id == id && lease.project_path == row.project);
    Some(Held {
        id,
        url: lease.and_then(|lease| job_link(lease, gitlab)),
        project: row.project.clone(),
        state: row.state.clone(),
        until: row.until.clone(),
        by: row.by.clone(),
    })
}

/// Takes over the times of holds that were told before, where they are the same but for how two clocks tick: a page is told of changes.
pub fn steady(held: &mut [Held], before: &[Held]) {
    /// In seconds.
    const SAME: i64 = 2;
    for new in held {
        let told = before.iter().find(|old| (old.id, &old.project) == (new.id, &new.project));
        let apart = |old: &Held| Some((seconds(&old.until)? - seconds(&new.until)?).abs());
        if let Some(old) = told.filter(|old| apart(old).is_some_and(|apart| apart <= SAME)) {
            new.until.clone_from(&old.until);
        }
    }
}

fn job(lease: &LeaseStatus, usage: Option<&Usage>, gitlab: Option<&str>) -> Job {
    let usage = usage.copied().unwrap_or_default();
    Job {
        id: lease.job_id,
        url: job_link(lease, gitlab),
        project: lease.project_path.clone(),
        state: lease.state.clone(),
        stage: lease.stage.clone(),
        steps: lease.steps.clone(),
        since: lease.since.clone(),
        stage_since: lease.stage_since.clone(),
        image: lease.image.clone(),
        problem: lease.problem.clone(),
        memory: usage.memory,
        memory_peak: usage.memory_peak,
        memory_limit: usage.memory_limit,
        cpus: usage.cpus,
        cpus_peak: usage.cpus_peak,
        cpus_limit: usage.cpus_limit,
    }
}

/// The page of a job. The instance is a host; where it is the configured one, its whole address is known.
fn job_link(lease: &LeaseStatus, gitlab: Option<&str>) -> Option<String> {
    let is_it = |url: &&str| {
        let host = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
        host.eq_ignore_ascii_case(&lease.instance)
    };
    let root = match gitlab.filter(is_it) {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None if lease.instance.is_empty() => return None,
        None => format!("https://{}", lease.instance),
    };
    Some(format!("{root}/{}/-/jobs/{}", path(&lease.project_path), lease.job_id))
}

/// A project's path as part of an address: GitLab's own have nothing to encode, and what somebody makes up must lead nowhere else.
fn path(project: &str) -> String {
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');
    percent_encoding::utf8_percent_encode(project, &KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::daemon::{DaemonStatus, SlotStatus, Wait};

    fn lease(id: &str, state: &str, slot: Option<u32>) -> LeaseStatus {
        LeaseStatus {
            id: id.into(),
            state: state.into(),
            profile: "default".into(),
            slot,
            job_id: 11,
            project_id: 7,
            project_path: "g/p".into(),
            instance: "gitlab.example.com".into(),
            image: None,
            container: None,
            stage: None,
            since: "2026-01-01T00:00:00Z".into(),
            stage_since: None,
            problem: None,
            held_until: None,
            steps: Vec::new(),
            waits: None,
        }
    }

    fn status(slots: &[Option<&str>], leases: Vec<LeaseStatus>) -> Status {
        let slot = |(index, lease): (u32, &Option<&str>)| SlotStatus {
            profile: "default".into(),
            index,
            lease: lease.map(str::to_owned),
            goes: false,
        };
        Status {
            daemon: DaemonStatus {
                version: "1".into(),
                pid: 1,
                started_at: "2026-01-01T00:00:00Z".into(),
                warnings: vec!["w".into()],
                drained_since: None,
            },
            slots: (0..).zip(slots).map(slot).collect(),
            leases,
        }
    }

    #[test]
    fn a_job_is_in_its_slot_with_what_it_uses() {
        let usage = BTreeMap::from([("a".to_owned(), Usage { memory: Some(7), ..Usage::default() })]);
        let broken = LeaseStatus { problem: Some("why".into()), ..lease("a", "running", Some(0)) };
        let found = now(&status(&[Some("a"), None], vec![broken]), &[], &usage, None);
        let job = found.slots[0].job.as_ref().expect("a job");
        assert_eq!((found.busy, job.memory, found.slots[1].job.is_none()), (1, Some(7), true));
        assert_eq!(found.warnings, ["w", "job 11 of g/p: why"]);
    }

    #[test]
    fn who_waits_is_told_for_what() {
        let wait = Wait { what: "a slot".into(), until: "2026-01-01T00:10:00Z".into() };
        let waiting = LeaseStatus { waits: Some(wait), ..lease("b", "waiting", None) };
        let found = now(&status(&[Some("a")], vec![waiting]), &[], &BTreeMap::new(), None);
        assert_eq!(
            (found.waiting[0].waits_for.as_str(), found.waiting[0].until.as_deref()),
            ("a slot", Some("2026-01-01T00:10:00Z"))
        );
    }

    fn row(state: &str, until: &str) -> HoldRow {
        HoldRow {
            state: state.into(),
            project: "g/p".into(),
            job: Some(11),
            until: until.into(),
            for_s: 60,
            by: "alice".into(),
        }
    }

    #[test]
    fn what_is_held_is_told_with_its_end_and_who_asked_and_what_is_waited_for_is_not() {
        let until = "2026-01-01T01:00:00Z";
        let rows = [row("held", until), row("waiting", until)];
        let found = now(&status(&[None], vec![lease("h", "held", None)]), &rows, &BTreeMap::new(), None);
        assert_eq!(found.held.len(), 1);
        let held = &found.held[0];
        assert_eq!((held.id, held.project.as_str(), held.by.as_str()), (11, "g/p", "alice"));
        assert_eq!((held.until.as_str(), held.state.as_str()), (until, "held"));
        assert_eq!(held.url.as_deref(), Some("https://gitlab.example.com/g/p/-/jobs/11"));
        assert_eq!(found.busy, 0, "it has no slot");
    }

    #[test]
    fn a_hold_changes_with_its_time_and_not_with_how_clocks_tick() {
        let of = |until| now(&status(&[], Vec::new()), &[row("held", until)], &BTreeMap::new(), None).held;
        let before = of("2026-01-01T01:00:00Z");
        let told = |until| {
            let mut held = of(until);
            steady(&mut held, &before);
            held[0].until.clone()
        };
        assert_eq!(told("2026-01-01T00:59:59Z"), "2026-01-01T01:00:00Z");
        assert_eq!(told("2026-01-01T01:30:00Z"), "2026-01-01T01:30:00Z");
    }

    #[test]
    fn a_jobs_page_is_where_gitlab_is() {
        let link = |gitlab| job_link(&lease("a", "running", None), gitlab).expect("a link");
        assert_eq!(link(None), "https://gitlab.example.com/g/p/-/jobs/11");
        assert_eq!(link(Some("http://gitlab.example.com/git/")), "http://gitlab.example.com/git/g/p/-/jobs/11");
        assert_eq!(link(Some("http://other.example.com")), "https://gitlab.example.com/g/p/-/jobs/11");
        let hostile = LeaseStatus { project_path: "<script>\"?x=/..".into(), ..lease("a", "running", None) };
        let found = job_link(&hostile, None).expect("a link");
        assert_eq!(found, "https://gitlab.example.com/%3Cscript%3E%22%3Fx%3D/../-/jobs/11");
    }
}
