//! The shims' arguments: options from the runner's config.toml first, what gitlab-runner appends last.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Failure, Shim};

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/windlass/windlass.sock";

/// A shim's call.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The profile that the administrator chose for this runner.
    pub profile: Option<String>,
    /// Script and stage, for `windlass-run` alone.
    pub stage: Option<(PathBuf, String)>,
}

/// The text for `--help` and `--version`, if they are asked for.
pub fn help(shim: Shim, arguments: &[OsString]) -> Option<String> {
    match arguments.first()?.to_str()? {
        "--version" => Some(format!("{} {}", shim.name(), env!("CARGO_PKG_VERSION"))),
        "--help" | "-h" => Some(format!(
            "{name} is started by gitlab-runner's custom executor, not by hand.\n\nUsage: {name} [--socket PATH] [--profile NAME]{rest}\n\n\
             \x20 --socket PATH   the daemon's socket [{DEFAULT_SOCKET}]\n\
             \x20 --profile NAME  the [profile.NAME] of windlass.toml that this runner's jobs use\n\n\
             In the runner's config.toml: {key}_exec = \"/usr/libexec/windlass/{name}\", and options in {key}_args.\n\
             `windlass try` runs a job through the shims without GitLab.",
            name = shim.name(),
            key = shim.name().trim_start_matches("windlass-"),
            rest = if shim == Shim::Run { " SCRIPT STAGE" } else { "" },
        )),
        _ => None,
    }
}

/// Reads the arguments.
pub fn parse(shim: Shim, arguments: &[OsString]) -> Result<Call, Failure> {
    let wrong = |what: String| Failure::System(format!("{what}; see {} --help", shim.name()));
    let (options, stage) = if shim == Shim::Run {
        let [options @ .., script, stage] = arguments else {
            return Err(wrong("SCRIPT and STAGE are missing, which gitlab-runner appends".to_owned()));
        };
        let stage = stage.to_str().ok_or_else(|| wrong(format!("the stage's name {stage:?} is no text")))?;
        (options, Some((PathBuf::from(script), stage.to_owned())))
    } else {
        (arguments, None)
    };
    let mut call = Call { socket: default_socket(shim), profile: None, stage };
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let name = option.to_str().unwrap_or_default();
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (name, None),
        };
        if !matches!(name, "--socket" | "--profile") {
            return Err(wrong(format!("unknown argument {option:?}")));
        }
        let value = value.or_else(|| rest.next().cloned()).ok_or_else(|| wrong(format!("{name} needs a value")))?;
        if name == "--socket" {
            call.socket = value.into();
        } else {
            call.profile =
                Some(value.into_string().map_err(|value| wrong(format!("the profile {value:?} is no text")))?);
        }
    }
    Ok(call)
}

/// Later shims learn from `job_env` which socket config used, so that one `config_args` is enough.
fn default_socket(shim: Shim) -> PathBuf {
    let known = std::env::var_os("WINDLASS_SOCKET").filter(|_| shim != Shim::Config);
    known.map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(shim: Shim, arguments: &[&str]) -> Result<Call, Failure> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        parse(shim, &arguments)
    }

    #[test]
    fn the_last_two_are_script_and_stage_whatever_they_look_like() {
        let call = parsed(Shim::Run, &["--profile", "big", "--socket=/s", "--profile", "get_sources"]).expect("valid");
        assert_eq!(
            call,
            Call {
                socket: "/s".into(),
                profile: Some("big".into()),
                stage: Some(("--profile".into(), "get_sources".into()))
            }
        );
    }

    #[test]
    fn bad_arguments_are_system_failures() {
        for arguments in [&["x"][..], &["--profile"], &["--verbose", "1"], &[""]] {
            assert!(matches!(parsed(Shim::Prepare, arguments), Err(Failure::System(_))), "{arguments:?}");
        }
        assert!(matches!(parsed(Shim::Run, &["only-one"]), Err(Failure::System(_))));
    }
}
