//! Remote write 1.0 (`prometheus.WriteRequest`): a visitor over borrowed bytes, no message structs.
//!
//! The body becomes [`WriteBatch::bytes`]. Where the labels of a series stand together in the form of label bytes
//! (which is how Prometheus's senders write them) their range points into it, and they are hashed where they are: the
//! work a series costs is one pass over its bytes, and no memory of its own. Any other legal encoding (fields out of
//! order, padded varints, empty values, unknown fields) is written anew behind the body and hashes alike.
//!
//! ```text
//! bytes:  │ body as sent: … 0A len 0A n name 12 n value … │ labels written anew, if any │
//!                          └─ range of an ordinary series     └─ range of an odd one
//! ```
//! Left to the engine: whether labels and times are acceptable, series by series. Decided here: whether the request
//! can be read at all, and whether a histogram contradicts itself ([`Summary::refused`]).

mod encode;
mod histogram;
#[cfg(test)]
mod tests;
mod v2;

use std::mem::size_of;
use std::ops::Range;

use varve_model::labels::{push_label, split_body, split_label};
use varve_model::write::{Metadata, MetricType, WriteExemplar, WriteSeries};
use varve_model::{Histogram, Limits, Millis, RefusalReason, SeriesHash, WriteBatch};

use crate::budget::Budget;
use crate::protobuf::{Reader, Value};
use crate::{Error, Refused, Summary};

pub(crate) use encode::push_histogram;
pub use encode::{encode_v1, encode_v2};
pub(crate) use histogram::{check_integers, check_schema};
pub use v2::decode_v2;

/// Reads a decompressed body into `batch`, replacing what it holds; `body` becomes its buffer.
///
/// Memory: at most `decompressed_bytes_max` bytes of columns (their vectors twice that, as they double), and never more
/// than 100 times the body. On an error the batch is empty.
pub fn decode_v1(body: Vec<u8>, limits: &Limits, batch: &mut WriteBatch) -> Result<Summary, Error> {
    batch.clear();
    let bytes_max = limits.decompressed_bytes_max.min(u64::from(u32::MAX) / 4);
    let mut body = body;
    let result = if body.len() as u64 > bytes_max {
        let got = body.len() as u64;
        let limit = "bytes of the decompressed body";
        Err(Error::Limit { limit, max: bytes_max, got, setting: "decompressed_bytes_max" })
    } else {
        let budget = Budget::new(bytes_max);
        let mut visitor = Visitor { body: &body, limits, batch, anew: Vec::new(), budget, refused: Vec::new() };
        visitor.request().map(|()| (visitor.anew, visitor.refused))
    };
    match result {
        Ok((anew, refused)) => {
            body.extend_from_slice(&anew);
            batch.bytes = body;
            Ok(Summary { samples: batch.samples() as u64, refused, ..Summary::default() })
        }
        Err(error) => {
            batch.bytes = body;
            batch.clear();
            Err(error)
        }
    }
}

struct Visitor<'a> {
    body: &'a [u8],
    limits: &'a Limits,
    batch: &'a mut WriteBatch,
    /// Labels written anew; they will follow the body.
    anew: Vec<u8>,
    budget: Budget,
    refused: Vec<Refused>,
}

impl<'a> Visitor<'a> {
    fn request(&mut self) -> Result<(), Error> {
        let mut request = Reader::new(self.body);
        while let Some(field) = request.field()? {
            match (field.number, field.value) {
                (1, Value::Bytes(series)) => self.series(series)?,
                (3, Value::Bytes(metadata)) => self.metadata(metadata)?,
                (1 | 3, _) => return Err(request.malformed("field of WriteRequest with a wrong type")),
                _ => {}
            }
        }
        Ok(())
    }

    /// `TimeSeries { labels = 1, samples = 2, exemplars = 3, histograms = 4 }`, all repeated, in any order.
    fn series(&mut self, whole: Reader<'a>) -> Result<(), Error> {
        let index = self.batch.series.len() as u32;
        if index >= self.limits.series_per_request_max {
            return Err(Error::Limit {
                limit: "series in one request",
                max: u64::from(self.limits.series_per_request_max),
                got: u64::from(index) + 1,
                setting: "series_per_request_max",
            });
        }
        self.budget.spend(size_of::<WriteSeries>())?;
        let mut series = whole;
        let (mut labels, mut hash) = labels_in_place(&mut series);
        let mut in_place = true;
        let (first_sample, first_histogram) = (self.batch.times.len() as u32, self.batch.histograms.len() as u32);
        loop {
            while let Some((time, value, bytes)) = short_sample(series.rest()) {
                self.sample(time, value)?;
                series.advance(bytes);
            }
            let Some(field) = series.field()? else { break };
            match (field.number, field.value) {
                (1, Value::Bytes(_)) => in_place = false,
                (2, Value::Bytes(sample)) => {
                    let (time, value) = read_sample(sample)?;
                    self.sample(time, value)?;
                }
                (3, Value::Bytes(exemplar)) => self.exemplar(index, exemplar)?,
                (4, Value::Bytes(histogram)) => self.histogram(index, histogram)?,
                (1..=4, _) => return Err(series.malformed("field of TimeSeries with a wrong type")),
                _ => {}
            }
        }
        if !in_place {
            (labels, hash) = self.labels_anew(whole)?;
        }
        self.batch.series.push(WriteSeries {
            labels,
            hash,
            samples: first_sample..self.batch.times.len() as u32,
            histograms: first_histogram..self.batch.histograms.len() as u32,
        });
        Ok(())
    }

    #[inline]
    fn sample(&mut self, time: Millis, value: f64) -> Result<(), Error> {
        self.budget.spend(size_of::<(Millis, f64)>())?;
        self.batch.times.push(time);
        self.batch.values.push(value);
        Ok(())
    }

    /// Writes the labels (field 1) of a message behind the body, without those whose value is empty.
    #[cold]
    fn labels_anew(&mut self, mut message: Reader<'a>) -> Result<(Range<u32>, SeriesHash), Error> {
        let begin = self.anew.len();
        while let Some(field) = message.field()? {
            let (1, Value::Bytes(mut label)) = (field.number, field.value) else { continue };
            let (mut name, mut value) = (&[][..], &[][..]);
            while let Some(field) = label.field()? {
                match (field.number, field.value) {
                    (1, Value::Bytes(text)) => name = text.rest(),
                    (2, Value::Bytes(text)) => value = text.rest(),
                    (1 | 2, _) => return Err(label.malformed("field of Label with a wrong type")),
                    _ => {}
                }
            }
            if !value.is_empty() {
                self.budget.spend(12 + name.len() + value.len())?;
                push_label(&mut self.anew, name, value);
            }
        }
        let hash = self.anew.get(begin..).and_then(SeriesHash::of);
        let hash = hash.ok_or_else(|| message.malformed("label too long"))?;
        // Body and budget are each below 2^30 bytes, so the sum fits.
        let position = |at: usize| (self.body.len() + at) as u32;
        Ok((position(begin)..position(self.anew.len()), hash))
    }

    /// `Exemplar { labels = 1, value = 2, timestamp = 3 }`.
    fn exemplar(&mut self, series: u32, whole: Reader<'a>) -> Result<(), Error> {
        self.budget.spend(size_of::<WriteExemplar>())?;
        let mut exemplar = whole;
        let (mut labels, _) = labels_in_place(&mut exemplar);
        let (mut time, mut value, mut in_place) = (0, 0, true);
        while let Some(field) = exemplar.field()? {
            match (field.number, field.value) {
                (1, Value::Bytes(_)) => in_place = false,
                (2, Value::Fixed64(bits)) => value = bits,
                (3, Value::Varint(millis)) => time = millis as i64,
                (1..=3, _) => return Err(exemplar.malformed("field of Exemplar with a wrong type")),
                _ => {}
            }
        }
        if !in_place {
            (labels, _) = self.labels_anew(whole)?;
        }
        self.batch.exemplars.push(WriteExemplar { series, labels, time, value: f64::from_bits(value) });
        Ok(())
    }

    fn histogram(&mut self, series: u32, histogram: Reader<'a>) -> Result<(), Error> {
        self.budget.spend(size_of::<(Millis, Histogram)>())?;
        let sent = histogram::read(histogram, &mut self.budget)?;
        let what = match sent.histogram {
            Ok(histogram) => {
                self.batch.histograms.push((sent.time, histogram));
                return Ok(());
            }
            Err(what) => what,
        };
        match self.refused.last_mut() {
            Some(refused) if refused.series == series => refused.samples += 1,
            _ => {
                let reason = RefusalReason::InvalidHistogram;
                self.refused.push(Refused { series, samples: 1, reason, what });
            }
        }
        Ok(())
    }

    /// `MetricMetadata { type = 1, metric_family_name = 2, help = 4, unit = 5 }`.
    fn metadata(&mut self, mut message: Reader<'a>) -> Result<(), Error> {
        self.budget.spend(size_of::<Metadata>() + message.rest().len())?;
        let mut metadata = Metadata::default();
        while let Some(field) = message.field()? {
            match (field.number, field.value) {
                (1, Value::Varint(kind)) => metadata.kind = MetricType::from_number(kind),
                (2, Value::Bytes(name)) => metadata.family = text(name)?,
                (4, Value::Bytes(help)) => metadata.help = text(help)?,
                (5, Value::Bytes(unit)) => metadata.unit = text(unit)?,
                (1 | 2 | 4 | 5, _) => return Err(message.malformed("field of MetricMetadata with a wrong type")),
                _ => {}
            }
        }
        self.batch.metadata.push(metadata);
        Ok(())
    }
}

/// Reads the labels that begin a message and have the form of label bytes, and hashes them where they are. A label in
/// another form, or with an empty value, ends the run and is left to the caller.
#[inline]
fn labels_in_place(message: &mut Reader<'_>) -> (Range<u32>, SeriesHash) {
    let begin = message.at();
    let whole = message.rest();
    let mut rest = whole;
    let mut hash = SeriesHash::EMPTY;
    while let Some((body, after)) = short_label(rest).or_else(|| long_label(rest)) {
        hash.add_body(body);
        rest = after;
    }
    message.advance(whole.len() - rest.len());
    (begin as u32..message.at() as u32, hash)
}

/// Splits off a label in the form of label bytes and not empty: its body, and what follows. This one knows lengths
/// below 128 only, which all but a few labels have, and checks them in one go.
#[inline]
fn short_label(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, len @ 0..0x80, 0x0a, name_len @ 0..0x80, ..] = bytes else { return None };
    let (body, after) = bytes.get(2..)?.split_at_checked(usize::from(*len))?;
    let [0x12, value_len @ 1..0x80, value @ ..] = body.get(2 + usize::from(*name_len)..)? else { return None };
    (value.len() == usize::from(*value_len)).then_some((body, after))
}

/// As [`short_label`], of any length.
fn long_label(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, after) = split_label(bytes)?;
    let (_, value) = split_body(body)?;
    (!value.is_empty()).then_some((body, after))
}

/// Reads a sample field in the form that senders write (value, then a time of this age, six bytes as a varint) with
/// one check of all its fixed bytes; also says how long it is. Saves a tenth of the whole request.
#[inline]
fn short_sample(bytes: &[u8]) -> Option<(Millis, f64, usize)> {
    let [0x12, 16, 0x09, value @ .., 0x10, t0, t1, t2, t3, t4, t5] = bytes.first_chunk::<18>()? else { return None };
    let time = [t0, t1, t2, t3, t4]
        .iter()
        .enumerate()
        .fold(u64::from(*t5) << 35, |time, (i, byte)| time | u64::from(**byte & 0x7f) << (7 * i));
    let whole = t0 & t1 & t2 & t3 & t4 & 0x80 != 0 && *t5 < 0x80;
    whole.then(|| (time as i64, f64::from_le_bytes(*value), 18))
}

/// `Sample { value = 1, timestamp = 2 }`.
fn read_sample(mut sample: Reader<'_>) -> Result<(Millis, f64), Error> {
    let (mut time, mut value) = (0, 0);
    while let Some(field) = sample.field()? {
        match (field.number, field.value) {
            (1, Value::Fixed64(bits)) => value = bits,
            (2, Value::Varint(millis)) => time = millis as i64,
            (1 | 2, _) => return Err(sample.malformed("field of Sample with a wrong type")),
            _ => {}
        }
    }
    Ok((time, f64::from_bits(value)))
}

fn text(bytes: Reader<'_>) -> Result<String, Error> {
    std::str::from_utf8(bytes.rest()).map(str::to_owned).map_err(|_| bytes.malformed("metadata is not UTF-8"))
}
