//! Pulls over bad ways: what is tried again, how often, and when.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use support::proxy::{Proxy, Trouble};
use support::registry::Registry;
use support::wait::seconds;
use support::{Host, Image, Job, Runner, State};

/// A registry with an image of its own, a proxy before it, and a host that pulls through that.
fn set_up(manifests: &[Trouble], blobs: &[Trouble], more: &str) -> Option<(Registry, Proxy, Host, String)> {
    let registry = Registry::open()?;
    let proxy = Proxy::start(&registry, manifests, blobs);
    let conf = proxy.registries_conf().display().to_string();
    let host = Host::configured(&format!(
        "{more}\n[job]\npull_policy = 'if-not-present'\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{conf}'"
    ));
    // Layers that the host does not have under another name.
    let source = host.image(&Image::busybox().env(&format!("MARK=p{}", registry.port)));
    let target = registry.image("group/image:1");
    let push = ["push", "--quiet", "--tls-verify=false", &source, &target];
    let push = host.storage.command().args(push).output().unwrap();
    assert!(push.status.success(), "{}", String::from_utf8_lossy(&push.stderr));
    host.podman(&["rmi", "--force", &source]);
    let image = proxy.image("group/image:1");
    Some((registry, proxy, host, image))
}

#[test]
fn a_registry_that_fails_now_and_then_is_asked_again() {
    let troubles = [Trouble::Status(503), Trouble::Status(500)];
    let Some((_registry, proxy, host, image)) = set_up(&troubles, &[Trouble::Half], "") else { return };
    let outcome = Runner::new(&host).play(&Job::new(&image));
    outcome.expect(State::Success).expect_log("Pulled image");
    assert!(proxy.seen("/manifests/").len() >= 3);
    host.podman(&["rmi", &image]);
}

#[test]
fn a_registry_that_asks_for_patience_gets_it() {
    let Some((_registry, proxy, host, image)) = set_up(&[Trouble::Later(3)], &[], "") else { return };
    Runner::new(&host).play(&Job::new(&image)).expect(State::Success).expect_log("Pulled image");
    let seen = proxy.seen("/manifests/");
    let pause = seen[1].duration_since(seen[0]);
    assert!(pause >= Duration::from_millis(2900), "asked again after {pause:?}, not after 3 s");
    host.podman(&["rmi", &image]);
}

#[test]
fn a_registry_that_goes_on_failing_is_left_alone_in_the_end() {
    let troubles = vec![Trouble::Status(503); 100];
    let Some((_registry, proxy, host, image)) = set_up(&troubles, &[], "") else { return };
    host.configure(&format!(
        "[job]\npull_policy = 'if-not-present'\npull_attempts = 2\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{}'",
        proxy.registries_conf().display()
    ));
    host.crash_daemon();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.configure().expect_code(0);
    let prepared = attempt.prepare().wait_for(seconds(120));
    prepared.expect_code(2).expect_text("503").expect_text("Trying again in");
    let count = proxy.seen("/manifests/").len();
    assert!((2..=8).contains(&count), "{count} requests");
    attempt.finish();
}

#[test]
fn twenty_jobs_that_start_at_once_with_one_image_make_one_pull() {
    let Some((_registry, proxy, host, image)) = set_up(&[], &[], "slots = 20") else { return };
    let runner = Runner::new(&host);
    let mut attempts: Vec<_> = (0..20).map(|_| runner.attempt(&Job::new(&image))).collect();
    for attempt in &mut attempts {
        attempt.configure().expect_code(0);
    }
    let calls: Vec<_> = attempts.iter().map(support::Attempt::prepare).collect();
    for call in calls {
        call.wait_for(seconds(120)).expect_code(0).expect_text("image");
    }
    let (manifests, blobs) = (proxy.seen("/manifests/").len(), proxy.seen("/blobs/").len());
    // One layer and one configuration.
    assert!(manifests <= 2 && blobs <= 2, "{manifests} requests for manifests, {blobs} for blobs");
    for attempt in attempts {
        attempt.finish();
    }
    host.podman(&["rmi", &image]);
}

#[test]
fn mirrors_and_blocks_of_the_hosts_registries_conf_apply() {
    let Some(registry) = Registry::open() else { return };
    let conf = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        conf.path(),
        format!(
            "unqualified-search-registries = []\n[[registry]]\nlocation = 'images.example.invalid'\n[[registry.mirror]]\nlocation = '{}'\ninsecure = true\n\
             [[registry]]\nlocation = 'blocked.example.invalid'\nblocked = true\n",
            registry.image("mirror")
        ),
    )
    .unwrap();
    let host = Host::configured(&format!(
        "[job]\npull_policy = 'if-not-present'\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{}'",
        conf.path().display()
    ));
    let source = host.image(&Image::busybox());
    let push = ["push", "--quiet", "--tls-verify=false", &source, &registry.image("mirror/group/image:1")];
    assert!(host.storage.command().args(push).output().unwrap().status.success());
    let runner = Runner::new(&host);
    let image = "images.example.invalid/group/image:1";
    runner
        .play(&Job::new(image))
        .expect(State::Success)
        .expect_log("Pulled image images.example.invalid/group/image:1");
    // Access to what is there already is asked by the same way.
    runner.play(&Job::new(image).project(8, "other/project")).expect(State::Success).expect_log("present on this host");
    host.podman(&["rmi", image]);
    let outcome = runner.play(&Job::new("blocked.example.invalid/group/image:1"));
    outcome.expect_log("blocked");
    assert!(!outcome.log().contains("Trying again"), "{}", outcome.log());
}
