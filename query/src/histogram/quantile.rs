//! Quantiles, fractions and variance of a histogram.
//!
//! Within a bucket observations are taken to lie evenly: by ratio in exponential buckets, by distance in custom ones
//! and in the zero bucket. Observations that are NaN are counted, but lie in no bucket; they show in a sum that is NaN.

use varve_model::Histogram;

use super::bucket::{Bucket, buckets};
use super::is_custom;
use crate::exec::kahan;

/// What NaN observations did to a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Skew {
    /// Nothing.
    None,
    /// The quantile is NaN, as it lies behind all buckets.
    NaN,
    /// The result is not that of the numbers alone.
    Skewed,
}

/// The zero bucket ends at zero where all other buckets lie on one side.
fn one_sided(bucket: &mut Bucket, histogram: &Histogram) {
    if histogram.negative.is_empty() && !histogram.positive.is_empty() {
        bucket.lower = 0.0;
    } else if histogram.positive.is_empty() && !histogram.negative.is_empty() {
        bucket.upper = 0.0;
    }
}

/// The quantile `q`.
pub(crate) fn quantile(q: f64, histogram: &Histogram) -> (f64, Skew) {
    let plain = |value: f64| (value, Skew::None);
    if q < 0.0 {
        return plain(f64::NEG_INFINITY);
    }
    if q > 1.0 {
        return plain(f64::INFINITY);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return plain(f64::NAN);
    }
    // NaN observations rank highest, so that with them only counting from below is right.
    let has_nan = histogram.sum.is_nan();
    let from_below = has_nan || q < 0.5;
    let all = buckets(histogram);
    let rank = if from_below { q } else { 1.0 - q } * histogram.count;
    let mut bucket = Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };
    let mut count = 0.0;
    let mut seen = 0;
    for at in 0..all.len() {
        let Some(next) = all.get(if from_below { at } else { all.len() - 1 - at }) else { break };
        seen = at + 1;
        bucket = *next;
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    if is_custom(histogram) {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return plain(bucket.upper);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return plain(bucket.lower);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        one_sided(&mut bucket, histogram);
    }
    count = if count > histogram.count { histogram.count } else { count };
    if count < rank {
        return if has_nan { (f64::NAN, Skew::NaN) } else { plain(bucket.upper) };
    }
    let within = if from_below { rank - (count - bucket.count) } else { count - rank };
    let mut skew = Skew::None;
    if has_nan {
        // As Prometheus looks for further buckets here, the last of them becomes the one that is cut below.
        for rest in all.iter().skip(seen) {
            bucket = *rest;
            count += bucket.count;
        }
        if count < histogram.count {
            skew = Skew::Skewed;
        }
    }
    let share = within / bucket.count;
    let value = if is_custom(histogram) || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        bucket.lower + (bucket.upper - bucket.lower) * share
    } else {
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        if bucket.lower > 0.0 {
            (lower + (upper - lower) * share).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - share)).exp2()
        }
    };
    (value, skew)
}

/// The fraction of observations between `lower` and `upper`.
pub(crate) fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> (f64, Skew) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, Skew::None);
    }
    if lower >= upper {
        return (0.0, Skew::None);
    }
    let all = buckets(histogram);
    let custom = is_custom(histogram);
    let below = |limit: f64| {
        let mut rank = 0.0;
        for bucket in &all {
            let mut bucket = *bucket;
            let holds_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            if holds_zero {
                one_sided(&mut bucket, histogram);
            }
            if bucket.lower >= limit {
                return Some(rank);
            }
            if bucket.upper > limit {
                let linear = custom || holds_zero;
                // An endless bucket gives no line to go by.
                return Some(if linear && bucket.lower == f64::NEG_INFINITY {
                    bucket.count
                } else {
                    rank + bucket.count * bucket.share_below(limit, linear)
                });
            }
            rank += bucket.count;
        }
        None
    };
    let (mut total, mut skew) = (histogram.count, Skew::None);
    if histogram.sum.is_nan() {
        total = all.iter().map(|bucket| bucket.count).sum();
        if total < histogram.count {
            skew = Skew::Skewed;
        }
    }
    let capped = |rank: Option<f64>| rank.map_or(total, |rank| if rank > total { total } else { rank });
    ((capped(below(upper)) - capped(below(lower))) / histogram.count, skew)
}

/// The estimated variance: all observations of a bucket are taken for its mean.
pub(crate) fn variance(histogram: &Histogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let custom = is_custom(histogram);
    let (mut variance, mut c) = (0.0, 0.0);
    for bucket in buckets(histogram).iter().filter(|bucket| bucket.count != 0.0) {
        let value = if custom {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        let delta = value - mean;
        (variance, c) = kahan::add(bucket.count * delta * delta, variance, c);
    }
    (variance + c) / histogram.count
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::tests::{any_histogram, bounded, simple};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_lie_in_their_bucket_by_ratio_or_distance() {
        let exponential = simple(0, 1, &[4.0, 4.0]);
        assert!((quantile(0.25, &exponential).0 - 2f64.sqrt()).abs() < 1e-12);
        assert!((quantile(0.75, &exponential).0 - 8f64.sqrt()).abs() < 1e-12);
        assert_eq!(quantile(0.25, &bounded(&[2.0, 4.0], &[4.0, 4.0])).0, 1.0);
        assert_eq!(quantile(1.0, &bounded(&[2.0], &[4.0, 4.0])).0, 2.0);
        assert_eq!(quantile(0.5, &bounded(&[-2.0], &[4.0, 4.0])).0, -2.0);
        assert_eq!(quantile(-0.1, &exponential).0, f64::NEG_INFINITY);
        assert_eq!(quantile(1.1, &exponential).0, f64::INFINITY);
        assert!(quantile(f64::NAN, &exponential).0.is_nan());
        assert!(quantile(0.5, &Histogram::default()).0.is_nan());
    }

    #[test]
    fn nan_observations_rank_highest() {
        let histogram = Histogram { count: 8.0, sum: f64::NAN, ..simple(0, 1, &[4.0]) };
        let (value, skew) = quantile(0.25, &histogram);
        assert!((value - 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(skew, Skew::Skewed);
        let (value, skew) = quantile(0.75, &histogram);
        assert!(value.is_nan() && skew == Skew::NaN);
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &histogram), (0.5, Skew::Skewed));
    }

    #[test]
    fn the_zero_bucket_has_no_negative_half_without_negative_buckets() {
        let histogram = Histogram { zero_count: 4.0, zero_threshold: 0.5, count: 8.0, ..simple(0, 1, &[4.0]) };
        assert_eq!(quantile(0.25, &histogram).0, 0.25);
        assert_eq!(fraction(0.0, 0.25, &histogram).0, 0.25);
        assert_eq!(fraction(-1.0, 0.0, &histogram).0, 0.0);
    }

    #[test]
    fn variance_is_that_of_the_buckets_means() {
        let histogram = Histogram { sum: 12.0, count: 4.0, ..bounded(&[2.0, 6.0], &[2.0, 2.0]) };
        // The first bucket has no mean.
        assert!(variance(&histogram).is_infinite());
        let histogram = Histogram { sum: 12.0, ..simple(-1, 0, &[2.0, 2.0]) };
        // sqrt(0.25 * 1) and sqrt(1 * 4), mean 3.
        assert!((variance(&histogram) - (6.25 * 2.0 + 1.0 * 2.0) / 4.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn fraction_inverts_quantile(histogram in any_histogram(), q in 0.01..0.99f64) {
            prop_assume!(histogram.count > 0.0);
            let (value, _) = quantile(q, &histogram);
            let (found, _) = fraction(f64::NEG_INFINITY, value, &histogram);
            prop_assert!((found - q).abs() < 1e-6, "{} at {} is {}", q, value, found);
        }

        #[test]
        fn quantiles_ascend(histogram in any_histogram(), a in 0.0..1.0f64, b in 0.0..1.0f64) {
            prop_assume!(histogram.count > 0.0);
            let (low, high) = (quantile(a.min(b), &histogram).0, quantile(a.max(b), &histogram).0);
            prop_assert!(low <= high + 1e-9 * high.abs());
        }
    }
}
