//! KeyTable: dense numbers for byte strings: group keys, match signatures, label sets. One arena, no allocation a key.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Numbers byte strings in the order in which they come.
#[derive(Default)]
pub(crate) struct KeyTable {
    table: HashTable<(u64, u32)>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
    tags: Vec<usize>,
}

/// No tag yet.
const UNTAGGED: usize = usize::MAX;

fn slice<'a>(ends: &[usize], bytes: &'a [u8], number: u32) -> &'a [u8] {
    let number = number as usize;
    let begin = if number == 0 { 0 } else { ends[number - 1] };
    &bytes[begin..ends[number]]
}

impl KeyTable {
    /// The number of a key, and whether it is new.
    pub(crate) fn intern(&mut self, key: &[u8]) -> (usize, bool) {
        let hash = xxh3_64(key);
        let (ends, bytes) = (&self.ends, &self.bytes);
        if let Some((_, number)) = self.table.find(hash, |(h, n)| *h == hash && slice(ends, bytes, *n) == key) {
            return (*number as usize, false);
        }
        let number = self.ends.len();
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        self.tags.push(UNTAGGED);
        self.table.insert_unique(hash, (hash, number as u32), |(hash, _)| *hash);
        (number, true)
    }

    /// The number of a key that was interned.
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        let hash = xxh3_64(key);
        let found = self.table.find(hash, |(h, n)| *h == hash && slice(&self.ends, &self.bytes, *n) == key);
        found.map(|(_, number)| *number as usize)
    }

    /// The key of a number.
    pub(crate) fn get(&self, number: usize) -> &[u8] {
        slice(&self.ends, &self.bytes, number as u32)
    }

    /// The tag of a key, set to `tag` when it has none.
    pub(crate) fn tag_or(&mut self, number: usize, tag: usize) -> usize {
        let kept = &mut self.tags[number];
        if *kept == UNTAGGED {
            *kept = tag;
        }
        *kept
    }

    /// How many keys.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_stable() {
        let mut keys = KeyTable::default();
        assert_eq!(keys.intern(b"a"), (0, true));
        assert_eq!(keys.intern(b""), (1, true));
        assert_eq!(keys.intern(b"a"), (0, false));
        assert_eq!(keys.intern(b""), (1, false));
        assert_eq!((keys.get(0), keys.get(1), keys.len()), (&b"a"[..], &b""[..], 2));
    }
}
