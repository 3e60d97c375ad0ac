//! A kept clone under a real gitlab-runner (17.9 or newer), where one is on PATH: every strategy, submodules, large files, other users, and
//! what killed jobs leave.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use sha2::{Digest, Sha256};
use support::coordinator::{Coordinator, Entry, GitlabRunner, Known};
use support::git::{GitDaemon, git, serve};
use support::http::{Response, Server};
use support::job::Repository;
use support::wait::seconds;
use support::{Host, Image, Job, lanes, until};

const ENTRY: Entry = Entry { name: "test", token: "glrt-test-token-1", profile: None };

/// Says whether the clone was there before, and makes it known.
const LOOK: &str =
    "[ -e .git/seen ] && echo the clone is kept || echo the clone is new; [ -d .git ] && touch .git/seen; true";

/// A host, GitLab and a repository with a submodule.
struct World {
    /// Ends before the host looks for what is left.
    _daemon: GitDaemon,
    coordinator: Coordinator,
    host: Host,
    url: String,
    work: PathBuf,
}

impl World {
    fn new(toml: &str) -> Self {
        let (host, coordinator) = (Host::configured(&format!("[job]\nnetwork = 'host'\n{toml}")), Coordinator::start());
        let served = host.dir().join("git/group");
        fs::create_dir_all(&served).unwrap();
        let publish = |name: &str| {
            let work = host.dir().join(name);
            fs::create_dir(&work).unwrap();
            git(&work, &["init", "--quiet"]);
            fs::write(work.join("file"), format!("of {name}\n")).unwrap();
            git(&work, &["add", "file"]);
            git(&work, &["commit", "--quiet", "--message=first"]);
            let bare = served.join(format!("{name}.git"));
            git(host.dir(), &["clone", "--quiet", "--bare", work.to_str().unwrap(), bare.to_str().unwrap()]);
            git(&work, &["remote", "add", "origin", bare.to_str().unwrap()]);
            work
        };
        publish("library");
        let work = publish("project");
        let (daemon, port) = serve(&host.dir().join("git"));
        let url = format!("git://127.0.0.1:{port}/group");
        git(
            &work,
            &[
                "-c",
                "protocol.file.allow=always",
                "submodule",
                "--quiet",
                "add",
                &format!("{url}/library.git"),
                "library",
            ],
        );
        git(&work, &["config", "--file", ".gitmodules", "submodule.library.url", "../library.git"]);
        let world = Self { host, coordinator, _daemon: daemon, url: format!("{url}/project.git"), work };
        world.commit();
        world
    }

    /// Commits all that was changed and publishes it.
    fn commit(&self) -> Repository {
        git(&self.work, &["add", "--all"]);
        git(&self.work, &["commit", "--quiet", "--allow-empty", "--message=next"]);
        git(&self.work, &["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
        Repository { url: self.url.clone(), sha: git(&self.work, &["rev-parse", "HEAD"]) }
    }

    /// A job of what is published now.
    fn job(&self, image: &Image, strategy: &str) -> Job {
        let mut job = Job::new(&self.host.image(image)).script(&[LOOK]);
        job.repository = Some(Repository { url: self.url.clone(), sha: git(&self.work, &["rev-parse", "HEAD"]) });
        job.variable("GIT_STRATEGY", strategy).with("allow_git_fetch", json!(true))
    }

    /// Runs jobs, one after the other.
    fn run(&self, jobs: &[Job]) -> Vec<Known> {
        for job in jobs {
            self.coordinator.queue(ENTRY.token, job);
        }
        let count = u32::try_from(jobs.len()).unwrap();
        let mut runner = GitlabRunner::start(&self.host, &self.coordinator, &[ENTRY], "test", count);
        let done: Vec<Known> = jobs.iter().map(|job| self.coordinator.wait_for(job.id)).collect();
        runner.wait();
        for job in jobs {
            until("the lease is gone", seconds(20), || self.host.lease_of_job(job.id).is_none());
        }
        done
    }

    /// Runs one that has to succeed; returns its log.
    fn green(&self, job: Job) -> String {
        let done = self.run(&[job]).pop().unwrap();
        assert_eq!(done.result().unwrap()["state"], "success", "{}", done.log());
        done.log()
    }
}

fn has(log: &str, texts: &[&str]) {
    for text in texts {
        assert!(log.contains(text), "the log lacks {text:?}:\n{log}");
    }
}

#[test]
fn every_strategy_works_on_a_kept_clone() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let world = World::new("");
    let image = Image::git();
    has(&world.green(world.job(&image, "fetch")), &["the clone is new"]);
    // What a job left in the work tree is gone, what is new is there, and the clone is the same.
    let dirty = world
        .job(&image, "fetch")
        .script(&[LOOK, "echo left >untracked; echo changed >file; mkdir deep; echo x >deep/y"]);
    has(&world.green(dirty), &["the clone is kept"]);
    fs::write(world.work.join("more"), "more\n").unwrap();
    world.commit();
    let next = world.job(&image, "fetch").script(&[LOOK, "cat file more", "ls -A | tr '\\n' ' '"]);
    has(&world.green(next), &["the clone is kept", "of project", "\nmore\n", ".git .gitmodules file library more "]);
    let none = world.job(&image, "none").script(&[LOOK, "echo none >from-none"]);
    has(&world.green(none), &["the clone is kept"]);
    has(&world.green(world.job(&image, "none").script(&["cat from-none"])), &["\nnone\n"]);
    has(&world.green(world.job(&image, "clone")), &["the clone is new"]);
    let empty = world.job(&image, "empty").script(&["pwd", "ls -A | wc -l", "echo x >file"]);
    has(&world.green(empty.clone()), &["-empty", "\n0\n"]);
    has(&world.green(Job { id: empty.id + 500, ..empty }), &["\n0\n"]);
    let elsewhere = || {
        world.job(&image, "fetch").variable("GIT_CLONE_PATH", "/builds/elsewhere/deep").script(&[LOOK, "pwd; cat file"])
    };
    has(&world.green(elsewhere()), &["the clone is new", "/builds/elsewhere/deep", "of project"]);
    has(&world.green(elsewhere()), &["the clone is kept"]);
    let secrets = lanes::home_of(&world.host).join("builds-0/files");
    assert!(secrets.join("elsewhere/deep/file").exists());
    assert!(!secrets.join("elsewhere/deep.tmp").exists() && !secrets.join("group/project.tmp").exists());
}

#[test]
fn submodules_are_kept_too() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let world = World::new("");
    let job = || {
        world.job(&Image::git(), "fetch").variable("GIT_SUBMODULE_STRATEGY", "recursive").script(&[
            LOOK,
            "cat library/file",
            "[ -e .git/modules/library/seen ] && echo the submodule is kept; touch .git/modules/library/seen",
            // As a git that is killed leaves it.
            "touch .git/modules/library/index.lock .git/modules/library/config.lock .git/index.lock",
        ])
    };
    has(&world.green(job()), &["the clone is new", "of library"]);
    has(&world.green(job()), &["the clone is kept", "of library", "the submodule is kept"]);
}

#[test]
fn large_files_are_kept_too() {
    if !GitlabRunner::is_installed() || !support::storage::on_path("git-lfs") {
        return eprintln!("SKIPPED: it takes gitlab-runner and git-lfs");
    }
    // A server of large files, which counts what is fetched.
    let content = b"a large file\n".to_vec();
    let id: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let fetched = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = Server::start({
        let (content, id, fetched) = (content.clone(), id.clone(), fetched.clone());
        move |request| match request.path.as_str() {
            "/lfs/objects/batch" => {
                let href = format!("http://{}/object", request.header("host"));
                Response::json(
                    200,
                    &json!({"transfer": "basic", "objects": [{"oid": id, "size": content.len(),
                    "actions": {"download": {"href": href}}}]}),
                )
                .with("Content-Type", "application/vnd.git-lfs+json")
            }
            "/object" => {
                fetched.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Response::bytes(200, content.clone())
            }
            _ => Response::empty(404),
        }
    });
    let world = World::new("");
    fs::write(world.work.join(".lfsconfig"), format!("[lfs]\n\turl = http://127.0.0.1:{}/lfs\n", server.port)).unwrap();
    fs::write(world.work.join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n").unwrap();
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize {}\n", content.len());
    fs::write(world.work.join("large.bin"), pointer).unwrap();
    world.commit();
    let job = || world.job(&Image::git(), "fetch").script(&[LOOK, "cat large.bin"]);
    has(&world.green(job()), &["the clone is new", "\na large file\n"]);
    has(&world.green(job()), &["the clone is kept", "\na large file\n"]);
    assert_eq!(fetched.load(std::sync::atomic::Ordering::Relaxed), 1, "the second job fetched it again");
}

#[test]
fn another_user_works_on_the_same_clone() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let world = World::new("");
    let script = [LOOK, "git status --short", "id -u", "mkdir -p closed; echo x >closed/file; chmod 700 closed"];
    for (user, first) in [("1234", true), ("0", false), ("app", false), ("33", false)] {
        let log = world.green(world.job(&Image::git().user(user), "fetch").script(&script));
        has(&log, &[if first { "the clone is new" } else { "the clone is kept" }]);
        assert!(!log.contains("dubious") && !log.contains("Permission denied"), "{log}");
    }
}

#[test]
fn another_user_works_on_what_the_helper_cloned() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let host = Host::start();
    let helper = host.image(&Image::git());
    drop(host);
    let world = World::new(&format!("[job.helper]\nmode = 'image'\nimage = '{helper}'"));
    let script = [
        LOOK,
        "git status --short",
        "echo changed >file",
        "git stash --quiet || git stash",
        "mkdir -p closed; echo x >closed/file; chmod 700 closed",
    ];
    for (user, first) in [("1234", true), ("33", false), ("0", false), ("app", false)] {
        let image = Image::git().user(user).env("GIT_AUTHOR_NAME=x").env("GIT_AUTHOR_EMAIL=x@example.com");
        let image = image.env("GIT_COMMITTER_NAME=x").env("GIT_COMMITTER_EMAIL=x@example.com");
        let log = world.green(world.job(&image, "fetch").script(&script));
        has(&log, &[if first { "the clone is new" } else { "the clone is kept" }]);
        assert!(!log.contains("dubious") && !log.contains("Permission denied"), "{log}");
    }
}

#[test]
fn a_job_that_is_killed_fails_not_the_next() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let world = World::new("");
    let image = Image::git();
    world.green(world.job(&image, "fetch"));
    let project = lanes::home_of(&world.host).join("builds-0/files/group/project");
    // Every lock that git takes, a pack that was being written, and a runner that is gone.
    let broken = world.job(&image, "fetch").script(&[
        "touch .git/index.lock .git/HEAD.lock .git/config.lock .git/shallow.lock .git/packed-refs.lock",
        "touch .git/refs/remotes/origin/main.lock .git/objects/pack/tmp_pack_x .git/gc.pid .git/logs/HEAD.lock",
        "mkdir -p .git/objects/info && touch .git/objects/info/commit-graph.lock",
        "echo begun; sleep 1000",
    ]);
    world.coordinator.queue(ENTRY.token, &broken);
    let mut runner = GitlabRunner::start(&world.host, &world.coordinator, &[ENTRY], "test", 1);
    until("the job has broken it", seconds(60), || project.join(".git/objects/info/commit-graph.lock").exists());
    runner.kill();
    until("the lease is gone", seconds(20), || world.host.lease_of_job(broken.id).is_none());
    has(&world.green(world.job(&image, "fetch").script(&[LOOK, "cat file"])), &["the clone is kept", "of project"]);
    // Half a clone: killed while it was made.
    for half in
        ["rm -rf .git/HEAD .git/refs .git/index", "rm -rf .git/objects/* .git/HEAD", ": >.git/config; rm .git/HEAD"]
    {
        let done = world.run(&[world.job(&image, "fetch").script(&[half])]);
        assert_eq!(done[0].result().unwrap()["state"], "success", "{}", done[0].log());
        let jobs: Vec<Job> = (0..3).map(|_| world.job(&image, "fetch").script(&[LOOK, "cat file"])).collect();
        let states: Vec<bool> =
            world.run(&jobs).iter().map(|done| done.result().unwrap()["state"] == "success").collect();
        assert_eq!(states, [true, true, true], "after `{half}`");
    }
}
