//! What the `windlass chain` command asks, and what it is told. Times are RFC 3339 in UTC.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is wanted of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "want", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ChainRequest {
    /// Every project and its state.
    Status,
    /// What a pass would do now.
    Plan,
    /// Look at everything now.
    Sync,
    /// Build a project.
    Rebuild {
        /// Its path or id.
        project: String,
        /// Everything that it builds on too, before it.
        with_upstreams: bool,
        /// Nothing that builds on it.
        only: bool,
    },
    /// Start nothing of a project, or of the whole chain, until it is resumed.
    Pause {
        /// Its path or id; none: the whole chain.
        project: Option<String>,
    },
    /// Go on with a project, or with the whole chain.
    Resume {
        /// Its path or id; none: the whole chain.
        project: Option<String>,
    },
    /// The last events and starts.
    Events {
        /// Of this project alone, by path or id.
        project: Option<String>,
        /// How many of each.
        count: u32,
    },
    /// What an administrator should know.
    Audit,
    /// Write a copy of the database.
    Backup {
        /// Where to; the daemon's user writes it.
        to: PathBuf,
    },
}

impl ChainRequest {
    /// Whether it changes something, which only administrators may.
    #[must_use]
    pub fn changes(&self) -> bool {
        !matches!(self, Self::Status | Self::Plan | Self::Events { .. } | Self::Audit)
    }
}

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum ChainReply {
    /// The answer to `Status`.
    Status(ChainStatus),
    /// The answer to `Plan`.
    Plan {
        /// What would be done.
        steps: Vec<PlanRow>,
        /// Why nothing is done now, whatever the steps say.
        held: Option<String>,
    },
    /// The answer to `Events`.
    Events {
        /// Events, the newest first.
        events: Vec<EventLine>,
        /// Starts, the newest first.
        starts: Vec<StartLine>,
    },
    /// The answer to `Audit`.
    Audit {
        /// What was found.
        findings: Vec<Finding>,
    },
    /// Done: in words.
    Done {
        /// What was done.
        message: String,
    },
}

/// The chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainStatus {
    /// Where GitLab is.
    pub gitlab: String,
    /// Why nothing is started now.
    pub held: Option<String>,
    /// When everything was looked at last.
    pub looked_at: Option<String>,
    /// How long that took, in milliseconds.
    pub took_ms: u64,
    /// Whether everything is being looked at now.
    pub looking: bool,
    /// What is wrong with the chain as a whole.
    pub problems: Vec<String>,
    /// The projects, by path.
    pub projects: Vec<ProjectLine>,
}

/// A project of the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectLine {
    /// GitLab's id.
    pub id: i64,
    /// Its path.
    pub path: String,
    /// Its page.
    pub web_url: String,
    /// The branch that counts.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// Its state in one word.
    pub state: String,
    /// Its state in words, with the others' names.
    pub words: String,
    /// Because of what it is to be built.
    pub because: Vec<String>,
    /// Since when it has been in this state.
    pub since: String,
    /// Its latest pipeline.
    pub pipeline: Option<i64>,
    /// The state of that.
    #[serde(default)]
    pub pipeline_state: Option<String>,
    /// When it was built with success last.
    pub success_at: Option<String>,
    /// By which pipeline.
    #[serde(default)]
    pub success: Option<i64>,
    /// What it builds on.
    pub upstreams: Vec<EdgeLine>,
    /// Whether somebody has paused it.
    pub paused: bool,
    /// What could not be read or done.
    pub problems: Vec<String>,
    /// What in its files could not be understood.
    pub findings: Vec<String>,
    /// What its last success was built on; none: nobody has looked.
    #[serde(default)]
    pub base: Option<BaseLine>,
}

/// Whether an image was built on what its base is now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseLine {
    /// `new`, `old` or `unknown`.
    pub state: String,
    /// In words.
    pub words: String,
    /// Since when it has been so.
    pub since: String,
}

impl ProjectLine {
    /// Why its image is built on an old base; none: it is not, or nobody knows.
    #[must_use]
    pub fn old_base(&self) -> Option<&BaseLine> {
        self.base.as_ref().filter(|base| base.state == "old")
    }

    /// What is wrong with it, whatever its state: what could not be read or done, and what in its files could not be understood. An image
    /// of which nobody knows what it builds on is fresh only as far as is known.
    pub fn wrong(&self) -> impl Iterator<Item = &String> {
        self.problems.iter().chain(&self.findings)
    }

    /// Whether something is.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.wrong().next().is_some()
    }
}

/// What a project builds on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeLine {
    /// A project's path, or an image.
    pub name: String,
    /// The project's id; none: no project of the chain builds it.
    pub project: Option<i64>,
    /// Whether a digest says which: then nothing is rebuilt for it.
    pub pinned: bool,
    /// When an image that no project builds was seen to move last.
    #[serde(default)]
    pub moved_at: Option<String>,
}

/// What a pass would do with a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRow {
    /// The project's path.
    pub path: String,
    /// `start` or its state, in one word.
    pub step: String,
    /// In words.
    pub words: String,
    /// Because of what.
    pub because: Vec<String>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// When it came.
    pub at: String,
    /// The project's path, as the event says.
    pub path: String,
    /// The pipeline.
    pub pipeline: i64,
    /// Its state.
    pub status: String,
    /// The branch or tag.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What started the pipeline.
    pub source: Option<String>,
    /// What became of the event; none: it waits.
    pub verdict: Option<String>,
}

/// A start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartLine {
    /// When.
    pub at: String,
    /// The project's path.
    pub path: String,
    /// Why.
    pub reason: String,
    /// What came of it.
    pub outcome: String,
    /// The pipeline.
    pub pipeline: Option<i64>,
}

/// Something that an administrator should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// `cycle`, `no-webhook`, `unreadable`, `not-allowed`, `pinned`, `external-image`, `own-image`, `old-base`, `problem`.
    pub kind: String,
    /// A project's path, or an image.
    pub subject: String,
    /// In words.
    pub words: String,
    /// Whether somebody has to do something.
    pub is_problem: bool,
    /// Of an image: how old it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<ImageAge>,
}

/// How old an image is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageAge {
    /// `ok`, `stale`, `too-young`, or `unknown` where nobody watches it.
    pub verdict: String,
    /// When it moved, or was built, last.
    pub moved_at: Option<String>,
    /// Since when it has been watched.
    pub watched_since: Option<String>,
    /// How long it takes from one move to the next on average, in seconds.
    pub every_s: Option<i64>,
    /// What it stands for.
    pub digest: Option<String>,
    /// Who builds on it.
    pub users: Vec<String>,
    /// Why its registry can't say, if it can't.
    pub error: Option<String>,
}
