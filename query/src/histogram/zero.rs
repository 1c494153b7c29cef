//! Zero buckets of unequal width: both become as wide as the wider one, or wider where that would cut a bucket with
//! observations.

use std::cmp::Ordering;

use varve_model::Histogram;

use super::arithmetic::{Correction, compact_compensated};
use super::side::{COMPENSATED, indexed};
use super::{bounds::bound, is_custom};

/// A zero bucket that has swallowed others.
pub(crate) struct Widened {
    pub(crate) count: f64,
    pub(crate) c: f64,
    pub(crate) threshold: f64,
}

/// What the zero bucket holds when it is widened to `threshold`, or further where that lies in a bucket with
/// observations.
pub(crate) fn widened(histogram: &Histogram, correction: &Correction, threshold: f64) -> Widened {
    let mut zero = Widened { count: histogram.zero_count, c: correction.zero_count, threshold };
    if is_custom(histogram) || threshold <= histogram.zero_threshold {
        return zero;
    }
    loop {
        (zero.count, zero.c) = (histogram.zero_count, correction.zero_count);
        swallow(histogram, correction, true, &mut zero);
        let reached = zero.threshold;
        swallow(histogram, correction, false, &mut zero);
        // The positive side must be asked again when the negative one has moved the border.
        // Every round but the last moves it, so this ends; a border that is NaN is never moved.
        if zero.threshold.partial_cmp(&reached) != Some(Ordering::Greater) {
            return zero;
        }
    }
}

fn swallow(histogram: &Histogram, correction: &Correction, positive: bool, zero: &mut Widened) {
    let (spans, counts, compensations) = if positive {
        (&histogram.positive_spans, &histogram.positive, &correction.positive)
    } else {
        (&histogram.negative_spans, &histogram.negative, &correction.negative)
    };
    for (at, (index, count)) in indexed(spans, counts).enumerate() {
        if bound(histogram, index.wrapping_sub(1)) >= zero.threshold {
            return;
        }
        let c = compensations.get(at).copied().unwrap_or(0.0);
        (zero.count, zero.c) = COMPENSATED(count, zero.count, zero.c);
        (zero.count, zero.c) = COMPENSATED(c, zero.count, zero.c);
        let upper = bound(histogram, index);
        if upper > zero.threshold {
            if count != 0.0 {
                zero.threshold = upper;
            }
            return;
        }
    }
}

/// Widens the zero bucket of `histogram` so that it holds that of `other`, and says what the zero bucket of `other`
/// would hold at that width.
pub(crate) fn reconcile(
    histogram: &mut Histogram,
    correction: &mut Correction,
    other: &Histogram,
    compensated: bool,
) -> (f64, f64) {
    let none = Correction::default();
    let mut theirs = Widened { count: other.zero_count, c: 0.0, threshold: other.zero_threshold };
    // Each round widens one of the two to the next bound of a bucket; a NaN would never become equal.
    while theirs.threshold.partial_cmp(&histogram.zero_threshold).is_some_and(Ordering::is_ne) {
        if histogram.zero_threshold > theirs.threshold {
            theirs = widened(other, &none, histogram.zero_threshold);
        }
        if theirs.threshold > histogram.zero_threshold {
            let ours = widened(histogram, correction, theirs.threshold);
            (histogram.zero_count, correction.zero_count) = (ours.count, if compensated { ours.c } else { 0.0 });
            histogram.zero_threshold = ours.threshold;
            clear_within(histogram, correction);
        }
    }
    (theirs.count, if compensated { theirs.c } else { 0.0 })
}

/// Removes the buckets that lie in the zero bucket, whose border is a bound.
fn clear_within(histogram: &mut Histogram, correction: &mut Correction) {
    for positive in [true, false] {
        let spans = if positive { &histogram.positive_spans } else { &histogram.negative_spans };
        let counts = if positive { &histogram.positive } else { &histogram.negative };
        let within = indexed(spans, counts)
            .take_while(|(index, _)| bound(histogram, index.wrapping_sub(1)) < histogram.zero_threshold)
            .count();
        let (counts, c) = if positive {
            (&mut histogram.positive, &mut correction.positive)
        } else {
            (&mut histogram.negative, &mut correction.negative)
        };
        counts.iter_mut().take(within).for_each(|count| *count = 0.0);
        c.iter_mut().take(within).for_each(|c| *c = 0.0);
    }
    compact_compensated(histogram, correction);
}
