//! MemoryIndex: the head's label index. (tenant, name, value) to the ids of the series that carry it.
//!
//! Plain data behind `&self`/`&mut self`: the owner puts it behind a lock of his own. Values of a name are a hash
//! table, since the head mostly adds; sorted output is sorted when asked for. A term of one series, the common case
//! of high cardinality, holds its id inline.
//!
//! Invariant: an id is in `all` of its tenant exactly while its labels are in the tables; empty tables are dropped.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use roaring::RoaringBitmap;
use varve_model::{Labels, Matcher, TenantId};
use xxhash_rust::xxh3::xxh3_64;

use super::Texts;
use super::select::{TermSource, select};

/// Heap cost of a table slot and its string, beside the string's bytes.
const TERM_BYTES: usize = 56;
/// Heap cost of a bitmap, beside its ids.
const BITMAP_BYTES: usize = 96;
/// Heap cost of an id in a bitmap.
const ID_BYTES: usize = 2;

/// Ids of one term.
#[derive(Debug)]
enum Ids {
    One(u32),
    Many(Box<RoaringBitmap>),
}

#[derive(Debug)]
struct Term {
    value: Box<str>,
    ids: Ids,
}

#[derive(Default, Debug)]
struct Name {
    having: RoaringBitmap,
    values: HashTable<Term>,
    /// The values, sorted, once somebody asked for them; forgotten when one comes or goes.
    sorted: OnceLock<Arc<Texts>>,
}

#[derive(Default, Debug)]
struct Tenant {
    all: RoaringBitmap,
    names: BTreeMap<Box<str>, Name>,
}

impl Name {
    /// Those of the values whose ids are wanted.
    fn values(&self, wanted: &dyn Fn(&Ids) -> bool) -> Texts {
        let terms = self.values.iter().filter(|term| wanted(&term.ids));
        Texts::from_unsorted(terms.map(|term| &*term.value).collect())
    }
}

/// The label index of a head.
#[derive(Default, Debug)]
pub struct MemoryIndex {
    tenants: BTreeMap<TenantId, Tenant>,
    heap_bytes: usize,
}

fn term_hash(term: &Term) -> u64 {
    xxh3_64(term.value.as_bytes())
}

impl MemoryIndex {
    /// Adds a series. O(labels). Adding the same id with the same labels again changes nothing.
    pub fn add(&mut self, tenant: TenantId, id: u32, labels: &Labels) {
        let tenant = self.tenants.entry(tenant).or_default();
        tenant.all.insert(id);
        for (name, value) in labels.iter() {
            if !tenant.names.contains_key(name) {
                self.heap_bytes += TERM_BYTES + BITMAP_BYTES + name.len();
                tenant.names.insert(name.into(), Name::default());
            }
            let Some(entry) = tenant.names.get_mut(name) else { continue };
            if entry.having.insert(id) {
                self.heap_bytes += ID_BYTES;
            }
            let hash = xxh3_64(value.as_bytes());
            match entry.values.entry(hash, |term| *term.value == *value, term_hash) {
                Entry::Vacant(slot) => {
                    self.heap_bytes += TERM_BYTES + value.len();
                    slot.insert(Term { value: value.into(), ids: Ids::One(id) });
                    entry.sorted.take();
                }
                Entry::Occupied(mut slot) => match &mut slot.get_mut().ids {
                    Ids::Many(ids) => {
                        if ids.insert(id) {
                            self.heap_bytes += ID_BYTES;
                        }
                    }
                    Ids::One(other) if *other == id => {}
                    one @ Ids::One(_) => {
                        let Ids::One(other) = *one else { continue };
                        self.heap_bytes += BITMAP_BYTES + 2 * ID_BYTES;
                        *one = Ids::Many(Box::new(RoaringBitmap::from_iter([other, id])));
                    }
                },
            }
        }
    }

    /// Removes a series that was added with these labels. O(labels).
    pub fn remove(&mut self, tenant_id: TenantId, id: u32, labels: &Labels) {
        let Some(tenant) = self.tenants.get_mut(&tenant_id) else { return };
        tenant.all.remove(id);
        for (name, value) in labels.iter() {
            let Some(entry) = tenant.names.get_mut(name) else { continue };
            if entry.having.remove(id) {
                self.heap_bytes -= ID_BYTES;
            }
            let hash = xxh3_64(value.as_bytes());
            if let Ok(mut slot) = entry.values.find_entry(hash, |term| *term.value == *value) {
                let gone = match &mut slot.get_mut().ids {
                    Ids::One(other) => *other == id,
                    Ids::Many(ids) => {
                        if ids.remove(id) {
                            self.heap_bytes -= ID_BYTES;
                        }
                        let empty = ids.is_empty();
                        self.heap_bytes -= if empty { BITMAP_BYTES } else { 0 };
                        empty
                    }
                };
                if gone {
                    self.heap_bytes -= TERM_BYTES + value.len();
                    slot.remove();
                    entry.sorted.take();
                }
            }
            if entry.having.is_empty() {
                self.heap_bytes -= TERM_BYTES + BITMAP_BYTES + name.len();
                tenant.names.remove(name);
            }
        }
        if tenant.all.is_empty() {
            self.tenants.remove(&tenant_id);
        }
    }

    /// The ids of a tenant's series that satisfy all matchers; without matchers all of them.
    pub fn select(&self, tenant: TenantId, matchers: &[Matcher]) -> RoaringBitmap {
        match self.tenants.get(&tenant) {
            Some(tenant) => {
                let Ok(ids) = select(tenant, matchers);
                ids
            }
            None => RoaringBitmap::new(),
        }
    }

    /// How many series a tenant has.
    pub fn series(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).map_or(0, |tenant| tenant.all.len())
    }

    /// Tenants that have series, ascending.
    pub fn tenants(&self) -> impl Iterator<Item = TenantId> + '_ {
        self.tenants.keys().copied()
    }

    /// Label names of a tenant, sorted.
    pub fn label_names(&self, tenant: TenantId) -> Vec<String> {
        self.tenants.get(&tenant).map_or_else(Vec::new, |t| t.names.keys().map(|name| name.to_string()).collect())
    }

    /// Label names of the given series of a tenant, sorted.
    pub fn label_names_of(&self, tenant: TenantId, ids: &RoaringBitmap) -> Vec<String> {
        let Some(tenant) = self.tenants.get(&tenant) else { return Vec::new() };
        let named = tenant.names.iter().filter(|(_, entry)| !entry.having.is_disjoint(ids));
        named.map(|(name, _)| name.to_string()).collect()
    }

    /// Values of a label of a tenant, sorted.
    pub fn label_values(&self, tenant: TenantId, name: &str) -> Arc<Texts> {
        match self.name(tenant, name) {
            Some(entry) => Arc::clone(entry.sorted.get_or_init(|| Arc::new(entry.values(&|_| true)))),
            None => Arc::default(),
        }
    }

    /// Values of a label of the given series of a tenant, sorted.
    pub fn label_values_of(&self, tenant: TenantId, name: &str, ids: &RoaringBitmap) -> Texts {
        let wanted = |found: &Ids| match found {
            Ids::One(id) => ids.contains(*id),
            Ids::Many(found) => !found.is_disjoint(ids),
        };
        self.name(tenant, name).map(|entry| entry.values(&wanted)).unwrap_or_default()
    }

    fn name(&self, tenant: TenantId, name: &str) -> Option<&Name> {
        self.tenants.get(&tenant)?.names.get(name)
    }

    /// Calls `each` with every name, value and number of series of a tenant; names ascending, values in no order.
    pub fn each_term(&self, tenant: TenantId, each: &mut dyn FnMut(&str, &str, u64)) {
        let Some(tenant) = self.tenants.get(&tenant) else { return };
        for (name, entry) in &tenant.names {
            for term in &entry.values {
                let count = match &term.ids {
                    Ids::One(_) => 1,
                    Ids::Many(ids) => ids.len(),
                };
                each(name, &term.value, count);
            }
        }
    }

    /// Estimate of the heap bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }
}

fn add(ids: &Ids, into: &mut RoaringBitmap) {
    match ids {
        Ids::One(id) => {
            into.insert(*id);
        }
        Ids::Many(ids) => *into |= &**ids,
    }
}

impl TermSource for Tenant {
    type Error = Infallible;

    fn all(&self) -> Result<RoaringBitmap, Infallible> {
        Ok(self.all.clone())
    }

    fn having(&self, name: &str, into: &mut RoaringBitmap) -> Result<(), Infallible> {
        if let Some(entry) = self.names.get(name) {
            *into |= &entry.having;
        }
        Ok(())
    }

    fn exact(&self, name: &str, value: &str, into: &mut RoaringBitmap) -> Result<(), Infallible> {
        let term = self
            .names
            .get(name)
            .and_then(|entry| entry.values.find(xxh3_64(value.as_bytes()), |term| *term.value == *value));
        if let Some(term) = term {
            add(&term.ids, into);
        }
        Ok(())
    }

    fn scan(
        &self,
        name: &str,
        prefixes: &[&[u8]],
        wanted: &dyn Fn(&str) -> bool,
        into: &mut RoaringBitmap,
    ) -> Result<(), Infallible> {
        if let Some(entry) = self.names.get(name) {
            let begins = |term: &Term| prefixes.iter().any(|prefix| term.value.as_bytes().starts_with(prefix));
            for term in entry.values.iter().filter(|term| begins(term) && wanted(&term.value)) {
                add(&term.ids, into);
            }
        }
        Ok(())
    }
}
