//! Repositories, and a server that containers in the host's network clone them from.

use std::path::Path;
use std::process::Command;

use super::job::Repository;
use super::wait::{seconds, until};
use super::{Host, registry};

/// Runs git on this host, without the configuration of whoever runs the tests.
pub fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", dir)
        .args(["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// `git daemon` on loopback.
pub struct GitDaemon(std::process::Child);

impl Drop for GitDaemon {
    fn drop(&mut self) {
        // git daemon is a child of git: the whole group goes.
        let _ = nix::sys::signal::killpg(
            nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap()),
            nix::sys::signal::Signal::SIGKILL,
        );
        let _ = self.0.wait();
    }
}

/// Serves all repositories below a directory.
pub fn serve(dir: &Path) -> (GitDaemon, u16) {
    use std::os::unix::process::CommandExt;
    let port = registry::free_port();
    let child = Command::new("git")
        .args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")])
        .arg(format!("--base-path={}", dir.display()))
        .arg(dir)
        .env("HOME", dir)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    until("git daemon listens", seconds(10), || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (GitDaemon(child), port)
}

/// A repository with one commit, served to containers in the host's network.
pub fn repository(host: &Host) -> (GitDaemon, Repository) {
    let work = host.dir().join("work");
    std::fs::create_dir(&work).unwrap();
    git(&work, &["init", "--quiet"]);
    std::fs::write(work.join("README"), "the file of the repository\n").unwrap();
    git(&work, &["add", "README"]);
    git(&work, &["commit", "--quiet", "--message=first"]);
    let sha = git(&work, &["rev-parse", "HEAD"]);
    let group = host.dir().join("git/group");
    std::fs::create_dir_all(&group).unwrap();
    git(
        host.dir(),
        &["clone", "--quiet", "--bare", work.to_str().unwrap(), group.join("project.git").to_str().unwrap()],
    );
    let (daemon, port) = serve(&host.dir().join("git"));
    (daemon, Repository { url: format!("git://127.0.0.1:{port}/group/project.git"), sha })
}
