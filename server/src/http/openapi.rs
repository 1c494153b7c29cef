//! The OpenAPI description of this server, made from the table of routes and the catalog, so that it cannot say
//! anything else than what is served. In JSON and in YAML.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use serde_json::{Map, Value, json};

use super::catalog::{self, Endpoint, Group, Kind, Origin, Parameter, Shape};
use super::params::Params;
use super::{Answer, ROUTES, Route};
use crate::app::App;

/// `/api/v1/openapi.json`
pub async fn as_json(_: Arc<App>, request: Request<Body>) -> Answer {
    let text = description(&version(&request)?).to_string();
    Ok(document(text, "application/json"))
}

/// `/api/v1/openapi.yaml`
pub async fn as_yaml(_: Arc<App>, request: Request<Body>) -> Answer {
    let mut text = String::new();
    push_yaml(&mut text, &description(&version(&request)?), 0);
    Ok(document(text, "application/yaml; charset=utf-8"))
}

fn version(request: &Request<Body>) -> Result<String, super::error::ApiError> {
    let params = Params::parse(request.uri().query().unwrap_or_default().as_bytes())?;
    Ok(match params.text("openapi_version") {
        "3.2" | "3.2.0" => "3.2.0",
        _ => "3.1.0",
    }
    .to_owned())
}

fn document(text: String, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let never = HeaderValue::from_static("no-cache, no-store, must-revalidate");
    response.headers_mut().insert(header::CACHE_CONTROL, never);
    response
}

/// The whole description.
pub fn description(version: &str) -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let Some(endpoint) = catalog::find(route.path) else { continue };
        let methods =
            route.methods.iter().map(|method| (method.to_ascii_lowercase(), operation(route, endpoint, method)));
        paths.insert(route.path.to_owned(), Value::Object(methods.collect()));
    }
    let error = json!({
        "type": "object",
        "required": ["status", "errorType", "error"],
        "properties": {
            "status": {"const": "error"},
            "errorType": {"type": "string"},
            "error": {"type": "string"},
        },
    });
    let tags: Vec<Value> = Group::ALL.iter().map(|group| json!({"name": group.as_str()})).collect();
    json!({
        "openapi": version,
        "info": {
            "title": "Varve",
            "description": "The HTTP API of Prometheus, answered by Varve.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": {"Error": error},
            "responses": {"Error": {"description": "Why not.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}},
            "parameters": {"Tenant": {
                "name": "X-Scope-OrgID",
                "in": "header",
                "required": false,
                "description": "Whose data; `anonymous` when absent.",
                "schema": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
            }},
        },
    })
}

fn operation(route: &Route, endpoint: &Endpoint, method: &str) -> Value {
    let mut id: String = endpoint.path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    id.push('_');
    id.push_str(&method.to_ascii_lowercase());
    let mut parameters = vec![json!({"$ref": "#/components/parameters/Tenant"})];
    if endpoint.path.contains("{name}") {
        parameters.push(
            json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}),
        );
    }
    // Where there is a form, a POST carries its parameters in it.
    let form = method == "POST" && route.methods.contains(&"GET") && !endpoint.parameters.is_empty();
    let mut operation = json!({
        "operationId": id,
        "tags": [endpoint.group.as_str()],
        "summary": endpoint.summary,
        "responses": {"default": {"$ref": "#/components/responses/Error"}},
    });
    if let Origin::Prometheus(text) | Origin::Ours(text) = endpoint.origin
        && !text.is_empty()
    {
        operation["description"] = json!(text);
    }
    if form {
        let properties: Map<String, Value> =
            endpoint.parameters.iter().map(|p| (p.name.to_owned(), schema(p))).collect();
        let required: Vec<&str> = endpoint.parameters.iter().filter(|p| p.required).map(|p| p.name).collect();
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        operation["requestBody"] = json!({"content": {"application/x-www-form-urlencoded": {"schema": schema}}});
    } else {
        parameters.extend(endpoint.parameters.iter().map(|parameter| {
            json!({
                "name": parameter.name,
                "in": "query",
                "required": parameter.required,
                "description": parameter.doc,
                "schema": schema(parameter),
            })
        }));
    }
    operation["parameters"] = Value::Array(parameters);
    let responses = &mut operation["responses"];
    match endpoint.shape {
        Shape::Data(data) => responses["200"] = envelope(data),
        Shape::DataOrNothing(data) => {
            responses["200"] = envelope(data);
            responses["204"] = json!({"description": "There is nothing to tell."});
        }
        Shape::Body(kind) => {
            let schema = if kind.starts_with("text/") { json!({"type": "string"}) } else { json!({}) };
            responses["200"] = json!({"description": "Well.", "content": {kind: {"schema": schema}}});
        }
        Shape::Protobuf => {
            responses["200"] = json!({"description": "OK", "content": {
                "application/x-protobuf": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "object"}},
            }});
        }
        Shape::Nothing => responses["204"] = json!({"description": "Done."}),
    }
    operation
}

fn envelope(data: &str) -> Value {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "description": "Well.",
        "content": {"application/json": {"schema": {
            "type": "object",
            "required": ["status", "data"],
            "properties": {"status": {"const": "success"}, "data": data, "warnings": texts, "infos": texts},
        }}},
    })
}

fn schema(parameter: &Parameter) -> Value {
    let one = match parameter.kind {
        Kind::Query => json!({"type": "string", "examples": ["sum by (job) (rate(x[5m]))", "1"]}),
        Kind::Selector => json!({"type": "string", "examples": ["up", "{job=~\".+\"}"]}),
        Kind::Text => json!({"type": "string"}),
        Kind::Time => {
            json!({"oneOf": [{"type": "string", "format": "date-time"}, {"type": "number"}], "examples": [1_767_361_020]})
        }
        Kind::Duration => {
            json!({"oneOf": [{"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}, {"type": "number", "exclusiveMinimum": 0}], "examples": ["30s"]})
        }
        Kind::Number => json!({"type": "integer", "minimum": 0}),
        Kind::Switch => json!({"type": "boolean"}),
        Kind::Choice(words) => json!({"enum": words}),
    };
    if parameter.repeated { json!({"type": "array", "items": one}) } else { one }
}

/// Appends a value as YAML, in blocks; texts are in double quotes, as in JSON, which is YAML too.
fn push_yaml(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (name, value) in object {
                let plain = name.bytes().all(|b| b.is_ascii_alphabetic())
                    && !["true", "false", "null", "on", "y", "n"].contains(&name.as_str());
                let name = if plain { name.clone() } else { Value::from(name.as_str()).to_string() };
                out.push_str(&format!("{indent}{name}:"));
                push_nested(out, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&format!("{indent}-"));
                push_nested(out, item, depth + 1);
            }
        }
        other => out.push_str(&format!("{indent}{other}\n")),
    }
}

fn push_nested(out: &mut String, value: &Value, depth: usize) {
    let nested = match value {
        Value::Object(object) => !object.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        push_yaml(out, value, depth);
    } else {
        out.push_str(&format!(" {value}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_parameter_is_in_it() {
        let description = description("3.1.0");
        for route in ROUTES {
            for method in route.methods {
                let operation = &description["paths"][route.path][method.to_ascii_lowercase()];
                assert!(operation["operationId"].is_string(), "{method} {}", route.path);
            }
        }
        let query = &description["paths"]["/api/v1/query"];
        let of_get: Vec<&str> =
            query["get"]["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
        assert!(of_get.contains(&"query") && of_get.contains(&"lookback_delta"), "{of_get:?}");
        let form = &query["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
        assert_eq!(form["required"], json!(["query"]));
    }

    #[test]
    fn yaml_has_blocks_and_quotes() {
        let mut out = String::new();
        push_yaml(&mut out, &json!({"a": {"b": [1, {"c": "x: y"}], "$d": {}}, "e": []}), 0);
        assert_eq!(out, "a:\n  \"$d\": {}\n  b:\n    - 1\n    -\n      c: \"x: y\"\ne: []\n");
    }
}
