//! Which images of a unit have moved: what its tags are now, in the registry or on this host, against what runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use super::journey::Change;
use super::podman::{LocalImage, Podman};
use super::state::Record;
use super::units::{Managed, Member, Policy};
use crate::job::ImageRef;
use crate::registry::{Registry, RegistryError, RegistrySettings};

/// The digest of a tag, or why it is not known.
type Said = Result<String, RegistryError>;

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

    /// The digest that the tag of a container's image is now.
    async fn digest(&self, member: &Member) -> Result<Said> {
        let auth_file = self.told(member).map(Path::to_owned).or_else(podmans_auth_file);
        let key = (member.image.clone(), auth_file.clone());
        let known = self.said.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let image = ImageRef::try_from(member.image.clone()).map_err(anyhow::Error::msg)?;
        let head = self.registry(auth_file)?.head(&image).await.map(|head| head.digest.as_str().to_owned());
        self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(key, head.clone());
        Ok(head)
    }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// No: nothing on this host changes.
    OnlyLook,
    /// Yes.
    OrPull,
}

/// The images of a unit that have moved, those in quarantine too; none in the list: all is as it should be.
///
/// # Errors
/// When a registry or podman can't tell of one of them.
pub async fn changes(
    unit: &Managed,
    record: &mut Record,
    podman: &Podman,
    registries: &Registries,
    ask: Ask,
) -> Result<Vec<Change>> {
    let mut found = Vec::new();
    for member in &unit.members {
        let change = match member.policy {
            None => None,
            Some(Policy::Local) => local(member, podman).await?,
            Some(Policy::Registry) => remote(member, record, podman, registries, ask).await?,
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
    member: &Member,
    record: &mut Record,
    podman: &Podman,
    registries: &Registries,
    ask: Ask,
) -> Result<Option<Change>> {
    let auth_file = registries.told(member).map(Path::to_owned);
    let digest = match registries.digest(member).await? {
        Ok(digest) => digest,
        Err(error) if ask == Ask::OrPull && podman_may_know(&error) => {
            return by_pull(member, record, podman, auth_file).await.with_context(|| error.to_string());
        }
        Err(error) => return Err(error.into()),
    };
    // The digest of a list may move for another platform's sake: what it is here was found out before.
    if record.known.get(&digest).is_some_and(|image| *image == member.image_id) {
        return Ok(None);
    }
    let runs = podman.image(&member.image_id).await?;
    if runs.is_some_and(|image| image.digests.contains(&digest)) {
        return Ok(None);
    }
    Ok(Some(change(member, Policy::Registry, digest, None, auth_file)))
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

/// Pulls the tag, and gives it back to the image that runs until the unit is restarted for the new one.
async fn by_pull(
    member: &Member,
    record: &mut Record,
    podman: &Podman,
    auth_file: Option<PathBuf>,
) -> Result<Option<Change>> {
    let id = podman.pull(&member.image, auth_file.as_deref()).await?;
    if id == member.image_id {
        return Ok(None);
    }
    podman.tag(&member.image_id, &member.image).await?;
    let image: Option<LocalImage> = podman.image(&id).await?;
    let digest = image.and_then(|image| image.digests.last().cloned());
    let digest = digest.with_context(|| format!("podman pulled {} and does not know its digest", member.image))?;
    record.know(&digest, &id);
    Ok(Some(change(member, Policy::Registry, digest, Some(id), auth_file)))
}

fn change(member: &Member, policy: Policy, digest: String, to: Option<String>, auth_file: Option<PathBuf>) -> Change {
    Change {
        container: member.name.clone(),
        image: member.image.clone(),
        policy,
        from: member.image_id.clone(),
        digest,
        to,
        auth_file,
    }
}
