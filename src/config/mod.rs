//! Configuration: TOML files become validated [`Settings`], or every reason why they can't.
//!
//! A fragment is what the files say, with places; merged input has the defaults and the profiles' inheritance applied;
//! settings are checked. The keys and what they mean are documented in `config/windlass.toml`.

use std::path::Path;

mod change;
mod checks;
mod effective;
mod errors;
mod fragment;
mod host;
mod hours;
mod input;
mod keys;
mod layers;
mod merge;
mod read;
mod schema;
pub mod settings;
mod shares;
mod sources;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod texts;
mod tree;
pub mod update;
mod validate;
mod values;
mod words;

pub use change::{Change, change};
pub use effective::to_toml;
pub use errors::{ConfigErrors, Problem};
pub use host::warnings;
pub use settings::{
    AuditSettings, BuildDriver, BuildSettings, BuildStorage, ChainProject, ChainSettings, ConfiguredService, ExecMode,
    FeedSettings, GitlabSettings, HelperMode, HelperSettings, HistorySettings, ImageSettings, Isolation, JobSettings,
    Kickoff, LaneScope, LaneSettings, MetricsSettings, Network, NetworkSettings, NotifySettings, PageListen,
    PageSettings, PodmanSettings, PolicyRule, Profile, PullPolicy, PurgeSettings, QuietHours, Resources,
    ServiceSettings, Settings, Share, SocketSettings, UserNamespace, WatchSettings, WebhookSettings,
};
pub use sources::drop_ins;

use sources::Sources;

/// Where the daemon's configuration is unless something else is said.
pub const DEFAULT_FILE: &str = "/etc/windlass/windlass.toml";

/// The exit code of a program that refuses its configuration (`EX_CONFIG` of sysexits.h).
pub const EXIT_CODE: u8 = 78;

/// The profile that the top level is.
pub const DEFAULT_PROFILE: &str = "default";

/// No more problems than this are listed.
const MAX_PROBLEMS: usize = 100;

/// Reads and checks the file at `path`, and those in conf.d beside it.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load(path: &Path) -> Result<Settings, ConfigErrors> {
    check(Sources::open(path))
}

/// Checks the text of a configuration file; `file` is what messages call it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &Path, text: &str) -> Result<Settings, ConfigErrors> {
    check(Sources::text(file, text))
}

fn check(sources: Sources) -> Result<Settings, ConfigErrors> {
    let read = read::read(&sources);
    let mut note = read.note;
    let result = validate::validate(&merge::merge(read.fragment), read.problems);
    result.map_err(|mut problems| {
        if problems.len() > MAX_PROBLEMS {
            problems.truncate(MAX_PROBLEMS);
            note = Some("There are more errors than these.");
        }
        ConfigErrors::new(sources, problems, note)
    })
}
