//! Which containers are updated, and by which units: podman's own labels, and the patterns of `[update] include`. Pure.
//!
//! A pod is one unit of work: that of its infra container, whose restart makes all of its containers anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use globset::GlobSet;
use serde::{Deserialize, Serialize};

use crate::job::ImageRef;

/// podman's label for how a container is updated.
pub const POLICY_LABEL: &str = "io.containers.autoupdate";
/// podman's label for the file with logins.
pub const AUTH_FILE_LABEL: &str = "io.containers.autoupdate.authfile";
/// podman's label for the unit that a container belongs to.
pub const UNIT_LABEL: &str = "PODMAN_SYSTEMD_UNIT";

/// The name of a unit of systemd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

impl UnitName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UnitName {
    type Error = String;

    /// A name is an argument of systemctl and a file's name too.
    fn try_from(name: String) -> Result<Self, String> {
        let sound = |character: char| character.is_ascii_alphanumeric() || r":-_.\@".contains(character);
        let kind = name.rsplit_once('.').map_or("", |(_, kind)| kind);
        if name.len() > 255 || name.starts_with(['-', '.']) || !name.chars().all(sound) || kind.is_empty() {
            return Err(format!("{name:?} is no name of a unit; one looks like web.service"));
        }
        Ok(Self(name))
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a container's new images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// From the registry.
    Registry,
    /// From what the tag is on this host.
    Local,
}

/// A container's healthcheck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthSpec {
    /// From the end of one check to the next; zero: podman starts none.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// For so long failures don't count.
    pub start_period: Duration,
    /// So many failures in a row count.
    pub retries: u32,
}

/// A running container, as podman tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image, as it was named when the container was made.
    pub image: String,
    /// The id of its image.
    pub image_id: String,
    /// Its labels, with those that it has from its image.
    pub labels: BTreeMap<String, String>,
    /// The id of its pod.
    pub pod: Option<String>,
    /// Whether it is the one that holds a pod together.
    pub infra: bool,
    /// Whether it runs.
    pub running: bool,
    /// When it was started.
    pub started_at: String,
    /// Its healthcheck.
    pub health: Option<HealthSpec>,
    /// What podman says of its health, and when the last check was over.
    pub health_state: Option<(String, String)>,
    /// The unit that its image names, which proves nothing.
    pub unit_of_image: Option<String>,
}

impl Container {
    /// The unit that whoever made it named. An image may bring any label, and somebody else's image must not have units restarted.
    fn unit(&self) -> Option<&str> {
        let named = self.labels.get(UNIT_LABEL).map(String::as_str)?;
        (self.unit_of_image.as_deref() != Some(named)).then_some(named)
    }
}

/// A container of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, which its successor has too.
    pub name: String,
    /// Its image, as it is named.
    pub image: String,
    /// The id of the image that it runs.
    pub image_id: String,
    /// How it is updated; none: only its pod is.
    pub policy: Option<Policy>,
    /// Logins for its registry.
    pub auth_file: Option<PathBuf>,
    /// The unit of its own, in a pod.
    pub own_unit: Option<UnitName>,
}

/// A unit whose containers are updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// What is restarted.
    pub unit: UnitName,
    /// The id of the pod that it is.
    pub pod: Option<String>,
    /// Its containers, by name.
    pub members: Vec<Member>,
}

impl Managed {
    /// Whether one of its images comes from a registry, from one of these places or below.
    #[must_use]
    pub fn is_below(&self, places: &BTreeSet<String>) -> bool {
        let from_registry = self.members.iter().filter(|member| member.policy == Some(Policy::Registry));
        let mut images = from_registry.filter_map(|member| ImageRef::try_from(member.image.clone()).ok());
        images.any(|image| {
            let ends = image.name().match_indices('/').map(|(end, _)| end).chain([image.name().len()]);
            ends.into_iter().any(|end| places.contains(&image.name()[..end]))
        })
    }
}

/// A container that should be updated and can't be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfit {
    /// Its name.
    pub container: String,
    /// Why, and what to do.
    pub reason: String,
}

/// What of these containers is updated, by unit, and what can't be.
#[must_use]
pub fn managed(containers: &[Container], include: &GlobSet) -> (Vec<Managed>, Vec<Unfit>) {
    let infra: BTreeMap<&str, &Container> = containers
        .iter()
        .filter(|container| container.infra)
        .filter_map(|container| Some((container.pod.as_deref()?, container)))
        .collect();
    let mut found: BTreeMap<UnitName, Managed> = BTreeMap::new();
    let mut unfit = Vec::new();
    for container in containers.iter().filter(|container| !container.infra && container.running) {
        let mut refuse = |reason: String| unfit.push(Unfit { container: container.name.clone(), reason });
        let policy = match policy(container, include) {
            Ok(policy) => policy,
            Err(reason) => {
                refuse(reason);
                continue;
            }
        };
        let of_pod = container.pod.as_deref().and_then(|pod| infra.get(pod)).and_then(|infra| infra.unit());
        let name = match (of_pod.or_else(|| container.unit()), policy) {
            (Some(name), _) => name,
            (None, None) => continue,
            (None, Some(_)) => {
                refuse(
                    "it is not run by a unit of systemd, which alone could make it anew: see podman-generate-systemd(1)"
                        .to_owned(),
                );
                continue;
            }
        };
        let unit = match UnitName::try_from(name.to_owned()) {
            Ok(unit) => unit,
            Err(reason) => {
                refuse(format!("its label {UNIT_LABEL}: {reason}"));
                continue;
            }
        };
        let own_unit = container.unit().and_then(|own| UnitName::try_from(own.to_owned()).ok());
        let entry = found.entry(unit.clone()).or_insert_with(|| Managed {
            unit: unit.clone(),
            pod: of_pod.and(container.pod.clone()),
            members: Vec::new(),
        });
        entry.members.push(Member {
            name: container.name.clone(),
            image: container.image.clone(),
            image_id: container.image_id.clone(),
            policy,
            auth_file: container.labels.get(AUTH_FILE_LABEL).map(PathBuf::from),
            own_unit: own_unit.filter(|own| *own != unit),
        });
    }
    let mut units: Vec<Managed> =
        found.into_values().filter(|unit| unit.members.iter().any(|member| member.policy.is_some())).collect();
    units.iter_mut().for_each(|unit| unit.members.sort_by(|one, other| one.name.cmp(&other.name)));
    (units, unfit)
}

fn policy(container: &Container, include: &GlobSet) -> Result<Option<Policy>, String> {
    let policy = match container.labels.get(POLICY_LABEL).map(String::as_str) {
        Some("registry" | "image") => Policy::Registry,
        Some("local") => Policy::Local,
        Some("disabled" | "") => return Ok(None),
        Some(other) => {
            return Err(format!("its label {POLICY_LABEL} is {other:?}; there are registry, local and disabled"));
        }
        None if include.is_match(&container.image) => Policy::Registry,
        None => return Ok(None),
    };
    if container.image.contains('@') {
        return Err(format!(
            "its image {} is fixed to a digest, which never moves; name a tag instead",
            container.image
        ));
    }
    if policy == Policy::Registry && !is_qualified(&container.image) {
        return Err(format!(
            "its image {} does not say which registry it is from; name it in full, such as docker.io/library/alpine:latest",
            container.image
        ));
    }
    Ok(Some(policy))
}

/// Whether a reference begins with a registry's host.
fn is_qualified(image: &str) -> bool {
    image.split_once('/').is_some_and(|(host, _)| host == "localhost" || host.contains(['.', ':']))
}

#[cfg(test)]
mod tests;
