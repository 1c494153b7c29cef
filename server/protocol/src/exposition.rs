//! Text exposition: Prometheus's text format 0.0.4 and OpenMetrics 1.0, also with quoted UTF-8 names.
//!
//! ```text
//! # TYPE http_requests counter                          metadata of a family; HELP and UNIT alike
//! http_requests_total{code="200"} 1027 1395066363000    name, labels, value, milliseconds (OpenMetrics: seconds)
//! {"http.requests", "a b"="c"} 3 # {trace_id="x"} 1     quoted names; exemplars in OpenMetrics only
//! ```
//! One line at a time, from left to right, no backtracking; memory grows with what is decoded and is bounded by
//! [`Limits`]. One bad line refuses the whole text, as Prometheus's scrape does, and the error has its number: a text
//! that was cut or mixed up is not taken in half. Left to the engine: limits and duplicates of the labels of a series.
//!
//! More lenient than Prometheus where nothing can be misunderstood: `\r\n` ends a line too, `# EOF` may be missing,
//! OpenMetrics may have empty lines and any comment.

mod line;
#[cfg(test)]
mod tests;

use std::mem::{size_of, take};

use varve_model::labels::{METRIC_NAME, push_label};
use varve_model::write::{Metadata, WriteExemplar, WriteSeries};
use varve_model::{Limits, Millis, SeriesHash, WriteBatch};

use crate::budget::Budget;
use crate::metadata::merge;
use crate::{Error, Summary};
use line::{Line, Sample};

/// Which of the two formats a text has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// Prometheus's text format: timestamps are integers, in milliseconds.
    #[default]
    Text,
    /// OpenMetrics: timestamps are numbers, in seconds; samples may have exemplars.
    OpenMetrics,
}

impl Format {
    /// By the media type of a `Content-Type` header; anything but OpenMetrics is text.
    pub fn of(content_type: &str) -> Format {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/openmetrics-text") { Format::OpenMetrics } else { Format::Text }
    }
}

/// Reads a text into `batch`, replacing what it holds. `now` is the time of samples without one. `extra_labels` are
/// added to every series; a label of that name in the text becomes `exported_…`, as Prometheus renames it.
///
/// Consecutive samples of the same series are one series of the batch. Memory: at most `decompressed_bytes_max` bytes
/// (vectors twice that, as they double). On an error the batch is empty.
pub fn decode(
    text: &[u8],
    format: Format,
    now: Millis,
    extra_labels: &[(&str, &str)],
    limits: &Limits,
    batch: &mut WriteBatch,
) -> Result<Summary, Error> {
    batch.clear();
    let bytes_max = limits.decompressed_bytes_max.min(u64::from(u32::MAX) / 2);
    let mut decoder = Decoder {
        format,
        now,
        extra_labels,
        limits,
        batch,
        budget: Budget::new(bytes_max),
        sample: Sample::default(),
        labels: Vec::new(),
    };
    let result = decoder.text(text);
    if result.is_err() {
        batch.clear();
    } else {
        merge(&mut batch.metadata);
    }
    result.map(|()| Summary { samples: batch.samples() as u64, ..Summary::default() })
}

struct Decoder<'a> {
    format: Format,
    now: Millis,
    extra_labels: &'a [(&'a str, &'a str)],
    limits: &'a Limits,
    batch: &'a mut WriteBatch,
    budget: Budget,
    /// Reused from line to line.
    sample: Sample,
    /// Label bytes of the line, reused.
    labels: Vec<u8>,
}

impl Decoder<'_> {
    fn text(&mut self, text: &[u8]) -> Result<(), Error> {
        let mut ended = false;
        for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let result = match std::str::from_utf8(line) {
                Ok("") => continue,
                Ok(_) if ended => Err("text after # EOF".to_owned()),
                Ok(line) => Line::parse(line, self.format, &mut self.sample),
                Err(_) => Err("not UTF-8".to_owned()),
            };
            match result.map_err(|what| Error::Text { line: number, what })? {
                Line::Empty => {}
                Line::End => ended = true,
                Line::Metadata(metadata) => {
                    self.budget.spend(size_of::<Metadata>() + line.len())?;
                    self.batch.metadata.push(metadata);
                }
                Line::Sample => self.take_sample()?,
            }
        }
        Ok(())
    }

    /// Puts the parsed sample into the batch.
    fn take_sample(&mut self) -> Result<(), Error> {
        self.write_labels();
        let hash = SeriesHash::of(&self.labels).unwrap_or_default();
        let same = self
            .batch
            .series
            .last()
            .is_some_and(|last| last.hash == hash && self.batch.label_bytes(last) == self.labels.as_slice());
        if !same {
            self.begin_series(hash)?;
        }
        self.budget.spend(size_of::<(Millis, f64)>())?;
        self.batch.push_sample(self.sample.time.unwrap_or(self.now), self.sample.value);
        self.take_exemplar()
    }

    fn begin_series(&mut self, hash: SeriesHash) -> Result<(), Error> {
        let series = self.batch.series.len() as u64;
        if series >= u64::from(self.limits.series_per_request_max) {
            return Err(Error::Limit {
                limit: "series in one request",
                max: u64::from(self.limits.series_per_request_max),
                got: series + 1,
                setting: "series_per_request_max",
            });
        }
        self.budget.spend(size_of::<WriteSeries>() + self.labels.len())?;
        let begin = self.batch.bytes.len() as u32;
        self.batch.bytes.extend_from_slice(&self.labels);
        let samples = self.batch.times.len() as u32;
        let labels = begin..self.batch.bytes.len() as u32;
        self.batch.series.push(WriteSeries { labels, hash, samples: samples..samples, histograms: 0..0 });
        Ok(())
    }

    /// Label bytes of the line: its name, its labels, the extra labels.
    fn write_labels(&mut self) {
        for (extra, _) in self.extra_labels {
            self.rename(extra);
        }
        self.labels.clear();
        push_label(&mut self.labels, METRIC_NAME.as_bytes(), self.sample.name.as_bytes());
        let labels = self.sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in labels.chain(self.extra_labels.iter().copied()).filter(|(_, value)| !value.is_empty()) {
            push_label(&mut self.labels, name.as_bytes(), value.as_bytes());
        }
    }

    /// Makes `name` free for an extra label: a label of the line with that name gets as many `exported_` before it as
    /// make it unlike every other.
    fn rename(&mut self, name: &str) {
        let labels = &mut self.sample.labels;
        if !labels.iter().any(|(label, _)| label == name) {
            return;
        }
        let taken = |name: &str| {
            labels.iter().any(|(label, _)| label == name) || self.extra_labels.iter().any(|(extra, _)| *extra == name)
        };
        let mut renamed = format!("exported_{name}");
        while taken(&renamed) {
            renamed.insert_str(0, "exported_");
        }
        for (label, _) in labels.iter_mut().filter(|(label, _)| label == name) {
            label.clone_from(&renamed);
        }
    }

    fn take_exemplar(&mut self) -> Result<(), Error> {
        let Some(exemplar) = take(&mut self.sample.exemplar) else { return Ok(()) };
        let text: usize = exemplar.labels.iter().map(|(name, value)| 12 + name.len() + value.len()).sum();
        self.budget.spend(size_of::<WriteExemplar>() + text)?;
        let begin = self.batch.bytes.len() as u32;
        for (name, value) in exemplar.labels.iter().filter(|(_, value)| !value.is_empty()) {
            push_label(&mut self.batch.bytes, name.as_bytes(), value.as_bytes());
        }
        self.batch.exemplars.push(WriteExemplar {
            series: (self.batch.series.len() as u32).saturating_sub(1),
            labels: begin..self.batch.bytes.len() as u32,
            time: exemplar.time.or(self.sample.time).unwrap_or(self.now),
            value: exemplar.value,
        });
        Ok(())
    }
}
