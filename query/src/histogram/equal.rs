//! Equality of histograms as data: the same buckets, empty ones included, and the same bits.

use varve_model::Histogram;
use varve_model::histogram::Span;

use super::is_custom;
use super::side::indexed;

/// Spans and counts of a side.
type Side<'a> = (&'a [Span], &'a [f64]);

fn bits((index, count): (i32, f64)) -> (i32, u64) {
    (index, count.to_bits())
}

/// Whether two histograms are the same data. The hint does not count; how spans are cut does not, either.
pub(crate) fn equal(a: &Histogram, b: &Histogram) -> bool {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    let same_side = |a: Side<'_>, b: Side<'_>| {
        a.1.len() == b.1.len() && indexed(a.0, a.1).map(bits).eq(indexed(b.0, b.1).map(bits))
    };
    a.schema == b.schema
        && same(a.count, b.count)
        && same(a.sum, b.sum)
        && (!is_custom(a) || a.custom_bounds == b.custom_bounds)
        && a.zero_threshold == b.zero_threshold
        && same(a.zero_count, b.zero_count)
        && same_side((&a.negative_spans, &a.negative), (&b.negative_spans, &b.negative))
        && same_side((&a.positive_spans, &a.positive), (&b.positive_spans, &b.positive))
}

#[cfg(test)]
mod tests {
    use varve_model::histogram::ResetHint;

    use super::super::arithmetic::tests::simple;
    use super::*;

    #[test]
    fn the_cut_of_spans_and_the_hint_do_not_count() {
        let a = simple(0, 1, &[1.0, 2.0]);
        let cut = vec![Span { offset: 1, length: 1 }, Span { offset: 0, length: 1 }];
        assert!(equal(&a, &Histogram { positive_spans: cut, reset_hint: ResetHint::Gauge, ..a.clone() }));
        assert!(!equal(&a, &Histogram { positive_spans: vec![Span { offset: 2, length: 2 }], ..a.clone() }));
        assert!(!equal(&a, &simple(0, 1, &[1.0, 2.0, 0.0])));
        assert!(!equal(&a, &Histogram { zero_threshold: 1.0, ..a.clone() }));
    }
}
