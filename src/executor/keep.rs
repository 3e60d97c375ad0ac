//! Failed jobs that are kept for somebody to look at: containers, network and lanes stay, the slot goes, and so do the job's secrets.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use tracing::Instrument;

use super::hold::{Hold, Verdict, Wish, judge};
use super::record::{Record, Role, State, boot_time};
use super::{BUILDS_DIR, Executor, Failure, JobLog, Lease, auth};
use crate::config::UserNamespace;
use crate::protocol::admin::is_project;
use crate::protocol::files::{Reply, Request};
use crate::protocol::hold::{HoldRequest, HoldRow};

/// Between two looks at the clock, which goes on while the host sleeps.
const LOOK: Duration = Duration::from_secs(30);
/// How long the removal of secrets in a container may take.
const CLEAN_WITHIN: Duration = Duration::from_secs(30);

impl Executor {
    /// Keeps the next job of a project that fails.
    ///
    /// # Errors
    /// When that is for too long, or too many are held.
    pub fn hold(&self, request: HoldRequest, by: String) -> Result<HoldRow, Failure> {
        let settings = self.settings().hold;
        let asked = Duration::from_secs(request.for_s);
        if asked > settings.max_time || asked.is_zero() {
            return Err(Failure::system(format!(
                "a failed job can be held for {} at most, not for {}: [hold] max_time in windlass.toml",
                humantime::format_duration(settings.max_time),
                humantime::format_duration(asked)
            )));
        }
        let taken =
            self.holds.list().len() + self.all_leases().iter().filter(|lease| lease.record().hold.is_some()).count();
        if taken >= settings.max_held as usize {
            return Err(Failure::system(format!(
                "{taken} failed job(s) are held or waited for, and {} may be: `windlass hold --list` shows them, `windlass release` ends \
                 one, and [hold] max_held in windlass.toml says how many there may be",
                settings.max_held
            )));
        }
        let wish = Wish::new(request.project, request.job, request.for_s, by)?;
        self.holds.add(wish.clone())?;
        tracing::info!(
            by = wish.by,
            "the next job of {} that fails will be held for {}",
            wish.project,
            humantime::format_duration(asked)
        );
        Ok(wish_row(&wish))
    }

    /// All that is held or waited for.
    #[must_use]
    pub fn hold_list(&self) -> Vec<HoldRow> {
        let records = self.all_leases().into_iter().map(|lease| lease.record());
        let held = records.filter_map(|record| hold_row(&record));
        held.chain(self.holds.list().iter().map(wish_row)).collect()
    }

    /// Ends holds, and waits for no job any more, by the name of a project, a job or a lease. Returns what that concerned.
    ///
    /// # Errors
    /// When nothing has this name, or it can't be written down.
    pub fn release(self: &Arc<Self>, what: &str, by: &str) -> Result<Vec<HoldRow>, Failure> {
        let wishes = self.holds.take_named(what)?;
        let mut released: Vec<HoldRow> = wishes.iter().map(wish_row).collect();
        for lease in self.all_leases() {
            let record = lease.record();
            if let Some(row) = hold_row(&record).filter(|_| is_named(&record, what)) {
                lease.span.in_scope(|| tracing::info!(by, "job {} is released", record.job.id));
                if record.is_kept() {
                    self.end(&lease, &format!("{by} has released it"));
                } else {
                    lease.update(|record| record.hold = None)?;
                }
                released.push(row);
            }
        }
        if released.is_empty() {
            return Err(Failure::system(format!(
                "nothing is held by the name {what:?}; `windlass hold --list` shows what is"
            )));
        }
        Ok(released)
    }

    /// Looks at how a stage has ended: a script that failed may be one that somebody waits for.
    pub(super) fn consider(&self, lease: &Lease, stage: &str, code: Option<i32>) {
        let record = lease.record();
        match (judge(stage, code), &record.hold) {
            (Verdict::Failed, None) => {
                if let Err(error) = self.grant(lease, &record) {
                    tracing::warn!("the job can't be held: {error:#}");
                }
            }
            (Verdict::Ended, Some(hold)) if !hold.kept => {
                let wish = hold.wish.clone();
                // A lease that ends gives it back itself.
                if lease.update(|record| record.hold = None).is_ok() {
                    self.give_back(wish);
                }
            }
            _ => {}
        }
    }

    fn grant(&self, lease: &Lease, record: &Record) -> Result<()> {
        let Some(wish) = self.holds.find(&record.job) else { return Ok(()) };
        self.enough_ranges()?;
        let hold = Hold { wish: wish.clone(), until: boot_time() + wish.for_s, kept: false };
        // On record first: a daemon that dies in between finds it there, and takes it off the list then.
        lease.update(|record| record.hold = Some(hold))?;
        if !self.holds.take(&wish)? {
            lease.update(|record| record.hold = None)?;
        }
        Ok(())
    }

    /// A held job keeps its range of user ids, and every slot has to find one.
    fn enough_ranges(&self) -> Result<()> {
        let settings = self.settings();
        let UserNamespace::Separate { ranges, .. } = settings.podman.user_namespace else { return Ok(()) };
        let slots: u32 = settings.profiles.values().map(|profile| profile.slots).sum();
        let held = self.all_leases().iter().filter(|lease| lease.record().hold.is_some()).count();
        if self.podman.rootful && held >= ranges.saturating_sub(slots) as usize {
            bail!("podman.user_namespace_ranges leaves no range beside those of {slots} slots and {held} held jobs");
        }
        Ok(())
    }

    /// Puts the wish of a job back that is not held after all.
    pub(super) fn give_back(&self, wish: Wish) {
        if let Err(error) = self.holds.add(wish) {
            tracing::warn!("a hold is lost: {error:#}");
        }
    }

    /// Wishes that a job has, whose daemon died before it took them off the list.
    pub(super) fn settle_wishes(&self) {
        for hold in self.all_leases().iter().filter_map(|lease| lease.record().hold) {
            if let Err(error) = self.holds.take(&hold.wish) {
                tracing::warn!("{error:#}");
            }
        }
    }

    /// The end of a job as gitlab-runner sees it: of a job that is to be held, its containers stay.
    pub fn clean_up(self: &Arc<Self>, lease: &Arc<Lease>) {
        // gitlab-runner may say it twice.
        if lease.record().is_kept() {
            return;
        }
        match self.begin_keeping(lease) {
            Ok(true) => self.keep(lease),
            Ok(false) => self.end(lease, "the job is over"),
            Err(error) => {
                tracing::warn!("the job can't be held: {error:#}");
                self.end(lease, "the job is over");
            }
        }
    }

    fn begin_keeping(&self, lease: &Lease) -> Result<bool> {
        let now = boot_time();
        let broken = lease.broken().is_some();
        let to_be =
            |record: &Record| record.hold.as_ref().is_some_and(|hold| hold.until > now) && record.state == State::Ready;
        if broken || !to_be(&lease.record()) {
            return Ok(false);
        }
        let record = lease.update(|record| {
            if to_be(record)
                && let Some(hold) = &mut record.hold
            {
                hold.kept = true;
            }
        })?;
        Ok(record.is_kept())
    }

    /// Looks after a job that is kept: now, and after a restart of the daemon.
    pub(super) fn keep(self: &Arc<Self>, lease: &Arc<Lease>) {
        lease.kept.cancel();
        let (executor, lease) = (Arc::clone(self), Arc::clone(lease));
        let span = lease.span.clone();
        let keeping = async move {
            if let Err(error) = executor.remove_secrets(&lease).await {
                tracing::warn!("what is secret can't be removed, so the job is not held: {error:#}");
                return executor.end(&lease, "the job is over");
            }
            lease.free_slot();
            let record = lease.record();
            let Some(hold) = record.hold else { return };
            tracing::info!(lease = %lease.id, by = hold.wish.by, "job {} is held until {}", record.job.id, date(hold.until));
            loop {
                let left = Duration::from_secs(hold.until.saturating_sub(boot_time()));
                if left.is_zero() {
                    return executor.end(&lease, "the time of its hold is over");
                }
                tokio::select! {
                    () = lease.ended.cancelled() => return,
                    () = executor.shutdown.cancelled() => return,
                    () = tokio::time::sleep(left.min(LOOK)) => {}
                }
            }
        };
        self.tasks.spawn(keeping.instrument(span));
    }

    /// Removes what a job's end would remove: logins, and variables that are files.
    async fn remove_secrets(&self, lease: &Lease) -> Result<()> {
        // The last stage may still be on its way out.
        let _gate = lease.gate.lock().await;
        auth::forget(&lease.directory);
        let record = lease.record();
        if let Some(lane) = &record.lane
            && let Some(project) = &lane.project
        {
            let (path, trash) = (self.lanes.files(&lane.builds()), self.lanes.trash());
            return match self.podman.files(Request::Tidy { path, project: project.clone(), trash }).await? {
                Reply::Tidied { suspicious: None, .. } => Ok(()),
                Reply::Tidied { suspicious: Some(reason), .. } => bail!("{reason}"),
                other => bail!("an answer to another question: {other:?}"),
            };
        }
        let directory = format!("{}.tmp", project_directory(&record));
        let command = ["rm", "-rf", "--", &directory].map(str::to_owned).to_vec();
        match self.run_inside(lease, &record, Role::Job, command, CLEAN_WITHIN).await? {
            (Some(0), _) => Ok(()),
            (code, said) => {
                bail!("rm of {directory} in the container ended with {code:?}: {}", super::containers::printable(&said))
            }
        }
    }

    /// Ends all holds, since there is too little room for jobs that run; true when there were any.
    pub(super) fn release_for_room(self: &Arc<Self>, log: &JobLog) -> bool {
        let kept: Vec<_> = self
            .all_leases()
            .into_iter()
            .filter(|lease| lease.record().is_kept() && !lease.ended.is_cancelled())
            .collect();
        for lease in &kept {
            self.end(lease, "too little is free for jobs that run ([purge] min_free)");
        }
        if !kept.is_empty() {
            log.line("Released failed jobs that were held (windlass hold), to have room");
        }
        !kept.is_empty()
    }
}

/// The line for the log of a job that will be held.
pub fn line(record: &Record) -> Option<String> {
    let hold = record.hold.as_ref()?;
    Some(format!(
        "The container of this job is kept until {} (windlass hold, by {}). On this host: windlass shell {}; windlass release {} ends it",
        date(hold.until),
        hold.wish.by,
        record.job.id,
        record.job.id
    ))
}

/// The project's directory in the job's containers.
pub fn project_directory(record: &Record) -> String {
    let known = record.lane.as_ref().and_then(|lane| lane.project.clone());
    let project = known.unwrap_or_else(|| record.job.project_path.clone().into());
    Path::new(BUILDS_DIR).join(project).display().to_string()
}

fn is_named(record: &Record, what: &str) -> bool {
    let job = &record.job;
    job.id.to_string() == what
        || record.id.short() == what
        || is_project(what, &job.instance, job.project_id, &job.project_path)
}

fn hold_row(record: &Record) -> Option<HoldRow> {
    let hold = record.hold.as_ref().filter(|_| record.state != State::Ending)?;
    Some(HoldRow {
        state: if hold.kept { "held" } else { "failed" }.to_owned(),
        project: record.job.project_path.clone(),
        job: Some(record.job.id),
        until: date(hold.until),
        for_s: hold.wish.for_s,
        by: hold.wish.by.clone(),
    })
}

fn wish_row(wish: &Wish) -> HoldRow {
    HoldRow {
        state: "waiting".to_owned(),
        project: wish.project.clone(),
        job: wish.job,
        until: date(wish.until),
        for_s: wish.for_s,
        by: wish.by.clone(),
    }
}

/// A time of the clock since boot, as the host's clock would show it now (RFC 3339).
pub fn date(until: u64) -> String {
    let left = Duration::from_secs(until.saturating_sub(boot_time()));
    humantime::format_rfc3339_seconds(SystemTime::now() + left).to_string()
}
