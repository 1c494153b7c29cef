//! Counters whose samples tell when they began: a start timestamp behind the sample before says that the counter was
//! reset in between, even where its value does not.
//!
//! Used only for series that have start timestamps, and only where the query is to heed them.

use varve_model::Millis;

use super::{Window, Windows, fill};
use crate::exec::block::ABSENT;

/// Samples with their start timestamps, 0 where unknown.
#[derive(Clone, Copy)]
pub(crate) struct Started<'a> {
    /// Times.
    pub(crate) times: &'a [Millis],
    /// Values.
    pub(crate) values: &'a [f64],
    /// Start timestamps, as many.
    pub(crate) starts: &'a [Millis],
}

/// Whether the start of a sample tells of a reset after the sample before it; both as (start, time).
pub(crate) fn is_reset(before: (Millis, Millis), now: (Millis, Millis)) -> bool {
    let ((before_start, before_time), (start, time)) = (before, now);
    // Unknown, after its own sample, or at it, which is how OpenTelemetry says that it is unknown.
    if start == 0 || start >= time || start < before_time {
        return false;
    }
    if start > before_time {
        return true;
    }
    // At the sample before: so do deltas, and counters whose first start was unknown, which were not reset.
    before_start <= before_time && before_start != 0 && before_start != before_time
}

/// Whether a sample claims to have begun before the sample before it, yet not when that one began.
pub(crate) fn overlaps(before: (Millis, Millis), start: Millis) -> bool {
    start != 0 && start < before.1 && start != before.0
}

impl Started<'_> {
    fn told(&self, at: usize) -> (Millis, Millis) {
        (self.starts[at], self.times[at])
    }

    /// Whether the counter was reset between sample `at` and the one before it.
    pub(crate) fn falls(&self, at: usize) -> bool {
        self.values[at] < self.values[at - 1] || is_reset(self.told(at - 1), self.told(at))
    }

    /// `rate` and `increase`; returns in how many windows start timestamps overlap. Of windows that are `mixed` with
    /// histograms nothing more is said than that.
    pub(super) fn increase(
        &self,
        windows: &Windows<'_>,
        per_second: bool,
        mixed: &dyn Fn(&Window) -> bool,
        out: &mut [f64],
    ) -> u64 {
        let mut overlapping = 0;
        fill(self.times, windows, out, |window| {
            if (window.lo + 1..window.hi).any(|at| overlaps(self.told(at - 1), self.starts[at])) && !mixed(window) {
                overlapping += 1;
            }
            let seconds = windows.range as f64 / 1000.0;
            let result = self.extrapolated(window, windows.range);
            result.map_or(ABSENT, |(increase, factor)| increase * if per_second { factor / seconds } else { factor })
        });
        overlapping
    }

    /// The increase in a window, and the factor that extrapolates it to the borders; to the left not at all when the
    /// first sample tells that the counter began within the window.
    fn extrapolated(&self, window: &Window, range: i64) -> Option<(f64, f64)> {
        let (first, last) = (self.times[window.lo], self.times[window.hi - 1]);
        let begin = window.end.saturating_sub(range);
        let first_value = self.values[window.lo];
        let mut increase = self.values[window.hi - 1] - first_value;
        for at in (window.lo + 1..window.hi).filter(|at| self.falls(*at)) {
            increase += self.values[at - 1];
        }
        let gaps = window.hi - window.lo - 1;
        let mut sampled = (last - first) as f64 / 1000.0;
        let distance = if gaps > 0 { sampled / gaps as f64 } else { 0.0 };
        let near = distance * 1.1;
        let mut to_start = (first - begin) as f64 / 1000.0;
        let mut to_end = (window.end - last) as f64 / 1000.0;
        let start = self.starts[window.lo];
        if start != 0 && start > begin && start < first {
            to_start = 0.0;
            sampled = (last - start) as f64 / 1000.0;
            increase += first_value;
        } else if gaps == 0 {
            return None;
        } else {
            if to_start >= near {
                to_start = distance / 2.0;
            }
            if increase > 0.0 && first_value >= 0.0 {
                let to_zero = sampled * (first_value / increase);
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
        if to_end >= near {
            to_end = distance / 2.0;
        }
        let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
        Some((increase, factor))
    }

    /// `irate`
    pub(super) fn instant(&self, windows: &Windows<'_>, out: &mut [f64]) {
        windows.each(self.times, |window| {
            if window.hi - window.lo < 2 {
                return;
            }
            let last = window.hi - 1;
            let increase = if self.falls(last) { self.values[last] } else { self.values[last] - self.values[last - 1] };
            out[window.step] = increase / ((self.times[last] - self.times[last - 1]) as f64 / 1000.0);
        });
    }

    /// `resets`
    pub(super) fn resets(&self, windows: &Windows<'_>, out: &mut [f64]) {
        fill(self.times, windows, out, |w| (w.lo + 1..w.hi).filter(|at| self.falls(*at)).count() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_tell_of_resets() {
        for (before, now, reset) in [
            ((0, 10), (0, 20), false),
            ((0, 10), (15, 20), true),
            ((5, 10), (5, 20), false),
            ((5, 10), (20, 20), false),
            ((5, 10), (25, 20), false),
            // A delta begins where the one before ended.
            ((5, 10), (10, 20), true),
            // A counter whose start was unknown, and then told to be its first sample.
            ((0, 10), (10, 20), false),
            ((10, 10), (10, 20), false),
            ((12, 10), (10, 20), false),
        ] {
            assert_eq!(is_reset(before, now), reset, "{before:?} {now:?}");
        }
        assert!(overlaps((5, 10), 7));
        assert!(!overlaps((5, 10), 5) && !overlaps((5, 10), 10) && !overlaps((5, 10), 0));
    }
}
