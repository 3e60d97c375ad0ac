//! Where the programs under test are, and whether they are those of the sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The programs that a test runs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The daemon.
    pub windlassd: PathBuf,
    /// The administrator's command.
    pub windlass: PathBuf,
    /// Directory of the shims and the static init.
    pub libexec: PathBuf,
}

/// What scripts/build.sh puts into libexec.
const LIBEXEC: [&str; 6] =
    ["windlass-config", "windlass-prepare", "windlass-run", "windlass-cleanup", "windlass-files", "windlass-init"];

impl Programs {
    /// Those that were built; panics when libexec is missing or older than the sources.
    pub fn built() -> Self {
        let windlassd = PathBuf::from(env!("CARGO_BIN_EXE_windlassd"));
        let libexec = windlassd.parent().unwrap().join("libexec");
        let sources = newest(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        for name in LIBEXEC {
            let program = libexec.join(name);
            let built = fs::metadata(&program).and_then(|data| data.modified());
            match built {
                Err(error) => panic!("{}: {error}: run scripts/build.sh", program.display()),
                Ok(time) if time < sources => panic!("{} is older than src/: run scripts/build.sh", program.display()),
                Ok(_) => {}
            }
        }
        Self { windlassd, windlass: PathBuf::from(env!("CARGO_BIN_EXE_windlass")), libexec }
    }

    /// Copies them into `dir`, for a user who cannot see the target directory.
    pub fn copied(&self, dir: &Path) -> Self {
        let libexec = dir.join("libexec");
        fs::create_dir_all(&libexec).unwrap();
        for name in LIBEXEC {
            copy_program(&self.libexec.join(name), &libexec.join(name));
        }
        let copy = |program: &Path| {
            let target = dir.join(program.file_name().unwrap());
            copy_program(program, &target);
            target
        };
        Self { windlassd: copy(&self.windlassd), windlass: copy(&self.windlass), libexec }
    }

    /// The path of one of the shims, or of the init.
    pub fn shim(&self, name: &str) -> PathBuf {
        self.libexec.join(format!("windlass-{name}"))
    }
}

/// The fake GitLab; panics when it is missing or older than its sources.
pub fn fake_gitlab() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_windlassd")).with_file_name("examples").join("fake-gitlab");
    let sources = newest(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake-gitlab"));
    let built = fs::metadata(&program).and_then(|data| data.modified());
    let is_current = built.is_ok_and(|time| time >= sources);
    assert!(is_current, "{} is missing or old: run cargo build --example fake-gitlab", program.display());
    program
}

/// Copies a program, in a process of its own: one that another thread starts while this one writes would hold it open,
/// and what is open for writing can't be started.
pub fn copy_program(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("--").args([from, to]).status().unwrap().success());
}

/// When the newest file below `dir` was changed.
fn newest(dir: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let data = entry.metadata().unwrap();
        let time = if data.is_dir() { self::newest(&entry.path()) } else { data.modified().unwrap() };
        newest = newest.max(time);
    }
    newest
}
