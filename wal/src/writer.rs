//! PartitionWriter: appends batches to a buffer and makes a group of them durable with one write and one sync.
//!
//! Per group: one copy of each payload, one `write_at`, one `sync` on a file of zeros that never changes its size.
//!
//! Invariants:
//! * A writer begins with a new log file and never touches a file of an earlier life.
//! * After a failed write or sync the file is never written again; the next append opens a new one at the offset where
//!   the partition is durable, which supersedes whatever the old file holds from there on.
//! * Offsets of a failed group are given again; they were never seen by a reader.
//! * The high-water mark moves only after the sync, and after the extent of the file that holds the records.

use std::sync::Arc;

use varve_vfs::{Env, File};

use crate::batch::{self, FLAG_MARK, HEADER_BYTES, Header, OFFSET_MAX, RecordHeader};
use crate::bounds::Bound;
use crate::counters::{Counters, add};
use crate::error::{Error, Result};
use crate::file::{self, Extent, FILE_HEADER_BYTES, FileId, LogFile, Plan};
use crate::index;
use crate::log::Shared;
use crate::partition::Partition;
use crate::spares;
use crate::topic::Offset;

/// Bytes of a buffer that is kept for the next group.
const BUFFER_BYTES_KEPT: usize = 8 << 20;
/// Behind the batches of a file there is always room for a mark and the copy of the header.
const TAIL_BYTES: u64 = (HEADER_BYTES + FILE_HEADER_BYTES) as u64;

/// The file that is being written.
#[derive(Debug)]
struct Active {
    file: Arc<LogFile>,
    handle: Arc<dyn File>,
    /// Byte where the buffer will be written.
    at: u64,
    /// Last durable offset that a batch or mark in a written group carries.
    marked: u64,
}

/// The one writer of a partition. Dropping it gives the place back; [`PartitionWriter::close`] also marks the end.
#[derive(Debug)]
pub struct PartitionWriter {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    active: Option<Active>,
    buffer: Vec<u8>,
    /// Batches in the buffer: offset, byte within the buffer, append time.
    noted: Vec<(u64, u64, i64)>,
    /// Offset of the next record.
    next: u64,
}

impl PartitionWriter {
    pub(crate) fn new(shared: Arc<Shared>, partition: Arc<Partition>) -> PartitionWriter {
        let next = partition.high();
        PartitionWriter { shared, partition, active: None, buffer: Vec::new(), noted: Vec::new(), next }
    }

    /// Offset that the next record gets.
    pub fn next_offset(&self) -> Offset {
        Offset(self.next)
    }

    /// First offset that is not durable yet.
    pub fn high_water(&self) -> Offset {
        Offset(self.partition.high())
    }

    /// Bytes of the largest payload that a batch can have.
    pub fn payload_bytes_max(&self) -> u64 {
        self.shared.settings.batch_bytes_max
    }

    /// Bytes that wait for the next sync.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Makes sure that the next append of at most this payload goes into the file it names: where that file is new,
    /// the caller declares again what every file must hold for itself. May write and sync what is buffered, to leave a
    /// full file.
    ///
    /// # Errors
    /// As [`PartitionWriter::append`]: the whole group has failed.
    pub fn prepare(&mut self, payload_bytes_max: usize) -> Result<FileId> {
        let prepared = self.place(payload_bytes_max);
        if prepared.is_err() {
            // Whoever is refused one batch need not remember to give up the others.
            self.abandon();
        }
        prepared
    }

    fn place(&mut self, payload_bytes_max: usize) -> Result<FileId> {
        if self.next > OFFSET_MAX {
            // Only forged or damaged files lead there. A batch up there would be written and never believed.
            let error = std::io::Error::other("its offsets are at their end");
            return Err(Error::io("append to", &self.partition.dir, error));
        }
        let max = self.shared.settings.batch_bytes_max;
        if payload_bytes_max as u64 > max {
            let got = payload_bytes_max as u64;
            return Err(Error::Limit { limit: "batch bytes", max, got, setting: "log.batch_bytes_max" });
        }
        let need = batch::batch_bytes(payload_bytes_max) as u64;
        if let Some(active) = &self.active {
            if active.at + self.buffer.len() as u64 + need + TAIL_BYTES <= active.file.file_bytes {
                return Ok(active.file.id());
            }
            self.write_group()?;
        }
        self.roll(need)
    }

    /// Forgets what is buffered: its offsets are given again.
    pub fn abandon(&mut self) {
        self.next = self.partition.high();
        self.clear();
    }

    /// Buffers a batch; its base offset. It is durable after [`PartitionWriter::sync`].
    ///
    /// # Errors
    /// No room on the disk for a new file, an input/output error, a payload over the limit. Every batch appended since
    /// the last sync has failed with this one and is forgotten (what had to be written to leave a full file may be
    /// read all the same); the next append begins a new group.
    pub fn append(&mut self, record: &RecordHeader, payload: &[u8]) -> Result<Offset> {
        assert!(record.records > 0, "a batch has records");
        assert!(record.flags & FLAG_MARK == 0, "bit 15 is the log's");
        self.prepare(payload.len())?;
        let Some(active) = &self.active else { unreachable!("prepare leaves a file") };
        let base = Offset(self.next);
        let header = Header {
            payload_bytes: payload.len() as u32,
            base_offset: base.0,
            durable_offset: self.partition.high(),
            record: *record,
        };
        self.noted.push((base.0, self.buffer.len() as u64, record.time_ms));
        batch::encode(&mut self.buffer, &header, payload, active.file.seed);
        self.next += u64::from(record.records);
        Ok(base)
    }

    /// Makes everything buffered durable: one write, one sync. Returns the high-water mark.
    ///
    /// # Errors
    /// Every batch appended since the last sync has failed. The file is given up; the next append begins a new one, and
    /// succeeds as soon as the disk lets it.
    pub fn sync(&mut self) -> Result<Offset> {
        self.write_group()
    }

    /// Tells the disk that all is durable, once: a mark behind the last group, so that damage to it can be told from
    /// a torn tail. Cheap when there is nothing to do; call it when no write waits.
    ///
    /// # Errors
    /// The mark could not be written; nothing is lost, and the file is given up.
    pub fn idle(&mut self) -> Result<()> {
        let high = self.partition.high();
        if !self.buffer.is_empty() {
            return Ok(());
        }
        let Some(active) = &mut self.active else { return Ok(()) };
        if active.marked >= high || active.at + TAIL_BYTES > active.file.file_bytes {
            return Ok(());
        }
        let record = RecordHeader { flags: FLAG_MARK, time_ms: wall_ms(&self.shared.env), ..RecordHeader::default() };
        let header = Header { payload_bytes: 0, base_offset: high, durable_offset: high, record };
        batch::encode(&mut self.buffer, &header, &[], active.file.seed);
        let written = active.handle.write_at(&self.buffer, active.at);
        self.buffer.clear();
        match written {
            Ok(()) => {
                // No sync: a mark that is lost proves nothing, and one that is there tells the truth. Readers stop
                // before it until a group behind it is durable, for a failed sync may still take it away.
                active.at += HEADER_BYTES as u64;
                active.marked = high;
                add(&self.shared.counters.bytes, HEADER_BYTES as u64);
                Ok(())
            }
            Err(error) => {
                let error = Error::io("write", &active.file.path, error);
                self.give_up();
                Err(error)
            }
        }
    }

    /// Syncs what is buffered, marks the end and gives the writer's place back.
    pub fn close(mut self) -> Result<Offset> {
        let high = self.sync()?;
        self.idle()?;
        if let Some(active) = &self.active {
            active.handle.sync().map_err(|error| Error::io("sync", &active.file.path, error))?;
        }
        Ok(high)
    }

    /// Writes and syncs the buffer; on failure the file is given up and the offsets are free again.
    fn write_group(&mut self) -> Result<Offset> {
        if self.buffer.is_empty() {
            return Ok(Offset(self.partition.high()));
        }
        let Some(active) = &mut self.active else { unreachable!("a buffer belongs to a file") };
        let begun = self.shared.env.clock.elapsed();
        let written = match active.handle.write_at(&self.buffer, active.at) {
            Ok(()) => active.handle.sync().map_err(|error| Error::io("sync", &active.file.path, error)),
            Err(error) => Err(Error::io("write", &active.file.path, error)),
        };
        let took = self.shared.env.clock.elapsed().saturating_sub(begun);
        let counters = &self.shared.counters;
        add(&counters.sync_nanos, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if let Err(error) = written {
            self.give_up();
            return Err(error);
        }
        add(&counters.syncs, 1);
        add(&counters.batches, self.noted.len() as u64);
        add(&counters.records, self.next - self.partition.high());
        add(&counters.bytes, self.buffer.len() as u64);
        {
            let mut extent = active.file.extent();
            let extent: &mut Extent = &mut extent;
            for (offset, at, time_ms) in &self.noted {
                extent.index.note(*offset, active.at + at, extent.max_time);
                extent.max_time = extent.max_time.max(*time_ms);
            }
            active.at += self.buffer.len() as u64;
            extent.end_at = active.at;
            extent.end_offset = self.next;
        }
        active.marked = self.partition.high();
        self.partition.raise(self.next);
        self.clear();
        Ok(Offset(self.next))
    }

    fn clear(&mut self) {
        self.noted.clear();
        self.buffer.clear();
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        }
    }

    /// The file is never written again, and what was buffered is gone.
    fn give_up(&mut self) {
        add(&self.shared.counters.failures, 1);
        self.active = None;
        self.abandon();
    }

    /// Leaves the file and makes a new one with room for `need` bytes.
    fn roll(&mut self, need: u64) -> Result<FileId> {
        assert!(self.buffer.is_empty());
        assert_eq!(self.next, self.partition.high());
        if let Some(active) = self.active.take() {
            let extent = active.file.extent().clone();
            let path = self.partition.dir.join(file::index_name(active.file.base));
            index::keep(&self.shared.env, &path, active.file.base, active.file.salt, &extent);
        }
        let (env, partition) = (&self.shared.env, &self.partition);
        let (normal, spare) = {
            let mut state = partition.state();
            let normal = state.settings.log_file_bytes;
            let fits = need + TAIL_BYTES + FILE_HEADER_BYTES as u64 <= normal;
            // Its place is busy until the file has its new name, so that retention puts no other file there.
            (normal, if fits { state.spares.take() } else { None })
        };
        let file_bytes = normal.max(need + TAIL_BYTES + FILE_HEADER_BYTES as u64);
        let mut plan = Plan {
            dir: &partition.dir,
            topic: &partition.topic,
            partition: partition.id,
            base: self.next,
            salt: self.shared.salt(&partition.topic, partition.id, self.next),
            made_ms: wall_ms(env),
            file_bytes,
            spare: spare.map(spares::name),
        };
        let mut made = file::make(env, &plan);
        if let Some(place) = spare {
            partition.state().spares.free(place);
            if made.is_err() {
                // A spare that fails is gone; there may be room for a new file.
                plan.spare = None;
                made = file::make(env, &plan);
            }
        }
        let made = made?;
        let counters: &Counters = &self.shared.counters;
        add(if made.recycled { &counters.files_recycled } else { &counters.files_made }, 1);
        {
            let mut state = partition.state();
            // A file of the same base was given up before anything in it was durable.
            state.files.retain(|file| file.base < self.next);
            state.files.push(made.file.clone());
        }
        // A hint: a bound that could not be written claims less.
        let _ = Bound::Newest.write(env, &partition.dir, self.next);
        let id = made.file.id();
        let marked = self.next;
        self.active = Some(Active { file: made.file, handle: made.handle, at: FILE_HEADER_BYTES as u64, marked });
        Ok(id)
    }
}

impl Drop for PartitionWriter {
    fn drop(&mut self) {
        self.partition.state().written = false;
    }
}

/// Wall time in milliseconds.
pub(crate) fn wall_ms(env: &Env) -> i64 {
    env.clock.wall().0.div_euclid(1_000_000)
}
