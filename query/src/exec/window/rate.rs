//! rate, increase, delta with Prometheus's extrapolation; irate and idelta.

use varve_model::Millis;

use super::{Scratch, Windows};
use crate::exec::block::is_absent;

/// Positions at which a counter fell: samples smaller than the one before.
fn resets(values: &[f64], positions: &mut Vec<u32>) {
    positions.clear();
    for (index, pair) in values.windows(2).enumerate() {
        if pair[1] < pair[0] {
            positions.push(index as u32 + 1);
        }
    }
}

/// How far a window's samples reach from its borders, and what follows from it. Scrapes are regular, so neighbouring
/// windows mostly have the same: it is computed again only when it changes, which saves seven divisions a window.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shape {
    /// Milliseconds from the left border to the first sample.
    pub(super) before: i64,
    /// Milliseconds from the first to the last sample.
    pub(super) sampled: i64,
    /// Milliseconds from the last sample to the right border.
    pub(super) after: i64,
    /// Samples.
    pub(super) count: usize,
}

/// Seconds derived from a [`Shape`], with Prometheus's arithmetic.
#[derive(Clone, Copy, Default)]
pub(super) struct Reach {
    pub(super) sampled: f64,
    pub(super) to_start: f64,
    to_end: f64,
    pub(super) factor: f64,
}

impl Reach {
    pub(super) fn of(shape: Shape, per_second: Option<f64>) -> Reach {
        let mut to_start = shape.before as f64 / 1000.0;
        let mut to_end = shape.after as f64 / 1000.0;
        let sampled = shape.sampled as f64 / 1000.0;
        let distance = sampled / (shape.count - 1) as f64;
        let threshold = distance * 1.1;
        if to_start >= threshold {
            to_start = distance / 2.0;
        }
        if to_end >= threshold {
            to_end = distance / 2.0;
        }
        let reach = Reach { sampled, to_start, to_end, factor: 0.0 };
        Reach { factor: reach.factor(to_start, per_second), ..reach }
    }

    pub(super) fn factor(&self, to_start: f64, per_second: Option<f64>) -> f64 {
        let factor = (self.sampled + to_start + self.to_end) / self.sampled;
        per_second.map_or(factor, |seconds| factor / seconds)
    }
}

/// The increase over a window, extrapolated to its borders where the samples come close to them, by half a distance
/// between samples otherwise; counters are never extrapolated below zero.
pub(super) fn extrapolated(
    times: &[Millis],
    values: &[f64],
    windows: &Windows<'_>,
    counter: bool,
    per_second: bool,
    scratch: &mut Scratch,
    out: &mut [f64],
) {
    let falls = &mut scratch.queue;
    falls.clear();
    if counter {
        resets(values, falls);
    }
    let mut next_fall = 0;
    let per_second = per_second.then_some(windows.range as f64 / 1000.0);
    let (mut shape, mut reach) = (Shape::default(), Reach::default());
    windows.each(times, |window| {
        let (lo, hi) = (window.lo, window.hi);
        if hi - lo < 2 {
            return;
        }
        let (first, last) = (times[lo], times[hi - 1]);
        let this = Shape {
            before: first - window.end.saturating_sub(windows.range),
            sampled: last - first,
            after: window.end - last,
            count: hi - lo,
        };
        if this != shape {
            (shape, reach) = (this, Reach::of(this, per_second));
        }
        let mut increase = values[hi - 1] - values[lo];
        if next_fall < falls.len() {
            while next_fall < falls.len() && falls[next_fall] as usize <= lo {
                next_fall += 1;
            }
            for fall in falls[next_fall..].iter().map(|fall| *fall as usize).take_while(|fall| *fall < hi) {
                increase += values[fall - 1];
            }
        }
        let mut factor = reach.factor;
        // Whether zero lies nearer than the start, first without the division.
        if counter
            && increase > 0.0
            && values[lo] >= 0.0
            && values[lo] * reach.sampled <= reach.to_start * increase * 1.001
        {
            let to_zero = reach.sampled * (values[lo] / increase);
            if to_zero < reach.to_start {
                factor = reach.factor(to_zero, per_second);
            }
        }
        out[window.step] = increase * factor;
    });
}

/// The difference of the last two samples; for counters a fall counts as a restart from zero, and per second.
pub(super) fn instant(times: &[Millis], values: &[f64], windows: &Windows<'_>, counter: bool, out: &mut [f64]) {
    windows.each(times, |window| {
        if window.hi - window.lo < 2 {
            return;
        }
        let (before, last) = (values[window.hi - 2], values[window.hi - 1]);
        let mut difference = if counter && last < before { last } else { last - before };
        if counter {
            difference /= (times[window.hi - 1] - times[window.hi - 2]) as f64 / 1000.0;
        }
        debug_assert!(!is_absent(difference));
        out[window.step] = difference;
    });
}
