//! The whole story once, in a box (scripts/box.sh): a base image moves in its registry; the chain has what builds on it built again, base, then ruby,
//! then app, by jobs that this executor runs and that build and push real images; and the service that runs app is restarted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::boxed::in_a_box;
use support::chain::{TOKEN, write_secret};
use support::chain_alone::FEED_TOKEN;
use support::gitlab::FakeGitlab;
use support::installed::{Installed, PATIENCE};
use support::registry::free_port;
use support::updater::{Does, Updater};
use support::{Image, Job, Runner, State, until};

#[test]
fn a_base_image_that_moved_ends_in_a_restarted_service_that_runs_on_it() {
    in_a_box("story_in_the_box");
}

/// How long the whole of it may take: three builds, each in a container of its own.
const WHOLE: Duration = Duration::from_secs(240);

/// A project of the chain.
struct Project {
    id: u64,
    name: &'static str,
    containerfile: String,
}

/// GitLab with its projects, and gitlab-runner with its jobs.
struct Story<'a> {
    gitlab: FakeGitlab,
    projects: Vec<Project>,
    /// The image that jobs run in.
    builder: String,
    registry: String,
    windlass: &'a Installed,
}

impl Story<'_> {
    /// The job of a project: the one of docs/jobs.md, with a registry that has no TLS.
    fn job(&self, project: &Project) -> Job {
        let (registry, name) = (&self.registry, project.name);
        let write: Vec<String> =
            project.containerfile.lines().map(|line| format!("printf '%s\\n' '{line}' >>Containerfile")).collect();
        let mut lines = vec!["mkdir -p /tmp/context && cd /tmp/context"];
        lines.extend(write.iter().map(String::as_str));
        lines.extend([
            "buildah bud --tls-verify=false --pull=always --no-cache -t \"$CI_REGISTRY_IMAGE:latest\" .",
            "buildah push --tls-verify=false \"$CI_REGISTRY_IMAGE:latest\"",
        ]);
        Job::new(&self.builder)
            .project(project.id, &format!("images/{name}"))
            .variable("CI_REGISTRY", registry)
            .variable("CI_REGISTRY_IMAGE", &format!("{registry}/images/{name}"))
            .script(&lines)
    }

    /// Runs the job of a project, as gitlab-runner would.
    fn build(&self, project: &Project) {
        Runner::on(self.windlass).play(&self.job(project)).expect(State::Success);
    }

    /// Runs the jobs of pipelines that wait for a runner, until so many have succeeded; the names of their projects.
    fn run_pipelines(&self, count: usize) -> Vec<&'static str> {
        let (since, mut done) = (Instant::now(), Vec::new());
        while done.len() < count {
            assert!(since.elapsed() < WHOLE, "only {done:?} after {WHOLE:?}: {}", self.windlass.journal(&[]));
            for project in &self.projects {
                let pipelines = self.gitlab.pipelines(project.id);
                let waits = pipelines
                    .iter()
                    .find(|pipeline| pipeline["status"] == "created" || pipeline["status"] == "pending");
                let Some(id) = waits.and_then(|pipeline| pipeline["id"].as_u64()) else { continue };
                self.gitlab.bring(id, "running");
                self.build(project);
                self.gitlab.bring(id, "success");
                done.push(project.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        done
    }
}

/// The layers of an image on this host, the lowest first.
fn layers(host: &Updater, image: &str) -> Vec<String> {
    let text = host.podman(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", image]);
    serde_json::from_str(&text).unwrap()
}

#[test]
#[ignore = "runs in a box"]
fn story_in_the_box() {
    let Some(host) = Updater::new(false) else { return };
    let windlass = Installed::new(
        true,
        "slots = 2\npurge = { min_free = '0%', min_free_inodes = 0 }\n[job]\nnetwork = \"host\"\npull_policy = \"if-not-present\"\n[gitlab]\nverify_jobs = false\n",
    );
    let registry = format!("127.0.0.1:{}", host.registry.port);
    let upstream = host.registry.image("upstream/debian:stable");
    host.push(&upstream, Does::Well, 0);

    // A registry with what the projects have built so far, by their own jobs.
    let gitlab = FakeGitlab::start();
    gitlab.settings(&json!({"registry": registry}));
    gitlab.token(&json!({"token": TOKEN}));
    let from = |name: &'static str, base: &str, more: &str| {
        let containerfile = format!("FROM {base}\nRUN [\"/bin/sh\", \"-c\", \"echo {name} >/{name}\"]\n{more}");
        let id = gitlab.project(&format!("images/{name}"), &[("Containerfile", &containerfile)]);
        Project { id, name, containerfile }
    };
    let run = "CMD [\"/bin/sh\", \"-c\", \"trap exit TERM; while :; do sleep 0.1; done\"]\n";
    let projects = vec![
        // Not in the order of the chain.
        from("app", &format!("{registry}/images/ruby:latest"), run),
        from("base", &upstream, ""),
        from("ruby", &format!("{registry}/images/base:latest"), ""),
    ];
    let story = Story { gitlab, projects, builder: windlass.image(&Image::buildah()), registry, windlass: &windlass };
    for name in ["base", "ruby", "app"] {
        let project = story.projects.iter().find(|project| project.name == name).unwrap();
        story.build(project);
        let times = json!({"to": "success", "quiet": true, "created_at": "2026-11-01T15:20:00.000Z", "finished_at": "2026-11-01T15:26:29.000Z"});
        story.gitlab.pipeline(project.id, &times);
    }

    // The chain, and a host's service that runs what it builds.
    let (hooks, feed) = (free_port(), free_port());
    for (name, text) in [("gitlab-token", TOKEN), ("feed-token", FEED_TOKEN)] {
        write_secret(PathBuf::from("/etc/windlass").join(name), text);
    }
    windlass.configure(
        "60-chain.toml",
        &format!(
            "[gitlab]\nurl = \"{}\"\ntoken_file = \"/etc/windlass/gitlab-token\"\n\
             [chain]\ngroups = [\"images\"]\ninterval = \"1h\"\nsettle = \"0s\"\n[chain.watch]\nevery = \"1s\"\n\
             [webhook]\nlisten = \"127.0.0.1:{hooks}\"\nurl = \"http://127.0.0.1:{hooks}/hooks/gitlab\"\nverify_tls = false\n\
             [feed]\nlisten = \"127.0.0.1:{feed}\"\ntoken_file = \"/etc/windlass/feed-token\"\n",
            story.gitlab.url()
        ),
    );
    windlass.restart();
    let app = host.registry.image("images/app:latest");
    host.service("web", &app, "--label io.containers.autoupdate=registry");
    let token = host.secret("feed-token", FEED_TOKEN);
    host.configure(&format!("feed = \"http://127.0.0.1:{feed}/feed\"\nfeed_token_file = \"{}\"\n", token.display()));
    host.start("windlass-update-watch.service");
    let chain = || -> Value {
        let output = windlass.windlass(&["chain", "status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let state = |name: &str| {
        let status = chain();
        let projects = status["projects"].as_array().cloned().unwrap_or_default();
        projects.into_iter().find(|project| project["path"] == format!("images/{name}")).unwrap_or_default()
    };
    until("the chain knows all", PATIENCE, || {
        ["base", "ruby", "app"].iter().all(|name| state(name)["state"] == "fresh")
    });
    until("the base is known", PATIENCE, || {
        String::from_utf8_lossy(&windlass.windlass(&["chain", "audit"]).stdout).contains("upstream/debian:stable")
            && !String::from_utf8_lossy(&windlass.windlass(&["chain", "audit"]).stdout).contains("not looked up yet")
    });
    until("the host listens", PATIENCE, || {
        host.property("windlass-update-watch.service", "StatusText").contains("1 units, 0 updated")
    });
    let before = host.container("web");

    // The base moves. Nobody does anything.
    host.push(&upstream, Does::Well, 0);
    let moved = Instant::now();
    assert_eq!(story.run_pipelines(3), ["base", "ruby", "app"], "each once, in their order");
    let built = Instant::now();
    until("the service runs another image", PATIENCE, || {
        host.try_container("web").is_some_and(|(_, image)| image != before.1)
    });
    eprintln!(
        "from the move to the last pipeline's success: {:?}; from that to the restarted service: {:?}",
        built - moved,
        built.elapsed()
    );
    host.podman(&["pull", "--quiet", &upstream]);
    let base = layers(&host, &upstream);
    let runs = layers(&host, &host.container("web").1);
    assert!(runs.len() > base.len() && runs.starts_with(&base), "{runs:?} is not built on {base:?}");
    assert!(!layers(&host, &before.1).starts_with(&base), "what ran before was not");
    let own = host.podman(&["exec", "web", "cat", "/base", "/ruby", "/app"]);
    assert_eq!(own.split_whitespace().collect::<Vec<_>>(), ["base", "ruby", "app"]);

    // All is told as it was.
    until("the chain is fresh", PATIENCE, || {
        ["base", "ruby", "app"].iter().all(|name| state(name)["state"] == "fresh")
    });
    for project in &story.projects {
        assert_eq!(story.gitlab.pipelines(project.id).len(), 2, "images/{} was built once", project.name);
    }
    until("each is known to be built on the new base", PATIENCE, || {
        ["base", "ruby", "app"].iter().all(|name| state(name)["base"]["state"] == "new")
    });
    until("the update is on record", PATIENCE, || {
        let history = host.json(&["history", "web.service"]).1;
        history.as_array().is_some_and(|reports| reports.last().is_some_and(|report| report["outcome"] == "updated"))
    });
    let jobs: Value = serde_json::from_slice(&windlass.windlass(&["jobs", "--json"]).stdout).unwrap();
    let jobs = jobs["jobs"].as_array().or(jobs.as_array()).unwrap().len();
    assert_eq!(jobs, 6, "each project's image was built twice, by a job");
    host.stop(&["windlass-update-watch.service", "web.service"]);
}
