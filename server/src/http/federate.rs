//! `/federate`: the newest sample of each selected series, for another server to scrape.
//!
//! As in Prometheus: every family is untyped or a histogram, series without a name are left out, stale ones too, and
//! a label `instance` that a series does not have is there with an empty value, so that the scraper does not put its
//! own in its place. Native histograms with exponential buckets exist in protobuf only.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use varve_model::{Column, Histogram, TimeRange, is_stale};

use super::error::ApiError;
use super::families::{Escaping, Families, Format, Value};
use super::work;
use super::{Answer, labels, read, request};
use crate::app::App;

/// The schema of histograms with bounds of their own, which have a form in text.
const CUSTOM_SCHEMA: i32 = -53;

/// `/federate`
pub async fn federate(app: Arc<App>, request: Request<Body>) -> Answer {
    let reader = read::Reader::of(&app, request.headers())?;
    let (format, escaping) = negotiate(request.headers());
    let params = request::params(&app, request).await?;
    work::run(&app, None, move |app, budget, out| {
        let selectors = labels::any_selectors(app, &params, &ApiError::bad_data)?;
        let now = app.now();
        let lookback = i64::try_from(app.settings.server.lookback_ms).unwrap_or(i64::MAX);
        let range = TimeRange { min: now.saturating_sub(lookback), max: now };
        let snapshot = reader.snapshot(app)?;
        let series_max = app.settings.limits.query_series_max;
        // By name, then by labels; a series that several selectors find is there once.
        let mut found = BTreeMap::new();
        for matchers in &selectors {
            budget.check()?;
            let selection = Arc::new(snapshot.select(reader.tenant, matchers, range, series_max)?);
            budget.select(selection.len() as u64)?;
            for index in 0..selection.len() {
                let labels = selection.labels(index);
                if !labels.metric_name().is_empty() {
                    found.insert((labels.metric_name().to_owned(), labels), (Arc::clone(&selection), index));
                }
            }
        }
        out.set_kind(content_type(format, escaping));
        let mut families = Families::new(format, escaping);
        let mut column = Column::default();
        for (number, ((_, labels), (selection, index))) in found.into_iter().enumerate() {
            if number.is_multiple_of(64) {
                budget.check()?;
            }
            let newest = match selection.newest(index, range) {
                Some(newest) => newest.map(|(time, value)| (time, Value::Float(value))),
                None => {
                    selection.read(index, range, &mut column)?;
                    newest(&mut column)
                }
            };
            if let Some((time, value)) = newest.filter(|(_, value)| is_shown(value, format)) {
                families.push(&labels, time, &value, out.buffer());
                if !out.flush_if_large() {
                    return Ok(());
                }
            }
        }
        families.finish(out.buffer());
        Ok(())
    })
    .await
}

fn newest(column: &mut Column) -> Option<(i64, Value)> {
    let float = column.times.last().copied().zip(column.values.last().copied());
    let histogram = column.histograms.pop();
    match (float, histogram) {
        (Some((time, value)), None) => Some((time, Value::Float(value))),
        (Some((time, value)), Some((other, _))) if time > other => Some((time, Value::Float(value))),
        (_, Some((time, histogram))) => Some((time, Value::Histogram(Box::new(histogram)))),
        (None, None) => None,
    }
}

fn is_shown(value: &Value, format: Format) -> bool {
    match value {
        Value::Float(value) => !is_stale(*value),
        Value::Histogram(histogram) => {
            let Histogram { sum, schema, .. } = **histogram;
            !is_stale(sum) && (schema == CUSTOM_SCHEMA || format == Format::Protobuf)
        }
    }
}

/// The form that a client likes best, of those that Prometheus federates in.
fn negotiate(headers: &HeaderMap) -> (Format, Escaping) {
    let mut escaping = Escaping::Underscores;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut clauses: Vec<(f32, &str)> = accept
        .split(',')
        .map(|clause| {
            let quality = clause.split(';').find_map(|part| part.trim().strip_prefix("q=")?.parse().ok());
            (quality.unwrap_or(1.0), clause)
        })
        .collect();
    // Stable: among equals the first.
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, clause) in clauses {
        let mut parts = clause.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
            .collect();
        let parameter = |name: &str| parameters.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        if let Some(asked) = parameter("escaping").and_then(Escaping::parse) {
            escaping = asked;
        }
        match kind {
            "application/vnd.google.protobuf"
                if parameter("proto") == Some("io.prometheus.client.MetricFamily")
                    && parameter("encoding") == Some("delimited") =>
            {
                return (Format::Protobuf, escaping);
            }
            "text/plain" if matches!(parameter("version"), None | Some("0.0.4")) => return (Format::Text, escaping),
            "text/plain" if parameter("version") == Some("1.0.0") => return (Format::Text, escaping),
            _ => {}
        }
    }
    (Format::Text, escaping)
}

fn content_type(format: Format, escaping: Escaping) -> String {
    let kind = match format {
        Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        Format::Protobuf => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
        }
    };
    format!("{kind}; escaping={}", escaping.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &'static str, expected: (Format, Escaping)) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        assert_eq!(negotiate(&headers), expected, "{accept}");
    }

    #[test]
    fn the_scraper_chooses_the_form() {
        check("*/*", (Format::Text, Escaping::Underscores));
        check(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3",
            (Format::Protobuf, Escaping::Underscores),
        );
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.2",
            (Format::Text, Escaping::None),
        );
        check(
            "text/plain;q=0.9, application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.1",
            (Format::Text, Escaping::Underscores),
        );
        check("application/vnd.google.protobuf", (Format::Text, Escaping::Underscores));
    }
}
