//! Layout: the fixed parts of a segment file and the frame of its blocks. Little-endian; reserved bytes are zero.
//!
//! ```text
//! header    0 "VARVESEG"  8 u16 version  10 u8 kind  11 u8 level  12 u32 partition  16 u64 id
//!          24 u64 first offset  32 u64 last offset  40 zero  60 u32 crc of bytes 0-59
//! trailer   0 u64 directory at  8 u32 directory bytes  12 u32 crc of bytes 0-11 and 16-31
//!          16 u16 version  18 u8 kind  19 u8 level  20 u32 zero  24 "VARVESEG"
//! block     0 u32 crc  4 u32 payload bytes  8 u8 encoding  9 u8 zero  10 u16 zero  12 payload
//! ```
//! The crc of a block covers the segment's id, the block's place in the file and bytes 4 on, so that a block read
//! from the wrong place or another file cannot pass. The directory is a block with id 0 in its crc: it is read before
//! the id is known and names the id itself.

use super::meta::SegmentHeader;
use crate::codec::Malformed;

pub(crate) const MAGIC: &[u8; 8] = b"VARVESEG";
/// The version that is written: 2 has start timestamps and exemplars.
pub(crate) const VERSION: u16 = 2;
/// The oldest version that is read.
pub(crate) const VERSION_OLDEST: u16 = 1;
/// Kind of segment: metrics.
pub(crate) const KIND_METRICS: u8 = 1;
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const TRAILER_BYTES: usize = 32;
pub(crate) const FRAME_BYTES: usize = 12;
/// A block never holds more than this once decompressed: bounds what a reader allocates.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 256 << 20;
const _: () = assert!(PAYLOAD_BYTES_MAX < u32::MAX as usize);
/// Blocks of byte sections are closed when they reach this.
pub(crate) const BLOCK_BYTES: usize = 32 << 10;
/// Id under which the directory's checksum is made.
pub(crate) const DIRECTORY_ID: u64 = 0;

/// How the payload of a block is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Encoding {
    /// As it is.
    Raw = 0,
    /// u32 bytes of the payload, then a zstd frame.
    Zstd = 1,
}

/// The sections, by the number under which the directory lists them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Section {
    Series = 0,
    Chunks = 1,
    Columns = 2,
    Times = 3,
    Values = 4,
    Postings = 5,
    Terms = 6,
    Starts = 7,
    Exemplars = 8,
}

impl Section {
    pub(crate) const ALL: [Section; 9] = [
        Section::Series,
        Section::Chunks,
        Section::Columns,
        Section::Times,
        Section::Values,
        Section::Postings,
        Section::Terms,
        Section::Starts,
        Section::Exemplars,
    ];

    /// The sections that a directory of this version lists.
    pub(crate) fn of_version(version: u16) -> &'static [Section] {
        let count = if version == 1 { 7 } else { Section::ALL.len() };
        Section::ALL.get(..count).unwrap_or(&[])
    }

    /// Whether its units are bytes: items lie in it at addresses.
    pub(crate) fn is_bytes(self) -> bool {
        matches!(self, Section::Times | Section::Values | Section::Postings | Section::Starts)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Section::Series => "series",
            Section::Chunks => "chunks",
            Section::Columns => "columns",
            Section::Times => "times",
            Section::Values => "values",
            Section::Postings => "postings",
            Section::Terms => "terms",
            Section::Starts => "starts",
            Section::Exemplars => "exemplars",
        }
    }
}

/// The bytes from `at` as an array; zeros where they end early, so check the length before.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = bytes.get(at..).and_then(|bytes| bytes.first_chunk::<N>()) {
        out = *found;
    }
    out
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// Why fixed bytes were refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    Malformed(Malformed),
    Version(u16),
}

pub(crate) fn encode_header(header: &SegmentHeader) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[0..8].copy_from_slice(MAGIC);
    out[8..10].copy_from_slice(&VERSION.to_le_bytes());
    out[10] = KIND_METRICS;
    out[11] = header.level;
    out[12..16].copy_from_slice(&header.partition.to_le_bytes());
    out[16..24].copy_from_slice(&header.id.to_le_bytes());
    out[24..32].copy_from_slice(&header.first.to_le_bytes());
    out[32..40].copy_from_slice(&header.last.to_le_bytes());
    let crc = crc32fast::hash(&out[..60]);
    out[60..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The header and the version of the file.
pub(crate) fn decode_header(bytes: &[u8; HEADER_BYTES]) -> Result<(SegmentHeader, u16), Refused> {
    let malformed = |what| Err(Refused::Malformed(Malformed(what)));
    if &bytes[0..8] != MAGIC {
        return malformed("no segment: wrong magic");
    }
    if crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) {
        return malformed("checksum of the header");
    }
    let version = u16::from_le_bytes(array(bytes, 8));
    if !(VERSION_OLDEST..=VERSION).contains(&version) {
        return Err(Refused::Version(version));
    }
    if bytes[10] != KIND_METRICS || bytes[40..60] != [0; 20] {
        return malformed("header has an unknown kind or reserved bytes set");
    }
    let header = SegmentHeader {
        id: u64_at(bytes, 16),
        partition: u32_at(bytes, 12),
        level: bytes[11],
        first: u64_at(bytes, 24),
        last: u64_at(bytes, 32),
    };
    Ok((header, version))
}

fn trailer_crc(bytes: &[u8; TRAILER_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..]);
    hasher.finalize()
}

pub(crate) fn encode_trailer(level: u8, directory_at: u64, directory_bytes: u32) -> [u8; TRAILER_BYTES] {
    let mut out = [0; TRAILER_BYTES];
    out[0..8].copy_from_slice(&directory_at.to_le_bytes());
    out[8..12].copy_from_slice(&directory_bytes.to_le_bytes());
    out[16..18].copy_from_slice(&VERSION.to_le_bytes());
    out[18] = KIND_METRICS;
    out[19] = level;
    out[24..].copy_from_slice(MAGIC);
    let crc = trailer_crc(&out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Where the directory is, how many bytes its block has, the level and the version.
pub(crate) fn decode_trailer(bytes: &[u8; TRAILER_BYTES]) -> Result<(u64, u32, u8, u16), Refused> {
    let malformed = |what| Err(Refused::Malformed(Malformed(what)));
    if &bytes[24..] != MAGIC {
        return malformed("no segment, or cut short: wrong magic at the end");
    }
    if trailer_crc(bytes) != u32_at(bytes, 12) {
        return malformed("checksum of the trailer");
    }
    let version = u16::from_le_bytes(array(bytes, 16));
    if !(VERSION_OLDEST..=VERSION).contains(&version) {
        return Err(Refused::Version(version));
    }
    if bytes[18] != KIND_METRICS || bytes[20..24] != [0; 4] {
        return malformed("trailer has an unknown kind or reserved bytes set");
    }
    Ok((u64_at(bytes, 0), u32_at(bytes, 8), bytes[19], version))
}

fn block_crc(id: u64, at: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(&at.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Appends a block whose first byte will be byte `at` of the file.
pub(crate) fn encode_block(id: u64, at: u64, encoding: Encoding, payload: &[&[u8]], out: &mut Vec<u8>) {
    let begin = out.len();
    let bytes: usize = payload.iter().map(|part| part.len()).sum();
    assert!(bytes <= PAYLOAD_BYTES_MAX, "a block of {bytes} bytes");
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(bytes as u32).to_le_bytes());
    out.extend_from_slice(&[encoding as u8, 0, 0, 0]);
    for part in payload {
        out.extend_from_slice(part);
    }
    let crc = block_crc(id, at, out.get(begin + 4..).unwrap_or_default());
    if let Some(place) = out.get_mut(begin..begin + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Checks the frame of a block that was read from byte `at`; yields its encoding and payload.
pub(crate) fn decode_block(id: u64, at: u64, block: &[u8]) -> Result<(Encoding, &[u8]), Malformed> {
    let Some((frame, payload)) = block.split_at_checked(FRAME_BYTES) else {
        return Err(Malformed("block is shorter than its frame"));
    };
    if block_crc(id, at, block.get(4..).unwrap_or_default()) != u32_at(frame, 0) {
        return Err(Malformed("checksum of a block"));
    }
    if u32_at(frame, 4) as usize != payload.len() {
        return Err(Malformed("block has another length than the directory says"));
    }
    match frame.get(8..) {
        Some([0, 0, 0, 0]) => Ok((Encoding::Raw, payload)),
        Some([1, 0, 0, 0]) => Ok((Encoding::Zstd, payload)),
        _ => Err(Malformed("block has an unknown encoding or reserved bytes set")),
    }
}
