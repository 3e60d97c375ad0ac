//! What is remembered of a unit: the update that is under way, what failed, and which images are whose. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clean::Kept;
use super::journey::{Change, Journey};
use super::report::UnitReport;

/// Digests of a unit that are remembered to be bad, or to be what runs already.
const DIGESTS_MAX: usize = 20;

/// A digest that is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The image that had it.
    pub image: String,
    /// The digest that its tag was.
    pub digest: String,
    /// Where that is an index: the digest of the image for this host's platform. An index moves for other platforms' sake too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The id of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// What went wrong with it.
    pub reason: String,
}

impl Quarantined {
    /// Whether a change would bring the same image again.
    #[must_use]
    pub fn is(&self, change: &Change) -> bool {
        let digests = |digest, platform: &Option<String>| [Some(digest), platform.clone()].into_iter().flatten();
        let mut own = digests(self.digest.clone(), &self.platform);
        self.image == change.image
            && (own.any(|own| digests(change.digest.clone(), &change.platform).any(|digest| digest == own))
                || self.id.is_some() && self.id == change.to)
    }
}

/// A tag that podman pulls only to find out what it is: on record until it is back where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The image, by its tag.
    pub image: String,
    /// The id of the image that gets the tag back: the one that runs.
    pub from: String,
    /// The ids of images that were there before and have no other name. They are not ours to remove.
    pub there: Vec<String>,
}

/// What is remembered of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The update that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journey: Option<Journey>,
    /// What is not tried again, the newest last.
    pub quarantine: Vec<Quarantined>,
    /// Images that ran before.
    pub kept: Vec<Kept>,
    /// Images that were pulled and do not run yet: by digest, or by id where podman had to pull a tag to find out what it is.
    pub pulled: Vec<String>,
    /// Tags that are being pulled to find out what they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
    /// Digests of which it is known which image of this host they are.
    pub known: BTreeMap<String, String>,
    /// Digests of indexes, and of the image that each has for this host's platform.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub platforms: BTreeMap<String, String>,
    /// What was last said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<UnitReport>,
    /// When it was last updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
}

impl Record {
    /// Notes digests that are not to be tried again.
    pub fn quarantine(&mut self, new: impl Iterator<Item = Quarantined>) {
        for quarantined in new {
            self.quarantine.retain(|old| (&old.image, &old.digest) != (&quarantined.image, &quarantined.digest));
            self.quarantine.push(quarantined);
        }
        let surplus = self.quarantine.len().saturating_sub(DIGESTS_MAX);
        self.quarantine.drain(..surplus);
    }

    /// Why a change is not made.
    #[must_use]
    pub fn quarantined(&self, change: &Change) -> Option<&Quarantined> {
        self.quarantine.iter().find(|entry| entry.is(change))
    }

    /// Notes which image a digest is.
    pub fn know(&mut self, digest: &str, image: &str) {
        remember(&mut self.known, digest, image);
    }

    /// Notes which image an index has for this host's platform.
    pub fn know_platform(&mut self, index: &str, digest: &str) {
        remember(&mut self.platforms, index, digest);
    }

    /// Whether another run has left something that is to be finished or undone.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.journey.is_some() || !self.asked.is_empty()
    }
}

fn remember(all: &mut BTreeMap<String, String>, digest: &str, image: &str) {
    if all.len() >= DIGESTS_MAX {
        all.clear();
    }
    all.insert(digest.to_owned(), image.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarantined(digest: &str) -> Quarantined {
        Quarantined {
            image: "r/x:1".to_owned(),
            digest: digest.to_owned(),
            platform: None,
            id: None,
            since: Timestamp::UNIX_EPOCH,
            reason: "it crashed".to_owned(),
        }
    }

    fn change(image: &str, digest: &str) -> Change {
        Change {
            container: "x".to_owned(),
            image: image.to_owned(),
            policy: super::super::units::Policy::Registry,
            from: "old".to_owned(),
            digest: digest.to_owned(),
            platform: None,
            to: None,
            auth_file: None,
        }
    }

    #[test]
    fn a_digest_in_quarantine_is_known_by_its_image_and_the_oldest_go() {
        let mut record = Record::default();
        record.quarantine((0..=DIGESTS_MAX).map(|number| quarantined(&format!("sha256:{number}"))));
        assert!(record.quarantined(&change("r/x:1", "sha256:0")).is_none());
        assert!(record.quarantined(&change("r/x:1", "sha256:1")).is_some());
        assert!(record.quarantined(&change("r/x:2", "sha256:1")).is_none());
        record.quarantine(std::iter::once(quarantined("sha256:1")));
        assert_eq!(record.quarantine.len(), DIGESTS_MAX);
    }

    #[test]
    fn an_image_in_quarantine_is_known_whatever_index_brings_it() {
        let bad = Quarantined {
            platform: Some("sha256:bad".to_owned()),
            id: Some("b".to_owned()),
            ..quarantined("sha256:index1")
        };
        let by = |digest: &str, platform: Option<&str>, to: Option<&str>| {
            let (platform, to) = (platform.map(str::to_owned), to.map(str::to_owned));
            bad.is(&Change { platform, to, ..change("r/x:1", digest) })
        };
        assert!(by("sha256:index1", None, None));
        assert!(by("sha256:index2", Some("sha256:bad"), None), "another index with the same image");
        assert!(by("sha256:bad", None, None), "the image without an index");
        assert!(by("sha256:other", None, Some("b")), "the same image, packed in another way");
        assert!(!by("sha256:index2", Some("sha256:good"), Some("g")));
        assert!(!quarantined("sha256:1").is(&change("r/x:1", "sha256:2")), "what is not known of both proves nothing");
    }

    #[test]
    fn records_of_earlier_releases_are_understood() {
        let text = r#"{"quarantine": [{"image": "r/x:1", "digest": "sha256:1", "since": "2026-03-10T12:00:00Z", "reason": "no"}],
            "kept": [], "pulled": ["r/x@sha256:2"], "known": {"sha256:3": "3"},
            "journey": {"step": "judging", "started": "2026-03-10T12:00:00Z", "changes": [{"container": "x", "image": "r/x:1",
            "policy": "registry", "from": "1", "digest": "sha256:2"}]}}"#;
        let record: Record = serde_json::from_str(text).expect("a record");
        assert!(record.quarantined(&change("r/x:1", "sha256:1")).is_some());
        assert!(record.is_unfinished() && record.asked.is_empty() && record.platforms.is_empty());
    }
}
