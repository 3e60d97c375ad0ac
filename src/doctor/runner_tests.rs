//! Tests of what is said of gitlab-runner's configuration.

#![allow(clippy::unwrap_used, reason = "a failing test should say where")]

use super::super::Level;
use super::super::finding::tests::{expect_remedies, level};
use super::*;

const SOCKET: &str = "/run/windlass/windlass.sock";

/// The block of docs/first-job.md.
const GOOD: &str = "concurrent = 2\n[[runners]]\nname = 'podman'\nexecutor = 'custom'\n[runners.custom]\n\
    config_exec = '/l/windlass-config'\nconfig_exec_timeout = 1200\nprepare_exec = '/l/windlass-prepare'\nprepare_exec_timeout = 3600\n\
    run_exec = '/l/windlass-run'\ncleanup_exec = '/l/windlass-cleanup'\ncleanup_exec_timeout = 120\n\
    graceful_kill_timeout = 60\nforce_kill_timeout = 10\n[runners.custom_build_dir]\nenabled = true\n\
    [runners.feature_flags]\nFF_USE_NEW_BASH_EVAL_STRATEGY = true\n";

fn judged(text: &str, settings: &str, programs: &[(&str, Program)]) -> Vec<Finding> {
    judged_with(text, settings, programs, Some("17.9.0"))
}

fn judged_with(text: &str, settings: &str, programs: &[(&str, Program)], version: Option<&str>) -> Vec<Finding> {
    let config: RunnerConfig = toml::from_str(text).unwrap();
    let settings = crate::config::parse(Path::new("windlass.toml"), settings).unwrap();
    let mut all: BTreeMap<PathBuf, Program> = ["config", "prepare", "run", "cleanup"]
        .map(|name| (PathBuf::from(format!("/l/windlass-{name}")), Program::Release("1.0".into())))
        .into();
    all.extend(programs.iter().map(|(path, program)| (PathBuf::from(path), program.clone())));
    let file = "/etc/gitlab-runner/config.toml".to_owned();
    let (socket, version) = (Path::new(SOCKET), version.map(str::to_owned));
    let facts = Facts { file, config: &config, settings: &settings, socket, programs: all, release: "1.0", version };
    let findings = judge(&facts);
    expect_remedies(&findings);
    findings
}

#[test]
fn the_documented_block_is_good() {
    let findings = judged(GOOD, "", &[]);
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
}

#[test]
fn a_runner_before_19_1_needs_the_flag_with_which_bash_keeps_exit_codes() {
    let warned = |text: &str, version: Option<&str>| {
        let findings = judged_with(text, "", &[], version);
        findings.iter().any(|finding| finding.check == "runner-exit-codes" && finding.level == Level::Warning)
    };
    let flag = "FF_USE_NEW_BASH_EVAL_STRATEGY = true\n";
    let (without, off) = (GOOD.replace(flag, ""), GOOD.replace(flag, "FF_USE_NEW_BASH_EVAL_STRATEGY = false\n"));
    for old in ["17.9.0", "18.11.3", "19.0.0", "19.0.1-rc1"] {
        assert!(warned(&without, Some(old)) && warned(&off, Some(old)), "{old}");
        assert!(!warned(GOOD, Some(old)), "{old}");
    }
    for new in [Some("19.1.0"), Some("19.4.0"), Some("20.0.0"), Some("development version"), None] {
        assert!(!warned(&without, new), "{new:?}");
    }
}

#[test]
fn a_time_for_all_of_preparation_has_to_be_above_the_wait_for_a_slot() {
    let of = |time: &str| {
        let text = GOOD.replace("executor = 'custom'\n", &format!("executor = 'custom'\nprepare_timeout = {time}\n"));
        level(&judged(&text, "slot_wait = '10m'", &[]), "runner-timeouts")
    };
    assert_eq!((of("'5m'"), of("'10m0s'")), (Level::Warning, Level::Warning));
    assert_eq!((of("'1h30m'"), of("'0s'"), of("7"), of("'some'")), (Level::Ok, Level::Ok, Level::Ok, Level::Ok));
}

#[test]
fn a_runner_without_windlass_is_an_error() {
    assert_eq!(level(&judged("[[runners]]\nexecutor = 'docker'\n", "", &[]), "runner-config"), Level::Error);
}

#[test]
fn executables_have_to_be_there_of_this_release_and_call_this_socket() {
    let of = |text: &str, programs: &[(&str, Program)]| level(&judged(text, "", programs), "runner-executables");
    for program in [Program::Missing, Program::NotExecutable, Program::Silent("x".into())] {
        assert_eq!(of(GOOD, &[("/l/windlass-run", program)]), Level::Error);
    }
    assert_eq!(
        of(&GOOD.replace("run_exec = '/l/windlass-run'", "run_exec = '/l/windlass-prepare'"), &[]),
        Level::Error
    );
    assert_eq!(of(&GOOD.replace("cleanup_exec = '/l/windlass-cleanup'\n", ""), &[]), Level::Error);
    assert_eq!(of(&GOOD.replace("'/l/windlass-run'", "'windlass-run'"), &[]), Level::Error);
    assert_eq!(of(GOOD, &[("/l/windlass-run", Program::Release("0.9".into()))]), Level::Warning, "during an upgrade");
    let elsewhere = GOOD.replace("[runners.custom]\n", "[runners.custom]\nrun_args = ['--socket', '/other']\n");
    assert_eq!(of(&elsewhere, &[]), Level::Error);
}

#[test]
fn each_timeout_is_compared_with_the_daemons() {
    let of = |from: &str, to: &str, settings: &str| {
        let findings = judged(&GOOD.replace(from, to), settings, &[]);
        assert_eq!(level(&findings, "runner-timeouts"), Level::Warning, "{to}");
        findings.iter().find(|finding| finding.check == "runner-timeouts").unwrap().what.clone()
    };
    assert!(of("config_exec_timeout = 1200", "config_exec_timeout = 600", "").contains("slot_wait 10m"));
    assert!(of("config_exec_timeout = 1200\n", "", "slot_wait = '2h'").contains("3600"));
    assert!(of("prepare_exec_timeout = 3600", "prepare_exec_timeout = 60", "").contains("pull_timeout 30m"));
    assert!(of("graceful_kill_timeout = 60", "graceful_kill_timeout = 5", "").contains("grace and margin"));
    assert!(of("graceful_kill_timeout = 60", "", "").contains("610 s together"));
    assert!(of("cleanup_exec_timeout = 120", "cleanup_exec_timeout = 20", "").contains("cleanup_exec_timeout is 20"));
}

#[test]
fn more_jobs_than_slots_are_a_warning_for_each_profile() {
    let of = |text: &str, settings: &str| level(&judged(text, settings, &[]), "runner-concurrent");
    let ten = GOOD.replace("concurrent = 2", "concurrent = 10");
    assert_eq!(of(&ten, ""), Level::Warning);
    assert_eq!(of(&ten, "slots = 10"), Level::Ok);
    assert_eq!(of(&ten.replace("name = 'podman'", "name = 'podman'\nlimit = 2"), ""), Level::Ok);
    assert_eq!(of(&GOOD.replace("concurrent = 2\n", ""), ""), Level::Ok, "the default is one");
    let big = ten.replace("[runners.custom]\n", "[runners.custom]\nconfig_args = ['--profile', 'big']\n");
    assert_eq!(of(&big, "slots = 10\n[profile.big]\nslots = 1"), Level::Warning);
    assert_eq!(level(&judged(&big, "", &[]), "runner-profile"), Level::Error);
    let requests = GOOD.replace("name = 'podman'", "name = 'podman'\nrequest_concurrency = 5");
    assert_eq!(level(&judged(&requests, "", &[]), "runner-requests"), Level::Warning);
    assert_eq!(level(&judged(&GOOD.replace("enabled = true", ""), "", &[]), "runner-build-dir"), Level::Warning);
}

#[test]
fn a_shell_runner_that_may_call_the_socket_is_an_error() {
    let config: RunnerConfig = toml::from_str("[[runners]]\nname = 's'\nexecutor = 'shell'\n").unwrap();
    let access =
        |is_member, is_allowed, connects| Access { is_member, is_allowed, connects, is_known: true, is_older: false };
    let of = |access: Access| shell(&config, "gitlab-runner", &access).unwrap();
    assert_eq!(of(access(false, false, true)).level, Level::Ok);
    assert_eq!(of(access(false, true, false)).level, Level::Ok);
    let wrong = [of(access(true, false, true)), of(access(false, true, true))];
    assert!(wrong.iter().all(|finding| finding.level == Level::Error));
    expect_remedies(&wrong);
    let other: RunnerConfig = toml::from_str(GOOD).unwrap();
    assert_eq!(shell(&other, "gitlab-runner", &access(true, true, true)), None);
}

#[test]
fn a_file_with_tokens_is_nobody_elses() {
    assert_eq!(mode("/c", 0o100_600), None);
    assert!(mode("/c", 0o100_644).unwrap().remedy.unwrap().contains("chmod 0600 /c"));
}
