//! What the tests that drive the programs share: a host to run them on, and gitlab-runner's part.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod account;
pub mod attempt;
pub mod boxed;
pub mod browser;
pub mod call;
pub mod chain;
pub mod chain_alone;
pub mod client;
pub mod coordinator;
pub mod driver;
pub mod feed;
pub mod frames;
pub mod git;
pub mod gitlab;
pub mod host;
pub mod http;
pub mod images;
pub mod installed;
pub mod job;
pub mod lanes;
pub mod leftovers;
pub mod notices;
pub mod openmetrics;
pub mod packages;
pub mod page;
pub mod player;
pub mod prefix;
pub mod processes;
pub mod programs;
pub mod proxy;
pub mod pushed;
pub mod receiver;
pub mod registry;
pub mod scenarios;
pub mod scripts;
pub mod site;
pub mod storage;
pub mod tables;
pub mod tls;
pub mod tunnel;
pub mod updater;
pub mod volume;
pub mod wait;

pub use attempt::{Attempt, Runner};
pub use call::{Call, Finished};
pub use driver::{Outcome, State};
pub use host::Host;
pub use images::Image;
pub use job::Job;
pub use wait::{until, value};
