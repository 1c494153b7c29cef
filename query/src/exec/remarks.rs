//! Remarks: what a function over ranges has to say about the series it has seen: that one is no counter by its name,
//! or that a quantile is none.
//!
//! One a morsel. It looks at the labels of a series only where they decide, and says the same thing once: the set of
//! annotations would merge it anyway, but under a lock.

use varve_model::Labels;

use crate::annotation::{Annotation, Notes};
use crate::exec::block::{is_absent, is_histogram};
use crate::exec::window::RangeFunction;

/// The label that tells a metric's type where types are labels.
const TYPE_LABEL: &str = "__type__";

/// What there may be to say.
enum Kind {
    Nothing,
    /// Whether names, or types where they are labels, are those of counters.
    Counter {
        typed: bool,
        one_name: bool,
    },
    /// Which steps ask for a quantile that is none.
    Quantile(Vec<(usize, f64)>),
}

/// What is said about the series of one morsel.
pub(crate) struct Remarks<'a> {
    kind: Kind,
    notes: &'a Notes,
    last: Option<(String, String)>,
}

/// Whether a metric name ends as those of counters do.
fn is_counter_name(name: &str) -> bool {
    ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix))
}

/// Whether a quantile is outside [0, 1].
pub(crate) fn is_invalid_quantile(q: f64) -> bool {
    !(0.0..=1.0).contains(&q)
}

impl<'a> Remarks<'a> {
    /// Remarks of a function with its first scalar argument. `typed`: types are labels. `one_name`: all series have the
    /// same metric name.
    pub(crate) fn new(
        function: Option<RangeFunction>,
        argument: &[f64],
        typed: bool,
        one_name: bool,
        notes: &'a Notes,
    ) -> Remarks<'a> {
        let kind = match function {
            Some(RangeFunction::Rate | RangeFunction::Increase) => Kind::Counter { typed, one_name },
            Some(RangeFunction::Quantile) => {
                let quantiles = argument.iter().copied().enumerate();
                match quantiles.filter(|(_, q)| is_invalid_quantile(*q)).collect::<Vec<_>>() {
                    invalid if invalid.is_empty() => Kind::Nothing,
                    invalid => Kind::Quantile(invalid),
                }
            }
            _ => Kind::Nothing,
        };
        Remarks { kind, notes, last: None }
    }

    /// A series has become `row`, which has a value.
    #[inline]
    pub(crate) fn saw(&mut self, row: &[f64], labels: impl FnOnce() -> Labels) {
        if !matches!(self.kind, Kind::Nothing) {
            self.look(row, labels);
        }
    }

    fn look(&mut self, row: &[f64], labels: impl FnOnce() -> Labels) {
        match &mut self.kind {
            Kind::Nothing => {}
            Kind::Counter { typed, one_name } => {
                if !row.iter().any(|cell| !is_absent(*cell) && !is_histogram(*cell)) {
                    return;
                }
                let labels = labels();
                let name = labels.metric_name();
                let kind = if *typed { labels.get(TYPE_LABEL).unwrap_or_default() } else { "" };
                let fine = if *typed { matches!(kind, "counter" | "histogram") } else { is_counter_name(name) };
                let said = self.last.as_ref().is_some_and(|(last, last_kind)| last == name && last_kind == kind);
                if !name.is_empty() && !fine && !said {
                    let metric = name.to_owned();
                    self.notes.add(&match *typed {
                        true => Annotation::PossibleNonCounterLabel { metric, kind: kind.to_owned() },
                        false => Annotation::PossibleNonCounter(metric),
                    });
                    self.last = Some((name.to_owned(), kind.to_owned()));
                }
                if *one_name && !*typed {
                    self.kind = Kind::Nothing;
                }
            }
            Kind::Quantile(invalid) => {
                let mut said = None;
                invalid.retain(|(step, q)| {
                    let seen = row.get(*step).is_some_and(|cell| !is_absent(*cell));
                    if seen && said != Some(q.to_bits()) {
                        self.notes.add(&Annotation::InvalidQuantile(*q));
                        said = Some(q.to_bits());
                    }
                    !seen
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotation::Annotations;
    use crate::promql::ast::Span;

    fn said(function: RangeFunction, argument: &[f64], typed: bool, series: &[Labels]) -> Vec<String> {
        let annotations = Annotations::new();
        let notes = Notes::new(&annotations, Span::default());
        let mut remarks = Remarks::new(Some(function), argument, typed, false, &notes);
        for labels in series {
            remarks.saw(&[1.0], || labels.clone());
        }
        let (warnings, infos) = annotations.texts("x", 10);
        warnings.into_iter().chain(infos).collect()
    }

    #[test]
    fn counters_are_known_by_name_or_type() {
        let series = [
            Labels::from([("__name__", "requests_total"), ("__type__", "gauge")]),
            Labels::from([("__name__", "requests"), ("__type__", "counter")]),
            Labels::from([("a", "b")]),
        ];
        let by_name = said(RangeFunction::Rate, &[], false, &series);
        assert_eq!(by_name.len(), 1);
        assert!(by_name[0].contains("_bucket: \"requests\""), "{by_name:?}");
        let by_type = said(RangeFunction::Increase, &[], true, &series);
        assert_eq!(by_type.len(), 1);
        assert!(by_type[0].contains("got \"gauge\": \"requests_total\""), "{by_type:?}");
        assert!(said(RangeFunction::Delta, &[], false, &series).is_empty());
    }

    #[test]
    fn quantiles_are_told_where_there_is_a_value() {
        let series = [Labels::default(), Labels::default()];
        assert_eq!(said(RangeFunction::Quantile, &[1.5], false, &series).len(), 1);
        assert!(said(RangeFunction::Quantile, &[0.5], false, &series).is_empty());
        assert!(said(RangeFunction::Quantile, &[f64::NAN], false, &[]).is_empty());
    }
}
