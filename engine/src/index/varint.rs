//! Input: a cursor over a table's bytes from disk that cannot run past their end. The varints are those of the chunk
//! encodings.

use crate::codec::Malformed;
use crate::codec::varint::unzigzag;
pub(crate) use crate::codec::varint::{write_i64 as put_signed, write_u64 as put};

/// A cursor over untrusted bytes.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes }
    }

    /// Bytes not read yet.
    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed("ends early"))?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Malformed("ends early"))?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(Malformed("varint exceeds 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("varint exceeds 64 bits"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Malformed> {
        self.varint().map(unzigzag)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("number exceeds 32 bits"))
    }

    /// A count of things that take at least one byte each: never more than the bytes left.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        match usize::try_from(self.varint()?) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(Malformed("count exceeds the bytes that follow")),
        }
    }

    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes behind the end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(unsigned: u64, signed: i64) {
            let mut out = Vec::new();
            put(&mut out, unsigned);
            put_signed(&mut out, signed);
            let mut input = Input::new(&out);
            prop_assert_eq!(input.varint(), Ok(unsigned));
            prop_assert_eq!(input.signed(), Ok(signed));
            prop_assert_eq!(input.end(), Ok(()));
        }
    }

    #[test]
    fn overlong_and_cut_numbers_are_refused() {
        assert!(Input::new(&[0xff; 10]).varint().is_err());
        assert!(Input::new(&[0x80]).varint().is_err());
        assert!(Input::new(&[9, 1]).count().is_err());
    }
}
