//! `windlass cache` and `windlass images`: what jobs keep, and its end.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use bytesize::ByteSize;
use clap::{Args, Subcommand};

use super::ask::{SOCKET, ask, columns, unexpected};
use crate::protocol::admin::{ImageRow, LaneRow, PurgeRequest, RemovedRow, is_project};
use crate::protocol::daemon::{Reply, Request};
use crate::words::rough;

/// How long the daemon may take to look.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to remove; the removal itself goes on behind.
const PURGE_LIMIT: Duration = Duration::from_secs(600);

/// Build directories and caches that projects' jobs keep
#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// What there is: whose, how large, used when, in use by which job, and the rule by which it would go now
    #[command(
        after_help = "Examples:\n  windlass cache list\n  windlass cache list --json | jq '.[] | select(.bytes > 1e9) | .project_path'"
    )]
    List(ListArgs),
    /// Removes what is kept: by the rules of [purge] in windlass.toml, or what is chosen here. What a job uses stays
    #[command(
        after_help = "Examples:\n  windlass cache purge --dry-run\n  windlass cache purge --project group/app\n  windlass cache purge --older-than 7d"
    )]
    Purge(PurgeArgs),
}

/// What a list takes.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PurgeArgs {
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// All that this project keeps; its path or its id, behind the host of its GitLab and a slash where there are several
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// What no job has used for this long, such as 7d or 12h
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// All that no job uses now
    #[arg(long, conflicts_with_all = ["project", "older_than"])]
    all: bool,
    #[command(flatten)]
    list: ListArgs,
}

/// Images on this host
#[derive(Debug, Args)]
pub struct ImagesArgs {
    #[command(subcommand)]
    command: ImagesCommand,
}

#[derive(Debug, Subcommand)]
enum ImagesCommand {
    /// What there is: how large, used by a job when, and why it stays or would go now
    #[command(after_help = "Examples:\n  windlass images list\n  windlass images list --json | jq '.[].names[]'")]
    List(ListArgs),
}

/// Runs `windlass cache`.
///
/// # Errors
/// When the daemon does not answer, or refuses.
pub fn run(arguments: &CacheArgs) -> Result<u8> {
    match &arguments.command {
        CacheCommand::List(list) => {
            let Reply::Lanes { lanes } = ask(&list.socket, &Request::CacheList, LIMIT)? else {
                return Err(unexpected());
            };
            print(list.json, &lanes, || lane_table(&lanes))
        }
        CacheCommand::Purge(purge) => {
            let request = PurgeRequest {
                dry_run: purge.dry_run,
                project: purge.project.clone(),
                older_than_s: purge.older_than.map(|age| age.as_secs()),
                all: purge.all,
            };
            if let Some(project) = &request.project {
                known(&purge.list.socket, project)?;
            }
            let Reply::Purged { removed } = ask(&purge.list.socket, &Request::CachePurge(request), PURGE_LIMIT)? else {
                return Err(unexpected());
            };
            print(purge.list.json, &removed, || removed_table(&removed, purge.dry_run))
        }
    }
}

/// A project that keeps nothing is most likely a mistake in its name.
fn known(socket: &std::path::Path, project: &str) -> Result<()> {
    let Reply::Lanes { lanes } = ask(socket, &Request::CacheList, LIMIT)? else { return Err(unexpected()) };
    let fitting = lanes
        .iter()
        .filter(|lane| is_project(project, &lane.instance, lane.project_id, &lane.project_path))
        .map(|lane| lane.instance.as_str());
    let instances: std::collections::BTreeSet<&str> = fitting.collect();
    match instances.len() {
        0 => Err(anyhow!("nothing is kept here for a project {project:?}; `windlass cache list` shows the projects")),
        1 => Ok(()),
        _ => {
            let names: Vec<String> = instances.iter().map(|instance| format!("{instance}/{project}")).collect();
            Err(anyhow!("several GitLab instances have a project {project}; say which: {}", names.join(" or ")))
        }
    }
}

/// Runs `windlass images`.
///
/// # Errors
/// When the daemon does not answer, or refuses.
pub fn run_images(arguments: &ImagesArgs) -> Result<u8> {
    let ImagesCommand::List(list) = &arguments.command;
    let Reply::Images { images } = ask(&list.socket, &Request::ImagesList, LIMIT)? else { return Err(unexpected()) };
    print(list.json, &images, || image_table(&images))
}

fn print(json: bool, rows: &impl serde::Serialize, table: impl FnOnce() -> String) -> Result<u8> {
    if json {
        println!("{}", serde_json::to_string_pretty(rows)?);
    } else {
        print!("{}", table());
    }
    Ok(0)
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), |bytes| ByteSize(bytes).to_string())
}

fn lane_table(lanes: &[LaneRow]) -> String {
    if lanes.is_empty() {
        return "nothing is kept yet\n".to_owned();
    }
    let mut rows = vec![["PROJECT", "REFS", "LANE", "SIZE", "UNUSED FOR", "JOB", "WOULD GO BY"].map(str::to_owned)];
    let several = lanes.iter().any(|lane| lane.instance != lanes[0].instance);
    for lane in lanes {
        let project =
            if several { format!("{} {}", lane.instance, lane.project_path) } else { lane.project_path.clone() };
        let refs = if lane.protected { "protected" } else { "others" };
        let jobs: Vec<String> = lane.jobs.iter().map(i64::to_string).collect();
        rows.push([
            project,
            lane.pipeline.map_or_else(|| refs.to_owned(), |pipeline| format!("{refs}, pipeline {pipeline}")),
            lane.lane.clone(),
            size(lane.bytes),
            if jobs.is_empty() { rough(lane.age_s) } else { "in use".to_owned() },
            jobs.join(" "),
            lane.goes_by.clone().unwrap_or_default(),
        ]);
    }
    let sum: u64 = lanes.iter().filter_map(|lane| lane.bytes).sum();
    format!("{}{} in {} lanes\n", columns(&rows), ByteSize(sum), lanes.len())
}

fn image_table(images: &[ImageRow]) -> String {
    let mut rows = vec![["IMAGE", "ID", "SIZE", "LAST USE", "STAYS", "WOULD GO BY"].map(str::to_owned)];
    for image in images {
        rows.push([
            if image.names.is_empty() { "(no name)".to_owned() } else { image.names.join(" ") },
            image.id.chars().take(12).collect(),
            ByteSize(image.bytes).to_string(),
            image.last_use.clone().unwrap_or_else(|| "by no job".to_owned()),
            image.stays.clone().unwrap_or_default(),
            image.goes_by.clone().unwrap_or_default(),
        ]);
    }
    columns(&rows)
}

fn removed_table(removed: &[RemovedRow], dry_run: bool) -> String {
    if removed.is_empty() {
        return if dry_run { "nothing would be removed\n" } else { "nothing was removed\n" }.to_owned();
    }
    let mut rows = vec![["WHAT", "PROJECT", "SIZE", "UNUSED FOR", "RULE"].map(str::to_owned)];
    for row in removed {
        rows.push([
            row.name.clone(),
            row.project_path.clone().unwrap_or_default(),
            size(row.bytes),
            rough(row.age_s),
            row.rule.clone(),
        ]);
    }
    let sum = ByteSize(removed.iter().filter_map(|row| row.bytes).sum());
    let verb = if dry_run { "would be removed" } else { "removed; the space is being freed in the background" };
    format!(
        "{}{sum} in {} {verb}\n",
        columns(&rows),
        if removed.len() == 1 { "one item".to_owned() } else { format!("{} items", removed.len()) }
    )
}
