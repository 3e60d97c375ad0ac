//! The images of a job: pulled as the policies say, and handed to no job that could not pull them itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::auth::{Auth, digest};
use super::image_use::Origin;
use super::record::{Record, unix_time};
use super::{Executor, Failure, JobLog};
use crate::config::PullPolicy;
use crate::job::ImageRef;
use crate::lanes::Key;
use crate::podman::{Came, Explained, Image, Pull, PullFailure, PullOptions, Pulled, explain_pull};
use crate::sys::files;

/// Pause before a pull is tried again; doubled each time. podman itself waits as long as a registry's Retry-After says, and goes
/// on with a layer that broke off; what else fails it does not try again (4.3).
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Accesses that are remembered; the oldest go first.
const PROOFS_MAX: usize = 10_000;

/// An image that a job needs.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which.
    pub reference: ImageRef,
    /// When it is pulled; the next is tried when one fails.
    pub policies: Vec<PullPolicy>,
    /// The platform, where it is not the host's own.
    pub platform: Option<String>,
}

/// Which project has proven that it may pull an image, and when, in seconds since 1970. Images that were pulled without any
/// login are everybody's.
#[derive(Debug)]
pub struct Proofs {
    file: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    proofs: BTreeMap<String, u64>,
}

impl Proofs {
    /// Reads what is on record; what can't be read has to be proven again.
    #[must_use]
    pub fn load(state_dir: &Path) -> Self {
        let file = state_dir.join("image-access.json");
        let known = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file, known: Mutex::new(known.unwrap_or_default()) }
    }

    /// When this was proven.
    fn when(&self, proof: &str) -> Option<u64> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).proofs.get(proof).copied()
    }

    fn note(&self, proof: String) {
        self.change(|known| {
            known.proofs.insert(proof, unix_time());
        });
    }

    /// The registry says now that it is not so.
    fn withdraw(&self, proof: &str) {
        if self.when(proof).is_some() {
            self.change(|known| {
                known.proofs.remove(proof);
            });
        }
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        while known.proofs.len() > PROOFS_MAX {
            let oldest = known.proofs.iter().min_by_key(|(_, when)| **when).map(|(proof, _)| proof.clone());
            oldest.map(|oldest| known.proofs.remove(&oldest));
        }
        let bytes = serde_json::to_vec(&*known).unwrap_or_default();
        if let Err(error) = files::write_atomically(&self.file, &bytes, 0o600, files::Survives::Crash) {
            tracing::warn!("write {}: {error}", self.file.display());
        }
    }
}

/// What proves that this project may have an image, with these lasting logins.
fn proof(image: &Image, auth: &Auth, reference: &ImageRef, key: &Key) -> String {
    if auth.covers(reference) {
        digest(&[&image.id, reference.name(), &key.to_string(), auth.lasting()])
    } else {
        proof_for_all(image, reference)
    }
}

/// What proves that everybody may have it.
fn proof_for_all(image: &Image, reference: &ImageRef) -> String {
    digest(&[&image.id, reference.name()])
}

/// What says that its registry gives this image, which is for another platform, to a host like this one: it has no other.
fn proof_of_only(image: &Image, reference: &ImageRef) -> String {
    digest(&["only", &image.id, reference.as_str()])
}

/// Where podman finds the certificates of a profile.
fn certificates_dir(run_dir: &Path, profile: &str) -> PathBuf {
    run_dir.join("certificates").join(profile)
}

/// Puts `ca_file` where podman looks for it (containers-certs.d(5): each `*.crt` in the directory).
pub fn link_certificates(run_dir: &Path, profile: &str, ca_file: &Path) -> anyhow::Result<()> {
    let directory = certificates_dir(run_dir, profile);
    super::make_directory(&directory, 0o700)?;
    let link = directory.join("ca.crt");
    match std::fs::remove_file(&link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok(std::os::unix::fs::symlink(ca_file, &link)?)
}

impl Executor {
    /// Has an image ready on this host.
    ///
    /// # Errors
    /// The job's when the registry refuses or has no such image, else the system's.
    pub(super) async fn ready_image(
        &self,
        wanted: &Wanted,
        auth: &Auth,
        record: &Record,
        log: &JobLog,
    ) -> Result<Image, Failure> {
        let mut last: Option<Failure> = None;
        for policy in &wanted.policies {
            if let Some(failure) = &last {
                log.line(format!("{}; next is pull policy {}", failure.message, policy.word()));
            }
            match self.by_policy(*policy, wanted, auth, record, log).await {
                Ok(image) => return self.runnable(wanted, image),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::system(format!("there is no pull policy for image {}", wanted.reference))))
    }

    async fn by_policy(
        &self,
        policy: PullPolicy,
        wanted: &Wanted,
        auth: &Auth,
        record: &Record,
        log: &JobLog,
    ) -> Result<Image, Failure> {
        let reference = &wanted.reference;
        if policy == PullPolicy::Always {
            return self.pull(wanted, auth, record, false, log).await;
        }
        let there = self.lookup(reference).await?;
        let nothing = there.is_none();
        let Some(image) = there.filter(|image| self.will_do(image, policy, wanted)) else {
            if policy == PullPolicy::Never {
                return Err(Failure::job(format!(
                    "image {reference} is not on this host, and its pull policy is never"
                )));
            }
            // One for another platform will not do.
            return self.pull(wanted, auth, record, nothing && wanted.platform.is_none(), log).await;
        };
        if policy == PullPolicy::IfNotPresent && !self.may_use(wanted, &image, auth, record, log).await? {
            return self.pull(wanted, auth, record, false, log).await;
        }
        self.image_uses.note(&image.id, reference.as_str(), Origin::There, self.lanes.now());
        log.line(format!("Using image {reference} ({:.12}), present on this host", image.id));
        Ok(image)
    }

    /// Whether an image that is on this host under the name of the one that is wanted is that. A job that asked for a platform has
    /// moved the tag to an image for that one.
    fn will_do(&self, image: &Image, policy: PullPolicy, wanted: &Wanted) -> bool {
        let reference = &wanted.reference;
        image.fits(wanted.platform.as_deref())
            || wanted.platform.is_none()
                && (policy == PullPolicy::Never
                    || image.registry_digests(reference).is_empty()
                    || self.proofs.when(&proof_of_only(image, reference)).is_some())
    }

    async fn lookup(&self, reference: &ImageRef) -> Result<Option<Image>, Failure> {
        let image = self.podman.image(reference).await;
        image.map_err(|error| Failure::system(format!("podman can't look image {reference} up: {}", error.message)))
    }

    /// Whether a job may have an image that is on this host: one that it could pull itself, or that no registry gave. False when
    /// the registry has it no more under this digest: then its tag decides.
    async fn may_use(
        &self,
        wanted: &Wanted,
        image: &Image,
        auth: &Auth,
        record: &Record,
        log: &JobLog,
    ) -> Result<bool, Failure> {
        let reference = &wanted.reference;
        let digests = image.registry_digests(reference);
        if digests.is_empty() {
            return Ok(true);
        }
        self.may_pull(wanted, image, &digests, auth, record, log).await
    }

    /// Whether a job could pull an image that its registry has under these digests.
    async fn may_pull(
        &self,
        wanted: &Wanted,
        image: &Image,
        digests: &[&str],
        auth: &Auth,
        record: &Record,
        log: &JobLog,
    ) -> Result<bool, Failure> {
        let reference = &wanted.reference;
        let key = Key::from(&record.job);
        let proof = proof(image, auth, reference, &key);
        let when = self.proofs.when(&proof);
        let ttl = record.settings.images.access_ttl.as_secs();
        // What came without a login once, everybody could have kept.
        let for_all = self.proofs.when(&proof_for_all(image, reference)).is_some();
        if for_all || when.is_some_and(|when| unix_time().saturating_sub(when) < ttl) {
            return Ok(true);
        }
        let options = self.pull_options(auth, record, false);
        let _step = log.step(format!("asking whether this project may use image {reference}"));
        for digest in digests {
            // All layers are here: podman asks the registry for the manifest, and no tag moves.
            let pull = Pull { image: reference.by_digest(digest), platform: wanted.platform.clone() };
            let Err(error) = self.podman.pull(&pull, &options).await else {
                self.proofs.note(proof);
                return Ok(true);
            };
            match explain_pull(reference, &error) {
                Explained { kind: PullFailure::Missing, .. } => {}
                Explained { kind: PullFailure::Unreachable | PullFailure::Limited, .. } if when.is_some() => {
                    log.line(format!(
                        "The registry of image {reference} does not answer; this project was let in before"
                    ));
                    return Ok(true);
                }
                Explained { kind, message } => {
                    if kind == PullFailure::Denied {
                        self.proofs.withdraw(&proof);
                    }
                    return Err(Failure {
                        class: kind.class(),
                        message: format!(
                            "{message}. The image is on this host; whether this project may use it, its registry has to say (or the administrator, with pull_policy = \"never\")"
                        ),
                    });
                }
            }
        }
        Ok(false)
    }

    /// The image that a pull has brought: by its id, because a pull for another platform moves its tag.
    async fn lookup_what_came(&self, reference: &ImageRef, came: &Came) -> Result<Option<Image>, Failure> {
        let Some(id) = &came.id else { return self.lookup(reference).await };
        let image = self.podman.image_with_id(id).await;
        image.map_err(|error| Failure::system(format!("podman can't look image {reference} up: {}", error.message)))
    }

    fn pull_options(&self, auth: &Auth, record: &Record, unless_present: bool) -> PullOptions {
        PullOptions {
            auth: Some(auth.path().to_owned()),
            anonymous: false,
            unless_present,
            certificates: record
                .settings
                .ca_file
                .as_ref()
                .map(|_| certificates_dir(&self.settings().run_dir, &record.profile)),
        }
    }

    /// Pulls an image, again when the way to the registry fails.
    async fn pull(
        &self,
        wanted: &Wanted,
        auth: &Auth,
        record: &Record,
        unless_present: bool,
        log: &JobLog,
    ) -> Result<Image, Failure> {
        let reference = &wanted.reference;
        let pull = Pull { image: reference.as_str().to_owned(), platform: wanted.platform.clone() };
        let anonymous = !auth.covers(reference);
        let options = PullOptions { anonymous, ..self.pull_options(auth, record, unless_present) };
        let before = self.lookup(reference).await?;
        let since = Instant::now();
        let (mut tries, mut pause) = (1, FIRST_PAUSE);
        log.line(format!("Pulling image {reference}"));
        let step = log.step(format!("pulling image {reference}"));
        let (ours, came) = loop {
            let (own, error) = match self.pulls.pull(&self.podman, &pull, &options).await {
                Ok((own, came)) => break (own && came.how != Pulled::Already, came),
                Err(failed) => failed,
            };
            let Explained { kind, message } = explain_pull(reference, &error);
            if !own && kind.class() == crate::protocol::daemon::FailureClass::Job {
                // Another job's logins were refused.
                continue;
            }
            if kind != PullFailure::Unreachable || tries >= record.settings.images.pull_attempts {
                if own {
                    self.note_pull(reference, kind.word(), None, since.elapsed());
                }
                return Err(Failure { class: kind.class(), message });
            }
            tries += 1;
            log.line(format!("{message}. Trying again in {}", humantime::format_duration(pause)));
            step.say(format!("pulling image {reference}, try {tries}: {message}"));
            tokio::time::sleep(pause).await;
            pause *= 2;
        };
        drop(step);
        let image = self
            .lookup_what_came(reference, &came)
            .await?
            .ok_or_else(|| Failure::system(format!("image {reference} was pulled, and is not there")))?;
        if came.how == Pulled::Already && !self.will_do(&image, PullPolicy::IfNotPresent, wanted) {
            // Another job's, for the platform that it asked for, has come since this one looked.
            return Box::pin(self.pull(wanted, auth, record, false, log)).await;
        }
        if ours {
            self.note_pull(reference, "success", Some(&image), since.elapsed());
        }
        // One that was there under this name came by somebody else, or is on record already.
        let was_there = before.is_some_and(|before| before.id == image.id);
        let origin = if was_there || came.how == Pulled::Already { Origin::There } else { Origin::Brought };
        self.image_uses.note(&image.id, reference.as_str(), origin, self.lanes.now());
        if wanted.platform.is_none() && !image.fits(None) {
            self.proofs.note(proof_of_only(&image, reference));
        }
        match came.how {
            Pulled::ByThis => self.proofs.note(proof(&image, auth, reference, &Key::from(&record.job))),
            Pulled::Anonymously => self.proofs.note(proof_for_all(&image, reference)),
            Pulled::ByAnother | Pulled::Already => {
                let named = image.registry_digests(reference);
                // One whose tag has moved on is known by its own digest alone.
                let own = image.digest.as_deref().filter(|_| named.is_empty() && came.id.is_some());
                let digests = if named.is_empty() { own.into_iter().collect() } else { named };
                if !digests.is_empty() && !self.may_pull(wanted, &image, &digests, auth, record, log).await? {
                    return Err(Failure::job(format!("image {reference} is gone from its registry")));
                }
            }
        }
        let digest = image.digest.as_deref().unwrap_or("no digest");
        let size = bytesize::ByteSize(image.size);
        log.line(format!("Pulled image {reference} ({:.12}, {digest}, {size}) in {:.1?}", image.id, since.elapsed()));
        Ok(image)
    }

    /// Names a platform that this host can't run, before its first program fails to start.
    fn runnable(&self, wanted: &Wanted, image: Image) -> Result<Image, Failure> {
        if image.runs_here() {
            return Ok(image);
        }
        Err(Failure::job(format!(
            "image {} is for {}, which this host can't run: it is a {} host without an emulator (binfmt_misc) for that",
            wanted.reference,
            image.platform(),
            std::env::consts::ARCH,
        )))
    }
}
