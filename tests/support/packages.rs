//! The packages of scripts/package.sh, of what the tests have built, and where a box finds them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::installed::{run, source};
use super::programs::Programs;

/// The variable that names the directory with them in a box.
pub const PACKAGES: &str = "WINDLASS_PACKAGES";

/// Makes those of one version, with these arguments of scripts/package.sh.
pub fn make(version: &str, directory: &Path, arguments: &[&str]) {
    let target = Programs::built().windlassd.ancestors().nth(2).unwrap().to_owned();
    let mut command = Command::new(source("scripts/package.sh"));
    command.args(["--debug", "--version", version, "--out"]).arg(directory).args(arguments);
    run(command.env("CARGO_TARGET_DIR", target));
}

/// The one whose file's name begins so; for tests in a box.
pub fn package(name: &str) -> PathBuf {
    let directory = PathBuf::from(std::env::var_os(PACKAGES).expect("the packages"));
    let found = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(name);
    let mut found: Vec<PathBuf> = found.filter(is_it).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}
