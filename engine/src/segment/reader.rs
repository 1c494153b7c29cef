//! Segment: an open segment file. Opening reads header, trailer and directory; all else comes through the block cache.
//!
//! Reading one chunk: chunk list (by series) → time column → values, each a block that the cache has or that is read
//! with `read_at`, verified and decoded. A [`ReadScratch`] keeps the blocks of the last series: ids ascend by (tenant,
//! labels), so a scan in order of ids finds nearly all it needs there without asking the cache.
//!
//! Time columns are cached decoded: hundreds of series share one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use varve_model::{Column, Histogram, Labels, SeriesHash, TenantId, TimeRange};
use varve_vfs::{Env, File, Open};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::cache::{BlockCache, Cached, Key};
use super::directory::{Block, Directory};
use super::file::MemoryFile;
use super::layout::{
    DIRECTORY_ID, Encoding, FRAME_BYTES, HEADER_BYTES, PAYLOAD_BYTES_MAX, Refused, Section, TRAILER_BYTES, VERSION,
    VERSION_OLDEST, array, decode_block, decode_header, decode_trailer,
};
use super::meta::SegmentMeta;

use super::rows::{ChunkRow, ChunkRows, ColumnRow, SeriesRows, StartRow, decode_columns};
use super::{CHUNK_HISTOGRAMS_MAX, CHUNK_SAMPLES_MAX};
use crate::codec::{Malformed, histogram, times, values};
use crate::error::{Error, Result};
use crate::estimate::share;
use crate::index::Texts;
use crate::index::terms::Terms;

/// Kind of cache key for decoded time columns, beside the sections' numbers.
const KIND_TIMES: u8 = 255;
/// Kind of cache key for the hashes of a block of series.
const KIND_HASHES: u8 = 254;
/// Kind of cache key for lists of label values and names.
const KIND_TEXTS: u8 = 253;
/// Slots of a scratch for decoded time columns, picked by the column's number.
const TIMES_SLOTS: usize = 64;
/// The same for a transient scratch, which reads a whole segment.
const TRANSIENT_TIMES_SLOTS: usize = 1024;

/// An open segment. Shared by readers; dropping it drops what the cache holds of it.
#[derive(Debug)]
pub struct Segment {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) directory: Directory,
    meta: SegmentMeta,
    pub(super) cache: Arc<BlockCache>,
    number: u64,
}

/// Blocks that the last series of a reader needed. One per reading thread; may be used for many segments in turn.
#[derive(Default, Debug)]
pub struct ReadScratch {
    /// Whether blocks of series, chunks and values stay out of the cache.
    transient: bool,
    /// Number of the segment that the rest belongs to.
    segment: Option<u64>,
    series: Option<(Block, Arc<SeriesRows>)>,
    hashes: Option<(Block, Arc<Vec<SeriesHash>>)>,
    chunks: Option<(Block, Arc<ChunkRows>)>,
    columns: Option<(Block, Arc<Vec<ColumnRow>>)>,
    values: Option<(Block, Arc<Vec<u8>>)>,
    times: Vec<Option<(u32, Arc<Vec<i64>>)>>,
    histograms: Vec<Histogram>,
}

impl ReadScratch {
    /// For reading a whole segment once: what it reads does not displace what queries have in the cache.
    pub fn transient() -> ReadScratch {
        ReadScratch { transient: true, ..ReadScratch::default() }
    }

    fn turn_to(&mut self, segment: &Segment) {
        if self.segment != Some(segment.number) {
            *self = ReadScratch {
                transient: self.transient,
                segment: Some(segment.number),
                histograms: std::mem::take(&mut self.histograms),
                ..ReadScratch::default()
            };
        }
    }
}

fn holds(block: &Block, unit: u64) -> bool {
    block.first <= unit && unit - block.first < block.units
}

impl Segment {
    /// Opens a segment file.
    pub fn open(env: &Env, path: &Path, cache: Arc<BlockCache>) -> Result<Segment> {
        let file = env.vfs.open(path, Open::Read).map_err(|e| Error::io("opening", path, e))?;
        Segment::open_file(file, path, cache)
    }

    /// Opens a segment from bytes in memory: for fuzzing and tools. `path` is for error texts only.
    pub fn open_bytes(bytes: Vec<u8>, path: &Path, cache: Arc<BlockCache>) -> Result<Segment> {
        Segment::open_file(Arc::new(MemoryFile(bytes)), path, cache)
    }

    fn open_file(file: Arc<dyn File>, path: &Path, cache: Arc<BlockCache>) -> Result<Segment> {
        let damaged = |at: u64, what: &str| Error::Damaged { path: path.to_owned(), at, what: what.to_owned() };
        let refused = |at: u64, refused: Refused| match refused {
            Refused::Malformed(Malformed(what)) => damaged(at, what),
            Refused::Version(found) => Error::Version {
                path: path.to_owned(),
                found: u32::from(found),
                oldest: u32::from(VERSION_OLDEST),
                newest: u32::from(VERSION),
            },
        };
        let read = |buf: &mut [u8], at: u64| file.read_at(buf, at).map_err(|e| Error::io("reading", path, e));
        let bytes = file.len().map_err(|e| Error::io("reading", path, e))?;
        if bytes < (HEADER_BYTES + FRAME_BYTES + TRAILER_BYTES) as u64 {
            return Err(damaged(bytes, "file is too short for a segment"));
        }
        let mut header = [0; HEADER_BYTES];
        read(&mut header, 0)?;
        let (header, version) = decode_header(&header).map_err(|e| refused(0, e))?;
        let trailer_at = bytes - TRAILER_BYTES as u64;
        let mut trailer = [0; TRAILER_BYTES];
        read(&mut trailer, trailer_at)?;
        let (at, directory_bytes, level, trailer_version) =
            decode_trailer(&trailer).map_err(|e| refused(trailer_at, e))?;
        if at < HEADER_BYTES as u64 || at.checked_add(u64::from(directory_bytes)) != Some(trailer_at) {
            return Err(damaged(trailer_at, "trailer does not point at a directory before it"));
        }
        let mut block = vec![0; directory_bytes as usize];
        read(&mut block, at)?;
        let decoded = decode_block(DIRECTORY_ID, at, &block).and_then(|(encoding, payload)| match encoding {
            Encoding::Raw => Directory::decode(payload, version, at, bytes),
            Encoding::Zstd => Err(Malformed("directory is compressed")),
        });
        let (directory, meta) = decoded.map_err(|Malformed(what)| damaged(at, what))?;
        if meta.header != header || level != header.level || trailer_version != version {
            return Err(damaged(at, "header, directory and trailer are of different segments"));
        }
        let number = cache.number();
        Ok(Segment { file, path: path.to_owned(), directory, meta, cache, number })
    }

    /// Copies the file, byte by byte, to a new one at `path`, and syncs it.
    pub(crate) fn copy_to(&self, env: &Env, path: &Path) -> Result<()> {
        const PART_BYTES: u64 = 1 << 20;
        let writing = |error| Error::io("copying to", path, error);
        let target = env.vfs.open(path, Open::Create).map_err(writing)?;
        let mut at = 0;
        while at < self.meta.bytes {
            let mut part = vec![0; (self.meta.bytes - at).min(PART_BYTES) as usize];
            self.file.read_at(&mut part, at).map_err(|e| Error::io("reading", &self.path, e))?;
            target.write_at(&part, at).map_err(writing)?;
            at += part.len() as u64;
        }
        target.sync().map_err(writing)
    }

    /// What the segment is.
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The labels of a series; series are `0..meta().series`.
    pub fn labels(&self, series: u32) -> Result<Labels> {
        self.labels_with(&mut ReadScratch::default(), series)
    }

    /// The labels of a series, with the blocks of earlier calls at hand.
    pub fn labels_with(&self, scratch: &mut ReadScratch, series: u32) -> Result<Labels> {
        let (block, row, rows) = self.series_rows(scratch, series)?;
        let labels = rows.label_bytes(row).and_then(|bytes| Labels::from_sorted_label_bytes(bytes).ok());
        labels.ok_or_else(|| self.damaged(block.at, "label bytes of a series"))
    }

    /// The hash of a series' labels.
    pub fn hash(&self, series: u32) -> Result<SeriesHash> {
        self.hash_with(&mut ReadScratch::default(), series)
    }

    /// The hash of a series' labels, with the blocks of earlier calls at hand. The labels themselves are decoded only
    /// when the hashes of their block are not in the cache.
    pub fn hash_with(&self, scratch: &mut ReadScratch, series: u32) -> Result<SeriesHash> {
        scratch.turn_to(self);
        let unit = u64::from(series);
        let (block, hashes) = match &scratch.hashes {
            Some((block, hashes)) if holds(block, unit) => (*block, hashes.clone()),
            _ => {
                let (index, block) = self.find(Section::Series, unit)?;
                let key = self.key(KIND_HASHES, index);
                let hashes = match self.cache.get(key) {
                    Some(Cached::Hashes(hashes)) => hashes,
                    _ => {
                        let (_, _, rows) = self.series_rows(scratch, series)?;
                        let hashes = Arc::new(rows.hashes().to_vec());
                        if !scratch.transient {
                            self.cache.insert(key, Cached::Hashes(hashes.clone()));
                        }
                        hashes
                    }
                };
                scratch.hashes = Some((block, hashes.clone()));
                (block, hashes)
            }
        };
        let hash = hashes.get((unit - block.first) as usize).copied();
        hash.ok_or_else(|| self.damaged(block.at, "series is not in its block"))
    }

    /// Appends the samples of a series in `range` to `column`.
    pub fn read(&self, series: u32, range: TimeRange, column: &mut Column) -> Result<()> {
        self.read_with(&mut ReadScratch::default(), series, range, column)
    }

    /// Appends the samples of a series in `range` to `column`, with the blocks of earlier calls at hand. After an
    /// error `column` holds what it held before.
    pub fn read_with(
        &self,
        scratch: &mut ReadScratch,
        series: u32,
        range: TimeRange,
        column: &mut Column,
    ) -> Result<()> {
        let before = (column.times.len(), column.values.len(), column.histograms.len());
        let starts_before = (column.starts.len(), column.histogram_starts.len());
        let result = self.read_chunks(scratch, series, range, column);
        if result.is_err() {
            column.times.truncate(before.0);
            column.values.truncate(before.1);
            column.histograms.truncate(before.2);
            column.starts.truncate(starts_before.0);
            column.histogram_starts.truncate(starts_before.1);
        }
        result
    }

    fn read_chunks(&self, scratch: &mut ReadScratch, series: u32, range: TimeRange, column: &mut Column) -> Result<()> {
        let (row, chunks) = self.chunk_rows(scratch, series)?;
        let starts = chunks.starts(row);
        for (number, chunk) in chunks.get(row).unwrap_or_default().iter().enumerate() {
            let about = self.column_row(scratch, chunk.column)?;
            if !about.range.overlaps(&range) {
                continue;
            }
            let times = self.times(scratch, chunk.column, about)?;
            let begin = times.partition_point(|&time| time < range.min);
            let end = times.partition_point(|&time| time <= range.max);
            let Some(wanted) = times.get(begin..end).filter(|wanted| !wanted.is_empty()) else { continue };
            let (block, payload, at) = self.values(scratch, chunk)?;
            let encoded = payload.get(at..at + chunk.bytes as usize).unwrap_or_default();
            if chunk.histogram {
                let mut decoded = std::mem::take(&mut scratch.histograms);
                decoded.clear();
                let result = histogram::decode(encoded, times.len(), &mut decoded);
                if result.is_ok() && decoded.len() == times.len() {
                    let samples = decoded.drain(begin..end);
                    column.histograms.extend(wanted.iter().copied().zip(samples));
                }
                scratch.histograms = decoded;
                result.map_err(|Malformed(what)| self.damaged(block.at, what))?;
            } else {
                let start = column.values.len();
                values::decode(encoded, times.len(), &mut column.values)
                    .map_err(|Malformed(what)| self.damaged(block.at, what))?;
                if column.values.len() != start + times.len() {
                    return Err(self.damaged(block.at, "chunk has another count than its time column"));
                }
                if wanted.len() < times.len() {
                    column.values.copy_within(start + begin..start + end, start);
                    column.values.truncate(start + wanted.len());
                }
                column.times.extend_from_slice(wanted);
            }
            // Most blocks have none at all.
            if let Some(place) = starts.get(number).filter(|place| place.bytes > 0) {
                let decoded = self.starts(*place, times.len())?;
                let own = decoded.get(begin..end).unwrap_or_default();
                let (into, len) = match chunk.histogram {
                    true => (&mut column.histogram_starts, column.histograms.len()),
                    false => (&mut column.starts, column.times.len()),
                };
                into.resize(len.saturating_sub(own.len()), 0);
                into.extend_from_slice(own);
            }
        }
        column.align_starts();
        Ok(())
    }

    fn starts(&self, place: StartRow, count: usize) -> Result<Vec<i64>> {
        let (block, payload, at) = self.bytes(Section::Starts, place.address, place.bytes)?;
        let encoded = payload.get(at..at + place.bytes as usize).unwrap_or_default();
        let mut decoded = Vec::new();
        times::decode(encoded, count, &mut decoded).map_err(|Malformed(what)| self.damaged(block.at, what))?;
        if decoded.len() != count {
            return Err(self.damaged(block.at, "chunk has other starts than its time column has times"));
        }
        Ok(decoded)
    }

    /// The payload of the block of a table section, by its index.
    pub(super) fn table(&self, section: Section, index: usize) -> Result<(Block, Arc<Vec<u8>>)> {
        let block = self.directory.blocks(section).get(index).copied();
        let block = block.ok_or_else(|| self.damaged(0, "something is named that is not in its section"))?;
        let key = self.key(section as u8, index as u32);
        if let Some(Cached::Bytes(payload)) = self.cache.get(key) {
            return Ok((block, payload));
        }
        let payload = Arc::new(self.load(block)?);
        self.cache.insert(key, Cached::Bytes(payload.clone()));
        Ok((block, payload))
    }

    /// How many samples a series has in `range`, about: chunks that stick out count in proportion.
    pub fn samples_in(&self, scratch: &mut ReadScratch, series: u32, range: TimeRange) -> Result<u64> {
        let (row, chunks) = self.chunk_rows(scratch, series)?;
        let mut samples = 0;
        for chunk in chunks.get(row).unwrap_or_default() {
            let about = self.column_row(scratch, chunk.column)?;
            if about.range.overlaps(&range) {
                samples += share(about.range, u64::from(about.count), range);
            }
        }
        Ok(samples)
    }

    pub(super) fn damaged(&self, at: u64, what: &str) -> Error {
        Error::Damaged { path: self.path.clone(), at, what: what.to_owned() }
    }

    /// Reads a block from disk, verifies it and yields its payload.
    pub(super) fn load(&self, block: Block) -> Result<Vec<u8>> {
        let mut bytes = vec![0; block.bytes as usize];
        self.file.read_at(&mut bytes, block.at).map_err(|e| Error::io("reading", &self.path, e))?;
        let encoding = {
            let decoded = decode_block(self.meta.header.id, block.at, &bytes);
            decoded.map_err(|Malformed(what)| self.damaged(block.at, what))?.0
        };
        match encoding {
            Encoding::Raw => {
                bytes.drain(..FRAME_BYTES);
                Ok(bytes)
            }
            Encoding::Zstd => {
                let payload = bytes.get(FRAME_BYTES..).unwrap_or_default();
                let raw_bytes = u32::from_le_bytes(array(payload, 0)) as usize;
                let frame = payload.get(4..).unwrap_or_default();
                let raw = (raw_bytes <= PAYLOAD_BYTES_MAX).then(|| self.cache.decompress(frame, raw_bytes)).flatten();
                raw.ok_or_else(|| self.damaged(block.at, "compressed block"))
            }
        }
    }

    fn find(&self, section: Section, unit: u64) -> Result<(u32, Block)> {
        let found = self.directory.find(section, unit);
        found.ok_or_else(|| self.damaged(0, "something is named that is not in its section"))
    }

    fn key(&self, kind: u8, index: u32) -> Key {
        Key { segment: self.number, kind, index }
    }

    /// The payload of a block of a byte section, and where in it `address` is; `bytes` from there on are in it.
    pub(super) fn bytes(&self, section: Section, address: u64, bytes: u32) -> Result<(Block, Arc<Vec<u8>>, usize)> {
        self.bytes_keeping(true, section, address, bytes)
    }

    fn bytes_keeping(
        &self,
        keep: bool,
        section: Section,
        address: u64,
        bytes: u32,
    ) -> Result<(Block, Arc<Vec<u8>>, usize)> {
        let (index, block) = self.find(section, address)?;
        let key = self.key(section as u8, index);
        let payload = match self.cache.get(key) {
            Some(Cached::Bytes(payload)) => payload,
            _ => {
                let payload = Arc::new(self.load(block)?);
                if keep {
                    self.cache.insert(key, Cached::Bytes(payload.clone()));
                }
                payload
            }
        };
        let at = self.within(&block, &payload, address, bytes)?;
        Ok((block, payload, at))
    }

    fn within(&self, block: &Block, payload: &[u8], address: u64, bytes: u32) -> Result<usize> {
        let at = (address - block.first) as usize;
        if payload.len() as u64 == block.units && payload.len() - at >= bytes as usize {
            Ok(at)
        } else {
            Err(self.damaged(block.at, "an item reaches over the end of its block"))
        }
    }

    fn values(&self, scratch: &mut ReadScratch, chunk: &ChunkRow) -> Result<(Block, Arc<Vec<u8>>, usize)> {
        if let Some((block, payload)) = &scratch.values
            && holds(block, chunk.address)
        {
            let at = self.within(block, payload, chunk.address, chunk.bytes)?;
            return Ok((*block, payload.clone(), at));
        }
        let (block, payload, at) =
            self.bytes_keeping(!scratch.transient, Section::Values, chunk.address, chunk.bytes)?;
        scratch.values = Some((block, payload.clone()));
        Ok((block, payload, at))
    }

    fn series_rows(&self, scratch: &mut ReadScratch, series: u32) -> Result<(Block, usize, Arc<SeriesRows>)> {
        scratch.turn_to(self);
        let unit = u64::from(series);
        if let Some((block, rows)) = &scratch.series
            && holds(block, unit)
        {
            return Ok((*block, (unit - block.first) as usize, rows.clone()));
        }
        let (index, block) = self.find(Section::Series, unit)?;
        let key = self.key(Section::Series as u8, index);
        let rows = match self.cache.get(key) {
            Some(Cached::Series(rows)) => rows,
            _ => {
                let rows = SeriesRows::decode(&self.load(block)?);
                let rows = rows.map_err(|Malformed(what)| self.damaged(block.at, what))?;
                if rows.len() as u64 != block.units {
                    return Err(self.damaged(block.at, "block has another count than the directory says"));
                }
                let rows = Arc::new(rows);
                if !scratch.transient {
                    self.cache.insert(key, Cached::Series(rows.clone()));
                }
                rows
            }
        };
        scratch.series = Some((block, rows.clone()));
        Ok((block, (unit - block.first) as usize, rows))
    }

    pub(crate) fn chunk_rows(&self, scratch: &mut ReadScratch, series: u32) -> Result<(usize, Arc<ChunkRows>)> {
        scratch.turn_to(self);
        let unit = u64::from(series);
        if let Some((block, rows)) = &scratch.chunks
            && holds(block, unit)
        {
            return Ok(((unit - block.first) as usize, rows.clone()));
        }
        let (index, block) = self.find(Section::Chunks, unit)?;
        let key = self.key(Section::Chunks as u8, index);
        let rows = match self.cache.get(key) {
            Some(Cached::Chunks(rows)) => rows,
            _ => {
                let rows = ChunkRows::decode(&self.load(block)?);
                let rows = rows.map_err(|Malformed(what)| self.damaged(block.at, what))?;
                if rows.len() as u64 != block.units {
                    return Err(self.damaged(block.at, "block has another count than the directory says"));
                }
                let rows = Arc::new(rows);
                if !scratch.transient {
                    self.cache.insert(key, Cached::Chunks(rows.clone()));
                }
                rows
            }
        };
        scratch.chunks = Some((block, rows.clone()));
        Ok(((unit - block.first) as usize, rows))
    }

    pub(crate) fn column_row(&self, scratch: &mut ReadScratch, column: u32) -> Result<ColumnRow> {
        scratch.turn_to(self);
        let unit = u64::from(column);
        if let Some((block, rows)) = &scratch.columns
            && holds(block, unit)
            && let Some(row) = rows.get((unit - block.first) as usize)
        {
            return Ok(*row);
        }
        let (index, block) = self.find(Section::Columns, unit)?;
        let key = self.key(Section::Columns as u8, index);
        let rows = match self.cache.get(key) {
            Some(Cached::Columns(rows)) => rows,
            _ => {
                let rows = decode_columns(&self.load(block)?);
                let rows = rows.map_err(|Malformed(what)| self.damaged(block.at, what))?;
                if rows.len() as u64 != block.units {
                    return Err(self.damaged(block.at, "block has another count than the directory says"));
                }
                let rows = Arc::new(rows);
                self.cache.insert(key, Cached::Columns(rows.clone()));
                rows
            }
        };
        let row = rows.get((unit - block.first) as usize).copied();
        scratch.columns = Some((block, rows));
        row.ok_or_else(|| self.damaged(block.at, "time column is not in its block"))
    }

    pub(super) fn times(&self, scratch: &mut ReadScratch, column: u32, about: ColumnRow) -> Result<Arc<Vec<i64>>> {
        if scratch.times.is_empty() {
            scratch.times.resize(if scratch.transient { TRANSIENT_TIMES_SLOTS } else { TIMES_SLOTS }, None);
        }
        let slots = scratch.times.len();
        let slot = scratch.times.get_mut(column as usize % slots);
        if let Some(Some((number, times))) = &slot
            && *number == column
        {
            return Ok(times.clone());
        }
        let key = self.key(KIND_TIMES, column);
        let times = match self.cache.get(key) {
            Some(Cached::Times(times)) => times,
            _ => {
                let times = Arc::new(self.decode_times(about)?);
                self.cache.insert(key, Cached::Times(times.clone()));
                times
            }
        };
        if let Some(slot) = slot {
            *slot = Some((column, times.clone()));
        }
        Ok(times)
    }

    fn decode_times(&self, about: ColumnRow) -> Result<Vec<i64>> {
        let (block, payload, at) = self.bytes(Section::Times, about.address, about.bytes)?;
        let encoded = payload.get(at..at + about.bytes as usize).unwrap_or_default();
        let count = about.count as usize;
        if count > CHUNK_SAMPLES_MAX.max(CHUNK_HISTOGRAMS_MAX) {
            return Err(self.damaged(block.at, "time column is longer than a chunk may be"));
        }
        let mut decoded = Vec::with_capacity(count);
        times::decode(encoded, count, &mut decoded).map_err(|Malformed(what)| self.damaged(block.at, what))?;
        let ends = (decoded.first(), decoded.last()) == (Some(&about.range.min), Some(&about.range.max));
        if decoded.len() != count || !ends || !decoded.is_sorted_by(|a, b| a < b) {
            return Err(self.damaged(block.at, "times of a column do not ascend, or are not what its row says"));
        }
        Ok(decoded)
    }

    /// The sorted list that belongs to a tenant and a name: kept in the cache, made by `make` when it is not there.
    pub(super) fn texts(
        &self,
        tenant: TenantId,
        name: &str,
        make: impl FnOnce() -> Result<Texts>,
    ) -> Result<Arc<Texts>> {
        let key = self.key(KIND_TEXTS, xxh3_64_with_seed(name.as_bytes(), u64::from(tenant.0)) as u32);
        if let Some(Cached::Texts(of, called, texts)) = self.cache.get(key)
            && of == tenant
            && *called == *name
        {
            return Ok(texts);
        }
        let texts = Arc::new(make()?);
        self.cache.insert(key, Cached::Texts(tenant, name.into(), Arc::clone(&texts)));
        Ok(texts)
    }

    /// The dictionary of the tenant at `index` of the meta's list.
    pub(super) fn terms(&self, index: usize) -> Result<(Block, Arc<Terms>)> {
        let (index, block) = self.find(Section::Terms, index as u64)?;
        let key = self.key(Section::Terms as u8, index);
        if let Some(Cached::Terms(terms)) = self.cache.get(key) {
            return Ok((block, terms));
        }
        let terms = Terms::open(self.load(block)?).map_err(|Malformed(what)| self.damaged(block.at, what))?;
        let terms = Arc::new(terms);
        self.cache.insert(key, Cached::Terms(terms.clone()));
        Ok((block, terms))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.cache.forget(self.number);
    }
}
