//! `podman pull`, one at a time for each image however many jobs ask for it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Podman, PodmanError, strings};

/// What is pulled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pull {
    /// The reference, in its normal form.
    pub image: String,
    /// The platform, where it is not the host's own.
    pub platform: Option<String>,
}

/// How a pull is done.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// A file of registry logins.
    pub auth: Option<PathBuf>,
    /// A directory with certificates (`*.crt`) to trust.
    pub certificates: Option<PathBuf>,
    /// Whether no login is used for this image.
    pub anonymous: bool,
    /// Whether an image that has come meanwhile will do.
    pub unless_present: bool,
}

/// How an image came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// By this caller's pull, with its logins.
    ByThis,
    /// By another's, with its logins.
    ByAnother,
    /// By another's, without any login: everybody could have pulled it.
    Anonymously,
    /// It was there when the pull was to begin: another's had just ended.
    Already,
}

/// What came of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    /// How it came.
    pub how: Pulled,
    /// The image's id as podman printed it. Its tag may be another's by now: a pull for another platform moves it.
    pub id: Option<String>,
}

type Outcome = Option<Result<Came, PodmanError>>;
type Table = HashMap<Pull, Arc<watch::Sender<Outcome>>>;

/// The pulls under way.
#[derive(Debug, Clone, Default)]
pub struct Pulls {
    running: Arc<Mutex<Table>>,
}

impl Pulls {
    fn running(&self) -> MutexGuard<'_, Table> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls an image, or waits for the pull of it that is under way already. When nobody waits any more, the pull ends. Says how the image
    /// came, and whether the pull was this caller's own.
    ///
    /// # Errors
    /// podman's words, and whether they are about this caller's own pull.
    pub async fn pull(
        &self,
        podman: &Arc<Podman>,
        pull: &Pull,
        options: &PullOptions,
    ) -> Result<(bool, Came), (bool, PodmanError)> {
        let (mut outcome, own) = self.join(podman, pull, options);
        let given_up =
            || PodmanError { operation: "pull".to_owned(), message: "it was given up".to_owned(), code: None };
        let result = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(given_up())),
            Err(_) => Err(given_up()),
        };
        match result {
            Ok(Came { how: Pulled::ByThis, id }) if !own => Ok((own, Came { how: Pulled::ByAnother, id })),
            Ok(came) => Ok((own, came)),
            Err(error) => Err((own, error)),
        }
    }

    /// Joins the pull under way, or starts one; true for the latter.
    fn join(&self, podman: &Arc<Podman>, pull: &Pull, options: &PullOptions) -> (watch::Receiver<Outcome>, bool) {
        let mut running = self.running();
        if let Some(outcome) = running.get(pull) {
            return (outcome.subscribe(), false);
        }
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        running.insert(pull.clone(), Arc::clone(&sender));
        let (arguments, options) = (arguments(pull, options), options.clone());
        let (pulls, podman, wanted) = (self.clone(), Arc::clone(podman), pull.clone());
        tokio::spawn(async move {
            let stop = CancellationToken::new();
            let mut pull = std::pin::pin!(podman.pull_unless_there(&wanted.image, &arguments, &options, stop.clone()));
            let result = tokio::select! {
                result = &mut pull => result,
                () = pulls.abandoned(&wanted, &sender) => {
                    stop.cancel();
                    pull.await
                }
            };
            pulls.forget(&wanted, &sender);
            sender.send_replace(Some(result));
        });
        (receiver, true)
    }

    /// Waits until nobody waits for a pull, and takes it out of the table, so that nobody joins it any more.
    async fn abandoned(&self, pull: &Pull, sender: &watch::Sender<Outcome>) {
        loop {
            sender.closed().await;
            let mut running = self.running();
            // Somebody may have joined in this moment.
            if sender.receiver_count() == 0 {
                running.remove(pull);
                return;
            }
        }
    }

    fn forget(&self, pull: &Pull, sender: &Arc<watch::Sender<Outcome>>) {
        let mut running = self.running();
        if running.get(pull).is_some_and(|current| Arc::ptr_eq(current, sender)) {
            running.remove(pull);
        }
    }
}

impl Podman {
    async fn pull_unless_there(
        &self,
        image: &str,
        arguments: &[String],
        options: &PullOptions,
        stop: CancellationToken,
    ) -> Result<Came, PodmanError> {
        // Whoever looked before a pull ended comes here after it.
        if options.unless_present && self.call(&strings(["image", "exists", "--", image])).await.is_ok() {
            return Ok(Came { how: Pulled::Already, id: None });
        }
        let said = self.call_for_pull(arguments, stop).await?;
        Ok(Came { how: if options.anonymous { Pulled::Anonymously } else { Pulled::ByThis }, id: id_in(&said) })
    }

    /// Pulls, whatever others pull meanwhile.
    ///
    /// # Errors
    /// podman's words.
    pub async fn pull(&self, pull: &Pull, options: &PullOptions) -> Result<(), PodmanError> {
        self.call_for_pull(&arguments(pull, options), CancellationToken::new()).await.map(drop)
    }
}

/// The image's id in what `podman pull --quiet` printed.
fn id_in(said: &str) -> Option<String> {
    let is_id = |line: &&str| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    said.lines().map(str::trim).rfind(is_id).map(str::to_owned)
}

/// The arguments of `podman pull`.
fn arguments(pull: &Pull, options: &PullOptions) -> Vec<String> {
    let mut line = strings(["pull", "--quiet"]);
    let mut add = |option: &str, value: Option<String>| {
        if let Some(value) = value {
            line.extend([option.to_owned(), value]);
        }
    };
    add("--platform", pull.platform.clone());
    add("--authfile", options.auth.as_ref().map(|path| path.display().to_string()));
    add("--cert-dir", options.certificates.as_ref().map(|path| path.display().to_string()));
    line.extend(["--".to_owned(), pull.image.clone()]);
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fake;
    use super::*;

    /// A podman that notes each call, and ends when the file `go` is there.
    fn podman(directory: &std::path::Path) -> Arc<Podman> {
        let lines = "echo x >>calls\ntrap 'echo x >>stopped; exit 1' TERM\nwhile [ ! -e go ]; do sleep 0.01; done\n";
        Arc::new(fake::podman(directory, lines))
    }

    fn image() -> Pull {
        Pull { image: "docker.io/library/alpine:latest".into(), platform: None }
    }

    #[test]
    fn logins_go_by_a_file() {
        let pull = Pull { platform: Some("linux/arm64".into()), ..image() };
        let options = PullOptions {
            auth: Some("/x/auth.json".into()),
            certificates: Some("/x/certs".into()),
            ..PullOptions::default()
        };
        let expected = "pull --quiet --platform linux/arm64 --authfile /x/auth.json --cert-dir /x/certs -- docker.io/library/alpine:latest";
        assert_eq!(arguments(&pull, &options).join(" "), expected);
    }

    #[test]
    fn the_id_is_what_podman_printed() {
        let id = "5c40b3c27b9f13c873fefb2139765c56ce97fd50230f1f2d5c91e55dec171907";
        assert_eq!(id_in(&format!("{id}\n")).as_deref(), Some(id));
        assert_eq!(id_in("Storing signatures\n"), None);
    }

    async fn until(path: std::path::PathBuf) {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn twenty_jobs_that_want_one_image_make_one_pull() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (podman, pulls) = (podman(directory.path()), Pulls::default());
        let jobs: Vec<_> = (0..20)
            .map(|_| {
                let (podman, pulls) = (Arc::clone(&podman), pulls.clone());
                tokio::spawn(async move { pulls.pull(&podman, &image(), &PullOptions::default()).await })
            })
            .collect();
        until(directory.path().join("calls")).await;
        std::fs::write(directory.path().join("go"), "").expect("write");
        for job in jobs {
            job.await.expect("task").expect("pulled");
        }
        assert_eq!(std::fs::read_to_string(directory.path().join("calls")).expect("read"), "x\n");
    }

    #[tokio::test]
    async fn a_pull_that_nobody_waits_for_is_asked_to_end() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (podman, pulls) = (podman(directory.path()), Pulls::default());
        {
            let wanted = image();
            let options = PullOptions::default();
            let waiting = pulls.pull(&podman, &wanted, &options);
            tokio::select! { _ = waiting => panic!("it can't end yet"), () = until(directory.path().join("calls")) => {} }
        }
        until(directory.path().join("stopped")).await;
    }
}
