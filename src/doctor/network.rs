//! GitLab and the registry from inside a container with a job's network: names, ways, certificates, proxy, and the size of packets.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::IpMtu};

use super::answers::{WITHIN, answers};
use super::targets::{self, REGISTRY, Target};
use super::{Finding, Host};
use crate::config::{JobSettings, Network, NetworkSettings, UserNamespace};
use crate::init::probe::{Probed, Reached, TARGETS_MAX};
use crate::podman::{PodmanError, UserMap};

/// How long what runs in the container may take: each target has to be resolved and connected to.
const PROBE_WITHIN: Duration = Duration::from_secs(20 * TARGETS_MAX as u64);

/// What the host itself sees of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// Whether it answers with the certificates that jobs have; none: it is not asked.
    answers: Option<Result<(), String>>,
    /// The largest packet on the way to it, in bytes.
    mtu: Option<u32>,
}

/// Looks at it, for each network that profiles have.
pub async fn check(host: &Host) -> Vec<Finding> {
    if host.options.quick {
        return vec![Finding::skipped("container", "left out by --quick", None)];
    }
    let mut networks: Vec<(&NetworkSettings, &JobSettings)> = Vec::new();
    for profile in host.settings.profiles.values() {
        if !networks.iter().any(|(network, _)| **network == profile.job.network) {
            networks.push((&profile.job.network, &profile.job));
        }
    }
    let mut findings = Vec::new();
    for (network, job) in networks {
        findings.extend(look(host, network, job).await);
    }
    findings.extend(certificates(
        host.settings.gitlab.ca_file.as_deref(),
        host.settings.profiles.values().map(|profile| &profile.job),
    ));
    findings
}

async fn look(host: &Host, network: &NetworkSettings, job: &JobSettings) -> Vec<Finding> {
    let podman = match &host.podman {
        Ok(podman) => podman,
        Err(reason) => return vec![Finding::skipped("container", reason.clone(), Some("sudo windlass doctor"))],
    };
    let has_network = network.mode != Network::None;
    let targets = if has_network { targets::look(host, &job.environment).await } else { Vec::new() };
    let line = ["probe".to_owned()].into_iter().chain(targets.iter().map(Target::connects_to)).collect::<Vec<_>>();
    // Where containers of jobs are made in a slice of theirs, it is asked for that first.
    let _ = podman.storage().await;
    let answer = podman.probe(user_map(host), network, &line, PROBE_WITHIN).await;
    let probed = match read(answer) {
        Ok(probed) => probed,
        Err(error) => return vec![no_container(&error)],
    };
    let mut findings = vec![Finding::ok("container", "a container with a job's user namespace starts")];
    if !has_network {
        findings.push(Finding::skipped("network", "jobs have no network ([job] network = \"none\")", None));
        return findings;
    }
    if targets.is_empty() {
        let remedy = "[gitlab] url in windlass.toml, or --runner-config for gitlab-runner's";
        findings.push(Finding::skipped("network", "nobody names a GitLab to look for", Some(remedy)));
    }
    findings.extend(way_out(&probed, network));
    for (target, reached) in targets.iter().zip(&probed.targets) {
        let seen = seen(target, job.ca_file.as_deref()).await;
        findings.extend(judge(target, reached, &seen));
        findings.extend(packets(&probed.interfaces, seen.mtu, network, podman.rootful, target));
    }
    findings
}

fn user_map(host: &Host) -> UserMap {
    match host.settings.podman.user_namespace {
        UserNamespace::Host => UserMap::Host,
        UserNamespace::Separate { .. } if !host.is_rootful() => UserMap::NoMap,
        // The last range: projects begin with the first.
        UserNamespace::Separate { first, size, ranges } => {
            UserMap::Range { first: first.saturating_add(size.saturating_mul(ranges.saturating_sub(1))), size }
        }
    }
}

fn read(answer: Result<String, PodmanError>) -> Result<Probed, String> {
    let text = answer.map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("windlass-init says something else than expected: {error}"))
}

fn no_container(error: &str) -> Finding {
    let remedy = if error.contains("statfs") || error.contains("windlass-init") && error.contains("no such file") {
        "scripts/install.sh, or the package: [podman] init has to be there, and readable for the service's user"
    } else if error.contains("tun") {
        "chmod 0666 /dev/net/tun, or modprobe tun: slirp4netns and pasta need it"
    } else {
        "the lines above on podman, ids and cgroups say what most often keeps one from starting; mend these first"
    };
    Finding::error("container", format!("no container can be started: {error}"), "no job runs on this host", remedy)
}

fn way_out(probed: &Probed, network: &NetworkSettings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if network.mode == Network::Private && !probed.has_route {
        findings.push(Finding::error(
            "route",
            "the container has no default route",
            "jobs reach nothing outside",
            "podman network inspect podman: is it internal, or has it no gateway? With a firewall that was reloaded: podman network reload --all",
        ));
    }
    if probed.name_servers.is_empty() {
        findings.push(Finding::error(
            "name-servers",
            "the container has no name server",
            "no name is known in jobs but those of their services",
            "[job] dns in windlass.toml, or nameserver lines in the host's /etc/resolv.conf",
        ));
    } else if network.mode == Network::Private
        && probed.name_servers.iter().all(|server| server.starts_with("127.") || server == "::1")
    {
        findings.push(Finding::error(
            "name-servers",
            format!("the container's name server is {}, its own loopback", probed.name_servers.join(", ")),
            "no name is known in jobs: the host's resolver is not inside",
            "[job] dns in windlass.toml, with a server of your network",
        ));
    }
    findings
}

fn judge(target: &Target, reached: &Reached, seen: &Seen) -> Vec<Finding> {
    let (name, place) = (target.name, &reached.target);
    let through = target.proxy.as_ref().map(|_| " (the proxy of [job] environment)").unwrap_or_default();
    let host_reaches = matches!(seen.answers, Some(Ok(()))) || (seen.answers.is_none() && seen.mtu.is_some());
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
    if let Some(Err(error)) = &seen.answers {
        let is_trust = ["certificate", "issuer", "UnknownIssuer"].iter().any(|word| error.contains(word));
        findings.push(if is_trust && let Some(directory) = &target.podman_trusts {
            Finding::warning(
                "trust",
                format!(
                    "podman trusts {name} at {}:{} by {}, and jobs do not: {error}",
                    target.host,
                    target.port,
                    directory.display()
                ),
                "images of it are pulled, and jobs that build images can neither pull nor push them",
                "[job] ca_file in windlass.toml: the certificates (PEM) of your own authority",
            )
        } else if is_trust {
            Finding::error(
                "trust",
                format!(
                    "the certificate of {name} at {}:{} is not trusted with what jobs have: {error}",
                    target.host, target.port
                ),
                if name == REGISTRY {
                    "no image of it is pulled, and jobs that build images can't push them"
                } else {
                    "git, curl and gitlab-runner in jobs refuse to talk to it"
                },
                "[job] ca_file in windlass.toml: the certificates (PEM) of your own authority",
            )
        } else {
            Finding::warning(
                "answers",
                format!(
                    "{name} at {}:{}{through} takes connections, and does not answer as it should: {error}",
                    target.host, target.port
                ),
                fails,
                "curl -v the address from this host: is it out of order, or does a proxy in between refuse?",
            )
        });
    }
    findings
}

/// A packet that fits the container's network and not what comes behind is lost on many ways: small answers come, large ones hang.
fn packets(
    interfaces: &[(String, u32)],
    way: Option<u32>,
    network: &NetworkSettings,
    rootful: bool,
    target: &Target,
) -> Option<Finding> {
    let way = way?;
    // None is sent: what the container's interface takes is compared with what the host's kernel knows of the way.
    // A rootless podman's packets end on the host, where a process makes connections of its own of them.
    if !rootful || network.mode != Network::Private {
        return None;
    }
    let (name, largest) = interfaces.iter().max_by_key(|(_, mtu)| *mtu)?;
    let largest = network.mtu.map_or(*largest, |own| own.max(*largest));
    if largest <= way {
        return Some(Finding::ok("mtu", format!("packets of {largest} bytes fit the way to {}", target.host)));
    }
    Some(Finding::warning(
        "mtu",
        format!("packets in containers have up to {largest} bytes ({name}), and {way} fit the way to {}", target.host),
        "connections of jobs hang as soon as much is sent, with a VPN or an overlay network in between",
        format!(
            "network_mtu = {way} in [job] for jobs with services; for all others: podman network inspect podman | \
             jq '.[0] + {{options: {{mtu: \"{way}\"}}}}' >/etc/containers/networks/podman.json"
        ),
    ))
}

/// An authority that the service is told of and jobs are not.
fn certificates<'a>(service: Option<&Path>, jobs: impl Iterator<Item = &'a JobSettings>) -> Option<Finding> {
    let file = service?;
    jobs.into_iter().any(|job| job.ca_file.is_none()).then(|| {
        Finding::warning(
            "job-ca",
            format!("[gitlab] ca_file is {}, and [job] ca_file is not set", file.display()),
            "the service trusts your authority, and what runs in jobs does not: curl, docker clients, package managers",
            format!("ca_file = \"{}\" in [job]", file.display()),
        )
    })
}

async fn seen(target: &Target, ca_file: Option<&Path>) -> Seen {
    let answers = match &target.url {
        Some(url) => Some(answers(url, target, ca_file).await),
        None => None,
    };
    let lookup = tokio::time::timeout(WITHIN, tokio::net::lookup_host(target.connects_to()));
    let address = lookup.await.ok().and_then(Result::ok).and_then(|mut addresses| addresses.next());
    Seen { answers, mtu: address.and_then(path_mtu) }
}

/// The largest packet that the kernel believes to fit the way to an address. Nothing is sent.
fn path_mtu(address: SocketAddr) -> Option<u32> {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { return None };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(address).ok()?;
    u32::try_from(getsockopt(&socket, IpMtu).ok()?).ok()
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

    fn judged(reached: Reached, answers: Result<(), String>) -> Vec<Finding> {
        let reached = Reached { target: "gl.example.com:443".into(), ..reached };
        let findings = judge(&target(None), &reached, &Seen { answers: Some(answers), mtu: Some(1500) });
        expect_remedies(&findings);
        findings
    }

    #[test]
    fn a_name_a_way_and_trust_are_told_apart() {
        assert_eq!(level(&judged(Reached::default(), Ok(())), "reach"), Level::Ok);
        let unknown = Reached { unknown: Some("no".into()), ..Reached::default() };
        assert_eq!(level(&judged(unknown, Ok(())), "dns"), Level::Error);
        let refused = judged(Reached { refused: Some("no route".into()), ..Reached::default() }, Ok(()));
        assert!(refused[0].what.contains("the host itself reaches it"), "{refused:?}");
        let distrusted = judged(Reached::default(), Err("invalid peer certificate: UnknownIssuer".into()));
        assert_eq!(level(&distrusted, "trust"), Level::Error);
        assert_eq!(level(&judged(Reached::default(), Err("reset".into())), "answers"), Level::Warning);
    }

    #[test]
    fn a_registry_that_podman_alone_trusts_is_a_warning_and_one_that_nobody_does_an_error() {
        let seen = Seen { answers: Some(Err("invalid peer certificate: UnknownIssuer".into())), mtu: None };
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
    fn packets_that_are_too_large_for_the_way_are_a_warning_for_root_alone() {
        let eth = [("eth0".to_owned(), 1500)];
        let of = |way, rootful, mtu| {
            packets(&eth, Some(way), &NetworkSettings { mtu, ..NetworkSettings::default() }, rootful, &target(None))
        };
        assert_eq!(of(1500, true, None).map(|finding| finding.level), Some(Level::Ok));
        let small = of(1400, true, None).expect("a finding");
        assert!(small.remedy.as_deref().is_some_and(|words| words.contains("network_mtu = 1400")), "{small:?}");
        assert_eq!(of(1400, false, None), None);
        assert_eq!(of(1500, true, Some(9000)).map(|finding| finding.level), Some(Level::Warning));
        let of_host = NetworkSettings { mode: Network::Host, ..NetworkSettings::default() };
        assert_eq!(packets(&eth, Some(1400), &of_host, true, &target(None)), None);
        expect_remedies(&[small]);
    }

    #[test]
    fn a_container_without_a_way_out_or_a_name_server_is_an_error() {
        let network = NetworkSettings::default();
        let good = Probed { has_route: true, name_servers: vec!["192.0.2.1".into()], ..Probed::default() };
        assert_eq!(way_out(&good, &network), []);
        let none = way_out(&Probed::default(), &network);
        assert_eq!((level(&none, "route"), level(&none, "name-servers")), (Level::Error, Level::Error));
        let own = way_out(&Probed { name_servers: vec!["127.0.0.53".into()], ..good }, &network);
        assert_eq!(level(&own, "name-servers"), Level::Error);
        let starts = no_container("podman run: statfs /x/windlass-init: no such file or directory");
        expect_remedies(&[none, own, vec![starts]].concat());
    }

    #[test]
    fn an_authority_for_the_service_alone_is_a_warning() {
        let settings = crate::config::parse(Path::new("x.toml"), "").expect("valid");
        let jobs = || settings.profiles.values().map(|profile| &profile.job);
        assert_eq!(certificates(None, jobs()), None);
        assert_eq!(certificates(Some(Path::new("/ca")), jobs()).map(|finding| finding.level), Some(Level::Warning));
    }

    #[test]
    fn the_way_to_this_host_has_a_size() {
        assert!(path_mtu(([127, 0, 0, 1], 80).into()).is_some_and(|mtu| mtu >= 1500));
    }
}
