//! Aggregations that need all values of a group at a step: topk, bottomk, limitk, limit_ratio, quantile, count_values.

use varve_model::{Labels, LabelsBuilder};
use xxhash_rust::xxh64::xxh64;

use crate::annotation::{Annotation, Notes, shortest};
use crate::budget::{Budget, Held};
use crate::error::Error;
use crate::exec::block::{ABSENT, DERIVED, StepBlock, derived, is_absent, is_derived};
use crate::exec::functions::label::is_label_name;
use crate::exec::functions::math;
use crate::exec::grouping::Grouping;
use crate::exec::keys::{KeyTable, label_bytes};
use crate::exec::window::quantile;
use crate::histogram;
use crate::promql::ast::AggregateOp;
use crate::promql::quoted;

/// Rows by group, groups in the order of their first row; and what is charged for them.
fn groups(grouping: &Grouping, block: &StepBlock, budget: &Budget) -> Result<(Vec<Vec<u32>>, Held), Error> {
    let held = budget.hold(block.label_bytes() + 64 * block.rows() as u64)?;
    let mut keys = KeyTable::default();
    let mut key = Vec::new();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for (row, labels) in block.labels().iter().enumerate() {
        grouping.key(labels.as_label_bytes(), false, &mut key);
        let (number, new) = keys.intern(&key);
        if new {
            groups.push(Vec::new());
        }
        groups[number].push(row as u32);
    }
    Ok((groups, held))
}

/// Orders values as topk and bottomk do: best first, NaN last.
fn best_first(a: f64, b: f64, top: bool) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Greater,
        (false, true) => std::cmp::Ordering::Less,
        (false, false) if top => b.total_cmp(&a),
        (false, false) => a.total_cmp(&b),
    }
}

/// The least and the greatest of a parameter's values; NaN when one is.
pub(crate) fn bounds(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, f64::MIN), |(least, greatest), v| (math::min(least, *v), math::max(greatest, *v)))
}

fn check_counts(counts: &[f64]) -> Result<bool, Error> {
    let (min, max) = bounds(counts);
    if counts.iter().any(|count| count.is_nan()) {
        return Err(Error::Execution("Parameter value is NaN".to_owned()));
    }
    if max < 1.0 {
        return Ok(false);
    }
    if min <= i64::MIN as f64 {
        return Err(Error::Execution(format!("Scalar value {} underflows int64", shortest(min))));
    }
    if max >= i64::MAX as f64 {
        return Err(Error::Execution(format!("Scalar value {} overflows int64", shortest(max))));
    }
    Ok(true)
}

/// `topk`, `bottomk`, `limitk`: keeps cells of `count` rows a group and step. In instant queries rows come best first.
pub(crate) fn keep(
    op: AggregateOp,
    counts: &[f64],
    grouping: &Grouping,
    block: &mut StepBlock,
    notes: &Notes,
    budget: &Budget,
) -> Result<StepBlock, Error> {
    let steps = block.steps();
    let mut kept = StepBlock::new(steps);
    if !check_counts(counts)? {
        return Ok(kept);
    }
    // Histograms have no order, but they can be counted.
    if op != AggregateOp::LimitK && block.drop_histograms() {
        notes.add(&Annotation::HistogramIgnoredInAggregation(op.as_str()));
    }
    kept.adopt(block);
    let mut chosen: Vec<(f64, u32)> = Vec::new();
    let mut cells: Vec<f64> = Vec::new();
    let (groups, _held) = groups(grouping, block, budget)?;
    for rows in groups {
        budget.check()?;
        let _held = budget.hold_cells(rows.len(), steps)?;
        cells.clear();
        cells.resize(rows.len() * steps, ABSENT);
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        for (step, count) in counts.iter().enumerate() {
            chosen.clear();
            let values = rows.iter().enumerate().map(|(at, row)| (block.row(*row as usize)[step], at as u32));
            chosen.extend(values.filter(|(value, _)| !is_absent(*value)));
            let count = if *count < 1.0 { 0 } else { (*count as usize).min(chosen.len()) };
            if op != AggregateOp::LimitK {
                let top = op == AggregateOp::TopK;
                let compare = |a: &(f64, u32), b: &(f64, u32)| best_first(a.0, b.0, top).then(a.1.cmp(&b.1));
                if count > 0 && count < chosen.len() {
                    chosen.select_nth_unstable_by(count - 1, compare);
                }
                chosen.truncate(count);
                chosen.sort_unstable_by(compare);
            } else {
                chosen.truncate(count);
            }
            for (value, at) in &chosen {
                cells[*at as usize * steps + step] = *value;
            }
            if steps == 1 {
                order.clear();
                order.extend(chosen.iter().map(|(_, at)| *at));
            }
        }
        for at in order {
            let row = &cells[at as usize * steps..(at as usize + 1) * steps];
            kept.push(block.labels()[rows[at as usize] as usize].clone(), row, budget)?;
        }
    }
    Ok(kept)
}

/// Where a series stands between 0 and 1: by the hash that Prometheus takes of its labels, so that the same series are
/// chosen. Lengths are one byte, or 255 and three bytes.
fn place(labels: &Labels) -> f64 {
    let mut bytes = Vec::with_capacity(128);
    for text in labels.iter().filter(|(name, _)| *name != DERIVED).flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(len) if len < 255 => bytes.push(len),
            _ => {
                bytes.push(255);
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxh64(&bytes, 0) as f64 / u64::MAX as f64
}

/// `limit_ratio`: keeps the series whose place between 0 and 1, by a hash of their labels, is below the ratio; for
/// negative ratios those that the complementary positive ratio leaves out.
pub(crate) fn keep_ratio(ratios: &[f64], block: &mut StepBlock, notes: &Notes) -> Result<(), Error> {
    if ratios.iter().any(|ratio| ratio.is_nan()) {
        return Err(Error::Execution("Ratio value is NaN".to_owned()));
    }
    let (min, max) = bounds(ratios);
    for (given, taken) in [(max, 1.0), (min, -1.0)] {
        if given.abs() > 1.0 && (given > 0.0) == (taken > 0.0) {
            notes.add(&Annotation::InvalidRatio { given, taken });
        }
    }
    let steps = block.steps();
    let places: Vec<f64> = block.labels().iter().map(place).collect();
    for (row, place) in block.cells_mut().chunks_exact_mut(steps.max(1)).zip(places) {
        for (cell, ratio) in row.iter_mut().zip(ratios) {
            let ratio = ratio.clamp(-1.0, 1.0);
            let keeps = if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio };
            if !keeps {
                *cell = ABSENT;
            }
        }
    }
    block.drop_empty_rows();
    Ok(())
}

/// `quantile`
pub(crate) fn quantiles(
    quantiles: &[f64],
    grouping: &Grouping,
    block: &mut StepBlock,
    notes: &Notes,
    budget: &Budget,
) -> Result<StepBlock, Error> {
    if block.drop_histograms() {
        notes.add(&Annotation::HistogramIgnoredInAggregation(AggregateOp::Quantile.as_str()));
    }
    let steps = block.steps();
    let mut result = StepBlock::new(steps);
    let mut values = Vec::new();
    let mut row = vec![ABSENT; steps];
    let (groups, _held) = groups(grouping, block, budget)?;
    for rows in groups {
        budget.check()?;
        for (step, out) in row.iter_mut().enumerate() {
            values.clear();
            let cells = rows.iter().map(|row| block.row(*row as usize)[step]);
            values.extend(cells.filter(|cell| !is_absent(*cell)));
            *out = if values.is_empty() { ABSENT } else { quantile(quantiles[step], &mut values) };
        }
        let first = rows.first().map(|row| &block.labels()[*row as usize]);
        let labels = first.map(|labels| grouping.labels(labels, false)).unwrap_or_default();
        let late = rows.iter().any(|row| is_derived(&block.labels()[*row as usize]));
        result.push(if late { derived(&labels, true) } else { labels }, &row, budget)?;
    }
    Ok(result)
}

/// A float as Prometheus writes it into labels: shortest, without exponent.
pub(crate) fn plain_float(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        // Display is the shortest decimal that reads back, never with an exponent; NaN is "NaN".
        format!("{value}")
    }
}

/// `count_values`
pub(crate) fn count_values(
    label: &str,
    names: &[String],
    without: bool,
    block: &StepBlock,
    budget: &Budget,
) -> Result<StepBlock, Error> {
    if !is_label_name(label) {
        return Err(Error::Execution(format!("invalid label name {}", quoted(label))));
    }
    let mut names = names.to_vec();
    if !without {
        names.push(label.to_owned());
    }
    let grouping = if without { Grouping::without(&names) } else { Grouping::by(&names) };
    let steps = block.steps();
    let mut keys = KeyTable::default();
    let mut labels_of: Vec<Labels> = Vec::new();
    let mut counts: Vec<f64> = Vec::new();
    let mut held = Vec::new();
    for (labels, row) in block.iter() {
        budget.check()?;
        let mut last: Option<(u64, usize)> = None;
        for (step, value) in row.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
            let number = match last {
                Some((bits, number)) if bits == value.to_bits() => number,
                _ => {
                    let mut builder: LabelsBuilder = labels.to_builder();
                    let text =
                        block.histograms().get(*value).map_or_else(|| plain_float(*value), |h| histogram::text(h));
                    builder.set(label, &text);
                    let built = builder.build().map_err(|error| {
                        Error::Execution(format!("invalid label name {}: {error:?}", quoted(label)))
                    })?;
                    let group = grouping.labels(&built, false);
                    let (number, new) = keys.intern(group.as_label_bytes());
                    if new {
                        held.push(budget.hold((steps as u64 + 8).saturating_mul(8) + 2 * label_bytes(&group))?);
                        labels_of.push(group);
                        counts.resize(labels_of.len() * steps, ABSENT);
                    }
                    number
                }
            };
            last = Some((value.to_bits(), number));
            let count = &mut counts[number * steps + step];
            *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
        }
    }
    let mut result = StepBlock::new(steps);
    result.reserve(labels_of.len(), budget)?;
    for (labels, row) in labels_of.into_iter().zip(counts.chunks_exact(steps.max(1))) {
        result.push(labels, row, budget)?;
    }
    result.merge_same_labels()?;
    Ok(result)
}
