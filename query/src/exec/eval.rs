//! Evaluator: walks the expression, for all steps at once.

use std::sync::Arc;

use varve_model::{Column, Labels, MatchOp, Matcher, TimeRange};

use crate::annotation::{Annotation, Annotations, Notes};
use crate::answer::MatrixSeries;
use crate::budget::Budget;
use crate::error::Error;
use crate::exec::accumulate::is_running;
use crate::exec::binary::Operator;
use crate::exec::block::{StepBlock, Value};
use crate::exec::grouping::Grouping;
use crate::exec::invariant::is_invariant;
use crate::exec::keys::label_bytes;
use crate::exec::pool::Pool;
use crate::exec::scalar::Scalar;
use crate::exec::scan::{Input, Scan, Shape, Wanted};
use crate::exec::steps::{Reach, Steps};
use crate::exec::window::{Around, RangeFunction, drop_stale, extend, refusal};
use crate::exec::{SERIES_BYTES, aggregate, binary, duration, left_open, series, span, strip, subquery, top};
use crate::histogram;
use crate::promql::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Expr, ExprKind, Extended, Span, VectorSelector};
use crate::request::{Mode, RangeRequest};
use crate::source::{SeriesSet, Source};
use crate::step_counts::StepCounts;

/// What a selected series takes in memory while the query runs: its place in the selection and the references to its
/// parts. The labels are shared with storage.
const SELECTED_BYTES: u64 = 128;

/// Nesting of expressions that is evaluated; a query text can be deeper than a stack.
const DEPTH_MAX: usize = 600;

/// The value of an expression over some steps.
pub(crate) enum Evaluated {
    /// One number a step.
    Scalar(Scalar),
    /// A text.
    String(String),
    /// Series.
    Vector(StepBlock),
}

/// How much of histograms those above an expression look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Detail {
    /// All of them.
    Whole,
    /// Count and sum: below `histogram_count`, `histogram_sum` and `histogram_avg`. Buckets are not even compared,
    /// as in Prometheus.
    Totals,
    /// All of them, whatever stands below: a subquery, or something that needs the buckets, stands above.
    Pinned,
}

/// What an evaluation works with.
#[derive(Clone, Copy)]
pub(crate) struct Evaluator<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) pool: &'a Pool,
    pub(crate) budget: &'a Budget,
    pub(crate) request: &'a RangeRequest,
    /// What is to be said about the answer.
    pub(crate) annotations: &'a Annotations,
    /// How much of histograms is wanted.
    pub(crate) detail: Detail,
    /// Where samples are counted by step, if they are.
    pub(crate) counts: Option<&'a Arc<StepCounts>>,
}

/// What the parser's check makes impossible.
pub(super) fn ill_typed(expected: &str) -> Error {
    Error::Execution(format!("expression of another type where {expected} is expected"))
}

impl Evaluator<'_> {
    /// Walks the expression before anything is evaluated: depth, ranges, and steps of all subqueries.
    pub(crate) fn check(&self, expr: &Expr, steps: Steps, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::Execution(format!("expression is nested more than {DEPTH_MAX} deep")));
        }
        let depth = depth + 1;
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => Ok(()),
            ExprKind::VectorSelector(selector) => self.check_offset(selector),
            ExprKind::MatrixSelector { selector, range } => {
                duration::positive(range, self.request)?;
                self.check_offset(selector)
            }
            ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => self.check(inner, steps, depth),
            ExprKind::Subquery { expr: inner, range, step, offset, at } => {
                let resolved = subquery::resolve(range, step.as_ref(), offset.as_ref(), *at, self.request)?;
                let Some(inner_steps) = resolved.steps(steps) else {
                    return self.check(inner, Steps::once(steps.start), depth);
                };
                self.budget.subquery_steps(inner_steps.count as u64)?;
                self.check(inner, inner_steps, depth)
            }
            ExprKind::Call { args, .. } => args.iter().try_for_each(|arg| self.check(arg, steps, depth)),
            ExprKind::Aggregate(aggregate) => {
                if let Some(param) = &aggregate.param {
                    self.check(param, steps, depth)?;
                }
                self.check(&aggregate.expr, steps, depth)
            }
            ExprKind::Binary(binary) => {
                self.check(&binary.lhs, steps, depth)?;
                self.check(&binary.rhs, steps, depth)
            }
        }
    }

    /// The evaluator of what stands below a call.
    fn below(&self, function: &str) -> Self {
        let detail = match (self.detail, function) {
            (Detail::Pinned, _) | (_, "histogram_quantile" | "histogram_quantiles" | "histogram_fraction") => {
                Detail::Pinned
            }
            (_, "histogram_count" | "histogram_sum" | "histogram_avg") => Detail::Totals,
            (detail, _) => detail,
        };
        Evaluator { detail, ..*self }
    }

    /// The evaluator of what must have its buckets.
    fn pinned(&self) -> Self {
        Evaluator { detail: Detail::Pinned, ..*self }
    }

    /// Where a part of the expression that is evaluated at other steps counts its samples.
    fn counts_of(&self, steps: Steps) -> Result<Option<Arc<StepCounts>>, Error> {
        match self.counts {
            Some(_) => self.budget.counts(steps.start, steps.step, steps.count),
            None => Ok(None),
        }
    }

    fn check_offset(&self, selector: &VectorSelector) -> Result<(), Error> {
        match &selector.offset {
            Some(offset) => duration::resolve(offset, self.request).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Evaluates an expression at all steps.
    pub(crate) fn eval(&self, expr: &Expr, steps: Steps) -> Result<Evaluated, Error> {
        self.budget.check()?;
        let literal = matches!(expr.kind, ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_));
        if steps.count > 1 && !literal && is_invariant(expr) {
            let once = Steps::once(steps.start);
            let counts = self.counts_of(once)?;
            let value = Evaluator { counts: counts.as_ref(), ..*self }.eval(expr, once)?;
            if let (Some(all), Some(part)) = (self.counts, &counts) {
                all.add_invariant(part);
            }
            return Ok(match value {
                Evaluated::Scalar(values) => {
                    Evaluated::Scalar(self.constant(values.first().copied().unwrap_or(f64::NAN), steps)?)
                }
                Evaluated::String(text) => Evaluated::String(text),
                Evaluated::Vector(block) => Evaluated::Vector(block.repeat(steps.count, self.budget)?),
            });
        }
        Ok(match &expr.kind {
            ExprKind::Number(value) | ExprKind::Duration(value) => Evaluated::Scalar(self.constant(*value, steps)?),
            ExprKind::String(text) => Evaluated::String(text.clone()),
            ExprKind::Paren(inner) => self.eval(inner, steps)?,
            ExprKind::Unary { negative, expr } => self.unary(*negative, expr, steps)?,
            ExprKind::VectorSelector(selector) => {
                Evaluated::Vector(self.instant(selector, expr.span, steps)?.collect(self.pool, self.budget)?)
            }
            ExprKind::MatrixSelector { .. } | ExprKind::Subquery { .. } => {
                return Err(match self.request.mode {
                    Mode::Range => super::wrong_type("range vector"),
                    Mode::Instant => ill_typed("instant vector"),
                });
            }
            ExprKind::Call { function, args } => self.below(function).call(function, args, expr.span, steps)?,
            ExprKind::Aggregate(aggregate) => Evaluated::Vector(self.aggregate(expr, aggregate, steps)?),
            ExprKind::Binary(binary) => self.binary(expr, binary, steps)?,
        })
    }

    pub(super) fn vector(&self, expr: &Expr, steps: Steps) -> Result<StepBlock, Error> {
        match self.eval(expr, steps)? {
            Evaluated::Vector(block) => Ok(block),
            _ => Err(ill_typed("instant vector")),
        }
    }

    /// The same number at all steps.
    pub(super) fn constant(&self, value: f64, steps: Steps) -> Result<Scalar, Error> {
        Scalar::constant(value, steps.count, self.budget)
    }

    pub(super) fn scalar(&self, expr: &Expr, steps: Steps) -> Result<Scalar, Error> {
        match self.eval(expr, steps)? {
            Evaluated::Scalar(values) => Ok(values),
            _ => Err(ill_typed("scalar")),
        }
    }

    pub(super) fn string<'e>(&self, args: &'e [Expr], number: usize) -> Result<&'e str, Error> {
        match args.get(number).map(|arg| &strip(arg).kind) {
            Some(ExprKind::String(text)) => Ok(text),
            _ => Err(ill_typed("string")),
        }
    }

    fn unary(&self, negative: bool, expr: &Expr, steps: Steps) -> Result<Evaluated, Error> {
        let mut value = self.eval(expr, steps)?;
        if negative {
            match &mut value {
                Evaluated::Scalar(values) => values.iter_mut().for_each(|value| *value = -*value),
                Evaluated::Vector(block) => {
                    block.map_floats(|_, value| -value);
                    block.map_histograms(self.budget, |_, histogram| {
                        let mut negated = histogram.as_ref().clone();
                        histogram::multiply(&mut negated, -1.0);
                        Some(Value::Histogram(negated.into()))
                    })?;
                    block.drop_names(self.late())?;
                }
                Evaluated::String(_) => return Err(ill_typed("scalar or instant vector")),
            }
        }
        Ok(value)
    }

    fn binary(&self, expr: &Expr, binary: &Binary, steps: Steps) -> Result<Evaluated, Error> {
        let trims = matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        let below = if trims { self.pinned() } else { *self };
        let left = below.eval(&binary.lhs, steps)?;
        let right = below.eval(&binary.rhs, steps)?;
        let operator = Operator {
            op: binary.op,
            returns_bool: binary.returns_bool,
            notes: Notes::new(self.annotations, expr.span),
            budget: self.budget,
            late: self.late(),
        };
        Ok(match (left, right) {
            (Evaluated::Scalar(left), Evaluated::Scalar(right)) => {
                Evaluated::Scalar(binary::scalars(binary.op, left, &right))
            }
            (Evaluated::Vector(left), Evaluated::Scalar(right)) => {
                Evaluated::Vector(operator.with_scalar(left, &right, false)?)
            }
            (Evaluated::Scalar(left), Evaluated::Vector(right)) => {
                Evaluated::Vector(operator.with_scalar(right, &left, true)?)
            }
            (Evaluated::Vector(left), Evaluated::Vector(right)) => {
                let matching = binary.matching.clone().unwrap_or_default();
                Evaluated::Vector(operator.vectors(left, right, &matching)?)
            }
            _ => return Err(ill_typed("scalar or instant vector")),
        })
    }

    /// Selects the series of a selector that may have samples in `range`.
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn SeriesSet>, Error> {
        let set = self.source.select(self.request.tenant, matchers, range, self.budget.series_left())?;
        self.budget.select(set.len() as u64)?;
        self.budget.keep((set.len() as u64).saturating_mul(SELECTED_BYTES))?;
        Ok(set)
    }

    /// Refuses what would read too much, before it has begun. Only where a sample a second would be too much storage is
    /// asked how many there are, so that what is usual pays nothing.
    fn foresee(&self, set: &dyn SeriesSet, range: TimeRange) -> Result<(), Error> {
        let seconds = (range.max.saturating_sub(range.min) / 1000).saturating_add(1).unsigned_abs();
        if (set.len() as u64).saturating_mul(seconds) <= self.budget.limits().query_samples_max {
            return Ok(());
        }
        self.budget.foresee(set.estimate(range)?.samples)
    }

    /// The times that a scan touches. Where histograms lose their buckets, those before tell of resets.
    fn span(&self, steps: Steps, reach: Reach, shape: &Shape) -> TimeRange {
        let (back, ahead) = shape.span();
        span(steps, reach, if self.totals() { back.saturating_mul(2) } else { back }, ahead)
    }

    /// Whether names go when the evaluation ends.
    pub(super) fn late(&self) -> bool {
        self.request.features.delayed_name_removal
    }

    fn totals(&self) -> bool {
        self.detail == Detail::Totals
    }

    /// The scan of an instant selector at `span`.
    pub(super) fn instant(&self, selector: &VectorSelector, span: Span, steps: Steps) -> Result<Scan, Error> {
        if selector.extended != Some(Extended::Smoothed) {
            return self.newest(selector, steps, Wanted::Value);
        }
        let reach = subquery::reach(selector.at, selector.offset.as_ref(), self.request)?;
        let shape = Shape::Smoothed { lookback: self.request.lookback_ms };
        Ok(Scan { notes: Notes::new(self.annotations, span), ..self.scan_of(&selector.matchers, reach, steps, shape)? })
    }

    /// The scan of the newest samples of an instant selector.
    pub(super) fn newest(&self, selector: &VectorSelector, steps: Steps, wanted: Wanted) -> Result<Scan, Error> {
        let mut reach = subquery::reach(selector.at, selector.offset.as_ref(), self.request)?;
        if wanted != Wanted::Value && reach.at.is_some() {
            // In Prometheus, timestamp(x @ t offset o) looks at t.
            reach.offset = 0;
        }
        self.newest_of(&selector.matchers, reach, steps, wanted)
    }

    /// The scan of the newest samples of the series that satisfy matchers.
    pub(super) fn newest_of(
        &self,
        matchers: &[Matcher],
        reach: Reach,
        steps: Steps,
        wanted: Wanted,
    ) -> Result<Scan, Error> {
        self.scan_of(matchers, reach, steps, Shape::Newest { lookback: self.request.lookback_ms, wanted })
    }

    fn scan_of(&self, matchers: &[Matcher], reach: Reach, steps: Steps, shape: Shape) -> Result<Scan, Error> {
        let range = self.span(steps, reach, &shape);
        let set = self.select(matchers, range)?;
        let scan = Scan {
            input: Input::Stored(Arc::clone(&set)),
            shape,
            steps,
            reach,
            one_name: has_one_name(matchers),
            anonymous: false,
            notes: Notes::default(),
            features: self.request.features,
            totals: self.totals(),
            counts: self.counts.cloned(),
        };
        if !scan.newest_suffices() {
            self.foresee(set.as_ref(), range)?;
        }
        Ok(scan)
    }

    /// The scan of a function over a range vector.
    pub(super) fn windows(
        &self,
        function: RangeFunction,
        argument: &Expr,
        arguments: Vec<Scalar>,
        steps: Steps,
        notes: Notes,
    ) -> Result<Scan, Error> {
        match &strip(argument).kind {
            ExprKind::MatrixSelector { selector, range } => {
                let range = duration::positive(range, self.request)?;
                let reach = subquery::reach(selector.at, selector.offset.as_ref(), self.request)?;
                let around = selector.extended.map(|modifier| self.around(modifier));
                let starts = self.request.features.start_timestamps;
                let shape = Shape::Window { function, range, arguments, around, starts };
                Ok(Scan { notes, ..self.scan_of(&selector.matchers, reach, steps, shape)? })
            }
            ExprKind::Subquery { expr, range, step, offset, at } => {
                let resolved = subquery::resolve(range, step.as_ref(), offset.as_ref(), *at, self.request)?;
                let input = match resolved.steps(steps) {
                    Some(inner) => {
                        let counts = self.counts_of(inner)?;
                        let below = Evaluator { counts: counts.as_ref(), ..self.pinned() };
                        let rows = below.vector_or_scalar(expr, inner)?;
                        if let (Some(all), Some(part)) = (self.counts, &counts) {
                            all.add_subquery(part, resolved.reach.offset, resolved.range);
                        }
                        Input::Rows(Arc::new(rows), inner)
                    }
                    None => Input::Rows(Arc::new(StepBlock::new(1)), Steps::once(steps.start)),
                };
                let shape = Shape::Window { function, range: resolved.range, arguments, around: None, starts: false };
                let features = self.request.features;
                Ok(Scan {
                    input,
                    shape,
                    steps,
                    reach: resolved.reach,
                    one_name: false,
                    anonymous: false,
                    notes,
                    features,
                    totals: false,
                    counts: self.counts.cloned(),
                })
            }
            _ => Err(ill_typed("range vector")),
        }
    }

    fn around(&self, modifier: Extended) -> Around {
        Around { modifier, lookback: self.request.lookback_ms }
    }

    /// Fails when a function's range has a modifier that it cannot be used with.
    pub(super) fn check_modifier(&self, function: &str, args: &[Expr]) -> Result<(), Error> {
        let modifier = args.iter().find_map(|arg| match &strip(arg).kind {
            ExprKind::MatrixSelector { selector, .. } => selector.extended,
            _ => None,
        });
        match modifier.and_then(|modifier| refusal(modifier, function)) {
            Some(text) => Err(Error::Execution(text)),
            None => Ok(()),
        }
    }

    /// What a subquery evaluates: a scalar counts as one series without labels.
    fn vector_or_scalar(&self, expr: &Expr, steps: Steps) -> Result<StepBlock, Error> {
        match self.eval(expr, steps)? {
            Evaluated::Vector(block) => Ok(block),
            Evaluated::Scalar(values) => {
                let mut block = StepBlock::new(steps.count);
                block.push(Labels::default(), &values, self.budget)?;
                Ok(block)
            }
            Evaluated::String(_) => Err(ill_typed("instant vector")),
        }
    }

    /// The scan behind an expression, where it is nothing but one.
    fn scan(&self, expr: &Expr, steps: Steps) -> Result<Option<Scan>, Error> {
        match &strip(expr).kind {
            ExprKind::VectorSelector(selector) => self.instant(selector, strip(expr).span, steps).map(Some),
            ExprKind::Call { function, args } if *function != "absent_over_time" => {
                // No function over ranges changes how much of histograms is wanted.
                self.check_modifier(function, args)?;
                match RangeFunction::named(function) {
                    Some(function) => self.range_call(function, args, steps).map(Some),
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    pub(super) fn range_call(&self, function: RangeFunction, args: &[Expr], steps: Steps) -> Result<Scan, Error> {
        let is_range =
            |arg: &&Expr| matches!(strip(arg).kind, ExprKind::MatrixSelector { .. } | ExprKind::Subquery { .. });
        let argument = args.iter().find(is_range).ok_or_else(|| ill_typed("range vector"))?;
        let scalars = args.iter().filter(|arg| !is_range(arg)).map(|arg| self.scalar(arg, steps));
        let scalars = scalars.collect::<Result<Vec<_>, _>>()?;
        if function == RangeFunction::Smoothing {
            self.check_factors(argument, &scalars, steps)?;
        }
        self.windows(function, argument, scalars, steps, self.notes(args, 0))
    }

    /// Fails when there is something to be smoothed with a factor that is none.
    fn check_factors(&self, argument: &Expr, factors: &[Scalar], steps: Steps) -> Result<(), Error> {
        let is_invalid = |factor: f64| factor <= 0.0 || factor >= 1.0;
        if !factors.iter().flat_map(|factors| factors.iter()).any(|factor| is_invalid(*factor)) {
            return Ok(());
        }
        let scan = self.windows(RangeFunction::Present, argument, Vec::new(), steps, Notes::default())?;
        let present = scan.presence(self.pool, self.budget)?;
        for (step, _) in present.iter().enumerate().filter(|(_, present)| **present) {
            for (factors, (name, symbol)) in factors.iter().zip([("smoothing", "sf"), ("trend", "tf")]) {
                if let Some(factor) = factors.get(step).filter(|factor| is_invalid(**factor)) {
                    return Err(Error::Execution(format!(
                        "invalid {name} factor. Expected: 0 < {symbol} < 1, got: {factor:.6}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Notes about an argument of a call, which is told without its parentheses.
    pub(super) fn notes(&self, args: &[Expr], number: usize) -> Notes {
        let span = match args.get(number).map(strip) {
            // Prometheus puts a selector without a place in the place of a subquery.
            None | Some(Expr { kind: ExprKind::Subquery { .. }, .. }) => Span::default(),
            Some(arg) => arg.span,
        };
        Notes::new(self.annotations, span)
    }

    fn aggregate(&self, expr: &Expr, node: &Aggregate, steps: Steps) -> Result<StepBlock, Error> {
        let grouping = if node.without { Grouping::without(&node.grouping) } else { Grouping::by(&node.grouping) };
        let about_vector = Notes::new(self.annotations, node.expr.span);
        if is_running(node.op) {
            return match self.scan(&node.expr, steps)? {
                Some(scan) => scan.aggregate(node.op, &grouping, &about_vector, self.pool, self.budget),
                None => {
                    let block = self.vector(&node.expr, steps)?;
                    aggregate::aggregate(node.op, &grouping, &block, self.late(), &about_vector, self.budget)
                }
            };
        }
        let param = node.param.as_deref().ok_or_else(|| ill_typed("parameter"))?;
        if node.op == AggregateOp::CountValues {
            let label = self.string(std::slice::from_ref(param), 0)?;
            let block = self.vector(&node.expr, steps)?;
            return top::count_values(label, &node.grouping, node.without, &block, self.budget);
        }
        let notes = Notes::new(self.annotations, strip(param).span);
        let param = self.scalar(param, steps)?;
        let mut block = self.vector(&node.expr, steps)?;
        match node.op {
            AggregateOp::Quantile => {
                remark_quantiles(&param, &notes);
                top::quantiles(&param, &grouping, &mut block, &about_vector, self.budget)
            }
            AggregateOp::LimitRatio => {
                top::keep_ratio(&param, &mut block, &notes)?;
                Ok(block)
            }
            op => {
                let notes = Notes::new(self.annotations, expr.span);
                top::keep(op, &param, &grouping, &mut block, &notes, self.budget)
            }
        }
    }

    /// A range vector at one time, with its own times.
    pub(crate) fn matrix(&self, expr: &Expr, steps: Steps) -> Result<Vec<MatrixSeries>, Error> {
        match &expr.kind {
            ExprKind::MatrixSelector { selector, range } => {
                let reach = subquery::reach(selector.at, selector.offset.as_ref(), self.request)?;
                let back = duration::positive(range, self.request)?;
                let end = reach.look(steps.start);
                let around = selector.extended.map(|modifier| self.around(modifier));
                let (before, behind) = around.map_or((0, 0), |around| (around.before(), around.behind()));
                let range = left_open(end, back.saturating_add(before));
                let range = TimeRange { max: range.max.saturating_add(behind), ..range };
                let set = self.select(&selector.matchers, range)?;
                self.foresee(set.as_ref(), range)?;
                let mut result = Vec::new();
                let mut points = 0;
                for index in 0..set.len() {
                    self.budget.check()?;
                    let mut column = Column::default();
                    set.read(index, range, &mut column)?;
                    self.budget.read(column.len() as u64)?;
                    drop_stale(&mut column);
                    if let Some(Around { modifier, .. }) = around {
                        if !column.histograms.is_empty() {
                            let text = format!("{} modifier is not supported with histograms", modifier.as_str());
                            return Err(Error::Execution(text));
                        }
                        let ends = (end.saturating_sub(back), end);
                        extend(&mut column.times, &mut column.values, ends, modifier);
                        column.starts.clear();
                    }
                    if column.is_empty() {
                        continue;
                    }
                    if let Some(counts) = self.counts {
                        counts.add_column(&column);
                    }
                    points += column.len() as u64;
                    self.budget.points(points)?;
                    // The answer lives until it is written.
                    let histograms = column.histograms.iter().map(|(_, histogram)| histogram::bytes(histogram));
                    let labels = set.labels(index);
                    let bytes =
                        SERIES_BYTES + label_bytes(&labels) + 16 * column.len() as u64 + histograms.sum::<u64>();
                    self.budget.keep(bytes)?;
                    result.push(MatrixSeries { labels, points: column });
                }
                Ok(result)
            }
            ExprKind::Subquery { expr, range, step, offset, at } => {
                let resolved = subquery::resolve(range, step.as_ref(), offset.as_ref(), *at, self.request)?;
                let Some(inner) = resolved.steps(steps) else { return Ok(Vec::new()) };
                let counts = self.counts_of(inner)?;
                let below = Evaluator { counts: counts.as_ref(), ..self.pinned() };
                let mut block = below.vector_or_scalar(expr, inner)?;
                if let (Some(all), Some(part)) = (self.counts, &counts) {
                    all.add_answer(part);
                }
                if self.late() {
                    block.drop_late_names()?;
                }
                series(block, inner, self.budget)
            }
            _ => Err(ill_typed("range vector")),
        }
    }
}

/// What is said of the quantiles of an aggregation: of those outside [0, 1] the ones farthest off.
fn remark_quantiles(quantiles: &[f64], notes: &Notes) {
    let (min, max) = top::bounds(quantiles);
    let any_nan = quantiles.iter().any(|q| q.is_nan());
    if any_nan {
        notes.add(&Annotation::InvalidQuantile(f64::NAN));
    }
    // As Go's, the extremes of numbers among which is NaN are NaN, but for infinities.
    let is_told = |q: f64| !any_nan || q.is_infinite();
    if max > 1.0 && is_told(max) {
        notes.add(&Annotation::InvalidQuantile(max));
    }
    if min < 0.0 && is_told(min) {
        notes.add(&Annotation::InvalidQuantile(min));
    }
}

/// Whether all series of a selector have the same metric name.
fn has_one_name(matchers: &[Matcher]) -> bool {
    matchers.iter().any(|matcher| matcher.op == MatchOp::Equal && *matcher.name == *varve_model::labels::METRIC_NAME)
}
