//! Values that are decimals: integers over a power of ten, divided by what their differences share, as a column of
//! integers (`integer.rs`). The codec of nearly all metrics.
//!
//! ```text
//! exceptions  only with the tags that say so: count; each: gap to the previous one, 8 bytes
//! head        u8: shape (3 bits), divisor follows << 3, exponent << 4
//! first       zigzag: an integer
//! divisor     varint, when the head says so; 1 otherwise
//! column      m[i], the shape in the head;  value[i] = (first + m[i] * divisor) / 10^exponent
//! ```
//! For cold data the rest of the column's shape may be in byte planes under zstd (`planes.rs`) instead of in frames.
//!
//! Invariants:
//! * |first + m * divisor| <= 2^53 and |m * divisor| < 2^51, so every step back in floats is exact but the division,
//!   which rounds as the encoder saw it round.
//! * A chunk with more exceptions than integers never comes out of [`reduce`].

use super::Malformed;
use super::decimal::{self, Decimals, POWERS};
use super::integer::{self, Shape, Shaped, Sums};
use super::planes;
use super::varint::{Bytes, unzigzag, write_i64, write_u64, zigzag};

const HAS_DIVISOR: u8 = 1 << 3;

/// How the rest of a column's shape is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// Bit-packed frames.
    Frames,
    /// Byte planes under zstd.
    Planes,
}

/// A chunk reduced to a column of small integers.
#[derive(Debug)]
pub(super) struct Reduced {
    exponent: u8,
    first: i64,
    divisor: u64,
    column: Shaped,
    exceptions: Vec<(usize, u64)>,
}

/// Reduces the values; `None` when they are no decimals.
pub(super) fn reduce(values: &[f64]) -> Option<Reduced> {
    let Decimals { exponent, mut integers, exceptions } = decimal::find(values)?;
    let first = *integers.first()?;
    for integer in &mut integers {
        *integer -= first;
    }
    let divisor = divisor(&integers);
    if divisor > 1 && !is_step(&integers) {
        for integer in &mut integers {
            *integer /= divisor as i64;
        }
        return Some(Reduced { exponent, first, divisor, column: integer::shape(&integers), exceptions });
    }
    Some(Reduced { exponent, first, divisor: 1, column: integer::shape(&integers), exceptions })
}

fn is_step(integers: &[i64]) -> bool {
    let [first, second, ..] = integers else { return true };
    let step = second - first;
    integers.iter().zip(integers.iter().skip(1)).all(|(a, b)| b - a == step)
}

/// The greatest common divisor of integers, the first of which is zero; 1 when all are.
fn divisor(integers: &[i64]) -> u64 {
    let mut divisor = 0;
    for integer in integers {
        let mut rest = integer.unsigned_abs();
        // One division for most: it is found early and divides what follows.
        while rest != 0 {
            (divisor, rest) = (rest, if divisor == 0 { 0 } else { divisor % rest });
        }
        if divisor == 1 {
            break;
        }
    }
    divisor.max(1)
}

impl Reduced {
    /// Whether there are exceptions, which the tag must say.
    pub(super) fn has_exceptions(&self) -> bool {
        !self.exceptions.is_empty()
    }

    /// Bytes that frames take, nearly.
    pub(super) fn bytes(&self) -> usize {
        10 + self.exceptions.len() * 9 + self.column.bytes
    }

    /// Whether planes could do better: a column of equal steps has nothing to compress.
    pub(super) fn has_rest(&self) -> bool {
        self.column.shape != Shape::Step
    }

    /// Appends the chunk. `None` when planes fail; what was appended until then is the caller's to cut.
    pub(super) fn write(&self, layout: Layout, out: &mut Vec<u8>) -> Option<()> {
        if self.has_exceptions() {
            write_u64(out, self.exceptions.len() as u64);
            let mut after = 0;
            for &(at, bits) in &self.exceptions {
                write_u64(out, (at - after) as u64);
                out.extend_from_slice(&bits.to_le_bytes());
                after = at + 1;
            }
        }
        let has_divisor = if self.divisor > 1 { HAS_DIVISOR } else { 0 };
        out.push(self.column.shape as u8 | has_divisor | self.exponent << 4);
        write_i64(out, self.first);
        if self.divisor > 1 {
            write_u64(out, self.divisor);
        }
        match layout {
            Layout::Frames => {
                self.column.write(out);
                Some(())
            }
            Layout::Planes => {
                self.column.write_parameters(out);
                let rest: Vec<u64> = self.column.rest.iter().map(|value| zigzag(*value)).collect();
                planes::encode(&rest, out)
            }
        }
    }
}

/// Appends `count` values, which must be all that `bytes` has left.
pub(super) fn decode(
    mut bytes: Bytes<'_>,
    layout: Layout,
    has_exceptions: bool,
    count: usize,
    values: &mut Vec<f64>,
) -> Result<(), Malformed> {
    let exceptions = if has_exceptions { read_exceptions(&mut bytes, count)? } else { Vec::new() };
    let head = bytes.u8()?;
    let shape = Shape::from_bits(head & 7)?;
    let power = *POWERS.get(usize::from(head >> 4)).ok_or(Malformed("exponent of decimals"))?;
    let first = bytes.i64()? as f64;
    let divisor = if head & HAS_DIVISOR != 0 { bytes.u64()? as f64 } else { 1.0 };
    let integer_count = count - exceptions.len();
    let start = values.len();
    values.reserve(count);
    let mut sink = |block: &[u64]| {
        let floats = block.iter().map(|integer| first + to_float(*integer) * divisor);
        if power == 1.0 {
            values.extend(floats);
        } else {
            values.extend(floats.map(|float| float / power));
        }
    };
    match layout {
        Layout::Frames => {
            integer::read(shape, &mut bytes, integer_count, sink)?;
            bytes.end()?;
        }
        Layout::Planes => {
            let mut sums = Sums::read(shape, &mut bytes)?;
            planes::decode(bytes, integer_count, |block| {
                for value in &mut *block {
                    *value = unzigzag(*value) as u64;
                }
                sums.restore(0, block);
                sink(block);
            })?;
        }
    }
    insert(&exceptions, start, values);
    Ok(())
}

/// Converts an integer of magnitude below 2^51. Adding it to the bits of 1.5 * 2^52 places it in the mantissa: two plain
/// operations that every vector unit has, where the conversion itself would go value by value.
#[inline(always)]
fn to_float(integer: u64) -> f64 {
    const ANCHOR: f64 = 6_755_399_441_055_744.0;
    f64::from_bits(integer.wrapping_add(ANCHOR.to_bits())) - ANCHOR
}

/// Reads the exceptions; their places ascend and lie in the chunk.
#[cold]
fn read_exceptions(bytes: &mut Bytes<'_>, count: usize) -> Result<Vec<(usize, u64)>, Malformed> {
    let exception_count = bytes.count(count)?;
    let mut exceptions = Vec::with_capacity(exception_count.min(bytes.rest().len() / 9));
    let mut at = 0;
    for _ in 0..exception_count {
        at += bytes.count(count)?;
        if at >= count {
            return Err(Malformed("exception outside its chunk"));
        }
        exceptions.push((at, bytes.fixed_u64()?));
        at += 1;
    }
    if exceptions.len() == count {
        return Err(Malformed("nothing but exceptions"));
    }
    Ok(exceptions)
}

/// Moves the values behind each exception up and puts it in its place, from the last to the first.
fn insert(exceptions: &[(usize, u64)], start: usize, values: &mut Vec<f64>) {
    let mut end = values.len();
    values.resize(end + exceptions.len(), 0.0);
    for (before, &(at, bits)) in exceptions.iter().enumerate().rev() {
        // `before` exceptions lie below this one, so the value behind it stands at `at - before`.
        let from = start + at - before;
        values.copy_within(from..end, start + at + 1);
        if let Some(value) = values.get_mut(start + at) {
            *value = f64::from_bits(bits);
        }
        end = from;
    }
}
