//! Scan: reads series in morsels, turns each into a row of steps, and either keeps the rows or aggregates them on the
//! spot, so that `sum by (x) (rate(y[5m]))` never holds more than its groups.
//!
//! Cost per series: one read of its column, one pass over steps and samples; labels are touched only if they are
//! needed. Morsels are cut by series number alone and merged in order, so an answer does not depend on threads.

use std::sync::Arc;

use varve_model::{Column, Labels, Millis, SeriesHash, TimeRange, is_stale};

use crate::annotation::Notes;
use crate::budget::Budget;
use crate::error::Error;
use crate::exec::aggregate::Partial;
use crate::exec::block::{ABSENT, StepBlock, any_present, drop_name, is_absent, is_metadata, same_labelset};
use crate::exec::grouping::Grouping;
use crate::exec::pool::Pool;
use crate::exec::remarks::Remarks;
use crate::exec::steps::{Reach, Steps};
use crate::exec::window::{self, RangeFunction, Scratch, Windows};
use crate::promql::ast::AggregateOp;
use crate::source::SeriesSet;

/// Where samples come from.
#[derive(Clone)]
pub(crate) enum Input {
    /// Stored series.
    Stored(Arc<dyn SeriesSet>),
    /// The rows of a subquery, evaluated at these steps.
    Rows(Arc<StepBlock>, Steps),
}

/// What becomes of a series' samples.
#[derive(Clone)]
pub(crate) enum Shape {
    /// The newest sample within the lookback.
    Newest {
        /// Lookback in milliseconds.
        lookback: i64,
        /// Whether its time is wanted, in seconds, instead of its value.
        time: bool,
    },
    /// A function over windows.
    Window {
        /// Which.
        function: RangeFunction,
        /// How far back, in milliseconds.
        range: i64,
        /// Scalar arguments, one value a step.
        arguments: Vec<Vec<f64>>,
    },
}

/// A scan, ready to run.
#[derive(Clone)]
pub(crate) struct Scan {
    pub(crate) input: Input,
    pub(crate) shape: Shape,
    pub(crate) steps: Steps,
    pub(crate) reach: Reach,
    /// Whether all series have one metric name, so that they stay distinct without it.
    pub(crate) one_name: bool,
    /// Where its remarks go: about the range that a function is given.
    pub(crate) notes: Notes,
    /// Whether types are labels.
    pub(crate) typed: bool,
}

/// Memory of one morsel, reused from series to series.
#[derive(Default)]
struct Worker {
    column: Column,
    scratch: Scratch,
}

impl Scan {
    fn len(&self) -> usize {
        match &self.input {
            Input::Stored(set) => set.len(),
            Input::Rows(block, _) => block.rows(),
        }
    }

    fn labels(&self, index: usize) -> Labels {
        match &self.input {
            Input::Stored(set) => set.labels(index),
            Input::Rows(block, _) => block.labels()[index].clone(),
        }
    }

    /// Whether the rows lose the metric name.
    fn nameless(&self) -> bool {
        match &self.shape {
            Shape::Newest { time, .. } => *time,
            Shape::Window { function, .. } => !function.keeps_name(),
        }
    }

    /// Times that can be looked at.
    fn range(&self) -> TimeRange {
        let back = match &self.shape {
            Shape::Newest { lookback, .. } => *lookback,
            Shape::Window { range, .. } => *range,
        };
        let first = self.reach.look(self.steps.start);
        let last = self.reach.look(self.steps.last());
        TimeRange { min: first.saturating_sub(back).saturating_add(1), max: last }
    }

    /// Series per morsel: enough work to be worth a ticket, few enough to share out.
    fn morsel(&self) -> usize {
        match (&self.input, self.newest_suffices()) {
            (Input::Stored(_), true) => 2048,
            _ => 128,
        }
    }

    /// Whether the newest sample alone decides, so that nothing need be decoded.
    fn newest_suffices(&self) -> bool {
        let newest = match &self.shape {
            Shape::Newest { .. } => true,
            Shape::Window { function, .. } => *function == RangeFunction::Last,
        };
        newest && self.steps.count == 1
    }

    /// Fills `row` for a series; `false` when no cell is present.
    fn row(&self, index: usize, worker: &mut Worker, budget: &Budget, row: &mut [f64]) -> Result<bool, Error> {
        let range = self.range();
        match &self.input {
            Input::Stored(set) => {
                if self.newest_suffices()
                    && let Some(newest) = set.newest(index, range)
                {
                    match newest {
                        None => return Ok(false),
                        Some((time, value)) if !is_stale(value) => {
                            budget.read(1)?;
                            row[0] = match self.shape {
                                Shape::Newest { time: true, .. } => time as f64 / 1000.0,
                                _ => value,
                            };
                            return Ok(!is_absent(row[0]));
                        }
                        // A stale marker ends an instant selector's series, but a window looks behind it.
                        Some(_) if matches!(self.shape, Shape::Newest { .. }) => return Ok(false),
                        Some(_) => {}
                    }
                }
                set.read(index, range, &mut worker.column)?;
                budget.read(worker.column.len() as u64)?;
            }
            Input::Rows(block, steps) => {
                worker.column.clear();
                for (step, cell) in block.row(index).iter().enumerate() {
                    if !is_absent(*cell) {
                        worker.column.times.push(steps.time(step));
                        worker.column.values.push(*cell);
                    }
                }
            }
        }
        if worker.column.is_empty() {
            return Ok(false);
        }
        // Long columns are worth accounting for, and may take long; the usual ones are not worth the traffic.
        let long = worker.column.len() > 512;
        let _held = if long { Some(budget.hold_cells(worker.column.len(), 2)?) } else { None };
        match &self.shape {
            Shape::Newest { lookback, time } => newest(&worker.column, self.steps, self.reach, *lookback, *time, row),
            Shape::Window { function, range, arguments } => {
                window::drop_stale(&mut worker.column);
                let windows = Windows { steps: self.steps, reach: self.reach, range: *range, budget };
                window::slide(*function, &worker.column, &windows, arguments, &mut worker.scratch, row);
                if long {
                    budget.check()?;
                }
            }
        }
        Ok(any_present(row))
    }

    fn remarks(&self) -> Remarks<'_> {
        let one_name = self.one_name && matches!(self.input, Input::Stored(_));
        let (function, arguments) = match &self.shape {
            Shape::Newest { .. } => (None, &[][..]),
            Shape::Window { function, arguments, .. } => (Some(*function), &arguments[..]),
        };
        Remarks::new(function, arguments, self.typed, one_name, &self.notes)
    }

    fn morsels(&self) -> usize {
        self.len().div_ceil(self.morsel())
    }

    fn series_of(&self, morsel: usize) -> std::ops::Range<usize> {
        let begin = morsel * self.morsel();
        begin..(begin + self.morsel()).min(self.len())
    }

    /// All rows.
    pub(crate) fn collect(self, pool: &Pool, budget: &Budget) -> Result<StepBlock, Error> {
        let (steps, nameless, one_name) = (self.steps.count, self.nameless(), self.one_name);
        let windows = matches!(self.shape, Shape::Window { .. });
        let morsels = self.morsels();
        let budget_there = budget.clone();
        let parts = pool.map(morsels, move |morsel| {
            let budget = &budget_there;
            let mut worker = Worker::default();
            let mut remarks = self.remarks();
            let mut block = StepBlock::new(steps);
            let mut row = vec![ABSENT; steps];
            let series = self.series_of(morsel);
            block.reserve(series.len(), budget)?;
            for index in series {
                check(budget, index)?;
                if self.row(index, &mut worker, budget, &mut row)? {
                    remarks.saw(&row, || self.labels(index));
                    let labels = self.labels(index);
                    block.push(if nameless { drop_name(&labels) } else { labels }, &row);
                }
            }
            Ok(block)
        })?;
        let mut block = StepBlock::new(steps);
        block.reserve(parts.iter().map(StepBlock::rows).sum(), budget)?;
        for part in parts {
            block.append(part);
        }
        if nameless && !one_name {
            if windows { block.check_unique()? } else { block.merge_same_labels()? }
        }
        Ok(block)
    }

    /// The rows aggregated by group.
    pub(crate) fn aggregate(
        self,
        op: AggregateOp,
        grouping: &Grouping,
        pool: &Pool,
        budget: &Budget,
    ) -> Result<StepBlock, Error> {
        let (steps, nameless) = (self.steps.count, self.nameless());
        let distinct = nameless && !self.one_name;
        let needs_labels = !grouping.is_single() || distinct;
        let morsels = self.morsels();
        let (grouping_there, budget_there) = (grouping.clone(), budget.clone());
        let parts = pool.map(morsels, move |morsel| {
            let (grouping, budget) = (&grouping_there, &budget_there);
            let mut worker = Worker::default();
            let mut remarks = self.remarks();
            let mut partial = Partial::new(op, steps);
            let mut hashes = Vec::new();
            let mut row = vec![ABSENT; steps];
            for index in self.series_of(morsel) {
                check(budget, index)?;
                if !self.row(index, &mut worker, budget, &mut row)? {
                    continue;
                }
                remarks.saw(&row, || self.labels(index));
                if !needs_labels {
                    partial.add_ungrouped(&row, budget)?;
                    continue;
                }
                let labels = self.labels(index);
                if distinct {
                    hashes.push(hash_without_name(&labels));
                }
                partial.add(grouping, &labels, nameless, &row, budget)?;
            }
            Ok((partial, hashes))
        })?;
        if distinct {
            check_distinct(parts.iter().flat_map(|(_, hashes)| hashes.iter().copied()).collect())?;
        }
        let mut merged = Partial::new(op, steps);
        for (partial, _) in parts {
            merged.merge(&partial, budget)?;
        }
        merged.finish(budget)
    }

    /// At which steps any series has a value.
    pub(crate) fn presence(mut self, pool: &Pool, budget: &Budget) -> Result<Vec<bool>, Error> {
        let steps = self.steps.count;
        // Nobody sees the labels, so nobody minds equal ones.
        self.one_name = true;
        let block = self.aggregate(AggregateOp::Group, &Grouping::by(&[]), pool, budget)?;
        let mut present = vec![false; steps];
        for (_, row) in block.iter() {
            for (present, cell) in present.iter_mut().zip(row) {
                *present |= !is_absent(*cell);
            }
        }
        Ok(present)
    }
}

/// The flag at each series, the clock at some.
fn check(budget: &Budget, index: usize) -> Result<(), Error> {
    if index.is_multiple_of(16) { budget.check() } else { Ok(()) }
}

/// The hash of labels that a series has without its name.
fn hash_without_name(labels: &Labels) -> u128 {
    let mut hash = SeriesHash::EMPTY;
    let mut rest = labels.as_label_bytes();
    while let Some((body, after)) = varve_model::labels::split_label(rest) {
        rest = after;
        let metadata = varve_model::labels::split_body(body)
            .is_some_and(|(name, _)| std::str::from_utf8(name).is_ok_and(is_metadata));
        if !metadata {
            hash.add_body(body);
        }
    }
    hash.0
}

/// Fails when two hashes of label sets are equal.
fn check_distinct(mut hashes: Vec<u128>) -> Result<(), Error> {
    hashes.sort_unstable();
    if hashes.windows(2).any(|pair| pair[0] == pair[1]) { Err(same_labelset()) } else { Ok(()) }
}

/// The newest sample of each step within the lookback; absent when it is a stale marker or a histogram.
fn newest(column: &Column, steps: Steps, reach: Reach, lookback: i64, want_time: bool, row: &mut [f64]) {
    let (times, values) = (&column.times[..], &column.values[..]);
    let mut taken = times.partition_point(|time| *time <= reach.look(steps.start));
    for (step, cell) in row.iter_mut().enumerate() {
        let end = reach.look(steps.time(step));
        while taken < times.len() && times[taken] <= end {
            taken += 1;
        }
        *cell = ABSENT;
        if taken == 0 {
            continue;
        }
        let (time, value) = (times[taken - 1], values[taken - 1]);
        if time <= end.saturating_sub(lookback) || is_stale(value) || newer_histogram(column, time, end) {
            continue;
        }
        *cell = if want_time { time as f64 / 1000.0 } else { value };
    }
}

/// Whether a histogram sample lies in `(time, end]`.
fn newer_histogram(column: &Column, time: Millis, end: Millis) -> bool {
    if column.histograms.is_empty() {
        return false;
    }
    let at = column.histograms.partition_point(|(t, _)| *t <= end);
    at.checked_sub(1).and_then(|at| column.histograms.get(at)).is_some_and(|(t, _)| *t > time)
}
