//! `windlass-init probe`: what a container's network is, and where it leads; `windlass-init lead`: a way through it, for what wants to be
//! seen from there. `windlass doctor` asks.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::resolve::Resolver;

/// How long one connection may take, in all its attempts.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Most targets that are looked at.
pub const TARGETS_MAX: usize = 16;
/// What `lead` says once there is a connection; the connection's own bytes follow.
pub const CONNECTED: &str = "connected\n";
/// How long a connection may be silent before `lead` ends: whoever asked has long gone on.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Interfaces beside loopback, with their largest packets in bytes.
    pub interfaces: Vec<(String, u32)>,
    /// Whether there is a way out: a default route.
    pub has_route: bool,
    /// The name servers.
    pub name_servers: Vec<String>,
    /// Where it was to lead, in the order of the question.
    pub targets: Vec<Reached>,
}

/// Whether one target is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// `HOST:PORT`
    pub target: String,
    /// The addresses of its name.
    pub addresses: Vec<String>,
    /// Why there are none.
    pub unknown: Option<String>,
    /// Why no connection came about; none: one did.
    pub refused: Option<String>,
    /// How long that took, in milliseconds.
    pub took_ms: u64,
}

/// Looks, and prints JSON.
pub fn run(targets: &[String]) -> Result<()> {
    let resolver = resolver();
    let probed = Probed {
        interfaces: interfaces(),
        has_route: has_route(&read("/proc/net/route"), &read("/proc/net/ipv6_route")),
        name_servers: resolver.servers().iter().map(ToString::to_string).collect(),
        targets: targets.iter().take(TARGETS_MAX).map(|target| reach(&resolver, target)).collect(),
    };
    println!("{}", serde_json::to_string(&probed).context("write what was found")?);
    Ok(())
}

/// Connects to `HOST:PORT` and passes bytes between there and standard input and output, after [`CONNECTED`].
///
/// # Errors
/// When there is no connection.
pub fn lead(target: &str) -> Result<()> {
    let (reached, stream) = connect(&resolver(), target);
    let Some(stream) = stream else {
        bail!("{target}: {}", reached.unknown.or(reached.refused).unwrap_or_default());
    };
    stream.set_read_timeout(Some(SILENT_MAX)).context("limit the silence of the connection")?;
    let mut output = io::stdout().lock();
    output.write_all(CONNECTED.as_bytes()).and_then(|()| output.flush()).context("say that there is a connection")?;
    let mut there = stream.try_clone().context("share the connection")?;
    std::thread::spawn(move || {
        // Whoever asks sees how a connection ends by its end.
        let _ = io::copy(&mut io::stdin().lock(), &mut there);
        let _ = there.shutdown(Shutdown::Write);
    });
    let mut here = stream;
    let mut buffer = [0; 16 * 1024];
    // Not `io::copy`: standard output keeps what has no line end yet.
    loop {
        match io::Read::read(&mut here, &mut buffer) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => output.write_all(&buffer[..count]).and_then(|()| output.flush()).context("pass bytes on")?,
        }
    }
}

/// The text of a file; none where it can't be read, as in a container without IPv6.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn resolver() -> Resolver {
    Resolver::read(&read("/etc/resolv.conf"), &read("/etc/hosts"))
}

fn interfaces() -> Vec<(String, u32)> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut found: Vec<(String, u32)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| name != "lo")?;
            let mtu = std::fs::read_to_string(entry.path().join("mtu")).ok()?.trim().parse().ok()?;
            Some((name, mtu))
        })
        .collect();
    found.sort();
    found
}

/// Whether the kernel's tables (/proc/net/route and ipv6_route) have a default route over something else than loopback.
fn has_route(four: &str, six: &str) -> bool {
    let default_four = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000")
    };
    let default_six = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_default = words.first().is_some_and(|to| to.bytes().all(|byte| byte == b'0'));
        is_default && words.get(1) == Some(&"00") && words.last().is_some_and(|name| *name != "lo")
    };
    four.lines().skip(1).any(default_four) || six.lines().any(default_six)
}

fn reach(resolver: &Resolver, target: &str) -> Reached {
    connect(resolver, target).0
}

/// One connection to the first address of a target that takes it, and how that went.
fn connect(resolver: &Resolver, target: &str) -> (Reached, Option<TcpStream>) {
    let mut reached = Reached { target: target.to_owned(), ..Reached::default() };
    let Some((host, port)) = target.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
    else {
        reached.unknown = Some("it is no HOST:PORT".to_owned());
        return (reached, None);
    };
    let addresses = match resolver.addresses(host) {
        Ok(addresses) => addresses,
        Err(reason) => {
            reached.unknown = Some(reason);
            return (reached, None);
        }
    };
    reached.addresses = addresses.iter().map(ToString::to_string).collect();
    let since = Instant::now();
    let (mut problems, mut stream) = (Vec::new(), None);
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        let left = CONNECT_WITHIN.saturating_sub(since.elapsed());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), left) {
            Ok(connected) => {
                stream = Some(connected);
                break;
            }
            Err(error) => problems.push(format!("{address}: {error}")),
        }
    }
    reached.took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    reached.refused = stream.is_none().then(|| problems.join("; "));
    (reached, stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_told_from_others() {
        let head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        let default = format!("{head}eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n");
        let other = format!("{head}eth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n");
        assert!(has_route(&default, "") && !has_route(&other, "") && !has_route("", ""));
        let (zeros, lo) = ("0".repeat(32), "lo");
        let six = |name: &str| format!("{zeros} 00 {zeros} 00 {zeros} 00000000 0 0 00000001 {name}\n");
        assert!(has_route("", &six("eth0")) && !has_route("", &six(lo)));
    }

    #[test]
    fn a_target_is_reached_or_it_is_said_why_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let resolver = Resolver::read("", "127.0.0.1 here\n");
        let reached = reach(&resolver, &format!("here:{port}"));
        assert_eq!((reached.refused, reached.addresses.as_slice()), (None, &["127.0.0.1".to_owned()][..]));
        drop(listener);
        assert!(reach(&resolver, &format!("here:{port}")).refused.is_some());
        assert!(reach(&resolver, "gone:1").unknown.is_some() && reach(&resolver, "here").unknown.is_some());
    }
}
