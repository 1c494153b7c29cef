//! Windows with histograms: what the functions over range vectors make of them, alone or among floats.
//!
//! Comes after the floats were looked at, and only where a series has histograms: it overwrites the cells of those
//! windows in which there is one. What is to be told about a series is collected over its windows and told once.

use std::cell::OnceCell;

use varve_model::histogram::ResetHint;
use varve_model::{Column, Histogram, Millis};

use super::extended::Around;
use super::rate::{Reach, Shape};
use super::{RangeFunction, Window, Windows, started};
use crate::annotation::{Annotation, Notes, Operation};
use crate::error::Error;
use crate::exec::block::{ABSENT, Histograms};
use crate::histogram::{self, Incompatible, Mean, Sum, is_custom};

pub(crate) use around::smooth;

mod around;

/// Where remarks go, and whose they are.
pub(crate) struct About<'a> {
    /// About the range.
    pub(crate) notes: &'a Notes,
    /// The metric name.
    pub(crate) name: &'a dyn Fn() -> String,
}

/// An annotation about a metric.
type OfMetric = fn(String) -> Annotation;

/// What is to be told about a series.
#[derive(Clone, Copy, Default)]
struct Remarks {
    mixed: bool,
    ignored: bool,
    not_counter: bool,
    not_gauge: bool,
    mixed_buckets: bool,
    reconciled: [bool; 3],
    collision: bool,
    /// In how many windows start timestamps overlap.
    overlapping: u64,
}

const OPERATIONS: [Operation; 3] = [Operation::Addition, Operation::Subtraction, Operation::Aggregation];

impl Remarks {
    fn reconcile(&mut self, operation: Operation, reconciled: bool) {
        for (told, of) in self.reconciled.iter_mut().zip(OPERATIONS) {
            *told |= reconciled && of == operation;
        }
    }

    fn merge(&mut self, other: Remarks) {
        self.mixed |= other.mixed;
        self.ignored |= other.ignored;
        self.not_counter |= other.not_counter;
        self.not_gauge |= other.not_gauge;
        self.mixed_buckets |= other.mixed_buckets;
        self.collision |= other.collision;
        self.overlapping += other.overlapping;
        self.reconciled.iter_mut().zip(other.reconciled).for_each(|(told, other)| *told |= other);
    }

    fn tell(&self, about: &About<'_>) {
        let named: [(bool, OfMetric); 5] = [
            (self.mixed, Annotation::MixedFloatsHistograms),
            (self.ignored, Annotation::HistogramIgnoredInMixedRange),
            (self.not_counter, Annotation::NativeHistogramNotCounter),
            (self.not_gauge, Annotation::NativeHistogramNotGauge),
            (self.mixed_buckets, Annotation::MixedExponentialCustomHistograms),
        ];
        for (_, annotation) in named.into_iter().filter(|(said, _)| *said) {
            about.notes.add(&annotation((about.name)()));
        }
        if self.overlapping > 0 {
            about.notes.add_times(&Annotation::StartTimeOverlap((about.name)()), self.overlapping);
        }
        if self.collision {
            about.notes.add(&Annotation::CounterResetCollision(Operation::Aggregation));
        }
        for (_, operation) in self.reconciled.into_iter().zip(OPERATIONS).filter(|(said, _)| *said) {
            about.notes.add(&Annotation::MismatchedCustomBuckets(operation));
        }
    }
}

/// What a function says of a window with histograms.
enum Cell {
    /// What it said of the floats.
    AsFloats,
    Absent,
    Float(f64),
    /// One of the column's histograms.
    Stored(usize),
    Histogram(Histogram),
}

/// A window over both kinds.
struct Mixed<'a> {
    floats: Window,
    histograms: Window,
    column: &'a Column,
    times: &'a [Millis],
    resets: &'a OnceCell<Vec<bool>>,
    /// Whether start timestamps tell of resets.
    starts: bool,
}

/// How windows are looked at.
#[derive(Clone, Copy)]
pub(crate) struct View {
    /// `anchored` or `smoothed`.
    pub(crate) around: Option<Around>,
    /// Whether start timestamps tell of resets.
    pub(crate) starts: bool,
}

/// Evaluates `function` over the windows of a column that have histograms.
pub(crate) fn slide(
    function: RangeFunction,
    column: &Column,
    windows: &Windows<'_>,
    view: View,
    about: &About<'_>,
    histograms: &mut Histograms,
    out: &mut [f64],
) -> Result<(), Error> {
    let times: Vec<Millis> = column.histograms.iter().map(|(time, _)| *time).collect();
    let looked_at = view.around.map_or(*windows, |around| around.widen(windows));
    let mut floats = Vec::with_capacity(windows.steps.count);
    looked_at.each(&column.times, |window| floats.push(window));
    let resets = OnceCell::new();
    let starts =
        view.starts && function.heeds_starts() && !(column.starts.is_empty() && column.histogram_starts.is_empty());
    let mut remarks = Remarks::default();
    let mut stored: Option<(usize, f64)> = None;
    let mut failed = Ok(());
    looked_at.each(&times, |window| {
        let Some(floats) = floats.get(window.step).filter(|_| window.lo < window.hi && failed.is_ok()) else { return };
        let mixed = Mixed { floats: *floats, histograms: window, column, times: &times, resets: &resets, starts };
        let evaluated = match view.around {
            Some(around) => mixed.around(function, around.modifier, windows, &mut remarks),
            None => mixed.evaluate(function, windows, &mut remarks),
        };
        let cell = match evaluated {
            Cell::AsFloats => return,
            Cell::Absent => Ok(ABSENT),
            Cell::Float(value) => Ok(value),
            Cell::Stored(at) => match (stored, column.histograms.get(at)) {
                (Some((before, cell)), _) if before == at => Ok(cell),
                (_, Some((_, histogram))) => histograms.push(histogram.clone(), windows.budget),
                _ => Ok(ABSENT),
            }
            .inspect(|cell| stored = Some((at, *cell))),
            Cell::Histogram(histogram) => histograms.push(histogram, windows.budget),
        };
        match cell {
            Ok(cell) => out[window.step] = cell,
            Err(error) => failed = Err(error),
        }
    });
    remarks.tell(about);
    failed
}

impl Mixed<'_> {
    fn has_floats(&self) -> bool {
        self.floats.lo < self.floats.hi
    }

    fn float_times(&self) -> &[Millis] {
        self.column.times.get(self.floats.lo..self.floats.hi).unwrap_or_default()
    }

    fn samples(&self) -> &[(Millis, Histogram)] {
        self.column.histograms.get(self.histograms.lo..self.histograms.hi).unwrap_or_default()
    }

    /// Start timestamp and time of histogram `at` of the column.
    fn told(&self, at: usize) -> (Millis, Millis) {
        let start = self.column.histogram_starts.get(at).copied().unwrap_or(0);
        (start, self.times.get(at).copied().unwrap_or(0))
    }

    /// Whether the counter was reset before histogram `at` of the column; found out once a column.
    fn is_reset(&self, at: usize) -> bool {
        let resets = self.resets.get_or_init(|| {
            let pairs = self.column.histograms.windows(2).enumerate();
            let after = pairs.map(|(at, pair)| {
                (self.starts && started::is_reset(self.told(at), self.told(at + 1)))
                    || histogram::is_reset(&pair[1].1, &pair[0].1)
            });
            std::iter::once(false).chain(after).collect()
        });
        resets.get(at).copied().unwrap_or(false)
    }

    fn evaluate(&self, function: RangeFunction, windows: &Windows<'_>, remarks: &mut Remarks) -> Cell {
        use RangeFunction as F;
        let (first, last) = (self.histograms.lo, self.histograms.hi - 1);
        let (first_time, last_time) = (self.times[first], self.times[last]);
        let floats = self.float_times();
        let (first_float, last_float) = (floats.first().copied(), floats.last().copied());
        match function {
            F::Count => Cell::Float((self.samples().len() + floats.len()) as f64),
            F::Present => Cell::Float(1.0),
            F::TimeOfFirst => Cell::Float(first_float.map_or(first_time, |t| t.min(first_time)) as f64 / 1000.0),
            F::TimeOfLast => Cell::Float(last_float.map_or(last_time, |t| t.max(last_time)) as f64 / 1000.0),
            F::First if first_float.is_some_and(|time| time < first_time) => Cell::AsFloats,
            F::First => Cell::Stored(first),
            F::Last if last_float.is_some_and(|time| time > last_time) => Cell::AsFloats,
            F::Last => Cell::Stored(last),
            F::Irate | F::Idelta => self.instant(function == F::Irate, remarks),
            F::Changes => Cell::Float(self.count_pairs(
                |a, b| a != b && !(a.is_nan() && b.is_nan()),
                |at| {
                    let pair = (
                        self.column.histograms.get(at),
                        at.checked_sub(1).and_then(|at| self.column.histograms.get(at)),
                    );
                    matches!(pair, (Some((_, now)), Some((_, before))) if !histogram::equal(now, before))
                },
            )),
            F::Resets => Cell::Float(self.count_pairs(|a, b| b < a, |at| self.is_reset(at))),
            F::Rate | F::Increase | F::Delta | F::Sum | F::Avg if self.has_floats() => {
                remarks.mixed = true;
                Cell::Absent
            }
            F::Rate | F::Increase | F::Delta => {
                let mut told = Remarks::default();
                let result = self.extrapolated(function != F::Delta, function == F::Rate, windows, &mut told);
                remarks.merge(told);
                result.map_or(Cell::Absent, Cell::Histogram)
            }
            F::Sum | F::Avg => match self.total(function == F::Avg, remarks) {
                Ok(total) => Cell::Histogram(total),
                Err(Incompatible) => {
                    remarks.mixed_buckets = true;
                    Cell::Absent
                }
            },
            F::Min
            | F::Max
            | F::Stddev
            | F::Stdvar
            | F::Quantile
            | F::Mad
            | F::TimeOfMax
            | F::TimeOfMin
            | F::Deriv
            | F::PredictLinear
            | F::Smoothing => {
                remarks.ignored |= self.has_floats();
                Cell::AsFloats
            }
        }
    }

    /// `sum_over_time`, `avg_over_time`
    fn total(&self, mean: bool, remarks: &mut Remarks) -> Result<Histogram, Incompatible> {
        let Some(((_, first), rest)) = self.samples().split_first() else { return Err(Incompatible) };
        let (total, told) = if mean {
            let mut mean = Mean::of(first);
            rest.iter().try_for_each(|(_, histogram)| mean.add(histogram))?;
            (mean.finish(), mean.remarks())
        } else {
            let mut sum = Sum::of(first);
            rest.iter().try_for_each(|(_, histogram)| sum.add(histogram))?;
            (sum.finish(), sum.remarks())
        };
        remarks.collision |= told.collision;
        remarks.reconcile(Operation::Aggregation, told.reconciled);
        Ok(total)
    }

    /// `rate`, `increase`, `delta`: as for floats, zero being reached where the count of observations reaches it.
    fn extrapolated(
        &self,
        counter: bool,
        per_second: bool,
        windows: &Windows<'_>,
        remarks: &mut Remarks,
    ) -> Option<Histogram> {
        let samples = self.samples();
        if let Some(start) = self.begins_within(counter, windows) {
            return self.extrapolated_from(start, per_second, windows, remarks);
        }
        let [(first_time, first), .., (last_time, _)] = samples else { return None };
        let mut result = self.increase(counter, remarks)?;
        let shape = Shape {
            before: first_time - self.histograms.end.saturating_sub(windows.range),
            sampled: last_time - first_time,
            after: self.histograms.end - last_time,
            count: samples.len(),
        };
        let per_second = per_second.then_some(windows.range as f64 / 1000.0);
        let reach = Reach::of(shape, per_second);
        let mut factor = reach.factor;
        if counter && result.count > 0.0 && first.count >= 0.0 {
            let to_zero = reach.sampled * (first.count / result.count);
            if to_zero < reach.to_start {
                factor = reach.factor(to_zero, per_second);
            }
        }
        histogram::multiply(&mut result, factor);
        Some(result)
    }

    /// When the counter began, if its first sample in the window says that it was within the window.
    fn begins_within(&self, counter: bool, windows: &Windows<'_>) -> Option<Millis> {
        let (start, time) = self.told(self.histograms.lo);
        let begin = self.histograms.end.saturating_sub(windows.range);
        Some(start).filter(|start| self.starts && counter && *start != 0 && *start > begin && *start < time)
    }

    /// The increase from a counter that began empty at `start`, extrapolated to the end of the window.
    fn extrapolated_from(
        &self,
        start: Millis,
        per_second: bool,
        windows: &Windows<'_>,
        remarks: &mut Remarks,
    ) -> Option<Histogram> {
        let samples = self.samples();
        let ((first_time, first), (last_time, _)) = (samples.first()?, samples.last()?);
        let mut result = first.clone();
        if samples.len() > 1 {
            result = self.increase(true, remarks)?;
            match histogram::add(&mut result, first) {
                Ok(told) => remarks.reconcile(Operation::Addition, told.reconciled),
                Err(Incompatible) => {
                    remarks.mixed_buckets = true;
                    return None;
                }
            }
        }
        let gaps = samples.len() - 1;
        let distance = if gaps > 0 { (last_time - first_time) as f64 / 1000.0 / gaps as f64 } else { 0.0 };
        let sampled = (last_time - start) as f64 / 1000.0;
        let mut to_end = (self.histograms.end - last_time) as f64 / 1000.0;
        if to_end >= distance * 1.1 {
            to_end = distance / 2.0;
        }
        let factor = (sampled + to_end) / sampled;
        let seconds = windows.range as f64 / 1000.0;
        histogram::multiply(&mut result, if per_second { factor / seconds } else { factor });
        Some(result)
    }

    /// The difference between the last and the first histogram, and what resets between them hide.
    fn increase(&self, counter: bool, remarks: &mut Remarks) -> Option<Histogram> {
        let samples = self.samples();
        let [(_, first), middle @ .., (_, last)] = samples else { return None };
        let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
        remarks.not_counter |= counter && (is_gauge(first) || is_gauge(last));
        // After a reset right behind it the first histogram does not count, whatever its buckets.
        let restarted = counter && self.is_reset(self.histograms.lo + 1);
        let empty = samples.get(1).filter(|_| restarted).map(|(_, second)| Histogram {
            schema: second.schema,
            custom_bounds: second.custom_bounds.clone(),
            ..Histogram::default()
        });
        let base = empty.as_ref().unwrap_or(first);
        if is_custom(last) != is_custom(base) {
            remarks.mixed_buckets = true;
            return None;
        }
        let mut schema = last.schema.min(base.schema);
        if counter {
            for (_, histogram) in middle {
                if is_custom(histogram) != is_custom(base) {
                    *remarks = Remarks { mixed_buckets: true, ..Remarks::default() };
                    return None;
                }
                remarks.not_counter |= is_gauge(histogram);
                schema = schema.min(histogram.schema);
            }
        } else if !is_gauge(first) || !is_gauge(last) {
            remarks.not_gauge = true;
        }
        let mut result = histogram::reduce(last, schema);
        // Hints that contradict each other are no news here: resets are looked at one by one.
        let told = histogram::subtract(&mut result, base).ok()?;
        remarks.reconcile(Operation::Subtraction, told.reconciled);
        if counter {
            let mut pairs = self.histograms.lo + 1..self.histograms.hi;
            let overlap = |at| started::overlaps(self.told(at - 1), self.told(at).0);
            remarks.overlapping += u64::from(self.starts && pairs.any(overlap));
            // Negative counts (of a subquery) fall below even the empty histogram that took the first one's place.
            if let (Some(empty), Some((_, second))) = (&empty, samples.get(1)) {
                let second = Histogram { reset_hint: ResetHint::Unknown, ..second.clone() };
                if histogram::is_reset(&second, empty) {
                    let told = histogram::add(&mut result, empty).ok()?;
                    remarks.reconcile(Operation::Addition, told.reconciled);
                }
            }
            for (at, (_, before)) in samples.iter().enumerate().skip(1) {
                if self.is_reset(self.histograms.lo + at + 1) && at + 1 < samples.len() {
                    let told = histogram::add(&mut result, before).ok()?;
                    remarks.reconcile(Operation::Addition, told.reconciled);
                }
            }
        }
        result.reset_hint = ResetHint::Gauge;
        histogram::compact(&mut result);
        Some(result)
    }

    /// `irate`, `idelta`: of the last two samples, if both are histograms.
    fn instant(&self, counter: bool, remarks: &mut Remarks) -> Cell {
        let floats = self.float_times();
        if floats.len() + self.samples().len() < 2 {
            return Cell::Absent;
        }
        let histogram_times = self.times.get(self.histograms.lo..self.histograms.hi).unwrap_or_default();
        // Which of the two kinds each of the last two samples is.
        let last_float = floats.last().copied().unwrap_or(Millis::MIN);
        let before_float = floats.iter().rev().nth(1).copied().unwrap_or(Millis::MIN);
        let last = histogram_times.last().copied().unwrap_or(Millis::MIN);
        let before = histogram_times.iter().rev().nth(1).copied().unwrap_or(Millis::MIN);
        if before_float > last {
            return Cell::AsFloats;
        }
        let [.., (before_time, before_of), (last_time, last_of)] = self.samples() else {
            remarks.mixed = true;
            return Cell::Absent;
        };
        if last_float > before {
            remarks.mixed = true;
            return Cell::Absent;
        }
        let both = |test: fn(ResetHint) -> bool| test(last_of.reset_hint) && test(before_of.reset_hint);
        remarks.not_counter |= counter && !both(|hint| hint != ResetHint::Gauge);
        remarks.not_gauge |= !counter && !both(|hint| hint == ResetHint::Gauge);
        let mut result = last_of.clone();
        if !counter || !self.is_reset(self.histograms.hi - 1) {
            match histogram::subtract(&mut result, before_of) {
                Ok(told) => remarks.reconcile(Operation::Subtraction, told.reconciled),
                Err(Incompatible) => {
                    remarks.mixed_buckets = true;
                    return Cell::Absent;
                }
            }
        }
        result.reset_hint = ResetHint::Gauge;
        histogram::compact(&mut result);
        if counter {
            histogram::divide(&mut result, (last_time - before_time) as f64 / 1000.0);
        }
        Cell::Histogram(result)
    }

    /// Counts neighbours for which the test of their kind holds, and those of unequal kind. Histograms are told by
    /// the place of the later one.
    fn count_pairs(&self, of_floats: impl Fn(f64, f64) -> bool, of_histograms: impl Fn(usize) -> bool) -> f64 {
        let mut floats = (self.floats.lo..self.floats.hi).peekable();
        let mut histograms = (self.histograms.lo..self.histograms.hi).peekable();
        let mut count = 0u64;
        let mut before: Option<Option<f64>> = None;
        loop {
            let float_time = floats.peek().and_then(|at| self.column.times.get(*at));
            let histogram_time = histograms.peek().and_then(|at| self.times.get(*at));
            let float_next = match (float_time, histogram_time) {
                (Some(float), Some(histogram)) => float < histogram,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return count as f64,
            };
            let (now, holds) = if float_next {
                let value = floats.next().and_then(|at| self.column.values.get(at)).copied().unwrap_or(f64::NAN);
                (Some(value), matches!(before, Some(Some(before)) if of_floats(before, value)))
            } else {
                let at = histograms.next().unwrap_or_default();
                // The pair is one of neighbours in the column, too, unless floats lay between, which are no pair.
                (None, matches!(before, Some(None)) && of_histograms(at))
            };
            let other_kind = before.is_some_and(|before| before.is_some() != now.is_some());
            count += u64::from(holds || other_kind);
            before = Some(now);
        }
    }
}
