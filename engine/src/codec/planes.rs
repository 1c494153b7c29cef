//! Integers as byte planes under zstd: all lowest bytes, then all second bytes … For cold data, where its bytes weigh
//! more than its slower decoding.
//!
//! ```text
//! planes  u8, 1 to 8
//! rest    one zstd frame without its magic number: plane after plane, `count` bytes each
//! ```
//! zstd's contexts are large and cost more to make than a chunk to compress, so each thread keeps one and its scratch:
//! nothing of a chunk stays in them that another would see.

use super::Malformed;
use super::varint::Bytes;
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

const LEVEL: i32 = 3;
const MAGIC: [u8; 4] = 0xfd2f_b528u32.to_le_bytes();

#[derive(Default)]
struct Scratch {
    compressor: Option<Compressor<'static>>,
    decompressor: Option<Decompressor<'static>>,
    planes: Vec<u8>,
    frame: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Appends the integers as planes. `None` when zstd refuses, and then nothing is appended.
pub(super) fn encode(values: &[u64], out: &mut Vec<u8>) -> Option<()> {
    let all = values.iter().fold(0, |all, value| all | value);
    let count = (64 - all.leading_zeros()).div_ceil(8).max(1) as usize;
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { compressor, planes, frame, .. } = scratch;
        planes.clear();
        for plane in 0..count {
            planes.extend(values.iter().map(|value| (value >> (8 * plane)) as u8));
        }
        frame.clear();
        frame.reserve(zstd::zstd_safe::compress_bound(planes.len()));
        if compressor.is_none() {
            *compressor = Some(Compressor::new(LEVEL).ok()?);
        }
        compressor.as_mut()?.compress_to_buffer(planes.as_slice(), frame).ok()?;
        let body = frame.strip_prefix(&MAGIC)?;
        out.push(count as u8);
        out.extend_from_slice(body);
        Some(())
    })
}

/// Reads `count` integers, which must be all that `bytes` has left, and hands them on in blocks of up to 512.
pub(super) fn decode(mut bytes: Bytes<'_>, count: usize, mut sink: impl FnMut(&mut [u64])) -> Result<(), Malformed> {
    const BAD: Malformed = Malformed("planes do not decompress to the count of values");
    const BLOCK_LEN: usize = 512;
    let plane_count = usize::from(bytes.u8()?);
    if !(1..=8).contains(&plane_count) {
        return Err(Malformed("count of planes"));
    }
    let total = count.checked_mul(plane_count).ok_or(BAD)?;
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { decompressor, planes, frame, .. } = scratch;
        frame.clear();
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(bytes.rest());
        planes.clear();
        planes.reserve(total);
        if decompressor.is_none() {
            *decompressor = Some(Decompressor::new().map_err(|_| BAD)?);
        }
        decompressor.as_mut().ok_or(BAD)?.decompress_to_buffer(frame.as_slice(), planes).map_err(|_| BAD)?;
        if planes.len() != total {
            return Err(BAD);
        }
        let mut block = [0; BLOCK_LEN];
        let mut at = 0;
        while at < count {
            let (block, _) = block.split_at_mut((count - at).min(BLOCK_LEN));
            block.fill(0);
            for (i, plane) in planes.chunks_exact(count).enumerate() {
                for (to, from) in block.iter_mut().zip(plane.iter().skip(at)) {
                    *to |= u64::from(*from) << (8 * i);
                }
            }
            sink(block);
            at += block.len();
        }
        Ok(())
    })
}
