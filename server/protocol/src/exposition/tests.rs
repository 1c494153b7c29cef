//! Texts and what they mean, as tables; then texts nobody would write.

use proptest::prelude::*;
use varve_model::Labels;

use super::*;

const NOW: Millis = 1_000;

fn read(text: &str, format: Format) -> Result<WriteBatch, String> {
    let mut batch = WriteBatch::default();
    match decode(text.as_bytes(), format, NOW, &[], &Limits::default(), &mut batch) {
        Ok(_) => Ok(batch),
        Err(error) => {
            assert_eq!(batch, WriteBatch::default(), "nothing is left of a refused text");
            Err(error.to_string())
        }
    }
}

/// `{labels} time=value, …` one series a line; exemplars and metadata after them.
fn print(batch: &WriteBatch) -> String {
    let labels = |bytes: &[u8]| Labels::from_label_bytes(bytes).unwrap().to_string();
    let mut out = Vec::new();
    for series in &batch.series {
        assert_eq!(Some(series.hash), SeriesHash::of(batch.label_bytes(series)));
        let samples: Vec<_> = (series.samples.start as usize..series.samples.end as usize)
            .map(|i| format!("{}={}", batch.times[i], batch.values[i]))
            .collect();
        out.push(format!("{} {}", labels(batch.label_bytes(series)), samples.join(" ")));
    }
    for exemplar in &batch.exemplars {
        let bytes = &batch.bytes[exemplar.labels.start as usize..exemplar.labels.end as usize];
        out.push(format!("exemplar {} {} {}={}", exemplar.series, labels(bytes), exemplar.time, exemplar.value));
    }
    for m in &batch.metadata {
        out.push(format!("{} {} {:?} {:?}", m.family, m.kind.as_str(), m.help, m.unit));
    }
    out.join("\n")
}

#[track_caller]
fn text(text: &str, expected: &str) {
    assert_eq!(read(text, Format::Text).map(|batch| print(&batch)).as_deref(), Ok(expected));
}

#[track_caller]
fn open_metrics(text: &str, expected: &str) {
    assert_eq!(read(text, Format::OpenMetrics).map(|batch| print(&batch)).as_deref(), Ok(expected));
}

#[track_caller]
fn refused(text: &str, format: Format, expected: &str) {
    assert_eq!(read(text, format).map(|batch| print(&batch)), Err(expected.to_owned()));
}

#[test]
fn samples_with_and_without_labels_and_times() {
    text("up 1", r#"{__name__="up"} 1000=1"#);
    text("up 1\n", r#"{__name__="up"} 1000=1"#);
    text("a:b{} 1.5e3 -7\r\n", r#"{__name__="a:b"} -7=1500"#);
    text(" \tup\t{ a = \"x\" , b=\"y\", }\t+2 \t 5 \n", r#"{__name__="up", a="x", b="y"} 5=2"#);
    text("up{a=\"\"} 1", r#"{__name__="up"} 1000=1"#);
    text("\n\n# a comment\n#\n  # TYPED\n#TYPE a b\n", "");
    text("", "");
}

#[test]
fn numbers_as_go_reads_them() {
    text(
        "a +Inf\nb -Inf\nc inf\nd 1e-3\ne .5",
        &[
            r#"{__name__="a"} 1000=inf"#,
            r#"{__name__="b"} 1000=-inf"#,
            r#"{__name__="c"} 1000=inf"#,
            r#"{__name__="d"} 1000=0.001"#,
            r#"{__name__="e"} 1000=0.5"#,
        ]
        .join("\n"),
    );
    let batch = read("a NaN\nb -nan\n", Format::Text).unwrap();
    assert_eq!(batch.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), [0x7ff8_0000_0000_0001; 2]);
}

#[test]
fn escapes() {
    text(r#"a{b="x\\y\"z\nw\q é"} 1"#, r#"{__name__="a", b="x\\y\"z\nw\\q é"} 1000=1"#);
    text(r#"# HELP a one\ntwo \\ \"x\" \q"#, r#"a unknown "one\ntwo \\ \\\"x\\\" \\q" """#);
    open_metrics(r#"# HELP a one\ntwo \\ \"x\" \q"#, r#"a unknown "one\ntwo \\ \"x\" \\q" """#);
}

#[test]
fn quoted_names() {
    text(r#"{"http.requests", "a b"="c",d="e"} 3"#, r#"{__name__="http.requests", a b="c", d="e"} 1000=3"#);
    text(r#"{d="e","é\"x"} 3"#, r#"{__name__="é\"x", d="e"} 1000=3"#);
    text("# TYPE \"http.requests\" counter", r#"http.requests counter "" """#);
    refused(r#"{"a","b"} 3"#, Format::Text, "line 1: the metric has two names");
    refused(r#"a{"b"} 3"#, Format::Text, "line 1: the metric has two names");
    refused(r#"{b="c"} 3"#, Format::Text, "line 1: the metric name is missing");
}

#[test]
fn consecutive_samples_of_a_series_are_joined() {
    text(
        "a 1 1\na 2 2\nb 3 3\na 4 4",
        &[r#"{__name__="a"} 1=1 2=2"#, r#"{__name__="b"} 3=3"#, r#"{__name__="a"} 4=4"#].join("\n"),
    );
}

#[test]
fn metadata_is_joined_by_family() {
    text(
        "# TYPE b gauge\n# HELP a first\n# TYPE a counter\n# HELP a last\n# HELP c\n# UNIT a s",
        &[r#"a counter "last" """#, r#"b gauge "" """#, r#"c unknown "" """#].join("\n"),
    );
    open_metrics("# TYPE a_seconds stateset\n# UNIT a_seconds seconds\n# EOF\n", r#"a_seconds stateset "" "seconds""#);
}

#[test]
fn open_metrics_has_seconds_and_exemplars() {
    open_metrics(
        "a_total{b=\"c\"} 1 1.5 # {trace_id=\"x\"} 0.25 1.25\nb 2 # {} 3\nc 4 -1\n# EOF\n",
        &[
            r#"{__name__="a_total", b="c"} 1500=1"#,
            r#"{__name__="b"} 1000=2"#,
            r#"{__name__="c"} -1000=4"#,
            r#"exemplar 0 {trace_id="x"} 1250=0.25"#,
            r#"exemplar 1 {} 1000=3"#,
        ]
        .join("\n"),
    );
    refused("a 1 # {a=\"b\"} 1", Format::Text, "line 1: invalid timestamp \"#\"");
    refused("# EOF\na 1", Format::OpenMetrics, "line 2: text after # EOF");
    refused("a 1 NaN", Format::OpenMetrics, "line 1: invalid timestamp \"NaN\"");
    refused("a 1 1e300", Format::OpenMetrics, "line 1: invalid timestamp \"1e300\"");
    refused("a 1 1 # x", Format::OpenMetrics, "line 1: expected '{' of an exemplar, found \"x\"");
    assert_eq!(Format::of("application/openmetrics-text; version=1.0.0; charset=utf-8"), Format::OpenMetrics);
    assert_eq!(Format::of("text/plain; version=0.0.4"), Format::Text);
    assert_eq!(Format::of(""), Format::Text);
}

#[test]
fn a_bad_line_is_named() {
    refused("a 1\nb\n", Format::Text, "line 2: the value is missing");
    refused("a 1\n\nb x\n", Format::Text, "line 3: invalid value \"x\"");
    refused("a 1_000", Format::Text, "line 1: invalid value \"1_000\"");
    refused("a 0x1p3", Format::Text, "line 1: invalid value \"0x1p3\"");
    refused("a 1 2.5", Format::Text, "line 1: invalid timestamp \"2.5\"");
    refused("a 1 2 3", Format::Text, "line 1: expected the end of the line, found \"3\"");
    refused("1a 1", Format::Text, "line 1: expected a name, found \"1a 1\"");
    refused("a.b 1", Format::Text, "line 1: invalid value \".b\"");
    refused("a{b:c=\"d\"} 1", Format::Text, "line 1: expected '=' after a label name, found \":c=\\\"d\\\"} 1\"");
    refused("a{b=c} 1", Format::Text, "line 1: expected '\"' before a label value, found \"c} 1\"");
    refused(
        "a{b=\"c\" d=\"e\"} 1",
        Format::Text,
        "line 1: expected ',' or '}' after a label, found \"d=\\\"e\\\"} 1\"",
    );
    refused("a{b=\"c} 1", Format::Text, "line 1: a quote is not closed");
    refused("a{b=\"c\\", Format::Text, "line 1: a quote is not closed");
    refused("a{b=\"c\"", Format::Text, "line 1: expected ',' or '}' after a label, found the end");
    refused("a{", Format::Text, "line 1: expected a name, found the end");
    refused("# TYPE a b", Format::Text, "line 1: invalid metric type \"b\"");
    refused("# TYPE a", Format::Text, "line 1: invalid metric type \"\"");
    refused("# HELP 1", Format::Text, "line 1: expected a name, found \"1\"");
    let long = format!("a {}", "x".repeat(5000));
    refused(&long, Format::Text, &format!("line 1: invalid value \"{}…\"", "x".repeat(40)));
    let mut batch = WriteBatch::default();
    let error = decode(b"a 1\nb{c=\"\xff\"} 1", Format::Text, NOW, &[], &Limits::default(), &mut batch).unwrap_err();
    assert_eq!(error.to_string(), "line 2: not UTF-8");
}

#[test]
fn extra_labels_win_and_the_others_are_renamed() {
    let mut batch = WriteBatch::default();
    let extra = [("job", "varve"), ("instance", "here"), ("none", "")];
    let body = b"a{job=\"theirs\",exported_job=\"older\"} 1\nb 1";
    decode(body, Format::Text, NOW, &extra, &Limits::default(), &mut batch).unwrap();
    assert_eq!(
        print(&batch),
        [
            r#"{__name__="a", exported_exported_job="theirs", exported_job="older", instance="here", job="varve"} 1000=1"#,
            r#"{__name__="b", instance="here", job="varve"} 1000=1"#,
        ]
        .join("\n")
    );
}

#[test]
fn limits() {
    let mut batch = WriteBatch::default();
    let few = Limits { series_per_request_max: 2, ..Limits::default() };
    decode(b"a 1\na 2 2\nb 1", Format::Text, NOW, &[], &few, &mut batch).unwrap();
    let error = decode(b"a 1\nb 1\na 1", Format::Text, NOW, &[], &few, &mut batch).unwrap_err();
    assert!(matches!(error, Error::Limit { setting: "series_per_request_max", .. }), "{error}");
    let small = Limits { decompressed_bytes_max: 10_000, ..Limits::default() };
    let extra = [("job", &*"x".repeat(100))];
    let error = decode("a 1\nb 1\n".repeat(40).as_bytes(), Format::Text, NOW, &extra, &small, &mut batch).unwrap_err();
    assert!(matches!(error, Error::Limit { setting: "decompressed_bytes_max", .. }), "{error}");
    refused(&format!("a{{{}}} 1", "b=\"\",".repeat(10_001)), Format::Text, "line 1: more than 10000 labels");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever labels and samples there are: written with every escape they need, they come back.
    #[test]
    fn round_trip(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,9}",
        labels in proptest::collection::btree_map("\\PC{1,5}", "[\\PC\n]{1,9}", 0..5),
        value in any::<f64>(),
        time in any::<i64>(),
    ) {
        prop_assume!(!labels.contains_key(METRIC_NAME));
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let pairs: Vec<_> =
            labels.iter().map(|(name, value)| format!("\"{}\"=\"{}\"", escaped(name), escaped(value))).collect();
        let batch = read(&format!("{name}{{{}}} {value:?} {time}\n", pairs.join(",")), Format::Text).unwrap();
        let found = Labels::from_label_bytes(batch.label_bytes(&batch.series[0])).unwrap();
        let mut expected = varve_model::LabelsBuilder::default();
        expected.push(METRIC_NAME, &name);
        for (name, value) in &labels {
            expected.push(name, value);
        }
        prop_assert_eq!(found, expected.build().unwrap());
        prop_assert_eq!(&batch.times, &[time]);
        prop_assert!(batch.values[0] == value || (batch.values[0].is_nan() && value.is_nan()));
    }

    #[test]
    fn arbitrary_texts_never_panic(
        text in proptest::collection::vec(
            prop_oneof![
                "\\PC{0,3}",
                Just("# TYPE ".to_owned()),
                Just("# EOF".to_owned()),
                "[a-z]{1,2}",
                "[\\{\\}\",=\\\\# \n\t]",
                "[0-9.e+-]{1,3}",
            ],
            0..40,
        ),
        cut in 0usize..100,
    ) {
        let text = text.concat();
        let bytes = &text.as_bytes()[..text.len() - cut.min(text.len())];
        for format in [Format::Text, Format::OpenMetrics] {
            let mut batch = WriteBatch::default();
            match decode(bytes, format, NOW, &[("job", "x")], &Limits::default(), &mut batch) {
                Ok(summary) => prop_assert_eq!(summary.samples as usize, batch.times.len()),
                Err(error) => {
                    let is_named = matches!(error, Error::Text { line, .. } if line >= 1);
                    prop_assert!(is_named, "{}", error);
                }
            }
        }
    }
}
