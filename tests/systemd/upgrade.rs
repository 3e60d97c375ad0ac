//! This release on what an older one has left, while its jobs run; and on what a later one has left, of which it destroys nothing.

mod older;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::boxed::in_a_box;
use crate::support::chain::Diamond;
use crate::support::gitlab::FakeGitlab;
use crate::support::installed::{Installed, PATIENCE, UNIT, install, run, text};
use crate::support::registry::free_port;
use crate::support::{Attempt, Call, Image, Job, Runner, State, until, value};
use crate::{SETTINGS, nothing_is_left};
use older::Older;

const LEASES: &str = "/run/windlass/leases";
const DATABASE: &str = "/var/lib/windlass/chain.db";

/// A stage that counts in the background until it is told to end.
const COUNTS: &str = "echo started\ncount() { n=0; until [ -e /builds/go ]; do echo \"line $n\"; n=$((n + 1)); sleep 0.05; done; \
                      echo \"whole: $n lines\"; }\ncount &\nwait\n";

#[test]
fn jobs_run_on_from_an_older_release_to_this_one_and_a_later_one_is_left_its_own() {
    in_a_box("upgrade::in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn in_the_box() {
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    let hooks = free_port();
    let settings = format!(
        "{SETTINGS}[gitlab]\nurl = '{}'\ntoken_file = '/etc/windlass/token'\n\
         [chain]\ngroups = ['images']\ninterval = '1h'\nsettle = '0s'\nwatch.enabled = false\n\
         [webhook]\nlisten = '127.0.0.1:{hooks}'\nurl = 'http://127.0.0.1:{hooks}/hooks/gitlab'\nverify_tls = false\n",
        gitlab.url()
    );
    let windlass = Installed::by(
        false,
        || {
            install(false, &[]);
            fs::create_dir_all("/etc/windlass").unwrap();
            fs::write("/etc/windlass/token", FakeGitlab::TOKEN).unwrap();
            run(Command::new("chmod").args(["0600", "/etc/windlass/token"]));
            run(Command::new("chown").args(["windlass:", "/etc/windlass/token"]));
        },
        &settings,
    );
    let image = windlass.image(&Image::busybox());
    let web = windlass.image(&Image::busybox().expose(8080).cmd(&["httpd", "-f", "-p", "8080", "-h", "/etc"]));
    let host = Host { windlass: &windlass, gitlab: &gitlab, image, web };
    host.rebuild(&diamond);
    for older in [Older::last(), Older::first()] {
        host.goes_on_from(&older);
    }
    host.leaves_a_later_release_its_own();
    nothing_is_left(&windlass);
}

/// The host, and what its jobs run in.
struct Host<'a> {
    windlass: &'a Installed,
    gitlab: &'a FakeGitlab,
    image: String,
    web: String,
}

/// A job in a stage.
struct Running<'a> {
    attempt: Attempt<'a>,
    call: Call<'a>,
}

impl Host<'_> {
    /// Has the chain rebuild something, so that its database has rows of all kinds.
    fn rebuild(&self, diamond: &Diamond) {
        until("the webhooks are there", PATIENCE, || self.gitlab.hooks(diamond.app).len() == 1);
        let base = self.gitlab.pipeline(diamond.base, &json!({}));
        self.gitlab.bring(base, "success");
        for project in [diamond.ruby, diamond.node, diamond.app] {
            let started = value("it is rebuilt", PATIENCE, || {
                let pipelines = self.gitlab.pipelines(project);
                pipelines
                    .iter()
                    .find(|pipeline| pipeline["source"] == "api")
                    .and_then(|pipeline| pipeline["id"].as_u64())
            });
            self.gitlab.bring(started, "success");
        }
        self.gitlab.settle();
        until("nothing is left to do", PATIENCE, || {
            let known = self.known_of_chain();
            let open = known["events"].as_array().unwrap().iter().any(|event| event["verdict"].is_null());
            !open && known["projects"].as_array().unwrap().iter().all(|project| project[1] == "fresh")
        });
    }

    /// What the chain has on record, but for what only a later release notes.
    fn known_of_chain(&self) -> Value {
        let of = |project: &Value| {
            ["path", "state", "since", "success", "success_at", "upstreams"].map(|key| project[key].clone())
        };
        let status = self.windlass.json(&["chain", "status"]);
        let projects: Vec<_> = status["projects"].as_array().into_iter().flatten().map(of).collect();
        let noted = self.windlass.json(&["chain", "events", "--count", "1000"]);
        json!({"projects": projects, "events": noted["events"], "starts": noted["starts"]})
    }

    /// How many pipelines the chain has asked for.
    fn asked_for(&self) -> usize {
        self.gitlab.requests_to("POST", "*/pipeline").len()
    }

    fn begin<'r>(&self, runner: &'r Runner<'r>, job: &Job) -> Running<'r> {
        let mut attempt = runner.attempt(job);
        attempt.configure().expect_code(0);
        attempt.prepare().wait_for(PATIENCE).expect_code(0);
        attempt.run("get_sources").wait().expect_code(0);
        let call = attempt.run_lines("build_script", COUNTS);
        call.wait_for_output("line 3\n");
        Running { attempt, call }
    }

    /// Lets a job come to its end: no line of it is lost, its stages come after, and it is on record as what it was.
    fn end(&self, job: Running<'_>) {
        let Running { mut attempt, call } = job;
        let told = self.windlass.in_job(&attempt.lease(), &["touch", "/builds/go"]);
        assert!(told.status.success(), "{}", text(&told));
        let finished = call.wait();
        finished.expect_code(0);
        let printed = finished.text();
        let lines: Vec<&str> = printed.lines().filter(|line| line.starts_with("line ")).collect();
        let all: Vec<String> = (0..lines.len()).map(|number| format!("line {number}")).collect();
        assert_eq!(lines, all);
        finished.expect_text(&format!("whole: {} lines", lines.len()));
        attempt.run_lines("after_script", "echo after\n").wait().expect_code(0).expect_text("after");
        attempt.run("cleanup_file_variables").wait().expect_code(0);
        let id = attempt.job.id;
        attempt.finish();
        until("it is on record", PATIENCE, || self.jobs().contains(&(id, "success".to_owned())));
    }

    /// Jobs on record, and how they ended.
    fn jobs(&self) -> Vec<(u64, String)> {
        let jobs = self.windlass.json(&["jobs"]);
        let of = |job: &Value| (job["job_id"].as_u64().unwrap(), job["outcome"].as_str().unwrap().to_owned());
        jobs.as_array().unwrap().iter().map(of).collect()
    }

    /// The lanes and who holds them.
    fn lanes(&self) -> Vec<(String, Value)> {
        let lanes = self.windlass.json(&["cache", "list"]);
        let of = |lane: &Value| (format!("{}/{}", lane["project_path"], lane["lane"]), lane["jobs"].clone());
        let mut lanes: Vec<_> = lanes.as_array().unwrap().iter().map(of).collect();
        lanes.sort_by(|one, other| one.0.cmp(&other.0));
        lanes
    }

    fn states(&self) -> Vec<Value> {
        let status = self.windlass.status();
        let mut states: Vec<Value> =
            status["leases"].as_array().unwrap().iter().map(|lease| lease["state"].clone()).collect();
        states.sort_by_key(Value::to_string);
        states
    }

    /// Stops it for good: its socket would start it for the next call, and each running stage calls.
    fn stop(&self) {
        self.windlass.systemctl(&["stop", "windlass.socket", UNIT]);
        assert_eq!(self.windlass.pid(), None);
    }

    fn start(&self) {
        self.windlass.systemctl(&["start", "windlass.socket", UNIT]);
    }

    fn goes_on_from(&self, older: &Older) {
        let windlass = self.windlass;
        windlass.configure("60-lanes.toml", &format!("[lanes]\nscope = '{}'\n", older.scope()));
        windlass.restart();
        let runner = Runner::on(windlass);
        let held = older.knows_holds().then(|| self.hold_a_job(&runner));
        let services = json!([{"name": self.web, "alias": "web"}]);
        let alone = self.begin(&runner, &Job::new(&self.image).project(8, "group/alone"));
        let served = Job::new(&self.image).project(9, "group/served").profile("connected").with("services", services);
        let served = self.begin(&runner, &served);
        let before = (self.known_of_chain(), self.jobs(), self.lanes(), self.states());
        let asked_for = self.asked_for();
        assert!(asked_for >= 3);

        self.stop();
        older.turn_back();
        self.start();
        let all_is_there = || {
            assert!(alone.call.is_running() && served.call.is_running());
            until("the jobs are where they were", PATIENCE, || self.states() == before.3);
            let busy = || windlass.property("StatusText").starts_with("2/10 slots busy");
            until("both slots are busy", PATIENCE, busy);
            assert_eq!(
                (self.known_of_chain(), self.jobs(), self.lanes()),
                (before.0.clone(), before.1.clone(), before.2.clone())
            );
            if let Some(job) = held {
                let inside = windlass.windlass(&["shell", &job.to_string(), "--", "cat", "/builds/left-behind"]);
                assert!(inside.status.success() && text(&inside).contains("kept"), "{}", text(&inside));
            }
        };
        all_is_there();
        windlass.restart();
        all_is_there();
        windlass.windlass(&["chain", "sync"]);
        assert_eq!(self.asked_for(), asked_for, "nothing is built once more");

        self.end(alone);
        self.end(served);
        if let Some(job) = held {
            assert!(windlass.windlass(&["release", &job.to_string()]).status.success());
        }
        nothing_is_left(windlass);
        let outcome = runner.play(&Job::new(&self.image).script(&["echo hello"]));
        outcome.expect(State::Success).expect_log("hello");
    }

    /// Has a job fail that somebody wants to look at; and somebody waits for another.
    fn hold_a_job(&self, runner: &Runner<'_>) -> u64 {
        for project in ["group/held", "group/never"] {
            let said = self.windlass.windlass(&["hold", project, "--for", "1h"]);
            assert!(said.status.success(), "{}", text(&said));
        }
        let job =
            Job::new(&self.image).project(10, "group/held").script(&["echo kept >/builds/left-behind", "(exit 3)"]);
        runner.play_to_be_held(&job).expect(State::script_failure(3));
        until("it is held", PATIENCE, || self.states() == ["held"]);
        job.id
    }

    fn leaves_a_later_release_its_own(&self) {
        let runner = Runner::on(self.windlass);
        let running = self.begin(&runner, &Job::new(&self.image));
        let lease: PathBuf = Path::new(LEASES).join(running.attempt.lease()).join("lease.json");
        self.stop();
        let record = fs::read(&lease).unwrap();
        let mut later: Value = serde_json::from_slice(&record).unwrap();
        later["version"] = json!(2);
        later["slot"] = json!(["of", "another", "kind"]);
        fs::write(&lease, later.to_string()).unwrap();
        self.is_refused("1 lease(s) in /run/windlass/leases were written by a later release", &lease);
        // In this order: systemd starts it again and again.
        older::add_a_migration();
        fs::write(&lease, &record).unwrap();
        let before = fs::read(DATABASE).unwrap();
        until("it serves again by itself", PATIENCE, || self.windlass.property("ActiveState") == "active");
        self.start();
        let warnings = self.windlass.status()["daemon"]["warnings"].to_string();
        let said = ["the image chain does not run", "chain.db was written by a later release"];
        assert!(said.iter().all(|words| warnings.contains(words)), "{warnings}");
        assert_eq!(fs::read(DATABASE).unwrap(), before, "it has changed");
        assert!(running.call.is_running() && lease.exists());
        self.stop();
        older::remove_the_migration();
        // The right release is there again.
        self.start();
        until("the chain runs", PATIENCE, || self.windlass.windlass(&["chain", "status"]).status.success());
        self.end(running);
    }

    /// Tries to start with this file of a later release: it does not, says so, and leaves the file as it is.
    fn is_refused(&self, words: &str, file: &Path) {
        let before = fs::read(file).unwrap();
        let _ = Command::new("systemctl").args(["start", "--no-block", UNIT]).status();
        until("it is said", PATIENCE, || self.windlass.journal(&[]).contains(words));
        assert_ne!(self.windlass.property("ActiveState"), "active");
        assert_eq!(fs::read(file).unwrap(), before, "{} has changed", file.display());
    }
}
