//! `info`: adds the labels of info series, found by the labels that identify a target.

use std::collections::BTreeSet;

use varve_model::{MatchOp, Matcher};
use varve_query::promql::ast::{At, DurationExpr, Expr, ExprKind, VectorSelector};

use crate::evaluate::{
    Element, Frame, METRIC_NAME, Outcome, Query, SAME_LABELS, Sample, Series, Set, at, name_of, strip,
};
use crate::selector;

const IDENTIFYING: [&str; 2] = ["instance", "job"];

pub(crate) fn info(query: &Query<'_>, args: &[Expr], frame: Frame) -> Outcome<Vec<Series>> {
    let base = query.vector(&args[0], frame)?;
    let chosen: Vec<Matcher> = match args.get(1).map(|arg| &strip(arg).kind) {
        Some(ExprKind::VectorSelector(node)) => node.matchers.clone(),
        _ => Vec::new(),
    };
    let (names, of_labels): (Vec<Matcher>, Vec<Matcher>) = chosen.into_iter().partition(|m| *m.name == *METRIC_NAME);
    let names = info_names(names);
    let is_info = |labels: &Set| names.iter().all(|matcher| matcher.matches(name_of(labels)));

    let found = info_series(query, &args[0], &base, &names, &of_labels, &is_info, frame)?;
    let wanted: BTreeSet<&str> = of_labels.iter().map(|matcher| &*matcher.name).collect();
    let identity = |labels: &Set| IDENTIFYING.map(|name| labels.get(name).cloned().unwrap_or_default());
    let series = query.each_step(frame, |_, time| {
        let base = at(&base, time);
        if base.is_empty() {
            return Ok(Vec::new());
        }
        // Of info series with the same name and identity the newest counts.
        let mut infos: Vec<(&Set, i64)> = Vec::new();
        for one in &found {
            let Some(Sample::Float(sampled)) = one.samples.get(&time) else { continue };
            let sampled = *sampled as i64;
            let same = |other: &Set| name_of(other) == name_of(&one.labels) && identity(other) == identity(&one.labels);
            match infos.iter_mut().find(|(other, _)| same(other)) {
                None => infos.push((&one.labels, sampled)),
                Some(other) if other.1 == sampled => return Err("found duplicate series for info metric".to_owned()),
                Some(other) if other.1 < sampled => *other = (&one.labels, sampled),
                Some(_) => {}
            }
        }
        let mut out = Vec::new();
        for mut element in base {
            if is_info(&element.labels) {
                out.push(element);
                continue;
            }
            let matching: Vec<&Set> = infos
                .iter()
                .map(|(labels, _)| *labels)
                .filter(|labels| identity(labels) == identity(&element.labels))
                .collect();
            if matching.is_empty() && !of_labels.iter().all(Matcher::matches_absent) {
                continue;
            }
            enrich(&mut element, &matching, &wanted)?;
            out.push(element);
        }
        Ok(out)
    })?;
    // Here equal labels are an error even where names are dropped later.
    let mut seen = BTreeSet::new();
    if series.iter().all(|one| seen.insert(&one.labels)) { Ok(series.clone()) } else { Err(SAME_LABELS.to_owned()) }
}

fn enrich(element: &mut Element, infos: &[&Set], wanted: &BTreeSet<&str>) -> Outcome<()> {
    let mut added = Set::new();
    for labels in infos {
        for (name, value) in labels.iter() {
            if name == METRIC_NAME || (!wanted.is_empty() && !wanted.contains(name.as_str())) {
                continue;
            }
            if added.get(name).is_some_and(|other| other != value) {
                return Err(format!("conflicting label: {name}"));
            }
            if !element.labels.contains_key(name) {
                added.insert(name.clone(), value.clone());
            }
        }
    }
    element.labels.extend(added);
    Ok(())
}

/// Which names info series have: `target_info` when nothing is said, all that end in `_info` when only others are ruled
/// out.
fn info_names(mut names: Vec<Matcher>) -> Vec<Matcher> {
    let matcher = |op: MatchOp, value: &str| Matcher::new(op, METRIC_NAME, value, 1 << 20);
    if names.is_empty() {
        names.extend(matcher(MatchOp::Equal, "target_info"));
    } else if !names.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex)) {
        names.extend(matcher(MatchOp::Regex, ".+_info"));
    }
    names
}

/// Info series with the times of their samples, of those targets that the base has.
fn info_series(
    query: &Query<'_>,
    base_expr: &Expr,
    base: &[Series],
    names: &[Matcher],
    of_labels: &[Matcher],
    is_info: &dyn Fn(&Set) -> bool,
    frame: Frame,
) -> Outcome<Vec<Series>> {
    let mut identities: Vec<(&str, BTreeSet<&str>)> = Vec::new();
    for name in IDENTIFYING {
        let values = base.iter().filter(|one| !is_info(&one.labels)).filter_map(|one| one.labels.get(name));
        let values: BTreeSet<&str> = values.map(String::as_str).collect();
        if !values.is_empty() {
            identities.push((name, values));
        }
    }
    if identities.is_empty() {
        return Ok(Vec::new());
    }
    let (time, offset) = modifiers(base_expr).unwrap_or((None, Vec::new()));
    let matchers: Vec<Matcher> = names.iter().chain(of_labels).cloned().collect();
    let mut out: Vec<Series> = Vec::new();
    let mut node = VectorSelector { matchers, at: time, ..VectorSelector::default() };
    let shift: i64 = offset.iter().map(|offset| selector::duration(query, offset)).sum::<Outcome<i64>>()?;
    node.offset = Some(DurationExpr::Fixed(shift));
    for mut one in selector::times_of_info(query, &node, frame)? {
        let fits = |(name, values): &(&str, BTreeSet<&str>)| {
            one.labels.get(*name).is_some_and(|v| values.contains(v.as_str()))
        };
        if !identities.iter().all(fits) {
            continue;
        }
        if one.samples.values().any(|sample| matches!(sample, Sample::Histogram(_))) {
            return Err("an info metric has float samples".to_owned());
        }
        one.drops_name = false;
        out.push(one);
    }
    Ok(out)
}

/// `@` and offsets of the first selector, up to the subquery that fixes its time.
fn modifiers(expr: &Expr) -> Option<(Option<At>, Vec<DurationExpr>)> {
    match &expr.kind {
        ExprKind::VectorSelector(node) | ExprKind::MatrixSelector { selector: node, .. } => {
            Some((node.at, node.offset.iter().cloned().collect()))
        }
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => modifiers(inner),
        ExprKind::Subquery { expr, offset, at, .. } => {
            let (inner, mut offsets) = modifiers(expr)?;
            if inner.is_some() {
                return Some((inner, offsets));
            }
            offsets.extend(offset.iter().cloned());
            Some((*at, offsets))
        }
        ExprKind::Call { args, .. } => args.iter().find_map(modifiers),
        ExprKind::Aggregate(node) => modifiers(&node.expr).or_else(|| node.param.as_ref().and_then(|p| modifiers(p))),
        ExprKind::Binary(node) => modifiers(&node.lhs).or_else(|| modifiers(&node.rhs)),
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => None,
    }
}
