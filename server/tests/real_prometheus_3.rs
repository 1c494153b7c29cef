//! A Prometheus 3 around Varve: it scrapes itself and remote-writes all of it in version 2.0 (with native histograms,
//! exemplars and metadata), another one scrapes Varve's federation, a third one has nothing of its own and reads from
//! Varve. All must answer alike.
//!
//! Takes about 20 s. Skips loudly where Debian's newer package cannot be had.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![expect(clippy::disallowed_methods, reason = "an end-to-end test waits for the programs it starts")]

mod house;

use std::path::Path;
use std::time::Duration;

use house::real::{Prometheus, assert_same, free_port, prometheus_3, wait_until};
use house::{House, directory, now_ms, start};
use serde_json::Value;

/// A counter of Prometheus's own metrics.
fn own(prometheus: &Prometheus, name: &str) -> f64 {
    let data = prometheus.post("/api/v1/query", &[("query", &format!("sum({name}) or vector(0)"))]);
    data["result"][0]["value"][1].as_str().unwrap().parse().unwrap()
}

/// Compares instant and range queries at one moment; how many series there were.
fn compare(house: &House, prometheus: &Prometheus, queries: &[&str], at: i64) -> usize {
    let (begin, end) = (format!("{}.337", at - 6), format!("{at}.337"));
    let mut series = 0;
    for query in queries {
        let theirs = prometheus.post("/api/v1/query", &[("query", query), ("time", &end)]);
        let ours = house.query(query, at * 1000 + 337);
        series += assert_same(query, &ours, &theirs);
        let form = [("query", *query), ("start", begin.as_str()), ("end", end.as_str()), ("step", "2s")];
        let theirs = prometheus.post("/api/v1/query_range", &form);
        let ours = house.post("/api/v1/query_range", &form).json()["data"].clone();
        series += assert_same(query, &ours, &theirs);
    }
    series
}

#[test]
fn prometheus_3_writes_federates_and_reads() {
    let Some(bin) = prometheus_3() else { return };
    let dir = directory();
    let program = bin.join("prometheus");
    let house = start(&dir.path().join("varve"), &[]);
    let features = "--enable-feature=native-histograms,exemplar-storage,metadata-wal-records";

    let port = free_port();
    let config = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs:\n\
         - job_name: self\n  always_scrape_classic_histograms: true\n  \
           static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n\
         - job_name: nothing\n  static_configs: [{{targets: ['127.0.0.1:1']}}]\n\
         remote_write:\n\
         - url: http://{}/api/v1/write\n  protobuf_message: io.prometheus.write.v2.Request\n  \
           send_exemplars: true\n  send_native_histograms: true\n  queue_config: {{batch_send_deadline: 200ms}}\n",
        house.address
    );
    let writer = Prometheus::start_at(&program, &dir.path().join("writer"), &config, &[features], port);
    wait_until("ten scrapes have arrived", || {
        let count = house.query("count_over_time(up{job=\"self\"}[1m])", now_ms());
        count["result"][0]["value"][1].as_str().is_some_and(|count| count.parse::<f64>().unwrap() >= 10.0)
    });
    // What is asked about lies far enough back to have arrived.
    let at = now_ms() / 1000 - 2;
    std::thread::sleep(Duration::from_secs(2));
    let queries = [
        "up",
        "scrape_samples_scraped",
        "rate(prometheus_http_requests_total[5s])",
        "sum by (handler) (prometheus_http_request_duration_seconds_count)",
        "prometheus_http_request_duration_seconds",
        "sum(rate(prometheus_http_request_duration_seconds[4s]))",
        "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[5s])))",
        "histogram_quantile(0.9, sum(rate(prometheus_http_request_duration_seconds[5s])))",
        "count by (job) ({__name__=~\".+\"})",
        "topk(3, go_memstats_alloc_bytes)",
        "absent(nothing_of_this_name)",
    ];
    let series = compare(&house, &writer, &queries, at);
    assert!(series > 100, "only {series} series were compared");
    assert!(own(&writer, "prometheus_remote_storage_samples_total") > 1000.0);
    assert!(own(&writer, "prometheus_remote_storage_histograms_total") > 10.0);
    for failed in ["samples_failed", "histograms_failed", "exemplars_failed", "samples_retried", "metadata_failed"] {
        assert_eq!(own(&writer, &format!("prometheus_remote_storage_{failed}_total")), 0.0, "{failed}");
    }
    let metadata = house.get("/api/v1/metadata?metric=prometheus_http_requests_total").json();
    assert_eq!(metadata["data"]["prometheus_http_requests_total"][0]["type"], "counter", "{metadata}");

    federation(&house, &program, dir.path());
    remote_read(&house, &program, dir.path(), at);
}

/// A Prometheus that scrapes what Varve federates.
fn federation(house: &House, program: &Path, dir: &Path) {
    let config = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs:\n\
         - job_name: federate\n  honor_labels: true\n  metrics_path: /federate\n  \
           params: {{'match[]': ['{{job=\"self\"}}']}}\n  static_configs: [{{targets: ['{}']}}]\n",
        house.address
    );
    let reader = Prometheus::start(program, &dir.join("federated"), &config, &[]);
    wait_until("a federated scrape", || {
        let up = reader.post("/api/v1/query", &[("query", "count_over_time(up{job=\"self\"}[1m]) > 1")]);
        up["result"].as_array().is_some_and(|result| !result.is_empty())
    });
    let value = |data: &Value| data["result"][0]["value"][1].as_str().map(str::to_owned);
    // What is constant, and what is there: a federated sample is as old as its scrape.
    let at = now_ms();
    for query in [
        "count({job=\"self\",__name__=~\"go_.+|.+_total\"})",
        "count by (job) (prometheus_build_info)",
        "max(process_start_time_seconds{job=\"self\"})",
        "sum(prometheus_build_info)",
    ] {
        let theirs = reader.post("/api/v1/query", &[("query", query)]);
        assert_eq!(value(&house.query(query, at)), value(&theirs), "{query}");
        assert!(value(&theirs).is_some(), "{query}");
    }
    let failed = reader.post("/api/v1/query", &[("query", "up{job=\"federate\"} == 0")]);
    assert_eq!(failed["result"], Value::Array(Vec::new()), "the federated scrape failed");
}

/// A Prometheus without data that reads from Varve.
fn remote_read(house: &House, program: &Path, dir: &Path, at: i64) {
    let config = format!("remote_read: [{{url: 'http://{}/api/v1/read', read_recent: true}}]\n", house.address);
    let reader = Prometheus::start(program, &dir.join("reader"), &config, &[]);
    let queries = [
        "up",
        "rate(prometheus_http_requests_total[5s])",
        "prometheus_http_request_duration_seconds",
        "sum(rate(prometheus_http_request_duration_seconds[4s]))",
        "count by (job) ({__name__=~\".+\"})",
        "{__name__=~\"go_gc.+\",job!=\"x\"}",
    ];
    let series = compare(house, &reader, &queries, at);
    assert!(series > 20, "only {series} series were read back");
}
