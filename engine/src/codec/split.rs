//! Full-precision floats that share their sign, exponent and first bits: those bits from a dictionary, the rest packed.
//!
//! After ALP-RD (Afroozeh, Kuffó, Boncz, SIGMOD 2023, §3.4): the right bits of noise do not shrink, the left ones do.
//!
//! ```text
//! head        u8: right bits (44 to 54), and index bits (0 to 3) << 6
//! dictionary  2^index bits varints: left parts
//! exceptions  count; each: gap to the previous one, left part
//! values      index << right bits | right part, least significant bit first, one after the other
//! ```
//! A value is one load, two masks and one look-up: no branch a value.

use super::Malformed;
use super::frame::{line_bytes, mask, read_line, write_line};
use super::varint::{Bytes, len_of_bits, write_u64};

const RIGHT_BITS_MIN: u32 = 44;
const RIGHT_BITS_MAX: u32 = 54;
const INDEX_BITS_MAX: u32 = 3;
/// Values that are looked at to place the cut.
const SAMPLE_LEN: usize = 128;

/// Where to cut.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    right_bits: u32,
    index_bits: u32,
    dictionary: Vec<u64>,
    /// Bytes it should take, from a sample.
    pub(super) bytes: usize,
    /// Whether the sample repeats itself, so that zstd would find something.
    pub(super) repeats: bool,
}

/// Finds the cheapest cut.
pub(super) fn plan(values: &[f64]) -> Plan {
    let stride = values.len().div_ceil(SAMPLE_LEN).max(1);
    let mut sample: Vec<u64> = values.iter().step_by(stride).map(|value| value.to_bits()).collect();
    // Sorted once: the left parts of a sorted sample are sorted at every cut.
    sample.sort_unstable();
    let distinct = 1 + sample.iter().zip(sample.iter().skip(1)).filter(|(this, next)| this != next).count();
    let repeats = distinct * 4 < sample.len() * 3;
    let (right_bits, index_bits) = (RIGHT_BITS_MAX, 0);
    let mut best = Plan { right_bits, index_bits, dictionary: vec![0], bytes: usize::MAX, repeats };
    let mut runs: Vec<(usize, u64)> = Vec::with_capacity(sample.len());
    for right_bits in RIGHT_BITS_MIN..=RIGHT_BITS_MAX {
        runs.clear();
        for value in &sample {
            let left = value >> right_bits;
            match runs.last_mut() {
                Some(run) if run.1 == left => run.0 += 1,
                _ => runs.push((1, left)),
            }
        }
        runs.sort_unstable_by(|a, b| b.cmp(a));
        for index_bits in 0..=INDEX_BITS_MAX.min(57 - right_bits) {
            let kept: usize = runs.iter().take(1 << index_bits).map(|run| run.0).sum();
            let exceptions = (sample.len() - kept) * values.len() / sample.len().max(1);
            let left_bytes = len_of_bits(64 - right_bits);
            let bytes = 2
                + (left_bytes << index_bits)
                + exceptions * (1 + left_bytes)
                + line_bytes(values.len(), right_bits + index_bits);
            if bytes < best.bytes {
                let mut dictionary: Vec<u64> = runs.iter().take(1 << index_bits).map(|run| run.1).collect();
                dictionary.resize(1 << index_bits, 0);
                best = Plan { right_bits, index_bits, dictionary, bytes, repeats };
            }
        }
    }
    best
}

/// Appends the values.
pub(super) fn encode(values: &[f64], plan: &Plan, out: &mut Vec<u8>) {
    let Plan { right_bits, index_bits, ref dictionary, .. } = *plan;
    out.push((right_bits | index_bits << 6) as u8);
    for left in dictionary {
        write_u64(out, *left);
    }
    let index_of = |bits: u64| dictionary.iter().position(|left| *left == bits >> right_bits);
    let mut exceptions = Vec::new();
    let mut packed = Vec::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        let bits = value.to_bits();
        let index = index_of(bits).unwrap_or_else(|| {
            exceptions.push((at, bits >> right_bits));
            0
        });
        packed.push((index as u64) << right_bits | bits & mask(right_bits));
    }
    write_u64(out, exceptions.len() as u64);
    let mut after = 0;
    for (at, left) in exceptions {
        write_u64(out, (at - after) as u64);
        write_u64(out, left);
        after = at + 1;
    }
    write_line(packed.into_iter(), right_bits + index_bits, out);
}

/// Appends `count` values, which must be all that `bytes` has left.
pub(super) fn decode(mut bytes: Bytes<'_>, count: usize, values: &mut Vec<f64>) -> Result<(), Malformed> {
    let head = u32::from(bytes.u8()?);
    let (right_bits, index_bits) = (head & 63, head >> 6);
    if !(RIGHT_BITS_MIN..=RIGHT_BITS_MAX).contains(&right_bits) || right_bits + index_bits > 57 {
        return Err(Malformed("cut of split floats"));
    }
    let mut dictionary = [0; 1 << INDEX_BITS_MAX];
    for left in dictionary.iter_mut().take(1 << index_bits) {
        *left = bytes.u64()? << right_bits;
    }
    let start = values.len();
    let mut exceptions = bytes;
    let exception_count = bytes.count(count)?;
    for _ in 0..exception_count {
        bytes.u64()?;
        bytes.u64()?;
    }
    let width = right_bits + index_bits;
    let packed = bytes.take(line_bytes(count, width))?;
    bytes.end()?;
    values.reserve(count);
    let mask = mask(right_bits);
    // 512 values of any width begin at a byte.
    const BLOCK_LEN: usize = 512;
    let mut block = [0; BLOCK_LEN];
    for (i, part) in packed.chunks(line_bytes(BLOCK_LEN, width)).enumerate() {
        let (block, _) = block.split_at_mut((count - i * BLOCK_LEN).min(BLOCK_LEN));
        read_line(part, width, block);
        values.extend(block.iter().map(|&word| {
            let left = dictionary.get((word >> right_bits) as usize & 7).copied().unwrap_or(0);
            f64::from_bits(left | word & mask)
        }));
    }
    let mut rest = values.get_mut(start..).unwrap_or_default();
    for _ in 0..exceptions.count(count)? {
        let gap = exceptions.count(count)?;
        let left = exceptions.u64()? << right_bits;
        let (value, behind) = rest
            .get_mut(gap..)
            .and_then(|rest| rest.split_first_mut())
            .ok_or(Malformed("exception outside its chunk"))?;
        *value = f64::from_bits(left | value.to_bits() & mask);
        rest = behind;
    }
    Ok(())
}
