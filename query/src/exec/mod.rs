//! Execution: an expression, a range of steps and a source make an answer.
//!
//! ```text
//! Expr ─ check ─► eval ──► Scan: select ► morsels on the Pool ► Column ► window ► row of steps ─┐
//!                  ▲                                                                           │ kept or aggregated
//!                  └───────────────── StepBlock (series × steps) ◄─────────────────────────────┘
//! ```
//! An expression is evaluated for all its steps at once, bottom up; parts that do not depend on the step are
//! evaluated once. Everything that is proportional to the data is charged to the [`Budget`] before it is done.

mod accumulate;
mod aggregate;
mod binary;
mod block;
mod call;
mod duration;
mod element;
mod eval;
mod explain;
mod functions;
mod grouping;
mod info;
mod invariant;
pub(crate) mod kahan;
mod keys;
mod pool;
mod remarks;
mod scalar;
mod scan;
mod steps;
mod subquery;
mod tally;
mod top;
mod window;

pub use explain::{Touched, explain};
pub(crate) use functions::date::text as date_text;
pub use pool::Pool;

use varve_model::{Column, Labels, TimeRange};

use crate::annotation::Annotations;
use crate::answer::{Answer, Cell, MatrixSeries, Value, VectorElement};
use crate::budget::Budget;
use crate::error::Error;
use crate::histogram;
use crate::promql::ast::{Expr, ExprKind};
use crate::request::{Mode, RangeRequest};
use crate::source::Source;
use block::{StepBlock, is_absent};
use eval::{Detail, Evaluated, Evaluator};
use steps::{Reach, Steps};

/// Evaluates a checked expression. Errors and the numbers are Prometheus's; a panic of ours becomes an error of this
/// query.
pub fn run(
    expr: &Expr,
    request: &RangeRequest,
    source: &dyn Source,
    budget: &Budget,
    pool: &Pool,
) -> Result<Answer, Error> {
    pool::guard(|| answer(expr, request, source, budget, pool))
}

fn answer(
    expr: &Expr,
    request: &RangeRequest,
    source: &dyn Source,
    budget: &Budget,
    pool: &Pool,
) -> Result<Answer, Error> {
    let steps = match request.mode {
        Mode::Instant => Steps::once(request.start),
        Mode::Range if request.step <= 0 => {
            return Err(Error::Parse("zero or negative query resolution step widths are not accepted".to_owned()));
        }
        Mode::Range => Steps::between(request.start, request.end, request.step)
            .ok_or_else(|| Error::Parse("end timestamp must not be before start time".to_owned()))?,
    };
    budget.steps(steps.count as u64)?;
    budget.check()?;
    let annotations = Annotations::new();
    let counts = budget.counts(steps.start, steps.step, steps.count)?;
    let counts = counts.as_ref();
    let evaluator =
        Evaluator { source, pool, budget, request, annotations: &annotations, detail: Detail::Whole, counts };
    evaluator.check(expr, steps, 0)?;
    let value = match request.mode {
        Mode::Instant => match &strip(expr).kind {
            ExprKind::MatrixSelector { .. } | ExprKind::Subquery { .. } => {
                Value::Matrix(sorted(evaluator.matrix(strip(expr), steps)?))
            }
            _ => match evaluator.eval(expr, steps)? {
                Evaluated::Scalar(values) => Value::Scalar(values.first().copied().unwrap_or(f64::NAN)),
                Evaluated::String(text) => Value::String(text),
                Evaluated::Vector(mut block) => {
                    if request.features.delayed_name_removal {
                        block.drop_late_names()?;
                    }
                    budget.points(block.rows() as u64)?;
                    // The answer lives until it is written.
                    let elements_bytes = (block.rows() as u64).saturating_mul(ELEMENT_BYTES);
                    budget.keep(elements_bytes + histogram_bytes(&block))?;
                    block.keep_labels(budget)?;
                    Value::Vector(elements(&block))
                }
            },
        },
        Mode::Range => match evaluator.eval(expr, steps)? {
            Evaluated::Scalar(scalar) => {
                budget.keep((steps.count as u64).saturating_mul(8))?;
                let points = Column { times: steps.times().collect(), values: scalar.keep(), ..Column::default() };
                Value::Matrix(vec![MatrixSeries { labels: Labels::default(), points }])
            }
            Evaluated::String(_) => return Err(wrong_type("string")),
            Evaluated::Vector(mut block) => {
                if request.features.delayed_name_removal {
                    block.drop_late_names()?;
                }
                Value::Matrix(sorted(series(block, steps, budget)?))
            }
        },
    };
    Ok(Answer { time: request.start, value, annotations, stats: budget.stats() })
}

/// Bytes of an element of an instant answer without its labels, and of a series of a range answer without its points.
const ELEMENT_BYTES: u64 = size_of::<VectorElement>() as u64;
const SERIES_BYTES: u64 = size_of::<MatrixSeries>() as u64;

/// The error of range queries over other than scalars and instant vectors.
fn wrong_type(found: &str) -> Error {
    Error::Parse(format!("invalid expression type \"{found}\" for range query, must be Scalar or instant Vector"))
}

/// An expression without its outer parentheses.
fn strip(expr: &Expr) -> &Expr {
    let mut expr = expr;
    while let ExprKind::Paren(inner) = &expr.kind {
        expr = inner;
    }
    expr
}

/// What the histograms of all cells take once each is on its own.
fn histogram_bytes(block: &StepBlock) -> u64 {
    if !block.has_histograms() {
        return 0;
    }
    let cells = block.iter().flat_map(|(_, row)| row);
    cells.filter_map(|cell| block.histograms().get(*cell)).map(|histogram| histogram::bytes(histogram)).sum()
}

fn elements(block: &StepBlock) -> Vec<VectorElement> {
    block
        .iter()
        .filter_map(|(labels, row)| {
            let value = row.first().filter(|cell| !is_absent(**cell))?;
            let value = match block.histograms().get(*value) {
                Some(histogram) => Cell::Histogram(Box::new(histogram.as_ref().clone())),
                None => Cell::Float(*value),
            };
            Some(VectorElement { labels: labels.clone(), value })
        })
        .collect()
}

/// The rows of a block as series of the answer, which lives until it is written: times and values, beside the labels and
/// columns of each series.
fn series(mut block: StepBlock, steps: Steps, budget: &Budget) -> Result<Vec<MatrixSeries>, Error> {
    let points = (block.rows() as u64).saturating_mul(block.steps() as u64);
    budget.points(points)?;
    let series_bytes = (block.rows() as u64).saturating_mul(SERIES_BYTES);
    budget.keep(points.saturating_mul(16).saturating_add(series_bytes) + histogram_bytes(&block))?;
    block.keep_labels(budget)?;
    let has_histograms = block.has_histograms();
    Ok(block
        .iter()
        .map(|(labels, row)| {
            let mut points = Column::default();
            for (step, cell) in row.iter().enumerate().filter(|(_, cell)| !is_absent(**cell)) {
                match block.histograms().get(*cell).filter(|_| has_histograms) {
                    Some(histogram) => points.histograms.push((steps.time(step), histogram.as_ref().clone())),
                    None => {
                        points.times.push(steps.time(step));
                        points.values.push(*cell);
                    }
                }
            }
            MatrixSeries { labels: labels.clone(), points }
        })
        .collect())
}

fn sorted(mut series: Vec<MatrixSeries>) -> Vec<MatrixSeries> {
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    series
}

/// The times that windows of `back` milliseconds before and `ahead` behind their steps touch.
fn span(steps: Steps, reach: Reach, back: i64, ahead: i64) -> TimeRange {
    let range = left_open(reach.look(steps.start), back);
    TimeRange { min: range.min, max: reach.look(steps.last()).saturating_add(ahead) }
}

/// The window `(end - range, end]` as inclusive times.
fn left_open(end: i64, range: i64) -> TimeRange {
    TimeRange { min: end.saturating_sub(range).saturating_add(1), max: end }
}
