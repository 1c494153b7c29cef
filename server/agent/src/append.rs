//! One body into one batch: labels from the cache or made anew, limits, counts.
//!
//! All or nothing: on an error the caller empties the batch and writes stale markers instead.

use varve_model::labels::{METRIC_NAME, push_label};
use varve_model::write::WriteSeries;
use varve_model::{Histogram, Millis, WriteBatch};
use varve_protocol::scrape::{Exemplar, Pairs, Part, Sample, Value, Visitor, labels_of, reduce_resolution};

use crate::cache::{Cache, Entry};
use crate::config::ScrapeConfig;
use crate::relabel::{self, LabelMap};
use crate::target::Target;

/// How far ahead of the clock a timestamp of a target may lie.
const AHEAD_MAX: Millis = 600_000;
/// Letters of an exemplar's labels.
const EXEMPLAR_LETTERS: usize = 128;
/// Bits of the NaN that marks a series as stale.
const STALE: f64 = f64::from_bits(varve_model::sample::STALE_NAN_BITS);

/// What a scrape came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Samples in the body.
    pub(crate) total: u64,
    /// Samples left by relabeling.
    pub(crate) kept: u64,
    /// Series that were new.
    pub(crate) new_series: u64,
    /// Samples of a series that the body had before.
    pub(crate) duplicates: u64,
    /// Samples too far ahead of the clock.
    pub(crate) out_of_bounds: u64,
    /// Whether a limit on labels was exceeded.
    pub(crate) label_limit: bool,
    /// Whether the limit on samples was.
    pub(crate) sample_limit: bool,
    /// Whether the limit on buckets was.
    pub(crate) bucket_limit: bool,
}

/// Takes the samples of a body.
pub(crate) struct Appender<'a> {
    pub(crate) target: &'a Target,
    pub(crate) config: &'a ScrapeConfig,
    pub(crate) cache: &'a mut Cache,
    pub(crate) batch: &'a mut WriteBatch,
    /// Time of samples without one.
    pub(crate) now: Millis,
    /// Bytes of labels one batch may hold.
    pub(crate) bytes_max: u64,
    pub(crate) counts: Counts,
    pairs: Pairs,
    labels: LabelMap,
    /// Label bytes of a new series.
    bytes: Vec<u8>,
    appended: u64,
}

impl<'a> Appender<'a> {
    pub(crate) fn new(
        target: &'a Target,
        config: &'a ScrapeConfig,
        cache: &'a mut Cache,
        batch: &'a mut WriteBatch,
        now: Millis,
        bytes_max: u64,
    ) -> Appender<'a> {
        Appender {
            target,
            config,
            cache,
            batch,
            now,
            bytes_max,
            counts: Counts::default(),
            pairs: Vec::new(),
            labels: LabelMap::default(),
            bytes: Vec::new(),
            appended: 0,
        }
    }

    /// What is wrong with the whole after its end.
    pub(crate) fn finish(&self) -> Result<(), String> {
        if self.counts.sample_limit {
            Err("sample limit exceeded".to_owned())
        } else if self.counts.bucket_limit {
            Err("histogram bucket limit exceeded".to_owned())
        } else {
            Ok(())
        }
    }

    /// The label bytes of a new series; false when relabeling drops it.
    fn make_labels(&mut self, sample: &Sample<'_>) -> Result<bool, String> {
        labels_of(sample.series, sample.kind, &mut self.pairs)?;
        // In order, so that a name's like is its neighbour and the map of labels only grows at its end.
        self.pairs.sort_unstable();
        let twice = self.pairs.windows(2).find_map(|pair| match pair {
            [(name, _), (next, _)] if name == next => Some(name),
            _ => None,
        });
        if let Some(name) = twice {
            return Err(format!("label name {name:?} is not unique: invalid sample"));
        }
        self.labels.clear();
        for (name, value) in &self.pairs {
            self.labels.set(name, value);
        }
        self.add_target_labels();
        if !relabel::apply(&self.config.metric_relabel, &mut self.labels) || self.labels.is_empty() {
            return Ok(false);
        }
        self.check_labels()?;
        self.bytes.clear();
        for (name, value) in self.labels.iter() {
            push_label(&mut self.bytes, name.as_bytes(), value.as_bytes());
        }
        Ok(true)
    }

    fn add_target_labels(&mut self) {
        if self.config.honor_labels {
            // A label that is there and empty is honored too.
            for (name, value) in self.target.labels() {
                if !self.pairs.iter().any(|(known, _)| known == name) {
                    self.labels.set(name, value);
                }
            }
            return;
        }
        let mut conflicts: Vec<(&str, String)> = Vec::new();
        for (name, value) in self.target.labels() {
            let exposed = self.labels.get(name);
            if !exposed.is_empty() {
                conflicts.push((name, exposed.to_owned()));
            }
            self.labels.set(name, value);
        }
        conflicts.sort_by_key(|(name, _)| name.len());
        for (name, value) in conflicts {
            let mut renamed = format!("exported_{name}");
            while !self.labels.get(&renamed).is_empty() {
                renamed.insert_str(0, "exported_");
            }
            self.labels.set(&renamed, &value);
        }
    }

    fn check_labels(&mut self) -> Result<(), String> {
        let (labels, config) = (&self.labels, self.config);
        let metric = labels.metric_name();
        if metric.is_empty() {
            return Err("missing metric name (__name__ label)".to_owned());
        }
        let names = config.name_scheme();
        let valid = names.is_metric_name(metric)
            && labels.iter().all(|(name, _)| name == METRIC_NAME || names.is_label_name(name));
        if !valid {
            let shown: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            return Err(format!("invalid metric name or label names: {{{}}}", shown.join(", ")));
        }
        let exceeded = label_limits(labels, config);
        self.counts.label_limit |= exceeded.is_err();
        exceeded
    }

    /// Begins the series of an entry in the batch.
    fn begin_series(batch: &mut WriteBatch, entry: &Entry, bytes_max: u64) -> Result<(), String> {
        let begin = batch.bytes.len();
        let end = begin + entry.labels.len();
        if end as u64 > bytes_max.min(u64::from(u32::MAX) / 2) {
            return Err(format!(
                "the series of one scrape take more than {bytes_max} bytes; raise `decompressed_bytes_max` to allow more"
            ));
        }
        batch.bytes.extend_from_slice(&entry.labels);
        let (samples, histograms) = (batch.times.len() as u32, batch.histograms.len() as u32);
        batch.series.push(WriteSeries {
            labels: begin as u32..end as u32,
            hash: entry.hash,
            samples: samples..samples,
            histograms: histograms..histograms,
        });
        Ok(())
    }

    /// Makes a histogram fit the limits on its buckets; false when it cannot.
    fn fit(&self, histogram: &mut Histogram) -> bool {
        let finest = finest_schema(self.config.histogram_min_bucket_factor);
        let exponential = (-4..=8).contains(&histogram.schema);
        if exponential && histogram.schema > finest {
            let _ = reduce_resolution(histogram, finest);
        }
        let max = self.config.histogram_bucket_limit;
        if max == 0 {
            return true;
        }
        while (histogram.positive.len() + histogram.negative.len()) as u64 > max {
            let coarser = histogram.schema - 1;
            if !exponential || reduce_resolution(histogram, coarser).is_none() {
                return false;
            }
        }
        true
    }

    fn push_exemplars(&mut self, exemplars: &[Exemplar], time: Millis) {
        for exemplar in exemplars {
            let letters = |text: &String| text.chars().count();
            let all: usize = exemplar.labels.iter().map(|(name, value)| letters(name) + letters(value)).sum();
            if all > EXEMPLAR_LETTERS {
                continue;
            }
            let labels = exemplar.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            self.batch.push_exemplar(labels, exemplar.time.unwrap_or(time), exemplar.value);
        }
    }
}

impl Visitor for Appender<'_> {
    fn metadata(&mut self, family: &str, part: Part<'_>) {
        self.cache.say(family, |said| match part {
            Part::Type(kind) => std::mem::replace(&mut said.kind, kind) != kind,
            Part::Help(help) => take_text(&mut said.help, help),
            Part::Unit(unit) => take_text(&mut said.unit, unit),
        });
    }

    #[inline]
    fn sample(&mut self, sample: Sample<'_>) -> Result<(), String> {
        self.counts.total += 1;
        let own_time = sample.time.filter(|_| self.config.honor_timestamps);
        let time = own_time.unwrap_or(self.now);
        let is_histogram = matches!(sample.value, Value::Histogram(_));
        let known = self.cache.find(sample.series);
        let mut again = false;
        if let Some(place) = known {
            again = self.cache.see(place);
            if self.cache.entry(place).is_none_or(Entry::is_dropped) {
                return Ok(());
            }
        } else if !self.make_labels(&sample)? {
            self.cache.add(sample.series, &[], is_histogram);
            return Ok(());
        }
        self.counts.kept += 1;
        if again && own_time.is_none() {
            self.counts.duplicates += 1;
            return Ok(());
        }
        if time > self.now.saturating_add(AHEAD_MAX) {
            self.counts.out_of_bounds += 1;
            return Ok(());
        }
        self.appended += 1;
        if self.config.sample_limit > 0 && self.appended > self.config.sample_limit {
            self.counts.sample_limit = true;
            return Ok(());
        }
        let mut value = sample.value;
        if let Value::Histogram(histogram) = &mut value
            && !self.fit(histogram)
        {
            self.counts.bucket_limit = true;
            return Ok(());
        }
        let place = match known {
            Some(place) => place,
            None => {
                self.counts.new_series += 1;
                self.cache.add(sample.series, &self.bytes, is_histogram)
            }
        };
        if own_time.is_none() || self.config.track_timestamps_staleness {
            self.cache.track(place, is_histogram);
        }
        let Some(entry) = self.cache.entry(place) else { return Ok(()) };
        Self::begin_series(self.batch, entry, self.bytes_max)?;
        match value {
            Value::Float(value) => {
                self.batch.push_sample(time, value);
                self.batch.set_start(sample.start);
            }
            Value::Histogram(histogram) => {
                self.batch.push_histogram(time, histogram);
                self.batch.set_histogram_start(sample.start);
            }
        }
        if !sample.exemplars.is_empty() {
            self.push_exemplars(sample.exemplars, time);
        }
        Ok(())
    }
}

fn take_text(known: &mut String, text: &str) -> bool {
    if known == text {
        return false;
    }
    text.clone_into(known);
    true
}

/// Writes stale markers for series.
pub(crate) fn push_stale(batch: &mut WriteBatch, entries: &[&Entry], time: Millis) {
    for entry in entries {
        if Appender::begin_series(batch, entry, u64::MAX).is_err() {
            return;
        }
        if entry.is_histogram {
            batch.push_histogram(time, Histogram { sum: STALE, ..Histogram::default() });
        } else {
            batch.push_sample(time, STALE);
        }
    }
}

/// A series of the agent's own about a target: `up` and the like; `None` writes its stale marker.
pub(crate) fn push_report(batch: &mut WriteBatch, target: &Target, name: &str, time: Millis, value: Option<f64>) {
    let labels = target.labels().filter(|(label, _)| *label != METRIC_NAME);
    batch.push_series(std::iter::once((METRIC_NAME, name)).chain(labels));
    batch.push_sample(time, value.unwrap_or(STALE));
}

fn label_limits(labels: &LabelMap, config: &ScrapeConfig) -> Result<(), String> {
    let metric: String = labels.metric_name().chars().take(50).collect();
    if config.label_limit > 0 && labels.len() as u64 > config.label_limit {
        return Err(format!(
            "label_limit exceeded (metric: {metric}, number of labels: {}, limit: {})",
            labels.len(),
            config.label_limit
        ));
    }
    for (name, value) in labels.iter() {
        let shown: String = name.chars().take(50).collect();
        if config.label_name_length_limit > 0 && name.len() as u64 > config.label_name_length_limit {
            return Err(format!(
                "label_name_length_limit exceeded (metric: {metric}, label name: {shown}, length: {}, limit: {})",
                name.len(),
                config.label_name_length_limit
            ));
        }
        if config.label_value_length_limit > 0 && value.len() as u64 > config.label_value_length_limit {
            let value_shown: String = value.chars().take(50).collect();
            return Err(format!(
                "label_value_length_limit exceeded (metric: {metric}, label name: {shown}, value: {value_shown:?}, \
                 length: {}, limit: {})",
                value.len(),
                config.label_value_length_limit
            ));
        }
    }
    Ok(())
}

/// The finest schema whose buckets grow by at least `factor`.
fn finest_schema(factor: f64) -> i32 {
    let factor = if factor <= 1.0 { 1.00271 } else { factor };
    (-factor.log2().log2()).floor().clamp(-4.0, 8.0) as i32
}
