//! Whole jobs, played as gitlab-runner plays them: the order of stages, retries, timeouts, cancels, results.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::attempt::{Attempt, Runner};
use super::call::{Call, Finished};
use super::job::Job;
use super::wait::seconds;

/// Attempts to prepare a job.
const ATTEMPTS: usize = 3;
/// gitlab-runner's force_kill_timeout.
const FORCE_KILL: Duration = seconds(10);

/// A job's final state in GitLab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Green.
    Success,
    /// Red, with GitLab's failure_reason and the exit code it shows.
    Failed {
        /// The failure_reason.
        reason: &'static str,
        /// The exit code; only script failures have one.
        exit_code: Option<i32>,
    },
}

impl State {
    /// What a job has whose script ended with `code`.
    pub const fn script_failure(code: i32) -> Self {
        Self::Failed { reason: "script_failure", exit_code: Some(code) }
    }

    /// What a job has that failed for the runner's reasons.
    pub const fn system_failure() -> Self {
        Self::Failed { reason: "runner_system_failure", exit_code: None }
    }
}

/// What came of a job.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its state.
    pub state: State,
    /// All calls in their order.
    pub calls: Vec<Finished>,
    /// The leases that its attempts had.
    pub leases: Vec<String>,
}

impl Outcome {
    /// What the job log shows: config's stderr, prepare and all stages. cleanup's output does not reach it.
    pub fn log(&self) -> String {
        let shown = self.calls.iter().filter(|call| call.name != "cleanup");
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        shown.map(|call| if call.name == "config" { lossy(&call.stderr) } else { call.text() }).collect()
    }

    /// The last call with this name.
    #[track_caller]
    pub fn call(&self, name: &str) -> &Finished {
        self.calls
            .iter()
            .rev()
            .find(|call| call.name == name)
            .unwrap_or_else(|| panic!("no call of {name} in\n{}", self.log()))
    }

    /// The names of all calls.
    pub fn names(&self) -> Vec<&str> {
        self.calls.iter().map(|call| call.name.as_str()).collect()
    }

    /// Fails the test when the job ended otherwise.
    #[track_caller]
    pub fn expect(&self, state: State) -> &Self {
        assert_eq!(self.state, state, "calls {:?}, job log:\n{}", self.names(), self.log());
        self
    }

    /// Fails the test when the job log lacks `text`.
    #[track_caller]
    pub fn expect_log(&self, text: &str) -> &Self {
        assert!(self.log().contains(text), "the job log lacks {text:?}:\n{}", self.log());
        self
    }

    /// Fails the test unless the job was refused with these words: by prepare, as its own failure, so that nobody tries again.
    #[track_caller]
    pub fn expect_refused(&self, words: &str) {
        self.expect_log(words);
        assert!(matches!(self.state, State::Failed { reason: "script_failure", .. }), "{:?}", self.state);
        assert_eq!(self.names(), ["config", "prepare", "cleanup"], "another attempt would not help");
    }
}

/// Why a call was ended early, or how it ended.
enum End {
    Done(Finished),
    Canceled(Finished),
    TimedOut(Finished),
}

/// A job under way.
struct Play<'a> {
    job: Job,
    deadline: Instant,
    calls: Vec<Finished>,
    leases: Vec<String>,
    canceled: bool,
    runner: &'a Runner<'a>,
}

impl Runner<'_> {
    /// Plays a job to its end, and waits until the daemon has let go of it.
    pub fn play(&self, job: &Job) -> Outcome {
        let outcome = self.play_to_be_held(job);
        for lease in &outcome.leases {
            self.site.wait_until_gone(lease);
        }
        outcome
    }

    /// Plays a job to its end, of which the daemon is to keep something.
    pub fn play_to_be_held(&self, job: &Job) -> Outcome {
        let mut play = Play {
            job: job.clone(),
            deadline: Instant::now() + job.timeout,
            calls: Vec::new(),
            leases: Vec::new(),
            canceled: false,
            runner: self,
        };
        let state = play.job();
        Outcome { state, calls: play.calls, leases: play.leases }
    }
}

impl<'a> Play<'a> {
    fn job(&mut self) -> State {
        let mut state = State::system_failure();
        for _ in 0..ATTEMPTS {
            let mut attempt = self.runner.attempt(&self.job);
            match self.prepare(&mut attempt) {
                Ok(()) => {
                    let state = self.stages(&mut attempt);
                    self.clean_up(attempt);
                    return state;
                }
                Err(failed) => state = failed,
            }
            self.clean_up(attempt);
            if state != State::system_failure() {
                return state;
            }
            std::thread::sleep(self.job.prepare_pause);
        }
        state
    }

    /// config and prepare; a failure that is the build's own is not tried again.
    fn prepare(&mut self, attempt: &mut Attempt<'a>) -> Result<(), State> {
        let config = attempt.configure();
        if config.code == Some(0) {
            self.leases.push(attempt.lease());
        }
        self.verdict(attempt, config)?;
        match self.watch(attempt.prepare(), false) {
            End::Done(prepare) => self.verdict(attempt, prepare),
            End::Canceled(prepare) | End::TimedOut(prepare) => {
                self.calls.push(prepare);
                Err(State::Failed { reason: "job_execution_timeout", exit_code: None })
            }
        }
    }

    fn stages(&mut self, attempt: &mut Attempt<'a>) -> State {
        let mut state = State::Success;
        let mut user_stage_reached = false;
        let names = if self.job.artifacts {
            &["prepare_script", "get_sources", "restore_cache", "download_artifacts", "build_script"][..]
        } else {
            &["prepare_script", "get_sources", "build_script"]
        };
        for name in names {
            user_stage_reached |= *name == "build_script";
            let failed = match self.stage(attempt, name) {
                Ok(()) => continue,
                Err(failed) => failed,
            };
            if *name == "prepare_script" || failed == timeout() {
                return failed;
            }
            state = failed;
            break;
        }
        if user_stage_reached {
            attempt.status = match (&state, self.canceled) {
                (_, true) => "canceled".into(),
                (State::Success, _) => "success".into(),
                _ => "failed".into(),
            };
            // Its failure is a warning only.
            if !self.job.after_script.is_empty() && self.stage(attempt, "after_script") == Err(timeout()) {
                return timeout();
            }
        }
        let green = state == State::Success;
        if self.job.artifacts {
            let late = if green {
                ["archive_cache", "upload_artifacts_on_success"]
            } else {
                ["archive_cache_on_failure", "upload_artifacts_on_failure"]
            };
            for name in late {
                if let Err(failed) = self.stage(attempt, name)
                    && state == State::Success
                {
                    state = failed;
                }
            }
        }
        // Its failure is a warning only.
        let _ = self.stage(attempt, "cleanup_file_variables");
        state
    }

    fn stage(&mut self, attempt: &mut Attempt<'a>, name: &str) -> Result<(), State> {
        let call = attempt.run(name);
        match self.watch(call, name == "build_script") {
            End::Done(finished) => self.verdict(attempt, finished),
            End::Canceled(finished) => {
                self.calls.push(finished);
                Err(State::Failed { reason: "unknown_failure", exit_code: None })
            }
            End::TimedOut(finished) => {
                self.calls.push(finished);
                Err(timeout())
            }
        }
    }

    /// Waits for a call, and ends it when the job's time is over or the job was canceled in its script.
    fn watch(&mut self, call: Call<'a>, cancelable: bool) -> End {
        while call.is_running() {
            let cancel = cancelable && self.job.cancel_when.as_ref().is_some_and(|text| call.output().contains(text));
            let late = Instant::now() > self.deadline;
            if !cancel && !late {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            self.canceled |= cancel;
            call.terminate();
            let patience = Instant::now() + self.job.graceful_kill;
            while call.is_running() && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(10));
            }
            if call.is_running() {
                call.signal(Signal::SIGKILL, true);
            }
            let finished = call.wait_for(FORCE_KILL);
            // An exec that ends with 0 after SIGTERM has succeeded in gitlab-runner's eyes.
            return match (finished.code, cancel) {
                (Some(0), _) => End::Done(finished),
                (_, true) => End::Canceled(finished),
                (_, false) => End::TimedOut(finished),
            };
        }
        End::Done(call.wait())
    }

    /// gitlab-runner's reading of an exit code.
    fn verdict(&mut self, attempt: &Attempt<'_>, finished: Finished) -> Result<(), State> {
        let code = finished.code;
        self.calls.push(finished);
        match code {
            Some(0) => Ok(()),
            Some(1) => Err(exit_code(attempt)),
            _ => Err(State::system_failure()),
        }
    }

    fn clean_up(&mut self, attempt: Attempt<'a>) {
        self.calls.push(attempt.cleanup().wait());
        // Dropping the attempt removes its TMPDIR.
    }
}

fn timeout() -> State {
    State::Failed { reason: "job_execution_timeout", exit_code: None }
}

/// BUILD_EXIT_CODE_FILE as Go's strconv.Atoi reads its first line: no spaces, an optional sign, digits.
fn exit_code(attempt: &Attempt<'_>) -> State {
    let Ok(text) = fs::read_to_string(attempt.exit_code_file()) else { return State::script_failure(1) };
    let line = text.split('\n').next().unwrap_or_default();
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line.parse::<i64>() {
        Ok(0) => State::Failed { reason: "script_failure", exit_code: None },
        Ok(code) => State::script_failure(i32::try_from(code).unwrap()),
        Err(_) => State::Failed { reason: "unknown_failure", exit_code: None },
    }
}
