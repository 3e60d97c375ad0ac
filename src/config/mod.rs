//! Configuration: one TOML file becomes validated [`Settings`], or every reason why it can't.
//!
//! A fragment is what the file says, with places; merged input has the defaults and the profiles' inheritance applied;
//! settings are checked. The keys and what they mean are documented in `config/windlass.toml`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

mod checks;
mod effective;
mod errors;
mod fragment;
mod host;
mod hours;
mod input;
mod keys;
mod merge;
mod read;
mod schema;
pub mod settings;
mod shares;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod texts;
mod tree;
mod validate;
mod values;
mod words;

pub use effective::to_toml;
pub use errors::{ConfigErrors, Problem};
pub use host::warnings;
pub use settings::{
    BuildDriver, BuildSettings, BuildStorage, ChainProject, ChainSettings, ConfiguredService, ExecMode, GitlabSettings,
    HelperMode, HelperSettings, ImageSettings, Isolation, JobSettings, Kickoff, LaneScope, LaneSettings, Network,
    NetworkSettings, NotifySettings, PodmanSettings, PolicyRule, Profile, PullPolicy, PurgeSettings, QuietHours,
    Resources, ServiceSettings, Settings, Share, SocketSettings, UserNamespace, WebhookSettings,
};

/// Where the daemon's configuration is unless something else is said.
pub const DEFAULT_FILE: &str = "/etc/windlass/windlass.toml";

/// The exit code of a program that refuses its configuration (`EX_CONFIG` of sysexits.h).
pub const EXIT_CODE: u8 = 78;

/// The profile that the top level is.
pub const DEFAULT_PROFILE: &str = "default";

/// A larger file is no configuration.
const MAX_FILE: u64 = 256 << 10;

/// No more problems than this are listed.
const MAX_PROBLEMS: usize = 100;

/// Reads and checks the file at `path`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<Settings, ConfigErrors> {
    let bytes = read_file(path).map_err(|error| ConfigErrors::unreadable(path, unreadable(&error)))?;
    match String::from_utf8(bytes) {
        Ok(text) => parse(path, &text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let message = "the file is not UTF-8 text: this byte belongs to no character".to_owned();
            let problem = Problem { key: "syntax".to_owned(), span: Some(at..at + 1), message };
            Err(ConfigErrors::new(path, &text, vec![problem], None))
        }
    }
}

/// Checks the text of a configuration file; `file` is what messages call it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &Path, text: &str) -> Result<Settings, ConfigErrors> {
    let read = read::read(text);
    let mut note = read.note;
    let result = validate::validate(&merge::merge(read.fragment), read.problems);
    result.map_err(|mut problems| {
        if problems.len() > MAX_PROBLEMS {
            problems.truncate(MAX_PROBLEMS);
            note = Some("There are more errors than these.");
        }
        ConfigErrors::new(file, text, problems, note)
    })
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 256 KiB, which no configuration is",
        ));
    }
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file. An empty one is valid, since every key has a default; the \
             shipped one, with every key explained, is /usr/share/doc/windlass/windlass.toml (in the source tree \
             config/windlass.toml)"
            .to_owned(),
        io::ErrorKind::PermissionDenied => format!("can't be read: {error}; run this as root or as the service's user"),
        _ => format!("can't be read: {error}"),
    }
}
