//! `global`: what every scrape takes where it says nothing itself.

use super::duration::{Duration, print_size};
use super::fields::{Fields, Problems};
use super::scrape::{ScrapeProtocol, protocols};
use super::{Features, NameScheme};
use crate::yaml::Node;

/// The section `global`.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the words of the configuration, explained in Prometheus's documentation")]
pub struct GlobalConfig {
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    pub evaluation_interval: Duration,
    pub rule_query_offset: Duration,
    pub query_log_file: String,
    pub scrape_failure_log_file: String,
    pub external_labels: Vec<(String, String)>,
    pub body_size_limit: u64,
    pub sample_limit: u64,
    pub target_limit: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
    pub keep_dropped_targets: u64,
    pub names: NameScheme,
    pub escaping: Option<String>,
    pub native_histograms: Option<bool>,
    pub to_custom_buckets: bool,
    pub classic_too: bool,
    pub extra_metrics: Option<bool>,
}

impl Default for GlobalConfig {
    fn default() -> GlobalConfig {
        GlobalConfig {
            scrape_interval: Duration(60_000),
            scrape_timeout: Duration(10_000),
            scrape_protocols: None,
            evaluation_interval: Duration(60_000),
            rule_query_offset: Duration(0),
            query_log_file: String::new(),
            scrape_failure_log_file: String::new(),
            external_labels: Vec::new(),
            body_size_limit: 0,
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            names: NameScheme::Utf8,
            escaping: None,
            native_histograms: None,
            to_custom_buckets: false,
            classic_too: false,
            extra_metrics: None,
        }
    }
}

impl GlobalConfig {
    pub(crate) fn read(node: &Node, problems: &Problems) -> Result<GlobalConfig, String> {
        let defaults = GlobalConfig::default();
        let mut fields = Fields::new(node, "config.plain", problems);
        let set = |duration: Option<Duration>| duration.filter(|duration| duration.0 > 0);
        let interval = set(fields.duration("scrape_interval")).unwrap_or(defaults.scrape_interval);
        let timeout = set(fields.duration("scrape_timeout"));
        let mut external_labels = fields.pairs("external_labels").unwrap_or_default();
        external_labels.sort();
        let global = GlobalConfig {
            scrape_interval: interval,
            scrape_timeout: timeout.unwrap_or(defaults.scrape_timeout.min(interval)),
            scrape_protocols: fields
                .texts("scrape_protocols")
                .map(|words| protocols(&words))
                .transpose()
                .map_err(|what| format!("{what} for global config"))?,
            evaluation_interval: set(fields.duration("evaluation_interval")).unwrap_or(defaults.evaluation_interval),
            rule_query_offset: fields.duration("rule_query_offset").unwrap_or_default(),
            query_log_file: fields.text("query_log_file").unwrap_or_default(),
            scrape_failure_log_file: fields.text("scrape_failure_log_file").unwrap_or_default(),
            external_labels,
            body_size_limit: fields.size("body_size_limit").unwrap_or(0),
            sample_limit: fields.count("sample_limit").unwrap_or(0),
            target_limit: fields.count("target_limit").unwrap_or(0),
            label_limit: fields.count("label_limit").unwrap_or(0),
            label_name_length_limit: fields.count("label_name_length_limit").unwrap_or(0),
            label_value_length_limit: fields.count("label_value_length_limit").unwrap_or(0),
            keep_dropped_targets: fields.count("keep_dropped_targets").unwrap_or(0),
            names: fields.read("metric_name_validation_scheme", NameScheme::parse).unwrap_or_default(),
            escaping: fields.text("metric_name_escaping_scheme").filter(|word| !word.is_empty()),
            native_histograms: fields.flag("scrape_native_histograms"),
            to_custom_buckets: fields.flag("convert_classic_histograms_to_nhcb").unwrap_or(false),
            classic_too: fields.flag("always_scrape_classic_histograms").unwrap_or(false),
            extra_metrics: fields.flag("extra_scrape_metrics"),
        };
        fields.finish();
        if timeout.is_some_and(|timeout| timeout > interval) {
            return Err("global scrape timeout greater than scrape interval".to_owned());
        }
        if let Some((name, _)) = global.external_labels.iter().find(|(name, _)| !global.names.is_label_name(name)) {
            return Err(format!("{name:?} is not a valid label name"));
        }
        Ok(global)
    }

    /// What a feature flag turns on where the file says nothing.
    pub(crate) fn take_features(&mut self, features: Features) {
        self.native_histograms.get_or_insert(features.native_histograms);
        self.extra_metrics.get_or_insert(features.extra_scrape_metrics);
    }

    pub(crate) fn print(&self) -> Node {
        let mut out: Vec<(String, Node)> = Vec::new();
        let mut push = |name: &str, node: Option<Node>| out.extend(node.map(|node| (name.to_owned(), node)));
        let count = |number: u64| (number > 0).then(|| Node::plain(number.to_string()));
        let text = |text: &str| (!text.is_empty()).then(|| Node::text(text));
        let flag = |flag: bool| flag.then(|| Node::plain("true"));
        push("scrape_interval", Some(Node::text(self.scrape_interval.to_string())));
        push("scrape_timeout", Some(Node::text(self.scrape_timeout.to_string())));
        let protocols = |list: &Vec<ScrapeProtocol>| Node::list(list.iter().map(|p| Node::text(p.as_str())));
        push("scrape_protocols", self.scrape_protocols.as_ref().map(protocols));
        push("evaluation_interval", Some(Node::text(self.evaluation_interval.to_string())));
        let offset = self.rule_query_offset;
        push("rule_query_offset", (offset.0 > 0).then(|| Node::text(offset.to_string())));
        push("query_log_file", text(&self.query_log_file));
        push("scrape_failure_log_file", text(&self.scrape_failure_log_file));
        let labels = self.external_labels.iter().map(|(name, value)| (name.clone(), Node::text(value)));
        push("external_labels", (!self.external_labels.is_empty()).then(|| Node::map(labels)));
        push("body_size_limit", (self.body_size_limit > 0).then(|| Node::text(print_size(self.body_size_limit))));
        push("sample_limit", count(self.sample_limit));
        push("target_limit", count(self.target_limit));
        push("label_limit", count(self.label_limit));
        push("label_name_length_limit", count(self.label_name_length_limit));
        push("label_value_length_limit", count(self.label_value_length_limit));
        push("keep_dropped_targets", count(self.keep_dropped_targets));
        push("metric_name_validation_scheme", text(self.names.as_str()));
        push("metric_name_escaping_scheme", self.escaping.as_ref().map(Node::text));
        push("scrape_native_histograms", self.native_histograms.map(|flag| Node::plain(flag.to_string())));
        push("convert_classic_histograms_to_nhcb", flag(self.to_custom_buckets));
        push("always_scrape_classic_histograms", flag(self.classic_too));
        push("extra_scrape_metrics", self.extra_metrics.map(|flag| Node::plain(flag.to_string())));
        Node::map(out)
    }
}
