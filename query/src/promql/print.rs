//! Print: syntax tree to its canonical text, as Prometheus prints it.
//!
//! Invariant: `print(parse(print(e))) == print(e)` for every tree that was parsed. Matchers are sorted by their text;
//! what says nothing (`by ()`, `ignoring ()`, a plus before a number) is left out.

use std::fmt::Write;

use varve_model::labels::METRIC_NAME;
use varve_model::{MatchOp, Matcher};

use super::ast::{
    Aggregate, At, Binary, Cardinality, DurationExpr, DurationOp, Expr, ExprKind, Extended, VectorMatching,
    VectorSelector,
};
use super::literal::{push_duration, push_number, push_number_short, push_quoted};

/// The canonical text of an expression, on one line.
pub fn print(expr: &Expr) -> String {
    let mut out = String::new();
    push_expr(&mut out, expr, usize::MAX);
    out
}

/// The canonical text if it has at most `bytes_max` bytes. Stops soon after them, so that asking this at every level of
/// a tree stays linear in the tree.
pub(super) fn print_within(expr: &Expr, bytes_max: usize) -> Option<String> {
    let mut out = String::new();
    push_expr(&mut out, expr, bytes_max);
    if out.len() <= bytes_max { Some(out) } else { None }
}

/// A number as the language writes it: decimal, without exponent, in the shortest form that reads back the same.
pub fn print_number(value: f64) -> String {
    let mut out = String::new();
    push_number(&mut out, value);
    out
}

/// A matcher as the language writes it: `name="value"`, the name quoted where it must be.
pub fn print_matcher(matcher: &Matcher) -> String {
    let mut out = String::new();
    push_label(&mut out, &matcher.name);
    out.push_str(matcher.op.as_str());
    push_quoted(&mut out, &matcher.value);
    out
}

/// Writes an expression; what is written when it grows beyond `bytes_max` is not whole.
fn push_expr(out: &mut String, expr: &Expr, bytes_max: usize) {
    if out.len() > bytes_max {
        return;
    }
    match &expr.kind {
        ExprKind::Number(value) => push_number(out, *value),
        ExprKind::Duration(seconds) => push_duration_seconds(out, *seconds),
        ExprKind::String(text) => push_quoted(out, text),
        ExprKind::Paren(inner) => {
            out.push('(');
            push_expr(out, inner, bytes_max);
            out.push(')');
        }
        ExprKind::Unary { negative, expr } => {
            out.push(if *negative { '-' } else { '+' });
            push_expr(out, expr, bytes_max);
        }
        ExprKind::VectorSelector(selector) => {
            push_series(out, selector);
            push_at(out, selector.at);
            push_extended(out, selector.extended);
            push_offset(out, selector.offset.as_ref());
        }
        ExprKind::MatrixSelector { selector, range } => {
            push_series(out, selector);
            out.push('[');
            push_duration_expr(out, range);
            out.push(']');
            push_extended(out, selector.extended);
            push_at(out, selector.at);
            push_offset(out, selector.offset.as_ref());
        }
        ExprKind::Subquery { expr: inner, .. } => {
            push_expr(out, inner, bytes_max);
            push_subquery_range(out, expr);
        }
        ExprKind::Call { function, args } => {
            out.push_str(function);
            out.push('(');
            for (i, arg) in args.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                push_expr(out, arg, bytes_max);
            }
            out.push(')');
        }
        ExprKind::Aggregate(aggregate) => {
            push_aggregate_head(out, aggregate);
            out.push('(');
            if let Some(param) = &aggregate.param {
                push_expr(out, param, bytes_max);
                out.push_str(", ");
            }
            push_expr(out, &aggregate.expr, bytes_max);
            out.push(')');
        }
        ExprKind::Binary(binary) => {
            push_expr(out, &binary.lhs, bytes_max);
            out.push(' ');
            push_operator(out, binary);
            out.push(' ');
            push_expr(out, &binary.rhs, bytes_max);
        }
    }
}

/// `name{…}` without modifiers.
fn push_series(out: &mut String, selector: &VectorSelector) {
    let name = selector.name.as_deref().unwrap_or_default();
    out.push_str(name);
    let is_name =
        |m: &&Matcher| *m.name == *METRIC_NAME && m.op == MatchOp::Equal && *m.value == *name && !name.is_empty();
    let mut matchers: Vec<String> = selector.matchers.iter().filter(|m| !is_name(m)).map(print_matcher).collect();
    if matchers.is_empty() {
        return;
    }
    matchers.sort_unstable();
    out.push('{');
    out.push_str(&matchers.join(","));
    out.push('}');
}

fn push_at(out: &mut String, at: Option<At>) {
    match at {
        None => {}
        Some(At::Start) => out.push_str(" @ start()"),
        Some(At::End) => out.push_str(" @ end()"),
        Some(At::Time(ms)) => {
            let _ = write!(out, " @ {:.3}", ms as f64 / 1000.0);
        }
    }
}

fn push_extended(out: &mut String, extended: Option<Extended>) {
    match extended {
        None => {}
        Some(Extended::Anchored) => out.push_str(" anchored"),
        Some(Extended::Smoothed) => out.push_str(" smoothed"),
    }
}

fn push_offset(out: &mut String, offset: Option<&DurationExpr>) {
    if let Some(offset) = offset {
        out.push_str(" offset ");
        push_duration_expr(out, offset);
    }
}

/// `[range:step] @ … offset …` of a subquery; nothing for anything else.
pub(super) fn push_subquery_range(out: &mut String, expr: &Expr) {
    let ExprKind::Subquery { range, step, offset, at, .. } = &expr.kind else { return };
    out.push('[');
    push_duration_expr(out, range);
    out.push(':');
    if let Some(step) = step {
        push_duration_expr(out, step);
    }
    out.push(']');
    push_at(out, *at);
    push_offset(out, offset.as_ref());
}

/// `op by (…) ` with its blank at the end, up to the parenthesis.
pub(super) fn push_aggregate_head(out: &mut String, aggregate: &Aggregate) {
    out.push_str(aggregate.op.as_str());
    if !aggregate.without && aggregate.grouping.is_empty() {
        return;
    }
    out.push_str(if aggregate.without { " without (" } else { " by (" });
    push_labels(out, &aggregate.grouping);
    out.push_str(") ");
}

/// The operator with all its modifiers.
pub(super) fn push_operator(out: &mut String, binary: &Binary) {
    out.push_str(binary.op.as_str());
    if binary.returns_bool {
        out.push_str(" bool");
    }
    if let Some(matching) = &binary.matching {
        push_matching(out, matching);
    }
}

fn push_matching(out: &mut String, matching: &VectorMatching) {
    let group = match matching.cardinality {
        Cardinality::ManyToOne => Some(" group_left ("),
        Cardinality::OneToMany => Some(" group_right ("),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if !matching.labels.is_empty() || matching.on || group.is_some() {
        out.push_str(if matching.on { " on (" } else { " ignoring (" });
        push_labels(out, &matching.labels);
        out.push(')');
    }
    if let Some(group) = group {
        out.push_str(group);
        push_labels(out, &matching.include);
        out.push(')');
    }
    let mut push_fill = |word: &str, value: f64| {
        let _ = write!(out, " {word} (");
        push_number_short(out, value);
        out.push(')');
    };
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left == right => push_fill("fill", left),
        (left, right) => {
            if let Some(left) = left {
                push_fill("fill_left", left);
            }
            if let Some(right) = right {
                push_fill("fill_right", right);
            }
        }
    }
}

fn push_labels(out: &mut String, labels: &[String]) {
    for (i, label) in labels.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        push_label(out, label);
    }
}

/// A label name, quoted where it is no plain word.
fn push_label(out: &mut String, label: &str) {
    let plain = label.bytes().enumerate().all(|(i, b)| match b {
        b'_' | b'a'..=b'z' | b'A'..=b'Z' => true,
        b'0'..=b'9' => i > 0,
        _ => false,
    });
    if plain && !label.is_empty() {
        out.push_str(label);
    } else {
        push_quoted(out, label);
    }
}

fn push_duration_seconds(out: &mut String, seconds: f64) {
    // Through nanoseconds, as Go has them.
    push_duration(out, (seconds * 1e9) as i64 / 1_000_000);
}

fn push_duration_expr(out: &mut String, duration: &DurationExpr) {
    match duration {
        DurationExpr::Fixed(ms) => push_duration(out, *ms),
        DurationExpr::Computed(op) => push_duration_op(out, op),
    }
}

fn push_duration_op(out: &mut String, op: &DurationOp) {
    let mut push_call = |word: &str, a: &DurationOp, b: &DurationOp| {
        out.push_str(word);
        push_duration_op(out, a);
        out.push_str(", ");
        push_duration_op(out, b);
        out.push(')');
    };
    match op {
        DurationOp::Literal { seconds, is_duration: true } => push_duration_seconds(out, *seconds),
        DurationOp::Literal { seconds, is_duration: false } => push_number(out, *seconds),
        DurationOp::Step => out.push_str("step()"),
        DurationOp::Range => out.push_str("range()"),
        DurationOp::Negate(inner) => {
            out.push('-');
            push_duration_op(out, inner);
        }
        DurationOp::Plus(inner) => push_duration_op(out, inner),
        DurationOp::Paren(inner) => {
            out.push('(');
            push_duration_op(out, inner);
            out.push(')');
        }
        DurationOp::Min(a, b) => push_call("min_of(", a, b),
        DurationOp::Max(a, b) => push_call("max_of(", a, b),
        DurationOp::Binary(op, a, b) => {
            push_duration_op(out, a);
            let _ = write!(out, " {} ", op.as_str());
            push_duration_op(out, b);
        }
    }
}
