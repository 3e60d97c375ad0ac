//! What gitlab-runner tells its executables about a job: the job response, the variables, and by being their parent itself.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::Failure;
use crate::protocol::frame::{JOB_RESPONSE_MAX, VARIABLES_MAX};

/// Before the name of each of the job's variables.
const PREFIX: &[u8] = b"CUSTOM_ENV_";

/// The job response that gitlab-runner wrote for this job, with a bound on its length.
pub fn job_response() -> Result<Vec<u8>, Failure> {
    let path = std::env::var_os("JOB_RESPONSE_FILE").ok_or_else(|| {
        Failure::System("JOB_RESPONSE_FILE is not set: gitlab-runner 14.1 or later sets it".to_owned())
    })?;
    let name = Path::new(&path).display();
    let max = JOB_RESPONSE_MAX;
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::system(&format!("read the job response {name}"), error))?;
    if bytes.len() > max {
        return Err(Failure::System(format!("the job response {name} is longer than {max} bytes")));
    }
    Ok(bytes)
}

/// The job's variables, expanded by gitlab-runner. The pipeline's author has a say in all of them: they are for the job's own
/// containers, and decide nothing.
pub fn variables() -> Vec<(String, String)> {
    from(std::env::vars_os())
}

fn from(environment: impl Iterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let named = environment.filter_map(|(name, value)| {
        let name = name.into_vec();
        let name = name.strip_prefix(PREFIX).filter(|name| !name.is_empty())?;
        Some((text(name), text(&value.into_vec())))
    });
    let mut variables: Vec<(String, String)> = named.collect();
    variables.sort();
    variables
}

/// The variables as the daemon reads them.
pub fn encode(variables: &[(String, String)]) -> Result<Vec<u8>, Failure> {
    let object: serde_json::Map<String, serde_json::Value> =
        variables.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let bytes = serde_json::to_vec(&object).map_err(|error| Failure::system("encode the job's variables", error))?;
    if bytes.len() > VARIABLES_MAX {
        return Err(Failure::System(format!("the job's variables are longer than {VARIABLES_MAX} bytes")));
    }
    Ok(bytes)
}

/// gitlab-runner's own program: only its parent's user can open it, so the daemon gets it from here.
pub fn runner_program() -> Option<OwnedFd> {
    std::fs::File::open(format!("/proc/{}/exe", nix::unistd::getppid())).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_gitlab_runner_marks_is_a_variable_of_the_job() {
        let pair = |name: &[u8], value: &[u8]| (OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
        let found = from(
            [
                pair(b"PATH", b"/bin"),
                pair(b"CUSTOM_ENV_B", b"2=\n3"),
                pair(b"CUSTOM_ENV_A", b"\xff"),
                pair(b"CUSTOM_ENV_", b"x"),
                pair(b"XCUSTOM_ENV_C", b"x"),
            ]
            .into_iter(),
        );
        assert_eq!(found, [("A".to_owned(), "\u{fffd}".to_owned()), ("B".to_owned(), "2=\n3".to_owned())]);
    }
}
