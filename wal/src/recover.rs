//! Recovery: opens a partition's files and tells a torn tail (cut) from damage (reported, quarantined, skipped).
//!
//! One idea: what was durable is written down. Every batch says how far the partition was synced before it; every
//! later file begins where the partition was durable. A gap below that is damage: acknowledged records are gone. So is
//! one that cannot be read. Another gap at or above it, at the end of the newest file, is a write that never finished:
//! nobody was told it succeeded.
//!
//! Invariants:
//! * Damage never makes opening fail; it is told with file, bytes and the offsets that are gone.
//! * What is kept of the last, uncovered group is written and synced once more before anyone reads it: the page
//!   cache may show bytes that a failed sync never brought to the disk.
//! * Where the end of the newest file cannot be known (cut, unreadable), offsets jump over what it could have held:
//!   no offset is ever given twice.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use varve_vfs::{Env, Open};

use crate::batch::seed_of;
use crate::bounds::Bound;
use crate::error::{Error, Result};
use crate::file::{self, Extent, FILE_HEADER_BYTES, FileHeader, Loaded, LogFile, VERSION};
use crate::index;
use crate::log::settle;
use crate::scan::{Gap, Rest, Scan, scan};
use crate::spares::{self, Spares};
use crate::topic::{Offset, PartitionId, TopicName, remove_if_there};

/// What opening the log found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Unfinished writes at the end of a partition: cut, nothing acknowledged is lost.
    pub torn: Vec<Torn>,
    /// Bytes that are not what was written.
    pub damaged: Vec<Damage>,
    /// Log files found.
    pub files: u64,
    /// Batches read and verified; sealed files with a sound index are not read.
    pub batches: u64,
}

/// An unfinished write that was cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Torn {
    /// The log file.
    pub path: PathBuf,
    /// Byte behind the last good batch.
    pub at: u64,
    /// The next record gets this offset.
    pub offset: Offset,
}

/// Bytes that are not what was written. The rest of the partition is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The file, or the partition's directory when a file is missing.
    pub path: PathBuf,
    /// First bad byte.
    pub at: u64,
    /// Bad bytes.
    pub bytes: u64,
    /// What does not hold.
    pub what: &'static str,
    /// First offset that is gone.
    pub first: Offset,
    /// Behind the last offset that is gone; equal to `first` when none is (a damaged mark or header copy).
    pub end: Offset,
    /// Where a copy of the bytes is kept.
    pub quarantined: Option<PathBuf>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} bytes damaged at byte {}: {}", self.path.display(), self.bytes, self.at, self.what)?;
        if self.first < self.end {
            write!(f, "; offsets {} to {} are lost", self.first, self.end.0 - 1)?;
        }
        if let Some(kept) = &self.quarantined {
            write!(f, "; kept as {}", kept.display())?;
        }
        Ok(())
    }
}

/// Copies damaged bytes aside, up to a budget.
#[derive(Debug)]
pub(crate) struct Quarantine {
    pub(crate) dir: PathBuf,
    pub(crate) bytes_left: u64,
}

impl Quarantine {
    /// Keeps a copy; whatever fails (a full disk) leaves none.
    fn keep(&mut self, env: &Env, name: &str, bytes: &[u8]) -> Option<PathBuf> {
        if bytes.is_empty() || bytes.len() as u64 > self.bytes_left {
            return None;
        }
        let path = self.dir.join(name);
        env.vfs.create_dir(&self.dir).ok()?;
        match env.vfs.open(&path, Open::Create) {
            Ok(copy) => {
                if copy.write_at(bytes, 0).is_err() {
                    let _ = env.vfs.remove(&path);
                    return None;
                }
                self.bytes_left -= bytes.len() as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(_) => return None,
        }
        Some(path)
    }
}

/// A partition as found on disk.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) files: Vec<Arc<LogFile>>,
    /// Offset of the next record.
    pub(crate) next: u64,
    pub(crate) spares: Spares,
}

/// Whose files are opened, and where their story goes.
pub(crate) struct Opening<'a> {
    pub(crate) env: &'a Env,
    pub(crate) dir: &'a Path,
    pub(crate) topic: &'a TopicName,
    pub(crate) partition: PartitionId,
    pub(crate) log_file_bytes: u64,
    pub(crate) quarantine: &'a mut Quarantine,
    pub(crate) recovery: &'a mut Recovery,
    /// Whether anything may be written: `check` reads only.
    pub(crate) repair: bool,
    /// Whether sealed files are read although their index is sound.
    pub(crate) thorough: bool,
}

impl Opening<'_> {
    /// Opens all files of the partition.
    pub(crate) fn run(&mut self) -> Result<Found> {
        let names = self.env.vfs.list(self.dir).map_err(|error| Error::io("list", self.dir, error))?;
        let bases: Vec<u64> = names.iter().filter_map(|name| file::parse_name(name, ".log")).collect();
        if self.repair {
            settle(self.env, self.dir)?;
            self.sweep(&names, &bases)?;
        }
        let mut files = Vec::with_capacity(bases.len());
        // Retention removes from the front, and says so before.
        let oldest = Bound::Oldest.read(self.env, self.dir);
        let mut next = match (oldest, bases.first()) {
            (Some(oldest), Some(first)) => oldest.min(*first),
            (oldest, first) => oldest.or(first.copied()).unwrap_or(0),
        };
        for (n, base) in bases.iter().enumerate() {
            self.recovery.files += 1;
            if next < *base {
                let dir = self.dir.to_owned();
                self.damage(&dir, 0, &[], "a log file is missing", next, *base);
            }
            let file = self.open_file(*base, bases.get(n + 1).copied(), &mut next)?;
            files.push(Arc::new(file));
        }
        self.expect_newest(&bases, &mut next);
        let spares = self.spares(&names)?;
        Ok(Found { files, next, spares })
    }

    /// Removes what an interrupted life left in the making.
    fn sweep(&mut self, names: &[String], bases: &[u64]) -> Result<()> {
        if names.iter().any(|name| name == file::FRESH) {
            remove_if_there(self.env, &self.dir.join(file::FRESH))?;
        }
        for base in names.iter().filter_map(|name| file::parse_name(name, ".idx")) {
            if bases.binary_search(&base).is_err() {
                remove_if_there(self.env, &self.dir.join(file::index_name(base)))?;
            }
        }
        Ok(())
    }

    /// A newest file that is gone leaves no gap behind it; so its name is written down.
    fn expect_newest(&mut self, bases: &[u64], next: &mut u64) {
        let Some(newest) = Bound::Newest.read(self.env, self.dir) else { return };
        if bases.last().is_none_or(|last| *last < newest) {
            let first = if bases.is_empty() { newest } else { *next };
            let end = (*next).max(newest).saturating_add(self.log_file_bytes);
            self.damage(&self.dir.join(file::log_name(newest)), 0, &[], "the newest log file is missing", first, end);
            *next = end;
        }
    }

    /// Spares serve if they have the right size; others go, those of a build that kept more of them too.
    fn spares(&mut self, names: &[String]) -> Result<Spares> {
        let mut found = Spares::default();
        if !self.repair {
            return Ok(found);
        }
        for name in names.iter().filter(|name| spares::is_spare(name)) {
            let path = self.dir.join(name);
            let len = self.env.vfs.open(&path, Open::Read).and_then(|file| file.len());
            match spares::place(name) {
                Some(place) if len.is_ok_and(|len| len == self.log_file_bytes) => found.ready(place),
                _ => remove_if_there(self.env, &path)?,
            }
        }
        Ok(found)
    }

    /// Opens the file at `base`; `limit` is the base of the one behind it. Moves `next` behind its last record.
    fn open_file(&mut self, base: u64, limit: Option<u64>, next: &mut u64) -> Result<LogFile> {
        let path = self.dir.join(file::log_name(base));
        let handle = self.env.vfs.open(&path, Open::Read).map_err(|error| Error::io("open", &path, error))?;
        let len = handle.len().map_err(|error| Error::io("measure", &path, error))?;
        if let Some((header, extent)) = self.indexed(&*handle, len, base, limit) {
            *next = extent.end_offset;
            return Ok(LogFile::new(path, base, header.salt, header.file_bytes, extent));
        }
        let loaded = file::load(&*handle, len);
        let Some(header) = self.header(&path, base, &loaded.bytes)? else {
            // Without its salt no batch of the file can be believed.
            let end = limit.unwrap_or_else(|| base.saturating_add(len.max(self.log_file_bytes)));
            self.damage(&path, 0, &loaded.bytes, "both headers of the log file", base, end);
            *next = end;
            let extent = Extent { end_offset: base, max_time: i64::MIN, ..Extent::default() };
            return Ok(LogFile::new(path, base, 0, len, extent));
        };
        let data_end = header.file_bytes.saturating_sub(FILE_HEADER_BYTES as u64).min(len);
        let seed = seed_of(header.salt);
        let mut found = scan(&loaded.bytes, seed, base, limit.unwrap_or(u64::MAX), data_end, &mut |_, _, _| ());
        self.recovery.batches += found.batches;
        *next = match limit {
            Some(limit) => self.sealed_end(&path, &loaded, &header, &mut found, limit),
            None => self.newest_end(&path, &loaded, &header, &mut found)?,
        };
        if self.repair {
            index::keep(self.env, &self.dir.join(file::index_name(base)), base, header.salt, &found.extent);
        }
        Ok(LogFile::new(path, base, header.salt, header.file_bytes, found.extent))
    }

    /// A sealed file whose index holds need not be read.
    fn indexed(
        &self,
        handle: &dyn varve_vfs::File,
        len: u64,
        base: u64,
        limit: Option<u64>,
    ) -> Option<(FileHeader, Extent)> {
        let limit = limit.filter(|_| !self.thorough)?;
        let kept = index::read(self.env, &self.dir.join(file::index_name(base)))?;
        let mut bytes = [0; FILE_HEADER_BYTES];
        handle.read_at(&mut bytes, 0).ok()?;
        let (version, header) = FileHeader::decode(&bytes).ok()?;
        let same = version == VERSION && header.salt == kept.salt && header.base_offset == base && kept.base == base;
        let ends = kept.extent.end_offset == limit && kept.extent.end_at <= len && len == header.file_bytes;
        (same && ends).then_some((header, kept.extent))
    }

    /// The header of a file, from its front or its back. `None` when neither holds.
    fn header(&mut self, path: &Path, base: u64, bytes: &[u8]) -> Result<Option<FileHeader>> {
        let back = bytes.len().saturating_sub(FILE_HEADER_BYTES);
        let front = bytes.get(..FILE_HEADER_BYTES).unwrap_or_default();
        let copy = bytes.get(back..).unwrap_or_default();
        let topic = crc32fast::hash(self.topic.as_str().as_bytes());
        let mut sound = Vec::new();
        for bytes in [front, copy] {
            let decoded = FileHeader::decode(bytes).ok();
            if let Some((version, _)) = decoded
                && version != VERSION
            {
                return Err(Error::Version { path: path.to_owned(), found: version, newest: VERSION });
            }
            sound.push(decoded.map(|(_, header)| header).filter(|header| {
                header.base_offset == base && header.partition == self.partition && header.topic == topic
            }));
        }
        match (sound[0], sound[1]) {
            (Some(header), copied) => {
                if copied != Some(header) && bytes.len() as u64 >= header.file_bytes {
                    self.damage(path, back as u64, copy, "the copy of the log file header", base, base);
                }
                Ok(Some(header))
            }
            (None, Some(header)) => {
                self.damage(path, 0, front, "the log file header", base, base);
                Ok(Some(header))
            }
            (None, None) => Ok(None),
        }
    }

    /// All below the next file's base was durable: what is missing is damage.
    fn sealed_end(&mut self, path: &Path, loaded: &Loaded, header: &FileHeader, found: &mut Scan, limit: u64) -> u64 {
        self.gaps(path, &loaded.bytes, found);
        let (len, extent) = (loaded.bytes.len() as u64, &mut found.extent);
        let cut = len < header.file_bytes;
        if cut || extent.end_offset < limit {
            let what = if cut { "the file was cut" } else { "the end of the file" };
            let rest = loaded.bytes.get(extent.end_at as usize..).unwrap_or_default();
            let (first, at) = (extent.end_offset, extent.end_at);
            extent.whole = false;
            self.damage(path, at, if first < limit { rest } else { &[] }, what, first, limit);
        }
        limit
    }

    /// In the newest file a gap at or above what was durable is a torn tail, if its bytes could be read.
    fn newest_end(&mut self, path: &Path, loaded: &Loaded, header: &FileHeader, found: &mut Scan) -> Result<u64> {
        let (bytes, len) = (&loaded.bytes, loaded.bytes.len() as u64);
        let durable = found.durable.max(header.base_offset);
        let end_at = found.extent.end_at;
        if len < header.file_bytes || loaded.unreadable.iter().any(|range| range.end > end_at) {
            // Nobody knows what stood there: nothing is cut, and offsets jump over what it could have been.
            self.gaps(path, bytes, found);
            let first = found.extent.end_offset;
            let end = first.saturating_add(header.file_bytes.saturating_sub(end_at));
            let what = if len < header.file_bytes { "the file was cut" } else { "the end of the file is unreadable" };
            let rest = bytes.get(end_at as usize..).unwrap_or_default();
            self.damage(path, end_at, rest, what, first, end);
            found.extent.whole = false;
            return Ok(end);
        }
        let torn =
            |gap: &Gap| gap.first < gap.end && gap.first >= durable && !loaded.misses(gap.at..gap.at + gap.bytes);
        if let Some(n) = found.gaps.iter().position(torn) {
            found.extent = found.gaps[n].before.clone();
            found.rest = Rest::Torn(found.gaps[n].what);
            found.gaps.truncate(n);
        }
        self.gaps(path, bytes, found);
        let extent = &found.extent;
        let torn = match found.rest {
            Rest::Torn(_) => true,
            Rest::Other(_) => !header.recycled,
            Rest::Clean | Rest::Superseded => false,
        };
        if torn {
            let torn = Torn { path: path.to_owned(), at: extent.end_at, offset: Offset(extent.end_offset) };
            self.recovery.torn.push(torn);
        }
        if self.repair
            && let Some(at) = found.doubtful_at.filter(|at| *at < extent.end_at)
        {
            self.make_durable(path, loaded, at..extent.end_at)?;
        }
        Ok(found.extent.end_offset)
    }

    /// Brings the last group to the disk whatever the page cache pretends: the same bytes are written and synced again.
    /// What could not be read is left alone: it may be read another time.
    fn make_durable(&self, path: &Path, loaded: &Loaded, range: Range<u64>) -> Result<()> {
        let handle = self.env.vfs.open(path, Open::Write).map_err(|error| Error::io("open", path, error))?;
        let mut at = range.start;
        for hole in loaded.unreadable.iter().chain([&(range.end..range.end)]) {
            let end = hole.start.clamp(at, range.end);
            let bytes = loaded.bytes.get(at as usize..end as usize).unwrap_or_default();
            match handle.write_at(bytes, at).map_err(|error| Error::io("write", path, error)) {
                // A disk that needs space even to overwrite still has the bytes it has.
                Ok(()) | Err(Error::Full { .. }) => {}
                Err(error) => return Err(error),
            }
            at = hole.end.clamp(end, range.end);
        }
        handle.sync().map_err(|error| Error::io("sync", path, error))
    }

    /// Reports what is missing. A gap without offsets was a mark: it is damage only if a batch behind it was written
    /// after a later sync, else the sync of its group may have failed.
    fn gaps(&mut self, path: &Path, bytes: &[u8], found: &mut Scan) {
        found.gaps.retain(|gap| gap.first < gap.end || gap.first < found.durable);
        found.extent.whole = found.gaps.is_empty();
        for gap in &found.gaps {
            let bad = bytes.get(gap.at as usize..(gap.at + gap.bytes) as usize).unwrap_or_default();
            self.damage(path, gap.at, bad, gap.what, gap.first, gap.end);
        }
    }

    fn damage(&mut self, path: &Path, at: u64, bytes: &[u8], what: &'static str, first: u64, end: u64) {
        let file = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("file");
        let name = format!("{}-{}-{file}-{at}.bad", self.topic, self.partition);
        let quarantined = if self.repair { self.quarantine.keep(self.env, &name, bytes) } else { None };
        self.recovery.damaged.push(Damage {
            path: path.to_owned(),
            at,
            bytes: bytes.len() as u64,
            what,
            first: Offset(first),
            end: Offset(end),
            quarantined,
        });
    }
}
