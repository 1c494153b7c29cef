//! Cursor: reads a partition from an offset or a time to the high-water mark, and on as it moves.
//!
//! Per 256 KiB of log: one `read_at` into a reused buffer, one checksum a batch, no copy of a payload.
//!
//! Invariants:
//! * Nothing at or above the high-water mark is given, and offsets only rise.
//! * Damage is skipped, counted and told once ([`crate::Log::damage`]); the rest of the partition is served.
//! * A file that retention removes under a cursor is read to its end: it is recycled only when no cursor has it.

use std::sync::Arc;

use varve_vfs::{File, Open};

use crate::batch::{self, HEADER_BYTES, Header, RecordHeader};
use crate::error::{Error, Result};
use crate::file::{FILE_HEADER_BYTES, FileId, LogFile, read_around};
use crate::log::Shared;
use crate::partition::Partition;
use crate::recover::Damage;
use crate::topic::Offset;

const WINDOW_BYTES: u64 = 256 << 10;

/// Where a cursor begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// The oldest record that is kept.
    Beginning,
    /// The batch that holds this offset, or the next one behind it.
    Offset(Offset),
    /// The start of the log file that holds (or would hold) this offset.
    FileOf(Offset),
    /// The first batch appended at or after this time, in milliseconds since 1970.
    Time(i64),
    /// The high-water mark.
    End,
}

/// A batch as read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch<'a> {
    /// Offset of the first record.
    pub offset: Offset,
    /// What the writer said.
    pub header: RecordHeader,
    /// The payload, verified.
    pub payload: &'a [u8],
    /// The log file it stands in: what was declared in another file is not known here.
    pub file: FileId,
}

impl Batch<'_> {
    /// The offset behind the last record.
    pub fn end(&self) -> Offset {
        Offset(self.offset.0 + u64::from(self.header.records))
    }
}

/// The file a cursor stands in.
#[derive(Debug)]
struct Place {
    file: Arc<LogFile>,
    handle: Arc<dyn File>,
    /// The next batch.
    at: u64,
    /// The offset it should have.
    expected: u64,
    /// Behind the last durable batch, as last seen.
    end_at: u64,
    /// The offset there.
    end_offset: u64,
}

impl Place {
    /// Looks again how far the file goes.
    fn refresh(&mut self) {
        let extent = self.file.extent();
        (self.end_at, self.end_offset) = (extent.end_at, extent.end_offset);
    }
}

/// Reads one partition in order. Many may read at once.
#[derive(Debug)]
pub struct Cursor {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    /// The next offset wanted.
    offset: u64,
    /// Batches older than this are passed over until one is not.
    time_min: Option<i64>,
    place: Option<Place>,
    window: Vec<u8>,
    window_at: u64,
    skipped: u64,
}

impl Cursor {
    pub(crate) fn new(shared: Arc<Shared>, partition: Arc<Partition>, from: From) -> Cursor {
        let mut time_min = None;
        let offset = match from {
            From::Beginning => partition.first(),
            From::Offset(offset) => offset.0,
            From::FileOf(offset) => partition.file_start(offset.0),
            From::End => partition.high(),
            From::Time(time_ms) => {
                time_min = Some(time_ms);
                partition.offset_before(time_ms)
            }
        };
        let (window, window_at) = (Vec::new(), 0);
        Cursor { shared, partition, offset, time_min, place: None, window, window_at, skipped: 0 }
    }

    /// The offset that is wanted next.
    pub fn position(&self) -> Offset {
        Offset(self.offset)
    }

    /// Offsets passed over because the bytes that held them are damaged or missing.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next batch below the high-water mark; `None` when there is none yet.
    ///
    /// # Errors
    /// A file could not be opened; the cursor stays where it is. Bad bytes are no error: they are passed over.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer, which an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Batch<'_>>> {
        let Some((at, header, file)) = self.advance()? else { return Ok(None) };
        let begin = (at - self.window_at) as usize + HEADER_BYTES;
        let payload = &self.window[begin..begin + header.payload_bytes as usize];
        Ok(Some(Batch { offset: Offset(header.base_offset), header: header.record, payload, file }))
    }

    /// Moves behind the next batch and tells where it stands, with its bytes in the window.
    fn advance(&mut self) -> Result<Option<(u64, Header, FileId)>> {
        loop {
            if self.offset >= self.partition.high() || (self.place.is_none() && !self.enter()?) {
                return Ok(None);
            }
            let Some(place) = &mut self.place else { return Ok(None) };
            if place.at >= place.end_at {
                place.refresh();
            }
            if place.at >= place.end_at {
                if !self.leave() {
                    return Ok(None);
                }
                continue;
            }
            let (at, expected, id) = (place.at, place.expected, place.file.id());
            let Some(header) = self.batch_at(at).filter(|header| header.base_offset >= expected) else {
                self.pass_damage();
                continue;
            };
            self.miss(at, 0, "batches are missing", header.base_offset);
            if let Some(place) = &mut self.place {
                place.at = at + header.batch_bytes() as u64;
                place.expected = header.end_offset();
            }
            if header.is_mark() || header.end_offset() <= self.offset {
                continue;
            }
            self.offset = header.end_offset();
            if self.time_min.is_some_and(|time_min| header.record.time_ms < time_min) {
                continue;
            }
            self.time_min = None;
            return Ok(Some((at, header, id)));
        }
    }

    /// Opens the file for the wanted offset. False when there is none.
    fn enter(&mut self) -> Result<bool> {
        loop {
            let Some(file) = self.partition.file_for(self.offset) else { return Ok(false) };
            let handle = match self.shared.env.vfs.open(&file.path, Open::Read) {
                Ok(handle) => handle,
                // Retention was faster: the oldest that is kept comes next.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.partition.first() > file.base => {
                    continue;
                }
                Err(error) => return Err(Error::io("open", &file.path, error)),
            };
            let start = file.extent().index.seek(self.offset);
            let (at, expected) = start.unwrap_or((FILE_HEADER_BYTES as u64, file.base));
            let mut place = Place { file, handle, at, expected, end_at: 0, end_offset: 0 };
            place.refresh();
            self.offset = self.offset.max(place.file.base);
            self.place = Some(place);
            self.window.clear();
            self.window_at = 0;
            return Ok(true);
        }
    }

    /// At the end of a file: goes on to the next one. False when this is the last.
    fn leave(&mut self) -> bool {
        let Some(place) = &self.place else { return false };
        let (base, salt, at) = (place.file.base, place.file.salt, place.at);
        // A file of the same base but another salt has replaced one that was given up.
        let follows = |file: &&Arc<LogFile>| file.base > base || (file.base == base && file.salt != salt);
        let Some(next) = self.partition.state().files.iter().find(follows).map(|file| file.base) else { return false };
        // It may have grown before the next one was made.
        let Some(place) = &mut self.place else { return false };
        place.refresh();
        if place.at < place.end_at {
            return true;
        }
        self.miss(at, 0, "the end of the file", next);
        self.offset = self.offset.max(next);
        self.place = None;
        true
    }

    /// The batch at `at`, verified, with its bytes in the window.
    fn batch_at(&mut self, at: u64) -> Option<Header> {
        let (seed, end_offset) = self.place.as_ref().map(|place| (place.file.seed, place.end_offset))?;
        self.fill(at, HEADER_BYTES as u64)?;
        let header = batch::decode_header(self.bytes_at(at)?, seed).ok()?;
        self.fill(at, header.batch_bytes() as u64)?;
        batch::decode(self.bytes_at(at)?, seed).ok()?;
        (header.end_offset() <= end_offset).then_some(header)
    }

    fn bytes_at(&self, at: u64) -> Option<&[u8]> {
        self.window.get(usize::try_from(at.checked_sub(self.window_at)?).ok()?..)
    }

    /// Brings `count` bytes at `at` into the window, with as many behind them as are cheap.
    fn fill(&mut self, at: u64, count: u64) -> Option<()> {
        let place = self.place.as_ref()?;
        let end = at.checked_add(count).filter(|end| *end <= place.end_at)?;
        if at >= self.window_at && end <= self.window_at + self.window.len() as u64 {
            return Some(());
        }
        let len = count.max(WINDOW_BYTES).min(place.end_at - at);
        self.window.clear();
        self.window.resize(usize::try_from(len).ok()?, 0);
        self.window_at = at;
        // Unreadable pieces are zero: their checksum fails.
        read_around(&*place.handle, &mut self.window, at, &mut Vec::new());
        Some(())
    }

    /// Looks behind a bad batch for the next good one, at 8-byte steps, up to the end of the file.
    fn pass_damage(&mut self) {
        let Some(place) = &self.place else { return };
        let (begin, end_at, seed, expected) = (place.at, place.end_at, place.file.seed, place.expected);
        let end_offset = place.end_offset;
        let mut found = None;
        // Where the header holds, its length leads on.
        if self.fill(begin, HEADER_BYTES as u64).is_some()
            && let Some(Ok(header)) = self.bytes_at(begin).map(|bytes| batch::decode_header(bytes, seed))
        {
            let at = begin + header.batch_bytes() as u64;
            found = self.batch_at(at).filter(|header| header.base_offset >= expected).map(|header| (at, header));
        }
        let mut at = begin + 8;
        while found.is_none() && self.fill(at, HEADER_BYTES as u64).is_some() {
            if self.bytes_at(at).is_some_and(|bytes| batch::plausible(bytes, expected)) {
                found = self.batch_at(at).filter(|header| header.base_offset >= expected).map(|header| (at, header));
            }
            at += 8;
        }
        let (at, next) = found.map_or((end_at, end_offset), |(at, header)| (at, header.base_offset));
        // Where no offset is missing it was a mark, which holds no record and may be lost without damage.
        self.miss(begin, at - begin, "batch", next);
        if let Some(place) = &mut self.place {
            place.at = at;
            place.expected = next;
        }
    }

    /// The offsets between what was expected and `next` are gone.
    fn miss(&mut self, at: u64, bytes: u64, what: &'static str, next: u64) {
        let Some(expected) = self.place.as_ref().map(|place| place.expected).filter(|expected| *expected < next) else {
            return;
        };
        self.tell(at, bytes, what, expected, next);
        if self.offset < next {
            self.skipped += next - self.offset.max(expected);
            self.offset = next;
        }
        if let Some(place) = &mut self.place {
            place.expected = next;
        }
    }

    fn tell(&self, at: u64, bytes: u64, what: &'static str, first: u64, end: u64) {
        let Some(place) = &self.place else { return };
        let (path, first, end) = (place.file.path.clone(), Offset(first), Offset(end));
        self.shared.tell(Damage { path, at, bytes, what, first, end, quarantined: None });
    }
}
