//! What happened to a counter or gauge between samples: `rate`, `increase`, `delta`, `irate`, `idelta`, resets, and the
//! values between samples that `anchored` and `smoothed` ask for.

use std::collections::BTreeMap;

use varve_model::histogram::ResetHint as Hint;
use varve_query::promql::ast::{Extended, Span};

use crate::aggregate::note_mismatch;
use crate::evaluate::{Query, Sample, Series, Set, Stored, name_of};
use crate::histogram::{Histogram, Incompatible};
use crate::selector::{Point, Window};
use crate::windows::{exponential_and_custom, histogram, mixed};

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn float(point: &Point) -> Option<(i64, f64)> {
    match point.sample {
        Sample::Float(value) => Some((point.time, value)),
        Sample::Histogram(_) => None,
    }
}

/// Whether start timestamps tell of a reset between two samples. Those that lie behind their own sample, or at it, tell
/// nothing; one that lies at the sample before tells of a delta, if that one's start is known.
fn starts_anew(before: &Point, now: &Point) -> bool {
    if now.start == 0 || now.start >= now.time || now.start < before.time {
        return false;
    }
    now.start > before.time || (before.start < before.time && before.start != 0)
}

/// A start timestamp before the sample before, and not that one's own.
fn overlaps(before: &Point, now: &Point) -> bool {
    now.start != 0 && now.start < before.time && now.start != before.start
}

/// Whether a counter was reset between two samples; a change of kind counts.
pub(crate) fn is_reset(before: &Point, now: &Point) -> bool {
    match (&before.sample, &now.sample) {
        (Sample::Float(a), Sample::Float(b)) => b < a || starts_anew(before, now),
        (Sample::Histogram(a), Sample::Histogram(b)) => starts_anew(before, now) || b.is_reset_after(a),
        _ => true,
    }
}

fn note_overlap(query: &Query<'_>, window: &Window<'_>) {
    if window.points.windows(2).any(|pair| overlaps(&pair[0], &pair[1])) {
        let text = "sample has start time that overlaps with previous sample timestamp for metric";
        query.notes.warn(format!("{text} {:?}", window.metric()), window.place);
    }
}

fn not_a(query: &Query<'_>, what: &str, window: &Window<'_>) {
    query.notes.warn(format!("this native histogram metric is not a {what}: {:?}", window.metric()), window.place);
}

/// `rate` and `increase` of names that are no counter's.
pub(crate) fn name_of_no_counter(query: &Query<'_>, labels: &Set, result: &Series, place: Span) {
    let has_floats = result.samples.values().any(|sample| matches!(sample, Sample::Float(_)));
    let name = name_of(labels);
    if !has_floats || name.is_empty() {
        return;
    }
    if query.type_labels {
        let kind = labels.get("__type__").map_or("", String::as_str);
        if !["counter", "histogram"].contains(&kind) {
            let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got";
            query.notes.inform(format!("{text} {kind:?}: {name:?}"), place);
        }
    } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix)) {
        let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        query.notes.inform(format!("{text} {name:?}"), place);
    }
}

/// `rate`, `increase` (counters) and `delta`.
pub(crate) fn rate(query: &Query<'_>, function: &str, window: &Window<'_>) -> Option<Sample> {
    let counter = function != "delta";
    let per_second = function == "rate";
    let floats: Vec<(i64, f64)> = window.points.iter().filter_map(float).collect();
    let histograms: Vec<&Histogram> = window.points.iter().filter_map(histogram).collect();
    if !floats.is_empty() && !histograms.is_empty() {
        mixed(query, window);
        return None;
    }
    let result = match (window.extended, floats.is_empty()) {
        (Some(extended), false) => {
            let change = between_floats(&floats, window, extended == Extended::Smoothed, counter)?;
            Sample::Float(if per_second { change / seconds(window.end - window.begin) } else { change })
        }
        (Some(extended), true) => {
            let change = between_histograms(query, window, extended == Extended::Smoothed, counter)?;
            let change = if per_second { change.divided_by(seconds(window.end - window.begin)) } else { change };
            Sample::Histogram(Box::new(change.compact()))
        }
        (None, false) => {
            let mut change = floats[floats.len() - 1].1 - floats[0].1;
            if counter {
                note_overlap(query, window);
                for (i, pair) in window.points.windows(2).enumerate() {
                    if is_reset(&pair[0], &pair[1]) {
                        change += floats[i].1;
                    }
                }
            }
            // A counter's zero bounds the way back to its beginning.
            let zero = (change > 0.0 && floats[0].1 >= 0.0).then(|| floats[0].1 / change);
            let (from_zero, factor) = extrapolation(window, counter, per_second, zero)?;
            Sample::Float((if from_zero { change + floats[0].1 } else { change }) * factor)
        }
        (None, true) => {
            let change = match histograms.len() {
                1 => None,
                _ => Some(histogram_change(query, window, &histograms, counter)?),
            };
            let zero = change.as_ref().filter(|change| change.count > 0.0 && histograms[0].count >= 0.0);
            let zero = zero.map(|change| histograms[0].count / change.count);
            let (from_zero, factor) = extrapolation(window, counter, per_second, zero)?;
            let change = match change {
                None => histograms[0].clone(),
                Some(change) if from_zero => match change.plus(histograms[0]) {
                    Ok((sum, remarks)) => {
                        note_mismatch(query, remarks, "addition", window.place);
                        sum
                    }
                    Err(Incompatible) => {
                        exponential_and_custom(query, window);
                        return None;
                    }
                },
                Some(change) => change,
            };
            Sample::Histogram(Box::new(change.times(factor)))
        }
    };
    Some(match result {
        Sample::Float(value) => Sample::Float(query.rounded(value)),
        Sample::Histogram(h) => Sample::Histogram(Box::new(query.rounded_histogram(*h))),
    })
}

/// Whether the counter began inside of the range by its start timestamp, and by what the change between first and last
/// sample grows: it is extrapolated towards the ends of the range, but no further than half a sample distance where the
/// samples end well inside of it, and for counters not below zero.
fn extrapolation(window: &Window<'_>, counter: bool, per_second: bool, zero: Option<f64>) -> Option<(bool, f64)> {
    let (first, last) = (&window.points[0], &window.points[window.points.len() - 1]);
    let mut sampled = seconds(last.time - first.time);
    let gaps = window.points.len() - 1;
    let distance = if gaps > 0 { sampled / gaps as f64 } else { 0.0 };
    let threshold = distance * 1.1;
    let mut to_start = seconds(first.time - window.begin);
    let mut to_end = seconds(window.end - last.time);
    let from_zero = counter && first.start != 0 && first.start > window.begin && first.start < first.time;
    if from_zero {
        to_start = 0.0;
        sampled = seconds(last.time - first.start);
    } else if gaps == 0 {
        return None;
    } else {
        if to_start >= threshold {
            to_start = distance / 2.0;
        }
        if let (true, Some(zero)) = (counter, zero) {
            let to_zero = sampled * zero;
            to_start = if to_zero < to_start { to_zero } else { to_start };
        }
    }
    if to_end >= threshold {
        to_end = distance / 2.0;
    }
    let mut factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
    if per_second {
        factor /= seconds(window.end - window.begin);
    }
    Some((from_zero, factor))
}

/// The change from the first to the last histogram of a window.
fn histogram_change(
    query: &Query<'_>,
    window: &Window<'_>,
    histograms: &[&Histogram],
    counter: bool,
) -> Option<Histogram> {
    let points = window.points;
    let count = histograms.len();
    let (mut first, second, last) = (histograms[0].clone(), histograms[1], histograms[count - 1]);
    if counter && (first.hint == Hint::Gauge || last.hint == Hint::Gauge) {
        not_a(query, "counter", window);
    }
    if counter && is_reset(&points[0], &points[1]) {
        // What was before the reset need not fit what follows.
        first = Histogram::nothing_like(second);
    }
    if last.is_custom() != first.is_custom() {
        exponential_and_custom(query, window);
        return None;
    }
    let mut schema = first.schema.min(last.schema);
    if counter {
        for between in &histograms[1..count - 1] {
            if between.is_custom() != first.is_custom() {
                exponential_and_custom(query, window);
                return None;
            }
            if between.hint == Hint::Gauge {
                not_a(query, "counter", window);
            }
            schema = schema.min(between.schema);
        }
    }
    let (mut change, remarks) = last.clone().at_schema(schema).minus(&first).ok()?;
    note_mismatch(query, remarks, "subtraction", window.place);
    if counter {
        note_overlap(query, window);
        let mut before = first;
        for (pair, now) in points.windows(2).zip(&histograms[1..]) {
            if starts_anew(&pair[0], &pair[1]) || now.is_reset_after(&before) {
                let (sum, remarks) = change.plus(&before).ok()?;
                note_mismatch(query, remarks, "addition", window.place);
                change = sum;
            }
            before = (*now).clone();
        }
    } else if histograms[0].hint != Hint::Gauge || last.hint != Hint::Gauge {
        not_a(query, "gauge", window);
    }
    change.hint = Hint::Gauge;
    Some(change.compact())
}

/// `irate` and `idelta`: between the last two samples.
pub(crate) fn instant(query: &Query<'_>, counter: bool, window: &Window<'_>) -> Option<Sample> {
    let [.., before, now] = window.points else { return None };
    let elapsed = seconds(now.time - before.time);
    match (&before.sample, &now.sample) {
        (Sample::Float(a), Sample::Float(b)) => {
            let change = if counter && is_reset(before, now) { *b } else { b - a };
            Some(Sample::Float(query.rounded(if counter { change / elapsed } else { change })))
        }
        (Sample::Histogram(a), Sample::Histogram(b)) => {
            let gauges = [a, b].iter().filter(|h| h.hint == Hint::Gauge).count();
            if counter && gauges > 0 {
                not_a(query, "counter", window);
            }
            if !counter && gauges < 2 {
                not_a(query, "gauge", window);
            }
            let mut change = (**b).clone();
            if !counter || !is_reset(before, now) {
                match change.minus(a) {
                    Ok((difference, remarks)) => {
                        note_mismatch(query, remarks, "subtraction", window.place);
                        change = difference;
                    }
                    Err(Incompatible) => {
                        exponential_and_custom(query, window);
                        return None;
                    }
                }
            }
            change.hint = Hint::Gauge;
            let change = change.compact();
            let change = if counter { change.divided_by(elapsed) } else { change };
            Some(Sample::Histogram(Box::new(query.rounded_histogram(change))))
        }
        _ => {
            mixed(query, window);
            None
        }
    }
}

/// The value on the line between two samples; a counter that fell starts from zero.
fn on_line(a: (i64, f64), b: (i64, f64), time: i64, counter: bool) -> f64 {
    let from = if counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * (time - a.0) as f64 / (b.0 - a.0) as f64
}

/// The samples at or around the ends of a range: the last at or before its begin (else the first), and with `smoothed`
/// the first at or after its end (else the last).
fn ends(times: &[i64], window: &Window<'_>, smoothed: bool) -> Option<(usize, usize)> {
    let (end, others) = (times.len() - 1, &times[..times.len() - 1]);
    let first = others.partition_point(|time| *time <= window.begin).saturating_sub(1);
    let last = match smoothed {
        true => others.iter().position(|time| *time >= window.end).unwrap_or(end),
        false => end,
    };
    (times[last] > window.begin && !(smoothed && times[first] > window.end)).then_some((first, last))
}

fn between_floats(floats: &[(i64, f64)], window: &Window<'_>, smoothed: bool, counter: bool) -> Option<f64> {
    let times: Vec<i64> = floats.iter().map(|(time, _)| *time).collect();
    let (first, last) = ends(&times, window, smoothed)?;
    let left = match smoothed && times[first] < window.begin {
        true => on_line(floats[first], floats[first + 1], window.begin, counter),
        false => floats[first].1,
    };
    let right = match smoothed && last > 0 && times[last] > window.end {
        true => on_line(floats[last - 1], floats[last], window.end, counter),
        false => floats[last].1,
    };
    let mut change = right - left;
    if counter {
        // The samples strictly inside, or the ends where they lie inside.
        let inside = floats[first..=last].iter().filter(|(time, _)| *time > window.begin && *time < window.end);
        let mut before = left;
        for value in inside.map(|(_, value)| *value).chain([right]) {
            if value < before {
                change += before;
            }
            before = value;
        }
    }
    Some(change)
}

/// The histogram on the line between two.
fn histogram_on_line(
    query: &Query<'_>,
    (from, a): (i64, &Histogram),
    (to, b): (i64, &Histogram),
    time: i64,
    counter: bool,
    place: Span,
) -> Result<Histogram, Incompatible> {
    if time == from {
        return Ok(a.clone());
    }
    if time == to {
        return Ok(b.clone());
    }
    let fraction = (time - from) as f64 / (to - from) as f64;
    if counter && b.is_reset_after(a) {
        return Ok(b.clone().times(fraction));
    }
    let (difference, remarks) = b.clone().minus(a)?;
    note_mismatch(query, remarks, "subtraction", place);
    let (sum, remarks) = difference.times(fraction).plus(a)?;
    note_mismatch(query, remarks, "addition", place);
    Ok(sum)
}

fn between_histograms(query: &Query<'_>, window: &Window<'_>, smoothed: bool, counter: bool) -> Option<Histogram> {
    let points: Vec<(i64, &Histogram)> =
        window.points.iter().filter_map(|point| Some((point.time, histogram(point)?))).collect();
    let times: Vec<i64> = points.iter().map(|(time, _)| *time).collect();
    let (first, last) = ends(&times, window, smoothed)?;
    for (_, h) in &points[first..=last] {
        if h.is_custom() != points[first].1.is_custom() {
            exponential_and_custom(query, window);
            return None;
        }
        if counter && h.hint == Hint::Gauge {
            not_a(query, "counter", window);
        }
    }
    // From here all have buckets of one kind.
    let left_on_line = smoothed && times[first] < window.begin;
    let left = match left_on_line {
        true => histogram_on_line(query, points[first], points[first + 1], window.begin, counter, window.place).ok()?,
        false => points[first].1.clone(),
    };
    let right = match smoothed && last > 0 && times[last] > window.end {
        true => histogram_on_line(query, points[last - 1], points[last], window.end, counter, window.place).ok()?,
        false => points[last].1.clone(),
    };
    if !counter && (left.hint != Hint::Gauge || right.hint != Hint::Gauge) {
        not_a(query, "gauge", window);
    }
    let (mut change, remarks) = right.clone().minus(&left).ok()?;
    note_mismatch(query, remarks, "subtraction", window.place);
    if counter {
        let mut next = first + 1;
        let mut before = left;
        if left_on_line && points[next].1.is_reset_after(points[first].1) {
            // The reset lies where the left end was interpolated, and is accounted for there.
            before = points[next].1.clone();
            next += 1;
        }
        if next <= last {
            // The right end stands for the last sample.
            let mut correction: Option<Histogram> = None;
            let between = points[next..last].iter().map(|(_, h)| *h);
            for now in between.chain([&right]) {
                if now.is_reset_after(&before) {
                    correction = Some(match correction {
                        None => before.clone(),
                        Some(sum) => {
                            let (sum, remarks) = sum.plus(&before).ok()?;
                            note_mismatch(query, remarks, "addition", window.place);
                            sum
                        }
                    });
                }
                before = now.clone();
            }
            if let Some(correction) = correction {
                let (sum, remarks) = change.plus(&correction).ok()?;
                note_mismatch(query, remarks, "addition", window.place);
                change = sum;
            }
        }
    }
    change.hint = Hint::Gauge;
    Some(change)
}

/// A smoothed instant selector: the value between the samples around a time, or of the last one when none follows.
pub(crate) fn at_time(
    query: &Query<'_>,
    samples: &BTreeMap<i64, Stored>,
    time: i64,
    metric: &str,
    place: Span,
) -> Option<Sample> {
    let inside = samples.range(time - query.lookback + 1..=time + query.lookback);
    let points: Vec<(i64, &Sample)> =
        inside.filter(|(_, stored)| !stored.sample.is_stale()).map(|(at, stored)| (*at, &stored.sample)).collect();
    let floats = points.iter().filter(|(_, sample)| matches!(sample, Sample::Float(_))).count();
    if floats > 0 && floats < points.len() {
        let text = format!("encountered a mix of histograms and floats for metric name {metric:?}");
        query.notes.warn(text, place);
        return None;
    }
    let after = points.iter().position(|(at, _)| *at >= time).unwrap_or(points.len());
    if let Some((at, sample)) = points.get(after)
        && *at == time
    {
        return Some((*sample).clone());
    }
    let (from, before) = points.get(after.checked_sub(1)?)?;
    let Some((to, next)) = points.get(after) else {
        let mut carried = (*before).clone();
        if let Sample::Histogram(h) = &mut carried {
            h.hint = Hint::Unknown;
        }
        return Some(carried);
    };
    match (before, next) {
        (Sample::Float(a), Sample::Float(b)) => {
            Some(Sample::Float(query.rounded(on_line((*from, *a), (*to, *b), time, false))))
        }
        (Sample::Histogram(a), Sample::Histogram(b)) => {
            let counter = a.hint != Hint::Gauge || b.hint != Hint::Gauge;
            match a.is_custom() == b.is_custom() {
                true => {
                    let h = histogram_on_line(query, (*from, a), (*to, b), time, counter, place).ok()?;
                    Some(Sample::Histogram(Box::new(query.rounded_histogram(h))))
                }
                false => {
                    let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
                    query.notes.warn(format!("{text} {metric:?}"), place);
                    None
                }
            }
        }
        _ => None,
    }
}
