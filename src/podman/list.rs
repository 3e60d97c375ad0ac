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
    /// The lease it was made for; empty when the label is missing.
    pub lease: String,
    /// Whether it runs (containers only).
    pub running: bool,
}

/// One entry of any of the three lists: podman writes the keys differently in each.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "Names", default)]
    names: Option<Vec<String>>,
    #[serde(rename = "Name", alias = "name", default)]
    name: Option<String>,
    #[serde(rename = "Labels", alias = "labels", default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "State", default)]
    state: Option<String>,
}

fn parse(text: &str) -> Result<Vec<Found>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let entries: Option<Vec<Entry>> =
        serde_json::from_str(text).map_err(|error| format!("unreadable answer: {error}"))?;
    let found = entries.unwrap_or_default().into_iter().filter_map(|entry| {
        let name = entry.names.and_then(|names| names.into_iter().next()).or(entry.name)?;
        let lease = entry.labels.unwrap_or_default().remove(&format!("{LABEL}.lease")).unwrap_or_default();
        Some(Found { name, lease, running: entry.state.as_deref() == Some("running") })
    });
    Ok(found.collect())
}

impl Podman {
    /// This daemon's containers, running or not.
    ///
    /// # Errors
    /// podman's words.
    pub async fn containers(&self, daemon: &str) -> Result<Vec<Found>, PodmanError> {
        self.list(&["ps", "--all"], daemon).await
    }

    /// This daemon's networks.
    ///
    /// # Errors
    /// podman's words.
    pub async fn networks(&self, daemon: &str) -> Result<Vec<Found>, PodmanError> {
        self.list(&["network", "ls"], daemon).await
    }

    /// This daemon's volumes.
    ///
    /// # Errors
    /// podman's words.
    pub async fn volumes(&self, daemon: &str) -> Result<Vec<Found>, PodmanError> {
        self.list(&["volume", "ls"], daemon).await
    }

    async fn list(&self, what: &[&str], daemon: &str) -> Result<Vec<Found>, PodmanError> {
        let mut arguments: Vec<String> = what.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(strings(["--format", "json", "--filter"]));
        arguments.push(format!("label={LABEL}.daemon={daemon}"));
        let text = self.call(&arguments).await?;
        parse(&text).map_err(|message| PodmanError { operation: what.join(" "), message, code: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_lists_are_read() {
        let found = |name: &str, running| Found { name: name.into(), lease: "L".into(), running };
        assert_eq!(
            parse(r#"[{"Names":["c"],"Labels":{"io.windlass.lease":"L"},"State":"running","Pid":1}]"#),
            Ok(vec![found("c", true)])
        );
        assert_eq!(parse(r#"[{"name":"n","labels":{"io.windlass.lease":"L"}}]"#), Ok(vec![found("n", false)]));
        assert_eq!(parse(r#"[{"Name":"v","Labels":{"io.windlass.lease":"L"}}]"#), Ok(vec![found("v", false)]));
        assert_eq!(parse("null\n"), Ok(vec![]));
        assert_eq!(parse(""), Ok(vec![]));
    }
}
