//! KeyTable: dense numbers for byte strings: group keys, match signatures, label sets. One arena, no allocation a key.

use hashbrown::HashTable;
use varve_model::Labels;
use xxhash_rust::xxh3::xxh3_64;

/// Numbers byte strings in the order in which they come.
#[derive(Default)]
pub(crate) struct KeyTable {
    table: HashTable<(u64, u32)>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

/// Bytes that labels take in memory of their own, with what the allocator adds.
pub(crate) fn label_bytes(labels: &Labels) -> u64 {
    labels.as_label_bytes().len() as u64 + 32
}

/// Rows by their labels, which stay where they are: sixteen bytes a row.
#[derive(Default)]
pub(crate) struct RowTable(HashTable<(u64, u32)>);

impl RowTable {
    /// The first of the rows asked for whose labels are those of `row`; `row` itself when it is the first.
    pub(crate) fn first(&mut self, all: &[Labels], row: usize) -> usize {
        let key = all[row].as_label_bytes();
        let hash = xxh3_64(key);
        let equal = |(h, other): &(u64, u32)| *h == hash && all[*other as usize].as_label_bytes() == key;
        if let Some((_, first)) = self.0.find(hash, equal) {
            return *first as usize;
        }
        self.0.insert_unique(hash, (hash, row as u32), |(hash, _)| *hash);
        row
    }
}

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
