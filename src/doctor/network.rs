//! GitLab and the registry from inside a container with a job's network: names, ways, certificates, proxy, and the size of packets.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::seen::{judge, packets, see};
use super::targets::{self, Target};
use super::{Finding, Host};
use crate::config::{JobSettings, Network, NetworkSettings, UserNamespace};
use crate::init::probe::{Probed, TARGETS_MAX};
use crate::podman::{PodmanError, Probe, UserMap};

/// How long what runs in the container may take: each target has to be resolved and connected to.
const PROBE_WITHIN: Duration = Duration::from_secs(20 * TARGETS_MAX as u64);

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

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::{expect_remedies, level};
    use super::*;

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
}
