//! SIGHUP: the configuration is read again, for jobs that come from now on. One that is wrong changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use super::listener::Gate;
use super::notify::{self, Part, StatusLine};
use crate::config::{self, Change};
use crate::executor::Executor;

/// Reads the configuration again.
#[derive(Debug)]
pub struct Reload {
    /// The main file.
    pub file: PathBuf,
    /// What takes it over.
    pub executor: Arc<Executor>,
    /// Who may call.
    pub gate: Arc<Gate>,
    /// Where the outcome is said.
    pub line: Arc<StatusLine>,
}

impl Reload {
    /// Reads it once, and says what came of it: to systemd, in the log, and in the status.
    pub async fn run(self: &Arc<Self>) {
        notify::reloading();
        let reload = Arc::clone(self);
        // Files and the user database may be slow.
        let note = match tokio::task::spawn_blocking(move || reload.take_over()).await {
            Ok(Ok(change)) => succeeded(&change),
            Ok(Err(reason)) => {
                tracing::error!("the changed configuration is refused, and the old one stays in effect:\n{reason}");
                Some("the changed configuration is refused, see the log".to_owned())
            }
            Err(error) => {
                tracing::error!("internal error, please report it: {error}");
                Some("the configuration could not be read again".to_owned())
            }
        };
        self.executor.set_note(note.clone());
        self.line.say(Part::Configuration, note);
        notify::ready();
    }

    fn take_over(&self) -> Result<Change, String> {
        let read = config::load(&self.file).map_err(|errors| errors.to_string())?;
        let change = config::change(&self.executor.settings(), read)?;
        // What can fail comes first: a configuration is in effect as a whole or not at all.
        let prepared = Executor::prepare_for(&change.settings);
        prepared.and_then(|()| self.gate.change(&change.settings.socket)).map_err(|error| format!("{error:#}"))?;
        self.executor.take_over(change.settings.clone());
        Ok(change)
    }
}

/// Says what is in effect now; returns what is not.
fn succeeded(change: &Change) -> Option<String> {
    match change.taken_over.as_slice() {
        [] => tracing::info!("the configuration was read again, and nothing that jobs get has changed"),
        keys => tracing::info!("the configuration was read again; taken over for new jobs: {}", keys.join(", ")),
    }
    if change.waiting.is_empty() {
        return None;
    }
    let note = format!("only a restart of windlassd takes over {}", change.waiting.join(", "));
    tracing::warn!("{note}");
    Some(note)
}
