//! The order of instant vectors: by value, or by labels with numbers in them counted as such.

use std::cmp::Ordering;

use crate::evaluate::{Frame, Outcome, Query, Sample, Series};

/// `sort` and its kin. Range queries have no order; sorting by value leaves histograms out all the same.
pub(crate) fn sort(
    query: &Query<'_>,
    function: &str,
    mut series: Vec<Series>,
    labels: &[&str],
    frame: Frame,
) -> Outcome<Vec<Series>> {
    let by_label = function.starts_with("sort_by_label");
    if !by_label {
        for one in &mut series {
            one.samples.retain(|_, sample| matches!(sample, Sample::Float(_)));
        }
        series.retain(|one| !one.samples.is_empty());
    }
    if !frame.is_once() {
        return query.each_step(frame, |_, time| Ok(crate::evaluate::at(&series, time)));
    }
    let value = |one: &Series| match one.samples[&frame.start] {
        Sample::Float(value) => value,
        Sample::Histogram(_) => f64::NAN,
    };
    series.sort_by(|a, b| match function {
        "sort" => by_value(value(a), value(b)),
        // NaN comes last either way.
        "sort_desc" => match (value(a).is_nan(), value(b).is_nan()) {
            (false, false) => by_value(value(b), value(a)),
            (a, b) => a.cmp(&b),
        },
        "sort_by_label" => by_labels(a, b, labels),
        _ => by_labels(b, a, labels),
    });
    Ok(series)
}

fn by_value(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn by_labels(a: &Series, b: &Series, labels: &[&str]) -> Ordering {
    let value = |one: &Series, label: &str| one.labels.get(label).cloned().unwrap_or_default();
    let first = labels.iter().map(|label| natural(&value(a, label), &value(b, label))).find(|order| order.is_ne());
    first.unwrap_or_else(|| a.labels.cmp(&b.labels))
}

/// Runs of digits compare as numbers, what is between them as text.
fn natural(a: &str, b: &str) -> Ordering {
    let runs = |text: &str| -> Vec<String> {
        let mut runs: Vec<String> = Vec::new();
        for c in text.chars() {
            match runs.last_mut() {
                Some(run) if run.ends_with(|last: char| last.is_ascii_digit()) == c.is_ascii_digit() => run.push(c),
                _ => runs.push(c.to_string()),
            }
        }
        runs
    };
    let (a, b) = (runs(a), runs(b));
    for (a, b) in a.iter().zip(&b) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}
