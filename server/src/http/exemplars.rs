//! `/api/v1/query_exemplars`: exemplars of every series that an expression selects anywhere, whatever it computes.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use varve_model::{Labels, Matcher, TimeRange};
use varve_query::promql::ast::{Expr, ExprKind};

use super::error::ApiError;
use super::{Answer, error, json, read, request, work};
use crate::app::App;

/// `/api/v1/query_exemplars`
pub async fn query_exemplars(app: Arc<App>, request: Request<Body>) -> Answer {
    let reader = read::Reader::of(&app, request.headers())?;
    let params = request::params(&app, request).await?;
    let min = params.time_or("start", i64::MIN)?;
    let max = params.time_or("end", i64::MAX)?;
    if max < min {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    // Worded as it is, unlike elsewhere.
    let expr =
        varve_query::promql::parse(params.text("query"), &read::parse_options(&app)).map_err(|error| match error {
            varve_query::Error::Parse(what) => ApiError::bad_data(what),
            other => other.into(),
        })?;
    let mut selectors = Vec::new();
    push_selectors(&expr, &mut selectors);
    if selectors.is_empty() {
        return Ok(error::no_content());
    }
    work::run(&app, None, move |app, budget, out| {
        let snapshot = reader.snapshot(app)?;
        let exemplars_max = app.settings.limits.query_exemplars_max;
        let found = snapshot.exemplars(reader.tenant, &selectors, TimeRange { min, max }, exemplars_max)?;
        out.buffer().extend_from_slice(b"{\"status\":\"success\",\"data\":[");
        for (i, (labels, exemplars)) in found.iter().enumerate() {
            if i.is_multiple_of(64) {
                budget.check()?;
            }
            let buffer = out.buffer();
            buffer.extend_from_slice(if i > 0 { b",{\"seriesLabels\":" } else { b"{\"seriesLabels\":" });
            json::push_labels(buffer, labels);
            buffer.extend_from_slice(b",\"exemplars\":[");
            for (i, exemplar) in exemplars.iter().enumerate() {
                buffer.extend_from_slice(if i > 0 { b",{\"labels\":" } else { b"{\"labels\":" });
                push_exemplar(buffer, &exemplar.labels, exemplar.value, exemplar.time);
            }
            buffer.extend_from_slice(b"]}");
            if !out.flush_if_large() {
                return Ok(());
            }
        }
        out.buffer().extend_from_slice(b"]}");
        Ok(())
    })
    .await
}

fn push_exemplar(out: &mut Vec<u8>, labels: &Labels, value: f64, time: i64) {
    json::push_labels(out, labels);
    out.extend_from_slice(b",\"value\":\"");
    json::push_float(out, value);
    out.extend_from_slice(b"\",\"timestamp\":");
    json::push_time(out, time);
    out.push(b'}');
}

/// The matchers of every selector in an expression. The parser bounds its depth.
fn push_selectors(expr: &Expr, out: &mut Vec<Vec<Matcher>>) {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => {}
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => {
            out.push(selector.matchers.clone());
        }
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } | ExprKind::Subquery { expr: inner, .. } => {
            push_selectors(inner, out);
        }
        ExprKind::Call { args, .. } => args.iter().for_each(|arg| push_selectors(arg, out)),
        ExprKind::Aggregate(aggregate) => {
            if let Some(param) = &aggregate.param {
                push_selectors(param, out);
            }
            push_selectors(&aggregate.expr, out);
        }
        ExprKind::Binary(binary) => {
            push_selectors(&binary.lhs, out);
            push_selectors(&binary.rhs, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_found_wherever_they_stand() {
        let text = "sum by (x) (rate(a[5m])) / on (y) topk(scalar(b), max_over_time((-c{d=\"e\"})[1h:1m])) + 1";
        let expr = varve_query::promql::parse(text, &varve_query::promql::ParseOptions::default()).unwrap();
        let mut found = Vec::new();
        push_selectors(&expr, &mut found);
        let names: Vec<&str> = found
            .iter()
            .filter_map(|matchers| matchers.iter().find(|m| &*m.name == "__name__").map(|m| &*m.value))
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
    }
}
