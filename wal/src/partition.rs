//! Partition: its log files in order, the high-water mark, and what may not be removed.
//!
//! Invariants:
//! * Files are sorted by base offset and their ranges are disjoint; the last one may be growing.
//! * `high` is the first offset that is not durable; it never falls, and nothing at or above it is ever read.
//! * The lock is held for a few lines, never during I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::file::LogFile;
use crate::spares::Spares;
use crate::topic::{PartitionId, TopicName, TopicSettings};

/// One partition of a topic.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) topic: TopicName,
    pub(crate) id: PartitionId,
    pub(crate) dir: PathBuf,
    high: AtomicU64,
    state: Mutex<State>,
    /// Held during the I/O of retention: two of them must not count the same files.
    retaining: Mutex<()>,
}

/// What changes in a partition.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) files: Vec<Arc<LogFile>>,
    /// Whether the one writer is out.
    pub(crate) written: bool,
    /// Files of the topic's size that wait to be used again.
    pub(crate) spares: Spares,
    /// Whether a removal in the directory may not be durable yet.
    pub(crate) unsynced: bool,
    /// Positions of internal consumers: nothing at or above the lowest is removed.
    pub(crate) positions: BTreeMap<String, u64>,
    pub(crate) settings: TopicSettings,
}

impl Partition {
    pub(crate) fn new(
        topic: TopicName,
        id: PartitionId,
        dir: PathBuf,
        settings: TopicSettings,
        found: crate::recover::Found,
    ) -> Partition {
        let state = State {
            files: found.files,
            written: false,
            spares: found.spares,
            unsynced: false,
            positions: BTreeMap::new(),
            settings,
        };
        Partition {
            topic,
            id,
            dir,
            high: AtomicU64::new(found.next),
            state: Mutex::new(state),
            retaining: Mutex::new(()),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other retentions of this partition out.
    pub(crate) fn retaining(&self) -> MutexGuard<'_, ()> {
        self.retaining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// First offset that is not durable yet.
    pub(crate) fn high(&self) -> u64 {
        // Pairs with the Release in `raise`: who sees the offset finds the extent that holds it.
        self.high.load(Ordering::Acquire)
    }

    /// Moves the high-water mark up.
    pub(crate) fn raise(&self, to: u64) {
        let before = self.high.fetch_max(to, Ordering::Release);
        assert!(before <= to, "the high-water mark never falls");
    }

    /// Offset of the oldest record that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.state().files.first().map_or(self.high(), |file| file.base)
    }

    /// The file that holds `offset`, or else the first one behind it.
    pub(crate) fn file_for(&self, offset: u64) -> Option<Arc<LogFile>> {
        let state = self.state();
        let after = state.files.partition_point(|file| file.base <= offset);
        if let Some(file) = after.checked_sub(1).and_then(|n| state.files.get(n))
            && offset < file.extent().end_offset
        {
            return Some(file.clone());
        }
        state.files.get(after).or(state.files.last()).cloned()
    }

    /// The first record of the file that would hold `offset`.
    pub(crate) fn file_start(&self, offset: u64) -> u64 {
        let state = self.state();
        let after = state.files.partition_point(|file| file.base <= offset);
        match after.checked_sub(1).and_then(|n| state.files.get(n)).or(state.files.first()) {
            Some(file) => file.base,
            None => offset,
        }
    }

    /// An offset at or before the first batch appended at `time_ms` or later.
    pub(crate) fn offset_before(&self, time_ms: i64) -> u64 {
        let state = self.state();
        for file in &state.files {
            let extent = file.extent();
            if extent.max_time >= time_ms {
                return extent.index.seek_time(time_ms).unwrap_or(file.base);
            }
        }
        self.high()
    }
}
