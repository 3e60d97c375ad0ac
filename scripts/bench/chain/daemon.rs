//! A daemon with a chain, for the occasion.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::gitlab::FakeGitlab;
use super::support::tables::merge;
use super::{Arguments, Result};

/// What webhooks carry.
pub const SECRET: &str = "a-secret-for-the-occasion";

/// A daemon that runs.
pub struct Daemon {
    child: Child,
    windlass: PathBuf,
    socket: PathBuf,
    /// Where webhooks come in.
    pub port: u16,
    /// Where its feed is.
    #[allow(dead_code, reason = "only the chain's bench listens to it")]
    pub feed: u16,
}

impl Daemon {
    /// Starts one that looks after the group `images` of this GitLab, and asks no registry.
    pub fn start(arguments: &Arguments, gitlab: &FakeGitlab) -> Result<Self> {
        Self::start_with(arguments, gitlab, "chain", "enabled = false")
    }

    /// The same with a name, and with these keys in `[chain.watch]`.
    pub fn start_with(arguments: &Arguments, gitlab: &FakeGitlab, name: &str, watch: &str) -> Result<Self> {
        let directory = arguments.work.join(name);
        fs::create_dir_all(&directory).map_err(say("make the daemon's directory"))?;
        let text = fs::read_to_string(&arguments.config).map_err(say("read the configuration"))?;
        let mut settings: toml::Table = text.parse().map_err(|error| format!("the configuration: {error}"))?;
        for (name, secret) in [("token", FakeGitlab::TOKEN), ("hook", SECRET), ("feed", SECRET)] {
            let path = directory.join(name);
            fs::write(&path, secret).map_err(say("write a secret"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(say("write a secret"))?;
        }
        let (at, port, feed) = (directory.display(), free_port()?, free_port()?);
        let own: toml::Table = format!(
            "run_dir = '{at}/run'\nstate_dir = '{at}/state'\n[gitlab]\nurl = '{}'\ntoken_file = '{at}/token'\n\
             [chain]\ngroups = ['images']\ninterval = '1day'\nsettle = '0s'\n[chain.watch]\n{watch}\n\
             [webhook]\nlisten = '127.0.0.1:{port}'\nurl = 'http://127.0.0.1:{port}/hooks/gitlab'\nsecret_file = '{at}/hook'\nverify_tls = false\n\
             [feed]\nlisten = '127.0.0.1:{feed}'\ntoken_file = '{at}/feed'\n",
            gitlab.url()
        )
        .parse()
        .map_err(|error| format!("the chain's configuration: {error}"))?;
        merge(&mut settings, own);
        let config = directory.join("windlass.toml");
        fs::write(&config, settings.to_string()).map_err(say("write the configuration"))?;
        let log = fs::File::create(directory.join("log")).map_err(say("make a log"))?;
        let child = Command::new(arguments.programs.join("windlassd"))
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(say("start windlassd"))?;
        let socket = directory.join("run/windlass.sock");
        let daemon = Self { child, windlass: arguments.programs.join("windlass"), socket, port, feed };
        let began = Instant::now();
        while daemon.chain(&["status"]).is_err() {
            if began.elapsed() > Duration::from_secs(60) {
                return Err("windlassd does not answer".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    /// `windlass chain` with JSON as its answer.
    pub fn chain(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.windlass);
        let output = command.arg("chain").args(arguments).arg("--json").arg("--socket").arg(&self.socket).output();
        let output = output.map_err(|error| format!("run windlass: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }

    /// Its process id.
    #[allow(dead_code, reason = "only the page's bench asks for it")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its memory that is resident, in bytes.
    pub fn memory(&self) -> Result<f64> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).map_err(|error| error.to_string())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        Ok(kilobytes.ok_or("no VmRSS")? * 1024.0)
    }

    /// Ends it.
    pub fn end(mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    Ok(taken.map_err(say("find a free port"))?.port())
}

/// What could not be done, and why.
fn say(what: &'static str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{what}: {error}")
}
