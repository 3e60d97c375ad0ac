//! `windlass doctor`: what it looks at, how that is shown, and the exit code.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::config;
use crate::doctor::{Host, Level, Options, RUNNER_CONFIG, Row, Subject, examine};

/// Exit code when there is an error (or, with --strict, a warning).
const BAD: u8 = 1;

/// Looks at everything that jobs and the image chain need on this host; says what is wrong, what it means, and what mends it
///
/// Best run as root: podman is asked as the user that the service runs as, with that user's environment. It works while windlassd is
/// down, and needs no image: GitLab and the registry are looked for from inside a container that holds nothing but windlass-init.
///
/// Each line is ok, a warning (jobs run, but something is lost or will break), an error (jobs or the chain don't work), or skipped.
/// The exit code is 0 without an error, 1 with one; with --strict, 1 with a warning too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo windlass doctor
  sudo windlass doctor --quick                      # without containers and network
  sudo windlass doctor --only gitlab --only webhooks
  sudo windlass doctor --only build --build-image quay.io/buildah/stable:latest
  sudo windlass doctor --json | jq -r '.findings[] | select(.level == \"error\") | .remedy'")]
pub struct DoctorArgs {
    /// Look at this alone; may be given several times
    #[arg(long, value_name = "SUBJECT", value_enum)]
    only: Vec<Subject>,
    /// Leave out what starts containers or goes over the network
    #[arg(long)]
    quick: bool,
    /// Show only what is not ok
    #[arg(long, conflicts_with = "json")]
    problems: bool,
    /// Exit with 1 for warnings too
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The daemon's configuration
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// The user that the service runs as [default: that of windlass.service, or whose its directories are]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The daemon's socket [default: that of the configuration]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// gitlab-runner's configuration
    #[arg(long, value_name = "FILE", default_value = RUNNER_CONFIG)]
    runner_config: PathBuf,
    /// The image of the job that builds an image [default: one that is here, with buildah or podman in its name]
    #[arg(long, value_name = "IMAGE")]
    build_image: Option<String>,
    /// Where the host's files are, such as /etc/subuid
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// How many findings of each level there are.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    ok: usize,
    skipped: usize,
    warnings: usize,
    errors: usize,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    release: &'static str,
    user: &'a str,
    findings: &'a [Row],
    counts: Counts,
}

/// Looks, prints, and returns the exit code.
///
/// # Errors
/// When it can't even be begun, or what it prints can't be written.
pub fn run(arguments: &DoctorArgs) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let (user, rows) = runtime.block_on(look(arguments))?;
    let counts = count(&rows);
    let is_bad = counts.errors > 0 || (arguments.strict && counts.warnings > 0);
    let text = if arguments.json {
        let report = Report { release: env!("CARGO_PKG_VERSION"), user: &user, findings: &rows, counts };
        format!("{}\n", serde_json::to_string_pretty(&report)?)
    } else {
        let rows: Vec<&Row> =
            rows.iter().filter(|row| !arguments.problems || row.finding.level >= Level::Warning).collect();
        shown(&rows, &counts, std::io::stdout().is_terminal())
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("print what was found")?;
    Ok(if is_bad { BAD } else { 0 })
}

async fn look(arguments: &DoctorArgs) -> Result<(String, Vec<Row>)> {
    let options = Options {
        config: std::path::absolute(&arguments.config)?,
        user: arguments.user.clone(),
        socket: arguments.socket.clone(),
        runner_config: arguments.runner_config.clone(),
        build_image: arguments.build_image.clone(),
        quick: arguments.quick,
        root: arguments.root.clone(),
        own: None,
    };
    let host = Host::look(options).await?;
    let progress = std::io::stderr().is_terminal();
    let mut rows = Vec::new();
    for subject in Subject::value_variants() {
        if !arguments.only.is_empty() && !arguments.only.contains(subject) {
            continue;
        }
        if progress {
            // Over the line before; the next one, or the end, takes it away.
            eprint!("\r\x1b[Klooking at: {}", subject.heading());
        }
        rows.extend(examine(&host, *subject).await);
    }
    if progress {
        eprint!("\r\x1b[K");
    }
    Ok((host.user.name.clone(), rows))
}

fn count(rows: &[Row]) -> Counts {
    let of = |level: Level| rows.iter().filter(|row| row.finding.level == level).count();
    Counts { ok: of(Level::Ok), skipped: of(Level::Skipped), warnings: of(Level::Warning), errors: of(Level::Error) }
}

/// The word of a level, and its colour (ECMA-48).
fn word(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Ok => ("ok", "32"),
        Level::Skipped => ("skipped", "2"),
        Level::Warning => ("WARNING", "33"),
        Level::Error => ("ERROR", "1;31"),
    }
}

/// The findings for people, below the headings of their subjects.
fn shown(rows: &[&Row], counts: &Counts, colours: bool) -> String {
    let paint =
        |text: &str, colour: &str| if colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() };
    let mut text = String::new();
    // Writing into a string cannot fail.
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}");
    };
    let mut last = None;
    for row in rows {
        if last != Some(row.subject) {
            if last.is_some() {
                line(format_args!(""));
            }
            line(format_args!("{}", paint(row.subject.heading(), "1")));
            last = Some(row.subject);
        }
        let finding = &row.finding;
        let (word, colour) = word(finding.level);
        let level = paint(&format!("{word:7}"), colour);
        line(format_args!("  {level}  {}", indented(&finding.what)));
        for (name, words) in [("means", &finding.meaning), ("mend", &finding.remedy)] {
            if let Some(words) = words {
                line(format_args!("           {name:6} {}", indented(words)));
            }
        }
    }
    if last.is_some() {
        line(format_args!(""));
    }
    let number = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let (errors, warnings) = (number(counts.errors, "error"), number(counts.warnings, "warning"));
    let summary = format!("{errors}, {warnings}, {} ok, {} skipped", counts.ok, counts.skipped);
    let worst = if counts.errors > 0 {
        Level::Error
    } else if counts.warnings > 0 {
        Level::Warning
    } else {
        Level::Ok
    };
    line(format_args!("{}", paint(&summary, self::word(worst).1)));
    text
}

/// Further lines below the first one. What others have said must not steer the terminal.
fn indented(text: &str) -> String {
    let clean = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    text.trim_end().lines().map(clean).collect::<Vec<_>>().join("\n             ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Finding;

    fn rows() -> Vec<Row> {
        vec![
            Row { subject: Subject::Podman, finding: Finding::ok("podman", "podman 5") },
            Row {
                subject: Subject::Ids,
                finding: Finding::error("subuids", "none\x1b[2J\nat all", "no job", "usermod"),
            },
            Row { subject: Subject::Ids, finding: Finding::skipped("x", "not here", Some("do")) },
        ]
    }

    #[test]
    fn findings_are_below_their_subjects_with_what_mends_them() {
        let rows = rows();
        let counts = count(&rows);
        let text = shown(&rows.iter().collect::<Vec<_>>(), &counts, false);
        let expected = "podman\n  ok       podman 5\n\nSubordinate ids\n  ERROR    none[2J\n             at all\n           \
                        means  no job\n           mend   usermod\n  skipped  not here\n           mend   do\n\n\
                        1 error, 0 warnings, 1 ok, 1 skipped\n";
        assert_eq!(text, expected);
        assert!(shown(&[], &Counts::default(), false).starts_with("0 errors"));
    }

    #[test]
    fn colours_come_beside_the_words() {
        let rows = rows();
        let text = shown(&rows.iter().collect::<Vec<_>>(), &count(&rows), true);
        assert!(text.contains("\x1b[1;31mERROR  \x1b[0m"), "{text}");
    }
}
