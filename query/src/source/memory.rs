//! A source in memory: sorted maps, nothing clever. For tests and for evaluating over data at hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use varve_model::{Column, Histogram, Labels, Matcher, Millis, TenantId, TimeRange};

use super::{SeriesSet, Source};
use crate::error::Error;

/// One sample.
#[derive(Clone, PartialEq, Debug)]
pub enum MemorySample {
    /// A float, stale markers included.
    Float(f64),
    /// A native histogram.
    Histogram(Histogram),
}

/// Samples and their start timestamps, 0 where unknown, by time.
type Samples = BTreeMap<Millis, (MemorySample, Millis)>;

/// Series of any tenants; a later write of the same time wins.
#[derive(Clone, Default, Debug)]
pub struct MemorySource {
    series: BTreeMap<(TenantId, Labels), Samples>,
}

impl MemorySource {
    /// Nothing stored.
    pub fn new() -> MemorySource {
        MemorySource::default()
    }

    /// Stores a float sample.
    pub fn push(&mut self, tenant: TenantId, labels: &Labels, time: Millis, value: f64) {
        self.push_sample(tenant, labels, time, MemorySample::Float(value));
    }

    /// Stores a sample.
    pub fn push_sample(&mut self, tenant: TenantId, labels: &Labels, time: Millis, sample: MemorySample) {
        self.push_started(tenant, labels, 0, time, sample);
    }

    /// Stores a sample of a counter that began at `start`.
    pub fn push_started(
        &mut self,
        tenant: TenantId,
        labels: &Labels,
        start: Millis,
        time: Millis,
        sample: MemorySample,
    ) {
        self.series.entry((tenant, labels.clone())).or_default().insert(time, (sample, start));
    }
}

impl Source for MemorySource {
    fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        series_max: u64,
    ) -> Result<Arc<dyn SeriesSet>, Error> {
        let mut series = Vec::new();
        if range.min <= range.max {
            for ((owner, labels), samples) in &self.series {
                let selected = *owner == tenant
                    && matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()));
                let in_range: Samples =
                    samples.range(range.min..=range.max).map(|(time, sample)| (*time, sample.clone())).collect();
                if selected && !in_range.is_empty() {
                    series.push((labels.clone(), in_range));
                }
            }
        }
        if series.len() as u64 > series_max {
            return Err(Error::Limit { limit: "series selected", max: series_max, setting: "query_series_max" });
        }
        Ok(Arc::new(MemorySet { series }))
    }
}

struct MemorySet {
    series: Vec<(Labels, Samples)>,
}

impl SeriesSet for MemorySet {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.series.get(index).map(|(labels, _)| labels.clone()).unwrap_or_default()
    }

    fn read(&self, index: usize, range: TimeRange, column: &mut Column) -> Result<(), Error> {
        column.clear();
        let Some((_, samples)) = self.series.get(index).filter(|_| range.min <= range.max) else { return Ok(()) };
        for (time, (sample, start)) in samples.range(range.min..=range.max) {
            match sample {
                MemorySample::Float(value) => {
                    column.times.push(*time);
                    column.values.push(*value);
                    column.starts.push(*start);
                }
                MemorySample::Histogram(histogram) => {
                    column.histograms.push((*time, histogram.clone()));
                    column.histogram_starts.push(*start);
                }
            }
        }
        for starts in [&mut column.starts, &mut column.histogram_starts] {
            if starts.iter().all(|start| *start == 0) {
                starts.clear();
            }
        }
        Ok(())
    }

    fn newest(&self, index: usize, range: TimeRange) -> Option<Option<(Millis, f64)>> {
        let (_, samples) = self.series.get(index).filter(|_| range.min <= range.max)?;
        match samples.range(range.min..=range.max).next_back() {
            None => Some(None),
            Some((time, (MemorySample::Float(value), _))) => Some(Some((*time, *value))),
            Some((_, (MemorySample::Histogram(_), _))) => None,
        }
    }
}
