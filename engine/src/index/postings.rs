//! Postings: the sorted ids that carry a term, as a segment stores them.
//!
//! A *place* is what the term dictionary holds for a term, 64 bits:
//! ```text
//! bits 0-1 = 0   one id:  bits 2-32 the id
//! bits 0-1 = 1   a run:   bits 2-32 the first id, bits 33-63 how many ids follow each other
//! bits 0-1 = 2   a list:  bits 2-63 its address in the postings section
//! ```
//! Series are sorted by labels, `__name__` near the front, so most terms of a metric name are runs, and a term of
//! one series needs no list at all. A list is a tag byte, then
//! ```text
//! 0 deltas   varint count, varint first id, then per id varint (id - previous - 1)
//! 1 packed   varint count, then per 128 ids a width byte and bit-packed (id - previous - 1), the rest as deltas
//! 2 roaring  varint bytes, the bitmap in Roaring's portable format
//! ```
//! whichever is smallest. Ids are below 2^31.

use bitpacking::{BitPacker, BitPacker4x};
use roaring::RoaringBitmap;

use super::idset::Ids;
use super::varint::{Input, put};
use crate::codec::Malformed;

/// Ids are below this, so that two of them and a tag fit a place.
pub(crate) const IDS_MAX: u32 = 1 << 31;
const BLOCK: usize = BitPacker4x::BLOCK_LEN;

/// Where the ids of a term are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// One id.
    One(u32),
    /// `count` ids from `first` on.
    Run { first: u32, count: u32 },
    /// A list at this address of the postings section.
    List(u64),
}

impl Place {
    pub(crate) fn to_bits(self) -> u64 {
        match self {
            Place::One(id) => u64::from(id) << 2,
            Place::Run { first, count } => 1 | u64::from(first) << 2 | u64::from(count) << 33,
            Place::List(address) => 2 | address << 2,
        }
    }

    pub(crate) fn from_bits(bits: u64) -> Result<Place, Malformed> {
        let low = (bits >> 2) as u32 & (IDS_MAX - 1);
        match bits & 3 {
            0 if bits >> 33 == 0 => Ok(Place::One(low)),
            1 => Ok(Place::Run { first: low, count: (bits >> 33) as u32 }),
            2 => Ok(Place::List(bits >> 2)),
            _ => Err(Malformed("place of postings has an unknown form")),
        }
    }
}

/// Ids of one term while a segment is written: a run costs nothing, other ids about a byte each.
#[derive(Default)]
pub(crate) struct IdList {
    first: u32,
    last: u32,
    count: u32,
    /// Varint differences of the ids behind the first; empty while the list is a run.
    deltas: Vec<u8>,
}

impl IdList {
    /// Appends an id greater than all before.
    pub(crate) fn push(&mut self, id: u32) {
        if self.count == 0 {
            *self = IdList { first: id, last: id, count: 1, deltas: Vec::new() };
            return;
        }
        debug_assert!(id > self.last);
        let delta = id - self.last;
        if delta > 1 && self.deltas.is_empty() {
            self.deltas.resize(self.count as usize - 1, 1);
        }
        if delta > 1 || !self.deltas.is_empty() {
            put(&mut self.deltas, u64::from(delta));
        }
        self.last = id;
        self.count += 1;
    }

    /// The place of a list that needs no bytes; `None` when it must be stored.
    pub(crate) fn inline(&self) -> Option<Place> {
        match (self.count, self.last - self.first) {
            (1, _) => Some(Place::One(self.first)),
            (count, span) if span == count - 1 => Some(Place::Run { first: self.first, count }),
            _ => None,
        }
    }

    /// The ids.
    pub(crate) fn ids(&self, out: &mut Vec<u32>) {
        out.clear();
        out.push(self.first);
        let mut input = Input::new(&self.deltas);
        let mut last = self.first;
        while let Ok(delta) = input.varint() {
            last += delta as u32;
            out.push(last);
        }
        if self.deltas.is_empty() {
            out.extend(self.first + 1..=self.last);
        }
        assert_eq!(out.len(), self.count as usize);
    }
}

fn put_deltas(out: &mut Vec<u8>, mut previous: Option<u32>, ids: &[u32]) {
    for &id in ids {
        put(out, u64::from(previous.map_or(id, |previous| id - previous - 1)));
        previous = Some(id);
    }
}

/// Appends a list of ids, ascending, unique and not empty.
pub(crate) fn encode(ids: &[u32], out: &mut Vec<u8>) {
    let begin = out.len();
    if ids.len() < BLOCK {
        out.push(0);
        put(out, ids.len() as u64);
        put_deltas(out, None, ids);
        return;
    }
    out.push(1);
    put(out, ids.len() as u64);
    let packer = BitPacker4x::new();
    let mut packed = [0u8; 4 * BLOCK];
    let mut previous = None;
    let blocks = ids.chunks_exact(BLOCK);
    let tail = blocks.remainder();
    for block in blocks {
        let width = packer.num_bits_strictly_sorted(previous, block);
        let bytes = packer.compress_strictly_sorted(previous, block, &mut packed, width);
        out.push(width);
        out.extend_from_slice(&packed[..bytes]);
        previous = block.last().copied();
    }
    put_deltas(out, previous, tail);
    // Dense lists: runs and bitmaps beat one bit width per 128 ids.
    if out.len() - begin > ids.len() / 16
        && let Ok(mut bitmap) = RoaringBitmap::from_sorted_iter(ids.iter().copied())
    {
        bitmap.optimize();
        if bitmap.serialized_size() + 8 < out.len() - begin {
            out.truncate(begin);
            out.push(2);
            put(out, bitmap.serialized_size() as u64);
            let written = bitmap.serialize_into(&mut *out);
            assert!(written.is_ok(), "writing to memory does not fail");
        }
    }
}

/// Adds the ids of the list at the beginning of `bytes` to `into`. Every id is below `ids_end`.
pub(crate) fn decode(bytes: &[u8], ids_end: u32, into: &mut impl Ids) -> Result<(), Malformed> {
    let mut input = Input::new(bytes);
    let tag = input.byte()?;
    if tag == 2 {
        let count = input.count()?;
        let bitmap = RoaringBitmap::deserialize_from(input.take(count)?).map_err(|_| Malformed("roaring postings"))?;
        if bitmap.max().is_some_and(|max| max >= ids_end) {
            return Err(Malformed("postings name a series that is not there"));
        }
        into.add_bitmap(bitmap);
        return Ok(());
    }
    if tag > 2 {
        return Err(Malformed("postings have an unknown form"));
    }
    // 128 ids take at least one byte when packed.
    let count = usize::try_from(input.varint()?).map_err(|_| Malformed("postings count"))?;
    if count / BLOCK > input.len() {
        return Err(Malformed("count exceeds the bytes that follow"));
    }
    let mut ids: Vec<u32> = Vec::with_capacity(count);
    let mut previous: Option<u32> = None;
    if tag == 1 {
        let packer = BitPacker4x::new();
        let mut block = [0u32; BLOCK];
        while count - ids.len() >= BLOCK {
            let width = input.byte()?;
            if width > 32 {
                return Err(Malformed("postings are wider than 32 bits"));
            }
            packer.decompress_strictly_sorted(previous, input.take(usize::from(width) * BLOCK / 8)?, &mut block, width);
            ids.extend_from_slice(&block);
            previous = block.last().copied();
        }
    }
    for _ in ids.len()..count {
        let delta = input.u32()?;
        let id = match previous {
            None => Some(delta),
            Some(previous) => previous.checked_add(delta).and_then(|id| id.checked_add(1)),
        };
        let id = id.ok_or(Malformed("postings overflow"))?;
        ids.push(id);
        previous = Some(id);
    }
    if ids.last().is_some_and(|&last| last >= ids_end) {
        return Err(Malformed("postings name a series that is not there"));
    }
    into.add_sorted(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn check(ids: &[u32]) {
        let mut list = IdList::default();
        for &id in ids {
            list.push(id);
        }
        let mut back = Vec::new();
        list.ids(&mut back);
        assert_eq!(back, ids);
        match list.inline() {
            Some(Place::One(id)) => assert_eq!(ids, [id]),
            Some(Place::Run { first, count }) => assert!(ids.iter().copied().eq(first..first + count)),
            Some(Place::List(_)) => panic!("a list in memory has no address"),
            None => {}
        }
        let mut bytes = Vec::new();
        encode(ids, &mut bytes);
        let mut bitmap = RoaringBitmap::new();
        decode(&bytes, IDS_MAX, &mut bitmap).unwrap();
        assert!(bitmap.iter().eq(ids.iter().copied()));
        assert!(decode(&bytes, *ids.last().unwrap(), &mut RoaringBitmap::new()).is_err());
    }

    #[test]
    fn sparse_dense_and_full_lists_come_back() {
        check(&[0]);
        check(&[IDS_MAX - 1]);
        check(&(0..1000).collect::<Vec<_>>());
        check(&(5..100_000).collect::<Vec<_>>());
        check(&(0..200_000).filter(|id| id % 3 != 0).collect::<Vec<_>>());
        check(&(0..200_000).filter(|id| id % 997 == 0).collect::<Vec<_>>());
        check(&(0..200_000).filter(|id| id * 7919 % 100 < 60).collect::<Vec<_>>());
    }

    #[test]
    fn a_list_of_every_hundredth_id_takes_under_a_byte_an_id() {
        let mut bytes = Vec::new();
        encode(&(0..10_000).map(|id| id * 100).collect::<Vec<_>>(), &mut bytes);
        assert!(bytes.len() < 10_000, "{}", bytes.len());
    }

    #[test]
    fn places_come_back() {
        for place in [
            Place::One(0),
            Place::One(IDS_MAX - 1),
            Place::Run { first: 7, count: 9 },
            Place::Run { first: IDS_MAX - 2, count: IDS_MAX - 1 },
            Place::List(1 << 40),
        ] {
            assert_eq!(Place::from_bits(place.to_bits()), Ok(place));
        }
        assert!(Place::from_bits(3).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_list_comes_back(ids in prop_oneof![
            proptest::collection::btree_set(0..IDS_MAX, 1..600),
            proptest::collection::btree_set(0..2000u32, 1..600),
        ]) {
            let ids: BTreeSet<u32> = ids;
            check(&ids.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, IDS_MAX, &mut RoaringBitmap::new());
        }

        #[test]
        fn a_flip_never_panics(seed in 0u32..1000, at: proptest::sample::Index, bit in 0u8..8) {
            let mut bytes = Vec::new();
            encode(&(0..700).map(|id| id * (seed % 40 + 1) + id * id % (seed + 1)).collect::<BTreeSet<_>>()
                .into_iter().collect::<Vec<_>>(), &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = decode(&bytes, IDS_MAX, &mut RoaringBitmap::new());
        }
    }
}
