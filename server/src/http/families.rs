//! Families: samples as the text format and as delimited protobuf (`io.prometheus.client.MetricFamily`), the two forms
//! in which servers scrape each other.
//!
//! Text is written sample by sample. A family of protobuf begins with its length, so its samples are gathered; a large
//! one is written as several families of one name, which its readers take for one.

use varve_model::{Histogram, Labels, Millis};
use varve_protocol::protobuf::push_varint;

use super::json;

/// Bytes of one family of protobuf at which it is written.
const FAMILY_BYTES: usize = 256 << 10;
/// The schema of histograms with bounds of their own.
const CUSTOM_SCHEMA: i32 = -53;

/// The form of samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// The text format 0.0.4.
    Text,
    /// Protobuf, each family behind its length.
    Protobuf,
}

/// What becomes of names that not every reader understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Escaping {
    /// They stay, in quotes where the form wants it.
    None,
    /// What is unusual becomes `_`.
    Underscores,
    /// Dots become `_dot_`, underscores are doubled.
    Dots,
    /// `U__` and the numbers of what is unusual.
    Values,
}

impl Escaping {
    /// From the name in a header.
    pub fn parse(name: &str) -> Option<Escaping> {
        [Escaping::None, Escaping::Underscores, Escaping::Dots, Escaping::Values]
            .into_iter()
            .find(|one| one.as_str() == name)
    }

    /// Its name in headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Escaping::None => "allow-utf-8",
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        }
    }

    /// The name as it is sent. A usual name is never changed.
    fn apply(self, name: &str) -> String {
        if self == Escaping::None || is_usual(name) {
            return name.to_owned();
        }
        let mut out = String::new();
        if self == Escaping::Values {
            out.push_str("U__");
        }
        for (at, c) in name.char_indices() {
            let usual = is_usual_char(c, at);
            match self {
                Escaping::Dots if c == '_' => out.push_str("__"),
                Escaping::Dots if c == '.' => out.push_str("_dot_"),
                Escaping::Values if c == '_' => out.push_str("__"),
                _ if usual => out.push(c),
                Escaping::Dots => out.push_str("__"),
                Escaping::Values => out.push_str(&format!("_{:x}_", u32::from(c))),
                Escaping::None | Escaping::Underscores => out.push('_'),
            }
        }
        out
    }
}

fn is_usual_char(c: char, at: usize) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':' || (c.is_ascii_digit() && at > 0)
}

/// Whether every reader understands the name.
fn is_usual(name: &str) -> bool {
    !name.is_empty() && name.char_indices().all(|(at, c)| is_usual_char(c, at))
}

/// The value of a sample.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A number.
    Float(f64),
    /// A native histogram; in text only one with custom bounds.
    Histogram(Box<Histogram>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Untyped = 3,
    Histogram = 4,
    GaugeHistogram = 5,
}

impl Kind {
    fn of(value: &Value) -> Kind {
        match value {
            Value::Float(_) => Kind::Untyped,
            Value::Histogram(histogram) if histogram.reset_hint == varve_model::histogram::ResetHint::Gauge => {
                Kind::GaugeHistogram
            }
            Value::Histogram(_) => Kind::Histogram,
        }
    }
}

/// Writes samples that come sorted by name.
pub struct Families {
    format: Format,
    escaping: Escaping,
    /// Name as stored, name as sent and kind of the family that is open.
    open: Option<(String, String, Kind)>,
    /// Its samples, in protobuf.
    metrics: Vec<u8>,
    metric: Vec<u8>,
}

impl Families {
    /// Nothing written yet.
    pub fn new(format: Format, escaping: Escaping) -> Families {
        Families { format, escaping, open: None, metrics: Vec::new(), metric: Vec::new() }
    }

    /// Appends a sample to `out`, or to what will be.
    pub fn push(&mut self, labels: &Labels, time: Millis, value: &Value, out: &mut Vec<u8>) {
        let kind = Kind::of(value);
        if self.open.as_ref().is_none_or(|(name, _, open)| name != labels.metric_name() || *open != kind) {
            self.finish(out);
            let name = self.escaping.apply(labels.metric_name());
            if self.format == Format::Text {
                out.extend_from_slice(b"# TYPE ");
                push_name(out, &name);
                out.extend_from_slice(if kind == Kind::Untyped { b" untyped\n" } else { b" histogram\n" });
            }
            self.open = Some((labels.metric_name().to_owned(), name, kind));
        }
        let Some((_, name, _)) = &self.open else { return };
        let pairs = self.pairs(labels);
        match self.format {
            Format::Text => push_text(out, name, &pairs, time, value),
            Format::Protobuf => {
                self.metric.clear();
                push_metric(&mut self.metric, &pairs, time, value);
                push_message(&mut self.metrics, 4, &self.metric);
                if self.metrics.len() >= FAMILY_BYTES {
                    self.write_family(out);
                }
            }
        }
    }

    /// Writes what is still open.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.write_family(out);
        self.open = None;
    }

    fn write_family(&mut self, out: &mut Vec<u8>) {
        let Some((_, name, kind)) = self.open.as_ref().filter(|_| !self.metrics.is_empty()) else { return };
        let mut head = Vec::with_capacity(name.len() + 8);
        push_message(&mut head, 1, name.as_bytes());
        push_number(&mut head, 3, *kind as u64);
        push_varint(out, (head.len() + self.metrics.len()) as u64);
        out.extend_from_slice(&head);
        out.append(&mut self.metrics);
    }

    /// The labels but the name; with `instance`, empty when there is none.
    fn pairs<'l>(&self, labels: &'l Labels) -> Vec<(String, &'l str)> {
        let others = labels.iter().filter(|(name, _)| *name != varve_model::labels::METRIC_NAME);
        let mut pairs: Vec<_> = others.map(|(name, value)| (self.escaping.apply(name), value)).collect();
        if labels.get("instance").is_none() {
            pairs.push(("instance".to_owned(), ""));
        }
        pairs
    }
}

fn push_text(out: &mut Vec<u8>, name: &str, pairs: &[(String, &str)], time: Millis, value: &Value) {
    let histogram = match value {
        Value::Float(value) => return push_line(out, name, pairs, None, *value, time),
        Value::Histogram(histogram) => histogram,
    };
    let bucket = format!("{name}_bucket");
    for (bound, count) in cumulative(histogram) {
        push_line(out, &bucket, pairs, Some(bound), count, time);
    }
    push_line(out, &bucket, pairs, Some(f64::INFINITY), histogram.count, time);
    push_line(out, &format!("{name}_sum"), pairs, None, histogram.sum, time);
    push_line(out, &format!("{name}_count"), pairs, None, histogram.count, time);
}

/// Custom bounds with the observations up to each.
fn cumulative(histogram: &Histogram) -> impl Iterator<Item = (f64, f64)> + '_ {
    let mut counts = vec![0.0; histogram.custom_bounds.len()];
    let mut at = 0i64;
    let mut values = histogram.positive.iter();
    for span in &histogram.positive_spans {
        at += i64::from(span.offset);
        for value in values.by_ref().take(span.length as usize) {
            if let Some(count) = usize::try_from(at).ok().and_then(|at| counts.get_mut(at)) {
                *count = *value;
            }
            at += 1;
        }
    }
    let mut sum = 0.0;
    histogram.custom_bounds.iter().zip(counts).map(move |(bound, count)| {
        sum += count;
        (*bound, sum)
    })
}

fn push_line(out: &mut Vec<u8>, name: &str, pairs: &[(String, &str)], le: Option<f64>, value: f64, time: Millis) {
    let mut separator = b'{';
    if is_usual(name) {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.push(separator);
        push_name(out, name);
        separator = b',';
    }
    for (name, value) in pairs {
        out.push(separator);
        push_name(out, name);
        out.extend_from_slice(b"=\"");
        push_escaped(out, value);
        out.push(b'"');
        separator = b',';
    }
    if let Some(bound) = le {
        out.push(separator);
        out.extend_from_slice(b"le=\"");
        json::push_short_float(out, bound);
        out.push(b'"');
    }
    out.extend_from_slice(b"} ");
    json::push_short_float(out, value);
    out.push(b' ');
    out.extend_from_slice(time.to_string().as_bytes());
    out.push(b'\n');
}

/// A name, in quotes when it is unusual.
fn push_name(out: &mut Vec<u8>, name: &str) {
    if is_usual(name) {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.push(b'"');
        push_escaped(out, name);
        out.push(b'"');
    }
}

fn push_escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' => out.extend_from_slice(b"\\\""),
            _ => out.push(byte),
        }
    }
}

fn push_metric(out: &mut Vec<u8>, pairs: &[(String, &str)], time: Millis, value: &Value) {
    let mut inner = Vec::new();
    for (name, value) in pairs {
        inner.clear();
        push_message(&mut inner, 1, name.as_bytes());
        push_message(&mut inner, 2, value.as_bytes());
        push_message(out, 1, &inner);
    }
    inner.clear();
    if let Value::Float(value) = value {
        push_double(&mut inner, 1, *value);
        push_message(out, 5, &inner);
    }
    push_number(out, 6, time as u64);
    if let Value::Histogram(histogram) = value {
        push_histogram(&mut inner, histogram);
        push_message(out, 7, &inner);
    }
}

fn push_histogram(out: &mut Vec<u8>, histogram: &Histogram) {
    push_double(out, 2, histogram.sum);
    let mut inner = Vec::new();
    if histogram.schema == CUSTOM_SCHEMA {
        for (bound, count) in cumulative(histogram) {
            inner.clear();
            push_double(&mut inner, 2, bound);
            push_double(&mut inner, 4, count);
            push_message(out, 3, &inner);
        }
        push_double(out, 4, histogram.count);
        return;
    }
    push_double(out, 4, histogram.count);
    push_number(out, 5, zigzag(histogram.schema));
    push_double(out, 6, histogram.zero_threshold);
    push_double(out, 8, histogram.zero_count);
    for (spans_field, counts_field, spans, counts) in [
        (9, 11, &histogram.negative_spans, &histogram.negative),
        (12, 14, &histogram.positive_spans, &histogram.positive),
    ] {
        for span in spans {
            inner.clear();
            push_number(&mut inner, 1, zigzag(span.offset));
            push_number(&mut inner, 2, span.length.into());
            push_message(out, spans_field, &inner);
        }
        for count in counts {
            push_double(out, counts_field, *count);
        }
    }
}

fn zigzag(number: i32) -> u64 {
    u64::from(((number << 1) ^ (number >> 31)) as u32)
}

fn push_number(out: &mut Vec<u8>, field: u64, number: u64) {
    push_varint(out, field << 3);
    push_varint(out, number);
}

fn push_double(out: &mut Vec<u8>, field: u64, value: f64) {
    push_varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn push_message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    push_varint(out, field << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use varve_model::histogram::{ResetHint, Span};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let mut builder = varve_model::LabelsBuilder::default();
        for (name, value) in pairs {
            builder.push(name, value);
        }
        builder.build().unwrap()
    }

    fn text(escaping: Escaping, samples: &[(Labels, Value)]) -> String {
        let (mut families, mut out) = (Families::new(Format::Text, escaping), Vec::new());
        for (labels, value) in samples {
            families.push(labels, 1234, value, &mut out);
        }
        families.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_untyped_and_has_an_instance() {
        let samples = [
            (labels(&[("__name__", "a"), ("x", "q\"\\\n")]), Value::Float(1e7)),
            (labels(&[("__name__", "a"), ("instance", "i")]), Value::Float(f64::NAN)),
            (labels(&[("__name__", "b.c"), ("d.e", "f")]), Value::Float(0.5)),
        ];
        assert_eq!(
            text(Escaping::Underscores, &samples),
            "# TYPE a untyped\na{x=\"q\\\"\\\\\\n\",instance=\"\"} 1e+07 1234\na{instance=\"i\"} NaN 1234\n# TYPE b_c untyped\nb_c{d_e=\"f\",instance=\"\"} 0.5 1234\n"
        );
        assert_eq!(
            text(Escaping::None, &samples[2..]),
            "# TYPE \"b.c\" untyped\n{\"b.c\",\"d.e\"=\"f\",instance=\"\"} 0.5 1234\n"
        );
    }

    #[test]
    fn names_are_escaped_in_four_ways() {
        for (escaping, expected) in [
            (Escaping::None, "a.b_é"),
            (Escaping::Underscores, "a_b__"),
            (Escaping::Dots, "a_dot_b____"),
            (Escaping::Values, "U__a_2e_b___e9_"),
        ] {
            assert_eq!(escaping.apply("a.b_é"), expected);
        }
    }

    #[test]
    fn custom_bounds_become_a_classic_histogram() {
        let histogram = Histogram {
            schema: CUSTOM_SCHEMA,
            count: 7.0,
            sum: 12.5,
            positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 2 }],
            positive: vec![2.0, 3.0, 2.0],
            custom_bounds: vec![0.5, 1.0, 2.0],
            ..Histogram::default()
        };
        let samples = [(labels(&[("__name__", "h"), ("instance", "i")]), Value::Histogram(Box::new(histogram)))];
        assert_eq!(
            text(Escaping::Underscores, &samples),
            "# TYPE h histogram\nh_bucket{instance=\"i\",le=\"0.5\"} 2 1234\nh_bucket{instance=\"i\",le=\"1\"} 2 1234\nh_bucket{instance=\"i\",le=\"2\"} 5 1234\nh_bucket{instance=\"i\",le=\"+Inf\"} 7 1234\nh_sum{instance=\"i\"} 12.5 1234\nh_count{instance=\"i\"} 7 1234\n"
        );
    }

    #[test]
    fn a_family_of_protobuf_is_behind_its_length() {
        let histogram = Histogram { schema: -1, reset_hint: ResetHint::Gauge, count: 1.0, ..Histogram::default() };
        let (mut families, mut out) = (Families::new(Format::Protobuf, Escaping::None), Vec::new());
        let one = labels(&[("__name__", "h"), ("instance", "i")]);
        families.push(&one, 1, &Value::Float(2.0), &mut out);
        families.push(&one, 1, &Value::Histogram(Box::new(histogram)), &mut out);
        families.finish(&mut out);
        let first = usize::from(out[0]);
        let mut expected = vec![10, 1, b'h', 24, 3, 34, 28, 10, 13, 10, 8];
        expected.extend_from_slice(b"instance");
        expected.extend_from_slice(&[18, 1, b'i', 42, 9, 9]);
        expected.extend_from_slice(&2.0f64.to_le_bytes());
        expected.extend_from_slice(&[48, 1]);
        assert_eq!(&out[1..=first], &expected);
        let second = &out[first + 1..];
        assert_eq!(usize::from(second[0]), second.len() - 1);
        // The kind: a gauge histogram.
        assert_eq!(&second[4..6], &[24, 5]);
    }
}
