//! Durations in ranges, steps and offsets: numbers, durations, and arithmetic over them, `step()` and `range()`.
//!
//! In brackets a whole expression may stand. Behind `offset` it ends as early as it can, so that `x offset 1m * 2`
//! doubles `x`: operators are read on only behind `(` or a second sign.

use super::{Keyword, Parsed, Parser, TokenKind, binding};
use crate::promql::ast::{BinaryOp, DurationExpr, DurationOp};
use crate::promql::lex::fail;

/// Seconds that fit Go's nanoseconds in 63 bits.
const SECONDS_MAX: f64 = 9_223_372_036.854_775;

/// What an error text says about the place.
#[derive(Clone, Copy)]
struct Place {
    context: &'static str,
    expected: &'static str,
}

/// A duration and the height of its tree; a number alone is none.
struct Tall {
    op: DurationOp,
    height: u32,
}

impl Parser<'_> {
    /// A duration in brackets, and the height of its tree: more than nothing, as far as that is known before the query
    /// runs.
    pub(super) fn range_duration(
        &mut self,
        context: &'static str,
        expected: &'static str,
    ) -> Parsed<(DurationExpr, u32)> {
        let begin = self.token.begin;
        let duration = self.duration(0, Place { context, expected })?;
        if let DurationOp::Literal { seconds, .. } = duration.op
            && seconds.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater)
        {
            return fail(begin, "duration must be greater than 0");
        }
        Ok(fixed(duration))
    }

    /// A duration behind `offset`, and the height of its tree.
    pub(super) fn offset_duration(&mut self) -> Parsed<(DurationExpr, u32)> {
        let place = Place { context: "offset", expected: "number, duration, step(), or range()" };
        let TokenKind::Operator(sign @ (BinaryOp::Add | BinaryOp::Sub)) = self.token.kind else {
            let whole = self.token.kind == TokenKind::LeftParen;
            let first = self.duration_primary(place)?;
            return Ok(fixed(if whole { self.duration_rest(first, 0, place)? } else { first }));
        };
        let at = self.advance()?.begin;
        if matches!(self.token.kind, TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub)) {
            let operand = self.duration(binding(BinaryOp::Pow), place)?;
            let first = self.signed(sign, operand, at)?;
            return Ok(fixed(self.duration_rest(first, 0, place)?));
        }
        let operand = self.duration_primary(place)?;
        self.signed(sign, operand, at).map(fixed)
    }

    /// Makes a part of a duration out of parts that are `below` high.
    fn tall(&mut self, op: DurationOp, begin: u32, below: u32) -> Parsed<Tall> {
        let height = 1 + below;
        self.grow(begin, height)?;
        Ok(Tall { op, height })
    }

    fn duration(&mut self, floor: u8, place: Place) -> Parsed<Tall> {
        self.depth += 1;
        self.check_depth(self.depth)?;
        let first = match self.token.kind {
            TokenKind::Operator(sign @ (BinaryOp::Add | BinaryOp::Sub)) => {
                let at = self.advance()?.begin;
                let operand = self.duration(binding(BinaryOp::Pow), place)?;
                self.signed(sign, operand, at)?
            }
            _ => self.duration_primary(place)?,
        };
        let duration = self.duration_rest(first, floor, place)?;
        self.depth -= 1;
        Ok(duration)
    }

    /// The operators and operands behind the first operand. A row of operators makes the tree higher, too.
    fn duration_rest(&mut self, first: Tall, floor: u8, place: Place) -> Parsed<Tall> {
        let mut lhs = first;
        while let TokenKind::Operator(
            op @ (BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Pow),
        ) = self.token.kind
            && binding(op) >= floor
        {
            let at = self.advance()?.begin;
            let rhs = self.duration(if op == BinaryOp::Pow { binding(op) } else { binding(op) + 1 }, place)?;
            self.check_experimental(at)?;
            if matches!(rhs.op, DurationOp::Literal { seconds, .. } if seconds == 0.0) {
                match op {
                    BinaryOp::Div => return fail(at, "division by zero"),
                    BinaryOp::Mod => return fail(at, "modulo by zero"),
                    _ => {}
                }
            }
            let below = lhs.height.max(rhs.height);
            lhs = self.tall(DurationOp::Binary(op, Box::new(lhs.op), Box::new(rhs.op)), at, below)?;
        }
        Ok(lhs)
    }

    fn duration_primary(&mut self, place: Place) -> Parsed<Tall> {
        let token = self.token;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => match self.number()? {
                Some((seconds, is_duration)) => Ok(Tall { op: literal(seconds, is_duration, token.begin)?, height: 0 }),
                None => self.unexpected(place.context, place.expected),
            },
            TokenKind::Keyword(Keyword::Step | Keyword::Range) => {
                self.advance()?;
                self.duration_expect(TokenKind::LeftParen, place)?;
                self.duration_expect(TokenKind::RightParen, place)?;
                self.check_experimental(token.begin)?;
                let step = token.kind == TokenKind::Keyword(Keyword::Step);
                self.tall(if step { DurationOp::Step } else { DurationOp::Range }, token.begin, 0)
            }
            TokenKind::Keyword(keyword @ (Keyword::MaxOf | Keyword::MinOf)) => {
                self.advance()?;
                self.duration_expect(TokenKind::LeftParen, place)?;
                let a = self.duration(0, place)?;
                self.duration_expect(TokenKind::Comma, place)?;
                let b = self.duration(0, place)?;
                self.duration_expect(TokenKind::RightParen, place)?;
                self.check_experimental(token.begin)?;
                let below = a.height.max(b.height);
                let (a, b) = (Box::new(a.op), Box::new(b.op));
                let op = if keyword == Keyword::MaxOf { DurationOp::Max(a, b) } else { DurationOp::Min(a, b) };
                self.tall(op, token.begin, below)
            }
            TokenKind::LeftParen => {
                self.advance()?;
                let inner = self.duration(0, place)?;
                self.duration_expect(TokenKind::RightParen, place)?;
                self.check_experimental(token.begin)?;
                match inner.op {
                    // More parentheses say no more.
                    DurationOp::Paren(_) => Ok(inner),
                    op => self.tall(DurationOp::Paren(Box::new(op)), token.begin, inner.height),
                }
            }
            _ => self.unexpected(place.context, place.expected),
        }
    }

    /// A signed number is a number; a plus before anything else says nothing.
    fn signed(&mut self, sign: BinaryOp, operand: Tall, at: u32) -> Parsed<Tall> {
        match (sign, operand.op) {
            (BinaryOp::Sub, DurationOp::Literal { seconds, is_duration }) => {
                Ok(Tall { op: literal(-seconds, is_duration, at)?, height: operand.height })
            }
            (BinaryOp::Sub, op) => self.tall(DurationOp::Negate(Box::new(op)), at, operand.height),
            (_, op) => Ok(Tall { op, height: operand.height }),
        }
    }

    fn duration_expect(&mut self, kind: TokenKind, place: Place) -> Parsed<()> {
        match self.take(kind)? {
            Some(_) => Ok(()),
            None => self.unexpected(place.context, place.expected),
        }
    }

    fn check_experimental(&self, at: u32) -> Parsed<()> {
        if self.options.duration_expressions {
            return Ok(());
        }
        fail(at, "experimental duration expression is not enabled")
    }
}

fn literal(seconds: f64, is_duration: bool, at: u32) -> Parsed<DurationOp> {
    if !(-SECONDS_MAX..=SECONDS_MAX).contains(&seconds) {
        return fail(at, "duration out of range");
    }
    Ok(DurationOp::Literal { seconds, is_duration })
}

/// A lone number is known now.
fn fixed(duration: Tall) -> (DurationExpr, u32) {
    match duration.op {
        // Through nanoseconds, as Go has them: what is less than a millisecond is cut off.
        DurationOp::Literal { seconds, .. } => {
            (DurationExpr::Fixed((seconds * 1e9).round() as i64 / 1_000_000), duration.height)
        }
        op => (DurationExpr::Computed(Box::new(op)), duration.height),
    }
}
