//! `podman kill`, `podman rm` and their like. Removing what is not there is no error.

use super::{Podman, PodmanError, strings};

impl Podman {
    /// Kills a container's processes; it stays, to be looked at.
    ///
    /// # Errors
    /// podman's words.
    pub async fn kill(&self, container: &str) -> Result<(), PodmanError> {
        self.on(&["kill", "--signal", "KILL"], container).await
    }

    /// Removes a container with its anonymous volumes, whatever it does.
    ///
    /// # Errors
    /// podman's words.
    pub async fn remove_container(&self, container: &str) -> Result<(), PodmanError> {
        self.on(&["rm", "--force", "--ignore", "--volumes", "--time", "0"], container).await
    }

    /// Removes containers, as [`Podman::remove_container`]; tries all of them.
    ///
    /// # Errors
    /// podman's words.
    pub async fn remove_containers(&self, containers: &[String]) -> Result<(), PodmanError> {
        match containers {
            [] => Ok(()),
            [one] => self.remove_container(one).await,
            all => {
                let arguments = strings(["rm", "--force", "--ignore", "--volumes", "--time", "0"]);
                self.call(&[&arguments[..], all].concat()).await.map(drop)
            }
        }
    }

    /// Removes a network.
    ///
    /// # Errors
    /// podman's words.
    pub async fn remove_network(&self, network: &str) -> Result<(), PodmanError> {
        self.on(&["network", "rm", "--force"], network).await
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// podman's words.
    pub async fn remove_volume(&self, volume: &str) -> Result<(), PodmanError> {
        self.on(&["volume", "rm", "--force"], volume).await
    }

    /// What became of a container that is about to be killed if it still runs, in words.
    pub async fn fate(&self, container: &str) -> String {
        let format = "{{.State.Status}} {{.State.OOMKilled}} {{.State.ExitCode}}";
        let arguments = [&strings(["container", "inspect", "--format", format])[..], &[container.to_owned()]].concat();
        match self.call(&arguments).await {
            Err(error) if error.message.contains("no such container") => {
                "the container was removed by somebody else".to_owned()
            }
            Err(error) => error.to_string(),
            Ok(state) => match state.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["running", ..] => "the container still ran and was killed".to_owned(),
                [_, "true", _] => "the container ran out of memory".to_owned(),
                [status, _, code] => format!("the container is {status} with exit code {code}"),
                _ => format!("podman says {:?}", state.trim()),
            },
        }
    }

    /// The id on this host of a container's first process.
    ///
    /// # Errors
    /// podman's words; also where it does not run.
    pub async fn pid(&self, container: &str) -> Result<i32, PodmanError> {
        let words = ["container", "inspect", "--format", "{{.State.Pid}}"];
        let text = self.call(&[&strings(words)[..], &[container.to_owned()]].concat()).await?;
        match text.trim().parse() {
            Ok(pid) if pid > 0 => Ok(pid),
            _ => Err(PodmanError {
                operation: "container inspect".to_owned(),
                message: format!("{container} does not run"),
                code: None,
            }),
        }
    }

    async fn on(&self, what: &[&str], name: &str) -> Result<(), PodmanError> {
        let mut arguments: Vec<String> = what.iter().map(|word| (*word).to_owned()).collect();
        arguments.push(name.to_owned());
        match self.call(&arguments).await {
            Err(error)
                if ["no such container", "no container with", "network not found", "no such volume"]
                    .iter()
                    .any(|gone| error.message.contains(gone)) =>
            {
                Ok(())
            }
            result => result.map(drop),
        }
    }
}
