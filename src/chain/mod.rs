//! The image chain: which project builds on which, and what has to be rebuilt when.
//!
//! What is here knows nothing of sockets, clocks or databases.

pub mod age;
pub mod base;
pub mod containerfile;
pub mod discovery;
pub mod event;
pub mod facts;
pub mod hooks;
pub mod reconcile;
#[cfg(test)]
mod simulation;
pub mod words;
