//! Records: what the log's payloads mean to the engine. `docs/format.md`, "Metrics records", has the bytes.

pub mod metrics;
pub(crate) mod number;
pub(crate) mod rows;

pub(crate) use rows::{Entry, Exemplar, Rows};

/// The `kind` of a log batch that holds a metrics record.
pub const KIND_METRICS: u8 = 1;
/// The `kind` of a log batch in topic `metrics` that holds a deletion.
pub const KIND_DELETION: u8 = 2;
/// The `kind` of a log batch that holds a manifest record.
pub const KIND_MANIFEST: u8 = 16;

/// Bytes that are not a record of ours; says what is wrong with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed record: {0}")]
pub struct Malformed(pub &'static str);

/// The bytes of a golden block of `docs/format.md`: hex digits up to the first pair of spaces of each line. So the
/// prose and the bytes cannot part.
#[cfg(test)]
pub(crate) fn golden(name: &str) -> String {
    let text = include_str!("../../../docs/format.md");
    let block = text.split(&format!("<!-- golden {name}: begin -->")).nth(1).unwrap_or_default();
    let block = block.split("<!-- golden").next().unwrap_or_default();
    let lines = block.lines().filter(|line| !line.starts_with("```"));
    lines.flat_map(|line| line.split("  ").next()).collect::<String>().replace(' ', "")
}
