//! Store: the manifest in the log.
//!
//! * A commit is one append and one sync; its edits count when both have succeeded.
//! * When the writer has begun a new log file (after opening, a roll, or a failed write) the whole catalog goes first.
//!   So an edit of unknown fate is void once anything later is durable, and older files may go.
//! * They go one snapshot late: where the newest is damaged, the one before and all edits since make up for it.

use varve_model::Millis;
use varve_wal::{FileId, From, Log, Offset, PartitionId, PartitionWriter, RecordHeader, TopicName, TopicSettings};

use super::catalog::Replay;
use super::{Catalog, Edit, edit};
use crate::error::{Error, Result};
use crate::record::KIND_MANIFEST;

/// The manifest's topic.
pub(crate) const TOPIC: &str = "_manifest";
/// The name under which the engine holds the log back.
pub(crate) const CONSUMER: &str = "_engine";

/// The manifest and its writer.
#[derive(Debug)]
pub(crate) struct Store {
    log: Log,
    topic: TopicName,
    writer: PartitionWriter,
    /// The log file that begins with a snapshot.
    file: Option<FileId>,
    /// Where the last snapshot begins.
    snapshot_at: Option<Offset>,
    catalog: Catalog,
    payload: Vec<u8>,
}

impl Store {
    /// Reads the manifest back. What cannot be read is told in `reports`: then edits may be missing.
    pub(crate) fn open(log: &Log, log_file_bytes: u64, reports: &mut Vec<String>) -> Result<Store> {
        let topic = TopicName::new(TOPIC)?;
        let settings =
            TopicSettings { partitions: 1, log_file_bytes, retention_ms: Some(0), ..TopicSettings::default() };
        log.create_topic(&topic, settings)?;
        let mut replay = Replay::default();
        let mut cursor = log.cursor(&topic, PartitionId(0), From::Beginning)?;
        while let Some(batch) = cursor.next()? {
            if batch.header.kind != KIND_MANIFEST {
                continue;
            }
            match edit::decode(batch.payload) {
                Ok(edits) => replay.apply(batch.offset.0, &edits),
                Err(error) => reports.push(format!("manifest record at offset {}: {error}", batch.offset)),
            }
        }
        if cursor.skipped() > 0 {
            reports.push(format!("the manifest is damaged: {} of its edits cannot be read", cursor.skipped()));
        }
        let (catalog, snapshot_at) = replay.finish();
        let snapshot_at = snapshot_at.map(Offset);
        let writer = log.writer(&topic, PartitionId(0))?;
        Ok(Store { log: log.clone(), topic, writer, file: None, snapshot_at, catalog, payload: Vec::new() })
    }

    /// What is durable.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Makes edits durable, all or none. After an error they may or may not be there when the directory is opened
    /// next, unless something is committed before: so what they name must not be deleted until then.
    pub(crate) fn commit(&mut self, edits: &[Edit], now: Millis) -> Result<()> {
        let done = self.append(edits, now);
        if done.is_err() {
            self.file = None;
        }
        let snapshot_at = done?;
        edits.iter().for_each(|edit| self.catalog.apply(edit));
        if let Some(offset) = snapshot_at
            && let Some(before) = self.snapshot_at.replace(offset)
        {
            // It holds back what could go; the next snapshot says so again.
            let _ = self.log.set_internal_position(CONSUMER, &self.topic, PartitionId(0), before);
        }
        Ok(())
    }

    /// Appends and syncs; returns where a snapshot began, if one had to be written.
    fn append(&mut self, edits: &[Edit], now: Millis) -> Result<Option<Offset>> {
        let record = edit::encode(edits);
        let mut snapshot_at = None;
        let file = self.writer.prepare(record.len())?;
        if self.file != Some(file) {
            for part in self.catalog.snapshot() {
                let offset = self.put(edit::encode(&part), part.len(), now)?;
                snapshot_at.get_or_insert(offset);
            }
        }
        self.put(record, edits.len(), now)?;
        self.writer.sync()?;
        self.file = Some(self.writer.prepare(0)?);
        Ok(snapshot_at)
    }

    fn put(&mut self, record: Vec<u8>, edits: usize, now: Millis) -> Result<Offset> {
        let header = RecordHeader {
            tenant: 0,
            kind: KIND_MANIFEST,
            records: edits.max(1) as u32,
            time_ms: now,
            ..RecordHeader::default()
        };
        self.payload = record;
        self.writer.prepare(self.payload.len())?;
        self.writer.append(&header, &self.payload).map_err(Error::from)
    }

    /// Closes the last group in the log.
    pub(crate) fn idle(&mut self) -> Result<()> {
        self.writer.idle().map_err(Error::from)
    }
}
