//! Least squares and double exponential smoothing.

use varve_model::Millis;

use crate::exec::block::ABSENT;
use crate::exec::kahan;

/// Slope per second and value at `origin` of the least-squares line.
pub(super) fn regression(times: &[Millis], values: &[f64], origin: Millis) -> (f64, f64) {
    debug_assert!(times.len() >= 2);
    let first = values[0];
    if values.iter().all(|value| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let ((mut x, mut cx), (mut y, mut cy), (mut xy, mut cxy), (mut x2, mut cx2)) =
        ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    for (time, value) in times.iter().zip(values) {
        let at = time.saturating_sub(origin) as f64 / 1e3;
        (x, cx) = kahan::add(at, x, cx);
        (y, cy) = kahan::add(*value, y, cy);
        (xy, cxy) = kahan::add(at * value, xy, cxy);
        (x2, cx2) = kahan::add(at * at, x2, cx2);
    }
    let (x, y, xy, x2) = (x + cx, y + cy, xy + cxy, x2 + cx2);
    let n = values.len() as f64;
    let slope = (xy - x * y / n) / (x2 - x * x / n);
    (slope, y / n - slope * x / n)
}

/// The last smoothed value of Holt's linear method.
pub(super) fn smoothing(values: &[f64], smoothing: f64, trend: f64) -> f64 {
    let [first, second, ..] = values else { return ABSENT };
    let (mut before, mut level, mut slope) = (0.0, *first, second - first);
    for (index, value) in values.iter().enumerate().skip(1) {
        if index > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + slope);
        (before, level) = (level, next);
    }
    level
}
