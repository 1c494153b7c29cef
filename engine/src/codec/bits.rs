//! Bits, most significant first: what the streaming codec of the head is written in.
//!
//! The writer keeps its bits in a plain `Vec<u8>` and needs only to know how many bits of the last byte are taken, so
//! that a series' appender stays small. The reader looks at 64 bits at a time and yields zeros beyond the end; whoever
//! reads asks once, at the end, whether it went beyond (`BitReader::overran`).

/// Bits that a `peek` is sure to show.
pub(crate) const PEEK_BITS: u32 = 57;

/// Appends the low `count` bits of `bits` (1 to 64, the rest must be zero). `used` is the number of bits taken in the
/// last byte of `out`, 1 to 8; 8 also stands for an empty `out`. Unused bits of the last byte are zero.
#[inline]
pub(crate) fn write(out: &mut Vec<u8>, used: &mut u8, bits: u64, count: u32) {
    debug_assert!((1..=64).contains(&count) && (1..=8).contains(used));
    debug_assert!(count == 64 || bits >> count == 0);
    let taken = u32::from(*used);
    let mut word = bits << (64 - count);
    let mut left = count;
    if taken < 8 {
        if let Some(last) = out.last_mut() {
            *last |= (word >> (56 + taken)) as u8;
        }
        let free = 8 - taken;
        if left <= free {
            *used += left as u8;
            return;
        }
        word <<= free;
        left -= free;
    }
    let bytes = left.div_ceil(8) as usize;
    if out.capacity() - out.len() < bytes {
        grow(out);
    }
    out.extend_from_slice(word.to_be_bytes().split_at(bytes).0);
    *used = (left - (bytes as u32 - 1) * 8) as u8;
}

/// Grows by a half in steps of 16 bytes: there are millions of these buffers, and doubling would waste a third more.
#[cold]
fn grow(out: &mut Vec<u8>) {
    let capacity = out.capacity();
    let more = (capacity / 2).max(16).next_multiple_of(16);
    out.reserve_exact(capacity - out.len() + more);
}

/// Reads what [`write()`] wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit.
    pub(crate) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    /// The next bits at the top of a word; at least [`PEEK_BITS`] of them are shown, the rest are zero.
    #[inline(always)]
    pub(crate) fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at >> 3..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(chunk) => u64::from_be_bytes(*chunk),
            None => tail(rest),
        };
        word << (self.at & 7)
    }

    /// Goes on by `count` bits.
    #[inline(always)]
    pub(crate) fn skip(&mut self, count: u32) {
        self.at += count as usize;
    }

    /// Reads 1 to 64 bits.
    #[inline(always)]
    pub(crate) fn read(&mut self, count: u32) -> u64 {
        debug_assert!((1..=64).contains(&count));
        if count <= PEEK_BITS {
            let bits = self.peek() >> (64 - count);
            self.skip(count);
            return bits;
        }
        let low = count - 32;
        let high = self.peek() >> 32;
        self.skip(32);
        let bits = self.peek() >> (64 - low);
        self.skip(low);
        high << low | bits
    }

    /// Bits taken of the last byte read, 1 to 8: what [`write()`] needs to go on after it.
    pub(crate) fn used(&self) -> u8 {
        match (self.at & 7) as u8 {
            0 => 8,
            bits => bits,
        }
    }

    /// Bytes touched so far.
    pub(crate) fn bytes_read(&self) -> usize {
        self.at.div_ceil(8)
    }

    /// Whether more bits were read than there are.
    pub(crate) fn overran(&self) -> bool {
        self.bytes_read() > self.bytes.len()
    }
}

#[cold]
fn tail(rest: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(rest) {
        *to = *from;
    }
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(items in prop::collection::vec((any::<u64>(), 1u32..=64), 0..200)) {
            let (mut out, mut used) = (Vec::new(), 8);
            for &(bits, count) in &items {
                write(&mut out, &mut used, bits >> (64 - count), count);
            }
            let mut reader = BitReader::new(&out);
            for &(bits, count) in &items {
                prop_assert_eq!(reader.read(count), bits >> (64 - count));
            }
            prop_assert!(!reader.overran());
            prop_assert_eq!(reader.bytes_read(), out.len());
            prop_assert_eq!(reader.used(), if items.is_empty() { 8 } else { used });
            reader.skip(8);
            prop_assert!(reader.overran());
        }
    }
}
