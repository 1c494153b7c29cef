//! The whole agent on a clock that the test owns, with targets that answer what the test says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use tokio::time::Instant;
use varve_model::{Labels, WriteBatch, is_stale};
use varve_vfs::{Clock, Nanos};

use crate::client::{Fetch, FetchError, Fetching};
use crate::config::{Config, Features};
use crate::{Agent, AgentSettings, Append, Sink};

/// Milliseconds at which every test begins.
const BEGIN: i64 = 1_790_000_000_000;

/// Time as the runtime counts it.
#[derive(Debug)]
struct Time(Instant);

impl Clock for Time {
    fn wall(&self) -> Nanos {
        Nanos(BEGIN * 1_000_000 + self.0.elapsed().as_nanos() as i64)
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What targets answer, by URL; each test has URLs of its own.
static ANSWERS: LazyLock<Mutex<BTreeMap<String, (&'static str, String)>>> = LazyLock::new(Mutex::default);

fn answer(url: &str, content_type: &'static str, body: &str) {
    ANSWERS.lock().unwrap().insert(url.to_owned(), (content_type, body.to_owned()));
}

fn text(url: &str, body: &str) {
    answer(url, "text/plain; version=0.0.4", body);
}

struct Told;

impl Fetch for Told {
    fn get<'a>(
        &'a mut self,
        url: &'a str,
        _: &'a [(HeaderName, HeaderValue)],
        bytes_max: u64,
        body: &'a mut Vec<u8>,
    ) -> Fetching<'a> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let (content_type, text) = ANSWERS.lock().unwrap().get(url).cloned().unwrap_or_default();
            body.clear();
            match text.as_str() {
                "refused" => return Err(FetchError::Failed("connection refused".to_owned())),
                "late" => std::future::pending::<()>().await,
                _ if text.len() as u64 >= bytes_max => return Err(FetchError::TooLarge),
                _ => body.extend_from_slice(text.as_bytes()),
            }
            Ok(content_type.to_owned())
        })
    }
}

/// What was written: by series, time and value.
#[derive(Debug, Default)]
struct Written {
    batches: Mutex<Vec<WriteBatch>>,
    /// Whether nothing can be stored.
    full: AtomicBool,
}

impl Sink for Written {
    fn batch(&self) -> WriteBatch {
        WriteBatch::default()
    }

    fn append(&self, batch: WriteBatch) -> Append<'_> {
        Box::pin(async move {
            if self.full.load(Ordering::SeqCst) {
                return Err("disk full".to_owned());
            }
            self.batches.lock().unwrap().push(batch);
            Ok(0)
        })
    }
}

impl Written {
    /// Samples of the series with these labels: seconds since the beginning and value, `stale` for a stale marker.
    fn samples(&self, labels: &str) -> Vec<(f64, String)> {
        let mut out = Vec::new();
        for batch in self.batches.lock().unwrap().iter() {
            for series in &batch.series {
                let found = Labels::from_label_bytes(batch.label_bytes(series)).unwrap();
                if found.to_string() != labels {
                    continue;
                }
                let seconds = |time: i64| (time - BEGIN) as f64 / 1000.0;
                for i in series.samples.start as usize..series.samples.end as usize {
                    let value = batch.values[i];
                    let value = if is_stale(value) { "stale".to_owned() } else { value.to_string() };
                    out.push((seconds(batch.times[i]), value));
                }
                for (time, histogram) in
                    &batch.histograms[series.histograms.start as usize..series.histograms.end as usize]
                {
                    let what =
                        if is_stale(histogram.sum) { "stale h".to_owned() } else { format!("h{}", histogram.count) };
                    out.push((seconds(*time), what));
                }
            }
        }
        out
    }

    fn values(&self, labels: &str) -> Vec<String> {
        self.samples(labels).into_iter().map(|(_, value)| value).collect()
    }

    /// Families whose metadata was written, as often as it was.
    fn families(&self) -> Vec<String> {
        let batches = self.batches.lock().unwrap();
        batches.iter().flat_map(|batch| &batch.metadata).map(|said| said.family.clone()).collect()
    }

    fn clear(&self) {
        self.batches.lock().unwrap().clear();
    }

    fn series(&self) -> Vec<String> {
        let mut out = Vec::new();
        for batch in self.batches.lock().unwrap().iter() {
            let labels = batch.series.iter().map(|series| Labels::from_label_bytes(batch.label_bytes(series)).unwrap());
            out.extend(labels.map(|labels| labels.to_string()));
        }
        out.sort();
        out.dedup();
        out
    }
}

fn config(text: &str) -> Config {
    Config::parse(text, Features::default()).unwrap()
}

fn start(text: &str) -> (Agent, Arc<Written>) {
    let written = Arc::new(Written::default());
    let settings = AgentSettings { seed: 1, body_bytes_max: 1 << 20 };
    let clock = Arc::new(Time(Instant::now()));
    let agent = Agent::start_with(config(text), settings, Arc::clone(&written) as _, clock, |_| Box::new(Told));
    (agent, written)
}

/// One job `j` of one target, scraped every ten seconds.
fn one(host: &str, more: &str) -> String {
    format!(
        "global: {{scrape_interval: 10s}}\n\
         scrape_configs: [{{job_name: j, static_configs: [{{targets: ['{host}']}}]{more}}}]"
    )
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// The labels of a series of the job's target.
fn of(name: &str, host: &str) -> String {
    format!("{{__name__={name:?}, instance={host:?}, job=\"j\"}}")
}

#[tokio::test(start_paused = true)]
async fn a_target_is_scraped_each_interval_and_what_goes_is_marked() {
    text("http://steady/metrics", "# TYPE a counter\na 1\nb 2\n");
    let (agent, written) = start(&one("steady", ""));
    seconds(30).await;
    let up = written.samples(&of("up", "steady"));
    assert_eq!(up.len(), 3, "{up:?}");
    assert!(up.windows(2).all(|pair| pair[1].0 - pair[0].0 == 10.0), "{up:?}");
    assert_eq!(written.samples(&of("a", "steady"))[0], (up[0].0, "1".to_owned()));
    assert_eq!(written.values(&of("scrape_series_added", "steady")), ["2", "0", "0"]);
    assert_eq!(written.values(&of("scrape_samples_scraped", "steady")), ["2", "2", "2"]);
    assert_eq!(written.values(&of("scrape_duration_seconds", "steady"))[0], "0.02");
    assert_eq!(written.series().len(), 7);
    text("http://steady/metrics", "a 1\n");
    written.clear();
    seconds(20).await;
    assert_eq!(written.values(&of("b", "steady")), ["stale"]);
    assert_eq!(written.values(&of("a", "steady")), ["1", "1"]);
    let target = &agent.views()[0].1.active[0];
    assert_eq!((target.last().health, target.metadata()[0].family.as_str()), (crate::Health::Up, "a"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_scrape_is_told_and_marks_all() {
    for (host, body, error) in [
        ("broken", "a 1\nb{ 2\n", "expected label name"),
        ("down", "refused", "connection refused"),
        ("late", "late", "Get \"http://late/metrics\": context deadline exceeded"),
        ("twice", "a{x=\"1\",x=\"2\"} 1\n", "label name \"x\" is not unique"),
    ] {
        let url = format!("http://{host}/metrics");
        text(&url, "a 1\nb 1\n");
        let (agent, written) = start(&one(host, ""));
        seconds(11).await;
        written.clear();
        text(&url, body);
        // A scrape may take its whole timeout, which is the interval.
        seconds(30).await;
        assert_eq!(written.values(&of("up", host))[..2], ["0", "0"], "{host}");
        for name in ["a", "b"] {
            assert_eq!(written.values(&of(name, host)), ["stale"], "{host}");
        }
        let last = agent.views()[0].1.active[0].last();
        assert!(last.error.contains(error), "{host}: {}", last.error);
        text(&url, "a 7\n");
        written.clear();
        seconds(20).await;
        assert!(written.values(&of("a", host)).contains(&"7".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_that_could_not_be_stored_is_said_again() {
    text("http://said/metrics", "# TYPE a counter\na 1\n");
    let (_agent, written) = start(&one("said", ""));
    written.full.store(true, Ordering::SeqCst);
    seconds(21).await;
    assert_eq!(written.families(), [""; 0]);
    written.full.store(false, Ordering::SeqCst);
    seconds(30).await;
    assert_eq!(written.families(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_content_type_that_is_none_fails_without_a_fallback() {
    answer("http://bare/metrics", "", "a 1\n");
    let (agent, written) = start(&one("bare", ""));
    seconds(11).await;
    assert_eq!(written.values(&of("up", "bare")), ["0"]);
    agent.apply(config(&one("bare", ", fallback_scrape_protocol: PrometheusText0.0.4")));
    seconds(11).await;
    assert_eq!(written.values(&of("a", "bare")), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn limits_fail_the_scrape() {
    for (i, (more, body, error)) in [
        ("sample_limit: 1", "a 1\nb 1\n", "sample limit exceeded"),
        ("label_limit: 3", "a{x=\"1\"} 1\n", "label_limit exceeded (metric: a, number of labels: 4, limit: 3)"),
        (
            "label_name_length_limit: 8",
            "a{long_name=\"1\"} 1\n",
            "label_name_length_limit exceeded (metric: a, label name: long_name, length: 9, limit: 8)",
        ),
        (
            "label_value_length_limit: 9",
            "a{x=\"0123456789\"} 1\n",
            "label_value_length_limit exceeded (metric: a, label name: x, value: \"0123456789\", length: 10, limit: 9)",
        ),
        ("body_size_limit: 3B", "a 1\n", "body size limit exceeded"),
        ("target_limit: 1, dns_sd_configs: [], file_sd_configs: []", "a 1\n", ""),
        (
            "metric_name_validation_scheme: legacy",
            "{\"a.b\"} 1\n",
            "invalid metric name or label names: {__name__=\"a.b\"",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let host = format!("l{i}");
        text(&format!("http://{host}/metrics"), body);
        let (agent, written) = start(&one(&host, &format!(", {more}, extra_scrape_metrics: true")));
        seconds(11).await;
        let last = agent.views()[0].1.active[0].last();
        assert_eq!(last.error.is_empty(), error.is_empty(), "{more}: {}", last.error);
        assert!(last.error.contains(error), "{more}: {}", last.error);
        let values = |name: &str| written.values(&of(name, &host));
        assert_eq!(values("up"), [if error.is_empty() { "1" } else { "0" }], "{more}");
        if more.starts_with("sample") {
            assert_eq!(
                [values("scrape_samples_scraped"), values("scrape_samples_post_metric_relabeling")],
                [["2"], ["2"]]
            );
            assert_eq!([values("scrape_sample_limit"), values("scrape_timeout_seconds")], [["1"], ["10"]]);
            assert_eq!([values("scrape_body_size_bytes"), values("a")], [vec!["8".to_owned()], vec![]]);
        }
        if more.starts_with("body") {
            assert_eq!(values("scrape_body_size_bytes"), ["-1"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn more_targets_than_the_limit_are_not_scraped() {
    text("http://t1/metrics", "a 1\n");
    text("http://t2/metrics", "a 1\n");
    let (agent, written) = start(&one("t1', 't2", ", target_limit: 1"));
    seconds(11).await;
    assert_eq!(written.values(&of("up", "t1")), ["0"]);
    let last = agent.views()[0].1.active[0].last();
    assert_eq!(last.error, "target_limit exceeded (number of targets: 2, limit: 1)");
}

#[tokio::test(start_paused = true)]
async fn labels_of_target_and_body_meet_as_configured() {
    let body = "a{job=\"theirs\",instance=\"\",exported_job=\"x\"} 1\n";
    text("http://meet/metrics", body);
    text("http://honor/metrics", body);
    let (_agent, written) = start(&one("meet", ""));
    let (_other, honored) = start(&one("honor", ", honor_labels: true"));
    seconds(11).await;
    let series = "{__name__=\"a\", exported_exported_job=\"theirs\", exported_job=\"x\", instance=\"meet\", job=\"j\"}";
    assert_eq!(written.values(series), ["1"], "{:?}", written.series());
    // An empty label that is there is honored.
    assert_eq!(honored.values("{__name__=\"a\", exported_job=\"x\", job=\"theirs\"}"), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn timestamps_of_targets_count_where_they_are_honored() {
    let time = BEGIN - 5_000;
    let body = format!("a 1 {time}\nb 2 {}\n", BEGIN + 3_600_000);
    text("http://ts/metrics", &body);
    text("http://own/metrics", &body);
    text("http://track/metrics", &body);
    let (agent, written) = start(&one("ts", ""));
    let (_two, ignored) = start(&one("own", ", honor_timestamps: false"));
    let (_three, tracked) = start(&one("track", ", track_timestamps_staleness: true"));
    seconds(11).await;
    assert_eq!(written.samples(&of("a", "ts")), [(-5.0, "1".to_owned())]);
    assert_eq!(written.values(&of("b", "ts")), [""; 0], "too far ahead");
    assert_eq!(agent.metrics().out_of_bounds.get(), 1);
    assert!(ignored.samples(&of("a", "own"))[0].0 > 0.0);
    for host in ["ts", "own", "track"] {
        text(&format!("http://{host}/metrics"), "c 1\n");
    }
    seconds(10).await;
    assert_eq!(written.values(&of("a", "ts")), ["1"], "its end is not known");
    assert_eq!(ignored.values(&of("a", "own")), ["1", "stale"]);
    assert_eq!(tracked.values(&of("a", "track")), ["1", "stale"]);
}

#[tokio::test(start_paused = true)]
async fn relabeling_of_metrics_drops_and_renames() {
    text("http://rel/metrics", "a{x=\"1\"} 1\nb 2\n");
    let rules = "metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}, \
                 {source_labels: [x], target_label: y}, {regex: x, action: labeldrop}]";
    let (_agent, written) = start(&one("rel", &format!(", {rules}")));
    seconds(21).await;
    assert_eq!(written.values("{__name__=\"a\", instance=\"rel\", job=\"j\", y=\"1\"}"), ["1", "1"]);
    assert_eq!(written.values(&of("b", "rel")), [""; 0]);
    assert_eq!(written.values(&of("scrape_samples_scraped", "rel")), ["2", "2"]);
    assert_eq!(written.values(&of("scrape_samples_post_metric_relabeling", "rel")), ["1", "1"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_goes_is_marked_after_two_intervals() {
    text("http://gone/metrics", "a 1\n");
    text("http://stays/metrics", "a 1\n");
    let (agent, written) = start(&one("gone', 'stays", ""));
    seconds(11).await;
    agent.apply(config(&one("stays", "")));
    written.clear();
    seconds(9).await;
    assert_eq!(written.values(&of("a", "gone")), [""; 0]);
    seconds(25).await;
    for name in ["a", "up", "scrape_duration_seconds", "scrape_series_added"] {
        assert_eq!(written.values(&of(name, "gone")), ["stale"], "{name}");
    }
    let stays = written.values(&of("a", "stays"));
    assert!(stays.len() == 3 || stays.len() == 4, "{stays:?}");
    assert!(stays.iter().all(|value| value == "1"), "{stays:?}");
    assert_eq!(agent.views()[0].1.active.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_comes_back_finds_no_gap() {
    text("http://back/metrics", "a 1\nb 1\n");
    let (agent, written) = start(&one("back", ""));
    seconds(11).await;
    agent.apply(config("scrape_configs: []"));
    seconds(2).await;
    assert!(agent.views().is_empty());
    text("http://back/metrics", "a 1\n");
    agent.apply(config(&one("back", "")));
    seconds(60).await;
    assert!(!written.values(&of("a", "back")).contains(&"stale".to_owned()));
    assert!(!written.values(&of("up", "back")).contains(&"stale".to_owned()));
    assert_eq!(written.values(&of("b", "back")), ["1", "stale"]);
}

#[tokio::test(start_paused = true)]
async fn another_configuration_of_a_job_goes_on_without_a_gap() {
    text("http://conf/metrics", "a{x=\"1\"} 1\n");
    let (agent, written) = start(&one("conf", ""));
    seconds(11).await;
    // How it is asked does not change what is remembered.
    agent.apply(config(&one("conf", ", sample_limit: 5")));
    seconds(10).await;
    assert_eq!(written.values(&of("scrape_series_added", "conf")), ["1", "0"]);
    let rules = ", metric_relabel_configs: [{regex: x, action: labeldrop}]";
    agent.apply(config(&one("conf", rules)));
    seconds(40).await;
    let before = "{__name__=\"a\", instance=\"conf\", job=\"j\", x=\"1\"}";
    assert_eq!(written.values(before), ["1", "1", "stale"]);
    let after = written.values(&of("a", "conf"));
    assert!(after.len() >= 3 && after.iter().all(|value| value == "1"), "{after:?}");
}

/// A reload that changed one discovery of a job restarted them all, so the targets of a list that could not be read at
/// that moment were gone and marked.
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "makes the file of targets")]
async fn a_reload_leaves_discoveries_alone_that_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    let file = format!(", file_sd_configs: [{{files: ['{}']}}]", path.display());
    std::fs::write(&path, r#"[{"targets": ["listed"]}]"#).unwrap();
    text("http://listed/metrics", "a 1\n");
    let (agent, written) = start(&one("first", &file));
    seconds(11).await;
    assert!(!written.values(&of("a", "listed")).is_empty());
    std::fs::write(&path, "broken").unwrap();
    agent.apply(config(&one("second", &file)));
    seconds(50).await;
    let values = written.values(&of("a", "listed"));
    assert!(values.len() >= 5 && values.iter().all(|value| value == "1"), "{values:?}");
    assert!(written.series().contains(&of("up", "second")));
    assert!(agent.metrics().discovery_failures.get() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_marks_nothing() {
    text("http://stop/metrics", "a 1\n");
    let (agent, written) = start(&one("stop", ""));
    seconds(11).await;
    assert!(agent.stop(Duration::from_secs(5)).await);
    let before = written.batches.lock().unwrap().len();
    seconds(60).await;
    assert_eq!(written.batches.lock().unwrap().len(), before);
    assert_eq!(written.values(&of("a", "stop")), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn classic_histograms_are_stored_as_native_ones_where_wanted() {
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n";
    text("http://nhcb/metrics", body);
    let (_agent, written) = start(&one("nhcb", ", convert_classic_histograms_to_nhcb: true"));
    seconds(21).await;
    assert_eq!(written.values(&of("h", "nhcb")), ["h3", "h3"]);
    assert_eq!(written.values(&of("h_count", "nhcb")), [""; 0]);
    text("http://nhcb/metrics", "a 1\n");
    seconds(10).await;
    assert_eq!(written.values(&of("h", "nhcb")), ["h3", "h3", "stale h"]);
}

#[tokio::test(start_paused = true)]
async fn dropped_targets_are_counted_and_kept_to_a_number() {
    let rules =
        ", keep_dropped_targets: 1, relabel_configs: [{source_labels: [__address__], regex: 'd.*', action: drop}]";
    let (agent, _written) = start(&one("d1', 'd2', 'kept", rules));
    seconds(1).await;
    let view = &agent.views()[0].1;
    assert_eq!((view.active.len(), view.dropped.len(), view.dropped_count), (1, 1, 2));
    assert_eq!(view.dropped[0].discovered().get("__address__"), "d1");
}
