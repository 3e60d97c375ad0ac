//! `podman run` for a service: the image's own program, its logs kept by podman, its secret variables unknown to it.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::cgroup::Cgroups;
use super::container::{UserMap, user_map};
use super::network::{Place, arguments as network};
use super::{LABEL, Labels, Podman, PodmanError, strings};
use super::{isolation, limits};
use crate::config::{Isolation, NetworkSettings, Resources};
use crate::job::Secret;

/// Longest log that podman keeps of a service.
const LOG_MAX: &str = "10mb";
/// What podman may need beyond the time of a check of health.
const AROUND_CHECK: Duration = Duration::from_secs(10);
/// Bytes in a pipe at most (/proc/sys/fs/pipe-max-size).
const PIPE_MAX: i32 = 1 << 20;

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
    /// Its program and arguments.
    pub line: Vec<String>,
    /// Instead of the image's USER.
    pub user: Option<String>,
    /// Variables that are no secrets.
    pub variables: Vec<(String, String)>,
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
    /// The file for its log, in a directory that is there; none: podman's own place for it.
    pub log: Option<PathBuf>,
}

/// The arguments of `podman run`.
fn arguments(spec: &ServiceSpec, init: &str, cgroups: Cgroups) -> Vec<String> {
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
    if let Some(log) = &spec.log {
        add(&["--log-opt", &format!("path={}", log.display())]);
    }
    // Checked by the daemon: podman's own timers need systemd, and know no secret variables.
    add(&["--no-healthcheck"]);
    // podman's own environment is for its pulls, its proxies too, whatever containers.conf says.
    add(&["--http-proxy=false", "--env-host=false"]);
    for (key, value) in spec.labels.pairs() {
        add(&["--label", &format!("{LABEL}.{key}={value}")]);
    }
    if let Some(user) = &spec.user {
        add(&["--user", user]);
    }
    for (name, value) in &spec.variables {
        add(&["--env", &format!("{name}={value}")]);
    }
    add(&["--volume", &format!("{init}:{}:ro", crate::init::PATH), "--preserve-fds", "1"]);
    add(&["--entrypoint", &format!("[\"{}\",\"become\"]", crate::init::PATH)]);
    line.extend(user_map(spec.user_map));
    line.extend(network(&spec.network, spec.place.as_ref()));
    line.extend(cgroups.arguments());
    line.extend(limits::arguments(&spec.resources, cgroups.unified));
    line.extend(isolation::arguments(&spec.isolation));
    line.extend(strings(["--"]));
    line.push(spec.image_id.clone());
    line.extend(spec.line.iter().cloned());
    line
}

/// What became of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// The container's name.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// Whether it has ended, and not well.
    pub failed: bool,
    /// podman's words, such as `exited, exit code 1`.
    pub words: String,
}

impl Podman {
    /// Makes and starts a service, with these variables beside those that podman may know.
    ///
    /// # Errors
    /// podman's words, or that the variables are too many for a pipe.
    pub async fn run_service(&self, spec: &ServiceSpec, secrets: &[(String, Secret)]) -> Result<(), PodmanError> {
        let limit = match spec.user_map {
            UserMap::NoMap => self.settings().pull_timeout,
            _ => self.settings().timeout,
        };
        let pipe = filled_pipe(secrets).map_err(|error| PodmanError {
            operation: "run".to_owned(),
            message: format!("its variables can't be handed over: {error}"),
            code: None,
        })?;
        let line = arguments(spec, &self.settings().init.display().to_string(), self.cgroups());
        self.call_with(&line, limit, Some(&pipe)).await.map(drop)
    }

    /// Runs a check of health (HEALTHCHECK) in a container once, with these variables; true when it is healthy within this time.
    pub async fn is_healthy(
        &self,
        container: &str,
        check: &[String],
        secrets: &[(String, Secret)],
        within: Duration,
    ) -> bool {
        let mut line = strings(["exec"]);
        for (name, _) in secrets {
            // Without a value podman takes it from its own environment, which only this user can read.
            line.extend(["--env".to_owned(), name.clone()]);
        }
        line.extend([container, crate::init::PATH, "within"].map(str::to_owned));
        line.push(within.as_millis().to_string());
        match check {
            [shell, command] if shell == "CMD-SHELL" => {
                line.extend(["/bin/sh".to_owned(), "-c".to_owned(), command.clone()]);
            }
            [_, command @ ..] => line.extend_from_slice(command),
            [] => return true,
        }
        // It ends by itself; podman needs a moment around it.
        self.call_for_check(&line, secrets, within + AROUND_CHECK).await.is_ok()
    }

    /// The states of these containers.
    ///
    /// # Errors
    /// podman's words.
    pub async fn states(&self, containers: &[String]) -> Result<Vec<ServiceState>, PodmanError> {
        let format = "{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}";
        let text =
            self.call(&[&strings(["container", "inspect", "--format", format])[..], containers].concat()).await?;
        Ok(text.lines().filter_map(parse_state).collect())
    }
}

/// A pipe that holds the variables, and nobody to write more into it.
fn filled_pipe(secrets: &[(String, Secret)]) -> io::Result<OwnedFd> {
    let pairs: Vec<(&str, &str)> = secrets.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    let bytes = serde_json::to_vec(&pairs)?;
    let (reader, mut writer) = io::pipe()?;
    let length = i32::try_from(bytes.len()).ok().filter(|length| *length <= PIPE_MAX);
    let length = length.ok_or_else(|| io::Error::other("they are longer than 1 MiB"))?;
    // Else the kernel's default of 64 KiB, which may be all that an ordinary user gets, has to do.
    let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(length.max(1)));
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    writer.write_all(&bytes)?;
    Ok(reader.into())
}

fn parse_state(line: &str) -> Option<ServiceState> {
    let mut words = line.split_whitespace();
    let (name, status, code) = (words.next()?, words.next()?, words.next()?);
    let out_of_memory = if words.next() == Some("true") { ", out of memory" } else { "" };
    let running = status == "running";
    let words = if running { status.to_owned() } else { format!("{status}, exit code {code}{out_of_memory}") };
    Some(ServiceState { name: name.to_owned(), running, failed: !running && code != "0", words })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_own_program_runs_and_podman_gets_no_secret() {
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
            line: vec!["/e".into(), "a b".into(), "-c".into()],
            user: Some("70".into()),
            variables: vec![("A".into(), "1".into())],
            user_map: UserMap::Host,
            network: NetworkSettings::default(),
            place: None,
            resources: Resources { memory: Some(1 << 20), ..Resources::default() },
            isolation: Isolation::default(),
            log: Some("/x/db.log".into()),
        };
        let line = arguments(&spec, "/x/init", Cgroups::default()).join(" ");
        assert!(line.ends_with("-- abc /e a b -c"), "{line}");
        for words in [
            "--entrypoint [\"/.windlass-init\",\"become\"]",
            "--env A=1",
            "--preserve-fds 1",
            "--memory 1048576b",
            "--user 70",
            "--http-proxy=false",
            "--log-driver k8s-file --log-opt max-size=10mb --log-opt path=/x/db.log",
        ] {
            assert!(line.contains(words), "{words} in {line}");
        }
        assert!(!line.contains("--privileged"), "{line}");
    }

    #[test]
    fn a_pipe_holds_the_variables_and_ends() {
        use std::io::Read;
        let long = "x".repeat(40_000);
        let pipe = filled_pipe(&[("A".to_owned(), Secret::new(&*long))]).expect("pipe");
        let mut text = String::new();
        std::fs::File::from(pipe).read_to_string(&mut text).expect("read");
        assert_eq!(text, format!("[[\"A\",\"{long}\"]]"));
        assert!(filled_pipe(&[("A".to_owned(), Secret::new("x".repeat(2 << 20)))]).is_err());
    }

    #[test]
    fn a_state_is_told_in_words() {
        let state = parse_state("db exited 1").expect("valid");
        assert_eq!((state.running, state.failed, state.words.as_str()), (false, true, "exited, exit code 1"));
        assert!(parse_state("db running 0 false").expect("valid").running);
        assert!(!parse_state("db exited 0 false").expect("valid").failed);
        let killed = parse_state("db exited 137 true").expect("valid");
        assert_eq!(killed.words, "exited, exit code 137, out of memory");
    }
}
