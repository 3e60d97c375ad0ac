//! Figures for Prometheus: what has happened since the start. What is now, such as slots and free space, is read when it is asked for
//! (`states`).
//!
//! Labels come from closed sets alone: profiles of the configuration and words that this program has. Projects, users and images are in
//! the history.

mod labels;
mod process;
pub mod states;

use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::protocol::history::{JobOutcome, StageResult};
use labels::{podman_operation, stage_name};
use states::States;

/// What the text is (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Before every name, except those of the process itself.
const PREFIX: &str = "windlass";

type OfProfile = [(&'static str, String); 1];
type OfProfileAnd = [(&'static str, String); 2];
type Word = [(&'static str, &'static str); 1];
type Words = [(&'static str, &'static str); 2];
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// From a stage that does nothing to one of hours, in seconds.
const STAGE_BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0];
/// Preparations, pulls, and waits for a slot, in seconds.
const PREPARE_BUCKETS: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0];
/// Calls of podman and of GitLab, in seconds.
const CALL_BUCKETS: [f64; 10] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// The figures. Whoever has something to count has this; counting never waits.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    jobs: Family<OfProfileAnd, Counter>,
    job: Histograms<OfProfile>,
    slot_wait: Histograms<OfProfile>,
    prepare: Histograms<OfProfileAnd>,
    stage: Histograms<Words>,
    pulls: Family<Word, Counter>,
    pull: Histogram,
    pulled: Counter,
    purged: Family<Words, Counter>,
    purged_bytes: Family<Word, Counter>,
    podman_calls: Family<Words, Counter>,
    podman_call: Histograms<Word>,
    gitlab_requests: Family<Word, Counter>,
    gitlab_request: Histogram,
    gitlab_holds: Counter,
    gitlab_limit: Gauge,
    gitlab_remaining: Gauge,
    /// Hosts that listen to the feed.
    pub feed_listeners: Gauge,
    webhook_calls: Family<Word, Counter>,
    chain_events: Family<Word, Counter>,
    chain_starts: Family<Word, Counter>,
    chain_syncs: Family<Word, Counter>,
    chain_sync: Histogram,
    history_dropped: Counter,
}

fn stage_histogram() -> Histogram {
    Histogram::new(STAGE_BUCKETS)
}

fn prepare_histogram() -> Histogram {
    Histogram::new(PREPARE_BUCKETS)
}

fn call_histogram() -> Histogram {
    Histogram::new(CALL_BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            jobs: Family::default(),
            job: Family::new_with_constructor(stage_histogram),
            slot_wait: Family::new_with_constructor(prepare_histogram),
            prepare: Family::new_with_constructor(prepare_histogram),
            stage: Family::new_with_constructor(stage_histogram),
            pulls: Family::default(),
            pull: prepare_histogram(),
            pulled: Counter::default(),
            purged: Family::default(),
            purged_bytes: Family::default(),
            podman_calls: Family::default(),
            podman_call: Family::new_with_constructor(call_histogram),
            gitlab_requests: Family::default(),
            gitlab_request: call_histogram(),
            gitlab_holds: Counter::default(),
            gitlab_limit: Gauge::default(),
            gitlab_remaining: Gauge::default(),
            feed_listeners: Gauge::default(),
            webhook_calls: Family::default(),
            chain_events: Family::default(),
            chain_starts: Family::default(),
            chain_syncs: Family::default(),
            chain_sync: prepare_histogram(),
            history_dropped: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let seconds = || Unit::Seconds;
        registry.register("jobs", "Jobs that are over, by outcome", self.jobs.clone());
        registry.register_with_unit("job", "From when a job came to its end", seconds(), self.job.clone());
        registry.register_with_unit("slot_wait", "What jobs waited for a slot", seconds(), self.slot_wait.clone());
        registry.register_with_unit("prepare", "Preparations of jobs", seconds(), self.prepare.clone());
        registry.register_with_unit("stage", "Stages of jobs", seconds(), self.stage.clone());
        registry.register("pulls", "Pulls of images, by result", self.pulls.clone());
        registry.register_with_unit("pull", "Pulls of images, with all attempts", seconds(), self.pull.clone());
        registry.register_with_unit("pulled", "Sizes of pulled images on this host", Unit::Bytes, self.pulled.clone());
        registry.register("purged", "What purges removed, by rule", self.purged.clone());
        registry.register_with_unit(
            "purged",
            "Sizes of what purges removed, where known",
            Unit::Bytes,
            self.purged_bytes.clone(),
        );
        registry.register("podman_calls", "Calls of podman, by operation and result", self.podman_calls.clone());
        registry.register_with_unit("podman_call", "Calls of podman", seconds(), self.podman_call.clone());
        registry.register(
            "gitlab_requests",
            "Requests to GitLab's API, by the class of the answer's status",
            self.gitlab_requests.clone(),
        );
        registry.register_with_unit(
            "gitlab_request",
            "Requests to GitLab's API",
            seconds(),
            self.gitlab_request.clone(),
        );
        registry.register("gitlab_holds", "How often GitLab's limits made requests wait", self.gitlab_holds.clone());
        registry.register("gitlab_limit", "GitLab's limit of requests, as it said last", self.gitlab_limit.clone());
        registry.register(
            "gitlab_limit_remaining",
            "What was left of GitLab's limit, as it said last",
            self.gitlab_remaining.clone(),
        );
        registry.register("feed_listeners", "Hosts that listen to the feed", self.feed_listeners.clone());
        registry.register("webhook_calls", "Calls of the webhook, by status", self.webhook_calls.clone());
        registry.register("chain_events", "Events that were stored, by what came of them", self.chain_events.clone());
        registry.register(
            "chain_starts",
            "Pipelines that the chain started, by outcome; what came of one in doubt counts too",
            self.chain_starts.clone(),
        );
        registry.register("chain_syncs", "Looks at all projects, by result", self.chain_syncs.clone());
        registry.register_with_unit("chain_sync", "Looks at all projects", seconds(), self.chain_sync.clone());
        registry.register("history_dropped", "What the history could not take, in rows", self.history_dropped.clone());
    }

    /// A job is over.
    pub fn job_ended(&self, profile: &str, outcome: JobOutcome, took: Duration, waited: Duration) {
        let of_profile = [("profile", profile.to_owned())];
        let labels = [("profile", profile.to_owned()), ("outcome", outcome.word().to_owned())];
        self.jobs.get_or_create(&labels).inc();
        self.job.get_or_create(&of_profile).observe(took.as_secs_f64());
        self.slot_wait.get_or_create(&of_profile).observe(waited.as_secs_f64());
    }

    /// A preparation has ended.
    pub fn prepared(&self, profile: &str, worked: bool, took: Duration) {
        let labels = [("profile", profile.to_owned()), ("result", result(worked).to_owned())];
        self.prepare.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A stage has ended.
    pub fn stage_ended(&self, name: &str, end: StageResult, took: Duration) {
        let labels = [("stage", stage_name(name)), ("result", end.word())];
        self.stage.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A pull has ended.
    pub fn pulled(&self, result: &'static str, bytes: Option<u64>, took: Duration) {
        self.pulls.get_or_create(&[("result", result)]).inc();
        self.pull.observe(took.as_secs_f64());
        self.pulled.inc_by(bytes.unwrap_or(0));
    }

    /// A purge has removed something.
    pub fn purged(&self, kind: &'static str, rule: &'static str, bytes: Option<u64>) {
        self.purged.get_or_create(&[("kind", kind), ("rule", rule)]).inc();
        self.purged_bytes.get_or_create(&[("kind", kind)]).inc_by(bytes.unwrap_or(0));
    }

    /// podman was called; `result` is `success`, `failed`, or `silent` where it gave no answer in its time or could not be started.
    pub fn podman_called(&self, operation: &str, result: &'static str, took: Duration) {
        let operation = podman_operation(operation);
        self.podman_calls.get_or_create(&[("operation", operation), ("result", result)]).inc();
        self.podman_call.get_or_create(&[("operation", operation)]).observe(took.as_secs_f64());
    }

    /// GitLab was asked; the answer's status, if it gave one.
    pub fn gitlab_asked(&self, status: Option<u16>, took: Duration) {
        let class = match status {
            None => "none",
            Some(429) => "429",
            Some(200..=299) => "2xx",
            Some(300..=399) => "3xx",
            Some(400..=499) => "4xx",
            Some(500..=599) => "5xx",
            Some(_) => "other",
        };
        self.gitlab_requests.get_or_create(&[("status", class)]).inc();
        self.gitlab_request.observe(took.as_secs_f64());
    }

    /// What GitLab says of its limit.
    pub fn gitlab_limit(&self, limit: i64, remaining: i64) {
        self.gitlab_limit.set(limit);
        self.gitlab_remaining.set(remaining);
    }

    /// Requests to GitLab have to wait.
    pub fn gitlab_held(&self) {
        self.gitlab_holds.inc();
    }

    /// The webhook has answered.
    pub fn webhook_answered(&self, status: u16) {
        let word = match status {
            200 => "200",
            400 => "400",
            401 => "401",
            408 => "408",
            413 => "413",
            503 => "503",
            _ => "other",
        };
        self.webhook_calls.get_or_create(&[("status", word)]).inc();
    }

    /// An event was stored; `aside` says that nobody has to look because of it.
    pub fn event_stored(&self, aside: bool) {
        self.chain_events.get_or_create(&[("verdict", if aside { "aside" } else { "look" })]).inc();
    }

    /// The chain wanted to start a pipeline.
    pub fn chain_started(&self, outcome: &'static str) {
        self.chain_starts.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// All projects were looked at.
    pub fn chain_synced(&self, worked: bool, took: Duration) {
        self.chain_syncs.get_or_create(&[("result", result(worked))]).inc();
        self.chain_sync.observe(took.as_secs_f64());
    }

    /// The history could not take so many rows.
    pub fn history_dropped(&self, rows: u64) {
        self.history_dropped.inc_by(rows);
    }

    /// All figures and states, as text.
    ///
    /// # Errors
    /// None that a string has.
    pub fn text(&self, states: &States) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &states.registry())?;
        encode_registry(&mut text, &process::registry())?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

fn result(worked: bool) -> &'static str {
    if worked { "success" } else { "failed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_comes_out_with_its_unit() {
        let metrics = Metrics::default();
        metrics.job_ended("default", JobOutcome::Failed, Duration::from_secs(2), Duration::ZERO);
        metrics.pulled("success", Some(7), Duration::from_secs(1));
        metrics.purged("lane", "max_age", Some(9));
        let text = metrics.text(&States::default()).expect("text");
        for line in [
            "windlass_jobs_total{profile=\"default\",outcome=\"failed\"} 1",
            "windlass_job_seconds_sum{profile=\"default\"} 2.0",
            "windlass_pulled_bytes_total 7",
            "windlass_purged_total{kind=\"lane\",rule=\"max_age\"} 1",
            "windlass_purged_bytes_total{kind=\"lane\"} 9",
            "\nwindlass_ready 0\n",
            "# UNIT windlass_job_seconds seconds",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_jobs_name_makes_no_labels() {
        let metrics = Metrics::default();
        for number in 0..100 {
            let stage = format!("step_{number}");
            metrics.stage_ended(&stage, StageResult::Exited { exit_code: number }, Duration::ZERO);
            metrics.podman_called(&format!("x{number}"), "failed", Duration::ZERO);
        }
        let text = metrics.text(&States::default()).expect("text");
        assert!(text.lines().filter(|line| line.starts_with("windlass_stage_seconds_count")).count() <= 2, "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("windlass_podman_calls_total")).count(), 1, "{text}");
    }
}
