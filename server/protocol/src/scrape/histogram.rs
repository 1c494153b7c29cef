//! Native histograms on their way in: buckets as pairs of index and count, so that gaps, zeros and a coarser schema
//! are one walk each.

use varve_model::Histogram;
use varve_model::histogram::Span;

/// Coarsest exponential schema.
const SCHEMA_MIN: i32 = -4;

/// Absolute counts with the index of their bucket, ascending; `None` where spans and counts do not fit, or a span leads
/// back.
pub(super) fn buckets(spans: &[Span], counts: &[f64]) -> Option<Vec<(i32, f64)>> {
    let mut out = Vec::with_capacity(counts.len());
    let mut counts = counts.iter();
    let mut index: i32 = 0;
    for (at, span) in spans.iter().enumerate() {
        if at > 0 && span.offset < 0 {
            return None;
        }
        index = index.checked_add(span.offset)?;
        for _ in 0..span.length {
            out.push((index, *counts.next()?));
            index = index.checked_add(1)?;
        }
    }
    counts.next().is_none().then_some(out)
}

/// Spans and counts of buckets in ascending order; gaps wider than `gap_max` buckets separate spans, narrower ones
/// become buckets of nothing.
pub(super) fn spans(buckets: impl Iterator<Item = (i32, f64)>, gap_max: i32) -> (Vec<Span>, Vec<f64>) {
    let (mut spans, mut counts) = (Vec::<Span>::new(), Vec::new());
    let mut next = 0i32;
    for (index, count) in buckets {
        let gap = index.saturating_sub(next);
        match spans.last_mut() {
            Some(span) if gap <= gap_max => {
                counts.extend((0..gap).map(|_| 0.0));
                span.length = span.length.saturating_add(gap.unsigned_abs() + 1);
            }
            _ => spans.push(Span { offset: gap, length: 1 }),
        }
        counts.push(count);
        next = index.saturating_add(1);
    }
    (spans, counts)
}

/// Leaves out buckets of nothing, but for stretches of at most `gap_max` between others.
pub(super) fn compact(histogram: &mut Histogram, gap_max: i32) -> Option<()> {
    let positive = buckets(&histogram.positive_spans, &histogram.positive)?;
    let negative = buckets(&histogram.negative_spans, &histogram.negative)?;
    let filled = |buckets: Vec<(i32, f64)>| buckets.into_iter().filter(|(_, count)| *count != 0.0);
    (histogram.positive_spans, histogram.positive) = spans(filled(positive), gap_max);
    (histogram.negative_spans, histogram.negative) = spans(filled(negative), gap_max);
    Some(())
}

/// Merges buckets until the histogram has schema `schema`, which must be coarser; `None` where that cannot be.
pub fn reduce_resolution(histogram: &mut Histogram, schema: i32) -> Option<()> {
    if schema < SCHEMA_MIN || schema >= histogram.schema || histogram.schema > 8 {
        return None;
    }
    let shift = (histogram.schema - schema).unsigned_abs();
    let merge = |spans_of: &[Span], counts: &[f64]| {
        let mut merged: Vec<(i32, f64)> = Vec::new();
        for (index, count) in buckets(spans_of, counts)? {
            let index = (index.checked_sub(1)? >> shift) + 1;
            match merged.last_mut() {
                Some((last, sum)) if *last == index => *sum += count,
                _ => merged.push((index, count)),
            }
        }
        Some(spans(merged.into_iter(), 0))
    };
    let positive = merge(&histogram.positive_spans, &histogram.positive)?;
    let negative = merge(&histogram.negative_spans, &histogram.negative)?;
    (histogram.positive_spans, histogram.positive) = positive;
    (histogram.negative_spans, histogram.negative) = negative;
    histogram.schema = schema;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarser_schema_merges_pairs_of_buckets() {
        let mut histogram = Histogram {
            schema: 1,
            positive_spans: vec![Span { offset: 0, length: 3 }, Span { offset: 2, length: 2 }],
            positive: vec![1.0, 2.0, 3.0, 4.0, 5.0],
            ..Histogram::default()
        };
        // Indices 0, 1, 2, 5, 6 become 0, 1, 1, 3, 3.
        reduce_resolution(&mut histogram, 0).unwrap();
        assert_eq!(histogram.schema, 0);
        assert_eq!(histogram.positive_spans, [Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }]);
        assert_eq!(histogram.positive, [1.0, 5.0, 9.0]);
        assert_eq!(reduce_resolution(&mut histogram, -5), None);
        assert_eq!(reduce_resolution(&mut histogram, 0), None);
    }

    #[test]
    fn empty_buckets_go() {
        let mut histogram = Histogram {
            positive_spans: vec![Span { offset: -2, length: 5 }, Span { offset: 3, length: 1 }],
            positive: vec![0.0, 1.0, 0.0, 2.0, 0.0, 0.0],
            negative_spans: vec![Span { offset: 4, length: 0 }],
            ..Histogram::default()
        };
        compact(&mut histogram, 0).unwrap();
        assert_eq!(histogram.positive_spans, [Span { offset: -1, length: 1 }, Span { offset: 1, length: 1 }]);
        assert_eq!(histogram.positive, [1.0, 2.0]);
        assert!(histogram.negative_spans.is_empty());
        histogram.positive.push(1.0);
        assert_eq!(compact(&mut histogram, 0), None);
        let back = vec![Span { offset: 3, length: 1 }, Span { offset: -2, length: 1 }];
        let mut histogram = Histogram { positive_spans: back, positive: vec![1.0, 2.0], ..Histogram::default() };
        assert_eq!(compact(&mut histogram, 0), None);
    }
}
