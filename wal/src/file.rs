//! Log file: a fixed-size file of zeros, written from the front, named by its base offset.
//!
//! ```text
//! file   := header(64) batch* rest header(64)         name: base offset in 20 digits, ".log"
//! header := 0 "VARVELOG"  8 u16 version  10 u16 flags (bit 0: recycled)  12 u32 partition  16 u64 base offset
//!          24 u64 salt  32 i64 made at, ms  40 u64 file bytes  48 u32 crc of the topic's name  52 zero  60 u32 crc of 0..60
//! ```
//!
//! Invariants:
//! * A file gets its name only when both headers are durable in it: a bad header under a name is damage.
//! * The size never changes once it has the name, so a sync commits no metadata; a shorter file was cut.
//! * A file whose write or sync failed once is never written again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use varve_vfs::{Env, File, Open};

use crate::batch::{Malformed, OFFSET_MAX, seed_of};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::topic::{PartitionId, TopicName, remove_if_there};
use crate::wire;

pub(crate) const MAGIC: &[u8; 8] = b"VARVELOG";
pub(crate) const VERSION: u16 = 1;
/// Bytes of a file's header; the first batch stands behind it.
pub(crate) const FILE_HEADER_BYTES: usize = 64;
/// Bytes of a log file at most: the largest batch, 1 GiB, has room. A header that says more is none.
const FILE_BYTES_MAX: u64 = 2 << 30;
/// Name of a file in the making.
pub(crate) const FRESH: &str = "new";
const FLAG_RECYCLED: u16 = 1;
const ZERO_BYTES: usize = 1 << 20;

/// Identity of a log file within a process; a recycled or replaced file has a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub u64);

/// What a log file says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileHeader {
    /// Its partition.
    pub partition: PartitionId,
    /// Offset of its first record.
    pub base_offset: u64,
    /// Seed of its checksums.
    pub salt: u64,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: i64,
    /// Its size.
    pub file_bytes: u64,
    /// CRC-32 of its topic's name.
    pub topic: u32,
    /// Whether the bytes behind its last batch may be those of an earlier life.
    pub recycled: bool,
}

impl FileHeader {
    pub(crate) fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        wire::put(&mut bytes, 0, MAGIC);
        wire::put(&mut bytes, 8, &VERSION.to_le_bytes());
        wire::put(&mut bytes, 10, &if self.recycled { FLAG_RECYCLED } else { 0 }.to_le_bytes());
        wire::put(&mut bytes, 12, &self.partition.0.to_le_bytes());
        wire::put(&mut bytes, 16, &self.base_offset.to_le_bytes());
        wire::put(&mut bytes, 24, &self.salt.to_le_bytes());
        wire::put(&mut bytes, 32, &self.made_ms.to_le_bytes());
        wire::put(&mut bytes, 40, &self.file_bytes.to_le_bytes());
        wire::put(&mut bytes, 48, &self.topic.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        wire::put(&mut bytes, 60, &crc.to_le_bytes());
        bytes
    }

    /// Reads a header; the version stands beside it, so that a newer one is told from damage.
    pub fn decode(bytes: &[u8]) -> std::result::Result<(u16, FileHeader), Malformed> {
        const SHORT: Malformed = Malformed("too short for a log file header");
        let bytes = bytes.get(..FILE_HEADER_BYTES).ok_or(SHORT)?;
        if &bytes[..8] != MAGIC {
            return Err(Malformed("magic of the log file header"));
        }
        if wire::u32_at(bytes, 60) != Some(crc32fast::hash(&bytes[..60])) {
            return Err(Malformed("checksum of the log file header"));
        }
        let header = FileHeader {
            partition: PartitionId(wire::u32_at(bytes, 12).ok_or(SHORT)?),
            base_offset: wire::u64_at(bytes, 16).filter(|base| *base <= OFFSET_MAX).ok_or(SHORT)?,
            salt: wire::u64_at(bytes, 24).ok_or(SHORT)?,
            made_ms: wire::i64_at(bytes, 32).ok_or(SHORT)?,
            file_bytes: wire::u64_at(bytes, 40)
                .filter(|bytes| *bytes <= FILE_BYTES_MAX)
                .ok_or(Malformed("size of the log file"))?,
            topic: wire::u32_at(bytes, 48).ok_or(SHORT)?,
            recycled: wire::u16_at(bytes, 10).ok_or(SHORT)? & FLAG_RECYCLED != 0,
        };
        Ok((wire::u16_at(bytes, 8).ok_or(SHORT)?, header))
    }
}

/// Name of the log file with this base offset.
pub(crate) fn log_name(base: u64) -> String {
    format!("{base:020}.log")
}

/// Name of its index.
pub(crate) fn index_name(base: u64) -> String {
    format!("{base:020}.idx")
}

/// Base offset in such a name.
pub(crate) fn parse_name(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    let offset: u64 =
        (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())??;
    (offset <= OFFSET_MAX).then_some(offset)
}

/// How far a log file can be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    /// Offset behind the last record.
    pub(crate) end_offset: u64,
    /// Byte behind the last batch.
    pub(crate) end_at: u64,
    /// Newest append time, or the smallest integer when there is no batch.
    pub(crate) max_time: i64,
    pub(crate) index: Index,
    /// Nothing in it was found damaged.
    pub(crate) whole: bool,
}

/// A log file of a partition: what is fixed, and how far it goes.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) path: PathBuf,
    pub(crate) base: u64,
    pub(crate) salt: u64,
    pub(crate) seed: u32,
    pub(crate) file_bytes: u64,
    extent: Mutex<Extent>,
}

impl LogFile {
    pub(crate) fn new(path: PathBuf, base: u64, salt: u64, file_bytes: u64, extent: Extent) -> LogFile {
        LogFile { path, base, salt, seed: seed_of(salt), file_bytes, extent: Mutex::new(extent) }
    }

    /// A file that has just been made: nothing to read yet.
    pub(crate) fn empty(path: PathBuf, header: &FileHeader) -> LogFile {
        let extent = Extent {
            end_offset: header.base_offset,
            end_at: FILE_HEADER_BYTES as u64,
            max_time: i64::MIN,
            index: Index::default(),
            whole: true,
        };
        LogFile::new(path, header.base_offset, header.salt, header.file_bytes, extent)
    }

    pub(crate) fn extent(&self) -> MutexGuard<'_, Extent> {
        self.extent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self) -> FileId {
        FileId(self.salt)
    }
}

/// How a new file came to be.
pub(crate) struct Made {
    pub(crate) file: Arc<LogFile>,
    pub(crate) handle: Arc<dyn File>,
    pub(crate) recycled: bool,
}

/// What a new log file is to be.
pub(crate) struct Plan<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) topic: &'a TopicName,
    pub(crate) partition: PartitionId,
    pub(crate) base: u64,
    pub(crate) salt: u64,
    pub(crate) made_ms: i64,
    pub(crate) file_bytes: u64,
    /// Name of a spare of that size.
    pub(crate) spare: Option<&'static str>,
}

/// Makes a log file: from the spare if there is one, else from zeros; headers, sync, rename, sync of the directory.
/// A file of that name is replaced: it holds nothing durable. What fails is removed again.
pub(crate) fn make(env: &Env, plan: &Plan<'_>) -> Result<Made> {
    let fresh = plan.dir.join(FRESH);
    let spare = plan.spare.map(|name| plan.dir.join(name));
    let source = spare.as_ref().unwrap_or(&fresh);
    let path = plan.dir.join(log_name(plan.base));
    let header = FileHeader {
        partition: plan.partition,
        base_offset: plan.base,
        salt: plan.salt,
        made_ms: plan.made_ms,
        file_bytes: plan.file_bytes,
        topic: crc32fast::hash(plan.topic.as_str().as_bytes()),
        recycled: plan.spare.is_some(),
    };
    let written = (|| {
        let handle = if let Some(spare) = &spare {
            env.vfs.open(spare, Open::Write).map_err(|error| Error::io("open", spare, error))?
        } else {
            remove_if_there(env, &fresh)?;
            let handle = env.vfs.open(&fresh, Open::Create).map_err(|error| Error::io("create", &fresh, error))?;
            let zeros = vec![0; ZERO_BYTES.min(plan.file_bytes as usize)];
            let mut at = 0;
            while at < plan.file_bytes {
                let count = zeros.len().min((plan.file_bytes - at) as usize);
                handle.write_at(&zeros[..count], at).map_err(|error| Error::io("fill", &fresh, error))?;
                at += count as u64;
            }
            handle
        };
        let bytes = header.encode();
        let copy_at = plan.file_bytes - FILE_HEADER_BYTES as u64;
        handle.write_at(&bytes, 0).map_err(|error| Error::io("write", source, error))?;
        handle.write_at(&bytes, copy_at).map_err(|error| Error::io("write", source, error))?;
        handle.sync().map_err(|error| Error::io("sync", source, error))?;
        env.vfs.rename(source, &path).map_err(|error| Error::io("rename", source, error))?;
        Ok(handle)
    })();
    let handle = match written {
        Ok(handle) => handle,
        Err(error) => {
            // A full disk must not keep the scrap, and a spare that failed is no spare.
            let _ = env.vfs.remove(source);
            return Err(error);
        }
    };
    env.vfs.sync_dir(plan.dir).map_err(|error| Error::io("sync", plan.dir, error))?;
    Ok(Made { file: Arc::new(LogFile::empty(path, &header)), handle, recycled: plan.spare.is_some() })
}

/// A log file's bytes, read whole, with the ranges that could not be read as zeros.
pub(crate) struct Loaded {
    pub(crate) bytes: Vec<u8>,
    /// Ascending.
    pub(crate) unreadable: Vec<std::ops::Range<u64>>,
}

impl Loaded {
    /// Whether any byte of a range could not be read.
    pub(crate) fn misses(&self, range: std::ops::Range<u64>) -> bool {
        self.unreadable.iter().any(|unreadable| unreadable.start < range.end && range.start < unreadable.end)
    }
}

/// Reads all of a file. A range that fails is tried again in small pieces; what fails again is zero.
pub(crate) fn load(handle: &dyn File, len: u64) -> Loaded {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(isize::MAX as usize);
    let mut loaded = Loaded { bytes: vec![0; len], unreadable: Vec::new() };
    let mut at = 0;
    for piece in loaded.bytes.chunks_mut(ZERO_BYTES) {
        read_around(handle, piece, at, &mut loaded.unreadable);
        at += piece.len() as u64;
    }
    loaded
}

/// Fills `buf` from `at` around what cannot be read: pieces of 512 bytes that fail again and again are zero and told.
pub(crate) fn read_around(handle: &dyn File, buf: &mut [u8], at: u64, unreadable: &mut Vec<std::ops::Range<u64>>) {
    if handle.read_at(buf, at).is_ok() {
        return;
    }
    let (mut at, mut rest) = (at, buf);
    while !rest.is_empty() {
        // Up to the next sector: a bad one must not take bytes of its neighbours along.
        let count = (512 - at % 512).min(rest.len() as u64);
        let (piece, behind) = rest.split_at_mut(count as usize);
        if (0..3).all(|_| handle.read_at(piece, at).is_err()) {
            piece.fill(0);
            match unreadable.last_mut() {
                Some(last) if last.end == at => last.end = at + count,
                _ => unreadable.push(at..at + count),
            }
        }
        at += count;
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_offset_and_read_back() {
        assert_eq!(log_name(7), "00000000000000000007.log");
        assert_eq!(parse_name(&log_name(OFFSET_MAX), ".log"), Some(OFFSET_MAX));
        assert_eq!(parse_name(&log_name(OFFSET_MAX + 1), ".log"), None);
        assert_eq!(parse_name("0000000000000000007.log", ".log"), None);
        assert_eq!(parse_name("+0000000000000000007.log", ".log"), None);
        assert_eq!(parse_name("99999999999999999999.log", ".log"), None);
        assert_eq!(parse_name("spare", ".log"), None);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let header = FileHeader {
            partition: PartitionId(3),
            base_offset: 12,
            salt: 99,
            made_ms: 5,
            file_bytes: 4096,
            topic: 1,
            recycled: true,
        };
        let bytes = header.encode();
        assert_eq!(FileHeader::decode(&bytes), Ok((VERSION, header)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&flipped).is_err());
        }
    }

    #[test]
    fn a_size_that_no_file_has_is_not_believed() {
        for (file_bytes, believed) in [(FILE_BYTES_MAX, true), (FILE_BYTES_MAX + 1, false), (u64::MAX, false)] {
            let (partition, made_ms) = (PartitionId(0), 0);
            let header =
                FileHeader { partition, base_offset: 0, salt: 1, made_ms, file_bytes, topic: 1, recycled: false };
            assert_eq!(FileHeader::decode(&header.encode()).is_ok(), believed, "{file_bytes}");
        }
    }
}
