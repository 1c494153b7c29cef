//! Binary operators over two elements of which one at least is a histogram: what they are defined for, and what is to
//! be told about it.

use std::sync::Arc;

use varve_model::Histogram;
use varve_model::histogram::ResetHint;

use crate::annotation::{Annotation, Operation};
use crate::exec::block::Value;
use crate::histogram;
use crate::promql::ast::BinaryOp;

/// One operand.
#[derive(Clone, Copy)]
pub(crate) enum Operand<'a> {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(&'a Arc<Histogram>),
}

impl Operand<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Operand::Float(_) => "float",
            Operand::Histogram(_) => "histogram",
        }
    }
}

/// What comes of two operands.
pub(crate) enum Outcome {
    /// A value.
    Value(Value),
    /// A comparison: whether it holds.
    Holds(bool),
    /// Nothing: the operator is not defined for them, or must not be applied.
    Nothing,
}

/// Applies an operator; a remark may come with any outcome.
pub(crate) fn apply(op: BinaryOp, left: Operand<'_>, right: Operand<'_>) -> (Outcome, Option<Annotation>) {
    use Operand::{Float, Histogram as Native};
    let changed = |of: &Arc<Histogram>, change: &dyn Fn(&mut Histogram)| {
        let mut changed = of.as_ref().clone();
        change(&mut changed);
        (Outcome::Value(Value::Histogram(changed.into())), None)
    };
    match (op, left, right) {
        (BinaryOp::Mul, Float(factor), Native(of)) | (BinaryOp::Mul, Native(of), Float(factor)) => {
            changed(of, &|histogram| {
                histogram::multiply(histogram, factor);
                histogram::compact(histogram);
            })
        }
        (BinaryOp::Div, Native(of), Float(divisor)) => changed(of, &|histogram| {
            histogram::divide(histogram, divisor);
            histogram::compact(histogram);
        }),
        (BinaryOp::TrimUpper | BinaryOp::TrimLower, Native(of), Float(value)) => {
            changed(of, &|histogram| histogram::trim(histogram, value, op == BinaryOp::TrimUpper))
        }
        (BinaryOp::Add | BinaryOp::Sub, Native(left), Native(right)) => combine(op, left, right),
        (BinaryOp::Eq, Native(left), Native(right)) => (Outcome::Holds(histogram::equal(left, right)), None),
        (BinaryOp::Ne, Native(left), Native(right)) => (Outcome::Holds(!histogram::equal(left, right)), None),
        (op, left, right) => {
            let remark = Annotation::IncompatibleTypes { left: left.kind(), op: op.as_str(), right: right.kind() };
            (Outcome::Nothing, Some(remark))
        }
    }
}

fn combine(op: BinaryOp, left: &Histogram, right: &Histogram) -> (Outcome, Option<Annotation>) {
    let mut result = left.clone();
    let (combined, operation) = if op == BinaryOp::Add {
        (histogram::add(&mut result, right), Operation::Addition)
    } else {
        (histogram::subtract(&mut result, right), Operation::Subtraction)
    };
    let Ok(combined) = combined else {
        return (Outcome::Nothing, Some(Annotation::IncompatibleBucketLayout(op.as_str())));
    };
    if combined.collision {
        return (Outcome::Nothing, Some(Annotation::CounterResetCollision(operation)));
    }
    if op == BinaryOp::Sub {
        result.reset_hint = ResetHint::Gauge;
    }
    histogram::compact(&mut result);
    let remark = combined.reconciled.then_some(Annotation::MismatchedCustomBuckets(operation));
    (Outcome::Value(Value::Histogram(result.into())), remark)
}
