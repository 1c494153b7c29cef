//! A naive evaluator: one step at a time, one window at a time, straight from the definitions. Slow and plain, so that
//! it can be believed.

use std::collections::BTreeMap;

use varve_model::{Labels, Matcher, is_stale};
use varve_query::promql::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, DurationExpr, Expr, ExprKind, VectorMatching, VectorSelector,
};

/// Samples by series, stale markers included.
pub(crate) type Data = BTreeMap<Labels, BTreeMap<i64, f64>>;

/// An instant vector.
pub(crate) type Vector = BTreeMap<Labels, f64>;

pub(crate) enum Value {
    Scalar(f64),
    Vector(Vector),
}

/// A range vector, the end of its window and how far it reaches back.
type Range = (BTreeMap<Labels, Vec<(i64, f64)>>, i64, i64);

/// Why there is no value; any refusal is as good as another.
#[derive(Debug)]
pub(crate) struct Refused;

pub(crate) struct Naive<'a> {
    pub(crate) data: &'a Data,
    pub(crate) start: i64,
    pub(crate) end: i64,
}

const LOOKBACK: i64 = 300_000;
const SUBQUERY_STEP: i64 = 60_000;

fn fixed(duration: &DurationExpr) -> i64 {
    match duration {
        DurationExpr::Fixed(ms) => *ms,
        DurationExpr::Computed(_) => panic!("not generated"),
    }
}

fn nameless(labels: &Labels) -> Labels {
    labels.without(&|name| name == "__name__")
}

fn insert(vector: &mut Vector, labels: Labels, value: f64) -> Result<(), Refused> {
    if vector.insert(labels, value).is_some() { Err(Refused) } else { Ok(()) }
}

fn matches(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()))
}

impl Naive<'_> {
    fn look(&self, time: i64, at: Option<At>, offset: Option<&DurationExpr>) -> i64 {
        let time = match at {
            None => time,
            Some(At::Time(time)) => time,
            Some(At::Start) => self.start,
            Some(At::End) => self.end,
        };
        time - offset.map_or(0, fixed)
    }

    pub(crate) fn eval(&self, expr: &Expr, time: i64) -> Result<Value, Refused> {
        Ok(match &expr.kind {
            ExprKind::Number(value) | ExprKind::Duration(value) => Value::Scalar(*value),
            ExprKind::Paren(inner) => self.eval(inner, time)?,
            ExprKind::Unary { negative: false, expr } => self.eval(expr, time)?,
            ExprKind::Unary { expr, .. } => match self.eval(expr, time)? {
                Value::Scalar(value) => Value::Scalar(-value),
                Value::Vector(vector) => {
                    let mut out = Vector::new();
                    for (labels, value) in vector {
                        insert(&mut out, nameless(&labels), -value)?;
                    }
                    Value::Vector(out)
                }
            },
            ExprKind::VectorSelector(selector) => Value::Vector(self.select(selector, time)),
            ExprKind::Call { function, args } => Value::Vector(self.call(function, args, time)?),
            ExprKind::Aggregate(aggregate) => Value::Vector(self.aggregate(aggregate, time)?),
            ExprKind::Binary(binary) => self.binary(binary, time)?,
            other => panic!("not generated: {other:?}"),
        })
    }

    fn vector(&self, expr: &Expr, time: i64) -> Result<Vector, Refused> {
        match self.eval(expr, time)? {
            Value::Vector(vector) => Ok(vector),
            Value::Scalar(_) => panic!("a vector was generated"),
        }
    }

    fn select(&self, selector: &VectorSelector, time: i64) -> Vector {
        let end = self.look(time, selector.at, selector.offset.as_ref());
        let mut out = Vector::new();
        for (labels, samples) in self.data.iter().filter(|(labels, _)| matches(labels, &selector.matchers)) {
            let newest = samples.range(end - LOOKBACK + 1..=end).next_back();
            if let Some((_, value)) = newest.filter(|(_, value)| !is_stale(**value)) {
                out.insert(labels.clone(), *value);
            }
        }
        out
    }

    /// Series with their samples in a range vector's window, and the window.
    fn range(&self, expr: &Expr, time: i64) -> Result<Range, Refused> {
        let mut series: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
        match &expr.kind {
            ExprKind::MatrixSelector { selector, range } => {
                let (end, range) = (self.look(time, selector.at, selector.offset.as_ref()), fixed(range));
                for (labels, samples) in self.data.iter().filter(|(labels, _)| matches(labels, &selector.matchers)) {
                    let window = samples.range(end - range + 1..=end).filter(|(_, value)| !is_stale(**value));
                    let window: Vec<_> = window.map(|(time, value)| (*time, *value)).collect();
                    if !window.is_empty() {
                        series.insert(labels.clone(), window);
                    }
                }
                Ok((series, end, range))
            }
            ExprKind::Subquery { expr, range, step, offset, at } => {
                let (end, range) = (self.look(time, *at, offset.as_ref()), fixed(range));
                let step = step.as_ref().map_or(SUBQUERY_STEP, fixed);
                for inner in (end - range + 1..=end).filter(|inner| inner.rem_euclid(step) == 0) {
                    for (labels, value) in self.vector(expr, inner)? {
                        series.entry(labels).or_default().push((inner, value));
                    }
                }
                Ok((series, end, range))
            }
            other => panic!("not generated: {other:?}"),
        }
    }

    fn call(&self, function: &str, args: &[Expr], time: i64) -> Result<Vector, Refused> {
        let mut out = Vector::new();
        if function == "abs" {
            for (labels, value) in self.vector(&args[0], time)? {
                insert(&mut out, nameless(&labels), value.abs())?;
            }
            return Ok(out);
        }
        let Some(range_arg) = args.last() else { panic!("a range vector was generated") };
        let parameter = match &args[0].kind {
            ExprKind::Number(value) => *value,
            _ => f64::NAN,
        };
        let (series, end, range) = self.range(range_arg, time)?;
        for (labels, window) in series {
            let result = over_window(function, &window, end, range, parameter);
            if let Some(value) = result {
                let labels =
                    if matches!(function, "last_over_time" | "first_over_time") { labels } else { nameless(&labels) };
                insert(&mut out, labels, value)?;
            }
        }
        Ok(out)
    }

    fn aggregate(&self, node: &Aggregate, time: i64) -> Result<Vector, Refused> {
        let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
        for (labels, value) in self.vector(&node.expr, time)? {
            let named = |name: &str| node.grouping.iter().any(|label| label == name);
            let group = labels.without(&|name| named(name) == node.without || (node.without && name == "__name__"));
            groups.entry(group).or_default().push(value);
        }
        let parameter = match node.param.as_ref().map(|param| &param.kind) {
            Some(ExprKind::Number(value)) => *value,
            _ => f64::NAN,
        };
        Ok(groups
            .into_iter()
            .map(|(labels, values)| {
                let count = values.len() as f64;
                let sum: f64 = values.iter().sum();
                let value = match node.op {
                    AggregateOp::Sum => sum,
                    AggregateOp::Avg => sum / count,
                    AggregateOp::Min => values.iter().copied().fold(f64::NAN, f64::min),
                    AggregateOp::Max => values.iter().copied().fold(f64::NAN, f64::max),
                    AggregateOp::Count => count,
                    AggregateOp::Group => 1.0,
                    AggregateOp::Stdvar => variance(&values),
                    AggregateOp::Stddev => variance(&values).sqrt(),
                    AggregateOp::Quantile => quantile(parameter, &values),
                    other => panic!("not generated: {other:?}"),
                };
                (labels, value)
            })
            .collect())
    }

    fn binary(&self, node: &Binary, time: i64) -> Result<Value, Refused> {
        let (left, right) = (self.eval(&node.lhs, time)?, self.eval(&node.rhs, time)?);
        let mut out = Vector::new();
        let computes = matches!(node.op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div);
        match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => return Ok(Value::Scalar(arithmetic(node.op, left, right))),
            (Value::Vector(vector), Value::Scalar(scalar)) => {
                for (labels, value) in vector {
                    if computes {
                        insert(&mut out, nameless(&labels), arithmetic(node.op, value, scalar))?;
                    } else if arithmetic(node.op, value, scalar) == 1.0 {
                        insert(&mut out, labels, value)?;
                    }
                }
            }
            (Value::Scalar(scalar), Value::Vector(vector)) => {
                for (labels, value) in vector {
                    if computes {
                        insert(&mut out, nameless(&labels), arithmetic(node.op, scalar, value))?;
                    } else if arithmetic(node.op, scalar, value) == 1.0 {
                        insert(&mut out, labels, value)?;
                    }
                }
            }
            (Value::Vector(left), Value::Vector(right)) => {
                let matching = node.matching.clone().unwrap_or_default();
                let key = |labels: &Labels| signature(labels, &matching);
                match node.op {
                    BinaryOp::And | BinaryOp::Unless => {
                        let there = |labels: &Labels| right.keys().any(|other| key(other) == key(labels));
                        for (labels, value) in &left {
                            if there(labels) == (node.op == BinaryOp::And) {
                                insert(&mut out, labels.clone(), *value)?;
                            }
                        }
                    }
                    BinaryOp::Or => {
                        let there = |labels: &Labels| left.keys().any(|other| key(other) == key(labels));
                        out.extend(left.iter().map(|(labels, value)| (labels.clone(), *value)));
                        for (labels, value) in &right {
                            if !there(labels) {
                                insert(&mut out, labels.clone(), *value)?;
                            }
                        }
                    }
                    op => {
                        if left.is_empty() || right.is_empty() {
                            return Ok(Value::Vector(out));
                        }
                        let mut partners = BTreeMap::new();
                        for (labels, value) in &right {
                            if partners.insert(key(labels), *value).is_some() {
                                return Err(Refused);
                            }
                        }
                        let mut used = Vec::new();
                        for (labels, value) in &left {
                            let Some(partner) = partners.get(&key(labels)) else { continue };
                            if used.contains(&key(labels)) {
                                return Err(Refused);
                            }
                            used.push(key(labels));
                            let named = |name: &str| matching.labels.iter().any(|label| label == name);
                            let kept = labels.without(&|name| named(name) != matching.on);
                            if computes {
                                insert(&mut out, nameless(&kept), arithmetic(op, *value, *partner))?;
                            } else if arithmetic(op, *value, *partner) == 1.0 {
                                insert(&mut out, kept, *value)?;
                            }
                        }
                    }
                }
            }
        }
        Ok(Value::Vector(out))
    }
}

fn signature(labels: &Labels, matching: &VectorMatching) -> Labels {
    let named = |name: &str| matching.labels.iter().any(|label| label == name);
    labels.without(&|name| named(name) != matching.on || (!matching.on && name == "__name__"))
}

fn arithmetic(op: BinaryOp, left: f64, right: f64) -> f64 {
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Gt => f64::from(u8::from(left > right)),
        BinaryOp::Le => f64::from(u8::from(left <= right)),
        BinaryOp::Ne => f64::from(u8::from(left != right)),
        other => panic!("not generated: {other:?}"),
    }
}

fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / values.len() as f64
}

fn quantile(q: f64, values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    low + (high - low) * rank.fract()
}

fn over_window(function: &str, window: &[(i64, f64)], end: i64, range: i64, parameter: f64) -> Option<f64> {
    let values: Vec<f64> = window.iter().map(|(_, value)| *value).collect();
    let count = values.len() as f64;
    let pairs = || values.windows(2).map(|pair| (pair[0], pair[1]));
    let (first, last) = (window.first()?, window.last()?);
    match function {
        "sum_over_time" => Some(values.iter().sum()),
        "avg_over_time" => Some(values.iter().sum::<f64>() / count),
        "min_over_time" => Some(values.iter().copied().fold(f64::NAN, f64::min)),
        "max_over_time" => Some(values.iter().copied().fold(f64::NAN, f64::max)),
        "count_over_time" => Some(count),
        "present_over_time" => Some(1.0),
        "last_over_time" => Some(last.1),
        "first_over_time" => Some(first.1),
        "stddev_over_time" => Some(variance(&values).sqrt()),
        "stdvar_over_time" => Some(variance(&values)),
        "quantile_over_time" => Some(quantile(parameter, &values)),
        "changes" => Some(pairs().filter(|(a, b)| a != b).count() as f64),
        "resets" => Some(pairs().filter(|(a, b)| b < a).count() as f64),
        _ if window.len() < 2 => None,
        "idelta" | "irate" => {
            let before = window[window.len() - 2];
            let rise = if function == "irate" && last.1 < before.1 { last.1 } else { last.1 - before.1 };
            Some(if function == "irate" { rise / ((last.0 - before.0) as f64 / 1e3) } else { rise })
        }
        "deriv" => {
            let xs: Vec<f64> = window.iter().map(|(time, _)| (time - first.0) as f64 / 1e3).collect();
            let (mean_x, mean_y) = (xs.iter().sum::<f64>() / count, values.iter().sum::<f64>() / count);
            let up: f64 = xs.iter().zip(&values).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
            let down: f64 = xs.iter().map(|x| (x - mean_x) * (x - mean_x)).sum();
            Some(up / down)
        }
        "rate" | "increase" | "delta" => {
            let counter = function != "delta";
            let mut rise = last.1 - first.1;
            if counter {
                rise += pairs().filter(|(a, b)| b < a).map(|(a, _)| a).sum::<f64>();
            }
            let seconds = |ms: i64| ms as f64 / 1e3;
            let sampled = seconds(last.0 - first.0);
            let distance = sampled / (count - 1.0);
            let reach = |gap: f64| if gap >= distance * 1.1 { distance / 2.0 } else { gap };
            let mut before = reach(seconds(first.0 - (end - range)));
            if counter && rise > 0.0 && first.1 >= 0.0 {
                before = before.min(sampled * first.1 / rise);
            }
            let after = reach(seconds(end - last.0));
            let whole = rise * (sampled + before + after) / sampled;
            Some(if function == "rate" { whole / seconds(range) } else { whole })
        }
        other => panic!("not generated: {other}"),
    }
}
