//! What an administrator asks and tells the chain.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::account::Account;
use crate::support::chain::{Chain, Diamond};
use crate::support::gitlab::FakeGitlab;
use crate::support::notices::Notices;
use crate::support::programs::copy_program;
use crate::support::wait::{seconds, until};
use crate::support::{Image, Job, Runner, State};

fn text(chain: &Chain, arguments: &[&str]) -> String {
    let output = chain.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn status_graph_and_plan_say_what_is_going_on() {
    let (chain, diamond) = Chain::diamond("");
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    let ruby = chain.started(diamond.ruby, 0);
    chain.gitlab.bring(ruby, "failed");
    chain.until_words("images/app", "blocked by images/ruby");
    let table = text(&chain, &["status"]);
    let line = table.lines().find(|line| line.starts_with("images/app")).unwrap();
    assert!(line.contains("blocked by images/ruby"), "{table}");
    let whole = text(&chain, &["status", "images/ruby"]);
    assert!(whole.contains(&format!("/-/pipelines/{ruby}")) && whole.contains("builds on  images/base"), "{whole}");
    let graph = text(&chain, &["graph"]);
    assert!(graph.starts_with("images/base  fresh\n├─ images/node  running\n"), "{graph}");
    assert!(text(&chain, &["graph", "--format", "mermaid"]).starts_with("flowchart LR\n"));
    let plan = text(&chain, &["plan"]);
    assert!(plan.contains("blocked") && plan.contains("images/app"), "{plan}");
    let missing = chain.run(&["status", "images/none"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("the chain has no project \"images/none\""));
}

#[test]
fn a_rebuild_takes_what_builds_on_it_along_or_not() {
    let (chain, diamond) = Chain::diamond("");
    assert!(text(&chain, &["rebuild", "images/ruby"]).contains("images/ruby is built"));
    let ruby = chain.started(diamond.ruby, 0);
    chain.gitlab.bring(ruby, "success");
    let app = chain.started(diamond.app, 0);
    chain.gitlab.bring(app, "success");
    chain.until_words("images/app", "fresh");
    // Alone: nothing follows.
    text(&chain, &["rebuild", "images/ruby", "--only"]);
    let ruby = chain.started(diamond.ruby, 1);
    chain.gitlab.bring(ruby, "success");
    chain.until_words("images/ruby", "fresh");
    chain.settle();
    chain.sync();
    assert_eq!((chain.starts(diamond.app).len(), chain.words("images/app").as_str()), (1, "fresh"));
    // With everything below it, in order, and it itself once.
    assert!(text(&chain, &["rebuild", "images/app", "--with-upstreams"]).contains("after 3 that it builds on"));
    let base = chain.started(diamond.base, 0);
    assert_eq!((chain.starts(diamond.ruby).len(), chain.starts(diamond.app).len()), (2, 1));
    chain.gitlab.bring(base, "success");
    let ruby = chain.started(diamond.ruby, 2);
    let node = chain.started(diamond.node, 0);
    chain.gitlab.bring(ruby, "success");
    chain.gitlab.bring(node, "success");
    let app = chain.started(diamond.app, 1);
    chain.gitlab.bring(app, "success");
    chain.until_words("images/app", "fresh");
    chain.sync();
    let counts = [diamond.base, diamond.ruby, diamond.node, diamond.app].map(|project| chain.starts(project).len());
    assert_eq!(counts, [1, 3, 1, 2]);
}

#[test]
fn what_is_paused_is_not_built_until_it_is_resumed() {
    let (chain, diamond) = Chain::diamond("");
    text(&chain, &["pause", "images/ruby"]);
    text(&chain, &["pause"]);
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    chain.until_words("images/node", "held back");
    // A pause outlives the daemon.
    chain.host.crash_daemon();
    chain.until_looked();
    assert_eq!(chain.status()["held"], "the chain is paused");
    assert!(chain.starts(diamond.node).is_empty());
    text(&chain, &["resume"]);
    chain.started(diamond.node, 0);
    chain.until_words("images/ruby", "due, and paused");
    assert!(chain.starts(diamond.ruby).is_empty());
    text(&chain, &["resume", "images/ruby"]);
    chain.started(diamond.ruby, 0);
}

#[test]
fn somebody_is_told_once_of_what_stays_failed() {
    let (chain, diamond) = Chain::diamond("");
    let file = chain.host.dir().join("told");
    let script = chain.host.dir().join("tell");
    std::fs::write(&script, format!("#!/bin/sh\ncat >>{0}\necho >>{0}\n", file.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    chain.restart(&format!("[chain.notify]\ncommand = ['{}', 'it']\nafter = '1s'", script.display()));
    chain.until_looked();
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    let ruby = chain.started(diamond.ruby, 0);
    chain.gitlab.bring(ruby, "failed");
    let told = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    chain.until_words("images/app", "blocked by images/ruby");
    until("both are told of", seconds(60), || {
        // Whatever makes a pass come.
        chain.sync();
        told().len() >= 2
    });
    let mut words: Vec<String> = told()
        .iter()
        .map(|notice| format!("{}: {}", notice["project"].as_str().unwrap(), notice["words"].as_str().unwrap()))
        .collect();
    words.sort();
    assert_eq!(words, ["images/app: blocked by images/ruby", "images/ruby: failed"]);
    chain.host.crash_daemon();
    chain.until_looked();
    chain.sync();
    assert_eq!(told().len(), 2, "once for each reason");
}

#[test]
fn a_backup_is_made_while_it_runs_and_over_nothing() {
    let (chain, _) = Chain::diamond("");
    let copy = chain.host.dir().join("copy.db");
    assert!(text(&chain, &["backup", copy.to_str().unwrap()]).contains("copy.db"));
    let again = chain.run(&["backup", copy.to_str().unwrap()]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("exists"));
}

#[test]
fn only_administrators_change_anything() {
    let account = match Account::rootless() {
        Ok(account) => account,
        Err(reason) => return eprintln!("SKIPPED: {reason}"),
    };
    let Account::Other(user) = &account else { return eprintln!("SKIPPED: it takes root to be somebody else") };
    let gitlab = FakeGitlab::start();
    Diamond::make(&gitlab);
    let chain = Chain::of(gitlab, &format!("[socket]\nallowed_users = ['{}']", user.name));
    std::fs::set_permissions(chain.host.run_dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let windlass = chain.host.dir().join("windlass");
    copy_program(&chain.host.programs.windlass, &windlass);
    let call = |arguments: &[&str]| {
        let socket = chain.host.socket();
        account.command(&windlass).arg("chain").args(arguments).arg("--socket").arg(socket).output().unwrap()
    };
    for reads in [&["status"][..], &["plan"], &["events"]] {
        assert!(call(reads).status.success(), "{reads:?}");
    }
    for changes in [&["sync"][..], &["rebuild", "images/base"], &["pause"], &["resume"], &["backup", "copy.db"]] {
        let refused = call(changes);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && said.contains("only root and the daemon's own user"),
            "{changes:?}: {said}"
        );
    }
}

/// What is said where jobs run and the chain does not.
const WITHOUT_CHAIN: &str = "the image chain does not run";

#[test]
fn a_daemon_for_the_chain_alone_does_not_start_without_it_and_one_with_jobs_does() {
    let (chain, _) = Chain::diamond("");
    let database = chain.host.state_dir().join("chain.db");
    chain.host.end_daemon(Signal::SIGTERM);
    let kept = std::fs::read(&database).unwrap();
    let fails = |toml: &str, said: &str| {
        let output = |toml: &str| {
            chain.configure(toml);
            let daemon = &chain.host.programs.windlassd;
            std::process::Command::new(daemon).arg("--config").arg(chain.host.config()).output().unwrap()
        };
        let output = output(&format!("slots = 0\n{toml}"));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "{toml}: {text}");
        warns(&chain, toml, &[WITHOUT_CHAIN, said]);
    };
    fails("[gitlab]\ntoken_file = '/nowhere/token'", "/nowhere/token");
    std::fs::write(&database, "not a database at all").unwrap();
    fails("", "is no database of SQLite and is left as it is");
    assert_eq!(std::fs::read(&database).unwrap(), b"not a database at all");
    std::fs::write(&database, kept).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("[webhook]\nlisten = '{}'", taken.local_addr().unwrap());
    warns(&chain, &taken, &["no event of GitLab's is taken", "listen at 127.0.0.1"]);
    chain.configure("");
    chain.host.start_daemon();
    chain.until_looked();
}

/// Starts a daemon that runs jobs too, and ends it: it runs them, and says these words.
fn warns(chain: &Chain, toml: &str, words: &[&str]) {
    chain.configure(toml);
    chain.host.start_daemon();
    let image = chain.host.image(&Image::busybox());
    Runner::new(&chain.host).play(&Job::new(&image).script(&["echo hello"])).expect(State::Success);
    let warnings = chain.host.status()["daemon"]["warnings"].to_string();
    assert!(words.iter().all(|words| warnings.contains(words)), "{toml}: {warnings}");
    let status = chain.run(&["status"]);
    let has_chain = !words.contains(&WITHOUT_CHAIN);
    let said = String::from_utf8_lossy(&status.stderr);
    assert!(status.status.success() == has_chain && said.contains(WITHOUT_CHAIN) != has_chain, "{toml}: {status:?}");
    chain.host.end_daemon(Signal::SIGTERM);
}

#[test]
fn the_status_line_says_what_the_chain_does_as_soon_as_it_does_it() {
    let notices = Notices::listen();
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    let chain = Chain::of_with(gitlab, "", notices.environment());
    until("the webhook is there", seconds(30), || chain.gitlab.hooks(diamond.node).len() == 1);
    notices.wait_for_status("chain: 0 running");
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    let (ruby, node) = (chain.started(diamond.ruby, 0), chain.started(diamond.node, 0));
    notices.wait_for_status("chain: 2 running, 1 due");
    chain.gitlab.bring(ruby, "failed");
    notices.wait_for_status("chain: 1 running, 1 failed, 1 blocked by images/ruby");
    chain.gitlab.bring(node, "success");
    notices.wait_for_status("chain: 0 running, 1 failed, 1 blocked by images/ruby");
}
