//! The text of a histogram, as `count_values` puts it into a label.

use std::fmt::Write;

use varve_model::Histogram;

use super::bucket::{Bucket, negative, positive, zero};
use crate::annotation::shortest;

/// `{count:…, sum:…, (lower,upper]:count, …}` with the buckets that have observations.
pub(crate) fn text(histogram: &Histogram) -> String {
    let mut out = format!("{{count:{}, sum:{}", shortest(histogram.count), shortest(histogram.sum));
    let mut push = |bucket: &Bucket| {
        if bucket.count != 0.0 {
            let begin = if bucket.lower_inclusive { '[' } else { '(' };
            let end = if bucket.upper_inclusive { ']' } else { ')' };
            let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(shortest);
            let _ = write!(out, ", {begin}{lower},{upper}{end}:{count}");
        }
    };
    let below: Vec<Bucket> = negative(histogram).collect();
    below.iter().rev().for_each(&mut push);
    push(&zero(histogram));
    positive(histogram).for_each(|bucket| push(&bucket));
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::tests::{bounded, simple};
    use super::*;

    #[test]
    fn empty_buckets_are_not_told() {
        let histogram = Histogram { zero_count: 2.0, zero_threshold: 0.001, ..simple(0, 1, &[1.0, 0.0, 1.5]) };
        assert_eq!(text(&histogram), "{count:2.5, sum:3, [-0.001,0.001]:2, (1,2]:1, (4,8]:1.5}");
        assert_eq!(text(&bounded(&[5.0], &[1.0, 2.0])), "{count:3, sum:2, [-Inf,5]:1, (5,+Inf]:2}");
    }
}
