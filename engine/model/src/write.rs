//! WriteBatch: what a write request says, as columns over one buffer of label bytes. Filled by a decoder, routed and
//! logged by a shard; plain data, reused.
//!
//! Samples of a series are consecutive in `times`/`values`; a series may occur more than once in a batch.

use std::ops::Range;

use crate::histogram::Histogram;
use crate::labels::{SeriesHash, push_label};
use crate::sample::Millis;

/// One series of a batch.
#[derive(Clone, PartialEq, Debug)]
pub struct WriteSeries {
    /// Where its label bytes (form of `labels.rs`, any order, no empty value) are in [`WriteBatch::bytes`].
    pub labels: Range<u32>,
    /// Hash of those label bytes.
    pub hash: SeriesHash,
    /// Its float samples in `times` and `values`.
    pub samples: Range<u32>,
    /// Its histogram samples in `histograms`.
    pub histograms: Range<u32>,
}

/// One exemplar.
#[derive(Clone, PartialEq, Debug)]
pub struct WriteExemplar {
    /// Index of its series in `series`.
    pub series: u32,
    /// Its own label bytes in `bytes`.
    pub labels: Range<u32>,
    /// When.
    pub time: Millis,
    /// What.
    pub value: f64,
}

/// The type of a metric family, by Prometheus's names and remote-write numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum MetricType {
    /// `unknown`
    #[default]
    Unknown = 0,
    /// `counter`
    Counter = 1,
    /// `gauge`
    Gauge = 2,
    /// `histogram`
    Histogram = 3,
    /// `gaugehistogram`
    GaugeHistogram = 4,
    /// `summary`
    Summary = 5,
    /// `info`
    Info = 6,
    /// `stateset`
    StateSet = 7,
}

impl MetricType {
    /// The word of the Prometheus API.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricType::Unknown => "unknown",
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::GaugeHistogram => "gaugehistogram",
            MetricType::Summary => "summary",
            MetricType::Info => "info",
            MetricType::StateSet => "stateset",
        }
    }

    /// From remote write's number.
    pub fn from_number(number: u64) -> MetricType {
        match number {
            1 => MetricType::Counter,
            2 => MetricType::Gauge,
            3 => MetricType::Histogram,
            4 => MetricType::GaugeHistogram,
            5 => MetricType::Summary,
            6 => MetricType::Info,
            7 => MetricType::StateSet,
            _ => MetricType::Unknown,
        }
    }
}

/// Metadata of one metric family.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Metadata {
    /// Name of the family.
    pub family: String,
    /// Type.
    pub kind: MetricType,
    /// Help text.
    pub help: String,
    /// Unit.
    pub unit: String,
}

/// What one write request says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WriteBatch {
    /// The buffer the label ranges point into: the decompressed body itself where its labels have our form.
    pub bytes: Vec<u8>,
    /// Series in the order sent.
    pub series: Vec<WriteSeries>,
    /// Times of all float samples.
    pub times: Vec<Millis>,
    /// Values of all float samples.
    pub values: Vec<f64>,
    /// All histogram samples.
    pub histograms: Vec<(Millis, Histogram)>,
    /// Start timestamps of the float samples in the order of `times`, 0 where it is unknown. May be shorter than
    /// `times`: those that are missing are unknown. Empty when none is known.
    pub starts: Vec<Millis>,
    /// Start timestamps of the histogram samples in the order of `histograms`, told the same way.
    pub histogram_starts: Vec<Millis>,
    /// All exemplars.
    pub exemplars: Vec<WriteExemplar>,
    /// Metadata of families.
    pub metadata: Vec<Metadata>,
}

impl WriteBatch {
    /// Forgets the content, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.series.clear();
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
        self.starts.clear();
        self.histogram_starts.clear();
        self.exemplars.clear();
        self.metadata.clear();
    }

    /// Label bytes of a series.
    pub fn label_bytes(&self, series: &WriteSeries) -> &[u8] {
        self.bytes.get(series.labels.start as usize..series.labels.end as usize).unwrap_or_default()
    }

    /// Begins a series with labels in any order; empty values are left out. Its samples follow by
    /// [`WriteBatch::push_sample`]. For producers that do not hold label bytes already.
    pub fn push_series<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) {
        let begin = self.bytes.len();
        for (name, value) in labels.filter(|(_, value)| !value.is_empty()) {
            push_label(&mut self.bytes, name.as_bytes(), value.as_bytes());
        }
        let hash = self.bytes.get(begin..).and_then(SeriesHash::of).unwrap_or_default();
        let samples = self.times.len() as u32;
        let histograms = self.histograms.len() as u32;
        self.series.push(WriteSeries {
            labels: begin as u32..self.bytes.len() as u32,
            hash,
            samples: samples..samples,
            histograms: histograms..histograms,
        });
    }

    /// Adds a float sample to the series begun last.
    pub fn push_sample(&mut self, time: Millis, value: f64) {
        if let Some(series) = self.series.last_mut() {
            self.times.push(time);
            self.values.push(value);
            series.samples.end += 1;
        }
    }

    /// Adds a histogram sample to the series begun last.
    pub fn push_histogram(&mut self, time: Millis, histogram: Histogram) {
        if let Some(series) = self.series.last_mut() {
            self.histograms.push((time, histogram));
            series.histograms.end += 1;
        }
    }

    /// Says when the counter of the float sample pushed last began; 0 says nothing.
    pub fn set_start(&mut self, start: Millis) {
        set_last(&mut self.starts, self.times.len(), start);
    }

    /// Says when the counter of the histogram sample pushed last began; 0 says nothing.
    pub fn set_histogram_start(&mut self, start: Millis) {
        set_last(&mut self.histogram_starts, self.histograms.len(), start);
    }

    /// Adds an exemplar to the series begun last; its labels in any order, empty values left out.
    pub fn push_exemplar<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>, time: Millis, value: f64) {
        let Some(series) = self.series.len().checked_sub(1) else { return };
        let begin = self.bytes.len() as u32;
        for (name, value) in labels.filter(|(_, value)| !value.is_empty()) {
            push_label(&mut self.bytes, name.as_bytes(), value.as_bytes());
        }
        let labels = begin..self.bytes.len() as u32;
        self.exemplars.push(WriteExemplar { series: series as u32, labels, time, value });
    }

    /// Start timestamp of float sample `index`; 0 when it is unknown.
    pub fn start(&self, index: usize) -> Millis {
        self.starts.get(index).copied().unwrap_or(0)
    }

    /// Start timestamp of histogram sample `index`; 0 when it is unknown.
    pub fn histogram_start(&self, index: usize) -> Millis {
        self.histogram_starts.get(index).copied().unwrap_or(0)
    }

    /// Float and histogram samples.
    pub fn samples(&self) -> usize {
        self.times.len() + self.histograms.len()
    }

    /// Bytes that its labels and samples take in memory. O(histograms).
    pub fn memory_bytes(&self) -> usize {
        let floats = self.times.len() * (size_of::<Millis>() + size_of::<f64>());
        let histograms = self.histograms.iter().map(|(_, histogram)| size_of::<Millis>() + histogram.bytes());
        self.bytes.len() + floats + histograms.sum::<usize>()
    }
}

/// Sets the last of `len` start timestamps; none is kept as long as all are 0.
fn set_last(starts: &mut Vec<Millis>, len: usize, start: Millis) {
    let Some(last) = len.checked_sub(1) else { return };
    if start == 0 && starts.len() <= last {
        return;
    }
    starts.resize(len, 0);
    if let Some(place) = starts.get_mut(last) {
        *place = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_of_histograms_count_as_memory() {
        let mut batch = WriteBatch::default();
        batch.push_series([("__name__", "m")].into_iter());
        batch.push_sample(10, 1.0);
        let before = batch.memory_bytes();
        assert!(before >= 16 + batch.bytes.len());
        batch.push_histogram(20, Histogram { positive: vec![1.0; 1_000_000], ..Histogram::default() });
        assert!(batch.memory_bytes() >= before + 8_000_000);
    }

    #[test]
    fn start_timestamps_stand_beside_their_samples() {
        let mut batch = WriteBatch::default();
        batch.push_series([("__name__", "m")].into_iter());
        batch.push_sample(10, 1.0);
        batch.set_start(0);
        assert!(batch.starts.is_empty());
        batch.push_sample(20, 2.0);
        batch.set_start(5);
        batch.push_sample(30, 3.0);
        assert_eq!(batch.starts, [0, 5]);
        assert_eq!([0, 1, 2].map(|i| batch.start(i)), [0, 5, 0]);
        batch.push_sample(40, 4.0);
        batch.set_start(35);
        assert_eq!(batch.starts, [0, 5, 0, 35]);
        batch.clear();
        assert_eq!(batch, WriteBatch::default());
    }
}
