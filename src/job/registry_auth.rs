//! Registry logins from several places made into one file for podman (containers-auth.json(5)).
//!
//! The first place that knows a path wins for it; podman takes the longest path that fits an image.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::secrets::Credential;

/// An auth file's content; also that of Docker's config.json.
#[derive(Default, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Value>,
    #[serde(default, rename = "credHelpers", skip_serializing_if = "BTreeMap::is_empty")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore", skip_serializing)]
    store: Option<String>,
}

impl std::fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthFile").field("registries", &self.auths.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// Where logins may come from.
#[derive(Default)]
pub struct Sources<'a> {
    /// The job's variable DOCKER_AUTH_CONFIG.
    pub job: Option<&'a str>,
    /// The content of the host's own file.
    pub host: Option<&'a str>,
    /// What GitLab gives to the job.
    pub response: &'a [Credential],
}

impl AuthFile {
    /// Merges the sources. `registries`: hosts of the images that will be pulled, for the host's credential store.
    ///
    /// # Errors
    /// When the host's file can't be used.
    pub fn merge(sources: &Sources<'_>, registries: &[String]) -> Result<(Self, Vec<String>), String> {
        let (mut merged, mut warnings) = (Self::default(), Vec::new());
        if let Some(text) = sources.job {
            match serde_json::from_str::<Self>(text) {
                Ok(config) => {
                    if !config.helpers.is_empty() || config.store.is_some() {
                        warnings.push(
                            "credHelpers and credsStore in DOCKER_AUTH_CONFIG are ignored: programs of this host are its administrator's to choose"
                                .to_owned(),
                        );
                    }
                    merged.add(config.auths);
                }
                Err(error) => warnings.push(format!(
                    "DOCKER_AUTH_CONFIG is ignored: it is not what `docker login` writes (line {}, column {})",
                    error.line(),
                    error.column()
                )),
            }
        }
        if let Some(text) = sources.host {
            let config: Self = serde_json::from_str(text)
                .map_err(|error| format!("it is not JSON as `podman login` writes it: {error}"))?;
            let stored = config
                .store
                .into_iter()
                .flat_map(|store| registries.iter().map(move |host| (host.clone(), store.clone())));
            let own = config.auths;
            for (registry, helper) in config.helpers.into_iter().chain(stored) {
                if helper.is_empty() || helper.contains('/') {
                    return Err(format!("{helper:?} is no name of a credential helper"));
                }
                let registry = normalized(&registry);
                if !merged.auths.contains_key(&registry) && !own.contains_key(&registry) {
                    merged.helpers.entry(registry).or_insert(helper);
                }
            }
            merged.add(own);
        }
        for login in sources.response.iter().filter(|login| login.kind == "registry" && !login.url.is_empty()) {
            let auth = STANDARD.encode(format!("{}:{}", login.username, login.password.expose()));
            let registry = normalized(&login.url);
            if !merged.helpers.contains_key(&registry) {
                merged.auths.entry(registry).or_insert_with(|| serde_json::json!({ "auth": auth }));
            }
        }
        Ok((merged, warnings))
    }

    fn add(&mut self, auths: BTreeMap<String, Value>) {
        for (path, entry) in auths {
            let path = normalized(&path);
            if !self.auths.contains_key(&path) && !self.helpers.contains_key(&path) {
                self.auths.insert(path, with_auth(entry));
            }
        }
    }

    /// Whether there is a login that would be used for this image, by its whole name.
    #[must_use]
    pub fn covers(&self, image: &str) -> bool {
        let fits =
            |path: &String| image.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with(['/', ':', '@']));
        self.auths.keys().chain(self.helpers.keys()).any(fits)
    }

    /// The file's content.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts and maps of texts: that can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A registry as podman looks it up: without scheme and API version, Docker Hub under its one name.
fn normalized(path: &str) -> String {
    let path = path.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let path = path.trim_end_matches("/v1").trim_end_matches("/v2");
    let (host, rest) = path.split_once('/').map_or((path, None), |(host, rest)| (host, Some(rest)));
    let host = match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    };
    rest.map_or(host.clone(), |rest| format!("{host}/{rest}"))
}

/// podman knows only `auth`; Docker also takes user and password apart.
fn with_auth(mut entry: Value) -> Value {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    if text("auth").is_none()
        && let (Some(user), Some(password)) = (text("username"), text("password"))
        && let Some(object) = entry.as_object_mut()
    {
        object.insert("auth".to_owned(), STANDARD.encode(format!("{user}:{password}")).into());
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Secret;

    fn credential(url: &str) -> Credential {
        Credential { kind: "registry".into(), url: url.into(), username: "u".into(), password: Secret::new("p") }
    }

    fn merge(job: &str, host: &str, response: &[Credential]) -> AuthFile {
        let sources = Sources { job: Some(job), host: Some(host), response };
        AuthFile::merge(&sources, &["r.example.com".to_owned()]).expect("valid").0
    }

    #[test]
    fn the_first_place_wins_for_a_path() {
        let merged = merge(
            r#"{"auths":{"https://r.example.com/v2/":{"auth":"am9i"}}}"#,
            r#"{"auths":{"r.example.com":{"auth":"aG9zdA=="},"r.example.com/group":{"username":"a","password":"b"}}}"#,
            &[credential("r.example.com"), credential("other:5000")],
        );
        let json: Value = serde_json::from_str(&merged.to_json()).expect("json");
        assert_eq!(json["auths"]["r.example.com"]["auth"], "am9i");
        assert_eq!(json["auths"]["r.example.com/group"]["auth"], "YTpi");
        assert_eq!(json["auths"]["other:5000"]["auth"], "dTpw");
        assert!(
            merged.covers("other:5000/x:1") && !merged.covers("other:50001/x") && !merged.covers("docker.io/library/x")
        );
    }

    #[test]
    fn only_the_hosts_file_names_programs() {
        let job = r#"{"auths":{},"credHelpers":{"r.example.com":"evil"},"credsStore":"evil"}"#;
        let (merged, warnings) =
            AuthFile::merge(&Sources { job: Some(job), ..Sources::default() }, &[]).expect("valid");
        assert!(merged.helpers.is_empty() && warnings.len() == 1);
        let merged = merge(
            "{}",
            r#"{"credHelpers":{"x.example.com":"ecr"},"credsStore":"pass"}"#,
            &[credential("r.example.com")],
        );
        assert_eq!(merged.helpers["x.example.com"], "ecr");
        assert_eq!(merged.helpers["r.example.com"], "pass");
        assert!(merged.auths.is_empty());
    }

    #[test]
    fn a_helper_with_a_path_is_refused() {
        let host = Some(r#"{"credHelpers":{"x":"/tmp/evil"}}"#);
        assert!(AuthFile::merge(&Sources { host, ..Sources::default() }, &[]).is_err());
    }

    #[test]
    fn an_unreadable_variable_is_a_warning_without_its_content() {
        let (_, warnings) =
            AuthFile::merge(&Sources { job: Some("s3cret"), ..Sources::default() }, &[]).expect("valid");
        assert!(warnings[0].contains("DOCKER_AUTH_CONFIG") && !warnings[0].contains("s3cret"));
    }

    #[test]
    fn docker_hub_has_one_name() {
        assert_eq!(normalized("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(normalized("R.Example.com:5000/Group/"), "r.example.com:5000/Group");
    }
}
