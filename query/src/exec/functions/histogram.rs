//! Quantiles and fractions of histograms: native ones are cells, of classic ones each bucket is a series, that differ
//! in `le`. Where both have one name and labels at a step, neither is looked at.

use varve_model::{Histogram, Labels, Millis};

use crate::annotation::{Annotation, Levelled, Notes};
use crate::budget::Budget;
use crate::error::Error;
use crate::exec::block::{ABSENT, StepBlock, derived, is_absent, is_histogram};
use crate::exec::keys::KeyTable;
use crate::exec::steps::Steps;
use crate::histogram::{self as native, Skew};

/// The label of a bucket's upper bound.
const BOUND: &str = "le";
/// Counts of neighbouring buckets that differ by less are taken for equal.
const SMALL_DELTA: f64 = 1e-12;

/// One bucket: observations up to the bound.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Bucket {
    /// Upper bound, inclusive.
    pub(crate) bound: f64,
    /// Observations at or below it.
    pub(crate) count: f64,
}

/// A bound as Go reads a float.
fn parse_bound(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let word = ["inf", "infinity", "nan"].iter().any(|word| unsigned.eq_ignore_ascii_case(word));
    let bound: f64 = if plain || word { text.parse().ok()? } else { return None };
    // What does not fit is no number.
    (word || bound.is_finite()).then_some(bound)
}

/// What is asked of a histogram.
#[derive(Clone, Copy)]
pub(crate) enum Measure {
    /// A quantile.
    Quantile(f64),
    /// The fraction of observations between two values.
    Fraction(f64, f64),
}

/// A classic histogram: labels without bound and name, and the bounds of its rows.
struct Classic {
    labels: Labels,
    name: String,
    bounds: Vec<(f64, u32)>,
}

/// A row with native histograms: its labels without name, and the classic histogram of its labels, if there is one.
struct Native {
    labels: Labels,
    name: String,
    row: u32,
    rival: Option<usize>,
}

/// Evaluates histograms.
pub(crate) struct Distributions<'a> {
    /// About the vector of histograms.
    pub(crate) notes: &'a Notes,
    pub(crate) steps: Steps,
    pub(crate) budget: &'a Budget,
    /// Whether names are still there to be told.
    pub(crate) named: bool,
}

impl Distributions<'_> {
    /// Measures each histogram at each step, where there is something to measure; once for each of `results`, which
    /// also says how the labels of its rows are made.
    pub(crate) fn evaluate(
        &self,
        block: &StepBlock,
        results: usize,
        labels_of: &dyn Fn(usize, &Labels) -> Result<Labels, Error>,
        measure: &dyn Fn(usize, usize) -> Option<Measure>,
    ) -> Result<StepBlock, Error> {
        // Labels once without the bound and once as a key, the name, the bounds; and steps that are contested.
        let cells = if block.has_histograms() { block.rows() as u64 * block.steps() as u64 } else { 0 };
        let _held = self.budget.hold(3 * block.label_bytes() + 128 * block.rows() as u64 + 8 * cells)?;
        let (mut classics, natives) = self.sort_out(block)?;
        // Steps at which a native histogram is in a classic one's way, and the other way round.
        let mut contested = vec![Vec::new(); classics.len()];
        for native in &natives {
            let Some((rival, classic)) = native.rival.and_then(|rival| Some((rival, classics.get(rival)?))) else {
                continue;
            };
            let cells = block.row(native.row as usize).iter().enumerate();
            for (step, _) in cells.filter(|(_, cell)| is_histogram(**cell)) {
                let is_bucket = |row: u32| block.row(row as usize).get(step).is_some_and(|cell| is_float(*cell));
                if classic.bounds.iter().any(|(_, row)| is_bucket(*row)) {
                    contested[rival].push(step);
                }
            }
        }
        let has_contested = contested.iter().any(|steps| !steps.is_empty());
        for (_, classic) in contested.iter().zip(&classics).filter(|(steps, _)| !steps.is_empty()) {
            self.notes.add(&Annotation::MixedClassicNativeHistograms(classic.name.clone()));
        }
        contested.iter_mut().for_each(|steps| steps.sort_unstable());
        let is_contested = |rival: usize, step: usize| contested[rival].binary_search(&step).is_ok();
        let mut result = StepBlock::new(block.steps());
        result.reserve((classics.len() + natives.len()) * results, self.budget)?;
        let mut row = vec![ABSENT; block.steps()];
        for classic in &mut classics {
            classic.bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let mut buckets = Vec::new();
        for number in 0..results {
            for native in &natives {
                self.budget.check()?;
                let mut told = Told::default();
                for (step, out) in row.iter_mut().enumerate() {
                    let histogram = block.histograms().get(block.row(native.row as usize)[step]);
                    let histogram = histogram.filter(|_| !native.rival.is_some_and(|rival| is_contested(rival, step)));
                    *out = match histogram.zip(measure(number, step)) {
                        Some((histogram, measure)) => told.of_native(measure, histogram),
                        None => ABSENT,
                    };
                }
                told.note(&native.name, self.notes);
                result.push(labels_of(number, &native.labels)?, &row, self.budget)?;
            }
            for (at, classic) in classics.iter().enumerate() {
                self.budget.check()?;
                let mut told = Told::default();
                for (step, out) in row.iter_mut().enumerate() {
                    buckets.clear();
                    for (bound, row) in &classic.bounds {
                        let count = block.row(*row as usize)[step];
                        if is_float(count) {
                            buckets.push(Bucket { bound: *bound, count });
                        }
                    }
                    let nothing = buckets.is_empty() || (has_contested && is_contested(at, step));
                    *out = match measure(number, step).filter(|_| !nothing) {
                        Some(measure) => told.of_classic(measure, self.steps.time(step), &mut buckets),
                        None => ABSENT,
                    };
                }
                told.note(&classic.name, self.notes);
                result.push(labels_of(number, &classic.labels)?, &row, self.budget)?;
            }
        }
        result.merge_same_labels()?;
        Ok(result)
    }

    /// Finds the histograms of a block; series that are neither kind are remarked upon.
    fn sort_out(&self, block: &StepBlock) -> Result<(Vec<Classic>, Vec<Native>), Error> {
        let mut keys = KeyTable::default();
        let mut classics: Vec<Classic> = Vec::new();
        let mut natives = Vec::new();
        let has_histograms = block.has_histograms();
        let name_of = |labels: &Labels| if self.named { labels.metric_name().to_owned() } else { String::new() };
        for (row, (labels, cells)) in block.iter().enumerate() {
            if has_histograms && cells.iter().any(|cell| is_histogram(*cell)) {
                natives.push(row as u32);
                if !cells.iter().any(|cell| is_float(*cell)) {
                    continue;
                }
            }
            let text = labels.get(BOUND).unwrap_or_default();
            let Some(bound) = parse_bound(text) else {
                self.notes.add(&Annotation::BadBucketLabel { metric: name_of(labels), label: text.to_owned() });
                continue;
            };
            // The name tells histograms apart until it is dropped.
            let rest = labels.without(&|name| name == BOUND);
            let (number, new) = keys.intern(rest.as_label_bytes());
            if new {
                classics.push(Classic {
                    labels: derived(&rest, self.named),
                    name: name_of(labels),
                    bounds: Vec::new(),
                });
            }
            classics[number].bounds.push((bound, row as u32));
        }
        let natives = natives.into_iter().map(|row| {
            let labels = &block.labels()[row as usize];
            let rival = keys.find(labels.as_label_bytes());
            Native { labels: derived(labels, self.named), name: name_of(labels), row, rival }
        });
        Ok((classics, natives.collect()))
    }
}

fn is_float(cell: f64) -> bool {
    !is_absent(cell) && !is_histogram(cell)
}

/// What is to be told about measures.
#[derive(Default)]
struct Told {
    levelled: Option<Levelled>,
    nan: bool,
    skewed: bool,
    excluded: bool,
}

impl Told {
    fn of_native(&mut self, measure: Measure, histogram: &Histogram) -> f64 {
        let (value, skew) = match measure {
            Measure::Quantile(q) => native::quantile(q, histogram),
            Measure::Fraction(lower, upper) => native::fraction(lower, upper, histogram),
        };
        match (skew, measure) {
            (Skew::None, _) => {}
            (Skew::NaN, _) => self.nan = true,
            (Skew::Skewed, Measure::Quantile(_)) => self.skewed = true,
            (Skew::Skewed, Measure::Fraction(..)) => self.excluded = true,
        }
        value
    }

    fn of_classic(&mut self, measure: Measure, time: Millis, buckets: &mut Vec<Bucket>) -> f64 {
        match measure {
            Measure::Fraction(lower, upper) => fraction(lower, upper, buckets),
            Measure::Quantile(q) => {
                let (value, levelling) = quantile(q, buckets);
                if let Some((bound_min, bound_max, difference_max)) = levelling {
                    let new =
                        Levelled { time_min: time, time_max: time, bound_min, bound_max, difference_max, count: 1 };
                    match &mut self.levelled {
                        Some(levelled) => levelled.merge(&new),
                        empty => *empty = Some(new),
                    }
                }
                value
            }
        }
    }

    fn note(&self, name: &str, notes: &Notes) {
        let metric = || name.to_owned();
        if let Some(levelled) = self.levelled {
            notes.add(&Annotation::ForcedMonotonicity { metric: metric(), levelled });
        }
        for (said, annotation) in [
            (self.nan, Annotation::QuantileNaNResult(metric())),
            (self.skewed, Annotation::QuantileNaNSkew(metric())),
            (self.excluded, Annotation::FractionNaNs(metric())),
        ] {
            if said {
                notes.add(&annotation);
            }
        }
    }
}

/// A quantile as a label value, in the form of OpenMetrics: the shortest digits, an exponent below 1e-4 and from 1e6
/// on, and something behind the point where there is neither.
pub(crate) fn quantile_label(q: f64) -> String {
    if !q.is_finite() {
        return crate::exec::top::plain_float(q);
    }
    let scientific = format!("{q:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if q != 0.0 && !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ if q.fract() == 0.0 => format!("{q}.0"),
        _ => format!("{q}"),
    }
}

/// Adds up buckets of equal bounds.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, kept| {
        let same = next.bound == kept.bound;
        if same {
            kept.count += next.count;
        }
        same
    });
}

/// What was levelled: smallest and largest bound, largest difference.
type Levelling = Option<(f64, f64, f64)>;

/// Makes counts ascend: small differences are ignored, decreases are levelled.
fn level(buckets: &mut [Bucket]) -> Levelling {
    let mut levelling: Levelling = None;
    let first = buckets.first()?;
    let mut before = first.count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == before {
            continue;
        }
        if nearly_equal(before, count) {
            bucket.count = before;
            continue;
        }
        if count < before {
            bucket.count = before;
            let (min, max, difference) = levelling.unwrap_or((f64::INFINITY, f64::NEG_INFINITY, 0.0));
            levelling = Some((min.min(bucket.bound), max.max(bucket.bound), difference.max(before - count)));
            continue;
        }
        before = count;
    }
    levelling
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DELTA
}

/// The quantile `q` of buckets in order of bounds, linear within a bucket; and what had to be levelled.
fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Levelling) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let levelling = level(buckets);
    (level_quantile(q, buckets), levelling)
}

/// The quantile of buckets whose counts ascend.
fn level_quantile(q: f64, buckets: &[Bucket]) -> f64 {
    let [.., second_last, last] = buckets else { return f64::NAN };
    if last.count == 0.0 {
        return f64::NAN;
    }
    let mut rank = q * last.count;
    let at = buckets[..buckets.len() - 1].partition_point(|bucket| bucket.count < rank || bucket.count.is_nan());
    if at == buckets.len() - 1 {
        return second_last.bound;
    }
    let bucket = buckets[at];
    if at == 0 && bucket.bound <= 0.0 {
        return bucket.bound;
    }
    let (mut begin, mut count) = (0.0, bucket.count);
    if at > 0 {
        begin = buckets[at - 1].bound;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    begin + (bucket.bound - begin) * (rank / count)
}

/// The fraction of observations between `lower` and `upper`, linear within a bucket.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets.last().map_or(0.0, |last| last.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below = |limit: f64| {
        let mut rank = 0.0;
        let mut begin = if buckets.first().is_some_and(|first| first.bound > 0.0) { 0.0 } else { f64::NEG_INFINITY };
        for bucket in buckets.iter() {
            if begin >= limit {
                return rank;
            }
            if bucket.bound > limit {
                // An endless bucket gives no line to go by.
                return if begin == f64::NEG_INFINITY {
                    bucket.count
                } else {
                    rank + (bucket.count - rank) * (limit - begin) / (bucket.bound - begin)
                };
            }
            rank = bucket.count;
            begin = bucket.bound;
        }
        count
    };
    let cap = |rank: f64| if rank > count { count } else { rank };
    (cap(below(upper)) - cap(below(lower))) / count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|(bound, count)| Bucket { bound: *bound, count: *count }).collect()
    }

    #[test]
    fn quantiles_of_buckets() {
        let plain = [(1.0, 1.0), (2.0, 3.0), (f64::INFINITY, 4.0)];
        assert_eq!(quantile(0.5, &mut buckets(&plain)), (1.5, None));
        assert_eq!(quantile(1.0, &mut buckets(&plain)), (2.0, None));
        assert!(quantile(0.5, &mut buckets(&plain[..2])).0.is_nan());
        // A count that falls is levelled.
        let falling = [(1.0, 2.0), (2.0, 1.0), (f64::INFINITY, 4.0)];
        assert_eq!(quantile(0.5, &mut buckets(&falling)), (1.0, Some((2.0, 2.0, 1.0))));
    }

    #[test]
    fn fractions_of_buckets() {
        let plain = [(1.0, 1.0), (2.0, 3.0), (f64::INFINITY, 4.0)];
        assert_eq!(fraction(0.0, 2.0, &mut buckets(&plain)), 0.75);
        assert_eq!(fraction(1.5, f64::INFINITY, &mut buckets(&plain)), 0.5);
        assert_eq!(fraction(2.0, 1.0, &mut buckets(&plain)), 0.0);
    }

    #[test]
    fn quantiles_make_labels() {
        for (q, label) in [(0.0, "0.0"), (1.0, "1.0"), (0.25, "0.25"), (1e-5, "1e-05"), (-0.1, "-0.1"), (2e7, "2e+07")]
        {
            assert_eq!(quantile_label(q), label);
        }
        assert_eq!(quantile_label(f64::NAN), "NaN");
        assert_eq!(quantile_label(f64::INFINITY), "+Inf");
    }

    #[test]
    fn bounds_are_read_as_go_reads_them() {
        for (text, bound) in
            [("+Inf", Some(f64::INFINITY)), ("1e-3", Some(1e-3)), ("5", Some(5.0)), ("x", None), ("", None)]
        {
            assert_eq!(parse_bound(text), bound, "{text}");
        }
    }
}
