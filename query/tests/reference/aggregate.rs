//! Aggregations.

use std::collections::{BTreeMap, BTreeSet};

use varve_model::histogram::ResetHint as Hint;
use varve_query::promql::ast::{Aggregate, AggregateOp, Expr, Span};

use crate::evaluate::{
    Element, Frame, METRIC_NAME, Outcome, Query, Sample, Series, Set, at, name_of, start_of, strip, text,
};
use crate::histogram::{Histogram, Incompatible, Remarks};
use crate::numbers::shortest;
use crate::statistics::{average, deviation, extreme, quantile, spread, sum};
use crate::{buckets, hash, numbers};

fn group(labels: &Set, grouping: &BTreeSet<&str>, without: bool) -> Set {
    let keep =
        |name: &str| if without { !grouping.contains(name) && name != METRIC_NAME } else { grouping.contains(name) };
    labels.iter().filter(|(name, _)| keep(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// What annotations about the aggregated are about.
fn inner_place(expr: &Expr) -> Span {
    let inner = strip(expr);
    Span { begin: start_of(inner), ..inner.span }
}

pub(crate) fn aggregate(query: &Query<'_>, node: &Aggregate, span: Span, frame: Frame) -> Outcome<Vec<Series>> {
    let grouping: BTreeSet<&str> = node.grouping.iter().map(String::as_str).collect();
    let inner = inner_place(&node.expr);
    if node.op == AggregateOp::CountValues {
        return count_values(query, node, grouping, frame);
    }
    let params = match &node.param {
        Some(param) => query.scalar(param, frame)?,
        None => frame.times().map(|_| 0.0).collect(),
    };
    let input = query.vector(&node.expr, frame)?;
    let param_place = node.param.as_ref().map_or(span, |param| inner_place(param));
    if !check_params(query, node.op, &params, param_place)? {
        return Ok(Vec::new());
    }
    query
        .each_step(frame, |step, time| {
            let mut groups: BTreeMap<Set, Vec<Element>> = BTreeMap::new();
            for element in at(&input, time) {
                groups.entry(group(&element.labels, &grouping, node.without)).or_default().push(element);
            }
            let mut out = Vec::new();
            for (labels, members) in groups {
                match node.op {
                    AggregateOp::TopK | AggregateOp::BottomK => {
                        let members = floats_only(query, members, node.op, span);
                        out.extend(best(query, members, params[step], node.op == AggregateOp::TopK));
                    }
                    AggregateOp::LimitK => {
                        let k = whole(params[step], members.len());
                        if 0 < k && k < members.len() {
                            // Which ones is open.
                            query.ambiguous.set(true);
                        }
                        out.extend(members.into_iter().take(k));
                    }
                    AggregateOp::LimitRatio => {
                        out.extend(members.into_iter().filter(|member| in_ratio(&member.labels, params[step])));
                    }
                    _ => out.extend(combined(query, node.op, labels, members, params[step], inner)),
                }
            }
            Ok(out)
        })
        .map(|mut series| {
            if !matches!(
                node.op,
                AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio
            ) {
                // The last step that had the group says whether its name goes.
                for one in &mut series {
                    let last = one.samples.keys().next_back().copied().unwrap_or(frame.start);
                    let members = at(&input, last);
                    let members = members.iter().filter(|m| group(&m.labels, &grouping, node.without) == one.labels);
                    one.drops_name = members.into_iter().any(|member| member.drops_name);
                }
            }
            series
        })
}

/// Whether there is anything to do; remarks on and errors of parameters, which are looked at for all steps at once.
fn check_params(query: &Query<'_>, op: AggregateOp, params: &[f64], place: Span) -> Outcome<bool> {
    let any_nan = params.iter().any(|param| param.is_nan());
    let numbers = || params.iter().copied().filter(|param| !param.is_nan());
    let most = numbers().reduce(f64::max).unwrap_or(f64::NAN);
    let least = numbers().reduce(f64::min).unwrap_or(f64::NAN);
    match op {
        AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK => {
            if any_nan {
                return Err("Parameter value is NaN".to_owned());
            }
            if most < 1.0 {
                return Ok(false);
            }
            if least <= i64::MIN as f64 || most >= i64::MAX as f64 {
                return Err("Scalar value overflows int64".to_owned());
            }
        }
        AggregateOp::LimitRatio => {
            if any_nan {
                return Err("Ratio value is NaN".to_owned());
            }
            if most == 0.0 && least == 0.0 {
                return Ok(false);
            }
            let text = "ratio value should be between -1 and 1, got";
            if most > 1.0 {
                query.notes.warn(format!("{text} {}, capping to 1", shortest(most)), place);
            }
            if least < -1.0 {
                query.notes.warn(format!("{text} {}, capping to -1", shortest(least)), place);
            }
        }
        AggregateOp::Quantile => {
            let text = "quantile value should be between 0 and 1, got";
            if any_nan {
                // Among NaN only infinities are larger or smaller.
                query.notes.warn(format!("{text} NaN"), place);
                for extreme in [most, least].into_iter().filter(|extreme| extreme.is_infinite()) {
                    query.notes.warn(format!("{text} {}", shortest(extreme)), place);
                }
                return Ok(true);
            }
            if most > 1.0 {
                query.notes.warn(format!("{text} {}", shortest(most)), place);
            }
            if least < 0.0 {
                query.notes.warn(format!("{text} {}", shortest(least)), place);
            }
        }
        _ => {}
    }
    Ok(true)
}

fn whole(k: f64, len: usize) -> usize {
    if k < 1.0 { 0 } else { (k as usize).min(len) }
}

fn in_ratio(labels: &Set, ratio: f64) -> bool {
    let ratio = ratio.clamp(-1.0, 1.0);
    let place = hash::of(labels) as f64 / u64::MAX as f64;
    if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
}

fn ignored(query: &Query<'_>, op: AggregateOp, place: Span) {
    query.notes.inform(format!("ignored histogram in {} aggregation", op.as_str()), place);
}

fn floats_only(query: &Query<'_>, members: Vec<Element>, op: AggregateOp, place: Span) -> Vec<(Element, f64)> {
    let mut floats = Vec::new();
    for member in members {
        match member.sample {
            Sample::Float(value) => floats.push((member, value)),
            Sample::Histogram(_) => ignored(query, op, place),
        }
    }
    floats
}

/// The k largest or smallest, best first; NaN comes after all numbers on either end.
fn best(query: &Query<'_>, mut members: Vec<(Element, f64)>, k: f64, largest: bool) -> Vec<Element> {
    let k = whole(k, members.len());
    let order = |a: f64, b: f64| {
        let order = if largest { b.partial_cmp(&a) } else { a.partial_cmp(&b) };
        order.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
    };
    members.sort_by(|(_, a), (_, b)| order(*a, *b));
    if let (Some((_, last)), Some((_, next))) = (k.checked_sub(1).and_then(|k| members.get(k)), members.get(k))
        && order(*last, *next).is_eq()
    {
        query.ambiguous.set(true);
    }
    members.truncate(k);
    members.into_iter().map(|(member, _)| member).collect()
}

/// Aggregations that make one element of a group.
fn combined(
    query: &Query<'_>,
    op: AggregateOp,
    labels: Set,
    members: Vec<Element>,
    param: f64,
    place: Span,
) -> Option<Element> {
    let count = members.len() as f64;
    let element = |sample: Sample| Some(Element { labels, drops_name: false, sample });
    let number = |value: f64| Sample::Float(value);
    match op {
        AggregateOp::Count => return element(number(count)),
        AggregateOp::Group => return element(number(1.0)),
        AggregateOp::Sum | AggregateOp::Avg => {
            return element(total_of(query, op == AggregateOp::Avg, &members, place)?);
        }
        _ => {}
    }
    let values: Vec<f64> = floats_only(query, members, op, place).into_iter().map(|(_, value)| value).collect();
    if values.is_empty() {
        return None;
    }
    element(number(match op {
        AggregateOp::Min => extreme(&values, false),
        AggregateOp::Max => extreme(&values, true),
        AggregateOp::Stddev => query.rounded(deviation(query, &values)),
        AggregateOp::Stdvar => query.rounded(spread(query, &values)),
        AggregateOp::Quantile => query.rounded(quantile(param, &values)),
        other => panic!("{other:?} is done elsewhere"),
    }))
}

fn total_of(query: &Query<'_>, mean: bool, members: &[Element], place: Span) -> Option<Sample> {
    let values: Vec<f64> = members
        .iter()
        .filter_map(|member| match member.sample {
            Sample::Float(value) => Some(value),
            Sample::Histogram(_) => None,
        })
        .collect();
    if values.len() == members.len() {
        let value = if mean { average(&values) } else { sum(values.iter().copied()) };
        return Some(Sample::Float(query.rounded(value)));
    }
    let histograms: Vec<&Histogram> = members.iter().filter_map(|member| buckets::of(&member.sample)).collect();
    let customs = histograms.iter().filter(|h| h.is_custom()).count();
    let one_kind = customs == 0 || customs == histograms.len();
    if one_kind && values.is_empty() {
        let (total, remarks) = total(&histograms).ok()?;
        note_remarks(query, remarks, place);
        let thresholds: Vec<f64> = histograms.iter().map(|h| h.threshold).chain([total.threshold]).collect();
        let twice = |h: &Histogram| {
            let schemas = histograms.iter().map(|other| other.schema).filter(|schema| *schema <= h.schema);
            schemas.into_iter().any(|schema| thresholds.iter().any(|threshold| h.may_count_twice(schema, *threshold)))
        };
        if histograms.iter().any(|h| twice(h)) {
            // Whether it does depends on which are met first.
            query.ambiguous.set(true);
        }
        let total = if mean { total.divided_by(members.len() as f64) } else { total };
        return Some(Sample::Histogram(Box::new(query.rounded_histogram(total.compact()))));
    }
    // Nothing comes of these; what is remarked on depends on which are met first.
    let mixed = "encountered a mix of histograms and floats for aggregation";
    if one_kind && !values.is_empty() {
        query.notes.warn(mixed.to_owned(), place);
    } else if !values.is_empty() {
        query.notes.allow(format!("PromQL warning: {mixed}"), place);
    }
    if !one_kind {
        let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        let names: BTreeSet<&str> = members.iter().map(|member| name_of(&member.labels)).collect();
        for name in &names {
            let required = names.len() == 1 && values.is_empty();
            query.notes.add(format!("PromQL warning: {text} {name:?}"), place, required);
        }
    }
    query.notes.allow("PromQL info: mismatched custom buckets were reconciled during aggregation".to_owned(), place);
    None
}

/// The sum of histograms.
pub(crate) fn total(histograms: &[&Histogram]) -> Result<(Histogram, Remarks), Incompatible> {
    let mut all = Remarks::default();
    let mut sum = histograms[0].clone();
    for histogram in &histograms[1..] {
        let (next, remarks) = sum.plus(histogram)?;
        all.reconciled |= remarks.reconciled;
        sum = next;
    }
    let has = |hint: Hint| histograms.iter().any(|h| h.hint == hint);
    all.collision = has(Hint::Reset) && has(Hint::NoReset);
    Ok((sum, all))
}

/// Remarks on an aggregation.
pub(crate) fn note_remarks(query: &Query<'_>, remarks: Remarks, place: Span) {
    if remarks.collision {
        // Without buckets, resets are told by what storage happens to read before.
        query.ambiguous.set(query.ambiguous.get() || query.reads_totals());
        query.notes.warn("conflicting counter resets during histogram aggregation".to_owned(), place);
    }
    note_mismatch(query, remarks, "aggregation", place);
}

/// Remarks that bounds differed.
pub(crate) fn note_mismatch(query: &Query<'_>, remarks: Remarks, operation: &str, place: Span) {
    if remarks.reconciled {
        query.notes.inform(format!("mismatched custom buckets were reconciled during {operation}"), place);
    }
}

fn count_values<'e>(
    query: &Query<'_>,
    node: &'e Aggregate,
    mut grouping: BTreeSet<&'e str>,
    frame: Frame,
) -> Outcome<Vec<Series>> {
    let label = text(node.param.as_ref().ok_or("count_values has a label")?)?;
    if label.is_empty() {
        return Err("invalid label name".to_owned());
    }
    if !node.without {
        grouping.insert(label);
    }
    let input = query.vector(&node.expr, frame)?;
    query.each_step(frame, |_, time| {
        let mut counts: BTreeMap<Set, f64> = BTreeMap::new();
        for mut element in at(&input, time) {
            let value = match &element.sample {
                Sample::Float(value) => {
                    // A number that was rounded makes a label that nobody can foretell.
                    if value.is_finite() && (value * 8.0).fract() != 0.0 {
                        query.ambiguous.set(true);
                    }
                    numbers::plain(*value)
                }
                Sample::Histogram(h) => {
                    let mut numbers = [h.count, h.sum].into_iter().chain(h.positive.values().copied());
                    let is_rounded = numbers.any(|n| n.is_finite() && (n * 8.0).fract() != 0.0);
                    // Bounds between powers of two are rounded in Prometheus's own way.
                    if is_rounded || h.schema > 0 {
                        query.ambiguous.set(true);
                    }
                    buckets::text(h)
                }
            };
            element.labels.insert(label.to_owned(), value);
            *counts.entry(group(&element.labels, &grouping, node.without)).or_default() += 1.0;
        }
        let element = |(labels, count)| Element { labels, drops_name: false, sample: Sample::Float(count) };
        Ok(counts.into_iter().map(element).collect())
    })
}
