//! `windlass chain`: what builds on what, in which state it is, and what is done about it.

mod graph;
mod lists;
mod scan;
mod status;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::ask::{SOCKET, ask, unexpected};
use crate::controller::SYNC_MAX;
use crate::protocol::chain::{ChainReply, ChainRequest, ChainStatus};
use crate::protocol::daemon::{Reply, Request};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Which image builds on which, what is rebuilt, and why
#[derive(Debug, Args)]
pub struct ChainArgs {
    #[command(subcommand)]
    command: ChainCommand,
}

/// How to ask, and how to show the answer.
#[derive(Debug, Args)]
struct Asking {
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ChainCommand {
    /// Every project: its state, because of what, and since when
    #[command(
        after_help = "Examples:\n  windlass chain status\n  windlass chain status images/app\n  windlass chain status --json | jq '.projects[] | select(.state != \"fresh\")'"
    )]
    Status {
        /// Only these projects, by path or id, with all there is to say of them
        #[arg(value_name = "PROJECT")]
        projects: Vec<String>,
        #[command(flatten)]
        asking: Asking,
    },
    /// What builds on what
    #[command(
        after_help = "Examples:\n  windlass chain graph\n  windlass chain graph --project images/base\n  windlass chain graph --format svg >chain.svg"
    )]
    Graph {
        /// Only this project, what it builds on and what builds on it; by path or id
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: graph::Format,
        #[command(flatten)]
        asking: Asking,
    },
    /// What would be started now, and why what is due is not; nothing is done
    #[command(after_help = "Example:\n  windlass chain plan")]
    Plan {
        #[command(flatten)]
        asking: Asking,
    },
    /// Looks at everything now, and waits for that
    Sync {
        #[command(flatten)]
        asking: Asking,
    },
    /// Builds a project, and after it what builds on it
    #[command(
        after_help = "Examples:\n  windlass chain rebuild images/base\n  windlass chain rebuild images/app --with-upstreams\n  windlass chain rebuild images/app --only"
    )]
    Rebuild {
        /// The project, by path or id
        #[arg(value_name = "PROJECT")]
        project: String,
        /// Everything that it builds on too, before it
        #[arg(long)]
        with_upstreams: bool,
        /// Nothing that builds on it
        #[arg(long)]
        only: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Starts nothing of a project, or of the whole chain, until it is resumed
    Pause {
        /// The project, by path or id; without it the whole chain
        #[arg(value_name = "PROJECT")]
        project: Option<String>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Goes on with a project, or with the whole chain
    Resume {
        /// The project, by path or id; without it the whole chain
        #[arg(value_name = "PROJECT")]
        project: Option<String>,
        #[command(flatten)]
        asking: Asking,
    },
    /// The last events of GitLab's, and what the chain has started
    #[command(
        after_help = "Examples:\n  windlass chain events\n  windlass chain events --project images/base --count 100"
    )]
    Events {
        /// Only of this project, by path or id
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        count: u32,
        #[command(flatten)]
        asking: Asking,
    },
    /// What somebody should know: cycles, files that can't be read, missing webhooks and rights, fixed digests, external images and how
    /// old they are, images that were not rebuilt for long or were built on an old base
    #[command(
        after_help = "Exit code 0: nothing has to be done. 1: something has to be: a finding marked with !. Images are\nok, stale (older than [chain.audit] max_age, which is one of those findings) or too-young to say.\n\nExamples:\n  windlass chain audit || mail -s 'image chain' ops@example.com\n  windlass chain audit --json | jq '.[] | select(.age.verdict == \"stale\")'"
    )]
    Audit {
        #[command(flatten)]
        asking: Asking,
    },
    /// Writes a copy of the chain's database while the daemon uses it
    #[command(
        after_help = "Example:\n  windlass chain backup /var/backups/windlass-chain.db\n\nThe daemon's user writes it. To restore it: stop the daemon, put it in the place of\nchain.db in state_dir, remove chain.db-wal and chain.db-shm, start the daemon."
    )]
    Backup {
        /// A file that is not there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        asking: Asking,
    },
    /// Reads Containerfiles and says which images they build on; nothing else is asked
    #[command(
        after_help = "Examples:\n  windlass chain scan Containerfile\n  windlass chain scan --arg CI_REGISTRY=registry.example.com */Containerfile --json"
    )]
    Scan(scan::ScanArgs),
}

/// Runs `windlass chain`.
///
/// # Errors
/// When a file can't be read, or the daemon does not do what it is asked.
pub fn run(arguments: &ChainArgs) -> Result<u8> {
    match &arguments.command {
        ChainCommand::Scan(scan) => scan::run(scan),
        ChainCommand::Status { projects, asking } => {
            let status = asking.status()?;
            status::show(&status, projects, asking.json)
        }
        ChainCommand::Graph { project, format, asking } => {
            let format = if asking.json { graph::Format::Json } else { *format };
            print!("{}", graph::write(&asking.status()?, project.as_deref(), format)?);
            Ok(0)
        }
        ChainCommand::Plan { asking } => match asking.ask(ChainRequest::Plan)? {
            ChainReply::Plan { steps, held } if asking.json => json(&lists::PlanJson { held: &held, steps: &steps }),
            ChainReply::Plan { steps, held } => {
                print!("{}", lists::plan(&steps, held.as_deref()));
                Ok(0)
            }
            _ => Err(unexpected()),
        },
        ChainCommand::Events { project, count, asking } => {
            match asking.ask(ChainRequest::Events { project: project.clone(), count: *count })? {
                ChainReply::Events { events, starts } if asking.json => {
                    json(&lists::EventsJson { events: &events, starts: &starts })
                }
                ChainReply::Events { events, starts } => {
                    print!("{}", lists::events(&events, &starts));
                    Ok(0)
                }
                _ => Err(unexpected()),
            }
        }
        ChainCommand::Audit { asking } => match asking.ask(ChainRequest::Audit)? {
            ChainReply::Audit { findings } => {
                if asking.json {
                    json(&findings)?;
                } else {
                    print!("{}", lists::audit(&findings));
                }
                Ok(u8::from(findings.iter().any(|finding| finding.is_problem)))
            }
            _ => Err(unexpected()),
        },
        ChainCommand::Sync { asking } => asking.done(ChainRequest::Sync),
        ChainCommand::Rebuild { project, with_upstreams, only, asking } => {
            let (project, with_upstreams, only) = (project.clone(), *with_upstreams, *only);
            asking.done(ChainRequest::Rebuild { project, with_upstreams, only })
        }
        ChainCommand::Pause { project, asking } => asking.done(ChainRequest::Pause { project: project.clone() }),
        ChainCommand::Resume { project, asking } => asking.done(ChainRequest::Resume { project: project.clone() }),
        ChainCommand::Backup { file, asking } => {
            let to = std::path::absolute(file).with_context(|| format!("where {} is", file.display()))?;
            asking.done(ChainRequest::Backup { to })
        }
    }
}

impl Asking {
    fn ask(&self, request: ChainRequest) -> Result<ChainReply> {
        let limit = if matches!(request, ChainRequest::Sync) { SYNC_MAX + LIMIT } else { LIMIT };
        match ask(&self.socket, &Request::Chain(request), limit)? {
            Reply::Chain(reply) => Ok(*reply),
            _ => Err(unexpected()),
        }
    }

    fn status(&self) -> Result<ChainStatus> {
        match self.ask(ChainRequest::Status)? {
            ChainReply::Status(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    /// Asks for something to be done, and says what was.
    fn done(&self, request: ChainRequest) -> Result<u8> {
        match self.ask(request)? {
            ChainReply::Done { message } if self.json => json(&serde_json::json!({ "message": message })),
            ChainReply::Done { message } => {
                println!("{message}");
                Ok(0)
            }
            _ => Err(unexpected()),
        }
    }
}

fn json(value: &impl Serialize) -> Result<u8> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(0)
}
