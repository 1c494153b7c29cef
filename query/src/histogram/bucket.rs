//! The buckets of a histogram with their bounds, in ascending order.

use varve_model::Histogram;

use super::bounds::bound;
use super::{is_custom, side};

/// A bucket with its bounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bucket {
    /// Lower bound; minus infinity for the first custom bucket.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to it.
    pub lower_inclusive: bool,
    /// Whether the upper bound belongs to it.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: f64,
}

impl Bucket {
    /// The share of the bucket's width that lies below `value`, a number within it: by distance where `linear`, by
    /// ratio otherwise. Without meaning where a bound is infinite.
    pub(crate) fn share_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let log = |value: f64| value.abs().log2();
        let (lower, upper, at) = (log(self.lower), log(self.upper), log(value));
        if value > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }
}

/// Buckets of the positive side, as the spans have them.
pub(crate) fn positive(histogram: &Histogram) -> impl Iterator<Item = Bucket> {
    let custom = is_custom(histogram);
    side::indexed(&histogram.positive_spans, &histogram.positive).map(move |(index, count)| {
        let (lower, upper) = (bound(histogram, index.wrapping_sub(1)), bound(histogram, index));
        let inclusive = if custom { (index == 0, true) } else { (lower < 0.0, upper > 0.0) };
        Bucket { lower, upper, lower_inclusive: inclusive.0, upper_inclusive: inclusive.1, count }
    })
}

/// Buckets of the negative side, as the spans have them: the one next to zero first.
pub(crate) fn negative(histogram: &Histogram) -> impl Iterator<Item = Bucket> {
    side::indexed(&histogram.negative_spans, &histogram.negative).map(move |(index, count)| {
        let (lower, upper) = (-bound(histogram, index), -bound(histogram, index.wrapping_sub(1)));
        Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count }
    })
}

/// The zero bucket.
pub(crate) fn zero(histogram: &Histogram) -> Bucket {
    Bucket {
        lower: -histogram.zero_threshold,
        upper: histogram.zero_threshold,
        lower_inclusive: true,
        upper_inclusive: true,
        count: histogram.zero_count,
    }
}

/// All buckets from the lowest to the highest, empty ones that the histogram names included; the zero bucket only if
/// it has observations. Buckets that reach into the zero bucket end at its border. O(buckets).
pub fn buckets(histogram: &Histogram) -> Vec<Bucket> {
    let threshold = histogram.zero_threshold;
    let mut buckets: Vec<Bucket> = negative(histogram).collect();
    buckets.reverse();
    if histogram.zero_count > 0.0 {
        buckets.push(zero(histogram));
    }
    buckets.extend(positive(histogram));
    for bucket in &mut buckets {
        if bucket.upper < 0.0 && bucket.upper > -threshold {
            bucket.upper = -threshold;
        } else if bucket.lower > 0.0 && bucket.lower < threshold {
            bucket.lower = threshold;
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use varve_model::histogram::Span;

    use super::*;

    #[test]
    fn buckets_ascend_and_end_at_the_zero_bucket() {
        let histogram = Histogram {
            zero_threshold: 0.6,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive: vec![1.0, 0.0],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative: vec![3.0, 4.0],
            ..Histogram::default()
        };
        let found: Vec<(f64, f64, f64)> = buckets(&histogram).iter().map(|b| (b.lower, b.upper, b.count)).collect();
        assert_eq!(found, [(-2.0, -1.0, 4.0), (-1.0, -0.6, 3.0), (-0.6, 0.6, 2.0), (0.6, 1.0, 1.0), (1.0, 2.0, 0.0)]);
    }
}
