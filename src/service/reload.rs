//! SIGHUP: the configuration is read again, for jobs that come from now on. One that is wrong changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::notify::{self, Part, StatusLine};
use super::parts::Parts;
use crate::config::{self, Change, Settings};
use crate::executor::Executor;

/// Reads the configuration again.
#[derive(Debug)]
pub struct Reload {
    /// The main file.
    file: PathBuf,
    /// What is in effect where no part keeps that itself.
    settings: Mutex<Settings>,
    /// What takes it over.
    parts: Arc<Parts>,
    /// Who may call.
    gate: Arc<Gate>,
    /// Where the outcome is said.
    line: Arc<StatusLine>,
}

impl Reload {
    /// For this main file, of which these settings are in effect.
    #[must_use]
    pub fn new(file: PathBuf, settings: Settings, parts: Arc<Parts>, gate: Arc<Gate>, line: Arc<StatusLine>) -> Self {
        Self { file, settings: Mutex::new(settings), parts, gate, line }
    }

    /// Reads it whenever somebody asks for that, until the shutdown, which waits for none.
    pub async fn run_forever(self: Arc<Self>, asked: Arc<Notify>, shutdown: CancellationToken) {
        let reading = async {
            loop {
                asked.notified().await;
                self.run().await;
            }
        };
        let _: Option<()> = shutdown.run_until_cancelled(reading).await;
    }

    /// Reads it once, and says what came of it: to systemd, in the log, and in the status.
    async fn run(self: &Arc<Self>) {
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
        self.parts.set_note(note.clone());
        self.line.say(Part::Configuration, note);
        notify::ready();
    }

    /// The settings in effect.
    pub fn settings(&self) -> Settings {
        match self.parts.has_executor() {
            Some(executor) => (*executor.settings()).clone(),
            None => self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn take_over(&self) -> Result<Change, String> {
        let read = config::load(&self.file).map_err(|errors| errors.to_string())?;
        let executor = self.parts.has_executor();
        let mut change = config::change(&self.settings(), read)?;
        // What can fail comes first: a configuration is in effect as a whole or not at all.
        let prepared = if executor.is_some() { Executor::prepare_for(&change.settings) } else { Ok(()) };
        prepared.and_then(|()| self.gate.change(&change.settings.socket)).map_err(|error| format!("{error:#}"))?;
        match executor {
            Some(executor) => executor.take_over(change.settings.clone()),
            None => {
                change.without_jobs();
                *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = change.settings.clone();
            }
        }
        Ok(change)
    }
}

/// Says what is in effect now; returns what is not.
fn succeeded(change: &Change) -> Option<String> {
    match change.taken_over.as_slice() {
        [] => tracing::info!("the configuration was read again, and nothing has changed"),
        keys => tracing::info!("the configuration was read again; taken over for new jobs: {}", keys.join(", ")),
    }
    if change.waiting.is_empty() {
        return None;
    }
    let note = format!("only a restart of windlassd takes over {}", change.waiting.join(", "));
    tracing::warn!("{note}");
    Some(note)
}
