//! Counter resets of histograms: a count that fell, a bucket that is gone, a layout that only a restart explains.

use varve_model::Histogram;
use varve_model::histogram::{ResetHint, Span};

use super::arithmetic::Correction;
use super::side::{indexed, list, plainly, reduced};
use super::{bounds, custom, is_custom, zero};

/// Whether the counter was reset between `previous` and `histogram`. The hint of `histogram` decides where it says
/// anything; a gauge is looked at as if it were a counter.
pub(crate) fn is_reset(histogram: &Histogram, previous: &Histogram) -> bool {
    match histogram.reset_hint {
        ResetHint::Reset => true,
        ResetHint::NoReset => false,
        ResetHint::Unknown | ResetHint::Gauge => has_fallen(histogram, previous),
    }
}

/// [`is_reset`] by the counts alone.
pub(crate) fn has_fallen(histogram: &Histogram, previous: &Histogram) -> bool {
    if histogram.count < previous.count {
        return true;
    }
    match (is_custom(histogram), is_custom(previous)) {
        (true, true) if histogram.custom_bounds != previous.custom_bounds => {
            return custom_has_fallen(histogram, previous);
        }
        (true, true) => {}
        // A counter does not change its kind, gain resolution or narrow its zero bucket while it runs.
        (a, b) if a != b => return true,
        _ if histogram.schema > previous.schema || histogram.zero_threshold < previous.zero_threshold => return true,
        _ => {
            let zero = zero::widened(previous, &Correction::default(), histogram.zero_threshold);
            if zero.threshold != histogram.zero_threshold || histogram.zero_count < zero.count {
                return true;
            }
        }
    }
    if same_places(histogram, previous) {
        let pairs = histogram.positive.iter().zip(&previous.positive);
        return pairs.chain(histogram.negative.iter().zip(&previous.negative)).any(|(now, before)| now < before);
    }
    side_has_fallen(
        histogram,
        (&histogram.positive_spans, &histogram.positive),
        (&previous.positive_spans, &previous.positive),
        previous.schema,
    ) || side_has_fallen(
        histogram,
        (&histogram.negative_spans, &histogram.negative),
        (&previous.negative_spans, &previous.negative),
        previous.schema,
    )
}

/// Spans and counts of a side.
type Side<'a> = (&'a [Span], &'a [f64]);

/// Whether a bucket of a side has fallen; buckets within the zero bucket are counted there.
fn side_has_fallen(histogram: &Histogram, now: Side<'_>, before: Side<'_>, schema_before: i32) -> bool {
    let (schema, threshold) = (histogram.schema, histogram.zero_threshold);
    let skips = !is_custom(histogram) && threshold != 0.0;
    let within = |(index, _): &(i32, f64)| skips && bounds::exponential(*index, schema) <= threshold;
    let now = indexed(now.0, now.1).skip_while(within);
    if schema_before == schema {
        return any_fell(now, indexed(before.0, before.1).skip_while(within));
    }
    let mut before = list(before.0, before.1, &[]);
    reduced(&mut before, schema_before, schema, plainly);
    any_fell(now, before.iter().map(|bucket| (bucket.index, bucket.count)).skip_while(within))
}

/// Whether buckets can be compared place by place.
fn same_places(a: &Histogram, b: &Histogram) -> bool {
    a.schema == b.schema
        && (a.zero_threshold == b.zero_threshold)
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive.len() == b.positive.len()
        && a.negative.len() == b.negative.len()
}

/// Whether a bucket of `before` has a smaller count now, or none though it had one.
fn any_fell(now: impl Iterator<Item = (i32, f64)>, mut before: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut now = now.peekable();
    before.any(|(index, count)| {
        while now.next_if(|(other, _)| *other < index).is_some() {}
        match now.next_if(|(other, _)| *other == index) {
            Some((_, other)) => other < count,
            None => count != 0.0,
        }
    })
}

/// Whether observations fell in any of the ranges that the common bounds cut out.
fn custom_has_fallen(histogram: &Histogram, previous: &Histogram) -> bool {
    let common = custom::common_bounds(&histogram.custom_bounds, &previous.custom_bounds);
    let (now, before) = (custom::spread(histogram, &common), custom::spread(previous, &common));
    now.iter().zip(&before).any(|(now, before)| now < before)
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::tests::{any_histogram, bounded, simple};
    use super::super::{add, reduce};
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(now: &Histogram, before: &Histogram, expected: bool) {
        assert_eq!(is_reset(now, before), expected, "{now:?} after {before:?}");
    }

    #[test]
    fn what_falls_is_a_reset() {
        let before = simple(0, 1, &[1.0, 2.0]);
        check(&simple(0, 1, &[1.0, 2.0]), &before, false);
        check(&simple(0, 1, &[5.0, 1.0]), &before, true);
        check(&simple(0, 0, &[5.0, 1.0, 2.0]), &before, false);
        check(&simple(0, 2, &[9.0]), &before, true);
        check(&simple(0, 2, &[9.0]), &simple(0, 1, &[0.0, 2.0]), false);
        check(&simple(1, 1, &[9.0, 9.0, 9.0, 9.0]), &before, true);
        check(&simple(-1, 1, &[9.0]), &before, false);
        check(&Histogram { zero_threshold: 0.1, ..before.clone() }, &before, false);
        check(&Histogram { zero_threshold: 1.5, zero_count: 9.0, ..before.clone() }, &before, true);
        check(&Histogram { zero_threshold: 2.0, zero_count: 1.0, ..before.clone() }, &before, false);
        check(&before, &Histogram { zero_threshold: 0.1, ..before.clone() }, true);
        check(&bounded(&[1.0], &[9.0]), &before, true);
    }

    #[test]
    fn hints_decide() {
        let before = simple(0, 1, &[1.0, 2.0]);
        check(&Histogram { reset_hint: ResetHint::Reset, ..before.clone() }, &before, true);
        check(&Histogram { reset_hint: ResetHint::NoReset, ..simple(0, 1, &[0.0]) }, &before, false);
        check(&Histogram { reset_hint: ResetHint::Gauge, ..simple(0, 1, &[0.0]) }, &before, true);
    }

    #[test]
    fn custom_buckets_are_compared_over_common_bounds() {
        let before = bounded(&[1.0, 2.0, 4.0], &[1.0, 2.0, 3.0]);
        check(&bounded(&[2.0, 4.0], &[3.0, 3.0]), &before, false);
        check(&bounded(&[2.0, 4.0], &[2.0, 9.0]), &before, true);
        check(&bounded(&[3.0], &[2.0, 9.0]), &before, false);
    }

    proptest! {
        #[test]
        fn adding_observations_is_no_reset(a in any_histogram(), b in any_histogram()) {
            let mut sum = a.clone();
            add(&mut sum, &b).unwrap();
            prop_assert!(!is_reset(&sum, &a) || sum.zero_threshold != a.zero_threshold);
            prop_assert!(!is_reset(&reduce(&a, a.schema - 1), &a) || a.zero_threshold > 0.0);
        }
    }
}
