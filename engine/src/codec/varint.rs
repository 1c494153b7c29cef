//! Integers of variable length: seven bits a byte, least significant first, the top bit set on all but the last byte;
//! signed ones zigzagged first. [`Bytes`] reads them, and everything else that a chunk holds, with every length checked.

use super::Malformed;

const SHORT: Malformed = Malformed("ends too early");

/// Appends `value` in 1 to 10 bytes.
#[inline]
pub(crate) fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value` zigzagged: small magnitudes take few bytes.
#[inline]
pub(crate) fn write_i64(out: &mut Vec<u8>, value: i64) {
    write_u64(out, zigzag(value));
}

/// Bytes that [`write_u64`] takes for a value of that many bits (0 to 64).
#[inline]
pub(crate) fn len_of_bits(bits: u32) -> usize {
    (bits.div_ceil(7) as usize).max(1)
}

/// 0, -1, 1, -2 … to 0, 1, 2, 3 …
#[inline(always)]
pub(crate) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// The inverse of [`zigzag`].
#[inline(always)]
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads a chunk from its first byte to its last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes { rest: bytes }
    }

    /// What is not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Eight bytes, little-endian.
    #[inline]
    pub(crate) fn fixed_u64(&mut self) -> Result<u64, Malformed> {
        let (first, rest) = self.rest.split_first_chunk::<8>().ok_or(SHORT)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*first))
    }

    #[inline(always)]
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_u64(),
        }
    }

    fn long_u64(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { SHORT } else { Malformed("integer longer than 64 bits") })
    }

    #[inline]
    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.u64().map(unzigzag)
    }

    /// A count that must not exceed `max`.
    #[inline]
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, Malformed> {
        match usize::try_from(self.u64()?) {
            Ok(count) if count <= max => Ok(count),
            _ => Err(Malformed("count too large")),
        }
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (first, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(first)
    }

    /// Refuses bytes that nobody asked for.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes behind the end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_round_trip(values in prop::collection::vec((any::<u64>(), 0u32..64), 0..50)) {
            let mut out = Vec::new();
            for &(value, shift) in &values {
                let before = out.len();
                write_u64(&mut out, value >> shift);
                prop_assert_eq!(out.len() - before, len_of_bits(64 - (value >> shift).leading_zeros()));
                write_i64(&mut out, value as i64 >> shift);
            }
            let mut bytes = Bytes::new(&out);
            for &(value, shift) in &values {
                prop_assert_eq!(bytes.u64(), Ok(value >> shift));
                prop_assert_eq!(bytes.i64(), Ok(value as i64 >> shift));
            }
            prop_assert_eq!(bytes.end(), Ok(()));
        }
    }

    #[test]
    fn long_and_short_integers_are_refused() {
        assert!(Bytes::new(&[0x80; 9]).u64().is_err());
        assert!(Bytes::new(&[0xff; 12]).u64().is_err());
        assert!(Bytes::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).u64().is_err());
        assert_eq!(Bytes::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).u64(), Ok(u64::MAX));
        assert!(Bytes::new(&[5]).count(4).is_err());
    }
}
