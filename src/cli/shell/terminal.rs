//! The caller's terminal in raw mode, and as it was afterwards.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// A terminal in raw mode; as it was before when this is dropped, or told to.
#[derive(Debug, Clone)]
pub struct Raw(Arc<Mutex<Option<Termios>>>);

impl Raw {
    /// Every key goes to the far side from now on. Without a terminal nothing is changed.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn begin(is_terminal: bool) -> Result<Self> {
        if !is_terminal {
            return Ok(Self(Arc::default()));
        }
        let before = tcgetattr(io::stdin()).context("read the terminal's mode")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).context("set the terminal's mode")?;
        Ok(Self(Arc::new(Mutex::new(Some(before)))))
    }

    /// Back to what it was. Once is enough.
    pub fn end(&self) {
        if let Some(before) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A terminal that is gone has no mode.
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &before);
        }
    }
}
