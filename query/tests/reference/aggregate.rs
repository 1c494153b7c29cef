//! Aggregations.

use std::collections::{BTreeMap, BTreeSet};

use varve_query::promql::ast::{Aggregate, AggregateOp};
use varve_query::promql::print_number;

use crate::evaluate::{METRIC_NAME, Outcome, Query, Set, Vector};
use crate::windows::{average, extreme, quantile, spread, sum};

fn group(labels: &Set, grouping: &BTreeSet<&str>, without: bool) -> Set {
    let keep =
        |name: &str| if without { !grouping.contains(name) && name != METRIC_NAME } else { grouping.contains(name) };
    labels.iter().filter(|(name, _)| keep(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

pub(crate) fn aggregate(query: &Query<'_>, node: &Aggregate, time: i64) -> Outcome<Vector> {
    let mut grouping: BTreeSet<&str> = node.grouping.iter().map(String::as_str).collect();
    let input = query.vector(&node.expr, time)?;
    if node.op == AggregateOp::CountValues {
        let label = query.text(node.param.as_ref().ok_or("count_values has a label")?)?;
        if !node.without {
            grouping.insert(&label);
        }
        let mut counts: BTreeMap<Set, f64> = BTreeMap::new();
        for (mut labels, value) in input {
            // A number that was rounded makes a label that nobody can foretell.
            if value.is_finite() && (value * 8.0).fract() != 0.0 {
                query.ambiguous.set(true);
            }
            labels.insert(label.clone(), print_number(value));
            *counts.entry(group(&labels, &grouping, node.without)).or_default() += 1.0;
        }
        return Ok(counts.into_iter().collect());
    }
    let param = node.param.as_ref().map_or(Ok(0.0), |param| query.scalar(param, time))?;
    let mut groups: BTreeMap<Set, Vector> = BTreeMap::new();
    for (labels, value) in input {
        groups.entry(group(&labels, &grouping, node.without)).or_default().push((labels, value));
    }
    let mut out = Vec::new();
    for (labels, members) in groups {
        let values: Vec<f64> = members.iter().map(|(_, value)| *value).collect();
        let value = match node.op {
            AggregateOp::Sum => sum(values.iter().copied()),
            AggregateOp::Avg => average(&values),
            AggregateOp::Min => extreme(&values, false),
            AggregateOp::Max => extreme(&values, true),
            AggregateOp::Count => values.len() as f64,
            AggregateOp::Group => 1.0,
            AggregateOp::Stddev => spread(query, &values).sqrt(),
            AggregateOp::Stdvar => spread(query, &values),
            AggregateOp::Quantile => quantile(param, &values),
            AggregateOp::TopK | AggregateOp::BottomK => {
                out.extend(best(query, members, param, node.op == AggregateOp::TopK));
                continue;
            }
            other => return Err(format!("{other:?} is not compared")),
        };
        out.push((labels, query.rounded(value)));
    }
    Ok(out)
}

/// The k largest or smallest; NaN comes after all numbers on either end.
fn best(query: &Query<'_>, mut members: Vector, k: f64, largest: bool) -> Vector {
    let k = if k < 1.0 { 0 } else { (k as usize).min(members.len()) };
    let before = |a: f64, b: f64| {
        let order = if largest { b.partial_cmp(&a) } else { a.partial_cmp(&b) };
        order.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
    };
    members.sort_by(|(_, a), (_, b)| before(*a, *b));
    if let (Some((_, last)), Some((_, next))) = (k.checked_sub(1).and_then(|k| members.get(k)), members.get(k))
        && before(*last, *next).is_eq()
    {
        query.ambiguous.set(true);
    }
    members.truncate(k);
    members
}
