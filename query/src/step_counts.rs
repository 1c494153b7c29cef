//! StepCounts: samples by step, for who asks for statistics. Counted as Prometheus counts them, whatever the executor
//! really read: a window counts whole at each of its steps, a histogram as many samples as its bytes would make.
//!
//! A subquery and a part that is the same at all steps count for themselves; what they counted is then told of the
//! steps that they were evaluated for.

use std::sync::atomic::{AtomicU64, Ordering};

use varve_model::{Column, Histogram, Millis};

/// Bytes of a histogram without its buckets, and of one sample, by Prometheus's reckoning.
const HISTOGRAM_BYTES: usize = 168;
const SAMPLE_BYTES: usize = 16;

/// Samples by step.
#[derive(Debug)]
pub struct StepCounts {
    /// Time of the first step.
    pub start: Millis,
    /// Milliseconds between steps; positive.
    pub step: i64,
    touched: Vec<AtomicU64>,
    read: Vec<AtomicU64>,
}

impl StepCounts {
    /// Nothing counted yet, over `count` steps.
    pub fn new(start: Millis, step: i64, count: usize) -> StepCounts {
        let zeros = || (0..count).map(|_| AtomicU64::new(0)).collect();
        StepCounts { start, step, touched: zeros(), read: zeros() }
    }

    /// Samples that were looked at, by step.
    pub fn touched(&self) -> impl Iterator<Item = u64> + '_ {
        self.touched.iter().map(|count| count.load(Ordering::Relaxed))
    }

    /// Samples that were looked at for the first time, by step.
    pub fn read(&self) -> impl Iterator<Item = u64> + '_ {
        self.read.iter().map(|count| count.load(Ordering::Relaxed))
    }

    fn add(&self, step: usize, touched: u64, read: u64) {
        // Plain counters: nothing else is published through them.
        if let Some(count) = self.touched.get(step) {
            count.fetch_add(touched, Ordering::Relaxed);
        }
        if let Some(count) = self.read.get(step) {
            count.fetch_add(read, Ordering::Relaxed);
        }
    }

    /// A sample of an instant selector.
    pub(crate) fn add_sample(&self, step: usize) {
        self.add(step, 1, 1);
    }

    /// A histogram of an instant selector.
    pub(crate) fn add_histogram(&self, step: usize, histogram: &Histogram) {
        self.add(step, size(histogram), size(histogram));
    }

    /// The samples of a whole column, at the last step.
    pub(crate) fn add_column(&self, column: &Column) {
        let all =
            column.times.len() as u64 + column.histograms.iter().map(|(_, histogram)| size(histogram)).sum::<u64>();
        self.add(self.touched.len().saturating_sub(1), all, all);
    }

    /// The windows `(end - range, end]` of a series; `end` tells where the window of a step ends. What comes from a
    /// subquery was read there.
    pub(crate) fn add_windows(&self, column: &Column, range: i64, end: &dyn Fn(usize) -> Millis, stored: bool) {
        for step in 0..self.touched.len() {
            let end = end(step);
            let touched = within(column, end.saturating_sub(range), end);
            if touched == 0 {
                continue;
            }
            let read = match (stored, step) {
                (false, _) => 0,
                (true, 0) => touched,
                (true, _) => within(column, end.saturating_sub(range.min(self.step)), end),
            };
            self.add(step, touched, read);
        }
    }

    /// What a part counted that has the same value at all steps and was evaluated once.
    pub(crate) fn add_invariant(&self, part: &StepCounts) {
        let (touched, read): (u64, u64) = (part.touched().sum(), part.read().sum());
        for step in 0..self.touched.len() {
            self.add(step, touched, if step == 0 { read } else { 0 });
        }
    }

    /// What a subquery read, told of the first step that its time counts for; `offset` and `range` are the subquery's.
    /// What lies between the windows counts for none.
    pub(crate) fn add_subquery(&self, part: &StepCounts, offset: i64, range: i64) {
        let last = self.touched.len().saturating_sub(1);
        if last == 0 {
            return self.add(0, 0, part.read().sum());
        }
        for (number, read) in part.read().enumerate().filter(|(_, read)| *read > 0) {
            let time = part.start.saturating_add((number as i64).saturating_mul(part.step)).saturating_add(offset);
            let behind = time.saturating_sub(self.start).max(0) as u64;
            let step = usize::try_from(behind.div_ceil(self.step.unsigned_abs().max(1))).unwrap_or(last).min(last);
            let end = self.start.saturating_add((step as i64).saturating_mul(self.step));
            if time > end.saturating_sub(range) {
                self.add(step, 0, read);
            }
        }
    }

    /// What a subquery counted whose points are the answer.
    pub(crate) fn add_answer(&self, part: &StepCounts) {
        self.add(self.touched.len().saturating_sub(1), part.touched().sum(), 0);
        self.add_subquery(part, 0, i64::MAX);
    }
}

/// The samples that a histogram counts for.
fn size(histogram: &Histogram) -> u64 {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let buckets = histogram.positive.len() + histogram.negative.len() + histogram.custom_bounds.len();
    ((HISTOGRAM_BYTES + 8 * (spans + buckets) + 8) / SAMPLE_BYTES) as u64
}

/// The samples of `(after, end]`.
fn within(column: &Column, after: Millis, end: Millis) -> u64 {
    let floats =
        column.times.partition_point(|time| *time <= end) - column.times.partition_point(|time| *time <= after);
    let below = |bound: Millis| column.histograms.partition_point(|(time, _)| *time <= bound);
    let histograms = column.histograms.get(below(after)..below(end)).unwrap_or_default();
    floats as u64 + histograms.iter().map(|(_, histogram)| size(histogram)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(counts: &StepCounts, touched: &[u64], read: &[u64]) {
        assert_eq!(counts.touched().collect::<Vec<_>>(), touched);
        assert_eq!(counts.read().collect::<Vec<_>>(), read);
    }

    #[test]
    fn windows_count_whole_but_are_read_once() {
        let column = Column { times: (1..=10).map(|i| i * 10).collect(), values: vec![0.0; 10], ..Column::default() };
        let counts = StepCounts::new(50, 20, 3);
        counts.add_windows(&column, 30, &|step| 50 + 20 * step as i64, true);
        check(&counts, &[3, 3, 3], &[3, 2, 2]);
        let counts = StepCounts::new(50, 40, 2);
        counts.add_windows(&column, 20, &|step| 50 + 40 * step as i64, false);
        check(&counts, &[2, 2], &[0, 0]);
    }

    #[test]
    fn what_a_subquery_reads_counts_for_the_step_that_uses_it() {
        let part = StepCounts::new(0, 10, 7);
        (0..7).for_each(|step| part.add_sample(step));
        let counts = StepCounts::new(20, 40, 2);
        counts.add_subquery(&part, 0, 20);
        // 10, 20 for the first; 50, 60 for the second; 0 lies before the first window, 30 and 40 between the two.
        check(&counts, &[0, 0], &[2, 2]);
        let counts = StepCounts::new(20, 40, 2);
        counts.add_invariant(&part);
        check(&counts, &[7, 7], &[7, 0]);
    }

    #[test]
    fn a_histogram_counts_by_its_bytes() {
        let counts = StepCounts::new(0, 1, 1);
        counts.add_histogram(0, &Histogram { positive: vec![1.0; 8], ..Histogram::default() });
        check(&counts, &[15], &[15]);
    }
}
