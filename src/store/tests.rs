#![allow(clippy::unwrap_used, reason = "a failing test should say where")]

mod older;

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::chain::age::Moves;
use crate::chain::event::Event;
use crate::chain::facts::{Attempt, Baseline, Edge, Inputs, Outcome, Pipeline, Project, Status, Success, Upstream};
use crate::registry::Digest;

fn project() -> Kept {
    let success = Success { id: 7, at: 70 };
    let image = Upstream::Image("docker.io/library/debian:stable".into());
    let inputs = BTreeMap::from([(Upstream::Project(1), success), (image.clone(), success)]);
    let edge = |upstream, pinned, baseline| Edge { upstream, pinned, baseline };
    Kept {
        facts: Project {
            seen: true,
            // As the table gives them back: in the order of its key.
            edges: vec![
                edge(image, true, Baseline::Nothing),
                edge(Upstream::Project(1), false, Baseline::Success(success)),
                edge(Upstream::Project(2), false, Baseline::Unseen),
            ],
            latest: Some(Pipeline { id: 9, status: Status::Manual, created_at: 90 }),
            success: Some(success),
            attempt: Some(Attempt { inputs: inputs.clone(), at: 80, outcome: Outcome::Failed("no".into()), tries: 2 }),
            started: Some((8, inputs)),
            paused: true,
            wanted: Some(9),
            wanted_alone: true,
            alone: Some(8),
        },
        about: About {
            path: "images/app".into(),
            web_url: "https://gitlab.example.com/images/app".into(),
            visibility: Some("private".into()),
            registry_prefix: Some("registry.example.com/images/app".into()),
            default_branch: Some("main".into()),
            head: Some("0123".into()),
            absent_since: Some(5),
            problems: vec!["one".into()],
            findings: vec!["two".into(), "three".into()],
            files: BTreeMap::from([("Containerfile".into(), "FROM x\n".into())]),
            state: "blocked".into(),
            state_since: 60,
            notified: Some("blocked by 1".into()),
            hook: HookState { id: Some(3), secrets: Some("f".into()), checked_at: Some(4), problem: Some("p".into()) },
        },
    }
}

fn event(delivery: Option<&str>, pipeline: i64, status: &str) -> NewEvent {
    let event = Event { project: 1, pipeline, status: status.into(), reference: "main".into(), ..Event::default() };
    NewEvent { received_at: 1, delivery: delivery.map(str::to_owned), event, verdict: None }
}

#[tokio::test]
async fn what_is_kept_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let mut kept = project();
    store.save(&[(1, &kept), (2, &Kept::default())]).await.unwrap();
    store.set("paused", "yes").await.unwrap();
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    let found = store.projects().await.unwrap();
    assert_eq!((&found[&1], &found[&2]), (&kept, &Kept::default()));
    assert_eq!(store.setting("paused").await.unwrap().as_deref(), Some("yes"));
    // Written again, it is what it is now.
    for outcome in [Outcome::Pending, Outcome::Created(4), Outcome::Refused("rules".into())] {
        kept.facts.attempt.as_mut().unwrap().outcome = outcome;
        kept.facts.edges.pop();
        store.save(&[(1, &kept)]).await.unwrap();
        assert_eq!(store.projects().await.unwrap()[&1], kept);
    }
    store.forget(&[1]).await.unwrap();
    assert_eq!(store.projects().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_event_that_comes_again_is_a_duplicate() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let is_new = async |new: NewEvent| store.add_events(&[new]).await.unwrap()[0].is_none();
    assert!(is_new(event(Some("a"), 1, "running")).await);
    assert!(!is_new(event(Some("a"), 1, "success")).await, "the same delivery");
    assert!(is_new(event(Some("b"), 1, "failed")).await);
    assert!(!is_new(event(Some("c"), 1, "failed")).await, "the same, with another key");
    assert!(is_new(event(Some("d"), 1, "running")).await, "retried");
    assert!(is_new(event(None, 1, "failed")).await, "failed again");
    assert!(is_new(event(None, 2, "failed")).await, "another pipeline");
    assert_eq!(store.open_events().await.unwrap().len(), 5);
    store.close_events(1, i64::MAX, "looked").await.unwrap();
    assert!(store.open_events().await.unwrap().is_empty());
    let shown = store.events(Some(1), 3).await.unwrap();
    assert_eq!(shown.iter().map(|row| row.pipeline).collect::<Vec<_>>(), [2, 1, 1]);
    store.prune(2).await.unwrap();
    assert!(store.events(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_second_daemon_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let error = Store::open(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("another windlassd"), "{error}");
    store.close().await;
    Store::open(dir.path()).await.unwrap();
}

#[tokio::test]
async fn what_is_damaged_or_of_a_later_release_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chain.db");
    let refused = async || format!("{:#}", Store::open(dir.path()).await.unwrap_err());
    fs::write(&file, "something else that is longer than a header").unwrap();
    let said = refused().await;
    assert!(said.contains("no database of SQLite") && said.contains("backup"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), b"something else that is longer than a header");
    fs::remove_file(&file).unwrap();

    let store = Store::open(dir.path()).await.unwrap();
    let many: Vec<NewEvent> = (0..500).map(|pipeline| event(None, pipeline, "running")).collect();
    store.add_events(&many).await.unwrap();
    store.close().await;
    let whole = fs::read(&file).unwrap();
    let mut broken = whole.clone();
    broken[4096..].iter_mut().for_each(|byte| *byte = 0x5a);
    fs::write(&file, &broken).unwrap();
    let said = refused().await;
    assert!(said.contains("is damaged and is left as it is"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), broken);

    fs::write(&file, &whole).unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', 1, x'00', 0)")
        .execute(&mut *store.connection().await)
        .await
        .unwrap();
    store.close().await;
    let said = refused().await;
    assert!(said.contains("later release") && said.contains("99"), "{said}");
}

#[tokio::test]
async fn a_backup_is_a_whole_database_that_nobody_else_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(dir.path()).await.unwrap();
    let kept = project();
    store.save(&[(1, &kept)]).await.unwrap();
    let copy = other.path().join("chain.db");
    store.backup(&copy).await.unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let error = format!("{:#}", store.backup(&copy).await.unwrap_err());
    assert!(error.contains("exists"), "{error}");
    // While the first is in use.
    assert_eq!(Store::open(other.path()).await.unwrap().projects().await.unwrap()[&1], kept);
}

#[tokio::test]
async fn an_images_digests_are_kept_and_the_numbers_of_its_moves_never_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let name = "docker.io/library/debian:stable";
    let digest = |text: &str| Digest::of(text.as_bytes());
    let seen = |text: &str| ImageSeen { digest: digest(text), platform_digest: digest(&format!("{text} for us")) };
    let new = |text: &str, moved, at| NewDigest { seen: seen(text), moved, at, counts: true };
    let mut look = ImageLook { next_at: 500, looked_at: Some(100), ..ImageLook::default() };
    let first = store.save_look(name, &look, Some(&new("a", false, 100))).await.unwrap().unwrap();
    let second = store.save_look(name, &look, Some(&new("b", true, 200))).await.unwrap().unwrap();
    assert!(second.is_newer_than(&first) && second.at == 200);
    look.error = Some("down".into());
    look.failed_since = Some(300);
    assert_eq!(store.save_look(name, &look, None).await.unwrap(), None);
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    let mut moves = Moves { since: 100, ..Moves::default() };
    moves.add(200);
    let expected = ImageLook { seen: Some(seen("b")), moves, ..look.clone() };
    assert_eq!(store.looks().await.unwrap(), BTreeMap::from([(name.to_owned(), expected)]));
    assert_eq!(store.images().await.unwrap()[name], second);
    assert_eq!(store.digests_of(name, &seen("a").platform_digest).await.unwrap(), [digest("a")]);
    store.forget_images(&[name.to_owned()]).await.unwrap();
    assert!(store.looks().await.unwrap().is_empty() && store.images().await.unwrap().is_empty());
    let again = store.save_look(name, &look, Some(&new("c", false, 400))).await.unwrap().unwrap();
    assert!(again.is_newer_than(&second));
    // What a project was built on goes with it.
    store.save(&[(1, &project())]).await.unwrap();
    let built = Built { pipeline: 7, on_new: Some(false), words: "old".into(), since: 5 };
    assert!(!store.save_built(2, &built).await.unwrap(), "of a project that is not there");
    assert!(store.save_built(1, &built).await.unwrap());
    store.save(&[(1, &project())]).await.unwrap();
    assert_eq!(store.built().await.unwrap(), BTreeMap::from([(1, built)]));
    store.forget(&[1]).await.unwrap();
    assert!(store.built().await.unwrap().is_empty());
}

fn start(causes: Option<Inputs>) -> StartRow {
    StartRow {
        at: 50,
        project: 1,
        path: "images/app".into(),
        reason: "images/base succeeded".into(),
        causes,
        outcome: "GitLab is asked for it".into(),
        pending: true,
        pipeline: None,
    }
}

#[tokio::test]
async fn a_start_is_on_record_with_its_attempt_and_gets_its_end_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let kept = project();
    let causes = BTreeMap::from([(Upstream::Project(1), Success { id: 7, at: 70 })]);
    let begun = start(Some(causes));
    store.save_with(&[(1, &kept)], Some(StartNote::Begins(&begun))).await.unwrap();
    assert_eq!(store.starts(Some(1), 9).await.unwrap(), vec![begun.clone()]);
    assert!(store.started(9).await.unwrap().is_empty());
    store.close().await;
    let store = Store::open(dir.path()).await.unwrap();
    // Whoever writes the end may know nothing of the beginning.
    let end =
        StartRow { pending: false, outcome: "pipeline 8".into(), pipeline: Some(8), reason: "?".into(), ..start(None) };
    store.save_with(&[(1, &kept)], Some(StartNote::Ends(&end))).await.unwrap();
    let whole = StartRow { pending: false, outcome: "pipeline 8".into(), pipeline: Some(8), ..begun };
    assert_eq!(store.starts(None, 9).await.unwrap(), vec![whole.clone()]);
    assert_eq!(store.started(9).await.unwrap(), [whole]);
    // One that nobody has begun, as with an attempt of an older release, is a row of its own.
    store.save_with(&[(1, &kept)], Some(StartNote::Ends(&end))).await.unwrap();
    assert_eq!(store.starts(Some(1), 9).await.unwrap().len(), 2);
    // One that never got an end stays without, and the next is another.
    store.save_with(&[], Some(StartNote::Begins(&start(None)))).await.unwrap();
    store.save_with(&[], Some(StartNote::Begins(&start(None)))).await.unwrap();
    store.save_with(&[], Some(StartNote::Ends(&end))).await.unwrap();
    let pipelines: Vec<Option<i64>> = store.starts(None, 2).await.unwrap().iter().map(|row| row.pipeline).collect();
    assert_eq!(pipelines, [Some(8), None]);
}

#[tokio::test]
async fn the_events_of_pipelines_and_why_they_were_built_are_found_among_many_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let mut first = event(None, 7, "running");
    first.event.source = Some("push".into());
    let many = (100..400).map(|pipeline| event(None, pipeline, "success"));
    let events: Vec<NewEvent> = [first].into_iter().chain(many).chain([event(None, 7, "success")]).collect();
    store.add_events(&events).await.unwrap();
    let found = store.events_of(&[(1, 7), (2, 8), (9, 100)]).await.unwrap();
    assert_eq!(found.iter().map(|event| event.status.as_str()).collect::<Vec<_>>(), ["running", "success"]);
    let mut kept = project();
    kept.about.absent_since = None;
    store.save(&[(1, &kept), (2, &Kept::default())]).await.unwrap();
    let built = |reason: Option<&str>| {
        vec![(1, BuiltFor { reason: reason.map(str::to_owned), source: Some("push".to_owned()) })]
    };
    assert_eq!(store.built_for().await.unwrap(), built(None));
    let row = StartRow { pending: false, pipeline: Some(7), ..start(None) };
    store.save_with(&[], Some(StartNote::Begins(&row))).await.unwrap();
    assert_eq!(store.built_for().await.unwrap(), built(Some("images/base succeeded")));
}

#[tokio::test]
async fn starts_of_an_older_release_stay_and_the_last_of_each_project_learns_what_it_was_made_for() {
    let dir = tempfile::tempdir().unwrap();
    let older =
        Migrator { migrations: MIGRATOR.iter().filter(|one| one.version < 4).cloned().collect(), ..Migrator::DEFAULT };
    let options = SqliteConnectOptions::new().filename(dir.path().join(FILE)).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    older.run_direct(None, &mut connection, false).await.unwrap();
    let columns = "path, web_url, problems, findings, seen, paused, wanted_alone, state, state_since";
    let inputs = r#"[{"upstream":{"project":1},"id":5,"at":50},{"upstream":{"project":3},"id":6,"at":60},{"upstream":{"image":"debian"},"id":7,"at":70}]"#;
    for statement in [
        format!("INSERT INTO project (id, {columns}) VALUES (1, 'images/base', '', '[]', '[]', 1, 0, 0, '', 0)"),
        format!("INSERT INTO project (id, {columns}) VALUES (3, 'images/other', '', '[]', '[]', 1, 0, 0, '', 0)"),
        format!("INSERT INTO project (id, started_id, started_inputs, {columns}) VALUES (2, 22, '{inputs}', 'images/app', '', '[]', '[]', 1, 0, 0, '', 0)"),
        "INSERT INTO start (at, project, path, reason, outcome, pipeline) VALUES (1, 2, 'images/app', 'images/base succeeded', 'pipeline 21', 21)".into(),
        "INSERT INTO start (at, project, path, reason, outcome, pipeline) VALUES (2, 2, 'images/app', 'images/base succeeded, and debian moved', 'pipeline 22', 22)".into(),
        "INSERT INTO start (at, project, path, reason, outcome) VALUES (3, 2, 'images/app', 'images/base succeeded', 'refused: x')".into(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let starts = store.starts(Some(2), 9).await.unwrap();
    let causes: Vec<Option<Inputs>> = starts.iter().map(|row| row.causes.clone()).collect();
    let known = BTreeMap::from([
        (Upstream::Project(1), Success { id: 5, at: 50 }),
        (Upstream::Image("debian".into()), Success { id: 7, at: 70 }),
    ]);
    assert_eq!(causes, [None, Some(known), None]);
    assert!(starts.iter().all(|row| !row.pending));
}
