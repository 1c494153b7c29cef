//! Texts: a sorted list of distinct strings in one allocation: the values of a label, or the names of labels.
//!
//! Segments of one shard mostly hold the same series, so the lists of many segments are often one and the same;
//! [`Texts::union`] sees that by their digests and merges only those that differ.
//!
//! Invariants: ascending by bytes, each text once; `ends` ascend and the last is the length of `text`.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

/// A sorted list of distinct strings.
#[derive(Clone, Debug)]
pub struct Texts {
    text: Box<str>,
    ends: Box<[u32]>,
    digest: u128,
}

impl Default for Texts {
    fn default() -> Texts {
        Texts::from_sorted(std::iter::empty())
    }
}

impl Texts {
    /// From texts that ascend; a text equal to the one before is left out. Texts beyond 4 GiB in all are left out.
    pub(crate) fn from_sorted<'a>(sorted: impl Iterator<Item = &'a str>) -> Texts {
        let (mut text, mut ends) = (String::new(), Vec::new());
        let mut before: Option<usize> = None;
        for one in sorted {
            if before.and_then(|begin| text.get(begin..)) == Some(one) {
                continue;
            }
            before = Some(text.len());
            let Ok(end) = u32::try_from(text.len() + one.len()) else { break };
            text.push_str(one);
            ends.push(end);
        }
        // The ends are part of what is compared: "a","bc" and "ab","c" have the same text.
        let mut ends_bytes = Vec::with_capacity(4 * ends.len() + 16);
        ends.iter().for_each(|end| ends_bytes.extend_from_slice(&end.to_le_bytes()));
        ends_bytes.extend_from_slice(&xxh3_128(text.as_bytes()).to_le_bytes());
        let digest = xxh3_128(&ends_bytes);
        Texts { text: text.into(), ends: ends.into(), digest }
    }

    /// From texts in any order.
    pub(crate) fn from_unsorted(mut texts: Vec<&str>) -> Texts {
        // Stable: finds the runs of lists that were put one behind the other and merges them.
        texts.sort();
        Texts::from_sorted(texts.into_iter())
    }

    /// All texts of all lists. Lists that are equal to an earlier one cost a comparison of digests only.
    pub fn union(mut lists: Vec<Arc<Texts>>) -> Arc<Texts> {
        lists.sort_by_key(|list| list.digest);
        lists.dedup_by_key(|list| list.digest);
        match lists.as_slice() {
            [] => Arc::default(),
            [one] => Arc::clone(one),
            many => Arc::new(Texts::from_unsorted(many.iter().flat_map(|list| list.iter()).collect())),
        }
    }

    /// The texts, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut begin = 0;
        self.ends.iter().map(move |&end| {
            let one = self.text.get(begin..end as usize).unwrap_or_default();
            begin = end as usize;
            one
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.text.len() + 4 * self.ends.len()
    }
}

impl PartialEq for Texts {
    fn eq(&self, other: &Texts) -> bool {
        self.text == other.text && self.ends == other.ends
    }
}

impl<const N: usize> PartialEq<[&str; N]> for Texts {
    fn eq(&self, other: &[&str; N]) -> bool {
        self.iter().eq(other.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn lists_of_the_same_letters_are_not_the_same() {
        let (a, b) = (Texts::from_unsorted(vec!["a", "bc"]), Texts::from_unsorted(vec!["ab", "c"]));
        assert_ne!(a, b);
        assert_eq!(*Texts::union(vec![Arc::new(a), Arc::new(b)]), ["a", "ab", "bc", "c"]);
        assert_eq!(*Texts::union(vec![Arc::default(), Arc::new(Texts::from_unsorted(vec![""]))]), [""]);
    }

    proptest! {
        #[test]
        fn a_union_is_that_of_sets(lists in proptest::collection::vec(proptest::collection::vec("[a-c]{0,3}", 0..8), 0..5)) {
            let texts = lists.iter().map(|list| Arc::new(Texts::from_unsorted(list.iter().map(String::as_str).collect())));
            let union = Texts::union(texts.collect());
            let expected: BTreeSet<&str> = lists.iter().flatten().map(String::as_str).collect();
            prop_assert_eq!(union.len(), expected.len());
            prop_assert!(union.iter().eq(expected));
        }
    }
}
