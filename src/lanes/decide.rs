//! What a purge removes: a pure function of a listing and the rules.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::Share;

/// Something that may be removed, or may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Whose it is, for the cap of a project; none for what belongs to no project.
    pub project: Option<String>,
    /// Whether it is a lane; otherwise an image.
    pub lane: bool,
    /// The file system that it is on, as an index of the disks.
    pub disk: usize,
    /// Bytes that its removal gives back, as far as known.
    pub bytes: u64,
    /// Inodes that its removal gives back, as far as known.
    pub inodes: u64,
    /// Seconds since a job used it.
    pub age: u64,
    /// Why it stays whatever the rules say.
    pub stays: Option<Stays>,
}

/// Why something stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// A job or a container uses it.
    InUse,
    /// The configuration pins it.
    Pinned,
    /// It is not Windlass's.
    Foreign,
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "in use",
            Self::Pinned => "pinned",
            Self::Foreign => "not ours",
        })
    }
}

/// A file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    /// Its bytes.
    pub bytes: u64,
    /// Bytes free, or on their way to be.
    pub free_bytes: u64,
    /// Its inodes; 0 where it has no bound of them.
    pub inodes: u64,
    /// Inodes free, or on their way to be.
    pub free_inodes: u64,
}

/// The rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Seconds that a lane may be unused.
    pub max_age: Option<u64>,
    /// Seconds that an image may be unused.
    pub image_max_age: Option<u64>,
    /// Bytes of all lanes together.
    pub max_size: Option<u64>,
    /// Bytes of one project's lanes.
    pub project_max_size: Option<u64>,
    /// What is to be free.
    pub min_free: Option<Share>,
    /// Inodes that are to be free.
    pub min_free_inodes: Option<Share>,
}

/// The rule by which something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Unused for longer than `max_age`.
    MaxAge,
    /// An image unused for longer than `image_max_age`.
    ImageMaxAge,
    /// The project has more than `project_max_size`.
    ProjectMaxSize,
    /// All lanes have more than `max_size`.
    MaxSize,
    /// Less than `min_free` is free.
    MinFree,
    /// Less than `min_free_inodes` is free.
    MinFreeInodes,
    /// The administrator asked for it.
    Asked,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Rule {
    /// As the configuration calls it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::MaxAge => "max_age",
            Self::ImageMaxAge => "image_max_age",
            Self::ProjectMaxSize => "project_max_size",
            Self::MaxSize => "max_size",
            Self::MinFree => "min_free",
            Self::MinFreeInodes => "min_free_inodes",
            Self::Asked => "asked for",
        }
    }
}

/// What goes, by its index in the listing, and by which rule; least recently used first within each rule.
///
/// Nothing goes that stays whatever the rules say, and nothing for a limit that holds without it.
#[must_use]
pub fn decide(items: &[Item], disks: &[Disk], rules: &Rules) -> Vec<(usize, Rule)> {
    let mut order: Vec<usize> = (0..items.len()).filter(|index| items[*index].stays.is_none()).collect();
    // Of equal age, those listed first: two decisions on one listing are the same.
    order.sort_by_key(|index| (std::cmp::Reverse(items[*index].age), *index));
    let mut chosen = Chosen { items, gone: vec![false; items.len()], list: Vec::new() };
    for index in &order {
        let item = &items[*index];
        let (most, rule) =
            if item.lane { (rules.max_age, Rule::MaxAge) } else { (rules.image_max_age, Rule::ImageMaxAge) };
        if most.is_some_and(|most| item.age > most) {
            chosen.add(*index, rule);
        }
    }
    if let Some(most) = rules.project_max_size {
        let mut left: BTreeMap<&str, u64> = BTreeMap::new();
        for (index, item) in items.iter().enumerate().filter(|(_, item)| item.lane) {
            if let (Some(project), false) = (&item.project, chosen.gone[index]) {
                *left.entry(project).or_default() += item.bytes;
            }
        }
        for index in &order {
            let item = &items[*index];
            let sum = item.project.as_deref().filter(|_| item.lane).and_then(|project| left.get_mut(project));
            if let Some(sum) = sum
                && *sum > most
                && item.bytes > 0
                && chosen.add(*index, Rule::ProjectMaxSize)
            {
                *sum -= item.bytes;
            }
        }
    }
    if let Some(most) = rules.max_size {
        let lanes = items.iter().enumerate().filter(|(index, item)| item.lane && !chosen.gone[*index]);
        let mut sum: u64 = lanes.map(|(_, item)| item.bytes).sum();
        for index in &order {
            let item = &items[*index];
            if sum > most && item.lane && item.bytes > 0 && chosen.add(*index, Rule::MaxSize) {
                sum -= item.bytes;
            }
        }
    }
    for (disk, about) in disks.iter().enumerate() {
        if let Some(least) = rules.min_free {
            let wanted = least.of(about.bytes).saturating_sub(about.free_bytes);
            chosen.until_free(&order, disk, wanted, |item| item.bytes, Rule::MinFree);
        }
        if let Some(least) = rules.min_free_inodes.filter(|_| about.inodes > 0) {
            let wanted = least.of(about.inodes).saturating_sub(about.free_inodes);
            chosen.until_free(&order, disk, wanted, |item| item.inodes, Rule::MinFreeInodes);
        }
    }
    chosen.list
}

struct Chosen<'a> {
    items: &'a [Item],
    gone: Vec<bool>,
    list: Vec<(usize, Rule)>,
}

impl Chosen<'_> {
    /// Whether it was not chosen yet.
    fn add(&mut self, index: usize, rule: Rule) -> bool {
        if self.gone[index] {
            return false;
        }
        self.gone[index] = true;
        self.list.push((index, rule));
        true
    }

    /// Chooses on one disk until what goes gives this much back.
    fn until_free(&mut self, order: &[usize], disk: usize, wanted: u64, size: fn(&Item) -> u64, rule: Rule) {
        let given = self.list.iter().map(|(index, _)| &self.items[*index]).filter(|item| item.disk == disk);
        let mut given: u64 = given.map(size).sum();
        for index in order {
            if given >= wanted {
                break;
            }
            let item = &self.items[*index];
            if item.disk == disk && size(item) > 0 && self.add(*index, rule) {
                given += size(item);
            }
        }
    }
}

#[cfg(test)]
mod tests;
