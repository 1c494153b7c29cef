//! Protobuf wire format, read without a copy and without a schema.
//!
//! A [`Reader`] is a message inside a body. Its positions are those of the whole body, so that errors name the byte
//! and label ranges need no translation. Groups, field number 0, unknown wire types, varints of more than 64 bits and
//! lengths beyond the message are refused; varints longer than needed are allowed, as the format demands.

use crate::Error;

/// A message that is being read. Cheap to copy: a copy reads the same fields again.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The body up to the end of this message.
    bytes: &'a [u8],
    /// Where in it the next field begins.
    at: usize,
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Field number, at least 1.
    pub number: u32,
    /// What it holds.
    pub value: Value<'a>,
}

/// What a field holds, by wire type.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Wire type 0: integers, enums and booleans.
    Varint(u64),
    /// Wire type 1: `double`, `fixed64`.
    Fixed64(u64),
    /// Wire type 2: messages, strings, bytes and packed numbers.
    Bytes(Reader<'a>),
    /// Wire type 5: `float`, `fixed32`.
    Fixed32(u32),
}

impl<'a> Reader<'a> {
    /// Reads `body` as one message.
    pub fn new(body: &'a [u8]) -> Reader<'a> {
        Reader { bytes: body, at: 0 }
    }

    /// Position of the next field in the body.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// What is left of the message.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Whether nothing is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Goes on behind `bytes` bytes that the caller has read from [`Reader::rest`].
    #[inline]
    pub fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.bytes.len());
    }

    /// The error `what` at this place.
    #[cold]
    pub fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed { what, at: self.at as u64 }
    }

    /// The next field; `None` at the end of the message.
    #[inline]
    pub fn field(&mut self) -> Result<Option<Field<'a>>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let begin = *self;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| begin.malformed("field number too large"))?;
        if number == 0 || number > (1 << 29) - 1 {
            return Err(begin.malformed("invalid field number"));
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => Value::Bytes(self.bytes()?),
            3 | 4 => return Err(begin.malformed("groups are not supported")),
            5 => Value::Fixed32(self.fixed32()?),
            _ => return Err(begin.malformed("invalid wire type")),
        };
        Ok(Some(Field { number, value }))
    }

    /// A varint of at most 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Error> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for (i, &byte) in self.rest().iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                return Err(self.malformed("varint of more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.malformed("varint is cut off"))
    }

    /// Eight bytes, little-endian.
    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Error> {
        let bytes = self.rest().first_chunk().ok_or_else(|| self.malformed("64-bit field is cut off"))?;
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Four bytes, little-endian.
    #[inline]
    pub fn fixed32(&mut self) -> Result<u32, Error> {
        let bytes = self.rest().first_chunk().ok_or_else(|| self.malformed("32-bit field is cut off"))?;
        self.at += 4;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// A length and that many bytes, as a message of its own.
    #[inline]
    pub fn bytes(&mut self) -> Result<Reader<'a>, Error> {
        let len = self.varint()?;
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let Some(bytes) = end.and_then(|end| self.bytes.get(..end)) else {
            return Err(self.malformed("length exceeds the message"));
        };
        let inner = Reader { bytes, at: self.at };
        self.at = bytes.len();
        Ok(inner)
    }
}

/// Zigzag form of `sint32` and `sint64`.
#[inline]
pub fn zigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// Appends a varint.
pub fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes [`push_varint`] appends.
pub fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refused(bytes: &[u8], what: &str, at: u64) {
        let mut reader = Reader::new(bytes);
        let error = loop {
            match reader.field() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{bytes:x?} is accepted"),
                Err(error) => break error,
            }
        };
        let Error::Malformed { what: found, at: found_at } = error else { panic!("{error}") };
        assert_eq!((found, found_at), (what, at));
    }

    #[test]
    fn each_malformation_is_named_with_its_place() {
        refused(&[0x02, 1, 0], "invalid field number", 0);
        refused(&[0x08, 1, 0x0b], "groups are not supported", 2);
        refused(&[0x0c], "groups are not supported", 0);
        refused(&[0x0e], "invalid wire type", 0);
        refused(&[0x0f], "invalid wire type", 0);
        refused(&[0x0a, 2, 0], "length exceeds the message", 2);
        refused(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "length exceeds the message", 11);
        refused(&[0x09, 0, 0], "64-bit field is cut off", 1);
        refused(&[0x0d, 0, 0], "32-bit field is cut off", 1);
        refused(&[0xff; 12], "varint of more than 64 bits", 0);
        refused(&[0x08, 0xff], "varint is cut off", 1);
        refused(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0], "field number too large", 0);
        refused(&[0x80, 0x80, 0x80, 0x80, 0x10, 0], "invalid field number", 0);
    }

    #[test]
    fn positions_are_those_of_the_body() {
        let body = [0x0a, 4, 0x12, 2, b'h', b'i'];
        let Some(Field { number: 1, value: Value::Bytes(mut inner) }) = Reader::new(&body).field().unwrap() else {
            panic!("no message")
        };
        assert_eq!(inner.at(), 2);
        let Some(Field { number: 2, value: Value::Bytes(text) }) = inner.field().unwrap() else { panic!("no text") };
        assert_eq!((text.at(), text.rest()), (4, &b"hi"[..]));
        assert!(inner.is_empty() && inner.field().unwrap().is_none());
    }

    #[test]
    fn longer_varints_than_needed_are_read() {
        let mut reader =
            Reader::new(&[0x81, 0x80, 0x80, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(reader.varint().unwrap(), 1);
        assert_eq!(reader.varint().unwrap(), u64::MAX);
        assert!(reader.is_empty());
    }

    proptest! {
        #[test]
        fn varints_round_trip(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            push_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_bytes(value));
            prop_assert_eq!(Reader::new(&out).varint().unwrap(), value);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_always_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            let mut fields = 0;
            while let Ok(Some(_)) = reader.field() {
                fields += 1;
                prop_assert!(fields <= bytes.len());
            }
        }
    }
}
