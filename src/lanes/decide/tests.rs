#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::prelude::*;

use super::*;

fn item() -> impl Strategy<Value = Item> {
    let stays = prop_oneof![
        5 => Just(None),
        1 => Just(Some(Stays::InUse)),
        1 => Just(Some(Stays::Pinned)),
        1 => Just(Some(Stays::Foreign)),
    ];
    (0..4_u8, any::<bool>(), 0..2_usize, 0..50_u64, 0..50_u64, 0..40_u64, stays).prop_map(
        |(project, lane, disk, bytes, inodes, age, stays)| Item {
            project: lane.then(|| project.to_string()),
            lane,
            disk,
            bytes,
            inodes,
            age,
            stays,
        },
    )
}

fn disk() -> impl Strategy<Value = Disk> {
    (0..400_u64, 0..400_u64).prop_flat_map(|(bytes, inodes)| {
        (0..=bytes, 0..=inodes).prop_map(move |(free_bytes, free_inodes)| Disk {
            bytes,
            free_bytes,
            inodes,
            free_inodes,
        })
    })
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![(0..500_u64).prop_map(Share::Amount), (0..=10_000_u32).prop_map(Share::PerMyriad)]
}

fn rules() -> impl Strategy<Value = Rules> {
    (
        prop::option::of(0..40_u64),
        prop::option::of(0..40_u64),
        prop::option::of(0..300_u64),
        prop::option::of(0..150_u64),
        prop::option::of(share()),
        prop::option::of(share()),
    )
        .prop_map(|(max_age, image_max_age, max_size, project_max_size, min_free, min_free_inodes)| Rules {
            max_age,
            image_max_age,
            max_size,
            project_max_size,
            min_free,
            min_free_inodes,
        })
}

type Case = (Vec<Item>, Vec<Disk>, Rules);

fn case() -> impl Strategy<Value = Case> {
    (prop::collection::vec(item(), 0..30), prop::collection::vec(disk(), 2), rules())
}

fn gone(case: &Case) -> Vec<bool> {
    let mut gone = vec![false; case.0.len()];
    for (index, _) in decide(&case.0, &case.1, &case.2) {
        gone[index] = true;
    }
    gone
}

/// Whether the limit of a rule is broken, with this set removed.
fn broken(rule: Rule, of: &Item, (items, disks, rules): &Case, gone: &[bool]) -> bool {
    let left = || items.iter().zip(gone).filter(|(item, gone)| item.lane && !**gone).map(|(item, _)| item);
    let freed = |size: fn(&Item) -> u64| -> u64 {
        let removed = items.iter().zip(gone).filter(|(item, gone)| **gone && item.disk == of.disk);
        removed.map(|(item, _)| size(item)).sum()
    };
    let disk = &disks[of.disk];
    match rule {
        Rule::MaxAge => of.age > rules.max_age.unwrap(),
        Rule::ImageMaxAge => of.age > rules.image_max_age.unwrap(),
        Rule::ProjectMaxSize => {
            left().filter(|item| item.project == of.project).map(|item| item.bytes).sum::<u64>()
                > rules.project_max_size.unwrap()
        }
        Rule::MaxSize => left().map(|item| item.bytes).sum::<u64>() > rules.max_size.unwrap(),
        Rule::MinFree => disk.free_bytes + freed(|item| item.bytes) < rules.min_free.unwrap().of(disk.bytes),
        Rule::MinFreeInodes => {
            disk.free_inodes + freed(|item| item.inodes) < rules.min_free_inodes.unwrap().of(disk.inodes)
        }
        Rule::Asked => false,
    }
}

fn share_at_least(one: Option<Share>, all: u64) -> u64 {
    one.map_or(0, |share| share.of(all))
}

proptest! {
    #[test]
    fn what_stays_is_never_chosen_and_nothing_twice(case in case()) {
        let chosen = decide(&case.0, &case.1, &case.2);
        let mut seen = std::collections::BTreeSet::new();
        for (index, _) in chosen {
            prop_assert!(case.0[index].stays.is_none());
            prop_assert!(seen.insert(index));
        }
    }

    #[test]
    fn nothing_is_chosen_for_a_limit_that_holds_without_it(case in case()) {
        let chosen = decide(&case.0, &case.1, &case.2);
        // Each was needed when it was chosen: with those before it gone, its limit was still broken.
        let mut before = vec![false; case.0.len()];
        for (index, rule) in chosen {
            prop_assert!(broken(rule, &case.0[index], &case, &before), "{index} by {rule}");
            before[index] = true;
        }
    }

    #[test]
    fn all_limits_hold_afterwards_unless_nothing_that_helps_is_left(case in case()) {
        let gone = gone(&case);
        for (index, item) in case.0.iter().enumerate() {
            if gone[index] || item.stays.is_some() {
                continue;
            }
            let limits = [
                (item.lane && case.2.max_age.is_some(), Rule::MaxAge),
                (!item.lane && case.2.image_max_age.is_some(), Rule::ImageMaxAge),
                (item.lane && item.bytes > 0 && case.2.project_max_size.is_some(), Rule::ProjectMaxSize),
                (item.lane && item.bytes > 0 && case.2.max_size.is_some(), Rule::MaxSize),
                (item.bytes > 0 && case.2.min_free.is_some(), Rule::MinFree),
                (item.inodes > 0 && case.2.min_free_inodes.is_some() && case.1[item.disk].inodes > 0, Rule::MinFreeInodes),
            ];
            for (_, rule) in limits.into_iter().filter(|(applies, _)| *applies) {
                prop_assert!(!broken(rule, item, &case, &gone), "{index} would help {rule}");
            }
        }
    }

    #[test]
    fn the_least_recently_used_goes_first(case in case()) {
        let chosen = decide(&case.0, &case.1, &case.2);
        let gone = gone(&case);
        for (index, rule) in chosen {
            for (other, item) in case.0.iter().enumerate() {
                let alike = match rule {
                    Rule::MaxAge | Rule::ImageMaxAge | Rule::Asked => continue,
                    Rule::ProjectMaxSize => item.lane && item.project == case.0[index].project && item.bytes > 0,
                    Rule::MaxSize => item.lane && item.bytes > 0,
                    Rule::MinFree => item.disk == case.0[index].disk && item.bytes > 0,
                    Rule::MinFreeInodes => item.disk == case.0[index].disk && item.inodes > 0,
                };
                if alike && item.stays.is_none() && !gone[other] {
                    prop_assert!(item.age <= case.0[index].age, "{other} is older than {index}, which goes by {rule}");
                }
            }
        }
    }

    #[test]
    fn stricter_limits_keep_nothing_more(case in case(), more in rules()) {
        // One limit at a time; the cap of projects is looked at alone, since it may take young lanes and so spare old ones.
        let base = Rules { project_max_size: None, ..case.2 };
        let stricter = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let free = |one: Option<Share>, other: Option<Share>| {
            let least = |share| case.1.iter().map(|disk| share_at_least(share, disk.bytes)).collect::<Vec<_>>();
            if least(one).iter().zip(least(other)).all(|(one, other)| *one <= other) { other } else { one }
        };
        let inodes = |one: Option<Share>, other: Option<Share>| {
            let least = |share| case.1.iter().map(|disk| share_at_least(share, disk.inodes)).collect::<Vec<_>>();
            if least(one).iter().zip(least(other)).all(|(one, other)| *one <= other) { other } else { one }
        };
        // What gives nothing back is passed over, so another limit may spare it: each gives something here.
        let lanes_only = case.0.iter().filter(|item| item.lane).cloned();
        let lanes_only: Vec<Item> = lanes_only
            .map(|item| Item { disk: 0, bytes: item.bytes + 1, inodes: item.inodes + 1, ..item })
            .collect();
        let variants = [
            (base, Rules { max_age: stricter(base.max_age, more.max_age), ..base }),
            (base, Rules { max_size: stricter(base.max_size, more.max_size), ..base }),
            (base, Rules { min_free: free(base.min_free, more.min_free), ..base }),
            (
                Rules { min_free: None, ..base },
                Rules { min_free: None, min_free_inodes: inodes(base.min_free_inodes, more.min_free_inodes), ..base },
            ),
            (
                Rules { project_max_size: case.2.project_max_size, ..Rules::default() },
                Rules { project_max_size: stricter(case.2.project_max_size, more.project_max_size), ..Rules::default() },
            ),
        ];
        for (loose, strict) in variants {
            let with = |rules| gone(&(lanes_only.clone(), vec![case.1[0]], rules));
            let (loose_gone, strict_gone) = (with(loose), with(strict));
            for (index, gone) in loose_gone.iter().enumerate() {
                prop_assert!(!gone || strict_gone[index], "{index} stays under {strict:?}, not under {loose:?}");
            }
        }
    }
}

#[test]
fn the_order_of_the_rules() {
    let item = |project: &str, bytes, age| Item {
        project: Some(project.into()),
        lane: true,
        disk: 0,
        bytes,
        inodes: 1,
        age,
        stays: None,
    };
    let items = [item("a", 10, 100), item("a", 10, 50), item("b", 10, 60), item("b", 10, 5), item("c", 10, 40)];
    let rules = Rules { max_age: Some(90), project_max_size: Some(10), max_size: Some(20), ..Rules::default() };
    assert_eq!(decide(&items, &[], &rules), [(0, Rule::MaxAge), (2, Rule::ProjectMaxSize), (1, Rule::MaxSize)]);
}

#[test]
fn ten_thousand_lanes_are_decided_at_once() {
    let items: Vec<Item> = (0..10_000_u64)
        .map(|number| Item {
            project: Some((number % 700).to_string()),
            lane: true,
            disk: 0,
            bytes: number * 7919 % 1_000_000,
            inodes: 10,
            age: number * 104_729 % 100_000,
            stays: (number % 50 == 0).then_some(Stays::InUse),
        })
        .collect();
    let disks = [Disk { bytes: 1 << 40, free_bytes: 1 << 30, inodes: 1 << 30, free_inodes: 1 << 20 }];
    let rules = Rules {
        max_age: Some(90_000),
        max_size: Some(2_000_000_000),
        project_max_size: Some(4_000_000),
        min_free: Some(Share::PerMyriad(1000)),
        min_free_inodes: Some(Share::PerMyriad(500)),
        ..Rules::default()
    };
    let since = std::time::Instant::now();
    assert!(!decide(&items, &disks, &rules).is_empty());
    let took = since.elapsed();
    // A hundred thousand times that, if each were compared with each.
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_share_of_all_there_is() {
    assert_eq!(Share::PerMyriad(1000).of(1000), 100);
    assert_eq!(Share::PerMyriad(10_000).of(u64::MAX), u64::MAX);
    assert_eq!(Share::Amount(7).of(1), 7);
}
