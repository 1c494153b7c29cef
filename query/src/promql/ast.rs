//! The syntax tree of PromQL, whole: Prometheus 3.14 with its experimental parts.
//!
//! Plain data. `parse` makes it and has checked it (types, arities, vector matching); `print` writes it; `lower` and
//! the executor read it. Durations are milliseconds. Positions are byte ranges of the query text.

use varve_model::{Matcher, Millis};

/// A byte range of the query text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub begin: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The type of an expression's value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ValueType {
    /// `scalar`
    Scalar,
    /// `string`
    String,
    /// `instant vector`
    Vector,
    /// `range vector`
    Matrix,
}

impl ValueType {
    /// The name in error texts: `instant vector`, `range vector`, `scalar`, `string`.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::String => "string",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
        }
    }
}

/// An expression with its place in the text.
#[derive(Clone, PartialEq, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// What an expression is.
#[derive(Clone, PartialEq, Debug)]
pub enum ExprKind {
    /// A number.
    Number(f64),
    /// A duration in number position, in seconds. Evaluates as that number; only the printer tells them apart.
    Duration(f64),
    /// A string literal, unescaped.
    String(String),
    /// `( expr )`
    Paren(Box<Expr>),
    /// `-expr` or `+expr`
    Unary {
        /// Whether the sign is minus.
        negative: bool,
        /// The operand: scalar or vector.
        expr: Box<Expr>,
    },
    /// `name{…} @ … offset …`
    VectorSelector(VectorSelector),
    /// `name{…}[range] @ … offset …`; `@` and `offset` are in the selector.
    MatrixSelector {
        /// The selector.
        selector: VectorSelector,
        /// The range.
        range: DurationExpr,
    },
    /// `expr[range:step] @ … offset …`
    Subquery {
        /// What is evaluated at each step.
        expr: Box<Expr>,
        /// How far back.
        range: DurationExpr,
        /// Resolution; the default step when absent.
        step: Option<DurationExpr>,
        /// `offset`.
        offset: Option<DurationExpr>,
        /// `@`.
        at: Option<At>,
    },
    /// `function(args…)`
    Call {
        /// Name in lower case as in the function table.
        function: &'static str,
        /// Arguments as written; optional ones may be missing at the end.
        args: Vec<Expr>,
    },
    /// `op by (…) (param, expr)`
    Aggregate(Aggregate),
    /// `lhs op rhs`
    Binary(Binary),
}

/// An instant selector with its modifiers.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct VectorSelector {
    /// Metric name written before the braces, if any; it is also the last of the matchers. A name given as a bare
    /// quoted string inside the braces is only a matcher.
    pub name: Option<String>,
    /// All matchers, in the order written; the one of a name before the braces comes last.
    pub matchers: Vec<Matcher>,
    /// `offset`.
    pub offset: Option<DurationExpr>,
    /// `@`.
    pub at: Option<At>,
    /// `anchored` or `smoothed`.
    pub extended: Option<Extended>,
}

/// Range selector modifiers (experimental).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extended {
    /// `anchored`
    Anchored,
    /// `smoothed`
    Smoothed,
}

impl Extended {
    /// The word of the language.
    pub fn as_str(self) -> &'static str {
        match self {
            Extended::Anchored => "anchored",
            Extended::Smoothed => "smoothed",
        }
    }
}

/// The `@` modifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// A fixed time.
    Time(Millis),
    /// `start()`
    Start,
    /// `end()`
    End,
}

/// A duration: fixed when the text is parsed, or an expression over `step()` and `range()` (experimental).
#[derive(Clone, PartialEq, Debug)]
pub enum DurationExpr {
    /// Milliseconds; may be negative for offsets.
    Fixed(i64),
    /// To be evaluated with the query's step and range (seconds), see [`DurationOp`].
    Computed(Box<DurationOp>),
}

/// One node of a duration expression. Values are seconds.
#[derive(Clone, PartialEq, Debug)]
pub enum DurationOp {
    /// A number or duration literal, in seconds; `is_duration` remembers how it was written for the printer.
    Literal {
        /// Seconds.
        seconds: f64,
        /// Written as a duration, not as a number.
        is_duration: bool,
    },
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `-x`
    Negate(Box<DurationOp>),
    /// `+x`
    Plus(Box<DurationOp>),
    /// `( x )`
    Paren(Box<DurationOp>),
    /// `min_of(a, b)`
    Min(Box<DurationOp>, Box<DurationOp>),
    /// `max_of(a, b)`
    Max(Box<DurationOp>, Box<DurationOp>),
    /// `a op b`, op one of `+ - * / % ^`
    Binary(BinaryOp, Box<DurationOp>, Box<DurationOp>),
}

/// Aggregation operators.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the words of the language")]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    CountValues,
    Quantile,
    LimitK,
    LimitRatio,
}

impl AggregateOp {
    /// All of them.
    pub const ALL: &[AggregateOp] = &[
        AggregateOp::Sum,
        AggregateOp::Avg,
        AggregateOp::Min,
        AggregateOp::Max,
        AggregateOp::Count,
        AggregateOp::Group,
        AggregateOp::Stddev,
        AggregateOp::Stdvar,
        AggregateOp::TopK,
        AggregateOp::BottomK,
        AggregateOp::CountValues,
        AggregateOp::Quantile,
        AggregateOp::LimitK,
        AggregateOp::LimitRatio,
    ];

    /// The word of the language.
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Count => "count",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::TopK => "topk",
            AggregateOp::BottomK => "bottomk",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Quantile => "quantile",
            AggregateOp::LimitK => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// The type of the parameter before the vector, for those that have one.
    pub fn param_type(self) -> Option<ValueType> {
        match self {
            AggregateOp::TopK
            | AggregateOp::BottomK
            | AggregateOp::Quantile
            | AggregateOp::LimitK
            | AggregateOp::LimitRatio => Some(ValueType::Scalar),
            AggregateOp::CountValues => Some(ValueType::String),
            _ => None,
        }
    }
}

/// An aggregation.
#[derive(Clone, PartialEq, Debug)]
pub struct Aggregate {
    /// Operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Box<Expr>,
    /// k, quantile, ratio or label name, for the operators that take one.
    pub param: Option<Box<Expr>>,
    /// Labels of `by` or `without`, as written.
    pub grouping: Vec<String>,
    /// Whether it is `without`.
    pub without: bool,
}

/// Binary operators.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the words of the language")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    Unless,
    /// `</` of native histograms
    TrimUpper,
    /// `>/` of native histograms
    TrimLower,
}

impl BinaryOp {
    /// All of them.
    pub const ALL: &[BinaryOp] = &[
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Mod,
        BinaryOp::Pow,
        BinaryOp::Atan2,
        BinaryOp::Eq,
        BinaryOp::Ne,
        BinaryOp::Lt,
        BinaryOp::Le,
        BinaryOp::Gt,
        BinaryOp::Ge,
        BinaryOp::And,
        BinaryOp::Or,
        BinaryOp::Unless,
        BinaryOp::TrimUpper,
        BinaryOp::TrimLower,
    ];

    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }

    /// `== != < <= > >=`
    pub fn is_comparison(self) -> bool {
        matches!(self, BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge)
    }

    /// `and or unless`
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// Which side may have several series per match group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cardinality {
    /// One to one.
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the series of two vectors are matched.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct VectorMatching {
    /// Cardinality.
    pub cardinality: Cardinality,
    /// Labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether `labels` are `on`.
    pub on: bool,
    /// Labels of `group_left(…)` or `group_right(…)`.
    pub include: Vec<String>,
    /// `fill`/`fill_left` value for missing left sides (experimental).
    pub fill_left: Option<f64>,
    /// `fill`/`fill_right` value for missing right sides (experimental).
    pub fill_right: Option<f64>,
}

/// A binary operation.
#[derive(Clone, PartialEq, Debug)]
pub struct Binary {
    /// Operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Box<Expr>,
    /// Right operand.
    pub rhs: Box<Expr>,
    /// Whether comparisons give 0/1 (`bool`) instead of filtering.
    pub returns_bool: bool,
    /// Matching; present exactly when both sides are vectors.
    pub matching: Option<VectorMatching>,
}
