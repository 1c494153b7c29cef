//! StepBlock: the value of a vector expression over all steps, series by series.
//!
//! An absent cell holds the stale marker: no operator yields it and no selector lets it through, so one word says
//! both presence and value, and loops over rows need no second array.
//!
//! A cell of a native histogram holds a number, too: a signalling NaN, whose low half is the histogram's place in the
//! block's list of them. Arithmetic makes NaNs quiet, so no operator over floats yields one; so does the scan with
//! those that were stored. Whatever moves cells about within a block moves histograms with them. A block without
//! histograms has an empty list: operators ask once a block, and floats pay nothing.
//!
//! Invariants: every row has as many cells as there are steps, and at least one that is present; label sets are
//! unique unless an operator has just changed them ([`StepBlock::merge_same_labels`] restores it).

use std::sync::Arc;

use varve_model::labels::{METRIC_NAME, split_body, split_label};
use varve_model::{Histogram, Labels, STALE_NAN_BITS, is_stale};

use crate::budget::{Budget, Held};
use crate::error::Error;
use crate::exec::keys::{RowTable, label_bytes};
use crate::histogram;

/// The absent cell.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// Whether a cell is absent.
#[inline]
pub(crate) fn is_absent(cell: f64) -> bool {
    is_stale(cell)
}

/// The high half of a cell with a histogram.
const HISTOGRAM_TAG: u64 = 0x7ff4_9e1b;

/// Whether a cell stands for a histogram.
#[inline]
pub(crate) fn is_histogram(cell: f64) -> bool {
    cell.to_bits() >> 32 == HISTOGRAM_TAG
}

/// The place of a cell's histogram in its list; without meaning for other cells.
#[inline]
fn place(cell: f64) -> usize {
    cell.to_bits() as u32 as usize
}

/// The cell of the histogram at a place.
fn histogram_cell(place: usize) -> f64 {
    f64::from_bits(HISTOGRAM_TAG << 32 | u64::from(place as u32))
}

/// Histograms shared by cells; the place of each is what its cells hold. Charged to the query's budget.
#[derive(Clone, Default)]
pub(crate) struct Histograms {
    list: Vec<Arc<Histogram>>,
    held: Vec<Arc<Held>>,
    /// Bytes not charged yet.
    uncharged: u64,
}

/// Bytes of histograms, or of labels, that are charged at once.
const CHARGED_AT_ONCE: u64 = 1 << 16;

impl Histograms {
    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forgets them.
    pub(crate) fn clear(&mut self) {
        *self = Histograms::default();
    }

    /// Adds one; its cell.
    pub(crate) fn push(&mut self, histogram: impl Into<Arc<Histogram>>, budget: &Budget) -> Result<f64, Error> {
        let histogram = histogram.into();
        self.uncharged += histogram::bytes(&histogram);
        self.charge(CHARGED_AT_ONCE, budget)?;
        self.list.push(histogram);
        Ok(histogram_cell(self.list.len() - 1))
    }

    /// The histogram of a cell, if it stands for one.
    #[inline]
    pub(crate) fn get(&self, cell: f64) -> Option<&Arc<Histogram>> {
        if is_histogram(cell) { self.list.get(place(cell)) } else { None }
    }

    /// Charges what is not charged yet, if it is more than `floor`.
    fn charge(&mut self, floor: u64, budget: &Budget) -> Result<(), Error> {
        if self.uncharged > floor {
            self.held.push(Arc::new(budget.hold(std::mem::take(&mut self.uncharged))?));
        }
        Ok(())
    }

    /// Takes over those of another list; what to add to the places in its cells.
    fn append(&mut self, other: &mut Histograms, budget: &Budget) -> Result<usize, Error> {
        let base = self.list.len();
        self.list.append(&mut other.list);
        self.held.append(&mut other.held);
        self.uncharged += std::mem::take(&mut other.uncharged);
        self.charge(CHARGED_AT_ONCE, budget)?;
        Ok(base)
    }
}

/// Moves the places in cells by `base`.
fn rebase(cells: &mut [f64], base: usize) {
    if base > 0 {
        for cell in cells.iter_mut().filter(|cell| is_histogram(**cell)) {
            *cell = histogram_cell(place(*cell) + base);
        }
    }
}

/// Cells over all steps, with the histograms that they stand for.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// One a step.
    pub(crate) cells: &'a [f64],
    /// Empty when no cell is a histogram.
    pub(crate) histograms: &'a Histograms,
}

/// Whether a row has a value anywhere.
#[inline]
pub(crate) fn any_present(row: &[f64]) -> bool {
    row.iter().any(|cell| !is_absent(*cell))
}

/// The label of a series whose name goes only when the evaluation ends. It comes after all that anyone would use; a
/// stored one makes its series lose the name, no more.
pub(crate) const DERIVED: &str = "\u{10fffd}derived";

/// Labels that describe the metric and go when its values change their meaning.
pub(crate) fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__" | DERIVED)
}

/// Whether labels besides the name describe the metric.
pub(crate) fn is_described(labels: &Labels) -> bool {
    // In order of names: the first ones tell.
    let mut rest = labels.as_label_bytes();
    while let Some((body, after)) = split_label(rest) {
        rest = after;
        match split_body(body).map_or(&b""[..], |(name, _)| name) {
            b"__type__" | b"__unit__" => return true,
            name if name > b"__unit__" => return false,
            _ => {}
        }
    }
    false
}

/// Whether the name of a series goes when the evaluation ends.
pub(crate) fn is_derived(labels: &Labels) -> bool {
    labels.get(DERIVED).is_some()
}

/// The labels of a series whose values have changed their meaning: without those that describe the metric, or with
/// the word that they will go, if that is `late`.
pub(crate) fn derived(labels: &Labels, late: bool) -> Labels {
    if !late {
        return drop_name(labels);
    }
    if is_derived(labels) || !labels.iter().any(|(name, _)| is_metadata(name)) {
        return labels.clone();
    }
    let mut builder = labels.to_builder();
    builder.set(DERIVED, "1");
    builder.build().unwrap_or_else(|_| drop_name(labels))
}

/// The labels of a series that is its metric again, whatever it was computed from.
pub(crate) fn not_derived(labels: &Labels) -> Labels {
    if is_derived(labels) { labels.without(&|name| name == DERIVED) } else { labels.clone() }
}

/// Labels without those that describe the metric.
pub(crate) fn drop_name(labels: &Labels) -> Labels {
    if labels.iter().any(|(name, _)| is_metadata(name)) { labels.without(&is_metadata) } else { labels.clone() }
}

/// What an operator makes of a histogram.
pub(crate) enum Value {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(Arc<Histogram>),
}

/// Series times steps. Charged to the query's budget: cells as room is made for them, labels and histograms as they
/// come. Labels that storage keeps in memory are charged, too, for nobody can tell.
#[derive(Default)]
pub(crate) struct StepBlock {
    steps: usize,
    labels: Vec<Labels>,
    cells: Vec<f64>,
    histograms: Histograms,
    /// Rows whose cells are charged.
    room: usize,
    held: Option<Held>,
    labels_held: Option<Held>,
    /// Bytes of labels not charged yet.
    labels_uncharged: u64,
}

/// Charges more bytes to a guard that there may not be yet.
pub(crate) fn charge(held: &mut Option<Held>, bytes: u64, budget: &Budget) -> Result<(), Error> {
    match held {
        Some(held) => held.grow(bytes),
        none => {
            *none = Some(budget.hold(bytes)?);
            Ok(())
        }
    }
}

/// Moves what is charged from one guard to another.
fn absorb(held: &mut Option<Held>, other: Option<Held>) {
    match (held, other) {
        (_, None) => {}
        (Some(held), Some(other)) => held.absorb(other),
        (none, other) => *none = other,
    }
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

    /// Whether any cell may be a histogram.
    #[inline]
    pub(crate) fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    /// The histograms of its cells.
    pub(crate) fn histograms(&self) -> &Histograms {
        &self.histograms
    }

    /// Cells and histograms of each row.
    pub(crate) fn iter_rows(&self) -> impl Iterator<Item = (&Labels, Row<'_>)> {
        self.iter().map(|(labels, cells)| (labels, Row { cells, histograms: &self.histograms }))
    }

    /// Takes over the histograms of another block, whose cells are about to be pushed here; nothing was before.
    pub(crate) fn adopt(&mut self, other: &StepBlock) {
        debug_assert!(self.histograms.is_empty());
        self.histograms = other.histograms.clone();
    }

    /// Leaves only the floats; `true` when there was a histogram.
    pub(crate) fn drop_histograms(&mut self) -> bool {
        if !self.has_histograms() {
            return false;
        }
        let mut any = false;
        for cell in self.cells.iter_mut().filter(|cell| is_histogram(**cell)) {
            *cell = ABSENT;
            any = true;
        }
        self.histograms.clear();
        self.drop_empty_rows();
        any
    }

    /// Applies `change` to each histogram in its cell: another histogram, a float, or nothing. Floats stay. Rows left
    /// empty go.
    pub(crate) fn map_histograms(
        &mut self,
        budget: &Budget,
        mut change: impl FnMut(usize, &Arc<Histogram>) -> Option<Value>,
    ) -> Result<(), Error> {
        if !self.has_histograms() {
            return Ok(());
        }
        let before = std::mem::take(&mut self.histograms);
        let steps = self.steps;
        for row in self.cells.chunks_exact_mut(steps.max(1)) {
            budget.check()?;
            for (step, cell) in row.iter_mut().enumerate() {
                if let Some(histogram) = before.get(*cell) {
                    *cell = match change(step, histogram) {
                        Some(Value::Float(value)) => value,
                        Some(Value::Histogram(histogram)) => self.histograms.push(histogram, budget)?,
                        None => ABSENT,
                    };
                }
            }
        }
        self.drop_empty_rows();
        Ok(())
    }

    /// Replaces each histogram by a float; floats go, and so do rows left empty.
    pub(crate) fn floats_of_histograms(&mut self, mut value: impl FnMut(usize, &Histogram) -> f64) {
        let before = std::mem::take(&mut self.histograms);
        let steps = self.steps;
        for row in self.cells.chunks_exact_mut(steps.max(1)) {
            for (step, cell) in row.iter_mut().enumerate() {
                *cell = before.get(*cell).map_or(ABSENT, |histogram| value(step, histogram));
            }
        }
        self.drop_empty_rows();
    }

    /// All cells, row by row.
    pub(crate) fn cells_mut(&mut self) -> &mut [f64] {
        &mut self.cells
    }

    /// Labels and cells of each row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Labels, &[f64])> {
        self.labels.iter().zip(self.cells.chunks_exact(self.steps.max(1)))
    }

    /// Bytes of all labels.
    pub(crate) fn label_bytes(&self) -> u64 {
        self.labels.iter().map(label_bytes).sum()
    }

    /// Charges what was too little to be charged as it came: to be called on one of many blocks that are held at once,
    /// and on the last.
    pub(crate) fn settle(&mut self, budget: &Budget) -> Result<(), Error> {
        self.histograms.charge(0, budget)?;
        charge(&mut self.labels_held, std::mem::take(&mut self.labels_uncharged), budget)
    }

    /// Replaces what is charged for the labels of all rows: they have got labels of their own, charged by `held`.
    pub(crate) fn hold_labels(&mut self, held: Held) {
        self.labels_held = Some(held);
        self.labels_uncharged = 0;
    }

    /// Leaves what is charged for labels charged to the end of the query: the answer shares them.
    pub(crate) fn keep_labels(&mut self, budget: &Budget) -> Result<(), Error> {
        self.settle(budget)?;
        self.labels_held.take().into_iter().for_each(Held::keep);
        Ok(())
    }

    /// Charges `rows` more rows and makes room for them.
    pub(crate) fn reserve(&mut self, rows: usize, budget: &Budget) -> Result<(), Error> {
        let bytes = (rows as u64).saturating_mul(self.steps as u64 + 4).saturating_mul(8);
        charge(&mut self.held, bytes, budget)?;
        self.room += rows;
        self.labels.reserve_exact(rows);
        self.cells.reserve_exact(rows * self.steps);
        Ok(())
    }

    /// Appends a row unless all its cells are absent.
    pub(crate) fn push(&mut self, labels: Labels, row: &[f64], budget: &Budget) -> Result<(), Error> {
        debug_assert_eq!(row.len(), self.steps);
        if !any_present(row) {
            return Ok(());
        }
        if self.labels.len() >= self.room {
            self.reserve(1 + self.room / 2, budget)?;
        }
        self.labels_uncharged += label_bytes(&labels);
        if self.labels_uncharged > CHARGED_AT_ONCE {
            charge(&mut self.labels_held, std::mem::take(&mut self.labels_uncharged), budget)?;
        }
        self.labels.push(labels);
        self.cells.extend_from_slice(row);
        Ok(())
    }

    /// Appends a row, whose histograms become those of the block. The row is without meaning afterwards.
    pub(crate) fn push_row(
        &mut self,
        labels: Labels,
        row: &mut [f64],
        histograms: &mut Histograms,
        budget: &Budget,
    ) -> Result<(), Error> {
        if !histograms.is_empty() {
            let base = self.histograms.append(histograms, budget)?;
            rebase(row, base);
        }
        self.push(labels, row, budget)
    }

    /// Appends all rows of another block of as many steps.
    pub(crate) fn append(&mut self, mut other: StepBlock, budget: &Budget) -> Result<(), Error> {
        assert_eq!(other.steps, self.steps);
        if self.labels.is_empty() && self.histograms.is_empty() && self.cells.capacity() < other.cells.len() {
            *self = other;
            return Ok(());
        }
        if other.has_histograms() {
            let base = self.histograms.append(&mut other.histograms, budget)?;
            rebase(&mut other.cells, base);
        }
        self.labels.append(&mut other.labels);
        self.cells.append(&mut other.cells);
        if self.labels.len() > self.room {
            self.room += other.room;
            absorb(&mut self.held, other.held.take());
        }
        absorb(&mut self.labels_held, other.labels_held.take());
        self.labels_uncharged += other.labels_uncharged;
        Ok(())
    }

    /// Applies `change` to each present float; it may answer [`ABSENT`]. Histograms go, and so do rows left empty.
    pub(crate) fn map_cells(&mut self, change: impl FnMut(usize, f64) -> f64) {
        self.drop_histograms();
        self.map_floats(change);
    }

    /// [`StepBlock::map_cells`] that lets histograms be.
    pub(crate) fn map_floats(&mut self, mut change: impl FnMut(usize, f64) -> f64) {
        let steps = self.steps;
        let has_histograms = self.has_histograms();
        for row in self.cells.chunks_exact_mut(steps.max(1)) {
            for (step, cell) in row.iter_mut().enumerate() {
                let skipped = is_absent(*cell) || (has_histograms && is_histogram(*cell));
                if !skipped {
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

    /// Keeps the rows whose labels pass.
    pub(crate) fn retain_rows(&mut self, keep: impl Fn(&Labels) -> bool) {
        let steps = self.steps;
        for (row, labels) in self.labels.iter().enumerate() {
            if !keep(labels) {
                self.cells[row * steps..(row + 1) * steps].fill(ABSENT);
            }
        }
        self.drop_empty_rows();
    }

    /// Replaces the labels of each row.
    pub(crate) fn map_labels(&mut self, mut change: impl FnMut(&Labels) -> Result<Labels, Error>) -> Result<(), Error> {
        for labels in &mut self.labels {
            *labels = change(labels)?;
        }
        Ok(())
    }

    /// Drops the names of the rows that lost them on the way, and merges rows that became equal.
    pub(crate) fn drop_late_names(&mut self) -> Result<(), Error> {
        for labels in self.labels.iter_mut().filter(|labels| is_derived(labels)) {
            *labels = drop_name(labels);
        }
        self.merge_same_labels()
    }

    /// Drops the metric names and merges rows that became equal; or makes a note that they will go, if that is `late`.
    pub(crate) fn drop_names(&mut self, late: bool) -> Result<(), Error> {
        if late {
            for labels in &mut self.labels {
                *labels = derived(labels, true);
            }
            return Ok(());
        }
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
        let mut rows = RowTable::default();
        let mut merged = false;
        for row in 0..self.labels.len() {
            let target = rows.first(&self.labels, row);
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
        let mut rows = RowTable::default();
        let unique = (0..self.labels.len()).all(|row| rows.first(&self.labels, row) == row);
        if unique { Ok(()) } else { Err(same_labelset()) }
    }

    /// A block of `steps` steps in which each value of this one-step block is repeated.
    pub(crate) fn repeat(self, steps: usize, budget: &Budget) -> Result<StepBlock, Error> {
        assert_eq!(self.steps, 1);
        let mut block = StepBlock::new(steps);
        block.reserve(self.rows(), budget)?;
        block.histograms = self.histograms;
        block.labels = self.labels;
        (block.labels_held, block.labels_uncharged) = (self.labels_held, self.labels_uncharged);
        for cell in &self.cells {
            block.cells.extend(std::iter::repeat_n(*cell, steps));
        }
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::of_limits(&varve_model::Limits::default())
    }

    fn histogram(count: f64) -> Histogram {
        Histogram { count, ..Histogram::default() }
    }

    fn counts(block: &StepBlock) -> Vec<Option<f64>> {
        block.cells.iter().map(|cell| block.histograms.get(*cell).map(|histogram| histogram.count)).collect()
    }

    /// Two steps: a histogram and a float.
    fn block(name: &str, count: f64) -> StepBlock {
        let mut block = StepBlock::new(2);
        let mut histograms = Histograms::default();
        let cell = histograms.push(histogram(count), &budget()).unwrap();
        block.push_row(Labels::from([("__name__", name)]), &mut [cell, 7.0], &mut histograms, &budget()).unwrap();
        block
    }

    #[test]
    fn histograms_follow_their_cells() {
        let mut all = StepBlock::new(2);
        for (name, count) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
            all.append(block(name, count), &budget()).unwrap();
        }
        assert_eq!(counts(&all), [Some(1.0), None, Some(2.0), None, Some(3.0), None]);
        let doubled = |step, histogram: &Arc<Histogram>| match (step, histogram.count) {
            (0, 1.0) => None,
            (0, 2.0) => Some(Value::Float(0.5)),
            _ => Some(Value::Histogram(self::histogram(histogram.count * 2.0).into())),
        };
        all.map_histograms(&budget(), doubled).unwrap();
        assert_eq!(counts(&all), [None, None, None, None, Some(6.0), None]);
        assert!(all.drop_histograms() && !all.has_histograms());
        assert_eq!((all.rows(), all.row(1)[0]), (3, 0.5));
        assert!(is_absent(all.row(2)[0]));
    }

    /// Rows once came in for free when each was small, or when no room had been made for them.
    #[test]
    fn everything_pushed_is_charged() {
        let limited = |bytes: u64| {
            Budget::of_limits(&varve_model::Limits { query_bytes_max: bytes, ..varve_model::Limits::default() })
        };
        let wide = |count: f64| Histogram { positive: vec![count; 1000], ..histogram(count) };
        let pushed = |budget: &Budget| {
            let mut block = StepBlock::new(1);
            for count in 0..100 {
                let mut histograms = Histograms::default();
                let cell = histograms.push(wide(f64::from(count)), budget)?;
                block.push_row(Labels::default(), &mut [cell], &mut histograms, budget)?;
            }
            block.settle(budget)
        };
        // 100 histograms of 8 kB.
        assert!(pushed(&limited(1 << 20)).is_ok());
        assert!(matches!(pushed(&limited(700 << 10)), Err(Error::Limit { setting: "query_bytes_max", .. })));
        let of_labels = |bytes: usize, budget: &Budget| {
            let mut block = StepBlock::new(100);
            let labels = Labels::from([("a", &*"b".repeat(bytes))]);
            (0..100).try_for_each(|_| block.push(labels.clone(), &[1.0; 100], budget))?;
            block.settle(budget)
        };
        // 100 rows of 100 cells; then with labels of 4 kB, too.
        assert!(of_labels(1, &limited(256 << 10)).is_ok() && of_labels(1, &limited(64 << 10)).is_err());
        assert!(of_labels(4096, &limited(700 << 10)).is_ok() && of_labels(4096, &limited(400 << 10)).is_err());
    }

    #[test]
    fn arithmetic_makes_no_histogram() {
        let cell = Histograms::default().push(histogram(1.0), &budget()).unwrap();
        assert!(is_histogram(cell) && cell.is_nan() && !is_absent(cell));
        for value in [std::hint::black_box(cell) + 1.0, cell * 2.0, -cell, f64::NAN, ABSENT] {
            assert!(!is_histogram(value));
        }
    }
}
