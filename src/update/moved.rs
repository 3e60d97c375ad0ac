//! Which images of a unit have moved: what its tags are now, in the registry or on this host, against what runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use super::journey::Change;
use super::podman::{LocalImage, Podman};
use super::record::{Asked, Record};
use super::state::State;
use super::units::{Managed, Member, Policy};
use crate::job::ImageRef;
use crate::registry::{Head, Platform, Registry, RegistryError, RegistrySettings};

/// What a tag is, or why that is not known.
type Said = Result<Head, RegistryError>;

/// The registries, with each file of logins.
#[derive(Debug)]
pub struct Registries {
    auth_file: Option<PathBuf>,
    timeout: Duration,
    made: Mutex<BTreeMap<Option<PathBuf>, Arc<Registry>>>,
    /// What they have said: a tag that several containers have is asked for once.
    said: Mutex<BTreeMap<(String, Option<PathBuf>), Said>>,
}

impl Registries {
    /// With this file of logins unless a container has its own; without one with podman's.
    #[must_use]
    pub fn new(auth_file: Option<&Path>, timeout: Duration) -> Self {
        let auth_file = auth_file.map(Path::to_owned);
        Self { auth_file, timeout, made: Mutex::default(), said: Mutex::default() }
    }

    /// The file of logins for a container's image, as podman is told it; none: podman's own.
    fn told<'a>(&'a self, member: &'a Member) -> Option<&'a Path> {
        member.auth_file.as_deref().or(self.auth_file.as_deref())
    }

    fn registry(&self, auth_file: Option<PathBuf>) -> Result<Arc<Registry>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = made.get(&auth_file) {
            return Ok(Arc::clone(registry));
        }
        let settings =
            RegistrySettings { auth_file: auth_file.clone(), timeout: self.timeout, ..RegistrySettings::default() };
        let settings = settings.with_environment(&std::env::vars().collect())?;
        let registry = Arc::new(Registry::new(settings)?);
        made.insert(auth_file, Arc::clone(&registry));
        Ok(registry)
    }

    /// What the tag of a container's image is now.
    async fn head(&self, member: &Member) -> Result<Said> {
        let auth_file = self.asked_with(member);
        let key = (member.image.clone(), auth_file.clone());
        let known = self.said.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let head = self.registry(auth_file)?.head(&reference(member)?).await;
        self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(key, head.clone());
        Ok(head)
    }

    /// The digest of the image for this host's platform, where a tag is an index: one request, and none where it is none. None where that
    /// is not to be had: then it is pulled to be known.
    async fn platform(&self, member: &Member, head: &Head) -> Result<Option<String>> {
        let (registry, image) = (self.registry(self.asked_with(member))?, reference(member)?);
        match registry.platform_digest(&image, head, &Platform::of_host()).await {
            Ok(digest) => Ok(Some(digest.as_str().to_owned()).filter(|digest| digest != head.digest.as_str())),
            // A pull would be one request too many as well.
            Err(error @ RegistryError::Limited { .. }) => Err(error.into()),
            Err(error) => {
                tracing::debug!(image = member.image, "which image it is for this platform is not known: {error}");
                Ok(None)
            }
        }
    }

    /// The file of logins for a container's image; none: nobody logs in.
    fn asked_with(&self, member: &Member) -> Option<PathBuf> {
        self.told(member).map(Path::to_owned).or_else(podmans_auth_file)
    }
}

fn reference(member: &Member) -> Result<ImageRef> {
    ImageRef::try_from(member.image.clone()).map_err(anyhow::Error::msg)
}

/// The first of podman's own files of logins that is there.
fn podmans_auth_file() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let runtime = variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json"));
    let shared = PathBuf::from(format!("/run/containers/{}/auth.json", geteuid()));
    let home = variable("HOME");
    let of_home = |path: &str| home.as_ref().map(|home| home.join(path));
    [
        variable("REGISTRY_AUTH_FILE"),
        runtime,
        Some(shared),
        of_home(".config/containers/auth.json"),
        of_home(".docker/config.json"),
    ]
    .into_iter()
    .flatten()
    .find(|path| path.exists())
}

/// Whether podman may pull to find out, where a registry can't be asked directly.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'a> {
    /// No: nothing on this host changes.
    OnlyLook,
    /// Yes; it is put on record here before.
    OrPull(&'a State),
}

/// What an image's tag is, at most podman could find out, by pulling it: why the registry did not say.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unasked(#[from] RegistryError);

/// The images of a unit that have moved, those in quarantine too; none in the list: all is as it should be.
///
/// # Errors
/// When a registry or podman can't tell of one of them.
pub async fn changes(
    unit: &Managed,
    record: &mut Record,
    podman: &Podman,
    registries: &Registries,
    ask: Ask<'_>,
) -> Result<Vec<Change>> {
    let mut found = Vec::new();
    for member in &unit.members {
        let change = match member.policy {
            None => None,
            Some(Policy::Local) => local(member, podman).await?,
            Some(Policy::Registry) => remote(unit, member, record, podman, registries, ask).await?,
        };
        found.extend(change);
    }
    Ok(found)
}

async fn local(member: &Member, podman: &Podman) -> Result<Option<Change>> {
    let image = podman.image(&member.image).await?;
    let image = image.with_context(|| format!("there is no image {} on this host any more", member.image))?;
    let digest = format!("sha256:{}", image.id);
    Ok((image.id != member.image_id).then(|| change(member, Policy::Local, digest, Some(image.id), None)))
}

async fn remote(
    unit: &Managed,
    member: &Member,
    record: &mut Record,
    podman: &Podman,
    registries: &Registries,
    ask: Ask<'_>,
) -> Result<Option<Change>> {
    let auth_file = registries.told(member).map(Path::to_owned);
    let head = match registries.head(member).await? {
        Ok(head) => head,
        Err(error) if podman_may_know(&error) => match ask {
            Ask::OnlyLook => return Err(Unasked(error).into()),
            Ask::OrPull(state) => {
                let save = |record: &Record| state.save(&unit.unit, record);
                return by_pull(member, record, podman, auth_file, save).await.with_context(|| error.to_string());
            }
        },
        Err(error) => return Err(error.into()),
    };
    let digest = head.digest.as_str().to_owned();
    // The digest of a list may move for another platform's sake: what it is here was found out before.
    if record.known.get(&digest).is_some_and(|image| *image == member.image_id) {
        return Ok(None);
    }
    let runs = podman.image(&member.image_id).await?.map(|image| image.digests).unwrap_or_default();
    if runs.contains(&digest) {
        return Ok(None);
    }
    let platform = match record.platforms.get(&digest) {
        Some(platform) => Some(platform.clone()),
        None => registries.platform(member, &head).await?,
    };
    if let Some(platform) = &platform {
        record.know_platform(&digest, platform);
        if runs.contains(platform) {
            return Ok(None);
        }
    }
    Ok(Some(Change { platform, ..change(member, Policy::Registry, digest, None, auth_file) }))
}

/// Whether podman, which knows of mirrors and of programs that keep logins, may get where a plain request does not.
fn podman_may_know(error: &RegistryError) -> bool {
    match error {
        RegistryError::Unauthorized { .. }
        | RegistryError::Denied { .. }
        | RegistryError::Unreachable { .. }
        | RegistryError::Odd { .. } => true,
        RegistryError::NotFound { .. } | RegistryError::Limited { .. } | RegistryError::NoPlatform { .. } => false,
    }
}

/// Pulls the tag, and gives it back to the image that runs until the unit is restarted for the new one. It is on record before it moves, so
/// that a run that is killed here leaves nothing that the next can't put right.
async fn by_pull(
    member: &Member,
    record: &mut Record,
    podman: &Podman,
    auth_file: Option<PathBuf>,
    save: impl Fn(&Record) -> Result<()>,
) -> Result<Option<Change>> {
    let mut there = podman.nameless().await?;
    there.extend(podman.image(&member.image).await?.map(|image| image.id));
    record.asked.push(Asked { image: member.image.clone(), from: member.image_id.clone(), there });
    if let Err(error) = save(record) {
        record.asked.pop();
        return Err(error.context("it could not be put on record, so nothing was pulled"));
    }
    let pulled = podman.pull(&member.image, auth_file.as_deref()).await;
    put_back(podman, record, &[]).await?;
    let id = pulled?;
    if id == member.image_id {
        return Ok(None);
    }
    let image: Option<LocalImage> = podman.image(&id).await?;
    let digest = image.and_then(|image| image.digests.last().cloned());
    let digest = digest.with_context(|| format!("podman pulled {} and does not know its digest", member.image))?;
    record.know(&digest, &id);
    Ok(Some(change(member, Policy::Registry, digest, Some(id), auth_file)))
}

/// Gives tags that were pulled only to find out what they are back to the images that run, but for what these containers run by now. What
/// was pulled is removed when it turns out not to be wanted.
///
/// # Errors
/// podman's words; what is left to do is on record.
pub async fn put_back(podman: &Podman, record: &mut Record, runs: &[Member]) -> Result<()> {
    while let Some(asked) = record.asked.last().cloned() {
        let now = podman.image(&asked.image).await?.map(|image| image.id).filter(|id| *id != asked.from);
        let is_run = |id: &String| runs.iter().any(|member| member.image_id == *id);
        // Somebody has started it meanwhile, with what it is now.
        if let Some(id) = now.filter(|id| !is_run(id)) {
            let back = podman.tag(&asked.from, &asked.image).await;
            back.with_context(|| format!("give {} back to the image that runs, {}", asked.image, asked.from))?;
            if !asked.there.contains(&id) && !record.pulled.contains(&id) {
                record.pulled.push(id);
            }
        }
        record.asked.pop();
    }
    Ok(())
}

fn change(member: &Member, policy: Policy, digest: String, to: Option<String>, auth_file: Option<PathBuf>) -> Change {
    Change {
        container: member.name.clone(),
        image: member.image.clone(),
        policy,
        from: member.image_id.clone(),
        digest,
        platform: None,
        to,
        auth_file,
    }
}
