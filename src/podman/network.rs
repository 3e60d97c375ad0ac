//! Networks of a job's own, and a container's place in one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use super::{LABEL, Labels, Podman, PodmanError};
use crate::config::{Network, NetworkSettings};

/// A container's place in a job's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The network.
    pub network: String,
    /// The container's addresses there.
    pub addresses: Vec<IpAddr>,
    /// Names of the network's containers, for /etc/hosts.
    pub hosts: Vec<(String, IpAddr)>,
}

/// The subnets of a job's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobNetwork {
    /// Its name.
    pub name: String,
    /// The first address of each of its subnets.
    bases: Vec<IpAddr>,
}

impl JobNetwork {
    /// The addresses of the container with this number. The network's own gateway has the first ones.
    #[must_use]
    pub fn addresses(&self, number: u8) -> Vec<IpAddr> {
        let offset = u32::from(number) + 2;
        let moved = |base: &IpAddr| match base {
            IpAddr::V4(base) => IpAddr::V4(Ipv4Addr::from(u32::from(*base) + offset)),
            IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from(u128::from(*base) + u128::from(offset))),
        };
        self.bases.iter().map(moved).collect()
    }
}

/// The arguments for a container's network.
pub(super) fn arguments(settings: &NetworkSettings, place: Option<&Place>) -> Vec<String> {
    let mut line = Vec::new();
    let mut add = |option: &str, value: String| line.extend([option.to_owned(), value]);
    match (place, settings.mode) {
        (Some(place), _) if !place.addresses.is_empty() => {
            let addresses: Vec<String> = place.addresses.iter().map(|address| format!("ip={address}")).collect();
            add("--network", format!("{}:{}", place.network, addresses.join(",")));
        }
        (_, Network::Private) => {}
        (_, Network::Host) => add("--network", "host".to_owned()),
        (_, Network::None) => add("--network", "none".to_owned()),
    }
    if settings.mode != Network::None || place.is_some() {
        settings.dns.iter().for_each(|server| add("--dns", server.clone()));
        settings.dns_search.iter().for_each(|domain| add("--dns-search", domain.clone()));
        let own = place.into_iter().flat_map(|place| &place.hosts).map(|(name, address)| (name, address.to_string()));
        let given = settings.extra_hosts.iter().map(|(name, address)| (name, address.clone()));
        own.chain(given).for_each(|(name, address)| add("--add-host", format!("{name}:{address}")));
    }
    line
}

#[derive(Deserialize)]
struct Inspected {
    subnets: Vec<Subnet>,
}

#[derive(Deserialize)]
struct Subnet {
    subnet: String,
}

fn parse(name: &str, text: &str) -> Result<JobNetwork, String> {
    let list: Vec<Inspected> = serde_json::from_str(text).map_err(|error| format!("unreadable answer: {error}"))?;
    let subnets = list.into_iter().next().map(|network| network.subnets).unwrap_or_default();
    let base = |subnet: Subnet| {
        let address = subnet.subnet.split('/').next().unwrap_or_default();
        address.parse().map_err(|_| format!("{:?} is no subnet", subnet.subnet))
    };
    let bases = subnets.into_iter().map(base).collect::<Result<Vec<_>, _>>()?;
    if bases.is_empty() {
        return Err("the network has no subnet".to_owned());
    }
    Ok(JobNetwork { name: name.to_owned(), bases })
}

impl Podman {
    /// Makes a network. Its containers know each other by /etc/hosts: that needs no name server, which rootless podman has only
    /// where systemd runs a manager for the user.
    ///
    /// # Errors
    /// podman's words.
    pub async fn create_network(
        &self,
        name: &str,
        labels: &Labels,
        mtu: Option<u32>,
        ipv6: bool,
        internal: bool,
    ) -> Result<JobNetwork, PodmanError> {
        let mut line = ["network", "create", "--disable-dns"].map(str::to_owned).to_vec();
        for (key, value) in labels.pairs() {
            line.extend(["--label".to_owned(), format!("{LABEL}.{key}={value}")]);
        }
        if let Some(mtu) = mtu {
            line.extend(["--opt".to_owned(), format!("mtu={mtu}")]);
        }
        if ipv6 {
            line.push("--ipv6".to_owned());
        }
        if internal {
            line.push("--internal".to_owned());
        }
        line.push(name.to_owned());
        self.call(&line).await?;
        let text = self.call(&["network".to_owned(), "inspect".to_owned(), name.to_owned()]).await?;
        parse(name, &text).map_err(|message| PodmanError {
            operation: "network inspect".to_owned(),
            message,
            code: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_of_a_network_has_addresses_of_its_own() {
        let text =
            r#"[{"name":"n","subnets":[{"subnet":"10.89.3.0/24","gateway":"10.89.3.1"},{"subnet":"fd00:1::/64"}]}]"#;
        let network = parse("n", text).expect("valid");
        let shown = |number| network.addresses(number).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(0), ["10.89.3.2", "fd00:1::2"]);
        assert_eq!(shown(65), ["10.89.3.67", "fd00:1::43"]);
        assert!(parse("n", "[]").is_err() && parse("n", r#"[{"subnets":[{"subnet":"x"}]}]"#).is_err());
    }

    #[test]
    fn a_place_in_a_network_brings_its_names() {
        let address: IpAddr = "10.89.3.3".parse().expect("valid");
        let place = Place { network: "n".into(), addresses: vec![address], hosts: vec![("db".into(), address)] };
        let settings = |mode| NetworkSettings {
            mode,
            dns: vec!["9.9.9.9".into()],
            extra_hosts: [("x".to_owned(), "::1".to_owned())].into(),
            ..NetworkSettings::default()
        };
        let line = |mode, place| arguments(&settings(mode), place).join(" ");
        let rest = "--dns 9.9.9.9 --add-host db:10.89.3.3 --add-host x:::1";
        assert_eq!(line(Network::Private, Some(&place)), format!("--network n:ip=10.89.3.3 {rest}"));
        let nowhere = Place { addresses: vec![], ..place.clone() };
        assert_eq!(line(Network::Host, Some(&nowhere)), format!("--network host {rest}"));
        assert_eq!(line(Network::Private, None), "--dns 9.9.9.9 --add-host x:::1");
        assert_eq!(line(Network::None, None), "--network none");
    }
}
