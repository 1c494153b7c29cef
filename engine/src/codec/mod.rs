//! How samples become bytes: every encoding of times, values and histograms, each known by a tag byte.
//!
//! * [`gorilla`] streams: the head appends to it, sample by sample.
//! * [`times`], [`values`] and [`histogram`] take a whole chunk at once, as a segment has it.
//!
//! Invariants of all of them:
//! * Bit for bit: every `f64` comes back as it was, NaN payloads, the stale marker and -0.0 included.
//! * Bytes from outside never panic: a decoder ends with [`Malformed`], leaves the vectors as they were, and allocates
//!   no more than the count it was given calls for. Whoever calls bounds the count.
//! * `docs/format.md`, "Chunk encodings", has the bytes of each; golden tests hold them fast.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod bits;
mod choose;
mod decimal;
mod frame;
pub mod gorilla;
pub mod histogram;
mod integer;
mod packed;
mod planes;
#[cfg(test)]
mod samples;
mod split;
pub mod times;
pub mod values;
pub(crate) mod varint;
mod xor;

/// Bytes that are not what an encoder of ours wrote; says what is wrong with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed chunk: {0}")]
pub struct Malformed(pub &'static str);

#[cfg(test)]
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
