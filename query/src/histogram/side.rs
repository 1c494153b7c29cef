//! One side of a histogram as a list of buckets, from spans and back.
//!
//! Invariant: bucket numbers ascend. Spans say them as differences, which wrap as they were made, so that no offset
//! from outside overflows.

use varve_model::histogram::Span;

use super::bounds;
use crate::exec::kahan;

/// Adds a value to a sum with its compensation.
pub(crate) type Add = fn(f64, f64, f64) -> (f64, f64);

/// [`Add`] without compensation.
pub(crate) fn plainly(value: f64, sum: f64, _: f64) -> (f64, f64) {
    (sum + value, 0.0)
}

/// A bucket of a side.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Numbered {
    /// Its number.
    pub(crate) index: i32,
    /// Observations.
    pub(crate) count: f64,
    /// Compensation of the count where it is a running sum.
    pub(crate) c: f64,
}

/// Bucket numbers of a side.
pub(crate) fn numbers(spans: &[Span]) -> impl Iterator<Item = i32> + Clone + '_ {
    let mut next = 0i32;
    spans.iter().flat_map(move |span| {
        let first = next.wrapping_add(span.offset);
        next = first.wrapping_add(span.length as i32);
        (0..span.length).map(move |at| first.wrapping_add(at as i32))
    })
}

/// Bucket numbers and counts of a side.
pub(crate) fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + Clone + 'a {
    numbers(spans).zip(counts.iter().copied())
}

/// Whether a side has all the buckets of another one.
pub(crate) fn has_all(spans: &[Span], counts: &[f64], of: &[Span], counts_of: &[f64]) -> bool {
    if spans == of {
        return counts.len() == counts_of.len();
    }
    let mut places = numbers(spans).take(counts.len());
    indexed(of, counts_of).all(|(index, _)| places.find(|number| *number >= index) == Some(index))
}

/// The buckets of a side; `compensations` are parallel to the counts, or empty.
pub(crate) fn list(spans: &[Span], counts: &[f64], compensations: &[f64]) -> Vec<Numbered> {
    let c = compensations.iter().copied().chain(std::iter::repeat(0.0));
    indexed(spans, counts).zip(c).map(|((index, count), c)| Numbered { index, count, c }).collect()
}

/// Spans of buckets in order, and their counts and compensations.
pub(crate) fn spanned(buckets: &[Numbered]) -> (Vec<Span>, Vec<f64>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0i32;
    for bucket in buckets {
        match spans.last_mut() {
            Some(span) if bucket.index == next => span.length += 1,
            _ => spans.push(Span { offset: bucket.index.wrapping_sub(next), length: 1 }),
        }
        next = bucket.index.wrapping_add(1);
    }
    (spans, buckets.iter().map(|b| b.count).collect(), buckets.iter().map(|b| b.c).collect())
}

/// Joins buckets so that they are those of the lower schema `to`.
pub(crate) fn reduced(buckets: &mut Vec<Numbered>, from: i32, to: i32, add: Add) {
    if from <= to {
        return;
    }
    let shift = from.saturating_sub(to).clamp(0, 31) as u32;
    for bucket in buckets.iter_mut() {
        bucket.index = (bucket.index.wrapping_sub(1) >> shift).wrapping_add(1);
    }
    buckets.dedup_by(|next, kept| {
        let same = next.index == kept.index;
        if same {
            (kept.count, kept.c) = add(next.count, kept.count, kept.c);
            (kept.count, kept.c) = add(next.c, kept.count, kept.c);
        }
        same
    });
}

/// The union of two lists of one schema, counts added. Leading buckets of `b` that lie within the zero bucket are
/// left out, as they are counted there.
pub(crate) fn united(a: &[Numbered], b: &[Numbered], schema: i32, zero_threshold: f64, add: Add) -> Vec<Numbered> {
    let is_exponential = schema != super::CUSTOM_SCHEMA;
    let within = |bucket: &&Numbered| is_exponential && bounds::exponential(bucket.index, schema) <= zero_threshold;
    let skipped = b.iter().take_while(within).count();
    let (mut a, mut b) = (a.iter().peekable(), b[skipped..].iter().peekable());
    let mut united = Vec::with_capacity(a.len().max(b.len()));
    loop {
        let bucket = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x.index == y.index => {
                let (count, c) = add(y.count, x.count, x.c);
                let (count, c) = if y.c == 0.0 { (count, c) } else { add(y.c, count, c) };
                b.next();
                a.next().map(|x| Numbered { index: x.index, count, c })
            }
            (Some(x), Some(y)) if x.index < y.index => a.next().copied(),
            (Some(_), None) => a.next().copied(),
            _ => b.next().copied(),
        };
        match bucket {
            Some(bucket) => united.push(bucket),
            None => return united,
        }
    }
}

/// [`Add`] with compensation.
pub(crate) const COMPENSATED: Add = kahan::add;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buckets(pairs: &[(i32, f64)]) -> Vec<Numbered> {
        pairs.iter().map(|(index, count)| Numbered { index: *index, count: *count, c: 0.0 }).collect()
    }

    #[test]
    fn joining_buckets_keeps_powers_of_two_apart() {
        // (1, 2], (2, 4], (4, 8] and (0.5, 1]: halves of the scale join in pairs (1, 4], (4, 16] and (0.25, 1].
        let mut list = buckets(&[(0, 1.0), (1, 2.0), (2, 4.0), (3, 8.0)]);
        reduced(&mut list, 0, -1, plainly);
        assert_eq!(list, buckets(&[(0, 1.0), (1, 6.0), (2, 8.0)]));
    }

    #[test]
    fn buckets_in_the_zero_bucket_are_not_added_twice() {
        let united = united(&[], &buckets(&[(-1, 5.0), (0, 1.0), (1, 2.0)]), 0, 1.0, plainly);
        assert_eq!(united, buckets(&[(1, 2.0)]));
    }

    proptest! {
        #[test]
        fn spans_and_lists_say_the_same(
            gaps in proptest::collection::vec((0i32..4, 0.0..9.0f64), 0..20),
            start in any::<i32>(),
        ) {
            let mut index = start;
            let list_of: Vec<Numbered> = gaps
                .iter()
                .map(|(gap, count)| {
                    index = index.wrapping_add(gap + 1);
                    Numbered { index, count: *count, c: 0.0 }
                })
                .collect();
            let (spans, counts, c) = spanned(&list_of);
            prop_assert_eq!(list(&spans, &counts, &c), list_of);
        }

        #[test]
        fn nothing_is_lost_by_uniting(a in counts(), b in counts()) {
            let sum = |list: &[Numbered]| list.iter().map(|b| b.count).sum::<f64>();
            let united = united(&a, &b, 0, 0.0, plainly);
            prop_assert!((sum(&united) - sum(&a) - sum(&b)).abs() < 1e-9);
            prop_assert!(united.windows(2).all(|pair| pair[0].index < pair[1].index));
            let mut coarse = united.clone();
            reduced(&mut coarse, 4, 1, COMPENSATED);
            prop_assert!((sum(&united) - sum(&coarse)).abs() < 1e-9);
        }
    }

    fn counts() -> impl Strategy<Value = Vec<Numbered>> {
        proptest::collection::btree_map(-50i32..50, 0.0..100.0f64, 0..20)
            .prop_map(|map| map.into_iter().map(|(index, count)| Numbered { index, count, c: 0.0 }).collect())
    }
}
