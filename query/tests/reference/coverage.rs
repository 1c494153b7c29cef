//! Which functions, operators and aggregations were compared with a result, and how often.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use varve_query::promql::ast::{AggregateOp, BinaryOp, DurationExpr, Expr, ExprKind, VectorSelector};
use varve_query::promql::functions;

/// How often what was compared. Keys are those of `Query::reached`, and `modifier …`.
#[derive(Clone, Default, Debug)]
pub(crate) struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    /// Counts a case in which the evaluators agreed: what gave a result in it, and the modifiers it has.
    pub(crate) fn count(&mut self, expr: &Expr, reached: &BTreeSet<String>) {
        let mut all = reached.clone();
        modifiers(expr, &mut all);
        for key in all {
            *self.0.entry(key).or_default() += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Coverage) {
        for (key, count) in &other.0 {
            *self.0.entry(key.clone()).or_default() += count;
        }
    }

    /// What was compared too seldom in so many cases.
    pub(crate) fn missing(&self, cases: u64) -> Vec<String> {
        let least = (cases / 2000).max(1);
        expected().into_iter().filter(|key| self.0.get(key).is_none_or(|count| *count < least)).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(key, count)| writeln!(f, "{count:8} {key}"))
    }
}

/// All of the language.
fn expected() -> Vec<String> {
    let mut all = Vec::new();
    for function in functions::all() {
        all.push(match function.name {
            "time" | "pi" | "scalar" | "max_of" | "min_of" | "start" | "end" | "step" | "range" => {
                format!("{}() scalar", function.name)
            }
            name => format!("{name}() float"),
        });
    }
    for name in [
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "sum_over_time",
        "avg_over_time",
        "first_over_time",
        "last_over_time",
        "label_replace",
        "label_join",
        "info",
    ] {
        all.push(format!("{name}() histogram"));
    }
    for &op in AggregateOp::ALL {
        all.push(format!("{} float", op.as_str()));
        if matches!(op, AggregateOp::Sum | AggregateOp::Avg | AggregateOp::LimitK | AggregateOp::LimitRatio) {
            all.push(format!("{} histogram", op.as_str()));
        }
    }
    for &op in BinaryOp::ALL {
        let trims = matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        if !trims {
            all.push(format!("{} float", op.as_str()));
        }
        let of_histograms = matches!(
            op,
            BinaryOp::Add
                | BinaryOp::Sub
                | BinaryOp::Mul
                | BinaryOp::Div
                | BinaryOp::Eq
                | BinaryOp::Ne
                | BinaryOp::And
                | BinaryOp::Or
                | BinaryOp::Unless
        );
        if of_histograms || trims {
            all.push(format!("{} histogram", op.as_str()));
        }
    }
    for modifier in
        ["offset", "@", "anchored", "smoothed", "subquery", "computed duration", "fill", "group_left", "group_right"]
    {
        all.push(format!("modifier {modifier}"));
    }
    all
}

fn modifiers(expr: &Expr, all: &mut BTreeSet<String>) {
    let mut has = |modifier: &str| {
        all.insert(format!("modifier {modifier}"));
    };
    let mut of_selector = |node: &VectorSelector| {
        if node.offset.is_some() {
            has("offset");
        }
        if node.at.is_some() {
            has("@");
        }
        if let Some(extended) = node.extended {
            has(&format!("{extended:?}").to_lowercase());
        }
    };
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => {}
        ExprKind::VectorSelector(node) => of_selector(node),
        ExprKind::MatrixSelector { selector, range } => {
            of_selector(selector);
            if matches!(range, DurationExpr::Computed(_)) {
                has("computed duration");
            }
        }
        ExprKind::Subquery { expr, .. } => {
            has("subquery");
            modifiers(expr, all);
        }
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => modifiers(inner, all),
        ExprKind::Call { args, .. } => args.iter().for_each(|arg| modifiers(arg, all)),
        ExprKind::Aggregate(node) => {
            modifiers(&node.expr, all);
            node.param.iter().for_each(|param| modifiers(param, all));
        }
        ExprKind::Binary(node) => {
            if let Some(matching) = &node.matching {
                if matching.fill_left.is_some() || matching.fill_right.is_some() {
                    has("fill");
                }
                match matching.cardinality {
                    varve_query::promql::ast::Cardinality::ManyToOne => has("group_left"),
                    varve_query::promql::ast::Cardinality::OneToMany => has("group_right"),
                    _ => {}
                }
            }
            modifiers(&node.lhs, all);
            modifiers(&node.rhs, all);
        }
    }
}
