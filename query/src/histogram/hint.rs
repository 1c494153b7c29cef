//! Reset hints of stored histograms, and histograms without buckets.
//!
//! What a client wrote as a hint is not what a query sees. Storage of Prometheus knows that a histogram continues its
//! predecessor where both lie in one chunk, and says nothing of the first of a chunk; a chunk ends where the counter
//! was reset or the buckets no longer fit. [`derive_hints`] draws the same line from the samples themselves.

use varve_model::histogram::ResetHint;
use varve_model::{Column, Histogram, is_stale};

use super::is_custom;
use super::reset::{has_fallen, is_reset};

/// Whether `histogram` can stand behind `previous` in one chunk of a counter.
fn continues(histogram: &Histogram, previous: &Histogram) -> bool {
    previous.reset_hint != ResetHint::Gauge
        && !is_stale(previous.sum)
        && histogram.schema == previous.schema
        && histogram.zero_threshold == previous.zero_threshold
        && (!is_custom(histogram) || histogram.custom_bounds == previous.custom_bounds)
        && !has_fallen(histogram, previous)
}

/// Replaces the hints of a column's histograms: gauges stay gauges, what continues the sample before it was not reset,
/// of all others nothing is known.
pub(crate) fn derive_hints(column: &mut Column) {
    let mut floats = column.times.iter().peekable();
    let mut last_float = None;
    for at in 0..column.histograms.len() {
        let (before, rest) = column.histograms.split_at_mut(at);
        let Some((time, histogram)) = rest.first_mut() else { return };
        while let Some(float) = floats.next_if(|float| *float < time) {
            last_float = Some(*float);
        }
        if histogram.reset_hint == ResetHint::Gauge || is_stale(histogram.sum) {
            continue;
        }
        let continues = histogram.reset_hint != ResetHint::Reset
            && before.last().is_some_and(|(previous_time, previous)| {
                last_float.is_none_or(|float| float < *previous_time) && continues(histogram, previous)
            });
        histogram.reset_hint = if continues { ResetHint::NoReset } else { ResetHint::Unknown };
    }
}

/// Leaves of each histogram what `histogram_count`, `histogram_sum` and `histogram_avg` need, and says of each that
/// has a predecessor whether the counter was reset, as that cannot be seen any more afterwards.
pub(crate) fn keep_totals(column: &mut Column) {
    let mut previous: Option<usize> = None;
    let mut hints = Vec::with_capacity(column.histograms.len());
    for (at, (_, histogram)) in column.histograms.iter().enumerate() {
        let before = previous.and_then(|previous| column.histograms.get(previous));
        hints.push(match (histogram.reset_hint, before) {
            (ResetHint::Unknown, Some((_, before))) if !is_stale(histogram.sum) => {
                if is_reset(histogram, before) {
                    ResetHint::Reset
                } else {
                    ResetHint::NoReset
                }
            }
            (hint, _) => hint,
        });
        if !is_stale(histogram.sum) {
            previous = Some(at);
        }
    }
    for ((_, histogram), reset_hint) in column.histograms.iter_mut().zip(hints) {
        let Histogram { schema, is_float, count, sum, .. } = *histogram;
        *histogram = Histogram { schema, is_float, reset_hint, count, sum, ..Histogram::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::tests::simple;
    use super::*;
    use ResetHint::{Gauge, NoReset, Reset, Unknown};

    fn column(histograms: Vec<Histogram>) -> Column {
        Column {
            histograms: histograms.into_iter().enumerate().map(|(at, h)| (at as i64 * 10, h)).collect(),
            ..Column::default()
        }
    }

    fn hints(column: &Column) -> Vec<ResetHint> {
        column.histograms.iter().map(|(_, histogram)| histogram.reset_hint).collect()
    }

    fn hinted(reset_hint: ResetHint, count: f64) -> Histogram {
        Histogram { reset_hint, ..simple(0, 1, &[count]) }
    }

    #[test]
    fn a_histogram_is_told_to_continue_the_one_before() {
        let mut column = column(vec![
            hinted(NoReset, 1.0),
            hinted(Unknown, 2.0),
            hinted(NoReset, 1.0),
            hinted(Reset, 5.0),
            hinted(Unknown, 6.0),
            hinted(Gauge, 7.0),
            hinted(Unknown, 8.0),
            hinted(Unknown, 9.0),
        ]);
        (column.times, column.values) = (vec![65], vec![0.0]);
        derive_hints(&mut column);
        assert_eq!(hints(&column), [Unknown, NoReset, Unknown, Unknown, NoReset, Gauge, Unknown, Unknown]);
    }

    #[test]
    fn totals_know_of_resets() {
        let mut column = column(vec![hinted(Unknown, 5.0), hinted(Unknown, 2.0), hinted(Unknown, 2.0)]);
        keep_totals(&mut column);
        assert_eq!(hints(&column), [Unknown, Reset, NoReset]);
        assert!(column.histograms.iter().all(|(_, h)| h.positive.is_empty() && h.count > 0.0));
    }
}
