//! Annotations that the naive evaluator has to give: their texts, their places, and which of them are not certain.
//!
//! Prometheus keeps one annotation of equal text, with the place that came last; at one step of a binary operator only
//! the last pair's; within an aggregation it depends on the order of series which of several it meets. What is certain is
//! `required`; what order decides is only allowed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use varve_query::promql::ast::Span;

use crate::numbers;

/// Text without place, as `PromQL warning: …` or `PromQL info: …`.
#[derive(Default)]
pub(crate) struct Notes(RefCell<BTreeMap<String, Note>>);

/// What is known of one annotation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note {
    pub(crate) required: bool,
    /// First bytes of the parts of the query that it may be about.
    pub(crate) places: BTreeSet<u32>,
    pub(crate) levelled: Option<Levelled>,
}

/// Classic buckets whose counts fell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levelled {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) bound_min: f64,
    pub(crate) bound_max: f64,
    pub(crate) difference: f64,
}

impl Notes {
    pub(crate) fn warn(&self, text: String, span: Span) {
        self.add(format!("PromQL warning: {text}"), span, true);
    }

    pub(crate) fn inform(&self, text: String, span: Span) {
        self.add(format!("PromQL info: {text}"), span, true);
    }

    /// One of several that may be met or not.
    pub(crate) fn allow(&self, text: String, span: Span) {
        self.add(text, span, false);
    }

    pub(crate) fn add(&self, text: String, span: Span, required: bool) {
        let mut notes = self.0.borrow_mut();
        let note = notes.entry(text).or_default();
        note.required |= required;
        note.places.insert(span.begin);
    }

    pub(crate) fn level(&self, text: String, span: Span, levelled: Levelled) {
        let text = format!("PromQL info: {text}");
        self.add(text.clone(), span, true);
        let mut notes = self.0.borrow_mut();
        let note = notes.entry(text).or_default();
        note.levelled = Some(match note.levelled {
            None => levelled,
            Some(other) => Levelled {
                first: other.first.min(levelled.first),
                last: other.last.max(levelled.last),
                bound_min: other.bound_min.min(levelled.bound_min),
                bound_max: other.bound_max.max(levelled.bound_max),
                difference: other.difference.max(levelled.difference),
            },
        });
    }

    pub(crate) fn into_inner(self) -> BTreeMap<String, Note> {
        self.0.into_inner()
    }
}

/// ` for metric name "x"`, where there is a name.
pub(crate) fn of_metric(text: &str, metric: &str) -> String {
    if metric.is_empty() { text.to_owned() } else { format!("{text} for metric name {metric:?}") }
}

/// Why the texts given do not agree with the notes taken; `query` is one line of ASCII.
pub(crate) fn disagreement(notes: &BTreeMap<String, Note>, given: &[String]) -> Option<String> {
    let mut met = BTreeSet::new();
    for text in given {
        let Some((body, place)) = text.strip_suffix(')').and_then(|text| text.rsplit_once(" (1:")) else {
            return Some(format!("no place: {text}"));
        };
        // Figures are not compared where Prometheus counts what it has merged already.
        let (plain, figures) = match body.split_once(", from buckets ") {
            Some((plain, figures)) => (plain, Some(figures)),
            None => (
                body.rsplit_once(" (").filter(|(_, rest)| rest.ends_with(" occurrences)")).map_or(body, |(b, _)| b),
                None,
            ),
        };
        let Some((key, note)) = notes.get_key_value(plain) else { return Some(format!("unexpected: {text}")) };
        met.insert(key);
        match place.parse::<u32>() {
            Ok(column) if note.places.contains(&(column - 1)) => {}
            _ => return Some(format!("expected at {:?}: {text}", note.places)),
        }
        if let (Some(figures), Some(levelled)) = (figures, &note.levelled) {
            let buckets =
                format!("{} to {}, with", numbers::shortest(levelled.bound_min), numbers::shortest(levelled.bound_max));
            let times = format!(" from {} to {}", numbers::time(levelled.first), numbers::time(levelled.last));
            let difference = format!(" a max diff of {}, over", numbers::two_digits(levelled.difference));
            if ![&buckets, &times, &difference].iter().all(|part| figures.contains(part.as_str())) {
                return Some(format!("expected {buckets}{difference}{times}: {text}"));
            }
        } else if figures.is_some() != note.levelled.is_some() {
            return Some(format!("figures: {text}"));
        }
    }
    let missing = notes.iter().find(|(key, note)| note.required && !met.contains(key));
    missing.map(|(text, _)| format!("missing: {text}"))
}
