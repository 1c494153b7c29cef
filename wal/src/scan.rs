//! Scan: reads a log file's bytes from front to end and says what is there, what is missing and where it stops.
//!
//! One idea: a batch is believed only if its checksums hold and its offset can be; behind a bad one the scan looks on,
//! by the length of its header if that holds, else at 8-byte steps. It judges nothing: whether a gap is damage or a
//! torn tail is for `recover` to say, which knows what was durable.

use crate::batch::{self, HEADER_BYTES, Header};
use crate::file::{Extent, FILE_HEADER_BYTES};
use crate::index::Index;

/// Bytes that are no batch, with the offsets that are missing there.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) what: &'static str,
    /// How far the file went before the gap.
    pub(crate) before: Extent,
}

/// What stands behind the last batch of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rest {
    /// Zeros, or too few bytes for a batch.
    Clean,
    /// A batch of this file that is not whole.
    Torn(&'static str),
    /// Bytes that are no batch of this file: torn, damaged, or of an earlier life of a recycled file.
    Other(&'static str),
    /// Batches that a later file supersedes.
    Superseded,
}

/// What a log file holds.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) extent: Extent,
    pub(crate) batches: u64,
    pub(crate) gaps: Vec<Gap>,
    /// The newest durable offset any batch claims.
    pub(crate) durable: u64,
    /// Byte of the first batch at or above `durable` that has records.
    pub(crate) doubtful_at: Option<u64>,
    /// What stands behind the last batch.
    pub(crate) rest: Rest,
}

/// The next batch at or behind `at`, at 8-byte steps.
fn look_on(bytes: &[u8], mut at: usize, seed: u32, expected: u64, limit: u64) -> Option<(usize, Header)> {
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
        if batch::plausible(rest, expected)
            && let Ok((header, _)) = batch::decode(rest, seed)
            && header.end_offset() <= limit
        {
            return Some((at, header));
        }
        at += 8;
    }
    None
}

/// Reads the batches in `bytes` (a whole file) whose offsets lie in `base..limit`. `each` is told of every batch.
pub(crate) fn scan(
    bytes: &[u8],
    seed: u32,
    base: u64,
    limit: u64,
    end: u64,
    each: &mut dyn FnMut(u64, &Header, &[u8]),
) -> Scan {
    let bytes = &bytes[..bytes.len().min(usize::try_from(end).unwrap_or(usize::MAX))];
    let mut found = Scan {
        extent: Extent {
            end_offset: base,
            end_at: FILE_HEADER_BYTES as u64,
            max_time: i64::MIN,
            index: Index::default(),
            whole: true,
        },
        batches: 0,
        gaps: Vec::new(),
        durable: 0,
        doubtful_at: None,
        rest: Rest::Clean,
    };
    let mut starts: Vec<(u64, u64)> = Vec::new();
    let mut at = FILE_HEADER_BYTES;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
        let expected = found.extent.end_offset;
        let (what, next) = match batch::decode(rest, seed) {
            Ok((header, payload)) if header.base_offset == expected && header.end_offset() <= limit => {
                each(at as u64, &header, payload);
                let extent = &mut found.extent;
                extent.index.note(header.base_offset, at as u64, extent.max_time);
                if !header.is_mark() {
                    starts.push((header.base_offset, at as u64));
                    extent.max_time = extent.max_time.max(header.record.time_ms);
                }
                found.batches += 1;
                found.durable = found.durable.max(header.durable_offset);
                at += header.batch_bytes();
                extent.end_offset = header.end_offset();
                extent.end_at = at as u64;
                continue;
            }
            // What a later file superseded: no part of the log.
            Ok((header, _)) if header.end_offset() > limit => {
                found.rest = Rest::Superseded;
                break;
            }
            Ok((header, _)) => ("batch out of sequence", at + header.batch_bytes()),
            Err(malformed) => match batch::decode_header(rest, seed) {
                Ok(header) if header.base_offset >= expected && header.end_offset() <= limit => {
                    (malformed.0, at.saturating_add(header.batch_bytes()))
                }
                _ => (malformed.0, at + 8),
            },
        };
        // A length that leads nowhere says nothing: then every step is looked at.
        let later = look_on(bytes, next, seed, expected, limit)
            .or_else(|| if next > at + 8 { look_on(bytes, at + 8, seed, expected, limit) } else { None });
        let Some((later, header)) = later else {
            found.rest = if batch::decode_header(rest, seed).is_ok() {
                Rest::Torn(what)
            } else if rest.iter().any(|byte| *byte != 0) {
                Rest::Other(what)
            } else {
                Rest::Clean
            };
            break;
        };
        found.gaps.push(Gap {
            at: at as u64,
            bytes: (later - at) as u64,
            first: expected,
            end: header.base_offset,
            what,
            before: found.extent.clone(),
        });
        found.extent.whole = false;
        found.extent.end_offset = header.base_offset;
        at = later;
    }
    let doubtful = starts.partition_point(|(offset, _)| *offset < found.durable);
    found.doubtful_at = starts.get(doubtful).map(|(_, at)| *at);
    found
}
