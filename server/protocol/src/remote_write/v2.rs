//! Remote write 2.0 (`io.prometheus.write.v2.Request`): texts once, in a table of symbols; labels are pairs of indices.
//!
//! ```text
//! Request    { symbols = 4 (string)*, timeseries = 5 (TimeSeries)* }
//! TimeSeries { labels_refs = 1 (uint32)*, samples = 2, histograms = 3, exemplars = 4, metadata = 5,
//!              created_timestamp = 6 (of the first drafts: the start of every sample that names none) }
//! ```
//! Two passes: the first finds the symbols, which stay in the body; the second writes the label bytes of each series
//! into the batch and hashes them there. The body is not kept. A symbol may be named by every series, so what is
//! written is paid from the [`Budget`] before it is: a small body cannot become a large batch.
//!
//! A series or exemplar whose references lead nowhere is left out and named in [`Summary::refused`], its neighbours
//! are taken, as Prometheus does. Series without samples are taken too: they may carry metadata or exemplars alone.

use std::mem::size_of;
use std::ops::Range;

use varve_model::labels::{METRIC_NAME, push_label, split_label};
use varve_model::write::{Metadata, MetricType, WriteExemplar, WriteSeries};
use varve_model::{Histogram, Limits, Millis, RefusalReason, SeriesHash, WriteBatch};

use super::{histogram, short_sample};
use crate::budget::Budget;
use crate::metadata::{family_of, merge};
use crate::protobuf::{Reader, Value};
use crate::{Error, Refused, Summary};

/// References of one label set that are looked at; far beyond any limit on labels, which refuses the series later.
const REFS_MAX: usize = 20_000;

/// Reads a decompressed body into `batch`, replacing what it holds.
///
/// Memory: at most `decompressed_bytes_max` bytes of columns and labels (vectors twice that, as they double). On an
/// error the batch is empty.
pub fn decode_v2(body: &[u8], limits: &Limits, batch: &mut WriteBatch) -> Result<Summary, Error> {
    batch.clear();
    let bytes_max = limits.decompressed_bytes_max.min(u64::from(u32::MAX) / 4);
    if body.len() as u64 > bytes_max {
        let got = body.len() as u64;
        let limit = "bytes of the decompressed body";
        return Err(Error::Limit { limit, max: bytes_max, got, setting: "decompressed_bytes_max" });
    }
    let mut visitor = Visitor {
        limits,
        batch,
        budget: Budget::new(bytes_max),
        symbols: Vec::new(),
        refs: Vec::new(),
        families: Vec::new(),
        refused: Vec::new(),
    };
    let result = visitor.request(Reader::new(body));
    let refused = visitor.refused;
    match result {
        Ok(()) => Ok(Summary { samples: batch.samples() as u64, refused, ..Summary::default() }),
        Err(error) => {
            batch.clear();
            Err(error)
        }
    }
}

/// Metadata of a series as references. Most series of a request share one of few of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FamilyRefs {
    name: u32,
    kind: MetricType,
    help: u32,
    unit: u32,
}

struct Visitor<'a, 'b> {
    limits: &'b Limits,
    batch: &'b mut WriteBatch,
    budget: Budget,
    symbols: Vec<Reader<'a>>,
    /// References of the label set being read; reused.
    refs: Vec<u32>,
    families: Vec<FamilyRefs>,
    refused: Vec<Refused>,
}

/// Where the columns end.
#[derive(Clone, Copy)]
struct Marks {
    bytes: usize,
    samples: usize,
    histograms: usize,
}

impl<'a> Visitor<'a, '_> {
    fn request(&mut self, body: Reader<'a>) -> Result<(), Error> {
        let mut request = body;
        while let Some(field) = request.field()? {
            match (field.number, field.value) {
                (4, Value::Bytes(symbol)) => {
                    self.budget.spend(size_of::<Reader<'_>>())?;
                    self.symbols.push(symbol);
                }
                (5, Value::Bytes(_)) => {}
                (4 | 5, _) => return Err(request.malformed("field of Request with a wrong type")),
                (1 | 3, _) => return Err(request.malformed("a field of remote write 1.0 in a message of 2.0")),
                _ => {}
            }
        }
        let mut request = body;
        while let Some(field) = request.field()? {
            if let (5, Value::Bytes(series)) = (field.number, field.value) {
                self.series(series)?;
            }
        }
        self.metadata()
    }

    fn series(&mut self, mut series: Reader<'a>) -> Result<(), Error> {
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
        let before = self.marks();
        let refused_before = self.refused.len();
        let whole = series;
        let mut metadata = None;
        let (mut created, mut has_exemplars) = (0, false);
        self.refs.clear();
        loop {
            while let Some((time, value, bytes)) = short_sample(series.rest()) {
                self.sample(time, value, 0)?;
                series.advance(bytes);
            }
            let Some(field) = series.field()? else { break };
            match (field.number, field.value) {
                (1, value) => push_refs(&mut self.refs, value, &series)?,
                (2, Value::Bytes(sample)) => {
                    let (time, value, start) = read_sample(sample)?;
                    self.sample(time, value, start)?;
                }
                (3, Value::Bytes(histogram)) => self.histogram(index, histogram)?,
                (4, Value::Bytes(_)) => has_exemplars = true,
                (5, Value::Bytes(message)) => metadata = Some(message),
                (6, Value::Varint(millis)) => created = millis as i64,
                (1..=6, _) => return Err(series.malformed("field of TimeSeries with a wrong type")),
                _ => {}
            }
        }
        let labels = match self.labels()? {
            Ok(labels) => labels,
            Err((reason, what)) => {
                self.refuse_series(before, refused_before, reason, what);
                return Ok(());
            }
        };
        if let Some(message) = metadata
            && !self.family(labels.name, message)?
        {
            let what = "metadata refers to a symbol that is not there";
            self.refuse_series(before, refused_before, RefusalReason::InvalidLabels, what);
            return Ok(());
        }
        if created != 0 {
            self.start_all(before, created)?;
        }
        if has_exemplars {
            self.exemplars(index, whole)?;
        }
        self.batch.series.push(WriteSeries {
            labels: labels.range,
            hash: labels.hash,
            samples: before.samples as u32..self.batch.times.len() as u32,
            histograms: before.histograms as u32..self.batch.histograms.len() as u32,
        });
        Ok(())
    }

    fn marks(&self) -> Marks {
        Marks {
            bytes: self.batch.bytes.len(),
            samples: self.batch.times.len(),
            histograms: self.batch.histograms.len(),
        }
    }

    /// Takes a series out again; what it had counts as refused.
    #[cold]
    fn refuse_series(&mut self, before: Marks, refused_before: usize, reason: RefusalReason, what: &'static str) {
        let invalid: u32 = self.refused.drain(refused_before..).map(|refused| refused.samples).sum();
        let samples = self.batch.samples() - before.samples - before.histograms;
        self.batch.bytes.truncate(before.bytes);
        self.batch.times.truncate(before.samples);
        self.batch.values.truncate(before.samples);
        self.batch.starts.truncate(before.samples);
        self.batch.histograms.truncate(before.histograms);
        self.batch.histogram_starts.truncate(before.histograms);
        // There is no series to point at: its labels are what cannot be read.
        self.refused.push(Refused { series: u32::MAX, samples: samples as u32 + invalid, reason, what });
    }

    #[inline]
    fn sample(&mut self, time: Millis, value: f64, start: Millis) -> Result<(), Error> {
        self.budget.spend(size_of::<(Millis, f64)>())?;
        self.batch.times.push(time);
        self.batch.values.push(value);
        if start != 0 {
            self.budget.spend(size_of::<Millis>())?;
            self.batch.set_start(start);
        }
        Ok(())
    }

    fn histogram(&mut self, series: u32, histogram: Reader<'a>) -> Result<(), Error> {
        self.budget.spend(size_of::<(Millis, Histogram)>())?;
        let sent = histogram::read(histogram, &mut self.budget)?;
        match sent.histogram {
            Ok(histogram) => {
                self.batch.histograms.push((sent.time, histogram));
                if sent.start != 0 {
                    self.budget.spend(size_of::<Millis>())?;
                    self.batch.set_histogram_start(sent.start);
                }
            }
            Err(what) => self.refuse(series, 1, RefusalReason::InvalidHistogram, what),
        }
        Ok(())
    }

    #[cold]
    fn refuse(&mut self, series: u32, samples: u32, reason: RefusalReason, what: &'static str) {
        match self.refused.last_mut() {
            Some(refused) if refused.series == series && refused.reason == reason => refused.samples += samples,
            _ => self.refused.push(Refused { series, samples, reason, what }),
        }
    }

    /// The start of every sample since `before` that has none of its own.
    #[cold]
    fn start_all(&mut self, before: Marks, created: Millis) -> Result<(), Error> {
        let WriteBatch { times, starts, histograms, histogram_starts, .. } = &mut *self.batch;
        let columns = [(starts, times.len(), before.samples), (histogram_starts, histograms.len(), before.histograms)];
        for (starts, len, begin) in columns.into_iter().filter(|(_, len, begin)| len > begin) {
            self.budget.spend((len - begin) * size_of::<Millis>())?;
            starts.resize(len, 0);
            starts.iter_mut().skip(begin).filter(|start| **start == 0).for_each(|start| *start = created);
        }
        Ok(())
    }

    /// Writes the labels that the references name, without those whose value is empty.
    fn labels(&mut self) -> Result<Result<SeriesLabels, Refusal>, Error> {
        let (pairs, []) = self.refs.as_chunks::<2>() else {
            return Ok(Err((RefusalReason::InvalidLabels, "an odd number of references")));
        };
        if self.refs.len() >= REFS_MAX {
            return Ok(Err((RefusalReason::TooManyLabels, "more references than any limit on labels allows")));
        }
        let begin = self.batch.bytes.len() as u32;
        let mut labels = SeriesLabels { range: begin..begin, hash: SeriesHash::EMPTY, name: 0 };
        for &[name_ref, value_ref] in pairs {
            let symbol = |index: u32| self.symbols.get(index as usize).map(Reader::rest);
            let (Some(name), Some(value)) = (symbol(name_ref), symbol(value_ref)) else {
                return Ok(Err((RefusalReason::InvalidLabels, "a reference to a symbol that is not there")));
            };
            if value.is_empty() {
                continue;
            }
            if name == METRIC_NAME.as_bytes() {
                labels.name = value_ref;
            }
            self.budget.spend(12 + name.len() + value.len())?;
            let at = self.batch.bytes.len();
            push_label(&mut self.batch.bytes, name, value);
            if let Some((body, _)) = self.batch.bytes.get(at..).and_then(split_label) {
                labels.hash.add_body(body);
            }
        }
        labels.range.end = self.batch.bytes.len() as u32;
        Ok(Ok(labels))
    }

    /// The exemplars (field 4) of a series whose labels are known to be readable.
    fn exemplars(&mut self, series: u32, mut message: Reader<'a>) -> Result<(), Error> {
        while let Some(field) = message.field()? {
            let (4, Value::Bytes(mut exemplar)) = (field.number, field.value) else { continue };
            self.budget.spend(size_of::<WriteExemplar>())?;
            self.refs.clear();
            let (mut time, mut value) = (0, 0);
            while let Some(field) = exemplar.field()? {
                match (field.number, field.value) {
                    (1, value) => push_refs(&mut self.refs, value, &exemplar)?,
                    (2, Value::Fixed64(bits)) => value = bits,
                    (3, Value::Varint(millis)) => time = millis as i64,
                    (2 | 3, _) => return Err(exemplar.malformed("field of Exemplar with a wrong type")),
                    _ => {}
                }
            }
            let begin = self.batch.bytes.len();
            match self.labels()? {
                Ok(SeriesLabels { range: labels, .. }) => {
                    let value = f64::from_bits(value);
                    self.batch.exemplars.push(WriteExemplar { series, labels, time, value });
                }
                Err((_, what)) => {
                    self.batch.bytes.truncate(begin);
                    self.refuse(series, 0, RefusalReason::InvalidLabels, what);
                }
            }
        }
        Ok(())
    }

    /// `Metadata { type = 1, help_ref = 3, unit_ref = 4 }`. `false` when a reference leads nowhere.
    fn family(&mut self, name: u32, mut message: Reader<'a>) -> Result<bool, Error> {
        let mut family = FamilyRefs { name, kind: MetricType::Unknown, help: 0, unit: 0 };
        while let Some(field) = message.field()? {
            match (field.number, field.value) {
                (1, Value::Varint(kind)) => family.kind = MetricType::from_number(kind),
                (3, Value::Varint(help)) => family.help = help as u32,
                (4, Value::Varint(unit)) => family.unit = unit as u32,
                (1 | 3 | 4, _) => return Err(message.malformed("field of Metadata with a wrong type")),
                _ => {}
            }
        }
        let symbol = |index: u32| self.symbols.get(index as usize).map(Reader::rest);
        // Index 0 is the empty text also where a sender left the table empty.
        let said = |index: u32| if index == 0 { symbol(0).or(Some(&[])) } else { symbol(index) };
        let (Some(help), Some(unit)) = (said(family.help), said(family.unit)) else { return Ok(false) };
        let is_told = family.kind != MetricType::Unknown || !help.is_empty() || !unit.is_empty();
        // Series of one family stand together mostly.
        if is_told && symbol(name).is_some_and(|name| !name.is_empty()) && self.families.last() != Some(&family) {
            self.budget.spend(size_of::<FamilyRefs>())?;
            self.families.push(family);
        }
        Ok(true)
    }

    /// Makes metadata of what the series said of their families.
    fn metadata(&mut self) -> Result<(), Error> {
        self.families.sort_unstable();
        self.families.dedup();
        for &FamilyRefs { name, kind, help, unit } in &self.families {
            let text = |index: u32| match self.symbols.get(index as usize) {
                Some(symbol) => std::str::from_utf8(symbol.rest()).map_err(|_| symbol.malformed("not UTF-8")),
                None => Ok(""),
            };
            let (name, help, unit) = (family_of(text(name)?, kind), text(help)?, text(unit)?);
            self.budget.spend(size_of::<Metadata>() + name.len() + help.len() + unit.len())?;
            let (help, unit) = (help.to_owned(), unit.to_owned());
            self.batch.metadata.push(Metadata { family: name.to_owned(), kind, help, unit });
        }
        merge(&mut self.batch.metadata);
        Ok(())
    }
}

/// Why a series or exemplar is left out.
type Refusal = (RefusalReason, &'static str);

struct SeriesLabels {
    range: Range<u32>,
    hash: SeriesHash,
    /// Reference of the metric name; 0 without one.
    name: u32,
}

/// Repeated `uint32`, packed or not. Those beyond [`REFS_MAX`] are not kept.
#[inline]
fn push_refs(refs: &mut Vec<u32>, value: Value<'_>, at: &Reader<'_>) -> Result<(), Error> {
    match value {
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                let index = packed.varint()?;
                if refs.len() < REFS_MAX {
                    refs.push(index as u32);
                }
            }
        }
        Value::Varint(index) if refs.len() < REFS_MAX => refs.push(index as u32),
        Value::Varint(_) => {}
        _ => return Err(at.malformed("references with a wrong type")),
    }
    Ok(())
}

/// `Sample { value = 1, timestamp = 2, start_timestamp = 3 }`.
fn read_sample(mut sample: Reader<'_>) -> Result<(Millis, f64, Millis), Error> {
    let (mut time, mut value, mut start) = (0, 0, 0);
    while let Some(field) = sample.field()? {
        match (field.number, field.value) {
            (1, Value::Fixed64(bits)) => value = bits,
            (2, Value::Varint(millis)) => time = millis as i64,
            (3, Value::Varint(millis)) => start = millis as i64,
            (1..=3, _) => return Err(sample.malformed("field of Sample with a wrong type")),
            _ => {}
        }
    }
    Ok((time, f64::from_bits(value), start))
}
