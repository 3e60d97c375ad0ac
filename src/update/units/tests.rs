use globset::{Glob, GlobSetBuilder};

use super::*;

fn container(name: &str, image: &str, labels: &[(&str, &str)]) -> Container {
    Container {
        id: format!("id of {name}"),
        name: name.to_owned(),
        image: image.to_owned(),
        image_id: "old".to_owned(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        pod: None,
        infra: false,
        running: true,
        started_at: String::new(),
        health: None,
        health_state: None,
        unit_of_image: None,
    }
}

fn none() -> GlobSet {
    GlobSet::empty()
}

const WEB: &str = "r.example.com/web:latest";

#[test]
fn a_labelled_container_of_a_unit_is_updated_and_others_are_not() {
    let labels = [(POLICY_LABEL, "registry"), (UNIT_LABEL, "web.service"), (AUTH_FILE_LABEL, "/etc/auth.json")];
    let all = [
        container("web", WEB, &labels),
        container("plain", WEB, &[(UNIT_LABEL, "plain.service")]),
        container("off", WEB, &[(POLICY_LABEL, "disabled"), (UNIT_LABEL, "off.service")]),
        Container { running: false, ..container("stopped", WEB, &labels) },
    ];
    let (units, unfit) = managed(&all, &none());
    assert_eq!(unfit, []);
    let [unit] = units.as_slice() else { panic!("{units:?}") };
    assert_eq!((unit.unit.as_str(), unit.members.len()), ("web.service", 1));
    let member = &unit.members[0];
    assert_eq!((member.policy, member.auth_file.clone()), (Some(Policy::Registry), Some("/etc/auth.json".into())));
}

#[test]
fn image_means_registry_and_local_needs_no_registry() {
    let all = [
        container("a", WEB, &[(POLICY_LABEL, "image"), (UNIT_LABEL, "a.service")]),
        container("b", "localhost/b:1", &[(POLICY_LABEL, "local"), (UNIT_LABEL, "b.service")]),
    ];
    let (units, _) = managed(&all, &none());
    let policies: Vec<_> = units.iter().map(|unit| unit.members[0].policy).collect();
    assert_eq!(policies, [Some(Policy::Registry), Some(Policy::Local)]);
}

#[test]
fn a_pattern_of_images_adds_those_without_a_label_but_none_that_are_disabled() {
    let include = GlobSetBuilder::new().add(Glob::new("r.example.com/**").expect("a glob")).build().expect("globs");
    let all = [
        container("a", WEB, &[(UNIT_LABEL, "a.service")]),
        container("b", WEB, &[(UNIT_LABEL, "b.service"), (POLICY_LABEL, "disabled")]),
        container("c", "other.example.com/web:1", &[(UNIT_LABEL, "c.service")]),
    ];
    let (units, _) = managed(&all, &include);
    assert_eq!(units.iter().map(|unit| unit.unit.as_str()).collect::<Vec<_>>(), ["a.service"]);
}

#[test]
fn what_cannot_be_updated_is_named_with_the_reason() {
    let label = (POLICY_LABEL, "registry");
    let unit = (UNIT_LABEL, "web.service");
    let cases = [
        (container("x", WEB, &[label]), "not run by a unit"),
        (container("x", WEB, &[(POLICY_LABEL, "sometimes"), unit]), "there are registry, local and disabled"),
        (container("x", "web:latest", &[label, unit]), "which registry"),
        (container("x", "group/web:latest", &[label, unit]), "which registry"),
        (container("x", "r.example.com/web@sha256:00", &[label, unit]), "fixed to a digest"),
        (container("x", WEB, &[label, (UNIT_LABEL, "../web.service")]), "no name of a unit"),
        (container("x", WEB, &[label, (UNIT_LABEL, "-h.service")]), "no name of a unit"),
    ];
    for (container, reason) in cases {
        let (units, unfit) = managed(&[container], &none());
        assert_eq!(units, []);
        assert!(unfit[0].reason.contains(reason), "{unfit:?}");
    }
}

#[test]
fn an_image_cannot_name_the_unit_that_is_restarted() {
    let labels = [(POLICY_LABEL, "registry"), (UNIT_LABEL, "sshd.service")];
    let hostile = Container { unit_of_image: Some("sshd.service".to_owned()), ..container("x", WEB, &labels) };
    let (units, unfit) = managed(&[hostile], &none());
    assert_eq!(units, []);
    assert!(unfit[0].reason.contains("not run by a unit"), "{unfit:?}");
}

#[test]
fn all_containers_of_a_pod_are_one_unit_by_the_label_of_its_infra_container() {
    let in_pod = |container: Container| Container { pod: Some("p".to_owned()), ..container };
    let infra = Container {
        infra: true,
        ..in_pod(container("p-infra", "localhost/podman-pause:4", &[(UNIT_LABEL, "pod-p.service")]))
    };
    let all = [
        in_pod(container("b", WEB, &[(POLICY_LABEL, "registry"), (UNIT_LABEL, "container-b.service")])),
        in_pod(container("a", WEB, &[(UNIT_LABEL, "container-a.service")])),
        infra,
    ];
    let (units, unfit) = managed(&all, &none());
    assert_eq!(unfit, []);
    let [unit] = units.as_slice() else { panic!("{units:?}") };
    assert_eq!((unit.unit.as_str(), unit.pod.as_deref()), ("pod-p.service", Some("p")));
    let members: Vec<_> = unit.members.iter().map(|member| (member.name.as_str(), member.policy.is_some())).collect();
    assert_eq!(members, [("a", false), ("b", true)]);
    assert_eq!(unit.members[0].own_unit.as_ref().map(UnitName::as_str), Some("container-a.service"));
}

#[test]
fn a_pod_without_a_unit_of_its_own_is_updated_by_its_containers() {
    let infra = Container { infra: true, pod: Some("p".to_owned()), ..container("p-infra", "pause", &[]) };
    let labels = [(POLICY_LABEL, "registry"), (UNIT_LABEL, "a.service")];
    let (units, _) =
        managed(&[infra, Container { pod: Some("p".to_owned()), ..container("a", WEB, &labels) }], &none());
    assert_eq!((units[0].unit.as_str(), units[0].pod.as_deref()), ("a.service", None));
}

#[test]
fn images_below_a_place_are_those_of_whole_parts_of_its_name() {
    let unit = |image: &str, policy: &str| {
        let labels = [(POLICY_LABEL, policy), (UNIT_LABEL, "a.service")];
        managed(&[container("a", image, &labels)], &none()).0.remove(0)
    };
    let below = |image: &str, place: &str| unit(image, "registry").is_below(&BTreeSet::from([place.to_owned()]));
    for place in ["r.example.com:5050/images/app", "r.example.com:5050/images/app/web", "r.example.com:5050/images"] {
        assert!(below("r.example.com:5050/images/app/web:1", place), "{place}");
    }
    for place in ["r.example.com:5050/images/ap", "r.example.com/images/app", "r.example.com:5050/images/app/web/1", ""]
    {
        assert!(!below("r.example.com:5050/images/app/web:1", place), "{place}");
    }
    assert!(!unit("localhost/app:1", "local").is_below(&BTreeSet::from(["localhost/app".to_owned()])), "built here");
}
