//! `podman pull`, one at a time for each image however many jobs ask for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::{Podman, PodmanError, strings};
use crate::job::ImageRef;

type Pull = Arc<OnceCell<Result<(), PodmanError>>>;

/// The pulls under way.
#[derive(Debug, Default)]
pub struct Pulls {
    running: Mutex<HashMap<ImageRef, Pull>>,
}

impl Pulls {
    /// Pulls an image, or waits for the pull of it that is under way already.
    ///
    /// # Errors
    /// podman's words.
    pub async fn pull(&self, podman: &Podman, image: &ImageRef) -> Result<(), PodmanError> {
        let lock = || self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let pull = Arc::clone(lock().entry(image.clone()).or_default());
        let arguments = [&strings(["pull", "--quiet", "--"])[..], &[image.to_string()]].concat();
        // When the job that pulls goes away, the next one that waits takes over.
        let result = pull
            .get_or_init(|| async { podman.call_for(&arguments, podman.settings().pull_timeout, None).await.map(drop) })
            .await
            .clone();
        let mut running = lock();
        if running.get(image).is_some_and(|current| Arc::ptr_eq(current, &pull)) {
            running.remove(image);
        }
        result
    }
}
