//! Bits written one after another, most significant first, and the variable forms Prometheus's chunks are made of.

/// Bytes that end in the middle of one.
#[derive(Default, Debug)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are still free.
    free: u32,
}

impl BitWriter {
    /// Continues behind whole bytes.
    pub(super) fn behind(bytes: Vec<u8>) -> BitWriter {
        BitWriter { bytes, free: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The `width` lowest bits of `value`, at most 64.
    #[inline]
    pub(super) fn write(&mut self, value: u64, width: u32) {
        debug_assert!((1..=64).contains(&width));
        let mut left = width;
        // From here on the bits stand at the top.
        let mut bits = value << (64 - width);
        if self.free > 0 {
            if let Some(last) = self.bytes.last_mut() {
                *last |= (bits >> (64 - self.free)) as u8;
            }
            if left <= self.free {
                self.free -= left;
                return;
            }
            bits <<= self.free;
            left -= self.free;
        }
        let whole = left.div_ceil(8) as usize;
        self.bytes.extend(bits.to_be_bytes().iter().take(whole));
        self.free = whole as u32 * 8 - left;
    }

    #[inline]
    pub(super) fn bit(&mut self, bit: bool) {
        self.write(u64::from(bit), 1);
    }

    /// LEB128, each byte where the bits are.
    pub(super) fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.write(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.write(value, 8);
    }

    /// Zigzag and LEB128.
    pub(super) fn varint(&mut self, value: i64) {
        self.uvarint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// A signed number: a unary class, then as many bits as the class has.
    pub(super) fn varbit(&mut self, value: i64) {
        if value == 0 {
            return self.bit(false);
        }
        match CLASSES.iter().zip(1..).find(|(width, _)| fits(value, **width)) {
            Some((width, ones)) => self.class(ones, value as u64, *width),
            None => {
                self.write(0xff, 8);
                self.write(value as u64, 64);
            }
        }
    }

    /// An unsigned number in the same classes.
    pub(super) fn varbit_unsigned(&mut self, value: u64) {
        if value == 0 {
            return self.bit(false);
        }
        match CLASSES.iter().zip(1..).find(|(width, _)| value >> **width == 0) {
            Some((width, ones)) => self.class(ones, value, *width),
            None => {
                self.write(0xff, 8);
                self.write(value, 64);
            }
        }
    }

    fn class(&mut self, ones: u32, value: u64, width: u32) {
        self.write((1 << (ones + 1)) - 2, ones + 1);
        self.write(value, width);
    }
}

/// Bits of a number by the ones before it.
const CLASSES: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

/// Whether `width` bits hold a number: one more above zero than below it.
#[inline]
pub(super) fn fits(value: i64, width: u32) -> bool {
    let half = 1i64 << (width - 1);
    1 - half <= value && value <= half
}
