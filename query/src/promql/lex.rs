//! Lexer of PromQL: text to tokens, one at a time.
//!
//! One idea: what a character means depends on three bits of state only. Inside braces every word is a label name;
//! inside brackets only numbers, durations and the words of duration expressions stand; elsewhere words may be
//! keywords, which are recognised in any case. The words of the `fill` modifiers are keywords only before `(`.
//!
//! Tokens are byte ranges of the text. The lexer never looks behind and never allocates but for an error; it is linear
//! in the text, apart from blanks behind the word `fill`, which are read twice.

use super::ast::{AggregateOp, BinaryOp};

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TokenKind {
    End,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    MatchRegex,
    /// `!~`
    MatchNotRegex,
    At,
    /// Symbols and the words `and`, `or`, `unless`, `atan2`. `!=` is [`BinaryOp::Ne`] inside braces too.
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    Number,
    Duration,
    /// With its quotes, escapes checked.
    String,
    /// A word without colon.
    Identifier,
    /// A word with a colon.
    MetricIdentifier,
}

/// Words of the language that are neither operators nor aggregations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keyword {
    Bool,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Offset,
    Anchored,
    Smoothed,
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

/// A token and its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) begin: u32,
    pub(super) end: u32,
}

/// What is wrong with the text, and where. Boxed, because it travels up through every level of the parser.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) at: u32,
    pub(super) message: String,
}

pub(super) type Fail = Box<Failure>;

pub(super) fn fail<T>(at: u32, message: impl Into<String>) -> Result<T, Fail> {
    Err(Box::new(Failure { at, message: message.into() }))
}

/// Reads tokens off a text of less than 4 GiB.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Where the token being read begins.
    begin: usize,
    parens: u32,
    in_braces: bool,
    in_brackets: bool,
    /// In brackets, before the first number: other texts of errors.
    before_number: bool,
    /// In brackets, behind the colon of a subquery.
    colon: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        let (in_braces, in_brackets, before_number, colon) = (false, false, false, false);
        Lexer { text, at: 0, begin: 0, parens: 0, in_braces, in_brackets, before_number, colon }
    }

    /// The next token; [`TokenKind::End`] again and again at the end.
    pub(super) fn next(&mut self) -> Result<Token, Fail> {
        self.skip_blanks_and_comments();
        self.begin = self.at;
        let kind = if self.in_braces { self.inside_braces()? } else { self.statement()? };
        Ok(Token { kind, begin: self.begin as u32, end: self.at as u32 })
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Takes the next character if it is one of `valid` (all ASCII).
    fn accept(&mut self, valid: &str) -> bool {
        let found = self.is(valid);
        self.at += usize::from(found);
        found
    }

    fn is(&self, valid: &str) -> bool {
        self.text.as_bytes().get(self.at).is_some_and(|b| valid.as_bytes().contains(b))
    }

    fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }

    fn token_text(&self) -> &'a str {
        &self.text[self.begin..self.at]
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Fail> {
        fail(self.begin as u32, message)
    }

    fn skip_blanks_and_comments(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&b) = bytes.get(self.at) {
            match b {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'#' => {
                    let rest = &bytes[self.at..];
                    self.at += rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(rest.len());
                }
                _ => return,
            }
        }
    }

    fn statement(&mut self) -> Result<TokenKind, Fail> {
        let Some(c) = self.peek() else { return self.end() };
        if self.before_number && matches!(c, '"' | '\'' | '`' | '{' | '[' | '@' | '=' | '!' | '<' | '>') {
            return self.fail(format!("unexpected character in duration expression: {}", quoted(Some(c))));
        }
        if c.is_ascii_digit() || (c == '.' && self.text.as_bytes().get(self.at + 1).is_some_and(u8::is_ascii_digit)) {
            return self.number_or_duration();
        }
        if is_alpha(c) || c == ':' {
            return if self.in_brackets { self.word_in_brackets(c) } else { Ok(self.word()) };
        }
        self.bump();
        Ok(match c {
            ',' => TokenKind::Comma,
            '*' => TokenKind::Operator(BinaryOp::Mul),
            '/' => TokenKind::Operator(BinaryOp::Div),
            '%' => TokenKind::Operator(BinaryOp::Mod),
            '+' => TokenKind::Operator(BinaryOp::Add),
            '-' => TokenKind::Operator(BinaryOp::Sub),
            '^' => TokenKind::Operator(BinaryOp::Pow),
            '@' => TokenKind::At,
            '=' if self.accept("=") => TokenKind::Operator(BinaryOp::Eq),
            '=' if self.is("~") => return self.fail("unexpected character after '=': '~'"),
            '=' => TokenKind::Assign,
            '!' if self.accept("=") => TokenKind::Operator(BinaryOp::Ne),
            '!' => return self.fail(format!("unexpected character after '!': {}", quoted(self.peek()))),
            '<' if self.accept("=") => TokenKind::Operator(BinaryOp::Le),
            '<' if self.accept("/") => TokenKind::Operator(BinaryOp::TrimUpper),
            '<' => TokenKind::Operator(BinaryOp::Lt),
            '>' if self.accept("=") => TokenKind::Operator(BinaryOp::Ge),
            '>' if self.accept("/") => TokenKind::Operator(BinaryOp::TrimLower),
            '>' => TokenKind::Operator(BinaryOp::Gt),
            '"' | '\'' => self.string(c)?,
            '`' => self.raw_string()?,
            '(' => {
                self.parens += 1;
                TokenKind::LeftParen
            }
            ')' => {
                let Some(parens) = self.parens.checked_sub(1) else {
                    return fail(self.at as u32, "unexpected right parenthesis ')'");
                };
                self.parens = parens;
                TokenKind::RightParen
            }
            '{' => {
                self.in_braces = true;
                TokenKind::LeftBrace
            }
            '[' => {
                if self.in_brackets {
                    return self.fail("unexpected left bracket '['");
                }
                self.in_brackets = true;
                self.before_number = true;
                self.colon = false;
                TokenKind::LeftBracket
            }
            ']' => {
                if !self.in_brackets {
                    return self.fail("unexpected right bracket ']'");
                }
                self.in_brackets = false;
                self.before_number = false;
                TokenKind::RightBracket
            }
            _ => return self.fail(format!("unexpected character: {}", quoted(Some(c)))),
        })
    }

    fn end(&self) -> Result<TokenKind, Fail> {
        if self.before_number {
            return self.fail("unexpected end of input in duration expression");
        }
        if self.parens > 0 {
            return self.fail("unclosed left parenthesis");
        }
        if self.in_brackets {
            return self.fail("unclosed left bracket");
        }
        Ok(TokenKind::End)
    }

    fn inside_braces(&mut self) -> Result<TokenKind, Fail> {
        let Some(c) = self.bump() else {
            return self.fail("unexpected end of input inside braces");
        };
        Ok(match c {
            ',' => TokenKind::Comma,
            '=' if self.accept("~") => TokenKind::MatchRegex,
            '=' => TokenKind::Assign,
            '!' if self.accept("~") => TokenKind::MatchNotRegex,
            '!' if self.accept("=") => TokenKind::Operator(BinaryOp::Ne),
            '!' => {
                return self.fail(format!("unexpected character after '!' inside braces: {}", quoted(self.peek())));
            }
            '"' | '\'' => self.string(c)?,
            '`' => self.raw_string()?,
            '{' => return self.fail("unexpected left brace '{'"),
            '}' => {
                self.in_braces = false;
                TokenKind::RightBrace
            }
            c if is_alpha(c) => {
                while self.peek().is_some_and(is_alphanumeric) {
                    self.at += 1;
                }
                TokenKind::Identifier
            }
            _ => return self.fail(format!("unexpected character inside braces: {}", quoted(Some(c)))),
        })
    }

    /// A word of a duration expression, or the colon of a subquery.
    fn word_in_brackets(&mut self, first: char) -> Result<TokenKind, Fail> {
        if first == ':' {
            self.at += 1;
            if self.colon {
                return self.fail("unexpected colon ':'");
            }
            self.colon = true;
            return Ok(TokenKind::Colon);
        }
        while self.peek().is_some_and(is_alpha) {
            self.at += 1;
        }
        match keyword(self.token_text()) {
            Some(kind @ TokenKind::Keyword(Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf)) => {
                Ok(kind)
            }
            _ if self.before_number => {
                self.fail(format!("unexpected character in duration expression: {}", quoted(Some(first))))
            }
            _ => self.fail(format!("unexpected character: {}, expected ':'", quoted(Some(first)))),
        }
    }

    fn word(&mut self) -> TokenKind {
        while self.peek().is_some_and(|c| is_alphanumeric(c) || c == ':') {
            self.at += 1;
        }
        let word = self.token_text();
        match keyword(word) {
            Some(TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.text[self.at..].trim_start_matches([' ', '\t', '\n', '\r']).starts_with('(') =>
            {
                TokenKind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => TokenKind::MetricIdentifier,
            None => TokenKind::Identifier,
        }
    }

    fn string(&mut self, quote: char) -> Result<TokenKind, Fail> {
        loop {
            match self.bump() {
                None | Some('\n') => return self.fail("unterminated quoted string"),
                Some('\\') => self.escape(quote)?,
                Some(c) if c == quote => return Ok(TokenKind::String),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> Result<TokenKind, Fail> {
        loop {
            match self.bump() {
                None => return self.fail("unterminated raw string"),
                Some('`') => return Ok(TokenKind::String),
                Some(_) => {}
            }
        }
    }

    /// Checks one escape sequence; the backslash is read.
    fn escape(&mut self, quote: char) -> Result<(), Fail> {
        let Some(c) = self.bump() else {
            return self.fail("escape sequence not terminated");
        };
        let (digits, base, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == quote => return Ok(()),
            '0'..='7' => {
                self.at -= 1;
                (3, 8, 255)
            }
            'x' => (2, 16, 255),
            'u' => (4, 16, u32::from(char::MAX)),
            'U' => (8, 16, u32::from(char::MAX)),
            c => return self.fail(format!("unknown escape sequence U+{:04X} '{c}'", u32::from(c))),
        };
        let mut value = 0u32;
        for _ in 0..digits {
            let Some(c) = self.bump() else {
                return self.fail("escape sequence not terminated");
            };
            let Some(digit) = c.to_digit(base) else {
                return self.fail(format!("illegal character U+{:04X} '{c}' in escape sequence", u32::from(c)));
            };
            value = value.wrapping_mul(base).wrapping_add(digit);
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return self.fail("escape sequence is an invalid Unicode code point");
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> Result<TokenKind, Fail> {
        self.before_number = false;
        if self.number() {
            return Ok(TokenKind::Number);
        }
        if self.rest_of_duration() {
            return Ok(TokenKind::Duration);
        }
        self.fail(format!("bad number or duration syntax: {:?}", self.token_text()))
    }

    /// Reads digits, a point, an exponent and underscores as far as they may belong to a number. `false` when it is
    /// none or goes on as a word: then it may still be the beginning of a duration.
    fn number(&mut self) -> bool {
        let hex = self.accept("0") && self.accept("xX");
        if hex {
            self.accept("_");
        }
        let digits = if hex { "0123456789abcdefABCDEF" } else { "0123456789" };
        let (mut point, mut exponent) = (false, false);
        self.accept(".");
        self.accept(digits);
        while self.is(digits) || self.is("._eE") {
            if (self.is(".") && point) || (self.is("eE") && exponent) {
                self.at += 1;
                return false;
            }
            if self.accept(".") {
                point = true;
                if self.accept("_.") || hex {
                    return false;
                }
            } else if self.accept("eE") {
                exponent = true;
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.accept("_") {
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else {
                self.accept_run(digits);
            }
        }
        !self.peek().is_some_and(is_alphanumeric)
    }

    /// Reads units and further numbers behind the first number of a duration. Wrong orders are left to the parser.
    fn rest_of_duration(&mut self) -> bool {
        let mut units = "smhdwy";
        loop {
            if !self.accept(units) {
                return false;
            }
            units = "smhdw";
            // For `ms`.
            self.accept("s");
            if !self.accept("0123456789") {
                break;
            }
            self.accept_run("0123456789");
        }
        let end = self.at;
        if self.bump().is_some_and(is_alphanumeric) {
            return false;
        }
        self.at = end;
        true
    }
}

fn keyword(word: &str) -> Option<TokenKind> {
    use TokenKind::{Aggregate, Operator};
    // The longest keyword has 12 bytes.
    if word.len() > 12 {
        return None;
    }
    let of = |keyword| Some(TokenKind::Keyword(keyword));
    match word.to_ascii_lowercase().as_str() {
        "and" => Some(Operator(BinaryOp::And)),
        "or" => Some(Operator(BinaryOp::Or)),
        "unless" => Some(Operator(BinaryOp::Unless)),
        "atan2" => Some(Operator(BinaryOp::Atan2)),
        "sum" => Some(Aggregate(AggregateOp::Sum)),
        "avg" => Some(Aggregate(AggregateOp::Avg)),
        "count" => Some(Aggregate(AggregateOp::Count)),
        "min" => Some(Aggregate(AggregateOp::Min)),
        "max" => Some(Aggregate(AggregateOp::Max)),
        "group" => Some(Aggregate(AggregateOp::Group)),
        "stddev" => Some(Aggregate(AggregateOp::Stddev)),
        "stdvar" => Some(Aggregate(AggregateOp::Stdvar)),
        "topk" => Some(Aggregate(AggregateOp::TopK)),
        "bottomk" => Some(Aggregate(AggregateOp::BottomK)),
        "count_values" => Some(Aggregate(AggregateOp::CountValues)),
        "quantile" => Some(Aggregate(AggregateOp::Quantile)),
        "limitk" => Some(Aggregate(AggregateOp::LimitK)),
        "limit_ratio" => Some(Aggregate(AggregateOp::LimitRatio)),
        "offset" => of(Keyword::Offset),
        "smoothed" => of(Keyword::Smoothed),
        "anchored" => of(Keyword::Anchored),
        "by" => of(Keyword::By),
        "without" => of(Keyword::Without),
        "on" => of(Keyword::On),
        "ignoring" => of(Keyword::Ignoring),
        "group_left" => of(Keyword::GroupLeft),
        "group_right" => of(Keyword::GroupRight),
        "fill" => of(Keyword::Fill),
        "fill_left" => of(Keyword::FillLeft),
        "fill_right" => of(Keyword::FillRight),
        "bool" => of(Keyword::Bool),
        "start" => of(Keyword::Start),
        "end" => of(Keyword::End),
        "step" => of(Keyword::Step),
        "range" => of(Keyword::Range),
        "max_of" => of(Keyword::MaxOf),
        "min_of" => of(Keyword::MinOf),
        "inf" | "nan" => Some(TokenKind::Number),
        _ => None,
    }
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

/// A character between single quotes, as error texts show it.
fn quoted(c: Option<char>) -> String {
    match c {
        // What stands for the end of the text.
        None => format!("'{}'", char::REPLACEMENT_CHARACTER),
        Some('"') => "'\"'".to_owned(),
        Some(c) => format!("{c:?}"),
    }
}
