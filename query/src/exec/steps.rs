//! Steps: the times at which an expression is evaluated; and Reach: which time a selector looks at from there.

use varve_model::Millis;

/// Evaluation times `start`, `start + step`, … `count` of them; at least one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Steps {
    /// First time.
    pub(crate) start: Millis,
    /// Distance in milliseconds; positive.
    pub(crate) step: i64,
    /// How many.
    pub(crate) count: usize,
}

impl Steps {
    /// A single time.
    pub(crate) fn once(time: Millis) -> Steps {
        Steps { start: time, step: 1, count: 1 }
    }

    /// The times of `start ..= end`; `None` when there is none.
    pub(crate) fn between(start: Millis, end: Millis, step: i64) -> Option<Steps> {
        assert!(step > 0, "steps ascend");
        let span = end.checked_sub(start).filter(|span| *span >= 0)?;
        let count = usize::try_from(span / step).ok()?.checked_add(1)?;
        Some(Steps { start, step, count })
    }

    /// The time of step `index`.
    #[inline]
    pub(crate) fn time(&self, index: usize) -> Millis {
        self.start.saturating_add((index as i64).saturating_mul(self.step))
    }

    /// The last time.
    pub(crate) fn last(&self) -> Millis {
        self.time(self.count - 1)
    }

    /// All times.
    pub(crate) fn times(&self) -> impl Iterator<Item = Millis> + '_ {
        (0..self.count).map(|index| self.time(index))
    }
}

/// `@` and `offset` of a selector, resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reach {
    /// The fixed time of `@`, if any.
    pub(crate) at: Option<Millis>,
    /// Milliseconds back; negative forward.
    pub(crate) offset: i64,
}

impl Reach {
    /// The time looked at when evaluating at `time`.
    #[inline]
    pub(crate) fn look(&self, time: Millis) -> Millis {
        self.at.unwrap_or(time).saturating_sub(self.offset)
    }
}
