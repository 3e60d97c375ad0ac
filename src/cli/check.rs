//! `windlass check [FILE]`: everything that is wrong with a configuration, or the settings that it has in effect.

use std::io::{self, Write};
use std::path::Path;

use crate::config::{self, Settings};
use crate::podman::{Limit, Limits, Podman};

/// Checks `file` and writes the result to `out`; the returned exit code is 0, or 78 for a configuration that the
/// daemon would refuse.
///
/// Settings are written as TOML that is itself a valid configuration; warnings are comments in it.
///
/// # Errors
/// Writing to `out` failed.
pub fn run(file: &Path, out: &mut dyn Write) -> io::Result<u8> {
    let settings = match config::load(file) {
        Ok(settings) => settings,
        Err(errors) => {
            writeln!(out, "{errors}")?;
            let count = errors.problems().len();
            let plural = if count == 1 { "" } else { "s" };
            writeln!(out, "{count} error{plural}; windlassd does not start with this configuration.")?;
            return Ok(config::EXIT_CODE);
        }
    };
    let text = config::to_toml(&settings).map_err(io::Error::other)?;
    writeln!(out, "# {}. The settings in effect:", valid(file).escape_debug())?;
    for warning in config::warnings(&settings) {
        writeln!(out, "# Warning: {warning}.")?;
    }
    for warning in host_limits(&settings).warnings(&settings) {
        writeln!(out, "# Warning: for a daemon of this user, {warning}.")?;
    }
    writeln!(out, "\n{text}")?;
    out.flush()?;
    Ok(0)
}

/// Which files the settings are from.
fn valid(file: &Path) -> String {
    let beside = config::drop_ins(file).unwrap_or_default();
    let names: Vec<String> =
        beside.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
    match names.as_slice() {
        [] => format!("{} is valid", file.display()),
        names => format!("{} is valid together with {} of conf.d", file.display(), names.join(", ")),
    }
}

/// What a daemon of this user could enforce. podman is asked only where its answer counts, since it may not be installed yet.
fn host_limits(settings: &Settings) -> Limits {
    let limits = Limits::of_this_host();
    let resources = settings.profiles.values().map(|profile| &profile.job);
    let mut all = resources.flat_map(|job| [&job.resources, &job.services.resources]);
    if !all.any(|resources| Limit::StorageSize.is_set(resources)) {
        return limits;
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return limits };
    let podman = Podman::new(&settings.podman);
    match runtime.block_on(podman.storage()) {
        Ok(storage) => limits.with_storage(storage),
        Err(error) => limits.without_storage(&error.to_string()),
    }
}
