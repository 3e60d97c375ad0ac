//! The page, as a real browser shows it and as programs read it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod api;
mod chain;
mod doctor;
mod history;
mod large;
mod live;
mod looks;
mod now;
mod past;
mod pictures;
mod watch;
