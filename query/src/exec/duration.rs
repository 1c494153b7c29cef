//! Duration expressions: evaluated once a query, with its step and range.

use crate::error::Error;
use crate::exec::binary;
use crate::exec::functions::math;
use crate::promql::ast::{BinaryOp, DurationExpr, DurationOp};
use crate::request::RangeRequest;

/// Seconds whose nanoseconds fit 63 bits.
const SECONDS_MAX: f64 = 9_223_372_036.854_775;

/// Milliseconds of a duration. What is wrong with it is so for the query as a whole, before it is evaluated.
pub(crate) fn resolve(duration: &DurationExpr, request: &RangeRequest) -> Result<i64, Error> {
    match duration {
        DurationExpr::Fixed(ms) => Ok(*ms),
        DurationExpr::Computed(op) => {
            let seconds = seconds(op, request)?;
            if !seconds.is_finite() {
                return Err(Error::Parse("duration is NaN or infinite".to_owned()));
            }
            if seconds.abs() > SECONDS_MAX {
                return Err(Error::Parse("duration is out of range".to_owned()));
            }
            // What is less than a millisecond is cut off.
            Ok((seconds * 1000.0) as i64)
        }
    }
}

/// [`resolve`] for ranges and steps, which must be positive; less than a millisecond is nothing, but allowed.
pub(crate) fn positive(duration: &DurationExpr, request: &RangeRequest) -> Result<i64, Error> {
    let ms = resolve(duration, request)?;
    if let DurationExpr::Computed(op) = duration
        && seconds(op, request)? <= 0.0
    {
        return Err(Error::Parse("duration must be greater than 0".to_owned()));
    }
    Ok(ms)
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
            match op {
                BinaryOp::Div if b == 0.0 => return Err(Error::Parse("division by zero".to_owned())),
                BinaryOp::Mod if b == 0.0 => return Err(Error::Parse("modulo by zero".to_owned())),
                _ => {}
            }
            binary::compute(*op, a, b)
        }
    })
}
