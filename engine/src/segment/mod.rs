//! Segments: immutable files of one shard's series over one range of time.
//!
//! ```text
//! header(64)  block*  directory(block)  trailer(32)
//!
//! section      unit     written when          holds
//! series       series   256 series are full   label bytes of series, sorted by (tenant, labels)
//! chunks       series   with its series       per chunk: which time column, how many bytes of values
//! columns      column   1024 columns are full per time column: count, range, how many bytes
//! times        byte     32 KiB are full       encoded time columns; equal columns of a tenant are one
//! values       byte     32 KiB are full       encoded values and histograms
//! postings     byte     32 KiB are full       id lists
//! terms        tenant   a tenant ends         FST of the tenant's labels
//! starts       byte     32 KiB are full       start timestamps of the chunks that have any
//! exemplars    series   1024 or 64 KiB        exemplars, with the labels of their series
//! ```
//! Sections of bytes are one logical run of bytes cut into blocks between items: an item's *address* is its place in
//! that run, so directories hold lengths only and positions follow by addition.
//!
//! Every block carries a checksum over its place in the file, the segment's id and its bytes, checked at every read
//! from disk. What is damaged is an [`crate::Error::Damaged`] for the series that need it; the rest is served.
//! `docs/format.md`, "Segment files", has the bytes.

pub mod cache;
mod directory;
pub mod dump;
pub(crate) mod exemplars;
mod file;
mod layout;
mod lookup;
pub mod meta;
pub mod reader;
mod rows;
pub mod verify;
pub mod writer;

pub use cache::BlockCache;
pub use dump::dump;
pub use meta::{ExemplarMeta, SegmentHeader, SegmentMeta, TenantMeta};
pub use reader::{ReadScratch, Segment};
pub use writer::SegmentWriter;

/// Samples in a chunk at most: decoding part of a chunk costs all of it.
pub const CHUNK_SAMPLES_MAX: usize = 4096;
/// Histograms in a chunk at most; each is as big as hundreds of floats.
pub const CHUNK_HISTOGRAMS_MAX: usize = 512;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
