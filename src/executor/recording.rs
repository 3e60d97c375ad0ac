//! What the history and the figures are told of jobs. Nothing here waits.

use std::time::Duration;

use super::past::{Moment, bounded, stage_result};
use super::record::{Record, RunningStage};
use super::{Executor, Failure, Lease, outcome};
use crate::history::Told;
use crate::job::Job;
use crate::protocol::daemon::{FailureClass, MissedStage};
use crate::protocol::history::{JobImage, JobOutcome, JobRow, StageResult, StageRow};

/// How long the end of a lease waits for the history: its own record goes after that.
pub const RECORDED_WITHIN: Duration = Duration::from_secs(2);

/// Beside what tells of jobs: whoever is told.
#[derive(Debug, Clone)]
pub struct Observers {
    /// What has been.
    pub history: std::sync::Arc<crate::history::History>,
    /// The figures.
    pub metrics: std::sync::Arc<crate::metrics::Metrics>,
}

impl Executor {
    /// The figures.
    #[must_use]
    pub fn metrics(&self) -> &std::sync::Arc<crate::metrics::Metrics> {
        &self.observers.metrics
    }

    /// What has been.
    #[must_use]
    pub fn history(&self) -> &std::sync::Arc<crate::history::History> {
        &self.observers.history
    }

    /// Tells of a job whose lease ends; what is returned says when the history has it.
    pub(super) fn record_job(&self, lease: &Lease) -> impl Future<Output = Told> + Send + use<> {
        let row = row(&lease.record());
        self.count_job(&row);
        self.history().job(row)
    }

    fn count_job(&self, row: &JobRow) {
        let (took, waited) = (Duration::from_millis(row.duration_ms), Duration::from_millis(row.waited_ms));
        self.metrics().job_ended(&row.profile, row.outcome, took, waited);
    }

    /// Notes that the running stage of a lease has ended; when, in milliseconds since boot, and why, if it was lost.
    pub(super) fn note_stage(
        &self,
        lease: &Lease,
        result: StageResult,
        ended: Option<u64>,
        lost: Option<&str>,
    ) -> Option<RunningStage> {
        self.note_end(lease, result, ended, lost, |_, _| ())
    }

    /// The same with what else is to be noted of it, in one write.
    pub(super) fn note_stage_with(
        &self,
        lease: &Lease,
        result: StageResult,
        more: impl FnOnce(&mut Record, &RunningStage),
    ) -> Option<RunningStage> {
        self.note_end(lease, result, None, None, more)
    }

    fn note_end(
        &self,
        lease: &Lease,
        result: StageResult,
        ended: Option<u64>,
        lost: Option<&str>,
        more: impl FnOnce(&mut Record, &RunningStage),
    ) -> Option<RunningStage> {
        let mut noted = None;
        let outcome = lease.note(|record| {
            let stage = record.stage.take()?;
            more(record, &stage);
            let now = ended.unwrap_or_else(super::record::boot_millis);
            // Of a stage of which nobody knows when it ended, or that an older daemon began, the time is not known.
            let ms = stage.began.filter(|_| result != StageResult::Unknown).map(|began| now.saturating_sub(began.boot));
            let began = stage.began.map_or_else(|| i64::try_from(stage.since).unwrap_or(0) * 1000, |began| began.wall);
            if let Some(reason) = lost {
                record.past.lost.get_or_insert_with(|| bounded(reason));
            }
            record.past.add(StageRow { name: stage.name.clone(), began, ms, result });
            noted = Some((stage.clone(), ms));
            Some(stage)
        });
        if let Err(error) = outcome {
            tracing::debug!("note a stage's end: {error:#}");
        }
        let (stage, ms) = noted?;
        self.metrics().stage_ended(&stage.name, result, Duration::from_millis(ms.unwrap_or(0)));
        Some(stage)
    }

    /// Takes in how a stage ended while no daemon was there to be told.
    pub fn take_missed(&self, lease: &Lease, missed: &MissedStage) {
        let result = stage_result(missed.code, missed.stop);
        if lease.record().stage.is_some_and(|stage| stage.name == missed.stage) {
            self.note_stage(lease, result, Some(missed.ended), None);
            return;
        }
        // Somebody has found out already that it is over, and not how.
        let noted = lease.note(|record| {
            let last = record.past.stages.last_mut()?;
            let is_it = last.name == missed.stage && last.result == StageResult::Unknown;
            is_it.then(|| last.result = result)
        });
        if let Err(error) = noted {
            tracing::debug!("note a stage's end: {error:#}");
        }
    }

    /// Notes a stage that could not even begin.
    pub(super) fn note_not_begun(&self, lease: &Lease, name: &str, reason: &str) {
        let begun = lease.note(|record| {
            record.stage = Some(RunningStage::begins(name));
            Some(())
        });
        if begun.is_ok() {
            self.note_stage(lease, StageResult::Lost, None, Some(reason));
        }
    }
}

/// A job that has no lease yet: it is on record should it never get one.
pub(super) struct Unleased<'a> {
    executor: &'a Executor,
    job: Job,
    profile: String,
    /// When it came.
    pub came: Moment,
    armed: bool,
}

impl<'a> Unleased<'a> {
    /// A job that has come now.
    pub fn new(executor: &'a Executor, job: &Job, profile: &str) -> Self {
        Self { executor, job: job.clone(), profile: profile.to_owned(), came: Moment::now(), armed: true }
    }

    /// It has one now.
    pub fn leased(mut self) {
        self.armed = false;
    }

    /// It will get none.
    pub fn failed(mut self, failure: &Failure) {
        self.armed = false;
        let outcome = match failure.class {
            FailureClass::Job => JobOutcome::Failed,
            FailureClass::System => JobOutcome::SystemFailure,
        };
        self.tell(outcome, &failure.message);
    }

    fn tell(&self, outcome: JobOutcome, reason: &str) {
        let now = Moment::now();
        let row = JobRow {
            profile: self.profile.clone(),
            slot: None,
            outcome,
            reason: Some(bounded(reason)),
            waited_ms: now.since(self.came),
            duration_ms: now.since(self.came),
            ended: now.wall,
            came: self.came.wall,
            ..of_job(&self.job)
        };
        self.executor.count_job(&row);
        drop(self.executor.history().job(row));
    }
}

impl Drop for Unleased<'_> {
    fn drop(&mut self) {
        // At a shutdown the caller asks the next daemon.
        if self.armed && !self.executor.shutdown.is_cancelled() {
            self.tell(JobOutcome::Canceled, "gitlab-runner waited for a slot no more");
        }
    }
}

/// What the job response says of a job.
fn of_job(job: &Job) -> JobRow {
    JobRow {
        lease: String::new(),
        attempts: 1,
        instance: job.instance.clone(),
        job_id: job.id,
        project_id: job.project_id,
        project_path: job.project_path.clone(),
        name: job.name.clone(),
        reference: job.reference.clone(),
        pipeline: job.pipeline,
        protected: job.protected,
        user_id: job.user_id,
        user: job.user.clone(),
        profile: String::new(),
        slot: None,
        outcome: JobOutcome::Canceled,
        exit_code: None,
        reason: None,
        came: 0,
        waited_ms: 0,
        prepare_ms: None,
        ended: 0,
        duration_ms: 0,
        memory_peak: None,
        cpu_us: None,
        written: None,
        images: Vec::new(),
        stages: Vec::new(),
    }
}

/// The row of a lease that ends.
fn row(record: &Record) -> JobRow {
    let past = &record.past;
    let running = record.stage.as_ref();
    let verdict = outcome::verdict(past, running.map(|stage| stage.name.as_str()), record.job.timeout);
    let ended = past.end.as_ref().map_or_else(Moment::now, |end| end.at);
    let unknown = Moment { wall: i64::try_from(record.since).unwrap_or(0) * 1000, boot: ended.boot };
    let came = past.came.unwrap_or(unknown);
    let mut stages = past.stages.clone();
    // One that has not ended: what it is about to get is no end of its own.
    stages.extend(running.map(|stage| StageRow {
        name: stage.name.clone(),
        began: stage.began.map_or(came.wall, |began| began.wall),
        ms: stage.began.map(|began| ended.since(began)),
        result: StageResult::Terminated,
    }));
    JobRow {
        lease: record.id.short().to_owned(),
        profile: record.profile.clone(),
        slot: Some(record.slot),
        outcome: verdict.outcome,
        exit_code: verdict.exit_code,
        reason: verdict.reason,
        came: came.wall,
        waited_ms: past.waited_ms,
        prepare_ms: past.prepare_ms,
        ended: ended.wall,
        duration_ms: ended.since(came),
        memory_peak: record.used.memory_peak(),
        cpu_us: record.used.cpu_us(),
        written: record.used.written(),
        images: past.images.clone(),
        stages,
        ..of_job(&record.job)
    }
}

/// An image that a job's container runs.
pub(super) fn job_image(role: &str, reference: &crate::job::ImageRef, image: &crate::podman::Image) -> JobImage {
    let others =
        image.registry_digests(reference).into_iter().filter(|digest| Some(*digest) != image.digest.as_deref());
    JobImage {
        role: role.to_owned(),
        name: reference.to_string(),
        id: image.id.clone(),
        digest: image.digest.clone(),
        other_digests: others.map(str::to_owned).collect(),
    }
}

impl RunningStage {
    /// A stage that begins now.
    pub fn begins(name: &str) -> Self {
        Self {
            name: name.chars().filter(|c| !c.is_control()).take(64).collect(),
            since: super::record::unix_time(),
            began: Some(Moment::now()),
        }
    }
}
