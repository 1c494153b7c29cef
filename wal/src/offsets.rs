//! Committed offsets of consumer groups, kept in the topic `_offsets`.
//!
//! One idea: a log of changes that begins anew with a snapshot. The first batch of every log file holds all positions,
//! so that once it is durable the files before it may go; each commit is one more batch and one sync.
//!
//! ```text
//! payload := (u16 bytes, group, u16 bytes, topic, u32 partition, u64 offset)*      kind 1: all positions, 2: some
//! ```
//!
//! This struct's lock is held during I/O: commits of all groups stand in one line, in one file.

use std::collections::BTreeMap;

use crate::batch::RecordHeader;
use crate::error::Result;
use crate::file::FileId;
use crate::reader::Cursor;
use crate::topic::{GroupName, Offset, PartitionId, TopicName};
use crate::wire;
use crate::writer::PartitionWriter;

/// The topic that keeps the positions.
pub(crate) const OFFSETS_TOPIC: &str = "_offsets";
/// Kind of a batch with all positions.
pub(crate) const KIND_SNAPSHOT: u8 = 1;
/// Kind of a batch with some positions.
pub(crate) const KIND_COMMIT: u8 = 2;

type Key = (GroupName, TopicName, PartitionId);

/// All positions, and the writer that makes new ones durable.
#[derive(Default, Debug)]
pub(crate) struct Offsets {
    committed: BTreeMap<Key, u64>,
    writer: Option<PartitionWriter>,
    /// The log file that holds a durable snapshot.
    file: Option<FileId>,
}

fn encode<'a>(entries: impl Iterator<Item = (&'a GroupName, &'a TopicName, PartitionId, u64)>) -> (Vec<u8>, u32) {
    let (mut bytes, mut records) = (Vec::new(), 0);
    for (group, topic, partition, offset) in entries {
        for name in [group.as_str(), topic.as_str()] {
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes.extend_from_slice(&partition.0.to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        records += 1;
    }
    (bytes, records)
}

/// Reads positions; `None` for anything that was not written so.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Vec<(GroupName, TopicName, PartitionId, u64)>> {
    fn name<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
        let len = usize::from(wire::u16_at(bytes, 0)?);
        let name = std::str::from_utf8(bytes.get(2..2 + len)?).ok()?;
        *bytes = bytes.get(2 + len..)?;
        Some(name)
    }
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let group = GroupName::new(name(&mut bytes)?).ok()?;
        let topic = TopicName::new(name(&mut bytes)?).ok()?;
        let (partition, offset) = (PartitionId(wire::u32_at(bytes, 0)?), wire::u64_at(bytes, 4)?);
        bytes = bytes.get(12..)?;
        entries.push((group, topic, partition, offset));
    }
    Some(entries)
}

impl Offsets {
    pub(crate) fn is_ready(&self) -> bool {
        self.writer.is_some()
    }

    pub(crate) fn ready(&mut self, writer: PartitionWriter) {
        self.writer = Some(writer);
    }

    /// Reads all positions from the topic.
    pub(crate) fn load(&mut self, cursor: &mut Cursor) -> Result<()> {
        while let Some(batch) = cursor.next()? {
            let Some(entries) = decode(batch.payload) else { continue };
            if batch.header.kind == KIND_SNAPSHOT {
                self.committed.clear();
            }
            for (group, topic, partition, offset) in entries {
                self.committed.insert((group, topic, partition), offset);
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, group: &GroupName, topic: &TopicName, partition: PartitionId) -> Option<Offset> {
        self.committed.get(&(group.clone(), topic.clone(), partition)).copied().map(Offset)
    }

    pub(crate) fn all(&self) -> Vec<(GroupName, TopicName, PartitionId, Offset)> {
        let entry = |((group, topic, partition), offset): (&Key, &u64)| {
            (group.clone(), topic.clone(), *partition, Offset(*offset))
        };
        self.committed.iter().map(entry).collect()
    }

    /// Marks the last commit as durable.
    pub(crate) fn idle(&mut self) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), PartitionWriter::idle)
    }

    /// Makes positions durable. Tells the offset of a new snapshot, below which the topic is no longer needed.
    pub(crate) fn commit(
        &mut self,
        group: &GroupName,
        positions: &[(TopicName, PartitionId, Offset)],
    ) -> Result<Option<Offset>> {
        let Some(writer) = &mut self.writer else { unreachable!("ready before the first commit") };
        if positions.is_empty() {
            return Ok(None);
        }
        let (commit, commits) = encode(positions.iter().map(|(topic, partition, at)| (group, topic, *partition, at.0)));
        let all = self.committed.iter().map(|((group, topic, partition), at)| (group, topic, *partition, *at));
        let all_bytes: usize = self.committed.keys().map(|(g, t, _)| g.as_str().len() + t.as_str().len() + 16).sum();
        // One place for both batches, so that a snapshot is the first of its file.
        let file = writer.prepare(commit.len() + all_bytes + 128)?;
        let mut snapshot = None;
        if self.file != Some(file) {
            let (bytes, records) = encode(all);
            if records > 0 {
                snapshot = Some(writer.append(&RecordHeader { kind: KIND_SNAPSHOT, records, ..header() }, &bytes)?);
            }
        }
        writer.append(&RecordHeader { kind: KIND_COMMIT, records: commits, ..header() }, &commit)?;
        writer.sync()?;
        self.file = Some(file);
        for (topic, partition, offset) in positions {
            self.committed.insert((group.clone(), topic.clone(), *partition), offset.0);
        }
        Ok(snapshot)
    }
}

fn header() -> RecordHeader {
    RecordHeader::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_cuts_are_refused() {
        let (group, topic) = (GroupName::new("g").unwrap(), TopicName::new("topic").unwrap());
        let (bytes, records) =
            encode([(&group, &topic, PartitionId(2), 9), (&group, &topic, PartitionId(3), 7)].into_iter());
        assert_eq!(records, 2);
        assert_eq!(decode(&bytes).unwrap()[1], (group, topic, PartitionId(3), 7));
        assert!((1..bytes.len()).all(|len| len == bytes.len() / 2 || decode(&bytes[..len]).is_none()));
    }
}
