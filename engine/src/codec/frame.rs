//! A frame: up to 512 integers as offsets from one base, packed in as few bits as most of them need.
//!
//! ```text
//! width u8        bits of an offset, 0 to 57 or 64; the top bit of the byte says that patches follow
//! base  zigzag
//! full groups of 128 offsets, when width <= 32: four lanes of 32 bits (16 * width bytes each)
//! the others      least significant bit first, one after the other, ceil(n * width / 8) bytes
//! patches         count; each: gap to the previous one, zigzag of the offset's bits above `width`
//! ```
//! Arithmetic wraps: an offset is `value - base` modulo 2^64, and an outlier below the base is a patch too.
//! Nothing is padded: a frame of 30 numbers takes the bytes of 30.

use super::Malformed;
use super::varint::{Bytes, len_of_bits, write_i64, write_u64, zigzag};
use bitpacking::{BitPacker, BitPacker4x};
use std::ops::Range;

/// Most integers in a frame.
pub(crate) const FRAME_LEN: usize = 512;
/// Integers that are packed in four lanes at once.
pub(crate) const GROUP_LEN: usize = 128;
const _: () = assert!(GROUP_LEN == BitPacker4x::BLOCK_LEN && FRAME_LEN.is_multiple_of(GROUP_LEN));
/// Widest offset that one 64-bit load at a byte address shows in full; beyond it all 64 bits are kept.
const LOAD_BITS: u32 = 57;
const PATCHED: u8 = 0x80;
/// Widest offset of which 128 sum up in 32 bits.
const SUM_BITS: u32 = 25;
/// Values that are looked at to find a base above outliers.
const SAMPLE_LEN: usize = 64;

/// How a frame will be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    base: i64,
    width: u32,
    patches: usize,
    /// Bytes it will take; exact but for the gaps of patches.
    pub(crate) bytes: usize,
}

/// Finds the base and width that take the fewest bytes. `values` has 1 to 512.
pub(crate) fn plan(values: &[i64]) -> Plan {
    debug_assert!((1..=FRAME_LEN).contains(&values.len()));
    let (min, max) = values.iter().fold((i64::MAX, i64::MIN), |(min, max), &v| (min.min(v), max.max(v)));
    let range = bit_len(max.wrapping_sub(min) as u64);
    if range == 0 {
        return Plan { base: min, width: 0, patches: 0, bytes: head_bytes(min) };
    }
    let mut best = plan_from(values, min);
    // A base above rare low outliers (a counter's reset). The sample is strided, so it sees 1 in 8.
    let mut sample = [0; SAMPLE_LEN];
    let stride = values.len().div_ceil(SAMPLE_LEN);
    let mut seen = 0;
    for (to, from) in sample.iter_mut().zip(values.iter().step_by(stride)) {
        *to = *from;
        seen += 1;
    }
    let sample = sample.split_at_mut(seen).0;
    sample.sort_unstable();
    let odd = seen / 16;
    if let (Some(low), Some(high)) = (sample.get(odd), sample.iter().nth_back(odd)) {
        // What lies a whole spread below nearly all others is an outlier; the base is the least of the rest.
        let floor = low.saturating_sub(high.saturating_sub(*low));
        let base = values.iter().copied().filter(|value| *value >= floor).fold(*low, i64::min);
        if base != min {
            let other = plan_from(values, base);
            if other.bytes < best.bytes {
                best = other;
            }
        }
    }
    best
}

fn plan_from(values: &[i64], base: i64) -> Plan {
    // Offsets by their length; those below the base, which are patches at any width, apart.
    let (mut above, mut below) = ([0u16; 65], [0u16; 65]);
    for &value in values {
        let offset = value.wrapping_sub(base);
        let sign = offset >> 63;
        let lengths = if sign == 0 { &mut above } else { &mut below };
        if let Some(count) = lengths.get_mut(bit_len((offset ^ sign) as u64) as usize) {
            *count += 1;
        }
    }
    let head = head_bytes(base);
    let most = above.iter().rposition(|&count| count > 0).unwrap_or(0);
    let lowest: usize = below.iter().map(|&count| usize::from(count)).sum();
    let mut best = Plan { base, width: 64, patches: 0, bytes: head + 8 * values.len() };
    let (mut higher, patches_max) = (0, values.len() / 8 + 1);
    for width in (0..=most as u32).rev() {
        if width <= LOAD_BITS {
            let patches = higher + lowest;
            let mut bytes = head + line_bytes(values.len(), width) + usize::from(patches > 0);
            if higher > 0 {
                bytes += patch_bytes(&above, width, width as usize + 1..most + 1);
            }
            if lowest > 0 {
                bytes += patch_bytes(&below, width, 0..below.len());
            }
            if bytes < best.bytes {
                best = Plan { base, width, patches, bytes };
            }
        }
        higher += usize::from(above.get(width as usize).copied().unwrap_or(0));
        // A narrower frame would be all patches.
        if higher > patches_max {
            break;
        }
    }
    best
}

/// Bytes of the patches whose offsets have the given lengths.
fn patch_bytes(counts: &[u16; 65], width: u32, lengths: Range<usize>) -> usize {
    let counts = counts.iter().enumerate().take(lengths.end).skip(lengths.start);
    let bytes_of = |length: usize| 1 + len_of_bits((length as u32).saturating_sub(width) + 1);
    counts.filter(|(_, count)| **count > 0).map(|(length, count)| usize::from(*count) * bytes_of(length)).sum()
}

/// Appends the frame.
pub(crate) fn write(values: &[i64], plan: &Plan, out: &mut Vec<u8>) {
    debug_assert!((1..=FRAME_LEN).contains(&values.len()));
    let Plan { base, width, patches, .. } = *plan;
    out.push(width as u8 | if patches > 0 { PATCHED } else { 0 });
    write_i64(out, base);
    let mask = mask(width);
    let mut rest = values;
    if (1..=32).contains(&width) {
        let packer = BitPacker4x::new();
        let mut low = [0u32; GROUP_LEN];
        while let Some((group, behind)) = rest.split_first_chunk::<GROUP_LEN>() {
            for (to, from) in low.iter_mut().zip(group) {
                *to = (from.wrapping_sub(base) as u64 & mask) as u32;
            }
            let at = out.len();
            out.resize(at + group_bytes(width), 0);
            packer.compress(&low, out.split_at_mut(at).1, width as u8);
            rest = behind;
        }
    }
    write_line(rest.iter().map(|value| value.wrapping_sub(base) as u64 & mask), width, out);
    if patches > 0 {
        write_u64(out, patches as u64);
        let mut after = 0;
        for (at, value) in values.iter().enumerate() {
            let offset = value.wrapping_sub(base);
            if offset as u64 > mask {
                write_u64(out, (at - after) as u64);
                write_i64(out, offset >> width);
                after = at + 1;
            }
        }
    }
}

/// A frame whose head is read; hands out its offsets in groups of 128, the last one perhaps shorter.
#[derive(Clone, Debug)]
pub(crate) struct Frame<'a> {
    /// What the offsets are counted from.
    pub(crate) base: i64,
    width: u32,
    packed: &'a [u8],
    patches: Patches<'a>,
    left: usize,
}

/// The patches that are not applied yet. Places are counted from the next group.
#[derive(Clone, Debug)]
struct Patches<'a> {
    bytes: Bytes<'a>,
    left: usize,
    /// Place of the next one.
    at: usize,
}

impl<'a> Frame<'a> {
    /// Reads the head of a frame of `count` integers (1 to 512), and goes to its end.
    pub(crate) fn read(bytes: &mut Bytes<'a>, count: usize) -> Result<Frame<'a>, Malformed> {
        let head = bytes.u8()?;
        let width = u32::from(head & !PATCHED);
        if width > LOAD_BITS && width != 64 {
            return Err(Malformed("width of a frame"));
        }
        let base = bytes.i64()?;
        let packed = bytes.take(line_bytes(count, width))?;
        let mut patches = Patches { bytes: *bytes, left: 0, at: usize::MAX };
        if head & PATCHED != 0 {
            let mut at = 0;
            let left = bytes.count(count)?;
            let places = *bytes;
            for _ in 0..left {
                at += bytes.count(count)? + 1;
                bytes.i64()?;
            }
            if at > count {
                return Err(Malformed("patch outside its frame"));
            }
            patches = Patches { bytes: places, left, at: usize::MAX };
            // From before the first integer.
            patches.advance()?;
        }
        Ok(Frame { base, width, packed, patches, left: count })
    }

    /// Reads the next group's offsets into `group`, and returns how many.
    #[inline]
    pub(crate) fn next_group(
        &mut self,
        packer: &BitPacker4x,
        group: &mut [u64; GROUP_LEN],
    ) -> Result<usize, Malformed> {
        let count = self.left.min(GROUP_LEN);
        let packed = self.take_packed(count)?;
        let (out, _) = group.split_at_mut(count);
        if count == GROUP_LEN && (1..=32).contains(&self.width) {
            let mut low = [0u32; GROUP_LEN];
            packer.decompress(packed, &mut low, self.width as u8);
            for (to, from) in out.iter_mut().zip(&low) {
                *to = u64::from(*from);
            }
        } else {
            read_line(packed, self.width, out);
        }
        while self.patches.at < count {
            let high = self.patches.high()?.checked_shl(self.width).unwrap_or(0);
            if let Some(offset) = out.get_mut(self.patches.at) {
                *offset |= high;
            }
            self.patches.advance()?;
        }
        self.patches.at = self.patches.at.saturating_sub(GROUP_LEN);
        self.left -= count;
        Ok(count)
    }

    /// Reads the next group's running sums of offsets without their patches, when it is full and its sums hold 32 bits:
    /// then they come from vector code. `false`, and nothing read, otherwise. [`Frame::patch_sums`] must follow.
    #[inline]
    pub(crate) fn next_sums(&mut self, packer: &BitPacker4x, sums: &mut [u32; GROUP_LEN]) -> Result<bool, Malformed> {
        if self.left < GROUP_LEN || self.width > SUM_BITS {
            return Ok(false);
        }
        if self.width == 0 {
            sums.fill(0);
        } else {
            packer.decompress_sorted(0, self.take_packed(GROUP_LEN)?, sums, self.width as u8);
        }
        self.left -= GROUP_LEN;
        Ok(true)
    }

    /// Adds each patch of the group to the sums behind it.
    #[inline]
    pub(crate) fn patch_sums(&mut self, group: &mut [u64; GROUP_LEN]) -> Result<(), Malformed> {
        while self.patches.at < GROUP_LEN {
            let high = self.patches.high()?.checked_shl(self.width).unwrap_or(0);
            for sum in group.iter_mut().skip(self.patches.at) {
                *sum = sum.wrapping_add(high);
            }
            self.patches.advance()?;
        }
        self.patches.at = self.patches.at.saturating_sub(GROUP_LEN);
        Ok(())
    }

    fn take_packed(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (packed, rest) =
            self.packed.split_at_checked(line_bytes(count, self.width)).ok_or(Malformed("frame too short"))?;
        self.packed = rest;
        Ok(packed)
    }
}

impl Patches<'_> {
    /// What the next patch adds above the width.
    fn high(&mut self) -> Result<u64, Malformed> {
        self.bytes.i64().map(|high| high as u64)
    }

    /// Goes to the next patch, once this one is applied.
    fn advance(&mut self) -> Result<(), Malformed> {
        let behind = self.at.wrapping_add(1);
        self.at = usize::MAX;
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            self.at = behind + self.bytes.count(FRAME_LEN)?;
        }
        Ok(())
    }
}

/// Appends integers of `width` bits one after the other, least significant bit first.
pub(crate) fn write_line(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (mut word, mut filled) = (0u128, 0);
    for value in values {
        word |= u128::from(value) << filled;
        filled += width;
        while filled >= 64 {
            out.extend_from_slice(&(word as u64).to_le_bytes());
            word >>= 64;
            filled -= 64;
        }
    }
    out.extend_from_slice((word as u64).to_le_bytes().split_at(filled.div_ceil(8) as usize).0);
}

/// Reads what [`write_line`] wrote; `width` is 0 to 57 or 64, `bytes` has `line_bytes` bytes.
#[inline]
pub(crate) fn read_line(bytes: &[u8], width: u32, out: &mut [u64]) {
    debug_assert!(bytes.len() == line_bytes(out.len(), width));
    let mut short = [0; 8];
    let bytes = if bytes.len() < short.len() {
        short.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        &short
    } else {
        bytes
    };
    let mask = mask(width);
    // The last integers are in the last eight bytes, shifted further: one load each, wherever it lies.
    let last = bytes.len() - 8;
    let mut at = 0;
    for to in out {
        let byte = (at >> 3).min(last);
        let word = bytes.get(byte..byte + 8).and_then(|word| word.first_chunk()).copied().unwrap_or_default();
        *to = (u64::from_le_bytes(word) >> ((at - byte * 8) & 63)) & mask;
        at += width as usize;
    }
}

/// Bytes of `count` integers of `width` bits one after the other.
#[inline]
pub(crate) fn line_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

#[inline]
fn group_bytes(width: u32) -> usize {
    GROUP_LEN / 8 * width as usize
}

fn head_bytes(base: i64) -> usize {
    1 + len_of_bits(bit_len(zigzag(base)))
}

#[inline(always)]
fn bit_len(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// The low `width` bits (0 to 64).
#[inline(always)]
pub(crate) fn mask(width: u32) -> u64 {
    if width >= 64 { u64::MAX } else { (1 << width) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[i64], plan: &Plan) {
        let mut out = Vec::new();
        write(values, plan, &mut out);
        let mut bytes = Bytes::new(&out);
        let mut frame = Frame::read(&mut bytes, values.len()).unwrap();
        bytes.end().unwrap();
        let mut sums_frame = frame.clone();
        let packer = BitPacker4x::new();
        for want in values.chunks(GROUP_LEN) {
            let mut group = [9; GROUP_LEN];
            let count = frame.next_group(&packer, &mut group).unwrap();
            let got: Vec<i64> = group[..count].iter().map(|&offset| frame.base.wrapping_add(offset as i64)).collect();
            assert_eq!(got, want);
            let mut sums = [9; GROUP_LEN];
            if sums_frame.next_sums(&packer, &mut sums).unwrap() {
                let mut got = sums.map(u64::from);
                sums_frame.patch_sums(&mut got).unwrap();
                let mut sum = 0u64;
                for (offset, got) in group.iter().zip(got) {
                    sum = sum.wrapping_add(*offset);
                    assert_eq!(got, sum);
                }
            } else {
                sums_frame.next_group(&packer, &mut group).unwrap();
            }
        }
    }

    proptest! {
        #[test]
        fn frames_round_trip(values in prop::collection::vec(any::<i64>(), 1..=FRAME_LEN), shift in 0u32..64, odd in 1usize..99) {
            let values: Vec<i64> =
                values.iter().enumerate().map(|(i, v)| if i % odd == 0 { *v } else { v >> shift }).collect();
            check(&values, &plan(&values));
            // The plain plan as well.
            check(&values, &plan_from(&values, values[0]));
        }
    }

    #[test]
    fn every_width_round_trips() {
        for width in 0..=64 {
            let values: Vec<i64> =
                (0..300u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask(width)) as i64).collect();
            check(&values, &plan(&values));
        }
    }

    /// The layout of a group, read as `docs/format.md` tells it: the lanes are on disk.
    #[test]
    fn a_group_is_four_lanes_of_32_bits() {
        let values: Vec<i64> = (0..128).map(|i| i * i % 1_021).collect();
        for width in [10, 17, 31, 32] {
            let mut out = Vec::new();
            write(&values, &Plan { base: 0, width, patches: 0, bytes: 0 }, &mut out);
            assert_eq!(out[..2], [width as u8, 0]);
            let word = |lane: usize, at: usize| {
                let at = 2 + (at * 4 + lane) * 4;
                u64::from(u32::from_le_bytes(out[at..at + 4].try_into().unwrap()))
            };
            for (i, value) in values.iter().enumerate() {
                let (lane, bit) = (i % 4, i / 4 * width as usize);
                let next = if bit / 32 + 1 < width as usize { word(lane, bit / 32 + 1) } else { 0 };
                let bits = (word(lane, bit / 32) | next << 32) >> (bit % 32) & mask(width);
                assert_eq!(bits, *value as u64);
            }
        }
    }

    #[test]
    fn outliers_do_not_widen_a_frame() {
        let mut values: Vec<i64> = (0..512).map(|i| 100 + i % 16).collect();
        values[77] = -5_000_000;
        values[300] = 1 << 40;
        let plan = plan(&values);
        assert_eq!((plan.width, plan.patches), (4, 2));
        check(&values, &plan);
    }
}
