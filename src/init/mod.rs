//! What `windlass-init` does: PID 1 of every job container, which runs the job's stages.
//!
//! A hostile job may run beside it as root. So it holds nothing that is worth stealing longer than a stage, marks itself not
//! dumpable, opens every descriptor close-on-exec, and takes its orders only from connections to the listening socket that it
//! inherited, whose path is on the host.

mod connect;
mod connection;
mod engine;
mod environment;
pub mod probe;
mod pump;
mod relay;
mod resolve;
mod service;
mod session;
mod shell;
mod stage;
pub mod usage;
mod users;
mod within;

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

use crate::sys::fds;
use engine::Engine;

/// Where the program is mounted in a container; by its name it knows that it is in one.
pub const PATH: &str = "/.windlass-init";
/// The listening socket's number: the first that `podman run --preserve-fds 1` hands on.
pub const LISTENER: i32 = 3;

const USAGE: &str =
    "windlass-init is PID 1 of the containers that Windlass makes. It is started by podman, never by hand:
  windlass-init serve   take stages from the listening socket that is descriptor 3
  windlass-init hold    keep the container alive, for stages that come by `podman exec`
  windlass-init exec    run one stage that comes in frames on standard input (under `podman exec`)
  windlass-init shell   run a shell for an administrator, in frames on standard input and output (under `podman exec`)
  windlass-init connect ADDRESS:PORT[,ADDRESS:PORT...] ...
                        print the numbers of the arguments, from 0, of which one address takes a connection
  windlass-init probe [HOST:PORT...]
                        print as JSON what this container's network is, and whether it leads to these
  windlass-init lead HOST:PORT
                        connect there, and pass on the bytes of standard input and output
  windlass-init identify USER
                        print the ids of a user of the image
  windlass-init become PROGRAM [ARGUMENT...]
                        become a service's program, with the variables that come through descriptor 3
  windlass-init within MILLISECONDS PROGRAM [ARGUMENT...]
                        run a check of a service's health, and end it when its time is over";

/// Runs the program with these arguments (without its name).
///
/// # Errors
/// When it was not started as PID 1 of a container, or not with what its mode needs.
pub fn main(arguments: &[String]) -> Result<()> {
    let mode = match arguments {
        [mode, addresses @ ..] if mode == "connect" && !addresses.is_empty() => return connect::run(addresses),
        [mode, targets @ ..] if mode == "probe" => return probe::run(targets),
        [mode, target] if mode == "lead" => return probe::lead(target),
        [mode, user] if mode == "identify" => {
            let users::User { identity, .. } = users::find(user).map_err(anyhow::Error::msg)?;
            println!("{}:{}", identity.uid, identity.gid);
            return Ok(());
        }
        [mode, line @ ..] if mode == "become" => return service::run(line),
        [mode, limit, line @ ..] if mode == "within" => return within::run(limit, line),
        [mode] => mode.as_str(),
        _ => bail!("{USAGE}"),
    };
    nix::sys::prctl::set_dumpable(false).context("make this process not dumpable")?;
    match mode {
        "serve" => {
            require_pid_1()?;
            make_directories();
            Engine::new(Some(listener()?), None)?.run()
        }
        "hold" => {
            require_pid_1()?;
            make_directories();
            Engine::new(None, None)?.run()
        }
        "shell" => session::run(),
        "exec" => {
            if !in_container() {
                bail!("process 1 here is not windlass-init: this is no container of Windlass");
            }
            nix::sys::prctl::set_child_subreaper(true).context("become the reaper of this stage's processes")?;
            let (ours, theirs) = UnixStream::pair().context("make a socket pair")?;
            relay::start(theirs)?;
            Engine::new(None, Some(ours))?.run()
        }
        _ => bail!("{USAGE}"),
    }
}

/// A stage ends with a signal to every process that this one may signal. Outside a container that would be the host's.
fn require_pid_1() -> Result<()> {
    if std::process::id() != 1 {
        bail!("not process 1 of a container\n{USAGE}");
    }
    Ok(())
}

/// Where jobs work has to be there for whatever user they run as.
fn make_directories() {
    use std::os::unix::fs::PermissionsExt;
    for directory in [crate::executor::BUILDS_DIR, crate::executor::CACHE_DIR] {
        // On a read-only root the image has to bring them, and the job says what is missing.
        let _ = std::fs::create_dir(directory);
        let _ = std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777));
    }
}

fn in_container() -> bool {
    // comm is the file's name, cut at 15 bytes; no host's process 1 is called like this.
    std::fs::read_to_string("/proc/1/comm").is_ok_and(|comm| comm.trim_end() == PATH.trim_start_matches('/'))
}

/// After `podman stop` and `podman start` descriptor 3 is something else, hence the look at what it is.
fn listener() -> Result<UnixListener> {
    let fd = fds::inherited(LISTENER).context("take the listening socket that podman hands on")?;
    if !getsockopt(&fd, AcceptConn).is_ok_and(|listening| listening) {
        bail!("descriptor {LISTENER} is no listening socket; a container of Windlass can't be started a second time");
    }
    let listener = UnixListener::from(fd);
    listener.set_nonblocking(true).context("make the listening socket non-blocking")?;
    Ok(listener)
}

/// Tries again when a signal interrupted the call.
fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(nix::errno::Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}
