//! Windows: functions over range vectors, one series and all steps at a time.
//!
//! The column of a series is read once; two indices slide over it, so finding the windows costs O(samples + steps).
//! What a function then does per window is O(1) where the result stays the same to the bit (indices, prefix counts,
//! resets, monotonic queues, prefix sums of integers), and a pass over the window in Prometheus's order otherwise.
//!
//! A window is open to the left: samples in `(end - range, end]`. Stale markers were removed before.

mod extended;
mod extremum;
pub(crate) mod native;
mod over_time;
mod rate;
mod started;
mod trend;

use varve_model::{Column, Millis, is_stale};

use crate::budget::Budget;
use crate::exec::block::ABSENT;
use crate::exec::scalar::Scalar;
use crate::exec::steps::{Reach, Steps};
use started::Started;

pub(crate) use extended::{Around, extend, refusal, smooth};
pub(crate) use over_time::quantile;

/// Functions over range vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RangeFunction {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Last,
    First,
    Present,
    Stddev,
    Stdvar,
    Quantile,
    Mad,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMax,
    TimeOfMin,
    Changes,
    Resets,
    Deriv,
    PredictLinear,
    Smoothing,
}

impl RangeFunction {
    /// By the name in the function table. `absent_over_time` asks for presence; its caller turns that around.
    pub(crate) fn named(name: &str) -> Option<RangeFunction> {
        Some(match name {
            "rate" => RangeFunction::Rate,
            "increase" => RangeFunction::Increase,
            "delta" => RangeFunction::Delta,
            "irate" => RangeFunction::Irate,
            "idelta" => RangeFunction::Idelta,
            "sum_over_time" => RangeFunction::Sum,
            "avg_over_time" => RangeFunction::Avg,
            "min_over_time" => RangeFunction::Min,
            "max_over_time" => RangeFunction::Max,
            "count_over_time" => RangeFunction::Count,
            "last_over_time" => RangeFunction::Last,
            "first_over_time" => RangeFunction::First,
            "present_over_time" | "absent_over_time" => RangeFunction::Present,
            "stddev_over_time" => RangeFunction::Stddev,
            "stdvar_over_time" => RangeFunction::Stdvar,
            "quantile_over_time" => RangeFunction::Quantile,
            "mad_over_time" => RangeFunction::Mad,
            "ts_of_first_over_time" => RangeFunction::TimeOfFirst,
            "ts_of_last_over_time" => RangeFunction::TimeOfLast,
            "ts_of_max_over_time" => RangeFunction::TimeOfMax,
            "ts_of_min_over_time" => RangeFunction::TimeOfMin,
            "changes" => RangeFunction::Changes,
            "resets" => RangeFunction::Resets,
            "deriv" => RangeFunction::Deriv,
            "predict_linear" => RangeFunction::PredictLinear,
            "double_exponential_smoothing" | "holt_winters" => RangeFunction::Smoothing,
            _ => return None,
        })
    }

    /// Whether start timestamps change its result.
    pub(crate) fn heeds_starts(self) -> bool {
        matches!(self, RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Irate | RangeFunction::Resets)
    }

    /// Whether the result still is the metric it was computed from.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, RangeFunction::Last | RangeFunction::First)
    }
}

/// The windows of all steps.
#[derive(Clone, Copy)]
pub(crate) struct Windows<'a> {
    /// When the function is evaluated.
    pub(crate) steps: Steps,
    /// Where its selector looks from there.
    pub(crate) reach: Reach,
    /// How far back, in milliseconds.
    pub(crate) range: i64,
    /// Asked now and then whether to go on.
    pub(crate) budget: &'a Budget,
}

/// Samples in windows visited between two looks at the budget: a few milliseconds of the slowest function.
const PATIENCE: usize = 1 << 18;

/// One window: samples `lo..hi` of the column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Step number.
    pub(crate) step: usize,
    /// Evaluation time.
    pub(crate) time: Millis,
    /// Right end, inclusive.
    pub(crate) end: Millis,
    /// First sample.
    pub(crate) lo: usize,
    /// One past the last sample.
    pub(crate) hi: usize,
}

impl Windows<'_> {
    /// Calls `visit` for each step in order; stops early when the budget is spent, which its owner then sees.
    #[inline]
    fn each(&self, times: &[Millis], mut visit: impl FnMut(Window)) {
        let first_end = self.reach.look(self.steps.start);
        let mut lo = times.partition_point(|time| *time <= first_end.saturating_sub(self.range));
        let mut hi = lo;
        let mut visited = 0;
        for step in 0..self.steps.count {
            let time = self.steps.time(step);
            let end = self.reach.look(time);
            let begin = end.saturating_sub(self.range);
            while hi < times.len() && times[hi] <= end {
                hi += 1;
            }
            while lo < hi && times[lo] <= begin {
                lo += 1;
            }
            visit(Window { step, time, end, lo, hi });
            visited += hi - lo;
            if visited > PATIENCE {
                visited = 0;
                if self.budget.check().is_err() {
                    return;
                }
            }
        }
    }

    /// Whether neighbouring windows share most of their samples, so that preparing the whole column pays.
    fn overlap(&self) -> bool {
        self.steps.count > 4 && self.range / 4 > self.steps.step && self.reach.at.is_none()
    }
}

/// Removes stale markers from a column.
pub(crate) fn drop_stale(column: &mut Column) {
    if column.values.iter().any(|value| is_stale(*value)) {
        let mut kept = 0;
        for index in 0..column.values.len() {
            if !is_stale(column.values[index]) {
                column.values[kept] = column.values[index];
                column.times[kept] = column.times[index];
                if let Some(start) = column.starts.get(index).copied() {
                    column.starts[kept] = start;
                }
                kept += 1;
            }
        }
        column.values.truncate(kept);
        column.times.truncate(kept);
        column.starts.truncate(kept);
    }
    if column.histograms.iter().any(|(_, histogram)| is_stale(histogram.sum)) {
        let stale: Vec<bool> = column.histograms.iter().map(|(_, histogram)| is_stale(histogram.sum)).collect();
        let mut index = 0..stale.len();
        column.histogram_starts.retain(|_| index.next().is_some_and(|index| !stale[index]));
        column.histograms.retain(|(_, histogram)| !is_stale(histogram.sum));
    }
}

/// Memory that a worker keeps from series to series.
#[derive(Default)]
pub(crate) struct Scratch {
    floats: Vec<f64>,
    queue: Vec<u32>,
}

/// Evaluates `function` over the floats of a column without stale markers; [`native::slide`] then looks at its
/// histograms. `arguments` are the scalar arguments, one value a step.
pub(crate) fn slide(
    function: RangeFunction,
    column: &Column,
    windows: &Windows<'_>,
    arguments: &[Scalar],
    scratch: &mut Scratch,
    out: &mut [f64],
) {
    assert_eq!(out.len(), windows.steps.count);
    assert_eq!(column.times.len(), column.values.len());
    let (times, values) = (&column.times[..], &column.values[..]);
    out.fill(ABSENT);
    let argument = |number: usize, step: usize| arguments.get(number).and_then(|a| a.get(step)).copied();
    match function {
        RangeFunction::Rate => rate::extrapolated(times, values, windows, true, true, scratch, out),
        RangeFunction::Increase => rate::extrapolated(times, values, windows, true, false, scratch, out),
        RangeFunction::Delta => rate::extrapolated(times, values, windows, false, false, scratch, out),
        RangeFunction::Irate => rate::instant(times, values, windows, true, out),
        RangeFunction::Idelta => rate::instant(times, values, windows, false, out),
        RangeFunction::Sum => over_time::sums(times, values, windows, scratch, out),
        RangeFunction::Avg => over_time::averages(times, values, windows, scratch, out),
        RangeFunction::Min => extremum::slide::<false>(times, values, windows, scratch, out),
        RangeFunction::Max => extremum::slide::<true>(times, values, windows, scratch, out),
        RangeFunction::TimeOfMax => extremum::times(times, values, windows, |new, kept| new >= kept, out),
        RangeFunction::TimeOfMin => extremum::times(times, values, windows, |new, kept| new <= kept, out),
        RangeFunction::Count => fill(times, windows, out, |w| (w.hi - w.lo) as f64),
        RangeFunction::Last => fill(times, windows, out, |w| values[w.hi - 1]),
        RangeFunction::First => fill(times, windows, out, |w| values[w.lo]),
        RangeFunction::Present => fill(times, windows, out, |_| 1.0),
        RangeFunction::TimeOfFirst => fill(times, windows, out, |w| times[w.lo] as f64 / 1000.0),
        RangeFunction::TimeOfLast => fill(times, windows, out, |w| times[w.hi - 1] as f64 / 1000.0),
        RangeFunction::Stddev => fill(times, windows, out, |w| over_time::variance(&values[w.lo..w.hi]).sqrt()),
        RangeFunction::Stdvar => fill(times, windows, out, |w| over_time::variance(&values[w.lo..w.hi])),
        RangeFunction::Quantile => fill(times, windows, out, |w| {
            scratch.floats.clear();
            scratch.floats.extend_from_slice(&values[w.lo..w.hi]);
            quantile(argument(0, w.step).unwrap_or(f64::NAN), &mut scratch.floats)
        }),
        RangeFunction::Mad => fill(times, windows, out, |w| over_time::mad(&values[w.lo..w.hi], &mut scratch.floats)),
        RangeFunction::Changes => {
            over_time::count_pairs(times, values, windows, scratch, out, |a, b| a != b && !(a.is_nan() && b.is_nan()));
        }
        RangeFunction::Resets => over_time::count_pairs(times, values, windows, scratch, out, |a, b| b < a),
        RangeFunction::Deriv => fill(times, windows, out, |w| {
            if w.hi - w.lo < 2 {
                return ABSENT;
            }
            trend::regression(&times[w.lo..w.hi], &values[w.lo..w.hi], times[w.lo]).0
        }),
        RangeFunction::PredictLinear => fill(times, windows, out, |w| {
            if w.hi - w.lo < 2 {
                return ABSENT;
            }
            let (slope, intercept) = trend::regression(&times[w.lo..w.hi], &values[w.lo..w.hi], w.time);
            slope * argument(0, w.step).unwrap_or(f64::NAN) + intercept
        }),
        RangeFunction::Smoothing => fill(times, windows, out, |w| {
            let factors = argument(0, w.step).unwrap_or(f64::NAN)..argument(1, w.step).unwrap_or(f64::NAN);
            trend::smoothing(&values[w.lo..w.hi], factors.start, factors.end)
        }),
    }
}

/// [`slide`] with `anchored` or `smoothed`, for the functions that [`refusal`] lets through.
pub(crate) fn slide_around(
    function: RangeFunction,
    around: Around,
    column: &Column,
    windows: &Windows<'_>,
    starts: bool,
    out: &mut [f64],
) {
    out.fill(ABSENT);
    let samples = Started { times: &column.times, values: &column.values, starts: &column.starts };
    let falls = |at: usize| match starts {
        true => samples.falls(at),
        false => samples.values[at] < samples.values[at - 1],
    };
    extended::slide(function, around, (&column.times, &column.values), windows, &falls, out);
}

/// [`slide`] for the functions that heed start timestamps, over a column that has them. Returns in how many windows
/// they overlap.
pub(crate) fn slide_started(function: RangeFunction, column: &Column, windows: &Windows<'_>, out: &mut [f64]) -> u64 {
    out.fill(ABSENT);
    let samples = Started { times: &column.times, values: &column.values, starts: &column.starts };
    let mixed = |window: &Window| {
        let begin = window.end.saturating_sub(windows.range);
        column.histograms.iter().any(|(time, _)| begin < *time && *time <= window.end)
    };
    match function {
        RangeFunction::Irate => samples.instant(windows, out),
        RangeFunction::Resets => samples.resets(windows, out),
        _ => return samples.increase(windows, function == RangeFunction::Rate, &mixed, out),
    }
    0
}

/// Calls `value` for each window that has samples.
#[inline]
fn fill(times: &[Millis], windows: &Windows<'_>, out: &mut [f64], mut value: impl FnMut(&Window) -> f64) {
    windows.each(times, |window| {
        if window.lo < window.hi {
            out[window.step] = value(&window);
        }
    });
}
