//! `anchored` and `smoothed`: windows that look at samples around them to know the values at their borders.
//!
//! An anchored window begins with the last sample at or before its begin, if there is one within the lookback; nothing
//! is extrapolated. A smoothed one has the values at its borders by lines through the samples on either side, found
//! within the lookback before and behind it. Positions are those of the wide window, which holds these samples too.

use varve_model::Millis;

use super::{RangeFunction, Window, Windows};
use crate::exec::block::ABSENT;
use crate::exec::steps::Reach;
use crate::promql::ast::Extended;

/// A modifier and how far it looks around, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Around {
    /// Which.
    pub(crate) modifier: Extended,
    /// How far.
    pub(crate) lookback: i64,
}

impl Around {
    /// How far before the begin of a range samples are looked at.
    pub(crate) fn before(&self) -> i64 {
        self.lookback
    }

    /// How far behind its end.
    pub(crate) fn behind(&self) -> i64 {
        match self.modifier {
            Extended::Anchored => 0,
            Extended::Smoothed => self.lookback,
        }
    }

    /// The windows with what is looked at around them.
    pub(super) fn widen<'a>(&self, windows: &Windows<'a>) -> Windows<'a> {
        let reach = Reach { offset: windows.reach.offset.saturating_sub(self.behind()), ..windows.reach };
        let range = windows.range.saturating_add(self.before()).saturating_add(self.behind());
        Windows { reach, range, ..*windows }
    }
}

/// Functions that a modifier can be used with, as error texts list them.
fn functions(modifier: Extended) -> &'static [&'static str] {
    match modifier {
        Extended::Anchored => &["changes", "delta", "increase", "rate", "resets"],
        Extended::Smoothed => &["delta", "increase", "rate"],
    }
}

/// Says why a function cannot be used with a modifier, if it cannot.
pub(crate) fn refusal(modifier: Extended, function: &str) -> Option<String> {
    let functions = functions(modifier);
    if functions.contains(&function) {
        return None;
    }
    let word = modifier.as_str();
    Some(format!("{word} modifier can only be used with: {} - not with {function}", functions.join(", ")))
}

/// The value at `time` on the line between two samples; a counter that fell between them began at zero.
fn between(times: &[Millis], values: &[f64], first: usize, time: Millis, counter: bool) -> f64 {
    let (begin, end) = (values[first], values[first + 1]);
    let begin = if counter && end < begin { 0.0 } else { begin };
    let share = (time - times[first]) as f64;
    begin + (end - begin) * share / (times[first + 1] - times[first]) as f64
}

/// A window by the positions of its samples, and the values at its borders.
struct Bordered {
    first: usize,
    last: usize,
    left: f64,
    right: f64,
}

/// The borders of `begin..=end` among samples of a wide window that is not empty; `None` when nothing is known of it.
fn borders(
    times: &[Millis],
    values: &[f64],
    (begin, end): (Millis, Millis),
    smoothed: bool,
    counter: bool,
) -> Option<Bordered> {
    let newest = times.len().checked_sub(1)?;
    let first = times[..newest].partition_point(|time| *time <= begin).saturating_sub(1);
    let last = if smoothed { times[..newest].partition_point(|time| *time < end) } else { newest };
    if times[last] <= begin || (smoothed && times[first] > end) {
        return None;
    }
    let left = match smoothed && times[first] < begin {
        true => between(times, values, first, begin, counter),
        false => values[first],
    };
    let right = match smoothed && last > 0 && times[last] > end {
        true => between(times, values, last - 1, end, counter),
        false => values[last],
    };
    Some(Bordered { first, last, left, right })
}

/// What a counter lost by falling between the borders.
fn lost(left: f64, right: f64, within: &[f64]) -> f64 {
    let mut lost = 0.0;
    let mut before = left;
    for value in within.iter().chain([&right]) {
        if *value < before {
            lost += before;
        }
        before = *value;
    }
    lost
}

/// Evaluates a function that [`refusal`] has nothing against.
pub(super) fn slide(
    function: RangeFunction,
    around: Around,
    (times, values): (&[Millis], &[f64]),
    windows: &Windows<'_>,
    falls: &dyn Fn(usize) -> bool,
    out: &mut [f64],
) {
    let smoothed = around.modifier == Extended::Smoothed;
    let counter = function != RangeFunction::Delta;
    let seconds = windows.range as f64 / 1000.0;
    around.widen(windows).each(times, |Window { step, time, lo, hi, .. }| {
        let end = windows.reach.look(time);
        let begin = end.saturating_sub(windows.range);
        let (times_here, values_here) = (&times[lo..hi], &values[lo..hi]);
        out[step] = match function {
            RangeFunction::Changes | RangeFunction::Resets => {
                let anchor = times_here.partition_point(|time| *time <= begin);
                if anchor == times_here.len() {
                    return;
                }
                let pairs = (lo + anchor.saturating_sub(1) + 1)..hi;
                let counted = pairs.filter(|at| match function {
                    RangeFunction::Resets => falls(*at),
                    _ => {
                        let (a, b) = (values[*at - 1], values[*at]);
                        a != b && !(a.is_nan() && b.is_nan())
                    }
                });
                counted.count() as f64
            }
            _ => {
                let Some(borders) = borders(times_here, values_here, (begin, end), smoothed, counter) else { return };
                let mut increase = borders.right - borders.left;
                if counter {
                    // Falls at the borders are in their values already.
                    let first = borders.first + usize::from(times_here[borders.first] <= begin);
                    let past = borders.last + usize::from(times_here[borders.last] < end);
                    increase += lost(borders.left, borders.right, values_here.get(first..past).unwrap_or_default());
                }
                if function == RangeFunction::Rate { increase / seconds } else { increase }
            }
        };
    });
}

/// The samples of the range `begin..=end` with one at either border: what a modified range selector shows by itself.
pub(crate) fn extend(
    times: &mut Vec<Millis>,
    values: &mut Vec<f64>,
    (begin, end): (Millis, Millis),
    modifier: Extended,
) {
    let Some(borders) = borders(times, values, (begin, end), modifier == Extended::Smoothed, false) else {
        times.clear();
        values.clear();
        return;
    };
    let first = borders.first + usize::from(times[borders.first] <= begin);
    let past = borders.last + usize::from(times[borders.last] < end);
    let within = first..past.max(first);
    let (mut new_times, mut new_values) = (vec![begin], vec![borders.left]);
    new_times.extend_from_slice(&times[within.clone()]);
    new_values.extend_from_slice(&values[within]);
    new_times.push(end);
    new_values.push(borders.right);
    (*times, *values) = (new_times, new_values);
}

/// A smoothed instant selector: the value at each step on the line between the samples on either side, the last value
/// where none follows; samples further away than the lookback are not there.
pub(crate) fn smooth(times: &[Millis], values: &[f64], windows: &Windows<'_>, out: &mut [f64]) {
    out.fill(ABSENT);
    let around = Around { modifier: Extended::Smoothed, lookback: windows.range };
    // The lookback before the step is the range itself.
    let wide = Windows { range: 0, ..*windows };
    around.widen(&wide).each(times, |Window { step, time, lo, hi, .. }| {
        let at = windows.reach.look(time);
        let next = lo + times[lo..hi].partition_point(|time| *time < at);
        if next < hi && times[next] == at {
            out[step] = values[next];
        } else if next > lo && next < hi {
            out[step] = between(times, values, next - 1, at, false);
        } else if next > lo {
            out[step] = values[next - 1];
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::exec::steps::Steps;
    use varve_model::Limits;

    #[track_caller]
    fn check(modifier: Extended, function: RangeFunction, expected: f64) {
        // A counter that restarts between 20 and 30.
        let (times, values) = ([0, 10_000, 20_000, 30_000, 40_000], [0.0, 10.0, 20.0, 5.0, 15.0]);
        let budget = Budget::of_limits(&Limits::default());
        let steps = Steps::once(35_000);
        let windows = Windows { steps, reach: Reach { at: None, offset: 0 }, range: 20_000, budget: &budget };
        let around = Around { modifier, lookback: 300_000 };
        let mut out = [ABSENT];
        let falls = |at: usize| values[at] < values[at - 1];
        slide(function, around, (&times, &values), &windows, &falls, &mut out);
        assert!((out[0] - expected).abs() < 1e-9, "{modifier:?} {function:?}: {}", out[0]);
    }

    #[test]
    fn borders_come_from_samples_around() {
        // From 10 at 10 s: 10 up, restart, 5 up.
        check(Extended::Anchored, RangeFunction::Increase, 15.0);
        check(Extended::Anchored, RangeFunction::Delta, -5.0);
        check(Extended::Anchored, RangeFunction::Resets, 1.0);
        check(Extended::Anchored, RangeFunction::Changes, 2.0);
        // From 15 at 15 s to 10 at 35 s.
        check(Extended::Smoothed, RangeFunction::Increase, 15.0);
        check(Extended::Smoothed, RangeFunction::Rate, 0.75);
        check(Extended::Smoothed, RangeFunction::Delta, -5.0);
    }

    #[test]
    fn ranges_get_samples_at_their_borders() {
        let (mut times, mut values) = (vec![0, 10, 20, 30], vec![0.0, 10.0, 20.0, 30.0]);
        extend(&mut times, &mut values, (5, 25), Extended::Smoothed);
        assert_eq!((times, values), (vec![5, 10, 20, 25], vec![5.0, 10.0, 20.0, 25.0]));
        let (mut times, mut values) = (vec![0, 10, 20], vec![0.0, 10.0, 20.0]);
        extend(&mut times, &mut values, (5, 25), Extended::Anchored);
        assert_eq!((times, values), (vec![5, 10, 20, 25], vec![0.0, 10.0, 20.0, 20.0]));
        let (mut times, mut values) = (vec![0], vec![0.0]);
        extend(&mut times, &mut values, (5, 25), Extended::Anchored);
        assert!(times.is_empty() && values.is_empty());
    }

    #[test]
    fn refusals_name_the_functions() {
        assert_eq!(refusal(Extended::Smoothed, "rate"), None);
        let text = refusal(Extended::Smoothed, "resets").unwrap();
        assert_eq!(text, "smoothed modifier can only be used with: delta, increase, rate - not with resets");
    }
}
