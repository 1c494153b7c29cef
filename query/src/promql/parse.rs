//! Parse: tokens to syntax tree, by precedence climbing with one token of lookahead.
//!
//! ```text
//! or   <   and unless   <   == != < <= > >= </ >/   <   + -   <   * / % atan2   <   ^ (to the right)
//! ```
//! A sign binds like `*`, so `-a^b` is `-(a^b)`. `[…]`, `offset`, `@`, `anchored` and `smoothed` bind tighter than any
//! operator. The tree's height is bounded, and the parser descends only where the tree does: no text overflows the
//! stack, here or in anyone who walks the tree. The first fault ends the work; its text is Prometheus's.

use varve_model::labels::METRIC_NAME;
use varve_model::{MatchOp, Matcher};

use super::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Cardinality, DurationExpr, Expr, ExprKind, Extended, Span,
    VectorMatching, VectorSelector,
};
use super::check::check;
use super::functions;
use super::lex::{Fail, Keyword, Lexer, Token, TokenKind, fail};
use super::literal::{parse_duration, parse_number, quoted, unquote};
use crate::error::Error;

mod duration;

/// What the parser accepts, and its bounds. Experimental parts of the language are on by default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseOptions {
    /// Functions and aggregations that Prometheus has behind `promql-experimental-functions`.
    pub experimental_functions: bool,
    /// Arithmetic, `step()` and `range()` in ranges and offsets.
    pub duration_expressions: bool,
    /// `anchored` and `smoothed`.
    pub extended_selectors: bool,
    /// `fill`, `fill_left` and `fill_right`.
    pub fill_modifiers: bool,
    /// Bytes of a compiled regular expression.
    pub regex_bytes_max: usize,
    /// Regular expressions in one query.
    pub regexes_max: u32,
    /// Bytes of the text; at most 4 GiB.
    pub text_bytes_max: u32,
    /// Parts of one query, expressions and operators of durations, so that a text cannot become a tree that is hundreds
    /// of times its size.
    pub nodes_max: u32,
    /// Height of the tree: nested expressions, and operators in a row.
    pub depth_max: u32,
}

impl Default for ParseOptions {
    fn default() -> ParseOptions {
        ParseOptions {
            experimental_functions: true,
            duration_expressions: true,
            extended_selectors: true,
            fill_modifiers: true,
            regex_bytes_max: 4 << 20,
            regexes_max: 256,
            text_bytes_max: 1 << 20,
            nodes_max: 50_000,
            depth_max: 512,
        }
    }
}

/// Parses and checks a query.
///
/// # Errors
/// [`Error::Parse`] with the place and the words of Prometheus: `1:5: parse error: unexpected end of input`.
/// [`Error::Limit`] when the text is too long.
pub fn parse(text: &str, options: &ParseOptions) -> Result<Expr, Error> {
    let located = |fail: Fail| locate(text, &fail);
    let mut parser = Parser::new(text, options)?;
    parser.advance().map_err(located)?;
    if parser.token.kind == TokenKind::End {
        return fail(0, "no expression found in input").map_err(located);
    }
    let mut expr = parser.expression(0).map_err(located)?.expr;
    parser.expect_end().map_err(located)?;
    check(&mut expr, text).map_err(located)?;
    Ok(expr)
}

/// Parses a lone series selector, as the `match[]` parameters of the API have it. It may match everything.
///
/// # Errors
/// As [`parse`].
pub fn parse_selector(text: &str, options: &ParseOptions) -> Result<Vec<Matcher>, Error> {
    let located = |fail: Fail| locate(text, &fail);
    let mut parser = Parser::new(text, options)?;
    parser.advance().map_err(located)?;
    let selector = parser.selector().map_err(located)?;
    parser.expect_end().map_err(located)?;
    Ok(selector.matchers)
}

/// The error with `line:column` in front, both from 1, the column in bytes.
fn locate(text: &str, fail: &Fail) -> Error {
    let message = &fail.message;
    if text.is_empty() {
        return Error::Parse(format!("unknown position: parse error: {message}"));
    }
    let (line, column) = position(text, fail.at);
    Error::Parse(format!("{line}:{column}: parse error: {message}"))
}

/// Line and column of a place in a text, both from 1, the column in bytes.
pub(crate) fn position(text: &str, at: u32) -> (usize, usize) {
    let before = text.as_bytes().get(..at as usize).unwrap_or(text.as_bytes());
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|b| **b != b'\n').count();
    (line, column)
}

/// An expression and the height of its tree.
struct Node {
    expr: Expr,
    height: u32,
}

type Parsed<T> = Result<T, Fail>;

struct Parser<'a> {
    text: &'a str,
    options: &'a ParseOptions,
    lexer: Lexer<'a>,
    /// The token to be looked at next.
    token: Token,
    /// Where the last token taken ends.
    last_end: u32,
    depth: u32,
    /// Aggregations around the token: error texts name them.
    aggregations: u32,
    regexes: u32,
    nodes: u32,
}

impl<'a> Parser<'a> {
    /// The parser before its first token.
    fn new(text: &'a str, options: &'a ParseOptions) -> Result<Parser<'a>, Error> {
        if text.len() > options.text_bytes_max as usize {
            return Err(Error::Limit {
                limit: "query text bytes",
                max: u64::from(options.text_bytes_max),
                setting: "query_text_bytes_max",
            });
        }
        let token = Token { kind: TokenKind::End, begin: 0, end: 0 };
        let lexer = Lexer::new(text);
        Ok(Parser { text, options, lexer, token, last_end: 0, depth: 0, aggregations: 0, regexes: 0, nodes: 0 })
    }

    /// Takes the token and reads the next one.
    fn advance(&mut self) -> Parsed<Token> {
        let taken = self.token;
        self.last_end = taken.end;
        self.token = self.lexer.next()?;
        Ok(taken)
    }

    /// Takes the token if it is of this kind.
    fn take(&mut self, kind: TokenKind) -> Parsed<Option<Token>> {
        if self.token.kind == kind { self.advance().map(Some) } else { Ok(None) }
    }

    fn take_keyword(&mut self, keyword: Keyword) -> Parsed<bool> {
        Ok(self.take(TokenKind::Keyword(keyword))?.is_some())
    }

    /// Takes a token of this kind, or fails without saying what was expected, as Prometheus does.
    fn expect(&mut self, kind: TokenKind) -> Parsed<Token> {
        if self.token.kind == kind { self.advance() } else { self.unexpected_here() }
    }

    fn expect_end(&mut self) -> Parsed<()> {
        self.expect(TokenKind::End).map(|_| ())
    }

    fn text_of(&self, token: Token) -> &'a str {
        self.text.get(token.begin as usize..token.end as usize).unwrap_or_default()
    }

    /// The error of a token that does not belong here.
    fn unexpected<T>(&self, context: &str, expected: &str) -> Parsed<T> {
        let mut message = format!("unexpected {}", self.describe(self.token));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        fail(self.token.begin, message)
    }

    fn unexpected_here<T>(&self) -> Parsed<T> {
        self.unexpected(if self.aggregations > 0 { "aggregation" } else { "" }, "")
    }

    /// A token as Prometheus names it in error texts.
    fn describe(&self, token: Token) -> String {
        let text = self.text_of(token);
        let short = || match text.char_indices().nth(10) {
            Some((end, _)) if text.len() > 10 => format!("{}...", quoted(&text[..end])),
            _ if text.len() > 10 => format!("{}...", quoted(text)),
            _ => quoted(text),
        };
        match token.kind {
            TokenKind::End => "end of input".to_owned(),
            TokenKind::Number => format!("number {}", short()),
            TokenKind::Duration => format!("duration {}", short()),
            TokenKind::String => format!("string {}", short()),
            TokenKind::Identifier => format!("identifier {}", quoted(text)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", quoted(text)),
            TokenKind::Operator(_) | TokenKind::At | TokenKind::MatchRegex | TokenKind::MatchNotRegex => {
                format!("<op:{text}>")
            }
            TokenKind::Aggregate(_) => format!("<aggr:{text}>"),
            TokenKind::Keyword(
                Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf,
            ) => quoted(text),
            TokenKind::Keyword(_) => format!("<{text}>"),
            _ => quoted(text),
        }
    }

    /// Makes a node; fails when its tree is too high or there are too many.
    fn node(&mut self, kind: ExprKind, begin: u32, height: u32) -> Parsed<Node> {
        self.grow(begin, height)?;
        Ok(Node { expr: Expr { kind, span: Span { begin, end: self.last_end } }, height })
    }

    /// Counts one more part, whose tree is so high.
    fn grow(&mut self, begin: u32, height: u32) -> Parsed<()> {
        self.check_depth(height)?;
        self.nodes += 1;
        let max = self.options.nodes_max;
        if self.nodes > max {
            return fail(begin, format!("expression is too large: at most {max} parts are allowed"));
        }
        Ok(())
    }

    fn check_depth(&self, depth: u32) -> Parsed<()> {
        let max = self.options.depth_max;
        if depth <= max {
            return Ok(());
        }
        fail(self.token.begin, format!("expression is nested too deeply: at most {max} levels are allowed"))
    }

    /// Operands joined by operators that bind at least as tightly as `floor`.
    fn expression(&mut self, floor: u8) -> Parsed<Node> {
        self.depth += 1;
        self.check_depth(self.depth)?;
        let mut lhs = self.operand()?;
        while let TokenKind::Operator(op) = self.token.kind
            && binding(op) >= floor
        {
            lhs = self.binary(lhs, op)?;
        }
        self.depth -= 1;
        Ok(lhs)
    }

    fn binary(&mut self, lhs: Node, op: BinaryOp) -> Parsed<Node> {
        self.advance()?;
        let begin = lhs.expr.span.begin;
        let (returns_bool, matching) = self.binary_modifiers(begin)?;
        let rhs = self.expression(if op == BinaryOp::Pow { binding(op) } else { binding(op) + 1 })?;
        let height = 1 + lhs.height.max(rhs.height);
        let binary = Binary {
            op,
            lhs: Box::new(lhs.expr),
            rhs: Box::new(rhs.expr),
            returns_bool,
            // The check takes it away where the sides are not vectors.
            matching: Some(matching),
        };
        self.node(ExprKind::Binary(binary), begin, height)
    }

    /// `bool`, `on`/`ignoring`, `group_left`/`group_right`, `fill…`, in this order.
    fn binary_modifiers(&mut self, begin: u32) -> Parsed<(bool, VectorMatching)> {
        let mut matching = VectorMatching::default();
        let returns_bool = self.take_keyword(Keyword::Bool)?;
        if let TokenKind::Keyword(keyword @ (Keyword::On | Keyword::Ignoring)) = self.token.kind {
            self.advance()?;
            matching.on = keyword == Keyword::On;
            matching.labels = self.labels()?;
            if let TokenKind::Keyword(keyword @ (Keyword::GroupLeft | Keyword::GroupRight)) = self.token.kind {
                self.advance()?;
                let left = keyword == Keyword::GroupLeft;
                matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if self.token.kind == TokenKind::LeftParen {
                    matching.include = self.labels()?;
                }
            }
        }
        if self.take_keyword(Keyword::Fill)? {
            let value = self.fill_value()?;
            (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
        } else if self.take_keyword(Keyword::FillLeft)? {
            matching.fill_left = Some(self.fill_value()?);
            if self.take_keyword(Keyword::FillRight)? {
                matching.fill_right = Some(self.fill_value()?);
            }
        } else if self.take_keyword(Keyword::FillRight)? {
            matching.fill_right = Some(self.fill_value()?);
            if self.take_keyword(Keyword::FillLeft)? {
                matching.fill_left = Some(self.fill_value()?);
            }
        }
        if !self.options.fill_modifiers && (matching.fill_left.is_some() || matching.fill_right.is_some()) {
            return fail(begin, "binop fill modifiers are experimental and not enabled");
        }
        Ok((returns_bool, matching))
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.expect(TokenKind::LeftParen)?;
        let Some(value) = self.signed_number()? else {
            return self.unexpected_here();
        };
        self.expect(TokenKind::RightParen)?;
        Ok(value)
    }

    /// A number or duration with at most one sign; `None`, with nothing but the sign taken, when there is none.
    fn signed_number(&mut self) -> Parsed<Option<f64>> {
        let negative = self.token.kind == TokenKind::Operator(BinaryOp::Sub);
        if negative || self.token.kind == TokenKind::Operator(BinaryOp::Add) {
            self.advance()?;
        }
        let value = self.number()?;
        Ok(value.map(|(value, _)| if negative { -value } else { value }))
    }

    /// A number or duration, in seconds, and whether it is a duration.
    fn number(&mut self) -> Parsed<Option<(f64, bool)>> {
        let (token, is_duration) = match self.token.kind {
            TokenKind::Number => (self.token, false),
            TokenKind::Duration => (self.token, true),
            _ => return Ok(None),
        };
        let text = self.text_of(token);
        let value = if is_duration { parse_duration(text).map(|ms| ms as f64 / 1000.0) } else { parse_number(text) };
        let value = value.or_else(|message| fail(token.begin, message))?;
        self.advance()?;
        Ok(Some((value, is_duration)))
    }

    /// `(a, b, …)` with an optional comma at the end.
    fn labels(&mut self) -> Parsed<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        if self.take(TokenKind::LeftParen)?.is_none() {
            return self.unexpected(CONTEXT, "\"(\"");
        }
        let mut labels = Vec::new();
        if self.take(TokenKind::RightParen)?.is_some() {
            return Ok(labels);
        }
        loop {
            labels.push(self.label()?);
            let comma = self.take(TokenKind::Comma)?.is_some();
            if self.take(TokenKind::RightParen)?.is_some() {
                return Ok(labels);
            }
            if !comma {
                return self.unexpected(CONTEXT, "\",\" or \")\"");
            }
        }
    }

    fn label(&mut self) -> Parsed<String> {
        let text = self.text_of(self.token);
        let label = match self.token.kind {
            TokenKind::String => unquote(text),
            TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregate(_) => text.to_owned(),
            TokenKind::Keyword(keyword) if keyword != Keyword::Without => text.to_owned(),
            TokenKind::Operator(_) if text.starts_with(|c: char| c.is_ascii_alphabetic()) => text.to_owned(),
            _ => return self.unexpected("grouping opts", "label"),
        };
        if label.is_empty() {
            return fail(self.token.begin, "invalid label name for grouping: \"\"");
        }
        self.advance()?;
        Ok(label)
    }

    /// A sign and what it applies to, or a primary expression with all that is attached to it.
    fn operand(&mut self) -> Parsed<Node> {
        let TokenKind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.token.kind else {
            return self.attached();
        };
        let begin = self.advance()?.begin;
        let negative = op == BinaryOp::Sub;
        let mut node = self.expression(binding(BinaryOp::Pow))?;
        // A signed number is a number.
        if let ExprKind::Number(value) | ExprKind::Duration(value) = &mut node.expr.kind {
            if negative {
                *value = -*value;
            }
            node.expr.span.begin = begin;
            return Ok(node);
        }
        let height = 1 + node.height;
        self.node(ExprKind::Unary { negative, expr: Box::new(node.expr) }, begin, height)
    }

    /// A primary expression and the ranges and modifiers behind it.
    fn attached(&mut self) -> Parsed<Node> {
        let mut node = self.primary()?;
        loop {
            match self.token.kind {
                TokenKind::LeftBracket => node = self.range(node)?,
                TokenKind::Keyword(Keyword::Offset) => {
                    self.advance()?;
                    let (offset, height) = self.offset_duration()?;
                    node.height = node.height.max(1 + height);
                    self.check_depth(node.height)?;
                    set_offset(&mut node.expr, offset)?;
                }
                TokenKind::Keyword(Keyword::Anchored) => {
                    self.advance()?;
                    self.set_extended(&mut node.expr, Extended::Anchored)?;
                }
                TokenKind::Keyword(Keyword::Smoothed) => {
                    self.advance()?;
                    self.set_extended(&mut node.expr, Extended::Smoothed)?;
                }
                TokenKind::At => {
                    self.advance()?;
                    let at = self.at(&node.expr)?;
                    set_at(&mut node.expr, at)?;
                }
                _ => return Ok(node),
            }
            node.expr.span.end = self.last_end;
        }
    }

    fn primary(&mut self) -> Parsed<Node> {
        let token = self.token;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => match self.number()? {
                Some((value, true)) => self.node(ExprKind::Duration(value), token.begin, 1),
                Some((value, false)) => self.node(ExprKind::Number(value), token.begin, 1),
                None => self.unexpected_here(),
            },
            TokenKind::String => {
                self.advance()?;
                self.node(ExprKind::String(unquote(self.text_of(token))), token.begin, 1)
            }
            TokenKind::LeftParen => {
                self.advance()?;
                let inner = self.expression(0)?;
                self.expect(TokenKind::RightParen)?;
                self.node(ExprKind::Paren(Box::new(inner.expr)), token.begin, 1 + inner.height)
            }
            TokenKind::LeftBrace => {
                let matchers = self.matchers()?;
                let selector = VectorSelector { matchers, ..VectorSelector::default() };
                self.node(ExprKind::VectorSelector(selector), token.begin, 1)
            }
            TokenKind::Aggregate(op) => self.aggregate_or_metric(op),
            TokenKind::Identifier
            | TokenKind::Keyword(
                Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf,
            ) => {
                self.advance()?;
                if self.token.kind == TokenKind::LeftParen { self.call(token) } else { self.metric(token) }
            }
            _ if is_metric_name(token.kind) => {
                self.advance()?;
                self.metric(token)
            }
            _ => self.unexpected_here(),
        }
    }

    /// A selector that begins with the name `token`, which is taken.
    fn metric(&mut self, token: Token) -> Parsed<Node> {
        let selector = self.named_selector(token)?;
        self.node(ExprKind::VectorSelector(selector), token.begin, 1)
    }

    fn named_selector(&mut self, token: Token) -> Parsed<VectorSelector> {
        let name = self.text_of(token);
        let mut matchers = if self.token.kind == TokenKind::LeftBrace { self.matchers()? } else { Vec::new() };
        matchers.push(self.matcher_of(token, MatchOp::Equal, METRIC_NAME, name)?);
        Ok(VectorSelector { name: Some(name.to_owned()), matchers, ..VectorSelector::default() })
    }

    fn selector(&mut self) -> Parsed<VectorSelector> {
        let token = self.token;
        if token.kind == TokenKind::LeftBrace {
            return Ok(VectorSelector { matchers: self.matchers()?, ..VectorSelector::default() });
        }
        if !is_metric_name(token.kind) {
            return self.unexpected_here();
        }
        self.advance()?;
        self.named_selector(token)
    }

    /// `{a="b", "name", …}` with an optional comma at the end.
    fn matchers(&mut self) -> Parsed<Vec<Matcher>> {
        const CONTEXT: &str = "label matching";
        self.expect(TokenKind::LeftBrace)?;
        let mut matchers = Vec::new();
        if self.take(TokenKind::RightBrace)?.is_some() {
            return Ok(matchers);
        }
        loop {
            matchers.push(self.matcher()?);
            let comma = self.take(TokenKind::Comma)?.is_some();
            if self.take(TokenKind::RightBrace)?.is_some() {
                return Ok(matchers);
            }
            if !comma {
                return self.unexpected(CONTEXT, "\",\" or \"}\"");
            }
        }
    }

    fn matcher(&mut self) -> Parsed<Matcher> {
        const CONTEXT: &str = "label matching";
        let name = self.token;
        if !matches!(name.kind, TokenKind::Identifier | TokenKind::String) {
            return self.unexpected(CONTEXT, "identifier or \"}\"");
        }
        self.advance()?;
        let is_string = name.kind == TokenKind::String;
        let label = if is_string { unquote(self.text_of(name)) } else { self.text_of(name).to_owned() };
        let op = match self.token.kind {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::Operator(BinaryOp::Ne) => MatchOp::NotEqual,
            TokenKind::MatchRegex => MatchOp::Regex,
            TokenKind::MatchNotRegex => MatchOp::NotRegex,
            // A quoted string alone is the metric name.
            _ if is_string => return self.matcher_of(name, MatchOp::Equal, METRIC_NAME, &label),
            _ => return self.unexpected(CONTEXT, "label matching operator"),
        };
        self.advance()?;
        if self.token.kind != TokenKind::String {
            return self.unexpected(CONTEXT, "string");
        }
        let value = unquote(self.text_of(self.token));
        let matcher = self.matcher_of(name, op, &label, &value)?;
        self.advance()?;
        Ok(matcher)
    }

    fn matcher_of(&mut self, token: Token, op: MatchOp, name: &str, value: &str) -> Parsed<Matcher> {
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            self.regexes += 1;
            let max = self.options.regexes_max;
            if self.regexes > max {
                return fail(token.begin, format!("too many regular expressions: at most {max} are allowed"));
            }
        }
        Matcher::new(op, name, value, self.options.regex_bytes_max).or_else(|message| fail(token.begin, message))
    }

    /// `(a, b, …)` without a comma at the end, and the height of the highest.
    fn args(&mut self) -> Parsed<(Vec<Expr>, u32)> {
        self.expect(TokenKind::LeftParen)?;
        let (mut args, mut height) = (Vec::new(), 0);
        if self.take(TokenKind::RightParen)?.is_some() {
            return Ok((args, height));
        }
        loop {
            let arg = self.expression(0)?;
            height = height.max(arg.height);
            args.push(arg.expr);
            let Some(comma) = self.take(TokenKind::Comma)? else {
                self.expect(TokenKind::RightParen)?;
                return Ok((args, height));
            };
            if !begins_expression(self.token.kind) {
                return fail(comma.begin, "trailing commas not allowed in function call args");
            }
        }
    }

    /// A call of the function whose name `token` is taken.
    fn call(&mut self, token: Token) -> Parsed<Node> {
        let (args, height) = self.args()?;
        let name = self.text_of(token);
        let Some(function) = functions::find(name) else {
            return fail(token.begin, format!("unknown function with name {}", quoted(name)));
        };
        if function.experimental && !self.options.experimental_functions {
            return fail(token.begin, format!("function {} is not enabled", quoted(name)));
        }
        self.node(ExprKind::Call { function: function.name, args }, token.begin, 1 + height)
    }

    /// The word of an aggregation is a metric name where no aggregation can follow.
    fn aggregate_or_metric(&mut self, op: AggregateOp) -> Parsed<Node> {
        let token = self.advance()?;
        match self.token.kind {
            TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without) => {
                self.aggregate(op, token.begin)
            }
            TokenKind::LeftBrace
            | TokenKind::LeftBracket
            | TokenKind::RightParen
            | TokenKind::Comma
            | TokenKind::At
            | TokenKind::Operator(_)
            | TokenKind::Keyword(Keyword::Offset | Keyword::Anchored | Keyword::Smoothed)
            | TokenKind::End => self.metric(token),
            _ => self.unexpected_here(),
        }
    }

    fn aggregate(&mut self, op: AggregateOp, begin: u32) -> Parsed<Node> {
        self.aggregations += 1;
        let mut modifier = self.aggregate_modifier()?;
        let (mut args, height) = self.args()?;
        self.aggregations -= 1;
        if modifier.is_none() {
            modifier = self.aggregate_modifier()?;
        }
        let (without, grouping) = modifier.unwrap_or_default();
        let has_param = op.param_type().is_some();
        let (count, expected) = (args.len(), 1 + usize::from(has_param));
        if count == 0 {
            return fail(begin, "no arguments for aggregate expression provided");
        }
        if matches!(op, AggregateOp::LimitK | AggregateOp::LimitRatio) && !self.options.experimental_functions {
            let op = op.as_str();
            return fail(
                begin,
                format!(
                    "{op}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
                ),
            );
        }
        let (Some(expr), true) = (args.pop(), count == expected) else {
            let message = "wrong number of arguments for aggregate expression provided";
            return fail(begin, format!("{message}, expected {expected}, got {count}"));
        };
        let aggregate = Aggregate { op, expr: Box::new(expr), param: args.pop().map(Box::new), grouping, without };
        self.node(ExprKind::Aggregate(aggregate), begin, 1 + height)
    }

    /// `by (…)` or `without (…)`: whether it is `without`, and the labels.
    fn aggregate_modifier(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let without = self.token.kind == TokenKind::Keyword(Keyword::Without);
        if !without && self.token.kind != TokenKind::Keyword(Keyword::By) {
            return Ok(None);
        }
        self.advance()?;
        Ok(Some((without, self.labels()?)))
    }

    /// `[range]` or `[range:step]` behind an expression.
    fn range(&mut self, node: Node) -> Parsed<Node> {
        let bracket = self.advance()?;
        let begin = node.expr.span.begin;
        let (range, mut below) =
            self.range_duration("subquery or range selector", "number, duration, step(), or range()")?;
        if self.take(TokenKind::Colon)?.is_none() {
            if self.token.kind != TokenKind::RightBracket {
                return self.unexpected("subquery or range", "\":\" or \"]\"");
            }
            self.advance()?;
            let ExprKind::VectorSelector(selector) = node.expr.kind else {
                return fail(bracket.begin, "ranges only allowed for vector selectors");
            };
            if selector.offset.is_some() {
                return fail(bracket.begin, "no offset modifiers allowed before range");
            }
            if selector.at.is_some() {
                return fail(bracket.begin, "no @ modifiers allowed before range");
            }
            return self.node(ExprKind::MatrixSelector { selector, range }, begin, node.height.max(1 + below));
        }
        let mut step = None;
        if self.token.kind != TokenKind::RightBracket {
            const EXPECTED: &str = "number, duration, step(), range(), or \"]\"";
            let (duration, height) = self.range_duration("subquery selector", EXPECTED)?;
            step = Some(duration);
            below = below.max(height);
        }
        if self.token.kind != TokenKind::RightBracket {
            return self.unexpected("subquery selector", "\"]\"");
        }
        self.advance()?;
        let subquery = ExprKind::Subquery { expr: Box::new(node.expr), range, step, offset: None, at: None };
        self.node(subquery, begin, 1 + node.height.max(below))
    }

    /// What stands behind `@`.
    fn at(&mut self, target: &Expr) -> Parsed<At> {
        let preset = match self.token.kind {
            TokenKind::Keyword(Keyword::Start) => Some(At::Start),
            TokenKind::Keyword(Keyword::End) => Some(At::End),
            _ => None,
        };
        if let Some(at) = preset {
            self.advance()?;
            for paren in [TokenKind::LeftParen, TokenKind::RightParen] {
                if self.take(paren)?.is_none() {
                    return self.unexpected("@", "timestamp");
                }
            }
            return Ok(at);
        }
        let Some(seconds) = self.signed_number()? else {
            return self.unexpected("@", "timestamp");
        };
        let bound = 2f64.powi(63);
        if !(seconds > -bound && seconds < bound) {
            let seconds = if seconds.is_nan() {
                "NaN".to_owned()
            } else if seconds.is_infinite() {
                if seconds > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
            } else {
                format!("{seconds:.6}")
            };
            return fail(target.span.begin, format!("timestamp out of bounds for @ modifier: {seconds}"));
        }
        Ok(At::Time((seconds * 1000.0).round() as i64))
    }

    fn set_extended(&self, expr: &mut Expr, extended: Extended) -> Parsed<()> {
        let word = extended.as_str();
        let begin = expr.span.begin;
        if !self.options.extended_selectors {
            return fail(begin, format!("{word} modifier is experimental and not enabled"));
        }
        let selector = match &mut expr.kind {
            ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => selector,
            ExprKind::Subquery { .. } => {
                return fail(begin, format!("{word} modifier is not supported for subqueries"));
            }
            _ => return fail(begin, format!("{word} modifier not implemented")),
        };
        if selector.extended.is_some_and(|other| other != extended) {
            return fail(begin, "anchored and smoothed modifiers cannot be used together");
        }
        selector.extended = Some(extended);
        Ok(())
    }
}

fn set_offset(expr: &mut Expr, value: DurationExpr) -> Parsed<()> {
    let begin = expr.span.begin;
    let offset = match &mut expr.kind {
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => &mut selector.offset,
        ExprKind::Subquery { offset, .. } => offset,
        _ => {
            const MESSAGE: &str = "offset modifier must be preceded by an instant vector selector or range vector \
                                   selector or a subquery";
            return fail(begin, MESSAGE);
        }
    };
    if offset.is_some() {
        return fail(begin, "offset may not be set multiple times");
    }
    // An offset of nothing is none.
    *offset = Some(value).filter(|value| *value != DurationExpr::Fixed(0));
    Ok(())
}

fn set_at(expr: &mut Expr, value: At) -> Parsed<()> {
    let begin = expr.span.begin;
    let at = match &mut expr.kind {
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => &mut selector.at,
        ExprKind::Subquery { at, .. } => at,
        _ => {
            const MESSAGE: &str = "@ modifier must be preceded by an instant vector selector or range vector \
                                   selector or a subquery";
            return fail(begin, MESSAGE);
        }
    };
    if at.is_some() {
        return fail(begin, "@ <timestamp> may not be set multiple times");
    }
    *at = Some(value);
    Ok(())
}

/// How tightly an operator binds.
fn binding(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        BinaryOp::Pow => 6,
    }
}

/// Whether the token may be a metric name: any word but those that say how operands are matched.
fn is_metric_name(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregate(_) => true,
        TokenKind::Operator(op) => op.is_set(),
        TokenKind::Keyword(keyword) => !matches!(
            keyword,
            Keyword::Bool | Keyword::On | Keyword::Ignoring | Keyword::GroupLeft | Keyword::GroupRight
        ),
        _ => false,
    }
}

fn begins_expression(kind: TokenKind) -> bool {
    is_metric_name(kind)
        || matches!(
            kind,
            TokenKind::Number
                | TokenKind::Duration
                | TokenKind::String
                | TokenKind::LeftParen
                | TokenKind::LeftBrace
                | TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub)
        )
}
