//! Deltas: sums of what clients send as differences, so that each series is a counter as Prometheus knows it.
//!
//! One sum for each series that sends differences, in memory: it begins with the first sample after the start, at the
//! time that sample says it began, and is forgotten an hour after the last. A sum that begins anew is a counter reset,
//! which queries see by its start timestamp and its smaller value.
//!
//! Invariants:
//! * Of two samples of a series the one with the later time counts; what comes late is left out, because it would have
//!   to change every sum after it. A request that fails after this step is in the sum already, so that when it is sent
//!   again nothing is counted twice: its samples come late, and the next one carries their sum.
//! * What is left out or refused leaves no trace: a time that the engine would not take does not become the last one,
//!   and a series that it does not take keeps no sum.
//! * The bytes of all sums, and of each tenant's, stay within [`Bounds`]. Sums that are not kept any more are looked for
//!   a few with each sample, never all at once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use varve_model::{Histogram, Millis, SeriesHash, TenantId, WriteBatch, is_stale};
use varve_query::histogram::grow;

use crate::config::Settings;

/// How long a sum is kept without a sample.
const KEPT_MS: Millis = 3_600_000;
/// Sums looked at with each sample, to find those that are not kept.
const SWEPT: usize = 2;
/// Bytes of a sum in its tree, but for the histogram; also what `otlp.delta_bytes_per_tenant_max` says.
const SUM_BYTES: u64 = 128;
const _: () = assert!((size_of::<Key>() + size_of::<Sum>()) as u64 <= SUM_BYTES);

/// The sums of all tenants.
#[derive(Debug, Default)]
pub struct Deltas(Mutex<Inner>);

type Key = (TenantId, u128);

#[derive(Debug, Default)]
struct Inner {
    sums: BTreeMap<Key, Sum>,
    /// Of all sums, and of those of each tenant that has some.
    bytes: u64,
    tenants: BTreeMap<TenantId, u64>,
    /// The sum that was looked at last.
    hand: Option<Key>,
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

/// What sums may take, and what they may be of.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of all sums.
    pub bytes_max: u64,
    /// Bytes of one tenant's.
    pub bytes_per_tenant_max: u64,
    /// Buckets, spans and bounds of a histogram.
    pub histogram_buckets_max: usize,
    /// How far ahead of the clock a sample may lie.
    pub future_ms_max: Millis,
}

impl Bounds {
    /// As the settings say.
    pub fn of(settings: &Settings) -> Bounds {
        Bounds {
            bytes_max: settings.otlp.delta_bytes_max,
            bytes_per_tenant_max: settings.otlp.delta_bytes_per_tenant_max,
            histogram_buckets_max: settings.limits.histogram_buckets_max as usize,
            future_ms_max: settings.limits.future_ms_max,
        }
    }
}

/// Samples that were left out, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeftOut {
    /// Not later than the one before.
    pub late: u64,
    /// Further ahead of the clock than is allowed.
    pub in_future: u64,
    /// For want of room for their sum.
    pub beyond_limit: u64,
}

enum Reason {
    Late,
    InFuture,
    BeyondLimit,
}

impl LeftOut {
    fn count(&mut self, reason: Reason) {
        match reason {
            Reason::Late => self.late += 1,
            Reason::InFuture => self.in_future += 1,
            Reason::BeyondLimit => self.beyond_limit += 1,
        }
    }
}

/// A difference, and when it is from.
struct Difference {
    time: Millis,
    start: Millis,
    value: Value,
}

impl Deltas {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the samples of these series by the sums up to them. What is left out is taken out of its series.
    pub fn sum_up(
        &self,
        tenant: TenantId,
        batch: &mut WriteBatch,
        series: &[u32],
        now: Millis,
        bounds: &Bounds,
    ) -> LeftOut {
        let mut inner = self.lock();
        inner.sweep(now, SWEPT * series.len());
        let mut left_out = LeftOut::default();
        batch.starts.resize(batch.times.len(), 0);
        batch.histogram_starts.resize(batch.histograms.len(), 0);
        for &index in series {
            let Some(series) = batch.series.get_mut(index as usize) else { continue };
            let key = (tenant, series.hash.0);
            // A data point is one sample of a series.
            let at = series.samples.start as usize;
            if let (false, Some(&time), Some(value), Some(start)) =
                (series.samples.is_empty(), batch.times.get(at), batch.values.get_mut(at), batch.starts.get_mut(at))
            {
                let more = Difference { time, start: *start, value: Value::Float(*value) };
                match inner.add(key, more, now, bounds) {
                    Ok(Some(Sum { start: begin, value: Value::Float(sum), .. })) => (*value, *start) = (*sum, *begin),
                    Ok(_) => {}
                    Err(reason) => {
                        series.samples.end = series.samples.start;
                        left_out.count(reason);
                    }
                }
            }
            let at = series.histograms.start as usize;
            if let (false, Some((time, histogram)), Some(start)) =
                (series.histograms.is_empty(), batch.histograms.get_mut(at), batch.histogram_starts.get_mut(at))
            {
                if histogram.parts() > bounds.histogram_buckets_max {
                    // The engine refuses it by name.
                    continue;
                }
                let value = Value::Histogram(Box::new(histogram.clone()));
                match inner.add(key, Difference { time: *time, start: *start, value }, now, bounds) {
                    Ok(Some(Sum { start: begin, value: Value::Histogram(sum), .. })) => {
                        (*histogram, *start) = ((**sum).clone(), *begin);
                    }
                    Ok(_) => {}
                    Err(reason) => {
                        series.histograms.end = series.histograms.start;
                        left_out.count(reason);
                    }
                }
            }
        }
        left_out
    }

    /// Forgets the sums of series that were not stored.
    pub fn forget(&self, tenant: TenantId, series: impl Iterator<Item = SeriesHash>) {
        let mut inner = self.lock();
        series.for_each(|hash| inner.remove(&(tenant, hash.0)));
    }

    /// How many sums there are, and their bytes.
    pub fn figures(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.sums.len() as u64, inner.bytes)
    }
}

impl Inner {
    /// Adds a difference: the sum, none for a stale marker, which ends it, or why the difference must be left out.
    fn add(&mut self, key: Key, more: Difference, now: Millis, bounds: &Bounds) -> Result<Option<&Sum>, Reason> {
        let Difference { time, start, value: more } = more;
        if time > now.saturating_add(bounds.future_ms_max) {
            return Err(Reason::InFuture);
        }
        if more.is_stale() {
            self.remove(&key);
            return Ok(None);
        }
        let room = self.room(key.0, bounds);
        let start = if start == 0 { time } else { start };
        let Some(sum) = self.sums.get_mut(&key) else {
            let bytes = more.bytes();
            if bytes > room {
                return Err(Reason::BeyondLimit);
            }
            self.charge(key.0, 0, bytes);
            return Ok(Some(self.sums.entry(key).or_insert(Sum { start, last: time, seen: now, value: more })));
        };
        let is_kept = sum.is_kept(now);
        if is_kept && time <= sum.last {
            return Err(Reason::Late);
        }
        let before = sum.value.bytes();
        let grows = is_kept && sum.value.grow(&more);
        if !grows || !sum.value.fits(before + room, bounds) {
            // Another kind, other bounds, or too large: the series begins anew.
            (sum.start, sum.value) = (start, more);
        }
        (sum.last, sum.seen) = (time, now);
        let (fits, after) = (sum.value.fits(before + room, bounds), sum.value.bytes());
        self.charge(key.0, before, after);
        if !fits {
            self.remove(&key);
            return Err(Reason::BeyondLimit);
        }
        Ok(self.sums.get(&key))
    }

    /// Bytes that a tenant's sums may take more.
    fn room(&self, tenant: TenantId, bounds: &Bounds) -> u64 {
        let own = self.tenants.get(&tenant).copied().unwrap_or(0);
        bounds.bytes_per_tenant_max.saturating_sub(own).min(bounds.bytes_max.saturating_sub(self.bytes))
    }

    /// A sum of a tenant that took `before` bytes takes `after` now.
    fn charge(&mut self, tenant: TenantId, before: u64, after: u64) {
        self.bytes = self.bytes + after - before;
        let own = self.tenants.entry(tenant).or_default();
        *own = *own + after - before;
        if *own == 0 {
            self.tenants.remove(&tenant);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(sum) = self.sums.remove(key) {
            self.charge(key.0, sum.value.bytes(), 0);
        }
    }

    /// Looks at the next `count` sums, round and round, and forgets those that are not kept.
    fn sweep(&mut self, now: Millis, count: usize) {
        let from = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut last, mut gone) = (None, Vec::new());
        for (key, sum) in self.sums.range((from, Bound::Unbounded)).take(count) {
            last = Some(*key);
            if !sum.is_kept(now) {
                gone.push(*key);
            }
        }
        self.hand = last;
        gone.iter().for_each(|key| self.remove(key));
    }
}

impl Sum {
    fn is_kept(&self, now: Millis) -> bool {
        now.saturating_sub(self.seen) <= KEPT_MS
    }
}

impl Value {
    fn is_stale(&self) -> bool {
        match self {
            Value::Float(value) => is_stale(*value),
            Value::Histogram(histogram) => is_stale(histogram.sum),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Value::Float(_) => SUM_BYTES,
            Value::Histogram(histogram) => SUM_BYTES + histogram.bytes() as u64,
        }
    }

    fn fits(&self, bytes_max: u64, bounds: &Bounds) -> bool {
        let parts = match self {
            Value::Float(_) => 0,
            Value::Histogram(histogram) => histogram.parts(),
        };
        parts <= bounds.histogram_buckets_max && self.bytes() <= bytes_max
    }

    /// Adds what was observed since; `false` when that cannot be.
    fn grow(&mut self, more: &Value) -> bool {
        match (self, more) {
            (Value::Float(sum), Value::Float(more)) => {
                *sum += more;
                true
            }
            (Value::Histogram(sum), Value::Histogram(more)) => grow(sum, more),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use varve_model::histogram::Span;

    const T: TenantId = TenantId(1);
    const WIDE: Bounds = Bounds {
        bytes_max: 1 << 20,
        bytes_per_tenant_max: 1 << 20,
        histogram_buckets_max: 1000,
        future_ms_max: 600_000,
    };

    /// A value and its start timestamp.
    type Stored = (Result<f64, Histogram>, Millis);

    /// One sample of the series `name` to the sums: what was left out, and what is stored.
    fn add(
        deltas: &Deltas,
        (tenant, name): (TenantId, &str),
        (time, value, start): (Millis, Result<f64, Histogram>, Millis),
        now: Millis,
        bounds: &Bounds,
    ) -> (LeftOut, Option<Stored>) {
        let mut batch = WriteBatch::default();
        batch.push_series([("__name__", name)].into_iter());
        match value {
            Ok(value) => {
                batch.push_sample(time, value);
                batch.set_start(start);
            }
            Err(histogram) => {
                batch.push_histogram(time, histogram);
                batch.set_histogram_start(start);
            }
        }
        let left_out = deltas.sum_up(tenant, &mut batch, &[0], now, bounds);
        deltas.lock().check();
        let series = &batch.series[0];
        let stored = match (series.samples.is_empty(), series.histograms.is_empty()) {
            (false, _) => Some((Ok(batch.values[0]), batch.start(0))),
            (_, false) => Some((Err(batch.histograms[0].1.clone()), batch.histogram_start(0))),
            _ => None,
        };
        (left_out, stored)
    }

    impl Inner {
        /// What is counted is what is there.
        fn check(&self) {
            let mut tenants = BTreeMap::new();
            for ((tenant, _), sum) in &self.sums {
                *tenants.entry(*tenant).or_insert(0) += sum.value.bytes();
            }
            assert_eq!(self.bytes, tenants.values().sum::<u64>());
            assert_eq!(self.tenants, tenants);
        }
    }

    fn one(deltas: &Deltas, time: Millis, value: f64, start: Millis) -> (LeftOut, Option<(f64, Millis)>) {
        let (left_out, stored) = add(deltas, (T, "x"), (time, Ok(value), start), time, &WIDE);
        (left_out, stored.map(|(value, start)| (value.unwrap(), start)))
    }

    const NONE: LeftOut = LeftOut { late: 0, in_future: 0, beyond_limit: 0 };
    const LATE: LeftOut = LeftOut { late: 1, ..NONE };
    const BEYOND: LeftOut = LeftOut { beyond_limit: 1, ..NONE };

    #[test]
    fn differences_become_sums_with_one_start() {
        let deltas = Deltas::default();
        assert_eq!(one(&deltas, 2000, 3.0, 1000), (NONE, Some((3.0, 1000))));
        assert_eq!(one(&deltas, 3000, 4.0, 2000), (NONE, Some((7.0, 1000))));
        assert_eq!(one(&deltas, 3000, 4.0, 2000), (LATE, None), "the same request again");
        assert_eq!(one(&deltas, 4000, 0.5, 3000), (NONE, Some((7.5, 1000))));
        let late = 4000 + KEPT_MS + 1;
        assert_eq!(one(&deltas, late, 2.0, late - 1000), (NONE, Some((2.0, late - 1000))), "forgotten");
        let stale = f64::from_bits(varve_model::STALE_NAN_BITS);
        let (_, stored) = one(&deltas, late + 1, stale, 0);
        assert!(is_stale(stored.unwrap().0) && deltas.figures() == (0, 0));
    }

    /// A sample from the future was left to the engine to refuse, but was the last one from then on: all that came after
    /// it was late for an hour.
    #[test]
    fn a_sample_from_the_future_leaves_no_trace() {
        let deltas = Deltas::default();
        let now = 1_000_000;
        let send = |time: Millis, value: f64| add(&deltas, (T, "x"), (time, Ok(value), 0), now, &WIDE);
        let (begin, last) = (now - 10, now + WIDE.future_ms_max);
        assert_eq!(send(begin, 1.0), (NONE, Some((Ok(1.0), begin))));
        assert_eq!(send(last + 1, 2.0), (LeftOut { in_future: 1, ..NONE }, None));
        let stale = f64::from_bits(varve_model::STALE_NAN_BITS);
        assert_eq!(send(last + 1, stale), (LeftOut { in_future: 1, ..NONE }, None));
        assert_eq!(send(now, 4.0), (NONE, Some((Ok(5.0), begin))));
        assert_eq!(send(last, 8.0), (NONE, Some((Ok(13.0), begin))));
    }

    #[test]
    fn a_tenant_takes_no_more_than_its_share_and_all_no_more_than_theirs() {
        let deltas = Deltas::default();
        let bounds = Bounds { bytes_max: 3 * SUM_BYTES, bytes_per_tenant_max: 2 * SUM_BYTES, ..WIDE };
        let send = |tenant: u32, name: &str, now: Millis| {
            add(&deltas, (TenantId(tenant), name), (now, Ok(1.0), 0), now, &bounds).0
        };
        assert_eq!([send(1, "a", 1), send(1, "b", 1), send(1, "c", 1)], [NONE, NONE, BEYOND]);
        assert_eq!([send(2, "a", 1), send(2, "b", 1), send(3, "a", 1)], [NONE, BEYOND, BEYOND]);
        assert_eq!(send(1, "a", 2), NONE, "what has a sum goes on");
        assert_eq!(deltas.figures(), (3, 3 * SUM_BYTES));
        deltas.forget(TenantId(1), [hash("b"), hash("none")].into_iter());
        assert_eq!(send(3, "a", 3), NONE, "a series that was not stored gave its place back");
        deltas.lock().check();
    }

    fn hash(name: &str) -> SeriesHash {
        let mut batch = WriteBatch::default();
        batch.push_series([("__name__", name)].into_iter());
        batch.series[0].hash
    }

    #[test]
    fn sums_that_are_not_kept_go_by_and_by() {
        let deltas = Deltas::default();
        for series in 0..100 {
            add(&deltas, (T, &format!("x{series}")), (1, Ok(1.0), 0), 1, &WIDE);
        }
        let now = 2 + KEPT_MS;
        for time in 0..60 {
            let (before, _) = deltas.figures();
            add(&deltas, (T, "one"), (now + time, Ok(1.0), 0), now, &WIDE);
            assert!(deltas.figures().0 + SWEPT as u64 >= before, "a sample pays for few");
        }
        assert_eq!(deltas.figures(), (1, SUM_BYTES));
    }

    fn histogram(first: i32, count: f64) -> Histogram {
        Histogram {
            count,
            sum: 2.0 * count,
            positive_spans: vec![Span { offset: first, length: 1 }],
            positive: vec![count],
            ..Histogram::default()
        }
    }

    #[test]
    fn histograms_are_summed_and_begin_anew_when_their_kind_or_bounds_change() {
        let deltas = Deltas::default();
        let write = |time: Millis, histogram: Histogram| {
            let (left_out, stored) = add(&deltas, (T, "x"), (time, Err(histogram), time - 10), time, &WIDE);
            assert_eq!(left_out, NONE);
            let (sum, start) = stored.unwrap();
            (sum.unwrap_err(), start)
        };
        write(100, histogram(1, 1.0));
        let (sum, start) = write(200, histogram(1, 2.0));
        assert_eq!((sum.count, sum.sum, &sum.positive[..], start), (3.0, 6.0, &[3.0][..], 90));
        assert!(!sum.is_float);
        let custom = |bounds: &[f64]| Histogram { schema: -53, custom_bounds: bounds.to_vec(), ..histogram(1, 5.0) };
        let (sum, start) = write(300, custom(&[1.0, 2.0]));
        assert_eq!((sum.count, start), (5.0, 290));
        let (sum, start) = write(400, custom(&[1.0, 2.0]));
        assert_eq!((sum.count, start), (10.0, 290));
        // They share a bound, but the sum would lose the others for ever.
        let (sum, start) = write(500, custom(&[1.0, 3.0]));
        assert_eq!((sum.count, &sum.custom_bounds[..], start), (5.0, &[1.0, 3.0][..], 490));
    }

    #[test]
    fn a_histogram_that_grows_too_large_begins_anew() {
        let deltas = Deltas::default();
        let bounds = Bounds { histogram_buckets_max: 8, ..WIDE };
        let mut resets = 0;
        for time in 1..=40 {
            let more = histogram(time as i32 * 10, 1.0);
            let (left_out, stored) = add(&deltas, (T, "x"), (time, Err(more), time), time, &bounds);
            assert_eq!(left_out, NONE);
            let sum = stored.unwrap().0.unwrap_err();
            assert!(sum.parts() <= 8, "{sum:?}");
            resets += u32::from(sum.count == 1.0);
        }
        assert_eq!(resets, 10);
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_there(
            samples in prop::collection::vec((0u32..3, 0u8..4, 0i32..30, -5i64..5, prop::bool::weighted(0.1)), 1..200),
        ) {
            let deltas = Deltas::default();
            let bounds = Bounds { bytes_max: 3000, bytes_per_tenant_max: 2000, histogram_buckets_max: 20, future_ms_max: 3 };
            let mut now = 0;
            for (tenant, name, kind, ahead, jump) in samples {
                now += if jump { KEPT_MS } else { 1 };
                let value = if kind < 5 { Ok(f64::from(kind)) } else { Err(histogram(kind, 1.0)) };
                add(&deltas, (TenantId(tenant), &name.to_string()), (now + ahead, value, 0), now, &bounds);
                let inner = deltas.lock();
                prop_assert!(inner.bytes <= bounds.bytes_max);
                prop_assert!(inner.tenants.values().all(|bytes| *bytes <= bounds.bytes_per_tenant_max));
            }
        }
    }
}
