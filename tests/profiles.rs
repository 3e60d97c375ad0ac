//! Several `[[runners]]` share one daemon, each with its profile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{Host, Image, Job, Runner, State};

const PROFILES: &str = "slots = 1\n[profile.big]\nslots = 1\n[profile.big.job]\npids = 77\n[profile.small]\nslots = 1";

#[test]
fn two_runners_with_two_profiles_have_their_own_slots_at_once() {
    let host = Host::configured(PROFILES);
    let image = host.image(&Image::busybox());
    let (one, other) = (Runner::new(&host), Runner::new(&host));
    let mut big = one.attempt(&Job::new(&image).profile("big"));
    let mut small = other.attempt(&Job::new(&image).profile("small"));
    big.make_ready();
    small.make_ready();
    for (attempt, profile) in [(&mut big, "big"), (&mut small, "small")] {
        assert_eq!(host.lease(&attempt.lease()).unwrap()["profile"], profile);
        attempt.run_lines("build_script", "echo ran\n").wait().expect_code(0);
    }
    big.finish();
    small.finish();
}

#[test]
fn a_pipeline_cannot_choose_its_profile() {
    let host = Host::configured(PROFILES);
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())).profile("small"));
    for name in ["PROFILE", "WINDLASS_PROFILE", "WINDLASS_LEASE", "WINDLASS_SOCKET"] {
        attempt.extra.push((format!("CUSTOM_ENV_{name}").into(), "big".into()));
    }
    attempt.make_ready();
    assert_eq!(host.lease(&attempt.lease()).unwrap()["profile"], "small");
    attempt.run_lines("build_script", "echo ran\n").wait().expect_code(0);
    attempt.finish();
}

#[test]
fn a_lease_of_one_profile_cannot_be_prepared_as_another() {
    let host = Host::configured(PROFILES);
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())).profile("small"));
    attempt.configure().expect_code(0);
    attempt.job.profile = Some("big".into());
    attempt.prepare().wait().expect_code(2).expect_text("profile");
    attempt.job.profile = Some("small".into());
    attempt.prepare().wait().expect_code(0);
    attempt.finish();
}

#[test]
fn a_profile_that_is_not_configured_is_named_with_those_that_are() {
    let host = Host::configured(PROFILES);
    let runner = Runner::new(&host);
    let outcome = runner.play(&Job::new(&host.image(&Image::busybox())).profile("huge"));
    outcome.expect(State::system_failure()).expect_log("huge").expect_log("small");
}
