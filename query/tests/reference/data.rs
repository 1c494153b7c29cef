//! Random data: floats and native histograms of all kinds, with resets, gaps, stale markers and times off the grid.

use std::collections::BTreeMap;

use varve_model::histogram::ResetHint as Hint;

use crate::evaluate::{Data, METRIC_NAME, STALE, Sample, Set, Stored};
use crate::histogram::{CUSTOM, Histogram};
use crate::random::Random;

/// Milliseconds that the data covers.
pub(crate) const SPAN: i64 = 20 * 60_000;

fn labels(pairs: &[(&str, &str)]) -> Set {
    pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

/// Counters, gauges with NaN and infinities, classic and native histograms, series of both kinds, info series. All
/// numbers are short binary fractions, so that sums of them are exact in any order.
pub(crate) fn data(random: &mut Random, begin: i64) -> Data {
    let mut data = Data::new();
    for job in ["a", "b"] {
        for instance in ["0", "1", "2"] {
            let zone = random.of(&["", "x", "y"]);
            let of = |name: &str| labels(&[(METRIC_NAME, name), ("job", job), ("instance", instance), ("zone", zone)]);
            if !random.one_in(6) {
                data.insert(of("c_total"), counter(random, begin));
                data.insert(of("g"), gauge(random, begin));
            }
            if !random.one_in(3) {
                let schema = random.of(&[0, 0, 1, 2, -1, 3]);
                data.insert(of("nh"), histograms(random, begin, Kind::Exponential(schema)));
            }
            if random.one_in(3) {
                let schema = random.of(&[0, 1]);
                data.insert(of("ng"), histograms(random, begin, Kind::Gauge(schema)));
            }
            if random.one_in(2) {
                data.insert(of("nc"), histograms(random, begin, Kind::Custom));
            }
            if random.one_in(3) {
                data.insert(of("mix"), mixed(random, begin));
            }
            if random.one_in(4) {
                let mut typed = of("t_seconds_total");
                typed.insert("__type__".to_owned(), random.of(&["counter", "gauge", "histogram"]).to_owned());
                if random.one_in(2) {
                    typed.insert("__unit__".to_owned(), "seconds".to_owned());
                }
                data.insert(typed, counter(random, begin));
                // A series that differs in what describes the metric alone.
                if random.one_in(4) {
                    data.insert(of("t_seconds_total"), counter(random, begin));
                }
            }
            for name in ["target_info", "build_info"] {
                if random.one_in(2) {
                    let mut info = labels(&[(METRIC_NAME, name), ("job", job), ("instance", instance)]);
                    let key = if random.one_in(8) { "both" } else { &name[..5] };
                    info.insert(key.to_owned(), random.of(&["red", "blue"]).to_owned());
                    data.insert(info.clone(), constant(random, begin));
                    if random.one_in(8) {
                        info.insert(key.to_owned(), "green".to_owned());
                        data.insert(info, constant(random, begin));
                    }
                }
            }
        }
        let info = labels(&[(METRIC_NAME, "info"), ("job", job), ("team", random.of(&["red", "blue"]))]);
        data.insert(info, constant(random, begin));
        classic(random, begin, job, &mut data);
    }
    data
}

fn constant(random: &mut Random, begin: i64) -> BTreeMap<i64, Stored> {
    let constant = random.of(&[1.0, 1.0, 2.0]);
    times(random, begin).into_iter().map(|time| (time, stored(Sample::Float(constant)))).collect()
}

fn stored(sample: Sample) -> Stored {
    Stored { start: 0, sample }
}

fn classic(random: &mut Random, begin: i64, job: &str, data: &mut Data) {
    let mut counts = [0.0f64; 4];
    let bounds = ["-1", "0.5", "2", "+Inf"];
    // Now and then counts fall from bucket to bucket.
    let faulty = random.one_in(6);
    for time in times(random, begin) {
        if random.one_in(30) {
            counts = [0.0; 4];
        }
        let mut below = 0.0;
        for (i, le) in bounds.iter().enumerate() {
            below += random.below(4) as f64 * if i == 0 { 0.5 } else { 1.0 };
            counts[i] += if faulty && random.one_in(4) { 0.0 } else { below };
            let series = labels(&[(METRIC_NAME, "h_bucket"), ("job", job), ("le", le)]);
            data.entry(series).or_default().insert(time, stored(Sample::Float(counts[i])));
        }
    }
    if random.one_in(8) {
        // A native histogram of the same name.
        let series = labels(&[(METRIC_NAME, "h_bucket"), ("job", job)]);
        data.insert(series, histograms(random, begin, Kind::Exponential(0)));
    }
}

/// Times of one series: every 15 seconds more or less, with outages.
fn times(random: &mut Random, begin: i64) -> Vec<i64> {
    let phase = if random.one_in(3) { 0 } else { random.between(0, 14_999) };
    let jitter = random.of(&[0, 0, 200, 4000]);
    let mut times = Vec::new();
    let mut time = begin + phase + if random.one_in(4) { random.between(0, SPAN / 2) } else { 0 };
    while time <= begin + SPAN {
        times.push(time);
        time += 15_000 + random.between(-jitter, jitter);
        if random.one_in(40) {
            time += random.between(1, 6 * 60_000);
        }
    }
    times
}

/// Fills a series; sometimes it ends in a stale marker before an outage.
fn fill(random: &mut Random, begin: i64, mut next: impl FnMut(&mut Random) -> f64) -> BTreeMap<i64, Stored> {
    let mut samples = BTreeMap::new();
    for time in times(random, begin) {
        let value = if random.one_in(40) { f64::from_bits(STALE) } else { next(random) };
        samples.insert(time, stored(Sample::Float(value)));
    }
    samples
}

fn counter(random: &mut Random, begin: i64) -> BTreeMap<i64, Stored> {
    let mut value = random.below(100) as f64;
    let mut samples = fill(random, begin, |random| {
        value = if random.one_in(15) { random.below(10) as f64 } else { value + random.below(40) as f64 / 8.0 };
        value
    });
    starts(random, &mut samples);
    samples
}

/// Start timestamps: none, that of a counter (renewed now and then), that of deltas, or nonsense.
fn starts(random: &mut Random, samples: &mut BTreeMap<i64, Stored>) {
    let style = random.below(6);
    let mut began = samples.keys().next().map_or(0, |first| first - random.between(0, 30_000));
    let mut before = began;
    for (time, sample) in samples {
        if random.one_in(10) {
            began = time - random.between(0, 10_000);
        }
        sample.start = match style {
            0..=2 => 0,
            3 => began,
            4 => before,
            _ => time + random.between(-40_000, 1_000),
        };
        before = *time;
    }
}

fn gauge(random: &mut Random, begin: i64) -> BTreeMap<i64, Stored> {
    let wild = random.one_in(3);
    fill(random, begin, |random| match random.below(40) {
        0 if wild => f64::NAN,
        1 if wild => f64::INFINITY,
        2 if wild => f64::NEG_INFINITY,
        3 => 0.0,
        4 => -0.0,
        _ => random.between(-80, 80) as f64 / 8.0,
    })
}

/// Floats here, histograms there.
fn mixed(random: &mut Random, begin: i64) -> BTreeMap<i64, Stored> {
    let kind = if random.one_in(3) { Kind::Custom } else { Kind::Exponential(1) };
    let mut samples = histograms(random, begin, kind);
    let mut as_float = random.one_in(2);
    for sample in samples.values_mut() {
        if random.one_in(12) {
            as_float = !as_float;
        }
        if as_float && !sample.sample.is_stale() {
            sample.sample = Sample::Float(random.below(64) as f64 / 4.0);
        }
    }
    samples
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Exponential(i32),
    Gauge(i32),
    Custom,
}

fn empty(random: &mut Random, kind: Kind) -> Histogram {
    let (schema, hint) = match kind {
        Kind::Exponential(schema) => (schema, Hint::Unknown),
        Kind::Gauge(schema) => (schema, Hint::Gauge),
        Kind::Custom => (CUSTOM, Hint::Unknown),
    };
    let bounds: &[f64] = match kind {
        Kind::Custom => {
            random.of(&[&[1.0, 2.0, 4.0], &[1.0, 2.0, 4.0], &[1.0, 4.0], &[-1.0, 0.0, 1.0], &[0.5, 1.0, 3.0, 4.0]])
        }
        _ => &[],
    };
    let threshold = if kind == Kind::Custom { 0.0 } else { random.of(&[0.0, 0.0, 1.0 / 1024.0, 0.5, 1.0, 0.75]) };
    Histogram {
        hint,
        schema,
        threshold,
        zero: 0.0,
        count: 0.0,
        sum: 0.0,
        positive: BTreeMap::new(),
        negative: BTreeMap::new(),
        bounds: bounds.to_vec(),
    }
}

/// Some more observations.
fn observe(random: &mut Random, h: &mut Histogram, negative: bool) {
    let steps = random.below(3) + 1;
    for _ in 0..steps {
        let n = random.below(4) as f64;
        if h.schema == CUSTOM {
            let index = random.below(h.bounds.len() as u64 + 1) as i32;
            *h.positive.entry(index).or_insert(0.0) += n;
        } else if random.one_in(4) {
            h.zero += n;
        } else {
            // Buckets lie outside of the zero bucket.
            let lowest = if h.threshold > 0.0 {
                (h.threshold.log2() * f64::from(h.schema).exp2()).ceil() as i32 + 1
            } else {
                -3
            };
            let index = lowest.max(-4) + random.below(6) as i32;
            let side = if negative && random.one_in(3) { &mut h.negative } else { &mut h.positive };
            *side.entry(index).or_insert(0.0) += n;
        }
        h.count += n;
        h.sum += n * random.between(-8, 40) as f64 / 8.0;
    }
}

fn histograms(random: &mut Random, begin: i64, kind: Kind) -> BTreeMap<i64, Stored> {
    // Hints: none, true ones, or any.
    let hints = random.below(4);
    let (negative, wild) = (random.one_in(3), random.one_in(8));
    let mut kind = kind;
    let mut h = empty(random, kind);
    let mut samples = BTreeMap::new();
    for time in times(random, begin) {
        if random.one_in(40) {
            let stale = Histogram { sum: f64::from_bits(STALE), ..empty(random, kind) };
            samples.insert(time, stored(Sample::Histogram(Box::new(stale))));
            continue;
        }
        let mut was_reset = samples.is_empty();
        if random.one_in(15) || matches!(kind, Kind::Gauge(_)) {
            was_reset = true;
            if wild && random.one_in(3) {
                kind = if kind == Kind::Custom { Kind::Exponential(0) } else { Kind::Custom };
            }
            let anew = empty(random, kind);
            let keeps_layout = anew.schema == h.schema && !random.one_in(4);
            h = if keeps_layout { Histogram { bounds: h.bounds, threshold: h.threshold, ..anew } } else { anew };
        } else if random.one_in(20) && h.schema != CUSTOM && h.schema > -4 {
            let schema = h.schema - 1;
            h = h.at_schema(schema);
            kind = Kind::Exponential(schema);
        }
        observe(random, &mut h, negative);
        if random.one_in(10) {
            h = h.compact();
        }
        let mut sample = h.clone();
        if wild && random.one_in(12) {
            // Observations of NaN are counted, but in no bucket.
            sample.sum = f64::NAN;
            sample.count += 2.0;
        }
        sample.hint = match (kind, hints) {
            (Kind::Gauge(_), _) => Hint::Gauge,
            (_, 0 | 1) => Hint::Unknown,
            (_, 2) if was_reset => Hint::Reset,
            (_, 2) => Hint::NoReset,
            _ if random.one_in(30) => Hint::Gauge,
            _ => random.of(&[Hint::Unknown, Hint::Reset, Hint::NoReset, Hint::Unknown]),
        };
        samples.insert(time, stored(Sample::Histogram(Box::new(sample))));
    }
    starts(random, &mut samples);
    samples
}

/// What storage makes of hints: gauges stay gauges; of all others it tells no more than can be seen from the samples, as
/// Prometheus does, whose chunks begin where a counter was reset and do not say why.
pub(crate) fn forget_hints(data: &mut Data) {
    for stored in data.values_mut().flat_map(BTreeMap::values_mut) {
        if let Sample::Histogram(h) = &mut stored.sample
            && h.hint != Hint::Gauge
        {
            h.hint = Hint::Unknown;
        }
    }
}
