//! Source: where the executor gets its series from. The engine's snapshot is one; tests bring their own.

use std::sync::Arc;

pub use varve_engine::Estimate;
use varve_model::{Column, Labels, Matcher, Millis, TenantId, TimeRange};

use crate::error::Error;

mod engine;
pub mod memory;

/// A consistent view of stored series.
pub trait Source: Send + Sync {
    /// The series of a tenant that satisfy all matchers and may have samples in `range`, each label set once,
    /// in no particular order.
    fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        series_max: u64,
    ) -> Result<Arc<dyn SeriesSet>, Error>;
}

/// Selected series, by index.
pub trait SeriesSet: Send + Sync {
    /// How many.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The labels of series `index`, metric name included.
    fn labels(&self, index: usize) -> Labels;
    /// Clears `column` and fills it with the samples of series `index` in `range` (both ends inclusive), stale
    /// markers included; where a time was written twice, the later write.
    fn read(&self, index: usize, range: TimeRange, column: &mut Column) -> Result<(), Error>;
    /// What reading all series over `range` will touch, about, told without decoding; a set that cannot tell knows its
    /// series only.
    fn estimate(&self, range: TimeRange) -> Result<Estimate, Error> {
        let _ = range;
        Ok(Estimate { series: self.len() as u64, ..Estimate::default() })
    }
    /// The newest float sample of series `index` in `range`, stale marker included, when it can be had without
    /// decoding; `None` when the caller must `read`. `Some(None)` says that there is no sample of either kind.
    fn newest(&self, index: usize, range: TimeRange) -> Option<Option<(Millis, f64)>> {
        let _ = (index, range);
        None
    }
}
