//! Whether an image was built on what its base is now: what a file says is the base, and what the image itself says.

use std::collections::BTreeMap;

use super::containerfile::{Containerfile, Kind, Where};
use super::discovery::Files;
use crate::registry::Digest;

/// The image that a file's last stage builds on, by its full name; none: nothing, or nothing that is known.
#[must_use]
pub fn base_of(files: &Files<'_>, args: &BTreeMap<String, String>) -> Option<String> {
    let file = Containerfile::read(files.containerfile.or(files.dockerfile)?, args);
    let stages: Vec<_> = file.refs.iter().filter(|reference| reference.place == Where::From).collect();
    let mut at = stages.len().checked_sub(1)?;
    loop {
        let stage = stages[at];
        match stage.kind {
            Kind::Image => return stage.image.clone(),
            // A stage is named before it is built on, so this comes to an end.
            Kind::Stage => {
                let named =
                    |name: &Option<String>| name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(&stage.value));
                at = stages[..at].iter().rposition(|other| named(&other.stage_name))?;
            }
            _ => return None,
        }
    }
}

/// What an image says of what it was built on.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The digest of its base, if it names one.
    pub named: Option<&'a Digest>,
    /// Its layers' contents; empty: not known.
    pub layers: &'a [Digest],
}

/// What its base is now.
#[derive(Debug, Clone, Copy)]
pub struct Published<'a> {
    /// All digests that stand for it: of indexes, and of the platform's image.
    pub digests: &'a [Digest],
    /// Its layers' contents; empty: not known.
    pub layers: &'a [Digest],
}

/// Whether an image was built on what is published; none: that can't be told. The digest that it names decides, else its lowest layers.
#[must_use]
pub fn is_on(image: &Evidence<'_>, base: &Published<'_>) -> Option<bool> {
    if let Some(named) = image.named {
        return Some(base.digests.contains(named));
    }
    (!image.layers.is_empty() && !base.layers.is_empty()).then(|| image.layers.starts_with(base.layers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_what_the_last_stage_comes_from() {
        let of = |text: &str| base_of(&Files { containerfile: Some(text), ..Files::default() }, &BTreeMap::new());
        let name = |text: &str| Some(text.to_owned());
        assert_eq!(of("FROM a\nFROM b AS c\nCOPY --from=d /x /x"), name("docker.io/library/b:latest"));
        assert_eq!(of("FROM a AS One\nFROM one AS two\nFROM b\nFROM two"), name("docker.io/library/a:latest"));
        for text in ["", "FROM scratch", "FROM $X", "FROM a\nFROM scratch"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn the_digest_that_an_image_names_decides_and_else_its_lowest_layers() {
        let digests: Vec<Digest> = ["a", "b", "c"].iter().map(|text| Digest::of(text.as_bytes())).collect();
        let base = Published { digests: &digests[..1], layers: &digests[..2] };
        let of = |named: Option<&Digest>, layers: &[Digest]| is_on(&Evidence { named, layers }, &base);
        assert_eq!(of(Some(&digests[0]), &[]), Some(true));
        assert_eq!(of(Some(&digests[1]), &digests), Some(false), "layers may be the same by chance");
        assert_eq!(of(None, &digests), Some(true));
        assert_eq!(of(None, &digests[1..]), Some(false));
        assert_eq!(of(None, &digests[..1]), Some(false));
        assert_eq!(of(None, &[]), None);
        assert_eq!(is_on(&Evidence { named: None, layers: &digests }, &Published { digests: &[], layers: &[] }), None);
    }
}
