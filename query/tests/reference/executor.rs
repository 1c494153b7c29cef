//! The executor, asked the same: data and answers in the naive evaluator's terms.

use std::collections::BTreeMap;

use varve_model::histogram::Span;
use varve_model::{Column, Histogram as Stored, Labels, LabelsBuilder, Limits, TenantId};
use varve_query::answer::Cell;
use varve_query::promql::ast::Expr;
use varve_query::request::Features;
use varve_query::source::memory::{MemorySample, MemorySource};
use varve_query::{Budget, Pool, RangeRequest, Value, run};

use crate::evaluate::{Data, Sample, Series, Set};
use crate::histogram::Histogram;
use crate::random::Random;

pub(crate) const TENANT: TenantId = TenantId(7);

/// The executor over some data.
pub(crate) struct Executor(MemorySource);

/// What it answers.
pub(crate) struct Answer {
    pub(crate) series: Result<Vec<Series>, String>,
    pub(crate) annotations: Vec<String>,
}

/// Which of Prometheus's feature flags are on in a world.
pub(crate) fn features(random: &mut Random) -> Features {
    if random.one_in(2) {
        return Features::default();
    }
    Features {
        delayed_name_removal: random.one_in(3),
        start_timestamps: random.one_in(2),
        type_and_unit_labels: random.one_in(3),
    }
}

impl Executor {
    pub(crate) fn over(data: &Data) -> Executor {
        let mut source = MemorySource::new();
        for (labels, samples) in data {
            let mut builder = LabelsBuilder::default();
            for (name, value) in labels {
                builder.push(name, value);
            }
            let labels = builder.build().unwrap_or_else(|e| panic!("{labels:?}: {e:?}"));
            for (time, stored) in samples {
                let sample = match &stored.sample {
                    Sample::Float(value) => MemorySample::Float(*value),
                    Sample::Histogram(h) => MemorySample::Histogram(to_stored(h)),
                };
                source.push_started(TENANT, &labels, stored.start, *time, sample);
            }
        }
        Executor(source)
    }

    pub(crate) fn answer(&self, expr: &Expr, text: &str, request: &RangeRequest) -> Answer {
        let budget = Budget::of_limits(&Limits::default());
        let answer = match run(expr, request, &self.0, &budget, &Pool::new()) {
            Ok(answer) => answer,
            Err(error) => return Answer { series: Err(error.to_string()), annotations: Vec::new() },
        };
        let time = request.start;
        let (warnings, infos) = answer.annotations.texts(text, 1000);
        let series = match answer.value {
            Value::Scalar(value) => Ok(vec![one(Set::new(), [(time, Sample::Float(value))])]),
            Value::String(text) => Err(format!("a text {text}")),
            Value::Vector(elements) => Ok(elements
                .into_iter()
                .map(|element| {
                    let sample = match element.value {
                        Cell::Float(value) => Sample::Float(value),
                        Cell::Histogram(h) => Sample::Histogram(Box::new(from_stored(&h))),
                    };
                    one(set(&element.labels), [(time, sample)])
                })
                .collect()),
            Value::Matrix(all) => {
                Ok(all.iter().map(|series| one(set(&series.labels), samples(&series.points))).collect())
            }
        };
        let annotations = warnings.into_iter().chain(infos).collect();
        Answer { series, annotations }
    }
}

fn one(labels: Set, samples: impl IntoIterator<Item = (i64, Sample)>) -> Series {
    let samples = samples.into_iter().collect();
    Series { labels, drops_name: false, samples }
}

fn set(labels: &Labels) -> Set {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn samples(points: &Column) -> Vec<(i64, Sample)> {
    let floats = points.times.iter().zip(&points.values).map(|(time, value)| (*time, Sample::Float(*value)));
    let histograms = points.histograms.iter().map(|(time, h)| (*time, Sample::Histogram(Box::new(from_stored(h)))));
    floats.chain(histograms).collect()
}

fn to_stored(h: &Histogram) -> Stored {
    let side = |side: &BTreeMap<i32, f64>| {
        let mut spans: Vec<Span> = Vec::new();
        let mut next = 0;
        for index in side.keys() {
            match spans.last_mut() {
                Some(span) if *index == next => span.length += 1,
                _ => spans.push(Span { offset: index - next, length: 1 }),
            }
            next = index + 1;
        }
        (spans, side.values().copied().collect())
    };
    let (positive_spans, positive) = side(&h.positive);
    let (negative_spans, negative) = side(&h.negative);
    Stored {
        schema: h.schema,
        is_float: true,
        reset_hint: h.hint,
        zero_threshold: h.threshold,
        zero_count: h.zero,
        count: h.count,
        sum: h.sum,
        positive_spans,
        positive,
        negative_spans,
        negative,
        custom_bounds: h.bounds.clone(),
    }
}

fn from_stored(h: &Stored) -> Histogram {
    let side = |spans: &[Span], counts: &[f64]| {
        let mut side = BTreeMap::new();
        let buckets: u32 = spans.iter().map(|span| span.length).sum();
        assert_eq!(buckets as usize, counts.len(), "a count for each bucket");
        let mut counts = counts.iter();
        let mut index = 0;
        for span in spans {
            index += span.offset;
            for _ in 0..span.length {
                let before = counts.next().and_then(|count| side.insert(index, *count));
                assert!(before.is_none(), "a bucket twice");
                index += 1;
            }
        }
        side
    };
    Histogram {
        hint: h.reset_hint,
        schema: h.schema,
        threshold: h.zero_threshold,
        zero: h.zero_count,
        count: h.count,
        sum: h.sum,
        positive: side(&h.positive_spans, &h.positive),
        negative: side(&h.negative_spans, &h.negative),
        bounds: h.custom_bounds.clone(),
    }
}
