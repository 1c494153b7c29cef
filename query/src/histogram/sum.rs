//! Sums and means of many histograms, with compensation.
//!
//! A mean is a sum as long as that does not overflow, and a running mean from then on, as for floats.

use varve_model::Histogram;
use varve_model::histogram::ResetHint;

use super::arithmetic::{Combined, Correction, Incompatible, add, add_compensated, divide, multiply};

/// A compensated sum, and what is to be told about it.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    sum: Histogram,
    correction: Option<Box<Correction>>,
    reset_seen: bool,
    no_reset_seen: bool,
    reconciled: bool,
}

impl Sum {
    /// The sum of one.
    pub(crate) fn of(first: &Histogram) -> Sum {
        let mut sum =
            Sum { sum: first.clone(), correction: None, reset_seen: false, no_reset_seen: false, reconciled: false };
        sum.see(first.reset_hint);
        sum
    }

    fn see(&mut self, hint: ResetHint) {
        self.reset_seen |= hint == ResetHint::Reset;
        self.no_reset_seen |= hint == ResetHint::NoReset;
    }

    fn combine(&mut self, other: &Histogram) -> Result<(), Incompatible> {
        let correction = self.correction.get_or_insert_with(|| {
            Box::new(Correction {
                positive: vec![0.0; self.sum.positive.len()],
                negative: vec![0.0; self.sum.negative.len()],
                ..Correction::default()
            })
        });
        self.reconciled |= add_compensated(&mut self.sum, correction, other)?.reconciled;
        Ok(())
    }

    /// Adds one more.
    pub(crate) fn add(&mut self, other: &Histogram) -> Result<(), Incompatible> {
        self.see(other.reset_hint);
        self.combine(other)
    }

    /// Adds the sum of later ones.
    pub(crate) fn merge(&mut self, later: &Sum) -> Result<(), Incompatible> {
        self.reset_seen |= later.reset_seen;
        self.no_reset_seen |= later.no_reset_seen;
        self.reconciled |= later.reconciled;
        self.combine(&later.sum)?;
        match later.corrections() {
            Some(corrections) => self.combine(&corrections),
            None => Ok(()),
        }
    }

    /// The compensations as a histogram.
    fn corrections(&self) -> Option<Histogram> {
        let correction = self.correction.as_deref()?;
        Some(Histogram {
            count: correction.count,
            sum: correction.sum,
            zero_count: correction.zero_count,
            positive: correction.positive.clone(),
            negative: correction.negative.clone(),
            ..self.sum.clone()
        })
    }

    fn scale(&mut self, change: impl Fn(&mut f64)) {
        if let Some(correction) = self.correction.as_deref_mut() {
            change(&mut correction.count);
            change(&mut correction.sum);
            change(&mut correction.zero_count);
            correction.positive.iter_mut().chain(&mut correction.negative).for_each(change);
        }
    }

    fn divide(&mut self, divisor: f64) {
        divide(&mut self.sum, divisor);
        self.scale(|value| *value /= divisor);
    }

    fn multiply(&mut self, factor: f64) {
        multiply(&mut self.sum, factor);
        self.scale(|value| *value *= factor);
    }

    fn overflows(&self) -> bool {
        let sum = &self.sum;
        let totals = [sum.zero_count, sum.count, sum.sum];
        totals.iter().chain(&sum.positive).chain(&sum.negative).chain(&sum.custom_bounds).any(|v| v.is_infinite())
    }

    /// Bytes of the sum, without its compensations.
    pub(crate) fn bytes(&self) -> u64 {
        super::bytes(&self.sum)
    }

    /// What is to be told.
    pub(crate) fn remarks(&self) -> Combined {
        Combined { collision: self.reset_seen && self.no_reset_seen, reconciled: self.reconciled }
    }

    /// The sum. Empty buckets may remain.
    pub(crate) fn finish(&self) -> Histogram {
        let mut sum = self.sum.clone();
        if let Some(corrections) = self.corrections() {
            // The layout is its own: there is nothing that could not be added.
            let _ = add(&mut sum, &corrections);
        }
        sum
    }
}

/// A mean.
#[derive(Clone, Debug)]
pub(crate) struct Mean {
    /// The sum, or the mean itself where it is running.
    sum: Sum,
    count: f64,
    running: bool,
}

impl Mean {
    /// The mean of one.
    pub(crate) fn of(first: &Histogram) -> Mean {
        Mean { sum: Sum::of(first), count: 1.0, running: false }
    }

    /// Takes in one more.
    pub(crate) fn add(&mut self, other: &Histogram) -> Result<(), Incompatible> {
        self.count += 1.0;
        if !self.running {
            let mut sum = self.sum.clone();
            sum.add(other)?;
            if !sum.overflows() {
                self.sum = sum;
                return Ok(());
            }
            self.running = true;
            self.sum.divide(self.count - 1.0);
        }
        self.sum.see(other.reset_hint);
        self.sum.multiply((self.count - 1.0) / self.count);
        let mut share = other.clone();
        divide(&mut share, self.count);
        self.sum.combine(&share)
    }

    /// Takes in the mean of later ones.
    pub(crate) fn merge(&mut self, later: &Mean) -> Result<(), Incompatible> {
        let total = self.count + later.count;
        if !self.running && !later.running {
            let mut sum = self.sum.clone();
            sum.merge(&later.sum)?;
            if !sum.overflows() {
                (self.sum, self.count) = (sum, total);
                return Ok(());
            }
        }
        let share = |mean: &Mean| {
            let mut sum = mean.sum.clone();
            if !mean.running {
                sum.divide(mean.count);
            }
            sum.multiply(mean.count / total);
            sum
        };
        let mut sum = share(self);
        sum.merge(&share(later))?;
        *self = Mean { sum, count: total, running: true };
        Ok(())
    }

    /// Bytes of the mean, without its compensations.
    pub(crate) fn bytes(&self) -> u64 {
        self.sum.bytes()
    }

    /// What is to be told.
    pub(crate) fn remarks(&self) -> Combined {
        self.sum.remarks()
    }

    /// The mean. Empty buckets may remain.
    pub(crate) fn finish(&self) -> Histogram {
        let mut sum = self.sum.clone();
        if !self.running {
            sum.divide(self.count);
        }
        sum.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::tests::{any_histogram, simple};
    use super::super::subtract;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_counts_survive_large_ones() {
        let mut sum = Sum::of(&simple(0, 1, &[1.0]));
        for count in [1e100, 1.0, -1e100] {
            sum.add(&simple(0, 1, &[count])).unwrap();
        }
        assert_eq!(sum.finish().positive, [2.0]);
    }

    #[test]
    fn a_mean_of_large_counts_does_not_overflow() {
        let large = simple(0, 1, &[f64::MAX]);
        let mut mean = Mean::of(&large);
        for _ in 0..4 {
            mean.add(&large).unwrap();
        }
        let found = mean.finish();
        assert!((found.count / f64::MAX - 1.0).abs() < 1e-15 && found.positive[0].is_finite());
        let mut merged = Mean::of(&large);
        merged.merge(&mean).unwrap();
        assert!((merged.finish().count / f64::MAX - 1.0).abs() < 1e-15);
    }

    #[test]
    fn contradicting_hints_are_told() {
        let hinted = |reset_hint| Histogram { reset_hint, ..simple(0, 1, &[1.0]) };
        let mut sum = Sum::of(&hinted(ResetHint::Reset));
        assert_eq!(sum.remarks(), Combined::default());
        sum.add(&hinted(ResetHint::Gauge)).unwrap();
        sum.merge(&Sum::of(&hinted(ResetHint::NoReset))).unwrap();
        assert!(sum.remarks().collision);
    }

    proptest! {
        #[test]
        fn merging_is_adding(histograms in proptest::collection::vec(any_histogram(), 1..8), cut in 1usize..8) {
            let cut = cut.min(histograms.len());
            // Where schemas and zero buckets differ, the order decides how wide the zero bucket becomes.
            let alike = |h: Histogram| Histogram { schema: 0, zero_threshold: 0.0, ..h };
            let histograms: Vec<Histogram> = histograms.into_iter().map(alike).collect();
            let total = |list: &[Histogram]| {
                let mut all = (Sum::of(&list[0]), Mean::of(&list[0]));
                for histogram in &list[1..] {
                    all.0.add(histogram).unwrap();
                    all.1.add(histogram).unwrap();
                }
                all
            };
            let whole = total(&histograms);
            let mut merged = total(&histograms[..cut]);
            if cut < histograms.len() {
                let rest = total(&histograms[cut..]);
                merged.0.merge(&rest.0).unwrap();
                merged.1.merge(&rest.1).unwrap();
            }
            for (whole, merged) in [(whole.0.finish(), merged.0.finish()), (whole.1.finish(), merged.1.finish())] {
                prop_assert_eq!((whole.schema, whole.zero_threshold), (merged.schema, merged.zero_threshold));
                let mut rest = whole.clone();
                subtract(&mut rest, &merged).unwrap();
                let counts = rest.positive.iter().chain(&rest.negative).chain([&rest.count, &rest.zero_count]);
                for count in counts {
                    prop_assert!(count.abs() <= 1e-9 * (1.0 + whole.count), "{:?}", rest);
                }
            }
        }
    }
}
