//! Eight jobs at a time while the service is upgraded, restarted and killed: none notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::boxed::in_a_box;
use crate::support::installed::{Installed, text};
use crate::support::{Image, Job, Runner, State};
use crate::{SETTINGS, nothing_is_left};

#[test]
fn no_job_of_a_rootless_service_notices_that_it_is_restarted_and_killed_all_the_time() {
    in_a_box("restarts::rootless_restarts_in_the_box");
}

#[test]
fn no_job_of_a_rootful_service_notices_that_it_is_restarted_and_killed_all_the_time() {
    in_a_box("restarts::rootful_restarts_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn rootless_restarts_in_the_box() {
    restarts(false);
}

#[test]
#[ignore = "runs in a box"]
fn rootful_restarts_in_the_box() {
    restarts(true);
}

/// What each job of the loop prints, line by line.
fn lines() -> Vec<String> {
    (0..40).flat_map(|round| (0..10).map(move |line| format!("line {round} {line}"))).collect()
}

fn restarts(rootful: bool) {
    let windlass = Installed::new(rootful, SETTINGS);
    let image = windlass.image(&Image::busybox());
    let number = std::env::var("WINDLASS_RESTARTS").map_or(10, |number| number.parse().expect("a number"));
    nobody_notices(&windlass, &image, 8, number, &[]);
}

/// So many jobs at a time, while the service is upgraded, restarted and killed so often, at random moments, with fewer slots and more
/// again. Each job begins with these further lines, and prints what they say.
pub fn nobody_notices(windlass: &Installed, image: &str, jobs: u32, number: u32, further: &[(&str, &str)]) {
    let seed = fastrand::u64(..);
    eprintln!("{number} restarts, seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let over = AtomicBool::new(false);
    let counts = "for i in $(seq 0 39); do for j in 0 1 2 3 4 5 6 7 8 9; do echo \"line $i $j\"; done; sleep 0.1; done";
    let script: Vec<&str> = further.iter().map(|(line, _)| *line).chain([counts]).collect();
    let done = std::thread::scope(|scope| {
        let runners: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| {
                    let runner = Runner::on(windlass);
                    let mut done = 0;
                    while !over.load(Ordering::Relaxed) {
                        let outcome = runner.play(&Job::new(image).script(&script));
                        outcome.expect(State::Success);
                        for (_, said) in further {
                            outcome.expect_log(said);
                        }
                        let printed = String::from_utf8_lossy(&outcome.call("build_script").stdout).into_owned();
                        let got: Vec<&str> = printed.lines().filter(|line| line.starts_with("line ")).collect();
                        assert_eq!(got, lines(), "something of its output is lost");
                        assert!(!outcome.log().contains("aiting for windlassd"), "{}", outcome.log());
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        // A job that fails ends the loop.
        let failed = || runners.iter().any(|runner| runner.is_finished());
        let trouble = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..number {
                std::thread::sleep(Duration::from_millis(random.u64(100..2500)));
                if failed() {
                    break;
                }
                let slots = if round % 3 == 1 { 6 } else { 8 };
                windlass.configure("60-slots.toml", &format!("slots = {slots}\n"));
                if round % 4 == 0 {
                    windlass.upgrade();
                }
                if round % 2 == 0 {
                    windlass.restart()
                } else {
                    windlass.crash()
                }
                for arguments in [&["ps"][..], &["run", "--rm", "--network=none", image, "true"][..]] {
                    let output = windlass.podman(arguments);
                    assert!(output.status.success(), "round {round}, podman {arguments:?}: {}", text(&output));
                }
            }
        }));
        over.store(true, Ordering::Relaxed);
        let done: Vec<_> = runners.into_iter().map(|runner| runner.join()).collect();
        if let Err(trouble) = trouble {
            std::panic::resume_unwind(trouble);
        }
        done.into_iter()
            .map(|done| done.unwrap_or_else(|_| panic!("a job failed\n{}", windlass.journal(&[]))))
            .sum::<u32>()
    });
    eprintln!("{done} jobs");
    assert!(done >= jobs);
    windlass.configure("60-slots.toml", "slots = 8\n");
    windlass.restart();
    nothing_is_left(windlass);
}
