//! Which parts of an expression have the same value at every step, because all their selectors are fixed by `@`.

use crate::promql::ast::{Expr, ExprKind};

/// Functions whose value depends on the evaluation time even where their arguments do not.
fn depends_on_time(function: &str) -> bool {
    matches!(
        function,
        "days_in_month"
            | "day_of_month"
            | "day_of_week"
            | "day_of_year"
            | "hour"
            | "minute"
            | "month"
            | "year"
            | "predict_linear"
            | "time"
            | "timestamp"
    )
}

/// Whether an expression has one value for all steps.
pub(crate) fn is_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => true,
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => is_invariant(inner),
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => selector.at.is_some(),
        ExprKind::Subquery { at, .. } => at.is_some(),
        // The parameter does not count, as in Prometheus.
        ExprKind::Aggregate(aggregate) => is_invariant(&aggregate.expr),
        ExprKind::Binary(binary) => is_invariant(&binary.lhs) && is_invariant(&binary.rhs),
        ExprKind::Call { function: "timestamp", args } => {
            matches!(args.first().map(super::strip).map(|e| &e.kind), Some(ExprKind::VectorSelector(s)) if s.at.is_some())
        }
        ExprKind::Call { function, args } => !depends_on_time(function) && args.iter().all(is_invariant),
    }
}
