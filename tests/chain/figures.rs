//! What `/metrics` says of the chain, against what GitLab has seen of it.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::chain::{Chain, SECRET};
use crate::support::openmetrics::Figures;
use crate::support::wait::{seconds, until};

const TOKEN: (&str, &str) = ("X-Gitlab-Token", SECRET);

/// All values of a family, whatever its labels.
fn sum(figures: &Figures, family: &str) -> f64 {
    let is_of = |name: &str| name == family || name.starts_with(&format!("{family}{{"));
    figures.values.iter().filter(|(name, _)| is_of(name)).map(|(_, value)| value).sum()
}

#[test]
fn what_the_chain_does_is_counted_as_it_happens() {
    let (chain, diamond) = Chain::diamond("");
    chain.settle();
    let look = || Figures::of(&chain.host);
    let before = look();
    let of = |state: &str| look().get(&format!("windlass_chain_projects{{state=\"{state}\"}}"));
    assert_eq!((of("fresh"), sum(&before, "windlass_chain_projects")), (4.0, 4.0));
    assert_eq!(sum(&before, "windlass_chain_starts_total"), 0.0);
    let syncs = "windlass_chain_syncs_total{result=\"success\"}";
    chain.sync();
    let after = look();
    assert_eq!(after.get(syncs), before.get(syncs) + 1.0);
    assert_eq!(after.get("windlass_chain_sync_seconds_count"), before.get("windlass_chain_sync_seconds_count") + 1.0);

    // base is built, so two are started; one of them fails, and app is blocked.
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    let (ruby, node) = (chain.started(diamond.ruby, 0), chain.started(diamond.node, 0));
    chain.gitlab.bring(ruby, "failed");
    chain.gitlab.bring(node, "success");
    chain.until_words("images/app", "blocked by");
    chain.settle();
    assert_eq!((of("fresh"), of("failed"), of("blocked")), (2.0, 1.0, 1.0));
    let now = look();
    let created = "windlass_chain_starts_total{outcome=\"created\"}";
    assert_eq!((now.get(created), sum(&now, "windlass_chain_starts_total")), (2.0, 2.0));
    // Nobody but GitLab has called, and each call of a pipeline is an event on record.
    let events = chain.json(&["events", "--count", "1000"])["events"].as_array().unwrap().len();
    assert!(events >= 3, "{events}");
    assert_eq!(sum(&now, "windlass_chain_events_total"), f64::from(u32::try_from(events).unwrap()));
    assert_eq!(sum(&now, "windlass_webhook_calls_total"), now.get("windlass_webhook_calls_total{status=\"200\"}"));

    // One that says nothing of the chain, and one of a stranger.
    let tag = json!({"object_kind": "pipeline", "object_attributes": {"id": 9001, "ref": "v1", "tag": true, "source": "push",
        "status": "success", "finished_at": "2026-05-12 15:26:29 UTC"}, "project": {"id": diamond.base, "path_with_namespace": "images/base"}});
    assert_eq!(chain.call(&[TOKEN], tag.to_string().as_bytes()).status, 200);
    assert_eq!(chain.call(&[], tag.to_string().as_bytes()).status, 401);
    let then = look();
    let aside = "windlass_chain_events_total{verdict=\"aside\"}";
    assert_eq!(then.get(aside), now.get(aside) + 1.0);
    for status in ["200", "401"] {
        let name = format!("windlass_webhook_calls_total{{status=\"{status}\"}}");
        assert_eq!(then.get(&name), now.get(&name) + 1.0, "{name}");
    }

    // A look that fails counts as one.
    chain.gitlab.fail(100, "POST", "/api/graphql", &json!({"kind": "status", "status": 500}));
    chain.run(&["sync"]);
    chain.gitlab.end_faults();
    assert_eq!(look().get("windlass_chain_syncs_total{result=\"failed\"}"), 1.0);
    look().expect_documented();
}

#[test]
fn requests_to_gitlab_are_counted_with_their_answers_and_its_limits() {
    let (chain, _) = Chain::diamond("");
    chain.settle();
    let look = || Figures::of(&chain.host);
    let class =
        |figures: &Figures, class: &str| figures.get(&format!("windlass_gitlab_requests_total{{status=\"{class}\"}}"));
    let before = look();
    chain.gitlab.forget_requests();
    chain.gitlab.fail(1, "POST", "/api/graphql", &json!({"kind": "throttled", "retry_after": 1}));
    chain.sync();
    chain.gitlab.fail(1, "POST", "/api/graphql", &json!({"kind": "status", "status": 503}));
    chain.sync();
    chain.gitlab.fail(1, "POST", "/api/graphql", &json!({"kind": "closed"}));
    chain.sync();
    let after = look();
    let grown = |name: &str| class(&after, name) - class(&before, name);
    assert_eq!((grown("429"), grown("5xx"), grown("none")), (1.0, 1.0, 1.0));
    let seen = chain.gitlab.requests().iter().filter(|request| request.status == Some(200)).count();
    assert!(seen > 0);
    assert_eq!(grown("2xx"), f64::from(u32::try_from(seen).unwrap()));
    assert_eq!(sum(&after, "windlass_gitlab_requests_total"), after.get("windlass_gitlab_request_seconds_count"));
    assert!(after.get("windlass_gitlab_holds_total") > before.get("windlass_gitlab_holds_total"));
    assert_eq!(after.get("windlass_gitlab_up"), 1.0);

    chain.gitlab.budget(Some((500, 60)));
    chain.sync();
    let limited = look();
    assert_eq!(limited.get("windlass_gitlab_limit"), 500.0);
    let left = limited.get("windlass_gitlab_limit_remaining");
    assert!((1.0..500.0).contains(&left), "{left}");
}

#[test]
fn the_chains_loops_are_among_the_figures_and_none_of_them_hangs() {
    let (chain, _) = Chain::diamond("");
    let names = ["chain-images", "chain-status", "chain-sync", "chain-work", "webhook", "webhook-events"];
    let figure = |name: &str| format!("windlass_loop_age_seconds{{loop=\"{name}\"}}");
    let figures = Figures::of(&chain.host);
    for name in names {
        assert!(figures.values.get(&figure(name)).is_some_and(|age| *age < 60.0), "{name}: {figures:?}");
    }
    until("all that has something to wait for rests", seconds(20), || {
        Figures::of(&chain.host).get(&figure("chain-work")) == 0.0
    });
    assert_eq!(chain.host.end_daemon(Signal::SIGTERM), Some(0), "none of them ends before");
    chain.host.start_daemon();
}
