//! Bodies of all three formats, and what Prometheus makes of them.

use proptest::prelude::*;

use super::*;
use crate::protobuf::push_varint;

/// What a body gives, as text.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
}

impl Visitor for Said {
    fn metadata(&mut self, family: &str, part: Part<'_>) {
        self.lines.push(format!("{family} {part:?}"));
    }

    fn sample(&mut self, sample: Sample<'_>) -> Result<(), String> {
        let mut pairs = Vec::new();
        labels_of(sample.series, sample.kind, &mut pairs)?;
        let labels: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let value = match sample.value {
            Value::Float(value) => format!("{value}"),
            Value::Histogram(h) => {
                format!("h{} {} {:?}{:?} {:?}", h.count, h.sum, h.positive_spans, h.positive, h.custom_bounds)
            }
        };
        let exemplars: Vec<String> =
            sample.exemplars.iter().map(|e| format!(" # {:?} {} {:?}", e.labels, e.value, e.time)).collect();
        let time = sample.time.map(|time| format!(" @{time}")).unwrap_or_default();
        let start = if sample.start == 0 { String::new() } else { format!(" since {}", sample.start) };
        self.lines.push(format!("{} {value}{time}{start}{}", labels.join(","), exemplars.concat()));
        Ok(())
    }
}

fn said(body: &[u8], media: Media, options: Options) -> Result<Vec<String>, String> {
    let mut said = Said::default();
    read(body, media, options, &mut said).map(|()| said.lines)
}

fn text(body: &str) -> Result<Vec<String>, String> {
    said(format!("{body}\n").as_bytes(), Media::Text, Options::default())
}

fn open_metrics(body: &str) -> Result<Vec<String>, String> {
    said(body.as_bytes(), Media::OpenMetrics, Options::default())
}

#[test]
fn the_text_format_is_read_as_prometheus_reads_it() {
    let body = "# HELP a \\\\ and \\n help\n# TYPE a histogram\n#no comment\n# a comment\n  \n\n\
                a_bucket { le = \"10\" , x=\"q\\\"\\\\\\n\\z\", } 1e3  1234\n\ta_sum 2\n\
                {\"utf.8\",\"l b\"=\"v\"} NaN\nb{} -Inf -0";
    // A timestamp has no sign.
    assert!(text(body).unwrap_err().starts_with("expected timestamp or new record, got \"-\""), "{:?}", text(body));
    let lines = text(body.strip_suffix(" -0").unwrap()).unwrap();
    assert_eq!(
        lines,
        [
            "a Help(\"\\\\ and \\n help\")",
            "a Type(Histogram)",
            "__name__=a_bucket,le=10.0,x=q\"\\\n\\z 1000 @1234",
            "__name__=a_sum 2",
            "__name__=utf.8,l b=v NaN",
            "__name__=b -inf",
        ]
    );
}

#[test]
fn a_broken_text_says_where() {
    for (body, what) in [
        ("a", "expected value after metric, got \"\\n\" (\"INVALID\") while parsing: \"a\\n\""),
        ("a{b='c'} 1", "expected label value, got \"'\" (\"INVALID\") while parsing: \"a{b='\""),
        ("a{b=\"c\"} x", "strconv.ParseFloat: parsing \"x\": invalid syntax while parsing: \"a{b=\\\"c\\\"} x\""),
        ("a{\"b\"} 1", "metric name already set while parsing: \"a{\\\"b\\\"}\""),
        ("{b=\"c\"} 1", "metric name not set while parsing"),
        ("a{b=\"c\" 1", "expected label name"),
        ("a 1 2 3", "expected next entry after timestamp"),
        ("a 1 99999999999999999999", "value out of range"),
        ("# TYPE a nosuch", "invalid metric type \"nosuch\""),
        ("# TYPE a gaugehistogram", "invalid metric type"),
        ("# TYPE  1", "expected metric name after TYPE"),
        ("<html>", "expected a valid start token, got \"<\" (\"INVALID\") while parsing: \"<\""),
        ("a 1_0", "unsupported character in float"),
    ] {
        let error = text(body).unwrap_err();
        assert!(error.starts_with(what) || error.contains(what), "{body}: {error}");
    }
    assert_eq!(
        said(b"a{b=\"\xff\"} 1\n", Media::Text, Options::default()).unwrap_err(),
        "invalid UTF-8 label value: \"\\\"\u{fffd}\\\"\""
    );
}

#[test]
fn open_metrics_is_strict() {
    let body = "# TYPE a counter\n# UNIT a_s s\n# HELP a say \\\"x\\\"\n\
                a_total{b=\"c\"} 1 1.5 # {id=\"1\"} 0.5 2\na_created{b=\"c\"} 3\n{\"x\"} 1 # {} 2\n# EOF\n";
    assert_eq!(
        open_metrics(body).unwrap(),
        [
            "a Type(Counter)",
            "a_s Unit(\"s\")",
            "a Help(\"say \\\"x\\\"\")",
            "__name__=a_total,b=c 1 @1500 # [(\"id\", \"1\")] 0.5 Some(2000)",
            "__name__=a_created,b=c 3",
            "__name__=x 1 # [] 2 None",
        ]
    );
    for (body, what) in [
        ("a 1\n", "data does not end with # EOF"),
        ("a 1\n# EOF\nb 1\n", "unexpected data after # EOF"),
        ("a  1\n# EOF\n", "expected value after metric"),
        ("\na 1\n# EOF\n", "expected a valid start token"),
        ("# comment\n# EOF\n", "expected a valid start token"),
        ("a{b=\"c\" ,} 1\n# EOF\n", "expected comma or brace close"),
        ("# UNIT a_s ms\n# EOF\n", "unit \"ms\" not a suffix of metric \"a_s\""),
        ("a 1 NaN\n# EOF\n", "invalid timestamp NaN"),
        ("# TYPE a untyped\n# EOF\n", "invalid metric type"),
    ] {
        let error = open_metrics(body).unwrap_err();
        assert!(error.contains(what), "{body}: {error}");
    }
    assert_eq!(open_metrics("# EOF"), Ok(vec![]));
}

#[test]
fn classic_histograms_become_native() {
    let options = Options { to_custom_buckets: true, ..Options::default() };
    let body = "# TYPE h histogram\nh_bucket{x=\"1\",le=\"1\"} 2\nh_bucket{x=\"1\",le=\"+Inf\"} 5\nh_sum{x=\"1\"} 9\n\
                h_count{x=\"1\"} 5\nh_bucket{x=\"2\",le=\"1\"} 1.5\nh_count{x=\"2\"} 1.5\nh_sum{x=\"2\"} 1\n\
                h_bucket{x=\"3\",le=\"1\"} 7\nh_count{x=\"3\"} 5\n# TYPE g gauge\nh_count 3\n";
    let native = [
        "__name__=h,x=1 h5 9 [Span { offset: 0, length: 2 }][2.0, 3.0] [1.0]",
        "__name__=h,x=2 h1.5 1 [Span { offset: 0, length: 1 }][1.5] [1.0]",
    ];
    let lines = said(body.as_bytes(), Media::Text, options).unwrap();
    assert_eq!(lines.len(), 5, "what contradicts itself is no histogram: {lines:#?}");
    assert_eq!(lines[1..3], native);
    let both = said(body.as_bytes(), Media::Text, Options { classic_too: true, ..options }).unwrap();
    assert_eq!(both.len(), 5 + 9);
    assert!(native.iter().all(|line| both.iter().any(|other| other == line)));
}

/// A message, written field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn bytes(mut self, number: u64, bytes: &[u8]) -> Message {
        push_varint(&mut self.0, number << 3 | 2);
        push_varint(&mut self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn varint(mut self, number: u64, value: u64) -> Message {
        push_varint(&mut self.0, number << 3);
        push_varint(&mut self.0, value);
        self
    }

    fn double(mut self, number: u64, value: f64) -> Message {
        push_varint(&mut self.0, number << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn label(self, number: u64, name: &str, value: &str) -> Message {
        let pair = Message::default().bytes(1, name.as_bytes()).bytes(2, value.as_bytes());
        self.bytes(number, &pair.0)
    }

    fn delimited(self) -> Vec<u8> {
        let mut out = Vec::new();
        push_varint(&mut out, self.0.len() as u64);
        out.extend_from_slice(&self.0);
        out
    }
}

fn family(name: &str, kind: u64, metric: Message) -> Vec<u8> {
    Message::default()
        .bytes(1, name.as_bytes())
        .bytes(4, &metric.0)
        .bytes(2, b"help")
        .varint(3, kind)
        .bytes(5, b"seconds")
        .delimited()
}

fn sample_histogram() -> Vec<u8> {
    let start = Message::default().varint(1, 77).varint(2, 5_000_000);
    let exemplar = Message::default().label(1, "id", "7").double(2, 1.5).bytes(3, &start.0);
    let bucket = |bound, count| Message::default().varint(1, count).double(2, bound);
    let span = |offset, length| Message::default().varint(1, offset).varint(2, length);
    let histogram = Message::default()
        .varint(1, 6)
        .double(2, 8.0)
        .bytes(3, &bucket(0.5, 2).bytes(3, &exemplar.0).0)
        .bytes(3, &bucket(1e6, 5).0)
        .varint(5, 6)
        .double(6, 0.001)
        .varint(7, 1)
        .bytes(12, &span(0, 2).0)
        .bytes(13, &[4, 2])
        .bytes(15, &start.0);
    let metric = Message::default().label(1, "x", "y").bytes(7, &histogram.0).varint(6, 99);
    family("h", 4, metric)
}

#[test]
fn families_are_read_with_histograms_exemplars_and_starts() {
    let counter = Message::default()
        .double(1, 3.0)
        .bytes(2, &Message::default().label(1, "id", "1").double(2, 2.0).0)
        .bytes(3, &Message::default().varint(1, 12).0);
    let quantile = Message::default().double(1, 0.5).double(2, 7.0);
    let summary = Message::default().varint(1, 4).double(2, 5.0).bytes(3, &quantile.0);
    let mut body = family("c_total", 0, Message::default().label(1, "a", "b").bytes(3, &counter.0));
    body.extend(family("s", 2, Message::default().bytes(4, &summary.0)));
    body.extend(family("g", 1, Message::default().bytes(2, &Message::default().double(1, f64::NAN).0)));
    assert_eq!(
        said(&body, Media::Protobuf, Options::default()).unwrap(),
        [
            "c_total Help(\"help\")",
            "c_total Unit(\"seconds\")",
            "c_total Type(Counter)",
            "__name__=c_total,a=b 3 since 12000 # [(\"id\", \"1\")] 2 None",
            "s Help(\"help\")",
            "s Unit(\"seconds\")",
            "s Type(Summary)",
            "__name__=s_count 4",
            "__name__=s_sum 5",
            "__name__=s,quantile=0.5 7",
            "g Help(\"help\")",
            "g Unit(\"seconds\")",
            "g Type(Gauge)",
            "__name__=g NaN",
        ]
    );
}

#[test]
fn a_histogram_is_given_as_asked() {
    let body = sample_histogram();
    let native = "__name__=h,x=y h6 8 [Span { offset: 0, length: 2 }][2.0, 3.0] [] @99 since 77005 \
                  # [(\"id\", \"7\")] 1.5 Some(77005)";
    let classic = [
        "__name__=h_count,x=y 6 @99 since 77005",
        "__name__=h_sum,x=y 8 @99 since 77005",
        "__name__=h_bucket,x=y,le=0.5 2 @99 since 77005 # [(\"id\", \"7\")] 1.5 Some(77005)",
        "__name__=h_bucket,x=y,le=1e+06 5 @99 since 77005",
        "__name__=h_bucket,x=y,le=+Inf 6 @99 since 77005",
    ];
    let of = |options| said(&body, Media::Protobuf, options).unwrap().split_off(3);
    assert_eq!(of(Options::default()), classic);
    assert_eq!(of(Options { native_histograms: true, ..Options::default() }), [native]);
    let both = of(Options { native_histograms: true, classic_too: true, ..Options::default() });
    assert_eq!(both[0], native);
    assert_eq!(both[1..], classic);
    let custom = of(Options { to_custom_buckets: true, ..Options::default() });
    assert_eq!(custom.len(), 1);
    assert!(
        custom[0].starts_with("__name__=h,x=y h6 8 [Span { offset: 0, length: 3 }][2.0, 3.0, 1.0] [0.5, 1000000.0]")
    );
}

#[test]
fn the_format_is_that_of_the_content_type() {
    let of = |content_type: &str| Media::of(content_type, None);
    assert_eq!(of("text/plain; version=0.0.4"), Ok(Media::Text));
    assert_eq!(of("application/openmetrics-text;version=1.0.0"), Ok(Media::OpenMetrics));
    assert_eq!(of("application/vnd.google.protobuf; encoding=delimited"), Ok(Media::Protobuf));
    assert!(of("text/html").unwrap_err().contains("received unsupported Content-Type \"text/html\""));
    assert!(of("").unwrap_err().contains("blank Content-Type"));
    assert_eq!(Media::of("text/html", Some(Media::Text)), Ok(Media::Text));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        media in prop_oneof![Just(Media::Text), Just(Media::OpenMetrics), Just(Media::Protobuf)],
        native_histograms in any::<bool>(),
        to_custom_buckets in any::<bool>(),
    ) {
        let _ = said(&bytes, media, Options { native_histograms, to_custom_buckets, classic_too: false });
    }

    #[test]
    fn no_damage_panics(cut in 0usize..200, byte in any::<u8>(), at in 0usize..200) {
        let mut body = sample_histogram();
        let at = at % body.len();
        body[at] = byte;
        body.truncate(body.len().saturating_sub(cut % 50));
        let options = Options { native_histograms: true, classic_too: true, to_custom_buckets: true };
        let _ = said(&body, Media::Protobuf, options);
    }

    #[test]
    fn lines_of_grammar_are_read_in_both_formats(line in "[a-z_]{1,4}(\\{([a-z]=\"[^\"\\\\\n]{0,4}\",){0,3}\\})? [0-9]{1,5}") {
        let mut both = vec![said(format!("{line}\n").as_bytes(), Media::Text, Options::default())];
        both.push(said(format!("{line}\n# EOF\n").as_bytes(), Media::OpenMetrics, Options::default()));
        prop_assert!(both[0].is_ok(), "{:?}", both[0]);
        prop_assert_eq!(&both[0], &both[1]);
    }
}
