//! A past for pictures: what a busy host would have on record of two weeks.

use sqlx::{Connection, SqliteConnection};

use crate::support::Host;

/// Milliseconds.
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
const DAYS: i64 = 14;

/// A file system: a directory on it, its size, and what is free now, in bytes.
pub struct Disk {
    /// A directory on it.
    pub path: String,
    /// All bytes.
    pub bytes: i64,
    /// What is free of them.
    pub free: i64,
}

/// Numbers that look like chance and are the same each time (Knuth's linear congruential generator).
struct Chance(u64);

impl Chance {
    /// At least `low`, and below `high`.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + i64::try_from(self.0 >> 33).unwrap() % (high - low)
    }
}

/// Puts it on record beside what the daemon itself has written.
pub fn record(host: &Host, disks: &[Disk]) {
    let path = host.state_dir().join("history.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut database = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        let mut transaction = database.begin().await.unwrap();
        let now = jiff::Timestamp::now().as_millisecond();
        let mut chance = Chance(7);
        for back in 1..DAYS {
            let day = now / DAY * DAY - back * DAY;
            // 1970 began on a Thursday.
            let is_weekend = matches!((day / DAY) % 7, 2 | 3);
            jobs(&mut transaction, &mut chance, day, if is_weekend { 9 } else { 44 }).await;
            pulls(&mut transaction, &mut chance, day, if is_weekend { 2 } else { 8 }).await;
        }
        for disk in disks {
            samples(&mut transaction, &mut chance, now, disk).await;
        }
        purges(&mut transaction, now).await;
        transaction.commit().await.unwrap();
        database.close().await.unwrap();
    });
}

async fn jobs(database: &mut SqliteConnection, chance: &mut Chance, day: i64, most: i64) {
    let stages = [
        ("prepare_script", 5, 9),
        ("get_sources", 900, 4_000),
        ("restore_cache", 700, 3_500),
        ("step_script", 60_000, 260_000),
        ("archive_cache", 1_500, 7_000),
        ("upload_artifacts_on_success", 400, 2_500),
    ];
    for _ in 0..chance.between(most * 2 / 3, most) {
        let (outcome, exit_code) = match chance.between(0, 40) {
            0..4 => ("failed", 1),
            4 | 5 => ("canceled", 143),
            6 => ("timeout", 143),
            _ => ("success", 0),
        };
        let (came, job) = (day + chance.between(7 * 60, 19 * 60) * MINUTE, chance.between(1, i64::MAX >> 32));
        let (waited, prepare) = (chance.between(0, 4) * chance.between(0, 9_000), chance.between(140, 900));
        let mut at = came + waited + prepare;
        let lengths = stages.map(|(_, low, high)| chance.between(low, high));
        let whole = waited + prepare + lengths.iter().sum::<i64>();
        let row = sqlx::query(
            "INSERT OR IGNORE INTO job (lease, instance, job_id, project_id, project_path, protected, profile, slot, outcome, exit_code, \
             came, waited_ms, prepare_ms, ended, duration_ms) VALUES (?1, 'gitlab.example.com', ?2, 7, 'shop/backend', 0, 'default', 0, ?3, ?4, \
             ?5, ?6, ?7, ?8, ?9)",
        );
        let row = row.bind(format!("{job:032x}")).bind(job).bind(outcome).bind(exit_code).bind(came);
        let row = row.bind(waited).bind(prepare).bind(came + whole).bind(whole);
        let id = row.execute(&mut *database).await.unwrap().last_insert_rowid();
        for (number, ((name, ..), length)) in (0_i64..).zip(stages.iter().zip(lengths)) {
            let row = sqlx::query(
                "INSERT OR IGNORE INTO stage (job, number, name, began, ms, result) VALUES (?1, ?2, ?3, ?4, ?5, 'success')",
            );
            row.bind(id).bind(number).bind(*name).bind(at).bind(length).execute(&mut *database).await.unwrap();
            at += length;
        }
    }
}

async fn pulls(database: &mut SqliteConnection, chance: &mut Chance, day: i64, most: i64) {
    for number in 0..chance.between(most / 2, most) {
        let result = if number == 5 { "failed" } else { "success" };
        let row = sqlx::query(
            "INSERT INTO pull (at, image, bytes, ms, result) VALUES (?1, 'images/ruby:latest', ?2, ?3, ?4)",
        );
        let row = row.bind(day + number * 90 * MINUTE).bind(chance.between(90 << 20, 700 << 20));
        row.bind(chance.between(4_000, 40_000)).bind(result).execute(&mut *database).await.unwrap();
    }
}

/// It fills by about a fortieth a day, and is emptied a little each night.
async fn samples(database: &mut SqliteConnection, chance: &mut Chance, now: i64, disk: &Disk) {
    const EVERY: i64 = 30 * MINUTE;
    for back in 1..DAYS * DAY / EVERY {
        let at = now - back * EVERY;
        let (a_day, hour) = (disk.bytes / 40, at % DAY / (60 * MINUTE));
        // What the day has taken is given back in part between two and three in the morning.
        let of_day = if (3..20).contains(&hour) { (hour - 3) * disk.bytes / 900 } else { disk.bytes / 60 };
        let free = disk.free + back * EVERY / 1000 * (a_day / 86_400) - of_day + chance.between(0, disk.bytes / 300);
        let row = sqlx::query(
            "INSERT INTO disk (at, path, free_bytes, bytes, free_inodes, inodes) VALUES (?1, ?2, ?3, ?4, 900000, 1000000)",
        );
        let row = row.bind(at).bind(&disk.path).bind(free.clamp(0, disk.bytes)).bind(disk.bytes);
        row.execute(&mut *database).await.unwrap();
    }
}

async fn purges(database: &mut SqliteConnection, now: i64) {
    let took = [
        ("lane", "cache", Some("shop/mobile"), 1_900 << 20, 31, "max_age"),
        ("image", "registry.example.com/images/node:18", None, 1_140 << 20, 33, "image_max_age"),
        ("lane", "builds-1", Some("shop/frontend"), 640 << 20, 30, "max_age"),
        ("lane", "storage", Some("images/rails"), 4_300 << 20, 9, "max_size"),
        ("image", "registry.example.com/images/go:1.22", None, 870 << 20, 30, "image_max_age"),
    ];
    for (number, (kind, name, project, bytes, days, rule)) in (1..).zip(took) {
        let row = sqlx::query(
            "INSERT INTO purge (at, kind, name, project_path, bytes, age_s, rule) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        );
        let row = row.bind(now - number * 19 * 60 * MINUTE).bind(kind).bind(name).bind(project).bind(bytes);
        row.bind(days * DAY / 1000).bind(rule).execute(&mut *database).await.unwrap();
    }
}

/// What projects keep, for a daemon that is about to start: GitLab's id, path, and the sizes of a build directory, the cache and the
/// storage for building images, in MiB.
pub fn keep(host: &Host, projects: &[(u64, &str, [u64; 3])]) {
    let now = jiff::Timestamp::now().as_second();
    for (id, path, sizes) in projects {
        let home = host.state_dir().join(format!("lanes/gitlab.example.com/{id}-unprotected"));
        for (name, mib) in ["builds-0", "cache", "storage"].into_iter().zip(sizes).filter(|(_, mib)| **mib > 0) {
            std::fs::create_dir_all(home.join(name).join("files")).unwrap();
            let record = serde_json::json!({
                "version": 1, "last_use": now - i64::try_from(id * 5_400).unwrap(), "uses": id * 3, "measured": id * 3,
                "size": {"bytes": mib << 20, "inodes": mib * 9, "owner": 0}
            });
            std::fs::write(home.join(name).join("lane.json"), record.to_string()).unwrap();
        }
        let record = serde_json::json!({
            "instance": "gitlab.example.com", "project": id, "project_path": path, "protected": false, "ids": "host"
        });
        std::fs::write(home.join("home.json"), record.to_string()).unwrap();
    }
}
