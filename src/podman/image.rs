//! `podman image inspect`: what an image says about itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::storage::ImagesMark;
use super::{Podman, PodmanError, Storage, strings};
use crate::job::ImageRef;

/// Digests of one image that a registry is asked about.
const DIGESTS_MAX: usize = 4;
/// Images whose description is remembered.
const KNOWN_MAX: usize = 256;
/// How long a HEALTHCHECK may take whose image does not say (Dockerfile's own default).
const HEALTHCHECK_WITHIN: Duration = Duration::from_secs(30);

/// What is needed of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id, by which it is run.
    pub id: String,
    /// Its digest in the registry, when it came from one.
    pub digest: Option<String>,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub command: Vec<String>,
    /// USER.
    pub user: String,
    /// ENV.
    pub environment: Vec<(String, String)>,
    /// EXPOSEd TCP ports, ascending.
    pub ports: Vec<u16>,
    /// HEALTHCHECK, as `CMD` and words or `CMD-SHELL` and a command; empty when there is none.
    pub healthcheck: Vec<String>,
    /// How long one HEALTHCHECK may take.
    pub healthcheck_within: Duration,
    /// Its size in bytes.
    pub size: u64,
    /// Under which names and digests registries have it.
    pub repo_digests: Vec<String>,
    /// Operating system and architecture, in Go's words.
    pub architecture: String,
}

impl Image {
    /// Its digests in the registry of this reference; none when it did not come from there. An image that was made here and
    /// pushed has more than one, and the registry knows only that of what was pushed.
    #[must_use]
    pub fn registry_digests(&self, reference: &ImageRef) -> Vec<&str> {
        if reference.registry() == "localhost" {
            return Vec::new();
        }
        self.repo_digests
            .iter()
            .filter_map(|known| known.strip_prefix(reference.name())?.strip_prefix('@'))
            .take(DIGESTS_MAX)
            .collect()
    }

    /// Its platform, for people.
    #[must_use]
    pub fn platform(&self) -> &str {
        &self.architecture
    }

    /// Whether it is for the platform that was asked for, or that the host has.
    #[must_use]
    pub fn fits(&self, platform: Option<&str>) -> bool {
        let Some(platform) = platform else {
            // Images made by hand often say nothing.
            return self.architecture.is_empty() || self.architecture == own_architecture();
        };
        // `linux/arm64/v8`: variants of one architecture run each other's programs often enough.
        platform.split('/').nth(1).unwrap_or(platform) == self.architecture
    }

    /// Whether this host runs its programs, itself or by an emulator.
    #[must_use]
    pub fn runs_here(&self) -> bool {
        let (emulator, here) = match self.architecture.as_str() {
            "amd64" => ("x86_64", "x86_64"),
            "arm64" => ("aarch64", "aarch64"),
            "386" => ("i386", "x86_64"),
            "arm" => ("arm", "aarch64"),
            "ppc64le" => ("ppc64le", "powerpc64"),
            "s390x" => ("s390x", "s390x"),
            "riscv64" => ("riscv64", "riscv64"),
            // Images made by hand often say nothing.
            _ => return true,
        };
        std::env::consts::ARCH == here
            || std::path::Path::new("/proc/sys/fs/binfmt_misc").join(format!("qemu-{emulator}")).exists()
    }
}

/// This host's architecture, in Go's words.
fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    healthcheck: Option<Healthcheck>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    architecture: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Healthcheck {
    #[serde(default)]
    test: Option<Vec<String>>,
    /// In nanoseconds; 0 says nothing.
    #[serde(default)]
    timeout: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    user: Option<String>,
    env: Option<Vec<String>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

fn parse(text: &str) -> Result<Image, String> {
    let list: Vec<Inspected> = serde_json::from_str(text).map_err(|error| format!("unreadable answer: {error}"))?;
    let image = list.into_iter().next().ok_or("an empty answer")?;
    let config = image.config.unwrap_or_default();
    let pairs = config.env.unwrap_or_default();
    let exposed = config.exposed_ports.unwrap_or_default();
    // `80` is TCP too; a range (`80-90/tcp`) is written out by whoever builds the image.
    let mut ports: Vec<u16> =
        exposed.keys().filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok()).collect();
    ports.sort_unstable();
    let (test, timeout) = image.healthcheck.map(|check| (check.test, check.timeout)).unwrap_or_default();
    let test = test.unwrap_or_default();
    Ok(Image {
        id: image.id,
        digest: image.digest.filter(|digest| !digest.is_empty()),
        ports,
        healthcheck: if test.first().is_some_and(|word| word == "NONE") { Vec::new() } else { test },
        healthcheck_within: match u64::try_from(timeout) {
            Ok(0) | Err(_) => HEALTHCHECK_WITHIN,
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
        },
        size: image.size,
        repo_digests: image.repo_digests.unwrap_or_default(),
        architecture: image.architecture,
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        environment: pairs
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    })
}

/// What podman said about images, by name. It holds as long as its list of images is the same: a look at a file instead of a
/// process of some ten milliseconds.
#[derive(Debug, Default)]
pub struct Known(Mutex<(Option<ImagesMark>, HashMap<String, Image>)>);

impl Known {
    fn get(&self, name: &str, now: Option<ImagesMark>) -> Option<Image> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.is_none() || known.0 != now {
            *known = (now, HashMap::new());
        }
        known.1.get(name).cloned()
    }

    /// `then`: the list's state before podman was asked.
    fn insert(&self, name: &str, image: &Image, then: Option<ImagesMark>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if then.is_some() && known.0 == then && known.1.len() < KNOWN_MAX {
            known.1.insert(name.to_owned(), image.clone());
        }
    }
}

impl Podman {
    /// The image under this name, if the host has it.
    ///
    /// # Errors
    /// podman's words, unless they are that there is no such image.
    pub async fn image(&self, name: &ImageRef) -> Result<Option<Image>, PodmanError> {
        self.image_of(name.as_str()).await
    }

    /// The image with this id, if the host has it.
    ///
    /// # Errors
    /// As [`Podman::image`].
    pub async fn image_with_id(&self, id: &str) -> Result<Option<Image>, PodmanError> {
        self.image_of(id).await
    }

    async fn image_of(&self, name: &str) -> Result<Option<Image>, PodmanError> {
        let mark = self.storage.get().and_then(Storage::images_mark);
        if let Some(image) = self.known.get(name, mark) {
            return Ok(Some(image));
        }
        let image = match self.inspect_image(name).await? {
            // podman 4.3 has said so of one that was there, while others were being made.
            None => self.inspect_image(name).await?,
            there => there,
        };
        if let Some(image) = &image {
            self.known.insert(name, image, mark);
        }
        Ok(image)
    }

    async fn inspect_image(&self, name: &str) -> Result<Option<Image>, PodmanError> {
        let arguments = [&strings(["image", "inspect", "--format", "json", "--"])[..], &[name.to_owned()]].concat();
        match self.call(&arguments).await {
            Ok(text) => parse(&text).map(Some).map_err(|message| PodmanError {
                operation: "image inspect".to_owned(),
                message,
                code: None,
            }),
            Err(error) if error.message.contains("no such image") || error.message.contains("image not known") => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[tokio::test]
    async fn that_an_image_is_not_there_is_believed_when_podman_says_it_twice() {
        let directory = tempfile::tempdir().expect("tempdir");
        // It overlooks an image the first time.
        let lines = "for name; do :; done; echo \"$name\" >>asked\n\
                     [ \"$name\" = there ] && [ \"$(grep -c there asked)\" = 2 ] && echo '[{\"Id\":\"abc\"}]' && exit\n\
                     echo \"Error: inspecting object: $name: image not known\" >&2; exit 125\n";
        let podman = fake::podman(directory.path(), lines);
        let image = podman.image_with_id("there").await.expect("asked").expect("it is there");
        assert_eq!(image.id, "abc");
        assert!(podman.image_with_id("nowhere").await.expect("asked").is_none());
        let asked = std::fs::read_to_string(directory.path().join("asked")).expect("read");
        assert_eq!(asked, "there\nthere\nnowhere\nnowhere\n");
    }

    #[test]
    fn podmans_answer_is_read() {
        let image = parse(r#"[{"Id":"abc","Digest":"sha256:1","Config":{"Env":["PATH=/bin","A=b=c"],"Entrypoint":["/e"],"User":"app","Cmd":["x"]},"Other":1}]"#).expect("valid");
        assert_eq!(image.environment, [("PATH".to_owned(), "/bin".to_owned()), ("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(
            (image.id.as_str(), image.user.as_str(), image.entrypoint.as_slice()),
            ("abc", "app", &["/e".to_owned()][..])
        );
    }

    #[test]
    fn without_a_platform_an_image_is_for_the_host_or_says_nothing() {
        let image =
            |architecture: &str| parse(&format!(r#"[{{"Id":"abc","Architecture":"{architecture}"}}]"#)).expect("valid");
        assert!(image(own_architecture()).fits(None) && image("").fits(None));
        assert!(!image("mips64le").fits(None) && image("mips64le").fits(Some("linux/mips64le")));
    }

    #[test]
    fn what_podman_said_holds_until_its_images_change() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mark = |text: &str| {
            let file = directory.path().join("overlay-images/images.json");
            std::fs::create_dir_all(file.parent().expect("parent")).expect("mkdir");
            std::fs::write(&file, text).expect("write");
            Storage::at(directory.path()).images_mark()
        };
        let image = parse(r#"[{"Id":"abc"}]"#).expect("valid");
        let known = Known::default();
        let first = mark("1");
        assert_eq!(known.get("a", first), None);
        known.insert("a", &image, first);
        assert_eq!(known.get("a", first).as_ref(), Some(&image));
        let second = mark("12");
        assert_eq!(known.get("a", second), None);
        known.insert("a", &image, first);
        assert_eq!(known.get("a", second), None, "asked before the change");
        known.insert("a", &image, None);
        assert_eq!(known.get("a", None), None);
    }

    #[test]
    fn ports_and_healthcheck_are_read() {
        let image = parse(r#"[{"Id":"abc","Config":{"ExposedPorts":{"5432/tcp":{},"53/udp":{},"80":{}}},"Healthcheck":{"Test":["CMD","x"]}}]"#).expect("valid");
        assert_eq!((image.ports, image.healthcheck), (vec![80, 5432], vec!["CMD".to_owned(), "x".to_owned()]));
        assert_eq!(image.healthcheck_within, HEALTHCHECK_WITHIN);
        let hasty = parse(r#"[{"Id":"abc","Healthcheck":{"Test":["CMD","x"],"Timeout":2000000000}}]"#).expect("valid");
        assert_eq!(hasty.healthcheck_within, Duration::from_secs(2));
        assert!(parse(r#"[{"Id":"abc","Healthcheck":{"Test":["NONE"]}}]"#).expect("valid").healthcheck.is_empty());
    }

    #[test]
    fn an_image_without_configuration_is_one() {
        let image = parse(r#"[{"Id":"abc","Config":{"Env":null}}]"#).expect("valid");
        assert_eq!((image.id.as_str(), image.digest, image.entrypoint.len()), ("abc", None, 0));
        assert!(parse("[]").is_err());
    }
}
