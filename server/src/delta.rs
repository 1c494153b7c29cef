//! Deltas: sums of what clients send as differences, so that each series is a counter as Prometheus knows it.
//!
//! One sum for each series that sends differences, in memory: it begins with the first sample after the start, at the
//! time that sample says it began, and is forgotten an hour after the last. A sum that begins anew is a counter reset,
//! which queries see by its start timestamp and its smaller value.
//!
//! Invariant: of two samples of a series the one with the later time counts; what comes late is left out, because it
//! would have to change every sum after it. A request that fails after this step is in the sum already, so that when
//! it is sent again nothing is counted twice: its samples come late, and the next one carries their sum.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use varve_model::{Histogram, Millis, TenantId, WriteBatch, is_stale};
use varve_query::histogram::grow;

/// Series that may have a sum.
pub const SERIES_MAX: usize = 500_000;
/// How long a sum is kept without a sample.
const KEPT_MS: Millis = 3_600_000;
/// How often those that are not kept are looked for.
const SWEEP_MS: Millis = 60_000;

/// The sums of all tenants.
#[derive(Debug, Default)]
pub struct Deltas(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sums: BTreeMap<(TenantId, u128), Sum>,
    swept: Millis,
}

#[derive(Debug)]
struct Sum {
    start: Millis,
    /// Time of the last sample.
    last: Millis,
    /// When it came, by the server's clock.
    seen: Millis,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Float(f64),
    Histogram(Box<Histogram>),
}

impl Deltas {
    /// Replaces the samples of these series by the sums up to them. Gives how many samples were left out because they
    /// came late, or because there are too many series; they are taken out of their series.
    pub fn sum_up(&self, tenant: TenantId, batch: &mut WriteBatch, series: &[u32], now: Millis) -> u64 {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(inner.swept) >= SWEEP_MS || inner.sums.len() >= SERIES_MAX {
            inner.swept = now;
            inner.sums.retain(|_, sum| now.saturating_sub(sum.seen) <= KEPT_MS);
        }
        let mut left_out = 0;
        batch.starts.resize(batch.times.len(), 0);
        batch.histogram_starts.resize(batch.histograms.len(), 0);
        for &index in series {
            let Some(series) = batch.series.get_mut(index as usize) else { continue };
            let key = (tenant, series.hash.0);
            // A data point is one sample of a series.
            let at = series.samples.start as usize;
            if let (false, Some(time), Some(value), Some(start)) =
                (series.samples.is_empty(), batch.times.get(at), batch.values.get_mut(at), batch.starts.get_mut(at))
            {
                if is_stale(*value) {
                    inner.sums.remove(&key);
                } else if let Some(Sum { start: begin, value: Value::Float(sum), .. }) =
                    inner.add(key, *time, *start, now, Value::Float(*value))
                {
                    (*value, *start) = (*sum, *begin);
                } else {
                    series.samples.end = series.samples.start;
                    left_out += 1;
                }
            }
            let at = series.histograms.start as usize;
            if let (false, Some((time, histogram)), Some(start)) =
                (series.histograms.is_empty(), batch.histograms.get_mut(at), batch.histogram_starts.get_mut(at))
            {
                if is_stale(histogram.sum) {
                    inner.sums.remove(&key);
                } else if let Some(Sum { start: begin, value: Value::Histogram(sum), .. }) =
                    inner.add(key, *time, *start, now, Value::Histogram(Box::new(histogram.clone())))
                {
                    (*histogram, *start) = ((**sum).clone(), *begin);
                } else {
                    series.histograms.end = series.histograms.start;
                    left_out += 1;
                }
            }
        }
        left_out
    }

    /// How many sums there are.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sums.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    /// Adds a difference; `None` when it must be left out.
    fn add(&mut self, key: (TenantId, u128), time: Millis, start: Millis, now: Millis, more: Value) -> Option<&Sum> {
        let room = self.sums.len() < SERIES_MAX;
        let begin = if start == 0 { time } else { start };
        let sum = match self.sums.entry(key) {
            std::collections::btree_map::Entry::Vacant(_) if !room => return None,
            std::collections::btree_map::Entry::Vacant(place) => {
                return Some(place.insert(Sum { start: begin, last: time, seen: now, value: more }));
            }
            std::collections::btree_map::Entry::Occupied(place) => place.into_mut(),
        };
        if time <= sum.last {
            return None;
        }
        (sum.last, sum.seen) = (time, now);
        let added = match (&mut sum.value, &more) {
            (Value::Float(sum), Value::Float(more)) => {
                *sum += more;
                true
            }
            (Value::Histogram(sum), Value::Histogram(more)) => grow(sum, more),
            _ => false,
        };
        if !added {
            // Another kind or other bounds: the series begins anew.
            (sum.start, sum.value) = (begin, more);
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: TenantId = TenantId(1);

    fn one(deltas: &Deltas, time: Millis, value: f64, start: Millis) -> (u64, Option<(f64, Millis)>) {
        let mut batch = WriteBatch::default();
        batch.push_series([("__name__", "x")].into_iter());
        batch.push_sample(time, value);
        batch.set_start(start);
        let left_out = deltas.sum_up(T, &mut batch, &[0], time);
        let stored = (!batch.series[0].samples.is_empty()).then(|| (batch.values[0], batch.start(0)));
        (left_out, stored)
    }

    #[test]
    fn differences_become_sums_with_one_start() {
        let deltas = Deltas::default();
        assert_eq!(one(&deltas, 2000, 3.0, 1000), (0, Some((3.0, 1000))));
        assert_eq!(one(&deltas, 3000, 4.0, 2000), (0, Some((7.0, 1000))));
        assert_eq!(one(&deltas, 3000, 4.0, 2000), (1, None), "the same request again");
        assert_eq!(one(&deltas, 4000, 0.5, 3000), (0, Some((7.5, 1000))));
        let late = 4000 + KEPT_MS + 1;
        assert_eq!(one(&deltas, late, 2.0, late - 1000), (0, Some((2.0, late - 1000))), "forgotten");
        let stale = f64::from_bits(varve_model::STALE_NAN_BITS);
        let (_, stored) = one(&deltas, late + 1, stale, 0);
        assert!(is_stale(stored.unwrap().0) && deltas.is_empty());
    }

    #[test]
    fn histograms_are_summed_and_begin_anew_when_their_kind_changes() {
        let deltas = Deltas::default();
        let write = |time: Millis, histogram: Histogram| {
            let mut batch = WriteBatch::default();
            batch.push_series([("__name__", "x")].into_iter());
            batch.push_histogram(time, histogram);
            batch.set_histogram_start(time - 10);
            assert_eq!(deltas.sum_up(T, &mut batch, &[0], time), 0);
            (batch.histograms[0].1.clone(), batch.histogram_start(0))
        };
        let histogram = |count: f64| Histogram {
            count,
            sum: 2.0 * count,
            positive_spans: vec![varve_model::histogram::Span { offset: 1, length: 1 }],
            positive: vec![count],
            ..Histogram::default()
        };
        write(100, histogram(1.0));
        let (sum, start) = write(200, histogram(2.0));
        assert_eq!((sum.count, sum.sum, &sum.positive[..], start), (3.0, 6.0, &[3.0][..], 90));
        assert!(!sum.is_float);
        let custom = Histogram { schema: -53, custom_bounds: vec![1.0], ..histogram(5.0) };
        let (sum, start) = write(300, custom);
        assert_eq!((sum.count, start), (5.0, 290));
    }
}
