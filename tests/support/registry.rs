//! A real container registry on loopback, which counts what is asked of it.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::storage::on_path;
use super::tls::Certificate;
use super::wait::{seconds, until};

/// User `tester` with the password `secret`, hashed with bcrypt.
const ACCOUNTS: &str = "tester:$2b$05$kbWdcWH8pzymNBjfGhHO2uMRDev9v1SiW24sRxKLbPMGDghlZosd6\n";

/// A running docker-registry.
pub struct Registry {
    dir: TempDir,
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Registry {
    /// Starts one that lets nobody in without a password; none where docker-registry is not installed.
    pub fn with_passwords() -> Option<Self> {
        Self::start("auth: {htpasswd: {realm: windlass-tests, path: accounts}}\n")
    }

    /// Starts one for everybody.
    pub fn open() -> Option<Self> {
        Self::start("")
    }

    /// Starts one with TLS, whose certificate is of an authority that no system trusts: its file.
    pub fn with_tls() -> Option<(Self, PathBuf)> {
        let dir = scratch("registry-");
        let of = Certificate::make(dir.path());
        let tls = format!("tls: {{certificate: '{}', key: '{}'}}", of.certificate.display(), of.key.display());
        Some((Self::start_in(dir, &tls, "")?, of.authority))
    }

    fn start(auth: &str) -> Option<Self> {
        Self::start_in(scratch("registry-"), "", auth)
    }

    fn start_in(dir: TempDir, tls: &str, auth: &str) -> Option<Self> {
        if !on_path("docker-registry") {
            eprintln!("SKIPPED: docker-registry is not installed");
            return None;
        }
        let port = free_port();
        let tls = if tls.is_empty() { String::new() } else { format!(", {tls}") };
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: storage}}}}\nhttp: {{addr: '127.0.0.1:{port}'{tls}}}\n{auth}"
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        fs::write(dir.path().join("accounts"), ACCOUNTS).unwrap();
        fs::write(
            dir.path().join("registries.conf"),
            format!(
                "unqualified-search-registries = []\n[[registry]]\nlocation = \"127.0.0.1:{port}\"\ninsecure = true\n"
            ),
        )
        .unwrap();
        let child = serve(dir.path(), port);
        Some(Self { dir, child, port })
    }

    /// Ends it: nobody listens there any more.
    pub fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self) {
        self.child = serve(self.dir.path(), self.port);
    }

    /// Lets `tester` in no more.
    pub fn close_account(&self) {
        fs::write(self.dir.path().join("accounts"), ACCOUNTS.replace("tester", "another")).unwrap();
    }

    /// An image of this registry.
    pub fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// podman's configuration for it: no TLS.
    pub fn registries_conf(&self) -> PathBuf {
        self.dir.path().join("registries.conf")
    }

    /// The requests for manifests that it has logged.
    pub fn manifest_requests(&self) -> usize {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        log.lines().filter(|line| line.contains("\"GET /v2/") && line.contains("/manifests/")).count()
    }

    /// The parts of a repository's images that it has been asked for.
    pub fn blob_requests(&self, repository: &str) -> usize {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        let question = format!("\"GET /v2/{repository}/blobs/");
        log.lines().filter(|line| line.contains(&question)).count()
    }

    /// The questions for the digest of a tag that it has logged.
    pub fn heads(&self, name: &str, tag: &str) -> usize {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        let question = format!("\"HEAD /v2/{name}/manifests/{tag} ");
        log.lines().filter(|line| line.contains(&question)).count()
    }

    /// All requests that it has logged.
    pub fn requests(&self) -> usize {
        fs::read_to_string(self.dir.path().join("log"))
            .unwrap()
            .lines()
            .filter(|line| line.contains("HTTP/1.1\""))
            .count()
    }
}

/// Starts what is configured there, and waits until it listens.
fn serve(dir: &Path, port: u16) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let child = Command::new("docker-registry")
        .args(["serve", "config.yml"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    until("the registry listens", seconds(10), || TcpStream::connect(("127.0.0.1", port)).is_ok());
    child
}

/// A registry that takes connections and answers nothing, until this is dropped.
pub struct Stopped(nix::unistd::Pid);

impl Registry {
    /// Stops it where it is.
    pub fn stopped(&self) -> Stopped {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.0, nix::sys::signal::Signal::SIGCONT);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of its own: below the target directory, or in a box, which can't write there, with temporary files.
pub fn scratch(prefix: &str) -> TempDir {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(prefix);
    builder.tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| builder.tempdir()).unwrap()
}

/// A port on loopback where nobody listens.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
