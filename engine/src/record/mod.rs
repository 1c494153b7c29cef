//! Records: what the log's payloads mean to the engine. `docs/format.md`, "Metrics records", has the bytes.

pub mod metrics;
pub(crate) mod number;
pub(crate) mod rows;

pub(crate) use rows::{Entry, Exemplar, Rows};

/// The `kind` of a log batch that holds a metrics record.
pub const KIND_METRICS: u8 = 1;
/// The `kind` of a log batch that holds a manifest record.
pub const KIND_MANIFEST: u8 = 16;

/// Bytes that are not a record of ours; says what is wrong with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed record: {0}")]
pub struct Malformed(pub &'static str);
