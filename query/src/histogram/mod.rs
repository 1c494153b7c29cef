//! Arithmetic of native histograms, as Prometheus does it: sums and differences over unequal bucket layouts, counter
//! resets, quantiles, trimming.
//!
//! A side of a histogram is a list of bucket numbers with counts ([`side`]). Two histograms are brought together by
//! making both coarse enough: the lower schema, the larger zero bucket, the custom bounds they share. Nothing here
//! trusts spans to fit counts: what is missing is left out, so histograms from outside cannot make it panic.

mod arithmetic;
mod bounds;
mod bucket;
mod custom;
mod equal;
mod hint;
#[cfg(test)]
mod hostile;
mod quantile;
mod reset;
mod side;
mod sum;
mod text;
mod trim;
mod zero;

use varve_model::Histogram;

pub(crate) use arithmetic::{Combined, Incompatible, add, compact, divide, multiply, reduce, subtract};
pub use bucket::{Bucket, buckets};
pub(crate) use equal::equal;
pub(crate) use hint::{derive_hints, keep_totals};
pub(crate) use quantile::{Skew, fraction, quantile, variance};
pub(crate) use reset::is_reset;
pub(crate) use sum::{Mean, Sum};
pub(crate) use text::text;
pub(crate) use trim::trim;

/// The schema of histograms with bounds of their own.
pub(crate) const CUSTOM_SCHEMA: i32 = -53;

/// Whether a histogram has bounds of its own.
pub(crate) fn is_custom(histogram: &Histogram) -> bool {
    histogram.schema == CUSTOM_SCHEMA
}

/// Adds what was observed since: the sum of two histograms, both of counters. `false` when they cannot be added, which
/// leaves the first as it was: one has custom bounds and the other has not the same ones (the sum would keep only those
/// they share, for ever), or one counts in integers and the other in floats.
pub fn grow(histogram: &mut Histogram, more: &Histogram) -> bool {
    if is_custom(histogram) != is_custom(more)
        || histogram.custom_bounds != more.custom_bounds
        || histogram.is_float != more.is_float
    {
        return false;
    }
    let before = (histogram.is_float, histogram.reset_hint);
    let added = add(histogram, more).is_ok();
    (histogram.is_float, histogram.reset_hint) = before;
    added
}

/// Bytes that a histogram takes in memory.
pub(crate) fn bytes(histogram: &Histogram) -> u64 {
    histogram.bytes() as u64
}
