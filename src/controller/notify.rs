//! Tells somebody of projects that stay failed or blocked, once for each reason.

use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Controller;
use super::view::{kind, rfc3339};
use crate::chain::facts::{ProjectId, Time};
use crate::chain::reconcile::State;
use crate::loops;

/// How long the program may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What the program gets on its standard input.
#[derive(Debug, Serialize)]
struct Notice {
    project: String,
    project_id: ProjectId,
    web_url: String,
    state: &'static str,
    words: String,
    since: String,
}

/// Whether somebody has to do something.
fn is_stuck(state: &State) -> bool {
    matches!(
        state,
        State::Failed
            | State::Canceled
            | State::Manual
            | State::Blocked { .. }
            | State::Refused { .. }
            | State::GaveUp { .. }
            | State::Cycle { .. }
    )
}

impl Controller {
    /// Tells what there is to tell.
    pub(super) async fn tell(&self) {
        let settings = &self.settings.notify;
        let Some((program, arguments)) = settings.command.split_first() else { return };
        let after = Time::try_from(settings.after.as_millis()).unwrap_or(Time::MAX);
        let now = self.gitlab.now();
        let plan = self.decide();
        let mut notices = Vec::new();
        let mut mended = Vec::new();
        {
            let mut state = self.state();
            for (id, decision) in &plan.decisions {
                let Some(about) = state.about.get_mut(id) else { continue };
                if !is_stuck(&decision.state) {
                    if about.notified.take().is_some() {
                        mended.push(*id);
                    }
                    continue;
                }
                if now - about.state_since < after || about.notified.as_deref() == Some(about.state.as_str()) {
                    continue;
                }
                about.notified = Some(about.state.clone());
                notices.push(Notice {
                    project: about.path.clone(),
                    project_id: *id,
                    web_url: about.web_url.clone(),
                    state: kind(&decision.state),
                    words: about.state.clone(),
                    since: rfc3339(about.state_since),
                });
            }
        }
        // On record first: better told never than over and over.
        self.save_or_say(mended.into_iter().chain(notices.iter().map(|notice| notice.project_id))).await;
        for notice in notices {
            tracing::info!(project = notice.project, words = notice.words, "telling of it");
            let told = run(program, arguments, &notice).await;
            loops::step();
            if let Err(error) = told {
                tracing::warn!("[chain.notify] command {program}: {error:#}");
            }
        }
    }
}

async fn run(program: &str, arguments: &[String], notice: &Notice) -> anyhow::Result<()> {
    let text = serde_json::to_vec(notice)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let work = async {
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // A program that does not read it is no reason to fail.
            let _ = input.write_all(&text).await;
        }
        child.wait().await
    };
    let status = tokio::time::timeout(LIMIT, work).await;
    let status = status.map_err(|_| anyhow::anyhow!("it took longer than {LIMIT:?} and was ended"))??;
    if !status.success() {
        anyhow::bail!("it ended with {status}");
    }
    Ok(())
}
