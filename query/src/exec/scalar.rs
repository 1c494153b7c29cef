//! Scalar: one number a step, charged to the query for as long as it is held. An expression may hold hundreds of them
//! at once, each over all steps of a subquery.

use std::ops::{Deref, DerefMut};

use crate::budget::{Budget, Held};
use crate::error::Error;

/// The value of a scalar expression.
pub(crate) struct Scalar {
    values: Vec<f64>,
    held: Held,
}

impl Scalar {
    /// The numbers of `steps` steps.
    pub(crate) fn new(values: impl Iterator<Item = f64>, steps: usize, budget: &Budget) -> Result<Scalar, Error> {
        let held = budget.hold_cells(steps, 1)?;
        let mut all = Vec::with_capacity(steps);
        all.extend(values.take(steps));
        assert_eq!(all.len(), steps);
        Ok(Scalar { values: all, held })
    }

    /// The same number at all steps.
    pub(crate) fn constant(value: f64, steps: usize, budget: &Budget) -> Result<Scalar, Error> {
        Scalar::new(std::iter::repeat(value), steps, budget)
    }

    /// The numbers, charged to the end of the query.
    pub(crate) fn keep(self) -> Vec<f64> {
        self.held.keep();
        self.values
    }
}

impl Deref for Scalar {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.values
    }
}

impl DerefMut for Scalar {
    fn deref_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }
}
