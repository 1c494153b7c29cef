//! Check: types, numbers of arguments, vector matching. What passes can be evaluated without looking again.
//!
//! Runs once over a tree that is right in its syntax, in the order in which Prometheus does, so that of several faults
//! the same one is reported. It also settles what the syntax leaves open: matching is `None` unless both sides are
//! vectors, and many-to-many for set operators.

use std::collections::BTreeSet;

use varve_model::labels::METRIC_NAME;

use super::ast::{
    Aggregate, Binary, Cardinality, Expr, ExprKind, Span,
    ValueType::{self, Matrix, Scalar, Vector},
    VectorMatching, VectorSelector,
};
use super::functions::{self, Function, Variadic};
use super::lex::{Fail, fail};
use super::literal::quoted;

/// The type of an expression's value. O(depth).
pub fn value_type(expr: &Expr) -> ValueType {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) => Scalar,
        ExprKind::String(_) => ValueType::String,
        ExprKind::Paren(expr) | ExprKind::Unary { expr, .. } => value_type(expr),
        ExprKind::VectorSelector(_) | ExprKind::Aggregate(_) => Vector,
        ExprKind::MatrixSelector { .. } | ExprKind::Subquery { .. } => Matrix,
        ExprKind::Call { function, .. } => functions::find(function).map_or(Vector, |f| f.returns),
        ExprKind::Binary(binary) => {
            // Matching is there exactly when both sides are vectors; otherwise one look decides.
            if binary.matching.is_none() && value_type(&binary.lhs) == Scalar && value_type(&binary.rhs) == Scalar {
                Scalar
            } else {
                Vector
            }
        }
    }
}

/// Checks a tree and returns its type. `text` is what it was parsed from.
pub(super) fn check(expr: &mut Expr, text: &str) -> Result<ValueType, Fail> {
    let span = expr.span;
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) => Ok(Scalar),
        ExprKind::String(_) => Ok(ValueType::String),
        ExprKind::Paren(inner) => check(inner, text),
        ExprKind::Unary { expr, .. } => {
            let found = check(expr, text)?;
            if found != Scalar && found != Vector {
                let found = found.as_str();
                return fail(
                    span.begin,
                    format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {found:?}"
                    ),
                );
            }
            Ok(found)
        }
        ExprKind::VectorSelector(selector) => check_selector(selector, span, false).map(|()| Vector),
        ExprKind::MatrixSelector { selector, .. } => check_selector(selector, span, false).map(|()| Matrix),
        ExprKind::Subquery { expr, .. } => match check(expr, text)? {
            Vector => Ok(Matrix),
            other => {
                let name = match other {
                    Matrix => "matrix",
                    other => other.as_str(),
                };
                fail(span.begin, format!("subquery is only allowed on instant vector, got {name} instead"))
            }
        },
        ExprKind::Call { function, args } => match functions::find(function) {
            Some(function) => check_call(function, args, span, text),
            None => fail(span.begin, format!("unknown function with name {}", quoted(function))),
        },
        ExprKind::Aggregate(aggregate) => check_aggregate(aggregate, text),
        ExprKind::Binary(binary) => check_binary(binary, span, text),
    }
}

/// A selector must name something, lest it select everything by accident. `info` may say which labels it wants without
/// naming a metric (`lenient`).
fn check_selector(selector: &VectorSelector, span: Span, lenient: bool) -> Result<(), Fail> {
    if let Some(name) = &selector.name {
        let others = selector.matchers.split_last().map_or(&[][..], |(_, others)| others);
        return match others.iter().find(|m| *m.name == *METRIC_NAME) {
            None => Ok(()),
            Some(other) => fail(
                span.begin,
                format!("metric name must not be set twice: {} or {}", quoted(name), quoted(&other.value)),
            ),
        };
    }
    if lenient || selector.matchers.iter().any(|m| !m.matches_absent()) {
        return Ok(());
    }
    fail(span.begin, "vector selector must contain at least one non-empty matcher")
}

fn expect(expr: &mut Expr, expected: ValueType, place: &str, text: &str) -> Result<(), Fail> {
    let found = check(expr, text)?;
    if found == expected {
        return Ok(());
    }
    let (expected, found) = (expected.as_str(), found.as_str());
    fail(expr.span.begin, format!("expected type {expected} in {place}, got {found}"))
}

fn check_aggregate(aggregate: &mut Aggregate, text: &str) -> Result<ValueType, Fail> {
    expect(&mut aggregate.expr, Vector, "aggregation expression", text)?;
    if let (Some(param), Some(expected)) = (&mut aggregate.param, aggregate.op.param_type()) {
        expect(param, expected, "aggregation parameter", text)?;
    }
    Ok(Vector)
}

fn check_call(function: &Function, args: &mut [Expr], span: Span, text: &str) -> Result<ValueType, Fail> {
    let (name, count) = (quoted(function.name), args.len());
    let (min, max) = (function.args_min(), function.args_max());
    let too_many = max.is_some_and(|max| count > max);
    if function.variadic == Variadic::No && count != min {
        return fail(span.begin, format!("expected {min} argument(s) in call to {name}, got {count}"));
    }
    if count < min {
        return fail(span.begin, format!("expected at least {min} argument(s) in call to {name}, got {count}"));
    }
    if let (true, Some(max)) = (too_many, max) {
        return fail(span.begin, format!("expected at most {max} argument(s) in call to {name}, got {count}"));
    }
    let place = format!("call to function {name}");
    for (i, arg) in args.iter_mut().enumerate() {
        if function.name == "info" && i == 1 {
            check_info_selector(arg, span, &place)?;
            continue;
        }
        if let Some(expected) = function.args.get(i).or(function.args.last()) {
            expect(arg, *expected, &place, text)?;
        }
    }
    Ok(function.returns)
}

/// The second argument of `info` is no expression but a choice of labels.
fn check_info_selector(arg: &Expr, call: Span, place: &str) -> Result<(), Fail> {
    let found = value_type(arg);
    if found != Vector {
        return fail(call.begin, format!("expected type {} in {place}, got {}", Vector.as_str(), found.as_str()));
    }
    match &arg.kind {
        ExprKind::VectorSelector(VectorSelector { name: Some(_), .. }) => {
            fail(arg.span.begin, "expected label selectors only, got vector selector instead")
        }
        ExprKind::VectorSelector(selector) => check_selector(selector, arg.span, true),
        _ => fail(arg.span.begin, "expected label selectors only"),
    }
}

fn check_binary(binary: &mut Binary, span: Span, text: &str) -> Result<ValueType, Fail> {
    let lhs = check(&mut binary.lhs, text)?;
    let rhs = check(&mut binary.rhs, text)?;
    let op = binary.op;
    let op_at = |binary: &Binary| {
        let end = binary.lhs.span.end;
        let blanks = text
            .get(end as usize..)
            .map_or(0, |rest| rest.bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count());
        end + blanks as u32
    };

    if binary.returns_bool && !op.is_comparison() {
        return fail(op_at(binary), "bool modifier can only be used on comparison operators");
    }
    if op.is_comparison() && !binary.returns_bool && lhs == Scalar && rhs == Scalar {
        return fail(op_at(binary), "comparisons between scalars must use BOOL modifier");
    }
    let mut matching = binary.matching.take().unwrap_or_default();
    if op.is_set() && matching.cardinality == Cardinality::OneToOne {
        matching.cardinality = Cardinality::ManyToMany;
    }
    if matching.on && !matching.include.is_empty() {
        let include: BTreeSet<&str> = matching.include.iter().map(String::as_str).collect();
        if let Some(label) = matching.labels.iter().find(|label| include.contains(label.as_str())) {
            let label = quoted(label);
            return fail(op_at(binary), format!("label {label} must not occur in ON and GROUP clause at once"));
        }
    }
    for (side, found) in [(&binary.lhs, lhs), (&binary.rhs, rhs)] {
        if found != Scalar && found != Vector {
            return fail(side.span.begin, "binary expression must contain only scalar and instant vector types");
        }
    }
    let both_vectors = lhs == Vector && rhs == Vector;
    check_matching(&matching, binary, both_vectors, span)?;
    if (lhs == Scalar || rhs == Scalar) && op.is_set() {
        let op = op.as_str();
        return fail(span.begin, format!("set operator {op:?} not allowed in binary scalar expression"));
    }
    binary.matching = both_vectors.then_some(matching);
    Ok(if lhs == Scalar && rhs == Scalar { Scalar } else { Vector })
}

fn check_matching(matching: &VectorMatching, binary: &Binary, vectors: bool, span: Span) -> Result<(), Fail> {
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    if !vectors {
        if !matching.labels.is_empty() {
            return fail(span.begin, "vector matching only allowed between instant vectors");
        }
        if fills {
            return fail(span.begin, "filling in missing series only allowed between instant vectors");
        }
    } else if binary.op.is_set() {
        if matching.cardinality != Cardinality::ManyToMany {
            let op = binary.op.as_str();
            return fail(span.begin, format!("no grouping allowed for {op:?} operation"));
        }
        if fills {
            return fail(span.begin, "filling in missing series not allowed for set operators");
        }
    }
    Ok(())
}
