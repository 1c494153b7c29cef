//! State: what readers see, published whole: one `Version` of the segments and each shard's heads.
//!
//! Invariants:
//! * Head, frozen heads and segments of a state cover each offset once: a flush takes the frozen head out and puts its
//!   segments in within one publication. So no snapshot sees a sample twice or not at all.
//! * States are changed under one lock and read without.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::deletion::Deletion;
use crate::head::{FrozenHead, Head};
use crate::manifest::SegmentEntry;
use crate::segment::Segment;

/// An open segment and what the manifest says of it.
pub(crate) struct LiveSegment {
    pub(crate) entry: SegmentEntry,
    pub(crate) path: PathBuf,
    pub(crate) segment: Arc<Segment>,
}

impl fmt::Debug for LiveSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveSegment({:?})", self.entry)
    }
}

/// The live segments, in order of partition, then offset, then time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Version {
    pub(crate) segments: Vec<Arc<LiveSegment>>,
    /// Per partition the offset below which everything is in segments.
    pub(crate) applied: BTreeMap<u32, u64>,
    /// Live segments that could not be read when the directory was opened.
    pub(crate) unreadable: Vec<SegmentEntry>,
    /// Deletions that some segment may need, in order of partition, then offset.
    pub(crate) deletions: Vec<Arc<Deletion>>,
}

impl Version {
    /// This version with changes.
    pub(crate) fn with(&self, add: Vec<Arc<LiveSegment>>, remove: &[u64], applied: Option<(u32, u64)>) -> Version {
        let mut next = self.clone();
        let replaced = |id: u64| remove.contains(&id) || add.iter().any(|live| live.entry.id == id);
        next.segments.retain(|live| !replaced(live.entry.id));
        next.segments.extend(add);
        next.segments.sort_by_key(|live| {
            let entry = &live.entry;
            (entry.partition, entry.first, entry.end, entry.range.min, entry.id)
        });
        if let Some((partition, offset)) = applied {
            next.applied.insert(partition, offset);
        }
        next
    }

    /// This version with one more deletion, which it may have: of the manifest and of the log.
    pub(crate) fn with_deletion(&self, deletion: Arc<Deletion>) -> Version {
        let mut next = self.clone();
        let place = |deletion: &Deletion| (deletion.partition, deletion.offset);
        next.deletions.retain(|other| place(other) != place(&deletion));
        next.deletions.push(deletion);
        next.deletions.sort_by_key(|deletion| (deletion.partition, deletion.offset));
        next
    }

    /// The deletions of a partition that no segment of this version needs; `frozen` are the heads that will become
    /// segments, which may have been read before the deletion was applied to them.
    pub(crate) fn idle_deletions(&self, partition: u32, frozen: &[Arc<FrozenHead>]) -> Vec<u64> {
        let own = self.deletions.iter().filter(|deletion| deletion.partition == partition);
        let unreadable = |deletion: &Deletion| {
            let of = self.unreadable.iter().filter(|entry| entry.partition == partition);
            of.into_iter().any(|entry| deletion.offset >= entry.clean)
        };
        let needed = |deletion: &Deletion| {
            self.of(partition).any(|live| deletion.concerns(live))
                || unreadable(deletion)
                || frozen.iter().any(|frozen| frozen.end <= deletion.offset)
        };
        own.filter(|deletion| !needed(deletion)).map(|deletion| deletion.offset).collect()
    }

    /// The segments that this one is laid over: of its partition, before it in offsets, with times that it has too. Those
    /// that could not be read count, for they may be readable at the next start.
    pub(crate) fn under(&self, over: &SegmentEntry) -> impl Iterator<Item = &SegmentEntry> {
        let before = move |entry: &&SegmentEntry| {
            let place = |entry: &SegmentEntry| (entry.first, entry.end, entry.range.min, entry.id);
            entry.partition == over.partition && place(entry) < place(over) && entry.range.overlaps(&over.range)
        };
        self.segments.iter().map(|live| &live.entry).chain(&self.unreadable).filter(before)
    }

    /// The live segments of a partition, in order of offsets: later ones win.
    pub(crate) fn of(&self, partition: u32) -> impl Iterator<Item = &Arc<LiveSegment>> {
        self.segments.iter().filter(move |live| live.entry.partition == partition)
    }

    /// The offset behind all that the segments and deletions of a partition know of. The log goes on there at the
    /// lowest: a deletion below a segment's `clean` would hide nothing in it, a sample below a deletion would be hidden.
    pub(crate) fn end(&self, partition: u32) -> u64 {
        let applied = self.applied.get(&partition).copied();
        let unreadable = self.unreadable.iter().filter(|entry| entry.partition == partition);
        let clean = self.of(partition).map(|live| &live.entry).chain(unreadable).map(|entry| entry.clean);
        let deletions = self.deletions.iter().filter(|deletion| deletion.partition == partition);
        let behind = deletions.map(|deletion| deletion.offset.saturating_add(1));
        applied.into_iter().chain(clean).chain(behind).max().unwrap_or(0)
    }
}

/// One shard's heads.
#[derive(Clone, Debug)]
pub(crate) struct Heads {
    pub(crate) live: Arc<Head>,
    /// Oldest first; all before `live`.
    pub(crate) frozen: Vec<Arc<FrozenHead>>,
}

impl Heads {
    /// All heads, oldest first: later ones win.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Head>> {
        self.frozen.iter().map(|frozen| &frozen.head).chain(std::iter::once(&self.live))
    }
}

/// What readers see.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) version: Arc<Version>,
    /// By partition.
    pub(crate) shards: Vec<Heads>,
}

impl State {
    /// Bytes of memory of all heads, frozen ones included. Each head keeps its own account and there is no second one:
    /// a flush that takes a head out while a deletion empties it cannot take its bytes off twice.
    pub(crate) fn head_bytes(&self) -> u64 {
        self.shards.iter().flat_map(Heads::all).map(|head| head.bytes()).sum()
    }
}

/// The published state.
#[derive(Debug)]
pub(crate) struct Published {
    now: ArcSwap<State>,
    change: Mutex<()>,
}

impl Published {
    pub(crate) fn new(state: State) -> Published {
        Published { now: ArcSwap::from_pointee(state), change: Mutex::new(()) }
    }

    pub(crate) fn load(&self) -> Arc<State> {
        self.now.load_full()
    }

    /// Publishes a changed state.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        let _guard = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = State::clone(&self.now.load());
        change(&mut next);
        self.now.store(Arc::new(next));
    }
}
