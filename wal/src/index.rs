//! Sparse index of a log file: every 64 KiB an offset, its byte and the newest time before it.
//!
//! One idea: the index is a hint that spares reading. It is built while writing, kept beside a sealed file as `.idx`,
//! and believed only if its checksum holds and it ends where the next file begins; else the file is read.
//!
//! ```text
//! idx := header(64) entry(24)*
//! header:  0 "VARVEIDX"  8 u16 version  10 zero  12 u32 entries  16 u64 base offset  24 u64 salt  32 u64 end offset
//!         40 u64 end byte  48 i64 newest time ms  56 zero  60 u32 crc of 0..60 and all entries
//! entry:   0 u64 offset  8 u64 byte  16 i64 newest time of the batches before, ms
//! ```

use std::path::Path;

use varve_vfs::{Env, Open};

use crate::file::Extent;
use crate::topic::remove_if_there;
use crate::wire;

/// Bytes of log between two entries.
const EVERY_BYTES: u64 = 64 << 10;
const MAGIC: &[u8; 8] = b"VARVEIDX";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    offset: u64,
    at: u64,
    time_before: i64,
}

/// Where to begin reading.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Index {
    entries: Vec<Entry>,
}

impl Index {
    /// Tells of the batch at `at`; `time_before` is the newest time of all batches before it.
    pub(crate) fn note(&mut self, offset: u64, at: u64, time_before: i64) {
        let due = self.entries.last().map_or(EVERY_BYTES, |last| last.at + EVERY_BYTES);
        if at >= due {
            self.entries.push(Entry { offset, at, time_before });
        }
    }

    /// Tells every entry: offset, byte, newest time before.
    pub(crate) fn each(&self, tell: &mut dyn FnMut(u64, u64, i64) -> std::io::Result<()>) -> std::io::Result<()> {
        self.entries.iter().try_for_each(|entry| tell(entry.offset, entry.at, entry.time_before))
    }

    /// A byte at or before the batch that holds `offset`, and the offset there.
    pub(crate) fn seek(&self, offset: u64) -> Option<(u64, u64)> {
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        Some((entry.at, entry.offset))
    }

    /// The last noted offset before which every batch is older than `time_ms`.
    pub(crate) fn seek_time(&self, time_ms: i64) -> Option<u64> {
        let after = self.entries.partition_point(|entry| entry.time_before < time_ms);
        Some(self.entries.get(after.checked_sub(1)?)?.offset)
    }
}

/// What an index file says, and whose it is.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) base: u64,
    pub(crate) salt: u64,
    pub(crate) extent: Extent,
}

fn crc(header: &[u8], entries: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(entries);
    hasher.finalize()
}

fn encode(base: u64, salt: u64, extent: &Extent) -> Vec<u8> {
    let entries = &extent.index.entries;
    let mut bytes = vec![0; HEADER_BYTES + entries.len() * ENTRY_BYTES];
    wire::put(&mut bytes, 0, MAGIC);
    wire::put(&mut bytes, 8, &VERSION.to_le_bytes());
    wire::put(&mut bytes, 12, &(entries.len() as u32).to_le_bytes());
    wire::put(&mut bytes, 16, &base.to_le_bytes());
    wire::put(&mut bytes, 24, &salt.to_le_bytes());
    wire::put(&mut bytes, 32, &extent.end_offset.to_le_bytes());
    wire::put(&mut bytes, 40, &extent.end_at.to_le_bytes());
    wire::put(&mut bytes, 48, &extent.max_time.to_le_bytes());
    for (n, entry) in entries.iter().enumerate() {
        let at = HEADER_BYTES + n * ENTRY_BYTES;
        wire::put(&mut bytes, at, &entry.offset.to_le_bytes());
        wire::put(&mut bytes, at + 8, &entry.at.to_le_bytes());
        wire::put(&mut bytes, at + 16, &entry.time_before.to_le_bytes());
    }
    let crc = crc(&bytes[..60], &bytes[HEADER_BYTES..]);
    wire::put(&mut bytes, 60, &crc.to_le_bytes());
    bytes
}

/// Reads an index; `None` for anything that does not hold.
pub(crate) fn decode(bytes: &[u8]) -> Option<Kept> {
    let (header, entries) = (bytes.get(..60)?, bytes.get(HEADER_BYTES..)?);
    if header.get(..8)? != MAGIC || wire::u16_at(header, 8)? != VERSION {
        return None;
    }
    if wire::u32_at(bytes, 60)? != crc(header, entries) {
        return None;
    }
    if entries.len() != (wire::u32_at(header, 12)? as usize).checked_mul(ENTRY_BYTES)? {
        return None;
    }
    let mut index = Index::default();
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        index.entries.push(Entry {
            offset: wire::u64_at(entry, 0)?,
            at: wire::u64_at(entry, 8)?,
            time_before: wire::i64_at(entry, 16)?,
        });
    }
    let extent = Extent {
        end_offset: wire::u64_at(header, 32)?,
        end_at: wire::u64_at(header, 40)?,
        max_time: wire::i64_at(header, 48)?,
        index,
        whole: true,
    };
    Some(Kept { base: wire::u64_at(header, 16)?, salt: wire::u64_at(header, 24)?, extent })
}

/// Keeps the index of a sealed file. A hint only: not synced, and whatever fails is forgotten.
pub(crate) fn keep(env: &Env, path: &Path, base: u64, salt: u64, extent: &Extent) {
    if !extent.whole || remove_if_there(env, path).is_err() {
        return;
    }
    let Ok(file) = env.vfs.open(path, Open::Create) else { return };
    if file.write_at(&encode(base, salt, extent), 0).is_err() {
        drop(file);
        let _ = env.vfs.remove(path);
    }
}

/// Reads the index kept at `path`, if it holds.
pub(crate) fn read(env: &Env, path: &Path) -> Option<Kept> {
    let file = env.vfs.open(path, Open::Read).ok()?;
    let len = usize::try_from(file.len().ok()?).ok().filter(|len| *len <= 64 << 20)?;
    let mut bytes = vec![0; len];
    file.read_at(&mut bytes, 0).ok()?;
    decode(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent() -> Extent {
        let mut index = Index::default();
        for n in 0..100 {
            index.note(n * 10, 64 + n * 10_000, n as i64 * 5 - 5);
        }
        Extent { end_offset: 1000, end_at: 1_000_064, max_time: 495, index, whole: true }
    }

    #[test]
    fn seeks_never_pass_the_target() {
        let index = extent().index;
        assert_eq!(index.seek(5), None);
        for offset in 0..1000 {
            if let Some((at, first)) = index.seek(offset) {
                assert!(first <= offset && at == 64 + first * 1000);
            }
        }
        for time in 0..500 {
            if let Some(offset) = index.seek_time(time) {
                assert!((offset as i64 / 10) * 5 - 5 < time);
            }
        }
        assert_eq!(index.seek(999).unwrap().1, 980);
    }

    #[test]
    fn an_index_comes_back_and_every_flipped_bit_is_seen() {
        let bytes = encode(3, 9, &extent());
        let kept = decode(&bytes).unwrap();
        assert_eq!((kept.base, kept.salt), (3, 9));
        assert_eq!(kept.extent.index, extent().index);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Reserved bytes of the header are under the checksum too.
            assert!(decode(&flipped).is_none(), "bit {bit}");
        }
    }
}
