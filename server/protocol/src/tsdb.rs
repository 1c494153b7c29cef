//! The files of Prometheus's own storage: blocks of a data directory, read to take them over.
//!
//! ```text
//! <ULID>/index       symbols · series (labels, chunks) · postings · table of contents      [`Index`]
//! <ULID>/chunks/000001 …  chunks one after another, each with its encoding and checksum    [`Segment`]
//! <ULID>/tombstones  what was deleted and is still in the chunks                           [`tombstones`]
//! ```
//! The formats are those of `tsdb/docs/format` in Prometheus 3.14: index versions 1 to 3, chunk files of version 1, all
//! six encodings of chunks (XOR, XOR2, histograms of integers and of floats, both also with start timestamps).
//! Anything newer is refused by name ([`Error::Newer`]), never guessed at.
//!
//! Pure: borrowed bytes in, labels and columns out; the caller maps the files. Invariants: no byte is used before the
//! checksum (CRC-32C) over it was right; every length, count and reference is checked before use; a chunk decodes to
//! at most [`CHUNK_BYTES_MAX`].

mod bits;
mod chunk;
mod crc32c;
mod cursor;
mod error;
mod float;
mod histogram;
mod index;
#[cfg(test)]
mod tests;
mod tombstone;

pub use chunk::{CHUNK_BYTES_MAX, Encoding, Segment, decode_chunk};
pub use crc32c::crc32c;
pub use error::Error;
pub use index::{ChunkMeta, Index};
pub use tombstone::{Tombstone, tombstones};
