//! SegmentWriter: series in order, one after the other, into one segment file.
//!
//! Memory: one open block per section, a megabyte of bytes not yet written, the directory, and for the tenant at hand
//! its terms (their text once, about a byte per series and label) and a hash per time column.
//!
//! Durable means: [`SegmentWriter::finish`] writes and syncs the file; the caller then syncs the directory, renames,
//! syncs again, and tells the manifest. After an error the file is rubbish: the caller removes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use varve_model::{Column, Exemplar, Histogram, Labels, Millis, TenantId, TimeRange};
use varve_vfs::{Env, File, Open};
use xxhash_rust::xxh3::Xxh3;
use zstd::bulk::Compressor;

use super::directory::Directory;
use super::layout::{
    BLOCK_BYTES, DIRECTORY_ID, Encoding, HEADER_BYTES, PAYLOAD_BYTES_MAX, Section, encode_block, encode_header,
    encode_trailer,
};
use super::meta::{EMPTY, ExemplarMeta, SegmentHeader, SegmentMeta, TenantMeta, join};

use super::exemplars;
use super::rows::{
    COLUMN_ROWS, ChunkRow, ChunkRows, ColumnRow, SERIES_BYTES, SERIES_ROWS, SeriesRows, StartRow, drain_columns,
};
use super::{CHUNK_HISTOGRAMS_MAX, CHUNK_SAMPLES_MAX};
use crate::codec::values::{self, Effort};
use crate::codec::{histogram, times};
use crate::error::{Error, Result};
use crate::index::postings::{self, IDS_MAX, Place};
use crate::index::terms::TermsBuilder;

/// Tables smaller than this are not worth a zstd frame.
const COMPRESS_BYTES_MIN: usize = 512;
/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// The file being written, and where each block went.
struct Output {
    file: Arc<dyn File>,
    path: PathBuf,
    id: u64,
    /// Byte of the file at which `buffer` begins.
    at: u64,
    buffer: Vec<u8>,
    directory: Directory,
    compressor: Compressor<'static>,
    compressed: Vec<u8>,
}

impl Output {
    fn position(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    fn write(&mut self) -> Result<()> {
        self.file.write_at(&self.buffer, self.at).map_err(|e| Error::io("writing", &self.path, e))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Appends a block of `units` units to a section; tables are compressed when that saves a tenth.
    fn block(&mut self, section: Section, units: u64, payload: &[u8]) -> Result<()> {
        // Readers refuse more, compressed or not.
        assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a block of {} bytes of {}", payload.len(), section.name());
        let at = self.position();
        let begin = self.buffer.len();
        let table = !section.is_bytes();
        let squeezed = table && payload.len() >= COMPRESS_BYTES_MIN && {
            self.compressed.clear();
            self.compressed.reserve(zstd::zstd_safe::compress_bound(payload.len()));
            let packed = self.compressor.compress_to_buffer(payload, &mut self.compressed);
            packed.is_ok_and(|bytes| bytes + 4 < payload.len() - payload.len() / 10)
        };
        if squeezed {
            let raw_bytes = (payload.len() as u32).to_le_bytes();
            encode_block(self.id, at, Encoding::Zstd, &[&raw_bytes, &self.compressed], &mut self.buffer);
        } else {
            encode_block(self.id, at, Encoding::Raw, &[payload], &mut self.buffer);
        }
        self.directory.push(section, at, (self.buffer.len() - begin) as u32, units);
        if self.buffer.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }
}

/// A section of bytes: items gather in `open` until it is full. An item never spans blocks.
struct Stream {
    section: Section,
    open: Vec<u8>,
    /// Address of the first byte of `open`.
    first: u64,
}

impl Stream {
    fn new(section: Section) -> Stream {
        Stream { section, open: Vec::new(), first: 0 }
    }

    fn push(&mut self, out: &mut Output, item: &[u8]) -> Result<u64> {
        if !self.open.is_empty() && self.open.len() + item.len() > BLOCK_BYTES {
            self.flush(out)?;
        }
        let address = self.first + self.open.len() as u64;
        self.open.extend_from_slice(item);
        Ok(address)
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        if !self.open.is_empty() {
            out.block(self.section, self.open.len() as u64, &self.open)?;
            self.first += self.open.len() as u64;
            self.open.clear();
        }
        Ok(())
    }
}

/// Writes one segment.
pub struct SegmentWriter {
    header: SegmentHeader,
    out: Output,
    effort: Effort,
    series: SeriesRows,
    chunks: ChunkRows,
    columns: Vec<ColumnRow>,
    columns_written: u32,
    times: Stream,
    values: Stream,
    postings: Stream,
    starts: Stream,
    exemplars: exemplars::Rows,
    exemplar_tenants: Vec<ExemplarMeta>,
    last_exemplars: Labels,
    /// Number of each time column of the tenant at hand, by the hash of its times.
    known_columns: HashTable<(u128, u32)>,
    terms: TermsBuilder,
    tenants: Vec<TenantMeta>,
    last_labels: Labels,
    series_count: u32,
    scratch: Vec<u8>,
    histograms: Vec<Histogram>,
    histogram_times: Vec<Millis>,
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentWriter({:?}, {} series)", self.out.path, self.series_count)
    }
}

impl SegmentWriter {
    /// Creates the file, which must not exist. Level 0 is encoded fast, levels above small.
    pub fn create(env: &Env, path: &Path, header: SegmentHeader) -> Result<SegmentWriter> {
        let file = env.vfs.open(path, Open::Create).map_err(|e| Error::io("creating", path, e))?;
        let zstd_level = if header.level == 0 { 1 } else { 3 };
        let compressor = Compressor::new(zstd_level).map_err(|e| Error::io("compressing", path, e))?;
        let out = Output {
            file,
            path: path.to_owned(),
            id: header.id,
            at: 0,
            buffer: encode_header(&header).to_vec(),
            directory: Directory::default(),
            compressor,
            compressed: Vec::new(),
        };
        Ok(SegmentWriter {
            header,
            out,
            effort: if header.level == 0 { Effort::Hot } else { Effort::Cold },
            series: SeriesRows::default(),
            chunks: ChunkRows::default(),
            columns: Vec::new(),
            columns_written: 0,
            times: Stream::new(Section::Times),
            values: Stream::new(Section::Values),
            postings: Stream::new(Section::Postings),
            starts: Stream::new(Section::Starts),
            exemplars: exemplars::Rows::default(),
            exemplar_tenants: Vec::new(),
            last_exemplars: Labels::default(),
            known_columns: HashTable::new(),
            terms: TermsBuilder::default(),
            tenants: Vec::new(),
            last_labels: Labels::default(),
            series_count: 0,
            scratch: Vec::new(),
            histograms: Vec::new(),
            histogram_times: Vec::new(),
        })
    }

    /// Adds a series with all its samples; one without samples is left out. Panics when series do not come in
    /// ascending order of (tenant, labels), or times do not ascend: both are the caller's to keep.
    pub fn add_series(&mut self, tenant: TenantId, labels: &Labels, column: &Column) -> Result<()> {
        assert_eq!(column.times.len(), column.values.len());
        assert!(column.starts.is_empty() || column.starts.len() == column.times.len());
        assert!(column.histogram_starts.is_empty() || column.histogram_starts.len() == column.histograms.len());
        if column.is_empty() {
            return Ok(());
        }
        match self.tenants.last() {
            Some(last) if last.tenant == tenant => assert!(self.last_labels < *labels, "series ascend by labels"),
            Some(last) => {
                assert!(last.tenant < tenant, "series ascend by tenant");
                self.end_tenant()?;
                self.begin_tenant(tenant);
            }
            None => self.begin_tenant(tenant),
        }
        assert!(self.series_count < IDS_MAX, "a segment holds at most 2^31 series");

        let mut range = EMPTY;
        let mut at = 0;
        for (times, values) in even(&column.times, CHUNK_SAMPLES_MAX).zip(even(&column.values, CHUNK_SAMPLES_MAX)) {
            let (number, chunk_range) = self.time_column(times)?;
            range = join(range, chunk_range);
            self.scratch.clear();
            values::encode(values, self.effort, &mut self.scratch);
            self.push_chunk(number, false)?;
            self.push_starts(column.starts.get(at..at + times.len()).unwrap_or_default())?;
            at += times.len();
        }
        let mut at = 0;
        for part in even(&column.histograms, CHUNK_HISTOGRAMS_MAX) {
            let mut times = std::mem::take(&mut self.histogram_times);
            times.clear();
            times.extend(part.iter().map(|(time, _)| *time));
            let (number, chunk_range) = self.time_column(&times)?;
            self.histogram_times = times;
            range = join(range, chunk_range);
            self.histograms.clear();
            self.histograms.extend(part.iter().map(|(_, histogram)| histogram.clone()));
            self.scratch.clear();
            histogram::encode(&self.histograms, &mut self.scratch);
            self.push_chunk(number, true)?;
            self.push_starts(column.histogram_starts.get(at..at + part.len()).unwrap_or_default())?;
            at += part.len();
        }
        self.chunks.end_series();
        self.series.push(labels.as_label_bytes());
        self.terms.add(self.series_count, labels);
        self.series_count += 1;
        self.last_labels = labels.clone();
        if let Some(meta) = self.tenants.last_mut() {
            meta.series += 1;
            meta.samples += column.len() as u64;
            meta.range = join(meta.range, range);
        }
        if self.series.len() >= SERIES_ROWS || self.series.label_bytes_len() >= SERIES_BYTES {
            self.flush_series()?;
        }
        Ok(())
    }

    /// Adds exemplars of a series, ascending in their order, each once. Panics when they are not, or when series do not
    /// come in ascending order of (tenant, labels): both are the caller's to keep. Independent of
    /// [`SegmentWriter::add_series`]: a series may have exemplars and no sample.
    pub fn add_exemplars(&mut self, tenant: TenantId, labels: &Labels, exemplars: &[Exemplar]) -> Result<()> {
        let (Some(first), Some(last)) = (exemplars.first(), exemplars.last()) else { return Ok(()) };
        assert!(exemplars.is_sorted_by(|a, b| a.order(b).is_lt()), "exemplars ascend");
        let range = TimeRange { min: first.time, max: last.time };
        match self.exemplar_tenants.last_mut() {
            Some(about) if about.tenant == tenant => {
                assert!(self.last_exemplars < *labels, "series ascend by labels");
                about.exemplars += exemplars.len() as u64;
                about.range = join(about.range, range);
            }
            last => {
                assert!(last.is_none_or(|last| last.tenant < tenant), "series ascend by tenant");
                self.exemplar_tenants.push(ExemplarMeta { tenant, exemplars: exemplars.len() as u64, range });
            }
        }
        self.last_exemplars = labels.clone();
        let mut rest = exemplars;
        while !rest.is_empty() {
            let taken = self.exemplars.push(tenant, labels, rest);
            rest = rest.get(taken..).unwrap_or_default();
            if self.exemplars.is_full() || !rest.is_empty() {
                self.flush_exemplars()?;
            }
        }
        Ok(())
    }

    /// Series added so far.
    pub fn series(&self) -> u32 {
        self.series_count
    }

    /// Bytes of the file so far, open blocks not counted.
    pub fn bytes(&self) -> u64 {
        self.out.position()
    }

    /// Writes what is open, the directory and the trailer, and syncs the file.
    pub fn finish(mut self) -> Result<SegmentMeta> {
        if !self.tenants.is_empty() {
            self.end_tenant()?;
        }
        self.flush_series()?;
        self.flush_columns()?;
        self.times.flush(&mut self.out)?;
        self.values.flush(&mut self.out)?;
        self.postings.flush(&mut self.out)?;
        self.starts.flush(&mut self.out)?;
        self.flush_exemplars()?;
        let ranges = self.tenants.iter().map(|tenant| tenant.range);
        let ranges = ranges.chain(self.exemplar_tenants.iter().map(|about| about.range));
        let mut meta = SegmentMeta {
            header: self.header,
            range: ranges.fold(EMPTY, join),
            series: u64::from(self.series_count),
            samples: self.tenants.iter().map(|tenant| tenant.samples).sum(),
            bytes: 0,
            tenants: self.tenants,
            exemplars: self.exemplar_tenants,
        };
        let mut directory = Vec::new();
        self.out.directory.encode(&meta, &mut directory);
        let at = self.out.position();
        let begin = self.out.buffer.len();
        encode_block(DIRECTORY_ID, at, Encoding::Raw, &[&directory], &mut self.out.buffer);
        let bytes = (self.out.buffer.len() - begin) as u32;
        self.out.buffer.extend_from_slice(&encode_trailer(self.header.level, at, bytes));
        self.out.write()?;
        self.out.file.sync().map_err(|e| Error::io("syncing", &self.out.path, e))?;
        meta.bytes = self.out.at;
        assert!(meta.bytes > HEADER_BYTES as u64);
        Ok(meta)
    }

    fn begin_tenant(&mut self, tenant: TenantId) {
        self.tenants.push(TenantMeta { tenant, first_series: self.series_count, series: 0, samples: 0, range: EMPTY });
    }

    fn end_tenant(&mut self) -> Result<()> {
        let mut ids = Vec::new();
        let (out, stream, scratch) = (&mut self.out, &mut self.postings, &mut self.scratch);
        let fst = self.terms.finish(&mut |list| {
            list.ids(&mut ids);
            scratch.clear();
            postings::encode(&ids, scratch);
            stream.push(out, scratch).map(Place::List)
        })?;
        self.out.block(Section::Terms, 1, &fst)?;
        self.known_columns.clear();
        self.last_labels = Labels::default();
        Ok(())
    }

    /// The number of a time column, which is written unless the tenant has it already.
    fn time_column(&mut self, times: &[Millis]) -> Result<(u32, TimeRange)> {
        let (Some(&min), Some(&max)) = (times.first(), times.last()) else { panic!("a chunk has samples") };
        let mut hasher = Xxh3::new();
        let mut ascending = true;
        let mut bytes = [0u8; 8 * 128];
        let mut previous = None;
        for part in times.chunks(128) {
            for (slot, &time) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(part) {
                ascending &= previous.is_none_or(|previous| previous < time);
                previous = Some(time);
                *slot = time.to_le_bytes();
            }
            hasher.update(bytes.get(..8 * part.len()).unwrap_or_default());
        }
        assert!(ascending, "times ascend");
        let hash = hasher.digest128();
        let next = self.columns_written + self.columns.len() as u32;
        let known = self.known_columns.entry(hash as u64, |&(known, _)| known == hash, |&(hash, _)| hash as u64);
        let number = match known {
            Entry::Occupied(slot) => slot.get().1,
            Entry::Vacant(slot) => {
                slot.insert((hash, next));
                self.scratch.clear();
                times::encode(times, &mut self.scratch);
                let address = self.times.push(&mut self.out, &self.scratch)?;
                let (count, bytes) = (times.len() as u32, self.scratch.len() as u32);
                self.columns.push(ColumnRow { range: TimeRange { min, max }, count, address, bytes });
                if self.columns.len() >= COLUMN_ROWS {
                    self.flush_columns()?;
                }
                next
            }
        };
        Ok((number, TimeRange { min, max }))
    }

    /// Adds the chunk whose values are in `scratch` to the series at hand.
    fn push_chunk(&mut self, column: u32, histogram: bool) -> Result<()> {
        let address = self.values.push(&mut self.out, &self.scratch)?;
        self.chunks.push(ChunkRow { column, address, bytes: self.scratch.len() as u32, histogram });
        Ok(())
    }

    /// Adds the start timestamps of the chunk added last, if it has any.
    fn push_starts(&mut self, starts: &[Millis]) -> Result<()> {
        if starts.iter().all(|&start| start == 0) {
            return Ok(());
        }
        self.scratch.clear();
        times::encode(starts, &mut self.scratch);
        let address = self.starts.push(&mut self.out, &self.scratch)?;
        self.chunks.set_starts(StartRow { address, bytes: self.scratch.len() as u32 });
        Ok(())
    }

    fn flush_exemplars(&mut self) -> Result<()> {
        let units = self.exemplars.len() as u64;
        if units > 0 {
            self.scratch.clear();
            self.exemplars.drain(&mut self.scratch);
            self.out.block(Section::Exemplars, units, &self.scratch)?;
        }
        Ok(())
    }

    fn flush_series(&mut self) -> Result<()> {
        let units = self.series.len() as u64;
        if units > 0 {
            self.scratch.clear();
            self.series.drain(&mut self.scratch);
            self.out.block(Section::Series, units, &self.scratch)?;
            self.scratch.clear();
            self.chunks.drain(&mut self.scratch);
            self.out.block(Section::Chunks, units, &self.scratch)?;
        }
        Ok(())
    }

    fn flush_columns(&mut self) -> Result<()> {
        let units = self.columns.len();
        if units > 0 {
            self.scratch.clear();
            drain_columns(&mut self.columns, &mut self.scratch);
            self.out.block(Section::Columns, units as u64, &self.scratch)?;
            self.columns_written += units as u32;
        }
        Ok(())
    }
}

/// Parts of at most `max` items, as equal as can be: no short last chunk, and equal columns are cut alike.
fn even<T>(items: &[T], max: usize) -> std::slice::Chunks<'_, T> {
    let parts = items.len().div_ceil(max).max(1);
    items.chunks(items.len().div_ceil(parts).max(1))
}
