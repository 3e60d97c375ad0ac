//! `windlass hold` and `windlass release`: failed jobs that are kept to be looked at.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::ask::{SOCKET, ask, columns, unexpected};
use crate::protocol::daemon::{Reply, Request};
use crate::protocol::hold::{HoldRequest, HoldRow};
use crate::words::rough;

/// How long the daemon may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Keeps the next job of a project that fails, for somebody to look at
///
/// Its containers, network and build directory stay for the time that is given, counted from its failure; `windlass shell` opens a shell in
/// them. The job's own log says so. The wish is for one job, running already or still to come, and is given up after 24 hours.
///
/// Held are jobs whose script fails. One that succeeds, is canceled, times out, or fails for the runner's reasons is not, and the next
/// is waited for. What the job ran has ended by then, but its services run on; file variables and registry logins are removed, as at every job's end.
///
/// A held job has no slot: others run, those of its project too, in another build directory. Its memory and disk it keeps, within its
/// limits. When jobs lack room on the disk (`[purge]` min_free) and nothing else can go, held jobs go. How many may be held, and for how long, says
/// `[hold]` in windlass.toml. A restart of windlassd ends no hold; a reboot ends all. A drained host counts as drained while jobs are held.
///
/// Only root and windlassd's own user may, and who did is logged.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  windlass hold group/app --for 2h\n  windlass hold group/app --job 4711\n  windlass hold --list\n  windlass shell 4711\n  windlass release 4711"
)]
pub struct HoldArgs {
    /// The project: its path or its id, behind the host of its GitLab and a slash where there are several
    #[arg(value_name = "PROJECT", required_unless_present = "list")]
    pub project: Option<String>,
    /// For how long a failed job is kept, such as 30m or 2h
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub time: Duration,
    /// Only this job, by its id
    #[arg(long, value_name = "JOB")]
    pub job: Option<i64>,
    /// Show what is held, and what is waited for
    #[arg(long, conflicts_with_all = ["project", "job", "time"])]
    pub list: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
}

/// Holds no longer
///
/// What a held job still has is removed, and a job that was to be held is waited for no longer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  windlass release 4711\n  windlass release group/app")]
pub struct ReleaseArgs {
    /// The project as it was given to `windlass hold`, or a job's id, or its lease's id
    #[arg(value_name = "PROJECT|JOB")]
    pub what: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
}

/// Runs `windlass hold`.
///
/// # Errors
/// When the daemon does not answer, or refuses.
pub fn run(arguments: &HoldArgs) -> Result<u8> {
    let request = match &arguments.project {
        None => Request::HoldList,
        Some(project) => Request::Hold(HoldRequest {
            project: project.clone(),
            job: arguments.job,
            // A part of a second counts as one.
            for_s: arguments.time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
        }),
    };
    show(&arguments.socket, &request, arguments.json)
}

/// Runs `windlass release`.
///
/// # Errors
/// When the daemon does not answer, or refuses.
pub fn release(arguments: &ReleaseArgs) -> Result<u8> {
    let holds = holds(&arguments.socket, &Request::Release { what: arguments.what.clone() })?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&holds)?);
    } else {
        for row in &holds {
            println!(
                "released: {}",
                row.job.map_or_else(|| row.project.clone(), |job| format!("job {job} of {}", row.project))
            );
        }
    }
    Ok(0)
}

fn holds(socket: &std::path::Path, request: &Request) -> Result<Vec<HoldRow>> {
    match ask(socket, request, LIMIT)? {
        Reply::Holds { holds } => Ok(holds),
        _ => Err(unexpected()),
    }
}

fn show(socket: &std::path::Path, request: &Request, json: bool) -> Result<u8> {
    let holds = holds(socket, request)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&holds)?);
    } else {
        print!("{}", table(&holds));
    }
    Ok(0)
}

fn table(holds: &[HoldRow]) -> String {
    if holds.is_empty() {
        return "nothing is held, and nothing waited for\n".to_owned();
    }
    let mut rows = vec![["STATE", "PROJECT", "JOB", "FOR", "UNTIL", "BY"].map(str::to_owned)];
    for hold in holds {
        rows.push([
            hold.state.clone(),
            hold.project.clone(),
            hold.job.map(|job| job.to_string()).unwrap_or_default(),
            rough(hold.for_s),
            hold.until.clone(),
            hold.by.clone(),
        ]);
    }
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_waits_and_what_is_held() {
        let row = HoldRow {
            state: "held".into(),
            project: "g/p".into(),
            job: Some(11),
            until: "2026-01-01T01:00:00Z".into(),
            for_s: 3600,
            by: "root (uid 0)".into(),
        };
        let waiting = HoldRow { state: "waiting".into(), job: None, ..row.clone() };
        let expected = "\
STATE    PROJECT  JOB  FOR  UNTIL                 BY
held     g/p      11   1h   2026-01-01T01:00:00Z  root (uid 0)
waiting  g/p           1h   2026-01-01T01:00:00Z  root (uid 0)
";
        assert_eq!(table(&[row, waiting]), expected);
        assert_eq!(table(&[]), "nothing is held, and nothing waited for\n");
    }
}
