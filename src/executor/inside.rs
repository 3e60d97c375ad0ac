//! The daemon's own commands in a job's containers: they run there as stages do, and what they say is input from the job.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe;

use super::record::{Record, Role};
use super::stage::stage_as;
use super::{Executor, Lease, init_client};
use crate::config::ExecMode;
use crate::protocol::frame::{Decoder, MESSAGE_MAX, encode_message};
use crate::protocol::init::{Reply, Request, Stage};
use crate::sys::fds;

/// What is kept of a command's output, in bytes.
const OUTPUT_MAX: u64 = 64 * 1024;

impl Executor {
    /// Runs a command as root in a container of a lease; returns its exit code, if it ended by itself, and the beginning of
    /// its output.
    pub(super) async fn run_inside(
        &self,
        lease: &Lease,
        record: &Record,
        role: Role,
        command: Vec<String>,
        limit: Duration,
    ) -> Result<(Option<i32>, String)> {
        let container = record.in_role(role).context("the lease has no such container")?;
        if record.settings.exec == ExecMode::Podman {
            return Ok(self.podman.exec_command(&container.name, &command, limit).await?);
        }
        let stage = Stage { user: "0:0".to_owned(), command, umask: None, ..stage_as(container, record) };
        match tokio::time::timeout(limit, through_init(&lease.init_socket(role), stage)).await {
            Ok(result) => result,
            Err(_) => bail!("no end within {}", humantime::format_duration(limit)),
        }
    }
}

async fn through_init(socket: &std::path::Path, stage: Stage) -> Result<(Option<i32>, String)> {
    let mut stream = init_client::connect(socket).await?;
    stream.write_all(&encode_message(&Request::Stage(stage))).await.context("send to the container's init")?;
    let (reader, writer) = io::pipe().context("make a pipe")?;
    {
        // Nothing to read, and both streams into one pipe.
        let (stdin, _) = io::pipe().context("make a pipe")?;
        let writer = OwnedFd::from(writer);
        let bytes = encode_message(&Request::Begin { variables: Vec::new() });
        let send = || fds::send(stream.as_fd(), &bytes, &[stdin.as_fd(), writer.as_fd(), writer.as_fd()]);
        let sent = stream.async_io(Interest::WRITABLE, send).await.context("send to the container's init")?;
        stream.write_all(&bytes[sent..]).await.context("send to the container's init")?;
    }
    let output = pipe::Receiver::from_owned_fd(reader.into()).context("read a pipe")?;
    let read = async {
        let mut text = Vec::new();
        let mut output = output;
        // What was read before an error counts; the rest is drained, so that the command can end.
        let _ = (&mut output).take(OUTPUT_MAX).read_to_end(&mut text).await;
        let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
        String::from_utf8_lossy(&text).into_owned()
    };
    let (ended, text) = tokio::join!(end_of_stage(&mut stream), read);
    Ok((ended?, text))
}

async fn end_of_stage(stream: &mut tokio::net::UnixStream) -> Result<Option<i32>> {
    let mut decoder = Decoder::new(MESSAGE_MAX);
    let mut buffer = vec![0; 4096];
    loop {
        while let Some(frame) = decoder.next_frame().context("understand the container's init")? {
            match frame.message().context("understand the container's init")? {
                Reply::Exited(exited) => return Ok(exited.code),
                Reply::Refused { message, .. } => bail!("{message}"),
                _ => {}
            }
        }
        match stream.read(&mut buffer).await.context("read from the container's init")? {
            0 => bail!("the container's init is gone"),
            count => decoder.push(&buffer[..count]),
        }
    }
}
