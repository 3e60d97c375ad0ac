//! What is done when a run is over, whoever had it done: unfit containers are named, figures written, somebody is told.

use super::report::Report;
use super::{Context, figures, tell};

/// Does it. What fails is logged: neither is a reason to call the run a failure.
pub async fn run_is_over(context: &Context, report: &Report) {
    for unfit in &report.unfit {
        tracing::warn!("container {}: {}", unfit.container, unfit.reason);
    }
    if let Some(directory) = &context.settings.textfile_directory
        && let Err(error) = figures::write(directory, &context.state, report)
    {
        tracing::error!("{error:#}");
    }
    if let Err(error) = tell::tell(&context.settings.command, report).await {
        tracing::error!("{error:#}");
    }
}
