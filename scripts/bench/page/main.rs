//! Measures the page for `scripts/bench.sh`: time and bytes of its pages for chains of 20, 200 and 1,000 projects, and the daemon's CPU with
//! fifty pages open, while nothing happens and while the chain changes. GitLab is the tests' fake one.

#[path = "../chain/daemon.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod daemon;
#[path = "../chain/support.rs"]
#[allow(dead_code, reason = "a part of it is used")]
#[allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};

use daemon::Daemon;
use support::gitlab::FakeGitlab;

/// What can go wrong is told to a person, once; nobody branches on it.
type Result<T> = std::result::Result<T, String>;

/// Sizes of the chains.
const SIZES: [usize; 3] = [20, 200, 1000];
/// Pages that are open at once.
const OPEN: usize = 50;
/// How long a chain may take to come to a state.
const LONGEST: Duration = Duration::from_secs(300);
/// How long they are watched.
const WATCHED: Duration = Duration::from_secs(20);
/// How often the chain changes, where it does.
const CHANGES: Duration = Duration::from_secs(2);
/// How long an open page may take to be told the first thing.
const HELLO: Duration = Duration::from_secs(20);

/// Measures the page
#[derive(Parser)]
pub struct Arguments {
    /// The directory of windlassd and windlass
    #[arg(long)]
    programs: PathBuf,
    /// A configuration whose podman works
    #[arg(long)]
    config: PathBuf,
    /// Where the daemon's directories are made
    #[arg(long)]
    work: PathBuf,
    /// How often each page is asked for
    #[arg(long)]
    rounds: usize,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    if !arguments.json {
        println!("{:<58} {:>12} {:>12}", "page", "median", "bytes");
    }
    for size in SIZES {
        eprintln!("Measuring the page of {size} projects");
        let gitlab = FakeGitlab::start();
        let ids = make_projects(&gitlab, size);
        let daemon = Daemon::start(arguments, &gitlab)?;
        // The first look sets the webhooks up.
        until(&daemon, "the first look", |status| !status["looked_at"].is_null() && status["looking"] == false)?;
        until(&daemon, "all being fresh", |status| fresh(status) == size)?;
        // A fifth of it is not fresh, as while a base's change goes up.
        let pipeline = gitlab.pipeline(ids[0], &json!({"driven": true}));
        gitlab.bring(pipeline, "success");
        until(&daemon, "what is on the base being built", |status| fresh(status) == size - (size / 5 - 1))?;
        let socket = arguments.work.join("chain/run/page.sock");
        for path in ["/", "/chain", "/chain?show=all", &format!("/chain/{}", ids[0]), "/api/v1/chain"] {
            let mut times: Vec<f64> = Vec::new();
            let mut bytes = 0;
            for _ in 0..=arguments.rounds {
                let began = Instant::now();
                bytes = get(&socket, path)?;
                times.push(began.elapsed().as_secs_f64() * 1000.0);
                // What is shared for a second is not measured.
                std::thread::sleep(Duration::from_millis(1050));
            }
            times.remove(0);
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            let what = format!("{size} projects: {}", path.replace(&ids[0].to_string(), "BASE"));
            tell(arguments, &what, median, "ms", Some(bytes));
        }
        let still = || std::thread::sleep(WATCHED);
        // A project that nothing is built on runs and is done, again and again.
        let changing = || {
            let began = Instant::now();
            while began.elapsed() < WATCHED {
                let pipeline = gitlab.pipeline(ids[size - 1], &json!({"driven": true}));
                for status in ["running", "success"] {
                    gitlab.bring(pipeline, status);
                    std::thread::sleep(CHANGES);
                }
            }
        };
        for (what, meanwhile) in [("", &still as &dyn Fn()), (", the chain changes", &changing)] {
            for (open, words) in [(0, "no page".to_owned()), (OPEN, format!("{OPEN} pages"))] {
                let used = cpu_while(&daemon, &socket, open, meanwhile)?;
                tell(arguments, &format!("{size} projects: CPU, {words} open{what}"), used, "%", None);
            }
        }
        daemon.end();
        std::fs::remove_dir_all(arguments.work.join("chain")).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn tell(arguments: &Arguments, what: &str, value: f64, unit: &str, bytes: Option<usize>) {
    if arguments.json {
        println!("{}", json!({"row": "page", "what": what, "ours": value, "unit": unit, "bytes": bytes}));
    } else {
        let bytes = bytes.map_or_else(String::new, |bytes| bytes.to_string());
        println!("{what:<58} {:>12} {bytes:>12}", format!("{value:.1} {unit}"));
    }
}

/// Five bases, and the others on them.
fn make_projects(gitlab: &FakeGitlab, size: usize) -> Vec<u64> {
    let project = |index: usize| {
        let on = if index < 5 { String::new() } else { format!("images/p{}\n", index % 5) };
        json!({"path": format!("images/p{index}"), "files": {".gitlab-deps": on}})
    };
    let ids = gitlab.projects(&json!((0..size).map(project).collect::<Vec<_>>()));
    for id in &ids {
        gitlab.pipeline(*id, &json!({"to": "success", "quiet": true}));
    }
    ids
}

/// Waits until the chain's status is such.
fn until(daemon: &Daemon, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        if is_so(&daemon.chain(&["status"])?) {
            return Ok(());
        }
        if began.elapsed() > LONGEST {
            return Err(format!("{what} takes longer than {LONGEST:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How many projects are fresh.
fn fresh(status: &Value) -> usize {
    let projects = status["projects"].as_array().map_or(&[][..], Vec::as_slice);
    projects.iter().filter(|project| project["state"] == "fresh").count()
}

/// Bytes of an answer's body.
fn get(socket: &Path, path: &str) -> Result<usize> {
    let mut stream = ask(socket, path, "close")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no answer")?;
    if !bytes.starts_with(b"HTTP/1.1 200") {
        return Err(format!("{path}: {}", String::from_utf8_lossy(&bytes[..head])));
    }
    Ok(bytes.len() - head - 4)
}

fn ask(socket: &Path, path: &str, connection: &str) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).map_err(|error| format!("{}: {error}", socket.display()))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n")
        .map_err(|error| error.to_string())?;
    Ok(stream)
}

/// The daemon's CPU in percent of one core, with so many pages open, half of each kind, while something else happens.
fn cpu_while(daemon: &Daemon, socket: &Path, open: usize, meanwhile: &dyn Fn()) -> Result<f64> {
    let mut readers = Vec::new();
    for index in 0..open {
        let path = if index % 2 == 0 { "/live/now" } else { "/live/chain" };
        let mut stream = ask(socket, path, "keep-alive")?;
        expect_hello(&mut stream, path)?;
        let other = stream.try_clone().map_err(|error| error.to_string())?;
        let reading = std::thread::spawn(move || drop(std::io::copy(&mut stream, &mut std::io::sink())));
        readers.push((other, reading));
    }
    std::thread::sleep(Duration::from_secs(2));
    let (before, began) = (ticks(daemon.pid())?, Instant::now());
    meanwhile();
    let used = ticks(daemon.pid())? - before;
    let seconds = began.elapsed().as_secs_f64();
    for (stream, reading) in readers {
        if reading.is_finished() {
            return Err("a page was closed while it was watched".to_owned());
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
        let _ = reading.join();
    }
    Ok(used / seconds)
}

/// Reads until a page is told of changes: a daemon that refuses one would be measured without it.
fn expect_hello(stream: &mut UnixStream, path: &str) -> Result<()> {
    stream.set_read_timeout(Some(HELLO)).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    while !bytes.windows(12).any(|window| window == b"event: hello") {
        let mut some = [0; 4096];
        match stream.read(&mut some) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&some[..count]),
            _ => return Err(format!("{path} is not told of changes: {}", String::from_utf8_lossy(&bytes))),
        }
    }
    if !bytes.starts_with(b"HTTP/1.1 200") {
        return Err(format!("{path}: {}", String::from_utf8_lossy(&bytes)));
    }
    stream.set_read_timeout(None).map_err(|error| error.to_string())
}

/// CPU time of a process, in hundredths of a second (USER_HZ is 100 on every Linux).
fn ticks(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| error.to_string())?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).ok_or("no CPU time");
    Ok(field(11)? + field(12)?)
}
