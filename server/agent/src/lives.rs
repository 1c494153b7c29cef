//! Which loops live under which labels: so that the loop of a target that went and came back, or was reconfigured,
//! does not mark as stale what its successor scrapes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use varve_model::SeriesHash;

use crate::cache::Cache;
use crate::target::Target;

/// The loops that live, by the labels that their series get.
#[derive(Debug, Default)]
pub(crate) struct Lives(Mutex<HashMap<SeriesHash, Vec<Weak<Mutex<Cache>>>>>);

impl Lives {
    pub(crate) fn add(&self, target: &Target) {
        let mut lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lives.entry(target.label_set().hash()).or_default().push(Arc::downgrade(&target.cache()));
    }

    /// Takes one life of the target away.
    pub(crate) fn remove(&self, target: &Target) {
        let mut lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = target.label_set().hash();
        let Some(caches) = lives.get_mut(&hash) else { return };
        let own = Arc::downgrade(&target.cache());
        if let Some(at) = caches.iter().position(|cache| cache.ptr_eq(&own)) {
            caches.swap_remove(at);
        }
        caches.retain(|cache| cache.strong_count() > 0);
        if caches.is_empty() {
            lives.remove(&hash);
        }
    }

    /// What the loops that live under the same labels remember, but for the target's own.
    pub(crate) fn caches(&self, target: &Target) -> Vec<Arc<Mutex<Cache>>> {
        let lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = target.cache();
        let caches = lives.get(&target.label_set().hash()).map(Vec::as_slice).unwrap_or_default();
        caches.iter().filter_map(Weak::upgrade).filter(|cache| !Arc::ptr_eq(cache, &own)).collect()
    }
}
