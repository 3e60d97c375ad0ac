//! gitlab-runner's configuration against the daemon's: executables, timeouts, how many jobs at once, who else may call.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::run;
use super::runner_config::{self, Entry, RunnerConfig, Unread, is_shim, option};
use super::runner_unit;
use super::socket::Access;
use super::{Finding, Host};
use crate::config::{DEFAULT_PROFILE, Profile, Settings};

/// From the run of a stage that is ended to the start of cleanup, in seconds (common/consts.go, WaitForBuildFinishTimeout).
const CLEANUP_AFTER: u64 = 300;
/// What a cleanup takes beside its wait for an absent daemon, in seconds.
const CLEANUP: u64 = 30;
/// Whom gitlab-runner's packages let jobs of the shell executor run as.
const PACKAGED_USER: &str = "gitlab-runner";

/// The feature flag with which bash keeps a script's exit code.
const BASH_FLAG: &str = "FF_USE_NEW_BASH_EVAL_STRATEGY";

/// What there is at an executable's path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Program {
    Missing,
    NotExecutable,
    /// What it says with `--version`, after its name.
    Release(String),
    Silent(String),
}

/// What the judge needs.
struct Facts<'a> {
    file: String,
    config: &'a RunnerConfig,
    settings: &'a Settings,
    socket: &'a Path,
    programs: BTreeMap<PathBuf, Program>,
    /// This command's release.
    release: &'a str,
    /// gitlab-runner's version, where it is known.
    version: Option<String>,
}

/// Looks at it.
pub async fn check(host: &Host) -> Vec<Finding> {
    let path = &host.options.runner_config;
    let file = path.display().to_string();
    let mut findings = Vec::new();
    let unit = match host.systemd {
        true => runner_unit::look().await,
        false => None,
    };
    match runner_config::load(path) {
        Err(Unread::Missing) => {
            let what = format!("there is no {file}");
            let remedy =
                "install and register gitlab-runner; `windlass doctor --runner-config FILE` for a file elsewhere";
            return vec![Finding::skipped("runner-config", what, Some(remedy))];
        }
        Err(Unread::Denied) => {
            let what = format!("only root may read {file}");
            findings.push(Finding::skipped("runner-config", what, Some("sudo windlass doctor --only runner")));
        }
        Err(Unread::Wrong(error)) => findings.push(Finding::error(
            "runner-config",
            format!("{file}: {error}"),
            "gitlab-runner can't read it either",
            format!("gitlab-runner verify -c {file}"),
        )),
        Ok(config) => {
            if let Ok(about) = std::fs::metadata(path) {
                findings.extend(mode(&file, about.mode()));
            }
            let programs = programs(&config).await;
            let (settings, socket, release) = (&host.settings, host.socket.as_path(), env!("CARGO_PKG_VERSION"));
            let version = super::helper::version_of_runner().await;
            findings.extend(judge(&Facts { file, config: &config, settings, socket, programs, release, version }));
            let named = unit.as_ref().map(|unit| unit.shell_user.clone().unwrap_or_else(|| unit.user.clone()));
            let user = named.unwrap_or_else(|| PACKAGED_USER.to_owned());
            // The unit's own groups go on to jobs that it runs as its own user; those of another get that user's.
            let own = unit.as_ref().filter(|unit| unit.user == user);
            let groups = own.map(|unit| unit.groups.as_slice()).unwrap_or_default();
            findings.extend(shell(&config, &user, &Access::of(host, &user, groups)));
        }
    }
    findings.extend(unit.iter().flat_map(runner_unit::judge));
    findings.extend(runner_unit::package(host));
    findings
}

async fn programs(config: &RunnerConfig) -> BTreeMap<PathBuf, Program> {
    let all = config.runners.iter().filter(|entry| entry.is_ours()).flat_map(|entry| entry.custom.executables());
    let paths: BTreeSet<PathBuf> =
        all.filter(|(_, path, _)| !path.is_empty()).map(|(_, path, _)| path.into()).collect();
    let mut found = BTreeMap::new();
    for path in paths {
        let program = look(&path).await;
        found.insert(path, program);
    }
    found
}

async fn look(path: &Path) -> Program {
    match std::fs::metadata(path) {
        Err(_) => Program::Missing,
        Ok(about) if !about.is_file() || about.permissions().mode() & 0o111 == 0 => Program::NotExecutable,
        // Another's program may do anything when it is called with this.
        Ok(_) if !is_shim(&path.display().to_string()) => Program::Silent("it is none of Windlass's".to_owned()),
        Ok(_) => match run::output(&path.display().to_string(), &["--version"]).await {
            Ok(text) => Program::Release(text.split_whitespace().nth(1).unwrap_or_default().to_owned()),
            Err(error) => Program::Silent(error),
        },
    }
}

fn mode(file: &str, mode: u32) -> Option<Finding> {
    (mode & 0o044 != 0).then(|| {
        Finding::warning(
            "runner-config-mode",
            format!("{file} can be read by others (mode {:04o})", mode & 0o7777),
            "it holds the runners' tokens: who has one takes jobs, with their secrets, elsewhere",
            format!("chmod 0600 {file}"),
        )
    })
}

fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let ours: Vec<&Entry> = facts.config.runners.iter().filter(|entry| entry.is_ours()).collect();
    if ours.is_empty() {
        return vec![Finding::error(
            "runner-config",
            format!("no [[runners]] of {} uses Windlass", facts.file),
            "no job of GitLab's comes to this host's daemon",
            "add the block of docs/first-job.md: executor = \"custom\" and the four windlass-* executables; then gitlab-runner restart",
        )];
    }
    let mut findings = vec![Finding::ok(
        "runner-config",
        format!("{} of {} runner(s) in {} use Windlass", ours.len(), facts.config.runners.len(), facts.file),
    )];
    for entry in &ours {
        findings.extend(executables(facts, entry));
        match facts.settings.profiles.get(profile_name(entry)) {
            None => findings.push(Finding::error(
                "runner-profile",
                format!("{} names the profile {:?}", entry.words(), profile_name(entry)),
                "the configuration has no such profile: each of its jobs fails",
                format!("add [profile.{}] to windlass.toml, or correct --profile in config_args", profile_name(entry)),
            )),
            Some(profile) => findings.extend(timeouts(facts.settings, entry, profile)),
        }
        findings.extend(exit_codes(facts, entry));
        if !entry.custom_build_dir.enabled {
            findings.push(Finding::warning(
                "runner-build-dir",
                format!("{}: custom_build_dir is not enabled", entry.words()),
                "jobs that set GIT_CLONE_PATH are refused",
                format!("[runners.custom_build_dir] enabled = true in {}", facts.file),
            ));
        }
    }
    findings.extend(how_many(facts, &ours));
    findings
}

/// Before 19.1 gitlab-runner has bash evaluate a script in a way that makes 1 of the exit code of a failed command (shells/bash.go).
fn exit_codes(facts: &Facts<'_>, entry: &Entry) -> Option<Finding> {
    let mut numbers = facts.version.as_deref()?.split(['.', '-', '~']).map_while(|number| number.parse::<u32>().ok());
    let is_old = (numbers.next()?, numbers.next()?) < (19, 1);
    let is_set = entry.feature_flags.get(BASH_FLAG) == Some(&toml::Value::Boolean(true));
    (is_old && !is_set).then(|| {
        Finding::warning(
            "runner-exit-codes",
            format!("{}: {BASH_FLAG} is not set, and gitlab-runner is older than 19.1", entry.words()),
            "where a job's image has bash, a failed command's exit code becomes 1, unless the script itself says `exit N`; allow_failure: exit_codes goes by it",
            format!("[runners.feature_flags] {BASH_FLAG} = true in {}", facts.file),
        )
    })
}

fn profile_name(entry: &Entry) -> &str {
    option(&entry.custom.config_args, "--profile").unwrap_or(DEFAULT_PROFILE)
}

fn executables(facts: &Facts<'_>, entry: &Entry) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = entry.words();
    let fails = "each job of this runner fails as a system failure";
    for (key, path, arguments) in entry.custom.executables() {
        let wanted = format!("windlass-{key}");
        let mut error = |what: String, meaning: &str, remedy: String| {
            findings.push(Finding::error("runner-executables", format!("{name}: {what}"), meaning, remedy));
        };
        let put = format!("{key}_exec = \"/usr/libexec/windlass/{wanted}\" in {}", facts.file);
        if path.is_empty() {
            let meaning = if key == "cleanup" { "each job holds its slot until its timeout" } else { fails };
            error(format!("{key}_exec is missing"), meaning, put);
            continue;
        }
        let socket = option(arguments, "--socket").map_or_else(|| Path::new(crate::cli::ask::SOCKET), Path::new);
        if is_shim(path) && socket != facts.socket {
            error(
                format!("{key}_exec calls {}, and the daemon listens at {}", socket.display(), facts.socket.display()),
                fails,
                format!("{key}_args = [\"--socket\", \"{}\"] in {}", facts.socket.display(), facts.file),
            );
        }
        if !path.starts_with('/') {
            error(
                format!("{key}_exec {path} is no absolute path"),
                "it would be looked for in the job's temporary directory",
                put,
            );
            continue;
        }
        match facts.programs.get(Path::new(path)) {
            Some(Program::Missing) => error(
                format!("{path} is not there"),
                fails,
                format!("install the package windlass again (or scripts/install.sh), or {put}"),
            ),
            Some(Program::NotExecutable) => {
                error(format!("{path} is no program that can be started"), fails, format!("chmod 0755 {path}"));
            }
            Some(Program::Silent(reason)) => error(
                format!("{path} is not as {wanted} is: {reason}"),
                "a wrapper has to exec the program itself: the daemon ends the jobs of a gitlab-runner that is gone",
                put,
            ),
            Some(Program::Release(release)) if release != facts.release => findings.push(Finding::warning(
                "runner-executables",
                format!("{path} is of release {release}, this command of {}", facts.release),
                "they understand each other for the time of an upgrade; nobody tries it for longer",
                "upgrade the package windlass (or scripts/install.sh); then systemctl restart windlass.service",
            )),
            _ if Path::new(path).file_name().is_none_or(|name| name.to_str() != Some(&wanted)) => {
                error(format!("{key}_exec is {path}"), fails, put);
            }
            _ => {}
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "runner-executables",
            format!("{name}: all four executables are there, of this release"),
        ));
    }
    findings
}

fn timeouts(settings: &Settings, entry: &Entry, profile: &Profile) -> Vec<Finding> {
    let (custom, name) = (&entry.custom, entry.words());
    let mut findings = Vec::new();
    let mut warn = |what: String, meaning: &str, remedy: String| {
        findings.push(Finding::warning("runner-timeouts", format!("{name}: {what}"), meaning.to_owned(), remedy));
    };
    let shown = |time: Duration| humantime::format_duration(time).to_string();
    if custom.config_timeout() <= profile.slot_wait.as_secs() {
        warn(
            format!("config_exec_timeout is {} s, slot_wait {}", custom.config_timeout(), shown(profile.slot_wait)),
            "a job that waits for a slot is ended by gitlab-runner before slot_wait is over, and tried again",
            format!("config_exec_timeout = {} in its [runners.custom]", profile.slot_wait.as_secs() * 2),
        );
    }
    let whole = entry.prepare_timeout.as_ref().and_then(toml::Value::as_str);
    if let Some(whole) = whole.and_then(|text| humantime::parse_duration(text).ok()).filter(|time| !time.is_zero())
        && whole <= profile.slot_wait
    {
        warn(
            format!("prepare_timeout is {}, slot_wait {}", shown(whole), shown(profile.slot_wait)),
            "the wait for a slot counts: a job that waits longer fails with job_execution_timeout and is not tried again",
            format!(
                "prepare_timeout = \"{}s\" in its [[runners]]",
                (profile.slot_wait + settings.podman.pull_timeout).as_secs()
            ),
        );
    }
    let pull = settings.podman.pull_timeout;
    if custom.prepare_timeout() <= pull.as_secs() {
        warn(
            format!("prepare_exec_timeout is {} s, pull_timeout {}", custom.prepare_timeout(), shown(pull)),
            "gitlab-runner ends a pull that is still allowed to take its time",
            format!("prepare_exec_timeout = {} in its [runners.custom]", pull.as_secs() * 2),
        );
    }
    let grace = profile.job.grace + profile.job.margin;
    if custom.graceful_kill() <= grace.as_secs() {
        warn(
            format!("graceful_kill_timeout is {} s, grace and margin are {}", custom.graceful_kill(), shown(grace)),
            "gitlab-runner kills a stage's executable before the job had its grace: traps are cut short, and the exit code is lost",
            format!("graceful_kill_timeout = {} in its [runners.custom]", grace.as_secs() + 30),
        );
    }
    let both = custom.graceful_kill() + custom.force_kill();
    if both >= CLEANUP_AFTER {
        warn(
            format!("graceful_kill_timeout and force_kill_timeout are {both} s together"),
            "after 300 s gitlab-runner starts cleanup beside the stage that still runs, and removes its files",
            "graceful_kill_timeout = 60 and force_kill_timeout = 10 in its [runners.custom]".to_owned(),
        );
    }
    let cleanup = settings.socket.daemon_wait.as_secs() + CLEANUP;
    if custom.cleanup_timeout() < cleanup {
        warn(
            format!("cleanup_exec_timeout is {} s", custom.cleanup_timeout()),
            "a cleanup that waits for a daemon that restarts (daemon_wait) is ended before; the job holds its slot until its timeout",
            format!("cleanup_exec_timeout = {} in its [runners.custom]", cleanup.max(120)),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok("runner-timeouts", format!("{name}: its timeouts leave the daemon its own")));
    }
    findings
}

fn how_many(facts: &Facts<'_>, ours: &[&Entry]) -> Vec<Finding> {
    let concurrent = facts.config.concurrent.unwrap_or(1).max(1);
    let mut findings = Vec::new();
    for (profile_name, profile) in &facts.settings.profiles {
        let entries: Vec<&&Entry> = ours.iter().filter(|entry| self::profile_name(entry) == profile_name).collect();
        if entries.is_empty() {
            continue;
        }
        let slots = profile.slots;
        let limit = |entry: &Entry| if entry.limit == 0 { concurrent } else { entry.limit.min(concurrent) };
        let most = entries.iter().map(|entry| u64::from(limit(entry))).sum::<u64>().min(concurrent.into());
        let limits = match most > u64::from(slots) {
            true if entries.iter().any(|entry| entry.limit != 0) => format!("concurrent = {concurrent} and the limits"),
            _ => format!("concurrent = {concurrent}"),
        };
        if most > u64::from(slots) {
            findings.push(Finding::warning(
                "runner-concurrent",
                format!("{limits} let {most} jobs come at once, and profile {profile_name} has {slots} slot(s)"),
                "the jobs above that wait here and fail after slot_wait, where they could have waited in GitLab for any runner",
                format!("concurrent = {slots} in {} (or limit = {slots} in the [[runners]] of that profile), or slots = {most} in windlass.toml", facts.file),
            ));
        } else {
            let rest = u64::from(slots) - most;
            let unused = if rest == 0 { String::new() } else { format!("; {rest} stay(s) unused") };
            findings.push(Finding::ok(
                "runner-concurrent",
                format!("at most {most} job(s) at once for the {slots} slot(s) of profile {profile_name}{unused}"),
            ));
        }
        for entry in entries.iter().filter(|entry| entry.request_concurrency > slots) {
            findings.push(Finding::warning(
                "runner-requests",
                format!("{}: request_concurrency is {}, for {slots} slot(s)", entry.words(), entry.request_concurrency),
                "it fetches more jobs at a time than can begin",
                format!("request_concurrency = {slots} in {}", facts.file),
            ));
        }
    }
    findings
}

/// Jobs of the shell executor are programs of the host: one that may call the socket may claim to be any project's job.
fn shell(config: &RunnerConfig, user: &str, access: &Access) -> Option<Finding> {
    let entry = config.runners.iter().find(|entry| entry.executor == "shell")?;
    let name = entry.words();
    if !access.is_member && !access.may_call() {
        return Some(Finding::ok(
            "runner-shell",
            format!("{name} has the shell executor, as user {user}, who may not call the daemon"),
        ));
    }
    let how = if access.is_member { "is in the socket's group" } else { "may call the daemon" };
    Some(Finding::error(
        "runner-shell",
        format!("{name} has the shell executor, and user {user}, as whom its jobs run, {how}"),
        "each of its jobs may claim to be any project's: it reads and writes what all projects keep here",
        format!(
            "move that runner to another host, or give it another user (gitlab-runner run --user) who is neither in the socket's \
             group nor in [socket] allowed_users; where gitlab-runner itself runs as root, {user} need not be in either"
        ),
    ))
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
