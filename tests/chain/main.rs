//! The image chain: daemon, GitLab and administrator together, over HTTP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod alone;
mod base;
mod commands;
mod discovery;
mod endpoint;
mod faults;
mod feed;
mod figures;
mod full;
mod hooks;
mod order;
mod watch;
