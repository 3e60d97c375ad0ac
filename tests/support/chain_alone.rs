//! A daemon for the chain alone, in a directory of its own, without podman: for boxes, whose disks can't hold the tests' images.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::chain::{TOKEN, settings};
use super::gitlab::FakeGitlab;
use super::programs::Programs;
use super::registry::free_port;
use super::wait::{seconds, until};

/// What hosts show to its feed.
pub const FEED_TOKEN: &str = "a-token-that-hosts-show";

/// The daemon.
pub struct ChainAlone {
    /// GitLab.
    pub gitlab: FakeGitlab,
    /// Where the feed is.
    pub feed: u16,
    dir: TempDir,
    child: Option<Child>,
}

impl ChainAlone {
    /// One of the group `images`, with a feed, and these settings beside.
    pub fn new(gitlab: FakeGitlab, toml: &str) -> Self {
        gitlab.token(&json!({"token": TOKEN}));
        let dir = tempfile::tempdir().unwrap();
        let (feed, hooks, at) = (free_port(), free_port(), dir.path().display());
        super::chain::write_secret(dir.path().join("feed-token"), FEED_TOKEN);
        let own = format!(
            "run_dir = '{at}/run'\nstate_dir = '{at}/state'\nslots = 0\n[socket]\nallowed_users = ['root']\n\
             [feed]\nlisten = '127.0.0.1:{feed}'\ntoken_file = '{at}/feed-token'\n"
        );
        let mut table: toml::Table = toml::from_str(&own).unwrap();
        super::tables::merge(&mut table, toml::from_str(toml).expect("the test's settings are TOML"));
        let own = toml::to_string(&table).unwrap();
        fs::write(dir.path().join("windlass.toml"), settings(&gitlab, dir.path(), hooks, &own)).unwrap();
        let mut chain = Self { gitlab, feed, dir, child: None };
        chain.start();
        chain
    }

    /// The feed's address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/feed", self.feed)
    }

    /// The file with the feed's token.
    pub fn token_file(&self) -> PathBuf {
        self.dir.path().join("feed-token")
    }

    /// Starts the daemon, and waits until it has looked at everything.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(&Programs::built().windlassd);
        command.arg("--config").arg(self.dir.path().join("windlass.toml")).stdin(Stdio::null());
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        until("the chain was looked at", seconds(60), || {
            assert!(self.child.as_mut().unwrap().try_wait().unwrap().is_none(), "windlassd ended: {}", self.log());
            let output = self.windlass(&["chain", "status", "--json"]);
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            status["looked_at"].is_string() && status["looking"] == false
        });
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Runs `windlass`.
    pub fn windlass(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(&Programs::built().windlass);
        command.args(arguments).arg("--socket").arg(self.dir.path().join("run/windlass.sock")).output().unwrap()
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        Path::new(self.dir.path()).join("log")
    }
}

impl Drop for ChainAlone {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- log of the chain's daemon\n{}----", self.log());
        }
    }
}
