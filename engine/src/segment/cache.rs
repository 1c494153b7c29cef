//! BlockCache: verified blocks and what was decoded from them, shared by all segments, bounded in bytes.
//!
//! Shards of a hash table with a clock hand each: an entry that was asked for since the hand last passed gets a second
//! round, the first one that was not goes. A lock is held for a look-up or an insertion, never while reading or
//! decoding; two readers that miss at once both read. An entry bigger than a shard's share is kept until the next
//! insertion, so a big term dictionary does not thrash.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use varve_model::{SeriesHash, TenantId};
use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::Decompressor;

use super::rows::{ChunkRows, ColumnRow, SeriesRows};
use crate::index::Texts;
use crate::index::terms::Terms;

const SHARDS: usize = 16;
/// What an entry costs beside its content.
const ENTRY_BYTES: usize = 96;

/// What is cached.
#[derive(Clone, Debug)]
pub(super) enum Cached {
    /// Payload of a block of a byte section.
    Bytes(Arc<Vec<u8>>),
    /// A block of the series section.
    Series(Arc<SeriesRows>),
    /// A block of the chunks section.
    Chunks(Arc<ChunkRows>),
    /// A block of the columns section.
    Columns(Arc<Vec<ColumnRow>>),
    /// One decoded time column.
    Times(Arc<Vec<i64>>),
    /// Hashes of a block of series: a join by hash needs no more of it, and they are a tenth of the rows.
    Hashes(Arc<Vec<SeriesHash>>),
    /// A tenant's dictionary.
    Terms(Arc<Terms>),
    /// Values of a tenant's label, its names for the empty name; the key's index is a hash of these two.
    Texts(TenantId, Arc<str>, Arc<Texts>),
}

impl Cached {
    fn bytes(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Cached::Bytes(bytes) => bytes.capacity(),
                Cached::Series(rows) => rows.heap_bytes(),
                Cached::Chunks(rows) => rows.heap_bytes(),
                Cached::Columns(rows) => size_of::<ColumnRow>() * rows.capacity(),
                Cached::Times(times) => 8 * times.capacity(),
                Cached::Hashes(hashes) => size_of::<SeriesHash>() * hashes.capacity(),
                Cached::Terms(terms) => terms.bytes(),
                Cached::Texts(_, name, texts) => name.len() + texts.heap_bytes(),
            }
    }
}

/// Segment (by the number the cache gave it), kind of content, index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    pub(super) segment: u64,
    pub(super) kind: u8,
    pub(super) index: u32,
}

impl Key {
    fn hash(self) -> u64 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.segment.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.index.to_le_bytes());
        bytes[12] = self.kind;
        xxh3_64(&bytes)
    }
}

#[derive(Debug)]
struct Entry {
    key: Key,
    content: Cached,
    bytes: usize,
    asked: bool,
}

#[derive(Default, Debug)]
struct Shard {
    entries: Vec<Entry>,
    /// Index into `entries` by key.
    table: HashTable<u32>,
    hand: usize,
    bytes: usize,
}

impl Shard {
    fn find(&self, key: Key) -> Option<usize> {
        let same = |&index: &u32| self.entries.get(index as usize).is_some_and(|entry| entry.key == key);
        self.table.find(key.hash(), same).map(|&index| index as usize)
    }

    fn remove(&mut self, index: usize) {
        let unlink = |table: &mut HashTable<u32>, key: Key, index: usize| {
            table.find_entry(key.hash(), |&found| found as usize == index).map(|entry| entry.remove()).is_ok()
        };
        let last = self.entries.len() - 1;
        let Some(key) = self.entries.get(index).map(|entry| entry.key) else { return };
        assert!(unlink(&mut self.table, key, index), "an entry is in the table");
        if index != last {
            // The last entry takes the place.
            let Some(moved) = self.entries.get(last).map(|entry| entry.key) else { return };
            assert!(unlink(&mut self.table, moved, last), "an entry is in the table");
            self.link(moved, index);
        }
        let gone = self.entries.swap_remove(index);
        self.bytes -= gone.bytes;
    }

    fn link(&mut self, key: Key, index: usize) {
        let entries = &self.entries;
        let hash = |&index: &u32| entries.get(index as usize).map_or(0, |entry| entry.key.hash());
        self.table.insert_unique(key.hash(), index as u32, hash);
    }

    fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max && !self.entries.is_empty() {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            match self.entries.get_mut(self.hand) {
                Some(entry) if entry.asked => {
                    entry.asked = false;
                    self.hand += 1;
                }
                _ => {
                    self.remove(self.hand);
                    // The newest entry has taken the place; it is not the next to go.
                    self.hand += 1;
                }
            }
        }
    }

    fn insert(&mut self, key: Key, content: Cached, bytes_max: usize) {
        if self.find(key).is_some() {
            return;
        }
        let bytes = content.bytes();
        self.evict(bytes_max.saturating_sub(bytes));
        let index = self.entries.len();
        self.entries.push(Entry { key, content, bytes, asked: false });
        self.link(key, index);
        self.bytes += bytes;
    }
}

/// Figures of a cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStatus {
    /// Bytes held.
    pub bytes: u64,
    /// Entries held.
    pub entries: u64,
    /// Look-ups that found their entry.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
}

/// A cache of blocks; one for all segments of an engine.
pub struct BlockCache {
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes_max: usize,
    segments: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    decompressors: Mutex<Vec<Decompressor<'static>>>,
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({:?})", self.status())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under these locks leaves whole entries only.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BlockCache {
    /// A cache of about `bytes_max` bytes; 0 keeps next to nothing.
    pub fn new(bytes_max: u64) -> Arc<BlockCache> {
        Arc::new(BlockCache {
            shards: Default::default(),
            shard_bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX) / SHARDS,
            segments: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            decompressors: Mutex::default(),
        })
    }

    /// What it holds and how it did.
    pub fn status(&self) -> CacheStatus {
        let mut status = CacheStatus {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            ..CacheStatus::default()
        };
        for shard in &self.shards {
            let shard = lock(shard);
            status.bytes += shard.bytes as u64;
            status.entries += shard.entries.len() as u64;
        }
        status
    }

    /// A number for a segment's keys that no other segment of this cache has.
    pub(super) fn number(&self) -> u64 {
        self.segments.fetch_add(1, Ordering::Relaxed)
    }

    fn shard(&self, key: Key) -> &Mutex<Shard> {
        // The high bits: the tables use the low ones and the top seven.
        let [first, ..] = &self.shards;
        self.shards.get((key.hash() >> 40) as usize % SHARDS).unwrap_or(first)
    }

    pub(super) fn get(&self, key: Key) -> Option<Cached> {
        let mut shard = lock(self.shard(key));
        let found = shard.find(key).and_then(|index| shard.entries.get_mut(index)).map(|entry| {
            entry.asked = true;
            entry.content.clone()
        });
        let count = if found.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(super) fn insert(&self, key: Key, content: Cached) {
        lock(self.shard(key)).insert(key, content, self.shard_bytes_max);
    }

    /// Drops everything of a segment.
    pub(super) fn forget(&self, segment: u64) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let mut index = 0;
            while let Some(entry) = shard.entries.get(index) {
                if entry.key.segment == segment {
                    shard.remove(index);
                } else {
                    index += 1;
                }
            }
        }
    }

    /// Decompresses a zstd frame to exactly `bytes` bytes; `None` when it is none or has another length.
    pub(super) fn decompress(&self, frame: &[u8], bytes: usize) -> Option<Vec<u8>> {
        let pooled = lock(&self.decompressors).pop();
        let mut decompressor = match pooled {
            Some(decompressor) => decompressor,
            None => Decompressor::new().ok()?,
        };
        let out = decompressor.decompress(frame, bytes).ok().filter(|out| out.len() == bytes);
        lock(&self.decompressors).push(decompressor);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(segment: u64, index: u32) -> Key {
        Key { segment, kind: 0, index }
    }

    fn bytes(count: usize) -> Cached {
        Cached::Bytes(Arc::new(vec![7; count]))
    }

    #[test]
    fn stays_within_its_bytes_and_keeps_what_is_asked_for() {
        let cache = BlockCache::new(SHARDS as u64 * 10_000);
        for index in 0..10_000 {
            cache.insert(key(1, index), bytes(1000));
            assert!(cache.get(key(1, 0)).is_some(), "asked for each time, gone at {index}");
        }
        let status = cache.status();
        assert!(status.bytes <= SHARDS as u64 * 10_000, "{status:?}");
        assert!(status.entries > 100, "{status:?}");
    }

    #[test]
    fn what_is_read_again_displaces_what_a_scan_left() {
        // Each new entry once took the place of the one evicted before it, so in a full cache nothing new ever stayed.
        let cache = BlockCache::new(SHARDS as u64 * 100_000);
        for index in 0..10_000 {
            cache.insert(key(1, index), bytes(1000));
        }
        let mut hits = [0; 3];
        for round in &mut hits {
            for index in 0..400 {
                if cache.get(key(2, index)).is_some() {
                    *round += 1;
                } else {
                    cache.insert(key(2, index), bytes(1000));
                }
            }
        }
        assert_eq!(hits[0], 0);
        assert!(hits[1] > 350, "{hits:?}");
        assert!(hits[2] > 350, "{hits:?}");
    }

    #[test]
    fn an_entry_bigger_than_a_shard_is_kept_until_the_next() {
        let cache = BlockCache::new(16);
        cache.insert(key(1, 1), bytes(5000));
        assert!(cache.get(key(1, 1)).is_some());
    }

    #[test]
    fn a_dropped_segment_leaves_nothing() {
        let cache = BlockCache::new(1 << 20);
        for index in 0..100 {
            cache.insert(key(u64::from(index % 3), index), bytes(100));
        }
        cache.forget(1);
        for index in 0..100 {
            assert_eq!(cache.get(key(u64::from(index % 3), index)).is_some(), index % 3 != 1);
        }
        cache.forget(0);
        cache.forget(2);
        assert_eq!(cache.status().bytes, 0);
    }
}
