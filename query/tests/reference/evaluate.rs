//! A second, naive PromQL, straight from the language's documentation: one series at a time, one step at a time, one
//! sample at a time.
//!
//! It shares the syntax tree with the executor and nothing else. Speed is no aim: each selector walks all series, each
//! window is cut anew. Where several steps decide together (label sets that may not meet, parts that are evaluated once,
//! annotations) it goes by the steps of the query or of the subquery, its [`Frame`], as Prometheus does.
//!
//! Two notes that the comparison needs are taken while evaluating: `ambiguous` when the language leaves the result open
//! (ties in `topk`), and with `jitter` every computed number is moved by a few units in its last places, so that the
//! caller sees how far rounding alone can move a result.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use varve_query::promql::ast::{Expr, ExprKind, Span, ValueType};

use crate::histogram::Histogram;
use crate::note::Notes;
use crate::random::Random;
use crate::{aggregate, binary, functions, selector};

/// Labels by name.
pub(crate) type Set = BTreeMap<String, String>;
/// Stored series.
pub(crate) type Data = BTreeMap<Set, BTreeMap<i64, Stored>>;

/// Bits of the value that ends a series.
pub(crate) const STALE: u64 = 0x7ff0_0000_0000_0002;
pub(crate) const METRIC_NAME: &str = "__name__";
pub(crate) const SAME_LABELS: &str = "vector cannot contain metrics with the same labelset";

/// A value: one or the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sample {
    Float(f64),
    Histogram(Box<Histogram>),
}

impl Sample {
    pub(crate) fn is_stale(&self) -> bool {
        match self {
            Sample::Float(value) => value.to_bits() == STALE,
            Sample::Histogram(histogram) => histogram.sum.to_bits() == STALE,
        }
    }
}

/// A sample as stored; `start` is 0 where it is unknown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) start: i64,
    pub(crate) sample: Sample,
}

/// An element of a vector at one step. With delayed name removal, `drops_name` says that the name will go at the end.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) labels: Set,
    pub(crate) drops_name: bool,
    pub(crate) sample: Sample,
}

/// A series over the steps of a frame.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Set,
    pub(crate) drops_name: bool,
    pub(crate) samples: BTreeMap<i64, Sample>,
}

/// The value of an expression at all steps of a frame.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// One number a step.
    Scalar(Vec<f64>),
    Text(String),
    Vector(Vec<Series>),
}

/// The steps of the query, or of a subquery.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Frame {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
}

impl Frame {
    pub(crate) fn once(time: i64) -> Frame {
        Frame { start: time, end: time, step: 1 }
    }

    pub(crate) fn is_once(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn times(self) -> impl Iterator<Item = i64> {
        (0..).map(move |n| self.start + n * self.step).take_while(move |time| *time <= self.end)
    }

    /// The last step.
    pub(crate) fn last(self) -> i64 {
        self.times().last().unwrap_or(self.start)
    }
}

/// What is asked of which data, and by which of Prometheus's feature flags. Times are milliseconds.
pub(crate) struct Query<'a> {
    pub(crate) data: &'a Data,
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// 0 for instant queries.
    pub(crate) step: i64,
    pub(crate) lookback: i64,
    pub(crate) subquery_step: i64,
    pub(crate) delayed_names: bool,
    pub(crate) type_labels: bool,
    pub(crate) start_times: bool,
    /// When set, computed numbers are moved.
    pub(crate) jitter: Option<RefCell<Random>>,
    /// How many operators above look at counts and sums of histograms alone, and how many need buckets.
    pub(crate) wants_totals: Cell<u32>,
    pub(crate) wants_buckets: Cell<u32>,
    /// The language leaves the result open.
    pub(crate) ambiguous: Cell<bool>,
    pub(crate) notes: Notes,
    /// Functions, operators and aggregations that gave a result.
    pub(crate) reached: RefCell<BTreeSet<String>>,
}

/// What the query fails with.
pub(crate) type Outcome<T> = Result<T, String>;

impl Query<'_> {
    /// The answer: series in the order in which the expression gives them.
    pub(crate) fn answer(&self, expr: &Expr) -> Outcome<Vec<Series>> {
        selector::check(self, expr)?;
        let frame = match self.step {
            0 => Frame::once(self.start),
            step => Frame { start: self.start, end: self.end, step },
        };
        let series = match &strip(expr).kind {
            ExprKind::MatrixSelector { .. } | ExprKind::Subquery { .. } if frame.is_once() => {
                selector::matrix(self, strip(expr), frame)?
            }
            _ => match self.value(expr, frame)? {
                Value::Vector(series) => series,
                Value::Scalar(values) => {
                    let samples = frame.times().zip(values.into_iter().map(Sample::Float)).collect();
                    vec![Series { labels: Set::new(), drops_name: false, samples }]
                }
                Value::Text(_) => return Err("a text".to_owned()),
            },
        };
        if !self.delayed_names {
            return Ok(series);
        }
        let cleaned = series.into_iter().map(|one| match one.drops_name {
            true => Series { labels: nameless(one.labels), ..one },
            false => one,
        });
        self.merged(cleaned.collect())
    }

    /// The value at all steps of a frame.
    pub(crate) fn value(&self, expr: &Expr, frame: Frame) -> Outcome<Value> {
        if frame.end < frame.start {
            return Ok(Value::Vector(Vec::new()));
        }
        if !frame.is_once() && is_invariant(expr) {
            // Evaluated once, at the first step.
            return Ok(match self.value(expr, Frame { end: frame.start, ..frame })? {
                Value::Scalar(values) => Value::Scalar(frame.times().map(|_| values[0]).collect()),
                Value::Text(text) => Value::Text(text),
                Value::Vector(mut series) => {
                    for one in &mut series {
                        let sample = one.samples[&frame.start].clone();
                        one.samples = frame.times().map(|time| (time, sample.clone())).collect();
                    }
                    Value::Vector(series)
                }
            });
        }
        let value = match &expr.kind {
            ExprKind::Number(value) | ExprKind::Duration(value) => {
                Value::Scalar(frame.times().map(|_| *value).collect())
            }
            ExprKind::String(text) => Value::Text(text.clone()),
            ExprKind::Paren(inner) => self.value(inner, frame)?,
            ExprKind::Unary { negative, expr } => self.unary(*negative, expr, frame)?,
            ExprKind::VectorSelector(node) => Value::Vector(selector::instant(self, node, expr.span, frame)?),
            ExprKind::MatrixSelector { .. } | ExprKind::Subquery { .. } => {
                return Err("range vector out of place".to_owned());
            }
            ExprKind::Call { function, args } => functions::call(self, function, args, expr.span, frame)?,
            ExprKind::Aggregate(node) => Value::Vector(aggregate::aggregate(self, node, expr.span, frame)?),
            ExprKind::Binary(node) => binary::binary(self, node, frame)?,
        };
        self.note_reached(expr, &value);
        Ok(value)
    }

    fn unary(&self, negative: bool, expr: &Expr, frame: Frame) -> Outcome<Value> {
        Ok(match self.value(expr, frame)? {
            Value::Scalar(values) if negative => Value::Scalar(values.into_iter().map(|value| -value).collect()),
            Value::Vector(mut series) if negative => {
                for one in &mut series {
                    self.drop_name(&mut one.labels, &mut one.drops_name);
                    for sample in one.samples.values_mut() {
                        *sample = match sample {
                            Sample::Float(value) => Sample::Float(-*value),
                            Sample::Histogram(h) => Sample::Histogram(Box::new(h.clone().times(-1.0))),
                        };
                    }
                }
                Value::Vector(if self.delayed_names { series } else { self.merged(series)? })
            }
            other => other,
        })
    }

    /// Evaluates while one more operator above wants something.
    pub(crate) fn wanting<T>(&self, wants: &Cell<u32>, evaluate: impl FnOnce() -> T) -> T {
        wants.set(wants.get() + 1);
        let value = evaluate();
        wants.set(wants.get() - 1);
        value
    }

    /// Whether histograms are read without their buckets, as Prometheus does where it thinks that nobody looks at them.
    pub(crate) fn reads_totals(&self) -> bool {
        self.wants_totals.get() > 0 && self.wants_buckets.get() == 0
    }

    /// Takes the name away, or notes that it goes at the end.
    pub(crate) fn drop_name(&self, labels: &mut Set, drops_name: &mut bool) {
        if !self.delayed_names {
            *labels = nameless(std::mem::take(labels));
        }
        *drops_name = true;
    }

    /// Series with equal labels become one, if they have no sample at the same time.
    pub(crate) fn merged(&self, series: Vec<Series>) -> Outcome<Vec<Series>> {
        let mut out: Vec<Series> = Vec::new();
        for one in series {
            match out.iter_mut().find(|other| other.labels == one.labels) {
                None => out.push(one),
                Some(other) => {
                    for (time, sample) in one.samples {
                        if let Some(before) = other.samples.insert(time, sample.clone()) {
                            if matches!(before, Sample::Float(_)) != matches!(sample, Sample::Float(_)) {
                                // Prometheus looks for two floats or two histograms only.
                                self.ambiguous.set(true);
                            }
                            return Err(SAME_LABELS.to_owned());
                        }
                    }
                }
            }
        }
        Ok(out)
    }

    pub(crate) fn vector(&self, expr: &Expr, frame: Frame) -> Outcome<Vec<Series>> {
        match self.value(expr, frame)? {
            Value::Vector(series) => Ok(series),
            other => Err(format!("no vector: {other:?}")),
        }
    }

    pub(crate) fn scalar(&self, expr: &Expr, frame: Frame) -> Outcome<Vec<f64>> {
        match self.value(expr, frame)? {
            Value::Scalar(values) => Ok(values),
            other => Err(format!("no scalar: {other:?}")),
        }
    }

    /// Puts the vectors that an operator gives at each step together to series.
    pub(crate) fn each_step(
        &self,
        frame: Frame,
        mut at: impl FnMut(usize, i64) -> Outcome<Vec<Element>>,
    ) -> Outcome<Vec<Series>> {
        let mut series: Vec<Series> = Vec::new();
        let mut places: BTreeMap<Set, usize> = BTreeMap::new();
        for (step, time) in frame.times().enumerate() {
            for element in at(step, time)? {
                let place = places.get(&element.labels).copied();
                match place.map(|place| &mut series[place]) {
                    Some(one) if one.samples.contains_key(&time) => {
                        if !(frame.is_once() && self.delayed_names) {
                            return Err(SAME_LABELS.to_owned());
                        }
                        // At one step they stay apart until names are gone.
                        series.push(one_sample(element, time));
                    }
                    Some(one) => drop(one.samples.insert(time, element.sample)),
                    None => {
                        places.insert(element.labels.clone(), series.len());
                        series.push(one_sample(element, time));
                    }
                }
            }
        }
        Ok(series)
    }

    /// A computed number, moved a little when jitter is on. Whole and short binary numbers are exact and stay.
    pub(crate) fn rounded(&self, value: f64) -> f64 {
        let short = (value * 4096.0).fract() == 0.0;
        if short { value } else { self.moved(value, 2e-15 * value.abs()) }
    }

    pub(crate) fn rounded_histogram(&self, histogram: Histogram) -> Histogram {
        histogram.map(&mut |number| self.rounded(number))
    }

    /// A computed number that may be wrong by so much, moved within that when jitter is on.
    pub(crate) fn moved(&self, value: f64, error: f64) -> f64 {
        match &self.jitter {
            Some(random) if value.is_finite() && error.is_finite() => value + error * random.borrow_mut().unit(),
            _ => value,
        }
    }

    fn note_reached(&self, expr: &Expr, value: &Value) {
        let kind = match value {
            Value::Vector(series) => {
                let samples = || series.iter().flat_map(|one| one.samples.values());
                if samples().any(|sample| matches!(sample, Sample::Histogram(_))) {
                    "histogram"
                } else if samples().next().is_some() {
                    "float"
                } else {
                    return;
                }
            }
            _ => "scalar",
        };
        let name = match &expr.kind {
            ExprKind::Call { function, .. } => format!("{function}()"),
            ExprKind::Aggregate(node) => node.op.as_str().to_owned(),
            ExprKind::Binary(node) => node.op.as_str().to_owned(),
            _ => return,
        };
        self.reached.borrow_mut().insert(format!("{name} {kind}"));
    }
}

fn one_sample(element: Element, time: i64) -> Series {
    Series { labels: element.labels, drops_name: element.drops_name, samples: BTreeMap::from([(time, element.sample)]) }
}

/// The elements of a vector at one step.
pub(crate) fn at(series: &[Series], time: i64) -> Vec<Element> {
    let element = |one: &Series| {
        let sample = one.samples.get(&time)?.clone();
        Some(Element { labels: one.labels.clone(), drops_name: one.drops_name, sample })
    };
    series.iter().filter_map(element).collect()
}

/// The labels without those that tell the metric's name, type and unit.
pub(crate) fn nameless(mut labels: Set) -> Set {
    for name in [METRIC_NAME, "__type__", "__unit__"] {
        labels.remove(name);
    }
    labels
}

/// The metric name, or nothing.
pub(crate) fn name_of(labels: &Set) -> &str {
    labels.get(METRIC_NAME).map_or("", String::as_str)
}

/// An expression without parentheses around it.
pub(crate) fn strip(expr: &Expr) -> &Expr {
    match &expr.kind {
        ExprKind::Paren(inner) => strip(inner),
        _ => expr,
    }
}

/// The text of a string argument.
pub(crate) fn text(expr: &Expr) -> Outcome<&str> {
    match &strip(expr).kind {
        ExprKind::String(text) => Ok(text),
        other => Err(format!("no text: {other:?}")),
    }
}

/// Where annotations about an argument point to. That a subquery has no place is Prometheus's, too.
pub(crate) fn place(arg: &Expr) -> Span {
    match &strip(arg).kind {
        ExprKind::Subquery { .. } => Span::default(),
        ExprKind::Binary(node) => Span { begin: start_of(&node.lhs), ..arg.span },
        _ => strip(arg).span,
    }
}

/// Where an operand begins.
pub(crate) fn start_of(expr: &Expr) -> u32 {
    match &expr.kind {
        ExprKind::Binary(node) => start_of(&node.lhs),
        ExprKind::Subquery { expr, .. } => start_of(expr),
        _ => expr.span.begin,
    }
}

/// Whether a part has one value for all steps because `@` fixes all that it selects.
fn is_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => true,
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => is_invariant(inner),
        ExprKind::VectorSelector(node) | ExprKind::MatrixSelector { selector: node, .. } => node.at.is_some(),
        ExprKind::Subquery { at, .. } => at.is_some(),
        ExprKind::Aggregate(node) => is_invariant(&node.expr),
        ExprKind::Binary(node) => is_invariant(&node.lhs) && is_invariant(&node.rhs),
        ExprKind::Call { function, args } => match *function {
            "timestamp" => matches!(&strip(&args[0]).kind, ExprKind::VectorSelector(node) if node.at.is_some()),
            "minute" | "hour" | "day_of_week" | "day_of_month" | "day_of_year" | "days_in_month" | "month" | "year"
            | "time" | "predict_linear" => false,
            _ => args.iter().all(is_invariant),
        },
    }
}

/// What an answer consists of: numbers or vectors, or a range vector that only an instant query answers.
pub(crate) fn is_answerable(expr: &Expr, instant: bool) -> bool {
    match varve_query::promql::value_type(expr) {
        ValueType::Scalar | ValueType::Vector => true,
        ValueType::Matrix => instant,
        ValueType::String => false,
    }
}
