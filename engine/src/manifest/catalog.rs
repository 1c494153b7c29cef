//! Catalog: the sum of all manifest edits.

use std::collections::BTreeMap;

use varve_model::{TenantId, TenantName};

use super::families::text_bytes;
use super::{Edit, Families, SegmentEntry};
use crate::deletion::DeletionSpec;

/// Edits in one part: keeps a record far below the size of a log file.
const PART_EDITS: usize = 2000;
/// Bytes of text in one part, unless one edit has more.
const PART_BYTES: usize = 256 << 10;

/// Divides edits, which need not take effect together, into records that the log takes.
pub(crate) fn parts(edits: impl IntoIterator<Item = Edit>) -> Vec<Vec<Edit>> {
    let mut parts: Vec<Vec<Edit>> = Vec::new();
    let mut bytes = 0;
    for edit in edits {
        let text = match &edit {
            Edit::Metadata { metadata, .. } => text_bytes(metadata),
            Edit::Delete { spec, .. } => spec.matchers.iter().map(|m| m.name.len() + m.value.len()).sum(),
            _ => 0,
        };
        match parts.last_mut() {
            Some(part) if part.len() < PART_EDITS && bytes + text <= PART_BYTES => {
                part.push(edit);
                bytes += text;
            }
            _ => {
                parts.push(vec![edit]);
                bytes = text;
            }
        }
    }
    parts
}

/// What the manifest says.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Catalog {
    /// Number of partitions; 0 before the directory was made.
    pub(crate) partitions: u32,
    pub(crate) tenants: BTreeMap<TenantId, TenantName>,
    pub(crate) metadata: BTreeMap<TenantId, Families>,
    /// Live segments by id.
    pub(crate) segments: BTreeMap<u64, SegmentEntry>,
    /// Per partition the offset below which everything is in segments.
    pub(crate) applied: BTreeMap<u32, u64>,
    /// Deletions that segments need and replay does not meet, by partition and offset.
    pub(crate) deletions: BTreeMap<(u32, u64), (TenantId, DeletionSpec)>,
}

impl Catalog {
    /// Takes in an edit; parts of snapshots are [`Replay`]'s business.
    pub(crate) fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Snapshot { .. } => {}
            Edit::Directory { partitions } => self.partitions = *partitions,
            Edit::Tenant { id, name } => {
                self.tenants.insert(*id, name.clone());
            }
            Edit::Metadata { tenant, metadata } => {
                self.metadata.entry(*tenant).or_default().put(metadata.clone());
            }
            Edit::Add(segment) => {
                self.segments.insert(segment.id, segment.clone());
            }
            Edit::Remove { id } => {
                self.segments.remove(id);
            }
            Edit::Applied { partition, offset } => {
                self.applied.insert(*partition, *offset);
            }
            Edit::Delete { partition, offset, tenant, spec } => {
                self.deletions.insert((*partition, *offset), (*tenant, spec.clone()));
            }
            Edit::Forget { partition, offset } => {
                self.deletions.remove(&(*partition, *offset));
            }
        }
    }

    /// The catalog as records: each a list of edits, the first of which is [`Edit::Snapshot`].
    pub(crate) fn snapshot(&self) -> Vec<Vec<Edit>> {
        let mut edits = Vec::new();
        if self.partitions > 0 {
            edits.push(Edit::Directory { partitions: self.partitions });
        }
        edits.extend(self.tenants.iter().map(|(id, name)| Edit::Tenant { id: *id, name: name.clone() }));
        edits.extend(self.segments.values().cloned().map(Edit::Add));
        edits.extend(
            self.applied.iter().map(|(partition, offset)| Edit::Applied { partition: *partition, offset: *offset }),
        );
        edits.extend(self.deletions.iter().map(|((partition, offset), (tenant, spec))| Edit::Delete {
            partition: *partition,
            offset: *offset,
            tenant: *tenant,
            spec: spec.clone(),
        }));
        edits.extend(self.metadata_edits());
        let mut parts = parts(edits);
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let count = parts.len();
        for (number, part) in parts.iter_mut().enumerate() {
            part.insert(0, Edit::Snapshot { part: number as u32, last: number + 1 == count });
        }
        parts
    }

    /// The edits that say all metadata.
    pub(crate) fn metadata_edits(&self) -> impl Iterator<Item = Edit> {
        self.metadata.iter().flat_map(|(tenant, families)| {
            families.iter().map(|metadata| Edit::Metadata { tenant: *tenant, metadata: metadata.clone() })
        })
    }
}

/// Rebuilds a catalog from records in their order. A snapshot that is not complete has no effect: what stands before it
/// and the edits behind it say the same.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    catalog: Catalog,
    building: Option<Building>,
    /// Offset of the last complete snapshot.
    snapshot_at: Option<u64>,
}

/// The first parts of a snapshot.
#[derive(Debug, Default)]
struct Building {
    catalog: Catalog,
    /// How many.
    parts: u32,
    /// Offset of the first.
    at: u64,
}

impl Replay {
    /// Takes in the record at an offset.
    pub(crate) fn apply(&mut self, offset: u64, record: &[Edit]) {
        let Some(Edit::Snapshot { part, last }) = record.first() else {
            // An edit between the parts of a snapshot cannot be: the snapshot was given up, or a part is damaged.
            self.building = None;
            record.iter().for_each(|edit| self.catalog.apply(edit));
            return;
        };
        let mut building = match self.building.take() {
            _ if *part == 0 => Building { at: offset, ..Building::default() },
            Some(building) if *part == building.parts => building,
            _ => return,
        };
        record.iter().for_each(|edit| building.catalog.apply(edit));
        building.parts += 1;
        if *last {
            self.catalog = building.catalog;
            self.snapshot_at = Some(building.at);
        } else {
            self.building = Some(building);
        }
    }

    /// The catalog, and the offset of the last complete snapshot.
    pub(crate) fn finish(self) -> (Catalog, Option<u64>) {
        (self.catalog, self.snapshot_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::edit;
    use varve_model::write::Metadata;
    use varve_model::{MatchOp, Matcher, TimeRange};

    fn big() -> Catalog {
        let mut catalog = Catalog::default();
        catalog.apply(&Edit::Directory { partitions: 3 });
        for id in 0..5000u64 {
            let range = TimeRange { min: id as i64, max: id as i64 + 5 };
            let (first, end) = (id * 10, id * 10 + 10);
            let entry = SegmentEntry {
                id,
                partition: 1,
                level: 0,
                range,
                first,
                end,
                series: 1,
                samples: 10,
                bytes: 100,
                clean: end,
            };
            catalog.apply(&Edit::Add(entry));
            let metadata = Metadata { family: format!("f{id}"), help: "h".repeat(100), ..Metadata::default() };
            catalog.apply(&Edit::Metadata { tenant: TenantId(1), metadata });
        }
        catalog.apply(&Edit::Applied { partition: 1, offset: 50_000 });
        catalog
    }

    #[test]
    fn a_snapshot_in_parts_replaces_all_that_was_before() {
        let catalog = big();
        let parts = catalog.snapshot();
        assert!(parts.len() > 2);
        let mut replay = Replay::default();
        replay.apply(0, &[Edit::Applied { partition: 2, offset: 9 }, Edit::Remove { id: 5 }]);
        (2..).zip(&parts).for_each(|(offset, part)| replay.apply(offset, part));
        assert_eq!(replay.finish(), (catalog, Some(2)));
    }

    #[test]
    fn parts_hold_all_edits_in_order_and_few_bytes_each() {
        let delete = |offset: u64| {
            let value = "x".repeat(100_000);
            let matchers = vec![Matcher::new(MatchOp::Equal, "job", &value, 1 << 20).unwrap()];
            let spec = DeletionSpec { matchers, range: TimeRange::ALL };
            Edit::Delete { partition: 0, offset, tenant: TenantId(1), spec }
        };
        let edits: Vec<Edit> = (0..20).map(delete).chain((0..5000).map(|id| Edit::Remove { id })).collect();
        let parts = parts(edits.clone());
        assert!(parts.iter().all(|part| edit::encode(part).len() < 2 * PART_BYTES));
        assert!(parts.len() < 20);
        assert_eq!(parts.concat(), edits);
    }

    #[test]
    fn an_unfinished_snapshot_has_no_effect() {
        let parts = big().snapshot();
        let mut replay = Replay::default();
        let edit = Edit::Applied { partition: 2, offset: 9 };
        replay.apply(0, std::slice::from_ref(&edit));
        (1..).zip(&parts[..parts.len() - 1]).for_each(|(offset, part)| replay.apply(offset, part));
        let mut expected = Catalog::default();
        expected.apply(&edit);
        assert_eq!(replay.finish(), (expected, None));
    }

    #[test]
    fn what_stands_around_a_damaged_snapshot_makes_up_for_it() {
        let mut catalog = big();
        let (before, again) = (catalog.snapshot(), catalog.snapshot());
        let edit = Edit::Remove { id: 7 };
        catalog.apply(&edit);
        for lost in 0..again.len() {
            let mut replay = Replay::default();
            (0..).zip(&before).for_each(|(offset, part)| replay.apply(offset, part));
            let left = again.iter().enumerate().filter(|(part, _)| *part != lost);
            left.for_each(|(_, part)| replay.apply(1000, part));
            replay.apply(2000, std::slice::from_ref(&edit));
            assert_eq!(replay.finish(), (catalog.clone(), Some(0)), "part {lost}");
        }
    }
}
