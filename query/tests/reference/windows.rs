//! Functions of one series' samples in a window: `rate` and its family, `*_over_time`, regression.

use crate::evaluate::Query;

/// Where the samples are from, and the evaluation time.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// Exclusive.
    pub(crate) begin: i64,
    /// Inclusive.
    pub(crate) end: i64,
    pub(crate) time: i64,
}

/// A function of the samples of one series in a window.
pub(crate) type OfWindow<'a> = dyn Fn(&[(i64, f64)], Window) -> Option<f64> + 'a;

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// `rate`, `increase` (counters) and `delta`: the change between the first and the last sample, extrapolated towards
/// the ends of the window, but no further than half a sample distance where the samples end well inside of it, and for
/// counters not below zero.
pub(crate) fn extrapolated(points: &[(i64, f64)], window: Window, counter: bool, per_second: bool) -> Option<f64> {
    let [(first_time, first), .., (last_time, last)] = points else { return None };
    let mut change = last - first;
    if counter {
        for pair in points.windows(2) {
            if pair[1].1 < pair[0].1 {
                change += pair[0].1;
            }
        }
    }
    let sampled = seconds(last_time - first_time);
    let distance = sampled / (points.len() - 1) as f64;
    let threshold = distance * 1.1;
    let mut to_start = seconds(first_time - window.begin);
    let mut to_end = seconds(window.end - last_time);
    if to_start >= threshold {
        to_start = distance / 2.0;
    }
    if counter && change > 0.0 && *first >= 0.0 {
        to_start = to_start.min(sampled * (first / change));
    }
    if to_end >= threshold {
        to_end = distance / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if per_second {
        factor /= seconds(window.end - window.begin);
    }
    Some(change * factor)
}

/// `irate` and `idelta`: between the last two samples.
pub(crate) fn instant(points: &[(i64, f64)], counter: bool) -> Option<f64> {
    let [.., (before_time, before), (time, value)] = points else { return None };
    if counter {
        let change = if value < before { *value } else { value - before };
        Some(change / seconds(time - before_time))
    } else {
        Some(value - before)
    }
}

pub(crate) fn changes(points: &[(i64, f64)]) -> Option<f64> {
    let changed = |pair: &&[(i64, f64)]| pair[0].1 != pair[1].1 && !(pair[0].1.is_nan() && pair[1].1.is_nan());
    Some(points.windows(2).filter(changed).count() as f64)
}

pub(crate) fn resets(points: &[(i64, f64)]) -> Option<f64> {
    Some(points.windows(2).filter(|pair| pair[1].1 < pair[0].1).count() as f64)
}

/// Exact up to one rounding at the end, as far as it goes: pairs of sum and error.
pub(crate) fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut error) = (0.0f64, 0.0f64);
    for value in values {
        let next = sum + value;
        if next.is_infinite() {
            error = 0.0;
        } else if sum.abs() >= value.abs() {
            error += (sum - next) + value;
        } else {
            error += (value - next) + sum;
        }
        sum = next;
    }
    if sum.is_infinite() { sum } else { sum + error }
}

pub(crate) fn average(values: &[f64]) -> f64 {
    sum(values.iter().copied()) / values.len() as f64
}

/// Population variance, in two passes.
pub(crate) fn variance(values: &[f64]) -> f64 {
    if values.iter().any(|v| !v.is_finite()) {
        return f64::NAN;
    }
    let mean = average(values);
    sum(values.iter().map(|v| (v - mean) * (v - mean))) / values.len() as f64
}

/// The variance, within what may be lost on the way to it: in one pass that is more, the farther the mean lies from
/// zero.
pub(crate) fn spread(query: &Query<'_>, values: &[f64]) -> f64 {
    let (mean, variance) = (average(values).abs(), variance(values));
    let lost = 1e-15 * values.len() as f64 * mean * variance.sqrt();
    // NaN stays: `max` would lose it.
    match query.moved(variance, 1e-13 * variance + lost + (1e-15 * mean).powi(2)) {
        negative if negative < 0.0 => 0.0,
        moved => moved,
    }
}

/// How wrong a slope may be: the sums it comes from cancel where the values lie far from zero.
pub(crate) fn slope_error(points: &[(i64, f64)], slope: f64) -> f64 {
    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    let condition = average(&values).abs() / variance(&values).sqrt();
    slope.abs() * (1e-11 + 1e-15 * values.len() as f64 * if condition.is_finite() { condition } else { 0.0 })
}

/// The smallest or largest number; NaN only when there is nothing else.
pub(crate) fn extreme(values: &[f64], largest: bool) -> f64 {
    let numbers = values.iter().copied().filter(|v| !v.is_nan());
    numbers.reduce(|a, b| if (b > a) == largest && a != b { b } else { a }).unwrap_or(f64::NAN)
}

/// The time of the last extreme sample, in seconds. NaN yields to whatever follows it.
pub(crate) fn time_of_extreme(points: &[(i64, f64)], largest: bool) -> f64 {
    let (mut time, mut best) = points[0];
    for (at, value) in points {
        if best.is_nan() || (if largest { *value >= best } else { *value <= best }) {
            (time, best) = (*at, *value);
        }
    }
    seconds(time)
}

/// The φ-quantile with linear interpolation between neighbours; NaN sorts below all numbers.
pub(crate) fn quantile(phi: f64, values: &[f64]) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())));
    let rank = phi * (sorted.len() - 1) as f64;
    let below = rank.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let weight = rank - rank.floor();
    sorted[below] * (1.0 - weight) + sorted[above] * weight
}

/// Median absolute deviation.
pub(crate) fn deviation(values: &[f64]) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, values);
    quantile(0.5, &values.iter().map(|v| (v - median).abs()).collect::<Vec<_>>())
}

/// Least squares: slope per second, and the line's value at `origin`.
pub(crate) fn regression(points: &[(i64, f64)], origin: i64) -> Option<(f64, f64)> {
    if points.len() < 2 {
        return None;
    }
    let first = points[0].1;
    if points.iter().all(|(_, value)| *value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    // Around the means, where nothing cancels.
    let times: Vec<f64> = points.iter().map(|(time, _)| seconds(time - origin)).collect();
    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    if values.iter().any(|v| !v.is_finite()) {
        return Some((f64::NAN, f64::NAN));
    }
    let (time, value) = (average(&times), average(&values));
    let covariance = sum(times.iter().zip(&values).map(|(t, v)| (t - time) * (v - value)));
    let slope = covariance / sum(times.iter().map(|t| (t - time) * (t - time)));
    Some((slope, value - slope * time))
}

/// Holt's linear smoothing.
pub(crate) fn smoothed(points: &[(i64, f64)], smoothing: f64, trend: f64) -> Option<f64> {
    if points.len() < 2 {
        return None;
    }
    let mut level = points[0].1;
    let mut slope = points[1].1 - points[0].1;
    let mut before = 0.0;
    for (i, (_, value)) in points.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        before = level;
        level = smoothing * value + (1.0 - smoothing) * (level + slope);
    }
    Some(level)
}
