//! What all endpoints take from a request: its tenant and its parameters.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, header};
use varve_model::TenantName;

use super::body::{self, BodyLimit};
use super::error::ApiError;
use super::params::Params;
use crate::app::App;

/// The header that names the tenant.
pub const TENANT_HEADER: &str = "x-scope-orgid";

/// Tenants that one query may read together.
const TENANTS_MAX: usize = 64;

/// The tenants of a request that reads: `a|b` are two. The default one when it names none.
pub fn tenant_names(headers: &HeaderMap) -> Result<Vec<TenantName>, ApiError> {
    let several = headers.get(TENANT_HEADER).and_then(|value| value.to_str().ok()).filter(|text| text.contains('|'));
    let Some(text) = several.filter(|_| headers.get_all(TENANT_HEADER).iter().count() == 1) else {
        return Ok(vec![tenant_name(headers)?]);
    };
    if text.split('|').count() > TENANTS_MAX {
        return Err(ApiError::bad_data(format!("header X-Scope-OrgID names more than {TENANTS_MAX} tenants")));
    }
    let mut names = text.split('|').map(parse_tenant).collect::<Result<Vec<TenantName>, ApiError>>()?;
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    Ok(names)
}

fn parse_tenant(text: &str) -> Result<TenantName, ApiError> {
    TenantName::parse(text).map_err(|what| ApiError::bad_data(format!("header X-Scope-OrgID: {what}")))
}

/// The tenant of a request; the default one when it names none.
pub fn tenant_name(headers: &HeaderMap) -> Result<TenantName, ApiError> {
    let mut values = headers.get_all(TENANT_HEADER).iter();
    let Some(value) = values.next() else { return Ok(TenantName::default()) };
    if values.next().is_some() {
        return Err(ApiError::bad_data("header X-Scope-OrgID occurs more than once"));
    }
    let text = value.to_str().map_err(|_| ApiError::bad_data("header X-Scope-OrgID is not plain text"))?;
    if text.is_empty() {
        return Ok(TenantName::default());
    }
    if text.contains('|') {
        return Err(ApiError::bad_data("header X-Scope-OrgID names several tenants, which only queries may"));
    }
    parse_tenant(text)
}

/// The media type of a header value without its parameters, in lower case: `a/b; c=d` is `a/b`.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(value);
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A parameter of the content type: `proto` of `a/b; proto=x`.
pub fn media_parameter(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// The parameters of a request: of its form body, if it has one, then of its query string.
pub async fn params(app: &App, request: Request<Body>) -> Result<Params, ApiError> {
    let mut params = Params::default();
    let query = request.uri().query().unwrap_or_default().to_owned();
    // The methods whose bodies Prometheus reads.
    let has_form = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    if has_form && media_type(request.headers()) == "application/x-www-form-urlencoded" {
        // An escape takes three bytes for one.
        let bytes_max = 3 * u64::from(app.settings.limits.query_text_bytes_max) + (64 << 10);
        let body = body::read(app, request, BodyLimit { bytes_max, setting: "query_text_bytes_max" }).await?;
        params.add(body.bytes())?;
        drop(body.into_held());
    }
    params.add(query.as_bytes())?;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn media_types_are_parsed() {
        let form = headers("content-type", "Application/X-WWW-Form-URLEncoded;charset=UTF-8");
        assert_eq!(media_type(&form), "application/x-www-form-urlencoded");
        let write = headers("content-type", "application/x-protobuf; proto=\"prometheus.WriteRequest\"");
        assert_eq!(media_parameter(&write, "proto").as_deref(), Some("prometheus.WriteRequest"));
        assert_eq!(media_type(&HeaderMap::new()), "");
    }

    #[test]
    fn tenants_are_checked() {
        assert_eq!(tenant_name(&HeaderMap::new()).unwrap().as_str(), "anonymous");
        assert_eq!(tenant_name(&headers(TENANT_HEADER, "team-a")).unwrap().as_str(), "team-a");
        assert_eq!(tenant_name(&headers(TENANT_HEADER, "a/b")).unwrap_err().status(), 400);
        assert!(tenant_name(&headers(TENANT_HEADER, "a|b")).unwrap_err().text().contains("only queries"));
        let several = |text: &str| tenant_names(&headers(TENANT_HEADER, text));
        let names: Vec<String> = several("b|a|b").unwrap().iter().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(several("a|").is_err() && several("|").is_err() && several(&["a"; 65].join("|")).is_err());
        let mut twice = headers(TENANT_HEADER, "a");
        twice.append(TENANT_HEADER, "b".parse().unwrap());
        assert!(tenant_name(&twice).is_err());
    }
}
