//! `podman run` for a service: the image's own program, its logs kept by podman, its variables as secrets.

use super::container::{UserMap, user_map};
use super::network::{Place, arguments as network};
use super::{LABEL, Labels, Podman, PodmanError, strings};
use super::{isolation, limits};
use crate::config::{Isolation, NetworkSettings, Resources};

/// Longest log that podman keeps of a service.
const LOG_MAX: &str = "10mb";

/// A variable of a service that podman keeps as a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretVariable {
    /// The secret's name.
    pub secret: String,
    /// The variable's.
    pub variable: String,
}

/// A service's container to be made.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Who it belongs to.
    pub labels: Labels,
    /// The image's id.
    pub image_id: String,
    /// Its hostname.
    pub hostname: String,
    /// Instead of the image's ENTRYPOINT; empty: the image's.
    pub entrypoint: Vec<String>,
    /// Instead of the image's CMD; empty: the image's.
    pub command: Vec<String>,
    /// Instead of the image's USER.
    pub user: Option<String>,
    /// Variables that are no secrets.
    pub variables: Vec<(String, String)>,
    /// Variables that are.
    pub secrets: Vec<SecretVariable>,
    /// Its ids on the host.
    pub user_map: UserMap,
    /// Its network.
    pub network: NetworkSettings,
    /// Its place in the job's network.
    pub place: Option<Place>,
    /// Its limits.
    pub resources: Resources,
    /// What separates it from the host.
    pub isolation: Isolation,
}

/// The arguments of `podman run`.
fn arguments(spec: &ServiceSpec) -> Result<Vec<String>, String> {
    let mut line: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
    add(&["run", "--detach", "--name", &spec.name, "--hostname", &spec.hostname]);
    add(&[
        "--pull",
        "never",
        "--restart",
        "no",
        "--log-driver",
        "k8s-file",
        "--log-opt",
        &format!("max-size={LOG_MAX}"),
    ]);
    // Checked by `podman healthcheck run`: podman's own timers need systemd.
    add(&["--health-interval", "disable"]);
    for (key, value) in spec.labels.pairs() {
        add(&["--label", &format!("{LABEL}.{key}={value}")]);
    }
    if let Some(user) = &spec.user {
        add(&["--user", user]);
    }
    if !spec.entrypoint.is_empty() {
        let entrypoint = serde_json::to_string(&spec.entrypoint).map_err(|error| error.to_string())?;
        add(&["--entrypoint", &entrypoint]);
    }
    for (name, value) in &spec.variables {
        add(&["--env", &format!("{name}={value}")]);
    }
    for SecretVariable { secret, variable } in &spec.secrets {
        add(&["--secret", &format!("{secret},type=env,target={variable}")]);
    }
    line.extend(user_map(spec.user_map));
    line.extend(network(&spec.network, spec.place.as_ref()));
    line.extend(limits::arguments(&spec.resources));
    line.extend(isolation::arguments(&spec.isolation));
    line.extend(strings(["--"]));
    line.push(spec.image_id.clone());
    line.extend(spec.command.iter().cloned());
    Ok(line)
}

/// What became of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// The container's name.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// podman's words, such as `exited (1)`.
    pub words: String,
}

impl Podman {
    /// Makes and starts a service.
    ///
    /// # Errors
    /// podman's words.
    pub async fn run_service(&self, spec: &ServiceSpec) -> Result<(), PodmanError> {
        let limit = match spec.user_map {
            UserMap::NoMap => self.settings().pull_timeout,
            _ => self.settings().timeout,
        };
        let line =
            arguments(spec).map_err(|message| PodmanError { operation: "run".to_owned(), message, code: None })?;
        self.call_with(&line, limit, None).await.map(drop)
    }

    /// Keeps a secret until [`Podman::remove_secret`]; it goes in by standard input.
    ///
    /// # Errors
    /// podman's words.
    pub async fn create_secret(&self, name: &str, value: &str) -> Result<(), PodmanError> {
        let line = ["secret", "create", name, "-"].map(str::to_owned);
        self.call_with_input(&line, value.as_bytes().to_vec()).await.map(drop)
    }

    /// Runs a container's HEALTHCHECK once; true when it is healthy.
    pub async fn is_healthy(&self, container: &str) -> bool {
        self.call(&["healthcheck".to_owned(), "run".to_owned(), container.to_owned()]).await.is_ok()
    }

    /// The states of these containers.
    ///
    /// # Errors
    /// podman's words.
    pub async fn states(&self, containers: &[String]) -> Result<Vec<ServiceState>, PodmanError> {
        let format = "{{.Name}} {{.State.Status}} {{.State.ExitCode}}";
        let text =
            self.call(&[&strings(["container", "inspect", "--format", format])[..], containers].concat()).await?;
        Ok(text.lines().filter_map(parse_state).collect())
    }

    /// The last lines of a container's log.
    ///
    /// # Errors
    /// podman's words.
    pub async fn last_lines(&self, container: &str, count: u32) -> Result<String, PodmanError> {
        self.call_for_both(&[&strings(["logs", "--tail"])[..], &[count.to_string(), container.to_owned()]].concat())
            .await
    }
}

fn parse_state(line: &str) -> Option<ServiceState> {
    let mut words = line.split_whitespace();
    let (name, status, code) = (words.next()?, words.next()?, words.next()?);
    let running = status == "running";
    let words = if running { status.to_owned() } else { format!("{status}, exit code {code}") };
    Some(ServiceState { name: name.to_owned(), running, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_own_program_runs_with_its_secrets() {
        let spec = ServiceSpec {
            name: "windlass-0123-service-0".into(),
            labels: Labels {
                daemon: "/run/windlass".into(),
                lease: "0123".into(),
                role: "service",
                job: 1,
                project: 7,
            },
            image_id: "abc".into(),
            hostname: "db".into(),
            entrypoint: vec!["/e".into(), "a b".into()],
            command: vec!["-c".into(), "x=1".into()],
            user: Some("70".into()),
            variables: vec![("A".into(), "1".into())],
            secrets: vec![SecretVariable { secret: "s".into(), variable: "POSTGRES_PASSWORD".into() }],
            user_map: UserMap::Host,
            network: NetworkSettings::default(),
            place: None,
            resources: Resources { memory: Some(1 << 20), ..Resources::default() },
            isolation: Isolation::default(),
        };
        let line = arguments(&spec).expect("valid").join(" ");
        assert!(line.ends_with("-- abc -c x=1"), "{line}");
        for words in [
            "--entrypoint [\"/e\",\"a b\"]",
            "--env A=1",
            "--secret s,type=env,target=POSTGRES_PASSWORD",
            "--memory 1048576b",
            "--user 70",
        ] {
            assert!(line.contains(words), "{words} in {line}");
        }
        assert!(!line.contains("--privileged"), "{line}");
    }

    #[test]
    fn a_state_is_told_in_words() {
        let state = parse_state("db exited 1").expect("valid");
        assert_eq!((state.running, state.words.as_str()), (false, "exited, exit code 1"));
        assert!(parse_state("db running 0").expect("valid").running);
    }
}
