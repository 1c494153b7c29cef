//! `scrape_configs`: one job each.

use std::path::Path;

use varve_protocol::scrape::Media;

use super::client::ClientConfig;
use super::discovery::{DiscoveryConfig, Group, OTHERS};
use super::duration::{Duration, print_size};
use super::fields::{Fields, Problems};
use super::{GlobalConfig, NameScheme};
use crate::relabel::Rule;
use crate::yaml::Node;

/// A format that can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the words of the configuration")]
pub enum ScrapeProtocol {
    PrometheusProto,
    PrometheusText004,
    PrometheusText100,
    OpenMetricsText001,
    OpenMetricsText100,
}

use ScrapeProtocol::{OpenMetricsText001, OpenMetricsText100, PrometheusProto, PrometheusText004, PrometheusText100};

/// What is asked for where nothing is said, the best first.
const PROTOCOLS_DEFAULT: [ScrapeProtocol; 5] =
    [PrometheusProto, OpenMetricsText100, OpenMetricsText001, PrometheusText100, PrometheusText004];

const PROTOCOLS: [(&str, ScrapeProtocol); 5] = [
    ("OpenMetricsText0.0.1", OpenMetricsText001),
    ("OpenMetricsText1.0.0", OpenMetricsText100),
    ("PrometheusProto", PrometheusProto),
    ("PrometheusText0.0.4", PrometheusText004),
    ("PrometheusText1.0.0", PrometheusText100),
];

impl ScrapeProtocol {
    fn parse(word: &str) -> Result<ScrapeProtocol, String> {
        let found = PROTOCOLS.iter().find(|(known, _)| *known == word).map(|(_, protocol)| *protocol);
        found.ok_or_else(|| {
            let known: Vec<&str> = PROTOCOLS.iter().map(|(known, _)| *known).collect();
            format!("unknown scrape protocol {word}, supported: [{}]", known.join(" "))
        })
    }

    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        PROTOCOLS.iter().find(|(_, protocol)| *protocol == self).map_or("", |(word, _)| word)
    }

    /// The media type with its parameters.
    pub fn header(self) -> &'static str {
        match self {
            PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            PrometheusText004 => "text/plain;version=0.0.4",
            PrometheusText100 => "text/plain;version=1.0.0",
            OpenMetricsText001 => "application/openmetrics-text;version=0.0.1",
            OpenMetricsText100 => "application/openmetrics-text;version=1.0.0",
        }
    }

    /// How a body in this format is read.
    pub fn media(self) -> Media {
        match self {
            PrometheusProto => Media::Protobuf,
            PrometheusText004 | PrometheusText100 => Media::Text,
            OpenMetricsText001 | OpenMetricsText100 => Media::OpenMetrics,
        }
    }
}

/// Reads a list of protocols: at least one, each once.
pub(super) fn protocols(words: &[String]) -> Result<Vec<ScrapeProtocol>, String> {
    if words.is_empty() {
        return Err("scrape_protocols cannot be empty".to_owned());
    }
    let mut out = Vec::new();
    for word in words {
        let protocol = ScrapeProtocol::parse(word).map_err(|what| format!("scrape_protocols: {what}"))?;
        if out.contains(&protocol) {
            return Err(format!("duplicated protocol in scrape_protocols, got [{}]", words.join(" ")));
        }
        out.push(protocol);
    }
    Ok(out)
}

/// One job.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the words of the configuration, explained in Prometheus's documentation")]
pub struct ScrapeConfig {
    pub job_name: String,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    pub params: Vec<(String, Vec<String>)>,
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    pub protocols: Vec<ScrapeProtocol>,
    pub fallback: Option<ScrapeProtocol>,
    pub native_histograms: Option<bool>,
    pub classic_too: Option<bool>,
    pub to_custom_buckets: Option<bool>,
    pub failure_log_file: String,
    pub metrics_path: String,
    pub scheme: String,
    pub enable_compression: bool,
    pub body_size_limit: u64,
    pub sample_limit: u64,
    pub target_limit: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
    pub histogram_bucket_limit: u64,
    pub histogram_min_bucket_factor: f64,
    pub keep_dropped_targets: u64,
    pub names: Option<NameScheme>,
    pub escaping: String,
    pub extra_metrics: Option<bool>,
    pub client: ClientConfig,
    pub relabel: Vec<Rule>,
    pub metric_relabel: Vec<Rule>,
    pub discovery: Vec<DiscoveryConfig>,
}

impl ScrapeConfig {
    pub(crate) fn read(node: &Node, problems: &Problems, unused: &mut Vec<String>) -> Result<ScrapeConfig, String> {
        if node.is_null() {
            return Err("empty or null scrape config section".to_owned());
        }
        let mut fields = Fields::new(node, "config.ScrapeConfig", problems);
        let job_name = fields.text("job_name").unwrap_or_default();
        let mut rules = |name, what: &str| {
            let nodes = fields.list(name).unwrap_or_default();
            if nodes.iter().any(Node::is_null) {
                return Err(format!("empty or null {what} relabeling rule in scrape config"));
            }
            Ok(nodes.iter().filter_map(|node| Rule::read(node, problems)).collect::<Vec<Rule>>())
        };
        let relabel = rules("relabel_configs", "target")?;
        let metric_relabel = rules("metric_relabel_configs", "metric")?;
        let mut discovery = Vec::new();
        let mut each = |fields: &mut Fields<'_>, name: &'static str, read: ReadDiscovery| {
            for node in fields.list(name).unwrap_or_default() {
                if node.is_null() {
                    return Err(format!("empty or null section in {name}"));
                }
                discovery.push(read(node, problems)?);
            }
            Ok(())
        };
        each(&mut fields, "dns_sd_configs", DiscoveryConfig::dns)?;
        each(&mut fields, "file_sd_configs", DiscoveryConfig::file)?;
        each(&mut fields, "http_sd_configs", DiscoveryConfig::http)?;
        let groups: Vec<Group> =
            fields.list("static_configs").unwrap_or_default().iter().map(|node| Group::read(node, problems)).collect();
        if !groups.is_empty() {
            discovery.push(DiscoveryConfig::Static(groups));
        }
        for name in OTHERS {
            if let Some(node) = fields.get(name) {
                unused.push(format!(
                    "{name} of job {job_name} (line {}) is not supported: its targets are not scraped",
                    node.line
                ));
            }
        }
        let client = ClientConfig::read(&mut fields)?;
        let config = ScrapeConfig {
            job_name,
            honor_labels: fields.flag("honor_labels").unwrap_or(false),
            honor_timestamps: fields.flag("honor_timestamps").unwrap_or(true),
            track_timestamps_staleness: fields.flag("track_timestamps_staleness").unwrap_or(false),
            params: fields.pair_lists("params").unwrap_or_default(),
            scrape_interval: fields.duration("scrape_interval").unwrap_or_default(),
            scrape_timeout: fields.duration("scrape_timeout").unwrap_or_default(),
            protocols: fields.texts("scrape_protocols").map(|words| protocols(&words)).transpose()?.unwrap_or_default(),
            fallback: fields
                .text("fallback_scrape_protocol")
                .filter(|word| !word.is_empty())
                .map(|word| {
                    ScrapeProtocol::parse(&word).map_err(|what| format!("invalid fallback_scrape_protocol: {what}"))
                })
                .transpose()?,
            native_histograms: fields.flag("scrape_native_histograms"),
            classic_too: fields.flag("always_scrape_classic_histograms"),
            to_custom_buckets: fields.flag("convert_classic_histograms_to_nhcb"),
            failure_log_file: fields.text("scrape_failure_log_file").unwrap_or_default(),
            metrics_path: fields.text("metrics_path").unwrap_or_else(|| "/metrics".to_owned()),
            scheme: fields.text("scheme").unwrap_or_else(|| "http".to_owned()),
            enable_compression: fields.flag("enable_compression").unwrap_or(true),
            body_size_limit: fields.size("body_size_limit").unwrap_or(0),
            sample_limit: fields.count("sample_limit").unwrap_or(0),
            target_limit: fields.count("target_limit").unwrap_or(0),
            label_limit: fields.count("label_limit").unwrap_or(0),
            label_name_length_limit: fields.count("label_name_length_limit").unwrap_or(0),
            label_value_length_limit: fields.count("label_value_length_limit").unwrap_or(0),
            histogram_bucket_limit: fields.count("native_histogram_bucket_limit").unwrap_or(0),
            histogram_min_bucket_factor: fields.float("native_histogram_min_bucket_factor").unwrap_or(0.0),
            keep_dropped_targets: fields.count("keep_dropped_targets").unwrap_or(0),
            names: fields.read("metric_name_validation_scheme", NameScheme::parse),
            escaping: fields.text("metric_name_escaping_scheme").unwrap_or_default(),
            extra_metrics: fields.flag("extra_scrape_metrics"),
            client,
            relabel,
            metric_relabel,
            discovery,
        };
        fields.finish();
        if config.job_name.is_empty() {
            return Err("job_name is empty".to_owned());
        }
        if config.relabel.is_empty() {
            config.check_static_targets()?;
        }
        Ok(config)
    }

    /// Targets are addresses, not URLs, unless a rule makes something else of them.
    fn check_static_targets(&self) -> Result<(), String> {
        for discovery in &self.discovery {
            let DiscoveryConfig::Static(groups) = discovery else { continue };
            for target in groups.iter().flat_map(|group| &group.targets) {
                check_address(target)?;
            }
        }
        Ok(())
    }

    /// Fills in what the global section says, and checks the whole.
    pub(crate) fn complete(&mut self, global: &GlobalConfig) -> Result<(), String> {
        let job = self.job_name.clone();
        let for_job = |what: &str| format!("{what} for scrape config with job name {job:?}");
        if self.scrape_interval.0 == 0 {
            self.scrape_interval = global.scrape_interval;
        }
        if self.scrape_timeout > self.scrape_interval {
            return Err(for_job("scrape timeout greater than scrape interval"));
        }
        if self.scrape_timeout.0 == 0 {
            self.scrape_timeout = global.scrape_timeout.min(self.scrape_interval);
        }
        for (own, general) in [
            (&mut self.body_size_limit, global.body_size_limit),
            (&mut self.sample_limit, global.sample_limit),
            (&mut self.target_limit, global.target_limit),
            (&mut self.label_limit, global.label_limit),
            (&mut self.label_name_length_limit, global.label_name_length_limit),
            (&mut self.label_value_length_limit, global.label_value_length_limit),
            (&mut self.keep_dropped_targets, global.keep_dropped_targets),
        ] {
            if *own == 0 {
                *own = general;
            }
        }
        if self.failure_log_file.is_empty() {
            self.failure_log_file.clone_from(&global.scrape_failure_log_file);
        }
        let native = *self.native_histograms.get_or_insert(global.native_histograms.unwrap_or(false));
        self.extra_metrics.get_or_insert(global.extra_metrics.unwrap_or(false));
        self.classic_too.get_or_insert(global.classic_too);
        self.to_custom_buckets.get_or_insert(global.to_custom_buckets);
        if self.protocols.is_empty() {
            // Protobuf is asked for where native histograms are wanted.
            let defaults = PROTOCOLS_DEFAULT.get(usize::from(!native)..).unwrap_or_default();
            self.protocols = global.scrape_protocols.clone().unwrap_or_else(|| defaults.to_vec());
        }
        self.complete_names(global)?;
        let names = self.name_scheme();
        self.relabel.iter_mut().chain(&mut self.metric_relabel).try_for_each(|rule| rule.check(names))
    }

    fn complete_names(&mut self, global: &GlobalConfig) -> Result<(), String> {
        const SCHEMES: [&str; 4] = ["allow-utf-8", "underscores", "dots", "values"];
        let inferred = |names| if names == NameScheme::Legacy { "underscores" } else { "allow-utf-8" };
        let known = |whose: &str, word: &str| {
            if SCHEMES.contains(&word) {
                return Ok(());
            }
            let known: Vec<String> = SCHEMES.iter().map(|scheme| format!("'{scheme}'")).collect();
            Err(format!(
                "unknown {whose} name escaping method specified, must be one of {}, got {word:?}",
                known.join(", ")
            ))
        };
        let global_escaping = global.escaping.clone().unwrap_or_else(|| inferred(global.names).to_owned());
        known("global", &global_escaping)?;
        if self.escaping.is_empty() {
            self.escaping = match self.names {
                None => global_escaping,
                Some(names) => inferred(names).to_owned(),
            };
        }
        let names = *self.names.get_or_insert(global.names);
        known("scrape config", &self.escaping)?;
        if self.escaping == "allow-utf-8" && names == NameScheme::Legacy {
            return Err("utf8 metric names requested but validation scheme is not set to UTF8".to_owned());
        }
        Ok(())
    }

    /// Which label names are valid.
    pub fn name_scheme(&self) -> NameScheme {
        self.names.unwrap_or_default()
    }

    pub(crate) fn set_directory(&mut self, dir: &Path) {
        self.client.set_directory(dir);
        self.discovery.iter_mut().for_each(|discovery| discovery.set_directory(dir));
        if !self.failure_log_file.is_empty() {
            self.failure_log_file = dir.join(&self.failure_log_file).display().to_string();
        }
    }

    /// The header that says which formats are wanted, the best first.
    pub fn accept(&self) -> String {
        let mut weight = PROTOCOLS.len() + 1;
        let mut out = String::new();
        for protocol in &self.protocols {
            out.push_str(protocol.header());
            if matches!(protocol, PrometheusText100 | OpenMetricsText100) {
                out.push_str(&format!(";escaping={}", self.escaping));
            }
            out.push_str(&format!(";q=0.{weight},"));
            weight -= 1;
        }
        out.push_str(&format!("*/*;q=0.{weight}"));
        out
    }

    /// Whether what a target's cache holds stays right under `other`: only how and how often is asked may differ.
    pub fn reads_alike(&self, other: &ScrapeConfig) -> bool {
        let mut other = other.clone();
        other.scrape_interval = self.scrape_interval;
        other.scrape_timeout = self.scrape_timeout;
        other.sample_limit = self.sample_limit;
        other.client = self.client.clone();
        *self == other
    }

    /// The job as Prometheus prints it.
    pub fn print(&self) -> Node {
        let mut out: Vec<(String, Node)> = Vec::new();
        let mut push = |name: &str, node: Option<Node>| out.extend(node.map(|node| (name.to_owned(), node)));
        let bool = |flag: bool| Some(Node::plain(flag.to_string()));
        let count = |number: u64| (number > 0).then(|| Node::plain(number.to_string()));
        let text = |text: &str| (!text.is_empty()).then(|| Node::text(text));
        push("job_name", Some(Node::text(&self.job_name)));
        push("honor_labels", self.honor_labels.then(|| Node::plain("true")));
        push("honor_timestamps", bool(self.honor_timestamps));
        push("track_timestamps_staleness", bool(self.track_timestamps_staleness));
        let mut params = self.params.clone();
        params.sort();
        let params = params.into_iter().map(|(name, values)| (name, Node::list(values.into_iter().map(Node::text))));
        push("params", (!self.params.is_empty()).then(|| Node::map(params)));
        push("scrape_interval", text(&self.scrape_interval.to_string()));
        push("scrape_timeout", text(&self.scrape_timeout.to_string()));
        push("scrape_protocols", Some(Node::list(self.protocols.iter().map(|p| Node::text(p.as_str())))));
        push("fallback_scrape_protocol", self.fallback.map(|protocol| Node::text(protocol.as_str())));
        push("scrape_native_histograms", self.native_histograms.and_then(bool));
        push("always_scrape_classic_histograms", self.classic_too.and_then(bool));
        push("convert_classic_histograms_to_nhcb", self.to_custom_buckets.and_then(bool));
        push("scrape_failure_log_file", text(&self.failure_log_file));
        push("metrics_path", text(&self.metrics_path));
        push("scheme", text(&self.scheme));
        push("enable_compression", bool(self.enable_compression));
        push("body_size_limit", (self.body_size_limit > 0).then(|| Node::text(print_size(self.body_size_limit))));
        push("sample_limit", count(self.sample_limit));
        push("target_limit", count(self.target_limit));
        push("label_limit", count(self.label_limit));
        push("label_name_length_limit", count(self.label_name_length_limit));
        push("label_value_length_limit", count(self.label_value_length_limit));
        push("native_histogram_bucket_limit", count(self.histogram_bucket_limit));
        let factor = self.histogram_min_bucket_factor;
        push("native_histogram_min_bucket_factor", (factor != 0.0).then(|| Node::plain(factor.to_string())));
        push("keep_dropped_targets", count(self.keep_dropped_targets));
        push("metric_name_validation_scheme", text(self.name_scheme().as_str()));
        push("metric_name_escaping_scheme", text(&self.escaping));
        push("extra_scrape_metrics", self.extra_metrics.and_then(bool));
        self.client.print(&mut out);
        for (name, rules) in [("relabel_configs", &self.relabel), ("metric_relabel_configs", &self.metric_relabel)] {
            if !rules.is_empty() {
                out.push((name.to_owned(), Node::list(rules.iter().map(Rule::print))));
            }
        }
        for name in ["dns_sd_configs", "file_sd_configs", "http_sd_configs"] {
            let nodes: Vec<Node> =
                self.discovery.iter().filter(|d| d.name() == name).map(DiscoveryConfig::print).collect();
            if !nodes.is_empty() {
                out.push((name.to_owned(), Node::list(nodes)));
            }
        }
        for discovery in &self.discovery {
            if let DiscoveryConfig::Static(groups) = discovery {
                out.push(("static_configs".to_owned(), Node::list(groups.iter().map(Group::print))));
            }
        }
        Node::map(out)
    }
}

type ReadDiscovery = fn(&Node, &Problems) -> Result<DiscoveryConfig, String>;

/// Whether a text can be the address of a target.
pub(crate) fn check_address(address: &str) -> Result<(), String> {
    if address.contains('/') { Err(format!("{address:?} is not a valid hostname")) } else { Ok(()) }
}
