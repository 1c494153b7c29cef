//! Classic histograms made native: the `_bucket`, `_sum` and `_count` lines of one label set become one histogram with
//! custom bounds.
//!
//! Lines of one histogram stand together in a text; a line of another histogram, or anything else, ends it. What
//! contradicts itself (counts that fall, a count unlike the last bucket's) becomes no histogram, and is not an error.

use std::cmp::Ordering;

use varve_model::histogram::Span;
use varve_model::labels::{METRIC_NAME, push_label};
use varve_model::write::MetricType;
use varve_model::{Histogram, Millis, SeriesHash};

use super::histogram::spans;
use super::{Exemplar, Pairs, Part, Sample, Value, Visitor, histogram_suffix, labels_of, name_of, parse_float};

/// Schema of custom bounds.
const CUSTOM_SCHEMA: i32 = -53;
/// Above, a float does not hold every integer.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;
/// Empty buckets kept between others rather than beginning a new span.
const GAP_MAX: i32 = 2;

/// Buckets of one classic histogram, cumulative, collected in any order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ClassicBuckets {
    /// Upper bound and cumulative count, in the order said.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    invalid: bool,
}

impl ClassicBuckets {
    /// Forgets the content, keeps the memory.
    pub fn clear(&mut self) {
        self.buckets.clear();
        (self.count, self.sum, self.invalid) = (None, 0.0, false);
    }

    /// A bucket's cumulative count; of one bound the first counts.
    pub fn bucket(&mut self, bound: f64, count: f64) {
        self.invalid |= bound.is_nan();
        self.buckets.push((bound, count));
    }

    /// Brings the buckets into the order of their bounds, once for all, and each bound to one bucket.
    fn sort(&mut self) {
        // Stable, so that of one bound the first stays first; in time by number where they are sorted, as they nearly
        // always are. None of them is NaN.
        self.buckets.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        self.buckets.dedup_by(|(later, _), (first, _)| later == first);
    }

    /// The number of observations.
    pub fn count(&mut self, count: f64) {
        self.invalid |= count.is_nan() || count < 0.0;
        self.count = Some(count);
    }

    /// Their sum.
    pub fn sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    /// The native histogram, or nothing where the parts contradict each other.
    pub fn convert(&mut self) -> Option<Histogram> {
        if self.invalid {
            return None;
        }
        self.sort();
        let last = self.buckets.last().map(|(_, count)| *count);
        let count = self.count.or(last).unwrap_or(0.0);
        if self.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        // Written so that NaN is wrong too.
        let last = self.buckets.iter().try_fold(0.0, |before, (_, count)| (before <= *count).then_some(*count));
        if last != Some(count) {
            return None;
        }
        let is_float = self.buckets.iter().any(|(_, count)| count.fract() != 0.0 || *count >= COUNT_MAX);
        let mut before = 0.0;
        let own = self.buckets.iter().zip(0..).map(|((_, cumulative), index)| {
            let own = cumulative - before;
            before = *cumulative;
            (index, own)
        });
        let gap_max = if is_float { 0 } else { GAP_MAX };
        let (positive_spans, positive): (Vec<Span>, Vec<f64>) = spans(own.filter(|(_, own)| *own != 0.0), gap_max);
        Some(Histogram {
            schema: CUSTOM_SCHEMA,
            is_float,
            count,
            sum: self.sum,
            positive_spans,
            positive,
            custom_bounds: self.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(),
            ..Histogram::default()
        })
    }
}

/// A visitor that turns what belongs to a classic histogram into one sample of another visitor.
pub(super) struct Collator<'v> {
    visitor: &'v mut dyn Visitor,
    classic_too: bool,
    kind: MetricType,
    family: String,
    /// Whether lines have been collected; then what is below holds of them.
    collecting: bool,
    /// Hash of the labels without name and bound.
    labels: SeriesHash,
    /// Label bytes of the histogram's series.
    series: Vec<u8>,
    time: Option<Millis>,
    start: Millis,
    buckets: ClassicBuckets,
    exemplars: Vec<Exemplar>,
    pairs: Pairs,
}

impl<'v> Collator<'v> {
    pub(super) fn new(classic_too: bool, visitor: &'v mut dyn Visitor) -> Collator<'v> {
        Collator {
            visitor,
            classic_too,
            kind: MetricType::Unknown,
            family: String::new(),
            collecting: false,
            labels: SeriesHash::EMPTY,
            series: Vec::new(),
            time: None,
            start: 0,
            buckets: ClassicBuckets::default(),
            exemplars: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// Gives what was collected last.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        if !self.collecting {
            return Ok(());
        }
        self.collecting = false;
        let converted = self.buckets.convert();
        self.buckets.clear();
        let Some(histogram) = converted else {
            self.exemplars.clear();
            return Ok(());
        };
        let result = self.visitor.sample(Sample {
            series: &self.series,
            kind: self.kind,
            time: self.time,
            value: Value::Histogram(histogram),
            start: self.start,
            exemplars: &self.exemplars,
        });
        self.exemplars.clear();
        result
    }

    /// The part a line is of a classic histogram, and its bound if it is a bucket. The labels are in `pairs` then.
    fn part(&mut self, sample: &Sample<'_>) -> Result<Option<(&'static str, f64)>, String> {
        if sample.kind != MetricType::Histogram {
            return Ok(None);
        }
        labels_of(sample.series, sample.kind, &mut self.pairs)?;
        let Some((base, suffix)) = histogram_suffix(name_of(&self.pairs)) else { return Ok(None) };
        if base != self.family {
            return Ok(None);
        }
        Ok(match suffix {
            "_sum" => Some(("_sum", 0.0)),
            "_count" => Some(("_count", 0.0)),
            _ => {
                let bound = self.pairs.iter().find(|(name, _)| name == "le").map(|(_, bound)| parse_float(bound));
                bound.and_then(Result::ok).filter(|bound| !bound.is_nan()).map(|bound| ("_bucket", bound))
            }
        })
    }
}

impl Visitor for Collator<'_> {
    fn metadata(&mut self, family: &str, part: Part<'_>) {
        // An error of the visitor here would be its own bug: it was given no sample that it could refuse.
        let _ = self.finish();
        if let Part::Type(kind) = part {
            self.kind = kind;
            family.clone_into(&mut self.family);
        }
        self.visitor.metadata(family, part);
    }

    fn sample(&mut self, sample: Sample<'_>) -> Result<(), String> {
        let part = self.part(&sample)?;
        let Value::Float(value) = sample.value else { return self.visitor.sample(sample) };
        let Some((part, bound)) = part else {
            self.finish()?;
            return self.visitor.sample(sample);
        };
        let mut labels = SeriesHash::EMPTY;
        let mut body = Vec::new();
        let mut series = Vec::new();
        push_label(&mut series, METRIC_NAME.as_bytes(), self.family.as_bytes());
        for (name, value) in self.pairs.iter().filter(|(name, _)| name != METRIC_NAME && name != "le") {
            body.clear();
            push_label(&mut body, name.as_bytes(), value.as_bytes());
            labels.add_body(&body);
            series.extend_from_slice(&body);
        }
        if self.collecting && labels != self.labels {
            self.finish()?;
        }
        if !self.collecting {
            self.collecting = true;
            self.labels = labels;
            self.series = series;
            (self.time, self.start) = (sample.time, sample.start);
        }
        match part {
            "_sum" => self.buckets.sum(value),
            "_count" => self.buckets.count(value),
            _ => self.buckets.bucket(bound, value),
        }
        // Exemplars of native histograms must say when.
        self.exemplars.extend(sample.exemplars.iter().filter(|exemplar| exemplar.time.is_some()).cloned());
        if self.classic_too { self.visitor.sample(sample) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each bucket put into its place as it comes: plain, and slow where there are many.
    fn by_insertion(said: &[(f64, f64)], count: Option<f64>) -> Option<Vec<(f64, f64)>> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        let mut insert = |bound: f64, count: f64| {
            let at = buckets.partition_point(|(known, _)| *known < bound);
            if buckets.get(at).is_some_and(|(known, _)| *known == bound) {
                return Some(());
            }
            let before = at.checked_sub(1).map_or(0.0, |at| buckets[at].1);
            let after = buckets.get(at).map_or(f64::INFINITY, |(_, count)| *count);
            (!bound.is_nan() && before <= count && count <= after).then(|| buckets.insert(at, (bound, count)))
        };
        said.iter().try_for_each(|(bound, count)| insert(*bound, *count))?;
        let count = count.or(buckets.last().map(|(_, count)| *count)).unwrap_or(0.0);
        if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            let ascends = buckets.last().is_none_or(|(_, last)| *last <= count) && count >= 0.0;
            ascends.then(|| buckets.push((f64::INFINITY, count)))?;
        }
        (buckets.last().is_some_and(|(_, last)| *last == count)).then_some(buckets)
    }

    proptest! {
        #[test]
        fn the_order_of_the_lines_does_not_matter(
            said in prop::collection::vec((0u8..12, 0u8..12, any::<bool>()), 0..12),
            count in prop::option::of(0u8..12),
        ) {
            // Counts that mostly ascend with the bounds, so that many of the histograms are good.
            let number = |n: u8| match n {
                0 => -0.0,
                1 => 0.0,
                10 => f64::INFINITY,
                11 => f64::NAN,
                n => f64::from(n),
            };
            let said: Vec<(f64, f64)> =
                said.into_iter().map(|(bound, count, odd)| (number(bound), number(if odd { count } else { bound }))).collect();
            let count = count.map(number).filter(|count| !count.is_nan());
            let mut classic = ClassicBuckets::default();
            said.iter().for_each(|(bound, count)| classic.bucket(*bound, *count));
            count.into_iter().for_each(|count| classic.count(count));
            let converted = classic.convert();
            let expected = by_insertion(&said, count);
            prop_assert_eq!(converted.is_some(), expected.is_some());
            if let (Some(histogram), Some(expected)) = (converted, expected) {
                let bounds: Vec<f64> = expected.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect();
                prop_assert_eq!(histogram.custom_bounds, bounds);
                if histogram.count.is_finite() {
                    prop_assert_eq!(histogram.positive.iter().sum::<f64>(), histogram.count);
                }
            }
        }
    }

    #[test]
    fn a_million_buckets_in_descending_order_are_sorted_once() {
        let mut classic = ClassicBuckets::default();
        (0..1_000_000).rev().for_each(|bound| classic.bucket(f64::from(bound), f64::from(bound)));
        let histogram = classic.convert().unwrap();
        assert_eq!((histogram.count, histogram.custom_bounds.len()), (999_999.0, 1_000_000));
    }
}
