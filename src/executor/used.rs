//! What a job has used, for the line at its log's end.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::protocol::init::Usage;

/// The stage that every job ends with; what cleanup prints does not reach the job log.
pub const LAST_STAGE: &str = "cleanup_file_variables";

/// What a job's container has used since its start, as its init says: numbers from the job, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Used {
    memory_peak: Option<u64>,
    cpu_us: Option<u64>,
    written: Option<u64>,
}

impl Used {
    /// Adds what a stage reported.
    pub fn add(&mut self, usage: &Usage) {
        self.memory_peak = self.memory_peak.max(usage.memory_peak);
        self.cpu_us = self.cpu_us.max(usage.cpu_total_us);
        self.written = self.written.max(usage.written);
    }

    /// Most memory at once, in bytes.
    #[must_use]
    pub fn memory_peak(&self) -> Option<u64> {
        self.memory_peak
    }

    /// CPU time in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> Option<u64> {
        self.cpu_us
    }

    /// Bytes written to disks.
    #[must_use]
    pub fn written(&self) -> Option<u64> {
        self.written
    }

    /// The line; none when nothing is known.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        let parts = [
            self.memory_peak.map(|bytes| format!("{} of memory at its peak", ByteSize(bytes))),
            self.cpu_us.map(|us| format!("{}.{:02} s of CPU time", us / 1_000_000, us % 1_000_000 / 10_000)),
            self.written.map(|bytes| format!("{} written to disk", ByteSize(bytes))),
        ];
        let known: Vec<String> = parts.into_iter().flatten().collect();
        (!known.is_empty()).then(|| format!("The job used {}", known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_what_is_known() {
        assert_eq!(Used::default().line(), None);
        let mut used = Used::default();
        let stage = |peak, cpu| Usage { memory_peak: Some(peak), cpu_total_us: Some(cpu), ..Usage::default() };
        used.add(&stage(64 << 20, 1_500_000));
        used.add(&stage(32 << 20, 2_340_000));
        assert_eq!(used.line().as_deref(), Some("The job used 64.0 MiB of memory at its peak, 2.34 s of CPU time"));
    }
}
