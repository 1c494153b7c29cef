//! Metrics records: samples as the log keeps them, 2 to 10 bytes each, self-sufficient within a log file.
//!
//! The first record of a log file that uses a series declares it: its labels as numbers of strings, which are declared
//! the same way. From then on the file knows the series by its number. Numbers count up in order of first use, so a
//! sender that repeats itself is one run of numbers.
//!
//! ```text
//! record  := version strings series numbers counts times values histograms exemplars [starts]
//! version    u8: 1, or 2 when the record has start timestamps
//! strings    varint first number, varint how many, each: varint bytes, bytes
//! series     varint first number, varint how many, each: varint labels, per label: varint name, varint value (string
//!            numbers), in order of names
//! numbers    varint entries, then runs until all entries are covered: zigzag (first − expected), varint length;
//!            an entry's number is one more than the last; `expected` is 0, then one more than the last of the run
//! counts     runs until all entries are covered: varint samples of each entry, varint entries
//! times      runs until all samples are covered: zigzag delta, varint samples; the delta is to the sample before,
//!            for the first sample of an entry to the first sample of the entry before (to 0 at the beginning)
//! values     a nibble a sample (low first), then the bytes: 0 is +0.0; 1 to 8: that many high bytes of the float, the
//!            others are zero; 9 to 14: 1 to 6 bytes of a zigzag integer
//! histograms varint how many; if any: each zigzag number delta, zigzag time delta; varint bytes, histogram chunk
//! exemplars  varint how many, each: zigzag number delta, zigzag time delta, f64, varint bytes, label bytes
//! starts     runs until all samples are covered, floats first, then histograms: varint code, varint samples; code 0 is
//!            the start that the file said of the series before (unknown at first), 1 is unknown, others are
//!            2 + zigzag (time - start)
//! ```
//! Invariants:
//! * A reader that missed a record (damage) knows so by the first numbers: what it cannot name it skips and counts,
//!   it never takes one series for another.
//! * Decoding allocates no more than a small multiple of the payload.

use hashbrown::HashTable;
use varve_model::labels::{push_label, split_body, split_label};
use varve_model::{Histogram, Labels, TenantId};
use xxhash_rust::xxh3::xxh3_64;

use super::number::{self, Reader};
use super::{Entry, Exemplar, Malformed, Rows};
use crate::codec::histogram;

/// Version of the record format.
const VERSION: u8 = 1;
/// Version of a record that has start timestamps.
const VERSION_STARTS: u8 = 2;

/// What the current log file knows of a series; kept in the series table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Declared {
    /// [`Encoder::stamp`] of the file that declares it; another value means undeclared.
    stamp: u32,
    /// Its number there.
    number: u32,
}

/// Where the encoder finds labels and keeps what it declared.
pub(crate) trait Declarations {
    /// The labels of a series.
    fn labels(&self, series: u32) -> &Labels;
    /// Its declaration.
    fn declared(&mut self, series: u32) -> &mut Declared;
}

/// Encodes records; knows what the current log file declares already.
#[derive(Debug)]
pub(crate) struct Encoder {
    stamp: u32,
    strings: Strings,
    /// Numbers of strings that were forgotten.
    strings_before: u32,
    series: u32,
    new_strings: Vec<u8>,
    new_series: Vec<u8>,
    numbers: Vec<u32>,
    /// Start timestamp that the file said last, by series number; empty as long as it said none.
    starts: Vec<i64>,
}

impl Encoder {
    pub(crate) fn new() -> Encoder {
        Encoder {
            stamp: 1,
            strings: Strings::default(),
            strings_before: 0,
            series: 0,
            new_strings: Vec::new(),
            new_series: Vec::new(),
            numbers: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// A new log file begins: nothing is declared.
    pub(crate) fn reset(&mut self) {
        self.forget();
        self.strings_before = 0;
        self.series = 0;
        self.starts.clear();
    }

    /// What was encoded last was not written: all is declared again, under new numbers should the file be the same.
    pub(crate) fn forget(&mut self) {
        // Stamp 0 is never current: a series that was never declared has it.
        self.stamp = self.stamp.checked_add(1).unwrap_or(1);
        self.strings_before += self.strings.len();
        self.strings.clear();
    }

    /// Encodes `rows` into `out` (cleared first), declaring what the file does not know yet.
    pub(crate) fn encode(&mut self, rows: &Rows, table: &mut dyn Declarations, out: &mut Vec<u8>) {
        out.clear();
        self.new_strings.clear();
        self.new_series.clear();
        self.numbers.clear();
        let (first_string, first_series) = (self.strings.len(), self.series);
        for entry in &rows.entries {
            let number = self.number(entry.series, table);
            self.numbers.push(number);
        }
        let histogram_numbers: Vec<u32> = rows.histograms.iter().map(|(id, ..)| self.number(*id, table)).collect();
        let exemplar_numbers: Vec<u32> = rows.exemplars.iter().map(|e| self.number(e.series, table)).collect();

        out.push(if rows.has_starts() { VERSION_STARTS } else { VERSION });
        number::push(out, u64::from(self.strings_before + first_string));
        number::push(out, u64::from(self.strings.len() - first_string));
        out.extend_from_slice(&self.new_strings);
        number::push(out, u64::from(first_series));
        number::push(out, u64::from(self.series - first_series));
        out.extend_from_slice(&self.new_series);
        encode_numbers(&self.numbers, out);
        encode_counts(&rows.entries, out);
        encode_times(&rows.entries, &rows.times, out);
        encode_values(&rows.values, out);
        encode_histograms(&rows.histograms, &histogram_numbers, out);
        encode_exemplars(&rows.exemplars, &exemplar_numbers, out);
        if rows.has_starts() {
            let numbers = std::mem::take(&mut self.numbers);
            self.encode_starts(rows, &numbers, &histogram_numbers, out);
            self.numbers = numbers;
        }
    }

    /// A start says itself again for nothing: what the file said of the series last is kept.
    fn encode_starts(&mut self, rows: &Rows, numbers: &[u32], histogram_numbers: &[u32], out: &mut Vec<u8>) {
        let floats =
            rows.entries.iter().zip(numbers).flat_map(|(entry, &n)| std::iter::repeat_n(n, entry.count as usize));
        let floats = floats.zip(&rows.times).enumerate().map(|(i, (n, &time))| (n, time, rows.starts.get(i)));
        let histograms = rows.histograms.iter().zip(histogram_numbers).enumerate();
        let histograms = histograms.map(|(i, ((_, time, _), &n))| (n, *time, rows.histogram_starts.get(i)));
        let mut run: Option<(u64, u64)> = None;
        for (number, time, start) in floats.chain(histograms) {
            let code = self.start_code(number, time, start.copied().unwrap_or(0));
            match &mut run {
                Some((same, samples)) if *same == code => *samples += 1,
                _ => {
                    if let Some((code, samples)) = run.replace((code, 1)) {
                        number::push(out, code);
                        number::push(out, samples);
                    }
                }
            }
        }
        if let Some((code, samples)) = run {
            number::push(out, code);
            number::push(out, samples);
        }
    }

    fn start_code(&mut self, number: u32, time: i64, start: i64) -> u64 {
        let place = number as usize;
        if self.starts.len() <= place {
            self.starts.resize(place + 1, 0);
        }
        let Some(last) = self.starts.get_mut(place) else { return 0 };
        let code = if *last == start { 0 } else { start_code(time, start) };
        *last = start;
        code
    }

    #[inline]
    fn number(&mut self, series: u32, table: &mut dyn Declarations) -> u32 {
        let declared = *table.declared(series);
        if declared.stamp == self.stamp { declared.number } else { self.declare(series, table) }
    }

    #[cold]
    fn declare(&mut self, series: u32, table: &mut dyn Declarations) -> u32 {
        // The bytes as they are: the labels were checked when the series was made.
        let bytes = table.labels(series).as_label_bytes();
        let labels = || {
            let mut rest = bytes;
            std::iter::from_fn(move || {
                let (body, after) = split_label(rest)?;
                rest = after;
                split_body(body)
            })
        };
        number::push(&mut self.new_series, labels().count() as u64);
        for (name, value) in labels() {
            for text in [name, value] {
                let string = self.strings.number(text, &mut self.new_strings);
                number::push(&mut self.new_series, u64::from(self.strings_before + string));
            }
        }
        let number = self.series;
        self.series += 1;
        *table.declared(series) = Declared { stamp: self.stamp, number };
        number
    }
}

/// The strings that a log file declares, by number.
#[derive(Debug, Default)]
struct Strings {
    table: HashTable<u32>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Strings {
    fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    fn clear(&mut self) {
        self.table.clear();
        self.ends.clear();
        self.bytes.clear();
    }

    fn get(&self, number: u32) -> Option<&[u8]> {
        let number = number as usize;
        let end = *self.ends.get(number)? as usize;
        let begin = number.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())? as usize;
        self.bytes.get(begin..end)
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
    }

    /// The number of a string; a new one is declared in `new`.
    fn number(&mut self, text: &[u8], new: &mut Vec<u8>) -> u32 {
        let hash = xxh3_64(text);
        if let Some(&number) = self.table.find(hash, |&number| self.get(number) == Some(text)) {
            return number;
        }
        let number = self.len();
        self.push(text);
        number::push_bytes(new, text);
        let mut table = std::mem::take(&mut self.table);
        table.insert_unique(hash, number, |&number| xxh3_64(self.get(number).unwrap_or_default()));
        self.table = table;
        number
    }
}

fn encode_numbers(numbers: &[u32], out: &mut Vec<u8>) {
    number::push(out, numbers.len() as u64);
    let mut expected = 0i64;
    let mut i = 0;
    while let Some(&first) = numbers.get(i) {
        let mut end = i + 1;
        while numbers.get(end).is_some_and(|&n| n as usize == first as usize + (end - i)) {
            end += 1;
        }
        number::push_signed(out, i64::from(first) - expected);
        number::push(out, (end - i) as u64);
        expected = i64::from(first) + (end - i) as i64;
        i = end;
    }
}

fn encode_counts(entries: &[Entry], out: &mut Vec<u8>) {
    let mut i = 0;
    while let Some(entry) = entries.get(i) {
        let run = entries.iter().skip(i).take_while(|other| other.count == entry.count).count();
        number::push(out, u64::from(entry.count));
        number::push(out, run as u64);
        i += run;
    }
}

/// Calls `each` with every sample's delta as the format defines it.
#[inline]
fn time_deltas(entries: &[Entry], times: &[i64], mut each: impl FnMut(i64)) {
    let mut first = 0i64;
    let mut rest = times;
    for entry in entries {
        let Some((own, after)) = rest.split_at_checked(entry.count as usize) else { return };
        rest = after;
        let mut before = first;
        for (i, &time) in own.iter().enumerate() {
            each(time.wrapping_sub(before));
            before = time;
            if i == 0 {
                first = time;
            }
        }
    }
}

fn encode_times(entries: &[Entry], times: &[i64], out: &mut Vec<u8>) {
    let mut run: Option<(i64, u64)> = None;
    time_deltas(entries, times, |delta| match &mut run {
        Some((same, rows)) if *same == delta => *rows += 1,
        _ => {
            if let Some((delta, rows)) = run.replace((delta, 1)) {
                number::push_signed(out, delta);
                number::push(out, rows);
            }
        }
    });
    if let Some((delta, rows)) = run {
        number::push_signed(out, delta);
        number::push(out, rows);
    }
}

/// The nibble and the bytes (low first, the rest zero) of a value.
#[inline]
fn value_code(value: f64) -> (u8, u64) {
    let bits = value.to_bits();
    if bits == 0 {
        return (0, 0);
    }
    let zeros = bits.trailing_zeros() / 8;
    let float_bytes = 8 - zeros;
    let integer = value as i64;
    if (integer as f64).to_bits() == bits {
        let zigzag = number::zigzag(integer);
        let bytes = (71 - zigzag.leading_zeros()) / 8;
        if bytes <= float_bytes.min(6) {
            return (8 + bytes as u8, zigzag);
        }
    }
    (float_bytes as u8, bits >> (8 * zeros))
}

fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    let nibbles_at = out.len();
    out.resize(nibbles_at + values.len().div_ceil(2), 0);
    // Room for whole words, so that each value is one store of eight bytes; cut at the end.
    let mut at = out.len();
    out.resize(at + 8 * values.len() + 8, 0);
    let (nibbles, bytes) = out.split_at_mut(at);
    let nibbles = nibbles.get_mut(nibbles_at..).unwrap_or_default();
    let mut used = 0;
    for (pair, nibble) in values.chunks(2).zip(nibbles) {
        for (i, &value) in pair.iter().enumerate() {
            let (code, word) = value_code(value);
            *nibble |= code << (4 * i);
            if let Some(room) = bytes.get_mut(used..used + 8) {
                room.copy_from_slice(&word.to_le_bytes());
            }
            used += code_bytes(code);
        }
    }
    at += used;
    out.truncate(at);
}

/// Bytes behind a nibble.
#[inline]
fn code_bytes(code: u8) -> usize {
    usize::from(if code > 8 { code - 8 } else { code })
}

fn encode_histograms(histograms: &[(u32, i64, Histogram)], numbers: &[u32], out: &mut Vec<u8>) {
    number::push(out, histograms.len() as u64);
    if histograms.is_empty() {
        return;
    }
    let (mut last_number, mut last_time) = (0i64, 0i64);
    for ((_, time, _), &number) in histograms.iter().zip(numbers) {
        number::push_signed(out, i64::from(number) - last_number);
        number::push_signed(out, time.wrapping_sub(last_time));
        (last_number, last_time) = (i64::from(number), *time);
    }
    let plain: Vec<Histogram> = histograms.iter().map(|(.., histogram)| histogram.clone()).collect();
    let mut chunk = Vec::new();
    histogram::encode(&plain, &mut chunk);
    number::push_bytes(out, &chunk);
}

fn encode_exemplars(exemplars: &[Exemplar], numbers: &[u32], out: &mut Vec<u8>) {
    number::push(out, exemplars.len() as u64);
    let (mut last_number, mut last_time) = (0i64, 0i64);
    for (exemplar, &number) in exemplars.iter().zip(numbers) {
        number::push_signed(out, i64::from(number) - last_number);
        number::push_signed(out, exemplar.time.wrapping_sub(last_time));
        (last_number, last_time) = (i64::from(number), exemplar.time);
        out.extend_from_slice(&exemplar.value.to_le_bytes());
        number::push_bytes(out, &exemplar.labels);
    }
}

/// A start that is told anew. The distance to the sample is small where each sample has a start of its own.
fn start_code(time: i64, start: i64) -> u64 {
    if start == 0 { 1 } else { number::zigzag(time.wrapping_sub(start)).checked_add(2).unwrap_or(1) }
}

/// What a code that is not 0 says.
fn start_of(code: u64, time: i64) -> i64 {
    if code == 1 { 0 } else { time.wrapping_sub(number::unzigzag(code.wrapping_sub(2))) }
}

/// The start timestamp of a sample as records and segments keep it: 0 (unknown) where it lies absurdly far from its
/// sample.
#[inline]
pub(crate) fn sound_start(time: i64, start: i64) -> i64 {
    let near = time.checked_sub(start).is_some_and(|distance| distance.unsigned_abs() < 1 << 62);
    if near { start } else { 0 }
}

/// Id that stands for a series whose declaration was lost.
const LOST: u32 = u32::MAX;

/// Numbers of a file and where what they name lies: one run, and one more for each gap that a lost record left.
#[derive(Debug, Default)]
struct Numbers {
    /// First number of the run, place of what it names.
    runs: Vec<(u32, u32)>,
    /// Places in all.
    len: u32,
}

impl Numbers {
    fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
    }

    /// `count` more, from this number on, which may not go back.
    fn extend(&mut self, first: u32, count: usize) -> Result<(), Malformed> {
        let back = Malformed("numbers do not go on");
        let expected = match self.runs.last() {
            Some(&(number, place)) => number.checked_add(self.len - place).ok_or(back)?,
            None => 0,
        };
        let count = u32::try_from(count).map_err(|_| back)?;
        if first < expected || first.checked_add(count).is_none() {
            return Err(back);
        }
        if self.runs.is_empty() || first > expected {
            self.runs.push((first, self.len));
        }
        self.len = self.len.checked_add(count).ok_or(back)?;
        Ok(())
    }

    /// The place of a number; `None` when its declaration was lost.
    #[inline]
    fn place(&self, number: u32) -> Option<usize> {
        let run = self.runs.partition_point(|(first, _)| *first <= number).checked_sub(1)?;
        let (first, place) = *self.runs.get(run)?;
        let end = self.runs.get(run + 1).map_or(self.len, |(_, place)| *place);
        let place = place.checked_add(number - first)?;
        (place < end).then_some(place as usize)
    }
}

/// Decodes records of one log file in their order; knows what the file declared so far.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    string_numbers: Numbers,
    strings: Strings,
    series_numbers: Numbers,
    /// Series ids by place.
    series: Vec<u32>,
    label_bytes: Vec<u8>,
    /// Start timestamp that the file said last, by series place; empty as long as it said none.
    starts: Vec<i64>,
    /// Places of the series of all entries and histograms of the record at hand, when it has start timestamps.
    places: Vec<u32>,
    keep_places: bool,
    skipped: Rows,
}

/// Gives ids to declared series.
pub(crate) type Resolve<'a> = &'a mut dyn FnMut(TenantId, Labels) -> u32;

impl Decoder {
    /// A new log file begins.
    pub(crate) fn reset(&mut self) {
        self.string_numbers.clear();
        self.strings.clear();
        self.series_numbers.clear();
        self.series.clear();
        self.starts.clear();
    }

    /// Records of the file are missing: what they may have said of start timestamps is unknown until it is told anew.
    pub(crate) fn missed(&mut self) {
        self.starts.clear();
    }

    /// Takes in what a record declares and, into `rows` (cleared first), what it says; without `rows` only the
    /// declarations. Returns how many samples had to be skipped because their series' declaration was lost.
    pub(crate) fn decode(
        &mut self,
        payload: &[u8],
        tenant: TenantId,
        resolve: Resolve<'_>,
        rows: Option<&mut Rows>,
    ) -> Result<u64, Malformed> {
        let mut reader = Reader::new(payload);
        let version = reader.byte()?;
        if version != VERSION && version != VERSION_STARTS {
            return Err(Malformed("unknown version of a metrics record"));
        }
        self.read_strings(&mut reader)?;
        self.read_series(&mut reader, tenant, resolve)?;
        self.keep_places = version == VERSION_STARTS;
        let read = match rows {
            Some(rows) => self.read_rows(&mut reader, tenant, rows),
            // What it says of start timestamps counts for the records behind it.
            None if version == VERSION_STARTS => {
                let mut skipped = std::mem::take(&mut self.skipped);
                let read = self.read_rows(&mut reader, tenant, &mut skipped);
                skipped.clear();
                self.skipped = skipped;
                read.map(|_| 0)
            }
            None => Ok(0),
        };
        if read.is_err() {
            self.missed();
        }
        read
    }

    fn read_rows(&mut self, reader: &mut Reader<'_>, tenant: TenantId, rows: &mut Rows) -> Result<u64, Malformed> {
        rows.clear();
        rows.tenant = tenant;
        self.places.clear();
        self.read_entries(reader, rows)?;
        read_times(reader, rows)?;
        read_values(reader, rows)?;
        self.read_histograms(reader, rows)?;
        self.read_exemplars(reader, rows)?;
        if self.keep_places {
            self.read_starts(reader, rows)?;
        }
        if !reader.is_empty() {
            return Err(Malformed("bytes behind a metrics record"));
        }
        Ok(drop_lost(rows))
    }

    fn read_strings(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let first = reader.small()?;
        let count = reader.count(1)?;
        if count > 0 {
            self.string_numbers.extend(first, count)?;
        }
        let mut read = Ok(());
        for _ in 0..count {
            // The numbers are given out already: what cannot be read keeps its place.
            let text = if read.is_ok() { reader.bytes() } else { Ok(&b""[..]) };
            self.strings.push(text.unwrap_or_default());
            read = read.and(text.map(|_| ()));
        }
        read
    }

    fn read_series(
        &mut self,
        reader: &mut Reader<'_>,
        tenant: TenantId,
        resolve: Resolve<'_>,
    ) -> Result<(), Malformed> {
        let first = reader.small()?;
        let count = reader.count(1)?;
        if count > 0 {
            self.series_numbers.extend(first, count)?;
        }
        let places = self.series.len() + count;
        let read = self.read_labels(reader, tenant, resolve, count);
        self.series.resize(places, LOST);
        read
    }

    fn read_labels(
        &mut self,
        reader: &mut Reader<'_>,
        tenant: TenantId,
        resolve: Resolve<'_>,
        count: usize,
    ) -> Result<(), Malformed> {
        for _ in 0..count {
            let labels = reader.count(2)?;
            self.label_bytes.clear();
            let mut lost = false;
            for _ in 0..labels {
                let (name, value) = (reader.small()?, reader.small()?);
                let text = |number| self.strings.get(self.string_numbers.place(number)? as u32);
                match (text(name), text(value)) {
                    (Some(name), Some(value)) => push_label(&mut self.label_bytes, name, value),
                    _ => lost = true,
                }
            }
            let id = if lost {
                LOST
            } else {
                let labels = Labels::from_sorted_label_bytes(&self.label_bytes).map_err(|_| Malformed("bad labels"))?;
                resolve(tenant, labels)
            };
            self.series.push(id);
        }
        Ok(())
    }

    #[inline]
    fn id(&self, number: i64) -> Result<(u32, u32), Malformed> {
        let number = u32::try_from(number).map_err(|_| Malformed("series number wider than 32 bits"))?;
        // A record behind a lost one may use what that declared.
        let place = self.series_numbers.place(number);
        let id = place.and_then(|place| self.series.get(place)).copied();
        Ok((id.unwrap_or(LOST), place.map_or(LOST, |place| place as u32)))
    }

    fn read_starts(&mut self, reader: &mut Reader<'_>, rows: &mut Rows) -> Result<(), Malformed> {
        rows.starts.resize(rows.times.len(), 0);
        rows.histogram_starts.resize(rows.histograms.len(), 0);
        self.starts.resize(self.series.len(), 0);
        let (mut code, mut left) = (0u64, 0u64);
        let mut unread = rows.samples();
        let counts = rows.entries.iter().map(|entry| entry.count).chain(rows.histograms.iter().map(|_| 1));
        let times = rows.times.iter().copied().chain(rows.histograms.iter().map(|(_, time, _)| *time));
        let starts = rows.starts.iter_mut().chain(&mut rows.histogram_starts);
        let mut samples = times.zip(starts);
        for (&place, count) in self.places.iter().zip(counts) {
            let mut none = 0;
            let last = self.starts.get_mut(place as usize).unwrap_or(&mut none);
            for (time, start) in samples.by_ref().take(count as usize) {
                if left == 0 {
                    (code, left) = (reader.number()?, reader.number()?);
                    if left == 0 || left > unread {
                        return Err(Malformed("run of start timestamps has a wrong length"));
                    }
                }
                if code > 0 {
                    *last = start_of(code, time);
                }
                *start = *last;
                (left, unread) = (left - 1, unread - 1);
            }
        }
        if rows.starts.iter().all(|&start| start == 0) {
            rows.starts.clear();
        }
        if rows.histogram_starts.iter().all(|&start| start == 0) {
            rows.histogram_starts.clear();
        }
        Ok(())
    }

    fn read_entries(&mut self, reader: &mut Reader<'_>, rows: &mut Rows) -> Result<(), Malformed> {
        let entries = reader.number()?;
        // Each has a sample at least, and each sample a nibble.
        if entries > 2 * reader.left() as u64 {
            return Err(Malformed("more entries than the record has room for"));
        }
        let entries = entries as usize;
        let mut expected = 0i64;
        while rows.entries.len() < entries {
            let first = expected.wrapping_add(reader.signed()?);
            let length = reader.number()?;
            if length == 0 || length > (entries - rows.entries.len()) as u64 {
                return Err(Malformed("run of series numbers has a wrong length"));
            }
            for i in 0..length as i64 {
                let (series, place) = self.id(first.wrapping_add(i))?;
                rows.entries.push(Entry { series, count: 0 });
                if self.keep_places {
                    self.places.push(place);
                }
            }
            expected = first.wrapping_add(length as i64);
        }
        let mut samples = 0u64;
        let mut covered = 0;
        while covered < entries {
            let (count, length) = (reader.small()?, reader.number()?);
            if count == 0 || length == 0 || length > (entries - covered) as u64 {
                return Err(Malformed("run of sample counts has a wrong length"));
            }
            samples = samples.saturating_add(u64::from(count).saturating_mul(length));
            for entry in rows.entries.iter_mut().skip(covered).take(length as usize) {
                entry.count = count;
            }
            covered += length as usize;
        }
        if samples.div_ceil(2) > reader.left() as u64 {
            return Err(Malformed("more samples than the record has room for"));
        }
        rows.times.reserve(samples as usize);
        rows.values.resize(samples as usize, 0.0);
        Ok(())
    }

    fn read_histograms(&mut self, reader: &mut Reader<'_>, rows: &mut Rows) -> Result<(), Malformed> {
        let count = reader.count(2)?;
        if count == 0 {
            return Ok(());
        }
        let (mut number, mut time) = (0i64, 0i64);
        let mut keys = Vec::with_capacity(count);
        for _ in 0..count {
            number = number.wrapping_add(reader.signed()?);
            time = time.wrapping_add(reader.signed()?);
            let (id, place) = self.id(number)?;
            keys.push((id, time));
            if self.keep_places {
                self.places.push(place);
            }
        }
        let mut histograms = Vec::new();
        histogram::decode(reader.bytes()?, count, &mut histograms).map_err(|error| Malformed(error.0))?;
        rows.histograms.extend(keys.into_iter().zip(histograms).map(|((id, time), histogram)| (id, time, histogram)));
        Ok(())
    }

    fn read_exemplars(&self, reader: &mut Reader<'_>, rows: &mut Rows) -> Result<(), Malformed> {
        let count = reader.count(11)?;
        let (mut number, mut time) = (0i64, 0i64);
        for _ in 0..count {
            number = number.wrapping_add(reader.signed()?);
            time = time.wrapping_add(reader.signed()?);
            let value = reader.f64()?;
            let labels = reader.bytes()?.to_vec();
            rows.exemplars.push(Exemplar { series: self.id(number)?.0, time, value, labels });
        }
        Ok(())
    }
}

fn read_times(reader: &mut Reader<'_>, rows: &mut Rows) -> Result<(), Malformed> {
    let samples = rows.values.len();
    let (mut delta, mut left) = (0i64, 0u64);
    let mut first = 0i64;
    for entry in &rows.entries {
        let mut before = first;
        let begin = rows.times.len();
        let mut wanted = u64::from(entry.count);
        while wanted > 0 {
            if left == 0 {
                delta = reader.signed()?;
                left = reader.number()?;
                if left == 0 || left > (samples - rows.times.len()) as u64 {
                    return Err(Malformed("run of times has a wrong length"));
                }
            }
            let run = wanted.min(left);
            for _ in 0..run {
                before = before.wrapping_add(delta);
                rows.times.push(before);
            }
            wanted -= run;
            left -= run;
        }
        first = rows.times.get(begin).copied().unwrap_or(first);
    }
    Ok(())
}

fn read_values(reader: &mut Reader<'_>, rows: &mut Rows) -> Result<(), Malformed> {
    let nibbles = reader.take(rows.values.len().div_ceil(2))?;
    let mut bytes = 0usize;
    for &pair in nibbles {
        bytes += code_bytes(pair & 15) + code_bytes(pair >> 4);
    }
    let source = reader.take(bytes)?;
    let mut at = 0usize;
    for (i, value) in rows.values.iter_mut().enumerate() {
        let pair = nibbles.get(i / 2).copied().unwrap_or_default();
        let code = if i % 2 == 0 { pair & 15 } else { pair >> 4 };
        let len = code_bytes(code);
        let word = match source.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(word) => u64::from_le_bytes(*word),
            None => {
                let mut word = [0u8; 8];
                for (to, from) in word.iter_mut().zip(source.get(at..).unwrap_or_default()) {
                    *to = *from;
                }
                u64::from_le_bytes(word)
            }
        };
        at += len;
        *value = match code {
            0 => 0.0,
            1..=8 => f64::from_bits(word << (64 - 8 * len as u32)),
            9..=14 => number::unzigzag(word & (u64::MAX >> (64 - 8 * len as u32))) as f64,
            _ => return Err(Malformed("unknown code of a value")),
        };
    }
    if rows.values.len() % 2 == 1 && nibbles.last().is_some_and(|pair| pair >> 4 != 0) {
        return Err(Malformed("a value behind the last"));
    }
    Ok(())
}

/// Removes what belongs to series whose declaration was lost; returns how many samples that were.
fn drop_lost(rows: &mut Rows) -> u64 {
    let mut lost = 0u64;
    if rows.entries.iter().any(|entry| entry.series == LOST) {
        let mut keep = Rows { tenant: rows.tenant, ..Rows::default() };
        let mut at = 0usize;
        for entry in &rows.entries {
            let end = at + entry.count as usize;
            if entry.series == LOST {
                lost += u64::from(entry.count);
            } else {
                keep.entries.push(*entry);
                keep.times.extend_from_slice(rows.times.get(at..end).unwrap_or_default());
                keep.values.extend_from_slice(rows.values.get(at..end).unwrap_or_default());
                keep.starts.extend_from_slice(rows.starts.get(at..end).unwrap_or_default());
            }
            at = end;
        }
        rows.entries = keep.entries;
        rows.times = keep.times;
        rows.values = keep.values;
        rows.starts = keep.starts;
    }
    let before = rows.histograms.len();
    if !rows.histogram_starts.is_empty() {
        let mut lost = rows.histograms.iter().map(|(series, ..)| *series == LOST);
        rows.histogram_starts.retain(|_| !lost.next().unwrap_or(false));
    }
    rows.histograms.retain(|(series, ..)| *series != LOST);
    rows.exemplars.retain(|exemplar| exemplar.series != LOST);
    lost + (before - rows.histograms.len()) as u64
}

#[cfg(test)]
mod tests;
