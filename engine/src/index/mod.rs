//! The label index: which series carry which label, in memory for the head and on disk for segments.
//!
//! ```text
//!             matchers ──select──► ids (RoaringBitmap)
//!                          │ asks a TermSource
//!          ┌───────────────┴───────────────┐
//!   memory: hash tables, roaring     terms: FST ──► postings lists in blocks
//!   (head)                           (segment)
//! ```
//! One algebra of matchers ([`select`]) over two stores, so that head and segments cannot answer differently.

pub(crate) mod idset;
pub mod memory;
pub(crate) mod postings;
pub(crate) mod select;
pub(crate) mod terms;
mod texts;
pub(crate) mod varint;

pub use memory::MemoryIndex;
pub use texts::Texts;
