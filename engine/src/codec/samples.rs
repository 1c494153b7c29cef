//! Nasty times and values for the property tests of the codecs.

use proptest::prelude::*;
use std::ops::Range;

/// Strictly ascending times: regular, jittered, with gaps, or anywhere in 64 bits.
pub(crate) fn times(count: Range<usize>) -> impl Strategy<Value = Vec<i64>> {
    let regular = (any::<i32>(), 1i64..100_000).prop_flat_map({
        let count = count.clone();
        move |(first, step)| {
            count.clone().prop_map(move |count| (0..count as i64).map(|i| i64::from(first) + i * step).collect())
        }
    });
    let steps = prop_oneof![8 => 14_990i64..15_010, 1 => 1i64..2, 1 => 1i64..10_000_000];
    let jittered = (any::<i32>(), prop::collection::vec(steps, count.clone())).prop_map(|(first, steps)| {
        let mut time = i64::from(first);
        let mut next = |step: &i64| {
            time += step;
            time
        };
        steps.iter().map(&mut next).collect()
    });
    let wild = prop::collection::vec(
        prop_oneof![4 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX), 2 => -3i64..4],
        count.clone(),
    )
    .prop_map(ascending);
    let start = count.start;
    prop_oneof![regular, jittered, wild].prop_map(move |times: Vec<i64>| pad(times, start))
}

/// Values of every kind that a series may have.
pub(crate) fn values(count: Range<usize>) -> impl Strategy<Value = Vec<f64>> {
    let kind = prop_oneof![
        Just(Kind::Constant),
        Just(Kind::Counter),
        Just(Kind::Decimal),
        Just(Kind::Pages),
        Just(Kind::Noise),
        Just(Kind::Flips),
        Just(Kind::Wild),
        Just(Kind::Huge),
    ];
    (kind, count, any::<u64>(), 0u64..40).prop_map(|(kind, count, seed, odd)| generate(kind, count, seed, odd))
}

/// Kinds of series.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// One value.
    Constant,
    /// Ascending integers with resets.
    Counter,
    /// A gauge with two decimals.
    Decimal,
    /// Bytes in pages of 4,096.
    Pages,
    /// Full precision.
    Noise,
    /// Zero and one.
    Flips,
    /// Any bits.
    Wild,
    /// Integers around the limits of what floats and 64-bit integers hold.
    Huge,
}

/// The same seed gives the same values; every `odd`-th one (none when zero) is a special.
pub(crate) fn generate(kind: Kind, count: usize, seed: u64, odd: u64) -> Vec<f64> {
    const SPECIALS: [u64; 8] = [
        varve_model::STALE_NAN_BITS,
        0x7ff8_0000_0000_0000,
        0xfff8_dead_beef_0001,
        0x8000_0000_0000_0000,
        0x7ff0_0000_0000_0000,
        0xfff0_0000_0000_0000,
        0x0000_0000_0000_0001,
        0x7fef_ffff_ffff_ffff,
    ];
    let mut state = seed;
    let mut random = move || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let base = random();
    let mut total = (base % 1_000_000_000) as i64;
    (0..count)
        .map(|i| {
            let r = random();
            if odd > 0 && (i as u64 + base).is_multiple_of(odd + 2) {
                return f64::from_bits(SPECIALS[(r % 8) as usize]);
            }
            match kind {
                Kind::Constant => f64::from_bits(base),
                Kind::Counter => {
                    total = if r.is_multiple_of(97) { 0 } else { total + (r >> 8) as i64 % 500 };
                    total as f64
                }
                Kind::Decimal => {
                    total += r as i64 % 50;
                    (total % 100_000) as f64 / 100.0
                }
                Kind::Pages => {
                    total += r as i64 % 64;
                    (total * 4_096) as f64
                }
                Kind::Noise => (r >> 11) as f64 / 7.0e15,
                Kind::Flips => (r & 1) as f64,
                Kind::Wild => f64::from_bits(r),
                Kind::Huge => {
                    let edge = [i64::MAX, i64::MIN, 1 << 53, -(1 << 53), 1 << 51, 1 << 62][(r % 6) as usize];
                    edge.wrapping_add((r >> 32) as i64 % 3) as f64
                }
            }
        })
        .collect()
}

fn ascending(mut times: Vec<i64>) -> Vec<i64> {
    times.sort_unstable();
    times.dedup();
    times
}

/// Removing duplicates may leave too few.
fn pad(mut times: Vec<i64>, count: usize) -> Vec<i64> {
    while times.len() < count {
        match times.last().and_then(|last| last.checked_add(1)) {
            Some(next) => times.push(next),
            None if times.is_empty() => times.push(0),
            None => times.insert(0, times[0] - 1),
        }
    }
    times
}
