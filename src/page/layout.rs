//! Where the nodes of a graph are drawn, from left to right. The library's time grows fast with the graph (200 nodes: tens of
//! milliseconds, 1,000: seconds), so callers bound the graph, and keep what was computed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rust_sugiyama::configure::{Config, RankingType};

/// Width of a node, in pixels.
pub const WIDTH: f64 = 196.0;
/// Height of a node, in pixels.
pub const HEIGHT: f64 = 46.0;
/// Pixels between two columns.
const BETWEEN_COLUMNS: f64 = 64.0;
/// Pixels between two nodes of a column.
const BETWEEN_ROWS: f64 = 14.0;
/// Pixels around everything: room for the frame of what has the focus.
const MARGIN: f64 = 6.0;

/// Where everything is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layout {
    /// In pixels.
    pub width: f64,
    /// In pixels.
    pub height: f64,
    /// Left and upper edge of each node.
    pub at: BTreeMap<i64, (f64, f64)>,
}

/// Lays out nodes and edges (from, to). Cycles are no hindrance; an edge of a node to itself is ignored.
#[must_use]
pub fn layout(nodes: &BTreeSet<i64>, edges: &BTreeSet<(i64, i64)>) -> Layout {
    let is_known = |(from, to): &&(i64, i64)| from != to && nodes.contains(from) && nodes.contains(to);
    let known: Vec<(i64, i64)> = edges.iter().filter(is_known).copied().collect();
    let linked: BTreeSet<i64> = known.iter().flat_map(|(from, to)| [*from, *to]).collect();
    // Without gaps: the library answers with a node's place in the list, whatever its number is.
    let ids: Vec<i64> = linked.iter().copied().collect();
    let numbers: BTreeMap<i64, u32> = (0_u32..).zip(&linked).map(|(number, id)| (*id, number)).collect();
    let pairs: Vec<(u32, u32)> =
        known.iter().filter_map(|(from, to)| Some((*numbers.get(from)?, *numbers.get(to)?))).collect();
    let sizes: Vec<(u32, (f64, f64))> = numbers.values().map(|number| (*number, (HEIGHT, WIDTH))).collect();
    // Each node as far to the left as its upstreams let it: its column is the round in which it is rebuilt. The library's default
    // ranking goes round for ever with one cyclic graph in some thousands (0.4.0: its network simplex takes the first edge with a
    // negative cut value, which cycles).
    let config = Config { vertex_spacing: BETWEEN_ROWS, ranking_type: RankingType::Up, ..Config::default() };
    // A picture is not worth the page: where the library has no answer, columns are.
    let parts = catch_unwind(AssertUnwindSafe(|| rust_sugiyama::from_vertices_and_edges(&sizes, &pairs, &config)));
    let mut place = Place::default();
    match parts {
        Ok(parts) => {
            for (part, _, _) in parts {
                let part: Vec<(usize, f64, f64)> = part.into_iter().map(|(number, (x, y))| (number, x, y)).collect();
                place.add(&ids, &part);
            }
        }
        Err(_) => place.alone(linked.iter().copied()),
    }
    place.alone(nodes.difference(&linked).copied());
    place.finish()
}

/// Parts of a graph, one below the other.
#[derive(Debug, Default)]
struct Place {
    layout: Layout,
}

impl Place {
    /// A connected part as the library has it: downwards, the position of a node's middle.
    fn add(&mut self, ids: &[i64], part: &[(usize, f64, f64)]) {
        // Rows of the library are columns here, of equal distance whatever it chose.
        let mut rows: Vec<i64> = part.iter().map(|(_, _, y)| rounded(*y)).collect();
        rows.sort_unstable();
        rows.dedup();
        let left = part.iter().map(|(_, x, _)| *x).fold(f64::INFINITY, f64::min);
        let top = self.next_top();
        for (number, x, y) in part {
            let Some(id) = ids.get(*number) else { continue };
            let column = rows.binary_search(&rounded(*y)).unwrap_or(0);
            self.put(*id, column, top + (x - left));
        }
    }

    /// Nodes that nothing leads to or from, side by side.
    fn alone(&mut self, ids: impl Iterator<Item = i64>) {
        const COLUMNS: usize = 4;
        let top = self.next_top();
        for (index, id) in ids.enumerate() {
            #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
            let row = (index / COLUMNS) as f64;
            self.put(id, index % COLUMNS, top + row * (HEIGHT + BETWEEN_ROWS));
        }
    }

    fn next_top(&self) -> f64 {
        if self.layout.at.is_empty() { MARGIN } else { self.layout.height + BETWEEN_ROWS }
    }

    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    fn put(&mut self, id: i64, column: usize, y: f64) {
        let x = MARGIN + column as f64 * (WIDTH + BETWEEN_COLUMNS);
        self.layout.at.insert(id, (x, y));
        self.layout.width = self.layout.width.max(x + WIDTH);
        self.layout.height = self.layout.height.max(y + HEIGHT);
    }

    fn finish(mut self) -> Layout {
        self.layout.width += MARGIN;
        self.layout.height += MARGIN;
        self.layout
    }
}

#[allow(clippy::cast_possible_truncation, reason = "pixels")]
fn rounded(pixels: f64) -> i64 {
    pixels.round() as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(nodes: &[i64], edges: &[(i64, i64)]) -> Layout {
        layout(&nodes.iter().copied().collect(), &edges.iter().copied().collect())
    }

    #[test]
    fn what_builds_on_something_is_to_the_right_of_it() {
        let found = of(&[1, 2, 3, 4, 5], &[(1, 2), (1, 3), (2, 4), (3, 4)]);
        let x = |id: i64| found.at[&id].0;
        assert!(x(1) < x(2) && x(2) < x(4) && (x(2) - x(3)).abs() < 1.0, "{found:?}");
        assert!(found.at[&5].1 > found.at[&4].1, "{found:?}");
    }

    #[test]
    fn who_stands_alone_moves_nobody_else() {
        let found = of(&[1, 2, 3, 4], &[(1, 3), (3, 4)]);
        let x = |id: i64| found.at[&id].0;
        assert!(x(1) < x(3) && x(3) < x(4) && found.at.len() == 4, "{found:?}");
    }

    /// As `layout`, with an end: a library that went round for ever would hold up every test after this one.
    fn in_time(nodes: &BTreeSet<i64>, edges: &BTreeSet<(i64, i64)>) -> Layout {
        let (done, found) = std::sync::mpsc::channel();
        let (for_thread, and_edges) = (nodes.clone(), edges.clone());
        std::thread::spawn(move || done.send(layout(&for_thread, &and_edges)));
        found.recv_timeout(std::time::Duration::from_secs(60)).unwrap_or_else(|error| panic!("{error}: {edges:?}"))
    }

    #[test]
    fn cycles_do_not_go_round_for_ever() {
        // Graphs with which the library's default ranking did.
        let known: [&[(i64, i64)]; 2] = [
            &[
                (0, 3),
                (0, 9),
                (1, 4),
                (1, 11),
                (2, 12),
                (4, 12),
                (5, 3),
                (5, 10),
                (6, 13),
                (8, 4),
                (8, 6),
                (10, 11),
                (11, 12),
                (12, 11),
                (13, 10),
            ],
            &[
                (0, 5),
                (2, 3),
                (2, 9),
                (2, 10),
                (3, 1),
                (4, 6),
                (4, 8),
                (4, 12),
                (5, 9),
                (6, 1),
                (7, 0),
                (7, 6),
                (9, 2),
                (9, 8),
                (10, 2),
                (10, 12),
                (11, 12),
                (12, 4),
            ],
        ];
        for edges in known {
            let found = in_time(&(0..14).collect(), &edges.iter().copied().collect());
            assert_eq!(found.at.len(), 14, "{found:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn without_cycles_every_edge_leads_to_the_right(edges in proptest::collection::btree_set((0_i64..14, 0_i64..14), 0..30)) {
            let forward: BTreeSet<(i64, i64)> = edges.iter().map(|(one, other)| (*one.min(other), *one.max(other))).collect();
            // Numbers that say nothing of the order.
            let mixed: BTreeSet<(i64, i64)> = forward.iter().map(|(from, to)| (from * 5 % 14, to * 5 % 14)).collect();
            let found = in_time(&(0..14).collect(), &mixed);
            for (from, to) in mixed.iter().filter(|(from, to)| from != to) {
                prop_assert!(found.at[from].0 + WIDTH <= found.at[to].0, "{from} to {to}: {found:?}");
            }
        }

        #[test]
        fn every_graph_is_laid_out_and_no_node_covers_another(edges in proptest::collection::btree_set((0_i64..14, 0_i64..14), 0..30)) {
            let nodes: BTreeSet<i64> = (0..14).collect();
            let found = in_time(&nodes, &edges);
            prop_assert_eq!(found.at.len(), 14);
            for (one, (x, y)) in &found.at {
                prop_assert!(*x >= 0.0 && *y >= 0.0 && x + WIDTH <= found.width && y + HEIGHT <= found.height);
                for (other, (other_x, other_y)) in &found.at {
                    let apart = (x - other_x).abs() >= WIDTH || (y - other_y).abs() >= HEIGHT;
                    prop_assert!(one == other || apart, "{one} and {other}: {found:?}");
                }
            }
        }
    }
}
