//! Numbers in records and manifest edits: the varints of the chunk encodings, and a reader that cannot run past the
//! end.

use super::Malformed;
pub(crate) use crate::codec::varint::{unzigzag, write_i64 as push_signed, write_u64 as push, zigzag};

/// Appends bytes behind their length.
pub(crate) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the functions above wrote.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

const SHORT: Malformed = Malformed("ends too early");

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Bytes not yet read.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Whether all is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                return Err(Malformed("number wider than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(SHORT)
    }

    #[inline]
    pub(crate) fn signed(&mut self) -> Result<i64, Malformed> {
        self.number().map(unzigzag)
    }

    /// A number that fits 32 bits.
    #[inline]
    pub(crate) fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed("number wider than 32 bits"))
    }

    /// A count of things of which each takes at least `bytes_min` of what is left: safe to allocate for.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed("count too large"))?;
        if count.saturating_mul(bytes_min) > self.rest.len() {
            return Err(Malformed("count larger than what is left"));
        }
        Ok(count)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes behind their length.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// Text behind its length.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text is not UTF-8"))
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk::<8>().ok_or(SHORT)?;
        self.rest = rest;
        Ok(f64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in proptest::collection::vec((any::<u64>(), any::<i64>(), 0u32..65), 0..20)) {
            let mut out = Vec::new();
            for &(a, b, shift) in &values {
                push(&mut out, a.checked_shr(shift).unwrap_or(0));
                push_signed(&mut out, b >> shift.min(63));
            }
            let mut reader = Reader::new(&out);
            for &(a, b, shift) in &values {
                prop_assert_eq!(reader.number().unwrap(), a.checked_shr(shift).unwrap_or(0));
                prop_assert_eq!(reader.signed().unwrap(), b >> shift.min(63));
            }
            prop_assert!(reader.is_empty());
        }
    }
}
