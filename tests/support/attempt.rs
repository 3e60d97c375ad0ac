//! Single calls of the shims, made by a process that plays gitlab-runner.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::call::{Call, Finished};
use super::host::Host;
use super::job::Job;
use super::player::{Event, Request, SOCKET_VARIABLE, Start, Stream, TEST_NAME};
use super::site::Site;
use super::wait::{seconds, until, value};

/// What is known of one call.
#[derive(Debug, Default, Clone)]
pub(super) struct Progress {
    pub(super) pid: Option<i32>,
    pub(super) exited: Option<(Option<i32>, Option<i32>)>,
    pub(super) closed: Option<(Stream, Stream)>,
    pub(super) failed: Option<String>,
}

pub(super) type Progresses = Arc<(Mutex<BTreeMap<u64, Progress>>, Condvar)>;

/// A process that plays gitlab-runner on a host.
pub struct Runner<'a> {
    /// Where it runs.
    pub site: &'a dyn Site,
    child: Mutex<Child>,
    control: Mutex<UnixStream>,
    pub(super) calls: Progresses,
    dir: TempDir,
    next: Mutex<u64>,
}

impl<'a> Runner<'a> {
    /// Starts one.
    pub fn new(host: &'a Host) -> Self {
        Self::on(host)
    }

    /// Starts one on any kind of host.
    pub fn on(site: &'a dyn Site) -> Self {
        let (account, files) = (site.caller(), site.files());
        let dir = tempfile::Builder::new()
            .prefix("gr-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(files)
            .unwrap();
        account.own(dir.path()).unwrap();
        let socket = dir.path().join("control");
        let listener = UnixListener::bind(&socket).unwrap();
        account.own(&socket).unwrap();
        let mut program = std::env::current_exe().unwrap();
        if !matches!(account, super::account::Account::Own) {
            // The target directory may be out of that user's reach.
            let copy = dir.path().join("gitlab-runner");
            super::programs::copy_program(&program, &copy);
            program = copy;
        }
        let mut command = account.command(&program);
        command
            .args([TEST_NAME, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(SOCKET_VARIABLE, &socket)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let (control, _) = listener.accept().unwrap();
        let calls = Progresses::default();
        thread::spawn({
            let (control, calls) = (control.try_clone().unwrap(), calls.clone());
            move || listen(control, &calls)
        });
        Self { site, child: Mutex::new(child), control: Mutex::new(control), calls, dir, next: Mutex::new(1) }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.lock().unwrap().id()).unwrap()
    }

    /// Kills it with -9; the shims that it started live on, with broken pipes.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(super) fn request(&self, request: &Request) {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        self.control.lock().unwrap().write_all(&line).unwrap();
    }

    /// A fresh attempt at a job: its own TMPDIR with the job response in it.
    pub fn attempt(&self, job: &Job) -> Attempt<'_> {
        self.attempt_with_response(job, job.response().to_string().as_bytes())
    }

    /// The same with a job response that GitLab would not send.
    pub fn attempt_with_response(&self, job: &Job, response: &[u8]) -> Attempt<'_> {
        let tmpdir = tempfile::Builder::new().prefix("custom-executor").tempdir_in(self.dir.path()).unwrap();
        let file = tmpdir.path().join("response.json");
        fs::write(&file, response).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        for path in [tmpdir.path(), &file] {
            self.site.caller().own(path).unwrap();
        }
        Attempt {
            runner: self,
            job: job.clone(),
            tmpdir,
            job_env: Vec::new(),
            status: "running".into(),
            extra: Vec::new(),
            scripts: 0,
        }
    }

    /// Starts any program as gitlab-runner would.
    fn start(
        &self,
        name: &str,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
        cwd: &Path,
        digest_only: bool,
    ) -> Call<'_> {
        let call = {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            *next
        };
        let stdout = self.dir.path().join(format!("{call}.stdout"));
        let stderr = self.dir.path().join(format!("{call}.stderr"));
        let bytes = |text: &OsString| text.as_bytes().to_vec();
        self.request(&Request::Start(Start {
            call,
            arguments: arguments.iter().map(bytes).collect(),
            environment: environment.iter().map(|(key, value)| (bytes(key), bytes(value))).collect(),
            directory: cwd.to_owned(),
            stdout: (!digest_only).then(|| stdout.clone()),
            stderr: stderr.clone(),
        }));
        Call { runner: self, call, name: name.to_owned(), stdout, stderr }
    }
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        // With the control connection gone it ends what it started, and itself.
        let _ = self.control.lock().unwrap().shutdown(std::net::Shutdown::Both);
        let mut child = self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let start = Instant::now();
        while !matches!(child.try_wait(), Ok(Some(_))) && start.elapsed() < seconds(5) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn listen(control: UnixStream, calls: &Progresses) {
    for line in BufReader::new(control).lines() {
        let Ok(line) = line else { break };
        let Ok(event) = serde_json::from_str(&line) else { break };
        let mut known = calls.0.lock().unwrap();
        match event {
            Event::Started { call, pid } => known.entry(call).or_default().pid = Some(pid),
            Event::Failed { call, error } => known.entry(call).or_default().failed = Some(error),
            Event::Exited { call, code, signal } => known.entry(call).or_default().exited = Some((code, signal)),
            Event::Closed { call, stdout, stderr } => known.entry(call).or_default().closed = Some((stdout, stderr)),
        }
        calls.1.notify_all();
    }
}

/// One attempt at a job, from config to cleanup, with its TMPDIR.
pub struct Attempt<'a> {
    runner: &'a Runner<'a>,
    /// The job.
    pub job: Job,
    tmpdir: TempDir,
    /// What config_exec answered.
    pub job_env: Vec<(String, String)>,
    /// CI_JOB_STATUS.
    pub status: String,
    /// Variables that are set last of all, so that they win.
    pub extra: Vec<(OsString, OsString)>,
    scripts: u32,
}

impl<'a> Attempt<'a> {
    /// Its TMPDIR.
    pub fn dir(&self) -> &Path {
        self.tmpdir.path()
    }

    /// Its job.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// BUILD_EXIT_CODE_FILE.
    pub fn exit_code_file(&self) -> PathBuf {
        self.dir().join("build_exit_code")
    }

    /// The lease that config_exec named.
    pub fn lease(&self) -> String {
        self.job_env.iter().find(|(key, _)| key == "WINDLASS_LEASE").expect("config names a lease").1.clone()
    }

    /// Starts config_exec.
    pub fn config(&self) -> Call<'a> {
        self.start("config", &[])
    }

    /// Runs config_exec to its end and keeps its job_env.
    pub fn configure(&mut self) -> Finished {
        self.take_answer(self.config().wait())
    }

    /// Keeps the job_env that a call of config_exec has answered.
    pub fn take_answer(&mut self, finished: Finished) -> Finished {
        if finished.code == Some(0) {
            let answer: serde_json::Value = serde_json::from_slice(&finished.stdout)
                .unwrap_or_else(|error| panic!("config_exec printed no JSON: {error}: {}", finished.text()));
            let job_env = answer["job_env"].as_object().expect("config_exec names a job_env");
            self.job_env = job_env
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().expect("a string").to_owned()))
                .collect();
        }
        finished
    }

    /// Starts prepare_exec.
    pub fn prepare(&self) -> Call<'a> {
        self.start("prepare", &[])
    }

    /// Starts prepare_exec by another program than the test's own, which is told `start`.
    pub fn prepare_by(&self, parent: &Path) -> Call<'a> {
        self.start_by(&[parent.into(), "start".into()], "prepare", &[])
    }

    /// config and prepare, both of which have to succeed.
    pub fn make_ready(&mut self) {
        self.configure().expect_code(0);
        self.prepare().wait().expect_code(0);
        self.run("get_sources").wait().expect_code(0);
    }

    /// Starts run_exec for a stage of the job.
    pub fn run(&mut self, stage: &str) -> Call<'a> {
        let script = super::scripts::stage(&self.job, stage);
        self.run_raw(stage, script.as_bytes())
    }

    /// Starts run_exec with these lines in the frame of a stage's script.
    pub fn run_lines(&mut self, stage: &str, lines: &str) -> Call<'a> {
        self.run_raw(stage, super::scripts::wrap(lines).as_bytes())
    }

    /// Starts run_exec with exactly this script.
    pub fn run_raw(&mut self, stage: &str, script: &[u8]) -> Call<'a> {
        self.scripts += 1;
        let dir = self.dir().join(format!("script{}", self.scripts));
        let file = dir.join("script");
        fs::create_dir(&dir).unwrap();
        fs::write(&file, script).unwrap();
        for path in [&dir, &file] {
            fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
            self.runner.site.caller().own(path).unwrap();
        }
        self.start("run", &[file.into_os_string(), stage.into()])
    }

    /// Starts cleanup_exec.
    pub fn cleanup(&self) -> Call<'a> {
        self.start("cleanup", &[])
    }

    /// cleanup_exec, then TMPDIR goes and the daemon has to let go of the lease.
    pub fn finish(self) {
        let lease = (!self.job_env.is_empty()).then(|| self.lease());
        self.cleanup().wait().expect_code(0);
        drop(self.tmpdir);
        if let Some(lease) = lease {
            self.runner.site.wait_until_gone(&lease);
        }
    }

    fn start(&self, shim: &str, arguments: &[OsString]) -> Call<'a> {
        self.start_by(&[], shim, arguments)
    }

    fn start_by(&self, parent: &[OsString], shim: &str, arguments: &[OsString]) -> Call<'a> {
        let site = self.runner.site;
        let mut all = [parent, &[site.shim(shim).into_os_string()]].concat();
        if let Some(socket) = site.told_socket() {
            all.extend(["--socket".into(), socket.into_os_string()]);
        }
        if let Some(profile) = &self.job.profile {
            all.extend(["--profile".into(), profile.into()]);
        }
        all.extend_from_slice(arguments);
        let user_stage = arguments.get(1).is_some_and(|stage| stage == "build_script");
        let name = arguments.get(1).map_or(shim.to_owned(), |stage| stage.to_string_lossy().into_owned());
        self.runner.start(&name, all, self.environment(), self.dir(), self.job.digest_only && user_stage)
    }

    /// In gitlab-runner's order; of two with one name the later one wins.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let site = self.runner.site;
        let mut all: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |key: &str, value: OsString| all.push((key.into(), value));
        set("PATH", std::env::var_os("PATH").unwrap_or_default());
        set("HOME", site.caller().home().into());
        set("TMPDIR", self.dir().into());
        set("BUILD_FAILURE_EXIT_CODE", "1".into());
        set("SYSTEM_FAILURE_EXIT_CODE", "2".into());
        set("BUILD_EXIT_CODE_FILE", self.exit_code_file().into());
        set("JOB_RESPONSE_FILE", self.dir().join("response.json").into());
        for (key, value) in &self.job_env {
            set(key, value.into());
        }
        for (key, value) in self.job_variables() {
            set(&format!("CUSTOM_ENV_{key}"), value.into());
        }
        set("CUSTOM_ENV_CI_JOB_SERVICES", "".into());
        all.extend(self.extra.iter().cloned());
        let mut unique: Vec<(OsString, OsString)> = Vec::new();
        for (key, value) in all {
            unique.retain(|(there, _)| *there != key);
            unique.push((key, value));
        }
        unique
    }

    fn job_variables(&self) -> Vec<(String, String)> {
        let job = &self.job;
        let mut variables: Vec<(String, String)> = Vec::new();
        let mut set = |key: &str, value: &str| variables.push((key.into(), value.into()));
        set("FF_NETWORK_PER_BUILD", "false");
        if let Some(image) = &job.image {
            set("CI_JOB_IMAGE", image);
        }
        let begun = !self.job_env.is_empty();
        set("CI_RUNNER_SHORT_TOKEN", "testtoken");
        set("CI_BUILDS_DIR", if begun { "/builds" } else { "" });
        set("CI_PROJECT_DIR", &if begun { job.project_dir() } else { String::new() });
        set("CI_CONCURRENT_ID", "0");
        set("CI_CONCURRENT_PROJECT_ID", "0");
        set("CI_SERVER", "yes");
        set("CI_JOB_STATUS", &self.status);
        set("CI_JOB_TIMEOUT", &job.timeout.as_secs().to_string());
        variables.extend(job.payload_variables());
        for (key, value) in [
            ("CI_SHARED_ENVIRONMENT", "true"),
            ("CI_RUNNER_VERSION", "19.4.0"),
            ("CI_RUNNER_EXECUTABLE_ARCH", "linux/amd64"),
        ] {
            variables.push((key.into(), value.into()));
        }
        variables.push((
            "RUNNER_TEMP_PROJECT_DIR".into(),
            format!("{}.tmp", if begun { job.project_dir() } else { String::new() }),
        ));
        variables
    }
}

/// Makes an empty file; for tests that need one to be there.
pub fn touch(path: &Path) {
    File::create(path).unwrap();
}
