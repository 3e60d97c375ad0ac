//! The scripts of a job's stages, in the shape that gitlab-runner gives them.

use std::fmt::Write;

use super::job::Job;

/// The whole script of one stage.
pub fn stage(job: &Job, stage: &str) -> String {
    let body = match stage {
        "prepare_script" => "echo \"Running on $(hostname) via windlass...\"\n".to_owned(),
        "get_sources" => sources(job),
        "build_script" => user(job, &job.script),
        "after_script" => user(job, &job.after_script),
        "cleanup_file_variables" => format!("rm -rf {}.tmp/gitlab_runner_env\n", job.project_dir()),
        other => {
            let mut body = exports(job);
            writeln!(body, "mkdir -p \"{0}\"\ncd \"{0}\"\necho \"{other}: Missing gitlab-runner.\"", job.project_dir())
                .unwrap();
            body
        }
    };
    wrap(&body)
}

/// Puts a body into the frame that gitlab-runner puts around every script.
pub fn wrap(body: &str) -> String {
    format!(
        "#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\n\
         case \"$(set -o)\" in *\"pipefail\"*) set -o pipefail;; esac; set -o errexit\nset +o noclobber\n\
         (trap 'exit 1' TERM; eval {}) < /dev/null\nexit 0\n",
        quote(body)
    )
}

fn sources(job: &Job) -> String {
    let (mut body, dir) = (exports(job), job.project_dir());
    let Some(repository) = &job.repository else {
        writeln!(body, "mkdir -p \"{dir}.tmp\" \"{dir}\"\necho 'Skipping Git repository setup'").unwrap();
        return body;
    };
    let (url, sha) = (&repository.url, &repository.sha);
    write!(
        body,
        "mkdir -p \"{dir}.tmp/git-template\"\nrm -rf \"{dir}\"\n\
         git init \"{dir}\" --template \"{dir}.tmp/git-template\" --quiet\ncd \"{dir}\"\n\
         git remote add origin \"{url}\"\n\
         git fetch origin --no-recurse-submodules +refs/heads/main:refs/remotes/origin/main --prune --quiet\n\
         git -c submodule.recurse=false checkout -f -q {sha}\ngit clean -ffdx\n"
    )
    .unwrap();
    body
}

fn user(job: &Job, lines: &[String]) -> String {
    let mut body = exports(job);
    writeln!(body, "cd \"{}\"", job.project_dir()).unwrap();
    for line in lines {
        let shown = line.lines().next().unwrap_or_default();
        writeln!(body, "echo {}\n{line}", quote(&format!("\x1b[32;1m$ {shown}\x1b[0;m"))).unwrap();
    }
    body
}

fn exports(job: &Job) -> String {
    let mut body = String::new();
    for (key, value) in job.payload_variables() {
        writeln!(body, "export {key}={}", quote(&value)).unwrap();
    }
    body
}

/// ANSI-C quoting, gitlab-runner's default.
fn quote(text: &str) -> String {
    let mut quoted = String::from("$'");
    for byte in text.bytes() {
        match byte {
            b'\n' => quoted.push_str("\\n"),
            b'\t' => quoted.push_str("\\t"),
            b'\'' | b'\\' => {
                quoted.push('\\');
                quoted.push(char::from(byte));
            }
            0x20..=0x7e => quoted.push(char::from(byte)),
            _ => write!(quoted, "\\x{byte:02x}").unwrap(),
        }
    }
    quoted.push('\'');
    quoted
}
