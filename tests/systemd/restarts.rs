//! Eight jobs at a time, two of them with a service, while the daemon is upgraded, restarted and killed: none notices.
//!
//! `WINDLASS_RESTARTS=50` makes it so many restarts in each box; without it there are ten. The virtual machines (`machine`), where a
//! restart takes half a minute, go by `WINDLASS_MACHINE_RESTARTS`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::boxed::in_a_box;
use crate::support::installed::{Installed, text};
use crate::support::{Image, Job, Runner, State};
use crate::{SETTINGS, nothing_is_left};

/// How many of the jobs have a service: as many as slots of the profile whose jobs have a network.
const SERVED: u32 = 2;
/// What the service's page begins with.
const SERVES: &str = "root:x:0:0";

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
    let web = Image::busybox().expose(8080).cmd(&["httpd", "-f", "-p", "8080", "-h", "/etc"]);
    let web = windlass.image(&web);
    let restarts = std::env::var("WINDLASS_RESTARTS").map_or(10, |number| number.parse().expect("a number"));
    let load = Load { jobs: 8, restarts, further: &[], service: Some(&web) };
    nobody_notices(&windlass, &image, &load);
}

/// What goes on while the daemon is restarted.
pub struct Load<'a> {
    /// Jobs at a time.
    pub jobs: u32,
    /// How often the daemon is restarted or killed.
    pub restarts: u32,
    /// Lines that each job begins with, and what they print.
    pub further: &'a [(&'a str, &'a str)],
    /// The image of the service that some of the jobs have.
    pub service: Option<&'a str>,
}

impl Load<'_> {
    /// The job of one of the runners: lines that are counted, and before and after them a page of its service, by the service's name.
    fn job(&self, image: &str, runner: u32) -> Job {
        let counts =
            "for i in $(seq 0 39); do for j in 0 1 2 3 4 5 6 7 8 9; do echo \"line $i $j\"; done; sleep 0.1; done";
        let mut script: Vec<&str> = self.further.iter().map(|(line, _)| *line).chain([counts]).collect();
        let Some(web) = self.served(runner) else { return Job::new(image).script(&script) };
        let fetch = "wget -q -O - http://web:8080/passwd | head -n 1";
        script.insert(0, fetch);
        script.push(fetch);
        let services = serde_json::json!([{"name": web, "alias": "web"}]);
        Job::new(image).profile("connected").with("services", services).script(&script)
    }

    /// The service of a runner's jobs.
    fn served(&self, runner: u32) -> Option<&str> {
        self.service.filter(|_| runner < SERVED)
    }
}

/// So many jobs at a time, while the daemon is upgraded, restarted and killed so often, at random moments, with fewer slots and more
/// again.
pub fn nobody_notices(windlass: &Installed, image: &str, load: &Load<'_>) {
    let began = Instant::now();
    let seed = fastrand::u64(..);
    eprintln!("{} restarts, seed {seed}", load.restarts);
    let mut random = fastrand::Rng::with_seed(seed);
    let over = AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        let over = &over;
        let runners: Vec<_> = (0..load.jobs)
            .map(|number| {
                scope.spawn(move || {
                    let runner = Runner::on(windlass);
                    let mut done = 0;
                    while !over.load(Ordering::Relaxed) {
                        let outcome = runner.play(&load.job(image, number));
                        outcome.expect(State::Success);
                        for (_, said) in load.further {
                            outcome.expect_log(said);
                        }
                        let printed = String::from_utf8_lossy(&outcome.call("build_script").stdout).into_owned();
                        let got: Vec<&str> = printed.lines().filter(|line| line.starts_with("line ")).collect();
                        assert_eq!(got, lines(), "something of its output is lost");
                        let pages = if load.served(number).is_some() { 2 } else { 0 };
                        assert_eq!(
                            printed.matches(SERVES).count(),
                            pages,
                            "what its service says is missing:\n{printed}"
                        );
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
            for round in 0..load.restarts {
                std::thread::sleep(Duration::from_millis(random.u64(100..2500)));
                if failed() {
                    break;
                }
                // Fewer than there are jobs of that profile: some of the slots that go are in use.
                let slots = if round % 3 == 1 { (load.jobs / 2).max(1) } else { 8 };
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
    eprintln!("{done} jobs in {} s", began.elapsed().as_secs());
    assert!(done >= load.jobs);
    windlass.configure("60-slots.toml", "slots = 8\n");
    windlass.restart();
    nothing_is_left(windlass);
}
