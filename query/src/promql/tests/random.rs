//! Random syntax trees: well-typed, and in the one form that parsing their text gives (parentheses where they must be,
//! matchers in order), so that parsing what was printed must give the same tree.

use varve_model::{MatchOp, Matcher};

use crate::promql::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Cardinality, DurationExpr, DurationOp, Expr, ExprKind, Extended,
    Span, ValueType, VectorMatching, VectorSelector,
};
use crate::promql::{functions, print_matcher};

/// The tree of a seed.
pub(super) fn expression(seed: u64) -> Expr {
    let mut random = Random(seed);
    let wanted = *random.of(&[ValueType::Vector, ValueType::Vector, ValueType::Scalar, ValueType::Matrix]);
    random.expr(wanted, 4)
}

/// The tree with all places forgotten.
pub(super) fn without_spans(mut expr: Expr) -> Expr {
    expr.span = Span::default();
    let forget = |expr: &mut Box<Expr>| {
        let inner = std::mem::replace(&mut **expr, number(0.0));
        **expr = without_spans(inner);
    };
    match &mut expr.kind {
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } | ExprKind::Subquery { expr: inner, .. } => {
            forget(inner);
        }
        ExprKind::Call { args, .. } => *args = std::mem::take(args).into_iter().map(without_spans).collect(),
        ExprKind::Aggregate(aggregate) => {
            forget(&mut aggregate.expr);
            if let Some(param) = &mut aggregate.param {
                forget(param);
            }
        }
        ExprKind::Binary(binary) => {
            forget(&mut binary.lhs);
            forget(&mut binary.rhs);
        }
        _ => {}
    }
    expr
}

fn number(value: f64) -> Expr {
    Expr { kind: ExprKind::Number(value), span: Span::default() }
}

const NAMES: &[&str] = &["a", "b_c", "sum", "offset", "x:y", "and", "step", "fill", "up"];
const LABELS: &[&str] = &["a", "le", "job", "a.b", "üü", "by", "0"];
const VALUES: &[&str] = &["", "x", "a|b", "\"\\\n", "☺\u{1}", "1.*"];
const MS: &[i64] = &[1, 1000, 1500, 60_000, 3_600_000, 86_400_000, 90_061_001, 31_536_000_000];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
        if self.chance(3) { Some(make(self)) } else { None }
    }

    fn labels(&mut self) -> Vec<String> {
        (0..self.below(3)).map(|_| (*self.of(LABELS)).to_owned()).collect()
    }

    fn number(&mut self) -> f64 {
        *self.of(&[
            0.0,
            -1.0,
            0.5,
            1e21,
            1e-9,
            123_456.75,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::MAX,
            5e-324,
        ])
    }

    fn expr(&mut self, wanted: ValueType, depth: usize) -> Expr {
        let kind = match wanted {
            ValueType::String => ExprKind::String((*self.of(VALUES)).to_owned()),
            ValueType::Matrix if depth > 0 && self.chance(2) => self.subquery(depth - 1),
            ValueType::Matrix => ExprKind::MatrixSelector { selector: self.selector(), range: self.duration(true) },
            ValueType::Vector | ValueType::Scalar if depth > 0 && self.chance(2) => self.binary(wanted, depth - 1),
            ValueType::Vector | ValueType::Scalar if depth > 0 && self.chance(6) => self.unary(wanted, depth - 1),
            ValueType::Vector | ValueType::Scalar if depth > 0 && self.chance(2) => self.call(wanted, depth - 1),
            ValueType::Vector if depth > 0 && self.chance(2) => self.aggregate(depth - 1),
            ValueType::Vector => ExprKind::VectorSelector(self.selector()),
            ValueType::Scalar if self.chance(4) => ExprKind::Duration(*self.of(MS) as f64 / 1000.0),
            ValueType::Scalar => ExprKind::Number(self.number()),
        };
        Expr { kind, span: Span::default() }
    }

    /// An operand that needs no parentheses, or has them.
    fn operand(&mut self, wanted: ValueType, depth: usize) -> Expr {
        let expr = self.expr(wanted, depth);
        match expr.kind {
            // A signed number must not stand left of `^`, nor anything with an operator beside another.
            ExprKind::Binary(_) | ExprKind::Unary { .. } | ExprKind::Number(_) => paren(expr),
            _ => expr,
        }
    }

    fn subquery(&mut self, depth: usize) -> ExprKind {
        ExprKind::Subquery {
            expr: Box::new(self.operand(ValueType::Vector, depth)),
            range: self.duration(true),
            step: self.maybe(|r| r.duration(true)),
            offset: self.maybe(|r| r.duration(false)),
            at: self.maybe(Random::at),
        }
    }

    fn unary(&mut self, wanted: ValueType, depth: usize) -> ExprKind {
        let operand = match self.operand(wanted, depth) {
            // A signed literal is a literal.
            expr @ Expr { kind: ExprKind::Duration(_), .. } => paren(expr),
            expr => expr,
        };
        ExprKind::Unary { negative: self.chance(2), expr: Box::new(operand) }
    }

    fn binary(&mut self, wanted: ValueType, depth: usize) -> ExprKind {
        let op = *self.of(BinaryOp::ALL);
        let (lhs, rhs) = match wanted {
            ValueType::Vector if op.is_set() || self.chance(2) => (ValueType::Vector, ValueType::Vector),
            ValueType::Vector if self.chance(2) => (ValueType::Scalar, ValueType::Vector),
            ValueType::Vector => (ValueType::Vector, ValueType::Scalar),
            _ => (ValueType::Scalar, ValueType::Scalar),
        };
        let op = if lhs == ValueType::Scalar && op.is_set() { BinaryOp::Mul } else { op };
        let vectors = lhs == ValueType::Vector && rhs == ValueType::Vector;
        let returns_bool = op.is_comparison() && (self.chance(2) || (wanted == ValueType::Scalar));
        let matching = vectors.then(|| self.matching(op));
        let left = self.expr(lhs, depth);
        // A row of one operator needs no parentheses on the left.
        let row = matches!(&left.kind, ExprKind::Binary(b) if b.op == op && op != BinaryOp::Pow);
        let is_operand = !matches!(left.kind, ExprKind::Binary(_) | ExprKind::Unary { .. } | ExprKind::Number(_));
        let lhs = if row || is_operand { left } else { paren(left) };
        let rhs = self.operand(rhs, depth);
        ExprKind::Binary(Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs), returns_bool, matching })
    }

    fn matching(&mut self, op: BinaryOp) -> VectorMatching {
        let on = self.chance(2);
        let labels = self.labels();
        if op.is_set() {
            return VectorMatching { cardinality: Cardinality::ManyToMany, labels, on, ..VectorMatching::default() };
        }
        let cardinality = *self.of(&[Cardinality::OneToOne, Cardinality::ManyToOne, Cardinality::OneToMany]);
        let mut include = if cardinality == Cardinality::OneToOne { Vec::new() } else { self.labels() };
        include.retain(|label| !on || !labels.contains(label));
        let fills = [None, Some(2.0), Some(-1e30)];
        VectorMatching { cardinality, labels, on, include, fill_left: *self.of(&fills), fill_right: *self.of(&fills) }
    }

    fn call(&mut self, wanted: ValueType, depth: usize) -> ExprKind {
        let all: Vec<_> = functions::all().iter().filter(|f| f.returns == wanted && f.name != "info").collect();
        let function = **self.of(&all);
        let max = function.args_max().unwrap_or(function.args.len() + 2);
        let count = function.args_min() + self.below(max - function.args_min() + 1);
        let types = (0..count).filter_map(|i| function.args.get(i).or(function.args.last()));
        ExprKind::Call { function: function.name, args: types.map(|t| self.expr(*t, depth)).collect() }
    }

    fn aggregate(&mut self, depth: usize) -> ExprKind {
        let op = *self.of(AggregateOp::ALL);
        ExprKind::Aggregate(Aggregate {
            op,
            param: op.param_type().map(|t| Box::new(self.expr(t, depth))),
            expr: Box::new(self.expr(ValueType::Vector, depth)),
            grouping: self.labels(),
            without: self.chance(2),
        })
    }

    fn selector(&mut self) -> VectorSelector {
        let mut matchers: Vec<Matcher> = (0..self.below(3))
            .map(|_| {
                let op = *self.of(&[MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]);
                let value = match op {
                    MatchOp::Regex | MatchOp::NotRegex => *self.of(&["", "a|b", "x.*"]),
                    _ => *self.of(VALUES),
                };
                let label = *self.of(LABELS);
                Matcher::new(op, label, value, 1 << 20).unwrap()
            })
            .collect();
        let equal = |name: &str, value: &str| Matcher::new(MatchOp::Equal, name, value, 1 << 20).unwrap();
        let name = if self.chance(4) {
            matchers.push(equal("__name__", "http.requests"));
            None
        } else {
            Some((*self.of(NAMES)).to_owned())
        };
        matchers.sort_by_cached_key(print_matcher);
        matchers.extend(name.as_deref().map(|name| equal("__name__", name)));
        VectorSelector {
            name,
            matchers,
            offset: self.maybe(|r| r.duration(false)),
            at: self.maybe(Random::at),
            extended: self.maybe(|r| *r.of(&[Extended::Anchored, Extended::Smoothed])),
        }
    }

    fn at(&mut self) -> At {
        *self.of(&[At::Start, At::End, At::Time(0), At::Time(-1), At::Time(1_600_000_000_123)])
    }

    fn duration(&mut self, positive: bool) -> DurationExpr {
        if self.chance(3) {
            let op = DurationOp::Paren(Box::new(self.duration_op(2)));
            // Behind `offset` an operator would be read as part of the duration, but not behind a sign.
            return DurationExpr::Computed(Box::new(if positive { op } else { DurationOp::Negate(Box::new(op)) }));
        }
        let ms = *self.of(MS);
        DurationExpr::Fixed(if !positive && self.chance(3) { -ms } else { ms })
    }

    /// Parentheses around every operand.
    fn duration_op(&mut self, depth: usize) -> DurationOp {
        let operand = |r: &mut Random| {
            let inner = match r.duration_op(depth.saturating_sub(1)) {
                DurationOp::Paren(inner) => inner,
                inner => Box::new(inner),
            };
            Box::new(DurationOp::Paren(inner))
        };
        match self.below(if depth == 0 { 4 } else { 8 }) {
            0 => DurationOp::Step,
            1 => DurationOp::Range,
            2 => DurationOp::Literal { seconds: *self.of(&[2.0, 0.5, -3.0]), is_duration: false },
            3 => DurationOp::Literal { seconds: *self.of(MS) as f64 / 1000.0, is_duration: true },
            4 => DurationOp::Negate(operand(self)),
            5 => DurationOp::Min(operand(self), operand(self)),
            6 => DurationOp::Max(operand(self), operand(self)),
            _ => {
                let op = *self.of(&[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Mod, BinaryOp::Pow]);
                DurationOp::Binary(op, operand(self), operand(self))
            }
        }
    }
}

fn paren(expr: Expr) -> Expr {
    Expr { kind: ExprKind::Paren(Box::new(expr)), span: Span::default() }
}
