//! The stage's whole output arrives: in order, byte by byte, stdout and stderr apart.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::host::SharedHost;
use support::player::Stream;
use support::wait::seconds;
use support::{Image, Job, Runner, scenarios};

static HOST: SharedHost = SharedHost::new("");

#[test]
fn binary_output_without_a_final_newline_arrives_and_stdout_and_stderr_stay_apart() {
    scenarios::streams(&HOST.get());
}

#[test]
fn a_user_without_privileges_may_write_to_the_device_files_of_its_output() {
    scenarios::device_files_of_a_user(&HOST.get());
}

#[test]
fn a_gibibyte_arrives_whole_and_in_order() {
    // Ten bytes a line.
    const FIRST: u32 = 100_000_000;
    const LINES: u32 = (1 << 30) / 10 + 1;
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut job = Job::new(&host.image(&Image::git()));
    job.digest_only = true;
    let mut attempt = runner.attempt(&job);
    attempt.make_ready();
    let call = attempt.run_lines("build_script", &format!("seq {FIRST} {}\n", FIRST + LINES - 1));
    let mut expected = Stream::default();
    let mut line = *b"100000000\n";
    for _ in 0..LINES {
        expected.update(&line);
        for digit in line[..9].iter_mut().rev() {
            *digit += 1;
            if *digit <= b'9' {
                break;
            }
            *digit = b'0';
        }
    }
    let finished = call.wait_for(seconds(120));
    finished.expect_code(0);
    assert_eq!(finished.stream, expected);
    attempt.finish();
}

#[test]
fn a_script_longer_than_any_pipe_arrives_whole() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let script: String = (0..40_000)
        .map(|i| format!("x={i} # padding that makes the line longer\n"))
        .chain(["echo $x\n".into()])
        .collect();
    let finished = attempt.run_raw("build_script", script.as_bytes()).wait();
    finished.expect_code(0);
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "39999\n");
    attempt.finish();
}

#[test]
fn scripts_of_older_runners_see_an_empty_stdin_too() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::git())));
    attempt.make_ready();
    let script =
        b"#!/usr/bin/env bash\n\nset -eo pipefail\nset +o noclobber\n: | eval $'wc -c\\ncat\\necho end'\nexit 0\n";
    let finished = attempt.run_raw("build_script", script).wait();
    finished.expect_code(0);
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "0\nend\n");
    attempt.finish();
}

#[test]
fn output_that_nobody_reads_any_more_does_not_block_the_host() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nwhile :; do echo more; done\n");
    call.wait_for_output("started");
    let lease = attempt.lease();
    runner.kill();
    support::until("the job is gone", seconds(10), || host.lease(&lease).is_none() && host.container(&lease).is_none());
}
