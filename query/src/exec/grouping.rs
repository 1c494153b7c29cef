//! Grouping: which group a series belongs to, from its label bytes, without an allocation a series.

use std::cmp::Ordering;

use varve_model::Labels;
use varve_model::labels::{METRIC_NAME, split_body, split_label};

use crate::exec::block::{DERIVED, is_metadata};

/// `by (…)` or `without (…)`; also `on (…)` and `ignoring (…)`.
#[derive(Clone, Debug)]
pub(crate) struct Grouping {
    /// In order, each once: a text can name many. By length first, which mostly decides.
    names: Vec<String>,
    without: bool,
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable_by(|a, b| by_length(a.as_bytes(), b.as_bytes()));
    names.dedup();
    names
}

#[inline]
fn by_length(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

impl Grouping {
    /// Labels kept.
    pub(crate) fn by(names: &[String]) -> Grouping {
        Grouping { names: sorted(names.to_vec()), without: false }
    }

    /// Labels left out; the metric name always is.
    pub(crate) fn without(names: &[String]) -> Grouping {
        let mut names = names.to_vec();
        names.push(METRIC_NAME.to_owned());
        Grouping { names: sorted(names), without: true }
    }

    /// Whether all series are in one group, so that nobody needs to look at their labels.
    pub(crate) fn is_single(&self) -> bool {
        !self.without && self.names.is_empty()
    }

    fn keeps(&self, name: &[u8]) -> bool {
        let named = self.names.binary_search_by(|kept| by_length(kept.as_bytes(), name)).is_ok();
        named != self.without && name != DERIVED.as_bytes()
    }

    /// Writes the group's key: the labels kept, as label bytes. `nameless` says that the metric name is dropped from
    /// the series but still in its bytes.
    pub(crate) fn key(&self, label_bytes: &[u8], nameless: bool, key: &mut Vec<u8>) {
        key.clear();
        if self.is_single() {
            return;
        }
        let mut rest = label_bytes;
        while let Some((body, after)) = split_label(rest) {
            let field = &rest[..rest.len() - after.len()];
            rest = after;
            let Some((name, _)) = split_body(body) else { continue };
            if self.keeps(name) && !(nameless && std::str::from_utf8(name).is_ok_and(is_metadata)) {
                key.extend_from_slice(field);
            }
        }
    }

    /// The labels of the group that a series belongs to.
    pub(crate) fn labels(&self, labels: &Labels, nameless: bool) -> Labels {
        labels.without(&|name| !self.keeps(name.as_bytes()) || (nameless && is_metadata(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_bytes_of_the_groups_labels() {
        let labels = Labels::from([("__name__", "up"), ("a", "1"), ("b", "2")]);
        for (grouping, nameless, expected) in [
            (Grouping::by(&["b".into(), "none".into()]), false, r#"{b="2"}"#),
            (Grouping::by(&["__name__".into()]), false, r#"{__name__="up"}"#),
            (Grouping::by(&["__name__".into()]), true, "{}"),
            (Grouping::without(&["b".into()]), false, r#"{a="1"}"#),
            (Grouping::by(&[]), false, "{}"),
        ] {
            let mut key = Vec::new();
            grouping.key(labels.as_label_bytes(), nameless, &mut key);
            let group = grouping.labels(&labels, nameless);
            assert_eq!(group.to_string(), expected);
            assert_eq!(group.as_label_bytes(), key);
        }
    }
}
