//! Binary operators: arithmetic, comparison, trimming, sets, and the matching of vectors.

use std::collections::{BTreeMap, BTreeSet};

use varve_model::histogram::ResetHint as Hint;
use varve_query::promql::ast::{Binary, BinaryOp, Cardinality, Span, VectorMatching};

use crate::buckets;
use crate::evaluate::{Element, Frame, METRIC_NAME, Outcome, Query, Sample, Set, Value, at, nameless, start_of};
use crate::histogram::{Histogram, Incompatible};

/// The value of an operation on two numbers, and whether a comparison holds.
fn numbers(op: BinaryOp, a: f64, b: f64) -> Option<(f64, bool)> {
    Some(match op {
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
        _ => return None,
    })
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// What comes of one pair: a value and whether it is kept; or nothing, with what is to be said about that.
struct Pair {
    value: Option<(Sample, bool)>,
    /// Why there is no value.
    fault: Option<String>,
    /// A remark beside the value.
    remark: Option<String>,
}

fn value(sample: Sample, keeps: bool) -> Pair {
    Pair { value: Some((sample, keeps)), fault: None, remark: None }
}

fn fault(text: String) -> Pair {
    Pair { value: None, fault: Some(text), remark: None }
}

/// Applies an operator to two elements.
fn pair(query: &Query<'_>, op: BinaryOp, left: &Sample, right: &Sample) -> Pair {
    let boxed = |h: Histogram| Sample::Histogram(Box::new(query.rounded_histogram(h)));
    let kind = |sample: &Sample| if matches!(sample, Sample::Float(_)) { "float" } else { "histogram" };
    let incompatible = || {
        let word = op.as_str();
        fault(format!(
            "PromQL info: incompatible sample types encountered for binary operator {word:?}: {} {word} {}",
            kind(left),
            kind(right)
        ))
    };
    match (left, right) {
        (Sample::Float(a), Sample::Float(b)) => match numbers(op, *a, *b) {
            Some((number, keeps)) => {
                value(Sample::Float(if op.is_comparison() { number } else { query.rounded(number) }), keeps)
            }
            None => incompatible(),
        },
        (Sample::Float(a), Sample::Histogram(b)) => match op {
            BinaryOp::Mul => value(boxed((**b).clone().times(*a).compact()), true),
            _ => incompatible(),
        },
        (Sample::Histogram(a), Sample::Float(b)) => match op {
            BinaryOp::Mul => value(boxed((**a).clone().times(*b).compact()), true),
            BinaryOp::Div => value(boxed((**a).clone().divided_by(*b).compact()), true),
            BinaryOp::TrimUpper => value(boxed(buckets::trimmed(a, *b, true)), true),
            BinaryOp::TrimLower => value(boxed(buckets::trimmed(a, *b, false)), true),
            _ => incompatible(),
        },
        (Sample::Histogram(a), Sample::Histogram(b)) => {
            let (result, operation) = match op {
                BinaryOp::Add => ((**a).clone().plus(b), "addition"),
                BinaryOp::Sub => ((**a).clone().minus(b), "subtraction"),
                BinaryOp::Eq => return value(left.clone(), a.equals(b)),
                BinaryOp::Ne => return value(left.clone(), !a.equals(b)),
                _ => return incompatible(),
            };
            match result {
                Err(Incompatible) => fault(format!(
                    "PromQL warning: incompatible bucket layout encountered for binary operator {}",
                    op.as_str()
                )),
                // In Prometheus a warning takes the place of the value.
                Ok((_, remarks)) if remarks.collision => {
                    note_open(query);
                    fault(format!("PromQL warning: conflicting counter resets during histogram {operation}"))
                }
                Ok((mut h, remarks)) => {
                    if op == BinaryOp::Sub {
                        h.hint = Hint::Gauge;
                    }
                    let mut out = value(boxed(h.compact()), true);
                    if remarks.reconciled {
                        out.remark =
                            Some(format!("PromQL info: mismatched custom buckets were reconciled during {operation}"));
                    }
                    out
                }
            }
        }
    }
}

/// Without buckets, resets are told by what storage happens to read before.
fn note_open(query: &Query<'_>) {
    if query.reads_totals() {
        query.ambiguous.set(true);
    }
}

/// What was said at one step: Prometheus keeps the last alone.
#[derive(Default)]
struct Said(BTreeSet<String>);

impl Said {
    fn hear(&mut self, pair: &Pair) {
        self.0.extend(pair.fault.clone());
        self.0.extend(pair.remark.clone());
    }

    fn note(self, query: &Query<'_>, place: Span) {
        let required = self.0.len() == 1;
        for text in self.0 {
            query.notes.add(text, place, required);
        }
    }
}

pub(crate) fn binary(query: &Query<'_>, node: &Binary, frame: Frame) -> Outcome<Value> {
    match node.op {
        BinaryOp::TrimLower | BinaryOp::TrimUpper => {
            query.wanting(&query.wants_buckets, || evaluated(query, node, frame))
        }
        _ => evaluated(query, node, frame),
    }
}

fn evaluated(query: &Query<'_>, node: &Binary, frame: Frame) -> Outcome<Value> {
    let place = Span { begin: start_of(&node.lhs), end: node.rhs.span.end };
    let (left, right) = (query.value(&node.lhs, frame)?, query.value(&node.rhs, frame)?);
    match (left, right) {
        (Value::Scalar(a), Value::Scalar(b)) => {
            let number = |(a, b): (f64, f64)| {
                let (number, holds) = numbers(node.op, a, b).ok_or("no operator of scalars")?;
                Ok(if node.op.is_comparison() { truth(holds) } else { query.rounded(number) })
            };
            Ok(Value::Scalar(a.into_iter().zip(b).map(number).collect::<Outcome<_>>()?))
        }
        (Value::Vector(vector), Value::Scalar(scalar)) => {
            let series = query.each_step(frame, |step, time| {
                Ok(with_scalar(query, node, at(&vector, time), scalar[step], false, place))
            });
            series.map(Value::Vector)
        }
        (Value::Scalar(scalar), Value::Vector(vector)) => {
            let series = query.each_step(frame, |step, time| {
                Ok(with_scalar(query, node, at(&vector, time), scalar[step], true, place))
            });
            series.map(Value::Vector)
        }
        (Value::Vector(a), Value::Vector(b)) => {
            let matching = node.matching.clone().unwrap_or_default();
            let series = query.each_step(frame, |_, time| {
                let (a, b) = (at(&a, time), at(&b, time));
                match node.op.is_set() {
                    true => Ok(sets(node.op, a, b, &matching)),
                    false => vectors(query, node, a, b, &matching, place),
                }
            });
            series.map(Value::Vector)
        }
        other => Err(format!("no operands: {other:?}")),
    }
}

fn with_scalar(
    query: &Query<'_>,
    node: &Binary,
    vector: Vec<Element>,
    scalar: f64,
    scalar_first: bool,
    place: Span,
) -> Vec<Element> {
    let scalar = Sample::Float(scalar);
    let mut said = Said::default();
    let mut out = Vec::new();
    for mut element in vector {
        let (left, right) = if scalar_first { (&scalar, &element.sample) } else { (&element.sample, &scalar) };
        let pair = pair(query, node.op, left, right);
        said.hear(&pair);
        let Some((sample, holds)) = pair.value else { continue };
        let comparison = node.op.is_comparison();
        if comparison && !node.returns_bool && !holds {
            continue;
        }
        if node.returns_bool {
            element.sample = Sample::Float(truth(holds));
        } else if !comparison {
            element.sample = sample;
        }
        // What passes a comparison is the vector's element, on whichever side.
        if node.returns_bool || changes_meaning(node.op) {
            query.drop_name(&mut element.labels, &mut element.drops_name);
        }
        out.push(element);
    }
    said.note(query, place);
    out
}

/// Whether the result is another metric.
fn changes_meaning(op: BinaryOp) -> bool {
    !op.is_comparison() && !op.is_set() && !matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper)
}

/// The labels that decide which elements belong together.
fn signature(labels: &Set, matching: &VectorMatching) -> Set {
    let chosen = |name: &String| matching.labels.contains(name);
    let keep = |name: &String| if matching.on { chosen(name) } else { !chosen(name) && name != METRIC_NAME };
    labels.iter().filter(|(name, _)| keep(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

fn sets(op: BinaryOp, left: Vec<Element>, right: Vec<Element>, matching: &VectorMatching) -> Vec<Element> {
    let signatures =
        |vector: &[Element]| vector.iter().map(|one| signature(&one.labels, matching)).collect::<BTreeSet<_>>();
    let (in_left, in_right) = (signatures(&left), signatures(&right));
    let mut out = Vec::new();
    for element in left {
        let matched = in_right.contains(&signature(&element.labels, matching));
        if op == BinaryOp::Or || matched == (op == BinaryOp::And) {
            out.push(element);
        }
    }
    if op == BinaryOp::Or {
        out.extend(right.into_iter().filter(|one| !in_left.contains(&signature(&one.labels, matching))));
    }
    out
}

fn vectors(
    query: &Query<'_>,
    node: &Binary,
    left: Vec<Element>,
    right: Vec<Element>,
    matching: &VectorMatching,
    place: Span,
) -> Outcome<Vec<Element>> {
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    if (left.is_empty() && right.is_empty()) || ((left.is_empty() || right.is_empty()) && !fills) {
        return Ok(Vec::new());
    }
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    // Prometheus's documentation would swap these with `group_right`; its engine, and its own tests, do not.
    let (fill_one, fill_many) = (matching.fill_right, matching.fill_left);
    let mut ones: BTreeMap<Set, &Element> = BTreeMap::new();
    for element in &one {
        if ones.insert(signature(&element.labels, matching), element).is_some() {
            return Err("found duplicate series for the match group".to_owned());
        }
    }
    let one_to_one = matching.cardinality == Cardinality::OneToOne;
    // Results by signature.
    let mut matched: BTreeMap<Set, BTreeSet<Set>> = BTreeMap::new();
    let mut said = Said::default();
    let mut out = Vec::new();
    let mut join =
        |key: &Set, many: (&Set, &Sample), one: (&Set, &Sample), matched: &mut BTreeMap<Set, BTreeSet<Set>>| {
            let (a, b) = if swapped { (one.1, many.1) } else { (many.1, one.1) };
            let pair = pair(query, node.op, a, b);
            said.hear(&pair);
            let Some((sample, holds)) = pair.value else { return Ok(()) };
            let labels = result_labels(query, many.0, one.0, node, matching);
            let results = matched.entry(key.clone()).or_default();
            if one_to_one && !results.is_empty() {
                return Err("multiple matches for labels: many-to-one matching must be explicit".to_owned());
            }
            if !results.insert(labels.clone()) {
                return Err("multiple matches for labels: grouping labels must ensure unique matches".to_owned());
            }
            if node.returns_bool {
                out.push(Element { labels, drops_name: true, sample: Sample::Float(truth(holds)) });
            } else if holds {
                out.push(Element { labels, drops_name: false, sample });
            }
            Ok(())
        };
    for element in &many {
        let key = signature(&element.labels, matching);
        let own = (&element.labels, &element.sample);
        match (ones.get(&key), fill_one) {
            (Some(other), _) => join(&key, own, (&other.labels, &other.sample), &mut matched)?,
            (None, Some(number)) => join(&key, own, (&key, &Sample::Float(number)), &mut matched)?,
            (None, None) => {}
        }
    }
    if let Some(number) = fill_many {
        for element in &one {
            let key = signature(&element.labels, matching);
            if matched.get(&key).is_none_or(BTreeSet::is_empty) {
                let own = (&element.labels, &element.sample);
                join(&key, (&key, &Sample::Float(number)), own, &mut matched)?;
            }
        }
    }
    said.note(query, place);
    Ok(out)
}

fn result_labels(query: &Query<'_>, many: &Set, one: &Set, node: &Binary, matching: &VectorMatching) -> Set {
    let mut labels = many.clone();
    if changes_meaning(node.op) || (node.returns_bool && !query.delayed_names) {
        labels = nameless(labels);
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
