//! Registries: has a tag moved, what is an image for a platform, what was it built on.
//!
//! Nothing is pulled. The digest of a tag costs one HEAD, which no registry counts as a pull. What a registry says is input from outside:
//! bodies are bounded, and are what their digest names or count for nothing.

mod access;
mod challenge;
pub mod conf;
mod digest;
mod error;
mod host;
mod logins;
mod manifest;
mod pace;
mod platform;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Certificate, Method, NoProxy, Proxy};

pub use digest::Digest;
pub use error::RegistryError;
pub use logins::Login;
pub use manifest::{BASE_DIGEST, BASE_NAME, ImageConfig, ImageManifest, Index, Manifest};
pub use pace::PullLimit;
pub use platform::Platform;

use crate::job::ImageRef;
use error::{said, shown};
use host::{Answer, Host, Question};
use logins::Logins;

/// Longest manifest or index that is read, in bytes (distribution-spec: registries take 4 MiB).
const MANIFEST_MAX: usize = 4 << 20;
/// Longest configuration of an image that is read, in bytes.
const CONFIG_MAX: usize = 8 << 20;
/// Redirections that are followed: registries keep their blobs elsewhere.
const REDIRECTIONS_MAX: usize = 5;
/// Platforms' digests that are remembered; more are asked for again.
const REMEMBERED_MAX: usize = 10_000;
/// The header with the digest of what was asked for.
const DIGEST_HEADER: &str = "docker-content-digest";

/// How registries are asked.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// podman's auth file with logins; none: nobody logs in.
    pub auth_file: Option<PathBuf>,
    /// Registries, by host and port, that may be spoken to without TLS or with whatever certificate they have.
    pub insecure: BTreeSet<String>,
    /// Where certificates of registries are, in a directory for each host.
    pub certificates: Vec<PathBuf>,
    /// The proxy on the way to registries; none: no proxy, whatever the environment says.
    pub proxy: Option<String>,
    /// The hosts to which no proxy leads, as in the variable NO_PROXY.
    pub no_proxy: Option<String>,
    /// Requests at once to one registry.
    pub at_once: usize,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            auth_file: None,
            insecure: BTreeSet::new(),
            certificates: conf::CERTIFICATES.map(PathBuf::from).to_vec(),
            proxy: None,
            no_proxy: None,
            at_once: 2,
            timeout: Duration::from_secs(20),
        }
    }
}

impl RegistrySettings {
    /// Takes over what variables for podman say of proxies and of registries.conf.
    ///
    /// # Errors
    /// When registries.conf can't be read.
    pub fn with_environment(mut self, variables: &BTreeMap<String, String>) -> Result<Self> {
        let value = |names: [&str; 2]| names.iter().find_map(|name| variables.get(*name)).cloned();
        self.proxy = value(["HTTPS_PROXY", "https_proxy"]);
        self.no_proxy = value(["NO_PROXY", "no_proxy"]);
        let file = variables.get("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from);
        self.insecure.extend(conf::insecure(file.as_deref())?);
        Ok(self)
    }
}

/// Asks registries, each with its own bounds.
#[derive(Debug)]
pub struct Registry {
    settings: RegistrySettings,
    logins: Logins,
    /// For most registries, and for insecure ones.
    http: [reqwest::Client; 2],
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
    /// The image of an index for a platform: neither can ever be another.
    images: Mutex<HashMap<(Digest, Platform), Digest>>,
}

/// What a tag names now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The digest of the index or manifest.
    pub digest: Digest,
    /// Whether it is an index; none: the registry does not say.
    pub is_index: Option<bool>,
}

/// An image's name taken apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    image: &'a str,
    registry: &'a str,
    repository: &'a str,
    reference: &'a str,
}

impl<'a> Target<'a> {
    fn of(image: &'a ImageRef) -> Self {
        let (image, name, registry) = (image.as_str(), image.name(), image.registry());
        let repository = name.get(registry.len() + 1..).unwrap_or_default();
        // Behind the name is one character, and then the tag or the digest.
        Self { image, registry, repository, reference: image.get(name.len() + 1..).unwrap_or_default() }
    }

    fn at(self, reference: &'a str) -> Self {
        Self { reference, ..self }
    }
}

impl Registry {
    /// One with these settings. Nobody is asked yet.
    ///
    /// # Errors
    /// When the proxy is none, or the system has no certificates at all.
    pub fn new(settings: RegistrySettings) -> Result<Self> {
        let http = [client(&settings, false, &[])?, client(&settings, true, &[])?];
        let logins = Logins::new(settings.auth_file.clone());
        Ok(Self { settings, logins, http, hosts: Mutex::default(), images: Mutex::default() })
    }

    /// Offers a login for what is at or below a path such as `registry.example.com/group`, where the auth file has none.
    pub fn offer_login(&self, path: &str, login: Login) {
        self.logins.offer(path, login);
    }

    /// The digest that an image's name stands for now.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub async fn head(&self, image: &ImageRef) -> Result<Head, RegistryError> {
        let target = Target::of(image);
        let answer = self.ask(Method::HEAD, "manifests", target, MANIFEST_MAX).await?;
        let digest = header(&answer, DIGEST_HEADER).and_then(|text| Digest::try_from(text.to_owned()).ok());
        let Some(digest) = digest else {
            // It knows no HEAD, or does not say there what it should.
            let (digest, manifest) = self.get(target).await?;
            return Ok(Head { digest, is_index: Some(matches!(manifest, Manifest::Index(_))) });
        };
        if target.reference.contains(':') && target.reference != digest.as_str() {
            return Err(odd(target, format!("asked for {}, it has {digest}", target.reference)));
        }
        let kind = header(&answer, "content-type").map(|text| text.split(';').next().unwrap_or_default().trim());
        let is_index = match kind {
            Some(kind) if manifest::INDEXES.contains(&kind) => Some(true),
            Some(kind) if manifest::MANIFESTS.contains(&kind) => Some(false),
            _ => None,
        };
        Ok(Head { digest, is_index })
    }

    /// The digest of the image for a platform, of what [`Registry::head`] has found: one request for each index, ever.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub async fn platform_digest(
        &self,
        image: &ImageRef,
        head: &Head,
        platform: &Platform,
    ) -> Result<Digest, RegistryError> {
        if head.is_index == Some(false) {
            return Ok(head.digest.clone());
        }
        let key = (head.digest.clone(), platform.clone());
        if let Some(known) = self.images.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let digest = match self.manifest(image, &head.digest).await? {
            Manifest::Image(image) => image.digest,
            Manifest::Index(index) => index.image_for(platform).cloned().ok_or_else(|| no_platform(image, platform))?,
        };
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.len() >= REMEMBERED_MAX {
            images.clear();
        }
        images.insert(key, digest.clone());
        Ok(digest)
    }

    /// The index or manifest with a digest, of an image's repository.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub async fn manifest(&self, image: &ImageRef, digest: &Digest) -> Result<Manifest, RegistryError> {
        Ok(self.get(Target::of(image).at(digest.as_str())).await?.1)
    }

    /// The manifest of the image for a platform, of what a digest names.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub async fn image_manifest(
        &self,
        image: &ImageRef,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<ImageManifest, RegistryError> {
        let index = match self.manifest(image, digest).await? {
            Manifest::Image(image) => return Ok(image),
            Manifest::Index(index) => index,
        };
        let digest = index.image_for(platform).ok_or_else(|| no_platform(image, platform))?;
        match self.manifest(image, digest).await? {
            Manifest::Image(image) => Ok(image),
            Manifest::Index(_) => Err(odd(Target::of(image), "an index in an index".to_owned())),
        }
    }

    /// The configuration of an image.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub async fn config(&self, image: &ImageRef, manifest: &ImageManifest) -> Result<ImageConfig, RegistryError> {
        let target = Target::of(image).at(manifest.config.as_str());
        let answer = self.ask(Method::GET, "blobs", target, CONFIG_MAX).await?;
        if !manifest.config.is_of(&answer.body) {
            return Err(odd(target, format!("its configuration is not what {} names", manifest.config)));
        }
        serde_json::from_slice(&answer.body).map_err(|error| odd(target, manifest::unreadable("configuration", &error)))
    }

    /// What a registry has said is left of its limit on pulls, the last time that it did.
    #[must_use]
    pub fn pull_limit(&self, registry: &str) -> Option<PullLimit> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(registry)?.pulls()
    }

    async fn get(&self, target: Target<'_>) -> Result<(Digest, Manifest), RegistryError> {
        let answer = self.ask(Method::GET, "manifests", target, MANIFEST_MAX).await?;
        let told = if target.reference.contains(':') { Some(target.reference) } else { header(&answer, DIGEST_HEADER) };
        let digest = match told.map(|text| Digest::try_from(text.to_owned())) {
            None => Digest::of(&answer.body),
            Some(Ok(digest)) if digest.is_of(&answer.body) => digest,
            Some(Ok(digest)) => return Err(odd(target, format!("what it sends is not what {digest} names"))),
            Some(Err(reason)) => return Err(odd(target, reason)),
        };
        let manifest = manifest::read(&digest, &answer.body).map_err(|reason| odd(target, reason))?;
        Ok((digest, manifest))
    }

    /// The answer to a question, if it is one.
    async fn ask(&self, method: Method, kind: &str, target: Target<'_>, max: usize) -> Result<Answer, RegistryError> {
        let host = self.host(target.registry)?;
        // The semaphore is never closed, and each request has its own end.
        let _place = host.places.acquire().await;
        let accept = if kind == "manifests" {
            [&manifest::INDEXES[..], &manifest::MANIFESTS[..]].concat().join(", ")
        } else {
            "*/*".to_owned()
        };
        let at = format!("{}/{kind}/{}", target.repository, target.reference);
        let is_head = method == Method::HEAD;
        let question = Question { method, at: &at, accept: &accept, authorization: None, max };
        let answer = self.let_in(&host, &target, question).await?;
        let (image, words) = (target.image.to_owned(), said(&answer.body));
        match answer.status {
            200 => Ok(answer),
            405 | 501 if is_head => Ok(answer),
            401 => Err(RegistryError::Unauthorized {
                image,
                reason: format!("its registry does not take the login, or has nothing of that name{words}"),
            }),
            403 => Err(RegistryError::Denied { image, said: words }),
            404 => Err(RegistryError::NotFound { image, said: words }),
            status if status >= 500 => Err(host.unreachable(&format!("it answers {status}{words}"))),
            status => Err(odd(target, format!("it answers {status}{words}"))),
        }
    }

    fn host(&self, name: &str) -> Result<Arc<Host>, RegistryError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(name) {
            return Ok(Arc::clone(host));
        }
        let insecure = self.settings.insecure.contains(name);
        let made = conf::certificates(&self.settings.certificates, name).and_then(|own| match own.is_empty() {
            true => Ok(self.http[usize::from(insecure)].clone()),
            false => client(&self.settings, insecure, &own),
        });
        let http = made.map_err(|error| RegistryError::Unreachable {
            registry: name.to_owned(),
            reason: format!("can't be asked: {error:#}"),
        })?;
        let host = Arc::new(Host::new(name, http, insecure, self.settings.at_once, self.settings.timeout));
        hosts.insert(name.to_owned(), Arc::clone(&host));
        Ok(host)
    }
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name)?.to_str().ok()
}

fn odd(target: Target<'_>, reason: String) -> RegistryError {
    RegistryError::Odd { image: target.image.to_owned(), reason: shown(&reason) }
}

fn no_platform(image: &ImageRef, platform: &Platform) -> RegistryError {
    RegistryError::NoPlatform { image: image.as_str().to_owned(), platform: platform.to_string() }
}

/// An HTTP client that trusts these certificates (PEM) beside the system's.
fn client(settings: &RegistrySettings, insecure: bool, certificates: &[Vec<u8>]) -> Result<reqwest::Client> {
    let follow = reqwest::redirect::Policy::custom(move |attempt| {
        // The login stays behind where it leads to another host; reqwest sees to that.
        if attempt.previous().len() > REDIRECTIONS_MAX {
            attempt.error("it leads on and on")
        } else if attempt.url().scheme() == "https" || insecure {
            attempt.follow()
        } else {
            attempt.error("it leads to where there is no TLS")
        }
    });
    let mut builder = reqwest::Client::builder()
        .redirect(follow)
        .no_proxy()
        .tls_danger_accept_invalid_certs(insecure)
        .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = &settings.proxy {
        let except = settings.no_proxy.as_deref().and_then(NoProxy::from_string);
        builder = builder.proxy(Proxy::all(proxy).with_context(|| format!("proxy {proxy}"))?.no_proxy(except));
    }
    for pem in certificates {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem).context("no certificates (PEM)")?);
    }
    builder.build().context("make an HTTP client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_taken_apart() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (image, expected) in [
            ("debian", ["docker.io", "library/debian", "latest"]),
            ("r.example.com:5000/g/x:1.2", ["r.example.com:5000", "g/x", "1.2"]),
            (&format!("r.example.com/x:1@{digest}"), ["r.example.com", "x", &digest]),
        ] {
            let image = ImageRef::try_from(image.to_owned()).expect(image);
            let target = Target::of(&image);
            assert_eq!([target.registry, target.repository, target.reference], expected);
        }
    }
}
