//! Native histograms, naively: a map of bucket counts for each side, and arithmetic straight from the specification.
//!
//! A bucket that is in a map is part of the layout even when it counts nothing, as in Prometheus: layouts are compared
//! by `==` and `changes`, and a side without buckets changes how the zero bucket is read. `compact` drops such buckets.

use std::collections::BTreeMap;

use varve_model::histogram::ResetHint as Hint;

/// The schema of custom buckets.
pub(crate) const CUSTOM: i32 = -53;

/// A histogram. Buckets are `(bound(i - 1), bound(i)]`, mirrored on the negative side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) hint: Hint,
    pub(crate) schema: i32,
    /// Half the width of the zero bucket.
    pub(crate) threshold: f64,
    pub(crate) zero: f64,
    pub(crate) count: f64,
    pub(crate) sum: f64,
    pub(crate) positive: BTreeMap<i32, f64>,
    pub(crate) negative: BTreeMap<i32, f64>,
    /// Upper bounds of custom buckets; the last bucket has none.
    pub(crate) bounds: Vec<f64>,
}

/// A bucket as an interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    pub(crate) count: f64,
}

/// What came up while two histograms were combined.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remarks {
    /// One says that the counter was reset, the other that it was not.
    pub(crate) collision: bool,
    /// Custom bounds differed.
    pub(crate) reconciled: bool,
}

/// Exponential and custom buckets do not go together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incompatible;

/// The upper bound of an exponential bucket.
pub(crate) fn exponential_bound(index: i32, schema: i32) -> f64 {
    let exponent = f64::from(index) / f64::from(schema).exp2();
    // The bucket that would end at 2^1024 ends at the largest number; infinities have the next one.
    if exponent == 1024.0 { f64::MAX } else { exponent.exp2() }
}

/// Where a bucket goes at a lower resolution.
fn coarser(index: i32, from: i32, to: i32) -> i32 {
    ((index - 1) >> (from - to)) + 1
}

impl Histogram {
    pub(crate) fn is_custom(&self) -> bool {
        self.schema == CUSTOM
    }

    /// Nothing counted, in the layout of another: what a counter starts from.
    pub(crate) fn nothing_like(other: &Histogram) -> Histogram {
        Histogram {
            hint: Hint::Unknown,
            schema: other.schema,
            threshold: 0.0,
            zero: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: BTreeMap::new(),
            negative: BTreeMap::new(),
            bounds: other.bounds.clone(),
        }
    }

    /// The upper bound of a positive bucket.
    fn bound(&self, index: i32) -> f64 {
        if !self.is_custom() {
            return exponential_bound(index, self.schema);
        }
        match usize::try_from(index) {
            Ok(index) => self.bounds.get(index).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        }
    }

    pub(crate) fn positive_bucket(&self, index: i32, count: f64) -> Bucket {
        Bucket { lower: self.bound(index - 1), upper: self.bound(index), count }
    }

    pub(crate) fn negative_bucket(&self, index: i32, count: f64) -> Bucket {
        Bucket { lower: -self.bound(index), upper: -self.bound(index - 1), count }
    }

    /// All buckets from the lowest to the highest; the zero bucket only when it counts something. Those beside the zero
    /// bucket end where it begins.
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        let mut all: Vec<Bucket> = self.negative.iter().rev().map(|(i, n)| self.negative_bucket(*i, *n)).collect();
        for bucket in &mut all {
            if bucket.upper < 0.0 && bucket.upper > -self.threshold {
                bucket.upper = -self.threshold;
            }
        }
        if self.zero > 0.0 {
            all.push(Bucket { lower: -self.threshold, upper: self.threshold, count: self.zero });
        }
        for (index, count) in &self.positive {
            let mut bucket = self.positive_bucket(*index, *count);
            if bucket.lower > 0.0 && bucket.lower < self.threshold {
                bucket.lower = self.threshold;
            }
            all.push(bucket);
        }
        all
    }

    /// Every number replaced.
    pub(crate) fn map(mut self, change: &mut dyn FnMut(f64) -> f64) -> Histogram {
        for number in [&mut self.zero, &mut self.count, &mut self.sum] {
            *number = change(*number);
        }
        for number in self.positive.values_mut().chain(self.negative.values_mut()) {
            *number = change(*number);
        }
        self
    }

    pub(crate) fn times(self, factor: f64) -> Histogram {
        let hint = if factor < 0.0 { Hint::Gauge } else { self.hint };
        Histogram { hint, ..self.map(&mut |n| n * factor) }
    }

    pub(crate) fn divided_by(self, divisor: f64) -> Histogram {
        let hint = if divisor < 0.0 { Hint::Gauge } else { self.hint };
        let mut out = Histogram { hint, ..self.map(&mut |n| n / divisor) };
        if divisor == 0.0 {
            out.positive.clear();
            out.negative.clear();
        }
        out
    }

    /// Without buckets that count nothing.
    pub(crate) fn compact(mut self) -> Histogram {
        self.positive.retain(|_, n| *n != 0.0);
        self.negative.retain(|_, n| *n != 0.0);
        self
    }

    /// At a lower resolution.
    pub(crate) fn at_schema(mut self, schema: i32) -> Histogram {
        if schema == self.schema {
            return self;
        }
        assert!(!self.is_custom() && schema != CUSTOM && schema < self.schema);
        for side in [&mut self.positive, &mut self.negative] {
            let mut merged = BTreeMap::new();
            for (index, n) in side.iter() {
                *merged.entry(coarser(*index, self.schema, schema)).or_insert(0.0) += *n;
            }
            *side = merged;
        }
        self.schema = schema;
        self
    }

    /// The count of a zero bucket of at least this threshold, and its threshold: it never ends inside of a bucket that
    /// counts something.
    fn zero_of_threshold(&self, threshold: f64) -> (f64, f64) {
        if threshold == self.threshold {
            return (self.zero, threshold);
        }
        assert!(threshold > self.threshold);
        let mut threshold = threshold;
        loop {
            let before = threshold;
            for (index, n) in self.positive.iter().filter(|(_, n)| **n != 0.0) {
                let bucket = self.positive_bucket(*index, *n);
                if bucket.lower < threshold && bucket.upper > threshold {
                    threshold = bucket.upper;
                }
            }
            for (index, n) in self.negative.iter().filter(|(_, n)| **n != 0.0) {
                let bucket = self.negative_bucket(*index, *n);
                if bucket.upper > -threshold && bucket.lower < -threshold {
                    threshold = -bucket.lower;
                }
            }
            if threshold == before {
                break;
            }
        }
        let within = |side: &BTreeMap<i32, f64>| -> f64 {
            side.iter().filter(|(index, _)| self.bound(**index - 1) < threshold).map(|(_, n)| *n).sum()
        };
        (self.zero + within(&self.positive) + within(&self.negative), threshold)
    }

    fn widen_zero(&mut self, threshold: f64) {
        let (zero, threshold) = self.zero_of_threshold(threshold);
        self.zero = zero;
        self.threshold = threshold;
        let schema = self.schema;
        for side in [&mut self.positive, &mut self.negative] {
            side.retain(|index, n| *n != 0.0 && exponential_bound(*index - 1, schema) >= threshold);
        }
    }

    /// `self + sign * other`: at the lower resolution, with the wider zero bucket, with the bounds that both have.
    pub(crate) fn combined(mut self, other: &Histogram, sign: f64) -> Result<(Histogram, Remarks), Incompatible> {
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        let mut remarks = Remarks::default();
        let hints = (self.hint, other.hint);
        self.hint = match hints {
            (a, b) if a == b => a,
            (Hint::Gauge, _) | (_, Hint::Gauge) => Hint::Gauge,
            (Hint::Unknown, _) | (_, Hint::Unknown) => Hint::Unknown,
            _ => {
                remarks.collision = true;
                Hint::Unknown
            }
        };
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        if self.is_custom() {
            let mut other = other.clone();
            if self.bounds != other.bounds {
                remarks.reconciled = true;
                let common: Vec<f64> = self.bounds.iter().copied().filter(|b| other.bounds.contains(b)).collect();
                self = self.at_bounds(&common);
                other = other.at_bounds(&common);
            }
            for (index, n) in &other.positive {
                *self.positive.entry(*index).or_insert(0.0) += sign * n;
            }
            if remarks.reconciled {
                self.positive.retain(|_, n| *n != 0.0);
            }
            return Ok((self, remarks));
        }
        let (mut zero, mut threshold) = (other.zero, other.threshold);
        while self.threshold != threshold {
            if self.threshold > threshold {
                (zero, threshold) = other.zero_of_threshold(self.threshold);
            } else {
                self.widen_zero(threshold);
            }
        }
        self.zero += sign * zero;
        let schema = self.schema.min(other.schema);
        self = self.at_schema(schema);
        // Those of the other's buckets that its wider zero bucket took in are told by their bounds after the reduction:
        // where it put them into a bucket with others, Prometheus counts them there as well.
        let other = other.clone().at_schema(schema);
        for (into, from) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            for (index, n) in from.iter().filter(|(index, _)| exponential_bound(**index, schema) > threshold) {
                *into.entry(*index).or_insert(0.0) += sign * n;
            }
        }
        Ok((self, remarks))
    }

    /// Whether it has a bucket that a wider zero bucket takes in, but that a lower resolution puts into a bucket beyond
    /// that: Prometheus counts those of the histogram on the right twice.
    pub(crate) fn may_count_twice(&self, schema: i32, threshold: f64) -> bool {
        let inside = |index: i32| exponential_bound(index, self.schema) <= threshold;
        let beyond = |index: i32| exponential_bound(coarser(index, self.schema, schema), schema) > threshold;
        !self.is_custom()
            && self.positive.iter().chain(&self.negative).any(|(i, n)| *n != 0.0 && inside(*i) && beyond(*i))
    }

    pub(crate) fn plus(self, other: &Histogram) -> Result<(Histogram, Remarks), Incompatible> {
        self.combined(other, 1.0)
    }

    pub(crate) fn minus(self, other: &Histogram) -> Result<(Histogram, Remarks), Incompatible> {
        self.combined(other, -1.0)
    }

    /// Custom buckets at some of their bounds.
    fn at_bounds(mut self, bounds: &[f64]) -> Histogram {
        let mut merged = BTreeMap::new();
        for (index, n) in &self.positive {
            let upper = self.bound(*index);
            let target = bounds.iter().position(|bound| *bound >= upper).unwrap_or(bounds.len());
            *merged.entry(target as i32).or_insert(0.0) += *n;
        }
        self.positive = merged;
        self.bounds = bounds.to_vec();
        self
    }

    /// Whether the counter was reset between `before` and this.
    pub(crate) fn is_reset_after(&self, before: &Histogram) -> bool {
        match self.hint {
            Hint::Reset => return true,
            Hint::NoReset => return false,
            Hint::Unknown | Hint::Gauge => {}
        }
        if self.count < before.count {
            return true;
        }
        let fell = |now: &BTreeMap<i32, f64>, then: &BTreeMap<i32, f64>| {
            then.iter().any(|(index, n)| now.get(index).map_or(*n != 0.0, |now| now < n))
        };
        if self.is_custom() && before.is_custom() {
            if self.bounds == before.bounds {
                return fell(&self.positive, &before.positive);
            }
            let common: Vec<f64> = self.bounds.iter().copied().filter(|b| before.bounds.contains(b)).collect();
            let (now, then) = (self.clone().at_bounds(&common), before.clone().at_bounds(&common));
            let of = |h: &Histogram, index: usize| h.positive.get(&(index as i32)).copied().unwrap_or(0.0);
            return (0..=common.len()).any(|index| of(&now, index) < of(&then, index));
        }
        if self.is_custom() != before.is_custom() || self.schema > before.schema || self.threshold < before.threshold {
            return true;
        }
        let (zero, threshold) = before.zero_of_threshold(self.threshold);
        if threshold != self.threshold || self.zero < zero {
            return true;
        }
        let before = before.clone().at_schema(self.schema);
        let outside = |side: &BTreeMap<i32, f64>| -> BTreeMap<i32, f64> {
            let is_outside = |index: &i32| exponential_bound(*index, self.schema) > threshold;
            side.iter().filter(|(index, _)| is_outside(index)).map(|(index, n)| (*index, *n)).collect()
        };
        fell(&outside(&self.positive), &outside(&before.positive))
            || fell(&outside(&self.negative), &outside(&before.negative))
    }

    /// Equal data: layout and bits, but not the hint.
    pub(crate) fn equals(&self, other: &Histogram) -> bool {
        let bits =
            |side: &BTreeMap<i32, f64>| -> Vec<(i32, u64)> { side.iter().map(|(i, n)| (*i, n.to_bits())).collect() };
        self.schema == other.schema
            && self.count.to_bits() == other.count.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && (!self.is_custom() || self.bounds == other.bounds)
            && self.threshold == other.threshold
            && self.zero.to_bits() == other.zero.to_bits()
            && bits(&self.positive) == bits(&other.positive)
            && bits(&self.negative) == bits(&other.negative)
    }
}
