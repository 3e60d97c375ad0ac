//! `windlass update` on a host of its own (scripts/box.sh): real systemd, real podman, a real registry; as root and as a user.
//!
//! The tests run this program again in the box, with one of those that are ignored here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod feed;
mod index;
mod judged;
mod killed;
mod logins;
mod order;
mod podman;
mod pods;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod trouble;

/// The label that podman's own updates go by.
const LABEL: &str = "--label io.containers.autoupdate=registry";
/// A healthcheck that good images pass.
const CHECK: &str = "--health-cmd 'test -e /healthy' --health-interval 1s --health-retries 3 --health-timeout 2s";
