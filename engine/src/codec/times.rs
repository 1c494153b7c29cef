//! Times of a chunk: a column of integers (`integer.rs`) behind one tag byte.
//!
//! A regular schedule is `step` and takes some ten bytes whatever its length; jitter around a schedule is `line`; gaps
//! are patches of `delta`. Any column of `i64` comes back, ascending or not.

use super::Malformed;
use super::integer::{self, Shape};
use super::varint::Bytes;

/// Appends `times`; nothing when there are none.
pub fn encode(times: &[i64], out: &mut Vec<u8>) {
    if times.is_empty() {
        return;
    }
    let shaped = integer::shape(times);
    out.push(shaped.shape as u8);
    shaped.write(out);
}

/// Appends the `count` times that `bytes` holds, exactly as [`encode`] wrote them; on an error `times` is as it was.
/// Allocates 8 bytes a sample: the caller bounds `count`.
pub fn decode(bytes: &[u8], count: usize, times: &mut Vec<i64>) -> Result<(), Malformed> {
    let start = times.len();
    let result = decode_into(Bytes::new(bytes), count, times);
    if result.is_err() {
        times.truncate(start);
    }
    result
}

fn decode_into(mut bytes: Bytes<'_>, count: usize, times: &mut Vec<i64>) -> Result<(), Malformed> {
    if count > 0 {
        let shape = Shape::from_bits(bytes.u8()?)?;
        times.reserve(count);
        integer::read(shape, &mut bytes, count, |block| times.extend(block.iter().map(|&time| time as i64)))?;
    }
    bytes.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{hex, samples};
    use proptest::prelude::*;

    #[track_caller]
    fn check(times: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(times, &mut out);
        let mut got = vec![3];
        decode(&out, times.len(), &mut got).unwrap();
        assert_eq!(&got[1..], times);
        out
    }

    fn schedule(count: i64, jitter: impl Fn(i64) -> i64) -> Vec<i64> {
        (0..count).map(|i| 1_700_000_000_000 + i * 15_000 + jitter(i)).collect()
    }

    /// The bytes of each shape as they are on disk for ever: they must decode, whatever `encode` chooses later.
    #[test]
    fn golden_bytes_of_each_shape() {
        let wave = |i: i64| i * 1_000 + i * i % 7;
        let cases: [(&str, Vec<i64>, &str); 6] = [
            ("one", vec![-1], "000100"),
            ("step", schedule(480, |_| 0), "0080a0abfef962b0ea01"),
            (
                "offset",
                (0..40).map(|i| i * i * 7_919 % 31).collect(),
                "010500c0657112225c161a149c13aa408be404a523b2032e8b9310e1",
            ),
            (
                "delta",
                (0..40).map(|i| wave(i) + if i > 20 { 100_000 } else { 0 }).collect(),
                "02d10f83ca0fa4b342745688ce0ad159213a2b44670115a8c301",
            ),
            (
                "delta2",
                (0..40).map(|i| i * i * 50 + i * i * i % 5).collect(),
                "03656684bc012237097b93b037097b93b037097b93b037097b9302000b000b",
            ),
            (
                "line",
                schedule(40, |i| i * i * 7_919 % 31 % 8),
                "0480a0abfef962b0ea01030070f48054196183c28a44ae188e1e90",
            ),
        ];
        let got: Vec<_> = cases.iter().map(|(name, times, _)| (*name, hex(&check(times)))).collect();
        let want: Vec<_> = cases.iter().map(|(name, _, golden)| (*name, (*golden).to_owned())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn jitter_costs_its_bits_and_schedules_nothing() {
        assert!(check(&schedule(1_000_000, |_| 0)).len() < 12);
        // Jitter of 0 to 3 ms: two bits a sample, and two frames' heads.
        assert!(check(&schedule(1_024, |i| ((i * 2_654_435_761) >> 8) % 4)).len() <= 256 + 20);
        // A gap is one patch.
        assert!(check(&schedule(512, |i| if i > 99 { 123_456 } else { 0 })).len() < 24);
    }

    proptest! {
        #[test]
        fn times_round_trip(times in samples::times(0..1_500)) {
            check(&times);
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read(shape in 0u8..6, bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0usize..2_000) {
            let mut times = Vec::new();
            let bytes = [&[shape], &bytes[..]].concat();
            let ok = decode(&bytes, count, &mut times).is_ok();
            prop_assert_eq!(times.len(), if ok { count } else { 0 });
            prop_assert!(times.capacity() <= count.next_power_of_two().max(4));
        }

        #[test]
        fn cut_bytes_are_refused(times in samples::times(1..700)) {
            let bytes = check(&times);
            prop_assert!(decode(&bytes[..bytes.len() - 1], times.len(), &mut Vec::new()).is_err());
        }
    }
}
