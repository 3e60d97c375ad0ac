//! A way through a container: a socket here whose one connection comes out there, so that a client on the host sees what a job sees.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use super::answers::WITHIN;
use super::targets::{self, Target};
use crate::init::probe::CONNECTED;
use crate::podman::Probe;

/// How long a container may take to start and connect.
const OPEN_WITHIN: Duration = Duration::from_secs(60);
/// Longest answer of a proxy to CONNECT, in bytes.
const HEAD_MAX: usize = 8 * 1024;

/// A way through a container. It is closed when this is dropped.
#[derive(Debug)]
pub struct Tunnel {
    directory: TempDir,
    _passes: AbortOnDropHandle<()>,
}

impl Tunnel {
    /// Opens one to a target: a container connects to it, or to the proxy that jobs take there, which is asked to connect.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub async fn open(probe: &Probe<'_>, target: &Target) -> Result<Self, String> {
        let place = target.connects_to();
        let stream = probe.lead(&place).await.map_err(|error| format!("podman can't be started: {error}"))?;
        let open = async {
            stream.set_nonblocking(true)?;
            let mut stream = UnixStream::from_std(stream)?;
            expect_connected(&mut stream).await?;
            Ok::<_, io::Error>(stream)
        };
        let stream = tokio::time::timeout(OPEN_WITHIN, open).await;
        let mut stream = match stream {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("the way through a container to {place}: {error}")),
            Err(_) => {
                return Err(format!("no container led to {place} within {}", humantime::format_duration(OPEN_WITHIN)));
            }
        };
        if let Some(proxy) = &target.proxy {
            let wish = connect_request(&format!("{}:{}", target.host, target.port), proxy);
            let agreed = tokio::time::timeout(WITHIN, agree(&mut stream, &wish)).await;
            agreed
                .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
                .map_err(|error| format!("the proxy at {place}: {error}"))?;
        }
        Self::pass(stream).map_err(|error| format!("a socket for the way through a container: {error}"))
    }

    fn pass(mut there: UnixStream) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("windlass-doctor-").tempdir()?;
        let listener = UnixListener::bind(path(&directory))?;
        let passes = async move {
            if let Ok((mut here, _)) = listener.accept().await {
                // Whoever asks sees by its own end how the connection ends.
                let _ = copy_bidirectional(&mut here, &mut there).await;
            }
        };
        Ok(Self { directory, _passes: AbortOnDropHandle::new(tokio::spawn(passes)) })
    }

    /// The socket; one connection to it is taken.
    pub fn socket(&self) -> PathBuf {
        path(&self.directory)
    }
}

fn path(directory: &TempDir) -> PathBuf {
    Path::new(directory.path()).join("socket")
}

async fn expect_connected(stream: &mut UnixStream) -> io::Result<()> {
    let mut said = vec![0; CONNECTED.len()];
    match stream.read_exact(&mut said).await {
        Ok(_) if said == CONNECTED.as_bytes() => Ok(()),
        Ok(_) => Err(io::Error::other("windlass-init says something else than expected")),
        Err(_) => Err(io::Error::other("it ended without a connection")),
    }
}

/// What asks a proxy for a connection (RFC 9110, section 9.3.6), with the name and password of its address.
fn connect_request(place: &str, proxy: &str) -> String {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = targets::parse(proxy).filter(|url| !url.username().is_empty()).map(|url| {
        let pair = format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or_default()));
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair))
    });
    format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{}\r\n", user.unwrap_or_default())
}

/// Sends such a request and reads its answer up to the first byte of the other end's.
async fn agree(stream: &mut UnixStream, wish: &str) -> io::Result<()> {
    stream.write_all(wish.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_MAX {
            return Err(io::Error::other("its answer does not end"));
        }
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let first = head.lines().next().unwrap_or_default();
    match first.split_whitespace().nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(io::Error::other(format!("it answers {first:?} to CONNECT"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_asked_with_its_password() {
        assert_eq!(connect_request("h:443", "proxy:3128"), "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n");
        for proxy in ["http://us%65r:p%40ss@proxy:3128", "user:p%40ss@proxy:3128"] {
            let with = connect_request("h:443", proxy);
            assert!(
                with.contains(&format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode("user:p@ss"))),
                "{with}"
            );
        }
    }

    /// What comes of asking a proxy that answers so, and what comes behind its answer.
    async fn asked(answer: &str) -> (io::Result<()>, String) {
        let (mut ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(answer.as_bytes()).await.expect("written");
        let agreed = agree(&mut ours, "CONNECT").await;
        theirs.read_exact(&mut [0; 7]).await.expect("read");
        drop(theirs);
        let mut rest = String::new();
        ours.read_to_string(&mut rest).await.expect("read");
        (agreed, rest)
    }

    #[tokio::test]
    async fn what_a_proxy_lets_through_comes_after_its_answer() {
        let (agreed, rest) = asked("HTTP/1.1 200 OK\r\nVia: x\r\n\r\nrest").await;
        assert!(agreed.is_ok() && rest == "rest", "{agreed:?} {rest}");
        let (refused, _) = asked("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        assert!(refused.is_err_and(|error| error.to_string().contains("407")));
        let (endless, _) = asked(&"a".repeat(HEAD_MAX + 1)).await;
        assert!(endless.is_err_and(|error| error.to_string().contains("does not end")));
    }
}
