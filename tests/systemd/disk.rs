//! A disk that is full: what runs goes on, what comes is told why it can't, and all goes on by itself when there is room.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::boxed::in_a_box;
use crate::support::chain::Diamond;
use crate::support::client;
use crate::support::gitlab::FakeGitlab;
use crate::support::installed::{Installed, PATIENCE, install, run, text};
use crate::support::registry::free_port;
use crate::support::{Image, Job, Runner, State, until};
use crate::{SETTINGS, UNTIL_TOLD, nothing_is_left};

/// Where the state directory is in this box.
const STATE: &str = "/srv/windlass";
/// A file of somebody else's.
const FILLER: &str = "/srv/windlass/filler";

#[test]
fn a_full_disk_fails_no_job_that_runs_and_is_named_by_whoever_is_asked() {
    in_a_box("disk::in_the_box");
}

/// Writes until this much is left, in bytes, or nothing is.
fn fill(leave: u64) {
    let mut filler = File::options().create(true).append(true).open(FILLER).unwrap();
    let piece = vec![1; 16 << 10];
    while free() > leave && filler.write_all(&piece).is_ok() {}
}

fn free() -> u64 {
    let about = nix::sys::statvfs::statvfs(STATE).unwrap();
    about.blocks_available() * about.fragment_size()
}

#[test]
#[ignore = "runs in a box"]
fn in_the_box() {
    fs::create_dir(STATE).unwrap();
    // Jobs get a copy of the program that plays gitlab-runner, which is this one.
    let own = fs::metadata("/proc/self/exe").unwrap().len() >> 20;
    let options = format!("size={}m,mode=0711", own + 24);
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none", STATE]));
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    fs::create_dir_all("/etc/windlass").unwrap();
    let (health, hooks) = (free_port(), free_port());
    let settings = format!(
        "state_dir = '{STATE}'\n{SETTINGS}[metrics]\nlisten = '127.0.0.1:{health}'\n[gitlab]\nurl = '{}'\ntoken_file = '/etc/windlass/token'\n\
         [chain]\ngroups = ['images']\ninterval = '1h'\nsettle = '0s'\nwatch.enabled = false\n\
         [webhook]\nlisten = '127.0.0.1:{hooks}'\nurl = 'http://127.0.0.1:{hooks}/hooks/gitlab'\nverify_tls = false\n",
        gitlab.url()
    );
    let windlass = Installed::by(
        false,
        || {
            install(false, &[]);
            fs::write("/etc/windlass/token", FakeGitlab::TOKEN).unwrap();
            run(Command::new("chmod").args(["0600", "/etc/windlass/token"]));
            run(Command::new("chown").args(["windlass:", STATE, "/etc/windlass/token"]));
        },
        &settings,
    );
    until("the webhook is there", PATIENCE, || gitlab.hooks(diamond.base).len() == 1);
    let full = Full { windlass: &windlass, health };
    full.says_nothing();

    let image = windlass.image(&Image::busybox());
    let runner = Runner::on(&windlass);
    let older = Job::new(&image).project(8, "group/older").script(&["dd if=/dev/zero of=/builds/file bs=1M count=8"]);
    runner.play(&older).expect(State::Success);
    until("its lanes are measured", PATIENCE, || full.kept("group/older").iter().all(|lane| lane["bytes"].is_u64()));
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.configure().expect_code(0);
    attempt.prepare().wait_for(PATIENCE).expect_code(0);
    let call = attempt.run_lines("build_script", UNTIL_TOLD);
    call.wait_for_output("started");

    // Too little is free: what no job uses goes by itself.
    fill(3 << 20);
    let is_clone = |lane: &Value| lane["lane"] == "builds-0";
    until("what an older job kept goes", PATIENCE, || !full.kept("group/older").iter().any(is_clone));
    assert!(!full.kept("group/project").is_empty(), "what a job uses stays");

    // A failed job that is held goes before one that comes would fail.
    let hold = windlass.windlass(&["hold", "group/held", "--for", "1h"]);
    assert!(hold.status.success(), "{}", text(&hold));
    let held = ["dd if=/dev/zero of=/builds/file bs=1M count=4", "exit 1"];
    let held = Job::new(&image).project(10, "group/held").script(&held);
    runner.play_to_be_held(&held).expect(State::script_failure(1));
    fill(0);
    let newer = Job::new(&image).project(9, "group/newer");
    runner.play(&newer).expect(State::Success).expect_log("Released failed jobs that were held");

    // Nothing is left that could go.
    fill(0);
    full.is_said();
    let outcome = runner.play(&newer);
    outcome.expect(State::system_failure());
    outcome.expect_log("No space left on device").expect_log(STATE).expect_log("windlass cache list");
    // An event is acknowledged or not as it could be stored or not: GitLab is not told that all is well.
    let pipeline = gitlab.pipeline(diamond.base, &json!({}));
    gitlab.bring(pipeline, "failed");
    gitlab.settle();
    let told = gitlab.deliveries().into_iter().filter(|delivery| delivery.pipeline == pipeline);
    let (stored, refused): (Vec<_>, Vec<_>) = told.partition(|delivery| delivery.response_status == Some(200));
    assert!(refused.iter().all(|delivery| delivery.response_status == Some(503)), "{refused:?}");
    let events = windlass.json(&["chain", "events"]);
    let known = events["events"].as_array().unwrap().iter().filter(|event| event["pipeline"] == pipeline).count();
    assert_eq!(known, stored.len(), "{events}");
    // Neither end of the daemon is one of the job.
    windlass.restart();
    windlass.crash();
    full.is_said();
    assert!(call.is_running());
    let told = windlass.in_job(&attempt.lease(), &["touch", "/builds/go"]);
    assert!(told.status.success(), "{}", text(&told));
    call.wait().expect_code(0).expect_text("started\nwhole");
    attempt.finish();
    nothing_is_left(&windlass);

    fs::remove_file(FILLER).unwrap();
    full.says_nothing();
    runner.play(&newer).expect(State::Success);
    // What was not told is found.
    windlass.windlass(&["chain", "sync"]);
    until("the chain knows of the pipeline", PATIENCE, || {
        let status = windlass.json(&["chain", "status"]);
        let projects = status["projects"].as_array().cloned().unwrap_or_default();
        projects.iter().any(|project| {
            project["path"] == "images/base" && project["words"].as_str().is_some_and(|words| words.contains("failed"))
        })
    });
    nothing_is_left(&windlass);
    assert!(!Path::new(FILLER).exists());
}

/// What is said of the disk.
struct Full<'a> {
    windlass: &'a Installed,
    /// The port of health.
    health: u16,
}

impl Full<'_> {
    /// The lanes of a project.
    fn kept(&self, project: &str) -> Vec<Value> {
        let lanes = self.windlass.json(&["cache", "list"]);
        let lanes = lanes.as_array().cloned().unwrap_or_default();
        lanes.into_iter().filter(|lane| lane["project_path"] == project).collect()
    }

    fn ready(&self) -> (u16, String) {
        let answer = client::ask(self.health, "GET", "/readyz", &[], b"");
        answer.map(|answer| (answer.status, answer.text())).unwrap_or_default()
    }

    fn doctor(&self) -> Value {
        let found = self.windlass.json(&["doctor", "--only", "disk"]);
        let findings = found["findings"].as_array().cloned().unwrap_or_default();
        findings.into_iter().find(|finding| finding["check"] == "disk-state").unwrap_or_else(|| panic!("{found}"))
    }

    /// The status line, `/readyz`, `windlass status` and doctor say that it is full, and of which directory.
    fn is_said(&self) {
        let line = || self.windlass.property("StatusText");
        until("the status line has it", PATIENCE, || line().contains(&format!("no space is left on {STATE}")));
        until("it is not ready", PATIENCE, || {
            let (status, words) = self.ready();
            status == 503 && words.contains(STATE) && words.contains("new jobs fail for want of space")
        });
        let warnings = self.windlass.status()["daemon"]["warnings"].to_string();
        assert!(warnings.contains(STATE) && warnings.contains("fail for want of space"), "{warnings}");
        let finding = self.doctor();
        assert!(finding["level"] == "error" && finding.to_string().contains("windlass cache list"), "{finding}");
    }

    /// None of them says anything.
    fn says_nothing(&self) {
        until("the status line has nothing", PATIENCE, || {
            let line = self.windlass.property("StatusText");
            !line.contains("space") && !line.contains("starting")
        });
        until("it is ready", PATIENCE, || self.ready() == (200, "ready\n".to_owned()));
        assert!(!self.windlass.status()["daemon"]["warnings"].to_string().contains("free on"));
        assert_eq!(self.doctor()["level"], "ok");
    }
}
