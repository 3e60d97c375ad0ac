//! `windlass-run`: runs one stage in the job's container and ends as it ended.

use std::fs::File;
use std::io;

use super::arguments::Call;
use super::inputs;
use super::link::Attached;
use super::stage_loop::{Outcome, StageLoop};
use super::{Failure, link, missed, prepare};
use crate::protocol::daemon::{FailureClass, Reply, Request};
use crate::protocol::init::{Exited, Usage};

/// Runs it.
pub fn run(call: &Call) -> Result<(), Failure> {
    let (script, stage) = call.stage.clone().ok_or_else(|| Failure::System("no stage given".to_owned()))?;
    let lease = prepare::lease()?;
    let file = File::open(&script)
        .map_err(|error| Failure::system(&format!("open the script {}", script.display()), error))?;
    let signals = signals()?;
    let missed = missed::take();
    let request = Request::Stage { lease: lease.clone(), stage: stage.clone(), attach: false, missed };
    // Until the stage has begun there is nothing to end gently.
    let (reply, mut connection) =
        interruptible(&signals, || link::call(call, &request, &Attached::default(), &mut |line| eprintln!("{line}")))?;
    let (Reply::StageReady(ready), Some(init)) = (reply, connection.take_fd()) else {
        return Err(Failure::System(
            "the daemon's answer is not the one that was expected; are both of the same release?".to_owned(),
        ));
    };
    let attach = Request::Stage { lease, stage, attach: true, missed: None };
    let variables = inputs::variables();
    let closing = ready.closing.clone();
    let outcome = StageLoop::new(call, connection, init, &ready, signals, attach)?.run(file, variables)?;
    if let Some(line) = closing {
        println!("{line}");
    }
    match outcome {
        Outcome::Exited { exited, terminated } => verdict(exited, terminated),
        Outcome::Refused(FailureClass::Job, message) => {
            Err(Failure::Job { message: format!("windlass: {message}"), code: 127 })
        }
        Outcome::Refused(FailureClass::System, message) => Err(Failure::System(message)),
        Outcome::Lost(message) => Err(Failure::System(message)),
    }
}

/// SIGTERM and SIGINT as bytes in a pipe.
fn signals() -> Result<io::PipeReader, Failure> {
    let make = || {
        let (reader, writer) = io::pipe()?;
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        Ok(reader)
    };
    make().map_err(|error: io::Error| Failure::system("handle signals", error))
}

/// Runs `work` in this thread while another waits for a signal, which ends the program.
fn interruptible<T>(signals: &io::PipeReader, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let (finished, finish) = io::pipe().map_err(|error| Failure::system("make a pipe", error))?;
    let signals = signals.try_clone().map_err(|error| Failure::system("make a pipe", error))?;
    let system = super::Codes::from_environment().system;
    let watcher = std::thread::spawn(move || {
        loop {
            let mut set =
                [PollFd::new(finished.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut set, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                Ok(_) if set[1].any() != Some(true) => return,
                _ => {
                    eprintln!("windlass: ended before the stage began");
                    std::process::exit(system.into());
                }
            }
        }
    });
    let result = work();
    drop(finish);
    // It has either ended or ended the program.
    let _ = watcher.join();
    result
}

/// The shim's end for a stage that ended so. What the init says comes from the job's container: it is checked.
fn verdict(exited: Exited, terminated: bool) -> Result<(), Failure> {
    let hints = hints(&exited.usage).join("\n");
    let code = match (exited.code, exited.signal) {
        (Some(code), None) => u8::try_from(code).ok(),
        (None, Some(signal)) => {
            u8::try_from(signal).ok().and_then(|signal| signal.checked_add(128)).filter(|code| *code > 128)
        }
        _ => None,
    };
    match code {
        Some(0) if terminated => Err(Failure::Job { message: hints, code: 143 }),
        Some(0) => {
            if !hints.is_empty() {
                eprintln!("{hints}");
            }
            Ok(())
        }
        Some(code) => Err(Failure::Job { message: hints, code }),
        None => Err(Failure::System("the container's init reported an end that cannot be".to_owned())),
    }
}

/// What the job ran into, in words for its log.
fn hints(usage: &Usage) -> Vec<String> {
    let mut lines = Vec::new();
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), mebibytes);
    if usage.oom_kills > 0 {
        lines.push(format!(
            "windlass: out of memory: the kernel killed {} process(es) of this job; limit {}, peak {}. Use less, or ask the administrator for a higher `memory` limit.",
            usage.oom_kills,
            size(usage.memory_limit),
            size(usage.memory_peak),
        ));
    }
    if usage.pids_hits > 0 {
        let limit = usage.pids_limit.map_or_else(|| "unknown".to_owned(), |limit| limit.to_string());
        lines.push(format!(
            "windlass: too many processes: the job met its limit of {limit} processes and threads {} time(s). Run fewer at once, or ask the administrator for a higher `pids` limit.",
            usage.pids_hits,
        ));
    }
    lines
}

fn mebibytes(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(code: Option<i32>, signal: Option<i32>, terminated: bool) -> Result<(), Failure> {
        verdict(Exited { code, signal, usage: Usage::default() }, terminated)
    }

    fn job_code(result: Result<(), Failure>) -> Option<u8> {
        match result {
            Err(Failure::Job { code, .. }) => Some(code),
            _ => None,
        }
    }

    #[test]
    fn every_code_and_signal_is_the_jobs_own() {
        assert!(end(Some(0), None, false).is_ok());
        for code in 1..=255 {
            assert_eq!(job_code(end(Some(i32::from(code)), None, false)), Some(code));
        }
        assert_eq!(job_code(end(None, Some(9), false)), Some(137));
    }

    #[test]
    fn after_a_termination_it_is_never_success() {
        assert_eq!(job_code(end(Some(0), None, true)), Some(143));
        assert_eq!(job_code(end(Some(1), None, true)), Some(1));
    }

    #[test]
    fn an_end_that_cannot_be_is_a_system_failure() {
        for (code, signal) in
            [(None, None), (Some(256), None), (Some(-1), None), (Some(1), Some(9)), (None, Some(0)), (None, Some(200))]
        {
            assert!(matches!(end(code, signal, false), Err(Failure::System(_))), "{code:?} {signal:?}");
        }
    }

    #[test]
    fn out_of_memory_names_limit_and_peak() {
        let usage = Usage {
            oom_kills: 1,
            memory_limit: Some(64 << 20),
            memory_peak: Some((63 << 20) + (1 << 19)),
            ..Usage::default()
        };
        let text = hints(&usage).join("\n");
        assert!(
            text.contains("out of memory") && text.contains("limit 64.0 MiB") && text.contains("peak 63.5 MiB"),
            "{text}"
        );
    }
}
