//! Scan: reads series in morsels, turns each into a row of steps, and either keeps the rows or aggregates them on the
//! spot, so that `sum by (x) (rate(y[5m]))` never holds more than its groups.
//!
//! Cost per series: one read of its column, one pass over steps and samples; labels are touched only if they are
//! needed. Morsels are cut by series number alone and merged in order, so an answer does not depend on threads.

use std::sync::Arc;

use varve_model::histogram::ResetHint;
use varve_model::{Column, Histogram, Labels, Millis, SeriesHash, TimeRange, is_stale};

use crate::annotation::{Annotation, Notes};
use crate::budget::{Budget, Held};
use crate::error::Error;
use crate::exec::aggregate::Partial;
use crate::exec::block::{
    ABSENT, Histograms, Row, StepBlock, any_present, derived, is_absent, is_described, is_histogram, is_metadata,
    same_labelset,
};
use crate::exec::grouping::Grouping;
use crate::exec::pool::Pool;
use crate::exec::remarks::Remarks;
use crate::exec::scalar::Scalar;
use crate::exec::steps::{Reach, Steps};
use crate::exec::window::native::{self, About, View};
use crate::exec::window::{self, Around, RangeFunction, Scratch, Windows};
use crate::histogram;
use crate::promql::ast::{AggregateOp, Extended};
use crate::request::Features;
use crate::source::SeriesSet;
use crate::step_counts::StepCounts;

/// Where samples come from.
pub(crate) enum Input {
    /// Stored series.
    Stored(Arc<dyn SeriesSet>),
    /// The rows of a subquery, evaluated at these steps.
    Rows(Arc<StepBlock>, Steps),
}

/// What becomes of a series' samples.
pub(crate) enum Shape {
    /// The newest sample within the lookback.
    Newest {
        /// Lookback in milliseconds.
        lookback: i64,
        /// What of it is wanted.
        wanted: Wanted,
    },
    /// The value on the line between the samples around each step.
    Smoothed {
        /// Lookback in milliseconds, to either side.
        lookback: i64,
    },
    /// A function over windows.
    Window {
        /// Which.
        function: RangeFunction,
        /// How far back, in milliseconds.
        range: i64,
        /// Scalar arguments, one value a step.
        arguments: Vec<Scalar>,
        /// `anchored` or `smoothed`.
        around: Option<Around>,
        /// Whether start timestamps tell of resets.
        starts: bool,
    },
}

/// What of a sample is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Its value.
    Value,
    /// Its time in seconds, of a series that loses its name.
    Time,
    /// Its start timestamp in seconds, 0 where unknown, of a series that loses its name.
    Start,
    /// Its time in milliseconds; it must not be a histogram.
    InfoTime,
}

impl Wanted {
    /// What is wanted of a float sample.
    #[inline]
    fn of(self, time: Millis, value: f64, start: impl FnOnce() -> Millis) -> f64 {
        match self {
            Wanted::Value => value,
            Wanted::Time => time as f64 / 1000.0,
            Wanted::Start => start() as f64 / 1000.0,
            Wanted::InfoTime => time as f64,
        }
    }
}

impl Shape {
    /// How far before a step and how far behind it samples are looked at, in milliseconds.
    pub(crate) fn span(&self) -> (i64, i64) {
        match self {
            Shape::Newest { lookback, .. } => (*lookback, 0),
            Shape::Smoothed { lookback } => (*lookback, *lookback),
            Shape::Window { range, around, .. } => match around {
                Some(around) => (range.saturating_add(around.before()), around.behind()),
                None => (*range, 0),
            },
        }
    }
}

/// A scan, ready to run.
pub(crate) struct Scan {
    pub(crate) input: Input,
    pub(crate) shape: Shape,
    pub(crate) steps: Steps,
    pub(crate) reach: Reach,
    /// Whether all series have one metric name, so that they stay distinct without it.
    pub(crate) one_name: bool,
    /// Whether nobody sees the labels, so that nobody minds equal ones.
    pub(crate) anonymous: bool,
    /// Where its remarks go: about the range that a function is given.
    pub(crate) notes: Notes,
    /// What is on.
    pub(crate) features: Features,
    /// Whether nobody looks at the buckets of its histograms.
    pub(crate) totals: bool,
    /// Where samples are counted by step, if they are.
    pub(crate) counts: Option<Arc<StepCounts>>,
}

/// Memory of one morsel, reused from series to series.
#[derive(Default)]
struct Worker {
    column: Column,
    scratch: Scratch,
    /// Histograms of the row.
    histograms: Histograms,
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
            Shape::Newest { wanted, .. } => matches!(wanted, Wanted::Time | Wanted::Start),
            Shape::Smoothed { .. } => false,
            Shape::Window { function, .. } => !function.keeps_name(),
        }
    }

    /// Which rows may come to have equal labels.
    fn twins(&self) -> Twins {
        if !self.nameless() || self.anonymous || self.features.delayed_name_removal {
            Twins::None
        } else if self.one_name {
            Twins::Described
        } else {
            Twins::Possible
        }
    }

    /// Times that can be looked at.
    fn range(&self) -> TimeRange {
        let (back, ahead) = self.shape.span();
        let first = self.reach.look(self.steps.start);
        let last = self.reach.look(self.steps.last());
        TimeRange { min: first.saturating_sub(back).saturating_add(1), max: last.saturating_add(ahead) }
    }

    /// Series per morsel: enough work to be worth a ticket, few enough to share out.
    fn morsel(&self) -> usize {
        match (&self.input, self.newest_suffices()) {
            (Input::Stored(_), true) => 2048,
            _ => 128,
        }
    }

    /// Whether the newest sample alone decides, so that nothing need be decoded.
    pub(crate) fn newest_suffices(&self) -> bool {
        let newest = match &self.shape {
            Shape::Newest { wanted, .. } => *wanted != Wanted::Start,
            Shape::Smoothed { .. } => false,
            Shape::Window { function, .. } => *function == RangeFunction::Last,
        };
        // A window is counted whole.
        let counted = self.counts.is_some() && matches!(self.shape, Shape::Window { .. });
        newest && self.steps.count == 1 && !counted
    }

    /// Prepares the histograms of a stored column: what their hints mean, and how much of them is wanted.
    fn settle(&self, set: &dyn SeriesSet, index: usize, column: &mut Column) -> Result<(), Error> {
        if self.totals {
            // The sample before tells of a reset, even where it is too old to be the answer.
            let range = self.range();
            let (back, _) = self.shape.span();
            set.read(index, TimeRange { min: range.min.saturating_sub(back), max: range.max }, column)?;
        }
        histogram::derive_hints(column);
        if self.totals {
            histogram::keep_totals(column);
        }
        Ok(())
    }

    /// Fills `row` for a series, with its histograms in the worker; `false` when no cell is present.
    fn row(&self, index: usize, worker: &mut Worker, budget: &Budget, row: &mut [f64]) -> Result<bool, Error> {
        let range = self.range();
        worker.histograms.clear();
        let _held_histograms = match &self.input {
            Input::Stored(set) => {
                if self.newest_suffices()
                    && let Some(newest) = set.newest(index, range)
                {
                    match newest {
                        None => return Ok(false),
                        Some((time, value)) if !is_stale(value) => {
                            budget.read(1)?;
                            row[0] = match self.shape {
                                Shape::Newest { wanted, .. } => wanted.of(time, value, || 0),
                                _ => value,
                            };
                            quiet(row);
                            if let Some(counts) = &self.counts {
                                counts.add_sample(0);
                            }
                            return Ok(!is_absent(row[0]));
                        }
                        // A stale marker ends an instant selector's series, but a window looks behind it.
                        Some(_) if matches!(self.shape, Shape::Newest { .. }) => return Ok(false),
                        Some(_) => {}
                    }
                }
                set.read(index, range, &mut worker.column)?;
                if !worker.column.histograms.is_empty() {
                    self.settle(set.as_ref(), index, &mut worker.column)?;
                }
                budget.read(worker.column.len() as u64)?;
                let read = worker.column.histograms.iter().map(|(_, histogram)| histogram);
                hold_histograms(read, worker.column.histograms.is_empty(), budget)?
            }
            Input::Rows(block, steps) => {
                worker.column.clear();
                // Cells share histograms; the column has one for each.
                let shared = block.row(index).iter().filter_map(|cell| block.histograms().get(*cell));
                let held = hold_histograms(shared.map(Arc::as_ref), !block.has_histograms(), budget)?;
                for (step, cell) in block.row(index).iter().enumerate() {
                    if let Some(histogram) = block.histograms().get(*cell) {
                        // Between its steps a subquery may miss a reset, or tell one twice.
                        let mut histogram = histogram.as_ref().clone();
                        if histogram.reset_hint != ResetHint::Gauge {
                            histogram.reset_hint = ResetHint::Unknown;
                        }
                        worker.column.histograms.push((steps.time(step), histogram));
                    } else if !is_absent(*cell) {
                        worker.column.times.push(steps.time(step));
                        worker.column.values.push(*cell);
                    }
                }
                held
            }
        };
        if worker.column.is_empty() {
            return Ok(false);
        }
        // Long columns are worth accounting for, and may take long; the usual ones are not worth the traffic.
        let long = worker.column.len() > 512;
        // Times, values, start timestamps, and what a function prepares.
        let _held = if long { Some(budget.hold_cells(worker.column.len(), 4)?) } else { None };
        let Worker { column, scratch, histograms } = worker;
        match &self.shape {
            Shape::Newest { lookback, wanted } => {
                newest(column, self.steps, self.reach, *lookback, *wanted, row);
                quiet(row);
                if !column.histograms.is_empty() {
                    let shape = (self.steps, self.reach, *lookback, *wanted);
                    newest_histograms(column, shape, histograms, budget, &|| self.labels(index), row)?;
                }
                if let Some(counts) = &self.counts {
                    count_newest(counts, row, histograms);
                }
            }
            Shape::Smoothed { lookback } => {
                window::drop_stale(column);
                let windows = Windows { steps: self.steps, reach: self.reach, range: *lookback, budget };
                window::smooth(&column.times, &column.values, &windows, row);
                quiet(row);
                if !column.histograms.is_empty() {
                    let around = Around { modifier: Extended::Smoothed, lookback: *lookback };
                    let name = || self.labels(index).metric_name().to_owned();
                    let about = About { notes: &self.notes, name: &name };
                    native::smooth(column, around, &windows, &about, histograms, row)?;
                }
                if let Some(counts) = &self.counts {
                    count_newest(counts, row, histograms);
                }
            }
            Shape::Window { function, range, arguments, around, starts } => {
                window::drop_stale(column);
                if let Some(counts) = &self.counts {
                    let end = |step| self.reach.look(self.steps.time(step));
                    counts.add_windows(column, *range, &end, matches!(self.input, Input::Stored(_)));
                }
                let windows = Windows { steps: self.steps, reach: self.reach, range: *range, budget };
                let name = || self.labels(index).metric_name().to_owned();
                let heeds_starts = *starts;
                let starts = heeds_starts && !column.starts.is_empty();
                match around {
                    Some(around) => window::slide_around(*function, *around, column, &windows, starts, row),
                    None if starts && function.heeds_starts() => {
                        let overlapping = window::slide_started(*function, column, &windows, row);
                        if overlapping > 0 {
                            self.notes.add_times(&Annotation::StartTimeOverlap(name()), overlapping);
                        }
                    }
                    None => window::slide(*function, column, &windows, arguments, scratch, row),
                }
                quiet(row);
                if !column.histograms.is_empty() {
                    let about = About { notes: &self.notes, name: &name };
                    let view = View { around: *around, starts: heeds_starts };
                    native::slide(*function, column, &windows, view, &about, histograms, row)?;
                }
                if long {
                    budget.check()?;
                }
            }
        }
        Ok(any_present(row))
    }

    fn remarks(&self) -> Remarks<'_> {
        let one_name = self.one_name && matches!(self.input, Input::Stored(_));
        let (function, argument) = match &self.shape {
            Shape::Newest { .. } | Shape::Smoothed { .. } => (None, &[][..]),
            Shape::Window { function, arguments, .. } => {
                (Some(*function), arguments.first().map(|argument| &argument[..]).unwrap_or_default())
            }
        };
        Remarks::new(function, argument, self.features.type_and_unit_labels, one_name, &self.notes)
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
        let (steps, nameless, twins) = (self.steps.count, self.nameless(), self.twins());
        let late = self.features.delayed_name_removal;
        let windows = matches!(self.shape, Shape::Window { .. });
        let morsels = self.morsels();
        let budget_there = budget.clone();
        let parts = pool.map(morsels, move |morsel| {
            let budget = &budget_there;
            let mut worker = Worker::default();
            let mut remarks = self.remarks();
            let mut block = StepBlock::new(steps);
            let mut row = vec![ABSENT; steps];
            let mut described = false;
            let series = self.series_of(morsel);
            block.reserve(series.len(), budget)?;
            for index in series {
                check(budget, index)?;
                if self.row(index, &mut worker, budget, &mut row)? {
                    remarks.saw(&row, || self.labels(index));
                    let labels = self.labels(index);
                    described |= twins == Twins::Described && is_described(&labels);
                    let labels = if nameless { derived(&labels, late) } else { labels };
                    block.push_row(labels, &mut row, &mut worker.histograms, budget)?;
                }
            }
            block.settle(budget)?;
            // A row that took too long was left half done.
            budget.check()?;
            Ok((block, described))
        })?;
        let possible = twins == Twins::Possible || parts.iter().any(|(_, described)| *described);
        let mut block = StepBlock::new(steps);
        block.reserve(parts.iter().map(|(part, _)| part.rows()).sum(), budget)?;
        for (part, _) in parts {
            block.append(part, budget)?;
        }
        if possible {
            if windows { block.check_unique()? } else { block.merge_same_labels()? }
        }
        Ok(block)
    }

    /// The rows aggregated by group.
    pub(crate) fn aggregate(
        self,
        op: AggregateOp,
        grouping: &Grouping,
        notes: &Notes,
        pool: &Pool,
        budget: &Budget,
    ) -> Result<StepBlock, Error> {
        let (steps, nameless, twins) = (self.steps.count, self.nameless(), self.twins());
        let late = self.features.delayed_name_removal;
        let needs_labels = !grouping.is_single() || twins != Twins::None;
        let morsels = self.morsels();
        let scan = Arc::new(self);
        let (scan_there, grouping_there, budget_there) = (Arc::clone(&scan), grouping.clone(), budget.clone());
        let parts = pool.map(morsels, move |morsel| {
            let (scan, grouping, budget) = (&scan_there, &grouping_there, &budget_there);
            let mut worker = Worker::default();
            let mut remarks = scan.remarks();
            let mut partial = Partial::new(op, steps);
            let mut seen = Seen::default();
            let mut row = vec![ABSENT; steps];
            for index in scan.series_of(morsel) {
                check(budget, index)?;
                if !scan.row(index, &mut worker, budget, &mut row)? {
                    continue;
                }
                remarks.saw(&row, || scan.labels(index));
                let row = Row { cells: &row, histograms: &worker.histograms };
                if !needs_labels && worker.histograms.is_empty() {
                    partial.add_ungrouped(row, budget)?;
                    continue;
                }
                let labels = scan.labels(index);
                seen.see(twins, index, &labels);
                if grouping.is_single() && worker.histograms.is_empty() {
                    partial.add_ungrouped(row, budget)?;
                } else if late {
                    let labels = if nameless { derived(&labels, true) } else { labels };
                    partial.add_late(grouping, &labels, row, budget)?;
                } else {
                    partial.add(grouping, &labels, nameless, row, budget)?;
                }
            }
            // A row that took too long was left half done.
            budget.check()?;
            Ok((partial, seen))
        })?;
        let mut merged = Partial::new(op, steps);
        let mut seen = Seen::default();
        for (partial, seen_there) in parts {
            budget.check()?;
            merged.merge(&partial, budget)?;
            seen.merge(seen_there);
        }
        seen.check(&|index| scan.labels(index))?;
        merged.finish(notes, budget)
    }

    /// At which steps any series has a value.
    pub(crate) fn presence(mut self, pool: &Pool, budget: &Budget) -> Result<Vec<bool>, Error> {
        let steps = self.steps.count;
        self.anonymous = true;
        let block = self.aggregate(AggregateOp::Group, &Grouping::by(&[]), &Notes::default(), pool, budget)?;
        let mut present = vec![false; steps];
        for (_, row) in block.iter() {
            for (present, cell) in present.iter_mut().zip(row) {
                *present |= !is_absent(*cell);
            }
        }
        Ok(present)
    }
}

/// Counts the cells of an instant selector.
fn count_newest(counts: &StepCounts, row: &[f64], histograms: &Histograms) {
    for (step, cell) in row.iter().enumerate().filter(|(_, cell)| !is_absent(**cell)) {
        match histograms.get(*cell) {
            Some(histogram) => counts.add_histogram(step, histogram),
            None => counts.add_sample(step),
        }
    }
}

/// Charges histograms of a column, unless there is `none`.
fn hold_histograms<'a>(
    histograms: impl Iterator<Item = &'a Histogram>,
    none: bool,
    budget: &Budget,
) -> Result<Option<Held>, Error> {
    if none { Ok(None) } else { budget.hold(histograms.map(histogram::bytes).sum()).map(Some) }
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

/// Which rows of a scan may come to have equal labels, because they lose those that describe the metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Twins {
    /// None.
    None,
    /// All have one name: only where a series has a type or a unit, which few have.
    Described,
    /// Any.
    Possible,
}

/// What is remembered of rows to tell whether their labels stay distinct.
#[derive(Default)]
struct Seen {
    /// Hashes of the labels that are left, where any may be equal.
    hashes: Vec<u128>,
    /// Where that takes a type or a unit: the rows, and whether one has any.
    rows: Vec<u32>,
    described: bool,
}

impl Seen {
    fn see(&mut self, twins: Twins, index: usize, labels: &Labels) {
        match twins {
            Twins::None => {}
            Twins::Described => {
                self.rows.push(index as u32);
                self.described |= is_described(labels);
            }
            Twins::Possible => self.hashes.push(hash_without_name(labels)),
        }
    }

    fn merge(&mut self, mut later: Seen) {
        self.hashes.append(&mut later.hashes);
        self.rows.append(&mut later.rows);
        self.described |= later.described;
    }

    /// Fails when two rows have equal labels.
    fn check(mut self, labels: &dyn Fn(usize) -> Labels) -> Result<(), Error> {
        if self.described {
            self.hashes.extend(self.rows.iter().map(|row| hash_without_name(&labels(*row as usize))));
        }
        self.hashes.sort_unstable();
        if self.hashes.windows(2).any(|pair| pair[0] == pair[1]) { Err(same_labelset()) } else { Ok(()) }
    }
}

/// Makes quiet what was stored and looks like a cell of a histogram.
fn quiet(row: &mut [f64]) {
    // Without a branch, so that it runs in vector registers: there is nothing to be found.
    if row.iter().fold(false, |any, cell| any | is_histogram(*cell)) {
        row.iter_mut().filter(|cell| is_histogram(**cell)).for_each(|cell| *cell = f64::NAN);
    }
}

/// The newest float of each step within the lookback; absent when it is a stale marker.
fn newest(column: &Column, steps: Steps, reach: Reach, lookback: i64, wanted: Wanted, row: &mut [f64]) {
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
        if time <= end.saturating_sub(lookback) || is_stale(value) {
            continue;
        }
        *cell = wanted.of(time, value, || column.start(taken - 1));
    }
}

/// Puts the newest histogram of each step within the lookback where it is newer than the newest float. Takes the
/// histograms out of the column.
fn newest_histograms(
    column: &mut Column,
    (steps, reach, lookback, wanted): (Steps, Reach, i64, Wanted),
    histograms: &mut Histograms,
    budget: &Budget,
    labels: &dyn Fn() -> Labels,
    row: &mut [f64],
) -> Result<(), Error> {
    let (mut floats, mut taken) = (0, 0);
    let mut last: Option<(usize, f64)> = None;
    for (step, cell) in row.iter_mut().enumerate() {
        let end = reach.look(steps.time(step));
        while column.times.get(floats).is_some_and(|time| *time <= end) {
            floats += 1;
        }
        while column.histograms.get(taken).is_some_and(|(time, _)| *time <= end) {
            taken += 1;
        }
        let float = floats.checked_sub(1).and_then(|at| column.times.get(at)).copied();
        let Some((time, histogram)) = taken.checked_sub(1).and_then(|at| column.histograms.get_mut(at)) else {
            continue;
        };
        if float.is_some_and(|float| float > *time) {
            continue;
        }
        *cell = ABSENT;
        if *time <= end.saturating_sub(lookback) || is_stale(histogram.sum) {
            continue;
        }
        *cell = match last {
            _ if wanted == Wanted::InfoTime => {
                let text = format!("this should be an info metric, with float samples: {}", labels());
                return Err(Error::Execution(text));
            }
            _ if wanted != Wanted::Value => {
                let start = column.histogram_starts.get(taken - 1).copied().unwrap_or(0);
                wanted.of(*time, f64::NAN, || start)
            }
            Some((at, cell)) if at == taken => cell,
            _ => histograms.push(std::mem::take(histogram), budget)?,
        };
        last = Some((taken, *cell));
    }
    Ok(())
}
