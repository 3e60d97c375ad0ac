//! What the `windlass` command does.

mod arguments;
pub mod ask;
pub mod cache;
pub mod chain;
pub mod check;
pub mod doctor;
pub mod drain;
pub mod hold;
pub mod import;
pub mod jobs;
pub mod shell;
pub mod status;
pub mod try_job;
pub mod update;
mod watch;

pub use arguments::Arguments;
