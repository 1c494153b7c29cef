//! SeriesTable: label hash to series id, owned by the shard's thread alone.
//!
//! One look-up a sample is the price of a write, so it is cheap: a sender repeats its order and ids are given out in
//! order of first use, so the series behind the last is tried before the table is asked. A slot is one cache line.
//!
//! Invariants:
//! * An id that was removed is given out again only for a later epoch of heads (see [`super::registry`]).
//! * A hash has 128 bits over the labels and belongs to one tenant: equal hash and tenant is the same series.

use hashbrown::HashTable;
use varve_model::{Labels, SeriesHash, TenantId};

use crate::record::metrics::{Declarations, Declared};

/// What the shard knows of a live series.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) hash: SeriesHash,
    pub(crate) labels: Labels,
    pub(crate) tenant: TenantId,
    declared: Declared,
    /// Epoch of the head that got its last sample; low bits, heads never live that long apart.
    pub(crate) used: u32,
    /// Whether readers can find it: from its first applied sample on.
    pub(crate) visible: bool,
    live: bool,
}

const _: () = assert!(size_of::<Slot>() <= 64);

/// The live series of a shard.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    guess: u32,
    /// What [`Declarations::labels`] answers for an id that is not there.
    none: Labels,
    spare: Declared,
}

/// Spreads tenants with equal series over the table.
fn table_hash(tenant: TenantId, hash: SeriesHash) -> u64 {
    hash.low() ^ u64::from(tenant.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl SeriesTable {
    /// Live series.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The id of a series; `None` when it is not live.
    #[inline]
    pub(crate) fn find(&mut self, tenant: TenantId, hash: SeriesHash) -> Option<u32> {
        let is = |slot: &Slot| slot.hash == hash && slot.tenant == tenant && slot.live;
        let guess = self.guess;
        if self.slots.get(guess as usize).is_some_and(is) {
            self.guess = guess + 1;
            return Some(guess);
        }
        let slots = &self.slots;
        let found = self.table.find(table_hash(tenant, hash), |&id| slots.get(id as usize).is_some_and(is)).copied();
        if let Some(id) = found {
            self.guess = id + 1;
        }
        found
    }

    /// Takes in a series that [`SeriesTable::find`] did not find.
    pub(crate) fn insert(&mut self, tenant: TenantId, hash: SeriesHash, labels: Labels, epoch: u64) -> u32 {
        let slot = Slot {
            hash,
            labels,
            tenant,
            declared: Declared::default(),
            used: epoch as u32,
            visible: false,
            live: true,
        };
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.slots.get_mut(id as usize) {
                    *place = slot;
                }
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.table.insert_unique(table_hash(tenant, hash), id, |&id| {
            slots.get(id as usize).map_or(0, |slot| table_hash(slot.tenant, slot.hash))
        });
        self.guess = id + 1;
        id
    }

    /// The slot of an id that is live.
    #[inline]
    pub(crate) fn slot_mut(&mut self, id: u32) -> Option<&mut Slot> {
        self.slots.get_mut(id as usize).filter(|slot| slot.live)
    }

    /// Removes the series that `idle` names (given its slot); `removed` gets each id and slot.
    pub(crate) fn remove_idle(&mut self, idle: impl Fn(&Slot) -> bool, mut removed: impl FnMut(u32, &Slot)) {
        for (id, slot) in self.slots.iter_mut().enumerate() {
            if !slot.live || !idle(slot) {
                continue;
            }
            let id = id as u32;
            if let Ok(entry) = self.table.find_entry(table_hash(slot.tenant, slot.hash), |&other| other == id) {
                entry.remove();
            }
            slot.live = false;
            removed(id, slot);
            slot.labels = Labels::default();
            slot.declared = Declared::default();
            self.free.push(id);
        }
        // Given out in ascending order again, as they were the first time.
        self.free.sort_unstable_by(|a, b| b.cmp(a));
    }
}

impl Declarations for SeriesTable {
    fn labels(&self, series: u32) -> &Labels {
        self.slots.get(series as usize).map_or(&self.none, |slot| &slot.labels)
    }

    #[inline]
    fn declared(&mut self, series: u32) -> &mut Declared {
        match self.slots.get_mut(series as usize) {
            Some(slot) => &mut slot.declared,
            None => &mut self.spare,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_until_they_are_removed() {
        let mut table = SeriesTable::default();
        let labels: Vec<Labels> =
            (0..2000).map(|i| Labels::from([("__name__", "m"), ("i", i.to_string().as_str())])).collect();
        for tenant in [TenantId(1), TenantId(2)] {
            for labels in &labels {
                assert_eq!(table.find(tenant, labels.hash()), None);
                table.insert(tenant, labels.hash(), labels.clone(), 1);
            }
        }
        for order in [1usize, 7, 1999] {
            for i in 0..2000 {
                let labels = &labels[i * order % 2000];
                let id = table.find(TenantId(2), labels.hash()).unwrap();
                assert_eq!(table.slot_mut(id).unwrap().labels, *labels);
                assert_eq!(id as usize, 2000 + i * order % 2000);
            }
        }
        let mut gone = Vec::new();
        table.remove_idle(|slot| slot.tenant == TenantId(1), |id, _| gone.push(id));
        assert_eq!(gone.len(), 2000);
        assert_eq!(table.len(), 2000);
        assert_eq!(table.find(TenantId(1), labels[5].hash()), None);
        assert_eq!(table.insert(TenantId(3), labels[5].hash(), labels[5].clone(), 2), 0);
        assert_eq!(table.find(TenantId(3), labels[5].hash()), Some(0));
        assert_eq!(table.find(TenantId(2), labels[5].hash()), Some(2005));
    }
}
