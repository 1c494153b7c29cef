//! When two answers agree. This is the one place that says so.
//!
//! * Both fail, or both answer. The words of errors are not compared.
//! * They have the same series, with samples of the same kind at the same times.
//! * Numbers are equal, or differ by less than 1e-12 of the larger; all NaN are alike. Buckets that count nothing do not
//!   count. Of a histogram all numbers are compared, the schema, the bounds and whether it is a gauge; a bucket may differ
//!   by 1e-12 of the histogram's count, for what is left of a subtraction may be next to nothing.
//! * Where they do not agree so, the naive evaluator runs again and again with its results moved in their last places:
//!   what rounding alone can do is no disagreement, anything beyond it is one.
//! * Annotations agree as `note.rs` says.

use std::collections::{BTreeMap, BTreeSet};

use varve_model::histogram::ResetHint as Hint;

use crate::evaluate::{Sample, Series, Set};
use crate::histogram::Histogram;

/// An answer: samples by labels and time.
pub(crate) type Points = BTreeMap<(Set, i64), Sample>;

const NEAR: f64 = 1e-12;

/// The points of series; an error when two of them meet.
pub(crate) fn points(series: &[Series]) -> Result<Points, String> {
    let mut points = Points::new();
    for one in series {
        for (time, sample) in &one.samples {
            if points.insert((one.labels.clone(), *time), sample.clone()).is_some() {
                return Err(format!("twice: {:?} at {time}", one.labels));
            }
        }
    }
    Ok(points)
}

fn near(a: f64, b: f64, scale: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= NEAR * a.abs().max(b.abs()).max(scale)
}

fn near_histograms(a: &Histogram, b: &Histogram) -> bool {
    let scale = if a.count.is_finite() { a.count.abs() } else { 0.0 };
    let side = |a: &BTreeMap<i32, f64>, b: &BTreeMap<i32, f64>| {
        let indexes: BTreeSet<&i32> = a.keys().chain(b.keys()).collect();
        let of = |side: &BTreeMap<i32, f64>, index: &i32| side.get(index).copied().unwrap_or(0.0);
        indexes.into_iter().all(|index| near(of(a, index), of(b, index), scale))
    };
    (a.hint == Hint::Gauge) == (b.hint == Hint::Gauge)
        && a.schema == b.schema
        && a.bounds == b.bounds
        && near(a.threshold, b.threshold, 0.0)
        && near(a.zero, b.zero, scale)
        && near(a.count, b.count, 0.0)
        && near(a.sum, b.sum, scale)
        && side(&a.positive, &b.positive)
        && side(&a.negative, &b.negative)
}

/// Whether two samples agree.
pub(crate) fn same(a: &Sample, b: &Sample) -> bool {
    match (a, b) {
        (Sample::Float(a), Sample::Float(b)) => near(*a, *b, 0.0),
        (Sample::Histogram(a), Sample::Histogram(b)) => near_histograms(a, b),
        _ => false,
    }
}

/// Whether two answers agree.
pub(crate) fn agree(ours: &Points, theirs: &Points) -> bool {
    ours.keys().eq(theirs.keys()) && ours.values().zip(theirs.values()).all(|(a, b)| same(a, b))
}

/// Whether each point lies where the naive evaluator gets to when its results are moved in their last places.
pub(crate) fn is_reached(theirs: &Points, runs: &[Points]) -> bool {
    let keys: BTreeSet<_> = theirs.keys().chain(runs.iter().flat_map(BTreeMap::keys)).collect();
    !runs.is_empty()
        && keys.into_iter().all(|key| {
            let reached: Vec<Option<&Sample>> = runs.iter().map(|run| run.get(key)).collect();
            match theirs.get(key) {
                None => reached.contains(&None),
                Some(sample) => {
                    reached.iter().flatten().any(|other| same(sample, other)) || lies_between(sample, &reached)
                }
            }
        })
}

fn lies_between(sample: &Sample, reached: &[Option<&Sample>]) -> bool {
    let numbers = |sample: &Sample| -> Vec<f64> {
        match sample {
            Sample::Float(value) => vec![*value],
            Sample::Histogram(h) => {
                let h = h.as_ref().clone().compact();
                let mut all = vec![h.zero, h.count, h.sum];
                all.extend(h.positive.values().chain(h.negative.values()));
                all
            }
        }
    };
    let theirs = numbers(sample);
    let others: Vec<Vec<f64>> =
        reached.iter().flatten().map(|other| numbers(other)).filter(|other| other.len() == theirs.len()).collect();
    !others.is_empty()
        && theirs.iter().enumerate().all(|(i, value)| {
            let column = || others.iter().map(|other| other[i]).filter(|v| !v.is_nan());
            let (low, high) = (column().fold(f64::INFINITY, f64::min), column().fold(f64::NEG_INFINITY, f64::max));
            let slack = (high - low) * 2.0;
            others.iter().any(|other| near(other[i], *value, 0.0))
                || (*value >= low - slack && *value <= high + slack && low < high)
        })
}
