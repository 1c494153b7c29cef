//! Counters of the log, for metrics: atomics that only grow.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the log has counted since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Batches made durable, without marks.
    pub batches: u64,
    /// Records made durable.
    pub records: u64,
    /// Bytes written to log files, with headers and marks.
    pub bytes: u64,
    /// Syncs of groups that succeeded.
    pub syncs: u64,
    /// Nanoseconds spent in writing and syncing groups.
    pub sync_nanos: u64,
    /// Writes and syncs of groups that failed.
    pub failures: u64,
    /// Log files made of zeros.
    pub files_made: u64,
    /// Log files made of a spare.
    pub files_recycled: u64,
    /// Log files that retention removed or set aside as spare.
    pub files_removed: u64,
    /// Times that retention could not remove a partition's files.
    pub retention_failures: u64,
    /// Places found damaged, at opening and while reading.
    pub damaged: u64,
    /// Torn tails cut at opening.
    pub torn: u64,
}

/// The live counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_nanos: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) files_made: AtomicU64,
    pub(crate) files_recycled: AtomicU64,
    pub(crate) files_removed: AtomicU64,
    pub(crate) retention_failures: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) torn: AtomicU64,
}

/// Adds to a counter; nothing is ordered by it.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            batches: read(&self.batches),
            records: read(&self.records),
            bytes: read(&self.bytes),
            syncs: read(&self.syncs),
            sync_nanos: read(&self.sync_nanos),
            failures: read(&self.failures),
            files_made: read(&self.files_made),
            files_recycled: read(&self.files_recycled),
            files_removed: read(&self.files_removed),
            retention_failures: read(&self.retention_failures),
            damaged: read(&self.damaged),
            torn: read(&self.torn),
        }
    }
}
