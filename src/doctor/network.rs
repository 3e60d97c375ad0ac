//! GitLab and the registry from inside a container with a job's network: names, ways, certificates, proxy, and the size of packets.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::IpMtu};

use super::answers::{self, Answer, LARGE, WITHIN};
use super::targets::{self, REGISTRY, Target};
use super::tunnel::Tunnel;
use super::{Finding, Host};
use crate::config::{JobSettings, Network, NetworkSettings, UserNamespace};
use crate::init::probe::{Probed, Reached, TARGETS_MAX};
use crate::podman::{PodmanError, Probe, UserMap};

/// How long what runs in the container may take: each target has to be resolved and connected to.
const PROBE_WITHIN: Duration = Duration::from_secs(20 * TARGETS_MAX as u64);

/// What was seen of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    /// What it answers in a container; none: it was not asked there.
    inside: Option<Answer>,
    /// What it answers there to a request of several packets of full size; none: it was not asked so.
    large: Option<Answer>,
    /// What it answers the host; none: it was not asked, as there was no need or no address to ask.
    host: Option<Answer>,
    /// The largest packet that the host's kernel believes to fit the way to it, in bytes.
    way: Option<u32>,
}

/// Looks at it, for each network that profiles have.
pub async fn check(host: &Host) -> Vec<Finding> {
    if host.options.quick {
        return vec![Finding::skipped("container", "left out by --quick", None)];
    }
    let jobs: Vec<&JobSettings> = host.settings.profiles.values().map(|profile| &profile.job).collect();
    let (mut networks, mut ulimits) = (Vec::<&NetworkSettings>::new(), Vec::new());
    let mut findings = Vec::new();
    for job in &jobs {
        if !networks.contains(&&job.network) {
            networks.push(&job.network);
            ulimits.push(&job.resources.ulimits);
            findings.extend(look(host, &job.network, job).await);
        }
    }
    for of in jobs.iter().flat_map(|job| [&job.resources.ulimits, &job.services.resources.ulimits]) {
        if !of.is_empty() && !ulimits.contains(&of) {
            ulimits.push(of);
            findings.extend(starts_with(host, of).await);
        }
    }
    findings.extend(certificates(
        host.settings.gitlab.ca_file.as_deref(),
        host.settings.profiles.values().map(|profile| &profile.job),
    ));
    findings
}

/// What hinders a container with these ulimits from starting.
async fn starts_with(host: &Host, ulimits: &BTreeMap<String, String>) -> Option<Finding> {
    let network = &NetworkSettings { mode: Network::None, ..NetworkSettings::default() };
    let podman = host.podman.as_ref().ok()?;
    let probe = match podman.probe(user_map(host), network, ulimits).await {
        Ok(probe) => probe,
        Err(error) => return Some(no_container(&error.to_string())),
    };
    let answer = read(probe.run(&["probe".to_owned()], PROBE_WITHIN).await);
    probe.end().await;
    answer.err().map(|error| no_container(&error))
}

async fn look(host: &Host, network: &NetworkSettings, job: &JobSettings) -> Vec<Finding> {
    let podman = match &host.podman {
        Ok(podman) => podman,
        Err(reason) => return vec![Finding::skipped("container", reason.clone(), Some("sudo windlass doctor"))],
    };
    let targets = if network.mode != Network::None { targets::look(host, &job.environment).await } else { Vec::new() };
    let line = ["probe".to_owned()].into_iter().chain(targets.iter().map(Target::connects_to)).collect::<Vec<_>>();
    // Where containers of jobs are made in a slice of theirs, it is asked for that first.
    let _ = podman.storage().await;
    let probe = match podman.probe(user_map(host), network, &job.resources.ulimits).await {
        Ok(probe) => probe,
        Err(error) => return vec![no_container(&error.to_string())],
    };
    let findings = match read(probe.run(&line, PROBE_WITHIN).await) {
        Ok(probed) => look_at(&probe, &probed, &targets, network, job, podman.rootful).await,
        Err(error) => vec![no_container(&error)],
    };
    probe.end().await;
    findings
}

async fn look_at(
    probe: &Probe<'_>,
    probed: &Probed,
    targets: &[Target],
    network: &NetworkSettings,
    job: &JobSettings,
    rootful: bool,
) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("container", "a container with a job's user namespace starts")];
    if network.mode == Network::None {
        findings.push(Finding::skipped("network", "jobs have no network ([job] network = \"none\")", None));
        return findings;
    }
    if targets.is_empty() {
        let remedy = "[gitlab] url in windlass.toml, or --runner-config for gitlab-runner's";
        findings.push(Finding::skipped("network", "nobody names a GitLab to look for", Some(remedy)));
    }
    findings.extend(way_out(probed, network));
    // A rootless podman's packets end on the host, where a process makes connections of its own of them.
    let of_own_size = rootful && network.mode == Network::Private;
    for (target, reached) in targets.iter().zip(&probed.targets) {
        let seen = see(probe, target, reached, job.ca_file.as_deref(), of_own_size).await;
        findings.extend(judge(target, reached, &seen));
        findings.extend(packets(&probed.interfaces, &seen, target));
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
        "install the package windlass again (or scripts/install.sh): [podman] init has to be there, and readable for the service's user"
    } else if error.contains("rlimit") {
        // So it is with root's podman 4.3; a rootless one takes its own limits.
        "in windlass.toml, [job] and [job.service]: ulimits = { nofile = \"1024:4096\", nproc = \"4096\" }, both of them and none above \
         /proc/$(pidof windlassd)/limits: what is not named, root's podman sets above them, which a host without CAP_SYS_RESOURCE does not let it"
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
fn packets(interfaces: &[(String, u32)], seen: &Seen, target: &Target) -> Option<Finding> {
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

async fn see(probe: &Probe<'_>, target: &Target, reached: &Reached, ca_file: Option<&Path>, of_own_size: bool) -> Seen {
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
    fn a_container_without_a_way_out_or_a_name_server_is_an_error() {
        let network = NetworkSettings::default();
        let good = Probed { has_route: true, name_servers: vec!["192.0.2.1".into()], ..Probed::default() };
        assert_eq!(way_out(&good, &network), []);
        let none = way_out(&Probed::default(), &network);
        assert_eq!((level(&none, "route"), level(&none, "name-servers")), (Level::Error, Level::Error));
        let own = way_out(&Probed { name_servers: vec!["127.0.0.53".into()], ..good }, &network);
        assert_eq!(level(&own, "name-servers"), Level::Error);
        let starts = no_container("podman run: statfs /x/windlass-init: no such file or directory");
        let limits = no_container("runc create failed: error setting rlimit type 7: operation not permitted");
        assert!(limits.remedy.as_deref().is_some_and(|remedy| remedy.contains("nproc = \"4096\"")), "{limits:?}");
        expect_remedies(&[none, own, vec![starts, limits]].concat());
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
