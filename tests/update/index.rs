//! Indexes: a tag that names an image for each platform moves for the others' sake too.

use crate::LABEL;
use crate::support::client;
use crate::support::pushed::{MANIFEST, Pushed, push_index};
use crate::support::updater::{Does, Updater, outcome};

/// The digest of a tag.
fn digest(host: &Updater, repository: &str, tag: &str) -> String {
    let path = format!("/v2/{repository}/manifests/{tag}");
    let reply = client::ask(host.registry.port, "HEAD", &path, &[("Accept", MANIFEST)], &[]).unwrap();
    assert_eq!(reply.status, 200, "{path}");
    reply.header("docker-content-digest").to_owned()
}

/// Another platform's image that moves restarts nothing, and brings back nothing that is in quarantine.
pub fn moves_for_other_platforms_sake(host: &Updater) {
    let tag = host.registry.image("idx:latest");
    let architecture = host.podman(&["info", "--format", "{{.Host.Arch}}"]);
    let own = |name: &str, does: Does| {
        let id = host.push(&host.registry.image(&format!("idx:{name}")), does, 0);
        (digest(host, "idx", name), id)
    };
    let point = |own: &str, other: &str| {
        let other = Pushed::of(&[other]).push(&host.registry, "idx", "");
        push_index(&host.registry, "idx", "latest", &[("s390x", &other), (&architecture, own)]);
    };
    let comes = |expected: (i32, &str)| {
        let (code, report) = host.run();
        assert_eq!((code, outcome(&report, "idx.service")), expected, "{report}");
    };
    let plans = |expected: &str| {
        let (_, plan) = host.json(&["plan"]);
        assert_eq!(outcome(&plan, "idx.service"), expected, "{plan}");
    };
    let (good, id) = own("good", Does::Well);
    point(&good, "one");
    host.service("idx", &tag, LABEL);
    comes((0, "current"));
    let before = host.container("idx");
    assert_eq!(before.1, id);
    point(&good, "two");
    plans("current");
    comes((0, "current"));
    assert_eq!(host.container("idx"), before);

    // A bad one is left alone whatever index it comes in, and is not even pulled for that.
    let (bad, bad_id) = own("bad", Does::Crash);
    point(&bad, "two");
    comes((1, "rolled-back"));
    let before = host.container("idx");
    let pulls = host.registry.blob_requests("idx");
    point(&bad, "three");
    plans("quarantined");
    comes((0, "quarantined"));
    assert_eq!(host.container("idx"), before);
    assert_eq!((host.image(&bad_id), host.registry.blob_requests("idx")), (None, pulls));

    let (better, id) = own("better", Does::Well);
    point(&better, "three");
    comes((0, "updated"));
    assert_eq!(host.container("idx").1, id);
    host.stop(&["idx.service"]);
}
