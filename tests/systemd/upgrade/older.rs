//! What older releases wrote, made of what this one has written.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use serde_json::Value;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use super::{DATABASE, LEASES};

/// What leases' records have gained, a release each, the newest first: those of the release before lack these fields. Who adds a field to
/// them adds it here.
const GAINED: [&[&str]; 3] = [
    // The record of jobs.
    &["/past", "/stage/began", "/job/name", "/job/reference", "/job/user_id", "/job/user"],
    // Jobs that are held.
    &["/hold"],
    // Lanes, and images in use.
    &["/lane", "/sources", "/images", "/job/pipeline"],
];
/// The oldest record that is read, as its release wrote it.
const FIRST: &str = include_str!("../../../src/executor/fixtures/older_lease.json");
/// The chain's tables, release by release.
static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// A release.
pub struct Older {
    /// How many of [`GAINED`] its leases' records lack.
    lacks: usize,
    /// How many of [`MIGRATIONS`] it knows.
    migrations: usize,
}

impl Older {
    /// The one before the last change of each format.
    pub fn last() -> Self {
        Self { lacks: 1, migrations: MIGRATIONS.iter().count() - 1 }
    }

    /// The one with the first of each.
    pub fn first() -> Self {
        Self { lacks: GAINED.len(), migrations: 1 }
    }

    /// Whether failed jobs can be held.
    pub fn knows_holds(&self) -> bool {
        self.lacks < 2
    }

    /// The `scope` of what its jobs leave behind for the next.
    pub fn scope(&self) -> &'static str {
        if self.lacks < GAINED.len() { "project" } else { "none" }
    }

    /// Turns the records of all leases, and the chain's database, into what it would have written.
    pub fn turn_back(&self) {
        for lease in fs::read_dir(LEASES).unwrap() {
            let file = lease.unwrap().path().join("lease.json");
            let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            for field in GAINED[..self.lacks].iter().copied().flatten() {
                remove(&mut record, field);
            }
            if self.lacks == GAINED.len() {
                let first: Value = serde_json::from_str(FIRST).unwrap();
                for part in ["", "/job", "/settings", "/container", "/stage", "/used"] {
                    assert_eq!(fields(&record, part), fields(&first, part), "the fields of a lease's {part:?}");
                }
            }
            fs::write(&file, record.to_string()).unwrap();
        }
        block_on(turn_database_back(self.migrations));
    }
}

/// Takes the field at this path out of a record, where it is.
fn remove(record: &mut Value, path: &str) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    if let Some(parent) = record.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.remove(name);
    }
}

fn fields<'a>(record: &'a Value, part: &str) -> BTreeSet<&'a String> {
    record.pointer(part).and_then(Value::as_object).unwrap_or_else(|| panic!("no {part} in {record}")).keys().collect()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn open(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(false).connect().await.unwrap()
}

async fn execute(database: &mut SqliteConnection, statement: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(database).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// Makes the database one that knows so many migrations: their tables, with what is in them now.
async fn turn_database_back(migrations: usize) {
    let old = Path::new(DATABASE).with_extension("old");
    let mut database = open(&old).await;
    let known = MIGRATIONS.iter().take(migrations).cloned().collect();
    Migrator::with_migrations(known).run_direct(None, &mut database, false).await.unwrap();
    execute(&mut database, format!("ATTACH '{DATABASE}' AS now")).await;
    let tables = "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT IN ('_sqlx_migrations', 'sqlite_sequence')";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut database).await.unwrap();
    for table in &tables {
        let columns = "SELECT group_concat(name, ', ') FROM pragma_table_info(?)";
        let columns: String = sqlx::query_scalar(columns).bind(table).fetch_one(&mut database).await.unwrap();
        execute(&mut database, format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")).await;
    }
    // Numbers that never come again.
    let numbers = "DELETE FROM main.sqlite_sequence; INSERT INTO main.sqlite_sequence SELECT * FROM now.sqlite_sequence \
                   WHERE name IN (SELECT name FROM main.sqlite_master)";
    execute(&mut database, numbers.to_owned()).await;
    database.close().await.unwrap();
    let owner = fs::metadata(DATABASE).unwrap();
    chown(&old, Some(owner.uid()), Some(owner.gid())).unwrap();
    fs::rename(old, DATABASE).unwrap();
}

/// Makes the database one of a later release.
pub fn add_a_migration() {
    change(
        "INSERT INTO _sqlx_migrations SELECT 99, 'later', installed_on, success, checksum, execution_time FROM _sqlx_migrations LIMIT 1",
    );
}

/// Makes it one of this release again.
pub fn remove_the_migration() {
    change("DELETE FROM _sqlx_migrations WHERE version = 99");
}

fn change(statement: &str) {
    block_on(async {
        let mut database = open(Path::new(DATABASE)).await;
        execute(&mut database, statement.to_owned()).await;
        database.close().await.unwrap();
    });
}
