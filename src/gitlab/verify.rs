//! Is a job what it says it is? Whoever may use the daemon's socket can hand over any job response; GitLab knows whose its token is.

use std::time::Duration;

use reqwest::Url;

use super::{Client, GitlabError, RunningJob};
use crate::job::{Job, Secret};

/// How often GitLab is asked when it does not answer, and the first pause in between; doubled each time.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Why a job is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl Client {
    /// Checks with GitLab that a job runs and is of the project, and of the instance, that it names. Whether its ref is protected,
    /// GitLab does not tell there.
    ///
    /// # Errors
    /// What is wrong, or that GitLab can't be asked.
    pub async fn verify(&self, job: &Job, token: &Secret) -> Result<(), Refused> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            match self.job_of(token).await {
                Ok(known) => return check(job, &known, self.root()).map_err(Refused),
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    tracing::warn!(job = job.id, "{error}; asking again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(refused(job, &error)),
            }
        }
        unreachable!("the last attempt returns")
    }
}

fn refused(job: &Job, error: &GitlabError) -> Refused {
    Refused(if error.is_transient() {
        format!("job {} can't be verified (verify_jobs in windlass.toml): {error}", job.id)
    } else {
        format!("job {} is not known as a running one (verify_jobs in windlass.toml): {error}", job.id)
    })
}

/// Compares what a job says with what GitLab knows; `root` is the path that GitLab has on its host.
fn check(job: &Job, known: &RunningJob, root: &str) -> Result<(), String> {
    let differs = |what: &str, said: &str, is: &str| {
        Err(format!("the job response says {what} {said}, but GitLab says that its token is of {what} {is}"))
    };
    if known.id != job.id {
        return differs("job", &job.id.to_string(), &known.id.to_string());
    }
    if known.pipeline.project_id != job.project_id {
        return differs("project", &job.project_id.to_string(), &known.pipeline.project_id.to_string());
    }
    let page = Url::parse(&known.web_url).map_err(|_| "GitLab's answer has no page of the job".to_owned())?;
    let host = match (page.host_str().unwrap_or_default(), page.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    if host != job.instance {
        return differs("instance", &job.instance, &host);
    }
    let path = page.path().split("/-/").next().unwrap_or_default().trim_matches('/');
    // A job response of a GitLab that does not send the project's path has it from the repository's URL.
    let below = path.strip_prefix(root).map_or(path, |rest| rest.trim_start_matches('/'));
    let same = |one: &str| one.eq_ignore_ascii_case(&job.project_path);
    if !same(below) && !same(path) {
        return differs("project", &job.project_path, below);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::PipelineOfJob;

    fn job(path: &str, instance: &str) -> Job {
        let text = format!(
            r#"{{"id": 11, "job_info": {{"project_id": 7, "project_full_path": "{path}"}}, "git_info": {{"repo_url": "https://t@{instance}/{path}.git"}}}}"#
        );
        Job::parse(text.as_bytes()).expect("a job response")
    }

    fn known(id: i64, project_id: i64, web_url: &str) -> RunningJob {
        RunningJob { id, web_url: web_url.to_owned(), pipeline: PipelineOfJob { project_id } }
    }

    #[test]
    fn a_job_is_what_its_token_is_of() {
        let (mine, url) =
            (job("group/project", "gitlab.example.com"), "https://gitlab.example.com/group/project/-/jobs/11");
        assert_eq!(check(&mine, &known(11, 7, url), ""), Ok(()));
        let refused = |job: &Job, known: &RunningJob| check(job, known, "").expect_err("must be refused");
        assert!(refused(&mine, &known(12, 7, url)).contains("job 11"));
        assert!(refused(&mine, &known(11, 8, url)).contains("project 7"));
        assert!(refused(&job("infra/builder", "gitlab.example.com"), &known(11, 7, url)).contains("infra/builder"));
        assert!(refused(&job("group/project", "other.example.com"), &known(11, 7, url)).contains("instance"));
        assert!(refused(&job("project", "gitlab.example.com"), &known(11, 7, url)).contains("group/project"));
    }

    #[test]
    fn gitlab_may_have_a_path_and_a_port() {
        let url = "https://gitlab.example.com:8443/gitlab/group/project/-/jobs/11";
        let mine = job("group/project", "gitlab.example.com:8443");
        assert_eq!(check(&mine, &known(11, 7, url), "gitlab"), Ok(()));
        let older = job("gitlab/group/project", "gitlab.example.com:8443");
        assert_eq!(check(&older, &known(11, 7, url), "gitlab"), Ok(()));
        assert!(check(&job("project", "gitlab.example.com:8443"), &known(11, 7, url), "gitlab").is_err());
    }
}
