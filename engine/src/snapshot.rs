//! Snapshot: what one query sees.

use varve_model::{Column, Labels, Matcher, Millis, TenantId, TimeRange};

use crate::error::Result;
use crate::status::Cardinality;

/// A consistent view of heads and segments.
#[derive(Clone, Debug)]
pub struct Snapshot {}

impl Snapshot {
    /// The series that satisfy all matchers and may have samples in `range`, each label set once.
    /// [`crate::Error::Limit`] when there are more than `series_max`.
    pub fn select(&self, _: TenantId, _: &[Matcher], _: TimeRange, _series_max: u64) -> Result<Selection> {
        unimplemented!()
    }

    /// Names of labels of the series that match, sorted.
    pub fn label_names(&self, _: TenantId, _: &[Matcher], _: TimeRange) -> Result<Vec<String>> {
        unimplemented!()
    }

    /// Values of a label among the series that match, sorted.
    pub fn label_values(&self, _: TenantId, _name: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>> {
        unimplemented!()
    }

    /// Where a tenant's series go, `top` entries a list.
    pub fn cardinality(&self, _: TenantId, _top: usize) -> Result<Cardinality> {
        unimplemented!()
    }
}

/// Selected series.
#[derive(Debug)]
pub struct Selection {}

impl Selection {
    /// How many.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Labels of series `index`.
    pub fn labels(&self, _index: usize) -> Labels {
        unimplemented!()
    }

    /// Clears `column` and fills it with the samples of series `index` in `range`, the later write where one time was
    /// written twice.
    pub fn read(&self, _index: usize, _range: TimeRange, _column: &mut Column) -> Result<()> {
        unimplemented!()
    }

    /// The newest float sample in `range` when it can be had without decoding; `None` when the caller must read.
    pub fn newest(&self, _index: usize, _range: TimeRange) -> Option<Option<(Millis, f64)>> {
        unimplemented!()
    }
}
