//! Where the daemon's own words go: to systemd's journal, with the fields JOB, PROJECT, SLOT, STAGE and PIPELINE that journalctl can choose
//! by; to stderr where that is not the journal.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Says from now on what happens; `filter` chooses what of it.
pub fn start(filter: EnvFilter) {
    let journal = if stderr_is_the_journal() { journal() } else { None };
    if let Some(journal) = journal {
        tracing_subscriber::registry().with(filter).with(journal).init();
        return;
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn journal() -> Option<tracing_journald::Layer> {
    let layer = tracing_journald::layer()
        .inspect_err(|error| eprintln!("windlassd: the journal can't be reached, so it gets no fields: {error}"));
    // Without a prefix the names are those that people know, and information is information.
    Some(layer.ok()?.with_field_prefix(None).with_priority_mappings(PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        ..PriorityMappings::new()
    }))
}

/// Whether systemd has connected stderr with the journal (JOURNAL_STREAM in systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(std::io::stderr().as_fd()).is_ok_and(|about| stream == format!("{}:{}", about.st_dev, about.st_ino))
}
