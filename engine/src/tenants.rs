//! Tenants: who is known, by name and by id, with the two figures that the write path needs of each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use varve_model::{Millis, TenantId, TenantName};

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) name: TenantName,
    /// Live series over all shards.
    series: AtomicU64,
    /// Newest sample; `i64::MIN` when there is none.
    newest: AtomicI64,
    /// Newest exemplar, told the same way.
    newest_exemplar: AtomicI64,
}

// Figures for limits: they need not be exact between threads, so relaxed.
impl Tenant {
    pub(crate) fn series(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }

    pub(crate) fn add_series(&self) {
        self.series.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_series(&self) {
        self.series.fetch_sub(1, Ordering::Relaxed);
    }

    /// Newest sample ever applied.
    pub(crate) fn newest(&self) -> Option<Millis> {
        Some(self.newest.load(Ordering::Relaxed)).filter(|&newest| newest != Millis::MIN)
    }

    pub(crate) fn saw(&self, time: Millis) {
        self.newest.fetch_max(time, Ordering::Relaxed);
    }

    pub(crate) fn saw_exemplar(&self, time: Millis) {
        self.newest_exemplar.fetch_max(time, Ordering::Relaxed);
    }

    /// The time before which its samples and exemplars are gone: counted from the earlier of the clock and its newest
    /// sample, so that old data can be loaded whole; of a tenant with exemplars alone from the newest of them. `None`
    /// while nothing expires.
    pub(crate) fn horizon(&self, now: Millis, retention_ms: i64) -> Option<Millis> {
        let exemplar = || Some(self.newest_exemplar.load(Ordering::Relaxed)).filter(|&newest| newest != Millis::MIN);
        let newest = self.newest().or_else(exemplar)?;
        (retention_ms > 0).then(|| now.min(newest).saturating_sub(retention_ms))
    }
}

#[derive(Debug, Default)]
struct Maps {
    by_name: BTreeMap<TenantName, Arc<Tenant>>,
    by_id: BTreeMap<TenantId, Arc<Tenant>>,
}

/// All tenants.
#[derive(Debug, Default)]
pub(crate) struct Tenants(RwLock<Maps>);

impl Tenants {
    pub(crate) fn find(&self, name: &TenantName) -> Option<Arc<Tenant>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }

    /// In order of ids.
    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_id.values().cloned().collect()
    }

    /// The id that the next new tenant gets. 0 is nobody's.
    pub(crate) fn next_id(&self) -> TenantId {
        let maps = self.0.read().unwrap_or_else(PoisonError::into_inner);
        TenantId(maps.by_id.last_key_value().map_or(1, |(id, _)| id.0 + 1))
    }

    pub(crate) fn insert(&self, id: TenantId, name: TenantName) -> Arc<Tenant> {
        let tenant = Arc::new(Tenant {
            id,
            name: name.clone(),
            series: AtomicU64::new(0),
            newest: AtomicI64::new(Millis::MIN),
            newest_exemplar: AtomicI64::new(Millis::MIN),
        });
        let mut maps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        maps.by_name.insert(name, Arc::clone(&tenant));
        maps.by_id.insert(id, Arc::clone(&tenant));
        tenant
    }

    /// The tenant of an id. One that the manifest does not name (it was damaged) is kept as `lost-<id>`.
    pub(crate) fn get(&self, id: TenantId) -> Arc<Tenant> {
        let found = self.0.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned();
        found.unwrap_or_else(|| self.insert(id, TenantName::parse(&format!("lost-{}", id.0)).unwrap_or_default()))
    }
}
