//! `podman pull`, one at a time for each image however many jobs ask for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Podman, PodmanError, strings};
use crate::job::ImageRef;

type Outcome = Option<Result<(), PodmanError>>;
type Table = HashMap<ImageRef, Arc<watch::Sender<Outcome>>>;

/// The pulls under way.
#[derive(Debug, Clone, Default)]
pub struct Pulls {
    running: Arc<Mutex<Table>>,
}

impl Pulls {
    fn running(&self) -> MutexGuard<'_, Table> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls an image, or waits for the pull of it that is under way already. When nobody waits any more, the pull ends.
    ///
    /// # Errors
    /// podman's words.
    pub async fn pull(&self, podman: &Arc<Podman>, image: &ImageRef) -> Result<(), PodmanError> {
        let mut outcome = self.join(podman, image);
        let given_up =
            || PodmanError { operation: "pull".to_owned(), message: "it was given up".to_owned(), code: None };
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(given_up())),
            Err(_) => Err(given_up()),
        }
    }

    /// Joins the pull under way, or starts one.
    fn join(&self, podman: &Arc<Podman>, image: &ImageRef) -> watch::Receiver<Outcome> {
        let mut running = self.running();
        if let Some(outcome) = running.get(image) {
            return outcome.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        running.insert(image.clone(), Arc::clone(&sender));
        let (pulls, podman, image) = (self.clone(), Arc::clone(podman), image.clone());
        tokio::spawn(async move {
            let stop = CancellationToken::new();
            let arguments = [&strings(["pull", "--quiet", "--"])[..], &[image.to_string()]].concat();
            let mut pull = std::pin::pin!(podman.call_for_pull(&arguments, stop.clone()));
            let result = tokio::select! {
                result = &mut pull => result,
                () = pulls.abandoned(&image, &sender) => {
                    stop.cancel();
                    pull.await
                }
            };
            pulls.forget(&image, &sender);
            sender.send_replace(Some(result.map(drop)));
        });
        receiver
    }

    /// Waits until nobody waits for a pull, and takes it out of the table, so that nobody joins it any more.
    async fn abandoned(&self, image: &ImageRef, sender: &watch::Sender<Outcome>) {
        loop {
            sender.closed().await;
            let mut running = self.running();
            // Somebody may have joined in this moment.
            if sender.receiver_count() == 0 {
                running.remove(image);
                return;
            }
        }
    }

    fn forget(&self, image: &ImageRef, sender: &Arc<watch::Sender<Outcome>>) {
        let mut running = self.running();
        if running.get(image).is_some_and(|current| Arc::ptr_eq(current, sender)) {
            running.remove(image);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::config::{PodmanSettings, UserNamespace};

    /// A podman that notes each call, and ends when the file `go` is there.
    fn podman(directory: &std::path::Path) -> Arc<Podman> {
        let script =
            "#!/bin/sh\necho x >>calls\ntrap 'echo x >>stopped; exit 1' TERM\nwhile [ ! -e go ]; do sleep 0.01; done\n";
        let command = directory.join("podman");
        std::fs::write(&command, script.replacen('\n', &format!("\ncd '{}' || exit 1\n", directory.display()), 1))
            .expect("write");
        std::fs::set_permissions(&command, PermissionsExt::from_mode(0o755)).expect("chmod");
        Arc::new(Podman::new(&PodmanSettings {
            command,
            init: "/init".into(),
            environment: BTreeMap::new(),
            timeout: Duration::from_secs(60),
            pull_timeout: Duration::from_secs(60),
            user_namespace: UserNamespace::Host,
        }))
    }

    fn image() -> ImageRef {
        ImageRef::try_from("alpine".to_owned()).expect("valid")
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
                tokio::spawn(async move { pulls.pull(&podman, &image()).await })
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
            let waiting = pulls.pull(&podman, &wanted);
            tokio::select! { _ = waiting => panic!("it can't end yet"), () = until(directory.path().join("calls")) => {} }
        }
        until(directory.path().join("stopped")).await;
    }
}
