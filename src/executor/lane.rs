//! The lanes of a lease: taken before its containers are made, given back when they are gone.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::containers::Ids;
use super::lane_use::{LaneUse, Worker};
use super::record::Record;
use super::{BUILDS_DIR, CACHE_DIR, Executor, Inputs, JobLog, Lease, builds};
use crate::config::LaneScope;
use crate::lanes::store::FILES;
use crate::lanes::{Home, LaneId, Part};
use crate::podman::{Mount, UserMap};
use crate::protocol::files::{Reply, Request};

/// How long a job waits for the build directory of one that is being taken down: it is likely to have the clone.
const ENDING_WAIT: Duration = Duration::from_secs(10);
/// How long the first jobs wait until what an earlier daemon left is gone.
const SWEEP_WAIT: Duration = Duration::from_secs(60);
/// Jobs in a row that could not get their sources into a build directory, after which it is taken for broken.
const FAILURES_MAX: u32 = 2;

/// What a job may take.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// This number.
    Take(u32),
    /// Its holder is about to let go.
    Wait(String),
}

/// Chooses the lowest number that is free and there; else one whose holder ends; else a new one. `builds`: the numbers there are,
/// and who holds each; what is in the place of a foreign one is none of ours.
fn choose(
    builds: &[(u32, Option<String>)],
    is_ending: impl Fn(&str) -> bool,
    is_foreign: impl Fn(u32) -> bool,
) -> Choice {
    if let Some((number, _)) = builds.iter().find(|(_, holder)| holder.is_none()) {
        return Choice::Take(*number);
    }
    if let Some(holder) = builds.iter().filter_map(|(_, holder)| holder.as_ref()).find(|holder| is_ending(holder)) {
        return Choice::Wait(holder.clone());
    }
    let taken = |number: u32| builds.iter().any(|(other, _)| *other == number);
    Choice::Take((0..).find(|number| !taken(*number) && !is_foreign(*number)).unwrap_or(u32::MAX))
}

/// Where gitlab-runner puts the project, in the build directory; `RUNNER_TEMP_PROJECT_DIR` is that with `.tmp` behind, and set
/// after all variables that a pipeline's author has a say in (common/build.go, `GetAllVariables`).
fn project_directory(inputs: &Inputs) -> Option<PathBuf> {
    let temporary = inputs.variable("RUNNER_TEMP_PROJECT_DIR")?;
    let project = Path::new(temporary.strip_suffix(".tmp")?).strip_prefix(BUILDS_DIR).ok()?;
    Some(project.to_owned())
}

/// What came of an attempt to take lanes.
enum Taking {
    /// This build directory.
    Taken(u32),
    /// Nothing for now: this lease is about to let go of one.
    Ending(Arc<Lease>),
    /// Nothing, but at the next look.
    Again,
    /// Nothing at all: files of other ids are still in use.
    Refused,
}

impl Executor {
    /// Takes lanes for a lease and writes that into its record, unless nothing is to be kept.
    pub(super) async fn take_lane(&self, lease: &Lease, inputs: &Inputs, map: UserMap, log: &JobLog) -> Result<()> {
        let record = lease.record();
        let pipeline = match self.settings().lanes.scope {
            LaneScope::None => return Ok(()),
            LaneScope::Project => None,
            LaneScope::Pipeline if record.job.pipeline.is_none() => {
                log.line("Nothing is kept of this job: which pipeline it is of is not known");
                return Ok(());
            }
            LaneScope::Pipeline => record.job.pipeline,
        };
        // A container that nobody knows of any more may still write in a lane that nobody holds.
        let sweep = log.step("waiting until what an earlier daemon has left is looked through");
        let _ = tokio::time::timeout(SWEEP_WAIT, self.swept.cancelled()).await;
        drop(sweep);
        let job = &record.job;
        let home = Home {
            instance: job.instance.clone(),
            project: job.project_id,
            project_path: job.project_path.clone(),
            protected: job.protected,
            pipeline,
            ids: match map {
                UserMap::Range { first, .. } => format!("range {first}"),
                UserMap::NoMap => "nomap".to_owned(),
                UserMap::Host => "host".to_owned(),
            },
        };
        // A second attempt has what the first took, and makes what that did not come to.
        if record.lane.is_some() {
            return self.make_home(&home, map).await;
        }
        let until = Instant::now() + ENDING_WAIT;
        let builds = loop {
            match self.try_take(lease, &home, map, Instant::now() < until)? {
                Taking::Taken(number) => break number,
                Taking::Refused => {
                    log.line("Nothing is kept of this job: other jobs of its project still use files of other ids, or something else is in the place of its lanes");
                    return Ok(());
                }
                Taking::Again => {}
                Taking::Ending(other) => {
                    let left = until.saturating_duration_since(Instant::now());
                    let _step = log.step(format!("waiting for the build directory of job {}, which ends", other.job()));
                    let _ = tokio::time::timeout(left, other.lane_free.cancelled()).await;
                }
            }
        };
        let lane = LaneUse {
            home: home.directory(),
            builds,
            project: project_directory(inputs),
            failures: self
                .lanes
                .record(&LaneId { home: home.directory(), part: Part::Builds(builds) })
                .map_or(0, |record| record.failures),
            worker: None,
        };
        if let Err(error) = lease.update(|record| record.lane = Some(lane)) {
            self.lanes.let_go(lease.id.short());
            return Err(error);
        }
        self.make_home(&home, map).await
    }

    /// Takes the lanes of a home, if they are to be had now.
    fn try_take(&self, lease: &Lease, home: &Home, map: UserMap, may_wait: bool) -> Result<Taking> {
        // Two jobs that look at once do not find the same.
        let _one = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = home.directory();
        if self.lanes.home(&path).is_some_and(|known| known.ids != home.ids) {
            let lanes = self.lanes.list().into_iter().filter(|lane| lane.id.home == path).collect::<Vec<_>>();
            if lanes.iter().any(|lane| !lane.holders.is_empty()) {
                return Ok(Taking::Refused);
            }
            for lane in &lanes {
                self.discard(&lane.id, "its files have other ids than its project's jobs now")?;
            }
        }
        // Files of whoever had these ids before, if a crash came between that and their removal.
        for other in self
            .lanes
            .others_with_ids(&home.ids, &home.key())
            .into_iter()
            .filter(|_| map != UserMap::NoMap && map != UserMap::Host)
        {
            for lane in self.lanes.list().into_iter().filter(|lane| lane.id.home == other) {
                self.discard(&lane.id, "its ids are another project's now")?;
            }
        }
        let foreign = |part: Part| self.lanes.is_foreign(&LaneId { home: path.clone(), part });
        if foreign(Part::Cache) {
            return Ok(Taking::Refused);
        }
        let ending = |holder: &str| self.by_short_id(holder).filter(|lease| may_wait && lease.ended.is_cancelled());
        let number = match choose(
            &self.lanes.builds(&path),
            |holder| ending(holder).is_some(),
            |number| foreign(Part::Builds(number)),
        ) {
            Choice::Take(number) => number,
            Choice::Wait(holder) => match ending(&holder) {
                Some(other) => return Ok(Taking::Ending(other)),
                // Gone between two looks, its lanes before it.
                None => return Ok(Taking::Again),
            },
        };
        let id = LaneId { home: path.clone(), part: Part::Builds(number) };
        if self.lanes.record(&id).is_some_and(|record| record.is_in_doubt()) {
            self.discard(&id, "what became of the job that used it last is not known")?;
        }
        self.lanes.hold(&[id, LaneId { home: path, part: Part::Cache }], lease.id.short());
        Ok(Taking::Taken(number))
    }

    /// The directory of a home: the root of its containers gets past it, and nobody else but this daemon.
    async fn make_home(&self, home: &Home, map: UserMap) -> Result<()> {
        let Some(directory) = self.lanes.begin_home(home)? else { return Ok(()) };
        let root = self.podman.file_id(map, 0);
        self.podman.files(Request::Give { path: directory.clone(), owner: (None, Some(root)) }).await?;
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o710))
            .with_context(|| format!("set the mode of {}", directory.display()))?;
        self.lanes.finish_home(home)
    }

    /// Makes a lane if it is not there, for any user of the key's jobs; returns the directory that they mount.
    pub(super) async fn make_lane(&self, id: &LaneId, map: UserMap) -> Result<PathBuf> {
        if self.lanes.record(id).is_none() {
            let new = self.lanes.begin(id)?;
            let root = self.podman.file_id(map, 0);
            let mode = if id.part == Part::Storage { builds::MODE } else { 0o777 };
            self.podman.files(Request::Make { path: new.join(FILES), mode, owner: (root, root) }).await?;
            self.lanes.publish(id, &new)?;
        }
        Ok(self.lanes.files(id))
    }

    /// What the containers of a lease mount of its lanes; and who could work on all that is in the build directory.
    pub(super) async fn lane_mounts(
        &self,
        lane: &LaneUse,
        map: UserMap,
        log: &JobLog,
    ) -> Result<(Vec<Mount>, Option<String>)> {
        let before = self.lanes.record(&lane.builds());
        let mut mounts = Vec::new();
        for (id, target) in [(lane.builds(), BUILDS_DIR), (lane.part(Part::Cache), CACHE_DIR)] {
            let source = self.make_lane(&id, map).await?;
            self.lanes.begin_use(&id)?;
            mounts.push(Mount { source: source.display().to_string(), target: target.to_owned(), read_only: false });
        }
        let number = lane.builds;
        log.line(match &before {
            None => format!("Build directory {number} is new"),
            Some(record) => {
                let age = Duration::from_secs(self.lanes.now().saturating_sub(record.last_use));
                let size = record.size.map(|size| format!(", {}", bytesize::ByteSize(size.bytes)));
                let ago = humantime::format_duration(age);
                format!("Build directory {number} was used {ago} ago{}", size.unwrap_or_default())
            }
        });
        Ok((mounts, before.and_then(|record| record.fits)))
    }

    /// Sees to it that predefined stages can work on all that is in the build directory, whoever made it.
    pub(super) async fn suit_lane(
        &self,
        lease: &Lease,
        record: &Record,
        map: UserMap,
        ids: Ids,
        known: Option<&str>,
        log: &JobLog,
    ) -> Result<()> {
        let Some(lane) = &record.lane else { return Ok(()) };
        // The helper is root and may work on everybody's files; what it makes, everybody may change. Only what one user's script made,
        // another's can't.
        let (word, owner, open) = match (&record.helper, ids) {
            (Some(_), ids) => (format!("helper and {:?}", ids.unwrap_or_default()), (0, 0), true),
            (None, Some((uid, gid))) => (format!("{uid}:{gid}"), (uid, gid), false),
            // An older init, in a container that is there already.
            (None, None) => return Ok(()),
        };
        let ids = (self.podman.file_id(map, owner.0), self.podman.file_id(map, owner.1));
        let worker = Worker { word: word.clone(), owner: record.helper.is_none().then_some(ids.0) };
        lease.update(|record| {
            if let Some(lane) = &mut record.lane {
                lane.worker = Some(worker);
            }
        })?;
        let id = lane.builds();
        let is_new = self.lanes.record(&id).is_none_or(|record| record.uses <= 1);
        if is_new || known == Some(word.as_str()) {
            return Ok(());
        }
        let since = Instant::now();
        if let Err(error) = self.podman.own(&self.lanes.files(&id), ids, open).await {
            // The next attempt, or the next job, gets a new one.
            lease.update(|record| {
                if let Some(lane) = &mut record.lane {
                    lane.failures = FAILURES_MAX;
                }
            })?;
            return Err(error.into());
        }
        let who = if open { "the helper".to_owned() } else { format!("user {word}") };
        log.line(format!("What is in build directory {} was given to {who} in {:.1?}", lane.builds, since.elapsed()));
        Ok(())
    }

    /// Gives the lanes of a lease back, once nothing of it runs any more.
    pub(super) async fn end_lane(self: &Arc<Self>, lease: &Lease) -> Result<()> {
        let record = lease.record();
        let Some(lane) = &record.lane else {
            lease.lane_free.cancel();
            return Ok(());
        };
        let id = lane.builds();
        let mut broken = None;
        // One that no job has begun to use has nothing of it.
        let begun = self.lanes.record(&id).is_some_and(|record| record.is_in_doubt());
        if let (true, Some(project)) = (begun, &lane.project) {
            let (path, trash) = (self.lanes.files(&id), self.lanes.trash());
            match self.podman.files(Request::Tidy { path, project: project.clone(), trash }).await {
                Ok(Reply::Tidied { suspicious, .. }) => broken = suspicious,
                Ok(other) => broken = Some(format!("an answer to another question: {other:?}")),
                Err(error) => broken = Some(format!("it can't be tidied: {}", error.message)),
            }
        }
        let failures = match record.sources {
            Some(true) => 0,
            Some(false) => lane.failures + 1,
            None => lane.failures,
        };
        if failures >= FAILURES_MAX {
            broken.get_or_insert_with(|| format!("{failures} jobs in a row could not get their sources into it"));
        }
        let used = [id.clone(), lane.part(Part::Cache), lane.part(Part::Storage)];
        let used: Vec<LaneId> = used.into_iter().filter(|id| self.lanes.is_held(id, lease.id.short())).collect();
        let untidy = broken.is_some();
        // What is broken stays in doubt until it is gone.
        let begun = |used: &&LaneId| self.lanes.record(used).is_some_and(|record| record.is_in_doubt());
        for used in used.iter().filter(begun).filter(|used| !untidy || **used != id) {
            // A disk that takes no note of it does not keep the job from its end.
            if let Err(error) = self.lanes.end_use(used, lease.id.short(), failures) {
                tracing::warn!(lane = %used, "{error:#}");
            }
        }
        // Off the record first: another job may take them at once, and this is not to be done twice.
        lease.forget_lane()?;
        self.lanes.let_go(lease.id.short());
        lease.lane_free.cancel();
        if let Some(reason) = broken
            && let Err(error) = self.discard(&id, &reason)
        {
            // The next job that would take it tries again.
            tracing::warn!(lane = %id, "it is to be removed, since {reason}: {error:#}");
        }
        for id in used {
            self.measure_soon(id, lane.worker.clone());
        }
        Ok(())
    }

    /// Puts a lane into the trash for another reason than the rules of the purge.
    pub(super) fn discard(&self, id: &LaneId, reason: &str) -> Result<()> {
        if let Some(gone) = self.lanes.discard(id)? {
            let (size, age) = (bytesize::ByteSize(gone.bytes), Duration::from_secs(gone.age));
            tracing::info!(lane = %id, %size, age = %humantime::format_duration(age), reason, "a lane is removed");
            self.housekeeping.trash.notify_one();
        }
        Ok(())
    }

    /// Removes what the jobs of a key keep.
    pub(super) fn discard_lanes_of(&self, key: &str) -> Result<()> {
        for lane in self.lanes.list().into_iter().filter(|lane| lane.home.key().to_string() == key) {
            self.discard(&lane.id, "its range of user ids goes to another project")?;
        }
        Ok(())
    }

    pub(super) fn by_short_id(&self, id: &str) -> Option<Arc<Lease>> {
        self.all_leases().into_iter().find(|lease| lease.id.short() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Secret;

    #[test]
    fn the_lowest_directory_that_is_there_is_taken() {
        let held = |number: u32, by: &str| (number, Some(by.to_owned()));
        assert_eq!(choose(&[], |_| false, |_| false), Choice::Take(0));
        assert_eq!(choose(&[(0, None), (1, None)], |_| false, |_| false), Choice::Take(0));
        assert_eq!(choose(&[held(0, "a"), (1, None)], |_| true, |_| false), Choice::Take(1));
        assert_eq!(choose(&[held(0, "a"), held(1, "b")], |holder| holder == "b", |_| false), Choice::Wait("b".into()));
        assert_eq!(choose(&[held(0, "a"), held(2, "b")], |_| false, |_| false), Choice::Take(1));
        assert_eq!(choose(&[held(0, "a"), held(2, "b")], |_| false, |number| number == 1), Choice::Take(3));
    }

    #[test]
    fn the_projects_directory_is_in_the_build_directory_or_nowhere() {
        let found = |value: &str| {
            let mut inputs = Inputs::default();
            inputs.variables.insert("RUNNER_TEMP_PROJECT_DIR".into(), Secret::new(value));
            project_directory(&inputs)
        };
        assert_eq!(found("/builds/group/project.tmp"), Some("group/project".into()));
        assert_eq!(found("/builds.tmp"), Some("".into()), "GIT_CLONE_PATH may be the build directory itself");
        for value in ["", ".tmp", "/buildsx/p.tmp", "/builds/p", "/etc/p.tmp"] {
            assert_eq!(found(value), None, "{value}");
        }
    }
}
