//! `info`: adds the labels of info series to the series that they describe: those with the same `instance` and `job`.
//!
//! The info series are looked at as of the time that the modifiers of the first argument name. Where several of one
//! info metric match, the one with the newest sample counts; which that is may change from step to step, so one series
//! may become several. Each combination of a series with info series is worked out once.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use varve_model::labels::METRIC_NAME;
use varve_model::{Labels, MatchOp, Matcher};

use crate::budget::{Budget, Held};
use crate::error::Error;
use crate::exec::binary::occupied;
use crate::exec::block::{ABSENT, StepBlock, any_present, is_absent};
use crate::exec::eval::{Evaluator, ill_typed};
use crate::exec::functions::label::built;
use crate::exec::scan::Wanted;
use crate::exec::steps::{Reach, Steps};
use crate::exec::{strip, subquery};
use crate::promql::ast::{Expr, ExprKind};

/// The info metric when none is named.
const TARGET_INFO: &str = "target_info";
/// The labels that tell which series an info series describes.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
/// Longest list of label values that storage is asked for; the rest is sorted out here.
const VALUES_BYTES_MAX: usize = 1 << 14;

/// No info series.
const NONE: u32 = u32::MAX;

impl Evaluator<'_> {
    /// Evaluates `info(vector, {matchers})`.
    pub(super) fn info(&self, args: &[Expr], steps: Steps) -> Result<StepBlock, Error> {
        let argument = args.first().ok_or_else(|| ill_typed("instant vector"))?;
        let base = self.vector(argument, steps)?;
        let matchers = match args.get(1).map(|arg| &strip(arg).kind) {
            Some(ExprKind::VectorSelector(selector)) => &selector.matchers[..],
            None => &[],
            Some(_) => return Err(ill_typed("label selector")),
        };
        let (names, data): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|matcher| *matcher.name == *METRIC_NAME);
        let names = self.name_matchers(&names)?;
        let is_info = |labels: &Labels| names.iter().all(|matcher| matcher.matches(labels.metric_name()));
        let ignored: Vec<bool> = base.labels().iter().map(is_info).collect();
        let described = base.labels().iter().zip(&ignored).filter(|(_, ignored)| !**ignored);
        let infos = self.info_series(argument, described.map(|(labels, _)| labels), names, &data, steps)?;
        let newest = Newest::of(&infos, &occupied(&base), self.budget)?;
        Combiner { base: &base, ignored: &ignored, infos: &infos, newest, data: &data }.run(self)
    }

    /// The matchers of the names of info metrics: those given, unless they only exclude.
    fn name_matchers(&self, given: &[&Matcher]) -> Result<Vec<Matcher>, Error> {
        let given: Vec<Matcher> = given.iter().map(|matcher| (*matcher).clone()).collect();
        if given.iter().any(|matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::Regex)) {
            return Ok(given);
        }
        let (op, value) = if given.is_empty() { (MatchOp::Equal, TARGET_INFO) } else { (MatchOp::Regex, ".+_info") };
        let mut matchers = vec![self.matcher(op, METRIC_NAME, value)?];
        matchers.extend(given);
        Ok(matchers)
    }

    fn matcher(&self, op: MatchOp, name: &str, value: &str) -> Result<Matcher, Error> {
        Matcher::new(op, name, value, self.budget.limits().regex_bytes_max as usize).map_err(Error::Execution)
    }

    /// The info series that may describe one of `series`; their values are the times of their samples.
    fn info_series<'l>(
        &self,
        argument: &Expr,
        series: impl Iterator<Item = &'l Labels>,
        names: Vec<Matcher>,
        data: &[&Matcher],
        steps: Steps,
    ) -> Result<StepBlock, Error> {
        let mut values: [BTreeSet<&str>; 2] = Default::default();
        for labels in series {
            for (values, name) in values.iter_mut().zip(IDENTIFYING) {
                values.extend(labels.get(name));
            }
        }
        if values.iter().all(BTreeSet::is_empty) {
            return Ok(StepBlock::new(steps.count));
        }
        let mut matchers = names;
        matchers.extend(data.iter().map(|matcher| (*matcher).clone()));
        for (values, name) in values.iter().zip(IDENTIFYING).filter(|(values, _)| !values.is_empty()) {
            if values.iter().map(|value| value.len() + 1).sum::<usize>() <= VALUES_BYTES_MAX {
                let alternatives: Vec<String> = values.iter().map(|value| escaped(value)).collect();
                matchers.push(self.matcher(MatchOp::Regex, name, &alternatives.join("|"))?);
            } else {
                matchers.push(self.matcher(MatchOp::NotEqual, name, "")?);
            }
        }
        let reach = self.info_reach(argument)?;
        let scan = self.newest_of(&matchers, reach, steps, Wanted::InfoTime)?;
        let mut block = scan.collect(self.pool, self.budget)?;
        let wanted = |labels: &Labels| {
            let mut asked = values.iter().zip(IDENTIFYING).filter(|(values, _)| !values.is_empty());
            asked.all(|(values, name)| labels.get(name).is_some_and(|value| values.contains(value)))
        };
        block.retain_rows(wanted);
        Ok(block)
    }

    /// When the info series are looked at: the time and offset of the first selector, with those of the subqueries
    /// around it as far as no time is fixed.
    fn info_reach(&self, expr: &Expr) -> Result<Reach, Error> {
        let reach = first_reach(expr, &|at, offset| subquery::reach(at, offset, self.request));
        reach.unwrap_or(Ok(Reach { at: None, offset: 0 }))
    }
}

type Resolve<'a> =
    dyn Fn(Option<crate::promql::ast::At>, Option<&crate::promql::ast::DurationExpr>) -> Result<Reach, Error> + 'a;

fn first_reach(expr: &Expr, resolve: &Resolve<'_>) -> Option<Result<Reach, Error>> {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => None,
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => first_reach(inner, resolve),
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => {
            Some(resolve(selector.at, selector.offset.as_ref()))
        }
        ExprKind::Subquery { expr, offset, at, .. } => {
            let inner = match first_reach(expr, resolve)? {
                Ok(inner) => inner,
                Err(error) => return Some(Err(error)),
            };
            if inner.at.is_some() {
                return Some(Ok(inner));
            }
            Some(
                resolve(*at, offset.as_ref())
                    .map(|outer| Reach { at: outer.at, offset: outer.offset.saturating_add(inner.offset) }),
            )
        }
        ExprKind::Call { args, .. } => args.iter().find_map(|arg| first_reach(arg, resolve)),
        ExprKind::Aggregate(aggregate) => first_reach(&aggregate.expr, resolve)
            .or_else(|| aggregate.param.as_deref().and_then(|param| first_reach(param, resolve))),
        ExprKind::Binary(binary) => first_reach(&binary.lhs, resolve).or_else(|| first_reach(&binary.rhs, resolve)),
    }
}

/// A text as a pattern that matches nothing else.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && c != '_' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// What identifies the series that an info series describes, and the info metric's name.
type Signature = (String, [String; 2]);

fn signature(name: &str, labels: &Labels) -> Signature {
    (name.to_owned(), IDENTIFYING.map(|name| labels.get(name).unwrap_or_default().to_owned()))
}

/// The info series that counts, by signature and step.
struct Newest {
    numbers: BTreeMap<Signature, usize>,
    /// Names of info metrics.
    names: BTreeSet<String>,
    /// Rows by signature and step; [`NONE`] where there is none.
    rows: Vec<u32>,
    steps: usize,
    held: Held,
}

impl Newest {
    /// `asked` are the steps at which there is something to describe: at others nobody minds a conflict.
    fn of(infos: &StepBlock, asked: &[bool], budget: &Budget) -> Result<Newest, Error> {
        let steps = infos.steps();
        let mut newest = Newest {
            numbers: BTreeMap::new(),
            names: BTreeSet::new(),
            rows: Vec::new(),
            steps,
            held: budget.hold(2 * infos.label_bytes() + 128 * infos.rows() as u64)?,
        };
        let mut order: Vec<u32> = (0..infos.rows() as u32).collect();
        order.sort_by(|a, b| infos.labels()[*a as usize].cmp(&infos.labels()[*b as usize]));
        for row in order {
            let labels = &infos.labels()[row as usize];
            let name = labels.metric_name();
            newest.names.insert(name.to_owned());
            let count = newest.numbers.len();
            let number = *newest.numbers.entry(signature(name, labels)).or_insert(count);
            if number == count {
                newest.held.grow(4 * steps as u64)?;
                newest.rows.resize((count + 1) * steps, NONE);
            }
            let times = infos.row(row as usize).iter().enumerate();
            for (step, time) in times.filter(|(step, time)| asked[*step] && !is_absent(**time)) {
                let kept = &mut newest.rows[number * steps + step];
                if *kept == NONE {
                    *kept = row;
                    continue;
                }
                let before = infos.row(*kept as usize)[step];
                if before == *time {
                    let (existing, time) = (&infos.labels()[*kept as usize], *time as i64);
                    return Err(Error::Execution(format!(
                        "found duplicate series for info metric: existing {existing} @ {time}, new {labels} @ {time}"
                    )));
                }
                if before < *time {
                    *kept = row;
                }
            }
        }
        Ok(newest)
    }

    /// The numbers of the signatures that a series has among the info metrics.
    fn signatures(&self, labels: &Labels) -> Vec<usize> {
        self.names.iter().filter_map(|name| self.numbers.get(&signature(name, labels)).copied()).collect()
    }
}

struct Combiner<'a> {
    base: &'a StepBlock,
    /// By row of the base: whether it is an info series itself.
    ignored: &'a [bool],
    infos: &'a StepBlock,
    newest: Newest,
    /// Which labels are wanted.
    data: &'a [&'a Matcher],
}

impl Combiner<'_> {
    fn run(&self, evaluator: &Evaluator<'_>) -> Result<StepBlock, Error> {
        let steps = self.base.steps();
        let budget = evaluator.budget;
        let mut result = StepBlock::new(steps);
        result.reserve(self.base.rows(), budget)?;
        result.adopt(self.base);
        let mut rows: BTreeMap<Vec<u32>, Vec<f64>> = BTreeMap::new();
        for (row, ignored) in self.ignored.iter().enumerate() {
            budget.check()?;
            let (labels, cells) = (&self.base.labels()[row], self.base.row(row));
            if *ignored {
                result.push(labels.clone(), cells, budget)?;
                continue;
            }
            let signatures = self.newest.signatures(labels);
            rows.clear();
            let mut held = budget.hold(0)?;
            for (step, cell) in cells.iter().enumerate().filter(|(_, cell)| !is_absent(**cell)) {
                let at = |number: &usize| self.newest.rows[number * self.newest.steps + step];
                let chosen: Vec<u32> = signatures.iter().map(at).filter(|row| *row != NONE).collect();
                let row = match rows.entry(chosen) {
                    Entry::Occupied(row) => row.into_mut(),
                    Entry::Vacant(new) => {
                        held.grow((8 * steps + 4 * new.key().len() + 64) as u64)?;
                        new.insert(vec![ABSENT; steps])
                    }
                };
                row[step] = *cell;
            }
            for (chosen, cells) in rows.iter().filter(|(_, cells)| any_present(cells)) {
                if let Some(labels) = self.labels(labels, chosen)? {
                    result.push(labels, cells, budget)?;
                }
            }
        }
        result.merge_same_labels()?;
        Ok(result)
    }

    /// The labels of a series with those of info series; `None` when it is to go because it has none of the labels
    /// asked for.
    fn labels(&self, base: &Labels, chosen: &[u32]) -> Result<Option<Labels>, Error> {
        if chosen.is_empty() {
            let may_lack = self.data.iter().all(|matcher| matcher.matches(""));
            return Ok(may_lack.then(|| base.clone()));
        }
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for row in chosen {
            for (name, value) in self.infos.labels()[*row as usize].iter().filter(|(name, _)| *name != METRIC_NAME) {
                if !self.data.is_empty() && !self.data.iter().any(|matcher| *matcher.name == *name) {
                    continue;
                }
                if added.get(name).is_some_and(|other| *other != value) {
                    return Err(Error::Execution(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.insert(name, value);
                }
            }
        }
        let mut builder = base.to_builder();
        for (name, value) in added {
            builder.set(name, value);
        }
        built(builder).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_only_their_text() {
        for text in ["a.b:9090", "10.0.0.1", "a|b", "x_y", "é-[]"] {
            let matcher = Matcher::new(MatchOp::Regex, "job", &escaped(text), 1 << 20).unwrap();
            assert!(matcher.matches(text), "{text}");
            assert!(!matcher.matches(&text.replace(['.', '|'], "a")) || !text.contains(['.', '|']), "{text}");
        }
    }
}
