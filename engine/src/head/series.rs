//! Series: one series' samples in a head: closed chunks, the chunk that grows, and at the side what did not ascend.
//!
//! Invariants:
//! * Times in the chunks ascend strictly, over all chunks.
//! * A late sample (not behind the last of the chunks) came after every chunk sample of its time: it wins over the
//!   chunks, and among late samples the one that came last wins.
//! * A float that comes removes a histogram of its time; so a histogram that is there wins over floats of its time.

use std::collections::BTreeMap;

use varve_model::{Column, Histogram, Millis, TimeRange};

use crate::codec::gorilla::{self, Appender};
use crate::estimate::Estimate;

/// Samples after which a chunk is closed. Long enough that its first sample (16 bytes) costs little, short enough that a
/// reader of a short range decodes little.
const CHUNK_SAMPLES: usize = 240;
/// Late samples at which overwritten ones are looked for.
const LATE_COMPACT: usize = 64;

#[derive(Debug)]
struct Chunk {
    first: Millis,
    last: Millis,
    count: u32,
    bytes: Box<[u8]>,
}

/// What is rare in a series.
#[derive(Debug, Default)]
struct Side {
    /// In order of arrival.
    late: Vec<(Millis, f64)>,
    /// In order of times, each once.
    histograms: Vec<(Millis, Histogram)>,
    /// Late samples at which to compact next.
    compact_at: usize,
    starts: Starts,
}

/// Start timestamps of a series' samples; those that are not told are unknown (0).
#[derive(Clone, Debug, Default)]
struct Starts {
    /// Of the chunks' samples: from this time on it is that one. Ascending; constant starts are one entry.
    runs: Vec<(Millis, Millis)>,
    /// Of late samples.
    late: BTreeMap<Millis, Millis>,
    /// Of histograms.
    histograms: BTreeMap<Millis, Millis>,
}

impl Starts {
    /// A node's share of a map's entry and some room.
    const ENTRY_BYTES: i64 = 32;

    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.late.is_empty() && self.histograms.is_empty()
    }

    /// A sample was added to the chunks.
    #[inline]
    fn ascended(&mut self, time: Millis, start: Millis) -> i64 {
        if self.runs.last().map_or(0, |(_, last)| *last) == start {
            return 0;
        }
        self.runs.push((time, start));
        size_of::<(Millis, Millis)>() as i64
    }

    /// Keeps the start of a late sample or of a histogram; the last one told counts.
    fn tell(map: &mut BTreeMap<Millis, Millis>, time: Millis, start: Millis) -> i64 {
        let (known, told) = match start {
            0 => (map.remove(&time).is_some(), false),
            start => (map.insert(time, start).is_some(), true),
        };
        Starts::ENTRY_BYTES * (i64::from(told) - i64::from(known))
    }

    /// What `range` needs of it.
    fn of(&self, range: TimeRange) -> Starts {
        let some = |map: &BTreeMap<Millis, Millis>| map.range(range.min..=range.max).map(|(t, s)| (*t, *s)).collect();
        let first = self.runs.partition_point(|(from, _)| *from <= range.min).saturating_sub(1);
        let last = self.runs.partition_point(|(from, _)| *from <= range.max);
        let runs = self.runs.get(first..last).unwrap_or_default().to_vec();
        Starts { runs, late: some(&self.late), histograms: some(&self.histograms) }
    }

    fn of_chunks(&self, time: Millis) -> Millis {
        let at = self.runs.partition_point(|(from, _)| *from <= time).checked_sub(1);
        at.and_then(|at| self.runs.get(at)).map_or(0, |(_, start)| *start)
    }
}

/// One series' samples in a head.
#[derive(Debug, Default)]
pub(crate) struct Series {
    open: Appender,
    closed: Vec<Chunk>,
    side: Option<Box<Side>>,
}

const _: () = assert!(size_of::<Series>() <= 88);

/// Rough bytes of a histogram in memory.
fn histogram_bytes(histogram: &Histogram) -> i64 {
    (size_of::<Millis>() + histogram.bytes()) as i64
}

impl Series {
    pub(crate) fn is_empty(&self) -> bool {
        self.open.count() == 0 && self.side.is_none()
    }

    /// Loads the end of the chunk that grows into the cache.
    #[inline]
    pub(crate) fn touch(&self) -> u8 {
        self.open.bytes().last().copied().unwrap_or(0)
    }

    pub(crate) fn chunks(&self) -> u64 {
        self.closed.len() as u64 + u64::from(self.open.count() > 0)
    }

    /// Adds samples; returns how many were late and by how many bytes the series grew.
    #[inline]
    pub(crate) fn push_floats(&mut self, times: &[Millis], values: &[f64], starts: &[Millis]) -> (u64, i64) {
        let before = self.open.heap_bytes() as i64;
        let (mut late, mut bytes) = (0, 0);
        if self.side.is_none() && starts.iter().any(|&start| start != 0) {
            self.side = Some(Box::default());
            bytes += size_of::<Side>() as i64;
        }
        for (at, (&time, &value)) in times.iter().zip(values).enumerate() {
            if self.open.last_time().is_some_and(|last| time <= last) {
                bytes += self.push_late(time, value, starts.get(at).copied().unwrap_or(0));
                late += 1;
                continue;
            }
            if self.open.count() >= CHUNK_SAMPLES {
                bytes += self.close();
            }
            self.open.push(time, value);
            if let Some(side) = &mut self.side {
                bytes -= side.remove_histogram(time);
                bytes += side.starts.ascended(time, starts.get(at).copied().unwrap_or(0));
            }
        }
        (late, bytes + self.open.heap_bytes() as i64 - before)
    }

    /// Closes the chunk that grows. The return accounts for the closed chunk only: the caller compares the open one.
    #[cold]
    fn close(&mut self) -> i64 {
        let chunk = std::mem::take(&mut self.open);
        let (Some(first), Some(last)) = (chunk.first_time(), chunk.last_time()) else { return 0 };
        let count = chunk.count() as u32;
        let before = self.closed.capacity();
        if self.closed.len() == before {
            self.closed.reserve_exact((before / 2).max(1));
        }
        let bytes = chunk.into_bytes().into_boxed_slice();
        let grown = bytes.len() as i64 + ((self.closed.capacity() - before) * size_of::<Chunk>()) as i64;
        self.closed.push(Chunk { first, last, count, bytes });
        grown
    }

    #[cold]
    fn push_late(&mut self, time: Millis, value: f64, start: Millis) -> i64 {
        let had_side = self.side.is_some();
        let side = self.side.get_or_insert_default();
        let before = side.late.capacity();
        let mut bytes = if had_side { 0 } else { size_of::<Side>() as i64 };
        bytes -= side.remove_histogram(time);
        if start != 0 || !side.starts.late.is_empty() {
            bytes += Starts::tell(&mut side.starts.late, time, start);
        }
        match side.late.last_mut() {
            Some(last) if last.0 == time => last.1 = value,
            _ => side.late.push((time, value)),
        }
        if side.late.len() >= side.compact_at.max(LATE_COMPACT) {
            sort_later_wins(&mut side.late);
            side.compact_at = 2 * side.late.len();
        }
        bytes + (side.late.capacity() as i64 - before as i64) * size_of::<(Millis, f64)>() as i64
    }

    /// Adds a histogram; returns whether it did not ascend and by how many bytes the series grew.
    pub(crate) fn push_histogram(&mut self, time: Millis, histogram: &Histogram, start: Millis) -> (bool, i64) {
        let had_side = self.side.is_some();
        let ascends = self.open.last_time().is_none_or(|last| time > last);
        let side = self.side.get_or_insert_default();
        let mut bytes = if had_side { 0 } else { size_of::<Side>() as i64 };
        bytes += histogram_bytes(histogram);
        if start != 0 || !side.starts.histograms.is_empty() {
            bytes += Starts::tell(&mut side.starts.histograms, time, start);
        }
        match side.histograms.binary_search_by_key(&time, |(time, _)| *time) {
            Ok(at) => {
                if let Some(old) = side.histograms.get_mut(at) {
                    bytes -= histogram_bytes(&old.1);
                    old.1 = histogram.clone();
                }
                (true, bytes)
            }
            Err(at) => {
                let late = !ascends || at < side.histograms.len();
                side.histograms.insert(at, (time, histogram.clone()));
                (late, bytes)
            }
        }
    }

    /// Removes the samples in `range`; returns by how many bytes the series shrank. What stays is encoded anew.
    pub(crate) fn remove(&mut self, range: TimeRange) -> i64 {
        if !self.overlaps(range) {
            return 0;
        }
        let (mut copied, mut column) = (Copied::default(), Column::default());
        self.copy(TimeRange::ALL, &mut copied);
        copied.decode(TimeRange::ALL, &mut column);
        column.remove(range);
        let mut rest = Series::default();
        rest.push_floats(&column.times, &column.values, &column.starts);
        for (at, (time, histogram)) in column.histograms.iter().enumerate() {
            rest.push_histogram(*time, histogram, column.histogram_start(at));
        }
        let before = self.heap_bytes();
        *self = rest;
        before - self.heap_bytes()
    }

    /// Bytes of memory, counted as the functions that add count them.
    fn heap_bytes(&self) -> i64 {
        let closed: usize = self.closed.iter().map(|chunk| chunk.bytes.len()).sum();
        let closed = closed + self.closed.capacity() * size_of::<Chunk>();
        let side = self.side.as_ref().map_or(0, |side| {
            let histograms: i64 = side.histograms.iter().map(|(_, histogram)| histogram_bytes(histogram)).sum();
            let late = side.late.capacity() * size_of::<(Millis, f64)>();
            let runs = side.starts.runs.len() * size_of::<(Millis, Millis)>();
            let told = Starts::ENTRY_BYTES * (side.starts.late.len() + side.starts.histograms.len()) as i64;
            histograms + (size_of::<Side>() + late + runs) as i64 + told
        });
        self.open.heap_bytes() as i64 + closed as i64 + side
    }

    /// From the oldest to the newest sample; `None` when there is none.
    fn range(&self) -> Option<TimeRange> {
        let mut range = TimeRange { min: Millis::MAX, max: Millis::MIN };
        if let (Some(first), Some(last)) = (self.open.first_time(), self.open.last_time()) {
            range = TimeRange { min: self.closed.first().map_or(first, |chunk| chunk.first), max: last };
        }
        if let Some(side) = &self.side {
            for &(time, _) in &side.late {
                range.min = range.min.min(time);
            }
            if let (Some((first, _)), Some((last, _))) = (side.histograms.first(), side.histograms.last()) {
                range = TimeRange { min: range.min.min(*first), max: range.max.max(*last) };
            }
        }
        (range.min <= range.max).then_some(range)
    }

    /// Whether there may be a sample in `range`: one on each side of it is enough.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.range().is_some_and(|own| own.overlaps(&range))
    }

    /// The newest float; `None` when there are histograms or no sample.
    pub(crate) fn newest(&self) -> Option<(Millis, f64)> {
        let (time, value) = (self.open.last_time()?, self.open.last_value()?);
        let Some(side) = &self.side else { return Some((time, value)) };
        if !side.histograms.is_empty() {
            return None;
        }
        let rewritten = side.late.iter().rev().find(|(late, _)| *late == time);
        Some((time, rewritten.map_or(value, |(_, value)| *value)))
    }

    /// Adds what reading `range` touches.
    pub(crate) fn estimate(&self, range: TimeRange, into: &mut Estimate) {
        for chunk in &self.closed {
            let own = TimeRange { min: chunk.first, max: chunk.last };
            into.chunk(own, u64::from(chunk.count), chunk.bytes.len() as u64, range);
        }
        if let (Some(first), Some(last)) = (self.open.first_time(), self.open.last_time()) {
            let own = TimeRange { min: first, max: last };
            into.chunk(own, self.open.count() as u64, self.open.bytes().len() as u64, range);
        }
        if let Some(side) = &self.side {
            into.samples += side.late.iter().filter(|(time, _)| range.contains(*time)).count() as u64;
            for (_, histogram) in side.histograms.iter().filter(|(time, _)| range.contains(*time)) {
                into.samples += 1;
                into.bytes += histogram_bytes(histogram).unsigned_abs();
            }
        }
    }

    /// Copies what overlaps `range`: short, for the lock is held.
    pub(crate) fn copy(&self, range: TimeRange, out: &mut Copied) {
        for chunk in &self.closed {
            if (TimeRange { min: chunk.first, max: chunk.last }).overlaps(&range) {
                out.push(&chunk.bytes, chunk.count as usize);
            }
        }
        if let (Some(first), Some(last)) = (self.open.first_time(), self.open.last_time())
            && (TimeRange { min: first, max: last }).overlaps(&range)
        {
            out.push(self.open.bytes(), self.open.count());
        }
        if let Some(side) = &self.side {
            out.late.extend(side.late.iter().filter(|(time, _)| range.contains(*time)));
            out.histograms.extend(side.histograms.iter().filter(|(time, _)| range.contains(*time)).cloned());
            if !side.starts.is_empty() {
                out.starts = side.starts.of(range);
            }
        }
    }
}

impl Side {
    /// Removes the histogram of a time; returns its bytes.
    fn remove_histogram(&mut self, time: Millis) -> i64 {
        match self.histograms.binary_search_by_key(&time, |(time, _)| *time) {
            Ok(at) => {
                let told = Starts::tell(&mut self.starts.histograms, time, 0);
                histogram_bytes(&self.histograms.remove(at).1) - told
            }
            Err(_) => 0,
        }
    }
}

/// Sorts by time; of one time the last stays.
fn sort_later_wins(samples: &mut Vec<(Millis, f64)>) {
    samples.sort_by_key(|(time, _)| *time);
    samples.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 = later.1;
        }
        same
    });
}

/// A copy of what a series holds, decoded outside the lock.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    bytes: Vec<u8>,
    chunks: Vec<(usize, usize)>,
    late: Vec<(Millis, f64)>,
    histograms: Vec<(Millis, Histogram)>,
    starts: Starts,
}

impl Copied {
    fn push(&mut self, bytes: &[u8], count: usize) {
        self.bytes.extend_from_slice(bytes);
        self.chunks.push((self.bytes.len(), count));
    }

    /// Appends the samples in `range` to `column`, in order of times.
    pub(crate) fn decode(mut self, range: TimeRange, column: &mut Column) {
        let begin = column.times.len();
        let mut at = 0;
        for (end, count) in self.chunks {
            let chunk = self.bytes.get(at..end).unwrap_or_default();
            // Bytes that our own appender made in this process: what cannot be decoded is a bug.
            let decoded = gorilla::decode(chunk, count, &mut column.times, &mut column.values);
            assert!(decoded.is_ok(), "a chunk of the head cannot be decoded: {decoded:?}");
            at = end;
        }
        trim(begin, range, column);
        if !self.late.is_empty() {
            sort_later_wins(&mut self.late);
            let times: Vec<Millis> = self.late.iter().map(|(time, _)| *time).collect();
            let values: Vec<f64> = self.late.iter().map(|(_, value)| *value).collect();
            merge_later(begin, &times, &values, column);
        }
        let histograms_begin = column.histograms.len();
        if !self.histograms.is_empty() {
            drop_floats_at(begin, &self.histograms, column);
            column.histograms.extend(self.histograms);
        }
        if !self.starts.is_empty() || !column.starts.is_empty() || !column.histogram_starts.is_empty() {
            self.starts.fill(begin, histograms_begin, &self.late, column);
        }
    }
}

impl Starts {
    /// Sets the start timestamps of the floats from `begin` on and the histograms from `histograms_begin` on; `late`
    /// are the late samples in order of times.
    fn fill(&self, begin: usize, histograms_begin: usize, late: &[(Millis, f64)], column: &mut Column) {
        column.starts.resize(begin, 0);
        column.starts.extend(column.times.get(begin..).unwrap_or_default().iter().map(|time| {
            match late.binary_search_by_key(time, |(time, _)| *time) {
                Ok(_) => self.late.get(time).copied().unwrap_or(0),
                Err(_) => self.of_chunks(*time),
            }
        }));
        column.histogram_starts.resize(histograms_begin, 0);
        let histograms = column.histograms.get(histograms_begin..).unwrap_or_default();
        let starts = histograms.iter().map(|(time, _)| self.histograms.get(time).copied().unwrap_or(0));
        column.histogram_starts.extend(starts);
        column.align_starts();
    }
}

/// Removes floats from `begin` on that lie outside `range`.
fn trim(begin: usize, range: TimeRange, column: &mut Column) {
    let own = column.times.get(begin..).unwrap_or_default();
    let first = begin + own.partition_point(|&time| time < range.min);
    let last = begin + own.partition_point(|&time| time <= range.max);
    column.times.truncate(last);
    column.values.truncate(last);
    if first > begin {
        column.times.drain(begin..first.min(last));
        column.values.drain(begin..first.min(last));
    }
}

/// Merges later samples (ascending, unique) into the floats from `begin` on; they win where times are equal.
fn merge_later(begin: usize, times: &[Millis], values: &[f64], column: &mut Column) {
    let old_times = column.times.split_off(begin);
    let old_values = column.values.split_off(begin);
    let mut old = old_times.into_iter().zip(old_values).peekable();
    for (&time, &value) in times.iter().zip(values) {
        while let Some((earlier, kept)) = old.next_if(|(earlier, _)| *earlier < time) {
            column.times.push(earlier);
            column.values.push(kept);
        }
        let _overwritten = old.next_if(|(same, _)| *same == time);
        column.times.push(time);
        column.values.push(value);
    }
    for (time, value) in old {
        column.times.push(time);
        column.values.push(value);
    }
}

/// Removes floats from `begin` on at times that have a histogram.
fn drop_floats_at(begin: usize, histograms: &[(Millis, Histogram)], column: &mut Column) {
    let mut kept = begin;
    for i in begin..column.times.len() {
        let (Some(&time), Some(&value)) = (column.times.get(i), column.values.get(i)) else { break };
        if histograms.binary_search_by_key(&time, |(time, _)| *time).is_err() {
            if let (Some(to_time), Some(to_value)) = (column.times.get_mut(kept), column.values.get_mut(kept)) {
                (*to_time, *to_value) = (time, value);
            }
            kept += 1;
        }
    }
    column.times.truncate(kept);
    column.values.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn read(series: &Series, range: TimeRange) -> Vec<(Millis, f64)> {
        let mut copied = Copied::default();
        series.copy(range, &mut copied);
        let mut column = Column::default();
        copied.decode(range, &mut column);
        assert!(column.times.is_sorted_by(|a, b| a < b));
        column.times.into_iter().zip(column.values).collect()
    }

    /// A start timestamp of every other value; those of neighbours are often the same.
    fn start(value: u32) -> Millis {
        if value.is_multiple_of(2) { 0 } else { Millis::from(value / 100) + 7 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_order_reads_like_a_map(
            writes in proptest::collection::vec((0i64..400, 0u32..1000, 0u8..10), 0..900),
            ends in (0i64..400, 0i64..400),
            ascending in any::<bool>(),
        ) {
            let mut series = Series::default();
            let mut floats = BTreeMap::new();
            let mut histograms = BTreeMap::new();
            let mut bytes = 0;
            for (i, &(time, value, kind)) in writes.iter().enumerate() {
                let time = if ascending && i % 7 != 0 { i as i64 } else { time };
                if kind == 0 {
                    let histogram = Histogram { sum: f64::from(value), ..Histogram::default() };
                    bytes += series.push_histogram(time, &histogram, start(value)).1;
                    floats.remove(&time);
                    histograms.insert(time, histogram);
                } else {
                    let start = [start(value)];
                    bytes += series.push_floats(&[time], &[f64::from(value)], if start == [0] { &[] } else { &start }).1;
                    histograms.remove(&time);
                    floats.insert(time, f64::from(value));
                }
            }
            prop_assert_eq!(bytes, series.heap_bytes());
            let range = TimeRange { min: ends.0.min(ends.1), max: ends.0.max(ends.1) };
            let expected: Vec<(i64, f64)> = floats.range(range.min..=range.max).map(|(t, v)| (*t, *v)).collect();
            prop_assert_eq!(read(&series, range), expected.clone());
            let mut copied = Copied::default();
            series.copy(range, &mut copied);
            let mut column = Column::default();
            copied.decode(range, &mut column);
            let found: Vec<i64> = column.histograms.iter().map(|(time, _)| *time).collect();
            let wanted: Vec<i64> = histograms.range(range.min..=range.max).map(|(time, _)| *time).collect();
            prop_assert_eq!(found, wanted);
            for (i, (_, value)) in expected.iter().enumerate() {
                prop_assert_eq!(column.start(i), start(*value as u32));
            }
            for (i, (_, histogram)) in column.histograms.iter().enumerate() {
                prop_assert_eq!(column.histogram_start(i), start(histogram.sum as u32));
            }
            prop_assert!(column.starts.is_empty() || column.starts.len() == column.times.len());
            if histograms.is_empty() {
                prop_assert_eq!(series.newest(), floats.last_key_value().map(|(t, v)| (*t, *v)));
            } else if let Some(newest) = series.newest() {
                prop_assert_eq!(Some(newest), floats.last_key_value().map(|(t, v)| (*t, *v)));
            }
            prop_assert!(expected.is_empty() || series.overlaps(range));
            let mut rest = series;
            let freed = rest.remove(range);
            prop_assert_eq!(bytes - freed, rest.heap_bytes());
            let kept: Vec<(i64, f64)> =
                floats.iter().filter(|(time, _)| !range.contains(**time)).map(|(t, v)| (*t, *v)).collect();
            prop_assert_eq!(read(&rest, TimeRange::ALL), kept.clone());
            prop_assert_eq!(rest.is_empty(), kept.is_empty() && histograms.keys().all(|time| range.contains(*time)));
        }
    }

    #[test]
    fn rewriting_one_time_does_not_grow() {
        let mut series = Series::default();
        for i in 0..10_000 {
            series.push_floats(&[5], &[f64::from(i)], &[]);
            series.push_floats(&[i64::from(i % 3)], &[f64::from(i)], &[]);
        }
        assert!(series.side.as_ref().unwrap().late.capacity() <= 4 * LATE_COMPACT);
        assert_eq!(read(&series, TimeRange::ALL), [(0, 9999.0), (1, 9997.0), (2, 9998.0), (5, 9999.0)]);
    }
}
