//! What is secret in a job response. It is read when a job is prepared, used, and kept nowhere.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::response::unreadable;
pub use crate::sys::secrets::Secret;

/// A registry login that GitLab gives to the job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Credential {
    /// `registry` is the only kind of interest.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Host, and port if any, of the registry.
    #[serde(default)]
    pub url: String,
    /// Its user.
    #[serde(default)]
    pub username: String,
    /// The password.
    #[serde(default)]
    pub password: Secret,
}

/// What is known of a variable beside its value, which comes expanded from gitlab-runner's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VariableKinds {
    /// Names of variables of which some definition is not public.
    pub private: BTreeSet<String>,
    /// Names of all other variables of the response.
    pub public: BTreeSet<String>,
    /// Names of variables that become files in the job.
    pub files: BTreeSet<String>,
    /// Names of variables whose value contains no other variable.
    pub literal: BTreeSet<String>,
}

/// The secrets of a job response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The job's token.
    pub token: Secret,
    /// Registry logins.
    pub credentials: Vec<Credential>,
    /// What kinds its variables are of.
    pub variables: VariableKinds,
}

#[derive(Deserialize)]
struct Response {
    id: Option<i64>,
    token: Option<Secret>,
    credentials: Option<Vec<Credential>>,
    variables: Option<Vec<Variable>>,
    /// Filled by the runner from a vault: their values are nowhere in the response.
    secrets: Option<std::collections::BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct Variable {
    key: String,
    #[serde(default)]
    value: Secret,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    file: bool,
    #[serde(default)]
    raw: bool,
}

impl Secrets {
    /// Reads a job response; `job` is the id that it has to have.
    ///
    /// # Errors
    /// What is wrong with it. Nothing of its content is in the message.
    pub fn parse(bytes: &[u8], job: i64) -> Result<Self, String> {
        let response: Response = serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
        if response.id != Some(job) {
            return Err(format!("the job response is not that of job {job}"));
        }
        let mut variables = VariableKinds::default();
        for variable in response.variables.unwrap_or_default() {
            // Later definitions win, so only the last says whether the value is literal.
            if variable.raw || !variable.value.expose().contains('$') {
                variables.literal.insert(variable.key.clone());
            } else {
                variables.literal.remove(&variable.key);
            }
            if variable.file {
                variables.files.insert(variable.key.clone());
            }
            let kind = if variable.public { &mut variables.public } else { &mut variables.private };
            kind.insert(variable.key);
        }
        variables.public = variables.public.difference(&variables.private).cloned().collect();
        for name in response.secrets.unwrap_or_default().into_keys() {
            variables.private.insert(name);
        }
        Ok(Self {
            token: response.token.unwrap_or_default(),
            credentials: response.credentials.unwrap_or_default(),
            variables,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_variable_is_private_when_any_definition_of_it_is() {
        let response = json!({"id": 5, "token": "t0ken",
            "variables": [
                {"key": "A", "value": "1", "public": true}, {"key": "A", "value": "2", "public": false},
                {"key": "B", "value": "$A", "public": true}, {"key": "C", "value": "$A", "public": true, "raw": true},
                {"key": "F", "value": "x", "file": true}],
            "secrets": {"VAULT": {"vault": {}}},
            "credentials": [{"type": "registry", "url": "r:5000", "username": "u", "password": "p4ss"}]});
        let secrets = Secrets::parse(response.to_string().as_bytes(), 5).expect("valid");
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&secrets.variables.private), "A F VAULT");
        assert_eq!(names(&secrets.variables.literal), "A C F");
        assert_eq!(names(&secrets.variables.files), "F");
        assert_eq!(secrets.credentials[0].password.expose(), "p4ss");
        let shown = format!("{secrets:?}");
        assert!(!shown.contains("t0ken") && !shown.contains("p4ss"), "{shown}");
    }

    #[test]
    fn another_jobs_response_is_refused() {
        assert!(Secrets::parse(b"{\"id\":6}", 5).is_err());
    }
}
