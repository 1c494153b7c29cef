//! `</` and `>/`: the observations below or above a value.
//!
//! Buckets that lie wholly on the side that stays keep their count, the one with the value keeps its share, the others
//! go. Count and sum are estimated from what is left, the sum by the middle of each bucket; a histogram of which
//! nothing was cut keeps its own.

use varve_model::Histogram;

use super::arithmetic::compact;
use super::bucket::{self, Bucket};
use super::is_custom;

/// Keeps the observations below `value`, or above it.
pub(crate) fn trim(histogram: &mut Histogram, value: f64, below: bool) {
    let linear = is_custom(histogram);
    let cut = Cut { value, below, linear };
    let (mut total, mut changed) = (Total::default(), false);
    let sides = [true, false].map(|positive| {
        let buckets: Vec<Bucket> =
            if positive { bucket::positive(histogram).collect() } else { bucket::negative(histogram).collect() };
        let has_any = buckets.iter().any(|bucket| bucket.count != 0.0);
        let counts = if positive { &mut histogram.positive } else { &mut histogram.negative };
        for (count, bucket) in counts.iter_mut().zip(&buckets).filter(|(_, bucket)| bucket.count != 0.0) {
            let kept = cut.of(bucket, positive);
            total.add(kept);
            changed |= kept.count != *count;
            *count = kept.count;
        }
        has_any
    });
    if histogram.zero_count > 0.0 {
        let kept = cut.of_zero(&bucket::zero(histogram), sides[0], sides[1]);
        changed |= kept.count != histogram.zero_count;
        histogram.zero_count = kept.count;
        total.add(kept);
    }
    if changed {
        (histogram.count, histogram.sum) = (total.count, total.sum);
        compact(histogram);
    }
}

/// What stays of a bucket, and the middle of where it lies.
#[derive(Clone, Copy)]
struct Kept {
    count: f64,
    middle: f64,
}

#[derive(Default)]
struct Total {
    count: f64,
    sum: f64,
}

impl Total {
    fn add(&mut self, kept: Kept) {
        self.count += kept.count;
        self.sum += kept.middle * kept.count;
    }
}

/// Nothing stays.
const GONE: Kept = Kept { count: 0.0, middle: 0.0 };

struct Cut {
    value: f64,
    below: bool,
    linear: bool,
}

impl Cut {
    fn of(&self, bucket: &Bucket, positive: bool) -> Kept {
        let Bucket { lower, upper, count, .. } = *bucket;
        let whole = if self.below { upper <= self.value } else { lower >= self.value };
        let within = if self.below { lower < self.value } else { upper > self.value };
        if whole {
            return Kept { count, middle: self.middle(lower, upper, positive) };
        }
        if !within {
            return GONE;
        }
        if lower == f64::NEG_INFINITY {
            return self.of_lowest(bucket);
        }
        if upper == f64::INFINITY {
            return self.of_highest(bucket);
        }
        let under = if self.value <= lower {
            0.0
        } else if self.value >= upper {
            count
        } else {
            count * bucket.share_below(self.value, self.linear)
        };
        if self.below {
            Kept { count: under, middle: self.middle(lower, self.value, positive) }
        } else {
            Kept { count: count - under, middle: self.middle(self.value, upper, positive) }
        }
    }

    /// A bucket without lower bound. One that ends above zero is taken to begin there; of others nobody knows where
    /// in them observations lie, so they stay whole or go.
    fn of_lowest(&self, bucket: &Bucket) -> Kept {
        let Bucket { upper, count, .. } = *bucket;
        let (value, finite) = (self.value, upper.is_finite());
        let kept = |count: f64, middle: f64| Kept { count, middle };
        if self.below {
            if value >= upper {
                kept(count, 0.0)
            } else if value > 0.0 && upper > 0.0 && finite {
                kept(count * value / upper, value / 2.0)
            } else if upper <= 0.0 {
                kept(count, value)
            } else {
                kept(0.0, 0.0)
            }
        } else if value >= 0.0 && upper > value && finite {
            kept(count * (1.0 - value / upper), (value + upper) / 2.0)
        } else {
            kept(0.0, 0.0)
        }
    }

    /// A bucket without upper bound: it stays if all of it lies above the value.
    fn of_highest(&self, bucket: &Bucket) -> Kept {
        let stays = !self.below && self.value >= bucket.lower;
        Kept { count: if stays { bucket.count } else { 0.0 }, middle: if stays { self.value } else { 0.0 } }
    }

    /// The zero bucket: evenly filled, only on the side where there are other buckets if there are any on one alone.
    fn of_zero(&self, bucket: &Bucket, has_positive: bool, has_negative: bool) -> Kept {
        let lower = if has_positive && !has_negative { 0.0 } else { bucket.lower };
        let upper = if has_negative && !has_positive { 0.0 } else { bucket.upper };
        let (begin, end) = if self.below { (lower, self.value) } else { (self.value, upper) };
        let (whole, none) = if self.below {
            (self.value >= upper && self.value > lower, self.value <= lower)
        } else {
            (self.value <= lower, self.value >= upper && self.value > lower)
        };
        if none {
            GONE
        } else if whole {
            Kept { count: bucket.count, middle: (lower + upper) / 2.0 }
        } else {
            Kept { count: bucket.count * ((end - begin) / (upper - lower)), middle: (begin + end) / 2.0 }
        }
    }

    /// The middle of an interval, by distance or by ratio.
    fn middle(&self, lower: f64, upper: f64, positive: bool) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => 0.0,
            (true, false) if upper > 0.0 => upper / 2.0,
            (true, false) => upper,
            (false, true) => lower,
            _ if self.linear => (lower + upper) / 2.0,
            _ => {
                let middle = (lower * upper).abs().sqrt();
                if positive { middle } else { -middle }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::tests::{any_histogram, bounded, simple};
    use super::super::buckets;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_cut_through_keeps_its_share() {
        let mut below = simple(0, 1, &[4.0, 4.0, 4.0]);
        trim(&mut below, 8f64.sqrt(), true);
        assert_eq!((below.count, &below.positive[..]), (6.0, &[4.0, 2.0][..]));
        let mut above = simple(0, 1, &[4.0, 4.0, 4.0]);
        trim(&mut above, 4.0, false);
        assert_eq!((above.count, &above.positive[..]), (4.0, &[4.0][..]));
        assert!((above.sum - 4.0 * 32f64.sqrt()).abs() < 1e-12);
        let mut custom = bounded(&[10.0, 20.0], &[4.0, 4.0, 4.0]);
        trim(&mut custom, 5.0, true);
        assert_eq!((custom.count, custom.sum), (2.0, 5.0));
    }

    #[test]
    fn what_is_not_cut_keeps_its_sum() {
        let whole = Histogram { sum: 99.0, ..simple(0, 1, &[4.0, 4.0]) };
        let mut trimmed = whole.clone();
        trim(&mut trimmed, 100.0, true);
        trim(&mut trimmed, 0.5, false);
        assert_eq!(trimmed, whole);
    }

    proptest! {
        #[test]
        fn both_sides_make_the_whole(histogram in any_histogram(), value in -1e4..1e4f64) {
            let (mut below, mut above) = (histogram.clone(), histogram.clone());
            trim(&mut below, value, true);
            trim(&mut above, value, false);
            prop_assert!((below.count + above.count - histogram.count).abs() < 1e-6);
            for part in [&below, &above] {
                let counted: f64 = buckets(part).iter().map(|bucket| bucket.count).sum();
                prop_assert!((counted - part.count).abs() < 1e-6);
            }
        }
    }
}
