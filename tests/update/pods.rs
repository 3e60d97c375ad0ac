//! A pod is one unit. The box of the user is also that of what a user meets elsewhere: trouble, and an order.

use crate::index::moves_for_other_platforms_sake;
use crate::order::order;
use crate::support::boxed::in_a_box;
use crate::support::updater::{Does, Updater, outcome};
use crate::trouble::trouble;

#[test]
fn a_pod_of_root_is_updated_and_undone_as_one_and_other_platforms_do_not_matter() {
    in_a_box("pods::pods_of_root_in_the_box");
}

#[test]
fn a_pod_of_a_user_is_updated_and_undone_as_one_and_order_and_trouble_are_as_for_root() {
    in_a_box("pods::pods_of_a_user_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn pods_of_root_in_the_box() {
    let Some(host) = Updater::new(false) else { return };
    pods(&host);
    moves_for_other_platforms_sake(&host);
}

#[test]
#[ignore = "runs in a box"]
fn pods_of_a_user_in_the_box() {
    let Some(host) = Updater::new(true) else { return };
    pods(&host);
    moves_for_other_platforms_sake(&host);
    order(&host);
    trouble(&host);
}

fn pods(host: &Updater) {
    let images = [host.registry.image("a:1"), host.registry.image("b:1")];
    let first: Vec<String> = images.iter().map(|image| host.push(image, Does::Well, 0)).collect();
    // podman takes a name of hexadecimal digits for the beginning of an id.
    host.pod("p", &[("left", &images[0]), ("right", &images[1])]);
    let runs = || ["left", "right"].map(|name| host.container(name).1);
    assert_eq!(runs().as_slice(), first);
    let (code, report) = host.run();
    assert_eq!((code, report["units"].as_array().unwrap().len()), (0, 1), "a pod is one unit: {report}");
    assert_eq!(outcome(&report, "pod-p.service"), "current", "{report}");

    // A new image of one container: both are made anew, with what they should run.
    let a = host.push(&images[0], Does::Well, 0);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "pod-p.service")), (0, "updated"), "{report}");
    assert_eq!(runs(), [a.clone(), first[1].clone()]);

    // One good and one bad: both go back, and neither is tried again.
    host.configure("settle = \"7s\"");
    host.push(&images[0], Does::DieLater, 0);
    let b = host.push(&images[1], Does::Well, 0);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "pod-p.service")), (1, "rolled-back"), "{report}");
    assert_eq!(runs(), [a, first[1].clone()]);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "pod-p.service")), (0, "quarantined"), "{report}");

    // The bad one moves on; with the other released, both go in.
    let a = host.push(&images[0], Does::Well, 0);
    host.json(&["release", "pod-p"]);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "pod-p.service")), (0, "updated"), "{report}");
    assert_eq!(runs(), [a, b]);
    host.stop(&["pod-p.service"]);
}
