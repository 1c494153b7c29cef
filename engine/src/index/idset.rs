//! IdSet: a set of ids that is filled from many lists at once, as when a regular expression matches many values.
//!
//! One bit an id while that is at most half a megabyte, so an insertion is one store; a bitmap of Roaring's beyond.
//! Uniting fifty lists of hundreds of ids costs a tenth of uniting fifty Roaring bitmaps.

use std::ops::Range;

use roaring::RoaringBitmap;

use crate::codec::Malformed;

/// What postings can be added to.
pub(crate) trait Ids {
    fn add(&mut self, id: u32);
    /// Adds `count` ids from `first` on.
    fn add_run(&mut self, first: u32, count: u32);
    fn add_bitmap(&mut self, ids: RoaringBitmap);
    /// Adds ids that ascend; [`Malformed`] when they do not and that matters here.
    fn add_sorted(&mut self, ids: Vec<u32>) -> Result<(), Malformed>;
}

impl Ids for RoaringBitmap {
    fn add(&mut self, id: u32) {
        self.insert(id);
    }

    fn add_run(&mut self, first: u32, count: u32) {
        self.insert_range(first..first.saturating_add(count));
    }

    fn add_bitmap(&mut self, ids: RoaringBitmap) {
        *self |= ids;
    }

    fn add_sorted(&mut self, ids: Vec<u32>) -> Result<(), Malformed> {
        *self |= RoaringBitmap::from_sorted_iter(ids).map_err(|_| Malformed("postings are not sorted"))?;
        Ok(())
    }
}

impl Ids for IdSet {
    #[inline]
    fn add(&mut self, id: u32) {
        let at = id.wrapping_sub(self.base);
        match self.words.get_mut((at >> 6) as usize) {
            Some(word) => *word |= 1 << (at & 63),
            None => {
                self.rest.insert(id);
            }
        }
    }

    fn add_run(&mut self, first: u32, count: u32) {
        if self.words.is_empty() {
            self.rest.add_run(first, count);
        } else {
            (first..first.saturating_add(count)).for_each(|id| self.add(id));
        }
    }

    fn add_bitmap(&mut self, ids: RoaringBitmap) {
        ids.iter().for_each(|id| self.add(id));
    }

    fn add_sorted(&mut self, ids: Vec<u32>) -> Result<(), Malformed> {
        ids.into_iter().for_each(|id| self.add(id));
        Ok(())
    }
}

/// Ids that one bit each may be spent on.
const DENSE_MAX: u32 = 1 << 22;

pub(crate) struct IdSet {
    /// Multiple of 64: the id of the first bit.
    base: u32,
    words: Vec<u64>,
    /// What has no bit.
    rest: RoaringBitmap,
}

impl IdSet {
    /// A set for ids in `ids`; others may be inserted too, at more cost.
    pub(crate) fn new(ids: Range<u32>) -> IdSet {
        let base = ids.start & !63;
        let span = ids.end.saturating_sub(base);
        let words = if span <= DENSE_MAX { span.div_ceil(64) as usize } else { 0 };
        IdSet { base, words: vec![0; words], rest: RoaringBitmap::new() }
    }

    /// Adds its ids to a bitmap.
    pub(crate) fn add_to(mut self, into: &mut RoaringBitmap) {
        if self.words.is_empty() {
            *into |= self.rest;
            return;
        }
        // Uniting with a bitmap of runs inserts ids singly, each with a search: here each costs a store.
        self.add_bitmap(std::mem::take(into));
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        *into = RoaringBitmap::from_lsb0_bytes(self.base, &bytes);
        if !self.rest.is_empty() {
            *into |= self.rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_holds_what_was_inserted(
            start in prop_oneof![0u32..300, (1u32 << 31) - 300..(1 << 31) - 200],
            span in prop_oneof![0u32..200, Just(DENSE_MAX * 2)],
            ids in proptest::collection::vec(0u32..1 << 31, 0..5),
            near in proptest::collection::vec((0u32..200, 0u32..70), 0..20),
        ) {
            let mut set = IdSet::new(start..start.saturating_add(span));
            let mut model = BTreeSet::new();
            for id in ids {
                set.add(id);
                model.insert(id);
            }
            for (first, count) in near {
                set.add_run(start + first, count);
                model.extend(start + first..start + first + count);
            }
            let mut into = RoaringBitmap::from_iter([7]);
            into.insert_range(start + 50..start + 90);
            model.insert(7);
            model.extend(start + 50..start + 90);
            set.add_to(&mut into);
            prop_assert!(into.iter().eq(model));
        }
    }
}
