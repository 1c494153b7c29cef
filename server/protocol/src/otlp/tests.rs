//! Requests as JSON, which is easiest to read, and the series they become.

use varve_model::{Histogram, Labels, RefusalReason, is_stale};

use super::*;

/// Labels, time, value or histogram of each sample, start timestamp.
fn series(batch: &WriteBatch) -> Vec<String> {
    let mut out = Vec::new();
    for series in &batch.series {
        let labels = Labels::from_label_bytes(batch.label_bytes(series)).unwrap();
        assert_eq!(labels.hash(), series.hash);
        for at in series.samples.start as usize..series.samples.end as usize {
            let value = if is_stale(batch.values[at]) { "stale".to_owned() } else { batch.values[at].to_string() };
            out.push(format!("{labels} {}={value} from {}", batch.times[at], batch.start(at)));
        }
        for at in series.histograms.start as usize..series.histograms.end as usize {
            out.push(format!("{labels} {}=histogram from {}", batch.histograms[at].0, batch.histogram_start(at)));
        }
    }
    out
}

fn read(json: &str, settings: &Settings) -> (WriteBatch, Summary) {
    let mut batch = WriteBatch::default();
    let summary = decode_json(json.as_bytes(), settings, &Limits::default(), &mut batch).unwrap();
    (batch, summary)
}

/// A request of one resource and one scope.
fn request(resource: &str, metrics: &str) -> String {
    let scope = r#""scope":{"name":"lib","version":"1","attributes":[{"key":"a.b","value":{"stringValue":"s"}}]}"#;
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},"scopeMetrics":[{{{scope},"schemaUrl":"u","metrics":[{metrics}]}}]}}]}}"#
    )
}

const SERVICE: &str = r#"{"key":"service.name","value":{"stringValue":"shop"}},{"key":"service.namespace","value":{"stringValue":"eu"}},{"key":"service.instance.id","value":{"stringValue":"i1"}}"#;
const TIMES: &str = r#""startTimeUnixNano":"1000000000","timeUnixNano":"2000000000""#;

#[track_caller]
fn check(resource: &str, metrics: &str, settings: &Settings, expected: &[&str]) {
    let (batch, summary) = read(&request(resource, metrics), settings);
    assert_eq!(series(&batch), expected);
    assert_eq!((summary.rejected, summary.warnings.len()), (0, 0), "{summary:?}");
}

#[test]
fn gauges_and_sums_get_names_labels_and_starts() {
    let metrics = format!(
        r#"{{"name":"http.requests","unit":"1","description":"Requests.","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
            {{{TIMES},"asInt":"3","attributes":[{{"key":"http.method","value":{{"stringValue":"GET"}}}},{{"key":"http/method","value":{{"intValue":"7"}}}}]}}]}}}},
        {{"name":"load","gauge":{{"dataPoints":[{{"timeUnixNano":2000000000,"asDouble":0.5,"flags":1}}]}}}}"#
    );
    let expected = [
        r#"{__name__="http_requests_total", http_method="GET;7", instance="i1", job="eu/shop"} 2000=3 from 1000"#,
        r#"{__name__="load", instance="i1", job="eu/shop"} 2000=stale from 0"#,
    ];
    check(SERVICE, &metrics, &Settings::default(), &expected);
    let (batch, _) = read(&request(SERVICE, &metrics), &Settings::default());
    let metadata: Vec<_> = batch.metadata.iter().map(|m| (m.family.as_str(), m.kind, m.help.as_str())).collect();
    assert_eq!(metadata, [("http_requests_total", MetricType::Counter, "Requests."), ("load", MetricType::Gauge, "")]);
}

#[test]
fn the_resource_becomes_target_info_and_what_is_promoted() {
    let more = format!(r#"{SERVICE},{{"key":"k8s.pod","value":{{"stringValue":"p"}}}}"#);
    let metrics = format!(r#"{{"name":"x","gauge":{{"dataPoints":[{{{TIMES},"asInt":1}}]}}}}"#);
    let x = r#"{__name__="x", instance="i1", job="eu/shop"} 2000=1 from 1000"#;
    let info = r#"{__name__="target_info", instance="i1", job="eu/shop", k8s_pod="p"} 2000=1 from 0"#;
    check(&more, &metrics, &Settings::default(), &[x, info]);
    let promoting = Settings { promote: Promote::Some(vec!["k8s.pod".to_owned()]), ..Settings::default() };
    let x = r#"{__name__="x", instance="i1", job="eu/shop", k8s_pod="p"} 2000=1 from 1000"#;
    check(&more, &metrics, &promoting, &[x, info]);
    let all_but = Promote::AllBut(vec!["service.instance.id".to_owned()]);
    let keeping = Settings {
        promote: all_but,
        keep_identifying: true,
        promote_scope: true,
        strategy: Strategy::NoTranslation,
        ..Settings::default()
    };
    let (batch, _) = read(&request(&more, &metrics), &keeping);
    let x = r#"{__name__="x", instance="i1", job="eu/shop", k8s.pod="p", otel_scope_a.b="s", otel_scope_name="lib", otel_scope_schema_url="u", otel_scope_version="1", service.name="shop", service.namespace="eu"} 2000=1 from 1000"#;
    let info = r#"{__name__="target_info", instance="i1", job="eu/shop", k8s.pod="p", service.instance.id="i1", service.name="shop", service.namespace="eu"} 2000=1 from 0"#;
    assert_eq!(series(&batch), [x, info]);
    // Without an identity there is nothing to join it with.
    let (batch, _) = read(&request(r#"{"key":"a","value":{"stringValue":"b"}}"#, &metrics), &Settings::default());
    assert_eq!(batch.series.len(), 1);
}

#[test]
fn target_info_covers_the_time_of_the_data_and_no_more() {
    let more = format!(r#"{SERVICE},{{"key":"a","value":{{"stringValue":"b"}}}}"#);
    let point = |seconds: u64| format!(r#"{{"timeUnixNano":"{seconds}000000000","asInt":1}}"#);
    let metrics =
        |first, last| format!(r#"{{"name":"x","gauge":{{"dataPoints":[{},{}]}}}}"#, point(first), point(last));
    let (batch, _) = read(&request(&more, &metrics(1000, 1400)), &Settings::default());
    let info = batch.series.last().unwrap();
    let times = &batch.times[info.samples.start as usize..info.samples.end as usize];
    assert_eq!(times, [1_000_000, 1_150_000, 1_300_000, 1_400_000]);
    let (batch, _) = read(&request(&more, &metrics(0, 4_000_000_000)), &Settings::default());
    assert!(batch.times.len() < 1010, "{}", batch.times.len());
}

const HISTOGRAM: &str = r#""count":"6","sum":9.5,"bucketCounts":["1","2","3"],"explicitBounds":[0.5,10],
    "exemplars":[{"timeUnixNano":"1500000000","asDouble":0.25,"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"},{"asInt":"12","filteredAttributes":[{"key":"k","value":{"stringValue":"v"}}]}]"#;

#[test]
fn histograms_are_classic_or_have_custom_buckets() {
    let metrics = format!(
        r#"{{"name":"d","unit":"s","histogram":{{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[{{{TIMES},{HISTOGRAM}}}]}}}}"#
    );
    let expected = [
        r#"{__name__="d_seconds_sum"} 2000=9.5 from 1000"#,
        r#"{__name__="d_seconds_count"} 2000=6 from 1000"#,
        r#"{__name__="d_seconds_bucket", le="0.5"} 2000=1 from 1000"#,
        r#"{__name__="d_seconds_bucket", le="10"} 2000=3 from 1000"#,
        r#"{__name__="d_seconds_bucket", le="+Inf"} 2000=6 from 1000"#,
    ];
    check("", &metrics, &Settings::default(), &expected);
    let (batch, _) = read(&request("", &metrics), &Settings::default());
    let exemplars: Vec<_> = batch.exemplars.iter().map(|e| (e.series, e.time, e.value)).collect();
    assert_eq!(exemplars, [(2, 1500, 0.25), (4, 2000, 12.0)]);
    let labels = |at: usize| {
        let range = &batch.exemplars[at].labels;
        Labels::from_label_bytes(&batch.bytes[range.start as usize..range.end as usize]).unwrap().to_string()
    };
    assert_eq!(labels(0), r#"{span_id="0102030405060708", trace_id="0102030405060708090a0b0c0d0e0f10"}"#);
    assert_eq!(labels(1), r#"{k="v"}"#);

    let custom = Settings { custom_buckets: true, ..Settings::default() };
    check("", &metrics, &custom, &[r#"{__name__="d_seconds"} 2000=histogram from 1000"#]);
    let (batch, _) = read(&request("", &metrics), &custom);
    let (_, histogram) = &batch.histograms[0];
    let expected = Histogram {
        schema: -53,
        count: 6.0,
        sum: 9.5,
        positive_spans: vec![varve_model::histogram::Span { offset: 0, length: 3 }],
        positive: vec![1.0, 2.0, 3.0],
        custom_bounds: vec![0.5, 10.0],
        ..Histogram::default()
    };
    assert_eq!((histogram, batch.exemplars.len()), (&expected, 2));
}

fn exponential(more: &str) -> (WriteBatch, Summary) {
    let metrics = format!(
        r#"{{"name":"e","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{{TIMES},{more}}}]}}}}"#
    );
    read(&request("", &metrics), &Settings::default())
}

#[test]
fn exponential_histograms_become_native_ones() {
    let buckets = r#""positive":{"offset":-1,"bucketCounts":["1","0","2"]},"negative":{"bucketCounts":[3]}"#;
    let (batch, _) = exponential(&format!(r#""count":8,"sum":-1.5,"scale":2,"zeroCount":"2",{buckets}"#));
    let (time, histogram) = &batch.histograms[0];
    assert_eq!((*time, histogram.schema, histogram.count, histogram.sum), (2000, 2, 8.0, -1.5));
    assert_eq!((histogram.zero_count, histogram.zero_threshold), (2.0, 1e-128));
    assert_eq!((histogram.positive_spans[0].offset, &histogram.positive[..]), (0, &[1.0, 0.0, 2.0][..]));
    assert_eq!((histogram.negative_spans[0].offset, &histogram.negative[..]), (1, &[3.0][..]));
    // Finer than Prometheus knows: pairs of buckets are joined.
    let (batch, _) = exponential(r#""count":10,"scale":9,"positive":{"offset":0,"bucketCounts":[1,2,3,4]}"#);
    assert_eq!((batch.histograms[0].1.schema, &batch.histograms[0].1.positive[..]), (8, &[3.0, 7.0][..]));
    let (batch, summary) = exponential(r#""count":1,"scale":-5,"positive":{"bucketCounts":[1]}"#);
    assert_eq!((batch.series.len(), summary.rejected), (0, 1));
    assert!(summary.warnings[0].contains("scale"), "{summary:?}");
    let (batch, summary) = exponential(r#""count":9,"scale":1,"positive":{"bucketCounts":[1]}"#);
    assert!(batch.histograms.is_empty());
    assert_eq!(summary.refused[0].reason, RefusalReason::InvalidHistogram);
    let (batch, _) = exponential(r#""count":9,"scale":1,"flags":1"#);
    assert!(is_stale(batch.histograms[0].1.sum));
}

#[test]
fn summaries_are_quantiles_sum_and_count() {
    let metrics = format!(
        r#"{{"name":"s","summary":{{"dataPoints":[{{{TIMES},"count":"4","sum":8,"quantileValues":[{{"quantile":0.5,"value":1}},{{"quantile":1,"value":3}}]}}]}}}}"#
    );
    let expected = [
        r#"{__name__="s_sum"} 2000=8 from 1000"#,
        r#"{__name__="s_count"} 2000=4 from 1000"#,
        r#"{__name__="s", quantile="0.5"} 2000=1 from 1000"#,
        r#"{__name__="s", quantile="1"} 2000=3 from 1000"#,
    ];
    check("", &metrics, &Settings::default(), &expected);
}

#[test]
fn deltas_are_refused_kept_or_named_for_summing_up() {
    let metrics = format!(
        r#"{{"name":"c","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{{{TIMES},"asInt":1}},{{{TIMES},"asInt":1}}]}}}},
           {{"name":"u","sum":{{"dataPoints":[{{{TIMES},"asInt":1}}]}}}},{{"name":"g","gauge":{{"dataPoints":[{{{TIMES},"asInt":1}}]}}}}"#
    );
    let with = |delta| read(&request("", &metrics), &Settings { delta, ..Settings::default() });
    let (batch, summary) = with(Delta::Refuse);
    assert_eq!((batch.series.len(), summary.rejected), (1, 3));
    let (batch, summary) = with(Delta::Native);
    assert_eq!((batch.series.len(), summary.rejected, &summary.deltas[..]), (3, 1, &[][..]));
    assert_eq!(batch.metadata[0].kind, MetricType::Unknown);
    let (batch, summary) = with(Delta::Cumulative);
    assert_eq!((batch.metadata[0].kind, &summary.deltas[..]), (MetricType::Counter, &[0, 1][..]));
}

#[test]
fn what_has_no_name_or_too_many_attributes_is_rejected_alone() {
    let attribute = r#"{"key":"a","value":{"stringValue":"b"}}"#;
    let many = vec![attribute; 200].join(",");
    let metrics = format!(
        r#"{{"name":"","gauge":{{"dataPoints":[{{{TIMES}}},{{{TIMES}}}]}}}},{{"name":"x","gauge":{{"dataPoints":[
           {{{TIMES},"attributes":[{many}]}},{{{TIMES},"attributes":[{{"key":""}}]}},{{{TIMES},"attributes":[{{"key":"__name__","value":{{"stringValue":"y"}}}}]}}]}}}},{{"name":"none"}}"#
    );
    let (batch, summary) = read(&request("", &metrics), &Settings::default());
    assert_eq!(series(&batch), [r#"{__name__="x"} 2000=0 from 1000"#]);
    assert_eq!(summary.rejected, 4);
    assert_eq!(summary.warnings.len(), 4, "{summary:?}");
}

#[test]
fn small_bodies_do_not_become_large_batches() {
    let limits = Limits { decompressed_bytes_max: 1 << 20, ..Limits::default() };
    let long = format!(r#"{{"key":"a","value":{{"stringValue":"{}"}}}}"#, "x".repeat(4000));
    let promote = Promote::AllBut(Vec::new());
    let points = vec!["{}"; 10_000].join(",");
    let json = request(&long, &format!(r#"{{"name":"x","gauge":{{"dataPoints":[{points}]}}}}"#));
    let mut batch = WriteBatch::default();
    let settings = Settings { promote, ..Settings::default() };
    let error = decode_json(json.as_bytes(), &settings, &limits, &mut batch).unwrap_err();
    assert!(matches!(error, Error::Limit { setting: "decompressed_bytes_max", .. }), "{error}");
    assert!(batch.series.is_empty() && batch.bytes.capacity() <= 4 << 20);
}

/// A rejected point was free: each cloned the labels of its resource and put the whole name of its metric into words.
#[test]
fn rejected_points_are_paid_for_and_told_in_short() {
    let limits = Limits { decompressed_bytes_max: 4 << 20, ..Limits::default() };
    let long = "x".repeat(20_000);
    let service = format!(r#"{{"key":"service.name","value":{{"stringValue":"{long}"}}}}"#);
    let with = |points: usize| {
        let points = vec![r#"{"scale":-5}"#; points].join(",");
        let metric = format!(
            r#"{{"name":"{long}","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{points}]}}}}"#
        );
        let mut batch = WriteBatch::default();
        decode_json(request(&service, &metric).as_bytes(), &Settings::default(), &limits, &mut batch)
    };
    let summary = with(100).unwrap();
    assert_eq!((summary.rejected, summary.warnings.len()), (100, 1));
    assert!(summary.warnings[0].len() < 300 && summary.warnings[0].contains("its scale -5"), "{summary:?}");
    let error = with(1000).unwrap_err();
    assert!(matches!(error, Error::Limit { setting: "decompressed_bytes_max", .. }), "{error}");
}

#[test]
fn a_sentence_is_kept_once() {
    let point = |key: &str| format!(r#"{{{TIMES},"attributes":[{{"key":"{key}"}}]}}"#);
    let metrics: Vec<String> = ["a", "b", "a", "b"]
        .map(|name| format!(r#"{{"name":"{name}","gauge":{{"dataPoints":[{}]}}}}"#, point("")))
        .to_vec();
    let (_, summary) = read(&request("", &metrics.join(",")), &Settings::default());
    assert_eq!((summary.rejected, summary.warnings.len()), (4, 2), "{summary:?}");
}
