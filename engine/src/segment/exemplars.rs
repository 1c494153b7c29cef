//! Exemplars of a segment: a section of its own that names its series by their labels, so that an exemplar needs no
//! sample of its series in the same segment.
//!
//! ```text
//! payload   varint series, per series: varint tenant, varint label bytes shared with the series before, varint label
//!           bytes of its own, these, varint exemplars, per exemplar: zigzag (time - the one before's, from 0),
//!           f64 value, varint label bytes, these
//! ```
//! Series ascend by (tenant, labels) through all blocks, a series' exemplars by time, value, labels; none occurs twice.
//! A series with more than a block takes goes on at the begin of the next, in an entry of its own: so a block has no more
//! than its 64 KiB and the labels of one series and one exemplar, however many segments were merged.
//! Exemplars are few: a question reads the blocks of the segment through, and blocks are compressed as tables are.

use varve_model::{Exemplar, Labels, Matcher, TenantId, TimeRange};

use super::layout::Section;
use super::reader::Segment;
use crate::codec::Malformed;
use crate::index::varint::{Input, put, put_signed};

/// Series in a block at most.
const BLOCK_SERIES: usize = 1024;
/// Bytes of a payload at which its block is closed.
const BLOCK_BYTES: usize = 64 << 10;
/// Bytes of an exemplar beside its labels, at most.
const EXEMPLAR_BYTES: usize = 10 + 8 + 5;
/// Label bytes of one series: bounds what a reader allocates.
const LABEL_BYTES_MAX: usize = 16 << 20;

/// Exemplars of one series, or a part of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) tenant: TenantId,
    pub(crate) labels: Labels,
    /// Ascending, each once.
    pub(crate) exemplars: Vec<Exemplar>,
}

/// A block that is being filled.
#[derive(Default)]
pub(super) struct Rows {
    series: usize,
    bytes: Vec<u8>,
    before: Vec<u8>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.series
    }

    pub(super) fn is_full(&self) -> bool {
        self.series >= BLOCK_SERIES || self.bytes.len() >= BLOCK_BYTES
    }

    /// Adds a series with as many of its exemplars as the block takes, one at least; returns how many.
    pub(super) fn push(&mut self, tenant: TenantId, labels: &Labels, exemplars: &[Exemplar]) -> usize {
        let label_bytes = labels.as_label_bytes();
        let shared = label_bytes.iter().zip(&self.before).take_while(|(a, b)| a == b).count();
        let out = &mut self.bytes;
        put(out, u64::from(tenant.0));
        put(out, shared as u64);
        put(out, (label_bytes.len() - shared) as u64);
        out.extend_from_slice(label_bytes.get(shared..).unwrap_or_default());
        self.before.clear();
        self.before.extend_from_slice(label_bytes);
        let mut bytes = out.len();
        let room = |exemplar: &&Exemplar| {
            let room = bytes < BLOCK_BYTES;
            bytes += exemplar.labels.as_label_bytes().len() + EXEMPLAR_BYTES;
            room
        };
        let count = exemplars.iter().take_while(room).count().max(exemplars.len().min(1));
        put(out, count as u64);
        let mut time = 0i64;
        for exemplar in exemplars.iter().take(count) {
            put_signed(out, exemplar.time.wrapping_sub(time));
            time = exemplar.time;
            out.extend_from_slice(&exemplar.value.to_le_bytes());
            put(out, exemplar.labels.as_label_bytes().len() as u64);
            out.extend_from_slice(exemplar.labels.as_label_bytes());
        }
        self.series += 1;
        count
    }

    /// Appends the payload and begins a new block.
    pub(super) fn drain(&mut self, out: &mut Vec<u8>) {
        put(out, self.series as u64);
        out.append(&mut self.bytes);
        self.before.clear();
        self.series = 0;
    }
}

/// Decodes a block; `each` gets one series after the other.
pub(super) fn decode(payload: &[u8], each: &mut dyn FnMut(Entry) -> Result<(), Malformed>) -> Result<(), Malformed> {
    let mut input = Input::new(payload);
    let mut label_bytes: Vec<u8> = Vec::new();
    for _ in 0..input.count()? {
        let tenant = TenantId(input.u32()?);
        let (shared, own) = (input.u32()? as usize, input.u32()? as usize);
        let own = input.take(own)?;
        if shared > label_bytes.len() || shared + own.len() > LABEL_BYTES_MAX {
            return Err(Malformed("label bytes share more than there is"));
        }
        label_bytes.truncate(shared);
        label_bytes.extend_from_slice(own);
        let labels = labels(&label_bytes)?;
        let count = input.count()?;
        // Each takes ten bytes at least.
        if count > input.len() / 10 {
            return Err(Malformed("count exceeds the bytes that follow"));
        }
        let mut exemplars: Vec<Exemplar> = Vec::with_capacity(count);
        let mut time = 0i64;
        for _ in 0..count {
            time = time.wrapping_add(input.signed()?);
            let mut value = [0; 8];
            value.copy_from_slice(input.take(8)?);
            let bytes = input.u32()? as usize;
            let exemplar =
                Exemplar { labels: self::labels(input.take(bytes)?)?, time, value: f64::from_le_bytes(value) };
            if exemplars.last().is_some_and(|before| before.order(&exemplar).is_ge()) {
                return Err(Malformed("exemplars of a series do not ascend"));
            }
            exemplars.push(exemplar);
        }
        each(Entry { tenant, labels, exemplars })?;
    }
    input.end()
}

fn labels(bytes: &[u8]) -> Result<Labels, Malformed> {
    Labels::from_sorted_label_bytes(bytes).map_err(|_| Malformed("label bytes of an exemplar"))
}

impl Segment {
    /// The exemplars of a tenant in `range` whose series satisfies all matchers of one of the `selectors`; `found` gets
    /// one series after the other, by labels, one with many in parts.
    pub(crate) fn exemplars(
        &self,
        tenant: TenantId,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        found: &mut dyn FnMut(Entry),
    ) -> crate::Result<()> {
        let has = |meta: &super::ExemplarMeta| meta.tenant == tenant && meta.range.overlaps(&range);
        if !self.meta().exemplars.iter().any(has) {
            return Ok(());
        }
        for index in 0..self.directory.blocks(Section::Exemplars).len() {
            let (block, payload) = self.table(Section::Exemplars, index)?;
            let decoded = decode(&payload, &mut |mut entry| {
                if entry.tenant == tenant && selects(selectors, &entry.labels) {
                    entry.exemplars.retain(|exemplar| range.contains(exemplar.time));
                    if !entry.exemplars.is_empty() {
                        found(entry);
                    }
                }
                Ok(())
            });
            decoded.map_err(|Malformed(what)| self.damaged(block.at, what))?;
        }
        Ok(())
    }

    /// The series with exemplars of one block, by its index; `None` behind the last block.
    pub(crate) fn exemplar_block(&self, index: usize) -> crate::Result<Option<Vec<Entry>>> {
        let Some(block) = self.directory.blocks(Section::Exemplars).get(index) else { return Ok(None) };
        let mut entries = Vec::new();
        let decoded = decode(&self.load(*block)?, &mut |entry| {
            entries.push(entry);
            Ok(())
        });
        decoded.map_err(|Malformed(what)| self.damaged(block.at, what))?;
        Ok(Some(entries))
    }
}

/// Whether labels satisfy all matchers of one of the lists.
pub(crate) fn selects(selectors: &[Vec<Matcher>], labels: &Labels) -> bool {
    selectors.iter().any(|matchers| matchers.iter().all(|matcher| matcher.selects(labels)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &mut |_| Ok(()));
        }

        #[test]
        fn entries_come_back(
            series in proptest::collection::btree_map("[ab]{1,3}", proptest::collection::vec((any::<i64>(), any::<u64>(), "[xy]{0,4}"), 0..5), 0..20),
        ) {
            let mut rows = Rows::default();
            let mut expected = Vec::new();
            for (number, (name, exemplars)) in series.iter().enumerate() {
                let labels = Labels::from([("__name__", "m"), ("a", name.as_str())]);
                let exemplar = |(time, bits, trace): &(i64, u64, String)| Exemplar {
                    labels: Labels::from([("trace", trace.as_str())]),
                    time: *time,
                    value: f64::from_bits(*bits),
                };
                let mut exemplars: Vec<Exemplar> = exemplars.iter().map(exemplar).collect();
                exemplars.sort_by(Exemplar::order);
                exemplars.dedup();
                let tenant = TenantId(number as u32 / 7);
                rows.push(tenant, &labels, &exemplars);
                expected.push(Entry { tenant, labels, exemplars });
            }
            let mut payload = Vec::new();
            rows.drain(&mut payload);
            let mut back = Vec::new();
            decode(&payload, &mut |entry| { back.push(entry); Ok(()) }).unwrap();
            prop_assert_eq!(back, expected);
        }
    }
}
