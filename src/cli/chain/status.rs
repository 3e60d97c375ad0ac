//! `windlass chain status`

use anyhow::{Result, bail};

use crate::cli::ask::columns;
use crate::protocol::chain::{ChainStatus, ProjectLine};
use crate::words::rough;

/// Shows the chain, or some of its projects.
pub(super) fn show(status: &ChainStatus, projects: &[String], json: bool) -> Result<u8> {
    let chosen: Vec<&ProjectLine> = match projects {
        [] => status.projects.iter().collect(),
        names => names.iter().map(|name| named(status, name)).collect::<Result<_>>()?,
    };
    if json && projects.is_empty() {
        return super::json(status);
    }
    if json {
        return super::json(&chosen);
    }
    if !projects.is_empty() {
        for (index, project) in chosen.iter().enumerate() {
            print!("{}{}", if index > 0 { "\n" } else { "" }, whole(project, status.held.as_deref()));
        }
        return Ok(0);
    }
    print!("{}", table(status));
    Ok(0)
}

/// The project of this path or id.
pub(super) fn named<'a>(status: &'a ChainStatus, name: &str) -> Result<&'a ProjectLine> {
    let is_it = |project: &&ProjectLine| {
        project.path.eq_ignore_ascii_case(name.trim_matches('/')) || project.id.to_string() == name
    };
    match status.projects.iter().find(is_it) {
        Some(project) => Ok(project),
        None => bail!("the chain has no project {name:?}; `windlass chain status` lists them"),
    }
}

fn table(status: &ChainStatus) -> String {
    let mut text = String::new();
    for problem in &status.problems {
        text.push_str(&format!("! {problem}\n"));
    }
    match &status.looked_at {
        Some(at) => text.push_str(&format!("Chain of {}, looked at {} ago.\n", status.gitlab, ago(at))),
        None => text.push_str(&format!("Chain of {}, which is being looked at for the first time.\n", status.gitlab)),
    }
    if let Some(held) = &status.held {
        text.push_str(&format!("Nothing is started: {held}.\n"));
    }
    if status.projects.is_empty() {
        return text;
    }
    text.push('\n');
    let mut rows = vec![["PROJECT", "STATE", "SINCE", "BECAUSE OF", "PIPELINE"].map(str::to_owned)];
    for project in &status.projects {
        let marks = if project.is_wrong() { " (!)" } else { "" };
        let paused = if project.paused { " (paused)" } else { "" };
        let base = if project.old_base().is_some() { " (on an old base)" } else { "" };
        rows.push([
            format!("{}{marks}", project.path),
            format!("{}{paused}{base}", project.words),
            ago(&project.since),
            project.because.join(", "),
            project.pipeline.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        ]);
    }
    text.push_str(&columns(&rows));
    if status.projects.iter().any(ProjectLine::is_wrong) {
        text.push_str("\n(!) something is wrong with it: windlass chain status PROJECT says what\n");
    }
    text
}

/// All there is to say of a project; `held` says why the chain starts nothing.
fn whole(project: &ProjectLine, held: Option<&str>) -> String {
    let mut rows = vec![
        ["project".to_owned(), format!("{} ({})", project.path, project.id)],
        ["page".to_owned(), project.web_url.clone()],
        ["branch".to_owned(), project.reference.clone().unwrap_or_else(|| "none: its repository is empty".to_owned())],
        ["state".to_owned(), format!("{}, for {}", project.words, ago(&project.since))],
    ];
    if let Some(held) = held {
        rows.push(["held".to_owned(), format!("nothing is started: {held}")]);
    }
    if project.paused {
        rows.push(["paused".to_owned(), "yes: windlass chain resume goes on with it".to_owned()]);
    }
    if !project.because.is_empty() {
        rows.push(["because of".to_owned(), project.because.join(", ")]);
    }
    if let Some(pipeline) = project.pipeline {
        rows.push(["pipeline".to_owned(), format!("{}/-/pipelines/{pipeline}", project.web_url)]);
    }
    let built = project.success_at.as_deref().map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago(at)));
    rows.push(["built".to_owned(), built]);
    for edge in &project.upstreams {
        let kind = if edge.project.is_some() { "" } else { ", which no project of the chain builds" };
        let pinned = if edge.pinned { ", by a fixed digest" } else { "" };
        let moved = edge.moved_at.as_deref().map_or_else(String::new, |at| format!("; it moved {} ago", ago(at)));
        rows.push(["builds on".to_owned(), format!("{}{kind}{pinned}{moved}", edge.name)]);
    }
    if let Some(base) = &project.base {
        let since = if base.state == "old" { format!(", for {}", ago(&base.since)) } else { String::new() };
        rows.push(["base".to_owned(), format!("{}: {}{since}", base.state, base.words)]);
    }
    for problem in project.wrong() {
        rows.push(["wrong".to_owned(), problem.clone()]);
    }
    columns(&rows)
}

/// How long ago a time was, roughly.
fn ago(at: &str) -> String {
    match humantime::parse_rfc3339(at) {
        Ok(time) => rough(time.elapsed().map_or(0, |since| since.as_secs())),
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::chain::EdgeLine;

    fn project() -> ProjectLine {
        ProjectLine {
            id: 7,
            path: "images/app".into(),
            state: "blocked".into(),
            words: "blocked by images/ruby".into(),
            because: vec!["images/base".into()],
            since: "2026-01-01T00:00:00Z".into(),
            upstreams: vec![EdgeLine {
                name: "docker.io/library/debian:stable".into(),
                project: None,
                pinned: true,
                moved_at: None,
            }],
            ..ProjectLine::default()
        }
    }

    #[test]
    fn the_table_says_what_a_project_waits_for_and_what_is_wrong() {
        let mut status = ChainStatus {
            projects: vec![project()],
            held: Some("the chain is paused".into()),
            ..ChainStatus::default()
        };
        let text = table(&status);
        assert!(
            text.contains("blocked by images/ruby") && text.contains("Nothing is started: the chain is paused."),
            "{text}"
        );
        assert!(!text.contains("(!)"));
        status.projects[0].findings.push("$X is not known".into());
        assert!(table(&status).contains("images/app (!)"));
        let text = whole(&status.projects[0], status.held.as_deref());
        assert!(text.contains("nothing is started: the chain is paused"), "{text}");
        assert!(!whole(&status.projects[0], None).contains("nothing is started"));
        assert!(
            text.contains("$X is not known") && text.contains("no project of the chain builds, by a fixed digest"),
            "{text}"
        );
    }

    #[test]
    fn a_project_is_named_by_path_or_id() {
        let status = ChainStatus { projects: vec![project()], ..ChainStatus::default() };
        assert!(named(&status, "Images/App/").is_ok() && named(&status, "7").is_ok());
        assert!(named(&status, "images").is_err_and(|error| error.to_string().contains("chain status")));
    }
}
