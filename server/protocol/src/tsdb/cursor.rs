//! Cursor: reads the whole numbers of the format from borrowed bytes and knows where in the file it is.

use super::Error;
use super::crc32c::crc32c;

/// Reads forward; every read is checked.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// Byte of the file at which `rest` begins.
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Over `bytes`, which begin at byte `at` of the file.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { rest: bytes, at }
    }

    /// Over `file` from byte `at` on.
    pub(super) fn at(file: &'a [u8], at: u64, what: &'static str) -> Result<Cursor<'a>, Error> {
        let begin = usize::try_from(at).ok();
        match begin.and_then(|begin| Some((begin, file.get(begin..)?))) {
            Some((at, rest)) => Ok(Cursor { rest, at }),
            None => Err(Error::Damaged { at, what }),
        }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn damaged(&self, what: &'static str) -> Error {
        Error::damaged(self.at, what)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.damaged("the file ends too early"))?;
        self.rest = rest;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| self.damaged("the file ends too early"))?;
        self.rest = rest;
        self.at += N;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn be32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn be64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn uvarint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            if shift > 63 || (shift == 63 && byte > 1) {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.damaged("a number is longer than 64 bits"))
    }

    /// Zigzag.
    pub(super) fn varint(&mut self) -> Result<i64, Error> {
        self.uvarint().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number that counts bytes or entries which must still follow.
    pub(super) fn count(&mut self) -> Result<usize, Error> {
        let count = self.uvarint()?;
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= self.rest.len())
            .ok_or_else(|| self.damaged("a count or length goes beyond what follows"))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        let len = self.count()?;
        let at = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|_| Error::damaged(at, "text is not UTF-8"))
    }

    /// `len` bytes and the checksum over them; a cursor over the bytes.
    pub(super) fn checked(&mut self, len: usize) -> Result<Cursor<'a>, Error> {
        let at = self.at;
        let bytes = self.take(len)?;
        let sum = self.be32()?;
        if crc32c(bytes) != sum {
            return Err(Error::damaged(at, "the checksum does not match"));
        }
        Ok(Cursor::new(bytes, at))
    }

    /// A section: its length in four bytes, that many bytes, and the checksum over them.
    pub(super) fn section(&mut self) -> Result<Cursor<'a>, Error> {
        let len = self.be32()?;
        self.checked(len as usize)
    }
}
