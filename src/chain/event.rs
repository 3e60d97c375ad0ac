//! A webhook's body as an event, and whether it is worth a look at its project. Nothing of an event is believed: it only makes the
//! daemon ask GitLab sooner.

use serde::Deserialize;

use super::facts::ProjectId;
use super::words;

/// Longest text that is kept of an event, in characters.
const TEXT_MAX: usize = 200;

/// A pipeline event. The variables that come with one are not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The project.
    pub project: ProjectId,
    /// Its path.
    pub path: String,
    /// The pipeline.
    pub pipeline: i64,
    /// Its state, in GitLab's word.
    pub status: String,
    /// The branch or tag.
    pub reference: String,
    /// What started it.
    pub source: Option<String>,
    /// Whether it is of a tag.
    pub tag: bool,
    /// Whether it is of a merge request.
    pub merge_request: bool,
    /// When it ended, as GitLab writes it.
    pub finished_at: Option<String>,
}

/// What a body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A pipeline event.
    Pipeline(Event),
    /// Another event: of this kind.
    Other(String),
    /// Nothing that can be read: why.
    Unreadable(String),
}

#[derive(Deserialize)]
struct Body {
    object_kind: Option<String>,
    object_attributes: Option<Attributes>,
    merge_request: Option<serde::de::IgnoredAny>,
    project: Option<Project>,
}

#[derive(Deserialize)]
struct Attributes {
    id: Option<i64>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    tag: Option<bool>,
    source: Option<String>,
    status: Option<String>,
    finished_at: Option<String>,
}

#[derive(Deserialize)]
struct Project {
    id: Option<i64>,
    path_with_namespace: Option<String>,
}

/// Reads a webhook's body.
#[must_use]
pub fn read(body: &[u8]) -> Read {
    let body: Body = match serde_json::from_slice(body) {
        Ok(body) => body,
        // Not the error's own words: they may have a part of the body.
        Err(error) => {
            return Read::Unreadable(format!("no JSON of an event (line {}, column {})", error.line(), error.column()));
        }
    };
    match body.object_kind.as_deref() {
        Some("pipeline") => {}
        kind => return Read::Other(short(kind.unwrap_or("unknown"))),
    }
    let (Some(attributes), Some(project)) = (body.object_attributes, body.project) else {
        return Read::Unreadable("a pipeline event without its pipeline or project".to_owned());
    };
    let (Some(pipeline), Some(id)) = (attributes.id, project.id) else {
        return Read::Unreadable("a pipeline event without the ids of its pipeline and project".to_owned());
    };
    Read::Pipeline(Event {
        project: id,
        path: short(&project.path_with_namespace.unwrap_or_default()),
        pipeline,
        status: short(&attributes.status.unwrap_or_default()),
        reference: short(&attributes.reference.unwrap_or_default()),
        source: attributes.source.as_deref().map(short),
        tag: attributes.tag.unwrap_or(false),
        merge_request: body.merge_request.is_some(),
        finished_at: attributes.finished_at.as_deref().map(short),
    })
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

impl Event {
    /// What is the same when the same thing is reported again: GitLab makes a new delivery of it, with another key.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}/{}/{}", self.project, self.pipeline, self.status, self.finished_at.as_deref().unwrap_or("-"))
    }

    /// Why it says nothing of the branch that is tracked; none: somebody should look.
    #[must_use]
    pub fn is_aside(&self, tracked: &str) -> Option<&'static str> {
        if self.tag {
            return Some("of a tag");
        }
        if self.merge_request || self.source.as_deref().is_some_and(|source| source.contains("request_event")) {
            return Some("of a merge request");
        }
        if !words::counts(self.source.as_deref()) {
            return Some("of a child pipeline or the like");
        }
        if self.reference != tracked {
            return Some("of another branch");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"object_kind":"pipeline","object_attributes":{"id":9001,"iid":55,"ref":"main","tag":false,"source":"push",
        "status":"success","finished_at":"2026-05-12 15:26:29 UTC","variables":[{"key":"PASSWORD","value":"hunter2"}],"new_field":{}},
        "merge_request":null,"project":{"id":101,"path_with_namespace":"images/base","default_branch":"main"},"builds":[]}"#;

    fn event(body: &str) -> Event {
        match read(body.as_bytes()) {
            Read::Pipeline(event) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_is_read_without_its_variables() {
        let found = event(BODY);
        assert_eq!((found.project, found.pipeline, found.path.as_str()), (101, 9001, "images/base"));
        assert_eq!(found.key(), "101/9001/success/2026-05-12 15:26:29 UTC");
        assert_eq!(found.is_aside("main"), None);
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn what_says_nothing_of_the_tracked_branch_is_aside() {
        let with = |from: &str, to: &str| event(&BODY.replace(from, to)).is_aside("main");
        assert_eq!(with("\"tag\":false", "\"tag\":true"), Some("of a tag"));
        assert_eq!(with("\"merge_request\":null", "\"merge_request\":{\"id\":1}"), Some("of a merge request"));
        assert_eq!(with("\"push\"", "\"merge_request_event\""), Some("of a merge request"));
        assert_eq!(with("\"push\"", "\"parent_pipeline\""), Some("of a child pipeline or the like"));
        assert_eq!(with("\"ref\":\"main\"", "\"ref\":\"feature\""), Some("of another branch"));
        assert_eq!(with("\"push\"", "\"brand_new_source\""), None);
        assert_eq!(with("\"success\"", "\"brand_new_status\""), None);
    }

    #[test]
    fn what_is_no_pipeline_event_is_told_apart() {
        assert_eq!(read(br#"{"object_kind":"push"}"#), Read::Other("push".into()));
        assert_eq!(read(b"{}"), Read::Other("unknown".into()));
        for body in [
            "",
            "{",
            r#"{"object_kind":"pipeline"}"#,
            r#"{"object_kind":"pipeline","object_attributes":{},"project":{}}"#,
        ] {
            assert!(matches!(read(body.as_bytes()), Read::Unreadable(_)), "{body}");
        }
        assert!(!format!("{:?}", read(&BODY.as_bytes()[..200])).contains("hunter2"));
    }
}
