//! States as people see them: a glyph, a word and a class, so that colour alone says nothing.

/// How a state looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// One sign.
    pub glyph: &'static str,
    /// One or two words.
    pub word: &'static str,
    /// The class of the style sheet.
    pub class: &'static str,
}

const fn look(glyph: &'static str, word: &'static str, class: &'static str) -> Look {
    Look { glyph, word, class }
}

/// How a project's state looks.
#[must_use]
pub fn of_project(state: &str) -> Look {
    match state {
        "fresh" => look("✓", "fresh", "good"),
        "running" => look("▶", "running", "busy"),
        "starting" => look("▶", "starting", "busy"),
        "due" => look("○", "due", "soon"),
        "settling" => look("○", "due soon", "soon"),
        "waits" => look("○", "waits", "soon"),
        "held" => look("‖", "held back", "soon"),
        "paused" => look("‖", "paused", "soon"),
        "retries" => look("↻", "tries again", "warn"),
        "failed" => look("✕", "failed", "bad"),
        "gave-up" => look("✕", "given up", "bad"),
        "refused" => look("✕", "refused", "bad"),
        "cycle" => look("✕", "on a cycle", "bad"),
        "blocked" => look("◆", "blocked", "warn"),
        "manual" => look("◆", "manual job", "warn"),
        "canceled" => look("–", "canceled", "warn"),
        "skipped" => look("–", "skipped", "warn"),
        "never-built" => look("–", "never built", "warn"),
        _ => look("?", "unknown", "warn"),
    }
}

/// How an image looks that was built on an old base: a mark beside the state, since it was built all the same.
pub const ON_OLD_BASE: Look = look("◆", "on an old base", "warn");

/// How a project looks with which something is wrong: a mark beside the state, too.
pub const WRONG: Look = look("!", "something is wrong", "bad");

/// How a lease's state looks.
#[must_use]
pub fn of_lease(state: &str) -> Look {
    match state {
        "running" => look("▶", "running", "busy"),
        "preparing" => look("▶", "preparing", "busy"),
        "leased" => look("○", "begins", "soon"),
        "ready" => look("○", "between stages", "soon"),
        "ending" => look("–", "ends", "soon"),
        _ => look("○", "waits", "soon"),
    }
}

/// How a hold's state looks.
#[must_use]
pub fn of_hold(state: &str) -> Look {
    match state {
        "failed" => look("✕", "failed, ends", "bad"),
        _ => look("‖", "held", "warn"),
    }
}

/// How the outcome of a pipeline or job looks.
#[must_use]
pub fn of_outcome(outcome: &str) -> Look {
    match outcome {
        "success" => look("✓", "succeeded", "good"),
        "running" => look("▶", "running", "busy"),
        "failed" => look("✕", "failed", "bad"),
        "canceled" => look("–", "canceled", "warn"),
        "skipped" => look("–", "skipped", "warn"),
        "timeout" => look("◔", "timeout", "bad"),
        "system-failure" => look("!", "system failure", "bad"),
        "runner-gone" => look("∅", "runner gone", "warn"),
        "manual" => look("◆", "manual job", "warn"),
        _ => look("?", "unknown", "warn"),
    }
}

/// The end of a long text: the end of a path says more than its beginning. Whole where it fits.
#[must_use]
pub fn end_of(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    format!("…{}", text.chars().skip(count + 1 - most).collect::<String>())
}

/// Bytes in the unit that fits.
#[must_use]
pub fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::protocol::history::JobOutcome;

    #[test]
    fn every_state_of_the_controller_has_a_look() {
        for state in [
            "fresh",
            "running",
            "failed",
            "canceled",
            "skipped",
            "manual",
            "never-built",
            "waits",
            "blocked",
            "due",
            "starting",
            "settling",
            "held",
            "paused",
            "refused",
            "retries",
            "gave-up",
            "cycle",
        ] {
            assert_ne!(of_project(state).word, "unknown", "{state}");
        }
    }

    #[test]
    fn every_outcome_of_a_job_has_a_sign_and_a_word_of_its_own() {
        let looks = JobOutcome::ALL.map(|outcome| of_outcome(outcome.word()));
        let different = |of: fn(&Look) -> &'static str| looks.iter().map(of).collect::<BTreeSet<_>>().len();
        assert_eq!(
            (different(|look| look.glyph), different(|look| look.word)),
            (looks.len(), looks.len()),
            "{looks:?}"
        );
        assert!(looks.iter().all(|look| look.word != "unknown"), "{looks:?}");
    }

    #[test]
    fn the_end_of_a_long_path_stays() {
        assert_eq!((end_of("images/app", 10), end_of("images/appli", 8)), ("images/app".into(), "…s/appli".into()));
    }
}
