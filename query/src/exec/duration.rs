//! Duration expressions: evaluated once a query, with its step and range.

use crate::error::Error;
use crate::exec::binary;
use crate::exec::functions::math;
use crate::promql::ast::{DurationExpr, DurationOp};
use crate::request::RangeRequest;

/// Milliseconds of a duration.
pub(crate) fn resolve(duration: &DurationExpr, request: &RangeRequest) -> Result<i64, Error> {
    match duration {
        DurationExpr::Fixed(ms) => Ok(*ms),
        DurationExpr::Computed(op) => {
            let seconds = seconds(op, request)?;
            let ms = (seconds * 1000.0).round();
            if ms.is_nan() || ms.abs() > (1u64 << 53) as f64 {
                return Err(Error::Execution("duration out of range".to_owned()));
            }
            Ok(ms as i64)
        }
    }
}

/// [`resolve`] for ranges and steps, which must be positive.
pub(crate) fn positive(duration: &DurationExpr, request: &RangeRequest) -> Result<i64, Error> {
    match resolve(duration, request)? {
        ms if ms > 0 => Ok(ms),
        _ => Err(Error::Execution("duration must be greater than 0".to_owned())),
    }
}

fn seconds(op: &DurationOp, request: &RangeRequest) -> Result<f64, Error> {
    let both = |a: &DurationOp, b: &DurationOp| Ok::<_, Error>((seconds(a, request)?, seconds(b, request)?));
    Ok(match op {
        DurationOp::Literal { seconds, .. } => *seconds,
        DurationOp::Step => request.step as f64 / 1000.0,
        DurationOp::Range => request.end.saturating_sub(request.start) as f64 / 1000.0,
        DurationOp::Negate(inner) => -seconds(inner, request)?,
        DurationOp::Plus(inner) | DurationOp::Paren(inner) => seconds(inner, request)?,
        DurationOp::Min(a, b) => both(a, b).map(|(a, b)| math::min(a, b))?,
        DurationOp::Max(a, b) => both(a, b).map(|(a, b)| math::max(a, b))?,
        DurationOp::Binary(op, a, b) => {
            let (a, b) = both(a, b)?;
            if b == 0.0 && matches!(op, crate::promql::ast::BinaryOp::Div | crate::promql::ast::BinaryOp::Mod) {
                return Err(Error::Execution("division by zero".to_owned()));
            }
            binary::compute(*op, a, b)
        }
    })
}
