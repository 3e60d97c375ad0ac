//! Another configuration for a daemon that runs: for jobs that come from now on.

use std::sync::{Arc, PoisonError};

use anyhow::{Context, Result};

use super::{Executor, images};
use crate::config::Settings;

impl Executor {
    /// Says what an administrator should know of the configuration.
    pub fn set_note(&self, note: Option<String>) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note;
    }

    /// Says what of the daemon could not begin; once, at its start.
    pub fn set_missing(&self, missing: Vec<String>) {
        let _ = self.missing.set(missing);
    }

    /// Prepares for settings before they are in effect.
    ///
    /// # Errors
    /// When they can't be.
    pub fn prepare_for(settings: &Settings) -> Result<()> {
        for (name, profile) in &settings.profiles {
            if let Some(ca_file) = &profile.job.ca_file {
                images::link_certificates(&settings.run_dir, name, ca_file)
                    .with_context(|| format!("prepare the certificates of profile {name}"))?;
            }
        }
        Ok(())
    }

    /// Puts other settings into effect. What a lease is, it stays.
    pub fn take_over(&self, settings: Settings) {
        let slots: Vec<(String, u32)> =
            settings.profiles.iter().map(|(name, profile)| (name.clone(), profile.slots)).collect();
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        // A job that was let in by the old ones may still take one of the old slots; it counts among the new.
        self.slots.resize(slots.into_iter());
        self.housekeeping.purge.notify_one();
    }
}
