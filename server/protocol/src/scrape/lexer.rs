//! Tokens of the two text formats, by the states their grammars have.
//!
//! The text format skips blanks between tokens and lets a label value run over lines; OpenMetrics wants exactly one
//! space where it wants one, and its tokens of values and timestamps include it.

use memchr::{memchr, memchr2};
use varve_model::labels::METRIC_NAME;
use varve_model::write::MetricType;

use super::{Pairs, holds_number, open_metrics_float, push_pair};

/// What a token is. The words are those of Prometheus's error texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Invalid,
    Eof,
    LineBreak,
    Help,
    Type,
    Unit,
    EofWord,
    Text,
    Comment,
    MetricName,
    Quoted,
    Open,
    Close,
    LabelName,
    LabelValue,
    Comma,
    Equal,
    Timestamp,
    Value,
}

impl Token {
    pub(super) fn word(self) -> &'static str {
        match self {
            Token::Invalid => "INVALID",
            Token::Eof => "EOF",
            Token::LineBreak => "LINEBREAK",
            Token::Help => "HELP",
            Token::Type => "TYPE",
            Token::Unit => "UNIT",
            Token::EofWord => "EOFWORD",
            Token::Text => "TEXT",
            Token::Comment => "COMMENT",
            Token::MetricName => "MNAME",
            Token::Quoted => "QSTRING",
            Token::Open => "BOPEN",
            Token::Close => "BCLOSE",
            Token::LabelName => "LNAME",
            Token::LabelValue => "LVALUE",
            Token::Comma => "COMMA",
            Token::Equal => "EQUAL",
            Token::Timestamp => "TIMESTAMP",
            Token::Value => "VALUE",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Begin,
    /// Before the name that a comment is about.
    Family,
    /// Behind it.
    Text,
    Labels,
    LabelValue,
    Value,
    Timestamp,
    ExemplarLabels,
    ExemplarValue,
    ExemplarTimestamp,
}

/// Reads tokens from a body.
pub(super) struct Lexer<'a> {
    bytes: &'a [u8],
    state: State,
    /// OpenMetrics.
    strict: bool,
    /// Where the last token begins and ends.
    pub(super) start: usize,
    pub(super) at: usize,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn is_label_byte(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

fn is_name_byte(byte: u8) -> bool {
    byte == b':' || is_label_byte(byte)
}

impl<'a> Lexer<'a> {
    pub(super) fn new(bytes: &'a [u8], strict: bool) -> Lexer<'a> {
        Lexer { bytes, state: State::Begin, strict, start: 0, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The bytes between two places.
    pub(super) fn slice(&self, begin: usize, end: usize) -> &'a [u8] {
        self.bytes.get(begin..end).unwrap_or_default()
    }

    /// The bytes of the last token.
    pub(super) fn token(&self) -> &'a [u8] {
        self.slice(self.start, self.at)
    }

    /// `expected` and what was found instead, with the bytes since `begin`.
    #[cold]
    pub(super) fn error(&self, expected: &str, found: Token, begin: usize) -> String {
        let end = (self.at + 1).min(self.bytes.len());
        format!(
            "{expected}, got {} ({:?}) while parsing: {}",
            quoted(self.slice(self.start, end)),
            found.word(),
            quoted(self.slice(begin, end))
        )
    }

    fn take(&mut self, bytes: usize, state: State, token: Token) -> Token {
        self.at += bytes;
        self.state = state;
        token
    }

    /// Takes the bytes that belong to a run; the first is known to.
    fn take_run(&mut self, belongs: impl Fn(u8) -> bool, state: State, token: Token) -> Token {
        let rest = self.rest();
        let len = rest.iter().position(|byte| !belongs(*byte)).unwrap_or(rest.len());
        self.take(len, state, token)
    }

    /// Takes a quoted text.
    fn take_quoted(&mut self, one_line: bool, state: State, token: Token) -> Token {
        let rest = self.rest();
        let mut at = 1;
        loop {
            let behind = rest.get(at..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', behind) else { return Token::Invalid };
            if one_line && memchr(b'\n', behind.get(..found).unwrap_or_default()).is_some() {
                return Token::Invalid;
            }
            if behind.get(found) == Some(&b'"') {
                return self.take(at + found + 1, state, token);
            }
            at += found + 2;
            if matches!(rest.get(at - 1), None | Some(b'\n')) {
                return Token::Invalid;
            }
        }
    }

    /// The next token.
    #[inline]
    pub(super) fn next(&mut self) -> Token {
        if self.strict { self.next_strict() } else { self.next_text() }
    }

    fn next_text(&mut self) -> Token {
        if self.state == State::Text {
            return self.rest_of_line();
        }
        let rest = self.rest();
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        self.at += blanks;
        self.start = self.at;
        let rest = self.rest();
        let Some(&byte) = rest.first() else { return Token::Eof };
        match (self.state, byte) {
            (State::Begin, 0) => Token::Eof,
            (State::Begin | State::Timestamp, b'\n') => self.take(1, State::Begin, Token::LineBreak),
            (State::Begin, b'#') => self.comment(),
            (State::Begin | State::Value, b'{') => self.take(1, State::Labels, Token::Open),
            (State::Begin, _) if is_name_byte(byte) && !byte.is_ascii_digit() => {
                self.take_run(is_name_byte, State::Value, Token::MetricName)
            }
            (State::Family, b'"') => self.take_quoted(false, State::Text, Token::MetricName),
            (State::Family, _) if is_name_byte(byte) && !byte.is_ascii_digit() => {
                self.take_run(is_name_byte, State::Text, Token::MetricName)
            }
            (State::Labels, _) => self.in_labels(byte, false, State::Labels, State::Value, State::LabelValue),
            (State::LabelValue, b'"') => self.take_quoted(false, State::Labels, Token::LabelValue),
            (State::Value, _) if byte != b'\n' => {
                self.take_run(|byte| !matches!(byte, b'{' | b' ' | b'\t' | b'\n'), State::Timestamp, Token::Value)
            }
            (State::Timestamp, b'0'..=b'9') => {
                self.take_run(|byte| byte.is_ascii_digit(), State::Timestamp, Token::Timestamp)
            }
            _ => Token::Invalid,
        }
    }

    fn in_labels(&mut self, byte: u8, one_line: bool, labels: State, close: State, equal: State) -> Token {
        match byte {
            b'"' => self.take_quoted(one_line, labels, Token::Quoted),
            b'}' => self.take(1, close, Token::Close),
            b'=' => self.take(1, equal, Token::Equal),
            b',' => self.take(1, labels, Token::Comma),
            _ if is_label_byte(byte) && !byte.is_ascii_digit() => {
                self.take_run(is_label_byte, labels, Token::LabelName)
            }
            _ => Token::Invalid,
        }
    }

    /// A `#` of the text format: what it says of a family, or a comment that means nothing.
    fn comment(&mut self) -> Token {
        let rest = self.rest();
        let blanks = rest.iter().skip(1).take_while(|byte| is_blank(**byte)).count();
        let word = rest.get(1 + blanks..).unwrap_or_default();
        for (keyword, token) in [(&b"HELP"[..], Token::Help), (b"TYPE", Token::Type)] {
            if blanks > 0 && word.starts_with(keyword) && word.get(4).is_some_and(|byte| is_blank(*byte)) {
                return self.take(1 + blanks + 5, State::Family, token);
            }
        }
        match memchr2(b'\n', 0, rest) {
            Some(end) if rest.get(end) == Some(&b'\n') => self.take(end, State::Begin, Token::Comment),
            _ => Token::Eof,
        }
    }

    /// What follows a family's name in the text format, its first byte included.
    fn rest_of_line(&mut self) -> Token {
        let rest = self.rest();
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let blank = rest.get(..end).unwrap_or_default().iter().all(|byte| is_blank(*byte));
        self.start = if blank { self.at + end } else { self.at };
        self.take(end, State::Begin, Token::Text)
    }

    fn next_strict(&mut self) -> Token {
        self.start = self.at;
        let rest = self.rest();
        let Some(&byte) = rest.first() else { return Token::Eof };
        let word = |bytes: &[u8]| bytes.iter().skip(1).take_while(|byte| !matches!(byte, b' ' | b'\n')).count();
        match (self.state, byte) {
            (State::Begin, b'#') => self.strict_comment(),
            (State::Begin | State::Value, b'{') => self.take(1, State::Labels, Token::Open),
            (State::Begin, _) if is_name_byte(byte) && !byte.is_ascii_digit() => {
                self.take_run(is_name_byte, State::Value, Token::MetricName)
            }
            (State::Family, b'"') => self.take_quoted(false, State::Text, Token::MetricName),
            (State::Family, _) if is_name_byte(byte) && !byte.is_ascii_digit() => {
                self.take_run(is_name_byte, State::Text, Token::MetricName)
            }
            (State::Text, b' ') => match memchr(b'\n', rest) {
                Some(end) => self.take(end + 1, State::Begin, Token::Text),
                None => Token::Invalid,
            },
            (State::Labels, _) => self.in_labels(byte, false, State::Labels, State::Value, State::LabelValue),
            (State::LabelValue, b'"') => self.take_quoted(true, State::Labels, Token::LabelValue),
            (State::Value, b' ') if word(rest) > 0 => self.take(1 + word(rest), State::Timestamp, Token::Value),
            (State::Timestamp, b' ') if rest.starts_with(b" # {") => {
                self.take(4, State::ExemplarLabels, Token::Comment)
            }
            (State::Timestamp, b' ') if word(rest) > 0 => self.take(1 + word(rest), State::Timestamp, Token::Timestamp),
            (State::Timestamp | State::ExemplarTimestamp, b'\n') => self.take(1, State::Begin, Token::LineBreak),
            (State::ExemplarLabels, _) => {
                self.in_labels(byte, true, State::ExemplarLabels, State::ExemplarValue, State::ExemplarValue)
            }
            (State::ExemplarValue, b'"') => self.take_quoted(true, State::ExemplarLabels, Token::LabelValue),
            (State::ExemplarValue, b' ') if word(rest) > 0 => {
                self.take(1 + word(rest), State::ExemplarTimestamp, Token::Value)
            }
            (State::ExemplarTimestamp, b' ') if word(rest) > 0 => {
                self.take(1 + word(rest), State::ExemplarTimestamp, Token::Timestamp)
            }
            _ => Token::Invalid,
        }
    }

    fn strict_comment(&mut self) -> Token {
        let rest = self.rest();
        for (keyword, token) in [(&b"# HELP "[..], Token::Help), (b"# TYPE ", Token::Type), (b"# UNIT ", Token::Unit)] {
            if rest.starts_with(keyword) {
                return self.take(7, State::Family, token);
            }
        }
        if !rest.starts_with(b"# EOF") {
            return Token::Invalid;
        }
        let end = if rest.get(5) == Some(&b'\n') { 6 } else { 5 };
        self.take(end, State::Begin, Token::EofWord)
    }
}

/// The labels of a series as it stands in a text that was read once.
pub(super) fn labels(series: &[u8], kind: MetricType, pairs: &mut Pairs) -> Result<(), String> {
    let mut lexer = Lexer::new(series, false);
    let not_utf8 = |_| "invalid UTF-8 in a series".to_owned();
    let text = |bytes| std::str::from_utf8(bytes).map_err(not_utf8);
    let mut token = lexer.next();
    if token == Token::MetricName {
        push_pair(pairs, METRIC_NAME.to_owned(), text(lexer.token())?.to_owned())?;
        token = lexer.next();
    }
    if token != Token::Open {
        return Ok(());
    }
    let mut token = lexer.next();
    loop {
        let name = match token {
            Token::LabelName => text(lexer.token())?.to_owned(),
            Token::Quoted => unescaped(text(unquoted(lexer.token()))?),
            Token::Comma => {
                token = lexer.next();
                continue;
            }
            _ => return Ok(()),
        };
        token = lexer.next();
        if token != Token::Equal {
            pairs.insert(0, (METRIC_NAME.to_owned(), name));
            continue;
        }
        lexer.next();
        let mut value = unescaped(text(unquoted(lexer.token()))?);
        if holds_number(kind, &name)
            && let Ok(number) = super::parse_float(&value)
        {
            value = open_metrics_float(number);
        }
        push_pair(pairs, name, value)?;
        token = lexer.next();
    }
}

/// What is between quotes.
pub(super) fn unquoted(token: &[u8]) -> &[u8] {
    token.get(1..token.len().saturating_sub(1)).unwrap_or_default()
}

/// Replaces `\"`, `\\` and `\n`; other backslashes stay.
pub(super) fn unescaped(text: &str) -> String {
    replace_escapes(text, true)
}

/// As [`unescaped`]; the help of the text format does not know `\"`.
pub(super) fn replace_escapes(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, behind) = rest.split_at(at);
        out.push_str(before);
        let replaced = match behind.as_bytes().get(1) {
            Some(b'\\') => Some('\\'),
            Some(b'n') => Some('\n'),
            Some(b'"') if quotes => Some('"'),
            _ => None,
        };
        out.push(replaced.unwrap_or('\\'));
        rest = behind.get(if replaced.is_some() { 2 } else { 1 }..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Bytes as Go quotes them, shortened: they may be what a target sent wrong.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    const SHOWN: usize = 512;
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(SHOWN)).unwrap_or_default());
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
