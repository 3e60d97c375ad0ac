//! `windlass chain graph`: as a tree of text, for Graphviz, for Mermaid, as a picture, or as JSON.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use super::status::named;
use crate::page::graph::Graph;
use crate::page::svg;
use crate::protocol::chain::{ChainStatus, ProjectLine};

/// How to write a graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A tree for people: what builds on a project is below it
    #[default]
    Text,
    /// For Graphviz
    Dot,
    /// For Mermaid, which GitLab shows in Markdown
    Mermaid,
    /// A picture with links to GitLab
    Svg,
    /// Nodes and edges
    Json,
}

pub(super) fn write(status: &ChainStatus, project: Option<&str>, format: Format) -> Result<String> {
    let whole = Graph::of(status);
    let graph = match project {
        Some(name) => whole.around(named(status, name)?.id, usize::MAX, None),
        None => whole,
    };
    Ok(match format {
        Format::Text => graph.text(),
        Format::Dot => graph.dot(),
        Format::Mermaid => graph.mermaid(),
        Format::Svg => svg::file(&graph),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&graph.json())?),
    })
}

impl Graph<'_> {
    /// What builds on something that is at the top, indented below it. What has been shown is not shown again.
    fn text(&self) -> String {
        let has_upstream: BTreeSet<i64> = self.edges.iter().map(|(_, to, _)| *to).collect();
        let mut roots: Vec<i64> = self.nodes.keys().filter(|id| !has_upstream.contains(id)).copied().collect();
        roots.sort_by_key(|id| &self.nodes[id].path);
        let mut shown = BTreeSet::new();
        let mut text = String::new();
        for root in roots {
            self.branch(root, "", "", false, &mut shown, &mut text);
        }
        // Whatever is on a cycle has no root above it.
        for id in self.nodes.keys() {
            if !shown.contains(id) {
                self.branch(*id, "", "", false, &mut shown, &mut text);
            }
        }
        text
    }

    fn branch(&self, id: i64, first: &str, rest: &str, pinned: bool, shown: &mut BTreeSet<i64>, text: &mut String) {
        let project = self.nodes[&id];
        let pinned = if pinned { ", by a fixed digest" } else { "" };
        let mut below: Vec<(i64, bool)> =
            self.edges.iter().filter(|(from, ..)| *from == id).map(|(_, to, pinned)| (*to, *pinned)).collect();
        below.sort_by_key(|(id, _)| &self.nodes[id].path);
        let is_new = shown.insert(id);
        let again = if is_new || below.is_empty() { "" } else { " (see above)" };
        text.push_str(&format!("{first}{}  {}{pinned}{again}\n", project.path, project.words));
        if !is_new {
            return;
        }
        for (index, (id, pinned)) in below.iter().enumerate() {
            let (own, next) = if index + 1 == below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.branch(*id, &format!("{rest}{own}"), &format!("{rest}{next}"), *pinned, shown, text);
        }
    }

    fn dot(&self) -> String {
        let mut text = String::from("digraph chain {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
        for (id, project) in &self.nodes {
            let label = quoted(&format!("{}\n{}", project.path, project.state));
            text.push_str(&format!("  n{id} [label={label}, color={}];\n", color(&project.state)));
        }
        for (from, to, pinned) in &self.edges {
            let style = if *pinned { " [style=dashed]" } else { "" };
            text.push_str(&format!("  n{from} -> n{to}{style};\n"));
        }
        text.push_str("}\n");
        text
    }

    fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (id, project) in &self.nodes {
            // Mermaid has no escapes in labels but entities.
            let label: String = format!("{}: {}", project.path, project.state)
                .chars()
                .map(|c| {
                    if c.is_alphanumeric() || " /:._-".contains(c) {
                        c.to_string()
                    } else {
                        format!("#{};", u32::from(c))
                    }
                })
                .collect();
            text.push_str(&format!("  n{id}[\"{label}\"]\n"));
        }
        for (from, to, pinned) in &self.edges {
            let arrow = if *pinned { "-.->" } else { "-->" };
            text.push_str(&format!("  n{from} {arrow} n{to}\n"));
        }
        text
    }

    fn json(&self) -> impl Serialize + use<> {
        #[derive(Serialize)]
        struct Node {
            id: i64,
            path: String,
            state: String,
            words: String,
        }
        #[derive(Serialize)]
        struct Edge {
            from: i64,
            to: i64,
            pinned: bool,
        }
        #[derive(Serialize)]
        struct Json {
            projects: Vec<Node>,
            edges: Vec<Edge>,
        }
        let node = |project: &&ProjectLine| Node {
            id: project.id,
            path: project.path.clone(),
            state: project.state.clone(),
            words: project.words.clone(),
        };
        Json {
            projects: self.nodes.values().map(node).collect(),
            edges: self.edges.iter().map(|(from, to, pinned)| Edge { from: *from, to: *to, pinned: *pinned }).collect(),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn color(state: &str) -> &'static str {
    match state {
        "fresh" => "green",
        "running" | "starting" | "due" | "settling" | "held" | "waits" => "blue",
        "failed" | "canceled" | "refused" | "gave-up" | "cycle" => "red",
        _ => "orange",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;
    use crate::protocol::chain::EdgeLine;

    fn chain() -> ChainStatus {
        let project = |id: i64, path: &str, on: &[i64]| ProjectLine {
            id,
            path: path.to_owned(),
            state: "fresh".into(),
            words: "fresh".into(),
            upstreams: on
                .iter()
                .map(|id| EdgeLine {
                    name: id.to_string(),
                    project: Some(*id),
                    pinned: *id == 9,
                    ..EdgeLine::default()
                })
                .collect(),
            ..ProjectLine::default()
        };
        let projects = vec![
            project(1, "base", &[]),
            project(2, "ruby", &[1]),
            project(3, "node", &[1]),
            project(4, "a\"pp", &[2, 3]),
            project(5, "other", &[9]),
            project(9, "fixed", &[]),
            project(10, "ring-a", &[11]),
            project(11, "ring-b", &[10]),
        ];
        ChainStatus { projects, ..ChainStatus::default() }
    }

    #[test]
    fn the_tree_shows_what_builds_on_what_and_everything_once() {
        let text = write(&chain(), None, Format::Text).unwrap();
        let expected = "base  fresh\n├─ node  fresh\n│  └─ a\"pp  fresh\n└─ ruby  fresh\n   └─ a\"pp  fresh\nfixed  fresh\n\
                        └─ other  fresh, by a fixed digest\nring-a  fresh\n└─ ring-b  fresh\n   └─ ring-a  fresh (see above)\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_projects_part_is_what_it_builds_on_and_what_builds_on_it() {
        let text = write(&chain(), Some("ruby"), Format::Text).unwrap();
        assert_eq!(text, "base  fresh\n└─ ruby  fresh\n   └─ a\"pp  fresh\n");
        assert!(write(&chain(), Some("none"), Format::Text).is_err());
    }

    #[test]
    fn names_break_no_format() {
        let dot = write(&chain(), Some("4"), Format::Dot).unwrap();
        assert!(dot.contains("n4 [label=\"a\\\"pp\\nfresh\"") && dot.contains("n2 -> n4;"), "{dot}");
        let mermaid = write(&chain(), None, Format::Mermaid).unwrap();
        assert!(mermaid.contains("n4[\"a#34;pp: fresh\"]") && mermaid.contains("n9 -.-> n5"), "{mermaid}");
        let svg = write(&chain(), Some("4"), Format::Svg).unwrap();
        assert!(svg.contains("a&quot;pp") && !svg.contains("fixed") && svg.ends_with("</svg>\n"), "{svg}");
        let json: serde_json::Value =
            serde_json::from_str(&write(&chain(), Some("ruby"), Format::Json).unwrap()).unwrap();
        assert_eq!((json["projects"].as_array().unwrap().len(), json["edges"].as_array().unwrap().len()), (3, 2));
    }
}
