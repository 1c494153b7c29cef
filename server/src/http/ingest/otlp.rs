//! OTLP metrics over HTTP, in protobuf or JSON, at the paths of Prometheus, OpenTelemetry and VictoriaMetrics.
//!
//! The answer is OTLP's own: 200 with an empty message when all is stored, with `partial_success` when data points were
//! left out; in the form of the request. What is wrong as a whole is 400, what passes by itself 503.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use varve_model::{TenantId, WriteBatch};
use varve_protocol::Summary;
use varve_protocol::otlp::{self, Delta, Promote, Strategy};
use varve_protocol::protobuf::push_varint;

use super::{Encoding, refusal_text, take_with};
use crate::app::App;
use crate::config::Settings;
use crate::delta::{Bounds, LeftOut};
use crate::http::body::ReadBody;
use crate::http::error::ApiError;
use crate::http::{Answer, json, request};
use crate::ingest::Outcome;

/// What is left out of a text about what was left out.
const TEXT_MAX: usize = 4000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

/// How the settings say that metrics are translated; the error names the setting.
pub fn settings(all: &Settings) -> Result<otlp::Settings, String> {
    let of = &all.otlp;
    let strategy = Strategy::parse(&of.translation_strategy).ok_or_else(|| {
        format!("setting `otlp.translation_strategy`: there is no strategy {:?}", of.translation_strategy)
    })?;
    let names = |text: &str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let promoted = names(&of.promote_resource_attributes);
    let ignored = names(&of.ignore_resource_attributes);
    let promote = match (of.promote_all_resource_attributes, promoted.is_empty(), ignored.is_empty()) {
        (true, false, _) => {
            return Err("settings `otlp.promote_all_resource_attributes` and `otlp.promote_resource_attributes` \
                        exclude each other"
                .to_owned());
        }
        (false, _, false) => {
            return Err(
                "setting `otlp.ignore_resource_attributes` needs `otlp.promote_all_resource_attributes`".to_owned()
            );
        }
        (true, true, _) => Promote::AllBut(ignored),
        (false, _, true) => Promote::Some(promoted),
    };
    let features = &all.server.enable_feature;
    Ok(otlp::Settings {
        strategy,
        promote,
        keep_identifying: of.keep_identifying_resource_attributes,
        custom_buckets: of.convert_histograms_to_nhcb,
        delta: if features.has("otlp-native-delta-ingestion") { Delta::Native } else { Delta::Cumulative },
        promote_scope: of.promote_scope_metadata,
        type_and_unit_labels: features.has("type-and-unit-labels"),
        label_underscore_sanitization: of.label_name_underscore_sanitization,
        label_multiple_underscores: of.label_name_preserve_multiple_underscores,
        lookback_ms: i64::try_from(all.server.lookback_ms).unwrap_or(i64::MAX),
    })
}

/// `POST /api/v1/otlp/v1/metrics` and its other names.
pub async fn otlp(app: Arc<App>, request: Request<Body>) -> Answer {
    let encoding = Encoding::of(request.headers(), Encoding::Identity)?;
    let form = match request::media_type(request.headers()).as_str() {
        "application/x-protobuf" | "" => Form::Protobuf,
        "application/json" => Form::Json,
        other => {
            return Err(ApiError::unsupported(format!(
                "content type {other:?} is neither application/x-protobuf nor application/json"
            )));
        }
    };
    let settings = settings(&app.settings).map_err(ApiError::internal)?;
    let read = |app: &App, body: &mut ReadBody<'_>, batch: &mut WriteBatch| {
        let limits = &app.settings.limits;
        let decode = if form == Form::Json { otlp::decode_json } else { otlp::decode };
        body.decode(encoding, |plain| decode(plain, &settings, limits, batch))
    };
    // Sums of deltas are made in the order of requests, just before they are stored.
    let sum_up = |app: &App, tenant: TenantId, batch: &mut WriteBatch, summary: &mut Summary| {
        if summary.deltas.is_empty() {
            return;
        }
        let bounds = Bounds::of(&app.settings);
        let LeftOut { late, in_future, beyond_limit } =
            app.deltas.sum_up(tenant, batch, &summary.deltas, app.now(), &bounds);
        let metrics = &app.metrics;
        for (left_out, counter, why) in [
            (late, &metrics.deltas_late, "came late"),
            (in_future, &metrics.deltas_in_future, "lie ahead of the clock beyond `future_ms_max`"),
            (
                beyond_limit,
                &metrics.deltas_beyond_limit,
                "need a sum beyond `otlp.delta_bytes_per_tenant_max` or `otlp.delta_bytes_max`",
            ),
        ] {
            if left_out > 0 {
                counter.add(left_out);
                summary.rejected += left_out;
                summary.warnings.push(format!("{left_out} delta samples {why}"));
            }
        }
    };
    let outcome = take_with(&app, request, &read, &sum_up).await?;
    Ok(answer(form, &outcome, &app.settings.limits))
}

fn answer(form: Form, outcome: &Outcome, limits: &varve_model::Limits) -> Response<Body> {
    let rejected = outcome.rejected + outcome.refused_samples();
    let mut text = if outcome.refused.is_empty() { String::new() } else { refusal_text(outcome, limits) };
    for warning in &outcome.warnings {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(warning);
    }
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    let is_told = rejected > 0 || !text.is_empty();
    let mut body = Vec::new();
    let kind = match form {
        Form::Json => {
            body.extend_from_slice(b"{");
            if is_told {
                body.extend_from_slice(b"\"partialSuccess\":{");
                if rejected > 0 {
                    body.extend_from_slice(format!("\"rejectedDataPoints\":\"{rejected}\",").as_bytes());
                }
                body.extend_from_slice(b"\"errorMessage\":");
                json::push_string(&mut body, &text);
                body.push(b'}');
            }
            body.push(b'}');
            "application/json"
        }
        Form::Protobuf => {
            if is_told {
                let mut partial = Vec::new();
                if rejected > 0 {
                    partial.push(1 << 3);
                    push_varint(&mut partial, rejected);
                }
                partial.push(2 << 3 | 2);
                push_varint(&mut partial, text.len() as u64);
                partial.extend_from_slice(text.as_bytes());
                body.push(1 << 3 | 2);
                push_varint(&mut body, partial.len() as u64);
                body.extend_from_slice(&partial);
            }
            "application/x-protobuf"
        }
    };
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
