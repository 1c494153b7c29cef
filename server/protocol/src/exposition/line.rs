//! One line of exposition, from text to its parts. Errors say what is wrong and quote it, shortened.

use varve_model::Millis;
use varve_model::write::{Metadata, MetricType};

use super::Format;

/// Names and values in the order written, texts unescaped.
pub(super) type Pairs = Vec<(String, String)>;

/// What a line is.
#[derive(Debug)]
pub(super) enum Line {
    /// Nothing, or a comment.
    Empty,
    /// `# EOF` of OpenMetrics.
    End,
    /// `# TYPE`, `# HELP` or `# UNIT`: what it says of its family.
    Metadata(Metadata),
    /// A sample, in the [`Sample`] given to [`Line::parse`].
    Sample,
}

/// The parts of a sample line.
#[derive(Default, Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: Pairs,
    pub(super) value: f64,
    pub(super) time: Option<Millis>,
    pub(super) exemplar: Option<Exemplar>,
    /// Label strings of earlier lines, for reuse.
    spare: Pairs,
}

/// An exemplar of OpenMetrics.
#[derive(Debug)]
pub(super) struct Exemplar {
    pub(super) labels: Pairs,
    pub(super) value: f64,
    pub(super) time: Option<Millis>,
}

/// Labels of one line, so that a line of a few bytes a label does not become many times its size in memory. The limit
/// that series have is far lower, but it refuses the series, not the text.
const LABELS_MAX: usize = 10_000;

/// Bits of the NaN that Prometheus stores for a NaN in a text; never the stale marker.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

impl Line {
    /// Parses a line without its end. A sample is written into `sample`, whose memory is reused.
    pub(super) fn parse(line: &str, format: Format, sample: &mut Sample) -> Result<Line, String> {
        let mut cursor = Cursor { rest: line };
        cursor.blanks();
        if cursor.rest.is_empty() {
            return Ok(Line::Empty);
        }
        if cursor.eat('#') {
            return comment(cursor, format);
        }
        sample.parse(cursor, format)?;
        Ok(Line::Sample)
    }
}

impl Sample {
    fn parse(&mut self, mut cursor: Cursor<'_>, format: Format) -> Result<(), String> {
        self.name.clear();
        self.spare.append(&mut self.labels);
        self.exemplar = None;
        if !cursor.rest.starts_with('{') {
            self.name.push_str(cursor.bare_name(is_metric_char)?);
            cursor.blanks();
        }
        if cursor.eat('{') {
            cursor.labels(&mut self.labels, &mut self.spare, Some(&mut self.name))?;
        }
        if self.name.is_empty() {
            return Err("the metric name is missing".to_owned());
        }
        self.value = cursor.number("value")?;
        self.time = cursor.time(format)?;
        if format == Format::OpenMetrics && cursor.eat('#') {
            cursor.blanks();
            if !cursor.eat('{') {
                return Err(cursor.expected("'{' of an exemplar"));
            }
            let mut labels = Vec::new();
            cursor.labels(&mut labels, &mut Vec::new(), None)?;
            self.exemplar =
                Some(Exemplar { labels, value: cursor.number("exemplar value")?, time: cursor.time(format)? });
        }
        if cursor.rest.is_empty() { Ok(()) } else { Err(cursor.expected("the end of the line")) }
    }
}

/// What follows a `#`.
fn comment(mut cursor: Cursor<'_>, format: Format) -> Result<Line, String> {
    if !cursor.rest.starts_with([' ', '\t']) {
        return Ok(Line::Empty);
    }
    cursor.blanks();
    let keyword = cursor.word();
    if keyword == "EOF" && format == Format::OpenMetrics && cursor.rest.is_empty() {
        return Ok(Line::End);
    }
    if !matches!(keyword, "TYPE" | "HELP" | "UNIT") || (keyword == "UNIT" && format == Format::Text) {
        return Ok(Line::Empty);
    }
    cursor.blanks();
    let mut metadata = Metadata::default();
    if cursor.eat('"') {
        cursor.quoted(&mut metadata.family)?;
    } else {
        metadata.family.push_str(cursor.bare_name(is_metric_char)?);
    }
    if !cursor.rest.is_empty() && !cursor.rest.starts_with([' ', '\t']) {
        return Err(cursor.expected("a blank after the metric name"));
    }
    cursor.blanks();
    match keyword {
        "TYPE" => metadata.kind = metric_type(cursor.rest.trim_end_matches([' ', '\t']))?,
        "HELP" => metadata.help = unescaped_help(cursor.rest, format),
        _ => metadata.unit = cursor.rest.trim_end_matches([' ', '\t']).to_owned(),
    }
    Ok(Line::Metadata(metadata))
}

fn metric_type(word: &str) -> Result<MetricType, String> {
    match word {
        "counter" => Ok(MetricType::Counter),
        "gauge" => Ok(MetricType::Gauge),
        "histogram" => Ok(MetricType::Histogram),
        "gaugehistogram" => Ok(MetricType::GaugeHistogram),
        "summary" => Ok(MetricType::Summary),
        "info" => Ok(MetricType::Info),
        "stateset" => Ok(MetricType::StateSet),
        "unknown" | "untyped" => Ok(MetricType::Unknown),
        _ => Err(format!("invalid metric type {:?}", shortened(word))),
    }
}

/// Text escapes `\\` and `\n` in help, OpenMetrics `\"` as well.
fn unescaped_help(text: &str, format: Format) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let mut after = chars.clone();
        let escaped = match (c, after.next()) {
            ('\\', Some('\\')) => '\\',
            ('\\', Some('n')) => '\n',
            ('\\', Some('"')) if format == Format::OpenMetrics => '"',
            _ => {
                out.push(c);
                continue;
            }
        };
        out.push(escaped);
        chars = after;
    }
    out
}

fn is_metric_char(c: char, first: bool) -> bool {
    c == ':' || is_label_char(c, first)
}

fn is_label_char(c: char, first: bool) -> bool {
    c == '_' || c.is_ascii_alphabetic() || (!first && c.is_ascii_digit())
}

/// For error texts: no more of a line than helps.
fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(40).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// What is left of a line.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn eat(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    #[cold]
    fn expected(&self, what: &str) -> String {
        let found = if self.rest.is_empty() { "the end".to_owned() } else { format!("{:?}", shortened(self.rest)) };
        format!("expected {what}, found {found}")
    }

    fn take_until(&mut self, end: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Up to a blank.
    fn word(&mut self) -> &'a str {
        self.take_until(self.rest.find([' ', '\t']).unwrap_or(self.rest.len()))
    }

    fn bare_name(&mut self, is_char: fn(char, bool) -> bool) -> Result<&'a str, String> {
        let mut chars = self.rest.char_indices();
        let end = chars.find(|&(at, c)| !is_char(c, at == 0)).map_or(self.rest.len(), |(at, _)| at);
        if end == 0 { Err(self.expected("a name")) } else { Ok(self.take_until(end)) }
    }

    /// A quoted text after its opening quote. Escapes are `\\`, `\"` and `\n`; any other stands for itself.
    fn quoted(&mut self, out: &mut String) -> Result<(), String> {
        loop {
            let Some(at) = self.rest.find(['"', '\\']) else { return Err("a quote is not closed".to_owned()) };
            out.push_str(self.take_until(at));
            if self.eat('"') {
                return Ok(());
            }
            self.eat('\\');
            match self.rest.chars().next() {
                Some('n') => out.push('\n'),
                Some(c @ ('\\' | '"')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => return Err("a quote is not closed".to_owned()),
            }
            let mut chars = self.rest.chars();
            chars.next();
            self.rest = chars.as_str();
        }
    }

    /// Labels after their `{` up to their `}`. A quoted text without a value is the metric name, where there can be one.
    fn labels(&mut self, out: &mut Pairs, spare: &mut Pairs, mut metric: Option<&mut String>) -> Result<(), String> {
        loop {
            self.blanks();
            if self.eat('}') {
                return Ok(());
            }
            if out.len() >= LABELS_MAX {
                return Err(format!("more than {LABELS_MAX} labels"));
            }
            let (mut name, mut value) = spare.pop().unwrap_or_default();
            name.clear();
            value.clear();
            let is_quoted = self.eat('"');
            if is_quoted {
                self.quoted(&mut name)?;
            } else {
                name.push_str(self.bare_name(is_label_char)?);
            }
            self.blanks();
            if self.eat('=') {
                self.blanks();
                if !self.eat('"') {
                    return Err(self.expected("'\"' before a label value"));
                }
                self.quoted(&mut value)?;
                out.push((name, value));
            } else {
                match metric.as_deref_mut() {
                    Some(metric) if is_quoted && metric.is_empty() => *metric = name,
                    Some(_) if is_quoted => return Err("the metric has two names".to_owned()),
                    _ => return Err(self.expected("'=' after a label name")),
                }
            }
            self.blanks();
            if !self.eat(',') && !self.rest.starts_with('}') {
                return Err(self.expected("',' or '}' after a label"));
            }
        }
    }

    fn number(&mut self, what: &str) -> Result<f64, String> {
        self.blanks();
        let word = self.word();
        let value: f64 = word.parse().map_err(|_| match word {
            "" => format!("the {what} is missing"),
            _ => format!("invalid {what} {:?}", shortened(word)),
        })?;
        self.blanks();
        Ok(if value.is_nan() { f64::from_bits(NAN_BITS) } else { value })
    }

    /// The timestamp, if one follows.
    fn time(&mut self, format: Format) -> Result<Option<Millis>, String> {
        if self.rest.is_empty() || (format == Format::OpenMetrics && self.rest.starts_with('#')) {
            return Ok(None);
        }
        let word = self.word();
        let time = match format {
            Format::Text => word.parse().ok(),
            Format::OpenMetrics => word.parse().ok().and_then(millis),
        };
        self.blanks();
        time.map(Some).ok_or_else(|| format!("invalid timestamp {:?}", shortened(word)))
    }
}

/// Seconds to milliseconds, cut to whole ones as Prometheus does; `None` when there is no such time.
fn millis(seconds: f64) -> Option<Millis> {
    let millis = seconds * 1000.0;
    (millis.abs() < 9.2e18).then_some(millis as Millis)
}
