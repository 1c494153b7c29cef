//! Explain: what an expression will touch, selector by selector, told before anything is read.
//!
//! Walks the expression as the evaluation does and selects the series of each selector over the times it will look at;
//! storage then tells chunks, bytes and about how many samples that is. Nothing is decoded.

use crate::budget::Budget;
use crate::error::Error;
use crate::exec::steps::{Reach, Steps};
use crate::exec::{duration, invariant, span, subquery};
use crate::promql::ast::{Expr, ExprKind, VectorSelector};
use crate::promql::print_matcher;
use crate::request::{Mode, RangeRequest};
use crate::source::{Estimate, Source};
use varve_model::TimeRange;

/// What one selector will touch.
#[derive(Clone, PartialEq, Debug)]
pub struct Touched {
    /// The selector.
    pub selector: String,
    /// The times that are looked at, over all steps.
    pub range: TimeRange,
    /// How much is there.
    pub estimate: Estimate,
}

/// What every selector of an expression will touch, in the order of the text.
pub fn explain(
    expr: &Expr,
    request: &RangeRequest,
    source: &dyn Source,
    budget: &Budget,
) -> Result<Vec<Touched>, Error> {
    let steps = match request.mode {
        Mode::Instant => Steps::once(request.start),
        Mode::Range => Steps::between(request.start, request.end, request.step.max(1))
            .ok_or_else(|| Error::Parse("end timestamp must not be before start time".to_owned()))?,
    };
    budget.steps(steps.count as u64)?;
    let mut walk = Walk { request, source, budget, found: Vec::new() };
    walk.expr(expr, steps)?;
    Ok(walk.found)
}

struct Walk<'a> {
    request: &'a RangeRequest,
    source: &'a dyn Source,
    budget: &'a Budget,
    found: Vec<Touched>,
}

impl Walk<'_> {
    fn expr(&mut self, expr: &Expr, steps: Steps) -> Result<(), Error> {
        self.budget.check()?;
        let steps = if invariant::is_invariant(expr) { Steps::once(steps.start) } else { steps };
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => Ok(()),
            ExprKind::VectorSelector(selector) => self.selector(selector, self.request.lookback_ms, steps),
            ExprKind::MatrixSelector { selector, range } => {
                self.selector(selector, duration::positive(range, self.request)?, steps)
            }
            ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => self.expr(inner, steps),
            ExprKind::Subquery { expr: inner, range, step, offset, at } => {
                let resolved = subquery::resolve(range, step.as_ref(), offset.as_ref(), *at, self.request)?;
                let Some(inner_steps) = resolved.steps(steps) else { return Ok(()) };
                self.budget.subquery_steps(inner_steps.count as u64)?;
                self.expr(inner, inner_steps)
            }
            ExprKind::Call { args, .. } => args.iter().try_for_each(|arg| self.expr(arg, steps)),
            ExprKind::Aggregate(aggregate) => {
                if let Some(param) = &aggregate.param {
                    self.expr(param, steps)?;
                }
                self.expr(&aggregate.expr, steps)
            }
            ExprKind::Binary(binary) => {
                self.expr(&binary.lhs, steps)?;
                self.expr(&binary.rhs, steps)
            }
        }
    }

    fn selector(&mut self, selector: &VectorSelector, back: i64, steps: Steps) -> Result<(), Error> {
        let reach: Reach = subquery::reach(selector.at, selector.offset.as_ref(), self.request)?;
        // What is around a window may be read too.
        let (more, ahead) = match selector.extended {
            Some(_) => (self.request.lookback_ms, self.request.lookback_ms),
            None => (0, 0),
        };
        let range = span(steps, reach, back.saturating_add(more), ahead);
        let set = self.source.select(self.request.tenant, &selector.matchers, range, self.budget.series_left())?;
        self.budget.select(set.len() as u64)?;
        let estimate = set.estimate(range)?;
        let matchers: Vec<String> = selector.matchers.iter().map(print_matcher).collect();
        self.found.push(Touched { selector: format!("{{{}}}", matchers.join(",")), range, estimate });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::{ParseOptions, parse};
    use crate::source::memory::MemorySource;
    use varve_model::{Limits, TenantId};

    #[test]
    fn each_selector_is_told_with_its_times() {
        let source = MemorySource::new();
        let text = "sum(rate(a[5m] offset 1m)) / b{c=\"d\"} + max_over_time(e[10m:1m]) + f @ 7";
        let expr = parse(text, &ParseOptions::default()).unwrap();
        let request = RangeRequest::range(TenantId(1), 3_600_000, 7_200_000, 60_000);
        let found = explain(&expr, &request, &source, &Budget::of_limits(&Limits::default())).unwrap();
        let told: Vec<(&str, i64, i64)> =
            found.iter().map(|t| (t.selector.as_str(), t.range.min, t.range.max)).collect();
        assert_eq!(
            told,
            [
                ("{__name__=\"a\"}", 3_240_001, 7_140_000),
                ("{c=\"d\",__name__=\"b\"}", 3_300_001, 7_200_000),
                ("{__name__=\"e\"}", 2_760_001, 7_200_000),
                ("{__name__=\"f\"}", -292_999, 7_000),
            ]
        );
    }
}
