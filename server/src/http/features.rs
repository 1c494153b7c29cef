//! `/api/v1/features`: what of Prometheus there is and is on, in its categories and by its names.
//!
//! Said from the tables that do the work: the language's functions and operators, the routes, the settings.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use varve_query::promql::{ast, functions};

use super::{Answer, ROUTES, json, success};
use crate::app::App;

/// Words of the language that stand beside operators and selectors.
const WORDS: &[&str] = &[
    "anchored",
    "at_modifier",
    "bool",
    "by",
    "duration_expr",
    "fill",
    "fill_left",
    "fill_right",
    "group_left",
    "group_right",
    "ignoring",
    "negative_offset",
    "offset",
    "on",
    "per_query_lookback_delta",
    "smoothed",
    "subqueries",
    "without",
];

type Category = (&'static str, Vec<(&'static str, bool)>);

fn has_route(path: &str) -> bool {
    ROUTES.iter().any(|route| route.path == path)
}

fn categories(app: &App) -> Vec<Category> {
    let server = &app.settings.server;
    let chosen = server.enable_feature.of_queries();
    let mut promql: Vec<(&str, bool)> = WORDS.iter().map(|word| (*word, true)).collect();
    promql.extend([
        ("delayed_name_removal", chosen.delayed_name_removal),
        ("per_step_stats", true),
        ("type_and_unit_labels", chosen.type_and_unit_labels),
    ]);
    let operators = ast::BinaryOp::ALL.iter().map(|op| op.as_str());
    let operators = operators.chain(ast::AggregateOp::ALL.iter().map(|op| op.as_str())).chain(["=~", "!~", "@"]);
    vec![
        (
            "api",
            vec![
                ("admin", server.web_enable_admin_api && has_route("/api/v1/admin/tsdb/delete_series")),
                ("exclude_alerts", true),
                ("label_values_match", true),
                ("lifecycle", server.web_enable_lifecycle && has_route("/-/reload")),
                ("openapi_3.1", true),
                ("openapi_3.2", true),
                ("otlp_write_receiver", has_route("/api/v1/otlp/v1/metrics")),
                ("query_stats", true),
                ("query_warnings", true),
                ("remote_write_receiver", has_route("/api/v1/write")),
                ("search", false),
                ("time_range_labels", true),
                ("time_range_series", true),
            ],
        ),
        ("prometheus", vec![("agent_mode", false), ("auto_reload_config", false), ("server_mode", true)]),
        ("promql", promql),
        ("promql_functions", functions::all().iter().map(|function| (function.name, true)).collect()),
        ("promql_operators", operators.map(|name| (name, true)).collect()),
        (
            "tsdb",
            vec![("exemplar_storage", true), ("isolation", true), ("native_histograms", true), ("st_storage", true)],
        ),
    ]
}

/// `/api/v1/features`
pub async fn features(app: Arc<App>, _: Request<Body>) -> Answer {
    let mut categories = categories(&app);
    Ok(success(|out| {
        for (i, (category, features)) in categories.iter_mut().enumerate() {
            out.push(if i == 0 { b'{' } else { b',' });
            json::push_string(out, category);
            out.push(b':');
            features.sort_unstable();
            for (i, (name, on)) in features.iter().enumerate() {
                out.push(if i == 0 { b'{' } else { b',' });
                json::push_string(out, name);
                out.extend_from_slice(if *on { b":true" } else { b":false" });
            }
            out.push(b'}');
        }
        out.push(b'}');
    }))
}
