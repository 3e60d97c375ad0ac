//! The environment of a stage: the image's, then the job's variables.

use std::path::Path;

/// Where gitlab-runner's scripts write variables that are files (`common/build.go`, `RUNNER_TEMP_PROJECT_DIR`).
const FILES_DIR: &str = "RUNNER_TEMP_PROJECT_DIR";

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
