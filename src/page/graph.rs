//! A part of the chain as nodes and edges: the whole of it, what is around a project, or what is not fresh.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::protocol::chain::{ChainStatus, ProjectLine};

/// An edge, from what is built on to what builds on it; whether a digest says which.
pub type Edge = (i64, i64, bool);

/// Projects, and the edges among them.
#[derive(Debug, Clone)]
pub struct Graph<'a> {
    /// By id.
    pub nodes: BTreeMap<i64, &'a ProjectLine>,
    /// In order.
    pub edges: BTreeSet<Edge>,
}

impl<'a> Graph<'a> {
    /// The whole chain.
    #[must_use]
    pub fn of(status: &'a ChainStatus) -> Self {
        let nodes: BTreeMap<i64, &ProjectLine> = status.projects.iter().map(|project| (project.id, project)).collect();
        let mut edges = BTreeSet::new();
        for project in &status.projects {
            let known = project.upstreams.iter().filter_map(|edge| Some((edge.project?, project.id, edge.pinned)));
            edges.extend(known.filter(|(from, ..)| nodes.contains_key(from)));
        }
        Self { nodes, edges }
    }

    /// A project, all that it builds on, and all that builds on it; of these the nearest `most`. What it builds on itself comes first, and
    /// `blocker`, which is in its way.
    #[must_use]
    pub fn around(&self, middle: i64, most: usize, blocker: Option<i64>) -> Self {
        let mut distances = BTreeMap::from([(middle, 0)]);
        for downwards in [false, true] {
            let mut next: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
            for (from, to, _) in &self.edges {
                let (here, there) = if downwards { (from, to) } else { (to, from) };
                next.entry(*here).or_default().push(*there);
            }
            let mut seen = BTreeSet::from([middle]);
            let mut queue = VecDeque::from([(middle, 0)]);
            while let Some((at, distance)) = queue.pop_front() {
                for there in next.get(&at).into_iter().flatten().filter(|there| seen.insert(**there)) {
                    let shortest = distances.entry(*there).or_insert(distance + 1);
                    *shortest = (*shortest).min(distance + 1);
                    queue.push_back((*there, distance + 1));
                }
            }
        }
        let upstreams: BTreeSet<i64> =
            self.edges.iter().filter(|(_, to, _)| *to == middle).map(|(from, ..)| *from).collect();
        let rank = |id: i64| match () {
            () if id == middle => 0,
            () if blocker == Some(id) => 1,
            () if upstreams.contains(&id) => 2,
            () => 3,
        };
        let mut nearest: Vec<(i32, i32, i64)> =
            distances.into_iter().map(|(id, distance)| (rank(id), distance, id)).collect();
        nearest.sort_unstable();
        let chosen: BTreeSet<i64> = nearest.into_iter().take(most).map(|(.., id)| id).collect();
        self.among(|project| chosen.contains(&project.id))
    }

    /// The projects that fit, and the edges among them.
    #[must_use]
    pub fn among(&self, fits: impl Fn(&ProjectLine) -> bool) -> Self {
        let fit = self.nodes.iter().filter(|(_, project)| fits(project));
        let nodes: BTreeMap<i64, &ProjectLine> = fit.map(|(id, project)| (*id, *project)).collect();
        let inside = |(from, to, _): &&Edge| nodes.contains_key(from) && nodes.contains_key(to);
        let edges = self.edges.iter().filter(inside).copied().collect();
        Self { nodes, edges }
    }

    /// What builds on a project itself, by path.
    #[must_use]
    pub fn downstreams(&self, id: i64) -> Vec<&'a ProjectLine> {
        let below = self.edges.iter().filter(|(from, ..)| *from == id);
        let mut found: Vec<&ProjectLine> = below.filter_map(|(_, to, _)| self.nodes.get(to).copied()).collect();
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found
    }
}

/// A chain for tests: base, ruby and node on it, app on both, and `other` on nothing.
#[cfg(test)]
pub(crate) fn diamond() -> ChainStatus {
    use crate::protocol::chain::EdgeLine;
    let project = |id: i64, path: &str, state: &str, on: &[i64]| ProjectLine {
        id,
        path: path.to_owned(),
        web_url: format!("https://gitlab.example.com/{path}"),
        state: state.into(),
        words: state.into(),
        since: "2026-01-01T00:00:00Z".into(),
        upstreams: on
            .iter()
            .map(|id| EdgeLine { name: id.to_string(), project: Some(*id), ..EdgeLine::default() })
            .collect(),
        ..ProjectLine::default()
    };
    let projects = vec![
        project(1, "images/base", "fresh", &[]),
        project(2, "images/ruby", "running", &[1]),
        project(3, "images/node", "fresh", &[1]),
        project(4, "images/app", "waits", &[2, 3]),
        project(5, "images/other", "fresh", &[]),
    ];
    ChainStatus { projects, gitlab: "https://gitlab.example.com/".into(), ..ChainStatus::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn around_a_project_is_what_it_builds_on_and_what_builds_on_it_and_nothing_beside_it() {
        let status = diamond();
        let around = Graph::of(&status).around(2, 100, None);
        assert_eq!(around.nodes.keys().copied().collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(around.edges.len(), 2);
        let nearest = Graph::of(&status).around(1, 3, None);
        assert_eq!(nearest.nodes.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn what_a_project_builds_on_and_who_blocks_it_are_around_it_however_much_builds_on_it() {
        let mut status = diamond();
        let like = status.projects[3].clone();
        // Many others, whose ids come first, build on app; base, at two steps, is in its way.
        status.projects.extend((-200..0).map(|id| {
            let on = crate::protocol::chain::EdgeLine { project: Some(4), ..Default::default() };
            ProjectLine { id, path: format!("x/{id}"), upstreams: vec![on], ..like.clone() }
        }));
        let around = Graph::of(&status).around(4, 4, Some(1));
        assert_eq!(around.nodes.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(Graph::of(&status).around(4, 120, None).nodes.len(), 120);
    }

    #[test]
    fn downstreams_are_the_next_ones_alone() {
        let status = diamond();
        let paths =
            |id| Graph::of(&status).downstreams(id).iter().map(|project| project.path.clone()).collect::<Vec<_>>();
        assert_eq!((paths(1), paths(4)), (vec!["images/node".to_owned(), "images/ruby".to_owned()], vec![]));
    }
}
