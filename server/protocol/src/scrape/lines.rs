//! The two text formats, line by line.

use varve_model::Millis;
use varve_model::write::MetricType;

use super::lexer::{Lexer, Token, quoted, replace_escapes, unescaped, unquoted};
use super::{Exemplar, LABELS_MAX, Media, Part, Sample, Value, Visitor, parse_float};

/// Reads a text to its end.
pub(super) fn read(body: &[u8], media: Media, visitor: &mut dyn Visitor) -> Result<(), String> {
    let strict = media == Media::OpenMetrics;
    let mut lines = Lines {
        lexer: Lexer::new(body, strict),
        strict,
        // One pass over all of it costs less than one over each value.
        utf8: std::str::from_utf8(body).is_ok(),
        kind: MetricType::Unknown,
        begin: 0,
        has_name: false,
        exemplars: Vec::new(),
    };
    while lines.line(visitor)? {}
    Ok(())
}

struct Lines<'a> {
    lexer: Lexer<'a>,
    strict: bool,
    /// Whether all of the body is UTF-8.
    utf8: bool,
    /// The type said last.
    kind: MetricType,
    /// Where the line begins.
    begin: usize,
    /// Whether the series of the line has a name yet.
    has_name: bool,
    exemplars: Vec<Exemplar>,
}

impl<'a> Lines<'a> {
    fn error<T>(&self, expected: &str, found: Token) -> Result<T, String> {
        Err(self.lexer.error(expected, found, self.begin))
    }

    /// Reads one line; false at the end of the body.
    fn line(&mut self, visitor: &mut dyn Visitor) -> Result<bool, String> {
        self.begin = self.lexer.at;
        match self.lexer.next() {
            Token::Eof if self.strict => return Err("data does not end with # EOF".to_owned()),
            Token::Eof => return Ok(false),
            Token::EofWord => {
                let last = self.lexer.next();
                return if last == Token::Eof { Ok(false) } else { Err("unexpected data after # EOF".to_owned()) };
            }
            Token::LineBreak => {}
            keyword @ (Token::Help | Token::Type | Token::Unit) => self.metadata(keyword, visitor)?,
            Token::Comment => {
                let found = self.lexer.next();
                if found != Token::LineBreak {
                    return self.error("linebreak expected after comment", found);
                }
            }
            Token::Open => {
                self.has_name = false;
                self.labels()?;
                let end = self.lexer.at;
                let found = self.lexer.next();
                self.sample(end, found, visitor)?;
            }
            Token::MetricName => {
                self.has_name = true;
                // The text format lets blanks come before a line.
                self.begin = self.lexer.start;
                let mut end = self.lexer.at;
                let mut found = self.lexer.next();
                if found == Token::Open {
                    self.labels()?;
                    end = self.lexer.at;
                    found = self.lexer.next();
                }
                self.sample(end, found, visitor)?;
            }
            found => return self.error("expected a valid start token", found),
        }
        Ok(true)
    }

    fn metadata(&mut self, keyword: Token, visitor: &mut dyn Visitor) -> Result<(), String> {
        let found = self.lexer.next();
        if found != Token::MetricName {
            return self.error(&format!("expected metric name after {}", keyword.word()), found);
        }
        let name = self.lexer.token();
        let name = if name.starts_with(b"\"") { unquoted(name) } else { name };
        let not_utf8 = |what: &str, bytes| format!("{what} {} is not a valid utf8 string", quoted(bytes));
        let name = std::str::from_utf8(name).map_err(|_| not_utf8("metric name", name))?;
        let found = self.lexer.next();
        if found != Token::Text {
            return Err(if self.strict {
                format!("expected text in {}", keyword.word())
            } else {
                format!("expected text in {}, got {}", keyword.word(), found.word())
            });
        }
        let text = self.lexer.token();
        // One blank before the text; OpenMetrics's token has the line break too.
        let end = if self.strict { text.len().saturating_sub(1) } else { text.len() };
        let text = text.get(1..end).unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| not_utf8("help text", text))?;
        match keyword {
            Token::Type => {
                self.kind = metric_type(text, self.strict)
                    .ok_or_else(|| format!("invalid metric type {}", quoted(text.as_bytes())))?;
                visitor.metadata(name, Part::Type(self.kind));
            }
            Token::Help => {
                let help = replace_escapes(text, self.strict);
                visitor.metadata(name, Part::Help(&help));
            }
            _ => {
                let fits = name.strip_suffix(text).is_some_and(|before| before.ends_with('_'));
                if !text.is_empty() && !fits {
                    return Err(format!(
                        "unit {} not a suffix of metric {}",
                        quoted(text.as_bytes()),
                        quoted(name.as_bytes())
                    ));
                }
                visitor.metadata(name, Part::Unit(text));
            }
        }
        if self.strict {
            return Ok(());
        }
        match self.lexer.next() {
            Token::LineBreak => Ok(()),
            found => self.error("linebreak expected after metadata", found),
        }
    }

    /// Reads the labels behind an opening brace, only to see that they are labels.
    fn labels(&mut self) -> Result<(), String> {
        let mut token = self.lexer.next();
        loop {
            let is_quoted = match token {
                Token::Close => return Ok(()),
                Token::LabelName => false,
                Token::Quoted => true,
                found => return self.error("expected label name", found),
            };
            if is_quoted {
                self.check_utf8(self.lexer.token())?;
            }
            token = self.lexer.next();
            if is_quoted && matches!(token, Token::Comma | Token::Close) {
                if self.has_name {
                    return Err(format!(
                        "metric name already set while parsing: {}",
                        quoted(self.lexer.slice(self.begin, self.lexer.at))
                    ));
                }
                self.has_name = true;
                if token == Token::Close {
                    return Ok(());
                }
                token = self.lexer.next();
                continue;
            }
            if token != Token::Equal {
                return self.error("expected equal", token);
            }
            let found = self.lexer.next();
            if found != Token::LabelValue {
                return self.error("expected label value", found);
            }
            self.check_utf8(self.lexer.token())?;
            token = self.lexer.next();
            if token == Token::Comma {
                token = self.lexer.next();
            } else if self.strict && token != Token::Close {
                return self.error("expected comma or brace close", token);
            }
        }
    }

    fn check_utf8(&self, token: &[u8]) -> Result<(), String> {
        if self.utf8 || std::str::from_utf8(token).is_ok() {
            return Ok(());
        }
        Err(format!("invalid UTF-8 label value: {}", quoted(token)))
    }

    /// The number in the last token.
    fn number(&self) -> Result<f64, String> {
        let token = self.lexer.token();
        let text = if self.strict { token.get(1..).unwrap_or_default() } else { token };
        let text = std::str::from_utf8(text).unwrap_or("\u{fffd}");
        parse_float(text)
            .map_err(|what| format!("{what} while parsing: {}", quoted(self.lexer.slice(self.begin, self.lexer.at))))
    }

    /// The rest of a sample's line, and the sample.
    fn sample(&mut self, end: usize, found: Token, visitor: &mut dyn Visitor) -> Result<(), String> {
        if !self.has_name {
            return Err(format!(
                "metric name not set while parsing: {}",
                quoted(self.lexer.slice(self.begin, self.lexer.at))
            ));
        }
        if found != Token::Value {
            return self.error("expected value after metric", found);
        }
        let value = self.number()?;
        self.exemplars.clear();
        let time = if self.strict { self.strict_end()? } else { self.text_end()? };
        visitor.sample(Sample {
            series: self.lexer.slice(self.begin, end),
            kind: self.kind,
            time,
            value: Value::Float(value),
            start: 0,
            exemplars: &self.exemplars,
        })
    }

    /// The timestamp of the text format, in milliseconds.
    fn text_end(&mut self) -> Result<Option<Millis>, String> {
        match self.lexer.next() {
            Token::LineBreak => Ok(None),
            Token::Timestamp => {
                let text = std::str::from_utf8(self.lexer.token()).unwrap_or_default();
                let time = text.parse::<Millis>().map_err(|_| {
                    format!(
                        "strconv.ParseInt: parsing {text:?}: value out of range while parsing: {}",
                        quoted(self.lexer.slice(self.begin, self.lexer.at))
                    )
                })?;
                match self.lexer.next() {
                    Token::LineBreak => Ok(Some(time)),
                    found => self.error("expected next entry after timestamp", found),
                }
            }
            found => self.error("expected timestamp or new record", found),
        }
    }

    /// Timestamp, in seconds, and exemplar of OpenMetrics.
    fn strict_end(&mut self) -> Result<Option<Millis>, String> {
        match self.lexer.next() {
            Token::Eof => Err("data does not end with # EOF".to_owned()),
            Token::LineBreak => Ok(None),
            Token::Comment => self.exemplar().map(|()| None),
            Token::Timestamp => {
                let time = self.seconds("timestamp")?;
                match self.lexer.next() {
                    Token::LineBreak => Ok(Some(time)),
                    Token::Comment => self.exemplar().map(|()| Some(time)),
                    found => self.error("expected next entry after timestamp", found),
                }
            }
            found => self.error("expected timestamp or comment", found),
        }
    }

    fn seconds(&self, what: &str) -> Result<Millis, String> {
        let seconds = self.number()?;
        if !seconds.is_finite() {
            return Err(format!("invalid {what} {seconds}"));
        }
        Ok((seconds * 1000.0) as Millis)
    }

    fn exemplar(&mut self) -> Result<(), String> {
        let mut exemplar = Exemplar::default();
        let mut token = self.lexer.next();
        while token != Token::Close {
            let name = match token {
                Token::LabelName => self.lexer.token(),
                Token::Quoted => unquoted(self.lexer.token()),
                found => return self.error("expected label name", found),
            };
            let found = self.lexer.next();
            if found != Token::Equal {
                return self.error("expected equal", found);
            }
            let found = self.lexer.next();
            if found != Token::LabelValue {
                return self.error("expected label value", found);
            }
            let value = self.lexer.token();
            self.check_utf8(name)?;
            self.check_utf8(value)?;
            if exemplar.labels.len() >= LABELS_MAX {
                return Err(format!("more than {LABELS_MAX} labels"));
            }
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            exemplar.labels.push((text(name), unescaped(&text(unquoted(value)))));
            token = self.lexer.next();
            if token == Token::Comma {
                token = self.lexer.next();
            } else if token != Token::Close {
                return self.error("expected comma or brace close", token);
            }
        }
        let found = self.lexer.next();
        if found != Token::Value {
            return self.error("expected value after exemplar labels", found);
        }
        exemplar.value = self.number()?;
        match self.lexer.next() {
            Token::Eof => return Err("data does not end with # EOF".to_owned()),
            Token::LineBreak => {}
            Token::Timestamp => {
                exemplar.time = Some(self.seconds("exemplar timestamp")?);
                let found = self.lexer.next();
                if found != Token::LineBreak {
                    return self.error("expected next entry after exemplar timestamp", found);
                }
            }
            found => return self.error("expected timestamp or comment", found),
        }
        self.exemplars.push(exemplar);
        Ok(())
    }
}

fn metric_type(word: &str, strict: bool) -> Option<MetricType> {
    Some(match word {
        "counter" => MetricType::Counter,
        "gauge" => MetricType::Gauge,
        "histogram" => MetricType::Histogram,
        "summary" => MetricType::Summary,
        "untyped" if !strict => MetricType::Unknown,
        "unknown" if strict => MetricType::Unknown,
        "gaugehistogram" if strict => MetricType::GaugeHistogram,
        "info" if strict => MetricType::Info,
        "stateset" if strict => MetricType::StateSet,
        _ => return None,
    })
}
