//! Tells somebody of a run in which something happened: the command of `[update]`, with the report on its standard input.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::report::Report;

/// How long the program may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the command, if there is one and something happened.
///
/// # Errors
/// When it can't be started, fails, or takes too long.
pub async fn tell(command: &[String], report: &Report) -> Result<()> {
    let Some((program, arguments)) = command.split_first().filter(|_| report.is_news()) else { return Ok(()) };
    let text = serde_json::to_vec(report)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    let work = async {
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // A program that does not read it is no reason to fail.
            let _ = input.write_all(&text).await;
        }
        child.wait().await
    };
    let status = match tokio::time::timeout(LIMIT, work).await {
        Ok(status) => status.with_context(|| format!("run {program}, which [update] command names"))?,
        Err(_) => bail!("{program}, which [update] command names, took longer than {LIMIT:?} and was ended"),
    };
    if !status.success() {
        bail!("{program}, which [update] command names, ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::report::{Outcome, UnitReport};
    use super::super::units::UnitName;
    use super::*;

    fn report(outcome: Outcome) -> Report {
        let unit = UnitName::try_from("web.service".to_owned()).expect("a name");
        let at = Timestamp::UNIX_EPOCH;
        Report {
            host: "h".to_owned(),
            user: "u".to_owned(),
            started: at,
            ended: at,
            units: vec![UnitReport::new(&unit, outcome)],
            unfit: Vec::new(),
        }
    }

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn the_program_gets_the_report_of_a_run_in_which_something_happened() {
        let directory = tempfile::tempdir().expect("tempdir");
        let file = directory.path().join("report");
        let command = shell(&format!("cat >{}", file.display()));
        tell(&command, &report(Outcome::Current)).await.expect("nothing to tell");
        assert!(!file.exists());
        let updated = report(Outcome::Updated);
        tell(&command, &updated).await.expect("told");
        let text = std::fs::read(&file).expect("written");
        assert_eq!(serde_json::from_slice::<Report>(&text).expect("JSON"), updated);
    }

    #[tokio::test]
    async fn a_program_that_fails_is_named() {
        let error = tell(&shell("exit 3"), &report(Outcome::Failed)).await.expect_err("fails");
        assert!(error.to_string().contains("/bin/sh") && error.to_string().contains('3'), "{error}");
    }
}
