//! One server, GitLab or the registry, as a container sees it: asked there, compared with what the host sees, and judged.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::IpMtu};

use super::Finding;
use super::answers::{self, Answer, LARGE, WITHIN};
use super::targets::{REGISTRY, Target};
use super::tunnel::Tunnel;
use crate::init::probe::Reached;
use crate::podman::Probe;

/// What was seen of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What it answers in a container; none: it was not asked there.
    inside: Option<Answer>,
    /// What it answers there to a request of several packets of full size; none: it was not asked so.
    large: Option<Answer>,
    /// What it answers the host; none: it was not asked, as there was no need or no address to ask.
    host: Option<Answer>,
    /// The largest packet that the host's kernel believes to fit the way to it, in bytes.
    way: Option<u32>,
}

/// Looks at a target: from a container, and where that is not well, from the host. With `of_own_size`, with large packets too.
pub async fn see(
    probe: &Probe<'_>,
    target: &Target,
    reached: &Reached,
    ca_file: Option<&Path>,
    of_own_size: bool,
) -> Seen {
    let is_reached = reached.unknown.is_none() && reached.refused.is_none();
    let mut seen = Seen::default();
    if let Some(url) = &target.url {
        if is_reached && target.can_be_led_to() {
            seen.inside = Some(through(probe, target, url, ca_file, 0).await);
        }
        if of_own_size && seen.inside == Some(Answer::Good) {
            seen.large = Some(through(probe, target, url, ca_file, LARGE).await);
        }
        if seen.inside != Some(Answer::Good) {
            seen.host = Some(answers::from_host(url, target, ca_file).await);
        }
    }
    let lookup = tokio::time::timeout(WITHIN, tokio::net::lookup_host(target.connects_to()));
    let address = lookup.await.ok().and_then(Result::ok).and_then(|mut addresses| addresses.next());
    seen.way = address.and_then(path_mtu);
    seen
}

/// Asks a target through a container.
async fn through(probe: &Probe<'_>, target: &Target, url: &str, ca_file: Option<&Path>, size: usize) -> Answer {
    match Tunnel::open(probe, target).await {
        Ok(tunnel) => answers::over(&tunnel.socket(), url, target, ca_file, size).await,
        Err(error) => Answer::Odd(error),
    }
}

/// The largest packet that the kernel believes to fit the way to an address. Nothing is sent.
fn path_mtu(address: SocketAddr) -> Option<u32> {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { return None };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(address).ok()?;
    u32::try_from(getsockopt(&socket, IpMtu).ok()?).ok()
}

/// Judges whether a target is reached from a container, and is trusted there.
pub fn judge(target: &Target, reached: &Reached, seen: &Seen) -> Vec<Finding> {
    let (name, place) = (target.name, &reached.target);
    let through = target.proxy.as_ref().map(|_| " (the proxy of [job] environment)").unwrap_or_default();
    let host_reaches = seen.host == Some(Answer::Good) || (target.url.is_none() && seen.way.is_some());
    let whose = if host_reaches { "; the host itself reaches it" } else { "" };
    let fails = if name == "GitLab" {
        "jobs can't clone, nor fetch or save artifacts"
    } else {
        "jobs that build images can't push or pull them"
    };
    if let Some(reason) = &reached.unknown {
        return vec![Finding::error(
            "dns",
            format!("inside a container {place}{through} is not found: {reason}"),
            fails,
            "[job] dns in windlass.toml names servers that know it, extra_hosts gives it an address",
        )];
    }
    if let Some(reason) = &reached.refused {
        let remedy = match &target.proxy {
            Some(_) => "correct the proxy in [job] environment, and open it to the addresses of containers",
            None if place.starts_with("127.") || place.starts_with("localhost") => {
                "loopback is the container's own: give jobs a name or address that leads to the host, or network = \"host\" in [job]"
            }
            None => {
                "let the firewall pass containers on (nft list ruleset, firewall-cmd --list-all; podman network reload --all after each \
                 reload of it); where only a proxy leads out: HTTPS_PROXY and NO_PROXY in [job] environment"
            }
        };
        return vec![Finding::error(
            "reach",
            format!("from inside a container {name} at {place}{through} is not reached: {reason}{whose}"),
            fails,
            remedy,
        )];
    }
    let mut findings = vec![Finding::ok(
        "reach",
        format!("{name} at {place}{through} is reached from inside a container, in {} ms", reached.took_ms),
    )];
    let (answer, from) = match (&seen.inside, &seen.host) {
        (Some(inside), _) => (inside, "to a container"),
        (None, Some(host)) => (host, "to this host"),
        (None, None) => return findings,
    };
    match answer {
        Answer::Good => {}
        Answer::Silent if seen.loses_packets() => {}
        Answer::Distrusted(error) => findings.push(distrusted(target, error, seen)),
        Answer::Silent | Answer::Odd(_) => findings.push(Finding::warning(
            "answers",
            format!(
                "{name} at {}:{}{through} takes connections, and does not answer {from} as it should: {}",
                target.host,
                target.port,
                answer.problem()
            ),
            fails,
            "curl -v the address from this host: is it out of order, or does a proxy in between refuse?",
        )),
    }
    findings
}

fn distrusted(target: &Target, error: &str, seen: &Seen) -> Finding {
    let (name, place) = (target.name, format!("{}:{}", target.host, target.port));
    let remedy = "[job] ca_file in windlass.toml: the certificates (PEM) of your own authority";
    if let Some(directory) = &target.podman_trusts {
        return Finding::warning(
            "trust",
            format!("podman trusts {name} at {place} by {}, and jobs do not: {error}", directory.display()),
            "images of it are pulled, and jobs that build images can neither pull nor push them",
            remedy,
        );
    }
    let between = if seen.inside.is_some() && seen.host == Some(Answer::Good) {
        "; this host is shown another one, so that something between answers containers"
    } else {
        ""
    };
    Finding::error(
        "trust",
        format!("the certificate of {name} at {place} is not trusted with what jobs have: {error}{between}"),
        if name == REGISTRY {
            "no image of it is pulled, and jobs that build images can't push them"
        } else {
            "git, curl and gitlab-runner in jobs refuse to talk to it"
        },
        remedy,
    )
}

impl Seen {
    /// Whether it is by their size that packets are lost: what is small comes through, or nothing does but to the host. A server's
    /// certificates alone fill packets.
    fn loses_packets(&self) -> bool {
        match (&self.inside, &self.large) {
            (Some(Answer::Good), Some(Answer::Silent)) => true,
            (Some(Answer::Silent), _) => self.host == Some(Answer::Good),
            _ => false,
        }
    }
}

/// A packet that fits the container's network and not what comes behind is lost on many ways: small answers come, large ones hang.
pub fn packets(interfaces: &[(String, u32)], seen: &Seen, target: &Target) -> Option<Finding> {
    let place = format!("{}:{}", target.host, target.port);
    let (name, largest) = interfaces.iter().max_by_key(|(_, mtu)| *mtu)?;
    if !seen.loses_packets() {
        let passes = seen.inside == Some(Answer::Good) && seen.large.is_some();
        return passes
            .then(|| Finding::ok("mtu", format!("packets of {largest} bytes, as {name} has them, get to {place}")));
    }
    // IPv6 needs 1280 (RFC 8200, section 5); what a VPN or an overlay network takes away is less than 100.
    let fits = seen.way.filter(|way| way < largest).unwrap_or(1400);
    Some(Finding::error(
        "mtu",
        format!(
            "from inside a container {place} takes connections, and large packets are lost: {name} has up to {largest} bytes"
        ),
        "jobs hang as soon as much is sent: the way has a VPN or an overlay network, or a firewall that drops ICMP",
        format!(
            "network_mtu = {fits} in [job] for jobs with services; for all others: podman network inspect podman | \
             jq '.[0] + {{options: {{mtu: \"{fits}\"}}}}' >/etc/containers/networks/podman.json"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::{expect_remedies, level};
    use super::*;

    fn target(proxy: Option<&str>) -> Target {
        Target {
            name: "GitLab",
            host: "gl.example.com".into(),
            port: 443,
            url: Some("https://gl.example.com".into()),
            proxy: proxy.map(str::to_owned),
            podman_trusts: None,
        }
    }

    fn distrusts() -> Answer {
        Answer::Distrusted("invalid peer certificate: UnknownIssuer".into())
    }

    fn judged(reached: Reached, inside: Option<Answer>, host: Option<Answer>) -> Vec<Finding> {
        let reached = Reached { target: "gl.example.com:443".into(), ..reached };
        let findings = judge(&target(None), &reached, &Seen { inside, host, ..Seen::default() });
        expect_remedies(&findings);
        findings
    }

    #[test]
    fn a_name_a_way_and_trust_are_told_apart() {
        let good = || Some(Answer::Good);
        assert_eq!(level(&judged(Reached::default(), good(), None), "reach"), Level::Ok);
        let unknown = Reached { unknown: Some("no".into()), ..Reached::default() };
        assert_eq!(level(&judged(unknown, None, good()), "dns"), Level::Error);
        let refused = judged(Reached { refused: Some("no route".into()), ..Reached::default() }, None, good());
        assert!(refused[0].what.contains("the host itself reaches it"), "{refused:?}");
        let odd = || Some(Answer::Odd("reset".into()));
        assert_eq!(level(&judged(Reached::default(), odd(), good()), "answers"), Level::Warning);
        assert_eq!(
            level(&judged(Reached::default(), None, odd()), "answers"),
            Level::Warning,
            "asked from the host alone"
        );
        let silent = judged(Reached::default(), Some(Answer::Silent), Some(Answer::Silent));
        assert!(silent.iter().any(|finding| finding.what.contains("no answer within 10s")), "{silent:?}");
    }

    #[test]
    fn trust_is_what_a_container_is_shown() {
        let what = |inside, host| {
            let findings = judged(Reached::default(), inside, host);
            assert_eq!(level(&findings, "trust"), Level::Error);
            findings.into_iter().find(|finding| finding.check == "trust").expect("one").what
        };
        assert!(!what(Some(distrusts()), Some(distrusts())).contains("between"));
        assert!(what(Some(distrusts()), Some(Answer::Good)).contains("something between answers containers"));
        assert!(!what(None, Some(distrusts())).contains("between"));
    }

    #[test]
    fn a_registry_that_podman_alone_trusts_is_a_warning_and_one_that_nobody_does_an_error() {
        let seen = Seen { inside: Some(distrusts()), ..Seen::default() };
        for (podman_trusts, expected) in
            [(None, Level::Error), (Some("/etc/containers/certs.d/r".into()), Level::Warning)]
        {
            let target = Target { name: REGISTRY, podman_trusts, ..target(None) };
            let findings = judge(&target, &Reached::default(), &seen);
            expect_remedies(&findings);
            assert_eq!(level(&findings, "trust"), expected);
            let found = findings.iter().find(|finding| finding.check == "trust").expect("one");
            assert!(found.remedy.as_deref().is_some_and(|words| words.contains("[job] ca_file")), "{found:?}");
        }
    }

    #[test]
    fn packets_are_lost_by_their_size_where_small_ones_come_or_the_host_alone_is_answered() {
        let eth = [("eth0".to_owned(), 1500)];
        let of = |inside, large, host, way| {
            let seen = Seen { inside: Some(inside), large, host, way };
            packets(&eth, &seen, &target(None))
        };
        let good = || Some(Answer::Good);
        let passes = of(Answer::Good, Some(Answer::Odd("431".into())), None, Some(1400)).expect("a finding");
        assert_eq!(passes.level, Level::Ok, "it came, whatever was said to it");
        assert_eq!(of(Answer::Good, None, None, None), None, "none was sent");
        assert_eq!(of(Answer::Silent, None, Some(Answer::Silent), None), None, "nobody is answered");
        let lost = of(Answer::Good, Some(Answer::Silent), None, Some(1420)).expect("a finding");
        assert!(lost.remedy.as_deref().is_some_and(|words| words.contains("network_mtu = 1420")), "{lost:?}");
        let hangs = of(Answer::Silent, None, good(), Some(1500)).expect("a finding");
        assert!(hangs.remedy.as_deref().is_some_and(|words| words.contains("network_mtu = 1400")), "{hangs:?}");
        expect_remedies(&[lost, hangs]);
        let hangs = judged(Reached::default(), Some(Answer::Silent), good());
        assert!(hangs.iter().all(|finding| finding.check != "answers"), "it is said once: {hangs:?}");
    }

    #[test]
    fn the_way_to_this_host_has_a_size() {
        assert!(path_mtu(([127, 0, 0, 1], 80).into()).is_some_and(|mtu| mtu >= 1500));
    }
}
