//! Rows: the compact tables of a segment, one block of each at a time: series, chunks, time columns.
//!
//! ```text
//! series   varint series, per series varint label bytes shared with the one before, varint label bytes of its own,
//!          then the own label bytes of all
//! chunks   varint series, varint address of the first chunk, per series varint float chunks, varint histogram
//!          chunks, then per chunk signed (column - previous chunk's column), then per chunk varint bytes of values;
//!          only where one of them has start timestamps: varint address of the first starts, per chunk varint bytes
//!          of starts
//! columns  varint columns, varint address of the first, per column signed (min - previous min), varint (max - min),
//!          varint count, varint bytes
//! ```
//! Chunks of a series: float chunks by time, then histogram chunks by time; their values follow each other in the
//! values section in that order.

use varve_model::labels::split_label;
use varve_model::{SeriesHash, TimeRange};

use crate::codec::Malformed;
use crate::index::varint::{Input, put, put_signed};

/// Series in a block of the series and chunks sections.
pub(crate) const SERIES_ROWS: usize = 256;
/// Label bytes after which such a block is closed early.
pub(crate) const SERIES_BYTES: usize = 256 << 10;
/// Label bytes that a block can have: bounds what a reader allocates, far above what limits let a writer gather.
const LABEL_BYTES_MAX: usize = 64 << 20;
/// Columns in a block of the columns section.
pub(crate) const COLUMN_ROWS: usize = 1024;

/// A block of series, decoded.
#[derive(Default, PartialEq, Debug)]
pub(crate) struct SeriesRows {
    label_bytes: Vec<u8>,
    ends: Vec<u32>,
    hashes: Vec<SeriesHash>,
}

impl SeriesRows {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Label bytes held.
    pub(crate) fn label_bytes_len(&self) -> usize {
        self.label_bytes.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.label_bytes.capacity() + 4 * self.ends.capacity() + 16 * self.hashes.capacity()
    }

    pub(crate) fn push(&mut self, label_bytes: &[u8]) {
        self.label_bytes.extend_from_slice(label_bytes);
        self.ends.push(self.label_bytes.len() as u32);
    }

    pub(crate) fn label_bytes(&self, row: usize) -> Option<&[u8]> {
        let end = *self.ends.get(row)?;
        let begin = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.label_bytes.get(begin as usize..end as usize)
    }

    /// The hashes of all rows.
    pub(crate) fn hashes(&self) -> &[SeriesHash] {
        &self.hashes
    }

    /// Encodes and forgets the rows.
    pub(crate) fn drain(&mut self, out: &mut Vec<u8>) {
        put(out, self.ends.len() as u64);
        let mut own = Vec::new();
        let mut before: &[u8] = &[];
        for row in 0..self.ends.len() {
            let bytes = self.label_bytes(row).unwrap_or_default();
            let shared = bytes.iter().zip(before).take_while(|(a, b)| a == b).count();
            put(out, shared as u64);
            put(out, (bytes.len() - shared) as u64);
            own.extend_from_slice(bytes.get(shared..).unwrap_or_default());
            before = bytes;
        }
        out.append(&mut own);
        self.label_bytes.clear();
        self.ends.clear();
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<SeriesRows, Malformed> {
        let mut input = Input::new(payload);
        let count = input.count()?;
        let mut lengths = Vec::with_capacity(count);
        for _ in 0..count {
            lengths.push((input.u32()? as usize, input.u32()? as usize));
        }
        let mut label_bytes: Vec<u8> = Vec::with_capacity(input.len() * 2);
        let mut ends = Vec::with_capacity(count);
        let mut begin = 0;
        for (shared, own) in lengths {
            let end = label_bytes.len();
            let own = input.take(own)?;
            if shared > end - begin || end + shared + own.len() > LABEL_BYTES_MAX {
                return Err(Malformed("label bytes share more than there is"));
            }
            label_bytes.extend_from_within(begin..begin + shared);
            label_bytes.extend_from_slice(own);
            begin = end;
            ends.push(label_bytes.len() as u32);
        }
        input.end()?;
        let mut rows = SeriesRows { label_bytes, ends, hashes: Vec::new() };
        let mut hashes = Vec::with_capacity(count);
        // Neighbours share most labels, at the same place: hash those once.
        let mut before: Vec<(&[u8], SeriesHash)> = Vec::new();
        for row in 0..count {
            let mut rest = rows.label_bytes(row).unwrap_or_default();
            let mut hash = SeriesHash::EMPTY;
            let mut at = 0;
            while !rest.is_empty() {
                let (body, after) = split_label(rest).ok_or(Malformed("label bytes"))?;
                rest = after;
                let known = before.get(at).filter(|(known, _)| *known == body);
                let one = match known {
                    Some((_, hash)) => *hash,
                    None => {
                        let mut one = SeriesHash::EMPTY;
                        one.add_body(body);
                        match before.get_mut(at) {
                            Some(slot) => *slot = (body, one),
                            None => before.push((body, one)),
                        }
                        one
                    }
                };
                hash.0 = hash.0.wrapping_add(one.0);
                at += 1;
            }
            hashes.push(hash);
        }
        rows.hashes = hashes;
        Ok(rows)
    }
}

/// One chunk: where its times and values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChunkRow {
    /// Its time column.
    pub(crate) column: u32,
    /// Address of its values.
    pub(crate) address: u64,
    /// Bytes of its values.
    pub(crate) bytes: u32,
    /// Whether its values are histograms.
    pub(crate) histogram: bool,
}

/// Where a chunk's start timestamps are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct StartRow {
    /// Address in the starts section.
    pub(crate) address: u64,
    /// How many bytes; 0 when the chunk has none.
    pub(crate) bytes: u32,
}

/// A block of chunk lists, decoded.
#[derive(Default, PartialEq, Debug)]
pub(crate) struct ChunkRows {
    ends: Vec<u32>,
    chunks: Vec<ChunkRow>,
    /// One a chunk, or none at all when no chunk has start timestamps.
    starts: Vec<StartRow>,
}

impl ChunkRows {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        4 * self.ends.capacity()
            + size_of::<ChunkRow>() * self.chunks.capacity()
            + size_of::<StartRow>() * self.starts.capacity()
    }

    /// Adds a chunk to the series that [`ChunkRows::end_series`] will end.
    pub(crate) fn push(&mut self, chunk: ChunkRow) {
        self.chunks.push(chunk);
    }

    /// Says where the start timestamps of the chunk added last are.
    pub(crate) fn set_starts(&mut self, starts: StartRow) {
        self.starts.resize(self.chunks.len(), StartRow::default());
        if let Some(last) = self.starts.last_mut() {
            *last = starts;
        }
    }

    pub(crate) fn end_series(&mut self) {
        self.ends.push(self.chunks.len() as u32);
    }

    fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        let end = *self.ends.get(row)?;
        let begin = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        Some(begin as usize..end as usize)
    }

    /// The chunks of a series.
    pub(crate) fn get(&self, row: usize) -> Option<&[ChunkRow]> {
        self.chunks.get(self.range(row)?)
    }

    /// Where the start timestamps of a series' chunks are, in their order; empty when the block has none.
    pub(crate) fn starts(&self, row: usize) -> &[StartRow] {
        self.range(row).and_then(|range| self.starts.get(range)).unwrap_or_default()
    }

    /// Encodes and forgets the rows.
    pub(crate) fn drain(&mut self, out: &mut Vec<u8>) {
        put(out, self.ends.len() as u64);
        put(out, self.chunks.first().map_or(0, |chunk| chunk.address));
        for row in 0..self.ends.len() {
            let chunks = self.get(row).unwrap_or_default();
            let floats = chunks.iter().filter(|chunk| !chunk.histogram).count();
            put(out, floats as u64);
            put(out, (chunks.len() - floats) as u64);
        }
        let mut previous = 0;
        for chunk in &self.chunks {
            put_signed(out, i64::from(chunk.column) - previous);
            previous = i64::from(chunk.column);
        }
        for chunk in &self.chunks {
            put(out, u64::from(chunk.bytes));
        }
        if let Some(first) = self.starts.iter().find(|starts| starts.bytes > 0) {
            put(out, first.address);
            self.starts.resize(self.chunks.len(), StartRow::default());
            for starts in &self.starts {
                put(out, u64::from(starts.bytes));
            }
        }
        self.ends.clear();
        self.chunks.clear();
        self.starts.clear();
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<ChunkRows, Malformed> {
        let mut input = Input::new(payload);
        let count = input.count()?;
        let mut address = input.varint()?;
        let mut rows = ChunkRows { ends: Vec::with_capacity(count), ..ChunkRows::default() };
        // Each chunk takes two bytes more below.
        for _ in 0..count {
            let floats = input.count()?;
            let histograms = input.count()?;
            if rows.chunks.len() + floats + histograms > input.len() {
                return Err(Malformed("count exceeds the bytes that follow"));
            }
            for index in 0..floats + histograms {
                rows.push(ChunkRow { column: 0, address: 0, bytes: 0, histogram: index >= floats });
            }
            rows.end_series();
        }
        let mut column = 0i64;
        for chunk in &mut rows.chunks {
            column = column.checked_add(input.signed()?).ok_or(Malformed("column overflows"))?;
            chunk.column = u32::try_from(column).map_err(|_| Malformed("column is not there"))?;
        }
        for chunk in &mut rows.chunks {
            chunk.bytes = input.u32()?;
            chunk.address = address;
            address = address.checked_add(u64::from(chunk.bytes)).ok_or(Malformed("address overflows"))?;
        }
        if input.len() > 0 {
            let mut address = input.varint()?;
            rows.starts.reserve_exact(rows.chunks.len());
            for _ in 0..rows.chunks.len() {
                let bytes = input.u32()?;
                rows.starts.push(StartRow { address, bytes });
                address = address.checked_add(u64::from(bytes)).ok_or(Malformed("address overflows"))?;
            }
        }
        input.end()?;
        Ok(rows)
    }
}

/// One time column: where its bytes are and what they say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ColumnRow {
    /// First and last time.
    pub(crate) range: TimeRange,
    /// How many times.
    pub(crate) count: u32,
    /// Address of its bytes in the times section.
    pub(crate) address: u64,
    /// How many bytes.
    pub(crate) bytes: u32,
}

/// Encodes and forgets rows of time columns.
pub(crate) fn drain_columns(rows: &mut Vec<ColumnRow>, out: &mut Vec<u8>) {
    put(out, rows.len() as u64);
    put(out, rows.first().map_or(0, |row| row.address));
    let mut previous = 0i64;
    for row in rows.iter() {
        put_signed(out, row.range.min.wrapping_sub(previous));
        put(out, row.range.max.wrapping_sub(row.range.min) as u64);
        put(out, u64::from(row.count));
        put(out, u64::from(row.bytes));
        previous = row.range.min;
    }
    rows.clear();
}

/// Decodes rows of time columns.
pub(crate) fn decode_columns(payload: &[u8]) -> Result<Vec<ColumnRow>, Malformed> {
    let mut input = Input::new(payload);
    let count = input.count()?;
    let mut address = input.varint()?;
    let mut rows = Vec::with_capacity(count);
    let mut min = 0i64;
    for _ in 0..count {
        min = min.wrapping_add(input.signed()?);
        let max = min.wrapping_add(input.varint()? as i64);
        let (count, bytes) = (input.u32()?, input.u32()?);
        if max < min || count == 0 {
            return Err(Malformed("time column is empty"));
        }
        rows.push(ColumnRow { range: TimeRange { min, max }, count, address, bytes });
        address = address.checked_add(u64::from(bytes)).ok_or(Malformed("address overflows"))?;
    }
    input.end()?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SeriesRows::decode(&bytes);
            let _ = ChunkRows::decode(&bytes);
            let _ = decode_columns(&bytes);
        }

        #[test]
        fn series_rows_come_back(series in proptest::collection::btree_map("[ab]{1,3}", "[xy]{0,40}", 0..30)) {
            let mut rows = SeriesRows::default();
            let labels: Vec<_> = series.iter().map(|(a, b)| varve_model::Labels::from([("a", &**a), ("b", &**b)])).collect();
            for labels in &labels {
                rows.push(labels.as_label_bytes());
            }
            let mut out = Vec::new();
            rows.drain(&mut out);
            let back = SeriesRows::decode(&out).unwrap();
            prop_assert_eq!(back.len(), labels.len());
            for (row, labels) in labels.iter().enumerate() {
                prop_assert_eq!(back.label_bytes(row), Some(labels.as_label_bytes()));
                prop_assert_eq!(back.hashes()[row], labels.hash());
            }
        }

        #[test]
        fn chunk_rows_come_back(series in proptest::collection::vec((0usize..4, 0usize..3), 0..20), base in 0u64..1 << 40) {
            let mut rows = ChunkRows::default();
            let (mut address, mut starts) = (base, base / 2);
            let mut number = 0u32;
            for (floats, histograms) in series {
                for index in 0..floats + histograms {
                    number = number.wrapping_mul(48271) + 11;
                    let bytes = number % 70_000;
                    rows.push(ChunkRow { column: number >> 3, address, bytes, histogram: index >= floats });
                    address += u64::from(bytes);
                    if base.is_multiple_of(2) && number.is_multiple_of(3) {
                        rows.set_starts(StartRow { address: starts, bytes: number % 100 });
                        starts += u64::from(number % 100);
                    }
                }
                rows.end_series();
            }
            let (ends, chunks, starts) = (rows.ends.clone(), rows.chunks.clone(), rows.starts.clone());
            let mut out = Vec::new();
            rows.drain(&mut out);
            let back = ChunkRows::decode(&out).unwrap();
            prop_assert_eq!((&back.ends, &back.chunks), (&ends, &chunks));
            for (at, back) in back.starts.iter().enumerate().filter(|(_, starts)| starts.bytes > 0) {
                prop_assert_eq!(Some(back), starts.get(at));
            }
            let known = |rows: &[StartRow]| rows.iter().filter(|starts| starts.bytes > 0).count();
            prop_assert_eq!(known(&back.starts), known(&starts));
        }

        #[test]
        fn column_rows_come_back(columns in proptest::collection::vec((any::<i64>(), any::<i64>(), 1u32..5000, 0u32..99), 0..20)) {
            let mut address = 77;
            let mut rows: Vec<ColumnRow> = columns.into_iter().map(|(a, b, count, bytes)| {
                let row = ColumnRow { range: TimeRange { min: a.min(b), max: a.max(b) }, count, address, bytes };
                address += u64::from(bytes);
                row
            }).collect();
            let expected = rows.clone();
            let mut out = Vec::new();
            drain_columns(&mut rows, &mut out);
            let mut back = decode_columns(&out).unwrap();
            if let (Some(first), Some(first_expected)) = (back.first_mut(), expected.first()) {
                prop_assert_eq!(first.address, first_expected.address);
            }
            prop_assert_eq!(back, expected);
        }
    }
}
