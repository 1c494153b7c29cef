//! The engine's snapshot as a source: the one place where the executor meets storage.

use std::sync::Arc;

use varve_engine::{Estimate, Selection, Snapshot};
use varve_model::{Column, Labels, Matcher, Millis, TenantId, TimeRange};

use super::{SeriesSet, Source};
use crate::error::Error;

/// A limit stays a limit; whatever else storage says is an error of storage.
fn storage(error: varve_engine::Error) -> Error {
    match error {
        varve_engine::Error::Limit { limit, max, setting, .. } => Error::Limit { limit, max, setting },
        other => Error::Storage(other.to_string()),
    }
}

impl Source for Snapshot {
    fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        series_max: u64,
    ) -> Result<Arc<dyn SeriesSet>, Error> {
        let selection = Snapshot::select(self, tenant, matchers, range, series_max).map_err(storage)?;
        Ok(Arc::new(selection))
    }
}

impl SeriesSet for Selection {
    fn len(&self) -> usize {
        Selection::len(self)
    }

    fn labels(&self, index: usize) -> Labels {
        Selection::labels(self, index)
    }

    fn read(&self, index: usize, range: TimeRange, column: &mut Column) -> Result<(), Error> {
        Selection::read(self, index, range, column).map_err(storage)
    }

    fn estimate(&self, range: TimeRange) -> Result<Estimate, Error> {
        Selection::estimate(self, range).map_err(storage)
    }

    fn newest(&self, index: usize, range: TimeRange) -> Option<Option<(Millis, f64)>> {
        Selection::newest(self, index, range)
    }
}
