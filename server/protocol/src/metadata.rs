//! Metadata of metric families: which family a series belongs to, and one entry a family.

use std::mem::take;

use varve_model::write::{Metadata, MetricType};

/// The family of a metric by its type: `x_bucket`, `x_sum` and `x_count` of a histogram belong to `x`.
pub(crate) fn family_of(name: &str, kind: MetricType) -> &str {
    let suffixes: &[&str] = match kind {
        MetricType::Histogram => &["_bucket", "_sum", "_count"],
        MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount", "_sum", "_count"],
        MetricType::Summary => &["_sum", "_count"],
        _ => &[],
    };
    let stem = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
    stem.filter(|stem| !stem.is_empty()).unwrap_or(name)
}

/// Joins the entries about one family into one, in order of families; what is said later holds.
pub(crate) fn merge(metadata: &mut Vec<Metadata>) {
    metadata.sort_by(|a, b| a.family.cmp(&b.family));
    metadata.dedup_by(|later, kept| {
        if later.family != kept.family {
            return false;
        }
        if later.kind != MetricType::Unknown {
            kept.kind = later.kind;
        }
        for (later, kept) in [(&mut later.help, &mut kept.help), (&mut later.unit, &mut kept.unit)] {
            if !later.is_empty() {
                *kept = take(later);
            }
        }
        true
    });
}
