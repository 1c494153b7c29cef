//! SegmentMeta: what a segment is, as its directory and the manifest say.

use varve_model::{Millis, TenantId, TimeRange};

/// What the writer of a segment knows before its first series.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentHeader {
    /// Unique within the data directory.
    pub id: u64,
    /// The shard whose series it holds.
    pub partition: u32,
    /// 0 for a flushed head, above for merged segments.
    pub level: u8,
    /// First offset of the log that it covers.
    pub first: u64,
    /// First offset of the log that it does not cover.
    pub last: u64,
}

/// One tenant's part of a segment: consecutive series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TenantMeta {
    /// Which tenant.
    pub tenant: TenantId,
    /// Its first series.
    pub first_series: u32,
    /// How many series it has.
    pub series: u32,
    /// How many samples it has.
    pub samples: u64,
    /// Times of its oldest and newest sample.
    pub range: TimeRange,
}

impl TenantMeta {
    /// The series behind its last.
    pub fn end_series(&self) -> u32 {
        self.first_series.saturating_add(self.series)
    }
}

/// One tenant's exemplars in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExemplarMeta {
    /// Which tenant.
    pub tenant: TenantId,
    /// How many exemplars it has.
    pub exemplars: u64,
    /// Times of its oldest and newest exemplar.
    pub range: TimeRange,
}

/// A whole segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentMeta {
    /// What its writer was told.
    pub header: SegmentHeader,
    /// Times of its oldest and newest sample or exemplar; empty (`min > max`) when it has neither.
    pub range: TimeRange,
    /// Series.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its tenants, ascending.
    pub tenants: Vec<TenantMeta>,
    /// The tenants that have exemplars, ascending.
    pub exemplars: Vec<ExemplarMeta>,
}

impl SegmentMeta {
    /// A tenant's part.
    pub fn tenant(&self, tenant: TenantId) -> Option<&TenantMeta> {
        let at = self.tenants.binary_search_by_key(&tenant, |meta| meta.tenant).ok()?;
        self.tenants.get(at)
    }
}

/// The smallest range that holds both; `min > max` is the empty range.
pub(crate) fn join(a: TimeRange, b: TimeRange) -> TimeRange {
    TimeRange { min: a.min.min(b.min), max: a.max.max(b.max) }
}

/// The range of nothing.
pub(crate) const EMPTY: TimeRange = TimeRange { min: Millis::MAX, max: Millis::MIN };
