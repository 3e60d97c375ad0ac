//! podman, as far as an update needs it: what runs, which images there are, pulls and tags.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::call::{CallError, Caller};
use super::units::{Container, HealthSpec, UNIT_LABEL};

/// A container may end between the list and the look at it; then everything is looked at again, this often.
const LOOKS: u32 = 5;
/// podman's exit code for what is not there.
const NOT_THERE: i32 = 1;

/// An image of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalImage {
    /// Its id, without `sha256:`.
    pub id: String,
    /// The digests by which a registry may know it: its own, and those of the lists that it was pulled by.
    pub digests: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The unit that it names in a label.
    pub unit: Option<String>,
}

/// podman.
#[derive(Debug, Clone)]
pub struct Podman {
    caller: Caller,
    /// For all but pulls.
    timeout: Duration,
    pull_timeout: Duration,
}

impl Podman {
    /// One that calls within these bounds.
    #[must_use]
    pub fn new(caller: Caller, timeout: Duration, pull_timeout: Duration) -> Self {
        Self { caller, timeout, pull_timeout }
    }

    async fn call(&self, arguments: &[&str]) -> Result<String, CallError> {
        self.caller.call("podman", arguments, self.timeout).await
    }

    /// All running containers, those that hold pods together too.
    ///
    /// # Errors
    /// podman's words.
    pub async fn containers(&self) -> Result<Vec<Container>> {
        let mut look = 1;
        loop {
            let ids = self.call(&["ps", "--quiet", "--no-trunc"]).await?;
            let ids: Vec<&str> = ids.lines().map(str::trim).filter(|id| !id.is_empty()).collect();
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            match self.inspect(&ids).await {
                Err(_) if look < LOOKS => look += 1,
                containers => return self.with_image_labels(containers?).await,
            }
        }
    }

    /// These containers, by name; those that are not there are left out.
    ///
    /// # Errors
    /// podman's words.
    pub async fn named(&self, names: impl Iterator<Item = &String>) -> Result<BTreeMap<String, Container>> {
        let names: Vec<&str> = names.map(String::as_str).collect();
        // One that is not there fails the whole call.
        let found = match self.inspect(&names).await {
            Err(error) if may_be_gone(&error) => {
                let mut found = Vec::new();
                for name in names {
                    found.extend(self.one(name).await?);
                }
                found
            }
            found => found?,
        };
        Ok(found.into_iter().map(|container| (container.name.clone(), container)).collect())
    }

    /// This container, if there is one of that name: a podman that is in trouble does not mean that there is none.
    async fn one(&self, name: &str) -> Result<Option<Container>> {
        let mut look = 1;
        loop {
            match self.call(&["container", "exists", "--", name]).await {
                Err(error) if error.code == Some(NOT_THERE) => return Ok(None),
                answer => answer.map(drop)?,
            }
            match self.inspect(&[name]).await {
                Err(error) if look < LOOKS && may_be_gone(&error) => look += 1,
                found => return Ok(found?.into_iter().next()),
            }
        }
    }

    async fn inspect(&self, names: &[&str]) -> Result<Vec<Container>> {
        let arguments = [&["inspect", "--type", "container", "--"], names].concat();
        parse_containers(&self.call(&arguments).await?)
    }

    async fn with_image_labels(&self, mut containers: Vec<Container>) -> Result<Vec<Container>> {
        let images = self.images(containers.iter().map(|container| container.image_id.as_str())).await?;
        for container in &mut containers {
            container.unit_of_image = images.get(&container.image_id).and_then(|image| image.unit.clone());
        }
        Ok(containers)
    }

    /// These images, by id; those that are not there are left out.
    ///
    /// # Errors
    /// podman's words: without them nobody knows which labels are the images' own.
    pub async fn images(&self, ids: impl Iterator<Item = &str>) -> Result<BTreeMap<String, LocalImage>> {
        let mut ids: Vec<&str> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        let mut found = BTreeMap::new();
        for id in ids {
            if let Some(image) = self.image(id).await? {
                found.insert(image.id.clone(), image);
            }
        }
        Ok(found)
    }

    /// The ids of all images that have no name.
    ///
    /// # Errors
    /// podman's words.
    pub async fn nameless(&self) -> Result<Vec<String>> {
        let ids = self.call(&["images", "--quiet", "--no-trunc", "--filter", "dangling=true"]).await?;
        Ok(ids.lines().map(str::trim).filter(|id| !id.is_empty()).map(plain_id).collect())
    }

    /// The image of this name or id, if this host has it.
    ///
    /// # Errors
    /// podman's words.
    pub async fn image(&self, name: &str) -> Result<Option<LocalImage>> {
        match self.call(&["image", "exists", "--", name]).await {
            Err(error) if error.code == Some(NOT_THERE) => return Ok(None),
            answer => answer.map(drop)?,
        }
        let text = self.call(&["image", "inspect", "--", name]).await?;
        Ok(parse_images(&text)?.into_iter().next())
    }

    /// Pulls an image, with these logins; returns its id.
    ///
    /// # Errors
    /// podman's words.
    pub async fn pull(&self, image: &str, auth_file: Option<&Path>) -> Result<String> {
        let file = auth_file.map(|file| file.to_string_lossy().into_owned());
        let mut arguments = vec!["pull", "--quiet"];
        if let Some(file) = &file {
            arguments.extend(["--authfile", file]);
        }
        arguments.extend(["--", image]);
        let said = self.caller.call("podman", &arguments, self.pull_timeout).await?;
        let id = said.lines().last().map(str::trim).filter(|id| !id.is_empty());
        Ok(id.with_context(|| format!("podman pulled {image} and did not say which image it is"))?.to_owned())
    }

    /// Gives an image a name, which another may have had.
    ///
    /// # Errors
    /// podman's words.
    pub async fn tag(&self, image: &str, name: &str) -> Result<(), CallError> {
        self.call(&["tag", image, name]).await.map(drop)
    }

    /// Takes a name from an image.
    ///
    /// # Errors
    /// podman's words.
    pub async fn untag(&self, image: &str, name: &str) -> Result<(), CallError> {
        self.call(&["untag", image, name]).await.map(drop)
    }

    /// Removes a name, and the image where that was its last and no container has it; or an image by its id.
    ///
    /// # Errors
    /// podman's words.
    pub async fn remove_image(&self, name: &str) -> Result<(), CallError> {
        match self.call(&["rmi", "--", name]).await {
            Err(error) if error.code == Some(NOT_THERE) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Runs a container's healthcheck once; what it says is in the container's state afterwards.
    pub async fn check_health(&self, container: &str) {
        // Fails where the check does, which is then on record.
        let _ = self.call(&["healthcheck", "run", container]).await;
    }
}

/// Whether podman has said no, as it does of what is not there. One that can't be started or does not end says nothing at all.
fn may_be_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<CallError>().is_some_and(|error| error.code.is_some())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    image: String,
    image_name: String,
    #[serde(default)]
    pod: String,
    #[serde(default)]
    is_infra: bool,
    state: State,
    config: Config,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    #[serde(default)]
    started_at: String,
    // podman before 4.0 called it so.
    #[serde(default, alias = "Healthcheck")]
    health: Option<HealthState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthState {
    #[serde(default)]
    status: String,
    #[serde(default)]
    log: Option<Vec<HealthLog>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthLog {
    #[serde(default)]
    end: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    healthcheck: Option<Healthcheck>,
}

/// Times are nanoseconds.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Healthcheck {
    #[serde(default)]
    test: Option<Vec<String>>,
    #[serde(default)]
    interval: u64,
    #[serde(default)]
    timeout: u64,
    #[serde(default)]
    start_period: u64,
    #[serde(default)]
    retries: u32,
}

/// What `podman inspect` prints of containers.
fn parse_containers(text: &str) -> Result<Vec<Container>> {
    let found: Vec<Inspected> = serde_json::from_str(text).context("understand what podman says of containers")?;
    Ok(found.into_iter().map(container).collect())
}

fn container(found: Inspected) -> Container {
    let real = |check: &Healthcheck| {
        check.test.as_ref().is_some_and(|test| test.first().is_some_and(|kind| !kind.is_empty() && kind != "NONE"))
    };
    let health = found.config.healthcheck.filter(real).map(|check| HealthSpec {
        interval: Duration::from_nanos(check.interval),
        timeout: Duration::from_nanos(check.timeout),
        start_period: Duration::from_nanos(check.start_period),
        retries: check.retries,
    });
    let state = found.state.health.filter(|state| !state.status.is_empty());
    Container {
        id: found.id,
        name: found.name,
        image: found.image_name,
        image_id: plain_id(&found.image),
        labels: found.config.labels.unwrap_or_default(),
        pod: Some(found.pod).filter(|pod| !pod.is_empty()),
        infra: found.is_infra,
        running: found.state.running,
        started_at: found.state.started_at,
        health,
        health_state: state.map(|state| {
            let last = state.log.and_then(|log| log.into_iter().last()).map_or_else(String::new, |entry| entry.end);
            (state.status, last)
        }),
        unit_of_image: None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedImage {
    id: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

fn parse_images(text: &str) -> Result<Vec<LocalImage>> {
    let found: Vec<InspectedImage> = serde_json::from_str(text).context("understand what podman says of images")?;
    let image = |found: InspectedImage| {
        let of_repositories = found.repo_digests.unwrap_or_default();
        let digests = of_repositories.iter().filter_map(|name| name.split_once('@')).map(|(_, digest)| digest);
        LocalImage {
            id: plain_id(&found.id),
            digests: digests.map(str::to_owned).chain([found.digest.clone()]).collect(),
            tags: found.repo_tags.unwrap_or_default(),
            unit: found.labels.and_then(|mut labels| labels.remove(UNIT_LABEL)),
        }
    };
    Ok(found.into_iter().map(image).collect())
}

fn plain_id(id: &str) -> String {
    id.trim_start_matches("sha256:").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_podman_4_3_says_of_a_container_is_understood() {
        let text = r#"[{"Id": "c2ce", "Name": "web", "Image": "5149", "ImageName": "127.0.0.1:5000/web:latest", "Pod": "",
            "IsInfra": false, "State": {"Status": "running", "Running": true, "StartedAt": "2026-11-25T21:52:53.26Z",
            "Health": {"Status": "healthy", "FailingStreak": 0, "Log": [{"End": "first"}, {"End": "last"}]}},
            "Config": {"Labels": {"PODMAN_SYSTEMD_UNIT": "web.service"}, "Healthcheck": {"Test": ["CMD-SHELL", "true"],
            "Interval": 30000000000, "Timeout": 20000000000, "Retries": 3}}}]"#;
        let [web] = &parse_containers(text).expect("JSON")[..] else { panic!("one") };
        assert_eq!((web.name.as_str(), web.image_id.as_str(), web.running), ("web", "5149", true));
        assert_eq!((web.pod.clone(), web.infra), (None, false));
        let seconds = Duration::from_secs;
        let spec = HealthSpec { interval: seconds(30), timeout: seconds(20), start_period: Duration::ZERO, retries: 3 };
        assert_eq!(web.health, Some(spec));
        assert_eq!(web.health_state, Some(("healthy".to_owned(), "last".to_owned())));
    }

    #[test]
    fn a_container_without_a_healthcheck_has_none() {
        let text = r#"[{"Id": "1", "Name": "a", "Image": "sha256:2", "ImageName": "x", "State": {"Running": true,
            "Healthcheck": {"Status": "", "Log": null}}, "Config": {"Labels": null, "Healthcheck": {"Test": ["NONE"]}}}]"#;
        let [found] = &parse_containers(text).expect("JSON")[..] else { panic!("one") };
        assert_eq!((found.health, found.health_state.clone(), found.image_id.as_str()), (None, None, "2"));
    }

    #[test]
    fn an_image_is_known_by_all_its_digests() {
        let text = r#"[{"Id": "1", "Digest": "sha256:a", "RepoTags": ["r/x:1"], "RepoDigests": ["r/x@sha256:list", "r/x@sha256:a"],
            "Labels": {"PODMAN_SYSTEMD_UNIT": "sshd.service"}}]"#;
        let [image] = &parse_images(text).expect("JSON")[..] else { panic!("one") };
        assert_eq!(image.digests, ["sha256:list", "sha256:a", "sha256:a"]);
        assert_eq!(image.unit.as_deref(), Some("sshd.service"));
    }
}
