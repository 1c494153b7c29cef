//! Samples, times and the columns a scan yields.

use crate::histogram::Histogram;

/// Milliseconds since 1970-01-01T00:00:00Z; negative before.
pub type Millis = i64;

/// Bits of the NaN that marks a series as stale (Prometheus's `StaleNaN`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether a value is the stale marker; other NaNs are ordinary values.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One float sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// When.
    pub time: Millis,
    /// What.
    pub value: f64,
}

/// A range of time, both ends inclusive. Empty when `min > max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeRange {
    /// First millisecond in the range.
    pub min: Millis,
    /// Last millisecond in the range.
    pub max: Millis,
}

impl TimeRange {
    /// Everything.
    pub const ALL: TimeRange = TimeRange { min: Millis::MIN, max: Millis::MAX };

    /// Whether the ranges share a millisecond.
    pub fn overlaps(&self, other: &TimeRange) -> bool {
        // The empty range of a minimum over nothing reaches to both ends of time.
        self.min <= other.max && other.min <= self.max && self.min <= self.max && other.min <= other.max
    }

    /// What both ranges have; empty when that is nothing.
    pub fn intersection(&self, other: &TimeRange) -> TimeRange {
        TimeRange { min: self.min.max(other.min), max: self.max.min(other.max) }
    }

    /// Whether `time` lies in the range.
    pub fn contains(&self, time: Millis) -> bool {
        self.min <= time && time <= self.max
    }
}

fn align(starts: &mut Vec<Millis>, len: usize) {
    if starts.is_empty() {
        return;
    }
    if starts.iter().all(|&start| start == 0) {
        starts.clear();
    } else {
        starts.resize(len, 0);
    }
}

/// A series' samples over some time as columns: ascending unique times. Float samples and histogram samples are
/// apart; a time occurs in one of the two only. Reused by its owner: `clear`, fill, read.
#[derive(Clone, Default, Debug)]
pub struct Column {
    /// Times of the float samples, ascending, unique.
    pub times: Vec<Millis>,
    /// Values of the float samples; stale markers included.
    pub values: Vec<f64>,
    /// Histogram samples, ascending and unique in time; a stale histogram has a stale `sum`.
    pub histograms: Vec<(Millis, Histogram)>,
    /// Start timestamps of the float samples: when their counter began. Empty when none is known, else one per float
    /// sample, 0 where it is unknown.
    pub starts: Vec<Millis>,
    /// Start timestamps of the histogram samples, told the same way.
    pub histogram_starts: Vec<Millis>,
}

impl Column {
    /// Forgets the samples, keeps the memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
        self.starts.clear();
        self.histogram_starts.clear();
    }

    /// Start timestamp of float sample `index`; 0 when it is unknown.
    pub fn start(&self, index: usize) -> Millis {
        self.starts.get(index).copied().unwrap_or(0)
    }

    /// Start timestamp of histogram sample `index`; 0 when it is unknown.
    pub fn histogram_start(&self, index: usize) -> Millis {
        self.histogram_starts.get(index).copied().unwrap_or(0)
    }

    /// Brings the start timestamps to one per sample where some are known, to none where all are 0: what the fields
    /// promise, after samples were added or removed at the end.
    pub fn align_starts(&mut self) {
        align(&mut self.starts, self.times.len());
        align(&mut self.histogram_starts, self.histograms.len());
    }

    /// Removes the samples of both kinds in `range`.
    pub fn remove(&mut self, range: TimeRange) {
        let begin = self.times.partition_point(|&time| time < range.min);
        let end = self.times.partition_point(|&time| time <= range.max);
        if begin < end {
            self.times.drain(begin..end);
            self.values.drain(begin..end);
            if !self.starts.is_empty() {
                self.starts.drain(begin..end);
            }
        }
        let begin = self.histograms.partition_point(|(time, _)| *time < range.min);
        let end = self.histograms.partition_point(|(time, _)| *time <= range.max);
        if begin < end {
            self.histograms.drain(begin..end);
            if !self.histogram_starts.is_empty() {
                self.histogram_starts.drain(begin..end);
            }
        }
        self.align_starts();
    }

    /// Samples of both kinds.
    pub fn len(&self) -> usize {
        self.times.len() + self.histograms.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histograms.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_range_overlaps_nothing() {
        let empty = TimeRange { min: Millis::MAX, max: Millis::MIN };
        let one = TimeRange { min: 5, max: 5 };
        assert!(!empty.overlaps(&TimeRange::ALL) && !TimeRange::ALL.overlaps(&empty));
        assert!(one.overlaps(&TimeRange::ALL) && one.overlaps(&one));
        assert!(!one.overlaps(&TimeRange { min: 6, max: 9 }));
    }

    #[test]
    fn what_is_removed_takes_its_start_with_it() {
        let histogram = || Histogram::default();
        let mut column = Column {
            times: vec![1, 2, 4],
            values: vec![1.0, 2.0, 4.0],
            histograms: vec![(3, histogram()), (5, histogram())],
            starts: vec![0, 9, 0],
            histogram_starts: vec![0, 8],
        };
        column.remove(TimeRange { min: 3, max: 4 });
        assert_eq!((&column.times[..], &column.starts[..]), (&[1, 2][..], &[0, 9][..]));
        assert_eq!((column.histograms.len(), &column.histogram_starts[..]), (1, &[8][..]));
        column.remove(TimeRange { min: 2, max: 2 });
        assert_eq!((&column.times[..], &column.starts[..]), (&[1][..], &[][..]));
    }
}
