//! Wire bytes to and from Varve's model: pure, bounded, fuzzed.
//!
//! ```text
//! body as sent ── inflate ──> body ── remote_write::decode_v1 ──> WriteBatch   (labels stay where they are)
//!                               ├──── remote_write::decode_v2 ──> WriteBatch   (labels are written anew)
//!                               └──── exposition::decode ───────> WriteBatch   (labels are written anew)
//! ```
//! No file, no clock, no thread: bytes in, plain data out. Invariants: no input panics a decoder; every length and
//! count is checked before it is used and before memory is taken for it; what a request may take is bounded by
//! [`varve_model::Limits`], whose setting the error names.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod budget;
mod error;
pub mod exposition;
pub mod inflate;
pub mod influx;
mod metadata;
pub mod otlp;
pub mod protobuf;
pub mod remote_read;
pub mod remote_write;
pub mod scrape;
mod summary;
pub mod tsdb;

pub use error::Error;
pub use summary::{Refused, Summary};
