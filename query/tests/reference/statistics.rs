//! Sums, means, spreads and quantiles of numbers.

use crate::evaluate::Query;

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

/// Standard deviation, within what may be lost.
pub(crate) fn deviation(query: &Query<'_>, values: &[f64]) -> f64 {
    spread(query, values).sqrt()
}

/// The smallest or largest number; NaN only when there is nothing else.
pub(crate) fn extreme(values: &[f64], largest: bool) -> f64 {
    let numbers = values.iter().copied().filter(|v| !v.is_nan());
    numbers.reduce(|a, b| if (b > a) == largest && a != b { b } else { a }).unwrap_or(f64::NAN)
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
pub(crate) fn median_deviation(values: &[f64]) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, values);
    quantile(0.5, &values.iter().map(|v| (v - median).abs()).collect::<Vec<_>>())
}
