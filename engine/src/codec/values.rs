//! Values of a chunk behind one tag byte; `choose.rs` picks the tag.

use super::Malformed;
use super::packed::{self, Layout};
use super::varint::Bytes;
use super::{planes, split, xor};

pub use super::choose::{Effort, encode};

/// What follows the tag byte; the discriminants are on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Tag {
    /// A small integer, over and over: a zigzag varint.
    ConstantInteger = 0,
    /// Any one value, over and over: 8 bytes.
    Constant = 1,
    /// Decimals in frames (`packed.rs`).
    Packed = 2,
    /// The same, with exceptions.
    PackedExceptions = 3,
    /// Decimals in byte planes under zstd.
    PackedPlanes = 4,
    /// The same, with exceptions.
    PackedPlanesExceptions = 5,
    /// XOR with the value before (`xor.rs`).
    Xor = 6,
    /// Dictionary of left bits, packed right bits (`split.rs`).
    Split = 7,
    /// The 64 bits of each value in byte planes under zstd (`planes.rs`).
    Planes = 8,
    /// 8 bytes a value.
    Raw = 9,
}

impl Tag {
    fn from_byte(byte: u8) -> Result<Tag, Malformed> {
        const ALL: [Tag; 10] = [
            Tag::ConstantInteger,
            Tag::Constant,
            Tag::Packed,
            Tag::PackedExceptions,
            Tag::PackedPlanes,
            Tag::PackedPlanesExceptions,
            Tag::Xor,
            Tag::Split,
            Tag::Planes,
            Tag::Raw,
        ];
        ALL.get(usize::from(byte)).copied().ok_or(Malformed("unknown encoding of values"))
    }
}

/// Appends the `count` values that `bytes` holds, exactly as [`encode`] wrote them; on an error `values` is as it was.
/// Allocates 8 bytes a sample, with `Effort::Cold` up to 16: the caller bounds `count`.
pub fn decode(bytes: &[u8], count: usize, values: &mut Vec<f64>) -> Result<(), Malformed> {
    let start = values.len();
    let result = decode_into(Bytes::new(bytes), count, values);
    if result.is_err() {
        values.truncate(start);
    }
    debug_assert!(result.is_err() || values.len() == start + count);
    result
}

fn decode_into(mut bytes: Bytes<'_>, count: usize, values: &mut Vec<f64>) -> Result<(), Malformed> {
    if count == 0 {
        return bytes.end();
    }
    match Tag::from_byte(bytes.u8()?)? {
        Tag::ConstantInteger => {
            let value = bytes.i64()? as f64;
            bytes.end()?;
            values.resize(values.len() + count, value);
            Ok(())
        }
        Tag::Constant => {
            let value = f64::from_bits(bytes.fixed_u64()?);
            bytes.end()?;
            values.resize(values.len() + count, value);
            Ok(())
        }
        Tag::Packed => packed::decode(bytes, Layout::Frames, false, count, values),
        Tag::PackedExceptions => packed::decode(bytes, Layout::Frames, true, count, values),
        Tag::PackedPlanes => packed::decode(bytes, Layout::Planes, false, count, values),
        Tag::PackedPlanesExceptions => packed::decode(bytes, Layout::Planes, true, count, values),
        Tag::Xor => xor::decode(bytes, count, values),
        Tag::Split => split::decode(bytes, count, values),
        Tag::Planes => {
            planes::decode(bytes, count, |block| values.extend(block.iter().map(|&bits| f64::from_bits(bits))))
        }
        Tag::Raw => {
            let (words, rest) = bytes.rest().as_chunks::<8>();
            if words.len() != count || !rest.is_empty() {
                return Err(Malformed("raw values do not fill their bytes"));
            }
            values.extend(words.iter().map(|word| f64::from_bits(u64::from_le_bytes(*word))));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
