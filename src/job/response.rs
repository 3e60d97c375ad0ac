//! The job response, which is the only thing about a job that its pipeline's author can't write.
//!
//! gitlab-runner re-encodes GitLab's answer (common/spec/spec.go), so a field that an older runner does not know is missing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A job's timeout when the response names none, as gitlab-runner has it (common/consts.go).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(7200);
/// Longest timeout that is believed, in seconds: a month.
const TIMEOUT_MAX: u64 = 31 * 24 * 3600;

/// Longest name kept, in characters.
const NAME_MAX: usize = 255;
/// Longest image name kept, in characters; longer ones are no references.
const IMAGE_MAX: usize = 2000;
/// Longest entrypoint, in bytes.
const ENTRYPOINT_MAX: usize = 64 * 1024;

/// Services of a job, whatever the configuration allows.
const SERVICES_MAX: usize = 64;

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// GitLab's id of the job.
    pub id: i64,
    /// GitLab's id of the project.
    pub project_id: i64,
    /// The project's path, for people; the id is what counts.
    pub project_path: String,
    /// Host, and port if any, of the GitLab instance, in lower case: two instances both have a project 7.
    pub instance: String,
    /// GitLab's id of the pipeline, where that is known.
    #[serde(default)]
    pub pipeline: Option<i64>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Its branch or tag.
    #[serde(default)]
    pub reference: Option<String>,
    /// GitLab's id of the user who started it.
    #[serde(default)]
    pub user_id: Option<i64>,
    /// The user's login, unless somebody set `GITLAB_USER_LOGIN` to something else too.
    #[serde(default)]
    pub user: Option<String>,
    /// Whether the job runs for a protected ref. Unknown counts as not.
    pub protected: bool,
    /// How long GitLab lets it run.
    pub timeout: Duration,
    /// The image it asks for.
    pub image: Option<String>,
    /// The ENTRYPOINT that it wants instead of the image's; `[""]` clears it.
    pub entrypoint: Option<Vec<String>>,
    /// What else it says about its image.
    #[serde(default)]
    pub options: ImageOptions,
    /// The services that it asks for.
    #[serde(default)]
    pub services: Vec<Service>,
}

/// What a job says about an image beside its name. Nothing of it is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageOptions {
    /// The user instead of the image's USER (`image:docker:user`).
    pub user: Option<String>,
    /// The platform, such as `linux/arm64` (`image:docker:platform`).
    pub platform: Option<String>,
    /// When it is pulled (`image:pull_policy`), in the words of the response.
    pub pull_policy: Vec<String>,
}

/// A service that a job asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Its image.
    pub image: String,
    /// Names beside those made of the image's.
    pub aliases: Vec<String>,
    /// Instead of the image's.
    pub entrypoint: Vec<String>,
    /// Instead of the image's.
    pub command: Vec<String>,
    /// Its own variables, not expanded. They may be secret: no record has them, and prepare brings them again.
    #[serde(skip)]
    pub variables: Vec<(String, String)>,
    /// What else the job says about its image.
    pub options: ImageOptions,
}

#[derive(Deserialize)]
struct Response {
    id: Option<i64>,
    job_info: Option<JobInfo>,
    git_info: Option<GitInfo>,
    runner_info: Option<RunnerInfo>,
    image: Option<Image>,
    services: Option<Vec<Image>>,
    variables: Option<Vec<Variable>>,
}

#[derive(Deserialize)]
struct JobInfo {
    pipeline_id: Option<i64>,
    project_id: Option<i64>,
    project_full_path: Option<String>,
    project_name: Option<String>,
    name: Option<String>,
    user_id: Option<i64>,
}

#[derive(Deserialize)]
struct GitInfo {
    repo_url: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    protected: Option<bool>,
}

#[derive(Deserialize)]
struct RunnerInfo {
    timeout: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Image {
    name: Option<String>,
    alias: Option<String>,
    entrypoint: Option<Vec<String>>,
    command: Option<Vec<String>>,
    variables: Option<Vec<Variable>>,
    pull_policy: Option<Vec<String>>,
    executor_opts: Option<ExecutorOptions>,
}

#[derive(Deserialize)]
struct Variable {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ExecutorOptions {
    docker: Option<DockerOptions>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerOptions {
    platform: Option<String>,
    /// GitLab may send a number, gitlab-runner writes text.
    user: Option<serde_json::Value>,
}

impl Image {
    fn options(&mut self) -> ImageOptions {
        let docker = self.executor_opts.take().and_then(|options| options.docker).unwrap_or_default();
        let user = match docker.user {
            Some(serde_json::Value::String(user)) => Some(user),
            Some(serde_json::Value::Number(user)) => Some(user.to_string()),
            _ => None,
        };
        let given = |text: Option<String>| text.filter(|text| !text.is_empty()).map(|text| plain(&text));
        ImageOptions {
            user: given(user),
            platform: given(docker.platform),
            pull_policy: self.pull_policy.take().unwrap_or_default().iter().take(8).map(|word| plain(word)).collect(),
        }
    }

    fn service(mut self) -> Service {
        Service {
            options: self.options(),
            image: shortened(&self.name.unwrap_or_default(), IMAGE_MAX),
            // One field for several names (Aliases() in common/spec/spec.go).
            aliases: self
                .alias
                .unwrap_or_default()
                .split([',', ' ', '\t', '\n'])
                .filter(|alias| !alias.is_empty())
                .map(plain)
                .collect(),
            entrypoint: self.entrypoint.unwrap_or_default(),
            command: self.command.unwrap_or_default(),
            variables: self
                .variables
                .unwrap_or_default()
                .into_iter()
                .map(|Variable { key, value }| (key, value))
                .collect(),
        }
    }
}

impl Job {
    /// Reads a job response.
    ///
    /// # Errors
    /// What it lacks. Nothing of its content is in the message: it holds the job's secrets.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let response: Response = serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
        let id = response.id.filter(|id| *id > 0).ok_or("the job response has no job id")?;
        let info = response.job_info.ok_or("the job response has no job_info")?;
        let project_id = info.project_id.filter(|id| *id > 0).ok_or("the job response has no project id")?;
        let pipeline = info.pipeline_id.or_else(|| pipeline(response.variables.as_deref().unwrap_or_default()));
        let user = only(response.variables.as_deref().unwrap_or_default(), "GITLAB_USER_LOGIN").map(str::to_owned);
        let reference = response.git_info.as_ref().and_then(|git| git.reference.clone());
        let given = |text: Option<String>| text.filter(|text| !text.is_empty()).map(|text| plain(&text));
        let (instance, path) =
            response.git_info.as_ref().and_then(|git| git.repo_url.as_deref()).map_or_else(Default::default, split_url);
        let project_path = [info.project_full_path, Some(path), info.project_name]
            .into_iter()
            .flatten()
            .find(|path| !path.is_empty())
            .unwrap_or_else(|| format!("project-{project_id}"));
        let timeout =
            response.runner_info.and_then(|runner| runner.timeout).and_then(|seconds| u64::try_from(seconds).ok());
        let mut image = response.image.unwrap_or_default();
        let options = image.options();
        let Image { name: image, entrypoint, .. } = image;
        let services = response.services.unwrap_or_default();
        if services.len() > SERVICES_MAX {
            return Err(format!("the job has {} services, at most {SERVICES_MAX} are possible", services.len()));
        }
        let length = entrypoint.iter().flatten().map(|word| word.len() + 1).sum::<usize>();
        if length > ENTRYPOINT_MAX {
            return Err(format!("the image's entrypoint has {length} bytes, at most {ENTRYPOINT_MAX} are possible"));
        }
        Ok(Self {
            id,
            project_id,
            project_path: plain(&project_path),
            instance: plain(&instance),
            pipeline: pipeline.filter(|id| *id > 0),
            name: given(info.name),
            reference: given(reference),
            user_id: info.user_id.filter(|id| *id > 0),
            user: given(user),
            protected: response.git_info.and_then(|git| git.protected).unwrap_or(false),
            timeout: timeout
                .filter(|seconds| *seconds > 0)
                .map_or(DEFAULT_TIMEOUT, |seconds| Duration::from_secs(seconds.min(TIMEOUT_MAX))),
            image: image.filter(|image| !image.is_empty()).map(|image| shortened(&image, IMAGE_MAX)),
            entrypoint,
            options,
            services: services.into_iter().map(Image::service).collect(),
        })
    }

    /// What runs before the shell: the job's wish, else the image's ENTRYPOINT.
    #[must_use]
    pub fn entrypoint(&self, image: &[String]) -> Vec<String> {
        match &self.entrypoint {
            None => image.to_vec(),
            // As in the Docker executor (overwriteEntrypoint in docker.go).
            Some(wish) if wish.is_empty() => image.to_vec(),
            // The way to say "none" in .gitlab-ci.yml.
            Some(wish) if wish.iter().all(String::is_empty) => Vec::new(),
            Some(wish) => wish.clone(),
        }
    }
}

/// Why a job response can't be read, without anything of its content.
pub(super) fn unreadable(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    format!("the job response is not what gitlab-runner writes (line {line}, column {column})")
}

/// The pipeline by `CI_PIPELINE_ID`, for runners that do not pass on job_info.pipeline_id; none if somebody set it to something else too.
fn pipeline(variables: &[Variable]) -> Option<i64> {
    only(variables, "CI_PIPELINE_ID")?.parse().ok()
}

/// The value of a variable that has one value only: GitLab's own, then. The pipeline's author can add one, but take none away.
fn only<'a>(variables: &'a [Variable], key: &str) -> Option<&'a str> {
    let mut values = variables.iter().filter(|variable| variable.key == key).map(|found| &found.value);
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// Host with port, and path without `.git`, of a repository's URL; without the credentials that are in it.
fn split_url(url: &str) -> (String, String) {
    let Some((_, rest)) = url.split_once("://") else { return Default::default() };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    (host.to_ascii_lowercase(), path.trim_end_matches('/').trim_end_matches(".git").to_owned())
}

/// A name for logs and labels: printable, one line, bounded.
fn plain(text: &str) -> String {
    shortened(text, NAME_MAX)
}

fn shortened(text: &str, most: usize) -> String {
    text.chars().filter(|character| !character.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests;
