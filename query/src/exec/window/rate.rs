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

/// The increase over a window, extrapolated to its borders where the samples come close to them, by half a distance
/// between samples otherwise; counters are never extrapolated below zero.
pub(super) fn extrapolated(
    times: &[Millis],
    values: &[f64],
    windows: &Windows,
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
    let range_seconds = windows.range as f64 / 1000.0;
    windows.each(times, |window| {
        let (lo, hi) = (window.lo, window.hi);
        if hi - lo < 2 {
            return;
        }
        let (first, last) = (times[lo], times[hi - 1]);
        let mut increase = values[hi - 1] - values[lo];
        while next_fall < falls.len() && falls[next_fall] as usize <= lo {
            next_fall += 1;
        }
        for fall in falls[next_fall..].iter().map(|fall| *fall as usize).take_while(|fall| *fall < hi) {
            increase += values[fall - 1];
        }
        let mut to_start = (first - window.end.saturating_sub(windows.range)) as f64 / 1000.0;
        let mut to_end = (window.end - last) as f64 / 1000.0;
        let sampled = (last - first) as f64 / 1000.0;
        let distance = sampled / (hi - lo - 1) as f64;
        let threshold = distance * 1.1;
        if to_start >= threshold {
            to_start = distance / 2.0;
        }
        if counter && increase > 0.0 && values[lo] >= 0.0 {
            let to_zero = sampled * (values[lo] / increase);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        if to_end >= threshold {
            to_end = distance / 2.0;
        }
        let mut factor = (sampled + to_start + to_end) / sampled;
        if per_second {
            factor /= range_seconds;
        }
        out[window.step] = increase * factor;
    });
}

/// The difference of the last two samples; for counters a fall counts as a restart from zero, and per second.
pub(super) fn instant(times: &[Millis], values: &[f64], windows: &Windows, counter: bool, out: &mut [f64]) {
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
