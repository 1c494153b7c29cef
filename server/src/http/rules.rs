//! Rules and alerts: there are none yet, but who asks wrongly is told so as Prometheus tells it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;

use super::error::ApiError;
use super::params::{Params, parse_number, parse_switch};
use super::{Answer, labels, request, success};
use crate::app::App;

fn fixed(data: &'static str) -> Answer {
    Ok(success(|out| out.extend_from_slice(data.as_bytes())))
}

/// `/api/v1/rules`
pub async fn rules(app: Arc<App>, request: Request<Body>) -> Answer {
    let params = request::params(&app, request).await?;
    labels::selectors(&app, &params, ApiError::bad_data)?;
    let kind = params.text("type").to_lowercase();
    if !["", "alert", "record"].contains(&kind.as_str()) {
        return Err(ApiError::parameter("type", format!("not supported value {kind:?}")));
    }
    parse_switch(&params.text("exclude_alerts").to_lowercase())
        .map_err(|what| ApiError::parameter("exclude_alerts", format!("error converting exclude_alerts: {what}")))?;
    check_page(&params)?;
    fixed(r#"{"groups":[]}"#)
}

/// Checks which page is asked for. Without groups only the first exists.
fn check_page(params: &Params) -> Result<(), ApiError> {
    let (limit, token) = (params.text("group_limit"), params.text("group_next_token"));
    if limit.is_empty() {
        if token.is_empty() {
            return Ok(());
        }
        let what = "group_limit needs to be present in order to paginate over the groups";
        return Err(ApiError::parameter("group_next_token", what));
    }
    let number = parse_number(limit).map_err(|what| {
        let what = what.replacen("Atoi", "ParseInt", 1);
        ApiError::parameter("group_limit", format!("group_limit needs to be a valid number: {what}"))
    })?;
    if number <= 0 {
        return Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0"));
    }
    if token.is_empty() {
        return Ok(());
    }
    let what = format!("invalid group_next_token '{token}'. were rule groups changed?");
    Err(ApiError::parameter("group_next_token", what))
}

/// `/api/v1/alerts`
pub async fn alerts(_: Arc<App>, _: Request<Body>) -> Answer {
    fixed(r#"{"alerts":[]}"#)
}

/// `/api/v1/alertmanagers`
pub async fn alertmanagers(_: Arc<App>, _: Request<Body>) -> Answer {
    fixed(r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Option<&str>) {
        let found = check_page(&Params::parse(query.as_bytes()).unwrap());
        assert_eq!(found.err().map(|error| error.text().to_owned()).as_deref(), expected, "{query}");
    }

    #[test]
    fn pages_are_asked_for_rightly() {
        check("", None);
        check("group_limit=5", None);
        check("group_limit=0", Some("invalid parameter \"group_limit\": group_limit needs to be greater than 0"));
        check(
            "group_limit=x",
            Some(
                "invalid parameter \"group_limit\": group_limit needs to be a valid number: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
        );
        check(
            "group_next_token=a",
            Some(
                "invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups",
            ),
        );
        check(
            "group_limit=1&group_next_token=a",
            Some("invalid parameter \"group_next_token\": invalid group_next_token 'a'. were rule groups changed?"),
        );
    }
}
