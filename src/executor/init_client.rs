//! The daemon's own words with a container's init. What comes back is input from the job: capped, checked, bounded in time.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::protocol::frame::{Decoder, MESSAGE_MAX, encode_message};
use crate::protocol::init::{Reply, Request};

/// Connects to an init.
///
/// conmon holds the listening socket as well, so a connection alone proves nothing: only an answer does.
pub async fn connect(socket: &Path) -> Result<UnixStream> {
    UnixStream::connect(socket)
        .await
        .with_context(|| format!("connect to the container's init at {}", socket.display()))
}

/// Asks one thing and waits for its answer.
pub async fn ask(socket: &Path, request: &Request, limit: Duration) -> Result<Reply> {
    let exchange = async {
        let mut stream = connect(socket).await?;
        stream.write_all(&encode_message(request)).await.context("send to the container's init")?;
        let mut decoder = Decoder::new(MESSAGE_MAX);
        let mut buffer = vec![0; 4096];
        loop {
            if let Some(frame) = decoder.next_frame().context("understand the container's init")? {
                return frame.message().context("understand the container's init");
            }
            match stream.read(&mut buffer).await.context("read from the container's init")? {
                0 => bail!("the container's init is gone"),
                count => decoder.push(&buffer[..count]),
            }
        }
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(reply) => reply,
        Err(_) => bail!("the container's init did not answer within {}", humantime::format_duration(limit)),
    }
}
