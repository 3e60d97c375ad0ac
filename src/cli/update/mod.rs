//! `windlass update`: keeps the containers of this host up to date, root's or those of the user who calls.

mod show;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::config::EXIT_CODE;
use crate::config::update as config;
use crate::service::journal;
use crate::update::pass::{Which, plan, run as pass};
use crate::update::report::{Outcome, Report};
use crate::update::travel::Restarts;
use crate::update::units::UnitName;
use crate::update::{Context, after, default_file, watch};

/// Keeps containers of units of systemd up to date, and undoes what goes wrong
///
/// It takes the labels of `podman auto-update`: io.containers.autoupdate=registry (or =local) on a container that a unit of systemd
/// runs. For each such unit: has the tag moved? Then the image is pulled, the unit restarted, and watched: its start, its healthcheck, and
/// that it stays up. What is not good is undone: the unit gets the image from before, and the digest is not tried again until the tag moves on.
/// A pod is one unit. As root for root's containers, else for those of the user who calls.
///
/// podman-auto-update.timer has to be off. Settings: /etc/windlass/update.toml, or ~/.config/windlass/update.toml.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  systemctl disable --now podman-auto-update.timer\n  windlass update plan\n  systemctl enable --now windlass-update.timer\n  windlass update status"
)]
pub struct UpdateArgs {
    #[command(subcommand)]
    command: UpdateCommand,
}

/// Which settings, and how to answer.
#[derive(Debug, Args)]
struct Common {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum UpdateCommand {
    /// What a run would do now, and why; nothing is pulled or restarted
    #[command(
        after_help = "Examples:\n  windlass update plan\n  windlass update plan web.service\n  windlass update plan --json | jq '.units[] | select(.outcome == \"pending\")'"
    )]
    Plan {
        /// Only these units
        #[arg(value_name = "UNIT")]
        units: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Updates what has to be updated, and finishes what an earlier run has left
    #[command(
        after_help = "Exit code 0 when nothing failed, 1 when an update failed or was undone.\n\nExamples:\n  windlass update run\n  windlass update run web.service\n  windlass update run --download-only"
    )]
    Run {
        /// Only these units
        #[arg(value_name = "UNIT")]
        units: Vec<String>,
        /// Pull new images and restart nothing
        #[arg(long)]
        download_only: bool,
        /// First wait for a random time up to [update] delay, as the timer's runs do
        #[arg(long)]
        delayed: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Listens to the feed of an image chain, and looks at once at the units whose image was built
    ///
    /// [update] feed and feed_token_file say which feed. It does what a run of the timer would do, for those units; what the feed says is never
    /// pulled or run. The timer stays on: without a feed it does the work.
    #[command(after_help = "Example:\n  systemctl enable --now windlass-update-watch.service")]
    Watch {
        #[command(flatten)]
        common: Common,
    },
    /// Every unit: what came of it, what is held, what is in quarantine, which images are kept
    Status {
        #[command(flatten)]
        common: Common,
    },
    /// What was done, the newest last
    #[command(
        after_help = "Examples:\n  windlass update history\n  windlass update history web.service --count 100\n  windlass update history --json | jq '.[] | select(.outcome == \"rolled-back\")'"
    )]
    History {
        /// Only this unit
        #[arg(value_name = "UNIT")]
        unit: Option<String>,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        count: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Leaves a unit alone until it is released
    #[command(after_help = "Example:\n  windlass update hold web.service")]
    Hold {
        /// The unit
        #[arg(value_name = "UNIT")]
        unit: String,
        #[command(flatten)]
        common: Common,
    },
    /// Ends a hold, a quarantine, and the wait for help after a rollback that failed
    #[command(
        after_help = "Example: try an image once more that has failed\n  windlass update release web.service && windlass update run web.service"
    )]
    Release {
        /// The unit
        #[arg(value_name = "UNIT")]
        unit: String,
        #[command(flatten)]
        common: Common,
    },
    /// Checks the configuration: prints all that is wrong with it (exit code 78), or the settings in effect
    Check {
        /// The configuration
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Does it.
///
/// # Errors
/// When it can't be done; what failed with single units is in what is printed, and in the exit code.
pub fn run(arguments: &UpdateArgs) -> Result<u8> {
    let common = match &arguments.command {
        UpdateCommand::Check { file } => return check(file.as_deref()),
        UpdateCommand::Plan { common, .. }
        | UpdateCommand::Run { common, .. }
        | UpdateCommand::Watch { common }
        | UpdateCommand::Status { common }
        | UpdateCommand::History { common, .. }
        | UpdateCommand::Hold { common, .. }
        | UpdateCommand::Release { common, .. } => common,
    };
    let settings = match config::load(&file(common.config.as_deref())?) {
        Ok(settings) => settings,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(EXIT_CODE);
        }
    };
    if let UpdateCommand::Watch { .. } = arguments.command {
        journal::start(EnvFilter::try_from_env("WINDLASS_LOG").unwrap_or_else(|_| EnvFilter::new("info")));
        return listen(&settings);
    }
    let context = Context::new(settings)?;
    let json = common.json;
    match &arguments.command {
        UpdateCommand::Plan { units, .. } => {
            let report = runtime()?.block_on(plan(&context, &which(units)?))?;
            print(json, &report, || show::report(&report))
        }
        UpdateCommand::Run { units, download_only, delayed, .. } => {
            journal::start(EnvFilter::try_from_env("WINDLASS_LOG").unwrap_or_else(|_| EnvFilter::new("info")));
            let restarts = if *download_only { Restarts::Never } else { Restarts::InWindows };
            let report = runtime()?.block_on(run_once(&context, &which(units)?, restarts, *delayed))?;
            print(json, &report, || show::report(&report))?;
            Ok(u8::from(report.has_failures()))
        }
        UpdateCommand::Status { .. } => {
            let status = runtime()?.block_on(show::status(&context))?;
            print(json, &status, || show::status_text(&status))
        }
        UpdateCommand::History { unit, count, .. } => {
            let unit = unit.as_deref().map(unit_name).transpose()?;
            let mut reports = context.state.history()?;
            reports.retain(|report| unit.as_ref().is_none_or(|unit| report.unit == *unit));
            reports.drain(..reports.len().saturating_sub(*count));
            print(json, &reports, || show::history(&reports))
        }
        UpdateCommand::Hold { unit, .. } => {
            let unit = unit_name(unit)?;
            context.state.hold(&unit)?;
            let done = Done { unit, held: true, released: Vec::new() };
            print(json, &done, || format!("{} is left alone until `windlass update release {0}`\n", done.unit))
        }
        UpdateCommand::Release { unit, .. } => {
            let done = release(&context, &unit_name(unit)?)?;
            print(json, &done, || match done.released.as_slice() {
                [] => format!("{}: nothing was to be released\n", done.unit),
                ended => format!("{}: ended {}\n", done.unit, ended.join(", ")),
            })
        }
        UpdateCommand::Watch { .. } | UpdateCommand::Check { .. } => bail!("handled above"),
    }
}

/// What was done about a unit.
#[derive(Debug, Serialize)]
struct Done {
    unit: UnitName,
    held: bool,
    released: Vec<String>,
}

fn release(context: &Context, unit: &UnitName) -> Result<Done> {
    let mut released = Vec::new();
    if context.state.end_hold(unit)? {
        released.push("the hold".to_owned());
    }
    let mut record = context.state.record(unit)?;
    let stuck = record.last.as_ref().is_some_and(|last| last.outcome == Outcome::RollbackFailed);
    if !record.quarantine.is_empty() || stuck {
        let _lock = context.state.lock()?;
        record = context.state.record(unit)?;
        released.extend(record.quarantine.drain(..).map(|entry| format!("the quarantine of {}", entry.digest)));
        if stuck && record.journey.take().is_some() {
            released.push("the wait for help".to_owned());
        }
        context.state.save(unit, &record)?;
    }
    Ok(Done { unit: unit.clone(), held: false, released })
}

/// Listens to the feed. A configuration without one is a configuration to be mended: systemd need not try again.
fn listen(settings: &config::UpdateSettings) -> Result<u8> {
    if settings.feed.is_none() {
        eprintln!(
            "windlass: there is nothing to listen to: name the image chain's feed as feed in [update], such as \
             \"https://chain.example.com/feed\", and the file with its token as feed_token_file"
        );
        return Ok(EXIT_CODE);
    }
    runtime()?.block_on(watch::watch(settings))?;
    Ok(0)
}

async fn run_once(context: &Context, which: &Which, restarts: Restarts, delayed: bool) -> Result<Report> {
    if delayed {
        let most = u64::try_from(context.settings.delay.as_millis()).unwrap_or(u64::MAX);
        let delay = Duration::from_millis(fastrand::u64(0..=most));
        tracing::info!("beginning in {}", humantime::format_duration(Duration::from_secs(delay.as_secs())));
        tokio::time::sleep(delay).await;
    }
    let report = pass(context, which, restarts).await?;
    after::run_is_over(context, &report).await;
    Ok(report)
}

fn check(path: Option<&Path>) -> Result<u8> {
    let path = file(path)?;
    match config::load(&path) {
        Ok(settings) => {
            let text = config::to_toml(&settings)?;
            let state = if path.exists() { "is valid" } else { "is not there, which is valid" };
            out(&format!("# {} {state}. The settings in effect:\n\n{text}", path.display()))?;
            Ok(0)
        }
        Err(errors) => {
            let count = errors.problems().len();
            out(&format!("{errors}\n{count} error{}\n", if count == 1 { "" } else { "s" }))?;
            Ok(EXIT_CODE)
        }
    }
}

fn file(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(path) if !path.exists() => bail!("there is no configuration {}", path.display()),
        Some(path) => Ok(path.to_owned()),
        None => default_file(),
    }
}

fn which(units: &[String]) -> Result<Which> {
    if units.is_empty() {
        return Ok(Which::All);
    }
    Ok(Which::Only(units.iter().map(|unit| unit_name(unit)).collect::<Result<_>>()?))
}

/// A unit as people name it: a service needs no ending.
fn unit_name(text: &str) -> Result<UnitName> {
    let name = if text.contains('.') { text.to_owned() } else { format!("{text}.service") };
    UnitName::try_from(name).map_err(anyhow::Error::msg)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")
}

fn print<T: Serialize>(json: bool, value: &T, text: impl FnOnce() -> String) -> Result<u8> {
    if json {
        out(&format!("{}\n", serde_json::to_string_pretty(value)?))?;
    } else {
        out(&text())?;
    }
    Ok(0)
}

fn out(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write the answer")
}
