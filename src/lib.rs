//! Windlass runs GitLab CI jobs in podman containers, as one systemd service.
//!
//! The programs in `src/bin` are short; what they do is here. ARCHITECTURE.md has the map.

pub mod chain;
pub mod cli;
pub mod config;
pub mod controller;
pub mod doctor;
pub mod executor;
pub mod files;
pub mod gitlab;
pub mod history;
pub mod http;
pub mod init;
pub mod job;
pub mod lanes;
pub mod loops;
pub mod metrics;
pub mod page;
pub mod podman;
pub mod protocol;
pub mod registry;
pub mod service;
pub mod shim;
pub mod store;
pub mod sys;
pub mod update;
pub mod words;
