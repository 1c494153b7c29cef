//! Tombstones: which series of a block were deleted over which time, while their samples are still in the chunks.
//!
//! ```text
//! 01 30 BA 30 │ 01 │ (series · first time · last time) … │ CRC-32C of the entries
//! ```

use varve_model::TimeRange;

use super::Error;
use super::crc32c::crc32c;
use super::cursor::Cursor;

const MAGIC: u32 = 0x0130_ba30;
const VERSION: u8 = 1;

/// Samples of one series that are deleted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tombstone {
    /// Reference of the series, as its place in the postings has it.
    pub series: u64,
    /// First deleted millisecond.
    pub min: i64,
    /// Last deleted millisecond.
    pub max: i64,
}

impl Tombstone {
    /// The time that is deleted.
    pub fn range(&self) -> TimeRange {
        TimeRange { min: self.min, max: self.max }
    }
}

/// Reads a file of tombstones; they come sorted by series and time.
pub fn tombstones(file: &[u8]) -> Result<Vec<Tombstone>, Error> {
    let mut cursor = Cursor::new(file, 0);
    if cursor.be32()? != MAGIC {
        return Err(Error::damaged(0, "not a file of tombstones"));
    }
    let version = cursor.byte()?;
    if version != VERSION {
        return Err(Error::Newer { what: "tombstone file version", found: version.into(), newest: VERSION.into() });
    }
    let at = cursor.position();
    let len = cursor.len().checked_sub(4).ok_or_else(|| cursor.damaged("the file ends too early"))?;
    let bytes = cursor.take(len)?;
    if cursor.be32()? != crc32c(bytes) {
        return Err(Error::damaged(at, "the checksum does not match"));
    }
    let mut entries = Cursor::new(bytes, at);
    let mut found = Vec::new();
    while !entries.is_empty() {
        found.push(Tombstone { series: entries.uvarint()?, min: entries.varint()?, max: entries.varint()? });
    }
    found.sort_unstable();
    Ok(found)
}
