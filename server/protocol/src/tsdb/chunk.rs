//! Chunk files, and one chunk: which encoding it has, and its samples as columns.
//!
//! ```text
//! file:   85 BD 40 DD │ 01 │ 00 00 00 │ chunk │ chunk │ …
//! chunk:  length (uvarint) │ encoding │ data │ CRC-32C of encoding and data
//! ```
//! A reference is the number of the file, from 0, in its upper 32 bits and the place in the file in the lower ones.

use std::mem::size_of;

use varve_model::histogram::Span;
use varve_model::{Column, Histogram, Millis};

use super::bits::Bits;
use super::cursor::Cursor;
use super::{Error, float, histogram};

/// Bytes that the samples of one chunk may take; Prometheus's own chunks hold about a kilobyte.
pub const CHUNK_BYTES_MAX: usize = 256 << 20;

const MAGIC: u32 = 0x85bd_40dd;
const VERSION: u8 = 1;

/// How the samples of a chunk are encoded, with the number that stands in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Encoding {
    /// Floats.
    Xor = 1,
    /// Native histograms of integer counts.
    Histogram = 2,
    /// Native histograms of float counts.
    FloatHistogram = 3,
    /// Floats that may have start timestamps.
    Xor2 = 4,
    /// Histograms of integer counts that may have start timestamps.
    HistogramStart = 5,
    /// Histograms of float counts that may have start timestamps.
    FloatHistogramStart = 6,
}

impl Encoding {
    /// By its number.
    pub fn from_number(number: u8) -> Option<Encoding> {
        Some(match number {
            1 => Encoding::Xor,
            2 => Encoding::Histogram,
            3 => Encoding::FloatHistogram,
            4 => Encoding::Xor2,
            5 => Encoding::HistogramStart,
            6 => Encoding::FloatHistogramStart,
            _ => return None,
        })
    }
}

/// A chunk file.
pub struct Segment<'a> {
    file: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Checks the header.
    pub fn open(file: &'a [u8]) -> Result<Segment<'a>, Error> {
        let mut header = Cursor::new(file, 0);
        if header.be32()? != MAGIC {
            return Err(Error::damaged(0, "not a chunk file"));
        }
        match header.byte()? {
            VERSION => Ok(Segment { file }),
            found => Err(Error::Newer { what: "chunk file version", found: found.into(), newest: VERSION.into() }),
        }
    }

    /// The chunk at a place: its encoding and its data, the checksum verified.
    pub fn chunk(&self, at: u32) -> Result<(Encoding, &'a [u8]), Error> {
        let mut cursor = Cursor::at(self.file, at.into(), "a chunk begins behind the end of the file")?;
        let len = cursor.count()?;
        let begin = cursor.position();
        let mut checked = cursor.checked(len + 1)?;
        let number = checked.byte()?;
        let encoding = Encoding::from_number(number);
        match encoding {
            Some(encoding) => Ok((encoding, checked.take(len)?)),
            None if number == 0 => Err(Error::damaged(begin, "a chunk without an encoding")),
            None => Err(Error::Newer {
                what: "chunk encoding",
                found: number.into(),
                newest: Encoding::FloatHistogramStart as u64,
            }),
        }
    }
}

/// Appends the samples of a chunk to a column, in the order of the chunk.
///
/// The error says what is wrong; the place is the chunk's own.
pub fn decode_chunk(encoding: Encoding, data: &[u8], out: &mut Column) -> Result<(), &'static str> {
    let Some((count, data)) = data.split_first_chunk::<2>() else { return Err("a chunk without a header") };
    let count = u16::from_be_bytes(*count);
    let done = match encoding {
        Encoding::Xor => float::xor(data, count, out),
        Encoding::Xor2 => float::xor2(data, count, out),
        Encoding::Histogram | Encoding::HistogramStart | Encoding::FloatHistogram | Encoding::FloatHistogramStart => {
            histogram::decode(encoding, count, data, out)?
        }
    };
    if !out.starts.is_empty() {
        out.starts.resize(out.times.len(), 0);
    }
    if !out.histogram_starts.is_empty() {
        out.histogram_starts.resize(out.histograms.len(), 0);
    }
    done.ok_or("a chunk ends before its last sample")
}

/// Start timestamps of a chunk: from which sample on they are written.
pub(super) struct Starts {
    first_known: bool,
    /// First sample, from 1, with one of its own; 0: none.
    changed_on: u16,
    start: i64,
    distance: i64,
}

impl Starts {
    pub(super) fn new(header: u8) -> Starts {
        Starts { first_known: header & 0x80 != 0, changed_on: u16::from(header & 0x7f), start: 0, distance: 0 }
    }

    /// The start timestamp behind sample `index`, which is at `time`; the sample before it was at `before`.
    #[inline]
    pub(super) fn next(&mut self, bits: &mut Bits<'_>, index: u16, time: i64, before: i64) -> Option<Millis> {
        if index == 0 {
            if self.first_known {
                self.distance = bits.varint()?;
                self.start = time.wrapping_sub(self.distance);
            }
        } else if self.changed_on > 0 && index >= self.changed_on {
            let change = bits.varbit()?;
            self.distance = if index == self.changed_on { change } else { self.distance.wrapping_add(change) };
            self.start = before.wrapping_sub(self.distance);
        }
        Some(self.start)
    }
}

#[inline]
pub(super) fn push_float(out: &mut Column, time: Millis, value: f64, start: Millis) {
    if start != 0 {
        out.starts.resize(out.times.len(), 0);
        out.starts.push(start);
    }
    out.times.push(time);
    out.values.push(value);
}

pub(super) fn push_histogram(out: &mut Column, time: Millis, histogram: Histogram, start: Millis) {
    if start != 0 {
        out.histogram_starts.resize(out.histograms.len(), 0);
        out.histogram_starts.push(start);
    }
    out.histograms.push((time, histogram));
}

/// Bytes that a histogram takes.
pub(super) fn histogram_bytes(histogram: &Histogram) -> usize {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let floats = histogram.positive.len() + histogram.negative.len() + histogram.custom_bounds.len();
    size_of::<(Millis, Histogram)>() + spans * size_of::<Span>() + floats * size_of::<f64>()
}
