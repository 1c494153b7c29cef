//! Exemplars of a head: few, so they lie in one map behind one lock, beside the series.
//!
//! Invariants:
//! * Those of a series ascend in their order, each once: a duplicate changes nothing.
//! * Limits are the shard's business, before it logs: what is inserted here is acknowledged already.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use varve_model::{Exemplar, TenantId, TimeRange};

use crate::segment::meta::{EMPTY, join};

#[derive(Debug, Default)]
struct Held {
    series: BTreeMap<u32, (TenantId, Vec<Exemplar>)>,
    tenants: BTreeMap<TenantId, u32>,
}

/// The exemplars of one head.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(Mutex<Held>);

impl Exemplars {
    fn lock(&self) -> MutexGuard<'_, Held> {
        // A panic under this lock leaves whole exemplars only.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an exemplar; returns by how many bytes memory grew, `None` for a duplicate.
    pub(crate) fn insert(&self, tenant: TenantId, series: u32, exemplar: Exemplar) -> Option<i64> {
        let mut held = self.lock();
        let (_, own) = held.series.entry(series).or_insert_with(|| (tenant, Vec::new()));
        let place = own.binary_search_by(|other| other.order(&exemplar)).err()?;
        let bytes = exemplar.heap_bytes() as i64;
        own.insert(place, exemplar);
        *held.tenants.entry(tenant).or_default() += 1;
        Some(bytes)
    }

    /// Whether this one is there.
    pub(crate) fn contains(&self, series: u32, exemplar: &Exemplar) -> bool {
        let held = self.lock();
        let own = held.series.get(&series).map(|(_, own)| own.as_slice()).unwrap_or_default();
        own.binary_search_by(|other| other.order(exemplar)).is_ok()
    }

    /// How many a series has.
    pub(crate) fn of_series(&self, series: u32) -> usize {
        self.lock().series.get(&series).map_or(0, |(_, own)| own.len())
    }

    /// How many a tenant has.
    pub(crate) fn of_tenant(&self, tenant: TenantId) -> u32 {
        self.lock().tenants.get(&tenant).copied().unwrap_or(0)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.lock().tenants.values().map(|count| u64::from(*count)).sum()
    }

    /// Series that have some, ascending.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.lock().series.keys().copied().collect()
    }

    /// Those of a series in `range`.
    pub(crate) fn read(&self, series: u32, range: TimeRange) -> Vec<Exemplar> {
        let held = self.lock();
        let own = held.series.get(&series).map(|(_, own)| own.as_slice()).unwrap_or_default();
        own.iter().filter(|exemplar| range.contains(exemplar.time)).cloned().collect()
    }

    /// Removes those of a series in `range`; returns the bytes of memory that this frees.
    pub(crate) fn remove(&self, series: u32, range: TimeRange) -> i64 {
        let mut held = self.lock();
        let Some((tenant, own)) = held.series.get_mut(&series) else { return 0 };
        let tenant = *tenant;
        let (mut bytes, mut gone) = (0, 0);
        own.retain(|exemplar| {
            let keep = !range.contains(exemplar.time);
            if !keep {
                bytes += exemplar.heap_bytes() as i64;
                gone += 1;
            }
            keep
        });
        if own.is_empty() {
            held.series.remove(&series);
        }
        if let Some(count) = held.tenants.get_mut(&tenant) {
            *count = count.saturating_sub(gone);
        }
        bytes
    }

    /// From the oldest to the newest; empty (`min > max`) when there is none.
    pub(crate) fn range(&self) -> TimeRange {
        let held = self.lock();
        let ends = held.series.values().filter_map(|(_, own)| own.first().zip(own.last()));
        ends.fold(EMPTY, |range, (first, last)| join(range, TimeRange { min: first.time, max: last.time }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use varve_model::Labels;

    #[test]
    fn duplicates_are_dropped_and_the_rest_ascends() {
        let exemplars = Exemplars::default();
        let exemplar = |time, value, trace: &str| Exemplar { labels: Labels::from([("trace_id", trace)]), time, value };
        let own = [exemplar(1, 2.0, "a"), exemplar(1, 2.0, "b"), exemplar(1, 3.0, "a"), exemplar(5, f64::NAN, "a")];
        for i in [2, 0, 3, 1, 2, 3, 0] {
            exemplars.insert(TenantId(7), 4, own[i].clone());
        }
        assert_eq!(exemplars.read(4, TimeRange::ALL), own);
        assert_eq!(exemplars.read(4, TimeRange { min: 2, max: 9 }), own[3..]);
        assert_eq!((exemplars.len(), exemplars.of_series(4), exemplars.of_tenant(TenantId(7))), (4, 4, 4));
        assert!(exemplars.contains(4, &own[3]) && !exemplars.contains(3, &own[3]));
        assert_eq!(exemplars.range(), TimeRange { min: 1, max: 5 });
    }
}
