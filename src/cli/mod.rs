//! What the `windlass` command does.

pub mod ask;
pub mod cache;
pub mod chain;
pub mod check;
pub mod drain;
pub mod import;
pub mod jobs;
pub mod status;
pub mod try_job;
mod watch;
