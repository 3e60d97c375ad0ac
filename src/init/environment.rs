//! The environment of a stage: what is the container's own, the image's, then the job's variables.

use std::ffi::OsString;
use std::path::Path;

/// Where gitlab-runner's scripts write variables that are files (`common/build.go`, `RUNNER_TEMP_PROJECT_DIR`).
const FILES_DIR: &str = "RUNNER_TEMP_PROJECT_DIR";

/// What podman gives to a container's first process, and a stage has otherwise.
const FIRST_PROCESS: [&str; 5] = ["PATH", "HOME", "TERM", "HOSTNAME", "container"];

/// Variables of this process that stages have too: the image's, and those that devices bring (CDI).
pub fn of_container(own: impl Iterator<Item = (OsString, OsString)>) -> impl Iterator<Item = (OsString, OsString)> {
    own.filter(|(name, _)| !FIRST_PROCESS.iter().any(|other| name == other))
}

/// The job's variables as a stage's environment has them: those that are files as paths.
pub fn of_job(variables: Vec<(String, String)>, files: &[String]) -> Vec<(String, String)> {
    let directory = variables.iter().find(|(name, _)| name == FILES_DIR).map(|(_, value)| value.clone());
    variables
        .into_iter()
        .filter(|(name, _)| !name.is_empty() && !name.contains('='))
        .map(|(name, value)| match &directory {
            Some(directory) if files.contains(&name) => {
                let path = Path::new(directory).join(&name).display().to_string();
                (name, path)
            }
            _ => (name, value),
        })
        .collect()
}

/// PATH with one more directory behind it.
pub fn extended_path(environment: &[(String, String)], default: &str, directory: &str) -> String {
    let path = environment.iter().rev().find(|(name, _)| name == "PATH").map_or(default, |(_, value)| value);
    format!("{path}:{directory}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_a_device_brings_is_there_for_stages_and_what_is_the_first_processs_own_is_not() {
        let own =
            pairs(&[("PATH", "/bin"), ("TERM", "xterm"), ("HOME", "/root"), ("GPU", "0"), ("container", "podman")]);
        let kept = of_container(own.into_iter().map(|(name, value)| (name.into(), value.into())));
        assert_eq!(kept.collect::<Vec<_>>(), [("GPU".into(), "0".into())]);
    }

    #[test]
    fn a_variable_that_is_a_file_is_a_path() {
        let given = pairs(&[("A", "1"), ("KEY", "secret"), (FILES_DIR, "/builds/g/p.tmp"), ("X=Y", "")]);
        let expected = pairs(&[("A", "1"), ("KEY", "/builds/g/p.tmp/KEY"), (FILES_DIR, "/builds/g/p.tmp")]);
        assert_eq!(of_job(given, &["KEY".to_owned()]), expected);
    }

    #[test]
    fn a_directory_comes_behind_the_last_path() {
        assert_eq!(extended_path(&pairs(&[("PATH", "/a"), ("PATH", "/b")]), "/bin", "/w"), "/b:/w");
        assert_eq!(extended_path(&[], "/bin", "/w"), "/bin:/w");
    }
}
