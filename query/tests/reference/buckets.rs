//! What is read from the buckets of a native histogram: quantiles, fractions, spread, trimming, and its text.

use crate::evaluate::Sample;
use crate::histogram::{Bucket, Histogram};
use crate::numbers::shortest;
use crate::statistics::sum;

/// The histogram of a sample.
pub(crate) fn of(sample: &Sample) -> Option<&Histogram> {
    match sample {
        Sample::Float(_) => None,
        Sample::Histogram(histogram) => Some(histogram),
    }
}

/// What a result leaves out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Caveat {
    /// NaN observations lie above all buckets, and the quantile among them.
    IsNaN,
    /// NaN observations count as the largest.
    Skewed,
    /// NaN observations are in no fraction.
    Excluded,
}

/// With buckets on one side only, the zero bucket ends at zero on the other.
fn one_sided(h: &Histogram, mut bucket: Bucket) -> Bucket {
    if h.negative.is_empty() && !h.positive.is_empty() {
        bucket.lower = 0.0;
    } else if h.positive.is_empty() && !h.negative.is_empty() {
        bucket.upper = 0.0;
    }
    bucket
}

/// The part of a bucket below a value inside of it: linear in custom buckets and the zero bucket, else on a logarithmic
/// scale.
fn part_below(bucket: Bucket, value: f64, linear: bool) -> f64 {
    if linear {
        return (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let log = |value: f64| value.abs().log2();
    if value > 0.0 {
        (log(value) - log(bucket.lower)) / (log(bucket.upper) - log(bucket.lower))
    } else {
        1.0 - (log(value) - log(bucket.upper)) / (log(bucket.lower) - log(bucket.upper))
    }
}

/// The φ-quantile.
pub(crate) fn quantile(h: &Histogram, phi: f64) -> (f64, Option<Caveat>) {
    if phi < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if phi > 1.0 {
        return (f64::INFINITY, None);
    }
    if h.count == 0.0 || phi.is_nan() {
        return (f64::NAN, None);
    }
    // From the nearer end, so that ranks are small and exact. NaN observations lie above all.
    let ascending = h.sum.is_nan() || phi < 0.5;
    let mut all = h.buckets();
    if !ascending {
        all.reverse();
    }
    let rank = (if ascending { phi } else { 1.0 - phi }) * h.count;
    let mut counted = 0.0;
    let mut hit = Bucket { lower: 0.0, upper: 0.0, count: 0.0 };
    let mut rest = all.len();
    for (i, bucket) in all.iter().enumerate() {
        if bucket.count == 0.0 {
            hit = *bucket;
            continue;
        }
        hit = *bucket;
        counted += bucket.count;
        if counted >= rank {
            rest = i + 1;
            break;
        }
    }
    if h.is_custom() {
        if hit.lower == f64::NEG_INFINITY {
            if hit.upper <= 0.0 {
                return (hit.upper, None);
            }
            hit.lower = 0.0;
        } else if hit.upper == f64::INFINITY {
            return (hit.lower, None);
        }
    } else if hit.lower < 0.0 && hit.upper > 0.0 {
        hit = one_sided(h, hit);
    }
    counted = if counted > h.count { h.count } else { counted };
    if counted < rank {
        return if h.sum.is_nan() { (f64::NAN, Some(Caveat::IsNaN)) } else { (hit.upper, None) };
    }
    let inside = if ascending { rank - (counted - hit.count) } else { counted - rank };
    let mut caveat = None;
    if h.sum.is_nan() {
        for bucket in &all[rest..] {
            // Prometheus goes on with the last bucket it looked at.
            counted += bucket.count;
            hit = *bucket;
        }
        if counted < h.count {
            caveat = Some(Caveat::Skewed);
        }
    }
    let part = inside / hit.count;
    if h.is_custom() || (hit.lower <= 0.0 && hit.upper >= 0.0) {
        return (hit.lower + (hit.upper - hit.lower) * part, caveat);
    }
    let (lower, upper) = (hit.lower.abs().log2(), hit.upper.abs().log2());
    if hit.lower > 0.0 {
        ((lower + (upper - lower) * part).exp2(), caveat)
    } else {
        (-(upper + (lower - upper) * (1.0 - part)).exp2(), caveat)
    }
}

/// The part of all observations between two values.
pub(crate) fn fraction(h: &Histogram, lower: f64, upper: f64) -> (f64, Option<Caveat>) {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let all = h.buckets();
    // How many lie below a value, where it is inside of or before some bucket.
    let below = |value: f64| -> Option<f64> {
        let mut rank = 0.0;
        for bucket in &all {
            let zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            let bucket = if zero { one_sided(h, *bucket) } else { *bucket };
            if bucket.lower >= value {
                return Some(rank);
            }
            if bucket.upper > value {
                let linear = h.is_custom() || zero;
                if linear && bucket.lower == f64::NEG_INFINITY {
                    return Some(bucket.count);
                }
                return Some(rank + bucket.count * part_below(bucket, value, linear));
            }
            rank += bucket.count;
        }
        None
    };
    let (low, high) = (below(lower), below(upper));
    let counted: f64 = if h.sum.is_nan() { all.iter().map(|bucket| bucket.count).sum() } else { h.count };
    let within = |rank: Option<f64>| match rank {
        Some(rank) if rank > counted => counted,
        Some(rank) => rank,
        None => counted,
    };
    let caveat = (h.sum.is_nan() && counted < h.count).then_some(Caveat::Excluded);
    ((within(high) - within(low)) / h.count, caveat)
}

/// Variance by the middle of each bucket: geometric in exponential buckets.
pub(crate) fn variance(h: &Histogram) -> f64 {
    let mean = h.sum / h.count;
    let terms = h.buckets().into_iter().filter(|bucket| bucket.count != 0.0).map(|bucket| {
        let middle = if h.is_custom() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        bucket.count * (middle - mean) * (middle - mean)
    });
    sum(terms) / h.count
}

/// The middle of what is left of a bucket.
fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) => {
            if upper > 0.0 {
                upper / 2.0
            } else {
                upper
            }
        }
        (false, true) => lower,
        (false, false) if linear => (lower + upper) / 2.0,
        (false, false) => {
            let middle = (lower * upper).abs().sqrt();
            if positive { middle } else { -middle }
        }
    }
}

/// What stays of a bucket that a value cuts, and the middle of that.
fn cut(bucket: Bucket, at: f64, keeps_below: bool, positive: bool, linear: bool) -> (f64, f64) {
    let Bucket { lower, upper, count } = bucket;
    let finite = |bound: f64| if bound.is_infinite() { 0.0 } else { bound };
    if lower == f64::NEG_INFINITY {
        if keeps_below {
            return if at >= upper {
                (count, 0.0)
            } else if at > 0.0 && upper > 0.0 && upper.is_finite() {
                (count * at / upper, at / 2.0)
            } else if upper <= 0.0 {
                (count, at)
            } else {
                (0.0, finite(upper))
            };
        }
        return if at <= lower {
            (count, 0.0)
        } else if at >= 0.0 && upper > at && upper.is_finite() {
            (count * (1.0 - at / upper), (at + upper) / 2.0)
        } else {
            (0.0, finite(upper))
        };
    }
    if upper == f64::INFINITY {
        return if !keeps_below && at >= lower { (count, at) } else { (0.0, finite(lower)) };
    }
    let below = if at <= lower {
        0.0
    } else if at >= upper {
        count
    } else {
        count * part_below(bucket, at, linear)
    };
    match keeps_below {
        true => (below, middle(lower, at, positive, linear)),
        false => (count - below, middle(at, upper, positive, linear)),
    }
}

/// Only the observations below, or above, a value. Count and sum are those of what stays, unless all does.
pub(crate) fn trimmed(h: &Histogram, at: f64, keeps_below: bool) -> Histogram {
    let linear = h.is_custom();
    let mut out = h.clone();
    let (mut count, mut total, mut changed) = (0.0, 0.0, false);
    let mut keep = |bucket: Bucket, positive: bool| -> f64 {
        if bucket.count == 0.0 {
            return 0.0;
        }
        let (whole, touched) = match keeps_below {
            true => (bucket.upper <= at, bucket.lower < at),
            false => (bucket.lower >= at, bucket.upper > at),
        };
        let (kept, centre) = if whole {
            (bucket.count, middle(bucket.lower, bucket.upper, positive, linear))
        } else if touched {
            cut(bucket, at, keeps_below, positive, linear)
        } else {
            changed = true;
            return 0.0;
        };
        changed |= kept != bucket.count;
        count += kept;
        total += centre * kept;
        kept
    };
    for (index, n) in &h.positive {
        out.positive.insert(*index, keep(h.positive_bucket(*index, *n), true));
    }
    for (index, n) in &h.negative {
        out.negative.insert(*index, keep(h.negative_bucket(*index, *n), false));
    }
    if h.zero > 0.0 {
        let populated = |side: &std::collections::BTreeMap<i32, f64>| side.values().any(|n| *n != 0.0);
        let (has_positive, has_negative) = (populated(&h.positive), populated(&h.negative));
        let upper = if has_negative && !has_positive { 0.0 } else { h.threshold };
        let lower = if has_positive && !has_negative { 0.0 } else { -h.threshold };
        let (low, high) = if keeps_below { (lower, at) } else { (at, upper) };
        let (kept, centre) = if at <= lower {
            if keeps_below { (0.0, 0.0) } else { (h.zero, (lower + upper) / 2.0) }
        } else if at >= upper {
            if keeps_below { (h.zero, (lower + upper) / 2.0) } else { (0.0, 0.0) }
        } else {
            (h.zero * ((high - low) / (upper - lower)), (low + high) / 2.0)
        };
        changed |= kept != h.zero;
        out.zero = kept;
        count += kept;
        total += centre * kept;
    }
    if !changed {
        return h.clone();
    }
    out.count = count;
    out.sum = total;
    out.compact()
}

/// A histogram as a label value: `{count:2, sum:3.5, (1,2]:2}`.
pub(crate) fn text(h: &Histogram) -> String {
    let mut parts = vec![format!("count:{}", shortest(h.count)), format!("sum:{}", shortest(h.sum))];
    let mut part = |bucket: Bucket, left: char, right: char| {
        if bucket.count != 0.0 {
            let (lower, upper, count) = (shortest(bucket.lower), shortest(bucket.upper), shortest(bucket.count));
            parts.push(format!("{left}{lower},{upper}{right}:{count}"));
        }
    };
    for (index, n) in h.negative.iter().rev() {
        part(h.negative_bucket(*index, *n), '[', ')');
    }
    if h.zero != 0.0 {
        part(Bucket { lower: -h.threshold, upper: h.threshold, count: h.zero }, '[', ']');
    }
    for (index, n) in &h.positive {
        let first = h.is_custom() && *index == 0;
        part(h.positive_bucket(*index, *n), if first { '[' } else { '(' }, ']');
    }
    format!("{{{}}}", parts.join(", "))
}
