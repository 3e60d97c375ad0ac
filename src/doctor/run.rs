//! Programs of the host that doctor asks, and its files.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long a program of the host may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// What a program prints, or why there is nothing.
pub async fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(WITHIN, command.output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
            Err(if said.is_empty() { format!("{program} ended with {}", output.status) } else { said })
        }
        Ok(Err(error)) => Err(format!("{program} can't be started: {error}")),
        Err(_) => Err(format!("{program} gave no answer within {}", humantime::format_duration(WITHIN))),
    }
}

/// The files of the host that doctor looks at, below a directory that is `/` but in tests and for mounted hosts.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Those below this directory.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where a file of the host is.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file of the host.
    pub fn read(&self, path: &str) -> std::io::Result<String> {
        read(&self.path(path))
    }

    /// Whether there is something at this path of the host.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }
}

/// The text of a file, if it is not too large for one that people write.
pub fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// `KEY=VALUE` lines, as `systemctl show` prints them.
pub fn properties(text: &str) -> std::collections::BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_says_something_or_why_not() {
        assert_eq!(output("echo", &["a"]).await, Ok("a\n".to_owned()));
        assert_eq!(output("sh", &["-c", "echo no >&2; exit 3"]).await, Err("no".to_owned()));
        assert!(output("no-such-program", &[]).await.expect_err("missing").contains("can't be started"));
    }

    #[test]
    fn files_are_below_the_root() {
        assert_eq!(Files::below(Path::new("/x")).path("/etc/subuid"), Path::new("/x/etc/subuid"));
        assert_eq!(properties("User=w\nExecStart={ path=/x ; }\n")["ExecStart"], "{ path=/x ; }");
    }
}
