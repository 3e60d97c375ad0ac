//! The history as those see it who tell it things and who read it.

#![allow(clippy::unwrap_used, reason = "a failing test should say where")]

use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection as _, Row as _};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::protocol::history::{JobImage, JobOutcome, JobQuery, StageResult, StageRow};

const DAY: i64 = 86_400_000;

fn row(job: i64, came: i64) -> JobRow {
    JobRow {
        lease: format!("lease{job}"),
        attempts: 1,
        instance: "gitlab.example.com".into(),
        job_id: job,
        project_id: 7,
        project_path: "Group/project".into(),
        name: Some("test".into()),
        reference: Some("main".into()),
        pipeline: Some(5),
        protected: true,
        user_id: Some(3),
        user: Some("ada".into()),
        profile: "default".into(),
        slot: Some(1),
        outcome: JobOutcome::Success,
        exit_code: None,
        reason: None,
        came,
        waited_ms: 10,
        prepare_ms: Some(100),
        ended: came + 1000,
        duration_ms: 1000,
        memory_peak: Some(1 << 20),
        cpu_us: None,
        written: Some(0),
        images: vec![JobImage {
            role: "job".into(),
            name: "r/x:1".into(),
            id: "ab12".into(),
            digest: Some("sha256:cd34".into()),
            other_digests: Vec::new(),
        }],
        stages: vec![StageRow {
            name: "build_script".into(),
            began: came + 200,
            ms: Some(700),
            result: StageResult::Exited { exit_code: 0 },
        }],
    }
}

struct World {
    directory: tempfile::TempDir,
    history: Arc<History>,
    metrics: Arc<Metrics>,
    writing: Option<tokio::task::JoinHandle<()>>,
    shutdown: CancellationToken,
}

impl World {
    fn with(settings: HistorySettings) -> Self {
        Self::at(tempfile::tempdir().unwrap(), settings)
    }

    fn new() -> Self {
        Self::with(HistorySettings { keep: Duration::from_secs(30 * 86_400), max_jobs: 1000 })
    }

    fn at(directory: tempfile::TempDir, settings: HistorySettings) -> Self {
        let (metrics, shutdown) = (Arc::<Metrics>::default(), CancellationToken::new());
        let (history, writer) = History::new(directory.path(), settings, &metrics);
        let writing = Some(tokio::spawn(writer.run(shutdown.clone())));
        Self { directory, history, metrics, writing, shutdown }
    }

    /// The daemon's end.
    async fn end(&mut self) {
        self.shutdown.cancel();
        self.writing.take().unwrap().await.unwrap();
    }

    async fn jobs(&self, query: JobQuery) -> Vec<i64> {
        let limit = if query.limit == 0 { 100 } else { query.limit };
        let rows = self.history.jobs(&JobQuery { limit, ..query }).await.unwrap();
        rows.into_iter().map(|row| row.job_id).collect()
    }
}

#[tokio::test]
async fn a_job_comes_back_as_it_was_told_and_is_found_by_each_filter() {
    let world = World::new();
    let now = now();
    assert!(world.jobs(JobQuery::default()).await.is_empty(), "nothing was ever written");
    let other = JobRow {
        project_id: 8,
        project_path: "group/other".into(),
        user: None,
        user_id: Some(4),
        outcome: JobOutcome::Failed,
        exit_code: Some(3),
        images: Vec::new(),
        ..row(2, now - 5000)
    };
    for row in [row(1, now - 9000), other] {
        assert_eq!(world.history.job(row).await, Told::Settled);
    }
    assert_eq!(world.history.jobs(&JobQuery { limit: 9, ..JobQuery::default() }).await.unwrap()[1], row(1, now - 9000));
    assert_eq!(world.jobs(JobQuery::default()).await, [2, 1], "the newest first");
    let text = |text: &str| Some(text.to_owned());
    for (query, expected) in [
        (JobQuery { project: text("group/PROJECT"), ..JobQuery::default() }, vec![1]),
        (JobQuery { project: text("gitlab.example.com/8"), ..JobQuery::default() }, vec![2]),
        (JobQuery { user: text("ada"), ..JobQuery::default() }, vec![1]),
        (JobQuery { user: text("4"), ..JobQuery::default() }, vec![2]),
        (JobQuery { image: text("sha256:cd"), ..JobQuery::default() }, vec![1]),
        (JobQuery { image: text("CD34"), ..JobQuery::default() }, vec![1]),
        (JobQuery { image: text("ab1"), ..JobQuery::default() }, vec![1]),
        (JobQuery { image: text("d34"), ..JobQuery::default() }, vec![]),
        (JobQuery { outcome: Some(JobOutcome::Failed), ..JobQuery::default() }, vec![2]),
        (JobQuery { since: Some(now - 6000), ..JobQuery::default() }, vec![2]),
        (JobQuery { limit: 1, ..JobQuery::default() }, vec![2]),
    ] {
        assert_eq!(world.jobs(query.clone()).await, expected, "{query:?}");
    }
}

#[tokio::test]
async fn a_job_is_one_row_however_often_it_is_told_and_tried() {
    let world = World::new();
    let now = now();
    for came in [now, now] {
        world.history.job(row(1, came)).await;
    }
    let all = JobQuery { limit: 9, ..JobQuery::default() };
    assert_eq!(world.history.jobs(&all).await.unwrap(), [row(1, now)], "the same lease is the same attempt");
    let second = JobRow { lease: "second".into(), stages: Vec::new(), ..row(1, now + 50) };
    world.history.job(second.clone()).await;
    // The first one's end comes late.
    world.history.job(row(1, now)).await;
    assert_eq!(world.history.jobs(&all).await.unwrap(), [JobRow { attempts: 2, ..second }]);
}

#[tokio::test]
async fn it_is_bounded_by_number_and_age_and_outlasts_the_daemon() {
    let settings = HistorySettings { keep: Duration::from_secs(86_400), max_jobs: 3 };
    let mut world = World::with(settings);
    let now = now();
    world.history.job(row(90, now - 2 * DAY)).await;
    for job in 1..=5 {
        world.history.pull(PullRow {
            at: now,
            image: "x".into(),
            digest: None,
            bytes: None,
            ms: 1,
            result: "success".into(),
        });
        world.history.job(row(job, now - 5000 + job)).await;
    }
    assert_eq!(world.jobs(JobQuery::default()).await, [5, 4, 3]);
    let pulls: u64 = world.history.pulls_by_day(0).await.unwrap().iter().map(|day| day.count).sum();
    assert!(pulls <= 3, "{pulls}");
    world.end().await;
    assert_eq!(world.history.job(row(6, now)).await, Told::Late, "nobody writes any more");
    let next = World::at(world.directory, settings);
    assert_eq!(next.jobs(JobQuery::default()).await, [5, 4, 3]);
}

#[tokio::test]
async fn what_waits_at_the_end_is_written() {
    let mut world = World::new();
    let told: Vec<_> = (1..=500).map(|job| world.history.job(row(job, now()))).collect();
    world.end().await;
    for told in told {
        assert_eq!(told.await, Told::Settled);
    }
    assert_eq!(world.jobs(JobQuery { limit: 1000, ..JobQuery::default() }).await.len(), 500);
}

#[tokio::test]
async fn a_database_that_cannot_be_written_costs_rows_and_no_time() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE), "this is no database, and it is somebody's").unwrap();
    let world = World::at(directory, HistorySettings { keep: Duration::from_secs(60), max_jobs: 9 });
    for job in 1..=3 {
        assert_eq!(world.history.job(row(job, now())).await, Told::Settled);
    }
    let text = world.metrics.text(&crate::metrics::states::States::default()).unwrap();
    assert!(text.contains("windlass_history_dropped_total 3\n"), "{text}");
    let kept = std::fs::read_to_string(world.directory.path().join(FILE)).unwrap();
    assert!(kept.starts_with("this is no database"), "it is left as it is");
    assert!(world.history.jobs(&JobQuery { limit: 1, ..JobQuery::default() }).await.is_err());
    let warning = world.history.warning().expect("somebody should know");
    assert!(warning.starts_with("what has been is not recorded") && warning.contains(FILE), "{warning}");
}

#[tokio::test]
async fn one_that_is_written_warns_nobody() {
    let world = World::new();
    assert_eq!(world.history.job(row(1, now())).await, Told::Settled);
    assert_eq!(world.history.warning(), None);
}

#[tokio::test]
async fn the_database_of_a_later_release_is_left_to_it() {
    let settings = HistorySettings { keep: Duration::from_secs(60), max_jobs: 9 };
    let mut world = World::with(settings);
    world.history.job(row(1, now())).await;
    world.end().await;
    let options = SqliteConnectOptions::new().filename(world.directory.path().join(FILE));
    let mut database = options.connect().await.unwrap();
    let later = "INSERT INTO _sqlx_migrations SELECT 99, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations LIMIT 1";
    sqlx::query(later).execute(&mut database).await.unwrap();
    let world = World::at(world.directory, settings);
    assert_eq!(world.history.job(row(2, now())).await, Told::Settled);
    let text = world.metrics.text(&crate::metrics::states::States::default()).unwrap();
    assert!(text.contains("windlass_history_dropped_total 1\n"), "{text}");
    assert_eq!(world.jobs(JobQuery::default()).await, [1]);
}

#[tokio::test]
async fn days_have_durations_outcomes_pulls_space_and_purges() {
    let world = World::new();
    let noon = now() / DAY * DAY - DAY + DAY / 2;
    for job in 1..=2 {
        let mut row = row(job, noon);
        row.stages[0].ms = Some(u64::try_from(job).unwrap() * 100);
        row.stages.push(StageRow { name: "step_x".into(), ..row.stages[0].clone() });
        world.history.pull(PullRow {
            at: noon,
            image: "x".into(),
            digest: None,
            bytes: Some(10),
            ms: 4,
            result: "success".into(),
        });
        world.history.purge(PurgeRow {
            at: noon,
            kind: "lane".into(),
            name: "l".into(),
            project_path: None,
            bytes: Some(3),
            age_s: 5,
            rule: "max_age".into(),
        });
        world.history.disk(DiskRow {
            at: noon,
            path: "/".into(),
            free_bytes: 1,
            bytes: 2,
            free_inodes: 3,
            inodes: 4,
            lanes_bytes: Some(5),
            images_bytes: None,
        });
        world.history.job(row).await;
    }
    let days = world.history.stages_by_day(noon - DAY, noon + DAY).await.unwrap();
    let day = |stage: &str| days.iter().find(|day| day.stage == stage).unwrap().clone();
    assert_eq!((day("build_script").day, day("build_script").count), (noon - DAY / 2, 2));
    assert!(world.history.stages_by_day(noon - DAY, noon).await.unwrap().is_empty(), "only what began before");
    assert_eq!(
        (day("build_script").mean_ms, day("step").max_ms, day("prepare").mean_ms, day("wait").count),
        (150, 200, 100, 2)
    );
    let outcomes = world.history.outcomes_by_day(noon - DAY).await.unwrap();
    assert_eq!((outcomes.len(), outcomes[0].outcome, outcomes[0].count), (1, JobOutcome::Success, 2));
    let pulls = world.history.pulls_by_day(noon - DAY).await.unwrap();
    assert_eq!((pulls[0].count, pulls[0].bytes, pulls[0].mean_ms), (2, 20, 4));
    assert_eq!(world.history.disks(noon - DAY).await.unwrap().len(), 2);
    assert_eq!(world.history.disks(noon + DAY).await.unwrap().len(), 0);
    assert_eq!(world.history.purges(0, 1).await.unwrap()[0].rule, "max_age");
}

/// As many jobs as are kept by default, evenly over the days that are, with eight stages each.
const MANY: &str = "\
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
    INSERT INTO job (id, lease, instance, job_id, project_id, project_path, protected, profile, outcome, came, waited_ms, prepare_ms, ended, duration_ms) \
    SELECT i, 'l' || i, 'h', i, 7, 'g/p', 0, 'default', 'success', ?1 - i * 25920, 5, 300, ?1 - i * 25920 + 60000, 60000 FROM n";
const STAGES_OF_MANY: &str = "\
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 7) \
    INSERT INTO stage (job, number, name, began, ms, result) \
    SELECT id, i, 'stage_' || i, came + i * 1000, 10 + (id * 7919 + i * 104729) % 90000, 'success' FROM job, n";

/// Runs a statement in the database, which has its tables.
async fn execute(world: &World, statement: &'static str, time: i64) {
    let path = world.directory.path().join(FILE);
    let mut database = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query(statement).bind(time).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn of_the_last_days_only_these_are_read() {
    let world = World::new();
    world.history.job(row(1, now())).await;
    let plan = world.history.read(async |connection| {
        let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", super::days::STAGES));
        let rows = sqlx::query(explained).bind(0).bind(1).bind(1).fetch_all(connection).await?;
        Ok(rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>())
    });
    let plan = plan.await.unwrap().unwrap().join("\n");
    assert!(plan.contains("SEARCH stage USING COVERING INDEX stage_began (began>? AND began<?)"), "{plan}");
}

#[tokio::test]
#[ignore = "says how long it takes"]
async fn how_long_the_stages_of_a_large_history_take_to_be_read() {
    let world = World::with(HistorySettings { keep: Duration::from_secs(30 * 86_400), max_jobs: 100_000 });
    world.history.job(row(1_000_000, now() - 29 * DAY)).await;
    execute(&world, "DELETE FROM job", 0).await;
    execute(&world, MANY, now()).await;
    execute(&world, STAGES_OF_MANY, now()).await;
    let today = now() / DAY * DAY;
    for indexed in [true, false] {
        if !indexed {
            execute(&world, "DROP INDEX stage_began", 0).await;
        }
        for (what, since, until) in [
            ("two weeks", today - 13 * DAY, i64::MAX),
            ("days that are over", today - 13 * DAY, today - DAY),
            ("the last two", today - DAY, i64::MAX),
        ] {
            let began = std::time::Instant::now();
            let rows = world.history.stages_by_day(since, until).await.unwrap().len();
            eprintln!("{what}, indexed: {indexed}: {rows} rows in {:.0?}", began.elapsed());
        }
    }
}
