//! The administrator's rules: who is privileged, and what the jobs of some projects may have.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::json;
use support::{Host, Image, Job, Outcome, Runner, State};

/// CAP_SYS_ADMIN (capabilities(7)), which podman gives to no container that is not privileged.
const ADMINISTRATION: u64 = 1 << 21;

/// Whether the line of /proc/self/status that begins with `mark` shows a privileged container's capabilities.
fn is_privileged(outcome: &Outcome, mark: &str) -> bool {
    let log = outcome.log();
    let line = log.lines().find(|line| line.starts_with(mark)).unwrap_or_else(|| panic!("no {mark} in {log}"));
    u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap() & ADMINISTRATION != 0
}

#[test]
fn only_what_the_rules_name_is_privileged() {
    let host = Host::start();
    if !host.account.is_root() {
        return eprintln!("SKIPPED: rootless podman gives a privileged container no more than its user has");
    }
    let line = "mkdir /tmp/www && grep CapBnd /proc/self/status | sed s/CapBnd/service/ >/tmp/www/bounds && exec httpd -f -p 8080 -h /tmp/www";
    let image = Image::busybox().expose(8080).cmd(&["sh", "-c", line]);
    let (image, plain) = (host.image(&image), host.image(&Image::busybox()));
    let runner = Runner::new(&host);
    let play = |rules: &str, path: &str| {
        host.configure(&format!("{rules}\n[job]\nprivileged = true\nservices_privileged = true\n"));
        host.crash_daemon();
        let ask = ["grep CapBnd /proc/self/status | sed s/CapBnd/job/", "wget -q -O - http://db:8080/bounds"];
        let job =
            Job::new(&plain).with("services", json!([{"name": image, "alias": "db"}])).project(7, path).script(&ask);
        let outcome = runner.play(&job);
        outcome.expect(State::Success);
        (is_privileged(&outcome, "job:"), is_privileged(&outcome, "service:"))
    };
    assert_eq!(play("", "group/project"), (false, false), "nobody is without a rule");
    let rule = |key: &str, image: &str| format!("[[policy]]\nprojects = ['infra/**']\n{key} = ['{image}']");
    let for_jobs = rule("allowed_privileged_images", &plain);
    assert_eq!(play(&for_jobs, "infra/images"), (true, false));
    assert_eq!(play(&for_jobs, "group/project"), (false, false), "another project");
    assert_eq!(play(&rule("allowed_privileged_images", &image), "infra/images"), (false, false), "another image");
    assert_eq!(play(&rule("allowed_privileged_services", &image), "infra/images"), (false, true));
}

#[test]
fn the_first_rule_that_fits_a_project_decides() {
    let host = Host::configured(
        "[[policy]]\nprojects = ['infra/**']\nallowed_images = ['localhost/windlass/*']\nallowed_users = ['1234']\n\
         [[policy]]\nprojects = ['infra/images', 'group/**']\nallowed_images = ['registry.example.com/**']\nallowed_services = []\n",
    );
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let refused = |job: Job, words: &str| runner.play(&job).expect_refused(words);
    let own = json!({"name": image, "executor_opts": {"docker": {"user": "1234"}}});
    let root = json!({"name": image, "executor_opts": {"docker": {"user": "root"}}});
    let infra = || Job::new(&image).project(8, "infra/images").script(&["id -u"]);
    runner.play(&infra().with("image", own)).expect(State::Success).expect_log("\n1234\n");
    refused(infra().with("image", root), "allowed_users of");
    refused(Job::new(&image).project(9, "Group/deep/project"), "allowed_images of");
    // What no rule fits is as in [job].
    runner.play(&Job::new(&image).project(10, "other/project")).expect(State::Success);
}

#[test]
fn a_tag_before_a_digest_does_not_get_an_image_past_a_rule_for_tags() {
    let Some(registry) = support::registry::Registry::open() else { return };
    let (name, conf) = (registry.image("group/image"), registry.registries_conf().display().to_string());
    let host = Host::configured(&format!(
        "[job]\npull_policy = 'if-not-present'\n[[policy]]\nprojects = ['group/**']\nallowed_images = ['{name}:1*']\n\
         [podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{conf}'"
    ));
    let source = host.image(&Image::busybox());
    for tag in ["1.0", "2.0"] {
        let push = ["push", "--quiet", "--tls-verify=false", &source, &format!("{name}:{tag}")];
        assert!(host.storage.command().args(push).output().unwrap().status.success());
    }
    let kinds = [("Accept", "application/vnd.oci.image.manifest.v1+json")];
    let digest = support::client::ask(registry.port, "HEAD", "/v2/group/image/manifests/2.0", &kinds, &[]).unwrap();
    let digest = digest.header("docker-content-digest").to_owned();
    let runner = Runner::new(&host);
    runner.play(&Job::new(&format!("{name}:1.0"))).expect(State::Success);
    for other in [format!("{name}:2.0"), format!("{name}:1.0@{digest}"), format!("{name}@{digest}")] {
        runner.play(&Job::new(&other)).expect_refused("allowed_images of");
    }
    // That one it would be.
    runner.play(&Job::new(&format!("{name}:1.0@{digest}")).project(8, "other/project")).expect(State::Success);
    host.podman(&["rmi", "--force", &format!("{name}:1.0"), &format!("{name}@{digest}")]);
}
