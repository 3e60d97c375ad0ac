//! In which order units are updated: systemd's own. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::units::UnitName;

/// What each unit of systemd comes after, by name.
pub type After = BTreeMap<String, Vec<String>>;

/// Reads what `systemctl show --property=Id --property=After '*'` prints: blocks of lines with an empty one between.
#[must_use]
pub fn parse(text: &str) -> After {
    let mut found = After::new();
    for block in text.split("\n\n") {
        let value = |key: &str| block.lines().find_map(|line| line.strip_prefix(key));
        if let (Some(id), Some(after)) = (value("Id="), value("After=")) {
            found.insert(id.to_owned(), after.split_whitespace().map(str::to_owned).collect());
        }
    }
    found
}

/// For each of these units, which others of them have to be done first; through units in between too.
#[must_use]
pub fn first(units: &[UnitName], after: &After) -> BTreeMap<UnitName, BTreeSet<UnitName>> {
    let ours: BTreeMap<&str, &UnitName> = units.iter().map(|unit| (unit.as_str(), unit)).collect();
    let before = |unit: &UnitName| {
        let mut seen = BTreeSet::from([unit.as_str()]);
        let mut next = vec![unit.as_str()];
        while let Some(name) = next.pop() {
            for other in after.get(name).into_iter().flatten() {
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
        seen.remove(unit.as_str());
        seen.into_iter().filter_map(|name| ours.get(name).map(|name| (*name).clone())).collect()
    };
    units.iter().map(|unit| (unit.clone(), before(unit))).collect()
}

/// Which unit may begin now: one that waits for none that is still to be done, and that is not to be kept `apart` from one that is
/// under way. Where all wait for each other, the first by name.
#[must_use]
pub fn next(
    waiting: &BTreeSet<UnitName>,
    running: &BTreeSet<UnitName>,
    first: &BTreeMap<UnitName, BTreeSet<UnitName>>,
    apart: impl Fn(&UnitName, &UnitName) -> bool,
) -> Option<UnitName> {
    let free = |unit: &&UnitName| {
        let alone = !running.iter().any(|other| apart(unit, other));
        alone && first.get(*unit).is_none_or(|first| first.is_disjoint(waiting) && first.is_disjoint(running))
    };
    let found = waiting.iter().find(free).cloned();
    found.or_else(|| running.is_empty().then(|| waiting.first().cloned()).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> UnitName {
        UnitName::try_from(format!("{name}.service")).expect("a name")
    }

    fn all(names: &[&str]) -> Vec<UnitName> {
        names.iter().map(|name| unit(name)).collect()
    }

    fn order(names: &[&str], after: &str) -> Vec<String> {
        let first = first(&all(names), &parse(after));
        let mut waiting: BTreeSet<UnitName> = all(names).into_iter().collect();
        let mut done = Vec::new();
        while let Some(unit) = next(&waiting, &BTreeSet::new(), &first, |_, _| false) {
            waiting.remove(&unit);
            done.push(unit.as_str().trim_end_matches(".service").to_owned());
        }
        done
    }

    #[test]
    fn a_unit_comes_after_what_systemd_starts_before_it() {
        let text = "Id=app.service\nAfter=db.service network.target\n\nId=db.service\nAfter=basic.target\n";
        assert_eq!(order(&["app", "db"], text), ["db", "app"]);
    }

    #[test]
    fn units_in_between_count_too() {
        let text = "Id=a.service\nAfter=middle.target\n\nId=middle.target\nAfter=z.service\n\nId=z.service\nAfter=\n";
        assert_eq!(order(&["a", "z"], text), ["z", "a"]);
    }

    #[test]
    fn a_cycle_stops_nobody() {
        let text = "Id=a.service\nAfter=b.service\n\nId=b.service\nAfter=a.service\n";
        assert_eq!(order(&["b", "a"], text), ["a", "b"]);
    }

    #[test]
    fn one_that_waits_for_a_running_one_is_not_begun() {
        let first = first(&all(&["a", "b"]), &parse("Id=a.service\nAfter=b.service\n"));
        let waiting = BTreeSet::from([unit("a")]);
        let together = |_: &UnitName, _: &UnitName| false;
        assert_eq!(next(&waiting, &BTreeSet::from([unit("b")]), &first, together), None);
        assert_eq!(next(&waiting, &BTreeSet::new(), &first, together), Some(unit("a")));
        assert_eq!(next(&waiting, &BTreeSet::from([unit("c")]), &first, |_, _| true), None);
    }
}
