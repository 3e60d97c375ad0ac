//! GitLab as far as gitlab-runner sees it, and a real gitlab-runner that takes jobs from it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::host::Host;
use super::http::{Request, Response, Server};
use super::job::Job;
use super::storage::on_path;
use super::wait::{seconds, value};

/// What GitLab knows of a job.
#[derive(Debug, Default, Clone)]
pub struct Known {
    /// The job log.
    pub trace: Vec<u8>,
    /// All updates of its state.
    pub updates: Vec<Value>,
    /// It is canceled as soon as its log contains this.
    cancel_when: Option<String>,
}

impl Known {
    /// The log as text.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.trace).into_owned()
    }

    /// The update that ended it.
    pub fn result(&self) -> Option<&Value> {
        self.updates.iter().find(|update| update["state"] == "success" || update["state"] == "failed")
    }

    /// Whether GitLab wants it to end.
    fn canceling(&self) -> bool {
        self.result().is_none() && self.cancel_when.as_ref().is_some_and(|text| self.log().contains(text))
    }
}

#[derive(Default)]
struct Gitlab {
    /// Jobs that wait, by the token of the runner that is to get them.
    queues: BTreeMap<String, VecDeque<Job>>,
    jobs: BTreeMap<u64, Known>,
    requests: Vec<Request>,
    /// What `GET /job` answers, by the job's token.
    tokens: BTreeMap<String, Value>,
    /// How often it answers 503 before anything else.
    failures: u32,
}

/// A fake GitLab on loopback.
pub struct Coordinator {
    gitlab: Arc<Mutex<Gitlab>>,
    server: Server,
}

impl Coordinator {
    /// Starts one without jobs.
    pub fn start() -> Self {
        let gitlab = Arc::new(Mutex::new(Gitlab::default()));
        let server = Server::start({
            let gitlab = gitlab.clone();
            move |request| lock(&gitlab).answer(request)
        });
        Self { gitlab, server }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    /// Queues a job for the runner with this token.
    pub fn queue(&self, token: &str, job: &Job) {
        let mut gitlab = lock(&self.gitlab);
        gitlab.jobs.insert(job.id, Known { cancel_when: job.cancel_when.clone(), ..Known::default() });
        gitlab.tokens.insert(job.token(), about(job));
        gitlab.queues.entry(token.into()).or_default().push_back(job.clone());
    }

    /// Lets it know a running job that another runner has.
    pub fn runs(&self, job: &Job) {
        lock(&self.gitlab).tokens.insert(job.token(), about(job));
    }

    /// Lets it answer the next requests with 503.
    pub fn fail_next(&self, requests: u32) {
        lock(&self.gitlab).failures = requests;
    }

    /// What it knows of a job.
    pub fn job(&self, id: u64) -> Known {
        lock(&self.gitlab).jobs[&id].clone()
    }

    /// Waits until a job has ended and its log is complete.
    pub fn wait_for(&self, id: u64) -> Known {
        value(&format!("job {id} ends; so far {:?}", self.job(id).log()), seconds(120), || {
            Some(self.job(id)).filter(|job| job.result().is_some())
        })
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.gitlab).requests.clone()
    }
}

/// A job as the API shows it to its own token.
fn about(job: &Job) -> Value {
    json!({
        "id": job.id, "status": "running", "name": "test", "ref": "main",
        "web_url": format!("https://gitlab.example.com/{}/-/jobs/{}", job.project_path, job.id),
        "pipeline": {"id": 1, "project_id": job.project, "ref": "main", "status": "running"}
    })
}

fn lock(gitlab: &Mutex<Gitlab>) -> MutexGuard<'_, Gitlab> {
    gitlab.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Gitlab {
    fn answer(&mut self, request: &Request) -> Response {
        self.requests.push(request.clone());
        if self.failures > 0 {
            self.failures -= 1;
            return Response::empty(503);
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.trim_start_matches("/api/v4/").split('/').collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["job"]) => match self.tokens.get(request.header("job-token")) {
                Some(job) => Response::json(200, job),
                None => Response::json(401, &json!({"message": "401 Unauthorized"})),
            },
            ("POST", ["jobs", "request"]) => self.next_job(request),
            ("POST", ["runners", "verify"]) => {
                Response::json(200, &json!({"id": 1, "token": request.json()["token"], "token_expires_at": null}))
            }
            (method, ["jobs", id, rest @ ..]) => match id.parse().ok().and_then(|id| self.jobs.get_mut(&id)) {
                Some(job) => update(job, method, rest, request),
                None => Response::empty(404),
            },
            _ => Response::empty(404),
        }
    }

    fn next_job(&mut self, request: &Request) -> Response {
        let token = request.json()["token"].as_str().unwrap_or_default().to_owned();
        match self.queues.get_mut(&token).and_then(VecDeque::pop_front) {
            Some(job) => Response::json(201, &job.response()),
            None => Response::empty(204).with("X-GitLab-Last-Update", "1"),
        }
    }
}

fn update(job: &mut Known, method: &str, rest: &[&str], request: &Request) -> Response {
    let response = match (method, rest) {
        ("PUT", []) => {
            job.updates.push(request.json());
            Response::empty(200)
        }
        ("PATCH", ["trace"]) => {
            let begin = request.header("content-range").split('-').next().and_then(|begin| begin.parse::<usize>().ok());
            if begin != Some(job.trace.len()) {
                return Response::empty(416).with("Range", format!("0-{}", job.trace.len()));
            }
            job.trace.extend_from_slice(&request.body);
            Response::empty(202)
                .with("Range", format!("0-{}", job.trace.len()))
                .with("X-GitLab-Trace-Update-Interval", "1")
        }
        ("POST", ["artifacts"]) => Response::json(201, &json!({})),
        _ => Response::empty(404),
    };
    response.with("Job-Status", if job.canceling() { "canceling" } else { "running" })
}

/// A real gitlab-runner that works for a [`Coordinator`], one job after the other.
pub struct GitlabRunner {
    child: Child,
    dir: TempDir,
}

/// One `[[runners]]` entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Its token, by which GitLab knows it.
    pub token: &'static str,
    /// Its `--profile`.
    pub profile: Option<&'static str>,
}

impl GitlabRunner {
    /// Whether there is one; says so if not.
    pub fn is_installed() -> bool {
        let installed = on_path("gitlab-runner");
        if !installed {
            eprintln!("SKIPPED: no gitlab-runner on PATH");
        }
        installed
    }

    /// Starts one with these entries; the first that is named `take` gets `jobs` jobs, then it ends.
    pub fn start(host: &Host, coordinator: &Coordinator, entries: &[Entry], take: &str, jobs: u32) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("glr-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(host.dir())
            .unwrap();
        let mut config = "concurrent = 4\ncheck_interval = 1\n".to_owned();
        for entry in entries {
            config += &runner_entry(host, coordinator, entry);
        }
        let file = dir.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let child = host
            .account
            .command(&PathBuf::from("gitlab-runner"))
            .args([
                "--debug",
                "run-single",
                "--runner",
                take,
                "--max-builds",
                &jobs.to_string(),
                "--wait-timeout",
                "60",
                "--config",
            ])
            .arg(&file)
            .env("TMPDIR", dir.path())
            .env("HOME", dir.path())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Waits until it has done its jobs.
    pub fn wait(&mut self) {
        value("gitlab-runner has done its jobs", seconds(120), || self.child.try_wait().unwrap());
    }

    /// Kills it with -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for GitlabRunner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of gitlab-runner\n{}----", self.log());
        }
        let _ = kill(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn runner_entry(host: &Host, coordinator: &Coordinator, entry: &Entry) -> String {
    let socket = host.socket().display().to_string();
    let mut arguments = vec!["--socket".to_owned(), socket.clone()];
    arguments.extend(entry.profile.iter().flat_map(|profile| ["--profile".to_owned(), (*profile).to_owned()]));
    let shim = |name| host.programs.shim(name).display().to_string();
    let rest = ["--socket".to_owned(), socket];
    format!(
        "[[runners]]\nname = {:?}\nurl = {:?}\nid = 1\ntoken = {:?}\nexecutor = \"custom\"\n\
         [runners.custom_build_dir]\nenabled = true\n\
         [runners.custom]\nconfig_exec = {:?}\nconfig_args = {arguments:?}\nprepare_exec = {:?}\nprepare_args = {rest:?}\n\
         run_exec = {:?}\nrun_args = {rest:?}\ncleanup_exec = {:?}\ncleanup_args = {rest:?}\n\
         graceful_kill_timeout = 20\nforce_kill_timeout = 5\n\
         [runners.feature_flags]\nFF_USE_NEW_BASH_EVAL_STRATEGY = true\n",
        entry.name,
        coordinator.url(),
        entry.token,
        shim("config"),
        shim("prepare"),
        shim("run"),
        shim("cleanup"),
    )
}
