//! Rows: samples of one tenant by series id, in the order in which they were written. The one form in which samples
//! reach the log (encoded) and the head (applied), from requests and from replay alike.

use varve_model::{Histogram, Millis, TenantId};

/// Consecutive float samples of one series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Its id in the shard.
    pub(crate) series: u32,
    /// How many of the rows that follow are its.
    pub(crate) count: u32,
}

/// An exemplar as the log has it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Exemplar {
    pub(crate) series: u32,
    pub(crate) time: Millis,
    pub(crate) value: f64,
    /// Its own label bytes.
    pub(crate) labels: Vec<u8>,
}

/// What one record says. Float samples come before histograms: where both have one time, the histogram is later.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) tenant: TenantId,
    pub(crate) entries: Vec<Entry>,
    /// Times of all entries' samples.
    pub(crate) times: Vec<Millis>,
    /// Values of all entries' samples.
    pub(crate) values: Vec<f64>,
    /// Series, time, histogram.
    pub(crate) histograms: Vec<(u32, Millis, Histogram)>,
    /// Start timestamps in the order of `times`: empty when none is known, else one each, 0 where it is unknown.
    pub(crate) starts: Vec<Millis>,
    /// Start timestamps of `histograms`, told the same way.
    pub(crate) histogram_starts: Vec<Millis>,
    pub(crate) exemplars: Vec<Exemplar>,
}

impl Rows {
    /// Forgets the content, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
        self.starts.clear();
        self.histogram_starts.clear();
        self.exemplars.clear();
    }

    /// Whether any sample has a start timestamp.
    pub(crate) fn has_starts(&self) -> bool {
        !self.starts.is_empty() || !self.histogram_starts.is_empty()
    }

    /// Says the start timestamp of the float sample added last; 0 says nothing.
    pub(crate) fn set_start(&mut self, start: Millis) {
        set_last(&mut self.starts, self.times.len(), start);
    }

    /// Says the start timestamp of the histogram added last; 0 says nothing.
    pub(crate) fn set_histogram_start(&mut self, start: Millis) {
        set_last(&mut self.histogram_starts, self.histograms.len(), start);
    }

    /// Brings the start timestamps to one per sample where some are known.
    pub(crate) fn align_starts(&mut self) {
        for (starts, len) in [(&mut self.starts, self.times.len()), (&mut self.histogram_starts, self.histograms.len())]
        {
            if !starts.is_empty() {
                starts.resize(len, 0);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.histograms.is_empty() && self.exemplars.is_empty()
    }

    /// Float and histogram samples.
    pub(crate) fn samples(&self) -> u64 {
        (self.times.len() + self.histograms.len()) as u64
    }
}

/// Sets the last of `len` start timestamps; none is kept as long as all are 0.
#[inline]
fn set_last(starts: &mut Vec<Millis>, len: usize, start: Millis) {
    if len == 0 || (start == 0 && starts.is_empty()) {
        return;
    }
    starts.resize(len, 0);
    if let Some(last) = starts.last_mut() {
        *last = start;
    }
}
