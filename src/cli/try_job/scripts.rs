//! The stages' scripts, in the shape that gitlab-runner gives them: each complete in itself, the commands in one `eval`.

use super::quote::{quote, quote_all};
use super::source::Source;

/// Makes the scripts of one job.
#[derive(Debug)]
pub struct Scripts {
    builds_dir: String,
    exports: String,
}

impl Scripts {
    /// For a job whose projects are below `builds_dir`.
    pub fn new(builds_dir: &str, variables: &[(String, String)]) -> Self {
        let project = format!("{builds_dir}/windlass/try");
        let fixed = [
            ("CI", "true"),
            ("GITLAB_CI", "true"),
            ("CI_JOB_NAME", "windlass try"),
            ("CI_PROJECT_DIR", project.as_str()),
        ];
        let given = variables.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let exports =
            fixed.into_iter().chain(given).map(|(key, value)| format!("export {key}={}\n", quote(value))).collect();
        Self { builds_dir: builds_dir.to_owned(), exports }
    }

    fn project(&self) -> String {
        quote(&format!("{}/windlass/try", self.builds_dir))
    }

    fn wrap(&self, body: &str) -> String {
        let body = quote(&format!("{}{body}", self.exports));
        format!(
            "#!/usr/bin/env bash\n\
             trap 'exit 1' TERM\n\
             case \"$(set -o)\" in *pipefail*) set -o pipefail ;; esac\n\
             set -o errexit\n\
             set +o noclobber\n\
             (trap 'exit 1' TERM; eval {body}) </dev/null\n\
             exit 0\n"
        )
    }

    /// Says where the job runs.
    pub fn prepare(&self) -> String {
        self.wrap("echo \"Running on $(hostname 2>/dev/null || cat /etc/hostname) via windlass try\"\n")
    }

    /// Gets the repository, or makes an empty project directory.
    pub fn get_sources(&self, source: &Source) -> String {
        let project = self.project();
        let init = format!("mkdir -p {project}.tmp\ngit init --quiet {project}\ncd {project}\n");
        self.wrap(&match source {
            Source::None => format!("mkdir -p {project}\n"),
            Source::Url { url, reference } => format!(
                "echo Fetching {shown}\n{init}git remote add origin {url}\ngit fetch --quiet --depth 20 origin {reference}\n\
                 git -c advice.detachedHead=false checkout --force --quiet FETCH_HEAD\ngit log -1 --format='Checked out %h: %s'\n",
                shown = quote(url),
                url = quote(url),
                reference = quote(reference),
            ),
            Source::Bundle { base64, commit } => format!(
                "echo 'Fetching the repository from this host'\n{init}base64 -d >{project}.tmp/bundle <<'BUNDLE'\n{base64}BUNDLE\n\
                 git fetch --quiet {project}.tmp/bundle '+refs/heads/*:refs/remotes/origin/*' HEAD\nrm {project}.tmp/bundle\n\
                 git -c advice.detachedHead=false checkout --force --quiet {commit}\ngit log -1 --format='Checked out %h: %s'\n",
                commit = quote(commit),
            ),
        })
    }

    /// Runs the command, shown first as GitLab shows it.
    pub fn build(&self, command: &[String]) -> String {
        self.line(&quote_all(command))
    }

    /// Runs a line of shell.
    pub fn after(&self, shell: &str) -> String {
        self.line(shell)
    }

    fn line(&self, shell: &str) -> String {
        self.wrap(&format!("cd {}\necho {}\n{shell}\n", self.project(), quote(&format!("$ {shell}"))))
    }

    /// Removes what the stages before left beside the project.
    pub fn cleanup(&self) -> String {
        self.wrap(&format!("rm -r -f {}.tmp\n", self.project()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(script: &str, shell: &str) -> (Option<i32>, String) {
        let output = Command::new(shell).args(["-c", script]).output().expect("shell");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn a_commands_words_and_exit_code_survive_in_any_shell() {
        let directory = tempfile::tempdir().expect("tempdir");
        let scripts = Scripts::new(directory.path().to_str().expect("text"), &[("GREETING".into(), "it's me".into())]);
        for shell in ["sh", "bash"] {
            assert_eq!(run(&scripts.get_sources(&Source::None), shell).0, Some(0));
            let command = ["sh", "-c", "printf '<%s>' \"$GREETING\" \"$1\"; exit 42", "x", "a  b"].map(str::to_owned);
            let (code, output) = run(&scripts.build(&command), shell);
            assert_eq!(code, Some(42));
            assert!(output.ends_with("<it's me><a  b>"), "{output}");
        }
    }

    #[test]
    fn a_repository_of_this_host_arrives_in_the_script() {
        let directory = tempfile::tempdir().expect("tempdir");
        let repo = directory.path().join("repo");
        let path = repo.to_str().expect("text");
        let make = format!(
            "git init -q {path} && cd {path} && echo hello >file && git add file && \
             git -c user.name=T -c user.email=t@example.com commit -qm first"
        );
        assert_eq!(run(&make, "sh").0, Some(0));
        let scripts = Scripts::new(directory.path().to_str().expect("text"), &[]);
        let source = Source::of(Some(path), "HEAD").expect("bundle");
        let (code, output) = run(&scripts.get_sources(&source), "sh");
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("first"), "{output}");
        assert_eq!(std::fs::read_to_string(directory.path().join("windlass/try/file")).expect("file"), "hello\n");
    }
}
