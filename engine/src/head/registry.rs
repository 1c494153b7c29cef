//! Registry: what readers may know of a shard's live series: labels by id, and ids by label. One for all heads of the
//! shard, so that a freeze copies nothing.
//!
//! Ids are given out again after their series was removed. So an entry says from which epoch of heads on the id means
//! its series; a head of an earlier epoch, which an old snapshot may hold, has another series there.
//!
//! Invariants:
//! * The owner of the shard writes, when a series is new or removed; readers hold the lock while they select.
//! * A series is removed only when no head that is still held has samples of it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use roaring::RoaringBitmap;
use varve_model::{Labels, Matcher, SeriesHash, TenantId};

use crate::index::{MemoryIndex, Texts};

/// What is known of one live series.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) labels: Labels,
    pub(crate) hash: SeriesHash,
    pub(crate) tenant: TenantId,
    /// First epoch of heads in which the id means this series.
    pub(crate) born: u64,
}

#[derive(Debug, Default)]
struct Shared {
    index: MemoryIndex,
    series: Vec<Option<Known>>,
}

/// Live series of a shard, for readers.
#[derive(Debug, Default)]
pub(crate) struct Registry(RwLock<Shared>);

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Shared> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows series to readers. Owner only.
    pub(crate) fn add(&self, new: impl Iterator<Item = (u32, Known)>) {
        let mut shared = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (id, known) in new {
            shared.index.add(known.tenant, id, &known.labels);
            let place = id as usize;
            if shared.series.len() <= place {
                shared.series.resize(place + 1, None);
            }
            if let Some(place) = shared.series.get_mut(place) {
                *place = Some(known);
            }
        }
    }

    /// Removes series. Owner only.
    pub(crate) fn remove(&self, ids: &[u32]) {
        let mut shared = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for &id in ids {
            let known = shared.series.get_mut(id as usize).and_then(Option::take);
            if let Some(known) = known {
                shared.index.remove(known.tenant, id, &known.labels);
            }
        }
    }

    /// The series of a tenant that satisfy the matchers, by ascending id.
    pub(crate) fn select(&self, tenant: TenantId, matchers: &[Matcher]) -> Vec<(u32, Known)> {
        let shared = self.read();
        let ids = shared.index.select(tenant, matchers);
        ids.iter().filter_map(|id| Some((id, shared.series.get(id as usize)?.clone()?))).collect()
    }

    /// What is known of ids, in their order; ids that are not live are left out.
    pub(crate) fn known(&self, ids: &[u32]) -> Vec<(u32, Known)> {
        let shared = self.read();
        ids.iter().filter_map(|&id| Some((id, shared.series.get(id as usize)?.clone()?))).collect()
    }

    /// Label names of the given live series of a tenant, of all without; sorted.
    pub(crate) fn label_names(&self, tenant: TenantId, ids: Option<&RoaringBitmap>) -> Vec<String> {
        let shared = self.read();
        match ids {
            Some(ids) => shared.index.label_names_of(tenant, ids),
            None => shared.index.label_names(tenant),
        }
    }

    /// Values of a label of the given live series of a tenant, of all without; sorted.
    pub(crate) fn label_values(&self, tenant: TenantId, name: &str, ids: Option<&RoaringBitmap>) -> Arc<Texts> {
        let shared = self.read();
        match ids {
            Some(ids) => Arc::new(shared.index.label_values_of(tenant, name, ids)),
            None => shared.index.label_values(tenant, name),
        }
    }

    /// Calls `each` with every name, value and number of live series of a tenant.
    pub(crate) fn each_term(&self, tenant: TenantId, each: &mut dyn FnMut(&str, &str, u64)) {
        self.read().index.each_term(tenant, each);
    }

    /// Live series of a tenant.
    pub(crate) fn series(&self, tenant: TenantId) -> u64 {
        self.read().index.series(tenant)
    }

    /// Bytes of memory, labels apart.
    pub(crate) fn heap_bytes(&self) -> usize {
        let shared = self.read();
        shared.index.heap_bytes() + shared.series.capacity() * size_of::<Option<Known>>()
    }
}
