//! Whether the daemon lives, and whether a job that comes now would be run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::executor::Space;
use crate::http::admin::Readiness;

/// How long a sign of life may take.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// What is known of the daemon's health.
#[derive(Debug)]
pub struct Health {
    /// Somebody wants a sign of life from the loop that takes callers.
    asked: Notify,
    beats: watch::Sender<u64>,
    serving: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self { asked: Notify::new(), beats: watch::Sender::new(0), serving: AtomicBool::new(false) }
    }
}

impl Health {
    /// Waits until somebody wants a sign of life. Cancelling this loses nothing.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Gives one.
    pub fn beat(&self) {
        self.beats.send_modify(|count| *count += 1);
    }

    /// Whether the loop that takes callers gives one when it is asked.
    pub async fn is_alive(&self) -> bool {
        let mut beats = self.beats.subscribe();
        self.asked.notify_one();
        tokio::time::timeout(ALIVE_WITHIN, beats.changed()).await.is_ok_and(|changed| changed.is_ok())
    }

    /// It serves from now on, or no more.
    pub fn set_serving(&self, serving: bool) {
        self.serving.store(serving, Ordering::Relaxed);
    }

    /// Whether it serves.
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }
}

/// What readiness depends on.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whether it serves.
    pub serving: bool,
    /// Whether no new jobs are taken.
    pub drained: bool,
    /// Whether podman answers; none: nobody needs it.
    pub podman: Option<bool>,
    /// Whether GitLab answered when it was asked last; none: it was not asked.
    pub gitlab: Option<bool>,
    /// Whether no job gets a slot without GitLab's word (`verify_jobs`).
    pub verifies: bool,
    /// Where space is short.
    pub space: Space,
}

/// Ready is a daemon that would run a job that comes now. A GitLab that does not answer the chain hinders no job, so it is told and no more: the
/// chain waits for it, and webhooks are stored meanwhile.
#[must_use]
pub fn readiness(facts: &Facts) -> Readiness {
    let mut readiness = Readiness { not_ready: Vec::new(), remarks: facts.space.short.clone() };
    let mut not = |is_so: bool, words: &str| {
        if is_so {
            readiness.not_ready.push(words.to_owned());
        }
    };
    not(!facts.serving, "windlassd does not serve: it starts or ends");
    not(facts.drained, "no new jobs are taken (windlass drain)");
    not(facts.podman == Some(false), "podman does not answer");
    facts.space.full.iter().for_each(|words| not(true, words));
    if facts.gitlab == Some(false) {
        let words = "GitLab does not answer";
        if facts.verifies {
            readiness.not_ready.push(format!("{words}, and verify_jobs wants its word for each job"));
        } else {
            readiness.remarks.push(format!("{words}: the image chain waits"));
        }
    }
    readiness
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_who_answers_is_alive() {
        let health = std::sync::Arc::new(Health::default());
        assert!(!health.is_alive().await, "nobody is there");
        let loops = std::sync::Arc::clone(&health);
        let working = tokio::spawn(async move {
            loop {
                loops.asked().await;
                loops.beat();
            }
        });
        assert!(health.is_alive().await);
        working.abort();
        let _ = working.await;
        assert!(!health.is_alive().await, "a sign of life of before does not count");
    }

    #[test]
    fn ready_is_who_would_run_a_job() {
        let well = Facts {
            serving: true,
            drained: false,
            podman: Some(true),
            gitlab: Some(true),
            verifies: false,
            space: Space::default(),
        };
        let shown = |facts: Facts| {
            let Readiness { not_ready, remarks } = readiness(&facts);
            (not_ready.join("; "), remarks.len())
        };
        assert_eq!(shown(well.clone()), (String::new(), 0));
        assert!(shown(Facts { drained: true, ..well.clone() }).0.contains("drain"));
        assert!(shown(Facts { podman: Some(false), ..well.clone() }).0.contains("podman"));
        assert!(shown(Facts { serving: false, ..well.clone() }).0.contains("serve"));
        assert_eq!(shown(Facts { gitlab: Some(false), ..well.clone() }), (String::new(), 1));
        assert!(shown(Facts { gitlab: Some(false), verifies: true, ..well.clone() }).0.contains("verify_jobs"));
        let space = |full: &[&str], short: &[&str]| {
            let words = |list: &[&str]| list.iter().map(|words| (*words).to_owned()).collect();
            Facts { space: Space { full: words(full), short: words(short) }, ..well.clone() }
        };
        assert_eq!(shown(space(&["nothing is free"], &[])), ("nothing is free".to_owned(), 0));
        assert_eq!(shown(space(&[], &["little is free"])), (String::new(), 1), "room is made for a job that comes");
    }
}
