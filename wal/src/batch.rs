//! Batch: the frame of the log, a 64-byte header and a payload padded to 8 bytes.
//!
//! One idea: a batch proves itself. Both checksums are seeded with the salt of its file, so bytes of another file, of
//! an earlier life of a recycled one, or of a payload that quotes a log cannot pass for a batch of this file.
//!
//! ```text
//!  0 u32 crc of 4..60 and the payload   4 u32 payload bytes     8 u64 base offset     16 u64 durable offset
//! 24 i64 append time ms                32 u64 producer         40 u32 sequence        44 u32 records
//! 48 u32 tenant                        52 u32 epoch            56 u8 kind             57 u8 compression
//! 58 u16 flags (bit 15: mark)          60 u32 crc of 4..60
//! ```
//!
//! The header's checksum stays out of the other one: a CRC that runs over its own value forgets all it saw before, salt
//! and offset too, and an old payload under a new header could pass.
//!
//! Invariants:
//! * The header has a checksum of its own: a damaged payload is skipped by its length, not searched through.
//! * A mark has no records and no payload; every other batch has at least one record.
//! * `durable offset` ≤ `base offset`; all below it was synced before this batch was written.

use crate::wire;

/// Bytes of a batch's header.
pub const HEADER_BYTES: usize = 64;

/// Flag of a mark: a batch that only carries a durable offset.
pub(crate) const FLAG_MARK: u16 = 1 << 15;

const _: () = assert!(HEADER_BYTES.is_multiple_of(8));

/// Why bytes are no batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub &'static str);

/// What a writer says about a batch; offsets and checksums are the log's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordHeader {
    /// Owner of the records.
    pub tenant: u32,
    /// What the payload means; free for the writer.
    pub kind: u8,
    /// How the payload is compressed; free for the writer.
    pub compression: u8,
    /// Free for the writer, but for bit 15.
    pub flags: u16,
    /// Number of records, at least 1: so many offsets the batch takes.
    pub records: u32,
    /// Time of appending in milliseconds since 1970.
    pub time_ms: i64,
    /// Identity of an idempotent producer; 0 is none.
    pub producer: u64,
    /// Sequence number of the producer.
    pub sequence: u32,
    /// Epoch of the writer; 0 until there are replicas.
    pub epoch: u32,
}

/// The whole header of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// Offset of the first record.
    pub base_offset: u64,
    /// All offsets below were durable when this batch was written.
    pub durable_offset: u64,
    /// What the writer said.
    pub record: RecordHeader,
}

impl Header {
    /// Whether this is a mark.
    pub fn is_mark(&self) -> bool {
        self.record.flags & FLAG_MARK != 0
    }

    /// The offset behind the last record.
    pub fn end_offset(&self) -> u64 {
        self.base_offset.saturating_add(u64::from(self.record.records))
    }

    /// Bytes of the whole batch with its padding.
    pub fn batch_bytes(&self) -> usize {
        batch_bytes(self.payload_bytes as usize)
    }
}

/// Bytes that a batch with such a payload takes in a file.
pub(crate) fn batch_bytes(payload_bytes: usize) -> usize {
    HEADER_BYTES + payload_bytes.next_multiple_of(8)
}

/// The seed that a file's salt gives its checksums.
pub(crate) fn seed_of(salt: u64) -> u32 {
    crc32fast::hash(&salt.to_le_bytes())
}

fn crc(seed: u32, header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

/// Appends a batch to a buffer: the one copy of the payload.
pub(crate) fn encode(out: &mut Vec<u8>, header: &Header, payload: &[u8], seed: u32) {
    assert_eq!(header.payload_bytes as usize, payload.len());
    assert_eq!(header.is_mark(), header.record.records == 0);
    assert!(header.durable_offset <= header.base_offset);
    let begin = out.len();
    out.reserve(batch_bytes(payload.len()));
    let mut bytes = [0; HEADER_BYTES];
    wire::put(&mut bytes, 4, &header.payload_bytes.to_le_bytes());
    wire::put(&mut bytes, 8, &header.base_offset.to_le_bytes());
    wire::put(&mut bytes, 16, &header.durable_offset.to_le_bytes());
    wire::put(&mut bytes, 24, &header.record.time_ms.to_le_bytes());
    wire::put(&mut bytes, 32, &header.record.producer.to_le_bytes());
    wire::put(&mut bytes, 40, &header.record.sequence.to_le_bytes());
    wire::put(&mut bytes, 44, &header.record.records.to_le_bytes());
    wire::put(&mut bytes, 48, &header.record.tenant.to_le_bytes());
    wire::put(&mut bytes, 52, &header.record.epoch.to_le_bytes());
    wire::put(&mut bytes, 56, &[header.record.kind, header.record.compression]);
    wire::put(&mut bytes, 58, &header.record.flags.to_le_bytes());
    let header_crc = crc(seed, &bytes[4..60], &[]);
    let whole_crc = crc(seed, &bytes[4..60], payload);
    wire::put(&mut bytes, 0, &whole_crc.to_le_bytes());
    wire::put(&mut bytes, 60, &header_crc.to_le_bytes());
    out.extend_from_slice(&bytes);
    out.extend_from_slice(payload);
    out.resize(begin + batch_bytes(payload.len()), 0);
}

/// Whether bytes could begin a batch at or above an offset: cheap, before any checksum.
pub(crate) fn plausible(bytes: &[u8], offset_min: u64) -> bool {
    let (Some(base), Some(durable)) = (wire::u64_at(bytes, 8), wire::u64_at(bytes, 16)) else { return false };
    let (Some(records), Some(flags)) = (wire::u32_at(bytes, 44), wire::u16_at(bytes, 58)) else { return false };
    base >= offset_min && durable <= base && ((records == 0) == (flags & FLAG_MARK != 0))
}

/// Reads and verifies a header alone.
pub(crate) fn decode_header(bytes: &[u8], seed: u32) -> Result<Header, Malformed> {
    const SHORT: Malformed = Malformed("too short for a batch header");
    let bytes = bytes.get(..HEADER_BYTES).ok_or(SHORT)?;
    if wire::u32_at(bytes, 60).ok_or(SHORT)? != crc(seed, &bytes[4..60], &[]) {
        return Err(Malformed("checksum of the batch header"));
    }
    let header = Header {
        payload_bytes: wire::u32_at(bytes, 4).ok_or(SHORT)?,
        base_offset: wire::u64_at(bytes, 8).ok_or(SHORT)?,
        durable_offset: wire::u64_at(bytes, 16).ok_or(SHORT)?,
        record: RecordHeader {
            time_ms: wire::i64_at(bytes, 24).ok_or(SHORT)?,
            producer: wire::u64_at(bytes, 32).ok_or(SHORT)?,
            sequence: wire::u32_at(bytes, 40).ok_or(SHORT)?,
            records: wire::u32_at(bytes, 44).ok_or(SHORT)?,
            tenant: wire::u32_at(bytes, 48).ok_or(SHORT)?,
            epoch: wire::u32_at(bytes, 52).ok_or(SHORT)?,
            kind: bytes[56],
            compression: bytes[57],
            flags: wire::u16_at(bytes, 58).ok_or(SHORT)?,
        },
    };
    if header.durable_offset > header.base_offset {
        return Err(Malformed("durable offset above the base offset"));
    }
    if header.base_offset > OFFSET_MAX {
        return Err(Malformed("offset beyond 63 bits"));
    }
    if header.is_mark() != (header.record.records == 0) || (header.is_mark() && header.payload_bytes != 0) {
        return Err(Malformed("a batch without records, or a mark with some"));
    }
    Ok(header)
}

/// Offsets that are believed. No log gets there; forged ones near the end of 64 bits would make the writer's overflow.
pub(crate) const OFFSET_MAX: u64 = i64::MAX as u64;

/// Reads and verifies the batch at the start of `bytes`; the payload is borrowed. The padding says nothing,
/// so damage to it costs nothing.
pub(crate) fn decode(bytes: &[u8], seed: u32) -> Result<(Header, &[u8]), Malformed> {
    let header = decode_header(bytes, seed)?;
    let payload_end = HEADER_BYTES.checked_add(header.payload_bytes as usize).ok_or(Malformed("payload too long"))?;
    let padded = bytes.get(..header.batch_bytes()).ok_or(Malformed("payload cut short"))?;
    if wire::u32_at(bytes, 0) != Some(crc(seed, &padded[4..60], &padded[HEADER_BYTES..payload_end])) {
        return Err(Malformed("checksum of the batch"));
    }
    Ok((header, &padded[HEADER_BYTES..payload_end]))
}

/// Decodes whatever batches stand one behind another in `data`, whose file has this salt; tells each, stops at the
/// first byte that is none. For fuzzing and for tools: no panic on any input, no allocation.
pub fn decode_all(data: &[u8], salt: u64, each: &mut dyn FnMut(&Header, &[u8])) -> Result<(), Malformed> {
    let seed = seed_of(salt);
    let mut rest = data;
    while !rest.is_empty() {
        let (header, payload) = decode(rest, seed)?;
        each(&header, payload);
        rest = rest.get(header.batch_bytes()..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(records: u32, payload: &[u8], seed: u32) -> (Header, Vec<u8>) {
        let record = RecordHeader {
            tenant: 3,
            kind: 9,
            compression: 1,
            flags: 0x1234 & !FLAG_MARK,
            records,
            time_ms: -5,
            producer: 77,
            sequence: 6,
            epoch: 2,
        };
        let header = Header { payload_bytes: payload.len() as u32, base_offset: 100, durable_offset: 90, record };
        let mut bytes = Vec::new();
        encode(&mut bytes, &header, payload, seed);
        (header, bytes)
    }

    proptest! {
        #[test]
        fn a_batch_comes_back(payload in proptest::collection::vec(any::<u8>(), 0..300), seed: u32) {
            let (header, bytes) = encoded(5, &payload, seed);
            prop_assert_eq!(bytes.len() % 8, 0);
            prop_assert_eq!(decode(&bytes, seed), Ok((header, &payload[..])));
            prop_assert!(decode(&bytes, seed ^ 1).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(data in proptest::collection::vec(any::<u8>(), 0..400), salt: u64) {
            let _ = decode_all(&data, salt, &mut |_, _| ());
        }
    }

    #[test]
    fn offsets_that_no_log_reaches_are_refused() {
        let (mut header, _) = encoded(5, b"", 1);
        for (base, believed) in [(OFFSET_MAX, true), (OFFSET_MAX + 1, false), (u64::MAX - 5, false)] {
            (header.base_offset, header.durable_offset) = (base, 0);
            let mut bytes = Vec::new();
            encode(&mut bytes, &header, b"", 1);
            assert_eq!(decode_header(&bytes, 1).is_ok(), believed, "{base}");
        }
    }

    #[test]
    fn an_old_payload_does_not_pass_under_a_new_header() {
        let (_, old) = encoded(5, b"of an earlier life", 41);
        let (_, mut torn) = encoded(5, b"of the present one", 42);
        // A sector border behind the first 8 bytes, and only the header's sector was written.
        torn[..8].copy_from_slice(&old[..8]);
        torn[HEADER_BYTES..].copy_from_slice(&old[HEADER_BYTES..]);
        assert!(decode_header(&torn, 42).is_ok());
        assert!(decode(&torn, 42).is_err());
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let (_, bytes) = encoded(5, b"eleven byte", 42);
        for at in 0..HEADER_BYTES + 11 {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(decode(&flipped, 42).is_err(), "byte {at} bit {bit}");
            }
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len], 42).is_err(), "cut at {len}");
        }
    }
}
