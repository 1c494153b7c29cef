//! The formats of an export: OpenMetrics lines, and JSON lines as VictoriaMetrics writes and reads them.
//!
//! ```text
//! up{job="a"} 1 1700000000.123
//! {"metric":{"__name__":"up","job":"a"},"values":[1,null,"Infinity"],"timestamps":[1700000000123,…]}
//! ```
//! JSON has no number for NaN and the infinities: they are `null`, `"Infinity"` and `"-Infinity"`. Native histograms,
//! which VictoriaMetrics does not have, stand in `histograms` as pairs of a timestamp and all their fields.

use varve_model::{Column, Histogram, Labels, TimeRange, is_stale};

use crate::http::json::{push_float, push_labels, push_string, push_time, push_u64};

/// How samples are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    OpenMetrics,
    Json,
}

/// What could not be written.
#[derive(Default, Debug)]
pub(super) struct Left {
    /// Stale markers.
    pub(super) stale: u64,
    /// Native histograms.
    pub(super) histograms: u64,
}

/// Removes the samples outside a range.
pub(super) fn trim(column: &mut Column, range: TimeRange) {
    if column.times.iter().any(|time| !range.contains(*time)) {
        let kept = column.times.iter().zip(&column.values).filter(|(time, _)| range.contains(**time));
        let (times, values) = kept.map(|(time, value)| (*time, *value)).unzip();
        (column.times, column.values) = (times, values);
    }
    column.histograms.retain(|(time, _)| range.contains(*time));
}

impl Format {
    /// Appends the samples of a series; how many were written.
    pub(super) fn push(self, out: &mut Vec<u8>, labels: &Labels, column: &Column, left: &mut Left) -> u64 {
        let all = column.times.iter().zip(&column.values);
        let floats: Vec<(i64, f64)> =
            all.filter(|(_, value)| !is_stale(**value)).map(|(time, value)| (*time, *value)).collect();
        let histograms: Vec<&(i64, Histogram)> =
            column.histograms.iter().filter(|(_, histogram)| !is_stale(histogram.sum)).collect();
        left.stale += (column.len() - floats.len() - histograms.len()) as u64;
        match self {
            Format::OpenMetrics => {
                left.histograms += histograms.len() as u64;
                let mut name = Vec::new();
                push_series(&mut name, labels);
                for (time, value) in &floats {
                    out.extend_from_slice(&name);
                    out.push(b' ');
                    push_float(out, *value);
                    out.push(b' ');
                    push_time(out, *time);
                    out.push(b'\n');
                }
                floats.len() as u64
            }
            Format::Json => {
                if !floats.is_empty() || !histograms.is_empty() {
                    push_line(out, labels, &floats, &histograms);
                }
                (floats.len() + histograms.len()) as u64
            }
        }
    }
}

/// `name{a="b"}`, or `{"a name","a label"="b"}` where a name is not a plain one.
fn push_series(out: &mut Vec<u8>, labels: &Labels) {
    let name = labels.metric_name();
    let quoted = !is_plain(name, true);
    if !quoted {
        out.extend_from_slice(name.as_bytes());
    }
    let mut first = true;
    let mut open = |out: &mut Vec<u8>| out.push(if std::mem::take(&mut first) { b'{' } else { b',' });
    if quoted {
        open(out);
        push_quoted(out, name);
    }
    for (label, value) in labels.iter().filter(|(label, _)| *label != "__name__") {
        open(out);
        if is_plain(label, false) {
            out.extend_from_slice(label.as_bytes());
        } else {
            push_quoted(out, label);
        }
        out.push(b'=');
        push_quoted(out, value);
    }
    if !first {
        out.push(b'}');
    }
}

fn is_plain(name: &str, colons: bool) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    !name.is_empty() && name.bytes().all(plain) && !name.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn push_line(out: &mut Vec<u8>, labels: &Labels, floats: &[(i64, f64)], histograms: &[&(i64, Histogram)]) {
    out.extend_from_slice(b"{\"metric\":");
    push_labels(out, labels);
    out.extend_from_slice(b",\"values\":");
    push_list(out, floats, |out, (_, value)| push_number(out, *value));
    out.extend_from_slice(b",\"timestamps\":");
    push_list(out, floats, |out, (time, _)| push_i64(out, *time));
    if !histograms.is_empty() {
        out.extend_from_slice(b",\"histograms\":");
        push_list(out, histograms, |out, (time, histogram)| {
            out.push(b'[');
            push_i64(out, *time);
            out.push(b',');
            push_histogram(out, histogram);
            out.push(b']');
        });
    }
    out.extend_from_slice(b"}\n");
}

fn push_histogram(out: &mut Vec<u8>, histogram: &Histogram) {
    out.extend_from_slice(b"{\"schema\":");
    push_i64(out, histogram.schema.into());
    out.extend_from_slice(if histogram.is_float { b",\"float\":true" } else { b",\"float\":false" });
    out.extend_from_slice(b",\"reset_hint\":");
    push_string(out, &format!("{:?}", histogram.reset_hint).to_lowercase());
    let numbers = [
        ("count", histogram.count),
        ("sum", histogram.sum),
        ("zero_threshold", histogram.zero_threshold),
        ("zero_count", histogram.zero_count),
    ];
    for (name, number) in numbers {
        out.push(b',');
        push_string(out, name);
        out.push(b':');
        push_number(out, number);
    }
    for (name, spans, counts) in [
        ("positive", &histogram.positive_spans, &histogram.positive),
        ("negative", &histogram.negative_spans, &histogram.negative),
    ] {
        out.push(b',');
        push_string(out, &format!("{name}_spans"));
        out.push(b':');
        push_list(out, spans, |out, span| {
            out.push(b'[');
            push_i64(out, span.offset.into());
            out.push(b',');
            push_u64(out, span.length.into());
            out.push(b']');
        });
        out.push(b',');
        push_string(out, name);
        out.push(b':');
        push_list(out, counts, |out, count| push_number(out, *count));
    }
    out.extend_from_slice(b",\"custom_bounds\":");
    push_list(out, &histogram.custom_bounds, |out, bound| push_number(out, *bound));
    out.push(b'}');
}

fn push_list<T>(out: &mut Vec<u8>, items: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(b']');
}

fn push_i64(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_u64(out, number.unsigned_abs());
}

fn push_number(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"null");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    } else {
        push_float(out, value);
    }
}

#[cfg(test)]
mod tests {
    use varve_model::histogram::Span;
    use varve_model::{LabelsBuilder, STALE_NAN_BITS};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let mut builder = LabelsBuilder::default();
        pairs.iter().for_each(|(name, value)| builder.push(name, value));
        builder.build().unwrap()
    }

    fn column() -> Column {
        let stale = f64::from_bits(STALE_NAN_BITS);
        Column {
            times: vec![-1, 1000, 1500, 2000, 3000],
            values: vec![0.5, f64::NAN, f64::NEG_INFINITY, stale, 1e300],
            ..Column::default()
        }
    }

    fn text(format: Format, labels: &Labels, column: &Column) -> (String, Left) {
        let (mut out, mut left) = (Vec::new(), Left::default());
        format.push(&mut out, labels, column, &mut left);
        (String::from_utf8(out).unwrap(), left)
    }

    #[test]
    fn openmetrics_lines() {
        let (written, left) = text(Format::OpenMetrics, &labels(&[("__name__", "up"), ("a", "b\"\n\\")]), &column());
        let series = "up{a=\"b\\\"\\n\\\\\"}";
        assert_eq!(written, format!("{series} 0.5 -0.001\n{series} NaN 1\n{series} -Inf 1.500\n{series} 1e+300 3\n"));
        assert_eq!(left.stale, 1);
        let (written, _) = text(Format::OpenMetrics, &labels(&[("__name__", "my.metric"), ("a b", "c")]), &column());
        assert!(written.starts_with("{\"my.metric\",\"a b\"=\"c\"} 0.5"), "{written}");
        let (written, _) = text(Format::OpenMetrics, &labels(&[("__name__", "up")]), &column());
        assert!(written.starts_with("up 0.5"), "{written}");
    }

    #[test]
    fn json_lines_are_json() {
        let histogram = Histogram {
            schema: 1,
            count: 3.0,
            sum: f64::INFINITY,
            positive_spans: vec![Span { offset: -2, length: 1 }],
            positive: vec![3.0],
            ..Histogram::default()
        };
        let column = Column { histograms: vec![(4000, histogram)], ..column() };
        let (written, _) = text(Format::Json, &labels(&[("__name__", "up")]), &column);
        let read: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read["metric"], serde_json::json!({"__name__": "up"}));
        assert_eq!(read["values"], serde_json::json!([0.5, null, "-Infinity", 1e300]));
        assert_eq!(read["timestamps"], serde_json::json!([-1, 1000, 1500, 3000]));
        assert_eq!(read["histograms"][0][0], 4000);
        assert_eq!(read["histograms"][0][1]["positive_spans"], serde_json::json!([[-2, 1]]));
        assert_eq!(read["histograms"][0][1]["sum"], "Infinity");
        assert_eq!(read["histograms"][0][1]["reset_hint"], "unknown");
        let (written, _) = text(Format::OpenMetrics, &labels(&[("__name__", "up")]), &Column::default());
        assert_eq!(written, "");
    }

    #[test]
    fn what_is_out_of_range_is_trimmed() {
        let mut column = column();
        trim(&mut column, TimeRange { min: 1000, max: 2000 });
        assert_eq!(column.times, [1000, 1500, 2000]);
        assert_eq!(column.values.len(), 3);
    }
}
