//! A second, naive PromQL: one step at a time, one series at a time, straight from the language's documentation.
//!
//! It shares the syntax tree with the executor and nothing else. Speed is no aim: each selector walks all series, each
//! subquery evaluates its whole grid anew. Floats only.
//!
//! Two notes that the comparison needs are taken while evaluating: `ambiguous` when the language leaves the result open
//! (ties in `topk`), and with `jitter` every computed number is moved by a few units in its last places, so that the
//! caller sees how far rounding alone can move a result.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use varve_query::promql::ast::{At, BinaryOp, DurationExpr, DurationOp, Expr, ExprKind, ValueType, VectorSelector};

use crate::random::Random;
use crate::{aggregate, binary, functions, windows};

/// Labels by name.
pub(crate) type Set = BTreeMap<String, String>;
/// An instant vector.
pub(crate) type Vector = Vec<(Set, f64)>;
/// Times and values.
pub(crate) type Points = Vec<(i64, f64)>;

/// Bits of the value that ends a series.
pub(crate) const STALE: u64 = 0x7ff0_0000_0000_0002;
pub(crate) const METRIC_NAME: &str = "__name__";

/// A value at one step.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(f64),
    Text(String),
    Vector(Vector),
}

/// A range vector at one step, and the window it was cut from: `(end - range, end]`.
pub(crate) struct Matrix {
    pub(crate) series: Vec<(Set, Points)>,
    pub(crate) end: i64,
    pub(crate) range: i64,
}

/// What is asked of which data. Times are milliseconds.
pub(crate) struct Query<'a> {
    pub(crate) data: &'a BTreeMap<Set, BTreeMap<i64, f64>>,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
    pub(crate) lookback: i64,
    pub(crate) subquery_step: i64,
    pub(crate) jitter: Option<RefCell<Random>>,
    pub(crate) ambiguous: Cell<bool>,
}

pub(crate) type Outcome<T> = Result<T, String>;

pub(crate) const SAME_LABELS: &str = "vector cannot contain metrics with the same labelset";

impl Query<'_> {
    /// The value at one time.
    pub(crate) fn value(&self, expr: &Expr, time: i64) -> Outcome<Value> {
        match &expr.kind {
            ExprKind::Number(value) | ExprKind::Duration(value) => Ok(Value::Scalar(*value)),
            ExprKind::String(text) => Ok(Value::Text(text.clone())),
            ExprKind::Paren(inner) => self.value(inner, time),
            ExprKind::Unary { negative, expr } => match self.value(expr, time)? {
                Value::Scalar(value) => Ok(Value::Scalar(if *negative { -value } else { value })),
                Value::Vector(vector) if *negative => {
                    unique(vector.into_iter().map(|(labels, value)| (nameless(labels), -value)).collect())
                }
                other => Ok(other),
            },
            ExprKind::VectorSelector(selector) => Ok(Value::Vector(
                self.newest(selector, time)?.into_iter().map(|(labels, _, value)| (labels, value)).collect(),
            )),
            ExprKind::MatrixSelector { .. } | ExprKind::Subquery { .. } => Err("range vector out of place".to_owned()),
            ExprKind::Call { function, args } => functions::call(self, function, args, time),
            ExprKind::Aggregate(node) => aggregate::aggregate(self, node, time).and_then(unique),
            ExprKind::Binary(node) => binary::binary(self, node, time),
        }
    }

    pub(crate) fn vector(&self, expr: &Expr, time: i64) -> Outcome<Vector> {
        match self.value(expr, time)? {
            Value::Vector(vector) => Ok(vector),
            other => Err(format!("no vector: {other:?}")),
        }
    }

    pub(crate) fn scalar(&self, expr: &Expr, time: i64) -> Outcome<f64> {
        match self.value(expr, time)? {
            Value::Scalar(value) => Ok(value),
            other => Err(format!("no scalar: {other:?}")),
        }
    }

    pub(crate) fn text(&self, expr: &Expr) -> Outcome<String> {
        match self.value(expr, self.start)? {
            Value::Text(text) => Ok(text),
            other => Err(format!("no text: {other:?}")),
        }
    }

    /// A computed number, moved a little when jitter is on. Whole and short binary numbers are exact and stay.
    pub(crate) fn rounded(&self, value: f64) -> f64 {
        let short = (value * 4096.0).fract() == 0.0;
        if short { value } else { self.moved(value, 2e-15 * value.abs()) }
    }

    /// A computed number that may be wrong by so much, moved within that when jitter is on.
    pub(crate) fn moved(&self, value: f64, error: f64) -> f64 {
        match &self.jitter {
            Some(random) if value.is_finite() && error.is_finite() => value + error * random.borrow_mut().unit(),
            _ => value,
        }
    }

    /// The newest sample of each series in the lookback, with its time.
    pub(crate) fn newest(&self, selector: &VectorSelector, time: i64) -> Outcome<Vec<(Set, i64, f64)>> {
        let time = self.look(time, selector.at, selector.offset.as_ref())?;
        let mut found = Vec::new();
        for (labels, samples) in self.selected(selector) {
            // Left-open: a sample exactly the lookback old is too old.
            let newest = samples.range(..=time).next_back().filter(|(at, _)| **at > time - self.lookback);
            if let Some((at, value)) = newest
                && value.to_bits() != STALE
            {
                found.push((labels.clone(), *at, *value));
            }
        }
        Ok(found)
    }

    fn selected(&self, selector: &VectorSelector) -> Vec<(&Set, &BTreeMap<i64, f64>)> {
        let matches =
            |labels: &Set| selector.matchers.iter().all(|m| m.matches(labels.get(&*m.name).map_or("", String::as_str)));
        self.data.iter().filter(|(labels, _)| matches(labels)).collect()
    }

    /// Where a selector or subquery looks when it is evaluated at `time`.
    fn look(&self, time: i64, at: Option<At>, offset: Option<&DurationExpr>) -> Outcome<i64> {
        let time = match at {
            None => time,
            Some(At::Time(at)) => at,
            Some(At::Start) => self.start,
            Some(At::End) => self.end,
        };
        Ok(time - offset.map_or(Ok(0), |offset| self.duration(offset))?)
    }

    /// A range vector: samples in `(end - range, end]`.
    pub(crate) fn matrix(&self, expr: &Expr, time: i64) -> Outcome<Matrix> {
        match &expr.kind {
            ExprKind::Paren(inner) => self.matrix(inner, time),
            ExprKind::MatrixSelector { selector, range } => {
                let range = self.positive(range)?;
                let end = self.look(time, selector.at, selector.offset.as_ref())?;
                let mut series = Vec::new();
                for (labels, samples) in self.selected(selector) {
                    let inside = samples.iter().filter(|(at, _)| **at > end - range && **at <= end);
                    let points: Points =
                        inside.filter(|(_, v)| v.to_bits() != STALE).map(|(at, v)| (*at, *v)).collect();
                    if !points.is_empty() {
                        series.push((labels.clone(), points));
                    }
                }
                Ok(Matrix { series, end, range })
            }
            ExprKind::Subquery { expr, range, step, offset, at } => {
                let range = self.positive(range)?;
                let step = step.as_ref().map_or(Ok(self.subquery_step), |step| self.positive(step))?;
                let end = self.look(time, *at, offset.as_ref())?;
                let mut series: BTreeMap<Set, Points> = BTreeMap::new();
                // The grid has its zero at time zero, whatever the query's start.
                let mut inner = (end - range).div_euclid(step) * step + step;
                while inner <= end {
                    let vector = match self.value(expr, inner)? {
                        Value::Vector(vector) => vector,
                        Value::Scalar(value) => vec![(Set::new(), value)],
                        other => return Err(format!("no vector: {other:?}")),
                    };
                    for (labels, value) in vector {
                        series.entry(labels).or_default().push((inner, value));
                    }
                    inner += step;
                }
                Ok(Matrix { series: series.into_iter().collect(), end, range })
            }
            _ => Err("no range vector".to_owned()),
        }
    }

    fn positive(&self, duration: &DurationExpr) -> Outcome<i64> {
        match self.duration(duration)? {
            ms if ms > 0 => Ok(ms),
            _ => Err("duration must be greater than 0".to_owned()),
        }
    }

    fn duration(&self, duration: &DurationExpr) -> Outcome<i64> {
        match duration {
            DurationExpr::Fixed(ms) => Ok(*ms),
            DurationExpr::Computed(op) => Ok((self.seconds(op) * 1000.0) as i64),
        }
    }

    fn seconds(&self, op: &DurationOp) -> f64 {
        match op {
            DurationOp::Literal { seconds, .. } => *seconds,
            DurationOp::Step => self.step as f64 / 1000.0,
            DurationOp::Range => (self.end - self.start) as f64 / 1000.0,
            DurationOp::Negate(inner) => -self.seconds(inner),
            DurationOp::Plus(inner) | DurationOp::Paren(inner) => self.seconds(inner),
            DurationOp::Min(a, b) => self.seconds(a).min(self.seconds(b)),
            DurationOp::Max(a, b) => self.seconds(a).max(self.seconds(b)),
            DurationOp::Binary(op, a, b) => {
                let (a, b) = (self.seconds(a), self.seconds(b));
                match op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div => a / b,
                    BinaryOp::Mod => a % b,
                    _ => a.powf(b),
                }
            }
        }
    }

    /// A function over a range vector, series by series.
    pub(crate) fn over_windows(
        &self,
        expr: &Expr,
        time: i64,
        keep_name: bool,
        function: &windows::OfWindow,
    ) -> Outcome<Value> {
        let matrix = self.matrix(expr, time)?;
        let window = windows::Window { begin: matrix.end - matrix.range, end: matrix.end, time };
        let mut out = Vec::new();
        for (labels, points) in matrix.series {
            if let Some(value) = function(&points, window) {
                out.push((if keep_name { labels } else { nameless(labels) }, value));
            }
        }
        unique(out)
    }
}

/// The labels without what names the metric.
pub(crate) fn nameless(mut labels: Set) -> Set {
    labels.remove(METRIC_NAME);
    labels
}

/// A vector has each label set once.
pub(crate) fn unique(vector: Vector) -> Outcome<Value> {
    let mut seen = std::collections::BTreeSet::new();
    if vector.iter().all(|(labels, _)| seen.insert(labels)) {
        Ok(Value::Vector(vector))
    } else {
        Err(SAME_LABELS.to_owned())
    }
}

/// Whether the expression is of a type that a range query answers.
pub(crate) fn is_answerable(expr: &Expr) -> bool {
    matches!(varve_query::promql::value_type(expr), ValueType::Scalar | ValueType::Vector)
}
