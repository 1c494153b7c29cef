//! Minimum and maximum over windows, by a monotonic queue where windows overlap. NaN yields to anything.

use varve_model::Millis;

use super::{Scratch, Windows, fill};

/// Whether `new` replaces `kept`.
#[inline]
fn beats<const MAX: bool>(new: f64, kept: f64) -> bool {
    (if MAX { new > kept } else { new < kept }) || kept.is_nan()
}

/// `max_over_time` or `min_over_time`
pub(super) fn slide<const MAX: bool>(
    times: &[Millis],
    values: &[f64],
    windows: &Windows<'_>,
    scratch: &mut Scratch,
    out: &mut [f64],
) {
    if !windows.overlap() {
        fill(times, windows, out, |w| {
            let mut kept = values[w.lo];
            for value in &values[w.lo..w.hi] {
                if beats::<MAX>(*value, kept) {
                    kept = *value;
                }
            }
            kept
        });
        return;
    }
    // Candidates in order of time, each better than those after it: the first is the extremum.
    let queue = &mut scratch.queue;
    queue.clear();
    let (mut head, mut taken) = (0, 0);
    fill(times, windows, out, |w| {
        taken = taken.max(w.lo);
        while taken < w.hi {
            while queue.len() > head && queue.last().is_some_and(|at| beats::<MAX>(values[taken], values[*at as usize]))
            {
                queue.pop();
            }
            queue.push(taken as u32);
            taken += 1;
        }
        while queue.get(head).is_some_and(|at| (*at as usize) < w.lo) {
            head += 1;
        }
        // A NaN is never beaten by a NaN, and beaten by all else: it heads the queue only when nothing else is there
        // to beat it, but it may stand behind a number, where it does no harm.
        values[queue[head] as usize]
    });
}

/// The time of the last extremum, in seconds.
pub(super) fn times(
    times: &[Millis],
    values: &[f64],
    windows: &Windows<'_>,
    replaces: impl Fn(f64, f64) -> bool,
    out: &mut [f64],
) {
    fill(times, windows, out, |w| {
        let mut kept = w.lo;
        for at in w.lo..w.hi {
            if replaces(values[at], values[kept]) || values[kept].is_nan() {
                kept = at;
            }
        }
        times[kept] as f64 / 1000.0
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::exec::block::ABSENT;
    use crate::exec::steps::{Reach, Steps};
    use proptest::prelude::*;
    use varve_model::Limits;

    proptest! {
        #[test]
        fn the_queue_finds_what_a_scan_finds(
            cells in proptest::collection::vec(prop_oneof![4 => (0i32..20).prop_map(f64::from), 1 => Just(f64::NAN)], 1..60),
            range in 8i64..20,
        ) {
            let at: Vec<i64> = (0..cells.len() as i64).collect();
            let steps = Steps { start: 0, step: 1, count: cells.len() + 5 };
            let budget = Budget::of_limits(&Limits::default());
            let windows = Windows { steps, reach: Reach { at: None, offset: 0 }, range, budget: &budget };
            prop_assert!(windows.overlap());
            let mut out = vec![ABSENT; steps.count];
            slide::<true>(&at, &cells, &windows, &mut Scratch::default(), &mut out);
            windows.each(&at, |w| {
                let scan = cells[w.lo..w.hi].iter().copied().fold(f64::NAN, |kept, v| if beats::<true>(v, kept) { v } else { kept });
                assert!(scan == out[w.step] || (scan.is_nan() && out[w.step].is_nan()));
            });
        }
    }
}
