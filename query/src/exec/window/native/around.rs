//! Histograms in `anchored` and `smoothed` windows: as floats are there ([`extended`](super::super::extended)), bucket
//! by bucket. Each subtraction brings buckets together by itself.

use varve_model::histogram::ResetHint;
use varve_model::{Column, Histogram, Millis};

use super::{About, Cell, Mixed, Remarks};
use crate::annotation::Operation;
use crate::error::Error;
use crate::exec::block::{ABSENT, Histograms};
use crate::exec::window::extended::Around;
use crate::exec::window::{RangeFunction, Window, Windows};
use crate::histogram::{self, Incompatible, is_custom};
use crate::promql::ast::Extended;

type Sample = (Millis, Histogram);

/// The histogram at `time` on the line between two; a counter that was reset between them began empty.
fn between(
    (begin_time, begin): &Sample,
    (end_time, end): &Sample,
    time: Millis,
    counter: bool,
    remarks: &mut Remarks,
) -> Result<Histogram, Incompatible> {
    if time == *begin_time {
        return Ok(begin.clone());
    }
    let mut result = end.clone();
    if time == *end_time {
        return Ok(result);
    }
    let share = (time - begin_time) as f64 / (end_time - begin_time) as f64;
    if counter && histogram::is_reset(end, begin) {
        histogram::multiply(&mut result, share);
        return Ok(result);
    }
    let told = histogram::subtract(&mut result, begin)?;
    remarks.reconcile(Operation::Subtraction, told.reconciled);
    histogram::multiply(&mut result, share);
    let told = histogram::add(&mut result, begin)?;
    remarks.reconcile(Operation::Addition, told.reconciled);
    Ok(result)
}

fn is_gauge(histogram: &Histogram) -> bool {
    histogram.reset_hint == ResetHint::Gauge
}

/// What resets between the borders hide: the last histogram before each, added up.
fn lost(
    within: &[Sample],
    left: &Histogram,
    right: &Histogram,
    remarks: &mut Remarks,
) -> Result<Option<Histogram>, Incompatible> {
    let mut lost: Option<Histogram> = None;
    let mut before = left;
    for histogram in within.iter().map(|(_, histogram)| histogram).chain([right]) {
        if histogram::is_reset(histogram, before) {
            match &mut lost {
                Some(lost) => {
                    let told = histogram::add(lost, before)?;
                    remarks.reconcile(Operation::Addition, told.reconciled);
                }
                none => *none = Some(before.clone()),
            }
        }
        before = histogram;
    }
    Ok(lost)
}

/// The increase over `begin..=end` of the samples in the wide window; `None` where nothing is known of it.
fn increase(
    samples: &[Sample],
    (begin, end): (Millis, Millis),
    smoothed: bool,
    counter: bool,
    remarks: &mut Remarks,
) -> Result<Option<Histogram>, Incompatible> {
    let Some(newest) = samples.len().checked_sub(1) else { return Ok(None) };
    let first = samples[..newest].partition_point(|(time, _)| *time <= begin).saturating_sub(1);
    let last = if smoothed { samples[..newest].partition_point(|(time, _)| *time < end) } else { newest };
    if samples[last].0 <= begin || (smoothed && samples[first].0 > end) {
        return Ok(None);
    }
    let custom = is_custom(&samples[first].1);
    for (_, histogram) in &samples[first..=last] {
        if is_custom(histogram) != custom {
            return Err(Incompatible);
        }
        remarks.not_counter |= counter && is_gauge(histogram);
    }
    let left_between = smoothed && samples[first].0 < begin;
    let left = match left_between {
        true => between(&samples[first], &samples[first + 1], begin, counter, remarks)?,
        false => samples[first].1.clone(),
    };
    let right = match smoothed && last > 0 && samples[last].0 > end {
        true => between(&samples[last - 1], &samples[last], end, counter, remarks)?,
        false => samples[last].1.clone(),
    };
    let gauges = is_gauge(&left) && is_gauge(&right);
    remarks.not_gauge |= !counter && !gauges;
    let mut result = right.clone();
    let told = histogram::subtract(&mut result, &left)?;
    remarks.reconcile(Operation::Subtraction, told.reconciled);
    if counter {
        // A reset between the first two is in the left border already; what follows is compared with the second.
        let spanned = left_between && histogram::is_reset(&samples[first + 1].1, &samples[first].1);
        let (anchor, from) = if spanned { (&samples[first + 1].1, first + 2) } else { (&left, first + 1) };
        // Nothing but the reset that the borders share when the two meet.
        if from <= last {
            let within = samples.get(from..last).unwrap_or_default();
            if let Some(lost) = lost(within, anchor, &right, remarks)? {
                let told = histogram::add(&mut result, &lost)?;
                remarks.reconcile(Operation::Addition, told.reconciled);
            }
        }
    }
    result.reset_hint = ResetHint::Gauge;
    histogram::compact(&mut result);
    Ok(Some(result))
}

impl Mixed<'_> {
    /// [`Mixed::evaluate`] for a wide window.
    pub(super) fn around(
        &self,
        function: RangeFunction,
        modifier: Extended,
        windows: &Windows<'_>,
        remarks: &mut Remarks,
    ) -> Cell {
        let end = windows.reach.look(self.histograms.time);
        let begin = end.saturating_sub(windows.range);
        if matches!(function, RangeFunction::Changes | RangeFunction::Resets) {
            return match self.anchored(begin) {
                None => Cell::Absent,
                Some(anchored) if anchored.histograms.lo == anchored.histograms.hi => Cell::AsFloats,
                Some(anchored) => anchored.evaluate(function, windows, remarks),
            };
        }
        if self.has_floats() {
            remarks.mixed = true;
            return Cell::Absent;
        }
        let (smoothed, counter) = (modifier == Extended::Smoothed, function != RangeFunction::Delta);
        match increase(self.samples(), (begin, end), smoothed, counter, remarks) {
            Ok(Some(mut result)) => {
                if function == RangeFunction::Rate {
                    histogram::divide(&mut result, windows.range as f64 / 1000.0);
                }
                Cell::Histogram(result)
            }
            Ok(None) => Cell::Absent,
            Err(Incompatible) => {
                remarks.mixed_buckets = true;
                Cell::Absent
            }
        }
    }

    /// The window from the last sample of either kind at or before `begin`; `None` when none follows.
    fn anchored(&self, begin: Millis) -> Option<Mixed<'_>> {
        let floats_before = self.float_times().partition_point(|time| *time <= begin);
        let histograms_before = self.samples().partition_point(|(time, _)| *time <= begin);
        let (mut floats, mut histograms) = (self.floats, self.histograms);
        floats.lo += floats_before;
        histograms.lo += histograms_before;
        if floats.lo == floats.hi && histograms.lo == histograms.hi {
            return None;
        }
        let float = floats_before.checked_sub(1).and_then(|at| self.float_times().get(at)).copied();
        let histogram = histograms_before.checked_sub(1).and_then(|at| self.samples().get(at)).map(|(time, _)| *time);
        match (float, histogram) {
            (None, None) => {}
            (float, histogram) if float >= histogram => floats.lo -= 1,
            _ => histograms.lo -= 1,
        }
        Some(Mixed { floats, histograms, ..*self })
    }
}

/// A smoothed instant selector over a column with histograms, whose floats were looked at before.
pub(crate) fn smooth(
    column: &Column,
    around: Around,
    windows: &Windows<'_>,
    about: &About<'_>,
    histograms: &mut Histograms,
    out: &mut [f64],
) -> Result<(), Error> {
    let times: Vec<Millis> = column.histograms.iter().map(|(time, _)| *time).collect();
    let wide = around.widen(&Windows { range: 0, ..*windows });
    let mut has_floats = Vec::with_capacity(windows.steps.count);
    wide.each(&column.times, |window| has_floats.push(window.lo < window.hi));
    let mut remarks = Remarks::default();
    let mut failed = Ok(());
    wide.each(&times, |Window { step, time, lo, hi, .. }| {
        if lo == hi || failed.is_err() {
            return;
        }
        out[step] = ABSENT;
        if has_floats.get(step).copied().unwrap_or(false) {
            remarks.mixed = true;
            return;
        }
        let at = windows.reach.look(time);
        let samples = &column.histograms[lo..hi];
        let next = samples.partition_point(|(time, _)| *time < at);
        let before = next.checked_sub(1).and_then(|before| samples.get(before));
        let value = match (before, samples.get(next)) {
            (_, Some((time, histogram))) if *time == at => histogram.clone(),
            (Some(before), Some(next)) if is_custom(&before.1) != is_custom(&next.1) => {
                remarks.mixed_buckets = true;
                return;
            }
            (Some(before), Some(next)) => {
                let counter = !(is_gauge(&before.1) && is_gauge(&next.1));
                match between(before, next, at, counter, &mut remarks) {
                    Ok(histogram) => histogram,
                    Err(Incompatible) => {
                        remarks.mixed_buckets = true;
                        return;
                    }
                }
            }
            // The hint is about the sample and the one before it, not about the value.
            (Some((_, histogram)), None) => Histogram { reset_hint: ResetHint::Unknown, ..histogram.clone() },
            (None, _) => return,
        };
        match histograms.push(value, windows.budget) {
            Ok(cell) => out[step] = cell,
            Err(error) => failed = Err(error),
        }
    });
    remarks.tell(about);
    failed
}
