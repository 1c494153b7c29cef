//! Exemplars: single observations that stand for a sample of their series, with labels of their own: a trace id, mostly.

use std::cmp::Ordering;

use crate::labels::Labels;
use crate::sample::Millis;

/// One exemplar of a series.
#[derive(Clone, Debug)]
pub struct Exemplar {
    /// Its own labels; may be empty.
    pub labels: Labels,
    /// When.
    pub time: Millis,
    /// What.
    pub value: f64,
}

impl Exemplar {
    /// The order in which exemplars of a series are kept and answered: by time, then by value, then by labels. Equal
    /// means a duplicate.
    pub fn order(&self, other: &Exemplar) -> Ordering {
        let by_time = self.time.cmp(&other.time);
        by_time.then_with(|| self.value.total_cmp(&other.value)).then_with(|| self.labels.cmp(&other.labels))
    }

    /// Bytes of memory, about.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Exemplar>() + self.labels.as_label_bytes().len() + 32
    }
}

/// Bit by bit, so that a NaN is the same as itself.
impl PartialEq for Exemplar {
    fn eq(&self, other: &Exemplar) -> bool {
        self.order(other).is_eq()
    }
}

impl Eq for Exemplar {}
