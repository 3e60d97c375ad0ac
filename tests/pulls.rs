//! Pulls over bad ways: what is tried again, how often, and when.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use support::proxy::{Proxy, Trouble};
use support::registry::Registry;
use support::wait::seconds;
use support::{Host, Image, Job, Runner, State};

/// A registry with an image of its own, a proxy before it, and a host that pulls through that.
fn set_up(manifests: &[Trouble], blobs: &[Trouble], more: &str) -> Option<(Registry, Proxy, Host, String)> {
    set_up_named("group/image:1", manifests, blobs, more)
}

/// The same with this name for the image.
fn set_up_named(
    name: &str,
    manifests: &[Trouble],
    blobs: &[Trouble],
    more: &str,
) -> Option<(Registry, Proxy, Host, String)> {
    let registry = Registry::open()?;
    let proxy = Proxy::start(&registry, manifests, blobs);
    let conf = proxy.registries_conf().display().to_string();
    let host = Host::configured(&format!(
        "{more}\n[job]\npull_policy = 'if-not-present'\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{conf}'"
    ));
    // Layers that the host does not have under another name.
    let source = host.image(&Image::busybox().env(&format!("MARK=p{}", registry.port)));
    let target = registry.image(name);
    let push = ["push", "--quiet", "--tls-verify=false", &source, &target];
    let push = host.storage.command().args(push).output().unwrap();
    assert!(push.status.success(), "{}", String::from_utf8_lossy(&push.stderr));
    host.podman(&["rmi", "--force", &source]);
    let image = proxy.image(name);
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
fn mirrors_and_blocks_of_the_hosts_registries_conf_apply_and_its_short_names_do_not() {
    let Some(registry) = Registry::open() else { return };
    let conf = tempfile::NamedTempFile::new().unwrap();
    let mirror = registry.image("mirror");
    std::fs::write(
        conf.path(),
        format!(
            "unqualified-search-registries = []\n[[registry]]\nlocation = 'images.example.invalid'\n[[registry.mirror]]\nlocation = '{mirror}'\ninsecure = true\n\
             [[registry]]\nlocation = 'blocked.example.invalid'\nblocked = true\n\
             [[registry]]\nlocation = 'docker.io'\n[[registry.mirror]]\nlocation = '{mirror}'\ninsecure = true\n\
             [aliases]\n'short' = 'images.example.invalid/alias/short'\n"
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
    // A short name is Docker Hub's, as the rules judge it, wherever this host's alias leads.
    push_marked(&host, &registry, "mirror/library/short:latest", "hub");
    push_marked(&host, &registry, "mirror/alias/short:latest", "alias");
    let mark = |mark: &str| format!("{mark}-{}", registry.port);
    let mut podman = host.storage.command();
    podman.env("CONTAINERS_REGISTRIES_CONF", conf.path()).args(["run", "--rm", "--network=none", "short"]);
    let alone = podman.args(["sh", "-c", "echo $MARK"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&alone.stdout).trim(), mark("alias"), "podman follows it by itself");
    let outcome = runner.play(&Job::new("short").script(&["echo \"it is $MARK\""]));
    outcome.expect(State::Success).expect_log(&format!("\nit is {}\n", mark("hub")));
    host.podman(&["rmi", "images.example.invalid/alias/short", "docker.io/library/short"]);
}

#[test]
fn a_name_that_sounds_like_a_certificate_does_not_make_a_failing_registry_one_that_nobody_trusts() {
    let troubles = [Trouble::Status(503), Trouble::Status(503)];
    let name = "x509/certificate:denied";
    let Some((_registry, proxy, host, image)) = set_up_named(name, &troubles, &[], "") else { return };
    let outcome = Runner::new(&host).play(&Job::new(&image));
    outcome.expect(State::Success).expect_log("Pulled image");
    assert!(!outcome.log().contains("does not trust"), "{}", outcome.log());
    let prepared = outcome.names().iter().filter(|name| **name == "prepare").count();
    assert_eq!(prepared, 1, "it was tried again within the job's preparation: {}", outcome.log());
    assert!(proxy.seen("/manifests/").len() > troubles.len());
    host.podman(&["rmi", &image]);
}

#[test]
fn a_refusal_without_a_word_fails_the_job_and_is_not_tried_again() {
    let Some((_registry, proxy, host, image)) = set_up(&[], &[], "") else { return };
    let runner = Runner::new(&host);
    for (status, words) in [(403, "403"), (401, "unauthorized")] {
        proxy.meet(&vec![Trouble::Status(status); 100], &[]);
        let before = proxy.seen("/manifests/").len();
        let outcome = runner.play(&Job::new(&image));
        outcome.expect_log(words).expect_refused("does not let this job pull");
        assert!(!outcome.log().contains("Trying again"), "{}", outcome.log());
        let count = proxy.seen("/manifests/").len() - before;
        assert!((1..=2).contains(&count), "{count} requests");
    }
}

/// Gives the image of this name in the registry the variable MARK.
fn push_marked(host: &Host, registry: &Registry, name: &str, mark: &str) {
    let source = host.image(&Image::busybox().env(&format!("MARK={mark}-{}", registry.port)));
    let push = ["push", "--quiet", "--tls-verify=false", &source, &registry.image(name)];
    let push = host.storage.command().args(push).output().unwrap();
    assert!(push.status.success(), "{}", String::from_utf8_lossy(&push.stderr));
    host.podman(&["rmi", "--force", &source]);
}

#[test]
fn a_tag_that_has_moved_is_followed_with_always_and_not_with_if_not_present() {
    let more = "[[policy]]\nprojects = ['**']\nallowed_pull_policies = ['always', 'if-not-present']";
    let Some((registry, _proxy, host, image)) = set_up(&[], &[], more) else { return };
    let runner = Runner::new(&host);
    let mark = |policy: &str| {
        let job = Job::new(&image).script(&["echo \"it is $MARK\""]);
        let outcome = runner.play(&job.with("image", json!({"name": image, "pull_policy": [policy]})));
        outcome.expect(State::Success);
        let log = outcome.log();
        let line = log.lines().find_map(|line| line.strip_prefix("it is ")).unwrap_or_else(|| panic!("{log}"));
        line.trim_end_matches(&format!("-{}", registry.port)).to_owned()
    };
    push_marked(&host, &registry, "group/image:1", "old");
    assert_eq!(mark("if-not-present"), "old");
    push_marked(&host, &registry, "group/image:1", "new");
    assert_eq!(mark("if-not-present"), "old", "the host has one");
    assert_eq!(mark("always"), "new");
    assert_eq!(mark("if-not-present"), "new", "the host has that now");
    host.podman(&["rmi", "--force", &image]);
    host.podman(&["image", "prune", "--force"]);
}

#[test]
fn jobs_run_without_any_registry_once_their_images_have_come() {
    let Some((mut registry, proxy, host, image)) = set_up(&[], &[], "") else { return };
    push_marked(&host, &registry, "group/helper:1", "helper");
    let helper = proxy.image("group/helper:1");
    // It outlives the proxy.
    let conf = host.dir().join("registries.conf");
    std::fs::copy(proxy.registries_conf(), &conf).unwrap();
    host.configure(&format!(
        "[job]\npull_policy = 'if-not-present'\npull_attempts = 1\n[job.helper]\nmode = 'image'\nimage = '{helper}'\n\
         [profile.eager.job]\npull_policy = ['always', 'if-not-present']\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{}'",
        conf.display()
    ));
    host.crash_daemon();
    let runner = Runner::new(&host);
    let pulled = runner.play(&Job::new(&image));
    for name in [&image, &helper] {
        pulled.expect(State::Success).expect_log(&format!("Pulled image {name}"));
    }
    registry.end();
    let address = proxy.host();
    drop(proxy);
    support::until("nobody listens there", seconds(10), || TcpStream::connect(&address).is_err());
    for job in [Job::new(&image), Job::new(&image).project(8, "other/project"), Job::new(&image).profile("eager")] {
        let is_eager = job.profile.is_some();
        let outcome = runner.play(&job);
        outcome.expect(State::Success);
        for name in [&image, &helper] {
            outcome.expect_log(&format!("Using image {name}"));
        }
        assert_eq!(outcome.log().contains("Pulling image"), is_eager, "{}", outcome.log());
        assert_eq!(outcome.log().contains("; next is pull policy if-not-present"), is_eager, "{}", outcome.log());
        assert_eq!(outcome.names().iter().filter(|name| **name == "prepare").count(), 1);
    }
    host.podman(&["rmi", &image, &helper]);
}

#[test]
fn a_pull_is_one_line_with_size_time_and_digest() {
    let Some((registry, _proxy, host, image)) = set_up(&[], &[], "") else { return };
    let path = "/v2/group/image/manifests/1";
    let kinds = [(
        "Accept",
        "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
    )];
    let digest = support::client::ask(registry.port, "HEAD", path, &kinds, &[]).unwrap();
    let digest = digest.header("docker-content-digest").to_owned();
    let outcome = Runner::new(&host).play(&Job::new(&image));
    outcome.expect(State::Success);
    let log = outcome.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("Pulled image ")).collect();
    let [line] = lines[..] else { panic!("{lines:?}") };
    assert!(line.contains(&image) && digest.starts_with("sha256:") && line.contains(&digest), "{line}, not {digest}");
    let (facts, time) = line.rsplit_once(") in ").unwrap();
    let size = facts.rsplit(", ").next().unwrap();
    let number = |text: &str| text.trim().parse::<f64>().is_ok_and(|number| number > 0.0);
    assert!(size.split_once(' ').is_some_and(|(size, unit)| number(size) && unit.ends_with('B')), "{line}");
    let seconds = time.strip_suffix("ms").or_else(|| time.strip_suffix('s')).unwrap_or_default();
    assert!(number(seconds), "{line}");
    host.podman(&["rmi", &image]);
}
