//! Pretty: syntax tree to text broken into lines, as Prometheus's `format_query` does it.
//!
//! An expression whose canonical text has at most 100 bytes stays on one line. A longer one is opened: its parts stand
//! on lines of their own, two blanks further in. Selectors and literals are never broken.

use super::ast::{Expr, ExprKind};
use super::print::{print, print_within, push_aggregate_head, push_operator, push_subquery_range};

/// Bytes of the longest line that is left whole.
const LINE_BYTES_MAX: usize = 100;

/// The text of an expression, broken into lines where it is long.
pub fn pretty(expr: &Expr) -> String {
    pretty_within(expr, LINE_BYTES_MAX)
}

/// As [`pretty`], for lines of another width.
pub(super) fn pretty_within(expr: &Expr, width: usize) -> String {
    let mut out = String::new();
    push_pretty(&mut out, expr, 0, width);
    out
}

fn push_pretty(out: &mut String, expr: &Expr, level: usize, width: usize) {
    // The sign goes before its operand, wherever that begins.
    if let ExprKind::Unary { negative, expr } = &expr.kind {
        let mut operand = String::new();
        push_pretty(&mut operand, expr, level, width);
        push_indent(out, level);
        out.push(if *negative { '-' } else { '+' });
        out.push_str(operand.trim());
        return;
    }
    if let Some(line) = print_within(expr, width) {
        // Prometheus does not indent a subquery that stays whole.
        if !matches!(expr.kind, ExprKind::Subquery { .. }) {
            push_indent(out, level);
        }
        out.push_str(&line);
        return;
    }
    match &expr.kind {
        ExprKind::Subquery { expr: inner, .. } => {
            push_pretty(out, inner, level, width);
            push_subquery_range(out, expr);
        }
        ExprKind::Aggregate(aggregate) => {
            push_indent(out, level);
            push_aggregate_head(out, aggregate);
            out.push_str("(\n");
            if let Some(param) = &aggregate.param {
                push_pretty(out, param, level + 1, width);
                out.push_str(",\n");
            }
            push_pretty(out, &aggregate.expr, level + 1, width);
            push_close(out, level);
        }
        ExprKind::Binary(binary) => {
            push_pretty(out, &binary.lhs, level + 1, width);
            out.push('\n');
            push_indent(out, level);
            push_operator(out, binary);
            out.push('\n');
            push_pretty(out, &binary.rhs, level + 1, width);
        }
        ExprKind::Call { function, args } => {
            push_indent(out, level);
            out.push_str(function);
            out.push_str("(\n");
            for (i, arg) in args.iter().enumerate() {
                out.push_str(if i > 0 { ",\n" } else { "" });
                push_pretty(out, arg, level + 1, width);
            }
            push_close(out, level);
        }
        ExprKind::Paren(inner) => {
            push_indent(out, level);
            out.push_str("(\n");
            push_pretty(out, inner, level + 1, width);
            push_close(out, level);
        }
        _ => {
            push_indent(out, level);
            out.push_str(&print(expr));
        }
    }
}

fn push_indent(out: &mut String, level: usize) {
    for _ in 0..level {
        out.push_str("  ");
    }
}

fn push_close(out: &mut String, level: usize) {
    out.push('\n');
    push_indent(out, level);
    out.push(')');
}
