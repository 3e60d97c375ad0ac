//! `windlass shell`: a shell in a running job's container, or in one that is held.

mod relay;
mod terminal;

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::ask::{SOCKET, unexpected};
use crate::protocol::daemon::{Reply, Request};
use crate::protocol::frame::{Decoder, MESSAGE_MAX};
use crate::protocol::shell::{ShellRequest, Size, Target};
use crate::protocol::stream;
use crate::sys::{fds, terminal as tty};

/// How long the daemon may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Opens a shell in a job's container, or runs a command there
///
/// JOB is the job's id, its slot as `windlass status` shows it (default/0), or its lease's id (`windlass status --json`). The shell runs
/// beside the job, within the job's limits, as the user of its scripts, in the directory of its project. Its environment is the image's:
/// the job's variables are secrets that windlassd does not keep.
///
/// At the end of the job's current stage every process in the container is ended, the shell too; the job notices nothing of it, and is not
/// kept waiting. To look at a job that fails in peace, use `windlass hold` before.
///
/// With a terminal at both ends everything typed goes to the far side, Ctrl-C too; `exit` or Ctrl-D ends it. Without one, input and output are
/// plain streams. The exit code is the shell's; 137 when it was ended, 1 when it could not be opened.
///
/// Who opens a shell is logged (journalctl JOB=ID). Only root and windlassd's own user may. What the container prints reaches
/// your terminal as it is: a hostile job can send escape sequences, as any program can that you run there.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  windlass shell 4711\n  windlass shell default/0 --user root\n  windlass shell 4711 --service postgres -- psql -U postgres\n  windlass shell 4711 -- tar -C /builds -c . >builds.tar"
)]
pub struct ShellArgs {
    /// The job: its id, its slot, or its lease's id
    #[arg(value_name = "JOB")]
    pub job: String,
    /// In the container of this service, by its alias, instead of the job's
    #[arg(long, value_name = "NAME", conflicts_with = "helper")]
    pub service: Option<String>,
    /// In the helper's container, where git, caches and artifacts are worked on
    #[arg(long)]
    pub helper: bool,
    /// As this user of the image: a name, an id, or either with :GROUP
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
    /// What to run instead of the image's shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Runs it; the exit code is the shell's.
///
/// # Errors
/// When the daemon refuses, or the shell can't be started.
pub fn run(arguments: &ShellArgs) -> Result<u8> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let is_terminal = stdin.is_terminal() && stdout.is_terminal();
    let size = is_terminal.then(|| tty::size(stdin.as_fd()).unwrap_or((24, 80)));
    let request = ShellRequest {
        job: arguments.job.clone(),
        target: match &arguments.service {
            Some(alias) => Target::Service(alias.clone()),
            None if arguments.helper => Target::Helper,
            None => Target::Job,
        },
        user: arguments.user.clone(),
        command: arguments.command.clone(),
        terminal: size.map(|(rows, columns)| Size { rows, columns }),
        term: std::env::var("TERM").ok().filter(|_| is_terminal),
    };
    let daemon = UnixStream::connect(&arguments.socket)
        .with_context(|| format!("cannot reach windlassd at {}; does it run?", arguments.socket.display()))?;
    daemon.set_read_timeout(Some(LIMIT)).context("set up the connection")?;
    // A daemon that refuses may hang up before it has read all of the question: its reason is there all the same.
    let sent = stream::send(&daemon, &Request::Shell(request));
    let (notes, shell) = answer(&daemon, sent)?;
    if is_terminal {
        notes.iter().for_each(|note| eprintln!("windlass: {note}"));
    }
    relay::run(&daemon, shell, is_terminal)
}

/// The daemon's answer, with the connection that comes with it.
fn answer(daemon: &UnixStream, sent: io::Result<()>) -> Result<(Vec<String>, UnixStream)> {
    let (mut decoder, mut buffer, mut shell) = (Decoder::new(MESSAGE_MAX), vec![0; 4096], None);
    loop {
        if let Some(frame) = decoder.next_frame()? {
            match (frame.message()?, shell.take()) {
                (Reply::Shell { notes }, Some(shell)) => return Ok((notes, UnixStream::from(shell))),
                (Reply::Failed { message, .. }, _) => bail!("{message}"),
                _ => return Err(unexpected()),
            }
        }
        match fds::receive(daemon.as_fd(), &mut buffer).context("ask windlassd")? {
            (0, _) => match sent {
                Err(error) => return Err(error).context("ask windlassd"),
                Ok(()) => bail!("windlassd has hung up"),
            },
            (count, received) => {
                decoder.push(&buffer[..count]);
                shell = received.into_iter().next().or(shell);
            }
        }
    }
}
