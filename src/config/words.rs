//! Values of keys that are one word of a fixed set.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::settings::{BuildDriver, BuildStorage, ExecMode, HelperMode, LaneScope, Network, PullPolicy};
use super::suggest;

/// One word of a fixed set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Word<T>(pub T);

/// The set of words of a key.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// Every word and what it means.
    const WORDS: &'static [(&'static str, Self)];
}

/// Whether jobs get a user namespace of their own; the ranges are keys apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum NamespaceMode {
    Separate,
    Host,
}

impl Words for NamespaceMode {
    const WORDS: &'static [(&'static str, Self)] = &[("separate", Self::Separate), ("host", Self::Host)];
}

impl Words for ExecMode {
    const WORDS: &'static [(&'static str, Self)] = &[("init", Self::Init), ("podman", Self::Podman)];
}

impl Words for PullPolicy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("if-not-present", Self::IfNotPresent), ("always", Self::Always), ("never", Self::Never)];
}

impl Words for HelperMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("image", Self::Image), ("inject", Self::Inject)];
}

impl Words for BuildStorage {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("job", Self::Job), ("project", Self::Project)];
}

impl Words for LaneScope {
    const WORDS: &'static [(&'static str, Self)] =
        &[("project", Self::Project), ("pipeline", Self::Pipeline), ("none", Self::None)];
}

impl Words for BuildDriver {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("overlay", Self::Overlay),
        ("fuse-overlayfs", Self::FuseOverlayfs),
        ("vfs", Self::Vfs),
    ];
}

impl Words for Network {
    const WORDS: &'static [(&'static str, Self)] =
        &[("private", Self::Private), ("host", Self::Host), ("none", Self::None)];
}

impl<T: Words> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WORDS.iter().find(|(_, value)| *value == self.0).map_or("", |(word, _)| word))
    }
}

impl<T: Words> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: Words> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<T: Words> Visitor<'_> for Reader<T> {
            type Value = Word<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&valid_words::<T>())
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Word<T>, E> {
                if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| *word == text) {
                    return Ok(Word(*value));
                }
                let hint = suggest::nearest(text, T::WORDS.iter().map(|(word, _)| *word))
                    .map_or_else(String::new, |word| format!("; did you mean {word:?}?"));
                Err(E::custom(format!("must be {}, not {text:?}{hint}", valid_words::<T>())))
            }
        }
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

/// `"a", "b" or "c"`
fn valid_words<T: Words>() -> String {
    let words: Vec<String> = T::WORDS.iter().map(|(word, _)| format!("{word:?}")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
