//! Where HTTP is served: an address, or a Unix socket for those who may open it.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use anyhow::{Context, Result, bail};
use nix::unistd::{Group, chown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A listener.
#[derive(Debug)]
pub enum Listener {
    /// At an address.
    Tcp(TcpListener),
    /// At a Unix socket.
    Unix(UnixListener),
}

/// A client's connection.
#[derive(Debug)]
pub enum Stream {
    /// From an address.
    Tcp(TcpStream),
    /// From this host.
    Unix(UnixStream),
}

impl Listener {
    /// At an address; `key` is what an error calls it.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn at(address: SocketAddr, key: &str) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address} ({key})"))?;
        Ok(Self::Tcp(listener))
    }

    /// At a Unix socket that root, the daemon's own user and a group may open.
    ///
    /// # Errors
    /// When something else listens there, there is no such group, or the operating system refuses.
    pub fn at_path(path: &Path, group: Option<&str>, key: &str) -> Result<Self> {
        let listen = || format!("listen at {} ({key})", path.display());
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("make the directory {}", directory.display()))?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            bail!("something else listens at {}; choose another path ({key})", path.display());
        }
        // What an earlier daemon left.
        let _ = std::fs::remove_file(path);
        // The mode is set before anybody may come: until then the socket is called otherwise.
        let mut new = path.to_owned().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        let _ = std::fs::remove_file(&new);
        let listener = UnixListener::bind(&new).with_context(listen)?;
        let mode = match group {
            Some(name) => {
                let found = Group::from_name(name).ok().flatten();
                let group = found.with_context(|| format!("{name:?} is no group of this host"))?;
                chown(&new, None, Some(group.gid)).with_context(listen)?;
                0o660
            }
            None => 0o600,
        };
        std::fs::set_permissions(&new, PermissionsExt::from_mode(mode)).with_context(listen)?;
        std::fs::rename(&new, path).with_context(listen)?;
        Ok(Self::Unix(listener))
    }

    /// The next client.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, task: &mut Task<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(task, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(task, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(task))
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(task))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(task, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }
}
