//! Classic histograms: series of a vector that differ in `le` alone; and their quantiles beside those of native ones.

use std::collections::BTreeMap;

use varve_query::promql::ast::Span;

use crate::buckets::{self, Caveat};
use crate::evaluate::{Element, Query, Sample, Set, name_of};
use crate::histogram::Histogram;
use crate::note::{Levelled, of_metric};

/// Upper bounds and cumulative counts.
type Buckets = Vec<(f64, f64)>;

/// The histograms of a vector, native and classic; of equal labels neither.
pub(crate) struct Split {
    pub(crate) native: Vec<(Element, Histogram)>,
    pub(crate) classic: Vec<(Element, Buckets)>,
}

/// The metric name that annotations tell: none where it has been dropped by now.
fn told<'l>(query: &Query<'_>, labels: &'l Set) -> &'l str {
    if query.delayed_names { name_of(labels) } else { "" }
}

pub(crate) fn split(query: &Query<'_>, vector: Vec<Element>, place: Span) -> Split {
    let mut classic: BTreeMap<Set, (Element, Buckets)> = BTreeMap::new();
    let mut native = Vec::new();
    for mut element in vector {
        let count = match &element.sample {
            Sample::Float(count) => *count,
            Sample::Histogram(h) => {
                let h = (**h).clone();
                native.push((element, h));
                continue;
            }
        };
        let le = element.labels.remove("le").unwrap_or_default();
        match le.parse::<f64>() {
            Ok(bound) => {
                let labels = element.labels.clone();
                classic.entry(labels).or_insert((element, Vec::new())).1.push((bound, count));
            }
            Err(_) => {
                let text = format!("bucket label \"le\" is missing or has a malformed value of {le:?}");
                query.notes.warn(of_metric(&text, told(query, &element.labels)), place);
            }
        }
    }
    native.retain(|(element, _)| {
        if classic.remove(&element.labels).is_none() {
            return true;
        }
        let text = "vector contains a mix of classic and native histograms";
        query.notes.warn(of_metric(text, told(query, &element.labels)), place);
        false
    });
    for (_, buckets) in classic.values_mut() {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut merged: Buckets = Vec::new();
        for (bound, count) in buckets.drain(..) {
            match merged.last_mut() {
                Some(last) if last.0 == bound => last.1 += count,
                _ => merged.push((bound, count)),
            }
        }
        *buckets = merged;
    }
    Split { native, classic: classic.into_values().collect() }
}

/// The φ-quantile of each histogram of a vector.
pub(crate) fn quantiles(query: &Query<'_>, split: &Split, phi: f64, place: Span, time: i64) -> Vec<Element> {
    let mut out = Vec::new();
    for (element, h) in &split.native {
        let mut element = element.clone();
        query.drop_name(&mut element.labels, &mut element.drops_name);
        let (value, caveat) = buckets::quantile(h, phi);
        let text = match caveat {
            Some(Caveat::IsNaN) => Some("input to histogram_quantile has NaN observations, result is NaN"),
            Some(_) => Some("input to histogram_quantile has NaN observations, result is skewed higher"),
            None => None,
        };
        if let Some(text) = text {
            query.notes.inform(of_metric(text, told(query, &element.labels)), place);
        }
        element.sample = Sample::Float(query.moved(value, 1e-14 * value.abs()));
        out.push(element);
    }
    for (element, buckets) in &split.classic {
        let mut element = element.clone();
        let value = quantile(query, phi, buckets.clone(), told(query, &element.labels), place, time);
        query.drop_name(&mut element.labels, &mut element.drops_name);
        element.sample = Sample::Float(query.rounded(value));
        out.push(element);
    }
    out
}

/// The part of the observations between two values, of each histogram of a vector.
pub(crate) fn fractions(query: &Query<'_>, split: &Split, lower: f64, upper: f64, place: Span) -> Vec<Element> {
    let mut out = Vec::new();
    for (element, h) in &split.native {
        let mut element = element.clone();
        query.drop_name(&mut element.labels, &mut element.drops_name);
        let (value, caveat) = buckets::fraction(h, lower, upper);
        if caveat.is_some() {
            let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
            query.notes.inform(of_metric(text, told(query, &element.labels)), place);
        }
        element.sample = Sample::Float(query.moved(value, 1e-14));
        out.push(element);
    }
    for (element, buckets) in &split.classic {
        let mut element = element.clone();
        query.drop_name(&mut element.labels, &mut element.drops_name);
        element.sample = Sample::Float(query.moved(fraction(lower, upper, buckets), 1e-15));
        out.push(element);
    }
    out
}

fn quantile(query: &Query<'_>, phi: f64, mut buckets: Buckets, metric: &str, place: Span, time: i64) -> f64 {
    if phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
        return f64::NAN;
    }
    // Among NaN nothing can be found, and it is open what is.
    if buckets.iter().any(|(_, count)| count.is_nan()) {
        query.ambiguous.set(true);
        return f64::NAN;
    }
    // Counts never fall from bucket to bucket, and do not rise by rounding errors.
    let mut highest = buckets[0].1;
    let mut levelled: Option<Levelled> = None;
    for (bound, count) in &mut buckets[1..] {
        if *count == highest {
            continue;
        }
        if is_almost(highest, *count) {
            *count = highest;
        } else if *count < highest {
            let fell = levelled.get_or_insert(Levelled {
                first: time,
                last: time,
                bound_min: *bound,
                bound_max: *bound,
                difference: 0.0,
            });
            fell.bound_max = *bound;
            fell.difference = fell.difference.max(highest - *count);
            *count = highest;
        } else {
            highest = *count;
        }
    }
    if let Some(levelled) = levelled {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        query.notes.level(of_metric(text, metric), place, levelled);
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].1;
    if buckets.len() < 2 || observations == 0.0 {
        return f64::NAN;
    }
    let rank = phi * observations;
    let index = buckets[..last].partition_point(|(_, count)| *count < rank);
    if index == last {
        return buckets[last - 1].0;
    }
    if index == 0 && buckets[0].0 <= 0.0 {
        return buckets[0].0;
    }
    let (begin, below) = if index == 0 { (0.0, 0.0) } else { buckets[index - 1] };
    let (end, count) = buckets[index];
    begin + (end - begin) * ((rank - below) / (count - below))
}

/// What rounding errors may have parted.
fn is_almost(a: f64, b: f64) -> bool {
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < 1e-12 * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < 1e-12
}

fn fraction(lower: f64, upper: f64, buckets: &Buckets) -> f64 {
    let Some((f64::INFINITY, total)) = buckets.last().copied() else { return f64::NAN };
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    // The cumulative count at a value: linear inside a bucket, flat in those without end.
    let rank = |value: f64| {
        let mut begin = if buckets[0].0 <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
        let mut below = 0.0;
        for (end, count) in buckets {
            if value <= begin {
                return below;
            }
            if value < *end {
                return if begin == f64::NEG_INFINITY {
                    *count
                } else {
                    below + (count - below) * (value - begin) / (end - begin)
                };
            }
            (begin, below) = (*end, *count);
        }
        total
    };
    let rank = |value: f64| {
        let rank = rank(value);
        if rank > total { total } else { rank }
    };
    (rank(upper) - rank(lower)) / total
}
