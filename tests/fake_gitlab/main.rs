//! The fake GitLab itself: that it is like GitLab where it is well, and goes wrong as it is told to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod disabling;
mod faults;
mod graphql;
mod hooks;
mod pipelines;
mod program;
mod projects;
mod webhooks;

use serde_json::Value;

/// The keys of an object.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Words that a text lists, sorted.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    words.sort_unstable();
    words
}
