use super::*;
use crate::chain::facts::{Attempt, Pipeline};

const LIMITS: Limits = Limits { now: 1_000_000, max_running: 100, settle: 0, quiet: false };

/// A world in which every project is fresh: pipeline 1 of each, in the order of their names.
fn fresh(edges: &[(i64, &[i64])]) -> Facts {
    let mut facts = Facts::default();
    for (id, _) in edges {
        let at = id * 10;
        let pipeline = Pipeline { id: *id, status: Status::Success, created_at: at };
        facts.observe(*id, Some(pipeline), Some(Success { id: *id, at: at + 5 }));
    }
    for (id, upstreams) in edges {
        facts.set_edges(*id, upstreams.iter().map(|upstream| (Upstream::Project(*upstream), false)));
    }
    facts
}

/// A new pipeline of a project, with this status.
fn pipeline(facts: &mut Facts, project: i64, id: i64, status: Status) {
    let success = (status == Status::Success).then_some(Success { id, at: id * 10 + 5 });
    facts.observe(project, Some(Pipeline { id, status, created_at: id * 10 }), success);
}

/// Starts what a pass wants started; the pipelines get the ids from `next` on.
fn start(facts: &mut Facts, next: &mut i64) -> Vec<i64> {
    let plan = decide(facts, &LIMITS);
    for (project, inputs) in &plan.triggers {
        assert!(facts.begin_attempt(*project, inputs.clone(), *next * 10));
        facts.settle_attempt(*project, Outcome::Created(*next));
        pipeline(facts, *project, *next, Status::Running);
        *next += 1;
    }
    plan.triggers.iter().map(|(project, _)| *project).collect()
}

fn end(facts: &mut Facts, project: i64, status: Status) {
    let latest = facts.projects[&project].latest.expect("it has one");
    let success = (status == Status::Success).then_some(Success { id: latest.id, at: latest.created_at + 5 });
    facts.observe(project, Some(Pipeline { status, ..latest }), success);
}

fn state(facts: &Facts, project: i64) -> State {
    decide(facts, &LIMITS).decisions[&project].state.clone()
}

const BASE: i64 = 1;
const RUBY: i64 = 2;
const NODE: i64 = 3;
const APP: i64 = 4;

fn diamond() -> Facts {
    fresh(&[(BASE, &[]), (RUBY, &[BASE]), (NODE, &[BASE]), (APP, &[RUBY, NODE])])
}

#[test]
fn a_diamond_is_built_in_order_and_its_end_once() {
    let (mut facts, mut next) = (diamond(), 100);
    assert!(start(&mut facts, &mut next).is_empty(), "what was there before is no reason");
    pipeline(&mut facts, BASE, 50, Status::Running);
    assert!(start(&mut facts, &mut next).is_empty());
    end(&mut facts, BASE, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [RUBY, NODE]);
    assert!(start(&mut facts, &mut next).is_empty(), "they run");
    end(&mut facts, RUBY, Status::Success);
    assert_eq!(state(&facts, APP), State::Waits { on: vec![NODE] });
    assert!(start(&mut facts, &mut next).is_empty());
    end(&mut facts, NODE, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [APP]);
    end(&mut facts, APP, Status::Success);
    assert!(start(&mut facts, &mut next).is_empty());
    assert!([BASE, RUBY, NODE, APP].iter().all(|project| state(&facts, *project) == State::Fresh));
}

#[test]
fn a_failure_stops_what_is_above_it_and_a_retry_goes_on() {
    let (mut facts, mut next) = (diamond(), 100);
    pipeline(&mut facts, BASE, 50, Status::Success);
    start(&mut facts, &mut next);
    end(&mut facts, NODE, Status::Success);
    end(&mut facts, RUBY, Status::Failed);
    assert!(start(&mut facts, &mut next).is_empty());
    assert_eq!(state(&facts, RUBY), State::Failed);
    assert_eq!(state(&facts, APP), State::Blocked { by: RUBY });
    // The same pipeline, retried.
    end(&mut facts, RUBY, Status::Running);
    assert_eq!(state(&facts, APP), State::Waits { on: vec![RUBY] });
    end(&mut facts, RUBY, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [APP]);
    // For each way in which a pipeline does not succeed there is a word, and it blocks.
    for (status, word) in
        [(Status::Canceled, State::Canceled), (Status::Skipped, State::Skipped), (Status::Manual, State::Manual)]
    {
        let (mut facts, mut next) = (diamond(), 100);
        pipeline(&mut facts, BASE, 50, Status::Success);
        start(&mut facts, &mut next);
        end(&mut facts, NODE, Status::Success);
        end(&mut facts, RUBY, status);
        assert_eq!((state(&facts, RUBY), state(&facts, APP)), (word, State::Blocked { by: RUBY }));
    }
}

#[test]
fn a_long_side_of_a_diamond_is_waited_for() {
    // 1 -> 2 -> 3 -> 5 and 1 -> 4 -> 5: when 4 is ready, 3 has not even heard of 1.
    let mut facts = fresh(&[(1, &[]), (2, &[1]), (3, &[2]), (4, &[1]), (5, &[3, 4])]);
    pipeline(&mut facts, 1, 50, Status::Success);
    let mut next = 100;
    assert_eq!(start(&mut facts, &mut next), [2, 4]);
    end(&mut facts, 4, Status::Success);
    assert!(start(&mut facts, &mut next).is_empty());
    assert_eq!(state(&facts, 5), State::Waits { on: vec![3] });
    end(&mut facts, 2, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [3]);
    end(&mut facts, 3, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [5], "once");
}

#[test]
fn what_has_never_been_built_is_in_the_way_of_nobody_who_is_built_already() {
    let mut facts = fresh(&[(1, &[]), (2, &[1, 3])]);
    facts.observe(3, None, None);
    assert_eq!(state(&facts, 2), State::Fresh);
    pipeline(&mut facts, 1, 50, Status::Success);
    assert_eq!(state(&facts, 2), State::Blocked { by: 3 });
}

#[test]
fn what_somebody_wants_is_built_once_and_alone_if_that_is_wanted() {
    let mut facts = fresh(&[(1, &[]), (2, &[1])]);
    let mut next = 100;
    facts.want(1, true);
    assert_eq!(start(&mut facts, &mut next), [1]);
    end(&mut facts, 1, Status::Success);
    assert_eq!((start(&mut facts, &mut next), state(&facts, 2)), (vec![], State::Fresh));
    // The next success counts again.
    pipeline(&mut facts, 1, 200, Status::Success);
    next = 300;
    assert_eq!(start(&mut facts, &mut next), [2]);
    end(&mut facts, 2, Status::Success);
    // What is due is not forgotten for a build that is alone.
    pipeline(&mut facts, 1, 400, Status::Success);
    facts.want(1, true);
    next = 500;
    assert_eq!(start(&mut facts, &mut next), [1]);
    end(&mut facts, 1, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [2]);
}

#[test]
fn the_nearest_that_failed_is_named() {
    let mut facts = fresh(&[(1, &[]), (2, &[1]), (3, &[2]), (4, &[3, 5]), (5, &[])]);
    pipeline(&mut facts, 1, 50, Status::Success);
    let mut next = 100;
    assert_eq!(start(&mut facts, &mut next), [2]);
    end(&mut facts, 2, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [3]);
    end(&mut facts, 3, Status::Success);
    // 2 fails again: 4 is due for 3, and would have to be built once more when 2 is mended.
    pipeline(&mut facts, 2, 200, Status::Failed);
    assert!(start(&mut facts, &mut next).is_empty());
    assert_eq!((state(&facts, 3), state(&facts, 4)), (State::Blocked { by: 2 }, State::Blocked { by: 2 }));
    pipeline(&mut facts, 2, 201, Status::Success);
    pipeline(&mut facts, 3, 190, Status::Failed);
    pipeline(&mut facts, 5, 202, Status::Success);
    next = 300;
    assert_eq!(start(&mut facts, &mut next), [3], "something newer to build on");
    end(&mut facts, 3, Status::Failed);
    assert_eq!(state(&facts, 4), State::Blocked { by: 3 });
}

#[test]
fn a_second_build_of_the_base_folds_into_what_is_due() {
    let (mut facts, mut next) = (diamond(), 100);
    pipeline(&mut facts, BASE, 50, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [RUBY, NODE]);
    pipeline(&mut facts, BASE, 150, Status::Success);
    next = 160;
    assert_eq!(start(&mut facts, &mut next), [RUBY, NODE], "what runs was begun without it");
    end(&mut facts, RUBY, Status::Success);
    end(&mut facts, NODE, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [APP], "once for both");
}

#[test]
fn an_attempt_that_comes_to_nothing_changes_not_what_was_built() {
    let (mut facts, mut next) = (diamond(), 100);
    pipeline(&mut facts, BASE, 50, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [RUBY, NODE]);
    end(&mut facts, RUBY, Status::Success);
    // It had succeeded before ruby's pipeline was created, and nobody had looked.
    pipeline(&mut facts, BASE, 99, Status::Success);
    assert_eq!(state(&facts, RUBY), State::Due);
    let inputs = Inputs::from([(Upstream::Project(BASE), Success { id: 99, at: 995 })]);
    assert!(facts.begin_attempt(RUBY, inputs, 2000));
    facts.settle_attempt(RUBY, Outcome::Failed("502".into()));
    assert_eq!(state(&facts, RUBY), State::Due);
}

#[test]
fn a_push_of_somebodys_counts_by_its_time() {
    let (mut facts, mut next) = (diamond(), 100);
    pipeline(&mut facts, BASE, 50, Status::Success);
    // Created after base had succeeded, and before.
    pipeline(&mut facts, RUBY, 60, Status::Success);
    pipeline(&mut facts, NODE, 45, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [NODE]);
}

#[test]
fn a_manual_job_played_after_a_success_is_no_new_success() {
    let (mut facts, mut next) = (diamond(), 100);
    let latest = facts.projects[&BASE].latest;
    facts.observe(BASE, latest, Some(Success { id: BASE, at: 500_000 }));
    assert!(start(&mut facts, &mut next).is_empty());
}

#[test]
fn new_edges_count_nothing_from_before_them() {
    let (mut facts, mut next) = (fresh(&[(1, &[]), (2, &[])]), 100);
    pipeline(&mut facts, 1, 50, Status::Success);
    facts.set_edges(2, [(Upstream::Project(1), false), (Upstream::Project(2), false), (Upstream::Project(3), false)]);
    assert_eq!(facts.projects[&2].edges.len(), 2, "not on itself");
    assert!(start(&mut facts, &mut next).is_empty());
    // One whose upstream nobody had looked at counts from the first look.
    pipeline(&mut facts, 3, 60, Status::Success);
    assert!(start(&mut facts, &mut next).is_empty());
    pipeline(&mut facts, 3, 61, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [2]);
    end(&mut facts, 2, Status::Success);
    // Found again, it is as it was.
    facts.set_edges(2, [(Upstream::Project(1), false)]);
    pipeline(&mut facts, 1, 200, Status::Success);
    next = 300;
    assert_eq!(start(&mut facts, &mut next), [2]);
}

#[test]
fn an_image_that_no_project_builds_is_an_upstream_once_it_moves() {
    let (mut facts, mut next) = (fresh(&[(1, &[])]), 100);
    let debian = "docker.io/library/debian:stable";
    facts.set_edges(1, [(Upstream::Image(debian.into()), false)]);
    facts.observe_image(debian, Success { id: 1, at: 5000 });
    assert!(start(&mut facts, &mut next).is_empty());
    facts.observe_image(debian, Success { id: 2, at: 6000 });
    assert_eq!(start(&mut facts, &mut next), [1]);
    end(&mut facts, 1, Status::Success);
    assert!(start(&mut facts, &mut next).is_empty());
}

#[test]
fn a_pinned_edge_is_kept_and_rebuilds_nothing() {
    let (mut facts, mut next) = (fresh(&[(1, &[]), (2, &[])]), 100);
    facts.set_edges(2, [(Upstream::Project(1), true)]);
    pipeline(&mut facts, 1, 50, Status::Success);
    assert!(start(&mut facts, &mut next).is_empty());
    assert_eq!(state(&facts, 2), State::Fresh);
}

#[test]
fn a_cycle_is_named_with_its_way_and_the_rest_goes_on() {
    let (mut facts, mut next) = (fresh(&[(1, &[3]), (2, &[1]), (3, &[2]), (4, &[3]), (5, &[4]), (6, &[])]), 100);
    pipeline(&mut facts, 6, 40, Status::Success);
    for project in [1, 2, 3] {
        let State::Cycle { path } = state(&facts, project) else { panic!("{project}: {:?}", state(&facts, project)) };
        assert_eq!((path.first(), path.last(), path.len()), (Some(&project), Some(&project), 4), "{path:?}");
    }
    pipeline(&mut facts, 3, 50, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [4]);
    end(&mut facts, 4, Status::Success);
    assert_eq!(start(&mut facts, &mut next), [5]);
}

#[test]
fn what_gitlab_refuses_is_not_asked_again_until_something_changes() {
    let (mut facts, _) = (diamond(), 100);
    pipeline(&mut facts, BASE, 50, Status::Success);
    let inputs = decide(&facts, &LIMITS).triggers[0].1.clone();
    assert!(facts.begin_attempt(RUBY, inputs.clone(), 0));
    assert_eq!(state(&facts, RUBY), State::Starting);
    assert!(!facts.begin_attempt(RUBY, inputs.clone(), 0), "one at a time");
    facts.settle_attempt(RUBY, Outcome::Refused("rules made no jobs".into()));
    assert_eq!(state(&facts, RUBY), State::Refused { reason: "rules made no jobs".into() });
    assert_eq!(state(&facts, APP), State::Blocked { by: RUBY });
    // What only did not work is tried three times.
    for tries in 1..=TRIES_MAX {
        assert!(facts.begin_attempt(NODE, inputs.clone(), 0));
        facts.settle_attempt(NODE, Outcome::Failed("502".into()));
        let expected = if tries == TRIES_MAX { State::GaveUp { reason: "502".into() } } else { State::Due };
        assert_eq!(state(&facts, NODE), expected, "after {tries}");
    }
    pipeline(&mut facts, BASE, 51, Status::Success);
    assert_eq!((state(&facts, NODE), state(&facts, RUBY)), (State::Due, State::Due));
}

#[test]
fn limits_hold_triggers_back_and_lose_none() {
    let mut facts = fresh(&[(1, &[]), (2, &[1]), (3, &[1]), (4, &[1])]);
    pipeline(&mut facts, 1, 50, Status::Success);
    let plan = decide(&facts, &Limits { max_running: 2, ..LIMITS });
    assert_eq!(plan.triggers.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3]);
    let enough = |running, most, before| State::Held { why: Hold::Enough { running, most, before } };
    assert_eq!(plan.decisions[&4].state, enough(0, 2, 2), "what is started now comes first");
    let plan = decide(&facts, &Limits { quiet: true, max_running: 2, ..LIMITS });
    assert!(plan.triggers.is_empty() && plan.decisions[&4].state == State::Held { why: Hold::Quiet });
    let plan = decide(&facts, &Limits { now: 600, settle: 100, ..LIMITS });
    assert!(plan.triggers.is_empty() && plan.decisions[&2].state == State::Settling);
    assert_eq!(decide(&facts, &Limits { now: 605, settle: 100, ..LIMITS }).triggers.len(), 3);
    facts.projects.get_mut(&2).expect("2").paused = true;
    assert_eq!(state(&facts, 2), State::Paused);
    // One that runs already counts.
    facts.projects.get_mut(&3).expect("3").attempt =
        Some(Attempt { inputs: Inputs::new(), at: 0, outcome: Outcome::Pending, tries: 1 });
    let mut plan = decide(&facts, &Limits { max_running: 1, ..LIMITS });
    assert!(plan.triggers.is_empty());
    assert_eq!(plan.decisions.remove(&4).map(|decision| decision.state), Some(enough(1, 1, 0)));
}

#[test]
fn ten_thousand_projects_are_decided_at_once() {
    let mut facts = Facts::default();
    for id in 0..10_000_i64 {
        let pipeline = Pipeline { id: id + 1, status: Status::Success, created_at: 10 };
        facts.observe(id, Some(pipeline), Some(Success { id: id + 1, at: 20 }));
    }
    for id in 1..10_000_i64 {
        let upstreams = [id / 2, id * 7 % id, id - 1].map(|upstream| (Upstream::Project(upstream), false));
        facts.set_edges(id, upstreams);
    }
    pipeline(&mut facts, 0, 50_000, Status::Success);
    let since = std::time::Instant::now();
    let plan = decide(&facts, &LIMITS);
    let took = since.elapsed();
    assert!(!plan.triggers.is_empty());
    let edges: usize = facts.projects.values().map(|project| project.edges.len()).sum();
    eprintln!("{edges} edges, {} triggers in {took:.1?}", plan.triggers.len());
    // Without optimisation, and other tests beside it.
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}

#[test]
fn an_image_that_moves_is_news_after_a_crash_that_lost_where_its_edge_began() {
    let mut facts = fresh(&[(BASE, &[])]);
    let debian = "docker.io/library/debian:stable";
    facts.set_edges(BASE, [(Upstream::Image(debian.into()), false)]);
    let before = facts.projects[&BASE].clone();
    assert_eq!(facts.observe_image(debian, Success { id: 1, at: 5000 }), [BASE], "to be put on record");
    // It was not.
    facts.projects.insert(BASE, before);
    facts.begin_edges();
    assert_eq!(state(&facts, BASE), State::Fresh);
    assert!(facts.observe_image(debian, Success { id: 2, at: 6000 }).is_empty());
    assert_eq!(state(&facts, BASE), State::Due);
}
