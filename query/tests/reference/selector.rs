//! Selectors and subqueries: which samples an operator sees at which step.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use varve_model::histogram::ResetHint as Hint;
use varve_query::promql::ast::{
    At, BinaryOp, DurationExpr, DurationOp, Expr, ExprKind, Extended, Span, ValueType, VectorSelector,
};
use varve_query::promql::value_type;

use crate::evaluate::{Data, Frame, Outcome, Query, STALE, Sample, Series, Set, Stored, Value, name_of, strip};
use crate::histogram::Histogram;
use crate::rates;
use crate::{evaluate, windows};

/// A sample of a window.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) time: i64,
    /// Its start timestamp, where start timestamps are used; else 0.
    pub(crate) start: i64,
    pub(crate) sample: Sample,
}

/// What a function over a range sees of one series at one step.
pub(crate) struct Window<'a> {
    /// With `anchored` and `smoothed` also samples before and after the range.
    pub(crate) points: &'a [Point],
    /// The range is `(begin, end]`.
    pub(crate) begin: i64,
    pub(crate) end: i64,
    /// The step.
    pub(crate) time: i64,
    pub(crate) labels: &'a Set,
    pub(crate) extended: Option<Extended>,
    /// What annotations are about.
    pub(crate) place: Span,
}

impl Window<'_> {
    pub(crate) fn metric(&self) -> &str {
        name_of(self.labels)
    }
}

/// Series to cut windows from, and where they lie.
pub(crate) struct Range {
    pub(crate) series: Vec<(Set, bool, Vec<Point>)>,
    range: i64,
    offset: i64,
    at: Option<i64>,
    pub(crate) extended: Option<Extended>,
}

impl Range {
    /// Begin and end of the range at a step.
    pub(crate) fn bounds(&self, time: i64) -> (i64, i64) {
        let end = self.at.unwrap_or(time) - self.offset;
        (end - self.range, end)
    }

    /// The points seen at a step.
    pub(crate) fn points<'p>(&self, points: &'p [Point], time: i64, lookback: i64) -> &'p [Point] {
        let (begin, end) = self.bounds(time);
        let (begin, end) = match self.extended {
            None => (begin, end),
            Some(Extended::Anchored) => (begin - lookback, end),
            Some(Extended::Smoothed) => (begin - lookback, end + lookback),
        };
        let from = points.partition_point(|point| point.time <= begin);
        let to = points.partition_point(|point| point.time <= end);
        &points[from..to.max(from)]
    }
}

fn selected<'q>(query: &Query<'q>, node: &VectorSelector) -> Vec<(&'q Set, Cow<'q, BTreeMap<i64, Stored>>)> {
    let data: &'q Data = query.data;
    let matches =
        |labels: &Set| node.matchers.iter().all(|m| m.matches(labels.get(&*m.name).map_or("", String::as_str)));
    let read = |samples: &'q BTreeMap<i64, Stored>| match query.reads_totals() {
        true => Cow::Owned(totals(samples)),
        false => Cow::Borrowed(samples),
    };
    data.iter().filter(|(labels, _)| matches(labels)).map(|(labels, samples)| (labels, read(samples))).collect()
}

/// Samples whose histograms have no buckets, but say whether there was a reset.
fn totals(samples: &BTreeMap<i64, Stored>) -> BTreeMap<i64, Stored> {
    let mut samples = samples.clone();
    let mut before: Option<Histogram> = None;
    for stored in samples.values_mut() {
        let Sample::Histogram(h) = &mut stored.sample else { continue };
        let whole = (**h).clone();
        if whole.sum.to_bits() == STALE {
            continue;
        }
        let mut bare =
            Histogram { count: whole.count, sum: whole.sum, bounds: Vec::new(), ..Histogram::nothing_like(&whole) };
        bare.hint = match (whole.hint, &before) {
            (Hint::Unknown, Some(before)) if whole.is_reset_after(before) => Hint::Reset,
            (Hint::Unknown, Some(_)) => Hint::NoReset,
            (hint, _) => hint,
        };
        before = Some(whole);
        **h = bare;
    }
    samples
}

fn fixed(query: &Query<'_>, at: Option<At>) -> Option<i64> {
    Some(match at? {
        At::Time(time) => time,
        At::Start => query.start,
        At::End => query.end,
    })
}

/// Where a selector looks at a step.
fn look(query: &Query<'_>, node: &VectorSelector, time: i64) -> Outcome<i64> {
    Ok(fixed(query, node.at).unwrap_or(time) - offset(query, node.offset.as_ref())?)
}

/// The newest sample in the lookback, unless it says that the series ended. Left-open: a sample exactly the lookback old
/// is too old.
fn newest(samples: &BTreeMap<i64, Stored>, time: i64, lookback: i64) -> Option<(i64, &Stored)> {
    let (at, stored) = samples.range(..=time).next_back().filter(|(at, _)| **at > time - lookback)?;
    (!stored.sample.is_stale()).then_some((*at, stored))
}

/// An instant selector.
pub(crate) fn instant(query: &Query<'_>, node: &VectorSelector, span: Span, frame: Frame) -> Outcome<Vec<Series>> {
    let mut out = Vec::new();
    for (labels, samples) in selected(query, node) {
        let mut one = Series { labels: labels.clone(), drops_name: false, samples: BTreeMap::new() };
        for time in frame.times() {
            let at = look(query, node, time)?;
            let found = match node.extended {
                Some(Extended::Smoothed) => rates::at_time(query, &samples, at, name_of(labels), span),
                _ => newest(&samples, at, query.lookback).map(|(_, stored)| stored.sample.clone()),
            };
            if let Some(sample) = found {
                one.samples.insert(time, sample);
            }
        }
        if !one.samples.is_empty() {
            out.push(one);
        }
    }
    Ok(out)
}

/// Times, or start timestamps, of the samples that an instant selector selects, in milliseconds.
pub(crate) fn times(query: &Query<'_>, node: &VectorSelector, frame: Frame, starts: bool) -> Outcome<Vec<Series>> {
    let mut node = node.clone();
    // Prometheus forgets the offset here when there is an `@`.
    node.offset = node.offset.filter(|_| node.at.is_none());
    each(query, &node, frame, &|at, stored| Sample::Float(if starts { stored.start } else { at } as f64))
}

/// Times of the samples of info series, in milliseconds; histograms stay.
pub(crate) fn times_of_info(query: &Query<'_>, node: &VectorSelector, frame: Frame) -> Outcome<Vec<Series>> {
    each(query, node, frame, &|at, stored| match stored.sample {
        Sample::Float(_) => Sample::Float(at as f64),
        Sample::Histogram(_) => stored.sample.clone(),
    })
}

fn each(
    query: &Query<'_>,
    node: &VectorSelector,
    frame: Frame,
    of: &dyn Fn(i64, &Stored) -> Sample,
) -> Outcome<Vec<Series>> {
    let mut out = Vec::new();
    for (labels, samples) in selected(query, node) {
        let mut one = Series { labels: labels.clone(), drops_name: false, samples: BTreeMap::new() };
        for time in frame.times() {
            if let Some((at, stored)) = newest(&samples, look(query, node, time)?, query.lookback) {
                one.samples.insert(time, of(at, stored));
            }
        }
        if !one.samples.is_empty() {
            out.push(one);
        }
    }
    Ok(out)
}

/// The samples that a selector or a subquery gives a function over a range.
pub(crate) fn range(query: &Query<'_>, arg: &Expr, frame: Frame) -> Outcome<Range> {
    match &strip(arg).kind {
        ExprKind::MatrixSelector { selector: node, range } => {
            let mut series = Vec::new();
            for (labels, samples) in selected(query, node) {
                let start = |stored: &Stored| if query.start_times { stored.start } else { 0 };
                let points = samples.iter().filter(|(_, stored)| !stored.sample.is_stale());
                let points = points.map(|(time, stored)| Point {
                    time: *time,
                    start: start(stored),
                    sample: stored.sample.clone(),
                });
                series.push((labels.clone(), false, points.collect()));
            }
            Ok(Range {
                series,
                range: positive(query, range)?,
                offset: offset(query, node.offset.as_ref())?,
                at: fixed(query, node.at),
                extended: node.extended,
            })
        }
        ExprKind::Subquery { range, offset: by, at, .. } => {
            let mut series = subquery(query, strip(arg), frame)?;
            for one in &mut series {
                // Whether there was a reset between samples cannot be told from those around the stored ones.
                for sample in one.samples.values_mut() {
                    if let Sample::Histogram(h) = sample
                        && matches!(h.hint, Hint::Reset | Hint::NoReset)
                    {
                        h.hint = Hint::Unknown;
                    }
                }
            }
            let points = |one: Series| {
                let points = one.samples.into_iter().map(|(time, sample)| Point { time, start: 0, sample });
                (one.labels, one.drops_name, points.collect())
            };
            Ok(Range {
                series: series.into_iter().map(points).collect(),
                range: positive(query, range)?,
                offset: offset(query, by.as_ref())?,
                at: fixed(query, *at),
                extended: None,
            })
        }
        _ => Err("no range vector".to_owned()),
    }
}

/// A subquery at its own steps: all that the windows of the frame's steps need.
fn subquery(query: &Query<'_>, node: &Expr, frame: Frame) -> Outcome<Vec<Series>> {
    let ExprKind::Subquery { expr, range, step, offset: by, at } = &node.kind else {
        return Err("no subquery".to_owned());
    };
    let by = offset(query, by.as_ref())?;
    let step = step.as_ref().map_or(Ok(query.subquery_step), |step| positive(query, step))?;
    let range = positive(query, range)?;
    let look = |time: i64| fixed(query, *at).unwrap_or(time) - by;
    // The grid has its zero at time zero, whatever the query's start.
    let start = (look(frame.start) - range).div_euclid(step) * step + step;
    let frame = Frame { start, end: look(frame.last()), step };
    match query.wanting(&query.wants_buckets, || query.value(expr, frame))? {
        Value::Vector(series) => Ok(series),
        other => Err(format!("no vector: {other:?}")),
    }
}

/// A range vector as the answer of an instant query.
pub(crate) fn matrix(query: &Query<'_>, node: &Expr, frame: Frame) -> Outcome<Vec<Series>> {
    if let ExprKind::Subquery { .. } = &node.kind {
        return subquery(query, node, frame);
    }
    let range = range(query, node, frame)?;
    if range.extended.is_some() {
        // Prometheus fills up to the ends of the range, and fails on histograms and on series without samples there.
        query.ambiguous.set(true);
    }
    let mut out = Vec::new();
    for (labels, drops_name, points) in &range.series {
        let points = range.points(points, frame.start, query.lookback);
        if !points.is_empty() {
            let samples = points.iter().map(|point| (point.time, point.sample.clone())).collect();
            out.push(Series { labels: labels.clone(), drops_name: *drops_name, samples });
        }
    }
    Ok(out)
}

/// A function over a range, series by series and step by step; `scalars` are its other arguments by step.
pub(crate) fn over_windows(query: &Query<'_>, function: &str, args: &[Expr], frame: Frame) -> Outcome<Vec<Series>> {
    let is_range = |arg: &Expr| value_type(arg) == ValueType::Matrix;
    let range = range(query, args.iter().find(|arg| is_range(arg)).ok_or("no range vector")?, frame)?;
    let scalars = args.iter().filter(|arg| !is_range(arg));
    let scalars = scalars.map(|arg| query.scalar(arg, frame)).collect::<Outcome<Vec<_>>>()?;
    // Annotations are about the first argument, whichever that is.
    let place = evaluate::place(&args[0]);
    let allowed: &[&str] = match range.extended {
        None => &[],
        Some(Extended::Anchored) => &["resets", "changes", "rate", "increase", "delta"],
        Some(Extended::Smoothed) => &["rate", "increase", "delta"],
    };
    if range.extended.is_some() && !allowed.contains(&function) {
        return Err(format!("range modifier with {function}"));
    }
    let keeps_name = matches!(function, "last_over_time" | "first_over_time");
    let mut out: Vec<Series> = Vec::new();
    for (labels, drops, points) in &range.series {
        let mut one = Series { labels: labels.clone(), drops_name: false, samples: BTreeMap::new() };
        if !keeps_name || *drops {
            query.drop_name(&mut one.labels, &mut one.drops_name);
        }
        for (step, time) in frame.times().enumerate() {
            let points = range.points(points, time, query.lookback);
            if points.is_empty() {
                continue;
            }
            let (begin, end) = range.bounds(time);
            let window = Window { points, begin, end, time, labels, extended: range.extended, place };
            let scalars: Vec<f64> = scalars.iter().map(|values| values[step]).collect();
            if let Some(sample) = windows::apply(query, function, &window, &scalars)? {
                one.samples.insert(time, sample);
            }
        }
        if matches!(function, "rate" | "increase") {
            rates::name_of_no_counter(query, labels, &one, place);
        }
        if !one.samples.is_empty() {
            out.push(one);
        }
    }
    let mut seen = BTreeSet::new();
    if !query.delayed_names && function != "absent_over_time" && !out.iter().all(|one| seen.insert(&one.labels)) {
        return Err(evaluate::SAME_LABELS.to_owned());
    }
    Ok(out)
}

fn offset(query: &Query<'_>, offset: Option<&DurationExpr>) -> Outcome<i64> {
    offset.map_or(Ok(0), |offset| duration(query, offset))
}

fn positive(query: &Query<'_>, of: &DurationExpr) -> Outcome<i64> {
    if let DurationExpr::Computed(op) = of
        && seconds(query, op)? <= 0.0
    {
        return Err("duration must be greater than 0".to_owned());
    }
    duration(query, of)
}

pub(crate) fn duration(query: &Query<'_>, of: &DurationExpr) -> Outcome<i64> {
    match of {
        DurationExpr::Fixed(ms) => Ok(*ms),
        DurationExpr::Computed(op) => match seconds(query, op)? {
            seconds if !seconds.is_finite() => Err("duration is NaN or infinite".to_owned()),
            seconds if seconds.abs() > 9.2e9 => Err("duration is out of range".to_owned()),
            seconds => Ok((seconds * 1000.0) as i64),
        },
    }
}

fn seconds(query: &Query<'_>, op: &DurationOp) -> Outcome<f64> {
    Ok(match op {
        DurationOp::Literal { seconds, .. } => *seconds,
        DurationOp::Step => query.step as f64 / 1000.0,
        DurationOp::Range => (query.end - query.start) as f64 / 1000.0,
        DurationOp::Negate(inner) => -seconds(query, inner)?,
        DurationOp::Plus(inner) | DurationOp::Paren(inner) => seconds(query, inner)?,
        DurationOp::Min(a, b) => seconds(query, a)?.min(seconds(query, b)?),
        DurationOp::Max(a, b) => seconds(query, a)?.max(seconds(query, b)?),
        DurationOp::Binary(op, a, b) => {
            let (a, b) = (seconds(query, a)?, seconds(query, b)?);
            match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                BinaryOp::Div | BinaryOp::Mod if b == 0.0 => return Err("by zero".to_owned()),
                BinaryOp::Div => a / b,
                BinaryOp::Mod => a % b,
                _ => a.powf(b),
            }
        }
    })
}

/// Whether all durations are ones; they are looked at before anything is evaluated.
pub(crate) fn check(query: &Query<'_>, expr: &Expr) -> Outcome<()> {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => Ok(()),
        ExprKind::VectorSelector(node) => offset(query, node.offset.as_ref()).map(drop),
        ExprKind::MatrixSelector { selector: node, range } => {
            positive(query, range)?;
            offset(query, node.offset.as_ref()).map(drop)
        }
        ExprKind::Subquery { expr, range, step, offset: by, .. } => {
            positive(query, range)?;
            step.as_ref().map_or(Ok(0), |step| positive(query, step))?;
            offset(query, by.as_ref())?;
            check(query, expr)
        }
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => check(query, inner),
        ExprKind::Call { args, .. } => args.iter().try_for_each(|arg| check(query, arg)),
        ExprKind::Aggregate(node) => {
            node.param.as_ref().map_or(Ok(()), |param| check(query, param))?;
            check(query, &node.expr)
        }
        ExprKind::Binary(node) => {
            check(query, &node.lhs)?;
            check(query, &node.rhs)
        }
    }
}
