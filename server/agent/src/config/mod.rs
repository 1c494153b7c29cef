//! The configuration: the `prometheus.yml` that Prometheus itself would take.
//!
//! ```text
//! text ── yaml::parse ──> Node ── Config::parse ──> Config { global, scrapes }      strict, problems with their lines
//!                                     └── load ──> paths made absolute, scrape_config_files read
//! ```
//! Sections that Prometheus has and Varve does not use yet are accepted and named in [`Config::unused`], so that a
//! file can be shared with a Prometheus; a field that Prometheus does not know either is an error.

pub mod client;
pub mod discovery;
pub mod duration;
pub(crate) mod fields;
pub mod global;
pub mod scrape;

use std::path::Path;

pub use client::ClientConfig;
pub use discovery::{DiscoveryConfig, Group};
pub use duration::Duration;
pub use global::GlobalConfig;
pub use scrape::{ScrapeConfig, ScrapeProtocol};

use crate::glob::glob;
use crate::regex::Regex;
use crate::yaml::{self, Entry, Node, Value};
use client::{SECRET, redacted};
use fields::{Fields, Problems};

/// Bytes of one configuration file.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 20;

/// Sections of Prometheus that are accepted and not used.
const UNUSED: [&str; 8] =
    ["runtime", "alerting", "rule_files", "storage", "tracing", "remote_write", "remote_read", "otlp"];

/// Which label names are valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NameScheme {
    /// Any text of UTF-8 but the empty one.
    #[default]
    Utf8,
    /// `[a-zA-Z_][a-zA-Z0-9_]*`
    Legacy,
}

impl NameScheme {
    /// Reads the word of the configuration.
    pub(crate) fn parse(text: &str) -> Result<NameScheme, String> {
        match text {
            "utf8" => Ok(NameScheme::Utf8),
            "legacy" => Ok(NameScheme::Legacy),
            _ => Err(format!("unrecognized ValidationScheme: {text:?}")),
        }
    }

    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            NameScheme::Utf8 => "utf8",
            NameScheme::Legacy => "legacy",
        }
    }

    /// Whether a label may have this name.
    pub fn is_label_name(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => {
                !name.is_empty()
                    && !name.starts_with(|c: char| c.is_ascii_digit())
                    && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
            }
        }
    }

    /// Whether a metric may have this name: that of a label, with colons.
    pub fn is_metric_name(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => !name.is_empty() && self.is_label_name(&name.replace(':', "_")),
        }
    }
}

/// What Prometheus's feature flags change here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// `extra-scrape-metrics`
    pub extra_scrape_metrics: bool,
    /// `native-histograms`
    pub native_histograms: bool,
}

/// A configuration that was checked.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Config {
    /// Defaults of all scrapes.
    pub global: GlobalConfig,
    /// What is scraped, `scrape_config_files` included; names of jobs are unique.
    pub scrapes: Vec<ScrapeConfig>,
    /// Patterns of `scrape_config_files`.
    pub files: Vec<String>,
    /// What is accepted and not used, as sentences for the log.
    pub unused: Vec<String>,
    /// Scrapes of the main file; the others come from `files`.
    main_scrapes: usize,
    /// Unused sections as written, for display.
    sections: Vec<Entry>,
}

impl Config {
    /// Reads a file, its `scrape_config_files`, and makes paths relative to the directory of their file.
    pub fn load(path: &Path, features: Features) -> Result<Config, String> {
        let text = read_file(path)?;
        let mut config =
            Config::parse(&text, features).map_err(|what| format!("parsing YAML file {}: {what}", path.display()))?;
        let dir = path.parent().unwrap_or(Path::new(""));
        config.scrapes.iter_mut().for_each(|scrape| scrape.set_directory(dir));
        for pattern in &mut config.files {
            *pattern = dir.join(&*pattern).display().to_string();
        }
        for pattern in config.files.clone() {
            for file in glob(&pattern)? {
                config.load_scrapes(&file).map_err(|what| format!("{}: {what}", file.display()))?;
            }
        }
        Ok(config)
    }

    /// Reads a file of `scrape_config_files`.
    fn load_scrapes(&mut self, path: &Path) -> Result<(), String> {
        let root = yaml::parse(&read_file(path)?)?;
        let problems = Problems::default();
        let mut fields = Fields::new(&root, "config.ScrapeConfigs", &problems);
        let mut scrapes = scrape_configs(&mut fields, &mut self.unused)?;
        fields.finish();
        problems.result()?;
        let dir = path.parent().unwrap_or(Path::new(""));
        for mut scrape in scrapes.drain(..) {
            scrape.complete(&self.global)?;
            if self.scrapes.iter().any(|known| known.job_name == scrape.job_name) {
                return Err(format!("found multiple scrape configs with job name {:?}", scrape.job_name));
            }
            scrape.set_directory(dir);
            self.scrapes.push(scrape);
        }
        Ok(())
    }

    /// Reads the text of a main file; no other file is read.
    pub fn parse(text: &str, features: Features) -> Result<Config, String> {
        let root = yaml::parse(text)?;
        let problems = Problems::default();
        let mut fields = Fields::new(&root, "config.plain", &problems);
        let mut config = Config::default();
        let global = fields.get("global").map(|node| GlobalConfig::read(node, &problems)).transpose();
        let files = fields.texts("scrape_config_files").unwrap_or_default();
        let scrapes = scrape_configs(&mut fields, &mut config.unused);
        for section in UNUSED {
            let Some(node) = fields.get(section) else { continue };
            if section != "runtime" {
                config.unused.push(format!("section {section} (line {}) is not used by Varve yet", node.line));
            }
            config.sections.push(Entry { line: node.line, key: section.to_owned(), node: node.clone() });
        }
        fields.finish();
        problems.result()?;
        config.global = global?.unwrap_or_default();
        config.global.take_features(features);
        config.scrapes = scrapes?;
        let pattern = Regex::new(r"[^*]*(\*[^/]*)?")?;
        if let Some(file) = files.iter().find(|file| !pattern.is_match(file)) {
            return Err(format!("invalid scrape config file path {file:?}"));
        }
        config.files = files;
        for i in 0..config.scrapes.len() {
            let (before, rest) = config.scrapes.split_at_mut(i);
            let Some(scrape) = rest.first_mut() else { break };
            scrape.complete(&config.global)?;
            if before.iter().any(|known| known.job_name == scrape.job_name) {
                return Err(format!("found multiple scrape configs with job name {:?}", scrape.job_name));
            }
        }
        config.main_scrapes = config.scrapes.len();
        for scrape in config.scrapes.iter().filter(|scrape| !scrape.failure_log_file.is_empty()) {
            let job = &scrape.job_name;
            config.unused.push(format!("scrape_failure_log_file of job {job} is not written: see /api/v1/targets"));
        }
        Ok(config)
    }

    /// The configuration with its defaults as YAML, secrets hidden.
    pub fn print(&self) -> String {
        let mut out = vec![("global".to_owned(), self.global.print())];
        let section = |name: &str| {
            let entry = self.sections.iter().find(|entry| entry.key == name);
            entry.map(|entry| (entry.key.clone(), hidden(&entry.node, false)))
        };
        out.extend(["runtime", "alerting", "rule_files"].into_iter().filter_map(section));
        if !self.files.is_empty() {
            out.push(("scrape_config_files".to_owned(), Node::list(self.files.iter().map(Node::text))));
        }
        if self.main_scrapes > 0 {
            let scrapes = self.scrapes.iter().take(self.main_scrapes).map(ScrapeConfig::print);
            out.push(("scrape_configs".to_owned(), Node::list(scrapes)));
        }
        out.extend(["storage", "tracing", "remote_write", "remote_read", "otlp"].into_iter().filter_map(section));
        yaml::print(&Node::map(out))
    }
}

fn scrape_configs(fields: &mut Fields<'_>, unused: &mut Vec<String>) -> Result<Vec<ScrapeConfig>, String> {
    let problems = fields.problems();
    let nodes = fields.list("scrape_configs").unwrap_or_default();
    nodes.iter().map(|node| ScrapeConfig::read(node, problems, unused)).collect()
}

/// Fields that Prometheus and its discoveries hide, by name: a section that is not used is not understood either.
const SECRETS: [&str; 18] = [
    "application_credential_secret",
    "application_secret",
    "auth_token",
    "bearer_token",
    "certificate_password",
    "client_certificate_key",
    "client_secret",
    "consumer_key",
    "credentials",
    "key",
    "key_passphrase",
    "password",
    "private_key",
    "proxy_connect_header",
    "secret_key",
    "secrets",
    "service_account_key",
    "token",
];

/// A section as written, without what is secret in it; `secret` where all of it is.
fn hidden(node: &Node, secret: bool) -> Node {
    let value = match &node.value {
        Value::List(nodes) => Value::List(nodes.iter().map(|node| hidden(node, secret)).collect()),
        Value::Map(entries) => {
            let hide = |entry: &Entry| {
                let node = hidden(&entry.node, secret || SECRETS.contains(&entry.key.as_str()));
                Entry { line: entry.line, key: entry.key.clone(), node }
            };
            Value::Map(entries.iter().map(hide).collect())
        }
        Value::Text { .. } if secret => Node::plain(SECRET).value,
        Value::Text { text, plain } => Value::Text { text: redacted(text), plain: *plain },
        other => other.clone(),
    };
    Node { line: node.line, value }
}

/// Reads a file of bounded size.
pub(crate) fn read_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("{}: larger than {FILE_BYTES_MAX} bytes", path.display()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests;
