//! The same in a terminal: `windlass status --watch`.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::support::{Host, Image, Job, Runner, until, wait::seconds};

/// Runs a command whose output goes into a file.
fn start(mut command: Command, output: &std::path::Path) -> Child {
    command.stdin(Stdio::null()).stdout(File::create(output).unwrap()).stderr(Stdio::null()).spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_watched_status_is_live_in_a_terminal_and_plain_elsewhere() {
    let host = Host::configured("slots = 1");
    let image = host.image(&Image::busybox());
    let socket = host.socket().display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let (plain, terminal) = (dir.path().join("plain"), dir.path().join("terminal"));
    let read = |path: &std::path::Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let mut command = Command::new(&host.programs.windlass);
    command.args(["status", "--watch", "--socket", &socket]);
    let first = start(command, &plain);
    let line = format!("'{}' status --watch --socket '{socket}'", host.programs.windlass.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--command", &line, "/dev/null"]);
    command.env("TERM", "xterm");
    let second = start(command, &terminal);
    let dumb = dir.path().join("dumb");
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--command", &line, "/dev/null"]).env("TERM", "dumb");
    let third = start(command, &dumb);
    until("all show the slot", seconds(20), || {
        [&plain, &terminal, &dumb].iter().all(|path| read(path).contains("default/0"))
    });
    let runner = Runner::new(&host);
    let mut job = runner.attempt(&Job::new(&image));
    job.configure().expect_code(0);
    let id = job.job.id.to_string();
    until("all show the job", seconds(20), || [&plain, &terminal, &dumb].iter().all(|path| read(path).contains(&id)));
    let text = read(&plain);
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(!read(&dumb).contains('\u{1b}'), "{:?}", read(&dumb));
    let next = runner.attempt(&Job::new(&image));
    let waiting = next.config();
    let words = format!("job {} waits for a slot of profile default: all 1 are in use", next.job.id);
    until("both say what the next one waits for", seconds(20), || {
        [&plain, &terminal].iter().all(|path| read(path).contains(&words))
    });
    waiting.terminate();
    waiting.wait_for(seconds(10));
    next.cleanup().wait().expect_code(0);
    assert!(text.matches("SLOT").count() <= 4, "it is written when it has changed, and not each second: {text}");
    assert!(read(&terminal).matches("\u{1b}[H").count() >= 2, "{:?}", read(&terminal));
    // The daemon goes, and comes back.
    host.end_daemon(nix::sys::signal::Signal::SIGTERM);
    until("its absence is said", seconds(20), || read(&plain).contains("windlassd is not running: there is no socket"));
    let before = read(&plain).matches("SLOT").count();
    host.start_daemon();
    until("it is there again", seconds(20), || read(&plain).matches("SLOT").count() > before);
    end(first);
    end(second);
    end(third);
    job.finish();
}
