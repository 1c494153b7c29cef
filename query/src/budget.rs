//! Budget: what one query may use, counted while it runs and checked per series, never per sample.
//!
//! Clones share their counters: morsels on other threads charge the same budget. Time comes from the caller as a
//! function, so the executor reads no clock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use varve_model::{Limits, Millis};

use crate::answer::Stats;
use crate::error::Error;
use crate::step_counts::StepCounts;

/// Says whether the deadline has passed.
pub type Expired = Box<dyn Fn() -> bool + Send + Sync>;

/// What one query may use.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    limits: Limits,
    expired: Expired,
    canceled: Arc<AtomicBool>,
    samples: AtomicU64,
    series: AtomicU64,
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
    bytes_of_all: Arc<AtomicU64>,
    /// Whether samples are to be counted by step, and where.
    counting: AtomicBool,
    counts: OnceLock<Arc<StepCounts>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What was kept to the end; every guard is gone, each held a clone of the budget.
        self.bytes_of_all.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

const WHERE: &str = "expression evaluation";

impl Budget {
    /// A budget of the `query_*` limits, a deadline and a flag that the caller sets when the client leaves.
    pub fn new(limits: &Limits, expired: Expired, canceled: Arc<AtomicBool>) -> Budget {
        Budget::sharing(limits, expired, canceled, Arc::default())
    }

    /// [`Budget::new`] of a query that shares `queries_bytes_max` with others: all that charge the same counter.
    pub fn sharing(
        limits: &Limits,
        expired: Expired,
        canceled: Arc<AtomicBool>,
        bytes_of_all: Arc<AtomicU64>,
    ) -> Budget {
        Budget(Arc::new(Inner {
            limits: limits.clone(),
            expired,
            canceled,
            samples: AtomicU64::new(0),
            series: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            bytes_peak: AtomicU64::new(0),
            bytes_of_all,
            counting: AtomicBool::new(false),
            counts: OnceLock::new(),
        }))
    }

    /// A budget of these limits without deadline.
    pub fn of_limits(limits: &Limits) -> Budget {
        Budget::new(limits, Box::new(|| false), Arc::new(AtomicBool::new(false)))
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Counted so far.
    pub fn stats(&self) -> Stats {
        // Plain counters: nothing else is published through them.
        Stats {
            samples: self.0.samples.load(Ordering::Relaxed),
            series: self.0.series.load(Ordering::Relaxed),
            bytes_peak: self.0.bytes_peak.load(Ordering::Relaxed),
        }
    }

    /// From now on samples are counted by step, which costs a pass over them.
    pub fn count_steps(&self) {
        self.0.counting.store(true, Ordering::Relaxed);
    }

    /// Samples by step, when they were counted.
    pub fn step_counts(&self) -> Option<&StepCounts> {
        self.0.counts.get().map(Arc::as_ref)
    }

    /// Where samples of an evaluation over so many steps are counted; the first call is that of the whole query.
    pub(crate) fn counts(&self, start: Millis, step: i64, count: usize) -> Result<Option<Arc<StepCounts>>, Error> {
        if !self.0.counting.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.keep((count as u64).saturating_mul(16))?;
        let counts = Arc::new(StepCounts::new(start, step, count));
        let _ = self.0.counts.set(Arc::clone(&counts));
        Ok(Some(counts))
    }

    /// Fails when the query was canceled or has run out of time.
    pub fn check(&self) -> Result<(), Error> {
        if self.0.canceled.load(Ordering::Relaxed) {
            return Err(Error::Canceled(WHERE));
        }
        if (self.0.expired)() {
            return Err(Error::Timeout(WHERE));
        }
        Ok(())
    }

    /// Charges samples read.
    pub fn read(&self, samples: u64) -> Result<(), Error> {
        let total = self.0.samples.fetch_add(samples, Ordering::Relaxed) + samples;
        let max = self.0.limits.query_samples_max;
        if total > max {
            return Err(Error::Limit { limit: "samples read", max, setting: "query_samples_max" });
        }
        Ok(())
    }

    /// Refuses what is about to be read when it is certainly too much: the number is an estimate, so it must exceed the
    /// limit by a quarter.
    pub fn foresee(&self, samples: u64) -> Result<(), Error> {
        let max = self.0.limits.query_samples_max;
        let total = self.0.samples.load(Ordering::Relaxed).saturating_add(samples);
        if total > max.saturating_add(max / 4) {
            return Err(Error::Limit { limit: "samples to be read", max, setting: "query_samples_max" });
        }
        Ok(())
    }

    /// Series that may still be selected.
    pub fn series_left(&self) -> u64 {
        self.0.limits.query_series_max.saturating_sub(self.0.series.load(Ordering::Relaxed))
    }

    /// Charges series selected.
    pub fn select(&self, series: u64) -> Result<(), Error> {
        let total = self.0.series.fetch_add(series, Ordering::Relaxed) + series;
        let max = self.0.limits.query_series_max;
        if total > max {
            return Err(Error::Limit { limit: "series selected", max, setting: "query_series_max" });
        }
        Ok(())
    }

    /// Checks the steps of the range, before anything is evaluated. As in Prometheus, the limit is one of the steps
    /// behind the first evaluation.
    pub fn steps(&self, evaluations: u64) -> Result<(), Error> {
        let max = self.0.limits.query_steps_max;
        if evaluations > max.saturating_add(1) {
            return Err(Error::Limit { limit: "steps of the range", max, setting: "query_steps_max" });
        }
        Ok(())
    }

    /// Checks the steps of one subquery, before anything is evaluated.
    pub fn subquery_steps(&self, steps: u64) -> Result<(), Error> {
        let max = self.0.limits.query_subquery_steps_max;
        if steps > max {
            return Err(Error::Limit { limit: "steps of a subquery", max, setting: "query_subquery_steps_max" });
        }
        Ok(())
    }

    /// Checks the points of the answer.
    pub fn points(&self, points: u64) -> Result<(), Error> {
        let max = self.0.limits.query_points_max;
        if points > max {
            return Err(Error::Limit { limit: "points in the answer", max, setting: "query_points_max" });
        }
        Ok(())
    }

    /// Charges bytes until the returned guard is dropped. To be called before allocating.
    pub fn hold(&self, bytes: u64) -> Result<Held, Error> {
        let mut held = Held { budget: self.clone(), bytes: 0 };
        held.grow(bytes)?;
        Ok(held)
    }

    /// [`Budget::hold`] to the end of the query.
    pub fn keep(&self, bytes: u64) -> Result<(), Error> {
        self.hold(bytes).map(Held::keep)
    }

    /// [`Budget::hold`] for `rows` times `columns` cells of 8 bytes.
    pub fn hold_cells(&self, rows: usize, columns: usize) -> Result<Held, Error> {
        self.hold((rows as u64).saturating_mul(columns as u64).saturating_mul(8))
    }
}

/// Bytes charged to a budget; given back when dropped.
pub struct Held {
    budget: Budget,
    bytes: u64,
}

impl Held {
    /// Charges more bytes, given back with the others. To be called before allocating.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        // No sum of what is refused wraps.
        let bytes = bytes.min(u64::MAX / 4);
        let inner = &*self.budget.0;
        let total = inner.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let total_of_all = inner.bytes_of_all.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.bytes += bytes;
        let max = inner.limits.query_bytes_max;
        if total > max {
            return Err(Error::Limit { limit: "bytes held", max, setting: "query_bytes_max" });
        }
        let max = inner.limits.queries_bytes_max;
        if total_of_all > max {
            return Err(Error::Limit { limit: "bytes held by all queries", max, setting: "queries_bytes_max" });
        }
        inner.bytes_peak.fetch_max(total, Ordering::Relaxed);
        Ok(())
    }

    /// Takes over what another guard of the same budget holds.
    pub(crate) fn absorb(&mut self, mut other: Held) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Leaves the bytes charged to the end of the query.
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.0.bytes_of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_back_and_the_peak_remains() {
        let budget = Budget::of_limits(&Limits { query_bytes_max: 100, ..Limits::default() });
        let held = budget.hold(60).unwrap();
        assert!(budget.hold(60).is_err());
        drop(held);
        let mut growing = budget.hold(30).unwrap();
        growing.grow(30).unwrap();
        growing.absorb(budget.hold(10).unwrap());
        assert!(growing.grow(40).is_err());
        drop(growing);
        let _held = budget.hold(90).unwrap();
        assert_eq!(budget.stats().bytes_peak, 90);
    }

    #[test]
    fn queries_share_their_bytes_and_give_all_back_at_their_end() {
        let limits = Limits { queries_bytes_max: 100, ..Limits::default() };
        let all = Arc::new(AtomicU64::new(0));
        let query = || Budget::sharing(&limits, Box::new(|| false), Arc::default(), Arc::clone(&all));
        let (one, other) = (query(), query());
        one.keep(50).unwrap();
        let held = one.hold(40).unwrap();
        assert!(matches!(other.hold(20), Err(Error::Limit { setting: "queries_bytes_max", .. })));
        drop(held);
        drop(other.hold(20).unwrap());
        drop(one);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_cancel_and_a_deadline_are_told_apart() {
        let canceled = Arc::new(AtomicBool::new(false));
        let budget = Budget::new(&Limits::default(), Box::new(|| false), Arc::clone(&canceled));
        assert!(budget.check().is_ok());
        canceled.store(true, Ordering::Relaxed);
        assert!(matches!(budget.check(), Err(Error::Canceled(_))));
        let late = Budget::new(&Limits::default(), Box::new(|| true), Arc::default());
        assert!(matches!(late.check(), Err(Error::Timeout(_))));
    }
}
