//! What of ours there is: containers, networks and volumes by label.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{LABEL, Podman, PodmanError, strings};

/// Who a container belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The daemon, by its runtime directory, of which each has its own.
    pub daemon: String,
    /// The lease.
    pub lease: String,
    /// What it is to the job.
    pub role: &'static str,
    /// GitLab's id of the job.
    pub job: i64,
    /// GitLab's id of the project.
    pub project: i64,
}

impl Labels {
    /// Keys (below [`LABEL`]) and values.
    #[must_use]
    pub fn pairs(&self) -> [(&'static str, String); 5] {
        [
            ("daemon", self.daemon.clone()),
            ("lease", self.lease.clone()),
            ("role", self.role.to_owned()),
            ("job", self.job.to_string()),
            ("project", self.project.to_string()),
        ]
    }
}

/// Something of ours that podman has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// The lease it was made for, by the beginning of its id; empty when that is not known.
    pub lease: String,
    /// Whether it runs (containers only).
    pub running: bool,
}

/// The name of what a lease has with podman: with it, and with the label, a container is known as ours.
#[must_use]
pub fn name_of(lease: &str, what: &str, attempt: u32) -> String {
    let suffix = if attempt > 1 { format!("-{attempt}") } else { String::new() };
    format!("windlass-{lease}-{what}{suffix}")
}

/// The lease of a container with this name; none if it is not ours. A label alone proves nothing: containers inherit those of
/// their image, which anybody may have built.
fn lease_of(name: &str) -> Option<&str> {
    let (lease, rest) = name.strip_prefix("windlass-")?.split_once('-')?;
    let what = ["job", "helper", "service"].iter().any(|what| rest.starts_with(what));
    let ours = lease.len() == 12 && lease.bytes().all(|byte| byte.is_ascii_hexdigit()) && what;
    ours.then_some(lease)
}

/// Lines of a name and a state. Labels are not asked for: an image's may be of any size.
fn parse_containers(text: &str) -> Vec<Found> {
    let ours = text.lines().filter_map(|line| {
        let (name, state) = line.split_once(' ')?;
        Some(Found { name: name.to_owned(), lease: lease_of(name)?.to_owned(), running: is_running(state) })
    });
    ours.collect()
}

/// podman 4 says how long a container is up, later ones just that it runs.
fn is_running(state: &str) -> bool {
    state == "running" || state.starts_with("Up ")
}

/// An entry of the lists of networks and volumes: podman writes the keys differently in each.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "Name", alias = "name")]
    name: String,
    #[serde(rename = "Labels", alias = "labels", default)]
    labels: Option<BTreeMap<String, String>>,
}

fn parse(text: &str) -> Result<Vec<Found>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let entries: Option<Vec<Entry>> =
        serde_json::from_str(text).map_err(|error| format!("unreadable answer: {error}"))?;
    let found = entries.unwrap_or_default().into_iter().map(|entry| {
        let lease = entry.labels.unwrap_or_default().remove(&format!("{LABEL}.lease")).unwrap_or_default();
        Found { name: entry.name, lease, running: false }
    });
    Ok(found.collect())
}

impl Podman {
    /// This daemon's containers, running or not.
    ///
    /// # Errors
    /// podman's words.
    pub async fn containers(&self, daemon: &str) -> Result<Vec<Found>, PodmanError> {
        let text = self.list(&["ps", "--all"], "{{.Names}} {{.State}}", daemon).await?;
        Ok(parse_containers(&text))
    }

    /// This daemon's networks.
    ///
    /// # Errors
    /// podman's words.
    pub async fn networks(&self, daemon: &str) -> Result<Vec<Found>, PodmanError> {
        self.list_json(&["network", "ls"], daemon).await
    }

    /// This daemon's volumes.
    ///
    /// # Errors
    /// podman's words.
    pub async fn volumes(&self, daemon: &str) -> Result<Vec<Found>, PodmanError> {
        self.list_json(&["volume", "ls"], daemon).await
    }

    async fn list_json(&self, what: &[&str], daemon: &str) -> Result<Vec<Found>, PodmanError> {
        let text = self.list(what, "json", daemon).await?;
        parse(&text).map_err(|message| PodmanError { operation: what.join(" "), message, code: None })
    }

    async fn list(&self, what: &[&str], format: &str, daemon: &str) -> Result<String, PodmanError> {
        let mut arguments: Vec<String> = what.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(strings(["--format", format, "--filter"]));
        arguments.push(format!("label={LABEL}.daemon={daemon}"));
        self.call(&arguments).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_read() {
        let found = |name: &str, running| Found { name: name.into(), lease: "L".into(), running };
        assert_eq!(parse(r#"[{"name":"n","labels":{"io.windlass.lease":"L"}}]"#), Ok(vec![found("n", false)]));
        assert_eq!(parse(r#"[{"Name":"v","Labels":{"io.windlass.lease":"L"}}]"#), Ok(vec![found("v", false)]));
        assert_eq!(parse("null\n"), Ok(vec![]));
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn a_container_is_ours_by_its_name_too() {
        let (first, second) = (name_of("0123456789ab", "job", 1), name_of("0123456789ab", "helper", 2));
        let text = format!(
            "{first} running\n{second} exited\nweb running\nwindlass-x-job running\nwindlass-0123456789ab-web running\n"
        );
        let found = |name: &str, running| Found { name: name.into(), lease: "0123456789ab".into(), running };
        assert_eq!(parse_containers(&text), [found(&first, true), found(&second, false)]);
        assert!(parse_containers(&format!("{first} running\n"))[0].running, "podman 5");
    }
}
