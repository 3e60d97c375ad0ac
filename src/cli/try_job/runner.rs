//! gitlab-runner's part: how it starts the executables, what it gives them, and how it reads their end.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use super::TryArgs;

/// Exit code for the job's failures that the shims are asked for, as gitlab-runner does.
const BUILD_FAILURE: i32 = 1;
/// Exit code for the system's failures.
const SYSTEM_FAILURE: i32 = 2;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Well.
    Success,
    /// The job failed, with this exit code.
    Job(u8),
    /// The system failed.
    System,
}

/// One attempt at one job.
#[derive(Debug)]
pub struct Runner {
    libexec: PathBuf,
    directory: PathBuf,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    scripts: u32,
    log_to_stderr: bool,
    running: Arc<AtomicI32>,
    interrupted: Arc<AtomicBool>,
}

impl Runner {
    /// Prepares the attempt's directory.
    pub fn new(libexec: &Path, response: &Value, arguments: &TryArgs) -> Result<Self> {
        let directory = nix::unistd::mkdtemp(&std::env::temp_dir().join("windlass-try.XXXXXX"))
            .context("make a temporary directory")?;
        let mut runner = Self {
            libexec: libexec.to_owned(),
            options: vec!["--socket".to_owned(), std::path::absolute(&arguments.socket)?.display().to_string()],
            environment: Vec::new(),
            scripts: 0,
            log_to_stderr: arguments.json,
            running: Arc::default(),
            interrupted: Arc::default(),
            directory,
        };
        if let Some(profile) = &arguments.profile {
            runner.options.extend(["--profile".to_owned(), profile.clone()]);
        }
        let file = runner.directory.join("response.json");
        write_new(&file, response.to_string().as_bytes(), 0o600)?;
        let text = |path: &Path| path.display().to_string();
        runner.environment = vec![
            ("TMPDIR".to_owned(), text(&runner.directory)),
            ("BUILD_FAILURE_EXIT_CODE".to_owned(), BUILD_FAILURE.to_string()),
            ("SYSTEM_FAILURE_EXIT_CODE".to_owned(), SYSTEM_FAILURE.to_string()),
            ("BUILD_EXIT_CODE_FILE".to_owned(), text(&runner.exit_code_file())),
            ("JOB_RESPONSE_FILE".to_owned(), text(&file)),
        ];
        for (key, value) in &arguments.variables {
            runner.environment.push((format!("CUSTOM_ENV_{key}"), value.clone()));
        }
        runner.pass_signals_on()?;
        Ok(runner)
    }

    /// A signal to this program goes to what runs; a second one kills it. Cleanup follows in any case.
    fn pass_signals_on(&self) -> Result<()> {
        let mut signals =
            signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
                .context("handle signals")?;
        let (running, interrupted) = (Arc::clone(&self.running), Arc::clone(&self.interrupted));
        thread::spawn(move || {
            for _ in signals.forever() {
                let signal = if interrupted.swap(true, Ordering::SeqCst) { Signal::SIGKILL } else { Signal::SIGTERM };
                let group = running.load(Ordering::SeqCst);
                if group > 0 {
                    // It may just have ended.
                    let _ = killpg(Pid::from_raw(group), signal);
                }
            }
        });
        Ok(())
    }

    /// Whether the job was told to end.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// config_exec; returns the builds_dir that it names.
    pub fn config(&mut self) -> Result<String> {
        let mut answer = Vec::new();
        let end = self.start("windlass-config", &[], Some(&mut answer))?;
        if end != End::Success {
            bail!("windlass-config failed");
        }
        let answer: Value = serde_json::from_slice(&answer).context("understand what windlass-config printed")?;
        let environment = answer.get("job_env").and_then(Value::as_object);
        for (key, value) in environment.into_iter().flatten() {
            self.environment
                .push((key.clone(), value.as_str().context("job_env holds something else than text")?.to_owned()));
        }
        Ok(answer.get("builds_dir").and_then(Value::as_str).context("windlass-config named no builds_dir")?.to_owned())
    }

    /// prepare_exec.
    pub fn prepare(&mut self) -> End {
        self.call("windlass-prepare", &[])
    }

    /// run_exec with this script.
    pub fn stage(&mut self, name: &str, script: &str) -> End {
        self.scripts += 1;
        let path = self.directory.join(format!("script{}", self.scripts));
        if let Err(error) = write_new(&path, script.as_bytes(), 0o700) {
            eprintln!("windlass: {error:#}");
            return End::System;
        }
        self.call("windlass-run", &[&path.display().to_string(), name])
    }

    /// cleanup_exec. Its output is not the job's.
    pub fn cleanup(&mut self) -> End {
        self.call("windlass-cleanup", &[])
    }

    fn call(&mut self, program: &str, arguments: &[&str]) -> End {
        self.start(program, arguments, None).unwrap_or_else(|error| {
            eprintln!("windlass: {error:#}");
            End::System
        })
    }

    /// Starts a shim as gitlab-runner does, and reads its output to the end before its end counts.
    fn start(&mut self, program: &str, arguments: &[&str], captured: Option<&mut Vec<u8>>) -> Result<End> {
        let path = self.libexec.join(program);
        let mut command = Command::new(&path);
        command.args(&self.options).args(arguments).envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
            .current_dir(&self.directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {}", path.display()))?;
        self.running.store(i32::try_from(child.id())?, Ordering::SeqCst);
        let to_stderr = self.log_to_stderr;
        let stderr = child.stderr.take().context("no stderr")?;
        let copier = thread::spawn(move || copy(stderr, to_stderr));
        let mut stdout = child.stdout.take().context("no stdout")?;
        match captured {
            Some(buffer) => drop(stdout.read_to_end(buffer).context("read what it printed")?),
            None => copy(stdout, to_stderr),
        }
        let _ = copier.join();
        let status = child.wait().context("wait for it")?;
        self.running.store(0, Ordering::SeqCst);
        Ok(match status.code() {
            Some(0) => End::Success,
            Some(BUILD_FAILURE) => End::Job(self.exit_code()),
            _ => End::System,
        })
    }

    fn exit_code_file(&self) -> PathBuf {
        self.directory.join("build_exit_code")
    }

    /// The script's own exit code, where the shim left one.
    fn exit_code(&self) -> u8 {
        fs::read_to_string(self.exit_code_file())
            .ok()
            .and_then(|text| text.lines().next()?.parse().ok())
            .filter(|code| *code != 0)
            .unwrap_or(1)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Nothing in it outlives the job.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Both streams of a shim are the job log.
fn copy(mut from: impl Read, to_stderr: bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        // Nobody to print to is no reason to stop the job.
        let _ = if to_stderr {
            io::stderr().write_all(&buffer[..count])
        } else {
            let mut stdout = io::stdout();
            stdout.write_all(&buffer[..count]).and_then(|()| stdout.flush())
        };
    }
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let file: io::Result<File> = File::options().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(content)).with_context(|| format!("write {}", path.display()))
}
