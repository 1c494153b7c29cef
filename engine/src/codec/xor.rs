//! Full-precision floats that repeat or move little: each value XORed with the one before, only the bits of the XOR
//! that matter written.
//!
//! ```text
//! first value  8 bytes, little-endian; then bits, most significant first
//! others       0        the same value
//!              1 code   another one
//! code         0  xor bits                                  in the last declared window
//!              1  leading 5 bits, length-1 6 bits, xor bits  declares a window of `length` bits
//! ```
//! [`Window`] is the code; the head's codec uses it too.

use super::Malformed;
use super::bits::{self, BitReader, PEEK_BITS};
use super::varint::Bytes;

/// Bits that declaring a new window costs beyond using the old one.
const DECLARATION_BITS: u32 = 11;

/// The bits of a XOR that are written: those between `leading` and `trailing` zero bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    leading: u8,
    trailing: u8,
}

/// Some bits to write: the low `count` of `bits`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits {
    pub(super) bits: u64,
    pub(super) count: u32,
}

impl Window {
    /// Holds every XOR: what readers and writers start with.
    pub(super) const ALL: Window = Window { leading: 0, trailing: 0 };

    #[inline(always)]
    fn bits(self) -> u32 {
        64 - u32::from(self.leading) - u32::from(self.trailing)
    }

    /// The code of a XOR that is not zero: its head, and its bits.
    #[inline(always)]
    pub(super) fn code(&mut self, xor: u64) -> (Bits, Bits) {
        debug_assert!(xor != 0);
        let leading = xor.leading_zeros().min(31);
        let trailing = xor.trailing_zeros();
        let length = 64 - leading - trailing;
        let fits = leading >= u32::from(self.leading) && trailing >= u32::from(self.trailing);
        if fits && self.bits() <= length + DECLARATION_BITS {
            return (Bits { bits: 0, count: 1 }, Bits { bits: xor >> self.trailing, count: self.bits() });
        }
        *self = Window { leading: leading as u8, trailing: trailing as u8 };
        let head = 1 << 11 | u64::from(leading) << 6 | u64::from(length - 1);
        (Bits { bits: head, count: 1 + DECLARATION_BITS }, Bits { bits: xor >> trailing, count: length })
    }

    /// Reads a code. A window wider than a value, which no writer of ours declares, is cut to the value's width.
    #[inline(always)]
    pub(super) fn read(&mut self, reader: &mut BitReader<'_>) -> u64 {
        let head = reader.peek();
        if head >> 63 == 0 {
            reader.skip(1);
        } else {
            let leading = (head >> 58 & 31) as u8;
            let length = (head >> 52 & 63) as u8 + 1;
            *self = Window { leading, trailing: (64 - leading).saturating_sub(length) };
            reader.skip(1 + DECLARATION_BITS);
        }
        reader.read(self.bits()) << self.trailing
    }
}

/// Appends the values.
pub(super) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let Some((first, rest)) = values.split_first() else { return };
    let mut last = first.to_bits();
    out.extend_from_slice(&last.to_le_bytes());
    let (mut used, mut window) = (8, Window::ALL);
    for value in rest {
        let xor = value.to_bits() ^ last;
        if xor == 0 {
            bits::write(out, &mut used, 0, 1);
            continue;
        }
        last ^= xor;
        let (head, body) = window.code(xor);
        bits::write(out, &mut used, 1 << head.count | head.bits, head.count + 1);
        bits::write(out, &mut used, body.bits, body.count);
    }
}

/// Appends `count` values, which must be all that `bytes` has left.
pub(super) fn decode(mut bytes: Bytes<'_>, count: usize, values: &mut Vec<f64>) -> Result<(), Malformed> {
    let mut last = bytes.fixed_u64()?;
    let rest = bytes.rest();
    if count == 0 || count - 1 > rest.len().saturating_mul(8) {
        return Err(Malformed("fewer bits than values"));
    }
    let mut reader = BitReader::new(rest);
    let mut window = Window::ALL;
    values.reserve(count);
    values.push(f64::from_bits(last));
    let mut left = count - 1;
    while left > 0 {
        let same = (reader.peek().leading_zeros().min(PEEK_BITS) as usize).min(left);
        values.extend(std::iter::repeat_n(f64::from_bits(last), same));
        reader.skip(same as u32);
        left -= same;
        if left > 0 && reader.peek() >> 63 == 1 {
            reader.skip(1);
            last ^= window.read(&mut reader);
            values.push(f64::from_bits(last));
            left -= 1;
        }
    }
    if reader.bytes_read() != rest.len() {
        return Err(Malformed("bits and values do not end together"));
    }
    Ok(())
}
