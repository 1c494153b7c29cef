//! What Prometheus has behind `--enable-feature`: the setting of the same name.
//!
//! Three kinds of names: those that change answers or what is stored, which are off until listed; those that are
//! always on here, because they change nothing for who does not use them; and those of Prometheus's own machinery,
//! which mean nothing here. All are taken, so that a command line of Prometheus can be kept; any other is an error.

use varve_query::request::Features;

use super::value::{Field, Kind};

/// Names that turn something on here.
pub const CHOSEN: &[&str] = &[
    "extra-scrape-metrics",
    "otlp-native-delta-ingestion",
    "promql-delayed-name-removal",
    "type-and-unit-labels",
    "use-start-timestamps",
];

/// Names of what is always on.
pub const ALWAYS: &[&str] = &[
    "exemplar-storage",
    "native-histograms",
    "ooo-native-histograms",
    "otlp-deltatocumulative",
    "promql-at-modifier",
    "promql-binop-fill-modifiers",
    "promql-duration-expr",
    "promql-experimental-functions",
    "promql-extended-range-selectors",
    "promql-negative-offset",
    "remote-write-receiver",
    "st-storage",
];

/// Names without a meaning here.
pub const WITHOUT_EFFECT: &[&str] = &[
    "auto-gomaxprocs",
    "auto-gomemlimit",
    "auto-reload-config",
    "concurrent-rule-eval",
    "created-timestamp-zero-ingestion",
    "delayed-compaction",
    "expand-external-labels",
    "fast-startup",
    "histograms-st-encoding",
    "memory-snapshot-on-shutdown",
    "metadata-wal-records",
    "new-service-discovery-manager",
    "no-default-scrape-port",
    "old-ui",
    "promql-per-step-stats",
    "search-api",
    "st-synthesis",
    "use-uncached-io",
    "utf8-names",
    "xor2-encoding",
];

/// The names listed, sorted, each once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EnabledFeatures(Vec<String>);

impl EnabledFeatures {
    /// Whether a name was listed.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|listed| listed == name)
    }

    /// What queries need to know.
    pub fn of_queries(&self) -> Features {
        Features {
            delayed_name_removal: self.has("promql-delayed-name-removal"),
            start_timestamps: self.has("use-start-timestamps"),
            type_and_unit_labels: self.has("type-and-unit-labels"),
        }
    }
}

impl Field for EnabledFeatures {
    fn show(&self) -> String {
        self.0.join(",")
    }

    fn take(&mut self, _: Kind, text: &str) -> Result<(), String> {
        let mut names = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if ![CHOSEN, ALWAYS, WITHOUT_EFFECT].iter().any(|known| known.contains(&name)) {
                let (chosen, always) = (CHOSEN.join(", "), ALWAYS.join(", "));
                return Err(format!("there is no feature {name:?}; there are {chosen}; always on are {always}"));
            }
            names.push(name.to_owned());
        }
        names.sort_unstable();
        names.dedup();
        self.0 = names;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Result<EnabledFeatures, String> {
        let mut features = EnabledFeatures::default();
        features.take(Kind::Names, text)?;
        Ok(features)
    }

    #[test]
    fn names_are_listed_once_and_known() {
        let features = taken("use-start-timestamps, promql-duration-expr,use-start-timestamps,").unwrap();
        assert_eq!(features.show(), "promql-duration-expr,use-start-timestamps");
        let of_queries = features.of_queries();
        assert!(of_queries.start_timestamps && !of_queries.delayed_name_removal && !of_queries.type_and_unit_labels);
        assert_eq!(taken("").unwrap(), EnabledFeatures::default());
        assert!(taken("promql-everything").unwrap_err().contains("use-start-timestamps"));
    }

    #[test]
    fn no_name_has_two_meanings() {
        let mut names: Vec<&str> = [CHOSEN, ALWAYS, WITHOUT_EFFECT].concat();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
