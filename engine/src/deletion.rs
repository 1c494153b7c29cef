//! Deletion: samples of a tenant that match and lie in a range are gone, as far as they were written before it.
//!
//! A deletion is a record in each shard's log, and so has an offset there. What the heads hold of it is removed when it
//! is applied; what segments hold is hidden when they are read, and left out when they are merged.
//!
//! ```text
//! offsets      0 ............ 40 | 41 .......... 90 |
//!              segment, clean 40   head              deletion at 70: hides in the segment (40 <= 70), was removed
//!                                                    from the head; the segment that the head becomes has clean 91
//! ```
//! Invariants:
//! * A segment's `clean` is the offset below which deletions have been applied to it: those at or above it hide.
//! * Until no segment needs it a deletion is in the version, and durable: in the log while replay would meet it, in the
//!   manifest from the flush on that moves replay behind it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use roaring::RoaringBitmap;
use varve_model::{Column, Exemplar, Labels, MatchOp, Matcher, TenantId, TimeRange};

use crate::error::Result;
use crate::record::Malformed;
use crate::record::number::{self, Reader};
use crate::segment::exemplars::selects;
use crate::state::LiveSegment;

/// Version of the record.
const VERSION: u8 = 1;
/// Bytes of a compiled regular expression of a deletion that is read back: it was checked when it was taken.
const REGEX_BYTES_MAX: usize = 64 << 20;

/// What is deleted, as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeletionSpec {
    /// The series: those that satisfy all of them.
    pub matchers: Vec<Matcher>,
    /// The times.
    pub range: TimeRange,
}

impl DeletionSpec {
    /// The payload of its record; the batch says the tenant.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        number::push_signed(out, self.range.min);
        number::push_signed(out, self.range.max);
        number::push(out, self.matchers.len() as u64);
        for matcher in &self.matchers {
            out.push(match matcher.op {
                MatchOp::Equal => 0,
                MatchOp::NotEqual => 1,
                MatchOp::Regex => 2,
                MatchOp::NotRegex => 3,
            });
            number::push_bytes(out, matcher.name.as_bytes());
            number::push_bytes(out, matcher.value.as_bytes());
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> std::result::Result<DeletionSpec, Malformed> {
        if reader.byte()? != VERSION {
            return Err(Malformed("unknown version of a deletion"));
        }
        let range = TimeRange { min: reader.signed()?, max: reader.signed()? };
        let mut matchers = Vec::new();
        for _ in 0..reader.count(3)? {
            let op = match reader.byte()? {
                0 => MatchOp::Equal,
                1 => MatchOp::NotEqual,
                2 => MatchOp::Regex,
                3 => MatchOp::NotRegex,
                _ => return Err(Malformed("unknown operator of a matcher")),
            };
            let (name, value) = (reader.text()?, reader.text()?);
            let matcher = Matcher::new(op, name, value, REGEX_BYTES_MAX);
            matchers.push(matcher.map_err(|_| Malformed("regular expression of a deletion"))?);
        }
        Ok(DeletionSpec { matchers, range })
    }

    /// Decodes a whole record.
    pub fn from_record(payload: &[u8]) -> std::result::Result<DeletionSpec, Malformed> {
        let mut reader = Reader::new(payload);
        let spec = DeletionSpec::decode(&mut reader)?;
        if reader.is_empty() { Ok(spec) } else { Err(Malformed("bytes behind a deletion")) }
    }
}

/// A deletion that some segment may still need.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) partition: u32,
    /// Offset of its record: what was written at lower ones is deleted.
    pub(crate) offset: u64,
    pub(crate) tenant: TenantId,
    pub(crate) spec: DeletionSpec,
    /// The series it names, by segment: found once.
    resolved: Mutex<BTreeMap<u64, Arc<RoaringBitmap>>>,
}

impl Deletion {
    pub(crate) fn new(partition: u32, offset: u64, tenant: TenantId, spec: DeletionSpec) -> Deletion {
        Deletion { partition, offset, tenant, spec, resolved: Mutex::default() }
    }

    /// Whether it may hide something in the segment, by what is known without reading.
    pub(crate) fn concerns(&self, live: &LiveSegment) -> bool {
        let entry = &live.entry;
        let meta = live.segment.meta();
        self.partition == entry.partition
            && self.offset >= entry.clean
            && self.spec.range.overlaps(&entry.range)
            && (meta.tenant(self.tenant).is_some() || meta.exemplars.iter().any(|about| about.tenant == self.tenant))
    }

    fn ids_in(&self, live: &LiveSegment) -> Result<Arc<RoaringBitmap>> {
        let lock = || self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ids) = lock().get(&live.entry.id) {
            return Ok(Arc::clone(ids));
        }
        let ids = Arc::new(live.segment.select_ids(self.tenant, &self.spec.matchers, TimeRange::ALL)?);
        lock().insert(live.entry.id, Arc::clone(&ids));
        Ok(ids)
    }
}

/// What deletions hide in one segment; empty nearly always.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hidden {
    series: Vec<(Arc<RoaringBitmap>, TimeRange)>,
    deletions: Vec<Arc<Deletion>>,
}

impl Hidden {
    /// What the `deletions` (all that are known) hide in a segment.
    pub(crate) fn of(deletions: &[Arc<Deletion>], live: &LiveSegment) -> Result<Hidden> {
        let mut hidden = Hidden::default();
        for deletion in deletions.iter().filter(|deletion| deletion.concerns(live)) {
            let ids = deletion.ids_in(live)?;
            if !ids.is_empty() {
                hidden.series.push((ids, deletion.spec.range));
            }
            if live.segment.meta().exemplars.iter().any(|about| about.tenant == deletion.tenant) {
                hidden.deletions.push(Arc::clone(deletion));
            }
        }
        Ok(hidden)
    }

    /// Whether it hides nothing.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty() && self.deletions.is_empty()
    }

    /// Whether all of `range` is hidden of a series.
    pub(crate) fn hides(&self, id: u32, range: TimeRange) -> bool {
        let mut own: Vec<TimeRange> =
            self.series.iter().filter(|(ids, _)| ids.contains(id)).map(|(_, range)| *range).collect();
        own.sort_by_key(|range| range.min);
        let mut next = range.min;
        for hidden in own {
            if hidden.min > next {
                return false;
            }
            if hidden.max >= range.max {
                return true;
            }
            next = next.max(hidden.max.saturating_add(1));
        }
        next > range.max
    }

    /// Removes from a series' samples what is hidden.
    pub(crate) fn cut(&self, id: u32, column: &mut Column) {
        for (ids, range) in &self.series {
            if ids.contains(id) {
                column.remove(*range);
            }
        }
    }

    /// Removes from a series' exemplars what is hidden.
    pub(crate) fn cut_exemplars(&self, tenant: TenantId, labels: &Labels, exemplars: &mut Vec<Exemplar>) {
        for deletion in self.deletions.iter().filter(|deletion| deletion.tenant == tenant) {
            if selects(std::slice::from_ref(&deletion.spec.matchers), labels) {
                exemplars.retain(|exemplar| !deletion.spec.range.contains(exemplar.time));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> DeletionSpec {
        let matcher = |op, name, value| Matcher::new(op, name, value, 1 << 20).unwrap();
        DeletionSpec {
            matchers: vec![matcher(MatchOp::Equal, "__name__", "up"), matcher(MatchOp::NotRegex, "job", "a|b.*")],
            range: TimeRange { min: i64::MIN, max: 1_700_000_000_000 },
        }
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = Vec::new();
        example().encode(&mut bytes);
        assert_eq!(crate::codec::hex(&bytes), crate::record::golden("deletion record"));
        assert_eq!(DeletionSpec::from_record(&bytes), Ok(example()));
    }

    #[test]
    fn ranges_hide_together() {
        let range = |min, max| TimeRange { min, max };
        let ids = Arc::new(RoaringBitmap::from([3]));
        let of = |ranges: &[TimeRange]| Hidden {
            series: ranges.iter().map(|range| (Arc::clone(&ids), *range)).collect(),
            deletions: Vec::new(),
        };
        let check = |ranges: &[TimeRange], asked: TimeRange, expected: bool| {
            assert_eq!(of(ranges).hides(3, asked), expected, "{ranges:?} {asked:?}");
            assert!(!of(ranges).hides(4, asked));
        };
        check(&[range(0, 9)], range(0, 9), true);
        check(&[range(0, 8)], range(0, 9), false);
        check(&[range(5, 9), range(0, 4)], range(0, 9), true);
        check(&[range(6, 9), range(0, 4)], range(0, 9), false);
        check(&[range(0, 9), range(2, 3)], range(1, 9), true);
        check(&[TimeRange::ALL], TimeRange::ALL, true);
        check(&[range(i64::MIN, 0), range(1, i64::MAX)], TimeRange::ALL, true);
        check(&[], range(0, 0), false);
    }

    proptest! {
        #[test]
        fn damaged_records_never_panic(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            example().encode(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = DeletionSpec::from_record(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = DeletionSpec::from_record(&bytes);
        }
    }
}
