//! Bits: reads numbers of any width from bytes, most significant bit first, and the variable forms built on them.
//!
//! `None` means that the bits ended; the caller says what was damaged. Each read is one load of eight bytes and shifts.

use varve_model::STALE_NAN_BITS;

/// Bits not yet read.
#[derive(Clone)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Next bit.
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0 }
    }

    /// How many bits are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    /// Eight bytes from a byte on, zeros behind the end.
    #[inline]
    fn word(&self, byte: usize) -> u64 {
        let rest = self.bytes.get(byte..).unwrap_or_default();
        match rest.first_chunk::<8>() {
            Some(word) => u64::from_be_bytes(*word),
            None => rest.iter().chain(&[0; 8]).take(8).fold(0, |word, &byte| word << 8 | u64::from(byte)),
        }
    }

    /// The next 64 bits without consuming them, zeros behind the end.
    #[inline]
    fn peek(&self) -> u64 {
        let (byte, shift) = (self.at / 8, self.at % 8);
        let word = self.word(byte);
        if shift == 0 {
            return word;
        }
        let next = self.bytes.get(byte + 8).copied().unwrap_or(0);
        word << shift | u64::from(next) >> (8 - shift)
    }

    /// The next `width` bits, 1 to 64.
    #[inline]
    pub(super) fn read(&mut self, width: u32) -> Option<u64> {
        debug_assert!((1..=64).contains(&width));
        if self.left() < width as usize {
            return None;
        }
        let value = self.peek() >> (64 - width);
        self.at += width as usize;
        Some(value)
    }

    #[inline]
    pub(super) fn bit(&mut self) -> Option<bool> {
        self.read(1).map(|bit| bit == 1)
    }

    /// Ones before the next zero, at most `max`; the zero is consumed, except after `max` ones.
    #[inline]
    pub(super) fn ones(&mut self, max: u32) -> Option<u32> {
        let ones = self.peek().leading_ones().min(max);
        let width = if ones == max { ones } else { ones + 1 };
        if self.left() < width as usize {
            return None;
        }
        self.at += width as usize;
        Some(ones)
    }

    /// Seven bits a byte, least significant first, as in whole bytes, but at any bit.
    pub(super) fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.read(8)?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn varint(&mut self) -> Option<i64> {
        self.uvarint().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// `varbit_uint`: up to eight ones say the width.
    pub(super) fn varbit_unsigned(&mut self) -> Option<u64> {
        match self.varbit_width()? {
            0 => Some(0),
            width => self.read(width),
        }
    }

    /// `varbit_int`: as the unsigned form, and each width holds -(2^(w-1))+1 to 2^(w-1).
    #[inline]
    pub(super) fn varbit(&mut self) -> Option<i64> {
        match self.varbit_width()? {
            0 => Some(0),
            width => self.read(width).map(|value| signed(value, width)),
        }
    }

    #[inline]
    fn varbit_width(&mut self) -> Option<u32> {
        Some(match self.ones(8)? {
            0 => 0,
            1 => 3,
            2 => 6,
            3 => 9,
            4 => 12,
            5 => 18,
            6 => 25,
            7 => 56,
            _ => 64,
        })
    }
}

/// A value of `width` bits whose range is -(2^(w-1))+1 to 2^(w-1): the odd one out is positive.
#[inline]
pub(super) fn signed(value: u64, width: u32) -> i64 {
    if width < 64 && value > 1 << (width - 1) { (value as i64).wrapping_sub(1 << width) } else { value as i64 }
}

/// A float as the XOR with the one before it: where its meaningful bits are.
#[derive(Clone, Copy, Default)]
pub(super) struct Xor {
    pub(super) bits: u64,
    leading: u32,
    trailing: u32,
}

impl Xor {
    pub(super) fn of(bits: u64) -> Xor {
        Xor { bits, leading: 0, trailing: 0 }
    }

    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }

    pub(super) fn is_stale(&self) -> bool {
        self.bits == STALE_NAN_BITS
    }

    /// `varbit_xor`: unchanged, within the window of before, or with a window of its own.
    #[inline]
    pub(super) fn next(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        match bits.ones(2)? {
            0 => Some(()),
            1 => self.in_window(bits),
            _ => self.new_window(bits),
        }
    }

    #[inline]
    pub(super) fn in_window(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        self.bits ^= bits.read(64 - self.leading - self.trailing)? << self.trailing;
        Some(())
    }

    #[inline]
    pub(super) fn new_window(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let leading = bits.read(5)? as u32;
        let width = match bits.read(6)? as u32 {
            0 => 64,
            width => width,
        };
        let trailing = 64u32.checked_sub(leading + width)?;
        (self.leading, self.trailing) = (leading, trailing);
        self.in_window(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_across_words() {
        let bytes: Vec<u8> = (0..20u8).map(|i| i.wrapping_mul(37).wrapping_add(11)).collect();
        let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
        for width in 1..=64 {
            let mut bits = Bits::new(&bytes);
            let mut at = 0;
            while let Some(value) = bits.read(width) {
                let expected = (at..at + width as usize).fold(0, |value, i| value << 1 | u64::from(bit(i)));
                assert_eq!(value, expected, "{width} bits at {at}");
                at += width as usize;
            }
            assert!(at + width as usize > 160);
        }
    }

    #[test]
    fn numbers_of_variable_width() {
        // 10 100 -> 4; 110 100001 -> -31; 0 -> 0; 11111111 + 64 bits; then nothing.
        let text = format!("10{}110{}0{}{:064b}", "100", "100001", "11111111", 5);
        let padded = format!("{text:0<96}");
        let bytes: Vec<u8> =
            padded.as_bytes().chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'))).collect();
        let mut bits = Bits::new(&bytes);
        assert_eq!(
            [bits.varbit(), bits.varbit(), bits.varbit(), bits.varbit()],
            [Some(4), Some(-31), Some(0), Some(5)]
        );
        let mut ended = Bits::new(&[0xff]);
        assert_eq!(ended.varbit(), None);
        assert_eq!(Bits::new(&[0xff; 10]).uvarint(), None);
    }
}
