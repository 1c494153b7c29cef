//! What the corpus begins with: small inputs that each reach another corner of their target.

mod storage;
mod tsdb;

use std::io::Write;

use varve_engine::codec::gorilla::Appender;
use varve_engine::codec::values::Effort;
use varve_engine::codec::{histogram, times, values};
use varve_model::histogram::{ResetHint, Span};
use varve_model::labels::push_label;
use varve_model::write::{Metadata, MetricType, WriteExemplar};
use varve_model::{Histogram, Millis, STALE_NAN_BITS, WriteBatch};
use varve_protocol::remote_write;

/// Name and content.
pub(crate) type Seed = (String, Vec<u8>);

/// The seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Seed> {
    let texts = |texts: &[(&str, &str)]| texts.iter().map(|(name, text)| seed(name, *text)).collect();
    match target {
        "batches" => storage::batches(),
        "deletion" => storage::deletions(),
        "exposition" => texts(EXPOSITION),
        "gorilla" => columns().iter().map(|(name, times, values)| seed(name, gorilla_of(times, values))).collect(),
        "histograms" => histogram_chunks(),
        "inflate" => inflate(),
        "influx" => texts(INFLUX),
        "label_bytes" => label_bytes(),
        "log_file" => storage::log_files(),
        "manifest" => storage::manifests(),
        "otlp" => otlp(),
        "promql" => texts(PROMQL),
        "record" => storage::records(),
        "remote_read" => remote_reads(),
        "remote_write" => remote_writes(),
        "remote_write_v2" => remote_writes_v2(),
        "scrape" => scrapes(),
        "scrape_config" => texts(SCRAPE_CONFIG),
        "segment" => storage::segments(),
        "times" => columns().iter().map(|(name, column, _)| seed(name, times_of(column))).collect(),
        "tsdb" => tsdb::tsdb(),
        "values" => columns().iter().flat_map(|(name, _, column)| values_of(name, column)).collect(),
        _ => Vec::new(),
    }
}

fn seed(name: &str, content: impl Into<Vec<u8>>) -> Seed {
    (name.to_owned(), content.into())
}

/// A body of each format.
fn scrapes() -> Vec<Seed> {
    let bytes = |number: u8, inner: &[u8]| [&[number << 3 | 2, inner.len() as u8], inner].concat();
    let double = |number: u8, value: f64| [&[number << 3 | 1], &value.to_le_bytes()[..]].concat();
    let bucket = [&[8, 2][..], &double(2, 0.5)].concat();
    let body = |spans: &[u8]| {
        let histogram = [
            &[8, 6][..],
            &double(2, 8.0),
            &bytes(3, &bucket),
            &[0x28, 6],
            &double(6, 0.001),
            &[0x38, 1],
            spans,
            &bytes(13, &[4, 2]),
            &bytes(15, &[8, 77]),
        ]
        .concat();
        let labels = bytes(1, &[bytes(1, b"x"), bytes(2, b"y")].concat());
        let metric = [labels, bytes(7, &histogram), vec![0x30, 99]].concat();
        let family = [bytes(1, b"h"), bytes(2, b"help"), vec![0x18, 4], bytes(4, &metric)].concat();
        [&[family.len() as u8][..], &family].concat()
    };
    // The second span leads back: counts and spans did not fit each other.
    let back = [bytes(12, &[8, 6, 16, 1]), bytes(12, &[8, 3, 16, 1])].concat();
    let text = "# TYPE h histogram\nh_bucket{le=\"1\",x=\"y\"} 1\nh_bucket{le=\"+Inf\",x=\"y\"} 3 99\nh_sum{x=\"y\"} 4\nh_count{x=\"y\"} 3\n{\"a.b\",c=\"d\"} NaN\n";
    let open = "# TYPE c counter\n# UNIT c_s s\nc_total{a=\"b\\n\"} 1 2.5 # {id=\"1\"} 0.5 3\n# EOF\n";
    let (usual, back) = (body(&bytes(12, &[8, 0, 16, 2])), body(&back));
    vec![seed("protobuf", usual), seed("spans-that-lead-back", back), seed("text", text), seed("open-metrics", open)]
}

const SCRAPE_CONFIG: &[(&str, &str)] = &[(
    "usual",
    "global: {scrape_interval: 15s, external_labels: {a: b}}\nrule_files: [x]\nscrape_configs:\n- job_name: a\n  honor_labels: true\n\
     \x20 params: {p: [q]}\n  basic_auth: {username: u, password: p}\n  static_configs:\n  - targets: ['h:1']\n    labels: &l {e: f}\n\
     \x20 - {targets: [i], labels: *l}\n  relabel_configs:\n  - {source_labels: [a, b], regex: '(.*)x', target_label: c, replacement: $1}\n\
     - job_name: b\n  dns_sd_configs: [{names: [n]}]\n  file_sd_configs: [{files: ['*.json']}]\n  body_size_limit: 1MB\n",
)];

const EXPOSITION: &[(&str, &str)] = &[
    (
        "text",
        "# HELP http_requests_total Requests, \\\"all\\\" of\\nthem \\\\.\n# TYPE http_requests_total counter\n\
         http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
         http_requests_total{method=\"post\",code=\"400\",}    3 1395066363000\n\n\
         msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find:\\n\\\"FILE.TXT\\\"\"} 1.458e9\n\
         something_weird{problem=\"division by zero\"} +Inf -3982045\n# A comment\nup NaN\n",
    ),
    (
        "quoted",
        "# TYPE \"http.requests\" gauge\n{\"http.requests\",\"job\"=\"x\",exported_job=\"y\", \"a \\\"b\"=\"é\"} 1\n{a=\"\",\"ü\"} 2\r\n",
    ),
    (
        "open-metrics",
        "# TYPE foo histogram\n# UNIT foo seconds\n# HELP foo Says \\\"foo\\\".\nfoo_bucket{le=\"0.1\"} 8 1520879607.789 # {id=\"a\"} 0.05 1520879607.5\n\
         foo_bucket{le=\"+Inf\"} 17 # {} 0.67\nfoo_created 1520430000.123\n# TYPE s stateset\ns{s=\"a\"} 1\n# EOF\n",
    ),
    ("bad", "a{b=\"c\" 1\n"),
];

const INFLUX: &[(&str, &str)] = &[
    ("fields", "# all kinds\ncpu,host=a,re\\ gion=e\\,u idle=1.5e3,n=-4i,u=5u,on=t,s=\"x \\\" y\nz\" 1700000000\n\r\n"),
    ("bad", "m v=1\nm\n,v=1\nm,t v=1\nm v=x\nm v=\"\nm v=1 1 1\n"),
];

const OTLP: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}},
{"key":"a.b","value":{"kvlistValue":{"values":[{"key":"k","value":{"arrayValue":{"values":[{"intValue":"-1"},{"boolValue":true},{"doubleValue":1e-9},{"bytesValue":"AQ=="}]}}}]}}}]},
"scopeMetrics":[{"scope":{"name":"l","attributes":[{"key":"x"}]},"schemaUrl":"u","metrics":[
{"name":"c.d","unit":"By/s","description":"h","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"timeUnixNano":"2000000","asInt":"3","attributes":[{"key":"1","value":{"stringValue":"v"}}],"exemplars":[{"asDouble":1,"traceId":"0102030405060708090a0b0c0d0e0f10"}]}]}},
{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":3,"sum":1.5,"bucketCounts":["1",2],"explicitBounds":[0.5],"exemplars":[{"asInt":1}]}]}},
{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"count":4,"scale":10,"zeroCount":1,"positive":{"offset":-1,"bucketCounts":["1","0","2"]},"negative":{}}]}},
{"name":"q","summary":{"dataPoints":[{"count":1,"sum":2,"flags":1,"quantileValues":[{"quantile":0.5,"value":"NaN"}]}]}}]}]}]}"#;

const PROMQL: &[(&str, &str)] = &[
    ("rate", "sum by (job, le) (rate(http_requests_total{code=~\"5..\",job!=\"a\",x!~\"b|c\"}[5m] offset -1h30m))"),
    ("binary", "-1 ^ 2 * a{} == bool on (x) group_left (y) b unless ignoring () c or d atan2 0x1F % 1e-3"),
    ("subquery", "max_over_time(deriv(x[1m])[1h:30s] @ end() offset 5m) @ 1609746000.5 > +Inf"),
    ("quoted", "{\"http.requests\", \"a b\"='c\\n\\'', __name__=~`.+`} # comment\n+ topk without (é) (3, {a=\"\"})"),
    (
        "functions",
        "histogram_quantile(0.9, label_replace(x, \"a\", \"$1\", \"b\", \"(.*)\")) + time() - scalar(vector(1))",
    ),
    ("strings", "label_join(up, \"\\x41\\u00e9\", \"\\101\", 'x', \"y\") + count_values(\"v\", z)"),
    ("experimental", "limitk(2, x) + rate(x[5m+step()] anchored) + a smoothed + fill_left(1)"),
    ("bad", "sum(rate(x[5m)"),
];

/// Columns of every kind the encodings tell apart.
fn columns() -> Vec<(&'static str, Vec<i64>, Vec<f64>)> {
    let regular = |count: i64| (0..count).map(|i| 1_790_000_000_000 + i * 15_000).collect::<Vec<_>>();
    let mut state = 9u64;
    let mut noise = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 33
    };
    let jittered: Vec<_> = regular(60).iter().map(|time| time + (noise() % 200) as i64).collect();
    let gaps: Vec<_> = (0..50i64).map(|i| i * 1_000 + 600_000 * (i / 17)).collect();
    let odd = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE / 2.0, f64::MAX];
    let odd: Vec<_> =
        odd.into_iter().chain([f64::from_bits(STALE_NAN_BITS), f64::from_bits(0xfff8_0000_dead_beef)]).collect();
    vec![
        ("constant", regular(40), vec![42.0; 40]),
        ("counter", regular(60), (0..60).map(|i| f64::from(i * 37)).collect()),
        ("decimals", jittered.clone(), jittered.iter().map(|time| (time % 997) as f64 / 100.0).collect()),
        (
            "exceptions",
            gaps.clone(),
            gaps.iter().map(|&t| if t % 7 == 0 { f64::NAN } else { t as f64 / 10.0 }).collect(),
        ),
        ("noise", jittered.clone(), jittered.iter().map(|_| f64::from_bits(noise() << 31 | noise())).collect()),
        ("odd", regular(9), odd),
        ("one", vec![i64::MIN], vec![1.0 / 3.0]),
        ("planes", regular(150), (0..150).map(|i| f64::from(i % 3 * 1_000_003) / 7.0 + f64::from(i)).collect()),
        ("steps", regular(200), (0..200).map(|i| f64::from(i * i % 11) * 1234.5).collect()),
        ("two", vec![i64::MIN, i64::MAX], vec![f64::MIN, f64::MAX]),
    ]
}

fn counted(count: usize, bytes: &[u8]) -> Vec<u8> {
    [&(count as u16).to_le_bytes(), bytes].concat()
}

fn gorilla_of(times: &[i64], values: &[f64]) -> Vec<u8> {
    let mut appender = Appender::new();
    times.iter().zip(values).for_each(|(&time, &value)| appender.push(time, value));
    counted(times.len(), appender.bytes())
}

fn times_of(column: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    times::encode(column, &mut out);
    counted(column.len(), &out)
}

/// Hot, and cold where that is another encoding.
fn values_of(name: &str, column: &[f64]) -> Vec<Seed> {
    let encode = |effort| {
        let mut out = Vec::new();
        values::encode(column, effort, &mut out);
        counted(column.len(), &out)
    };
    let mut seeds = vec![(name.to_owned(), encode(Effort::Hot)), (format!("{name}-cold"), encode(Effort::Cold))];
    seeds.dedup_by(|cold, hot| cold.1 == hot.1);
    seeds
}

fn histogram_chunks() -> Vec<Seed> {
    let encode = |histograms: &[Histogram]| {
        let mut out = Vec::new();
        histogram::encode(histograms, &mut out);
        counted(histograms.len(), &out)
    };
    let kinds: Vec<_> = histograms(1).into_iter().map(|(_, histogram)| histogram).collect();
    let stale = Histogram { sum: f64::from_bits(STALE_NAN_BITS), ..Histogram::default() };
    let counter: Vec<_> = (0..8).map(|i| Histogram { count: 9.0 + f64::from(i), ..kinds[0].clone() }).collect();
    vec![seed("kinds", encode(&kinds)), seed("counter", encode(&counter)), seed("stale", encode(&[stale]))]
}

fn inflate() -> Vec<Seed> {
    let plain = b"the same words again and again, the same words again and again, and then an end".as_slice();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(plain).unwrap();
    let gz = gz.finish().unwrap();
    let bomb = snap::raw::Encoder::new().compress_vec(&[0; 70_000]).unwrap();
    vec![
        seed("snappy", snap::raw::Encoder::new().compress_vec(plain).unwrap()),
        seed("snappy-bomb", &bomb[..200]),
        seed("gzip-twice", [&gz[..], &gz[..]].concat()),
        seed("gzip", gz),
        seed("zstd", zstd::stream::encode_all(plain, 3).unwrap()),
        seed("zstd-bomb", zstd::stream::encode_all(&[0; 70_000][..], 3).unwrap()),
    ]
}

fn label_bytes() -> Vec<Seed> {
    let mut labels = Vec::new();
    push_label(&mut labels, b"__name__", b"up");
    push_label(&mut labels, b"job", "é".repeat(80).as_bytes());
    let mut odd = labels.clone();
    push_label(&mut odd, b"a", b"");
    push_label(&mut odd, b"a b", b"c");
    vec![seed("labels", labels), seed("odd", odd)]
}

/// One of each kind, a millisecond apart.
fn histograms(first: Millis) -> Vec<(Millis, Histogram)> {
    let span = |offset, length| Span { offset, length };
    let integer = Histogram {
        schema: 3,
        reset_hint: ResetHint::NoReset,
        zero_threshold: 1e-128,
        zero_count: 1.0,
        count: 9.0,
        sum: 2.5,
        positive_spans: vec![span(-2, 2), span(3, 1)],
        positive: vec![1.0, 3.0, 2.0],
        negative_spans: vec![span(0, 1)],
        negative: vec![2.0],
        ..Histogram::default()
    };
    let float = Histogram { is_float: true, count: 9.5, ..integer.clone() };
    let custom = Histogram {
        schema: -53,
        count: 3.0,
        sum: 4.0,
        positive_spans: vec![span(0, 2)],
        positive: vec![1.0, 2.0],
        custom_bounds: vec![0.5],
        ..Histogram::default()
    };
    (first..).zip([integer, float, custom]).collect()
}

/// Two series, one with a stale marker and one with a long label.
fn floats() -> WriteBatch {
    let mut floats = WriteBatch::default();
    floats.push_series([("__name__", "up"), ("job", "varve"), ("instance", "127.0.0.1:8278")].into_iter());
    floats.push_sample(1_790_000_000_000, 1.0);
    floats.push_sample(1_790_000_015_000, f64::from_bits(STALE_NAN_BITS));
    floats.push_series([("__name__", "a"), ("long", &*"x".repeat(130))].into_iter());
    floats.push_sample(-1, -0.0);
    floats
}

/// One series with histograms and an exemplar, and its metadata.
fn rich() -> WriteBatch {
    let mut rich = WriteBatch::default();
    rich.push_series([("__name__", "h")].into_iter());
    for (time, histogram) in histograms(1) {
        rich.push_histogram(time, histogram);
    }
    let begin = rich.bytes.len() as u32;
    push_label(&mut rich.bytes, b"trace_id", b"abc");
    let labels = begin..rich.bytes.len() as u32;
    rich.exemplars.push(WriteExemplar { series: 0, labels, time: 4, value: 0.5 });
    rich.metadata.push(Metadata {
        family: "h".to_owned(),
        kind: MetricType::Histogram,
        help: "Seconds.".to_owned(),
        unit: "s".to_owned(),
    });
    rich
}

fn remote_writes() -> Vec<Seed> {
    let encode = |batch: &WriteBatch| {
        let mut body = Vec::new();
        remote_write::encode_v1(batch, &mut body);
        body
    };
    // Legal, but not how senders write: value before name, a padded length, a label after a sample, unknown fields.
    let odd = [
        &[0x0a, 0x20][..],
        &[0x0a, 0x88, 0x00, 0x12, 1, b'v', 0x0a, 3, b'n', b'a', b'm'],
        &[0x12, 0x02, 0x10, 0x07],
        &[0x0a, 0x06, 0x0a, 1, b'b', 0x12, 1, b'c'],
        &[0x0a, 0x03, 0x0a, 1, b'e', 0x78, 0x05],
        &[0x7d, 1, 2, 3, 4],
    ]
    .concat();
    vec![seed("floats", encode(&floats())), seed("rich", encode(&rich())), seed("odd", odd)]
}

fn remote_writes_v2() -> Vec<Seed> {
    let encode = |batch: &WriteBatch| {
        let mut body = Vec::new();
        remote_write::encode_v2(batch, &mut body);
        body
    };
    let mut started = rich();
    started.starts = (0..started.times.len() as i64).collect();
    started.histogram_starts = (1..=started.histograms.len() as i64).collect();
    // Symbols behind the series, references not packed, a draft's created timestamp, an unknown field.
    let odd = [
        &[0x2a, 0x15, 0x08, 1, 0x08, 2, 0x12, 2, 0x10, 7][..],
        &[0x22, 4, 0x0a, 0x00, 0x10, 9, 0x30, 5, 0x7d, 1, 2, 3, 4],
        &[0x22, 0, 0x22, 8],
        b"__name__",
        &[0x22, 2, b'u', b'p'],
    ]
    .concat();
    vec![
        seed("floats", encode(&floats())),
        seed("rich", encode(&rich())),
        seed("starts", encode(&started)),
        seed("odd", odd),
    ]
}

/// The same request in both forms.
fn otlp() -> Vec<Seed> {
    // Resource with a service name; a gauge, a sum with an exemplar, an exponential histogram.
    let wrap = |field: u8, inner: &[u8]| [&[field << 3 | 2, inner.len() as u8], inner].concat();
    let text = |field: u8, text: &str| wrap(field, text.as_bytes());
    let pair = |key: &str, value: &[u8]| [text(1, key), wrap(2, value)].concat();
    let fixed = |field: u8, bits: u64| [&[field << 3 | 1][..], &bits.to_le_bytes()].concat();
    let resource = [pair("service.name", &text(1, "s")), pair("k", &[0x18, 7])].map(|p| wrap(1, &p)).concat();
    let exemplar = [fixed(6, 3), wrap(4, &[1; 8])].concat();
    let point =
        [fixed(2, 1), fixed(3, 2_000_000), fixed(4, 1.5f64.to_bits()), wrap(5, &exemplar), vec![0x40, 0]].concat();
    let gauge = [text(1, "g"), text(3, "1"), wrap(5, &wrap(1, &point))].concat();
    let sum = [text(1, "s"), wrap(7, &[wrap(1, &point), vec![0x10, 2, 0x18, 1]].concat())].concat();
    let buckets = [vec![0x08, 1], wrap(2, &[1, 0, 2])].concat();
    let native = [fixed(3, 5_000_000), fixed(4, 3), vec![0x30, 4], wrap(8, &buckets)].concat();
    let native = [text(1, "n"), wrap(10, &[wrap(1, &native), vec![0x10, 2]].concat())].concat();
    let metrics = [gauge, sum, native].map(|metric| wrap(2, &metric)).concat();
    // Longer than a one-byte length can say.
    let long = |field: u8, inner: &[u8]| {
        [&[field << 3 | 2, inner.len() as u8 | 0x80, (inner.len() >> 7) as u8], inner].concat()
    };
    let request = long(1, &[wrap(1, &resource), long(2, &metrics)].concat());
    vec![seed("json", OTLP), seed("protobuf", request)]
}

fn remote_reads() -> Vec<Seed> {
    let wrap = |field: u8, inner: &[u8]| [&[field << 3 | 2, inner.len() as u8], inner].concat();
    let matcher = |op: u8| wrap(3, &[&[0x08, op][..], &wrap(2, b"job"), &wrap(3, b"a.*")].concat());
    let query = [&[0x08, 5, 0x10, 9][..], &matcher(0), &matcher(2), &matcher(3), &wrap(4, &[0x08, 1])].concat();
    vec![
        seed("chunks", [wrap(1, &query), wrap(2, &[1, 0])].concat()),
        seed("samples", [wrap(1, &query), wrap(1, &[]), vec![0x10, 0]].concat()),
    ]
}
