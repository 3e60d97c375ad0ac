//! New images are judged: good ones stay, bad ones are undone and not tried again; as root and as a user.

use crate::support::boxed::in_a_box;
use crate::support::installed::text;
use crate::support::updater::{Does, Updater, outcome};
use crate::{CHECK, LABEL};

#[test]
fn root_goes_over_to_updates_that_are_judged_and_undone() {
    in_a_box("judged::updates_of_root_in_the_box");
}

#[test]
fn a_user_goes_over_to_updates_that_are_judged_and_undone() {
    in_a_box("judged::updates_of_a_user_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn updates_of_root_in_the_box() {
    updates(false);
}

#[test]
#[ignore = "runs in a box"]
fn updates_of_a_user_in_the_box() {
    updates(true);
}

/// Two services that follow a tag each.
fn two_services(host: &Updater) -> [String; 2] {
    let images = [host.registry.image("web:latest"), host.registry.image("other:latest")];
    for (name, image) in ["web", "other"].iter().zip(&images) {
        host.push(image, Does::Well, 0);
        host.service(name, image, &format!("{LABEL} {CHECK}"));
    }
    images
}

fn updates(rootless: bool) {
    let Some(host) = Updater::new(rootless) else { return };
    let [web, other] = two_services(&host);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service"), outcome(&report, "other.service")), (0, "current", "current"));

    // A new image: the plan says so and does nothing; the run restarts its unit and no other.
    let (before, beside) = (host.container("web"), host.container("other"));
    let new = host.push(&web, Does::Well, 0);
    let (_, plan) = host.json(&["plan"]);
    assert_eq!((outcome(&plan, "web.service"), outcome(&plan, "other.service")), ("pending", "current"), "{plan}");
    assert_eq!(host.container("web"), before);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (0, "updated"), "{report}");
    assert_eq!(host.container("web").1, new);
    assert_eq!(host.container("other"), beside);
    let kept = format!("localhost/windlass-update/web:{}", &before.1[..12]);
    assert_eq!(host.image(&kept).as_ref(), Some(&before.1), "the image before is kept");

    // Bad ones are undone, and left alone at the next run; the next good one goes in, and older images go.
    host.configure("settle = \"7s\"");
    let mut good = new;
    for does in [Does::Crash, Does::Ail, Does::DieLater] {
        let bad = host.push(&web, does, 0);
        let (code, report) = host.run();
        assert_eq!((code, outcome(&report, "web.service")), (1, "rolled-back"), "{does:?}: {report}");
        let back = host.container("web");
        assert_eq!(back.1, good, "{does:?}");
        assert_eq!(host.image(&web).as_ref(), Some(&good), "the tag is back");
        assert_eq!(host.image(&bad), None, "what failed is gone");
        let (code, report) = host.run();
        assert_eq!((code, outcome(&report, "web.service")), (0, "quarantined"), "{does:?}: {report}");
        assert_eq!(host.container("web"), back, "{does:?} is not tried again");
        let before = good;
        good = host.push(&web, Does::Well, 0);
        let (code, report) = host.run();
        assert_eq!((code, outcome(&report, "web.service")), (0, "updated"), "{report}");
        assert_eq!(host.container("web").1, good);
        assert!(host.image(&before).is_some(), "one image before is kept");
    }
    assert_eq!(host.image(&kept), None, "and no more than one");
    assert_eq!(host.container("other"), beside);
    assert_eq!(host.image(&other).as_ref(), Some(&beside.1));

    // One that was quarantined is tried again when it is released.
    let bad = host.push(&web, Does::Crash, 0);
    assert_eq!(outcome(&host.run().1, "web.service"), "rolled-back");
    let (_, status) = host.json(&["status"]);
    let unit = status["units"].as_array().unwrap().iter().find(|unit| unit["unit"] == "web.service").unwrap();
    assert!(!unit["quarantine"].as_array().unwrap().is_empty(), "{status} {bad}");
    host.json(&["release", "web"]);
    assert_eq!(outcome(&host.run().1, "web.service"), "rolled-back");

    // Held: nothing, until it is released.
    host.push(&web, Does::Well, 0);
    host.json(&["hold", "web.service"]);
    let before = host.container("web");
    assert_eq!(outcome(&host.run().1, "web.service"), "held");
    assert_eq!(host.container("web"), before);
    host.json(&["release", "web.service"]);
    assert_eq!(outcome(&host.run().1, "web.service"), "updated");

    let (_, history) = host.json(&["history", "web.service", "--count", "100"]);
    let words: Vec<&str> = history.as_array().unwrap().iter().filter_map(|entry| entry["outcome"].as_str()).collect();
    let round = ["rolled-back", "quarantined", "updated"];
    let mut expected = vec!["updated"];
    (0..3).for_each(|_| expected.extend(round));
    expected.extend(["rolled-back", "rolled-back", "held", "updated"]);
    assert_eq!(words, expected);
    for shown in [&["status"][..], &["plan"], &["history"]] {
        let shown = text(&host.windlass(shown));
        assert!(shown.contains("web.service"), "{shown}");
    }
    host.stop(&["web.service", "other.service"]);
}
