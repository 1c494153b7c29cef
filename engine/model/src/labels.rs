//! Label sets: sorted name/value pairs, unique names, no empty value; and the *label bytes* they are stored as.
//!
//! ```text
//! label bytes := label*
//! label       := 0x0A varint(body bytes) body          one field `labels` of remote write's TimeSeries
//! body        := 0x0A varint(name bytes) name 0x12 varint(value bytes) value
//! ```
//! This is what the most frequent sender puts on the wire, so a write is hashed and looked up without a copy; every
//! other producer (and [`Labels`] itself) writes the same form with [`push_label`]. Varints are minimal.
//!
//! [`SeriesHash`] is a sum over labels, so it does not depend on their order: the bytes of a request and the sorted
//! [`Labels`] of the series hash alike. 128 bits wide: no accident makes two series collide, and whoever builds a
//! collision on purpose merges series of his own tenant only.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// Order-independent 128-bit hash of a label set; equal label sets hash alike on every machine and version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SeriesHash(pub u128);

impl SeriesHash {
    /// The hash of no labels; add each label with [`SeriesHash::add_body`].
    pub const EMPTY: SeriesHash = SeriesHash(0);

    /// Adds the label whose `body` (see the module) this is. Order does not matter.
    #[inline]
    pub fn add_body(&mut self, body: &[u8]) {
        self.0 = self.0.wrapping_add(xxh3_128(body));
    }

    /// The hash of well-formed label bytes; `None` when they are malformed. Labels with empty values must have been
    /// left out by the writer of the bytes.
    pub fn of(label_bytes: &[u8]) -> Option<SeriesHash> {
        let mut hash = SeriesHash::EMPTY;
        let mut rest = label_bytes;
        while !rest.is_empty() {
            let (body, after) = split_label(rest)?;
            hash.add_body(body);
            rest = after;
        }
        Some(hash)
    }

    /// The partition of `partitions` that owns the series. It is data: the number never changes for a directory.
    #[inline]
    pub fn partition(self, partitions: u32) -> u32 {
        // The high half, so that tables which use the low half stay well filled.
        let high = (self.0 >> 64) as u64;
        ((u128::from(high) * u128::from(partitions)) >> 64) as u32
    }

    /// The low half, for hash tables.
    #[inline]
    pub fn low(self) -> u64 {
        self.0 as u64
    }
}

/// Reads a minimal varint of at most five bytes.
#[inline]
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    // Nearly every length is below 128; the loop alone costs a third more for a whole label.
    if let [byte @ 0..0x80, rest @ ..] = bytes {
        return Some((usize::from(*byte), rest));
    }
    long_varint(bytes)
}

fn long_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (i, &b) in bytes.iter().take(5).enumerate() {
        value |= u64::from(b & 0x7f) << (7 * i);
        if b < 0x80 {
            if b == 0 && i > 0 {
                return None;
            }
            return Some((usize::try_from(value).ok()?, bytes.get(i + 1..)?));
        }
    }
    None
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_bytes(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

/// Splits the first label's body off label bytes; `None` when malformed.
#[inline]
pub fn split_label(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&0x0a, rest) = bytes.split_first()? else { return None };
    let (len, rest) = varint(rest)?;
    rest.split_at_checked(len)
}

/// Splits a label's body into name and value; `None` when it is not in the one form of the module's head.
#[inline]
pub fn split_body(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&0x0a, rest) = body.split_first()? else { return None };
    let (len, rest) = varint(rest)?;
    let (name, rest) = rest.split_at_checked(len)?;
    let (&0x12, rest) = rest.split_first()? else { return None };
    let (len, rest) = varint(rest)?;
    if rest.len() == len { Some((name, rest)) } else { None }
}

/// Appends one label to label bytes.
pub fn push_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let body = 2 + varint_bytes(name.len()) + name.len() + varint_bytes(value.len()) + value.len();
    out.push(0x0a);
    push_varint(out, body);
    out.push(0x0a);
    push_varint(out, name.len());
    out.extend_from_slice(name);
    out.push(0x12);
    push_varint(out, value.len());
    out.extend_from_slice(value);
}

/// Labels sorted by name, each name once, no empty value, all UTF-8. One allocation, shared by clones.
/// Built by [`LabelsBuilder`] or [`Labels::from_label_bytes`] only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

impl Default for Labels {
    fn default() -> Labels {
        Labels(Arc::from(&[][..]))
    }
}

/// What is wrong with label bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LabelsError {
    /// Not in the form of label bytes.
    Malformed,
    /// A name or value is not UTF-8.
    NotUtf8,
    /// A name is empty.
    EmptyName,
    /// A name occurs twice.
    DuplicateName,
}

impl Labels {
    /// Sorts and checks label bytes in any order. Labels with empty values are dropped, as Prometheus does.
    pub fn from_label_bytes(label_bytes: &[u8]) -> Result<Labels, LabelsError> {
        let mut builder = LabelsBuilder::default();
        let mut rest = label_bytes;
        while !rest.is_empty() {
            let (body, after) = split_label(rest).ok_or(LabelsError::Malformed)?;
            let (name, value) = split_body(body).ok_or(LabelsError::Malformed)?;
            let name = std::str::from_utf8(name).map_err(|_| LabelsError::NotUtf8)?;
            let value = std::str::from_utf8(value).map_err(|_| LabelsError::NotUtf8)?;
            builder.push(name, value);
            rest = after;
        }
        builder.build()
    }

    /// Takes label bytes that must be canonical already: sorted, unique, no empty name or value, UTF-8. Checked in one
    /// pass with no allocation but the result's, so the way to read back what [`Labels::as_label_bytes`] gave.
    pub fn from_sorted_label_bytes(label_bytes: &[u8]) -> Result<Labels, LabelsError> {
        let mut rest = label_bytes;
        let mut before: &[u8] = &[];
        let ascii = label_bytes.is_ascii();
        while !rest.is_empty() {
            let (body, after) = split_label(rest).ok_or(LabelsError::Malformed)?;
            let (name, value) = split_body(body).ok_or(LabelsError::Malformed)?;
            rest = after;
            if name.is_empty() {
                return Err(LabelsError::EmptyName);
            }
            match before.cmp(name) {
                Ordering::Less if !value.is_empty() => {}
                Ordering::Equal => return Err(LabelsError::DuplicateName),
                Ordering::Less | Ordering::Greater => return Err(LabelsError::Malformed),
            }
            if !ascii && (std::str::from_utf8(name).is_err() || std::str::from_utf8(value).is_err()) {
                return Err(LabelsError::NotUtf8);
            }
            before = name;
        }
        Ok(Labels(label_bytes.into()))
    }

    /// The canonical label bytes: sorted, unique.
    pub fn as_label_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The hash of the set.
    pub fn hash(&self) -> SeriesHash {
        self.bodies().fold(SeriesHash::EMPTY, |mut hash, body| {
            hash.add_body(body);
            hash
        })
    }

    fn bodies(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (body, after) = split_label(rest)?;
            rest = after;
            Some(body)
        })
    }

    /// Names and values in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.bodies().filter_map(split_body).map(|(name, value)| {
            // Checked when built; an empty string stands for what cannot happen.
            (std::str::from_utf8(name).unwrap_or_default(), std::str::from_utf8(value).unwrap_or_default())
        })
    }

    /// The value of a label; `None` when the set does not have it. O(labels).
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.bodies().filter_map(split_body).find(|(n, _)| *n == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }

    /// The metric name, or the empty string.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or_default()
    }

    /// Number of labels. O(labels).
    pub fn len(&self) -> usize {
        self.bodies().count()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy without some labels.
    pub fn without(&self, drop: &dyn Fn(&str) -> bool) -> Labels {
        let mut out = Vec::with_capacity(self.0.len());
        for (name, value) in self.iter().filter(|(name, _)| !drop(name)) {
            push_label(&mut out, name.as_bytes(), value.as_bytes());
        }
        Labels(out.into())
    }

    /// A builder that holds these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        let mut builder = LabelsBuilder::default();
        for (name, value) in self.iter() {
            builder.push(name, value);
        }
        builder
    }
}

/// Order of Prometheus: by name, then value, label by label; a prefix comes first. Order of UTF-8 is order of bytes.
impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        let (mut ours, mut theirs) = (self.bodies(), other.bodies());
        loop {
            match (ours.next(), theirs.next()) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => return split_body(a).cmp(&split_body(b)),
                (a, b) => return a.is_some().cmp(&b.is_some()),
            }
        }
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// `{a="b", c="d"}` as Prometheus prints label sets in error texts.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

/// Collects labels in any order; [`LabelsBuilder::build`] sorts and checks them.
#[derive(Clone, Default, Debug)]
pub struct LabelsBuilder {
    labels: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Adds a label as it came; duplicates are an error of `build`.
    pub fn push(&mut self, name: &str, value: &str) {
        self.labels.push((name.to_owned(), value.to_owned()));
    }

    /// Sets a label, replacing any of that name; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        if !value.is_empty() {
            self.push(name, value);
        }
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) {
        self.labels.retain(|(n, _)| n != name);
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Sorts, drops labels with empty values and checks that names are unique and not empty.
    pub fn build(mut self) -> Result<Labels, LabelsError> {
        self.labels.sort_unstable();
        if self.labels.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
            return Err(LabelsError::DuplicateName);
        }
        let mut out = Vec::new();
        for (name, value) in self.labels.iter().filter(|(_, value)| !value.is_empty()) {
            if name.is_empty() {
                return Err(LabelsError::EmptyName);
            }
            push_label(&mut out, name.as_bytes(), value.as_bytes());
        }
        Ok(Labels(out.into()))
    }
}

/// Labels from pairs; panics on duplicates, so for literals and tests only.
impl<const N: usize> From<[(&str, &str); N]> for Labels {
    fn from(pairs: [(&str, &str); N]) -> Labels {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.push(name, value);
        }
        match builder.build() {
            Ok(labels) => labels,
            Err(error) => panic!("labels {pairs:?}: {error:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sorts_drops_empty_values_and_refuses_duplicates() {
        let labels = Labels::from([("b", "2"), ("a", "1"), ("empty", "")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(labels.get("b"), Some("2"));
        assert_eq!(labels.get("c"), None);
        let mut builder = LabelsBuilder::default();
        builder.push("a", "1");
        builder.push("a", "2");
        assert_eq!(builder.build(), Err(LabelsError::DuplicateName));
    }

    proptest! {
        #[test]
        fn order_does_not_change_the_hash(pairs in proptest::collection::btree_map("[a-z]{1,8}", "[a-z]{1,200}", 0..12)) {
            let mut forward = Vec::new();
            let mut backward = Vec::new();
            for (name, value) in &pairs {
                push_label(&mut forward, name.as_bytes(), value.as_bytes());
            }
            for (name, value) in pairs.iter().rev() {
                push_label(&mut backward, name.as_bytes(), value.as_bytes());
            }
            prop_assert_eq!(SeriesHash::of(&forward), SeriesHash::of(&backward));
            let labels = Labels::from_label_bytes(&backward).unwrap();
            prop_assert_eq!(labels.as_label_bytes(), &forward[..]);
            let sorted = Labels::from_sorted_label_bytes(&forward);
            prop_assert_eq!(sorted.as_ref(), Ok(&labels));
            prop_assert_eq!(Labels::from_sorted_label_bytes(&backward).is_ok(), pairs.len() < 2);
            prop_assert_eq!(Some(labels.hash()), SeriesHash::of(&forward));
        }

        #[test]
        fn order_is_that_of_names_and_values(
            a in proptest::collection::btree_map("[ab\u{e9}]{1,2}", "[xy\u{ff}]{1,2}", 0..4),
            b in proptest::collection::btree_map("[ab\u{e9}]{1,2}", "[xy\u{ff}]{1,2}", 0..4),
        ) {
            let labels = |pairs: &std::collections::BTreeMap<String, String>| {
                let mut builder = LabelsBuilder::default();
                for (name, value) in pairs {
                    builder.push(name, value);
                }
                builder.build().unwrap()
            };
            prop_assert_eq!(labels(&a).cmp(&labels(&b)), a.iter().cmp(b.iter()));
            let of_a = labels(&a);
            for name in b.keys() {
                prop_assert_eq!(of_a.get(name), a.get(name).map(String::as_str));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SeriesHash::of(&bytes);
            let _ = Labels::from_label_bytes(&bytes);
            if let Ok(labels) = Labels::from_sorted_label_bytes(&bytes) {
                prop_assert_eq!(Labels::from_label_bytes(&bytes), Ok(labels));
            }
        }
    }
}
