//! Figures of images: how old they are, and what they were built on.

use super::Controller;
use crate::chain::age::Verdict;
use crate::chain::facts::Time;

/// Images by what there is to say of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageCounts {
    /// External images that have moved in time.
    pub ok: usize,
    /// External images that have not moved for too long.
    pub stale: usize,
    /// External images that are not known for long enough to say.
    pub too_young: usize,
    /// External images whose registry does not answer.
    pub failing: usize,
    /// External images, and how many seconds ago each moved, or was seen first where it has not.
    pub ages: Vec<(String, u64)>,
    /// Projects whose image was not built for too long.
    pub own_stale: usize,
    /// Projects whose last success was built on what its base was then.
    pub on_new_base: usize,
    /// Projects whose last success was built on an old base.
    pub on_old_base: usize,
    /// Projects of which that is not known.
    pub on_unknown_base: usize,
}

impl Controller {
    /// The longest that an image may go without moving or being built, in milliseconds.
    pub(super) fn max_age(&self) -> Time {
        Time::try_from(self.settings.audit.max_age.as_millis()).unwrap_or(Time::MAX)
    }

    /// The figures of images now.
    #[must_use]
    pub fn image_counts(&self) -> ImageCounts {
        let watched = self.watched();
        let (now, max_age) = (self.gitlab.now(), self.max_age());
        let state = self.state();
        let mut counts = ImageCounts::default();
        for (name, look) in state.looks.iter().filter(|(name, _)| watched.contains(*name)) {
            counts.failing += usize::from(look.error.is_some());
            if look.seen.is_none() {
                continue;
            }
            match look.moves.verdict(now, max_age) {
                Verdict::Ok => counts.ok += 1,
                Verdict::Stale => counts.stale += 1,
                Verdict::TooYoung => counts.too_young += 1,
            }
            counts.ages.push((name.clone(), u64::try_from(look.moves.age(now) / 1000).unwrap_or(0)));
        }
        for (id, project) in &state.facts.projects {
            counts.own_stale += usize::from(project.success.is_some_and(|success| now - success.at > max_age));
            match state.built.get(id).and_then(|built| built.on_new) {
                Some(true) => counts.on_new_base += 1,
                Some(false) => counts.on_old_base += 1,
                None => counts.on_unknown_base += 1,
            }
        }
        counts
    }
}
