//! sort, sort_desc, sort_by_label, sort_by_label_desc: the order of rows, which shows in instant queries.

use std::cmp::Ordering;

use varve_model::Labels;

use crate::budget::Budget;
use crate::error::Error;
use crate::exec::block::StepBlock;

fn reordered(
    block: &StepBlock,
    budget: &Budget,
    mut compare: impl FnMut(usize, usize) -> Ordering,
) -> Result<StepBlock, Error> {
    let mut order: Vec<usize> = (0..block.rows()).collect();
    order.sort_by(|a, b| compare(*a, *b));
    let mut sorted = StepBlock::new(block.steps());
    sorted.reserve(block.rows(), budget)?;
    sorted.adopt(block);
    for row in order {
        sorted.push(block.labels()[row].clone(), block.row(row));
    }
    Ok(sorted)
}

/// By the value of the only step, NaN last; histograms have no order and go.
pub(crate) fn by_value(block: &mut StepBlock, descending: bool, budget: &Budget) -> Result<StepBlock, Error> {
    block.drop_histograms();
    reordered(block, budget, |a, b| {
        let (a, b) = (block.row(a)[0], block.row(b)[0]);
        match (a.is_nan(), b.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if descending => b.total_cmp(&a),
            (false, false) => a.total_cmp(&b),
        }
    })
}

/// By labels in natural order, ties by all labels.
pub(crate) fn by_labels(
    block: &StepBlock,
    names: &[String],
    descending: bool,
    budget: &Budget,
) -> Result<StepBlock, Error> {
    let value = |labels: &Labels, name: &str| labels.get(name).unwrap_or_default().to_owned();
    reordered(block, budget, |a, b| {
        let (a, b) = (&block.labels()[a], &block.labels()[b]);
        let order = names
            .iter()
            .map(|name| natural(&value(a, name), &value(b, name)))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| a.cmp(b));
        if descending { order.reverse() } else { order }
    })
}

/// Splits off the leading run of digits or of others.
fn chunk(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

/// Runs of digits compare as numbers, the rest as text.
fn natural(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() && !b.is_empty() {
        let ((first, rest_a), (second, rest_b)) = (chunk(a), chunk(b));
        let order = match (first.parse::<i64>(), second.parse::<i64>()) {
            (Ok(x), Ok(y)) => x.cmp(&y),
            _ => first.cmp(second),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = vec!["n10", "n9", "n1a", "n1", "m100", ""];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["", "m100", "n1", "n1a", "n9", "n10"]);
    }
}
