//! Binary operators: scalars, vectors with scalars, vectors with vectors.
//!
//! Series are matched once for all steps: each side's rows get the number of their match signature, and steps decide
//! only which rows are present. What Prometheus refuses at a step (duplicates on the one side, several matches) is
//! refused here when both rows have a value at a common step.

use std::collections::{BTreeMap, BTreeSet};

use varve_model::Labels;

use crate::annotation::{Annotation, Notes};
use crate::budget::{Budget, Held};
use crate::error::Error;
use crate::exec::block::{ABSENT, Histograms, StepBlock, Value, charge, derived, drop_name, is_absent, not_derived};
use crate::exec::element::{Operand, Outcome, apply};
use crate::exec::grouping::Grouping;
use crate::exec::keys::KeyTable;
use crate::exec::scalar::Scalar;
use crate::promql::ast::{BinaryOp, Cardinality, VectorMatching};

/// Whether the operator filters instead of computing.
fn is_comparison(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge)
}

fn is_set(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
}

fn holds(op: BinaryOp, left: f64, right: f64) -> bool {
    match op {
        BinaryOp::Eq => left == right,
        BinaryOp::Ne => left != right,
        BinaryOp::Lt => left < right,
        BinaryOp::Le => left <= right,
        BinaryOp::Gt => left > right,
        BinaryOp::Ge => left >= right,
        _ => false,
    }
}

/// The value of an operator over floats; comparisons give 0 or 1.
pub(crate) fn compute(op: BinaryOp, left: f64, right: f64) -> f64 {
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        op if is_comparison(op) => f64::from(u8::from(holds(op, left, right))),
        // Trimming is for histograms, set operators never come here.
        _ => ABSENT,
    }
}

/// One cell of a vector result: `kept` is what a comparison lets through.
#[inline]
fn cell(op: BinaryOp, left: f64, right: f64, kept: f64, returns_bool: bool) -> f64 {
    if is_comparison(op) && !returns_bool {
        if holds(op, left, right) { kept } else { ABSENT }
    } else {
        compute(op, left, right)
    }
}

/// Two scalars.
pub(crate) fn scalars(op: BinaryOp, mut left: Scalar, right: &[f64]) -> Scalar {
    left.iter_mut().zip(right).for_each(|(left, right)| *left = compute(op, *left, *right));
    left
}

fn trims(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
}

/// Whether the result means something else than the operand: then it does not have its name. What is compared or
/// trimmed is the same metric still.
fn makes_another_metric(op: BinaryOp) -> bool {
    !is_comparison(op) && !trims(op)
}

/// An operator with where its remarks go.
pub(crate) struct Operator<'a> {
    pub(crate) op: BinaryOp,
    pub(crate) returns_bool: bool,
    /// About the whole expression.
    pub(crate) notes: Notes,
    pub(crate) budget: &'a Budget,
    /// Whether names go when the evaluation ends.
    pub(crate) late: bool,
}

impl Operator<'_> {
    /// A vector and a scalar; `scalar_left` says on which side the scalar stands.
    pub(crate) fn with_scalar(
        &self,
        mut block: StepBlock,
        scalar: &[f64],
        scalar_left: bool,
    ) -> Result<StepBlock, Error> {
        let (op, returns_bool) = (self.op, self.returns_bool);
        let mut remarks = Told::default();
        let _held =
            if trims(op) || block.has_histograms() { Some(Told::hold(block.steps(), self.budget)?) } else { None };
        block.map_floats(|step, value| {
            let other = scalar[step];
            let (left, right) = if scalar_left { (other, value) } else { (value, other) };
            if trims(op) {
                remarks.tell(step, apply(op, Operand::Float(left), Operand::Float(right)).1);
            }
            cell(op, left, right, value, returns_bool)
        });
        block.map_histograms(self.budget, |step, histogram| {
            let (of, other) = (Operand::Histogram(histogram), Operand::Float(scalar[step]));
            let (left, right) = if scalar_left { (other, of) } else { (of, other) };
            let (outcome, remark) = apply(op, left, right);
            remarks.tell(step, remark);
            match outcome {
                Outcome::Value(value) => Some(value),
                Outcome::Holds(_) | Outcome::Nothing => None,
            }
        })?;
        remarks.note(&self.notes);
        if makes_another_metric(op) || returns_bool {
            block.drop_names(self.late)?;
        }
        Ok(block)
    }

    /// Two vectors.
    pub(crate) fn vectors(
        &self,
        left: StepBlock,
        right: StepBlock,
        matching: &VectorMatching,
    ) -> Result<StepBlock, Error> {
        assert_eq!(left.steps(), right.steps());
        // Each row has a signature as long as its labels, a number, and a place in the list of those that share it.
        let rows = (left.rows() + right.rows()) as u64;
        let _held_signatures = self.budget.hold(left.label_bytes() + right.label_bytes() + 128 * rows)?;
        let signatures = signatures(&left, &right, matching);
        if is_set(self.op) {
            return set(self.op, left, right, &signatures, self.budget);
        }
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (&right, &left) } else { (&left, &right) };
        let (many_signatures, one_signatures) =
            if swapped { (&signatures.right, &signatures.left) } else { (&signatures.left, &signatures.right) };
        let join = Join {
            op: self.op,
            many,
            one,
            rows_of: rows_by_signature(one_signatures, signatures.count),
            many_rows_of: rows_by_signature(many_signatures, signatures.count),
            many_signatures,
            matching,
            named: matching.labels.iter().map(String::as_str).collect(),
            swapped,
            returns_bool: self.returns_bool,
            late: self.late,
            plain: !many.has_histograms() && !one.has_histograms() && !trims(self.op),
        };
        let _held_remarks = if join.plain { None } else { Some(Told::hold(join.many.steps(), self.budget)?) };
        join.check_one_side()?;
        let mut joined = join.run(self.budget)?;
        joined.remarks.note(&self.notes);
        joined.block.merge_same_labels()?;
        Ok(joined.block)
    }
}

/// What is to be told: of each step the remark about its last pair, as Prometheus does.
#[derive(Default)]
struct Told(BTreeMap<usize, Annotation>);

impl Told {
    /// Charges a remark at each of so many steps.
    fn hold(steps: usize, budget: &Budget) -> Result<Held, Error> {
        budget.hold((steps as u64).saturating_mul(2 * size_of::<(usize, Annotation)>() as u64))
    }

    fn tell(&mut self, step: usize, remark: Option<Annotation>) {
        if let Some(remark) = remark {
            self.0.insert(step, remark);
        }
    }

    fn note(&self, notes: &Notes) {
        let mut last = None;
        for remark in self.0.values().filter(|remark| last.replace(*remark) != Some(*remark)) {
            notes.add(remark);
        }
    }
}

/// Rows of two blocks numbered by match signature.
struct Signatures {
    count: usize,
    left: Vec<usize>,
    right: Vec<usize>,
}

fn signatures(left: &StepBlock, right: &StepBlock, matching: &VectorMatching) -> Signatures {
    let grouping = if matching.on { Grouping::by(&matching.labels) } else { Grouping::without(&matching.labels) };
    let mut keys = KeyTable::default();
    let mut key = Vec::new();
    let mut number = |labels: &Labels| {
        grouping.key(labels.as_label_bytes(), false, &mut key);
        keys.intern(&key).0
    };
    let left = left.labels().iter().map(&mut number).collect();
    let right = right.labels().iter().map(&mut number).collect();
    Signatures { count: keys.len(), left, right }
}

fn rows_by_signature(signatures: &[usize], count: usize) -> Vec<Vec<u32>> {
    let mut rows = vec![Vec::new(); count];
    for (row, signature) in signatures.iter().enumerate() {
        rows[*signature].push(row as u32);
    }
    rows
}

/// A join of the many side with the one side; for one-to-one matching either may be either.
struct Join<'a> {
    op: BinaryOp,
    many: &'a StepBlock,
    one: &'a StepBlock,
    /// Rows of the one side by signature.
    rows_of: Vec<Vec<u32>>,
    /// Rows of the many side by signature.
    many_rows_of: Vec<Vec<u32>>,
    many_signatures: &'a [usize],
    matching: &'a VectorMatching,
    /// The labels that it names.
    named: BTreeSet<&'a str>,
    /// Whether the many side is the right one.
    swapped: bool,
    returns_bool: bool,
    late: bool,
    /// Whether there are floats alone.
    plain: bool,
}

/// What a join has made so far.
#[derive(Default)]
struct Joined {
    block: StepBlock,
    row: Vec<f64>,
    histograms: Histograms,
    remarks: Told,
    /// Steps taken in groups in which several rows of the many side compete, by group and, where the group may have
    /// several results, by result labels.
    keys: KeyTable,
    taken: Vec<Vec<bool>>,
    key: Vec<u8>,
    /// Where missing partners are filled in: whether a pair gave a result, by group and step.
    matched: Vec<bool>,
    held: Option<Held>,
    /// Steps and labels looked at since the budget was asked whether to go on.
    visited: usize,
}

/// Steps and labels looked at between two looks at the budget: a few milliseconds.
const PATIENCE: usize = 1 << 18;

/// Steps at which any row has a value.
pub(super) fn occupied(block: &StepBlock) -> Vec<bool> {
    let mut occupied = vec![false; block.steps()];
    for (_, row) in block.iter() {
        for (occupied, cell) in occupied.iter_mut().zip(row) {
            *occupied |= !is_absent(*cell);
        }
    }
    occupied
}

impl Join<'_> {
    /// Fails at the first step at which two rows of the one side share a signature, if the many side has anything
    /// there.
    fn check_one_side(&self) -> Result<(), Error> {
        let several: Vec<&Vec<u32>> = self.rows_of.iter().filter(|rows| rows.len() > 1).collect();
        if several.is_empty() {
            return Ok(());
        }
        let many_there = if self.is_filled() { vec![true; self.many.steps()] } else { occupied(self.many) };
        let mut first: Option<(usize, u32, u32)> = None;
        for rows in several {
            let mut owner: Vec<Option<u32>> = vec![None; self.one.steps()];
            for row in rows {
                for (step, cell) in self.one.row(*row as usize).iter().enumerate() {
                    if is_absent(*cell) || !many_there[step] {
                        continue;
                    }
                    match owner[step] {
                        Some(other) if first.is_none_or(|(at, _, _)| step < at) => first = Some((step, other, *row)),
                        Some(_) => {}
                        None => owner[step] = Some(*row),
                    }
                }
            }
        }
        let Some((_, a, b)) = first else { return Ok(()) };
        let (a, b) = (&self.one.labels()[a as usize], &self.one.labels()[b as usize]);
        let grouping = self.grouping();
        let side = if self.swapped { "left" } else { "right" };
        let (mut first, mut second) = (not_derived(a).to_string(), not_derived(b).to_string());
        if first > second {
            std::mem::swap(&mut first, &mut second);
        }
        Err(Error::Execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{first}, \
             {second}];many-to-many matching not allowed: matching labels must be unique on one side",
            grouping.labels(b, false),
        )))
    }

    fn run(&self, budget: &Budget) -> Result<Joined, Error> {
        let steps = self.many.steps();
        let mut out = Joined { block: StepBlock::new(steps), row: vec![ABSENT; steps], ..Joined::default() };
        out.block.reserve(self.many.rows(), budget)?;
        if self.matching.fill_left.is_some() {
            out.held = Some(budget.hold((self.rows_of.len() as u64).saturating_mul(steps as u64))?);
            out.matched = vec![false; self.rows_of.len() * steps];
        }
        for (many_row, signature) in self.many_signatures.iter().enumerate() {
            if many_row.is_multiple_of(64) {
                budget.check()?;
            }
            let (many_labels, many) = (&self.many.labels()[many_row], self.many.row(many_row));
            for one_row in &self.rows_of[*signature] {
                let (one_labels, one) = (&self.one.labels()[*one_row as usize], self.one.row(*one_row as usize));
                self.pair(&mut out, *signature, (many_labels, one_labels), |step| (many[step], one[step]), budget)?;
            }
        }
        if self.is_filled() {
            self.fill(&mut out, budget)?;
        }
        Ok(out)
    }

    fn is_filled(&self) -> bool {
        self.matching.fill_left.is_some() || self.matching.fill_right.is_some()
    }

    /// Computes one result row; `cells` gives the values of the many and the one side at a step.
    fn pair(
        &self,
        out: &mut Joined,
        signature: usize,
        (many, one): (&Labels, &Labels),
        cells: impl Fn(usize) -> (f64, f64),
        budget: &Budget,
    ) -> Result<(), Error> {
        out.visited += out.row.len() + self.matching.include.len();
        if out.visited > PATIENCE {
            out.visited = 0;
            budget.check()?;
        }
        let labels = self.result_labels(many, one)?;
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let mut claims = None;
        if self.many_rows_of[signature].len() > 1 {
            out.key.clear();
            out.key.extend_from_slice(&(signature as u64).to_le_bytes());
            if !one_to_one {
                out.key.extend_from_slice(labels.as_label_bytes());
            }
            let (number, new) = out.keys.intern(&out.key);
            if new {
                charge(&mut out.held, (out.row.len() + out.key.len() + 64) as u64, budget)?;
                out.taken.push(vec![false; out.row.len()]);
            }
            claims = out.taken.get_mut(number);
        }
        out.row.fill(ABSENT);
        let steps = out.row.len();
        for (step, result) in out.row.iter_mut().enumerate() {
            let (many, one) = cells(step);
            if is_absent(many) || is_absent(one) {
                continue;
            }
            let (left, right) = if self.swapped { (one, many) } else { (many, one) };
            let value = if self.plain {
                Some(cell(self.op, left, right, left, self.returns_bool))
            } else {
                let (value, remark) = self.mixed(left, right, &mut out.histograms, budget)?;
                out.remarks.tell(step, remark);
                value
            };
            // What is not defined for its operands takes no place.
            let Some(value) = value else { continue };
            if let Some(claims) = claims.as_deref_mut()
                && std::mem::replace(&mut claims[step], true)
            {
                return Err(several_matches(one_to_one));
            }
            if let Some(matched) = out.matched.get_mut(signature * steps + step) {
                *matched = true;
            }
            *result = value;
        }
        out.block.push_row(labels, &mut out.row, &mut out.histograms, budget)
    }

    /// One cell of which either side may be a histogram; `None` when the operator is not defined for them.
    fn mixed(
        &self,
        left: f64,
        right: f64,
        histograms: &mut Histograms,
        budget: &Budget,
    ) -> Result<(Option<f64>, Option<Annotation>), Error> {
        let (left_block, right_block) = if self.swapped { (self.one, self.many) } else { (self.many, self.one) };
        let operand = |cell: f64, of: &'_ StepBlock| of.histograms().get(cell).cloned();
        let (left_of, right_of) = (operand(left, left_block), operand(right, right_block));
        if left_of.is_none() && right_of.is_none() && !trims(self.op) {
            return Ok((Some(cell(self.op, left, right, left, self.returns_bool)), None));
        }
        let a = left_of.as_ref().map_or(Operand::Float(left), Operand::Histogram);
        let b = right_of.as_ref().map_or(Operand::Float(right), Operand::Histogram);
        let (outcome, remark) = apply(self.op, a, b);
        let value = match outcome {
            Outcome::Nothing => None,
            Outcome::Value(Value::Float(value)) => Some(value),
            Outcome::Value(Value::Histogram(_)) if self.returns_bool => Some(1.0),
            Outcome::Value(Value::Histogram(histogram)) => Some(histograms.push(histogram, budget)?),
            Outcome::Holds(holds) if self.returns_bool => Some(f64::from(u8::from(holds))),
            Outcome::Holds(false) => Some(ABSENT),
            Outcome::Holds(true) => match left_of {
                Some(histogram) => Some(histograms.push(histogram, budget)?),
                None => Some(left),
            },
        };
        Ok((value, remark))
    }

    /// Fills missing partners. As in Prometheus, `fill_right` stands in for the one side and `fill_left` for the many
    /// side, whichever way the grouping goes, and a partner that the operator is not defined with is missing, too.
    fn fill(&self, out: &mut Joined, budget: &Budget) -> Result<(), Error> {
        let steps = self.many.steps();
        let count = self.rows_of.len();
        let _held = budget.hold((count as u64).saturating_mul(2 * steps as u64))?;
        let grouping = self.grouping();
        let present = |block: &StepBlock, rows_of: &[Vec<u32>]| {
            let mut present = vec![false; count * steps];
            for (signature, rows) in rows_of.iter().enumerate() {
                for row in rows {
                    let cells = block.row(*row as usize).iter();
                    for (present, cell) in present[signature * steps..].iter_mut().zip(cells) {
                        *present |= !is_absent(*cell);
                    }
                }
            }
            present
        };
        let one_there = present(self.one, &self.rows_of);
        if let Some(value) = self.matching.fill_right {
            for (row, signature) in self.many_signatures.iter().enumerate() {
                let (labels, cells) = (&self.many.labels()[row], self.many.row(row));
                let missing = |step: usize| if one_there[signature * steps + step] { ABSENT } else { value };
                let partner = grouping.labels(labels, false);
                self.pair(out, *signature, (labels, &partner), |step| (cells[step], missing(step)), budget)?;
            }
        }
        if let Some(value) = self.matching.fill_left {
            for (signature, rows) in self.rows_of.iter().enumerate() {
                for row in rows {
                    let (labels, cells) = (&self.one.labels()[*row as usize], self.one.row(*row as usize));
                    let missing: Vec<f64> = (0..steps)
                        .map(|step| if out.matched[signature * steps + step] { ABSENT } else { value })
                        .collect();
                    let partner = grouping.labels(labels, false);
                    self.pair(out, signature, (&partner, labels), |step| (missing[step], cells[step]), budget)?;
                }
            }
        }
        Ok(())
    }

    fn grouping(&self) -> Grouping {
        if self.matching.on { Grouping::by(&self.matching.labels) } else { Grouping::without(&self.matching.labels) }
    }

    fn result_labels(&self, many: &Labels, one: &Labels) -> Result<Labels, Error> {
        // Of two series comes a series of its own even where names go late: it has no name, or the one side's.
        let nameless = makes_another_metric(self.op) || (self.returns_bool && !self.late);
        let mut labels = if nameless { drop_name(many) } else { not_derived(many) };
        if self.matching.cardinality == Cardinality::OneToOne {
            labels = labels.without(&|name| self.named.contains(name) != self.matching.on);
        }
        if !self.matching.include.is_empty() {
            let mut builder = labels.to_builder();
            for name in &self.matching.include {
                builder.set(name, one.get(name).unwrap_or_default());
            }
            labels = builder.build().map_err(|error| Error::Execution(format!("invalid labels: {error:?}")))?;
        }
        Ok(if self.late && self.returns_bool { derived(&labels, true) } else { labels })
    }
}

fn several_matches(one_to_one: bool) -> Error {
    let why = if one_to_one {
        "many-to-one matching must be explicit (group_left/group_right)"
    } else {
        "grouping labels must ensure unique matches"
    };
    Error::Execution(format!("multiple matches for labels: {why}"))
}

/// `and`, `or`, `unless`: rows pass where the other side has, or has not, a row of their signature.
fn set(
    op: BinaryOp,
    mut left: StepBlock,
    mut right: StepBlock,
    signatures: &Signatures,
    budget: &Budget,
) -> Result<StepBlock, Error> {
    let steps = left.steps();
    let _held = budget.hold((signatures.count as u64).saturating_mul(steps as u64))?;
    let present = |block: &StepBlock, numbers: &[usize]| {
        let mut present = vec![false; signatures.count * steps];
        for ((_, row), number) in block.iter().zip(numbers) {
            for (present, cell) in present[number * steps..(number + 1) * steps].iter_mut().zip(row) {
                *present |= !is_absent(*cell);
            }
        }
        present
    };
    let mask = |block: &mut StepBlock, numbers: &[usize], there: &[bool], pass: bool| {
        for (row, number) in block.cells_mut().chunks_exact_mut(steps).zip(numbers) {
            for (cell, there) in row.iter_mut().zip(&there[number * steps..(number + 1) * steps]) {
                if *there != pass {
                    *cell = ABSENT;
                }
            }
        }
        block.drop_empty_rows();
    };
    if op == BinaryOp::Or {
        let there = present(&left, &signatures.left);
        mask(&mut right, &signatures.right, &there, false);
        left.append(right, budget)?;
        left.merge_same_labels()?;
    } else {
        let there = present(&right, &signatures.right);
        mask(&mut left, &signatures.left, &there, op == BinaryOp::And);
    }
    Ok(left)
}
