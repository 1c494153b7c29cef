//! Functions of one series' samples in a range: `*_over_time`, `changes`, `resets`, regression. Rates are in `rates.rs`.

use varve_query::promql::ast::Extended;

use crate::evaluate::{Outcome, Query, Sample};
use crate::histogram::Histogram;
use crate::numbers::shortest;
use crate::selector::{Point, Window};
use crate::statistics::{average, deviation, extreme, median_deviation, quantile, spread, sum};
use crate::{aggregate, rates};

/// The function of one series' window; `None` where it has no result. There is at least one point.
pub(crate) fn apply(
    query: &Query<'_>,
    function: &str,
    window: &Window<'_>,
    scalars: &[f64],
) -> Outcome<Option<Sample>> {
    let points = window.points;
    let floats: Vec<(i64, f64)> = points
        .iter()
        .filter_map(|point| match point.sample {
            Sample::Float(value) => Some((point.time, value)),
            Sample::Histogram(_) => None,
        })
        .collect();
    let values: Vec<f64> = floats.iter().map(|(_, value)| *value).collect();
    let has_histograms = floats.len() < points.len();
    let number = |value: f64| Ok(Some(Sample::Float(value)));
    let seconds = |time: i64| Ok(Some(Sample::Float(time as f64 / 1000.0)));
    let (first, last) = (&points[0], &points[points.len() - 1]);

    match function {
        "rate" | "increase" | "delta" => return Ok(rates::rate(query, function, window)),
        "irate" | "idelta" => return Ok(rates::instant(query, function == "irate", window)),
        "count_over_time" => return number(points.len() as f64),
        "present_over_time" | "absent_over_time" => return number(1.0),
        "first_over_time" => return Ok(Some(first.sample.clone())),
        "last_over_time" => return Ok(Some(last.sample.clone())),
        "ts_of_first_over_time" => return seconds(first.time),
        "ts_of_last_over_time" => return seconds(last.time),
        "changes" => return Ok(anchored(window).map(|points| count(points, |a, b| is_change(&a.sample, &b.sample)))),
        "resets" => return Ok(anchored(window).map(|points| count(points, rates::is_reset))),
        "sum_over_time" | "avg_over_time" => return Ok(total(query, function == "avg_over_time", window, &values)),
        _ => {}
    }

    // All others look at floats alone, and remark on histograms beside them.
    let least = match function {
        "deriv" | "predict_linear" => 2,
        "double_exponential_smoothing" => {
            for (factor, name) in scalars.iter().zip(["smoothing", "trend"]) {
                if *factor <= 0.0 || *factor >= 1.0 {
                    return Err(format!("invalid {name} factor"));
                }
            }
            2
        }
        _ => 1,
    };
    if floats.is_empty() {
        return Ok(None);
    }
    if function == "quantile_over_time" && !(0.0..=1.0).contains(&scalars[0]) {
        let text = format!("quantile value should be between 0 and 1, got {}", shortest(scalars[0]));
        query.notes.warn(text, window.place);
    }
    if has_histograms {
        let text = "ignored histograms in a range containing both floats and histograms for metric name";
        query.notes.inform(format!("{text} {:?}", window.metric()), window.place);
    }
    if floats.len() < least {
        return Ok(None);
    }
    let rounded = |value: f64| Ok(Some(Sample::Float(query.rounded(value))));
    match function {
        "min_over_time" => number(extreme(&values, false)),
        "max_over_time" => number(extreme(&values, true)),
        "ts_of_max_over_time" => seconds(time_of_extreme(&floats, true)),
        "ts_of_min_over_time" => seconds(time_of_extreme(&floats, false)),
        "stddev_over_time" => rounded(deviation(query, &values)),
        "stdvar_over_time" => rounded(spread(query, &values)),
        "mad_over_time" => rounded(median_deviation(&values)),
        "quantile_over_time" => rounded(quantile(scalars[0], &values)),
        "deriv" => {
            let (slope, _) = regression(&floats, floats[0].0);
            number(query.moved(slope, slope_error(&floats, slope)))
        }
        "predict_linear" => {
            let (slope, now) = regression(&floats, window.time);
            let ahead = scalars[0];
            // The line is followed from the samples to the time ahead.
            let way = ((window.time - floats[0].0) as f64 / 1000.0 + ahead).abs();
            number(query.moved(slope * ahead + now, slope_error(&floats, slope) * way + now.abs() * 1e-14))
        }
        "double_exponential_smoothing" => {
            let smoothed = smoothed(&values, scalars[0], scalars[1]);
            number(query.moved(smoothed, 1e-13 * smoothed.abs()))
        }
        other => Err(format!("{other}() is not known")),
    }
}

/// The points that count changes: with `anchored` those of the range and the one before it, if there is any in it.
fn anchored<'p>(window: &Window<'p>) -> Option<&'p [Point]> {
    if window.extended != Some(Extended::Anchored) {
        return Some(window.points);
    }
    let inside = window.points.partition_point(|point| point.time <= window.begin);
    (inside < window.points.len()).then(|| &window.points[inside.saturating_sub(1)..])
}

fn count(points: &[Point], happens: impl Fn(&Point, &Point) -> bool) -> Sample {
    Sample::Float(points.windows(2).filter(|pair| happens(&pair[0], &pair[1])).count() as f64)
}

fn is_change(before: &Sample, now: &Sample) -> bool {
    match (before, now) {
        (Sample::Float(a), Sample::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Sample::Histogram(a), Sample::Histogram(b)) => !b.equals(a),
        _ => true,
    }
}

fn total(query: &Query<'_>, mean: bool, window: &Window<'_>, values: &[f64]) -> Option<Sample> {
    if values.len() == window.points.len() {
        let value = if mean { average(values) } else { sum(values.iter().copied()) };
        return Some(Sample::Float(query.rounded(value)));
    }
    if !values.is_empty() {
        mixed(query, window);
        return None;
    }
    let histograms: Vec<&Histogram> = window.points.iter().filter_map(histogram).collect();
    match aggregate::total(&histograms) {
        Ok((total, remarks)) => {
            aggregate::note_remarks(query, remarks, window.place);
            let total = if mean { total.divided_by(histograms.len() as f64) } else { total };
            Some(Sample::Histogram(Box::new(query.rounded_histogram(total))))
        }
        Err(_) => {
            exponential_and_custom(query, window);
            None
        }
    }
}

pub(crate) fn histogram(point: &Point) -> Option<&Histogram> {
    match &point.sample {
        Sample::Float(_) => None,
        Sample::Histogram(histogram) => Some(histogram),
    }
}

/// Remarks that floats and histograms do not go together.
pub(crate) fn mixed(query: &Query<'_>, window: &Window<'_>) {
    let text = format!("encountered a mix of histograms and floats for metric name {:?}", window.metric());
    query.notes.warn(text, window.place);
}

/// Remarks that exponential and custom buckets do not go together.
pub(crate) fn exponential_and_custom(query: &Query<'_>, window: &Window<'_>) {
    let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
    query.notes.warn(format!("{text} {:?}", window.metric()), window.place);
}

/// The time of the last extreme sample. NaN yields to whatever follows it.
fn time_of_extreme(points: &[(i64, f64)], largest: bool) -> i64 {
    let (mut time, mut best) = points[0];
    for (at, value) in points {
        if best.is_nan() || (if largest { *value >= best } else { *value <= best }) {
            (time, best) = (*at, *value);
        }
    }
    time
}

/// How wrong a slope may be: the sums it comes from cancel where the values lie far from zero.
fn slope_error(points: &[(i64, f64)], slope: f64) -> f64 {
    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    let condition = average(&values).abs() / crate::statistics::variance(&values).sqrt();
    slope.abs() * (1e-11 + 1e-15 * values.len() as f64 * if condition.is_finite() { condition } else { 0.0 })
}

/// Least squares: slope per second, and the line's value at `origin`.
fn regression(points: &[(i64, f64)], origin: i64) -> (f64, f64) {
    let first = points[0].1;
    if points.iter().all(|(_, value)| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    // Around the means, where nothing cancels.
    let times: Vec<f64> = points.iter().map(|(time, _)| (time - origin) as f64 / 1000.0).collect();
    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    if values.iter().any(|v| !v.is_finite()) {
        return (f64::NAN, f64::NAN);
    }
    let (time, value) = (average(&times), average(&values));
    let covariance = sum(times.iter().zip(&values).map(|(t, v)| (t - time) * (v - value)));
    let slope = covariance / sum(times.iter().map(|t| (t - time) * (t - time)));
    (slope, value - slope * time)
}

/// Holt's linear smoothing.
fn smoothed(values: &[f64], smoothing: f64, trend: f64) -> f64 {
    let mut level = values[0];
    let mut slope = values[1] - values[0];
    let mut before = 0.0;
    for (i, value) in values.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        before = level;
        level = smoothing * value + (1.0 - smoothing) * (level + slope);
    }
    level
}
