//! What a person sees of the job: headings, and at the end how long each stage took.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::runner::End;

/// The report of one job.
#[derive(Debug)]
pub struct Report {
    json: bool,
    bold: bool,
    stages: Vec<(&'static str, Duration, End)>,
}

impl Report {
    /// An empty one.
    pub fn new(json: bool, terminal: bool) -> Self {
        Self { json, bold: terminal && !json, stages: Vec::new() }
    }

    /// Runs a stage under its heading and notes its time.
    pub fn measure(&mut self, stage: &'static str, work: impl FnOnce() -> End) -> End {
        let heading = if self.bold { format!("\x1b[1m[{stage}]\x1b[0m") } else { format!("[{stage}]") };
        self.say(&heading);
        let since = Instant::now();
        let end = work();
        self.stages.push((stage, since.elapsed(), end.clone()));
        end
    }

    fn say(&self, line: &str) {
        if self.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// Prints the result.
    pub fn finish(&self, end: &End) -> Result<()> {
        if self.json {
            println!("{}", self.to_json(end)?);
        } else {
            print!("\n{}", self.table(end));
        }
        Ok(())
    }

    fn to_json(&self, end: &End) -> Result<String> {
        let stages: Vec<_> = self
            .stages
            .iter()
            .map(|(stage, time, end)| json!({"stage": stage, "seconds": time.as_secs_f64(), "result": words(end)}))
            .collect();
        let code = if let End::Job(code) = end { Some(*code) } else { (*end == End::Success).then_some(0) };
        Ok(serde_json::to_string(&json!({"result": words(end), "exit_code": code, "stages": stages}))?)
    }

    fn table(&self, end: &End) -> String {
        let width = self.stages.iter().map(|(stage, ..)| stage.len()).max().unwrap_or(0);
        let total = self.stages.iter().map(|(_, time, _)| *time).sum();
        let mut text = String::new();
        for (stage, time, end) in &self.stages {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{stage:width$}  {:>9}  {}", shown(*time), words(end));
        }
        let _ = writeln!(text, "{:width$}  {:>9}", "in all", shown(total));
        text + &match end {
            End::Success => "Job succeeded\n".to_owned(),
            End::Job(code) => format!("Job failed: exit code {code}\n"),
            End::System => "System failure: the job could not be run; the lines above say why\n".to_owned(),
        }
    }
}

fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

fn words(end: &End) -> String {
    match end {
        End::Success => "ok".to_owned(),
        End::Job(code) => format!("failed with exit code {code}"),
        End::System => "system failure".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_a_stage_and_the_outcome() {
        let stages = vec![
            ("prepare", Duration::from_millis(210), End::Success),
            ("build_script", Duration::from_millis(1500), End::Job(3)),
        ];
        let report = Report { json: false, bold: false, stages };
        assert_eq!(
            report.table(&End::Job(3)),
            "prepare          210 ms  ok\nbuild_script     1.50 s  failed with exit code 3\nin all           1.71 s\nJob failed: exit code 3\n"
        );
    }
}
