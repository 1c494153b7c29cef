//! What a target's loop remembers from scrape to scrape: the labels of each series by the bytes that stand for it in
//! a body, which series were there last time, and what was said of families.
//!
//! The one idea: in a steady scrape a line costs one look-up and one copy of label bytes into the batch; labels are
//! parsed, relabeled and hashed once, when a line is new. A series is *stale* when it was tracked in the scrape before
//! and is not in this one, under whatever text.

use std::collections::{HashMap, HashSet};

use hashbrown::HashTable;
use varve_model::SeriesHash;
use varve_model::write::{Metadata, MetricType};
use xxhash_rust::xxh3::xxh3_64;

/// Scrapes after which metadata that is said no more is forgotten.
const METADATA_SCRAPES: u64 = 10;
/// Entries beyond twice those of the last good scrape that failed scrapes may add.
const FAILED_ENTRIES: usize = 1000;

/// What is known of a line's series.
#[derive(Debug)]
pub(crate) struct Entry {
    key: Box<[u8]>,
    /// Label bytes of the stored series; empty when relabeling drops it.
    pub(crate) labels: Box<[u8]>,
    /// Their hash.
    pub(crate) hash: SeriesHash,
    /// Whether its samples are histograms, which decides what its stale marker is.
    pub(crate) is_histogram: bool,
    /// The scrape it was in last.
    seen: u64,
    /// The scrape it was tracked in last, and the one before that.
    tracked: u64,
    tracked_before: u64,
}

impl Entry {
    /// Whether relabeling drops the series.
    pub(crate) fn is_dropped(&self) -> bool {
        self.labels.is_empty()
    }
}

#[derive(Debug)]
struct Said {
    metadata: Metadata,
    seen: u64,
    /// Whether it is to be stored.
    changed: bool,
}

/// The memory of one target's loop.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// Places in `entries` by key.
    places: HashTable<u32>,
    entries: Vec<Entry>,
    families: HashMap<String, Said>,
    /// Number of the scrape in progress; 0 before the first.
    scrape: u64,
    /// The scrape that has begun and not ended.
    begun: Option<u64>,
    /// Entries after the last good scrape.
    good_entries: usize,
}

impl Cache {
    /// Begins a scrape. The one before counts as the last only if it was good or failed as a whole.
    pub(crate) fn begin(&mut self) {
        self.scrape += 1;
        self.begun = Some(self.scrape);
    }

    /// Begins a scrape that failed, unless it had begun already: a body that cannot be read has begun one.
    pub(crate) fn begin_failed(&mut self) {
        if self.begun.is_none_or(|begun| begun != self.scrape) {
            self.begin();
        }
    }

    /// The place of a series by its key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        let place = self
            .places
            .find(xxh3_64(key), |place| self.entries.get(*place as usize).is_some_and(|entry| *entry.key == *key));
        place.map(|place| *place as usize)
    }

    pub(crate) fn entry(&self, place: usize) -> Option<&Entry> {
        self.entries.get(place)
    }

    /// Notes that the series is in this scrape; whether it was noted before.
    pub(crate) fn see(&mut self, place: usize) -> bool {
        let Some(entry) = self.entries.get_mut(place) else { return false };
        std::mem::replace(&mut entry.seen, self.scrape) == self.scrape
    }

    /// Adds a series; empty label bytes for one that is dropped. Gives its place.
    pub(crate) fn add(&mut self, key: &[u8], labels: &[u8], is_histogram: bool) -> usize {
        let place = self.entries.len();
        self.entries.push(Entry {
            key: key.into(),
            labels: labels.into(),
            hash: SeriesHash::of(labels).unwrap_or_default(),
            is_histogram,
            seen: self.scrape,
            tracked: 0,
            tracked_before: 0,
        });
        let entries = &self.entries;
        let hash_of = |place: &u32| entries.get(*place as usize).map_or(0, |entry| xxh3_64(&entry.key));
        self.places.insert_unique(xxh3_64(key), place as u32, hash_of);
        place
    }

    /// Notes that the series becomes stale when it is gone.
    pub(crate) fn track(&mut self, place: usize, is_histogram: bool) {
        if let Some(entry) = self.entries.get_mut(place) {
            entry.is_histogram = is_histogram;
            if entry.tracked != self.scrape {
                entry.tracked_before = entry.tracked;
                entry.tracked = self.scrape;
            }
        }
    }

    /// The series that were tracked in the scrape before and are not in this one. In a scrape that `failed`, none is.
    pub(crate) fn stale(&self, failed: bool) -> Vec<&Entry> {
        let before = self.scrape.wrapping_sub(1);
        let now = |entry: &&Entry| !failed && entry.tracked == self.scrape;
        let was = |entry: &&Entry| {
            entry.tracked == before || (entry.tracked == self.scrape && entry.tracked_before == before)
        };
        if before == 0 {
            return Vec::new();
        }
        let mut gone: Vec<&Entry> = self.entries.iter().filter(|entry| was(entry) && !now(entry)).collect();
        gone.sort_by_key(|entry| entry.hash);
        gone.dedup_by_key(|entry| entry.hash);
        // The same series may still be there, written in another way.
        if !gone.is_empty() {
            let mut here = vec![false; gone.len()];
            for entry in self.entries.iter().filter(now) {
                let at = gone.binary_search_by_key(&entry.hash, |gone| gone.hash);
                if let Some(here) = at.ok().and_then(|at| here.get_mut(at)) {
                    *here = true;
                }
            }
            let mut here = here.into_iter();
            gone.retain(|_| here.next() == Some(false));
        }
        gone
    }

    /// The series of the last scrape.
    pub(crate) fn tracked(&self) -> HashSet<SeriesHash> {
        self.entries.iter().filter(|entry| entry.tracked == self.scrape).map(|entry| entry.hash).collect()
    }

    /// Ends a scrape. After a good one what was not in it is forgotten; after a failed one nothing counts as tracked.
    /// Whether the memory had to be emptied because failed scrapes kept filling it.
    pub(crate) fn end(&mut self, failed: bool) -> bool {
        let count = self.entries.len() + self.families.len();
        let forced = failed && count > self.good_entries * 2 + FAILED_ENTRIES;
        if !failed || forced {
            if !failed {
                self.good_entries = count;
            }
            self.forget();
        }
        self.begun = None;
        if failed {
            // What was tracked in it is not there for the next.
            self.scrape += 1;
        }
        forced
    }

    fn forget(&mut self) {
        let scrape = self.scrape;
        self.families.retain(|_, said| scrape - said.seen <= METADATA_SCRAPES);
        if self.entries.iter().all(|entry| entry.seen == scrape) {
            return;
        }
        self.entries.retain(|entry| entry.seen == scrape);
        self.places.clear();
        let entries = &self.entries;
        let hash_of = |place: &u32| entries.get(*place as usize).map_or(0, |entry| xxh3_64(&entry.key));
        for (place, entry) in (0u32..).zip(entries) {
            self.places.insert_unique(xxh3_64(&entry.key), place, hash_of);
        }
    }

    /// Takes what is said of a family; `set` writes it and tells whether it is new.
    pub(crate) fn say(&mut self, family: &str, set: impl FnOnce(&mut Metadata) -> bool) {
        if !self.families.contains_key(family) {
            let metadata = Metadata { family: family.to_owned(), kind: MetricType::Unknown, ..Metadata::default() };
            self.families.insert(family.to_owned(), Said { metadata, seen: self.scrape, changed: true });
        }
        if let Some(said) = self.families.get_mut(family) {
            said.changed |= set(&mut said.metadata);
            said.seen = self.scrape;
        }
    }

    /// What is to be stored of what was said, once.
    pub(crate) fn take_changed(&mut self, out: &mut Vec<Metadata>) {
        for said in self.families.values_mut().filter(|said| said.changed) {
            said.changed = false;
            out.push(said.metadata.clone());
        }
    }

    /// All that was said is to be stored again: what was taken was not.
    pub(crate) fn say_again(&mut self) {
        self.families.values_mut().for_each(|said| said.changed = true);
    }

    /// What was said of families, in order of names.
    pub(crate) fn metadata(&self) -> Vec<Metadata> {
        let mut all: Vec<Metadata> = self.families.values().map(|said| said.metadata.clone()).collect();
        all.sort();
        all
    }

    /// Series remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use varve_model::labels::push_label;

    fn labels(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_label(&mut bytes, b"__name__", name.as_bytes());
        bytes
    }

    /// A scrape with these series (`key=name`); the names that are stale after it.
    fn scrape(cache: &mut Cache, series: &[(&str, &str)], failed: bool) -> Vec<Vec<u8>> {
        cache.begin();
        for (key, name) in series {
            let place = match cache.find(key.as_bytes()) {
                Some(place) => {
                    cache.see(place);
                    place
                }
                None => cache.add(key.as_bytes(), &labels(name), false),
            };
            cache.track(place, false);
        }
        let stale = cache.stale(failed).iter().map(|entry| entry.labels.to_vec()).collect();
        cache.end(failed);
        stale
    }

    #[test]
    fn a_series_is_stale_once() {
        let mut cache = Cache::default();
        assert!(scrape(&mut cache, &[("a", "a"), ("b", "b")], false).is_empty());
        assert!(scrape(&mut cache, &[("b", "b"), ("a", "a")], false).is_empty());
        assert_eq!(scrape(&mut cache, &[("a", "a")], false), [labels("b")]);
        assert!(scrape(&mut cache, &[("a", "a")], false).is_empty());
        assert_eq!(cache.len(), 1);
        // The same series in another text.
        assert!(scrape(&mut cache, &[("a ", "a")], false).is_empty());
        assert_eq!(cache.tracked(), HashSet::from([SeriesHash::of(&labels("a")).unwrap()]));
    }

    #[test]
    fn only_what_is_gone_is_stale_when_all_is_written_in_another_way() {
        let mut cache = Cache::default();
        let names: Vec<String> = (0..100).map(|i| format!("n{i}")).collect();
        let again: Vec<String> = names.iter().map(|name| format!("{name} ")).collect();
        let before: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        let after = again.iter().zip(&names).filter(|(_, name)| !name.ends_with('7'));
        let after: Vec<(&str, &str)> = after.map(|(key, name)| (key.as_str(), name.as_str())).collect();
        assert!(scrape(&mut cache, &before, false).is_empty());
        let mut stale = scrape(&mut cache, &after, false);
        stale.sort();
        let mut gone: Vec<Vec<u8>> = names.iter().filter(|name| name.ends_with('7')).map(|name| labels(name)).collect();
        gone.sort();
        assert_eq!(stale, gone);
    }

    #[test]
    fn a_failed_scrape_makes_all_stale_once_also_what_it_had_read() {
        let mut cache = Cache::default();
        scrape(&mut cache, &[("a", "a"), ("b", "b")], false);
        let mut stale = scrape(&mut cache, &[("a", "a"), ("c", "c")], true);
        stale.sort();
        assert_eq!(stale, [labels("a"), labels("b")]);
        assert!(scrape(&mut cache, &[], true).is_empty());
        assert!(scrape(&mut cache, &[("b", "b")], false).is_empty());
        assert_eq!(scrape(&mut cache, &[], false), [labels("b")]);
    }

    #[test]
    fn failed_scrapes_do_not_fill_it_without_end() {
        let mut cache = Cache::default();
        let keys: Vec<String> = (0..1002).map(|i| i.to_string()).collect();
        cache.begin();
        keys.iter().for_each(|key| {
            cache.add(key.as_bytes(), &labels(key), false);
        });
        assert!(cache.end(true));
        cache.begin();
        assert!(!cache.end(false));
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn what_is_said_is_stored_when_it_changes() {
        let mut cache = Cache::default();
        fn say(cache: &mut Cache, help: &str) -> usize {
            cache.begin();
            cache.say("f", |metadata| {
                let new = metadata.help != help;
                help.clone_into(&mut metadata.help);
                new
            });
            let mut out = Vec::new();
            cache.take_changed(&mut out);
            cache.end(false);
            out.len()
        }
        assert_eq!(["a", "a", "b"].map(|help| say(&mut cache, help)), [1, 0, 1]);
        cache.say_again();
        assert_eq!(["b", "b"].map(|help| say(&mut cache, help)), [1, 0]);
        assert_eq!(cache.metadata()[0].help, "b");
    }
}
