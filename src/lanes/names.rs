//! What lanes are called, on disk and by people.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Key;

/// What a key's jobs keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A numbered build directory, of one job at a time.
    Builds(u32),
    /// The local cache.
    Cache,
    /// Storage for images that jobs build.
    Storage,
}

impl Part {
    /// Reads the name of its directory.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "cache" => Some(Self::Cache),
            "storage" => Some(Self::Storage),
            _ => {
                let number = name.strip_prefix("builds-")?.parse().ok()?;
                Some(Self::Builds(number)).filter(|part| part.to_string() == name)
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builds(number) => write!(f, "builds-{number}"),
            Self::Cache => f.write_str("cache"),
            Self::Storage => f.write_str("storage"),
        }
    }
}

/// Who shares lanes: a key, or one pipeline of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// Host of the GitLab instance.
    pub instance: String,
    /// GitLab's id of the project.
    pub project: i64,
    /// The project's path when it was used last, for people.
    pub project_path: String,
    /// Whether for protected refs.
    pub protected: bool,
    /// The pipeline, where lanes are shared by one only.
    #[serde(default)]
    pub pipeline: Option<i64>,
    /// Whose ids its files have: another word, other ids.
    pub ids: String,
}

impl Home {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> Key {
        Key { instance: self.instance.clone(), project: self.project, protected: self.protected }
    }

    /// Its directory, below that of all lanes.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        let directory = self.key().directory();
        match self.pipeline {
            None => directory,
            Some(pipeline) => {
                let mut name = directory.into_os_string();
                name.push(format!("-pipeline-{pipeline}"));
                name.into()
            }
        }
    }
}

/// One lane: a part of a home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// The home's directory.
    pub home: PathBuf,
    /// The part.
    pub part: Part,
}

impl LaneId {
    /// Its directory, below that of all lanes.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.home.join(self.part.to_string())
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.directory().display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_they_are_written_and_nothing_else_is() {
        for part in [Part::Builds(0), Part::Builds(4_294_967_295), Part::Cache, Part::Storage] {
            assert_eq!(Part::parse(&part.to_string()), Some(part));
        }
        for name in ["builds-", "builds-00", "builds-+1", "builds", "Cache", ".new-cache", "cache "] {
            assert_eq!(Part::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_pipelines_home_is_its_own() {
        let home = Home {
            instance: "h".into(),
            project: 7,
            project_path: "g/p".into(),
            protected: true,
            pipeline: Some(12),
            ids: String::new(),
        };
        assert_eq!(home.directory(), std::path::Path::new("h/7-protected-pipeline-12"));
    }
}
