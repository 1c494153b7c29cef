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

/// An exemplar. It is kept in the log; the head has no place for it yet.
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
    pub(crate) exemplars: Vec<Exemplar>,
}

impl Rows {
    /// Forgets the content, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
        self.exemplars.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.histograms.is_empty() && self.exemplars.is_empty()
    }

    /// Float and histogram samples.
    pub(crate) fn samples(&self) -> u64 {
        (self.times.len() + self.histograms.len()) as u64
    }
}
