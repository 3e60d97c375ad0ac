//! What an administrator asks of the chain.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use anyhow::{Result, bail};

use super::Controller;
use super::state::PAUSED;
use super::view::rfc3339;
use crate::chain::facts::{ProjectId, Upstream};
use crate::chain::reconcile;
use crate::protocol::chain::{ChainReply, ChainRequest, EventLine, StartLine};

/// How long a look at everything may take that somebody waits for.
pub const SYNC_MAX: Duration = Duration::from_secs(600);
/// Most events and starts that are told.
const COUNT_MAX: u32 = 10_000;

impl Controller {
    /// Answers a request.
    ///
    /// # Errors
    /// What is wrong with it, in words for an administrator.
    pub async fn answer(&self, request: ChainRequest) -> Result<ChainReply> {
        let done = |message: String| Ok(ChainReply::Done { message });
        match request {
            ChainRequest::Status => Ok(ChainReply::Status(self.status())),
            ChainRequest::Plan => Ok(ChainReply::Plan { steps: self.plan(), held: self.held() }),
            ChainRequest::Sync => {
                if !self.sync_now(SYNC_MAX).await {
                    bail!(
                        "the look at everything takes longer than {}; it goes on",
                        humantime::format_duration(SYNC_MAX)
                    );
                }
                let state = self.state();
                let (count, problems) = (state.facts.projects.len(), state.last_sync.problems.join("; "));
                if !problems.is_empty() {
                    bail!("looked at {count} projects; but {problems}");
                }
                done(format!("looked at {count} projects"))
            }
            ChainRequest::Rebuild { project, with_upstreams, only } => {
                done(self.rebuild(&project, with_upstreams, only).await?)
            }
            ChainRequest::Pause { project } => done(self.set_paused(project.as_deref(), true).await?),
            ChainRequest::Resume { project } => done(self.set_paused(project.as_deref(), false).await?),
            ChainRequest::Events { project, count } => self.events(project.as_deref(), count.min(COUNT_MAX)).await,
            ChainRequest::Audit => Ok(ChainReply::Audit { findings: self.audit().await }),
            ChainRequest::Backup { to } => {
                self.store.backup(&to).await?;
                done(format!("the chain's database is in {}", to.display()))
            }
        }
    }

    fn named(&self, name: &str) -> Result<ProjectId> {
        match self.state().named(name) {
            Some(id) => Ok(id),
            None => bail!("the chain has no project {name:?}; `windlass chain status` lists them"),
        }
    }

    async fn rebuild(&self, name: &str, with_upstreams: bool, only: bool) -> Result<String> {
        let id = self.named(name)?;
        let mut wanted = BTreeSet::from([id]);
        {
            let mut state = self.state();
            if with_upstreams {
                let mut queue = VecDeque::from([id]);
                while let Some(at) = queue.pop_front() {
                    let edges = state.facts.projects.get(&at).map(|project| project.edges.clone()).unwrap_or_default();
                    for edge in edges.into_iter().filter(|edge| !edge.pinned) {
                        match edge.upstream {
                            Upstream::Project(id) if state.facts.projects.contains_key(&id) && wanted.insert(id) => {
                                queue.push_back(id);
                            }
                            _ => {}
                        }
                    }
                }
            }
            for id in &wanted {
                state.facts.want(*id, only);
            }
        }
        self.save(wanted.iter().copied()).await?;
        self.work.notify_one();
        let (plan, quiet) = (self.decide(), self.quiet());
        let state = self.state();
        let path = state.path(id);
        let before = wanted.len() - 1;
        let after = if before > 0 { format!(" after {before} that it builds on") } else { String::new() };
        let words = match plan.decisions.get(&id).map(|decision| &decision.state) {
            Some(reconcile::State::Due) if self.settings.dry_run => {
                format!("{path} would be built{after}, but dry_run is set in [chain]")
            }
            Some(reconcile::State::Due | reconcile::State::Settling) => format!("{path} is built{after}"),
            Some(other) => format!("{path} will be built{after}; now: {}", super::view::told(&state, other, quiet)),
            None => format!("{path} will be built{after}"),
        };
        Ok(words)
    }

    async fn set_paused(&self, name: Option<&str>, paused: bool) -> Result<String> {
        let Some(name) = name else {
            self.store.set(PAUSED, if paused { "yes" } else { "no" }).await?;
            self.state().paused = paused;
            self.work.notify_one();
            return Ok(
                if paused { "the chain starts nothing until it is resumed" } else { "the chain goes on" }.to_owned()
            );
        };
        let id = self.named(name)?;
        let path = {
            let mut state = self.state();
            if let Some(project) = state.facts.projects.get_mut(&id) {
                project.paused = paused;
            }
            state.path(id)
        };
        self.save([id]).await?;
        self.work.notify_one();
        Ok(if paused {
            format!("{path} is not built until it is resumed")
        } else {
            format!("the chain goes on with {path}")
        })
    }

    async fn events(&self, name: Option<&str>, count: u32) -> Result<ChainReply> {
        let id = name.map(|name| self.named(name)).transpose()?;
        let events = self.store.events(id, count).await?.into_iter().map(|row| EventLine {
            at: rfc3339(row.received_at),
            path: row.path,
            pipeline: row.pipeline,
            status: row.status,
            reference: row.reference,
            source: row.source,
            verdict: row.verdict,
        });
        let starts = self.store.starts(id, count).await?.into_iter().map(|row| StartLine {
            at: rfc3339(row.at),
            path: row.path,
            reason: row.reason,
            outcome: row.outcome,
            pipeline: row.pipeline,
        });
        Ok(ChainReply::Events { events: events.collect(), starts: starts.collect() })
    }
}
