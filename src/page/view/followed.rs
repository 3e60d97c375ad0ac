//! Which pipelines are the last rebuild: what followed from what, by what each start was made for. No clock has a say in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::chain::facts::{ProjectId, Time, Upstream};
use crate::store::StartRow;

/// A pipeline of a rebuild.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// When GitLab was asked for it, by the host's clock; none: the chain has not started it.
    pub asked_at: Option<Time>,
    /// Why; none: the chain has not started it.
    pub reason: Option<String>,
    /// When it succeeded, by GitLab's clock, as those say that were started for that.
    pub success_at: Option<Time>,
}

/// The pipelines of a rebuild, by project and id.
pub type Links = BTreeMap<(ProjectId, i64), Link>;

/// A success: of what, and which.
type Node = (Upstream, i64);

/// The last rebuild: back from what was started last to where that began, and on to all that followed from there. `starts` have a pipeline,
/// and the newest comes first. Empty where there are none.
#[must_use]
pub fn followed(starts: &[StartRow]) -> Links {
    let mut causes: BTreeMap<Node, Vec<(Node, Time)>> = BTreeMap::new();
    let mut rows: BTreeMap<Node, &StartRow> = BTreeMap::new();
    let mut effects: BTreeMap<Node, Vec<Node>> = BTreeMap::new();
    for start in starts {
        let Some(pipeline) = start.pipeline else { continue };
        let node = (Upstream::Project(start.project), pipeline);
        let of = start.causes.iter().flatten().map(|(upstream, success)| ((upstream.clone(), success.id), success.at));
        let of: Vec<(Node, Time)> = of.collect();
        for (cause, _) in &of {
            effects.entry(cause.clone()).or_default().push(node.clone());
        }
        causes.insert(node.clone(), of);
        rows.insert(node, start);
    }
    let Some(last) = starts.iter().find_map(|start| Some((Upstream::Project(start.project), start.pipeline?))) else {
        return Links::new();
    };
    let back = closure([last], |node| causes.get(node).into_iter().flatten().map(|(cause, _)| cause.clone()).collect());
    let roots = back.into_iter().filter(|node| causes.get(node).is_none_or(Vec::is_empty));
    let all = closure(roots, |node| effects.get(node).cloned().unwrap_or_default());
    let mut links = Links::new();
    for (upstream, id) in &all {
        // An image from elsewhere has no pipeline.
        let Upstream::Project(project) = upstream else { continue };
        let row = rows.get(&(upstream.clone(), *id));
        let link = links.entry((*project, *id)).or_default();
        (link.asked_at, link.reason) = (row.map(|row| row.at), row.map(|row| row.reason.clone()));
    }
    for (cause, at) in all.iter().filter_map(|node| causes.get(node)).flatten() {
        if let (Upstream::Project(project), id) = cause
            && let Some(link) = links.get_mut(&(*project, *id))
        {
            link.success_at = Some(*at);
        }
    }
    links
}

/// All that is reached, the starts included.
fn closure(starts: impl IntoIterator<Item = Node>, next: impl Fn(&Node) -> Vec<Node>) -> BTreeSet<Node> {
    let mut found: BTreeSet<Node> = starts.into_iter().collect();
    let mut queue: Vec<Node> = found.iter().cloned().collect();
    while let Some(at) = queue.pop() {
        queue.extend(next(&at).into_iter().filter(|there| found.insert(there.clone())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::start;
    use super::*;
    use crate::chain::facts::Success;

    fn pipelines(starts: &[StartRow]) -> Vec<i64> {
        followed(starts).into_keys().map(|(_, pipeline)| pipeline).collect()
    }

    #[test]
    fn what_followed_from_one_base_build_is_one_rebuild_and_an_older_one_is_another() {
        // ruby is built for an older base, then ruby and node for a newer, and app for both.
        let starts = [
            start(4, 14, &[(2, 12), (3, 13)]),
            start(3, 13, &[(1, 11)]),
            start(2, 12, &[(1, 11)]),
            start(2, 2, &[(1, 1)]),
        ];
        assert_eq!(pipelines(&starts), [11, 12, 13, 14]);
        assert_eq!(pipelines(&starts[3..]), [1, 2]);
        let links = followed(&starts);
        assert_eq!(
            (links[&(1, 11)].reason.as_deref(), links[&(4, 14)].reason.as_deref()),
            (None, Some("something succeeded"))
        );
        assert_eq!((links[&(1, 11)].success_at.is_some(), links[&(4, 14)].success_at), (true, None));
    }

    #[test]
    fn what_an_image_from_elsewhere_has_moved_is_one_rebuild() {
        let debian = |project, pipeline, of| {
            let success = Success { id: of, at: 0 };
            let causes = BTreeMap::from([(Upstream::Image("debian".into()), success)]);
            StartRow { causes: Some(causes), ..start(project, pipeline, &[]) }
        };
        assert_eq!(pipelines(&[debian(2, 12, 7), debian(1, 11, 7), debian(1, 1, 6)]), [11, 12]);
    }

    #[test]
    fn a_start_whose_causes_nobody_knows_stands_alone() {
        let old = |project, pipeline| StartRow { causes: None, ..start(project, pipeline, &[]) };
        assert_eq!(pipelines(&[old(2, 12), old(1, 11)]), [12]);
        assert!(pipelines(&[]).is_empty());
    }
}
