//! Aggregations with a running state, over blocks and as partial results of morsels.

use varve_model::Labels;

use crate::annotation::Notes;
use crate::budget::{Budget, Held};
use crate::error::Error;
use crate::exec::accumulate::Accumulator;
use crate::exec::block::{ABSENT, Histograms, Row, StepBlock, derived, is_derived};
use crate::exec::grouping::Grouping;
use crate::exec::keys::{KeyTable, label_bytes};
use crate::promql::ast::AggregateOp;

/// Groups seen so far and their state.
pub(crate) struct Partial {
    keys: KeyTable,
    labels: Vec<Labels>,
    state: Accumulator,
    op: AggregateOp,
    steps: usize,
    key: Vec<u8>,
    held: Vec<Held>,
}

impl Partial {
    /// Nothing seen.
    pub(crate) fn new(op: AggregateOp, steps: usize) -> Partial {
        Partial {
            keys: KeyTable::default(),
            labels: Vec::new(),
            state: Accumulator::new(op, steps),
            op,
            steps,
            key: Vec::new(),
            held: Vec::new(),
        }
    }

    fn grown(&mut self, number: usize, new: bool, labels: Labels, budget: &Budget) -> Result<(), Error> {
        if new {
            debug_assert_eq!(number, self.labels.len());
            // Half as much again for vectors that grow by doubling; the labels twice: as such and as a key.
            let cells = Accumulator::cells_per_group(self.op, self.steps) as u64;
            self.held.push(budget.hold(cells.saturating_mul(12) + 2 * label_bytes(&labels) + 64)?);
            self.labels.push(labels);
            self.state.grow(number + 1);
        }
        Ok(())
    }

    /// Adds a row of floats of the single group of [`Grouping::is_single`].
    pub(crate) fn add_ungrouped(&mut self, row: Row<'_>, budget: &Budget) -> Result<(), Error> {
        let (number, new) = self.keys.intern(&[]);
        self.grown(number, new, Labels::default(), budget)?;
        self.state.add(number, row.cells);
        Ok(())
    }

    /// Adds a row to the group of its labels.
    pub(crate) fn add(
        &mut self,
        grouping: &Grouping,
        labels: &Labels,
        nameless: bool,
        row: Row<'_>,
        budget: &Budget,
    ) -> Result<(), Error> {
        grouping.key(labels.as_label_bytes(), nameless, &mut self.key);
        let (number, new) = self.keys.intern(&self.key);
        if new {
            self.grown(number, true, grouping.labels(labels, nameless), budget)?;
        }
        if row.histograms.is_empty() {
            self.state.add(number, row.cells);
        } else {
            let name = || if nameless { String::new() } else { labels.metric_name().to_owned() };
            self.state.add_mixed(number, row, &name);
            self.charge(budget)?;
        }
        Ok(())
    }

    /// Charges what histograms have taken.
    fn charge(&mut self, budget: &Budget) -> Result<(), Error> {
        let bytes = self.state.take_uncharged();
        if bytes > 0 {
            self.held.push(budget.hold(bytes)?);
        }
        Ok(())
    }

    /// [`Partial::add`] where names go when the evaluation ends: one row whose name is to go takes the group's along.
    pub(crate) fn add_late(
        &mut self,
        grouping: &Grouping,
        labels: &Labels,
        row: Row<'_>,
        budget: &Budget,
    ) -> Result<(), Error> {
        self.add(grouping, labels, false, row, budget)?;
        if is_derived(labels)
            && let Some(number) = self.keys.find(&self.key)
            && let Some(group) = self.labels.get_mut(number)
        {
            *group = derived(group, true);
        }
        Ok(())
    }

    /// Merges the partial result of later rows.
    pub(crate) fn merge(&mut self, later: &Partial, budget: &Budget) -> Result<(), Error> {
        for (group, labels) in later.labels.iter().enumerate() {
            let (number, new) = self.keys.intern(later.keys.get(group));
            if new {
                self.grown(number, true, labels.clone(), budget)?;
            } else if is_derived(labels) {
                self.labels[number] = labels.clone();
            }
            self.state.merge(number, &later.state, group);
        }
        self.state.merge_remarks(&later.state);
        self.charge(budget)
    }

    /// The result: one row a group. Remarks go to `notes`.
    pub(crate) fn finish(mut self, notes: &Notes, budget: &Budget) -> Result<StepBlock, Error> {
        let mut block = StepBlock::new(self.steps);
        block.reserve(self.labels.len(), budget)?;
        let mut row = vec![ABSENT; self.steps];
        let mut histograms = Histograms::default();
        for (group, labels) in self.labels.into_iter().enumerate() {
            self.state.finish(group, &mut row, &mut histograms, budget)?;
            block.push_row(labels, &mut row, &mut histograms, budget)?;
        }
        if let Some(remarks) = self.state.remarks() {
            remarks.tell(self.op, notes);
        }
        Ok(block)
    }
}

/// Aggregates the rows of a block.
pub(crate) fn aggregate(
    op: AggregateOp,
    grouping: &Grouping,
    block: &StepBlock,
    late: bool,
    notes: &Notes,
    budget: &Budget,
) -> Result<StepBlock, Error> {
    let mut partial = Partial::new(op, block.steps());
    for (number, (labels, row)) in block.iter_rows().enumerate() {
        if number.is_multiple_of(16) {
            budget.check()?;
        }
        if late {
            partial.add_late(grouping, labels, row, budget)?;
        } else {
            partial.add(grouping, labels, false, row, budget)?;
        }
    }
    partial.finish(notes, budget)
}
