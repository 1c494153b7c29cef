//! Terms: a segment's dictionary of one tenant's labels, an FST from `name 0xFF value` to the place of its postings.
//!
//! 0xFF occurs in no UTF-8 text, so the names end where they end and a value cannot reach into the next name. The key
//! with an empty value (no series has one) holds the series that have the name at all.
//!
//! Invariant: bytes reach [`Terms::open`] only from a block whose checksum holds. The FST crate checks its frame but
//! not each node, so bytes forged together with their checksum could still panic it.

use fst::{IntoStreamer, Map, MapBuilder, Streamer};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use varve_model::Labels;
use varve_model::labels::{split_body, split_label};
use xxhash_rust::xxh3::xxh3_64;

use super::postings::{IdList, Place};
use crate::codec::Malformed;

const SEPARATOR: u8 = 0xff;

fn key(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.clear();
    out.extend_from_slice(name);
    out.push(SEPARATOR);
    out.extend_from_slice(value);
}

/// The dictionary of one tenant.
#[derive(Debug)]
pub(crate) struct Terms {
    map: Map<Vec<u8>>,
}

impl Terms {
    pub(crate) fn open(bytes: Vec<u8>) -> Result<Terms, Malformed> {
        Ok(Terms { map: Map::new(bytes).map_err(|_| Malformed("term dictionary is no FST"))? })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.map.as_fst().size()
    }

    /// How many keys.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// The series with a value; with an empty value those that have the name.
    pub(crate) fn get(&self, name: &str, value: &str) -> Result<Option<Place>, Malformed> {
        let mut bytes = Vec::with_capacity(name.len() + value.len() + 1);
        key(&mut bytes, name.as_bytes(), value.as_bytes());
        self.map.get(&bytes).map(Place::from_bits).transpose()
    }

    /// Every value of `name` that begins with `prefix`, ascending by bytes, with its series.
    pub(crate) fn each_value<E: From<Malformed>>(
        &self,
        name: &str,
        prefix: &[u8],
        each: &mut dyn FnMut(&str, Place) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut low = Vec::new();
        key(&mut low, name.as_bytes(), prefix);
        let mut high = low.clone();
        high.push(SEPARATOR);
        let mut stream = self.map.range().ge(&low).lt(&high).into_stream();
        while let Some((found, place)) = stream.next() {
            let value = found.get(name.len() + 1..).unwrap_or_default();
            let value = std::str::from_utf8(value).map_err(|_| Malformed("label value is not UTF-8"))?;
            if !value.is_empty() {
                each(value, Place::from_bits(place)?)?;
            }
        }
        Ok(())
    }

    /// Every name with the series that have it, sorted by name.
    pub(crate) fn names(&self) -> Result<Vec<(String, Place)>, Malformed> {
        let mut names = Vec::new();
        let mut from = Vec::new();
        loop {
            let mut stream = self.map.range().ge(&from).into_stream();
            let Some((found, place)) = stream.next() else { break };
            let Some((&SEPARATOR, name)) = found.split_last() else {
                return Err(Malformed("a name lacks the series that have it"));
            };
            let name = std::str::from_utf8(name).map_err(|_| Malformed("label name is not UTF-8"))?;
            names.push((name.to_owned(), Place::from_bits(place)?));
            // No value begins with the separator, so this is behind all values of the name and before the next name.
            key(&mut from, name.as_bytes(), &[SEPARATOR]);
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    /// Every key in order of bytes, for verification and dumps.
    pub(crate) fn each<E: From<Malformed>>(
        &self,
        mut each: impl FnMut(&[u8], Place) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut stream = self.map.stream();
        while let Some((key, place)) = stream.next() {
            each(key, Place::from_bits(place)?)?;
        }
        Ok(())
    }
}

struct Term {
    /// End of its key in the arena; it begins where the previous one ends.
    end: usize,
    ids: IdList,
}

/// Collects the terms of one tenant while its series are written in order of ids.
#[derive(Default)]
pub(crate) struct TermsBuilder {
    table: HashTable<u32>,
    terms: Vec<Term>,
    arena: Vec<u8>,
    key: Vec<u8>,
    /// Terms of the previous series, label by label: neighbours share most labels.
    previous: Vec<(u32, u32)>,
    previous_labels: Labels,
}

fn key_of<'a>(terms: &[Term], arena: &'a [u8], index: u32) -> &'a [u8] {
    let index = index as usize;
    let begin = index.checked_sub(1).and_then(|before| terms.get(before)).map_or(0, |term| term.end);
    terms.get(index).and_then(|term| arena.get(begin..term.end)).unwrap_or_default()
}

impl TermsBuilder {
    fn term(&mut self) -> u32 {
        let (terms, arena) = (&mut self.terms, &mut self.arena);
        let entry = self.table.entry(
            xxh3_64(&self.key),
            |&index| key_of(terms, arena, index) == &self.key[..],
            |&index| xxh3_64(key_of(terms, arena, index)),
        );
        match entry {
            Entry::Occupied(slot) => *slot.get(),
            Entry::Vacant(slot) => {
                let index = terms.len() as u32;
                slot.insert(index);
                arena.extend_from_slice(&self.key);
                terms.push(Term { end: arena.len(), ids: IdList::default() });
                index
            }
        }
    }

    /// Adds a series whose id is greater than all before.
    pub(crate) fn add(&mut self, id: u32, labels: &Labels) {
        let previous_labels = std::mem::replace(&mut self.previous_labels, labels.clone());
        let mut before = previous_labels.as_label_bytes();
        let mut rest = labels.as_label_bytes();
        let mut at = 0;
        while let Some((body, after)) = split_label(rest) {
            rest = after;
            let known = split_label(before).map(|(known, after)| {
                before = after;
                known
            });
            let known_pair = self.previous.get(at).copied().zip(known);
            let pair = match known_pair {
                Some((pair, known)) if known == body => pair,
                _ => {
                    let Some((name, value)) = split_body(body) else { panic!("labels are well-formed") };
                    let having = match known_pair {
                        Some((pair, known)) if split_body(known).is_some_and(|(known, _)| known == name) => pair.0,
                        _ => {
                            key(&mut self.key, name, &[]);
                            self.term()
                        }
                    };
                    key(&mut self.key, name, value);
                    (having, self.term())
                }
            };
            match self.previous.get_mut(at) {
                Some(slot) => *slot = pair,
                None => self.previous.push(pair),
            }
            for index in [pair.0, pair.1] {
                if let Some(term) = self.terms.get_mut(index as usize) {
                    term.ids.push(id);
                }
            }
            at += 1;
        }
    }

    /// The keys in order of bytes, each with its ids.
    pub(crate) fn expected(&self) -> impl ExactSizeIterator<Item = (&[u8], &IdList)> {
        let order = self.order();
        order
            .into_iter()
            .filter_map(|index| {
                let term = self.terms.get(index as usize)?;
                Some((key_of(&self.terms, &self.arena, index), &term.ids))
            })
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.terms.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| key_of(&self.terms, &self.arena, a).cmp(key_of(&self.terms, &self.arena, b)));
        order
    }

    /// The FST of all terms; `place` stores a list of ids and says where. Leaves the builder empty.
    pub(crate) fn finish<E>(&mut self, place: &mut dyn FnMut(&IdList) -> Result<Place, E>) -> Result<Vec<u8>, E> {
        let order = self.order();
        let mut map = MapBuilder::memory();
        for index in order {
            let Some(term) = self.terms.get(index as usize) else { continue };
            let at = match term.ids.inline() {
                Some(at) => at,
                None => place(&term.ids)?,
            };
            let inserted = map.insert(key_of(&self.terms, &self.arena, index), at.to_bits());
            assert!(inserted.is_ok(), "keys are sorted and unique");
        }
        *self = TermsBuilder::default();
        match map.into_inner() {
            Ok(bytes) => Ok(bytes),
            Err(error) => panic!("an FST in memory cannot fail: {error}"),
        }
    }
}
