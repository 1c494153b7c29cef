//! Sums, averages, variances, quantiles and counts over windows.

use varve_model::Millis;

use super::{Scratch, Windows, fill};
use crate::exec::kahan;

/// Sums of integers below this are exact in any order.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Fills `prefix` with the sums of all prefixes when they are exact, so that any window's sum is a difference; `false`
/// when the values are not such.
fn exact_prefixes(values: &[f64], prefix: &mut Vec<f64>) -> bool {
    prefix.clear();
    prefix.push(0.0);
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for value in values {
        magnitude += value.abs();
        // False for NaN and infinities, too.
        if !(value.trunc() == *value && magnitude < EXACT_MAX) {
            return false;
        }
        sum += value;
        prefix.push(sum);
    }
    true
}

/// `sum_over_time`
pub(super) fn sums(times: &[Millis], values: &[f64], windows: &Windows<'_>, scratch: &mut Scratch, out: &mut [f64]) {
    let prefix = &mut scratch.floats;
    if windows.overlap() && exact_prefixes(values, prefix) {
        fill(times, windows, out, |w| prefix[w.hi] - prefix[w.lo]);
    } else {
        fill(times, windows, out, |w| sum(&values[w.lo..w.hi]));
    }
}

fn sum(values: &[f64]) -> f64 {
    let (sum, c) = values.iter().fold((0.0, 0.0), |(sum, c), value| kahan::add_finite(*value, sum, c));
    if sum.is_infinite() { sum } else { sum + c }
}

/// `avg_over_time`
pub(super) fn averages(
    times: &[Millis],
    values: &[f64],
    windows: &Windows<'_>,
    scratch: &mut Scratch,
    out: &mut [f64],
) {
    let prefix = &mut scratch.floats;
    if windows.overlap() && exact_prefixes(values, prefix) {
        fill(times, windows, out, |w| (prefix[w.hi] - prefix[w.lo]) / (w.hi - w.lo) as f64);
    } else {
        fill(times, windows, out, |w| average(&values[w.lo..w.hi]));
    }
}

/// Mean of a compensated sum; on overflow the running mean.
fn average(values: &[f64]) -> f64 {
    let Some((first, rest)) = values.split_first() else { return f64::NAN };
    let (mut value, mut c) = rest.iter().fold((*first, 0.0), |(sum, c), value| kahan::add_finite(*value, sum, c));
    if value.is_finite() {
        // An overflow on the way would still show.
        let count = values.len() as f64;
        return value / count + c / count;
    }
    (value, c) = (*first, 0.0);
    let mut running = false;
    let mut count = 1.0;
    for new in rest {
        count += 1.0;
        if !running {
            let (sum, new_c) = kahan::add(*new, value, c);
            if !sum.is_infinite() {
                (value, c) = (sum, new_c);
                continue;
            }
            running = true;
            value /= count - 1.0;
            c /= count - 1.0;
        }
        let share = (count - 1.0) / count;
        (value, c) = kahan::add(*new / count, share * value, share * c);
    }
    if running { value + c } else { value / count + c / count }
}

/// Population variance, by Welford with compensation.
pub(super) fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut c_mean, mut square, mut c_square) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - (mean + c_mean);
        (mean, c_mean) = kahan::add(delta / count, mean, c_mean);
        (square, c_square) = kahan::add(delta * (value - (mean + c_mean)), square, c_square);
    }
    (square + c_square) / count
}

/// The quantile `q` of values in any order, between neighbours by weight; NaN counts as the smallest value. Reorders.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let nan_first = |a: &f64, b: &f64| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    };
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let weight = rank - rank.floor();
    let (_, low, above) = values.select_nth_unstable_by(lower, nan_first);
    let low = *low;
    let high = above.iter().copied().min_by(nan_first).unwrap_or(low);
    low * (1.0 - weight) + high * weight
}

/// Median of the distances from the median.
pub(super) fn mad(values: &[f64], scratch: &mut Vec<f64>) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    scratch.clear();
    scratch.extend_from_slice(values);
    let median = quantile(0.5, scratch);
    for value in scratch.iter_mut() {
        *value = (*value - median).abs();
    }
    quantile(0.5, scratch)
}

/// Counts neighbours in the window for which `holds`, by a prefix count.
pub(super) fn count_pairs(
    times: &[Millis],
    values: &[f64],
    windows: &Windows<'_>,
    scratch: &mut Scratch,
    out: &mut [f64],
    holds: impl Fn(f64, f64) -> bool,
) {
    let counts = &mut scratch.queue;
    counts.clear();
    counts.push(0);
    let mut count = 0;
    for pair in values.windows(2) {
        count += u32::from(holds(pair[0], pair[1]));
        counts.push(count);
    }
    fill(times, windows, out, |w| f64::from(counts[w.hi - 1] - counts[w.lo]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!(quantile(0.5, &mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(1.0, &mut [4.0, 1.0]), 4.0);
        assert_eq!(quantile(0.0, &mut [4.0, 1.0]), 1.0);
        assert!(quantile(0.0, &mut [4.0, f64::NAN]).is_nan());
        assert_eq!(quantile(2.0, &mut [4.0]), f64::INFINITY);
    }

    proptest! {
        #[test]
        fn prefix_sums_are_the_sums(values in proptest::collection::vec(-1_000_000i64..1_000_000, 0..50), cut in 0usize..50) {
            let values: Vec<f64> = values.into_iter().map(|v| v as f64).collect();
            let cut = cut.min(values.len());
            let mut prefix = Vec::new();
            prop_assert!(exact_prefixes(&values, &mut prefix));
            prop_assert_eq!(prefix[values.len()] - prefix[cut], sum(&values[cut..]));
        }
    }
}
