//! Targets: from the labels that discovery gives to the URL that is scraped, and what is known of its last scrape.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use varve_model::{Labels, Millis};
use xxhash_rust::xxh3::xxh3_64;

use crate::cache::Cache;
use crate::config::scrape::check_address;
use crate::config::{self, ScrapeConfig};
use crate::discovery::{LabelList, TargetGroup};
use crate::relabel::{self, LabelMap};

const ADDRESS: &str = "__address__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PATH: &str = "__metrics_path__";
const SCHEME: &str = "__scheme__";
const PARAM: &str = "__param_";
const META: &str = "__meta_";
const RESERVED: &str = "__";
const NATIVE: &str = "__scrape_native_histograms__";
const CLASSIC: &str = "__always_scrape_classic_histograms__";
const CUSTOM: &str = "__convert_classic_histograms_to_nhcb__";

/// What became of the last scrape.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// It went well.
    Up,
    /// It failed.
    Down,
}

impl Health {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// What is known of the last scrape.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LastScrape {
    /// When it began; `None` before the first.
    pub time: Option<Millis>,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub health: Health,
    /// Why it failed, or nothing.
    pub error: String,
}

/// A target that is scraped, or was dropped by its labels.
#[derive(Debug)]
pub struct Target {
    /// Labels before relabeling.
    discovered: Mutex<LabelMap>,
    /// Labels after relabeling, those with `__` included; empty when dropped.
    labels: LabelMap,
    /// What is asked for.
    url: String,
    /// How often, and how long one scrape may take.
    interval: config::Duration,
    timeout: config::Duration,
    last: Mutex<LastScrape>,
    cache: Mutex<Arc<Mutex<Cache>>>,
}

impl Target {
    /// The targets of a group, and why some could not be made.
    pub(crate) fn of_group(group: &TargetGroup, config: &ScrapeConfig) -> (Vec<Target>, Vec<String>) {
        let (mut targets, mut errors) = (Vec::new(), Vec::new());
        for (i, own) in group.targets.iter().enumerate() {
            match Target::new(own, &group.labels, config) {
                Ok(target) => targets.push(target),
                Err(error) => errors.push(format!("instance {i} in group {}: {error}", group.source)),
            }
        }
        (targets, errors)
    }

    fn new(own: &LabelList, group: &LabelList, config: &ScrapeConfig) -> Result<Target, String> {
        let discovered = discovered(own, group, config);
        let mut labels = discovered.clone();
        if !relabel::apply(&config.relabel, &mut labels) {
            labels.clear();
            return Ok(Target::with(
                discovered,
                labels,
                String::new(),
                (config.scrape_interval, config.scrape_timeout),
            ));
        }
        let address = labels.get(ADDRESS).to_owned();
        if address.is_empty() {
            return Err("no address".to_owned());
        }
        check_address(&address)?;
        let duration = |name: &str, what: &str| {
            let duration = config::Duration::parse(labels.get(name))
                .map_err(|error| format!("error parsing scrape {what}: {error}"))?;
            if duration.0 == 0 { Err(format!("scrape {what} cannot be 0")) } else { Ok(duration) }
        };
        let interval = duration(INTERVAL, "interval")?;
        let timeout = duration(TIMEOUT, "timeout")?;
        if timeout > interval {
            return Err(format!(
                "scrape timeout cannot be greater than scrape interval ({:?} > {:?})",
                labels.get(TIMEOUT),
                labels.get(INTERVAL)
            ));
        }
        for (name, what) in [
            (CUSTOM, "convert classic histograms to nhcb"),
            (CLASSIC, "always scrape classic histograms"),
            (NATIVE, "scrape native histograms"),
        ] {
            if !labels.get(name).is_empty() && parse_bool(labels.get(name)).is_none() {
                return Err(format!("error parsing {what}: {:?} is no boolean", labels.get(name)));
            }
        }
        labels.retain(|name| !name.starts_with(META));
        if labels.get("instance").is_empty() {
            labels.set("instance", &address);
        }
        let url = url(&labels, config);
        Ok(Target::with(discovered, labels, url, (interval, timeout)))
    }

    fn with(
        discovered: LabelMap,
        labels: LabelMap,
        url: String,
        (interval, timeout): (config::Duration, config::Duration),
    ) -> Target {
        Target {
            discovered: Mutex::new(discovered),
            labels,
            url,
            interval,
            timeout,
            last: Mutex::default(),
            cache: Mutex::default(),
        }
    }

    /// Whether relabeling dropped it.
    pub fn is_dropped(&self) -> bool {
        self.labels.is_empty()
    }

    /// What is asked for.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The labels its series get: those without `__`.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().filter(|(name, _)| !name.starts_with(RESERVED))
    }

    /// The labels its series get, as a set.
    pub fn label_set(&self) -> Labels {
        let mut bytes = Vec::new();
        for (name, value) in self.labels() {
            varve_model::labels::push_label(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        Labels::from_label_bytes(&bytes).unwrap_or_default()
    }

    /// Labels before relabeling.
    pub fn discovered(&self) -> LabelMap {
        self.discovered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over how a newer discovery of the same target describes it.
    pub(crate) fn describe_as(&self, newer: &Target) {
        *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = newer.discovered();
    }

    /// The interval as its label says it.
    pub fn interval_text(&self) -> &str {
        self.labels.get(INTERVAL)
    }

    /// The timeout as its label says it.
    pub fn timeout_text(&self) -> &str {
        self.labels.get(TIMEOUT)
    }

    pub(crate) fn interval(&self) -> config::Duration {
        self.interval
    }

    pub(crate) fn timeout(&self) -> config::Duration {
        self.timeout
    }

    fn flag(&self, name: &str, default: Option<bool>) -> bool {
        parse_bool(self.labels.get(name)).or(default).unwrap_or(false)
    }

    /// What is made of a body: the job's words, unless relabeling set the target's own.
    pub(crate) fn options(&self, config: &ScrapeConfig) -> varve_protocol::scrape::Options {
        varve_protocol::scrape::Options {
            native_histograms: self.flag(NATIVE, config.native_histograms),
            classic_too: self.flag(CLASSIC, config.classic_too),
            to_custom_buckets: self.flag(CUSTOM, config.to_custom_buckets),
        }
    }

    /// Identifies the target: all its labels, and what is asked for.
    pub(crate) fn hash(&self) -> u64 {
        let mut bytes = Vec::new();
        for (name, value) in self.labels.iter() {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0xff);
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0xff);
        }
        bytes.extend_from_slice(self.url.as_bytes());
        xxh3_64(&bytes)
    }

    /// How long after `now` (nanoseconds) the target's place in its interval comes. Places are spread by hash and do
    /// not depend on when the server was started.
    pub(crate) fn offset(&self, now: i64, seed: u64) -> Duration {
        let interval = self.interval.0.saturating_mul(1_000_000).max(1);
        let place = (self.hash() ^ seed) % interval;
        let passed = now.rem_euclid(i64::try_from(interval).unwrap_or(i64::MAX)).unsigned_abs();
        Duration::from_nanos((place + interval - passed) % interval)
    }

    /// What is known of the last scrape.
    pub fn last(&self) -> LastScrape {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn report(&self, last: LastScrape) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    /// What the loop of the target remembers.
    pub(crate) fn cache(&self) -> Arc<Mutex<Cache>> {
        Arc::clone(&self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_cache(&self, cache: Arc<Mutex<Cache>>) {
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = cache;
    }

    /// What the target said of its metric families, in order of names.
    pub fn metadata(&self) -> Vec<varve_model::write::Metadata> {
        self.cache().lock().unwrap_or_else(PoisonError::into_inner).metadata()
    }
}

/// Labels before relabeling: the target's, the group's, and what the job sets where they do not.
fn discovered(own: &LabelList, group: &LabelList, config: &ScrapeConfig) -> LabelMap {
    let mut labels = LabelMap::default();
    for (name, value) in group.iter().chain(own) {
        labels.set(name, value);
    }
    let flag = |flag: Option<bool>| flag.unwrap_or(false).to_string();
    for (name, value) in [
        ("job", config.job_name.clone()),
        (INTERVAL, config.scrape_interval.to_string()),
        (TIMEOUT, config.scrape_timeout.to_string()),
        (PATH, config.metrics_path.clone()),
        (SCHEME, config.scheme.clone()),
        (CUSTOM, flag(config.to_custom_buckets)),
        (CLASSIC, flag(config.classic_too)),
        (NATIVE, flag(config.native_histograms)),
    ] {
        if labels.get(name).is_empty() {
            labels.set(name, &value);
        }
    }
    for (name, values) in &config.params {
        let name = format!("{PARAM}{name}");
        if let (Some(value), true) = (values.first(), labels.get(&name).is_empty()) {
            labels.set(&name, value);
        }
    }
    labels
}

/// As Go's `ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn url(labels: &LabelMap, config: &ScrapeConfig) -> String {
    let mut params: Vec<(&str, Vec<&str>)> = config
        .params
        .iter()
        .map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect()))
        .collect();
    for (name, value) in labels.iter() {
        let Some(name) = name.strip_prefix(PARAM) else { continue };
        match params.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => match values.first_mut() {
                Some(first) => *first = value,
                None => values.push(value),
            },
            None => params.push((name, vec![value])),
        }
    }
    params.sort();
    let pairs = params.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let query: Vec<String> =
        pairs.map(|(name, value)| format!("{}={}", escaped(name, true), escaped(value, true))).collect();
    let path = labels.get(PATH);
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    let mut url = format!("{}://{}{slash}{}", labels.get(SCHEME), labels.get(ADDRESS), escaped(path, false));
    if !query.is_empty() {
        url.push('?');
        url.push_str(&query.join("&"));
    }
    url
}

/// Percent-encodes a part of a query, or a path.
fn escaped(text: &str, query: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',' | b';' if !query => out.push(char::from(byte)),
            b' ' if query => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Features};

    fn targets(job: &str, own: &[(&str, &str)]) -> (Vec<Target>, Vec<String>) {
        let config = Config::parse(&format!("scrape_configs: [{{job_name: j, {job}}}]"), Features::default()).unwrap();
        let own: LabelList = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let labels = vec![("env".to_owned(), "e".to_owned()), ("a".to_owned(), "group".to_owned())];
        let group = TargetGroup { source: "s".to_owned(), targets: vec![own], labels };
        Target::of_group(&group, &config.scrapes[0])
    }

    fn target(job: &str, own: &[(&str, &str)]) -> Target {
        let (mut targets, errors) = targets(job, own);
        assert_eq!(errors, [""; 0]);
        targets.remove(0)
    }

    #[test]
    fn labels_and_url_come_from_discovery_job_and_rules() {
        let job = "params: {p: [x y, z], q: ['1']}, metrics_path: /m, relabel_configs: [{source_labels: [__meta_m], target_label: m}, \
                   {target_label: __param_q, replacement: '2'}, {target_label: __scrape_interval__, replacement: 30s}]";
        let target = target(job, &[("__address__", "h:1"), ("__meta_m", "v"), ("a", "own")]);
        let labels: Vec<_> = target.labels().collect();
        assert_eq!(labels, [("a", "own"), ("env", "e"), ("instance", "h:1"), ("job", "j"), ("m", "v")]);
        assert_eq!(target.url(), "http://h:1/m?p=x+y&p=z&q=2");
        assert_eq!((target.interval().0, target.timeout().0), (30_000, 10_000));
        let discovered = target.discovered();
        assert_eq!(discovered.get("__meta_m"), "v");
        assert_eq!(discovered.get("__param_q"), "1");
        assert_eq!(discovered.get("__scrape_native_histograms__"), "false");
    }

    #[test]
    fn what_cannot_be_a_target_says_why() {
        for (job, own, what) in [
            ("scheme: http", vec![("a", "b")], "instance 0 in group s: no address"),
            (
                "relabel_configs: [{target_label: __address__, replacement: 'a/b'}]",
                vec![("__address__", "h")],
                "\"a/b\" is not a valid hostname",
            ),
            (
                "relabel_configs: [{target_label: __scrape_interval__, replacement: x}]",
                vec![("__address__", "h")],
                "error parsing scrape interval",
            ),
            (
                "relabel_configs: [{target_label: __scrape_interval__, replacement: '0'}]",
                vec![("__address__", "h")],
                "scrape interval cannot be 0",
            ),
            (
                "relabel_configs: [{target_label: __scrape_timeout__, replacement: 2m}]",
                vec![("__address__", "h")],
                "cannot be greater than scrape interval (\"2m\" > \"1m\")",
            ),
        ] {
            let (targets, errors) = targets(job, &own);
            assert!(targets.is_empty() && errors[0].contains(what), "{errors:?}");
        }
        assert!(
            target("relabel_configs: [{source_labels: [a], regex: group, action: drop}]", &[("__address__", "h")])
                .is_dropped()
        );
    }

    #[test]
    fn a_target_keeps_its_place_in_the_interval() {
        let target = target("scheme: http", &[("__address__", "h")]);
        let interval = 60_000_000_000i64;
        let place = |now: i64| (now + target.offset(now, 7).as_nanos() as i64) % interval;
        let first = place(0);
        for now in [1, 999, interval - 1, interval, 12_345_678_901_234] {
            assert!(target.offset(now, 7) < Duration::from_secs(60));
            assert_eq!(place(now), first);
        }
        assert_ne!(target.offset(0, 7), target.offset(0, 8));
    }
}
