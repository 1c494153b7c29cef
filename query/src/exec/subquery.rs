//! Subqueries: at which steps the inner expression is evaluated, for all windows of the outer steps at once.

use varve_model::Millis;

use crate::error::Error;
use crate::exec::duration;
use crate::exec::steps::{Reach, Steps};
use crate::promql::ast::{At, DurationExpr};
use crate::request::RangeRequest;

/// A subquery, resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolved {
    /// Where it looks.
    pub(crate) reach: Reach,
    /// How far back, in milliseconds.
    pub(crate) range: i64,
    /// Milliseconds between inner steps.
    pub(crate) step: i64,
}

/// The time that `@` names.
pub(crate) fn fixed(at: Option<At>, request: &RangeRequest) -> Option<Millis> {
    at.map(|at| match at {
        At::Time(time) => time,
        At::Start => request.start,
        At::End => request.end,
    })
}

/// `@` and `offset`, resolved.
pub(crate) fn reach(at: Option<At>, offset: Option<&DurationExpr>, request: &RangeRequest) -> Result<Reach, Error> {
    let offset = match offset {
        Some(offset) => duration::resolve(offset, request)?,
        None => 0,
    };
    Ok(Reach { at: fixed(at, request), offset })
}

/// Resolves the parts of a subquery.
pub(crate) fn resolve(
    range: &DurationExpr,
    step: Option<&DurationExpr>,
    offset: Option<&DurationExpr>,
    at: Option<At>,
    request: &RangeRequest,
) -> Result<Resolved, Error> {
    let step = match step {
        // A step written as zero is the default, as in Prometheus.
        Some(step) => match duration::positive(step, request)? {
            0 => request.subquery_step_ms,
            ms if ms > 0 => ms,
            _ => return Err(Error::Execution("duration must be greater than 0".to_owned())),
        },
        None => request.subquery_step_ms,
    };
    Ok(Resolved { reach: reach(at, offset, request)?, range: duration::positive(range, request)?, step })
}

impl Resolved {
    /// The inner steps that the windows of `outer` need: multiples of the step, left-open; `None` when there is none.
    pub(crate) fn steps(&self, outer: Steps) -> Option<Steps> {
        let begin = self.reach.look(outer.start).saturating_sub(self.range);
        let end = self.reach.look(outer.last());
        let start = begin.div_euclid(self.step).checked_add(1)?.checked_mul(self.step)?;
        Steps::between(start, end, self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(outer: i64, range: i64, step: i64, start: i64, count: usize) {
        let resolved = Resolved { reach: Reach { at: None, offset: 0 }, range, step };
        let steps = resolved.steps(Steps::once(outer)).unwrap();
        assert_eq!((steps.start, steps.count), (start, count));
    }

    #[test]
    fn inner_steps_are_multiples_and_left_open() {
        check(100, 50, 10, 60, 5);
        check(105, 50, 10, 60, 5);
        check(5, 50, 10, -40, 5);
        check(0, 30, 20, -20, 2);
    }
}
