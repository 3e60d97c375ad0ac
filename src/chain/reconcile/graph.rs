//! What builds on what, for one pass: an order, cycles, and who is in whose way.

use std::collections::{HashMap, VecDeque};

use super::Verdict;
use crate::chain::facts::{Facts, Project, ProjectId, Upstream};

/// The projects as numbers, and how they depend on each other.
pub(super) struct Graph<'a> {
    pub(super) ids: Vec<ProjectId>,
    pub(super) projects: Vec<&'a Project>,
    /// By project, those that it builds on; without pinned ones, and without those that nobody knows.
    upstreams: Vec<Vec<usize>>,
    /// Every project behind all that it builds on, as far as that is possible.
    pub(super) order: Vec<usize>,
    /// For each that builds on itself, the way.
    pub(super) cycles: Vec<Option<Vec<usize>>>,
}

impl<'a> Graph<'a> {
    pub(super) fn of(facts: &'a Facts) -> Self {
        let ids: Vec<ProjectId> = facts.projects.keys().copied().collect();
        let projects: Vec<&Project> = facts.projects.values().collect();
        let numbers: HashMap<ProjectId, usize> = ids.iter().enumerate().map(|(number, id)| (*id, number)).collect();
        let upstreams: Vec<Vec<usize>> = projects
            .iter()
            .map(|project| {
                let edges = project.edges.iter().filter(|edge| !edge.pinned);
                let known = edges.filter_map(|edge| match &edge.upstream {
                    Upstream::Project(id) => numbers.get(id).copied(),
                    Upstream::Image(_) => None,
                });
                known.collect()
            })
            .collect();
        let (order, left) = order(&upstreams);
        let mut graph = Self { cycles: vec![None; ids.len()], ids, projects, upstreams, order };
        // What is left is on a cycle, or behind one.
        for &node in &left {
            graph.cycles[node] = graph.way_to_itself(node);
        }
        let free = left.iter().filter(|node| graph.cycles[**node].is_none()).count();
        if free > 0 {
            // Without the edges into cycles, the rest has an order.
            let mut without = graph.upstreams.clone();
            for (node, upstreams) in without.iter_mut().enumerate() {
                if graph.cycles[node].is_some() {
                    upstreams.clear();
                }
            }
            graph.order = self::order(&without).0;
        } else {
            graph.order.extend(left);
        }
        graph
    }

    fn verdicts_of<'b>(&self, node: usize, verdicts: &'b [Verdict]) -> impl Iterator<Item = (ProjectId, &'b Verdict)> {
        self.upstreams[node].iter().map(|upstream| (self.ids[*upstream], &verdicts[*upstream]))
    }

    /// The nearest that is in the way: one that failed itself before one that is blocked. `needs` says whether what has never been built
    /// is in the way.
    pub(super) fn blocker(&self, node: usize, verdicts: &[Verdict], needs: bool) -> Option<ProjectId> {
        let broken = self.verdicts_of(node, verdicts).filter_map(|(id, verdict)| match verdict {
            Verdict::Broken(by) => Some((*by != id, *by)),
            Verdict::Missing(by) if needs => Some((*by != id, *by)),
            _ => None,
        });
        broken.min().map(|(_, by)| by)
    }

    /// Those that are on their way.
    pub(super) fn not_yet(&self, node: usize, verdicts: &[Verdict]) -> Vec<ProjectId> {
        self.verdicts_of(node, verdicts).filter(|(_, verdict)| **verdict == Verdict::NotYet).map(|(id, _)| id).collect()
    }

    /// The shortest way from a project over what it builds on back to itself.
    fn way_to_itself(&self, from: usize) -> Option<Vec<usize>> {
        let mut before: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for &upstream in &self.upstreams[node] {
                if upstream == from {
                    let mut path = vec![from, node];
                    let mut at = node;
                    while at != from {
                        at = *before.get(&at)?;
                        path.push(at);
                    }
                    path.dedup();
                    path.reverse();
                    if path.len() == 1 {
                        path.push(from);
                    }
                    return Some(path);
                }
                if upstream != from && !before.contains_key(&upstream) {
                    before.insert(upstream, node);
                    queue.push_back(upstream);
                }
            }
        }
        None
    }
}

/// An order in which each comes behind all that it builds on; and those for which there is none.
fn order(upstreams: &[Vec<usize>]) -> (Vec<usize>, Vec<usize>) {
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); upstreams.len()];
    let mut missing: Vec<usize> = upstreams.iter().map(Vec::len).collect();
    for (node, of_node) in upstreams.iter().enumerate() {
        for &upstream in of_node {
            dependents[upstream].push(node);
        }
    }
    let mut ready: VecDeque<usize> = (0..upstreams.len()).filter(|node| missing[*node] == 0).collect();
    let mut order = Vec::with_capacity(upstreams.len());
    while let Some(node) = ready.pop_front() {
        order.push(node);
        for &dependent in &dependents[node] {
            missing[dependent] -= 1;
            if missing[dependent] == 0 {
                ready.push_back(dependent);
            }
        }
    }
    let left = (0..upstreams.len()).filter(|node| missing[*node] > 0).collect();
    (order, left)
}
