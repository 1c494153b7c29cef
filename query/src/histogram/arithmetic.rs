//! Sums, differences and multiples of histograms.
//!
//! Both operands are made equally coarse first: to the lower schema, to a zero bucket that holds both, to the custom
//! bounds they share. The left operand becomes the result; the right one is never changed.

use varve_model::Histogram;
use varve_model::histogram::{ResetHint, Span};

use super::side::{Add, COMPENSATED, Numbered, has_all, indexed, list, numbers, plainly, reduced, spanned, united};
use super::{bounds, custom, is_custom, zero};

/// Exponential and custom buckets have no sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Incompatible;

/// What is to be told about a sum or difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Combined {
    /// One operand says that the counter was reset, the other that it was not.
    pub(crate) collision: bool,
    /// Custom bounds differed; the result has those that both have.
    pub(crate) reconciled: bool,
}

/// Compensations of a running sum, parallel to its histogram.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Correction {
    pub(crate) count: f64,
    pub(crate) sum: f64,
    pub(crate) zero_count: f64,
    pub(crate) positive: Vec<f64>,
    pub(crate) negative: Vec<f64>,
}

/// Adds `other` to `histogram`. Buckets may become empty; [`compact`] removes those.
pub(crate) fn add(histogram: &mut Histogram, other: &Histogram) -> Result<Combined, Incompatible> {
    combine(histogram, None, other, false)
}

/// Subtracts `other` from `histogram`. The reset hint is that of a sum.
pub(crate) fn subtract(histogram: &mut Histogram, other: &Histogram) -> Result<Combined, Incompatible> {
    combine(histogram, None, other, true)
}

/// [`add`] with the sum's compensations.
pub(crate) fn add_compensated(
    histogram: &mut Histogram,
    correction: &mut Correction,
    other: &Histogram,
) -> Result<Combined, Incompatible> {
    combine(histogram, Some(correction), other, false)
}

fn combine(
    histogram: &mut Histogram,
    correction: Option<&mut Correction>,
    other: &Histogram,
    negative: bool,
) -> Result<Combined, Incompatible> {
    if is_custom(histogram) != is_custom(other) {
        return Err(Incompatible);
    }
    let collision = join_hints(histogram, other);
    let compensated = correction.is_some();
    let add: Add = if compensated { COMPENSATED } else { plainly };
    let mut none = Correction::default();
    let correction = correction.unwrap_or(&mut none);
    let sign = if negative { -1.0 } else { 1.0 };
    if !is_custom(histogram) {
        let (count, c) = zero::reconcile(histogram, correction, other, compensated);
        let total = add(sign * count, histogram.zero_count, correction.zero_count);
        (histogram.zero_count, correction.zero_count) = add(sign * c, total.0, total.1);
    }
    (histogram.count, correction.count) = add(sign * other.count, histogram.count, correction.count);
    (histogram.sum, correction.sum) = add(sign * other.sum, histogram.sum, correction.sum);
    if has_buckets_of(histogram, other) {
        let (spans, of) = (&histogram.positive_spans, (&other.positive_spans, &other.positive));
        add_counts(spans, &mut histogram.positive, &mut correction.positive, of, sign, add);
        let (spans, of) = (&histogram.negative_spans, (&other.negative_spans, &other.negative));
        add_counts(spans, &mut histogram.negative, &mut correction.negative, of, sign, add);
        return Ok(Combined { collision, reconciled: false });
    }
    let reconciled = is_custom(histogram) && histogram.custom_bounds != other.custom_bounds;
    if reconciled {
        custom::combine(histogram, correction, other, sign);
        return Ok(Combined { collision, reconciled });
    }
    let schema = histogram.schema.min(other.schema);
    for positive in [true, false] {
        let (spans, counts, c) = if positive {
            (&mut histogram.positive_spans, &mut histogram.positive, &mut correction.positive)
        } else {
            (&mut histogram.negative_spans, &mut histogram.negative, &mut correction.negative)
        };
        let mut ours = list(spans, counts, c);
        reduced(&mut ours, histogram.schema, schema, add);
        let (spans_of, counts_of) =
            if positive { (&other.positive_spans, &other.positive) } else { (&other.negative_spans, &other.negative) };
        let mut theirs = list(spans_of, counts_of, &[]);
        reduced(&mut theirs, other.schema, schema, add);
        if negative {
            for bucket in &mut theirs {
                (bucket.count, bucket.c) = (-bucket.count, -bucket.c);
            }
        }
        (*spans, *counts, *c) = spanned(&united(&ours, &theirs, schema, histogram.zero_threshold, add));
    }
    histogram.schema = schema;
    Ok(Combined { collision, reconciled })
}

/// Whether `a` has all the buckets of `b`, so that counts are added in place: what most sums come to after the first
/// few. The zero bucket of `a` must not reach into them.
fn has_buckets_of(a: &Histogram, b: &Histogram) -> bool {
    let outside = |first: Option<&Span>| {
        is_custom(b) || first.is_none_or(|span| bounds::exponential(span.offset, b.schema) > a.zero_threshold)
    };
    a.schema == b.schema
        && a.custom_bounds == b.custom_bounds
        && has_all(&a.positive_spans, &a.positive, &b.positive_spans, &b.positive)
        && has_all(&a.negative_spans, &a.negative, &b.negative_spans, &b.negative)
        && outside(b.positive_spans.first())
        && outside(b.negative_spans.first())
}

/// Adds counts in place; `spans` have all the buckets of `of`.
fn add_counts(
    spans: &[Span],
    counts: &mut [f64],
    compensations: &mut Vec<f64>,
    of: (&Vec<Span>, &Vec<f64>),
    sign: f64,
    add: Add,
) {
    compensations.resize(counts.len(), 0.0);
    let mut places = numbers(spans).zip(counts.iter_mut().zip(compensations));
    for (index, other) in indexed(of.0, of.1) {
        if let Some((_, (count, c))) = places.find(|(number, _)| *number >= index) {
            (*count, *c) = add(sign * other, *count, *c);
        }
    }
}

/// The hint of a sum; `true` when the two contradict each other. A gauge wins over everything, ignorance over
/// knowledge.
fn join_hints(histogram: &mut Histogram, other: &Histogram) -> bool {
    use ResetHint::{Gauge, NoReset, Reset, Unknown};
    let pair = (histogram.reset_hint, other.reset_hint);
    histogram.reset_hint = match pair {
        (a, b) if a == b => a,
        (Gauge, _) | (_, Gauge) => Gauge,
        _ => Unknown,
    };
    matches!(pair, (Reset, NoReset) | (NoReset, Reset))
}

/// Multiplies all counts and the sum. A negative factor makes a gauge.
pub(crate) fn multiply(histogram: &mut Histogram, factor: f64) {
    each(histogram, |value| *value *= factor);
    if factor < 0.0 {
        histogram.reset_hint = ResetHint::Gauge;
    }
}

/// Divides all counts and the sum. Division by zero takes the buckets away; a negative divisor makes a gauge.
pub(crate) fn divide(histogram: &mut Histogram, divisor: f64) {
    each(histogram, |value| *value /= divisor);
    if divisor == 0.0 {
        histogram.positive_spans.clear();
        histogram.positive.clear();
        histogram.negative_spans.clear();
        histogram.negative.clear();
    } else if divisor < 0.0 {
        histogram.reset_hint = ResetHint::Gauge;
    }
}

fn each(histogram: &mut Histogram, mut change: impl FnMut(&mut f64)) {
    change(&mut histogram.zero_count);
    change(&mut histogram.count);
    change(&mut histogram.sum);
    histogram.positive.iter_mut().chain(&mut histogram.negative).for_each(change);
}

/// Removes empty buckets and joins spans that touch.
pub(crate) fn compact(histogram: &mut Histogram) {
    compact_compensated(histogram, &mut Correction::default());
}

/// [`compact`] of a running sum: a bucket with a compensation is not empty.
pub(super) fn compact_compensated(histogram: &mut Histogram, correction: &mut Correction) {
    let sides = [
        (&mut histogram.positive_spans, &mut histogram.positive, &mut correction.positive),
        (&mut histogram.negative_spans, &mut histogram.negative, &mut correction.negative),
    ];
    for (spans, counts, c) in sides {
        let tidy = spans.iter().enumerate().all(|(at, span)| span.length > 0 && (at == 0 || span.offset != 0));
        let empty = |bucket: &Numbered| bucket.count == 0.0 && bucket.c == 0.0;
        if tidy && !counts.contains(&0.0) {
            continue;
        }
        let mut buckets = list(spans, counts, c);
        buckets.retain(|bucket| !empty(bucket));
        (*spans, *counts, *c) = spanned(&buckets);
    }
}

/// A copy at the lower schema `to`; its hint is unknown when that is another one.
pub(crate) fn reduce(histogram: &Histogram, to: i32) -> Histogram {
    let mut copy = histogram.clone();
    if to >= histogram.schema || is_custom(histogram) {
        return copy;
    }
    for (spans, counts) in
        [(&mut copy.positive_spans, &mut copy.positive), (&mut copy.negative_spans, &mut copy.negative)]
    {
        let mut buckets = list(spans, counts, &[]);
        reduced(&mut buckets, histogram.schema, to, plainly);
        (*spans, *counts, _) = spanned(&buckets);
    }
    copy.schema = to;
    copy.reset_hint = ResetHint::Unknown;
    copy
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{CUSTOM_SCHEMA, buckets, equal};
    use super::*;
    use proptest::prelude::*;

    /// A histogram of consecutive buckets.
    pub(crate) fn simple(schema: i32, offset: i32, counts: &[f64]) -> Histogram {
        Histogram {
            schema,
            count: counts.iter().sum(),
            sum: counts.len() as f64,
            positive_spans: vec![Span { offset, length: counts.len() as u32 }],
            positive: counts.to_vec(),
            ..Histogram::default()
        }
    }

    /// A histogram with custom bounds.
    pub(crate) fn bounded(bounds: &[f64], counts: &[f64]) -> Histogram {
        Histogram { custom_bounds: bounds.to_vec(), ..simple(CUSTOM_SCHEMA, 0, counts) }
    }

    pub(crate) fn any_histogram() -> impl Strategy<Value = Histogram> {
        let side = || proptest::collection::btree_map(-20i32..20, 0u32..100, 0..8);
        (side(), side(), -2i32..4, 0u32..50, 0i32..4, -1e3..1e3f64).prop_map(
            |(positive, negative, schema, zero_count, threshold, sum)| {
                // A zero bucket that ends at a bound, and no buckets within it.
                let threshold_index = threshold - 20;
                let to_list = |side: std::collections::BTreeMap<i32, u32>| -> Vec<Numbered> {
                    side.into_iter()
                        .filter(|(index, _)| *index > threshold_index)
                        .map(|(index, count)| Numbered { index, count: f64::from(count), c: 0.0 })
                        .collect()
                };
                let (positive_spans, positive, _) = spanned(&to_list(positive));
                let (negative_spans, negative, _) = spanned(&to_list(negative));
                let count = positive.iter().chain(&negative).sum::<f64>() + f64::from(zero_count);
                Histogram {
                    schema,
                    count,
                    sum,
                    zero_count: f64::from(zero_count),
                    zero_threshold: bounds::exponential(threshold_index, schema),
                    positive_spans,
                    positive,
                    negative_spans,
                    negative,
                    ..Histogram::default()
                }
            },
        )
    }

    #[test]
    fn unequal_schemas_meet_at_the_lower() {
        let mut sum = simple(1, 1, &[1.0, 2.0, 3.0]);
        assert_eq!(add(&mut sum, &simple(0, 1, &[10.0, 20.0])), Ok(Combined::default()));
        assert_eq!((sum.schema, &sum.positive[..]), (0, &[13.0, 23.0][..]));
        assert_eq!(sum.count, 36.0);
    }

    #[test]
    fn buckets_in_the_wider_layout_are_added_in_place() {
        let mut sum = simple(0, 1, &[1.0, 2.0, 3.0, 4.0]);
        let apart = vec![Span { offset: 1, length: 1 }, Span { offset: 1, length: 1 }];
        let other = Histogram { positive_spans: apart, ..simple(0, 1, &[10.0, 20.0]) };
        assert!(has_buckets_of(&sum, &other) && !has_buckets_of(&other, &sum));
        add(&mut sum, &other).unwrap();
        assert_eq!(sum.positive, [11.0, 2.0, 23.0, 4.0]);
        subtract(&mut sum, &other).unwrap();
        assert_eq!(sum.positive, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn exponential_and_custom_buckets_do_not_add() {
        let mut sum = simple(0, 0, &[1.0]);
        assert_eq!(add(&mut sum, &bounded(&[1.0], &[1.0])), Err(Incompatible));
    }

    #[test]
    fn hints_are_joined() {
        use ResetHint::*;
        for (a, b, joined, collides) in [
            (Unknown, Unknown, Unknown, false),
            (Reset, NoReset, Unknown, true),
            (NoReset, Reset, Unknown, true),
            (Gauge, Reset, Gauge, false),
            (Reset, Gauge, Gauge, false),
            (Unknown, NoReset, Unknown, false),
            (Reset, Reset, Reset, false),
        ] {
            let mut sum = Histogram { reset_hint: a, ..simple(0, 0, &[1.0]) };
            let combined = add(&mut sum, &Histogram { reset_hint: b, ..simple(0, 0, &[1.0]) }).unwrap();
            assert_eq!((sum.reset_hint, combined.collision), (joined, collides), "{a:?} {b:?}");
        }
    }

    #[test]
    fn division_by_zero_leaves_no_bucket() {
        let mut histogram = simple(0, 0, &[1.0, 0.0]);
        divide(&mut histogram, 0.0);
        assert!(histogram.count.is_infinite() && histogram.positive.is_empty() && histogram.positive_spans.is_empty());
    }

    proptest! {
        #[test]
        fn sums_commute(a in any_histogram(), b in any_histogram()) {
            let (mut left, mut right) = (a.clone(), b.clone());
            add(&mut left, &b).unwrap();
            add(&mut right, &a).unwrap();
            compact(&mut left);
            compact(&mut right);
            prop_assert!(equal(&left, &Histogram { sum: left.sum, ..right.clone() }), "{:?}\n{:?}", left, right);
        }

        #[test]
        fn what_was_added_can_be_taken_away(a in any_histogram(), b in any_histogram()) {
            let mut sum = a.clone();
            add(&mut sum, &b).unwrap();
            let total: f64 = buckets(&sum).iter().map(|bucket| bucket.count).sum();
            prop_assert_eq!(total, a.count + b.count);
            subtract(&mut sum, &b).unwrap();
            compact(&mut sum);
            prop_assert_eq!(sum.count, a.count);
            // What is left is `a`, as coarse as both.
            let mut empty = b.clone();
            multiply(&mut empty, 0.0);
            let mut coarse = a.clone();
            add(&mut coarse, &empty).unwrap();
            compact(&mut coarse);
            prop_assert_eq!(sum.positive.iter().sum::<f64>() + sum.zero_count + sum.negative.iter().sum::<f64>(), a.count);
        }

        #[test]
        fn compacting_changes_no_bucket(histogram in any_histogram()) {
            let full: Vec<_> = buckets(&histogram).into_iter().filter(|bucket| bucket.count != 0.0).collect();
            let mut compacted = histogram.clone();
            compact(&mut compacted);
            prop_assert_eq!(buckets(&compacted), full);
        }
    }
}
