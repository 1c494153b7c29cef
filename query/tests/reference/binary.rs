//! Binary operators: arithmetic, comparison, sets, and the matching of vectors.

use std::collections::{BTreeMap, BTreeSet};

use varve_query::promql::ast::{Binary, BinaryOp, Cardinality, VectorMatching};

use crate::evaluate::{METRIC_NAME, Outcome, Query, Set, Value, Vector, nameless, unique};

/// The value of an operation on two numbers, and whether a comparison holds.
fn numbers(op: BinaryOp, a: f64, b: f64) -> (f64, bool) {
    match op {
        BinaryOp::Add => (a + b, true),
        BinaryOp::Sub => (a - b, true),
        BinaryOp::Mul => (a * b, true),
        BinaryOp::Div => (a / b, true),
        BinaryOp::Mod => (a % b, true),
        BinaryOp::Pow => (a.powf(b), true),
        BinaryOp::Atan2 => (a.atan2(b), true),
        BinaryOp::Eq => (a, a == b),
        BinaryOp::Ne => (a, a != b),
        BinaryOp::Lt => (a, a < b),
        BinaryOp::Le => (a, a <= b),
        BinaryOp::Gt => (a, a > b),
        BinaryOp::Ge => (a, a >= b),
        other => panic!("{other:?} is not for floats"),
    }
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

pub(crate) fn binary(query: &Query<'_>, node: &Binary, time: i64) -> Outcome<Value> {
    let (left, right) = (query.value(&node.lhs, time)?, query.value(&node.rhs, time)?);
    match (left, right) {
        (Value::Scalar(a), Value::Scalar(b)) => {
            let (value, holds) = numbers(node.op, a, b);
            Ok(Value::Scalar(if node.op.is_comparison() { truth(holds) } else { query.rounded(value) }))
        }
        (Value::Vector(a), Value::Scalar(b)) => with_scalar(query, node, a, &|v| numbers(node.op, v, b)),
        (Value::Scalar(a), Value::Vector(b)) => with_scalar(query, node, b, &|v| {
            let (value, holds) = numbers(node.op, a, v);
            // What passes a comparison is the vector's element, on whichever side.
            (if node.op.is_comparison() { v } else { value }, holds)
        }),
        (Value::Vector(a), Value::Vector(b)) => {
            let matching = node.matching.clone().unwrap_or_default();
            if node.op.is_set() {
                unique(sets(node.op, a, b, &matching))
            } else {
                vectors(query, node, a, b, &matching)
            }
        }
        other => Err(format!("no operands: {other:?}")),
    }
}

fn with_scalar(query: &Query<'_>, node: &Binary, vector: Vector, apply: &dyn Fn(f64) -> (f64, bool)) -> Outcome<Value> {
    let mut out = Vec::new();
    for (labels, value) in vector {
        let (value, holds) = apply(value);
        if node.returns_bool {
            out.push((nameless(labels), truth(holds)));
        } else if node.op.is_comparison() {
            if holds {
                out.push((labels, value));
            }
        } else {
            out.push((nameless(labels), query.rounded(value)));
        }
    }
    unique(out)
}

/// The labels that decide which elements belong together.
fn signature(labels: &Set, matching: &VectorMatching) -> Set {
    let chosen = |name: &String| matching.labels.contains(name);
    let keep = |name: &String| if matching.on { chosen(name) } else { !chosen(name) && name != METRIC_NAME };
    labels.iter().filter(|(name, _)| keep(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

fn sets(op: BinaryOp, left: Vector, right: Vector, matching: &VectorMatching) -> Vector {
    let signatures =
        |vector: &Vector| vector.iter().map(|(labels, _)| signature(labels, matching)).collect::<BTreeSet<_>>();
    let (in_left, in_right) = (signatures(&left), signatures(&right));
    let mut out = Vec::new();
    for element in left {
        let matched = in_right.contains(&signature(&element.0, matching));
        if op == BinaryOp::Or || matched == (op == BinaryOp::And) {
            out.push(element);
        }
    }
    if op == BinaryOp::Or {
        out.extend(right.into_iter().filter(|(labels, _)| !in_left.contains(&signature(labels, matching))));
    }
    out
}

fn vectors(query: &Query<'_>, node: &Binary, left: Vector, right: Vector, matching: &VectorMatching) -> Outcome<Value> {
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    if (left.is_empty() || right.is_empty()) && !fills {
        return Ok(Value::Vector(Vec::new()));
    }
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    // Prometheus's documentation would swap these with `group_right`; its engine, and its own tests, do not.
    let (fill_one, fill_many) = (matching.fill_right, matching.fill_left);
    let mut ones: BTreeMap<Set, &(Set, f64)> = BTreeMap::new();
    for element in &one {
        if ones.insert(signature(&element.0, matching), element).is_some() {
            return Err("found duplicate series for the match group".to_owned());
        }
    }
    let one_to_one = matching.cardinality == Cardinality::OneToOne;
    let mut matched: BTreeMap<Set, BTreeSet<Set>> = BTreeMap::new();
    let mut out = Vec::new();
    let mut pair = |key: &Set, many: &(Set, f64), one: &(Set, f64), out: &mut Vector| -> Outcome<()> {
        let (a, b) = if swapped { (one.1, many.1) } else { (many.1, one.1) };
        let (value, holds) = numbers(node.op, a, b);
        let labels = result_labels(&many.0, &one.0, node, matching);
        let results = matched.entry(key.clone()).or_default();
        if one_to_one && !results.is_empty() {
            return Err("multiple matches for labels: many-to-one matching must be explicit".to_owned());
        }
        if !results.insert(labels.clone()) {
            return Err("multiple matches for labels: grouping labels must ensure unique matches".to_owned());
        }
        if node.returns_bool {
            out.push((labels, truth(holds)));
        } else if holds {
            out.push((labels, if node.op.is_comparison() { value } else { query.rounded(value) }));
        }
        Ok(())
    };
    let mut matched_keys = BTreeSet::new();
    for element in &many {
        let key = signature(&element.0, matching);
        let filled = fill_one.map(|value| (key.clone(), value));
        match (ones.get(&key), &filled) {
            (Some(other), _) => pair(&key, element, other, &mut out)?,
            (None, Some(other)) => pair(&key, element, other, &mut out)?,
            (None, None) => continue,
        }
        matched_keys.insert(key);
    }
    if let Some(value) = fill_many {
        for element in &one {
            let key = signature(&element.0, matching);
            if !matched_keys.contains(&key) {
                pair(&key, &(key.clone(), value), element, &mut out)?;
            }
        }
    }
    unique(out)
}

fn result_labels(many: &Set, one: &Set, node: &Binary, matching: &VectorMatching) -> Set {
    let mut labels = many.clone();
    if !node.op.is_comparison() || node.returns_bool {
        labels.remove(METRIC_NAME);
    }
    if matching.cardinality == Cardinality::OneToOne {
        labels.retain(|name, _| matching.labels.contains(name) == matching.on);
    }
    for name in &matching.include {
        match one.get(name) {
            Some(value) => labels.insert(name.clone(), value.clone()),
            None => labels.remove(name),
        };
    }
    labels
}
