//! `windlass try`: plays gitlab-runner's part on this host without any GitLab, through the installed shims.

mod quote;
mod report;
mod response;
mod runner;
mod scripts;
mod source;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use report::Report;
use runner::{End, Runner};
use scripts::Scripts;

/// Exit code when the system failed and not the job, as podman has it.
const SYSTEM_FAILURE: u8 = 125;

/// Runs a job on this host as gitlab-runner would, without GitLab: the proof that jobs can run here
///
/// The stages of a real job run through the installed shims and the running windlassd. The job log is printed as GitLab would
/// show it, then how long each stage took. The exit code is the job's own; 125 means that the system failed, not the job, and the
/// last lines say why.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass try --image docker.io/library/alpine:latest -- uname -a
  windlass try --image docker.io/library/debian:12 -- sh -c 'id; cat /etc/os-release'
  windlass try --image docker.io/library/node:22 --repo https://gitlab.example.com/group/app.git --ref main -- npm test
  windlass try --image docker.io/alpine/git:latest --repo . -- ls -la")]
pub struct TryArgs {
    /// The image that the job runs in; it needs a shell, and git for --repo
    #[arg(long)]
    image: String,
    /// A repository to clone first: a URL that the container reaches, or a directory of this host
    #[arg(long, value_name = "URL|DIR")]
    repo: Option<String>,
    /// The branch or tag of it
    #[arg(long, default_value = "HEAD", requires = "repo")]
    r#ref: String,
    /// A line of shell that runs after the command, in the same directory, whether that failed or not
    #[arg(long, value_name = "SHELL")]
    after_script: Option<String>,
    /// A job variable; may be given several times
    #[arg(long = "variable", value_name = "KEY=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,
    /// The profile, as `--profile` in the runner's config_args
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = "/run/windlass/windlass.sock")]
    socket: PathBuf,
    /// Where the shims are [default: libexec beside this program, else /usr/libexec/windlass]
    #[arg(long, value_name = "DIR")]
    libexec: Option<PathBuf>,
    /// Print the result as JSON on stdout; the job log goes to stderr
    #[arg(long)]
    json: bool,
    /// The job's command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has to be KEY=VALUE")?;
    let good = |first: bool, c: char| c == '_' || c.is_ascii_alphabetic() || (!first && c.is_ascii_digit());
    if key.is_empty() || !key.chars().enumerate().all(|(at, c)| good(at == 0, c)) {
        return Err(format!("{key:?} is no variable's name"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the job; returns the exit code.
///
/// # Errors
/// When it can't even be begun.
pub fn run(arguments: &TryArgs) -> Result<u8> {
    let libexec = libexec(arguments)?;
    let source = source::Source::of(arguments.repo.as_deref(), &arguments.r#ref)?;
    let response = response::job_response(&arguments.image, &arguments.variables, source.url());
    let mut runner = Runner::new(&libexec, &response, arguments)?;
    let mut report = Report::new(arguments.json, std::io::stdout().is_terminal());
    let end = job(arguments, &mut runner, &mut report, &source);
    // Whatever happened: gitlab-runner cleans up for every attempt.
    let cleaned = report.measure("cleanup", || runner.cleanup());
    let end = match (end, cleaned) {
        (End::Success, End::System) => End::System,
        (end, _) => end,
    };
    report.finish(&end)?;
    Ok(match end {
        End::Success => 0,
        End::Job(code) => code,
        End::System => SYSTEM_FAILURE,
    })
}

/// The job from config to its last stage, in gitlab-runner's order.
fn job(arguments: &TryArgs, runner: &mut Runner, report: &mut Report, source: &source::Source) -> End {
    let mut builds_dir = String::new();
    let config = report.measure("config", || match runner.config() {
        Ok(directory) => {
            builds_dir = directory;
            End::Success
        }
        Err(error) => {
            eprintln!("windlass: {error:#}");
            End::System
        }
    });
    if config != End::Success {
        return config;
    }
    let prepared = report.measure("prepare", || runner.prepare());
    if prepared != End::Success {
        return prepared;
    }
    let scripts = Scripts::new(&builds_dir, &arguments.variables);
    let first = report.measure("prepare_script", || runner.stage("prepare_script", &scripts.prepare()));
    if first != End::Success {
        return first;
    }
    let mut end = report.measure("get_sources", || runner.stage("get_sources", &scripts.get_sources(source)));
    if end == End::Success {
        end = report.measure("build_script", || runner.stage("build_script", &scripts.build(&arguments.command)));
        if let Some(shell) = &arguments.after_script
            && !runner.interrupted()
        {
            // Its own outcome changes nothing, as in GitLab.
            report.measure("after_script", || runner.stage("after_script", &scripts.after(shell)));
        }
    }
    if !runner.interrupted() {
        report.measure("cleanup_file_variables", || runner.stage("cleanup_file_variables", &scripts.cleanup()));
    }
    end
}

fn libexec(arguments: &TryArgs) -> Result<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("libexec")));
    let installed = PathBuf::from("/usr/libexec/windlass");
    let candidates: Vec<PathBuf> = match &arguments.libexec {
        Some(directory) => vec![directory.clone()],
        None => beside.into_iter().chain([installed]).collect(),
    };
    if let Some(found) = candidates.iter().find(|directory| directory.join("windlass-run").is_file()) {
        return found.canonicalize().with_context(|| format!("find {}", found.display()));
    }
    let places: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    bail!(
        "the shims (windlass-config and the others) are not in {}; --libexec says where they are",
        places.join(" nor in ")
    )
}
