//! Catalog: what each endpoint is for, which parameters it takes and how it differs from Prometheus 3.14. The OpenAPI
//! description and docs/compatibility.md are written from it and from the table of routes; a test holds them together.

use self::Kind::{Choice, Duration, Number, Query, Selector, Switch, Text, Time};

/// What a parameter's text is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A PromQL expression.
    Query,
    /// A series selector.
    Selector,
    /// Seconds since 1970 with decimals, or RFC 3339.
    Time,
    /// Seconds with decimals, or `1h30m`.
    Duration,
    /// A whole number from 0.
    Number,
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What its text is.
    pub kind: Kind,
    /// Whether it must be there.
    pub required: bool,
    /// Whether it may be there several times.
    pub repeated: bool,
    /// One sentence.
    pub doc: &'static str,
}

impl Parameter {
    const fn required(self) -> Parameter {
        Parameter { required: true, ..self }
    }

    const fn repeated(self) -> Parameter {
        Parameter { repeated: true, ..self }
    }
}

const fn parameter(name: &'static str, kind: Kind, doc: &'static str) -> Parameter {
    Parameter { name, kind, required: false, repeated: false, doc }
}

/// What is answered when all is well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// The envelope with `data` that satisfies this JSON schema.
    Data(&'static str),
    /// [`Shape::Data`], or 204 when there is nothing to tell.
    DataOrNothing(&'static str),
    /// A body of this type.
    Body(&'static str),
    /// Protobuf, or the same as JSON for who sent JSON.
    Protobuf,
    /// 204.
    Nothing,
}

/// The group of an endpoint in documents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Takes data in.
    Write,
    /// Evaluates, or tells what is stored.
    Read,
    /// Targets, rules, alerts.
    Targets,
    /// Tells about the server.
    Status,
    /// Changes the server or its data.
    Admin,
}

impl Group {
    /// All, in the order of documents.
    pub const ALL: [Group; 5] = [Group::Write, Group::Read, Group::Targets, Group::Status, Group::Admin];

    /// Its title.
    pub fn as_str(self) -> &'static str {
        match self {
            Group::Write => "Write",
            Group::Read => "Query",
            Group::Targets => "Targets and rules",
            Group::Status => "Status",
            Group::Admin => "Administration",
        }
    }
}

/// Whether Prometheus has an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It has, and this is how ours differs; empty when not at all.
    Prometheus(&'static str),
    /// It has not: what it is for.
    Ours(&'static str),
}

/// One endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The path, as in the table of routes.
    pub path: &'static str,
    /// Its group.
    pub group: Group,
    /// A few words.
    pub summary: &'static str,
    /// Its parameters.
    pub parameters: &'static [Parameter],
    /// What is answered.
    pub shape: Shape,
    /// How it differs.
    pub origin: Origin,
}

/// The endpoint of a path.
pub fn find(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
}

const QUERY: Parameter = parameter("query", Query, "The expression.").required();
const TIMEOUT: Parameter =
    parameter("timeout", Duration, "How long the evaluation may take; can only lower `query_ms_max`.");
const LIMIT: Parameter = parameter("limit", Number, "How many elements of the answer are shown; 0 is all.");
const LOOKBACK: Parameter = parameter("lookback_delta", Duration, "How far back an instant selector looks.");
const STATS: Parameter =
    parameter("stats", Choice(&["true", "all"]), "Adds what the evaluation cost; `all` also by step.");
const EXPLAIN: Parameter = parameter("explain", Switch, "Tells what the query would touch instead of evaluating it.");
const MATCH: Parameter = parameter("match[]", Selector, "Which series; several are a union.").repeated();
const START: Parameter = parameter("start", Time, "First time that is looked at.");
const END: Parameter = parameter("end", Time, "Last time that is looked at.");
const OPENAPI_VERSION: Parameter = parameter("openapi_version", Choice(&["3.1", "3.2"]), "Version of the description.");

const INFLUX: &[Parameter] = &[
    parameter(
        "precision",
        Choice(&["ns", "us", "ms", "s", "m", "h"]),
        "The unit of timestamps; nanoseconds when absent.",
    ),
    parameter("db", Text, "Becomes the label `db`."),
];

const RANGE: &[Parameter] = &[MATCH, START, END, LIMIT, TIMEOUT];

const PAIRS: &str = r#"{"type":"object","additionalProperties":{"type":"string"}}"#;
const TEXTS: &str = r#"{"type":"array","items":{"type":"string"}}"#;
const RESULT: &str = r#"{"type":"object","required":["resultType","result"],"properties":{"resultType":{"enum":["matrix","vector","scalar","string"]},"result":{"type":"array"},"stats":{"type":"object"}}}"#;
const MATRIX: &str = r#"{"type":"object","required":["resultType","result"],"properties":{"resultType":{"const":"matrix"},"result":{"type":"array","items":{"type":"object","required":["metric"]}},"stats":{"type":"object"}}}"#;
const EXEMPLARS: &str = r#"{"type":"array","items":{"type":"object","required":["seriesLabels","exemplars"],"properties":{"seriesLabels":{"type":"object"},"exemplars":{"type":"array","items":{"type":"object","required":["labels","value","timestamp"]}}}}}"#;
const SERIES: &str = r#"{"type":"array","items":{"type":"object","additionalProperties":{"type":"string"}}}"#;
const METADATA: &str = r#"{"type":"object","additionalProperties":{"type":"array","items":{"type":"object","required":["type","help","unit"]}}}"#;
const OBJECT: &str = r#"{"type":"object"}"#;
const LIST: &str = r#"{"type":"array","items":{"type":"object"}}"#;
const NAME: &str = r#"{"type":"object","required":["name"],"properties":{"name":{"type":"string"}}}"#;
const TEXT: &str = r#"{"type":"string"}"#;

const PLAIN: &str = "text/plain";

const fn same(
    path: &'static str,
    group: Group,
    summary: &'static str,
    parameters: &'static [Parameter],
    shape: Shape,
    differs: &'static str,
) -> Endpoint {
    Endpoint { path, group, summary, parameters, shape, origin: Origin::Prometheus(differs) }
}

const fn ours(
    path: &'static str,
    group: Group,
    summary: &'static str,
    parameters: &'static [Parameter],
    shape: Shape,
    purpose: &'static str,
) -> Endpoint {
    Endpoint { path, group, summary, parameters, shape, origin: Origin::Ours(purpose) }
}

/// Every endpoint, by group.
pub static ENDPOINTS: &[Endpoint] = &[
    // Write.
    same("/api/v1/write", Group::Write, "Remote write", &[], Shape::Nothing, "see [below](#write-in-detail)"),
    ours(
        "/api/v1/import/prometheus",
        Group::Write,
        "Text exposition",
        &[],
        Shape::Nothing,
        "takes the text format and OpenMetrics, see [below](#write-in-detail)",
    ),
    same(
        "/api/v1/otlp/v1/metrics",
        Group::Write,
        "OTLP metrics",
        &[],
        Shape::Protobuf,
        "see [below](#write-in-detail)",
    ),
    ours("/v1/metrics", Group::Write, "OTLP metrics", &[], Shape::Protobuf, "OpenTelemetry's own path"),
    ours("/opentelemetry/v1/metrics", Group::Write, "OTLP metrics", &[], Shape::Protobuf, "VictoriaMetrics's path"),
    ours(
        "/write",
        Group::Write,
        "Influx line protocol",
        INFLUX,
        Shape::Nothing,
        "Influx 1, see [below](#write-in-detail)",
    ),
    ours(
        "/api/v2/write",
        Group::Write,
        "Influx line protocol",
        INFLUX,
        Shape::Nothing,
        "Influx 2, see [below](#write-in-detail)",
    ),
    ours("/ping", Group::Write, "Says that Influx is spoken", &[], Shape::Nothing, "what clients of Influx ask first"),
    ours(
        "/query",
        Group::Write,
        "Databases of Influx",
        &[parameter("q", Text, "`CREATE DATABASE` or `SHOW DATABASES`.")],
        Shape::Body("application/json"),
        "what clients of Influx ask first; no language of Influx is understood",
    ),
    // Query.
    same(
        "/api/v1/read",
        Group::Read,
        "Remote read: samples, or a stream of chunks",
        &[],
        Shape::Body("application/x-protobuf"),
        "see [below](#write-in-detail)",
    ),
    same(
        "/api/v1/query",
        Group::Read,
        "Instant query",
        &[QUERY, parameter("time", Time, "When; now when absent."), TIMEOUT, LIMIT, LOOKBACK, STATS, EXPLAIN],
        Shape::Data(RESULT),
        "also `explain`",
    ),
    same(
        "/api/v1/query_range",
        Group::Read,
        "Range query",
        &[
            QUERY,
            START.required(),
            END.required(),
            parameter("step", Duration, "Time between evaluations.").required(),
            TIMEOUT,
            LIMIT,
            LOOKBACK,
            STATS,
            EXPLAIN,
        ],
        Shape::Data(MATRIX),
        "also `explain`; the bound of 11,000 points is the setting `query_steps_max`",
    ),
    same(
        "/api/v1/query_exemplars",
        Group::Read,
        "Exemplars of the series that an expression selects",
        &[QUERY, START, END],
        Shape::DataOrNothing(EXEMPLARS),
        "",
    ),
    same("/api/v1/format_query", Group::Read, "The expression in lines", &[QUERY], Shape::Data(TEXT), ""),
    same("/api/v1/parse_query", Group::Read, "The expression as a tree", &[QUERY], Shape::Data(OBJECT), ""),
    same(
        "/api/v1/series",
        Group::Read,
        "Series",
        &[MATCH.required(), START, END, LIMIT, TIMEOUT],
        Shape::Data(SERIES),
        "also `timeout`. Sorted. A series is listed when its samples may lie in the range, which is decided by whole chunks",
    ),
    same("/api/v1/labels", Group::Read, "Label names", RANGE, Shape::Data(TEXTS), "as `series`"),
    same("/api/v1/label/{name}/values", Group::Read, "Values of a label", RANGE, Shape::Data(TEXTS), "as `series`"),
    same(
        "/api/v1/metadata",
        Group::Read,
        "Types, helps and units of metrics",
        &[
            parameter("metric", Text, "One family; all when absent."),
            parameter("limit", Number, "How many families."),
            parameter("limit_per_metric", Number, "How many entries a family."),
        ],
        Shape::Data(METADATA),
        "one entry a family: the last one received. Sorted",
    ),
    same(
        "/federate",
        Group::Read,
        "The newest sample of each selected series",
        &[MATCH],
        Shape::Body(PLAIN),
        "text, and delimited protobuf (not protobuf as text). Errors are JSON",
    ),
    // Targets and rules.
    same(
        "/api/v1/targets",
        Group::Targets,
        "Targets that are scraped",
        &[
            parameter("state", Choice(&["active", "dropped", "any"]), "Which."),
            parameter("scrapePool", Text, "Of which pool."),
        ],
        Shape::Data(OBJECT),
        "",
    ),
    same(
        "/api/v1/targets/metadata",
        Group::Targets,
        "Types, helps and units by target",
        &[
            parameter("match_target", Selector, "Which targets."),
            parameter("metric", Text, "One family; all when absent."),
            parameter("limit", Number, "How many entries."),
        ],
        Shape::Data(LIST),
        "",
    ),
    same(
        "/api/v1/targets/relabel_steps",
        Group::Targets,
        "What each rule of a pool makes of labels",
        &[
            parameter("scrapePool", Text, "Rules of which pool.").required(),
            parameter("labels", Text, "The labels, as a JSON object.").required(),
        ],
        Shape::Data(OBJECT),
        "",
    ),
    same("/api/v1/scrape_pools", Group::Targets, "Names of all scrape pools", &[], Shape::Data(OBJECT), ""),
    same(
        "/api/v1/scrape_pools/config",
        Group::Targets,
        "Configuration of a pool",
        &[parameter("scrapePool", Text, "Which pool.").required()],
        Shape::Data(OBJECT),
        "",
    ),
    same(
        "/api/v1/rules",
        Group::Targets,
        "Rules",
        &[
            parameter("type", Choice(&["alert", "record"]), "Which kind."),
            parameter("rule_name[]", Text, "Rules of these names.").repeated(),
            parameter("rule_group[]", Text, "Groups of these names.").repeated(),
            parameter("file[]", Text, "Groups of these files.").repeated(),
            parameter("match[]", Selector, "Rules with these labels.").repeated(),
            parameter("exclude_alerts", Switch, "Leaves the alerts of rules out."),
            parameter("group_limit", Number, "Groups a page."),
            parameter("group_next_token", Text, "Where the next page begins."),
        ],
        Shape::Data(OBJECT),
        "always empty: there are no rules yet",
    ),
    same("/api/v1/alerts", Group::Targets, "Alerts", &[], Shape::Data(OBJECT), "always empty: there are no rules yet"),
    same(
        "/api/v1/alertmanagers",
        Group::Targets,
        "Alertmanagers",
        &[],
        Shape::Data(OBJECT),
        "always empty: there are no rules yet",
    ),
    // Status.
    ours(
        "/",
        Group::Status,
        "What this server is, and where to go on",
        &[],
        Shape::Body(PLAIN),
        "there is no web interface: a short text instead",
    ),
    same("/-/healthy", Group::Status, "The process answers", &[], Shape::Body(PLAIN), "says `Varve`"),
    same(
        "/-/ready",
        Group::Status,
        "Every acknowledged write is visible",
        &[],
        Shape::Body(PLAIN),
        "says `Varve`; 503 with JSON until then",
    ),
    same(
        "/metrics",
        Group::Status,
        "Own metrics",
        &[],
        Shape::Body(PLAIN),
        "Varve's own, see [operations.md](operations.md)",
    ),
    same("/version", Group::Status, "Build", &[], Shape::Body("application/json"), "as `buildinfo`, without envelope"),
    same(
        "/api/v1/status/buildinfo",
        Group::Status,
        "Build",
        &[],
        Shape::Data(PAIRS),
        "`version` is the version of the API that is spoken (3.14.0), so that clients choose rightly; `application` and `applicationVersion` say who answers",
    ),
    same(
        "/api/v1/status/runtimeinfo",
        Group::Status,
        "The process",
        &[],
        Shape::Data(OBJECT),
        "what only Go has is empty or 0; also `timeSeriesCount`",
    ),
    same("/api/v1/status/config", Group::Status, "Configuration", &[], Shape::Data(PAIRS), "the settings as YAML"),
    same("/api/v1/status/flags", Group::Status, "Flags", &[], Shape::Data(PAIRS), "every setting"),
    same(
        "/api/v1/status/tsdb",
        Group::Status,
        "Where the series go",
        &[parameter("limit", Number, "Entries a list.")],
        Shape::Data(OBJECT),
        "of the request's tenant",
    ),
    same(
        "/api/v1/status/walreplay",
        Group::Status,
        "How far the log has been read back",
        &[],
        Shape::Data(OBJECT),
        "0 of 0 while the log is read and after it",
    ),
    same(
        "/api/v1/features",
        Group::Status,
        "What this build can do",
        &[],
        Shape::Data(OBJECT),
        "same categories and names for what there is; what Prometheus has behind flags and changes no stable answer is on",
    ),
    same("/api/v1/notifications", Group::Status, "Notifications", &[], Shape::Data(LIST), "always empty"),
    same(
        "/api/v1/notifications/live",
        Group::Status,
        "Notifications as they come",
        &[],
        Shape::Nothing,
        "204, upon which clients poll `/api/v1/notifications`",
    ),
    same(
        "/api/v1/openapi.yaml",
        Group::Status,
        "This description",
        &[OPENAPI_VERSION],
        Shape::Body("application/yaml"),
        "of Varve's endpoints, those outside of `/api/v1` too",
    ),
    ours(
        "/api/v1/openapi.json",
        Group::Status,
        "This description in JSON",
        &[OPENAPI_VERSION],
        Shape::Body("application/json"),
        "the same in JSON",
    ),
    // Administration.
    same(
        "/api/v1/admin/tsdb/delete_series",
        Group::Admin,
        "Delete samples",
        &[MATCH.required(), START, END],
        Shape::Nothing,
        "403 unless `web_enable_admin_api` is set, as all of the admin calls. Of the request's tenant; exemplars of the series go too, which Prometheus keeps; matchers are limited by `deletion_bytes_max`",
    ),
    same(
        "/api/v1/admin/tsdb/clean_tombstones",
        Group::Admin,
        "Remove what was deleted from segments",
        &[],
        Shape::Nothing,
        "answered 503 when it takes longer than `query_ms_max`; it goes on. 500 when only damaged segments are left, in which deletions go on hiding",
    ),
    same(
        "/api/v1/admin/tsdb/snapshot",
        Group::Admin,
        "Copy the data directory",
        &[parameter("skip_head", Switch, "Leaves out what is not in segments yet.")],
        Shape::Data(NAME),
        "the copy is a data directory of Varve, of all tenants",
    ),
    ours("/-/flush", Group::Admin, "Flush", &[], Shape::Body(PLAIN), "asks for all heads to be written to segments"),
    same(
        "/-/quit",
        Group::Admin,
        "Stop the server",
        &[],
        Shape::Body(PLAIN),
        "403 with JSON unless `web_enable_lifecycle` is set",
    ),
    same(
        "/-/reload",
        Group::Admin,
        "Read the configuration again",
        &[],
        Shape::Body(PLAIN),
        "403 with JSON unless `web_enable_lifecycle` is set; settings need a restart",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ROUTES;

    #[test]
    fn every_endpoint_has_a_route_and_is_there_once() {
        for endpoint in ENDPOINTS {
            let path = endpoint.path;
            assert!(ROUTES.iter().any(|route| route.path == path), "{path} is described but not served");
            assert_eq!(ENDPOINTS.iter().filter(|other| other.path == path).count(), 1, "{path} is described twice");
            if let Shape::Data(schema) | Shape::DataOrNothing(schema) = endpoint.shape {
                serde_json::from_str::<serde_json::Value>(schema).unwrap();
            }
        }
    }

    #[test]
    fn every_route_is_described() {
        for route in ROUTES {
            assert!(find(route.path).is_some(), "{}: describe it in http/catalog.rs", route.path);
        }
    }
}
