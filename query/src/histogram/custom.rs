//! Custom buckets with different bounds: the sum has the bounds that both have, each bucket the observations of all
//! that lie in it.

use varve_model::Histogram;

use super::arithmetic::Correction;
use super::side::{COMPENSATED, Numbered, indexed, spanned};

/// The bounds that are in both lists; both ascend.
pub(crate) fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut b = b.iter().peekable();
    let mut common = Vec::new();
    for bound in a {
        while b.next_if(|other| *other < bound).is_some() {}
        if b.next_if(|other| *other == bound).is_some() {
            common.push(*bound);
        }
    }
    common
}

/// The bucket of `bounds` that holds the bucket `index` of `of`.
fn target(index: i32, of: &[f64], bounds: &[f64]) -> usize {
    match usize::try_from(index).ok().and_then(|index| of.get(index)) {
        Some(upper) => bounds.partition_point(|bound| bound < upper),
        None => bounds.len(),
    }
}

/// Observations in each of the ranges that `bounds` cut out; each of them must be a bound of the histogram.
pub(crate) fn spread(histogram: &Histogram, bounds: &[f64]) -> Vec<f64> {
    let mut counts = vec![0.0; bounds.len() + 1];
    for (index, count) in indexed(&histogram.positive_spans, &histogram.positive) {
        if let Some(total) = counts.get_mut(target(index, &histogram.custom_bounds, bounds)) {
            *total += count;
        }
    }
    counts
}

/// Adds `sign` times `other` to `histogram`, over the bounds of both.
pub(crate) fn combine(histogram: &mut Histogram, correction: &mut Correction, other: &Histogram, sign: f64) {
    let bounds = common_bounds(&histogram.custom_bounds, &other.custom_bounds);
    let mut totals = vec![(0.0, 0.0); bounds.len() + 1];
    let mut add = |at: usize, value: f64| {
        if let Some((count, c)) = totals.get_mut(at) {
            (*count, *c) = COMPENSATED(value, *count, *c);
        }
    };
    for (at, (index, count)) in indexed(&histogram.positive_spans, &histogram.positive).enumerate() {
        let target = target(index, &histogram.custom_bounds, &bounds);
        add(target, count);
        add(target, correction.positive.get(at).copied().unwrap_or(0.0));
    }
    for (index, count) in indexed(&other.positive_spans, &other.positive) {
        add(target(index, &other.custom_bounds, &bounds), sign * count);
    }
    let buckets: Vec<Numbered> = totals
        .iter()
        .enumerate()
        .filter(|(_, (count, c))| *count != 0.0 || *c != 0.0)
        .map(|(index, (count, c))| Numbered { index: index as i32, count: *count, c: *c })
        .collect();
    (histogram.positive_spans, histogram.positive, correction.positive) = spanned(&buckets);
    histogram.custom_bounds = bounds;
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::tests::bounded;
    use super::super::{Combined, add};

    #[test]
    fn buckets_meet_at_the_bounds_that_both_have() {
        let mut sum = bounded(&[1.0, 5.0, 10.0], &[1.0, 2.0, 3.0, 4.0]);
        let combined = add(&mut sum, &bounded(&[5.0, 7.0, 10.0], &[10.0, 20.0, 30.0, 40.0]));
        assert_eq!(combined, Ok(Combined { collision: false, reconciled: true }));
        assert_eq!((&sum.custom_bounds[..], &sum.positive[..]), (&[5.0, 10.0][..], &[13.0, 53.0, 44.0][..]));
        // Nothing in common leaves one bucket.
        add(&mut sum, &bounded(&[3.0], &[1.0])).unwrap();
        assert_eq!((&sum.custom_bounds[..], &sum.positive[..]), (&[][..], &[111.0][..]));
    }
}
