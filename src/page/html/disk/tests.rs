//! What a person reads on the page of the disks.

use super::super::as_read;
use super::*;
use crate::page::view::disk::disk;
use crate::page::view::past::DAY;
use crate::protocol::admin::LaneRow;
use crate::protocol::history::PurgeRow;

/// 2026-01-10 12:00 UTC, in seconds since 1970.
const NOW: i64 = 1_768_046_400;
const GIB: u64 = 1 << 30;

fn lane(project: &str, name: &str, bytes: Option<u64>) -> LaneRow {
    LaneRow {
        instance: "gitlab.example.com".into(),
        project_id: project.bytes().map(i64::from).sum(),
        project_path: project.into(),
        protected: false,
        pipeline: None,
        lane: name.into(),
        bytes,
        inodes: None,
        last_use: "2026-01-10T10:00:42Z".into(),
        age_s: 7158,
        uses: 3,
        jobs: Vec::new(),
        goes_by: None,
    }
}

fn image(name: &str, bytes: u64) -> ImageRow {
    ImageRow {
        id: "0123456789abcdef".into(),
        names: Some(name).filter(|name| !name.is_empty()).into_iter().map(str::to_owned).collect(),
        bytes,
        last_use: None,
        stays: None,
        goes_by: None,
    }
}

fn file_system(free_bytes: u64) -> FileSystem {
    FileSystem {
        path: "/var/lib/windlass".into(),
        bytes: 100 * GIB,
        free_bytes,
        kept_free_bytes: 10 * GIB,
        inodes: 0,
        free_inodes: 0,
        kept_free_inodes: 0,
    }
}

fn read(disk: &Disk, past: &DiskPast) -> String {
    as_read(&parts(disk, past, Clock::At(NOW)))
}

/// Whether these come in this order.
#[track_caller]
fn expect_in_order(text: &str, wanted: &[&str]) {
    let mut rest = text;
    for words in wanted {
        let at = rest.find(words).unwrap_or_else(|| panic!("{words:?} is missing, or not in its place:\n{text}"));
        rest = &rest[at + words.len()..];
    }
}

#[test]
fn what_projects_keep_is_told_by_project_and_size_with_its_lanes() {
    let in_use = LaneRow { jobs: vec![41, 42], protected: true, ..lane("g/large", "builds-0", Some(3 * GIB)) };
    let old = LaneRow { goes_by: Some("max_age".into()), ..lane("g/large", "cache", Some(GIB)) };
    let lanes = vec![lane("g/small", "builds-0", Some(2 * GIB)), old, in_use, lane("g/none", "builds-1", None)];
    let text = read(&disk(vec![file_system(50 * GIB)], lanes, Ok(Vec::new())), &DiskPast::default());
    let wanted = [
        "Kept by projects 6.0 GiB",
        "What projects keep",
        "g/large 2 lanes 4.0 GiB",
        "protected refs builds-0 3.0 GiB in use 41, 42",
        "other refs cache 1.0 GiB 2h ago max_age",
        "g/small 1 lane 2.0 GiB",
        "g/none 1 lane",
        "builds-1 not measured",
    ];
    expect_in_order(&text, &wanted);
}

#[test]
fn only_so_many_projects_and_images_are_listed_and_the_others_counted() {
    let lanes = (0..ROWS + 3).map(|number| LaneRow {
        project_id: i64::try_from(number).expect("a number"),
        ..lane(&format!("g/p{number}"), "cache", Some(1))
    });
    let images = (0..ROWS + 4).map(|number| image(&format!("example.com/i{number}:1"), 1));
    let text = read(&disk(Vec::new(), lanes.collect(), Ok(images.collect())), &DiskPast::default());
    expect_in_order(&text, &["And 3 more projects.", "And 4 more."]);
}

#[test]
fn images_are_told_with_what_keeps_them_and_what_takes_them() {
    let used = ImageRow { last_use: Some("2026-01-09T12:00:00Z".into()), ..image("example.com/used:1", 2 * GIB) };
    let pinned = ImageRow { stays: Some("pinned".into()), ..image("example.com/pinned:1", GIB) };
    let old = ImageRow { goes_by: Some("image_max_age".into()), ..image("", GIB / 2) };
    let text = read(&disk(Vec::new(), Vec::new(), Ok(vec![old, pinned, used])), &DiskPast::default());
    let wanted = [
        "Images 3.5 GiB (shared layers count for each)",
        "example.com/used:1 2.0 GiB 1day ago",
        "example.com/pinned:1 1.0 GiB not by a job pinned",
        "0123456789ab 512.0 MiB not by a job image_max_age",
    ];
    expect_in_order(&text, &wanted);
}

#[test]
fn free_space_is_told_with_what_is_kept_and_when_it_is_too_little() {
    let of = |free| read(&disk(vec![file_system(free)], Vec::new(), Ok(Vec::new())), &DiskPast::default());
    let enough = of(50 * GIB);
    assert!(
        enough.contains("50.0 GiB free of 100.0 GiB on /var/lib/windlass ; the purge keeps 10.0 GiB free"),
        "{enough}"
    );
    assert!(!enough.contains("too little is free") && of(5 * GIB).contains("too little is free"));
    assert!(enough.contains("Nothing is on record yet") && enough.contains("Nothing that is on record."), "{enough}");
    assert!(!enough.contains("inodes"), "{enough}");
}

#[test]
fn free_inodes_are_told_where_they_are_bounded() {
    let of = |free_inodes| {
        let file_system =
            FileSystem { inodes: 1_000_000, free_inodes, kept_free_inodes: 50_000, ..file_system(50 * GIB) };
        read(&disk(vec![file_system], Vec::new(), Ok(Vec::new())), &DiskPast::default())
    };
    let enough = of(600_000);
    assert!(enough.contains("600000 inodes free of 1000000; the purge keeps 50000 free"), "{enough}");
    assert!(!enough.contains("too few are free") && of(40_000).contains("too few are free"));
}

#[test]
fn what_cannot_be_read_is_not_told_as_nothing() {
    let past = DiskPast { unread: Some("disk I/O error".into()), ..DiskPast::default() };
    let text = read(&disk(Vec::new(), Vec::new(), Err("podman images: <broken>".into())), &past);
    let wanted = [
        "Images not known: podman does not list them",
        "Free space over the past days ✕ can't be read: disk I/O error",
        "Images ✕ can't be read: podman images: &lt;broken&gt;",
        "What the purge took ✕ can't be read: disk I/O error",
    ];
    expect_in_order(&text, &wanted);
    assert!(!text.contains("on record") && !text.contains("Images 0 B"), "{text}");
}

#[test]
fn the_past_of_free_space_says_when_the_disk_is_full() {
    let at = |days: i64| NOW * 1000 + days * DAY;
    let of = |bytes_a_day, limit_at| {
        let samples = Samples {
            path: "/var/lib/windlass".into(),
            free: vec![(at(-1), 60 * GIB), (at(0), 50 * GIB)],
            bytes_a_day,
            limit_at,
            ..Samples::default()
        };
        of_samples(samples)
    };
    let ten = i64::try_from(10 * GIB).ok();
    let fills = of(ten, Some(at(4)));
    let words = "fills by 10.0 GiB a day without what the purge takes; at this rate the limit is reached on 2026-01-14, in 4days";
    expect_in_order(&fills, &[words, "01-09 12:00 UTC", "01-10 12:00 UTC", "As a table"]);
    assert!(!fills.contains("inodes") && !fills.contains("keeps it"), "{fills}");
    // The table has each sample, the newest first.
    expect_in_order(&fills, &["When Free", "0s ago 50.0 GiB", "1day ago 60.0 GiB"]);
    assert!(
        of(ten.map(|ten| -ten), None)
            .contains("does not fill: 10.0 GiB a day become free, without what the purge takes.")
    );
    assert!(of(ten, None).contains("the limit is years away"));
    assert!(of(ten, Some(at(-1))).contains("less than the purge keeps free is free now"));
    assert!(of(None, None).contains("is not known before some hours are on record"));
}

fn of_samples(samples: Samples) -> String {
    let past = DiskPast { file_systems: vec![samples], ..DiskPast::default() };
    read(&disk(vec![file_system(50 * GIB)], Vec::new(), Ok(Vec::new())), &past)
}

#[test]
fn it_is_said_that_the_purge_keeps_the_disk_from_filling() {
    let at = |days: i64| NOW * 1000 + days * DAY;
    let samples = Samples {
        path: "/var/lib/windlass".into(),
        free: vec![(at(-13), 60 * GIB), (at(0), 50 * GIB)],
        bytes_a_day: i64::try_from(10 * GIB).ok(),
        limit_at: Some(at(4)),
        kept_by_purge: true,
        purged_bytes: 120 * GIB,
        ..Samples::default()
    };
    let words = "the limit is reached on 2026-01-14, in 4days . It is the purge that keeps it from filling: it took 120.0 GiB in 13days";
    expect_in_order(&of_samples(samples.clone()), &[words]);
    let all_the_time = of_samples(Samples { bytes_a_day: None, limit_at: None, ..samples });
    let words =
        "is not known: the purge takes something all the time, and keeps it from filling; it took 120.0 GiB in 13days";
    expect_in_order(&all_the_time, &[words]);
}

#[test]
fn inodes_have_a_forecast_and_a_column_of_their_own() {
    let at = |days: i64| NOW * 1000 + days * DAY;
    let samples = Samples {
        path: "/var/lib/windlass".into(),
        free: vec![(at(0), 50 * GIB)],
        free_inodes: vec![(at(0), 600_000)],
        bytes_a_day: Some(0),
        inodes_a_day: Some(100_000),
        inodes_limit_at: Some(at(5)),
        ..Samples::default()
    };
    let wanted = [
        "stays as it is, without what the purge takes.",
        "Inodes of /var/lib/windlass : fills by 100000 inodes a day without what the purge takes",
        "is reached on 2026-01-15, in 5days",
        "When Free Free inodes",
        "0s ago 50.0 GiB 600000",
    ];
    expect_in_order(&of_samples(samples), &wanted);
}

#[test]
fn purges_are_told_with_what_went_and_by_which_rule() {
    let lane = PurgeRow {
        at: (NOW - 3600) * 1000,
        kind: "lane".into(),
        name: "builds-1".into(),
        project_path: Some("g/<p>".into()),
        bytes: Some(GIB),
        age_s: 86_400,
        rule: "max_age".into(),
    };
    let image = PurgeRow {
        kind: "image".into(),
        name: "example.com/i:1".into(),
        project_path: None,
        bytes: None,
        rule: "min_free".into(),
        ..lane.clone()
    };
    let past = DiskPast { purges: vec![lane, image], ..DiskPast::default() };
    let wanted = [
        "What the purge took",
        "1h ago lane builds-1 g/&lt;p&gt; 1.0 GiB 1day max_age",
        "1h ago image example.com/i:1 not measured 1day min_free",
    ];
    expect_in_order(&read(&Disk::default(), &past), &wanted);
}
