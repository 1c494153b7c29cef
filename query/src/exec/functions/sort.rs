//! sort, sort_desc, sort_by_label, sort_by_label_desc: the order of rows, which shows in instant queries.

use std::cmp::Ordering;
use std::collections::BTreeSet;

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
        sorted.push(block.labels()[row].clone(), block.row(row), budget)?;
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
    // What no row has is the same for all, and a name decides once: however many are given, comparing costs no more
    // than the labels there are.
    let present: BTreeSet<&str> =
        block.labels().iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect();
    let mut seen = BTreeSet::new();
    let names: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| present.contains(name) && seen.insert(*name)).collect();
    reordered(block, budget, |a, b| {
        let (a, b) = (&block.labels()[a], &block.labels()[b]);
        let order = names
            .iter()
            .map(|name| natural(a.get(name).unwrap_or_default(), b.get(name).unwrap_or_default()))
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

/// A run of digits as the number it stands for, in the order of numbers whatever its size.
fn number(digits: &str) -> (usize, &str) {
    let significant = digits.trim_start_matches('0');
    (significant.len(), significant)
}

/// Runs of digits compare as numbers, the rest as text: a total order, in which `01` equals `1`.
fn natural(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() && !b.is_empty() {
        let ((first, rest_a), (second, rest_b)) = (chunk(a), chunk(b));
        let digits = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = match digits(first) && digits(second) {
            true => number(first).cmp(&number(second)),
            false => first.cmp(second),
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
    use proptest::prelude::*;

    proptest! {
        /// What is no total order makes sorting panic; runs of digits that fit no integer once broke it.
        #[test]
        fn natural_order_is_total(texts in proptest::collection::vec("[0-2a/]{0,4}|9?[0-9]{17,20}[a0]?", 3)) {
            let (a, b, c) = (&texts[0], &texts[1], &texts[2]);
            prop_assert_eq!(natural(a, b), natural(b, a).reverse());
            prop_assert_eq!(natural(a, a), Ordering::Equal);
            if natural(a, b).is_le() && natural(b, c).is_le() {
                prop_assert!(natural(a, c).is_le());
                prop_assert_eq!(natural(a, c).is_eq(), natural(a, b).is_eq() && natural(b, c).is_eq());
            }
        }
    }

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = vec!["n10", "n9", "n1a", "n1", "m100", ""];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["", "m100", "n1", "n1a", "n9", "n10"]);
        let mut long = vec!["100000000000000000000", "99", "20000000000000000000", "09000000000000000000"];
        long.sort_by(|a, b| natural(a, b));
        assert_eq!(long, ["99", "09000000000000000000", "20000000000000000000", "100000000000000000000"]);
    }
}
