//! The patterns of the settings: which projects are in the chain, and which of their files say what they build on.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::config::{ChainSettings, WatchSettings};

/// The patterns of the settings.
#[derive(Debug)]
pub(super) struct Patterns {
    include: Option<GlobSet>,
    exclude: GlobSet,
    /// Paths of further files that are no patterns.
    pub literal: Vec<String>,
    /// Patterns of further files.
    pub further: Option<GlobSet>,
}

impl Patterns {
    pub(super) fn of(settings: &ChainSettings) -> Self {
        let is_pattern = |text: &&String| text.contains(['*', '?', '[', '{']);
        let further: Vec<String> = settings.files.iter().filter(is_pattern).cloned().collect();
        Self {
            include: (!settings.include.is_empty()).then(|| set(&settings.include)),
            exclude: set(&settings.exclude),
            literal: settings.files.iter().filter(|text| !is_pattern(text)).cloned().collect(),
            further: (!further.is_empty()).then(|| set(&further)),
        }
    }

    /// Whether a project of this path is in the chain.
    pub(super) fn has(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(path)) && !self.exclude.is_match(path)
    }
}

/// Which images are watched.
#[derive(Debug)]
pub(super) struct Images {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Images {
    pub(super) fn of(settings: &WatchSettings) -> Self {
        let include = (!settings.include.is_empty()).then(|| set(&settings.include));
        Self { include, exclude: set(&settings.exclude) }
    }

    /// Whether an image of this full name is watched.
    pub(super) fn has(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(name)) && !self.exclude.is_match(name)
    }
}

fn set(patterns: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        // The settings have been checked.
        if let Ok(glob) = GlobBuilder::new(pattern).literal_separator(true).build() {
            set.add(glob);
        }
    }
    set.build().unwrap_or_else(|_| GlobSet::empty())
}
