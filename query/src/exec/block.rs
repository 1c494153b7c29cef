//! StepBlock: the value of a vector expression over all steps, series by series.
//!
//! An absent cell holds the stale marker: no operator yields it and no selector lets it through, so one word says
//! both presence and value, and loops over rows need no second array.
//!
//! Invariants: every row has as many cells as there are steps, and at least one that is present; label sets are
//! unique unless an operator has just changed them ([`StepBlock::merge_same_labels`] restores it).

use varve_model::labels::METRIC_NAME;
use varve_model::{Labels, STALE_NAN_BITS, is_stale};

use crate::budget::{Budget, Held};
use crate::error::Error;
use crate::exec::keys::KeyTable;

/// The absent cell.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// Whether a cell is absent.
#[inline]
pub(crate) fn is_absent(cell: f64) -> bool {
    is_stale(cell)
}

/// Whether a row has a value anywhere.
#[inline]
pub(crate) fn any_present(row: &[f64]) -> bool {
    row.iter().any(|cell| !is_absent(*cell))
}

/// Labels that describe the metric and go when its values change their meaning.
pub(crate) fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// Labels without those that describe the metric.
pub(crate) fn drop_name(labels: &Labels) -> Labels {
    if labels.iter().any(|(name, _)| is_metadata(name)) { labels.without(&is_metadata) } else { labels.clone() }
}

/// Series times steps.
#[derive(Default)]
pub(crate) struct StepBlock {
    steps: usize,
    labels: Vec<Labels>,
    cells: Vec<f64>,
    held: Vec<Held>,
}

/// The error of Prometheus when an operator makes label sets equal.
pub(crate) fn same_labelset() -> Error {
    Error::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

impl StepBlock {
    /// A block without rows.
    pub(crate) fn new(steps: usize) -> StepBlock {
        StepBlock { steps, ..StepBlock::default() }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Number of steps.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// Labels of all rows.
    pub(crate) fn labels(&self) -> &[Labels] {
        &self.labels
    }

    /// The cells of a row.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.cells[row * self.steps..(row + 1) * self.steps]
    }

    /// All cells, row by row.
    pub(crate) fn cells_mut(&mut self) -> &mut [f64] {
        &mut self.cells
    }

    /// Labels and cells of each row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Labels, &[f64])> {
        self.labels.iter().zip(self.cells.chunks_exact(self.steps.max(1)))
    }

    /// Charges `rows` more rows and makes room for them.
    pub(crate) fn reserve(&mut self, rows: usize, budget: &Budget) -> Result<(), Error> {
        self.held.push(budget.hold_cells(rows, self.steps + 4)?);
        self.labels.reserve(rows);
        self.cells.reserve(rows * self.steps);
        Ok(())
    }

    /// Appends a row unless all its cells are absent.
    pub(crate) fn push(&mut self, labels: Labels, row: &[f64]) {
        debug_assert_eq!(row.len(), self.steps);
        if any_present(row) {
            self.labels.push(labels);
            self.cells.extend_from_slice(row);
        }
    }

    /// Appends all rows of another block of as many steps.
    pub(crate) fn append(&mut self, mut other: StepBlock) {
        assert_eq!(other.steps, self.steps);
        if self.labels.is_empty() && self.cells.capacity() < other.cells.len() {
            *self = other;
            return;
        }
        self.labels.append(&mut other.labels);
        self.cells.append(&mut other.cells);
        self.held.append(&mut other.held);
    }

    /// Applies `change` to each present cell; it may answer [`ABSENT`]. Rows left empty go.
    pub(crate) fn map_cells(&mut self, mut change: impl FnMut(usize, f64) -> f64) {
        let steps = self.steps;
        for row in self.cells.chunks_exact_mut(steps.max(1)) {
            for (step, cell) in row.iter_mut().enumerate() {
                if !is_absent(*cell) {
                    *cell = change(step, *cell);
                }
            }
        }
        self.drop_empty_rows();
    }

    /// Removes rows without a present cell.
    pub(crate) fn drop_empty_rows(&mut self) {
        let steps = self.steps;
        let mut kept = 0;
        for row in 0..self.labels.len() {
            if any_present(self.row(row)) {
                if kept != row {
                    self.labels.swap(kept, row);
                    self.cells.copy_within(row * steps..(row + 1) * steps, kept * steps);
                }
                kept += 1;
            }
        }
        self.labels.truncate(kept);
        self.cells.truncate(kept * steps);
    }

    /// Replaces the labels of each row.
    pub(crate) fn map_labels(&mut self, mut change: impl FnMut(&Labels) -> Result<Labels, Error>) -> Result<(), Error> {
        for labels in &mut self.labels {
            *labels = change(labels)?;
        }
        Ok(())
    }

    /// Drops the metric names and merges rows that became equal.
    pub(crate) fn drop_names(&mut self) -> Result<(), Error> {
        let mut changed = false;
        for labels in &mut self.labels {
            if labels.iter().any(|(name, _)| is_metadata(name)) {
                *labels = labels.without(&is_metadata);
                changed = true;
            }
        }
        if changed { self.merge_same_labels() } else { Ok(()) }
    }

    /// Merges rows with equal labels; an error when two of them have a value at the same step.
    pub(crate) fn merge_same_labels(&mut self) -> Result<(), Error> {
        let steps = self.steps;
        let mut keys = KeyTable::default();
        let mut merged = false;
        for row in 0..self.labels.len() {
            let (key, _) = keys.intern(self.labels[row].as_label_bytes());
            let target = keys.tag_or(key, row);
            if target == row {
                continue;
            }
            merged = true;
            let (head, tail) = self.cells.split_at_mut(row * steps);
            let target_row = &mut head[target * steps..(target + 1) * steps];
            for (into, from) in target_row.iter_mut().zip(&mut tail[..steps]) {
                if !is_absent(*from) {
                    if !is_absent(*into) {
                        return Err(same_labelset());
                    }
                    *into = *from;
                    *from = ABSENT;
                }
            }
        }
        if merged {
            self.drop_empty_rows();
        }
        Ok(())
    }

    /// Fails when two rows have equal labels, whatever their steps.
    pub(crate) fn check_unique(&self) -> Result<(), Error> {
        let mut keys = KeyTable::default();
        for labels in &self.labels {
            if !keys.intern(labels.as_label_bytes()).1 {
                return Err(same_labelset());
            }
        }
        Ok(())
    }

    /// A block of `steps` steps in which each value of this one-step block is repeated.
    pub(crate) fn repeat(&self, steps: usize, budget: &Budget) -> Result<StepBlock, Error> {
        assert_eq!(self.steps, 1);
        let mut block = StepBlock::new(steps);
        block.reserve(self.rows(), budget)?;
        block.labels.extend_from_slice(&self.labels);
        for cell in &self.cells {
            block.cells.extend(std::iter::repeat_n(*cell, steps));
        }
        Ok(block)
    }
}
