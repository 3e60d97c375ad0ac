//! What crosses sockets: frames, and the messages in them.
//!
//! Two conversations use the same frames. Shims and the `windlass` command call the daemon ([`daemon`]); daemon and shim
//! call the init in a job's container ([`init`]). Everything read from an init is input from the job: capped and checked.

pub mod admin;
pub mod chain;
pub mod daemon;
pub mod files;
pub mod frame;
pub mod history;
pub mod hold;
pub mod init;
pub mod shell;
pub mod stream;

pub use frame::{Decoder, Frame, FrameError, Kind};
