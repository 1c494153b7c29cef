//! The head's codec: samples as they come, delta of delta times and XOR values, one series an [`Appender`].
//!
//! After Gorilla (Pelkonen et al., VLDB 2015, §4.1), with one control code for time and value together: a sample that
//! is on time and unchanged costs one bit, and a reader takes a run of them at once. `docs/format.md`, "Chunk
//! encodings", has the bits.
//!
//! ```text
//! first sample   time 64 bits, value 64 bits, little-endian bytes
//! others         0                                 same delta, same value
//!                10     value                      same delta, another value
//!                110    dod  7 bits  1?value       delta changed; then 0: same value, or 1 and the value
//!                1110   dod 13 bits  1?value
//!                11110  dod 20 bits  1?value
//!                11111  dod 64 bits  1?value
//! value          the code of `xor.rs`
//! ```
//!
//! Invariants:
//! * Any bit pattern of value and any two times come back exactly: all arithmetic on times wraps.
//! * Bits behind the last sample are zero, so a copy of the bytes taken at any count decodes to that count.
//! * The state of an appender is 56 bytes beside its buffer: there are millions.

use super::Malformed;
use super::bits::{self, BitReader, PEEK_BITS};
use super::xor::Window;

/// Bytes of the first sample.
const FIRST_BYTES: usize = 16;
const _: () = assert!(size_of::<Appender>() <= 56);

/// Encodes one series' samples as they come. Times must ascend strictly; the caller sees to that.
#[derive(Clone, Debug)]
pub struct Appender {
    bytes: Vec<u8>,
    last_time: i64,
    last_delta: u64,
    last_value: u64,
    count: u32,
    window: Window,
    used: u8,
}

impl Default for Appender {
    fn default() -> Appender {
        Appender::new()
    }
}

impl Appender {
    /// Starts empty, without allocating.
    pub const fn new() -> Appender {
        Appender {
            bytes: Vec::new(),
            last_time: i64::MIN,
            last_delta: 0,
            last_value: 0,
            count: 0,
            window: Window::ALL,
            used: 8,
        }
    }

    /// Goes on after `count` samples in `bytes`, which another appender made. O(count).
    pub fn resume(mut bytes: Vec<u8>, count: usize) -> Result<Appender, Malformed> {
        if count == 0 {
            return Ok(Appender::new());
        }
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let end = decode_samples(&bytes, count, &mut times, &mut values)?;
        let count = u32::try_from(count).map_err(|_| Malformed("too many samples in a gorilla chunk"))?;
        bytes.truncate(end.bytes);
        // A copy may hold bits of samples beyond `count`.
        if let Some(last) = bytes.last_mut() {
            *last &= 0xffu8 << (8 - end.used);
        }
        Ok(Appender {
            bytes,
            last_time: end.time,
            last_delta: end.delta,
            last_value: end.value,
            count,
            window: end.window,
            used: end.used,
        })
    }

    /// Adds a sample; `time` must be greater than [`Appender::last_time`] (checked in debug builds).
    #[inline]
    pub fn push(&mut self, time: i64, value: f64) {
        let value = value.to_bits();
        if self.count == 0 {
            self.push_first(time, value);
            return;
        }
        debug_assert!(time > self.last_time, "times ascend");
        let delta = time.wrapping_sub(self.last_time) as u64;
        let dod = delta.wrapping_sub(self.last_delta) as i64;
        let xor = value ^ self.last_value;
        self.count += 1;
        self.last_time = time;
        if dod == 0 {
            if xor == 0 {
                self.write(0, 1);
                return;
            }
            self.last_value = value;
            self.write_value(0b10, 2, xor);
            return;
        }
        self.last_delta = delta;
        match dod {
            -64..=63 => self.write(0b110 << 7 | dod as u64 & 0x7f, 10),
            -4096..=4095 => self.write(0b1110 << 13 | dod as u64 & 0x1fff, 17),
            -524_288..=524_287 => self.write(0b11110 << 20 | dod as u64 & 0xf_ffff, 25),
            _ => {
                self.write(0b11111, 5);
                self.write(dod as u64, 64);
            }
        }
        if xor == 0 {
            self.write(0, 1);
            return;
        }
        self.last_value = value;
        self.write_value(1, 1, xor);
    }

    /// Samples pushed.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Time of the first sample; `None` when there is none.
    pub fn first_time(&self) -> Option<i64> {
        self.bytes.first_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes))
    }

    /// Time of the last sample; `None` when there is none.
    pub fn last_time(&self) -> Option<i64> {
        (self.count > 0).then_some(self.last_time)
    }

    /// Value of the last sample; `None` when there is none.
    pub fn last_value(&self) -> Option<f64> {
        (self.count > 0).then_some(f64::from_bits(self.last_value))
    }

    /// What [`decode`] reads, with [`Appender::count`] samples in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, without a copy; spare capacity is kept.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends all samples to the columns.
    pub fn decode(&self, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
        decode(&self.bytes, self.count(), times, values)
    }

    #[cold]
    fn push_first(&mut self, time: i64, value: u64) {
        self.bytes.reserve_exact(2 * FIRST_BYTES);
        self.bytes.extend_from_slice(&time.to_le_bytes());
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self.count = 1;
        self.last_time = time;
        self.last_value = value;
    }

    #[inline(always)]
    fn write(&mut self, bits: u64, count: u32) {
        bits::write(&mut self.bytes, &mut self.used, bits, count);
    }

    /// Writes `prefix` (its low `prefix_bits`), then the value code of `xor`, in one or two writes.
    #[inline]
    fn write_value(&mut self, prefix: u64, prefix_bits: u32, xor: u64) {
        let (head, body) = self.window.code(xor);
        self.write_two(prefix << head.count | head.bits, prefix_bits + head.count, body.bits, body.count);
    }

    #[inline(always)]
    fn write_two(&mut self, high: u64, high_bits: u32, low: u64, low_bits: u32) {
        if high_bits + low_bits <= 64 {
            self.write(high << low_bits | low, high_bits + low_bits);
        } else {
            self.write(high, high_bits);
            self.write(low, low_bits);
        }
    }
}

/// Appends `count` samples of `bytes` to the columns. Bytes behind them are ignored, so a copy of a growing buffer will
/// do. On an error the columns are as they were. Allocates at most 16 bytes a sample, and there are at most eight
/// samples a byte of input.
pub fn decode(bytes: &[u8], count: usize, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
    if count == 0 {
        return Ok(());
    }
    decode_samples(bytes, count, times, values).map(|_| ())
}

/// Where decoding ended: all that an appender needs to go on.
struct End {
    time: i64,
    delta: u64,
    value: u64,
    window: Window,
    used: u8,
    bytes: usize,
}

fn decode_samples(bytes: &[u8], count: usize, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<End, Malformed> {
    const SHORT: Malformed = Malformed("gorilla chunk is shorter than its count of samples");
    let (first, rest) = bytes.split_first_chunk::<8>().ok_or(SHORT)?;
    let (second, rest) = rest.split_first_chunk::<8>().ok_or(SHORT)?;
    if count == 0 || count - 1 > rest.len().saturating_mul(8) {
        return Err(SHORT);
    }
    let start = (times.len(), values.len());
    let mut time = i64::from_le_bytes(*first);
    let mut value = u64::from_le_bytes(*second);
    let mut delta = 0u64;
    let mut window = Window::ALL;
    times.reserve(count);
    values.reserve(count);
    times.push(time);
    values.push(f64::from_bits(value));
    times.resize(start.0 + count, 0);
    values.resize(start.1 + count, 0.0);
    let new_times = times.get_mut(start.0 + 1..).unwrap_or_default();
    let new_values = values.get_mut(start.1 + 1..).unwrap_or_default();
    let mut out = new_times.iter_mut().zip(new_values.iter_mut());
    let mut left = count - 1;
    let mut reader = BitReader::new(rest);
    while left > 0 {
        let word = reader.peek();
        let same = word.leading_zeros().min(PEEK_BITS).min(u32::try_from(left).unwrap_or(u32::MAX));
        if same > 0 {
            reader.skip(same);
            left -= same as usize;
            for (to_time, to_value) in out.by_ref().take(same as usize) {
                time = time.wrapping_add(delta as i64);
                *to_time = time;
                *to_value = f64::from_bits(value);
            }
            continue;
        }
        // The word begins with a one.
        let changed = if word >> 62 == 0b10 {
            reader.skip(2);
            true
        } else {
            let dod = read_dod(&mut reader, word);
            delta = delta.wrapping_add(dod as u64);
            reader.read(1) == 1
        };
        if changed {
            value ^= window.read(&mut reader);
        }
        time = time.wrapping_add(delta as i64);
        if let Some((to_time, to_value)) = out.next() {
            *to_time = time;
            *to_value = f64::from_bits(value);
        }
        left -= 1;
    }
    if reader.overran() {
        times.truncate(start.0);
        values.truncate(start.1);
        return Err(SHORT);
    }
    Ok(End { time, delta, value, window, used: reader.used(), bytes: FIRST_BYTES + reader.bytes_read() })
}

/// Reads the control code and the delta of delta of a word that begins with `11`.
#[inline(always)]
fn read_dod(reader: &mut BitReader<'_>, word: u64) -> i64 {
    match (!word).leading_zeros() {
        2 => {
            reader.skip(10);
            (word << 3) as i64 >> 57
        }
        3 => {
            reader.skip(17);
            (word << 4) as i64 >> 51
        }
        4 => {
            reader.skip(25);
            (word << 5) as i64 >> 44
        }
        _ => {
            reader.skip(5);
            reader.read(64) as i64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::samples;
    use proptest::prelude::*;

    fn append(times: &[i64], values: &[f64]) -> Appender {
        let mut appender = Appender::new();
        for (&time, &value) in times.iter().zip(values) {
            appender.push(time, value);
        }
        appender
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[track_caller]
    fn check(times: &[i64], values: &[f64]) {
        let appender = append(times, values);
        assert_eq!(appender.count(), times.len());
        assert_eq!(appender.first_time(), times.first().copied());
        assert_eq!(appender.last_time(), times.last().copied());
        assert_eq!(appender.last_value().map(f64::to_bits), values.last().map(|value| value.to_bits()));
        let (mut got_times, mut got_values) = (vec![7], vec![7.0]);
        appender.decode(&mut got_times, &mut got_values).unwrap();
        assert_eq!(got_times.split_off(1), times);
        assert_eq!(bits(&got_values.split_off(1)), bits(values));
        // A copy taken when there were fewer samples, and an appender that goes on from there.
        let some = times.len() / 2;
        let mut resumed = Appender::resume(appender.bytes().to_vec(), some).unwrap();
        assert_eq!(resumed.bytes(), append(&times[..some], &values[..some]).bytes());
        for (&time, &value) in times.iter().zip(values).skip(some) {
            resumed.push(time, value);
        }
        assert_eq!(resumed.bytes(), appender.bytes());
    }

    #[test]
    fn constants_on_time_cost_one_bit() {
        let times: Vec<i64> = (0..1_026).map(|i| 1_700_000_000_000 + i * 15_000).collect();
        let appender = append(&times, &vec![1.5; times.len()]);
        // First sample, first delta (25 bits and one for the value), 1,024 bits.
        assert_eq!(appender.bytes().len(), 16 + (26usize + 1_024).div_ceil(8));
        check(&times, &vec![1.5; times.len()]);
    }

    #[test]
    fn golden_bytes() {
        let mut appender = append(&[1_000, 2_000, 3_000, 4_001, 5_002], &[1.0, 1.0, 1.0, 2.0, 3.0]);
        appender.push(i64::MAX, f64::NAN);
        let golden = "e803000000000000000000000000f03fe1f4180e12bffd601fbffffffffffff4466227ff";
        assert_eq!(crate::codec::hex(appender.bytes()), golden);
    }

    #[test]
    fn extremes() {
        check(&[], &[]);
        check(&[i64::MIN], &[f64::from_bits(u64::MAX)]);
        check(&[i64::MIN, i64::MAX], &[-0.0, 0.0]);
        check(&[i64::MIN, -1, 0, i64::MAX - 1, i64::MAX], &[f64::INFINITY, f64::NAN, 0.0, -1.0, f64::MIN]);
    }

    proptest! {
        #[test]
        fn samples_round_trip((times, values) in (samples::times(0..300), samples::values(300..301))) {
            check(&times, &values[..times.len()]);
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0usize..3_000) {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            let result = decode(&bytes, count, &mut times, &mut values);
            let want = if result.is_ok() { count } else { 0 };
            prop_assert_eq!((times.len(), values.len()), (want, want));
            prop_assert!(times.capacity() <= 8 * bytes.len() + 8);
        }

        #[test]
        fn cut_bytes_are_refused((times, values) in (samples::times(2..100), samples::values(100..101))) {
            let appender = append(&times, &values[..times.len()]);
            let cut = &appender.bytes()[..appender.bytes().len() - 1];
            prop_assert!(decode(cut, times.len(), &mut Vec::new(), &mut Vec::new()).is_err());
        }
    }
}
