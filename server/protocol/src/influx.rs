//! Influx line protocol: `measurement,tag=value field=1.5,other=2i 1700000000000000000`.
//!
//! Each numeric field is a series `measurement_field` with the tags as labels, as VictoriaMetrics maps it; booleans are
//! 1 and 0, texts are left out and counted. Names stay as they are.
//!
//! One pass over the bytes. A line that cannot be read is left out and named in [`Summary::warnings`] with its number,
//! the others are taken, as Influx does; a text in quotes may hold line breaks.

#[cfg(test)]
mod tests;

use std::mem::size_of;

use varve_model::labels::{METRIC_NAME, push_label, split_label};
use varve_model::write::WriteSeries;
use varve_model::{Limits, Millis, SeriesHash, WriteBatch};

use crate::budget::Budget;
use crate::{Error, Summary};

/// The unit of timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precision {
    /// `ns`, `n`
    #[default]
    Nanos,
    /// `us`, `u`, `µ`
    Micros,
    /// `ms`
    Millis,
    /// `s`
    Seconds,
    /// `m`
    Minutes,
    /// `h`
    Hours,
}

impl Precision {
    /// By its word; the empty one is nanoseconds. `None` when there is no such precision.
    pub fn parse(word: &str) -> Option<Precision> {
        Some(match word {
            "" | "ns" | "n" => Precision::Nanos,
            "us" | "u" | "µ" => Precision::Micros,
            "ms" => Precision::Millis,
            "s" => Precision::Seconds,
            "m" => Precision::Minutes,
            "h" => Precision::Hours,
            _ => return None,
        })
    }

    fn millis(self, time: i64) -> Option<Millis> {
        match self {
            Precision::Nanos => Some(time.div_euclid(1_000_000)),
            Precision::Micros => Some(time.div_euclid(1_000)),
            Precision::Millis => Some(time),
            Precision::Seconds => time.checked_mul(1_000),
            Precision::Minutes => time.checked_mul(60_000),
            Precision::Hours => time.checked_mul(3_600_000),
        }
    }
}

/// What applies to every line.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// The unit of timestamps.
    pub precision: Precision,
    /// The time of lines without one.
    pub now: Millis,
    /// The value of the label `db` of lines without such a tag; none when empty.
    pub db: &'a str,
}

/// Sentences about lines that were left out.
const WARNINGS_MAX: usize = 5;
/// Tags of one line that are looked at.
const TAGS_MAX: usize = 10_000;

/// Reads a text into `batch`, replacing what it holds. [`Summary::rejected`] counts lines.
///
/// Memory: at most `decompressed_bytes_max` bytes (vectors twice that, as they double). On an error the batch is empty.
pub fn decode(text: &[u8], defaults: &Defaults<'_>, limits: &Limits, batch: &mut WriteBatch) -> Result<Summary, Error> {
    batch.clear();
    let budget = Budget::new(limits.decompressed_bytes_max.min(u64::from(u32::MAX) / 4));
    let mut decoder = Decoder {
        text,
        at: 0,
        defaults,
        limits,
        batch,
        budget,
        name: Vec::new(),
        tags: Vec::new(),
        first_series: 0,
        texts: 0,
    };
    match decoder.lines() {
        Ok((rejected, warnings)) => {
            Ok(Summary { samples: batch.samples() as u64, rejected, warnings, ..Summary::default() })
        }
        Err(error) => {
            batch.clear();
            Err(error)
        }
    }
}

struct Decoder<'a, 'b> {
    text: &'a [u8],
    at: usize,
    defaults: &'b Defaults<'b>,
    limits: &'b Limits,
    batch: &'b mut WriteBatch,
    budget: Budget,
    /// Measurement, then a field behind it; reused.
    name: Vec<u8>,
    /// Label bytes of the tags; reused.
    tags: Vec<u8>,
    /// Series of the line begin here.
    first_series: usize,
    texts: u64,
}

/// A line that is left out, or an error of the whole text.
enum Failure {
    Line(&'static str),
    Whole(Error),
}

impl From<&'static str> for Failure {
    fn from(what: &'static str) -> Failure {
        Failure::Line(what)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Whole(error)
    }
}

impl Decoder<'_, '_> {
    /// How many lines were left out, and sentences about the first of them.
    fn lines(&mut self) -> Result<(u64, Vec<String>), Error> {
        let (mut rejected, mut warnings) = (0, Vec::new());
        let (mut number, mut counted) = (1, 0);
        while self.at < self.text.len() {
            let begin = self.at;
            self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
            match self.peek() {
                Some(b'#') => self.skip_line(),
                Some(b'\n') | None => {}
                Some(_) => match self.line() {
                    Ok(()) => {}
                    Err(Failure::Whole(error)) => return Err(error),
                    Err(Failure::Line(what)) => {
                        self.undo();
                        self.skip_line();
                        rejected += 1;
                        if warnings.len() < WARNINGS_MAX {
                            // Counted from the last one, so that all warnings together cost one pass.
                            number += self.count_lines(counted, begin);
                            counted = begin;
                            warnings.push(format!("line {number}: {what}"));
                        }
                    }
                },
            }
            self.skip_one(b'\n');
        }
        if self.texts > 0 {
            warnings.push(format!("{} text fields are left out: only numbers and booleans are stored", self.texts));
        }
        Ok((rejected, warnings))
    }

    fn count_lines(&self, begin: usize, end: usize) -> u64 {
        let text = self.text.get(begin..end).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Takes the series of a bad line out again.
    #[cold]
    fn undo(&mut self) {
        if let Some(first) = self.batch.series.get(self.first_series) {
            let (bytes, samples) = (first.labels.start as usize, first.samples.start as usize);
            self.batch.bytes.truncate(bytes);
            self.batch.times.truncate(samples);
            self.batch.values.truncate(samples);
            self.batch.series.truncate(self.first_series);
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn skip_one(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_line(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    }

    fn line(&mut self) -> Result<(), Failure> {
        self.first_series = self.batch.series.len();
        self.name.clear();
        self.tags.clear();
        let mut name = std::mem::take(&mut self.name);
        self.word(&mut name, b", ");
        let result = self.line_of(&mut name);
        self.name = name;
        result
    }

    fn line_of(&mut self, name: &mut Vec<u8>) -> Result<(), Failure> {
        if name.is_empty() {
            return Err("the measurement is missing".into());
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let (mut count, mut has_db) = (0, false);
        while self.skip_one(b',') {
            key.clear();
            value.clear();
            self.word(&mut key, b",= ");
            if !self.skip_one(b'=') {
                return Err("a tag without a value".into());
            }
            self.word(&mut value, b", ");
            count += 1;
            if count > TAGS_MAX {
                return Err("too many tags".into());
            }
            has_db |= key == b"db";
            if key.is_empty() {
                return Err("a tag without a name".into());
            }
            if !value.is_empty() {
                push_label(&mut self.tags, &key, &value);
            }
        }
        if !has_db && !self.defaults.db.is_empty() {
            push_label(&mut self.tags, b"db", self.defaults.db.as_bytes());
        }
        if !self.skip_one(b' ') {
            return Err("the fields are missing".into());
        }
        self.skip(|byte| byte == b' ');
        name.push(b'_');
        let stem = name.len();
        loop {
            name.truncate(stem);
            self.word(name, b",= ");
            if name.len() == stem || !self.skip_one(b'=') {
                return Err("a field without a name or a value".into());
            }
            match self.value()? {
                Some(value) => self.series(name, value)?,
                None => self.texts += 1,
            }
            if !self.skip_one(b',') {
                break;
            }
        }
        self.skip(|byte| byte == b' ');
        let time = self.time()?;
        let first = self.first_sample();
        self.batch.times.iter_mut().skip(first).for_each(|place| *place = time);
        Ok(())
    }

    fn first_sample(&self) -> usize {
        self.batch.series.get(self.first_series).map_or(self.batch.times.len(), |first| first.samples.start as usize)
    }

    /// Up to one of the bytes `ends` or the end of the line; a backslash before one of them, or before an equals sign,
    /// takes its meaning away.
    fn word(&mut self, out: &mut Vec<u8>, ends: &[u8]) {
        while let Some(byte) = self.peek().filter(|byte| *byte != b'\n' && !ends.contains(byte)) {
            self.at += 1;
            match self.peek() {
                Some(next) if byte == b'\\' && matches!(next, b',' | b'=' | b' ') => {
                    out.push(next);
                    self.at += 1;
                }
                _ => out.push(byte),
            }
        }
    }

    /// The value of a field; `None` when it is a text.
    fn value(&mut self) -> Result<Option<f64>, Failure> {
        if self.skip_one(b'"') {
            loop {
                let rest = self.text.get(self.at..).unwrap_or_default();
                match memchr::memchr2(b'"', b'\\', rest) {
                    None => return Err("a text is not closed".into()),
                    Some(found) if rest.get(found) == Some(&b'"') => {
                        self.at += found + 1;
                        return Ok(None);
                    }
                    Some(found) => self.at = (self.at + found + 2).min(self.text.len()),
                }
            }
        }
        let begin = self.at;
        self.skip(|byte| !matches!(byte, b',' | b' ' | b'\n' | b'\r'));
        let word = self.text.get(begin..self.at).unwrap_or_default();
        let word = std::str::from_utf8(word).map_err(|_| "a value is not UTF-8")?;
        let value = match word {
            "t" | "T" | "true" | "True" | "TRUE" => Some(1.0),
            "f" | "F" | "false" | "False" | "FALSE" => Some(0.0),
            _ => match (word.strip_suffix('i'), word.strip_suffix('u')) {
                (Some(int), _) => int.parse::<i64>().ok().map(|int| int as f64),
                (_, Some(int)) => int.parse::<u64>().ok().map(|int| int as f64),
                _ if word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) => {
                    // Infinities and not-a-numbers are no values of Influx.
                    word.parse::<f64>().ok().filter(|value| value.is_finite())
                }
                _ => None,
            },
        };
        value.map(Some).ok_or_else(|| "a value is neither a number, a boolean nor a text in quotes".into())
    }

    fn time(&mut self) -> Result<Millis, Failure> {
        let begin = self.at;
        self.skip(|byte| !matches!(byte, b' ' | b'\n' | b'\r'));
        let word = self.text.get(begin..self.at).unwrap_or_default();
        self.skip(|byte| matches!(byte, b' ' | b'\r'));
        if !matches!(self.peek(), None | Some(b'\n')) {
            return Err("text behind the timestamp".into());
        }
        if word.is_empty() {
            return Ok(self.defaults.now);
        }
        let time = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
        time.and_then(|time| self.defaults.precision.millis(time)).ok_or_else(|| "the timestamp is no number".into())
    }

    /// A series of one sample, whose time comes at the end of the line.
    fn series(&mut self, name: &[u8], value: f64) -> Result<(), Error> {
        let series = self.batch.series.len() as u64;
        if series >= u64::from(self.limits.series_per_request_max) {
            return Err(Error::Limit {
                limit: "series in one request",
                max: u64::from(self.limits.series_per_request_max),
                got: series + 1,
                setting: "series_per_request_max",
            });
        }
        self.budget.spend(size_of::<WriteSeries>() + 16 + 24 + name.len() + self.tags.len())?;
        let begin = self.batch.bytes.len();
        push_label(&mut self.batch.bytes, METRIC_NAME.as_bytes(), name);
        self.batch.bytes.extend_from_slice(&self.tags);
        let mut hash = SeriesHash::EMPTY;
        let mut rest = self.batch.bytes.get(begin..).unwrap_or_default();
        while let Some((body, after)) = split_label(rest) {
            hash.add_body(body);
            rest = after;
        }
        let (samples, end) = (self.batch.times.len() as u32, self.batch.bytes.len() as u32);
        let labels = begin as u32..end;
        self.batch.series.push(WriteSeries { labels, hash, samples: samples..samples + 1, histograms: 0..0 });
        self.batch.times.push(0);
        self.batch.values.push(value);
        Ok(())
    }
}
