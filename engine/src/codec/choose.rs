//! Try, compare, pick: which encoding a chunk of values gets.
//!
//! One comparison a value settles constants. Decimals, which are nearly all metrics, are packed. The others go to the
//! smaller of XOR and split floats. Cold data may trade speed for bytes: planes under zstd are taken when they save a
//! tenth, since they decode at a third of the speed.

use super::packed::{self, Layout, Reduced};
use super::values::Tag;
use super::varint::write_i64;
use super::{planes, split, xor};

/// How much encoding may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effort {
    /// Young data, written often and soon rewritten: the encodings that decode fastest.
    Hot,
    /// Old data, written once: the fewest bytes.
    Cold,
}

/// Chunks shorter than this gain nothing from zstd.
const PLANES_COUNT_MIN: usize = 128;
/// Chunks with fewer bytes than this gain nothing from zstd.
const PLANES_BYTES_MIN: usize = 96;

/// Appends the values behind a tag byte; nothing when there are none. Every `f64` comes back bit for bit.
pub fn encode(values: &[f64], effort: Effort, out: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|value| value.to_bits() == first.to_bits()) {
        constant(*first, out);
        return;
    }
    let start = out.len();
    match packed::reduce(values) {
        // Exceptions are dear: with many of them floats may win.
        Some(reduced) if reduced.bytes() < values.len() * 4 => decimals(&reduced, values, effort, out),
        Some(reduced) => {
            decimals(&reduced, values, effort, out);
            let mut other = Vec::new();
            floats(values, effort, &mut other);
            if other.len() < out.len() - start {
                out.truncate(start);
                out.extend_from_slice(&other);
            }
        }
        None => floats(values, effort, out),
    }
}

fn constant(value: f64, out: &mut Vec<u8>) {
    let integer = value as i64;
    // Up to six bytes of varint are worth it.
    if integer.unsigned_abs() < 1 << 41 && (integer as f64).to_bits() == value.to_bits() {
        out.push(Tag::ConstantInteger as u8);
        write_i64(out, integer);
    } else {
        out.push(Tag::Constant as u8);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

fn decimals(reduced: &Reduced, values: &[f64], effort: Effort, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(if reduced.has_exceptions() { Tag::PackedExceptions } else { Tag::Packed } as u8);
    let written = reduced.write(Layout::Frames, out);
    debug_assert!(written.is_some(), "frames always succeed");
    let bytes = out.len() - start;
    if effort == Effort::Hot || values.len() < PLANES_COUNT_MIN || bytes < PLANES_BYTES_MIN || !reduced.has_rest() {
        return;
    }
    let tag = if reduced.has_exceptions() { Tag::PackedPlanesExceptions } else { Tag::PackedPlanes };
    take_if_tenth_smaller(start, out, |out| {
        out.push(tag as u8);
        reduced.write(Layout::Planes, out)
    });
}

fn floats(values: &[f64], effort: Effort, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(Tag::Xor as u8);
    xor::encode(values, out);
    let plan = split::plan(values);
    if plan.bytes < out.len() - start {
        let xored = out.split_off(start);
        out.push(Tag::Split as u8);
        split::encode(values, &plan, out);
        // The plan was made from a sample.
        if xored.len() < out.len() - start {
            out.truncate(start);
            out.extend_from_slice(&xored);
        }
    }
    if out.len() - start > 1 + 8 * values.len() {
        out.truncate(start);
        out.push(Tag::Raw as u8);
        out.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
    }
    if effort == Effort::Cold && values.len() >= PLANES_COUNT_MIN && plan.repeats {
        take_if_tenth_smaller(start, out, |out| {
            out.push(Tag::Planes as u8);
            let bits: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
            planes::encode(&bits, out)
        });
    }
}

/// Replaces what follows `start` by what `write` appends, if that saves a tenth.
fn take_if_tenth_smaller(start: usize, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Option<()>) {
    let end = out.len();
    let written = write(out);
    if written.is_some() && (out.len() - end) * 10 <= (end - start) * 9 {
        out.drain(start..end);
    } else {
        out.truncate(end);
    }
}
