//! Accumulators of the aggregations that need only a running state: sum, avg, min, max, count, group, stddev, stdvar.
//!
//! State is kept per group and step in flat arrays; rows are added one by one, accumulators of neighbouring morsels
//! are merged in the order of morsels. So an answer depends on the order of series alone, never on threads. Sums are
//! compensated and averages switch to the running mean on overflow, as in Prometheus.

use crate::budget::Budget;
use crate::error::Error;
use crate::exec::block::{ABSENT, Histograms, Row, is_absent, is_histogram};
use crate::exec::kahan;
use crate::exec::tally::{Outcome, Remarks, Tally};
use crate::promql::ast::AggregateOp;

/// The state of one aggregation over all groups and steps.
pub(crate) struct Accumulator {
    op: AggregateOp,
    steps: usize,
    /// Sum, extremum, count or mean; [`ABSENT`] before the first value.
    value: Vec<f64>,
    /// Compensation of the sum, or sum of squared distances from the mean.
    extra: Vec<f64>,
    /// Values seen, where the operator needs it.
    count: Vec<f64>,
    /// Whether the average runs as a mean because the sum would overflow.
    running: Vec<bool>,
    /// Histograms, where there are any.
    tally: Option<Box<Tally>>,
}

/// Whether an operator is one of these.
pub(crate) fn is_running(op: AggregateOp) -> bool {
    use AggregateOp::{Avg, Count, Group, Max, Min, Stddev, Stdvar, Sum};
    matches!(op, Sum | Avg | Min | Max | Count | Group | Stddev | Stdvar)
}

impl Accumulator {
    /// An accumulator without groups.
    pub(crate) fn new(op: AggregateOp, steps: usize) -> Accumulator {
        assert!(is_running(op));
        let none = Vec::new;
        Accumulator { op, steps, value: none(), extra: none(), count: none(), running: Vec::new(), tally: None }
    }

    /// Cells of state that one group takes.
    pub(crate) fn cells_per_group(op: AggregateOp, steps: usize) -> usize {
        let arrays = match op {
            AggregateOp::Avg | AggregateOp::Stddev | AggregateOp::Stdvar => 3,
            AggregateOp::Sum => 2,
            _ => 1,
        };
        arrays * steps
    }

    /// Makes room for groups `0..groups`.
    pub(crate) fn grow(&mut self, groups: usize) {
        let cells = groups * self.steps;
        if cells <= self.value.len() {
            return;
        }
        self.value.resize(cells, ABSENT);
        if matches!(self.op, AggregateOp::Sum | AggregateOp::Avg | AggregateOp::Stddev | AggregateOp::Stdvar) {
            self.extra.resize(cells, 0.0);
        }
        if matches!(self.op, AggregateOp::Avg | AggregateOp::Stddev | AggregateOp::Stdvar) {
            self.count.resize(cells, 0.0);
        }
        if self.op == AggregateOp::Avg {
            self.running.resize(cells, false);
        }
    }

    /// Adds a row that has histograms to a group; `name` is that of its metric.
    pub(crate) fn add_mixed(&mut self, group: usize, row: Row<'_>, name: &dyn Fn() -> String) {
        if matches!(self.op, AggregateOp::Count | AggregateOp::Group) {
            return self.add(group, row.cells);
        }
        let tally = self.tally.get_or_insert_default();
        for (step, cell) in row.cells.iter().enumerate() {
            match row.histograms.get(*cell) {
                Some(histogram) if matches!(self.op, AggregateOp::Sum | AggregateOp::Avg) => {
                    tally.add(self.op, group * self.steps + step, histogram, name);
                }
                Some(_) => tally.remarks.ignore(),
                None => {}
            }
        }
        let floats: Vec<f64> = row.cells.iter().map(|cell| if is_histogram(*cell) { ABSENT } else { *cell }).collect();
        self.add(group, &floats);
    }

    /// Bytes that histograms have taken since the last time.
    pub(crate) fn take_uncharged(&mut self) -> u64 {
        self.tally.as_mut().map_or(0, |tally| tally.take_uncharged())
    }

    /// What is to be told.
    pub(crate) fn remarks(&self) -> Option<&Remarks> {
        self.tally.as_ref().map(|tally| &tally.remarks)
    }

    /// Takes over what is to be told about an accumulator of later rows.
    pub(crate) fn merge_remarks(&mut self, later: &Accumulator) {
        if let Some(tally) = &later.tally {
            self.tally.get_or_insert_default().remarks.merge(&tally.remarks);
        }
    }

    /// Adds a row of floats to a group.
    pub(crate) fn add(&mut self, group: usize, row: &[f64]) {
        debug_assert_eq!(row.len(), self.steps);
        let range = group * self.steps..(group + 1) * self.steps;
        let value = &mut self.value[range.clone()];
        match self.op {
            AggregateOp::Sum => add_sums(value, &mut self.extra[range], row),
            AggregateOp::Avg => {
                let (extra, count) = (&mut self.extra[range.clone()], &mut self.count[range.clone()]);
                add_averages(value, extra, count, &mut self.running[range], row);
            }
            AggregateOp::Min => keep(value, row, |kept, new| kept > new || kept.is_nan()),
            AggregateOp::Max => keep(value, row, |kept, new| kept < new || kept.is_nan()),
            AggregateOp::Count => {
                for (value, cell) in value.iter_mut().zip(row) {
                    if !is_absent(*cell) {
                        *value = if is_absent(*value) { 1.0 } else { *value + 1.0 };
                    }
                }
            }
            AggregateOp::Group => {
                for (value, cell) in value.iter_mut().zip(row) {
                    if !is_absent(*cell) {
                        *value = 1.0;
                    }
                }
            }
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                add_variances(value, &mut self.extra[range.clone()], &mut self.count[range], row);
            }
            _ => unreachable!("checked when made"),
        }
    }

    /// Merges a group of an accumulator of later rows into a group of this one.
    pub(crate) fn merge(&mut self, group: usize, later: &Accumulator, later_group: usize) {
        debug_assert_eq!((self.op, self.steps), (later.op, later.steps));
        let from = later_group * self.steps;
        let into = group * self.steps;
        if let Some(tally) = &later.tally {
            self.tally.get_or_insert_default().merge(into, tally, from..from + self.steps);
        }
        match self.op {
            AggregateOp::Min | AggregateOp::Max | AggregateOp::Group => {
                // These do not tell a state from a value.
                self.add(group, &later.value[from..from + self.steps]);
                return;
            }
            _ => {}
        }
        for step in 0..self.steps {
            let (a, b) = (into + step, from + step);
            if is_absent(later.value[b]) {
                continue;
            }
            if is_absent(self.value[a]) {
                self.value[a] = later.value[b];
                if let (Some(extra), Some(other)) = (self.extra.get_mut(a), later.extra.get(b)) {
                    *extra = *other;
                }
                if let (Some(count), Some(other)) = (self.count.get_mut(a), later.count.get(b)) {
                    *count = *other;
                }
                if let (Some(running), Some(other)) = (self.running.get_mut(a), later.running.get(b)) {
                    *running = *other;
                }
                continue;
            }
            match self.op {
                AggregateOp::Count => self.value[a] += later.value[b],
                AggregateOp::Sum => {
                    let (sum, c) = kahan::add(later.value[b], self.value[a], self.extra[a]);
                    let finite = !sum.is_infinite();
                    self.value[a] = sum;
                    self.extra[a] = if finite { c + later.extra[b] } else { 0.0 };
                }
                AggregateOp::Avg => self.merge_average(a, later, b),
                _ => self.merge_variance(a, later, b),
            }
        }
    }

    fn merge_average(&mut self, a: usize, later: &Accumulator, b: usize) {
        if !self.running[a] && !later.running[b] {
            let (sum, c) = kahan::add(later.value[b], self.value[a], self.extra[a]);
            if !sum.is_infinite() {
                self.value[a] = sum;
                self.extra[a] = c + later.extra[b];
                self.count[a] += later.count[b];
                return;
            }
        }
        let mean = |accumulator: &Accumulator, at: usize| {
            let by = if accumulator.running[at] { 1.0 } else { accumulator.count[at] };
            (accumulator.value[at] / by, accumulator.extra[at] / by)
        };
        let ((mean_a, c_a), (mean_b, c_b)) = (mean(self, a), mean(later, b));
        let total = self.count[a] + later.count[b];
        let (share_a, share_b) = (self.count[a] / total, later.count[b] / total);
        let (value, c) = kahan::add(mean_b * share_b, mean_a * share_a, c_a * share_a);
        self.value[a] = value;
        self.extra[a] = if value.is_infinite() { 0.0 } else { c + c_b * share_b };
        self.count[a] = total;
        self.running[a] = true;
    }

    fn merge_variance(&mut self, a: usize, later: &Accumulator, b: usize) {
        let (n_a, n_b) = (self.count[a], later.count[b]);
        let total = n_a + n_b;
        let delta = later.value[b] - self.value[a];
        self.value[a] += delta * (n_b / total);
        self.extra[a] += later.extra[b] + delta * delta * (n_a * n_b / total);
        self.count[a] = total;
    }

    /// The result of a group at each step, its histograms pushed to `histograms`.
    pub(crate) fn finish(
        &mut self,
        group: usize,
        row: &mut [f64],
        histograms: &mut Histograms,
        budget: &Budget,
    ) -> Result<(), Error> {
        let begin = group * self.steps;
        for (step, out) in row.iter_mut().enumerate() {
            let at = begin + step;
            let value = self.value[at];
            *out = match self.op {
                _ if is_absent(value) => ABSENT,
                AggregateOp::Sum => value + self.extra[at],
                AggregateOp::Avg if self.running[at] => value + self.extra[at],
                AggregateOp::Avg => value / self.count[at] + self.extra[at] / self.count[at],
                AggregateOp::Stdvar => self.extra[at] / self.count[at],
                AggregateOp::Stddev => (self.extra[at] / self.count[at]).sqrt(),
                _ => value,
            };
        }
        if let Some(tally) = &mut self.tally {
            for (step, out) in row.iter_mut().enumerate() {
                *out = match tally.finish(begin + step, !is_absent(*out)) {
                    Outcome::NoHistogram => continue,
                    Outcome::Nothing => ABSENT,
                    Outcome::Histogram(histogram) => histograms.push(histogram, budget)?,
                };
            }
        }
        Ok(())
    }
}

/// Written with selections instead of branches, so that it runs in vector registers.
fn add_sums(sums: &mut [f64], compensations: &mut [f64], row: &[f64]) {
    for ((sum, c), cell) in sums.iter_mut().zip(compensations).zip(row) {
        let (first, absent) = (is_absent(*sum), is_absent(*cell));
        let (total, compensation) = kahan::add(*cell, *sum, *c);
        let (next, next_c) = if first { (*cell, 0.0) } else { (total, compensation) };
        *c = if absent { *c } else { next_c };
        *sum = if absent { *sum } else { next };
    }
}

fn add_averages(values: &mut [f64], extra: &mut [f64], counts: &mut [f64], running: &mut [bool], row: &[f64]) {
    for (step, cell) in row.iter().enumerate() {
        if is_absent(*cell) {
            continue;
        }
        if is_absent(values[step]) {
            (values[step], extra[step], counts[step], running[step]) = (*cell, 0.0, 1.0, false);
            continue;
        }
        counts[step] += 1.0;
        let count = counts[step];
        if !running[step] {
            let (sum, c) = kahan::add(*cell, values[step], extra[step]);
            if !sum.is_infinite() {
                (values[step], extra[step]) = (sum, c);
                continue;
            }
            running[step] = true;
            values[step] /= count - 1.0;
            extra[step] /= count - 1.0;
        }
        let share = (count - 1.0) / count;
        (values[step], extra[step]) = kahan::add(*cell / count, share * values[step], share * extra[step]);
    }
}

fn add_variances(means: &mut [f64], squares: &mut [f64], counts: &mut [f64], row: &[f64]) {
    for (((mean, square), count), cell) in means.iter_mut().zip(squares).zip(counts).zip(row) {
        if is_absent(*cell) {
            continue;
        }
        *count += 1.0;
        if is_absent(*mean) {
            *mean = *cell;
            *square = if cell.is_finite() { 0.0 } else { f64::NAN };
        } else {
            let delta = *cell - *mean;
            *mean += delta / *count;
            *square += delta * (*cell - *mean);
        }
    }
}

fn keep(values: &mut [f64], row: &[f64], replaces: impl Fn(f64, f64) -> bool) {
    for (value, cell) in values.iter_mut().zip(row) {
        if !is_absent(*cell) && (is_absent(*value) || replaces(*value, *cell)) {
            *value = *cell;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(op: AggregateOp, cells: &[f64], cut: usize) -> f64 {
        let mut parts = [Accumulator::new(op, 1), Accumulator::new(op, 1)];
        for part in &mut parts {
            part.grow(1);
        }
        for (index, cell) in cells.iter().enumerate() {
            parts[usize::from(index >= cut)].add(0, &[*cell]);
        }
        let [mut first, second] = parts;
        first.merge(0, &second, 0);
        let mut out = [ABSENT];
        let budget = Budget::of_limits(&varve_model::Limits::default());
        first.finish(0, &mut out, &mut Histograms::default(), &budget).unwrap();
        out[0]
    }

    #[test]
    fn an_average_of_large_values_does_not_overflow() {
        for cut in 0..=4 {
            let average = all(AggregateOp::Avg, &[f64::MAX; 4], cut);
            assert!((average / f64::MAX - 1.0).abs() < 1e-15, "cut {cut}: {average}");
        }
    }

    #[test]
    fn nothing_of_nothing() {
        assert!(is_absent(all(AggregateOp::Sum, &[ABSENT, ABSENT], 1)));
        assert!(is_absent(all(AggregateOp::Count, &[], 0)));
    }

    proptest! {
        #[test]
        fn merging_is_adding(cells in proptest::collection::vec(-1e6..1e6f64, 1..20), cut in 0usize..20) {
            use AggregateOp::*;
            let cut = cut.min(cells.len());
            for op in [Sum, Avg, Min, Max, Count, Group, Stddev, Stdvar] {
                let (whole, merged) = (all(op, &cells, cells.len()), all(op, &cells, cut));
                prop_assert!((whole - merged).abs() <= 1e-6 + 1e-9 * whole.abs(), "{:?}: {} {}", op, whole, merged);
            }
        }
    }
}
