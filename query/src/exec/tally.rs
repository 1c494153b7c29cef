//! Histograms within aggregations: the running sums and means of groups, and what is to be told about them.
//!
//! Lives beside the [`Accumulator`](super::accumulate::Accumulator), which has the floats; empty as long as no
//! histogram comes along. A group with both kinds at a step has no result there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use varve_model::Histogram;

use crate::annotation::{Annotation, Notes, Operation};
use crate::histogram::{Combined, Incompatible, Mean, Sum, bytes};
use crate::promql::ast::AggregateOp;

/// What is to be told about an aggregation.
#[derive(Clone, Default)]
pub(crate) struct Remarks {
    ignored: bool,
    mixed: bool,
    told: Combined,
    /// Metric name of a histogram whose buckets did not fit.
    incompatible: Option<String>,
}

impl Remarks {
    /// Histograms were left out.
    pub(crate) fn ignore(&mut self) {
        self.ignored = true;
    }

    fn tell_of(&mut self, told: Combined) {
        self.told.collision |= told.collision;
        self.told.reconciled |= told.reconciled;
    }

    /// Takes over the remarks of another part.
    pub(crate) fn merge(&mut self, other: &Remarks) {
        self.ignored |= other.ignored;
        self.mixed |= other.mixed;
        self.tell_of(other.told);
        if self.incompatible.is_none() {
            self.incompatible.clone_from(&other.incompatible);
        }
    }

    /// Puts them where the query's owner sees them.
    pub(crate) fn tell(&self, op: AggregateOp, notes: &Notes) {
        if self.ignored {
            notes.add(&Annotation::HistogramIgnoredInAggregation(op.as_str()));
        }
        if self.mixed {
            notes.add(&Annotation::MixedFloatsHistogramsAggregation);
        }
        if self.told.collision {
            notes.add(&Annotation::CounterResetCollision(Operation::Aggregation));
        }
        if self.told.reconciled {
            notes.add(&Annotation::MismatchedCustomBuckets(Operation::Aggregation));
        }
        if let Some(name) = &self.incompatible {
            notes.add(&Annotation::MixedExponentialCustomHistograms(name.clone()));
        }
    }
}

#[derive(Clone)]
enum State {
    Sum(Sum),
    Mean(Mean),
    /// Exponential and custom buckets met: there is no result.
    Incompatible,
}

/// Sums or means of histograms by cell: group times steps plus step.
#[derive(Default)]
pub(crate) struct Tally {
    cells: BTreeMap<usize, State>,
    /// Name of the first histogram seen.
    name: Option<String>,
    /// What was noticed.
    pub(crate) remarks: Remarks,
    /// Bytes of cells that nobody was charged for yet.
    uncharged: u64,
}

/// What a cell comes to.
pub(crate) enum Outcome {
    /// No histogram was seen.
    NoHistogram,
    /// There is no result.
    Nothing,
    /// The sum or mean.
    Histogram(Histogram),
}

impl Tally {
    /// Adds a histogram of the series `name` to a cell.
    pub(crate) fn add(&mut self, op: AggregateOp, cell: usize, histogram: &Arc<Histogram>, name: &dyn Fn() -> String) {
        self.name.get_or_insert_with(name);
        let Some(state) = self.cells.get_mut(&cell) else {
            let state =
                if op == AggregateOp::Avg { State::Mean(Mean::of(histogram)) } else { State::Sum(Sum::of(histogram)) };
            self.insert(cell, state, bytes(histogram));
            return;
        };
        let before = state.bytes();
        let added = match state {
            State::Sum(sum) => sum.add(histogram),
            State::Mean(mean) => mean.add(histogram),
            State::Incompatible => Ok(()),
        };
        self.uncharged += grown(before, state);
        if added.is_err() {
            self.give_up(cell, name());
        }
    }

    /// A new cell, whose compensations will take as much again.
    fn insert(&mut self, cell: usize, state: State, bytes: u64) {
        self.uncharged += WITH_COMPENSATIONS * bytes;
        self.cells.insert(cell, state);
    }

    /// Bytes to be charged since the last time.
    pub(crate) fn take_uncharged(&mut self) -> u64 {
        std::mem::take(&mut self.uncharged)
    }

    fn give_up(&mut self, cell: usize, name: String) {
        if let Some(state) = self.cells.insert(cell, State::Incompatible) {
            self.remarks.told.reconciled |= state.remarks().reconciled;
        }
        self.remarks.incompatible.get_or_insert(name);
    }

    /// Merges the cells `from` of a tally of later rows into those that begin at `into`.
    pub(crate) fn merge(&mut self, into: usize, later: &Tally, from: Range<usize>) {
        let begin = from.start;
        if self.name.is_none() {
            self.name.clone_from(&later.name);
        }
        for (at, state) in later.cells.range(from) {
            let cell = into + at - begin;
            let Some(kept) = self.cells.get_mut(&cell) else {
                self.insert(cell, state.clone(), state.bytes());
                continue;
            };
            let before = kept.bytes();
            let merged = match (&mut *kept, state) {
                (State::Sum(sum), State::Sum(other)) => sum.merge(other),
                (State::Mean(mean), State::Mean(other)) => mean.merge(other),
                (kept, _) => {
                    *kept = State::Incompatible;
                    Ok(())
                }
            };
            self.uncharged += grown(before, kept);
            if merged == Err(Incompatible) {
                self.give_up(cell, later.name.clone().unwrap_or_default());
            }
        }
    }

    /// The result of a cell; `has_float` says that floats were seen, too.
    pub(crate) fn finish(&mut self, cell: usize, has_float: bool) -> Outcome {
        let Some(state) = self.cells.get(&cell) else { return Outcome::NoHistogram };
        let told = state.remarks();
        self.remarks.told.reconciled |= told.reconciled;
        if has_float {
            self.remarks.mixed = true;
            return Outcome::Nothing;
        }
        let mut total = match state {
            State::Sum(sum) => sum.finish(),
            State::Mean(mean) => mean.finish(),
            State::Incompatible => return Outcome::Nothing,
        };
        self.remarks.told.collision |= told.collision;
        crate::histogram::compact(&mut total);
        Outcome::Histogram(total)
    }
}

/// A histogram's compensations take as much again.
const WITH_COMPENSATIONS: u64 = 2;

/// Bytes that a state has grown by since it had `before`: others bring buckets that it lacked.
fn grown(before: u64, state: &State) -> u64 {
    WITH_COMPENSATIONS * state.bytes().saturating_sub(before)
}

impl State {
    fn bytes(&self) -> u64 {
        match self {
            State::Sum(sum) => sum.bytes(),
            State::Mean(mean) => mean.bytes(),
            State::Incompatible => 0,
        }
    }

    fn remarks(&self) -> Combined {
        match self {
            State::Sum(sum) => sum.remarks(),
            State::Mean(mean) => mean.remarks(),
            State::Incompatible => Combined::default(),
        }
    }
}
