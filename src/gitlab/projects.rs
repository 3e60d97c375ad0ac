//! Projects and the files in their repositories.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde::Deserialize;

use super::request::Call;
use super::{Client, GitlabError};

/// What stays in a path that is one word of an address.
const WORD: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');
/// Most projects of a group.
const PROJECTS_MAX: usize = 100_000;
/// Most entries of a repository's tree that are looked at for further files.
const TREE_MAX: usize = 20_000;

/// A project, as REST has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProjectRow {
    /// Its id.
    pub id: i64,
    /// Its path.
    pub path_with_namespace: String,
    /// Its page.
    #[serde(default)]
    pub web_url: String,
    /// Its default branch; none while its repository is empty.
    pub default_branch: Option<String>,
    /// Whether it is archived.
    #[serde(default)]
    pub archived: bool,
    /// The day on which it will be deleted.
    pub marked_for_deletion_on: Option<String>,
    /// When something happened in it, give or take an hour.
    pub last_activity_at: Option<String>,
    /// Where its images are.
    pub container_registry_image_prefix: Option<String>,
    /// `private`, `internal` or `public`.
    pub visibility: Option<String>,
}

impl Client {
    /// The projects of a group and its subgroups, without archived ones and those that are only shared with it.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn group_projects(&self, group: &str) -> Result<Vec<ProjectRow>, GitlabError> {
        self.group_projects_as(group, None).await
    }

    /// The same, those alone in which the token has at least the role of this number.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn group_projects_as(&self, group: &str, role: Option<u32>) -> Result<Vec<ProjectRow>, GitlabError> {
        let path = format!("groups/{}/projects", word(group));
        let query = [
            ("include_subgroups", "true"),
            ("with_shared", "false"),
            ("archived", "false"),
            ("order_by", "id"),
            ("sort", "asc"),
        ];
        let query = query.map(|(key, value)| (key, value.to_owned())).into_iter();
        let query: Vec<_> = query.chain(role.map(|role| ("min_access_level", role.to_string()))).collect();
        self.all(&path, &query, PROJECTS_MAX).await
    }

    /// A project, by its path or id.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn project(&self, project: &str) -> Result<ProjectRow, GitlabError> {
        self.json(Call::get(format!("projects/{}", word(project)))).await
    }

    /// A file of a repository, as text; none where there is none.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn file(&self, project: i64, path: &str, reference: &str) -> Result<Option<String>, GitlabError> {
        let call = Call::get(format!("projects/{project}/repository/files/{}/raw", word(path))).with("ref", reference);
        match self.send(call).await {
            Ok(answer) => Ok(Some(String::from_utf8_lossy(&answer.body).into_owned())),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The paths of all files of a repository.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn tree(&self, project: i64, reference: &str) -> Result<Vec<String>, GitlabError> {
        #[derive(Deserialize)]
        struct Entry {
            path: String,
            r#type: String,
        }
        let path = format!("projects/{project}/repository/tree");
        let query = [("ref", reference.to_owned()), ("recursive", "true".to_owned())];
        let entries: Result<Vec<Entry>, GitlabError> = self.all(&path, &query, TREE_MAX).await;
        match entries {
            Ok(entries) => {
                Ok(entries.into_iter().filter(|entry| entry.r#type == "blob").map(|entry| entry.path).collect())
            }
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The commit that a branch is at; none where there is none.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn head(&self, project: i64, reference: &str) -> Result<Option<String>, GitlabError> {
        #[derive(Deserialize)]
        struct Commit {
            id: String,
        }
        let call = Call::get(format!("projects/{project}/repository/commits"));
        let commits: Result<Vec<Commit>, _> = self.json(call.with("ref_name", reference).with("per_page", 1)).await;
        match commits {
            Ok(commits) => Ok(commits.into_iter().next().map(|commit| commit.id)),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The paths of the projects and groups whose job tokens may be used in a project; none where all may.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn job_token_allowlist(&self, project: i64) -> Result<Option<Vec<String>>, GitlabError> {
        #[derive(Deserialize)]
        struct Scope {
            #[serde(default)]
            inbound_enabled: bool,
        }
        #[derive(Deserialize)]
        struct Listed {
            #[serde(alias = "full_path")]
            path_with_namespace: Option<String>,
            web_url: Option<String>,
        }
        let scope: Scope = self.json(Call::get(format!("projects/{project}/job_token_scope"))).await?;
        if !scope.inbound_enabled {
            return Ok(None);
        }
        let mut paths = Vec::new();
        for list in ["allowlist", "groups_allowlist"] {
            let listed: Vec<Listed> =
                self.all(&format!("projects/{project}/job_token_scope/{list}"), &[], 10_000).await?;
            paths.extend(listed.into_iter().filter_map(|listed| {
                // Groups are named by their page alone.
                let of_page = |page: String| page.split_once("/groups/").map(|(_, path)| path.to_owned());
                listed.path_with_namespace.or_else(|| listed.web_url.and_then(of_page))
            }));
        }
        Ok(Some(paths))
    }
}

/// A path as one word of an address.
pub(super) fn word(path: &str) -> String {
    utf8_percent_encode(path, WORD).to_string()
}

/// A time as GitLab writes it: ISO 8601, or `2016-08-12 15:23:28 UTC`, in milliseconds since 1970.
#[must_use]
pub fn parse_time(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let text = text.trim().strip_suffix(" UTC")?;
    let time = text.parse::<jiff::civil::DateTime>().ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// The time of an end, which counts to its last moment where GitLab writes whole seconds: what began in that second may have missed it.
#[must_use]
pub fn parse_end(text: &str) -> Option<i64> {
    parse_time(text).map(|time| if text.contains('.') { time } else { time + 999 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_times_are_read() {
        assert_eq!(parse_time("2016-08-12T15:23:28.000Z"), Some(1_471_015_408_000));
        assert_eq!(parse_time("2016-08-12T17:23:28+02:00"), Some(1_471_015_408_000));
        assert_eq!(parse_time("2016-08-12 15:23:28 UTC"), Some(1_471_015_408_000));
        assert_eq!(parse_end("2016-08-12T15:23:28Z"), Some(1_471_015_408_999));
        assert_eq!(parse_end("2016-08-12T15:23:28.250Z"), Some(1_471_015_408_250));
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_time(""), None);
    }

    #[test]
    fn a_path_is_one_word_of_an_address() {
        assert_eq!(word("group/sub-group/a.b"), "group%2Fsub-group%2Fa%2Eb");
        assert_eq!(word("images/x y/Containerfile"), "images%2Fx%20y%2FContainerfile");
    }
}
