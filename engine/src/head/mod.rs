//! Head: the newest samples of a shard, in memory, rebuilt from the log.
//!
//! Series lie in stripes by id, a thousand neighbours a stripe, each behind its own short lock: a turn locks a stripe
//! once for neighbouring series, a reader holds it while it copies a series' bytes and decodes them outside.
//!
//! Invariants:
//! * One owner applies rows, in the order of the log; [`Head::apply`] depends on nothing but the head and the rows, so
//!   replay rebuilds the same head.
//! * A head holds what was applied from one offset on up to another: when it is frozen nothing is added any more, and a
//!   new head with the next epoch begins there. A deletion removes from all heads that are there, frozen ones too.
//! * Exemplars of a series may be there without a sample of it.
//! * An id means one series in all heads from the epoch on in which it was given out ([`registry`]).

pub(crate) mod exemplars;
pub(crate) mod registry;
pub(crate) mod series;
pub(crate) mod table;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use varve_model::{Column, Exemplar, Labels, Millis, TimeRange};

use crate::estimate::Estimate;
use crate::record::{Entry, Rows};
use exemplars::Exemplars;
use series::{Copied, Series};

/// Series in a stripe; a power of two.
const STRIPE_SERIES: usize = 1024;
const _: () = assert!(STRIPE_SERIES.is_power_of_two());

/// Series whose chunk ends are loaded together before they are written: each is a cache miss of its own, and so they
/// wait for memory at the same time.
const TOUCH: usize = 16;

/// What [`Head::apply`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Samples that did not ascend in their series.
    pub(crate) late: u64,
    /// Newest sample; `i64::MIN` when there was none.
    pub(crate) newest: Millis,
    /// Newest exemplar, told the same way.
    pub(crate) newest_exemplar: Millis,
}

#[derive(Debug, Default)]
struct Stripe(Mutex<Vec<Series>>);

impl Stripe {
    fn lock(&self) -> MutexGuard<'_, Vec<Series>> {
        // A panic while a series was changed is a bug in one series; the others stay readable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Samples of one shard from one offset on.
#[derive(Debug)]
pub(crate) struct Head {
    /// Counts the heads of the shard since it was opened.
    pub(crate) epoch: u64,
    /// Offset at which it begins.
    pub(crate) first: u64,
    stripes: RwLock<Vec<Option<Arc<Stripe>>>>,
    pub(crate) exemplars: Exemplars,
    bytes: AtomicU64,
    samples: AtomicU64,
    min_time: AtomicI64,
    max_time: AtomicI64,
    /// When the first rows came; `i64::MAX` before.
    begun: AtomicI64,
}

impl Head {
    pub(crate) fn new(epoch: u64, first: u64) -> Head {
        Head {
            epoch,
            first,
            stripes: RwLock::default(),
            exemplars: Exemplars::default(),
            bytes: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            min_time: AtomicI64::new(Millis::MAX),
            max_time: AtomicI64::new(Millis::MIN),
            begun: AtomicI64::new(Millis::MAX),
        }
    }

    /// Bytes of memory that its samples take.
    pub(crate) fn bytes(&self) -> u64 {
        // Figures are read for limits and reports only: relaxed everywhere, the owner alone writes.
        self.bytes.load(Ordering::Relaxed)
    }

    /// Samples applied, overwritten ones included.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// When the first rows came; `None` when it is empty.
    pub(crate) fn begun(&self) -> Option<Millis> {
        Some(self.begun.load(Ordering::Relaxed)).filter(|&begun| begun != Millis::MAX)
    }

    /// From the oldest to the newest sample; empty (`min > max`) when there is none.
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange { min: self.min_time.load(Ordering::Relaxed), max: self.max_time.load(Ordering::Relaxed) }
    }

    /// Adds rows behind all that was applied before; where a time was there already the row wins. Owner only.
    pub(crate) fn apply(&self, rows: &Rows, now: Millis) -> Counts {
        let mut counts = Counts { late: 0, newest: Millis::MIN, newest_exemplar: Millis::MIN };
        // Growth in memory; negative when late samples were compacted.
        let mut grown = 0;
        let (mut min, mut max) = (Millis::MAX, Millis::MIN);
        for &time in &rows.times {
            min = min.min(time);
            max = max.max(time);
        }
        let mut rest = (&rows.times[..], &rows.values[..], &rows.starts[..]);
        let mut entries = &rows.entries[..];
        while let Some(first) = entries.first() {
            let stripe_of = |id: u32| id as usize / STRIPE_SERIES;
            let run = entries.iter().take_while(|e| stripe_of(e.series) == stripe_of(first.series)).count();
            let stripe = self.stripe_to_write(stripe_of(first.series));
            let mut stripe = stripe.lock();
            let (own, others) = entries.split_at(run);
            for some in own.chunks(TOUCH) {
                touch(&stripe, some);
                for entry in some {
                    let series = slot(&mut stripe, entry.series, &mut grown);
                    let count = (entry.count as usize).min(rest.0.len()).min(rest.1.len());
                    let (times, times_after) = rest.0.split_at(count);
                    let (values, values_after) = rest.1.split_at(count);
                    let (starts, starts_after) = rest.2.split_at(count.min(rest.2.len()));
                    rest = (times_after, values_after, starts_after);
                    let (late, bytes) = series.push_floats(times, values, starts);
                    counts.late += late;
                    grown += bytes;
                }
            }
            entries = others;
        }
        for (at, (id, time, histogram)) in rows.histograms.iter().enumerate() {
            min = min.min(*time);
            max = max.max(*time);
            let stripe = self.stripe_to_write(*id as usize / STRIPE_SERIES);
            let mut stripe = stripe.lock();
            let series = slot(&mut stripe, *id, &mut grown);
            let start = rows.histogram_starts.get(at).copied().unwrap_or(0);
            let (late, bytes) = series.push_histogram(*time, histogram, start);
            counts.late += u64::from(late);
            grown += bytes;
        }
        for exemplar in &rows.exemplars {
            counts.newest_exemplar = counts.newest_exemplar.max(exemplar.time);
            // What the shard logged is well-formed.
            let Ok(labels) = Labels::from_label_bytes(&exemplar.labels) else { continue };
            let exemplar_of = Exemplar { labels, time: exemplar.time, value: exemplar.value };
            grown += self.exemplars.insert(rows.tenant, exemplar.series, exemplar_of).unwrap_or(0);
        }
        if rows.samples() > 0 {
            self.min_time.fetch_min(min, Ordering::Relaxed);
            self.max_time.fetch_max(max, Ordering::Relaxed);
            self.samples.fetch_add(rows.samples(), Ordering::Relaxed);
            counts.newest = max;
        }
        if !rows.is_empty() {
            self.begun.fetch_min(now, Ordering::Relaxed);
            let bytes = self.bytes().saturating_add_signed(grown);
            self.bytes.store(bytes, Ordering::Relaxed);
        }
        counts
    }

    /// Removes the samples and exemplars of a series in `range`.
    pub(crate) fn remove(&self, id: u32, range: TimeRange) {
        let mut freed = self.exemplars.remove(id, range);
        if let Some(stripe) = self.stripe(id as usize / STRIPE_SERIES)
            && let Some(series) = stripe.lock().get_mut(id as usize % STRIPE_SERIES)
        {
            freed += series.remove(range);
        }
        let bytes = self.bytes().saturating_add_signed(-freed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether a series has neither samples nor exemplars.
    pub(crate) fn lacks(&self, id: u32) -> bool {
        let samples = self.stripe(id as usize / STRIPE_SERIES);
        let none = |stripe: Arc<Stripe>| stripe.lock().get(id as usize % STRIPE_SERIES).is_none_or(Series::is_empty);
        samples.is_none_or(none) && self.exemplars.of_series(id) == 0
    }

    fn stripe_to_write(&self, index: usize) -> Arc<Stripe> {
        if let Some(stripe) = self.stripe(index) {
            return stripe;
        }
        let mut stripes = self.stripes.write().unwrap_or_else(PoisonError::into_inner);
        if stripes.len() <= index {
            stripes.resize(index + 1, None);
        }
        match stripes.get_mut(index) {
            Some(place) => Arc::clone(place.get_or_insert_default()),
            None => Arc::default(),
        }
    }

    fn stripe(&self, index: usize) -> Option<Arc<Stripe>> {
        self.stripes.read().unwrap_or_else(PoisonError::into_inner).get(index)?.clone()
    }

    /// Keeps the ids (ascending) of series that have a sample in `range`.
    pub(crate) fn keep_present(&self, ids: &[u32], range: TimeRange, mut found: impl FnMut(usize)) {
        if !self.range().overlaps(&range) {
            return;
        }
        let mut at = 0;
        while let Some(&first) = ids.get(at) {
            let index = first as usize / STRIPE_SERIES;
            let run = ids.iter().skip(at).take_while(|&&id| id as usize / STRIPE_SERIES == index).count();
            if let Some(stripe) = self.stripe(index) {
                let stripe = stripe.lock();
                for (i, &id) in ids.iter().enumerate().skip(at).take(run) {
                    if stripe.get(id as usize % STRIPE_SERIES).is_some_and(|series| series.overlaps(range)) {
                        found(i);
                    }
                }
            }
            at += run;
        }
    }

    /// Appends the samples of a series in `range` to `column`.
    pub(crate) fn read(&self, id: u32, range: TimeRange, column: &mut Column) {
        let mut copied = Copied::default();
        if let Some(stripe) = self.stripe(id as usize / STRIPE_SERIES)
            && let Some(series) = stripe.lock().get(id as usize % STRIPE_SERIES)
        {
            series.copy(range, &mut copied);
        }
        copied.decode(range, column);
    }

    /// Adds what reading a series over `range` touches here.
    pub(crate) fn estimate(&self, id: u32, range: TimeRange, into: &mut Estimate) {
        if let Some(stripe) = self.stripe(id as usize / STRIPE_SERIES)
            && let Some(series) = stripe.lock().get(id as usize % STRIPE_SERIES)
        {
            series.estimate(range, into);
        }
    }

    /// The newest float of a series. `None` when there are histograms or no sample: read instead.
    pub(crate) fn newest(&self, id: u32) -> Option<(Millis, f64)> {
        let stripe = self.stripe(id as usize / STRIPE_SERIES)?;
        stripe.lock().get(id as usize % STRIPE_SERIES)?.newest()
    }

    /// Ids of all series that have samples, ascending.
    pub(crate) fn ids(&self) -> Vec<u32> {
        let stripes = self.stripes.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut ids = Vec::new();
        for (index, stripe) in stripes.iter().enumerate() {
            let Some(stripe) = stripe else { continue };
            for (slot, series) in stripe.lock().iter().enumerate() {
                if !series.is_empty() {
                    ids.push((index * STRIPE_SERIES + slot) as u32);
                }
            }
        }
        ids
    }

    /// Chunks of all series, for reports. O(series).
    pub(crate) fn chunks(&self) -> u64 {
        let stripes = self.stripes.read().unwrap_or_else(PoisonError::into_inner).clone();
        stripes.iter().flatten().map(|stripe| stripe.lock().iter().map(Series::chunks).sum::<u64>()).sum()
    }
}

/// Loads the places that samples of these entries will be written to.
#[inline]
fn touch(stripe: &[Series], entries: &[Entry]) {
    let ends = entries.iter().map(|entry| stripe.get(entry.series as usize % STRIPE_SERIES).map_or(0, Series::touch));
    std::hint::black_box(ends.fold(0, |all, end| all ^ end));
}

/// The series of an id in its stripe, made when it is new.
#[inline]
fn slot<'a>(stripe: &'a mut Vec<Series>, id: u32, bytes: &mut i64) -> &'a mut Series {
    let index = id as usize % STRIPE_SERIES;
    if index >= stripe.len() {
        let before = stripe.capacity();
        stripe.resize_with(index + 1, Series::default);
        *bytes += ((stripe.capacity() - before) * size_of::<Series>()) as i64;
    }
    &mut stripe[index]
}

/// A head that nothing is added to any more.
#[derive(Debug)]
pub(crate) struct FrozenHead {
    /// The samples.
    pub(crate) head: Arc<Head>,
    /// Offset behind the last that was applied: the head covers `[head.first, end)`.
    pub(crate) end: u64,
}
