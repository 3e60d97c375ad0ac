//! What was measured, as a table for people and as JSON for programs.

use std::time::Duration;

use serde_json::json;

use super::options::Row;

/// The medians of a row.
#[derive(Debug)]
pub struct Figure {
    /// Which row.
    pub row: Row,
    /// Windlass.
    pub ours: Duration,
    /// Its peer, where there is one.
    pub peer: Option<Duration>,
    /// What the machine itself allows.
    pub limit: Option<Duration>,
    /// Job: until its container was gone as well.
    pub gone: Option<Duration>,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        Some(self.peer?.as_secs_f64() / self.ours.as_secs_f64())
    }

    /// The goal in words, and whether it is met.
    fn goal(&self) -> (&'static str, bool) {
        let ratio = self.ratio().unwrap_or_default();
        match self.row {
            Row::Stage => ("at least 20", ratio >= 20.0),
            Row::Job => ("at least 3", ratio >= 3.0),
            Row::Log => {
                let near = self.limit.is_some_and(|limit| self.ours.as_secs_f64() <= limit.as_secs_f64() * 1.5);
                ("at least 2; ours <= 1.5 limit", ratio >= 2.0 && near)
            }
            // Rootless, podman copies the image's layers for the map.
            Row::First => ("none", true),
            Row::Prepare | Row::Lanes(_) => ("ours <= 1.3 peer", ratio >= 1.0 / 1.3),
            Row::Reconcile => ("below 50 ms", self.ours < Duration::from_millis(50)),
        }
    }
}

/// The median; of an even number, the mean of the two in the middle.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    match times.len() {
        0 => Duration::ZERO,
        count if count % 2 == 1 => times[count / 2],
        count => (times[count / 2 - 1] + times[count / 2]) / 2,
    }
}

/// One object, without line end. All times are seconds.
pub fn json(figure: &Figure) -> String {
    let round = |value: f64| (value * 1e6).round() / 1e6;
    let mut object = json!({
        "row": figure.row.name(),
        "ours": round(figure.ours.as_secs_f64()),
        "unit": "s",
    });
    if let (Some(peer), Some(ratio)) = (figure.peer, figure.ratio()) {
        (object["peer"], object["ratio"]) = (json!(round(peer.as_secs_f64())), json!(round(ratio)));
    }
    if let Some(limit) = figure.limit {
        object["limit"] = json!(round(limit.as_secs_f64()));
    }
    object.to_string()
}

/// The table, with line ends.
pub fn table(figures: &[Figure]) -> String {
    let mut lines = vec![format!(
        "{:<9} {:>10} {:>10} {:>10} {:>10}  {:<30} {}",
        "row", "ours", "peer", "limit", "peer/ours", "goal", "met"
    )];
    for figure in figures {
        let (goal, met) = figure.goal();
        let or_none = |given: Option<Duration>| given.map_or_else(|| "-".to_owned(), time);
        let (ours, peer, limit) = (time(figure.ours), or_none(figure.peer), or_none(figure.limit));
        let ratio = figure.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let met = if met { "yes" } else { "no" };
        lines.push(format!("{:<9} {ours:>10} {peer:>10} {limit:>10} {ratio:>10}  {goal:<30} {met}", figure.row.name()));
    }
    for figure in figures {
        if let (Some(gone), Some(peer)) = (figure.gone, figure.peer) {
            lines.push(format!(
                "job: cleanup returns before the container is removed; until it was gone: {} (peer/ours {:.2})",
                time(gone),
                peer.as_secs_f64() / gone.as_secs_f64()
            ));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}
