//! What the scraper does: targets, pools, what targets say of their metrics, and what rules make of labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use varve_agent::relabel::{self, LabelMap};
use varve_agent::{Target, View, yaml};
use varve_query::promql;

use super::error::ApiError;
use super::{Answer, json, params, read, request, status, success};
use crate::app::App;

/// Hosts that mean this machine.
const LOCAL: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

fn views(app: &App) -> Vec<(String, View)> {
    app.scraper.agent().map(varve_agent::Agent::views).unwrap_or_default()
}

/// Writes `,` before all but the first.
struct List(bool);

impl List {
    fn next(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.0, true) {
            out.push(b',');
        }
    }
}

fn push_pairs<'a>(out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push(b'{');
    let mut list = List(false);
    for (name, value) in pairs {
        list.next(out);
        json::push_string(out, name);
        out.push(b':');
        json::push_string(out, value);
    }
    out.push(b'}');
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    json::push_string(out, value);
}

/// `/api/v1/targets`
pub async fn targets(app: Arc<App>, request: Request<Body>) -> Answer {
    let params = params::Params::parse(request.uri().query().unwrap_or_default().as_bytes())?;
    let state = params.text("state").to_lowercase();
    let all = matches!(state.as_str(), "" | "any");
    let pool = params.text("scrapePool");
    let views = views(&app);
    let chosen = || views.iter().filter(|(name, _)| pool.is_empty() || name == pool);
    Ok(success(|out| {
        out.extend_from_slice(b"{\"activeTargets\":[");
        let mut list = List(false);
        for (name, view) in chosen().filter(|_| all || state == "active") {
            for target in &view.active {
                list.next(out);
                push_active(out, &app, name, target);
            }
        }
        out.extend_from_slice(b"],\"droppedTargets\":[");
        let show_dropped = all || state == "dropped";
        let mut list = List(false);
        for (name, view) in chosen().filter(|_| show_dropped) {
            for target in &view.dropped {
                list.next(out);
                out.extend_from_slice(b"{\"discoveredLabels\":");
                push_pairs(out, target.discovered().iter());
                push_field(out, "scrapePool", name);
                out.push(b'}');
            }
        }
        out.extend_from_slice(b"],\"droppedTargetCounts\":");
        if show_dropped {
            out.push(b'{');
            let mut list = List(false);
            for (name, view) in &views {
                list.next(out);
                json::push_string(out, name);
                out.extend_from_slice(format!(":{}", view.dropped_count).as_bytes());
            }
            out.push(b'}');
        } else {
            out.extend_from_slice(b"null");
        }
        out.push(b'}');
    }))
}

fn push_active(out: &mut Vec<u8>, app: &App, pool: &str, target: &Target) {
    let last = target.last();
    out.extend_from_slice(b"{\"discoveredLabels\":");
    push_pairs(out, target.discovered().iter());
    out.extend_from_slice(b",\"labels\":");
    push_pairs(out, target.labels());
    push_field(out, "scrapePool", pool);
    push_field(out, "scrapeUrl", target.url());
    push_field(out, "globalUrl", &global_url(target.url(), app.scraper.host()));
    push_field(out, "lastError", &last.error);
    let time = last.time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), status::rfc3339);
    push_field(out, "lastScrape", &time);
    out.extend_from_slice(b",\"lastScrapeDuration\":");
    json::push_plain_float(out, last.duration.as_secs_f64());
    push_field(out, "health", last.health.as_str());
    push_field(out, "scrapeInterval", target.interval_text());
    push_field(out, "scrapeTimeout", target.timeout_text());
    out.push(b'}');
}

/// The URL for who reads it on another machine.
fn global_url(url: &str, host: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    for local in LOCAL {
        if let Some(behind) = rest.strip_prefix(local)
            && (behind.is_empty() || behind.starts_with([':', '/', '?']))
            && !host.is_empty()
        {
            return format!("{scheme}://{host}{behind}");
        }
    }
    url.to_owned()
}

/// `/api/v1/scrape_pools`
pub async fn scrape_pools(app: Arc<App>, _: Request<Body>) -> Answer {
    let views = views(&app);
    Ok(success(|out| {
        out.extend_from_slice(b"{\"scrapePools\":");
        json::push_strings(out, views.iter().map(|(name, _)| name.as_str()));
        out.push(b'}');
    }))
}

fn view(app: &App, params: &params::Params) -> Result<View, ApiError> {
    let pool = params.text("scrapePool");
    if pool.is_empty() {
        return Err(ApiError::bad_data("no scrapePool parameter provided"));
    }
    let found = views(app).into_iter().find(|(name, _)| name == pool).map(|(_, view)| view);
    found.ok_or_else(|| ApiError::bad_data(format!("error retrieving scrape config: scrape pool {pool:?} not found")))
}

/// `/api/v1/scrape_pools/config`
pub async fn scrape_pool_config(app: Arc<App>, request: Request<Body>) -> Answer {
    let params = request::params(&app, request).await?;
    let yaml = yaml::print(&view(&app, &params)?.config.print());
    Ok(success(|out| push_pairs(out, [("yaml", yaml.as_str())].into_iter())))
}

/// `/api/v1/targets/metadata`
pub async fn metadata(app: Arc<App>, request: Request<Body>) -> Answer {
    let params = request::params(&app, request).await?;
    let limit = match params.text("limit") {
        "" => usize::MAX,
        text => match params::parse_number(text) {
            Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
            Err(_) => return Err(ApiError::bad_data("limit must be a number")),
        },
    };
    let matching = params.text("match_target");
    let matchers = if matching.is_empty() {
        Vec::new()
    } else {
        promql::parse_selector(matching, &read::parse_options(&app)).map_err(|error| match error {
            varve_query::Error::Parse(what) => ApiError::parameter("match_target", what),
            other => other.into(),
        })?
    };
    let metric = params.text("metric");
    let views = views(&app);
    Ok(success(|out| {
        out.push(b'[');
        let mut list = List(false);
        let mut count = 0;
        for target in views.iter().flat_map(|(_, view)| &view.active) {
            if count >= limit {
                break;
            }
            let labels: BTreeMap<&str, &str> = target.labels().collect();
            let value = |name: &str| labels.get(name).copied().unwrap_or_default();
            if !matchers.iter().all(|matcher| matcher.matches(value(&matcher.name))) {
                continue;
            }
            for said in target.metadata().iter().filter(|said| metric.is_empty() || said.family == metric) {
                count += 1;
                list.next(out);
                out.extend_from_slice(b"{\"target\":");
                push_pairs(out, target.labels());
                if metric.is_empty() {
                    push_field(out, "metric", &said.family);
                }
                push_field(out, "type", said.kind.as_str());
                push_field(out, "help", &said.help);
                push_field(out, "unit", &said.unit);
                out.push(b'}');
            }
        }
        out.push(b']');
    }))
}

/// `/api/v1/targets/relabel_steps`: what each rule of a pool makes of labels.
pub async fn relabel_steps(app: Arc<App>, request: Request<Body>) -> Answer {
    let params = request::params(&app, request).await?;
    let view = view(&app, &params)?;
    let text = params.text("labels");
    if text.is_empty() {
        return Err(ApiError::bad_data("no labels parameter provided"));
    }
    let labels: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|error| ApiError::bad_data(format!("error parsing labels: {error}")))?;
    let mut labels: LabelMap = labels.iter().collect();
    Ok(success(|out| {
        out.extend_from_slice(b"{\"steps\":[");
        let mut list = List(false);
        for rule in &view.config.relabel {
            let keep = relabel::apply(std::slice::from_ref(rule), &mut labels);
            list.next(out);
            out.extend_from_slice(b"{\"rule\":{\"source_labels\":");
            json::push_strings(out, rule.source_labels.iter().map(String::as_str));
            push_field(out, "separator", &rule.separator);
            push_field(out, "regex", rule.regex.pattern());
            out.extend_from_slice(format!(",\"modulus\":{}", rule.modulus).as_bytes());
            push_field(out, "target_label", &rule.target_label);
            push_field(out, "replacement", &rule.replacement);
            push_field(out, "action", rule.action.as_str());
            out.extend_from_slice(b"},\"output\":");
            push_pairs(out, labels.iter().filter(|_| keep));
            out.extend_from_slice(if keep { b",\"keep\":true}" } else { b",\"keep\":false}" });
            if !keep {
                break;
            }
        }
        out.extend_from_slice(b"]}");
    }))
}

#[cfg(test)]
mod tests {
    use super::global_url;

    #[test]
    fn local_targets_are_shown_by_the_name_of_the_machine() {
        assert_eq!(global_url("http://localhost:9100/metrics", "box"), "http://box:9100/metrics");
        assert_eq!(global_url("https://[::1]/m", "box"), "https://box/m");
        assert_eq!(global_url("http://localhost.example:1/", "box"), "http://localhost.example:1/");
        assert_eq!(global_url("http://10.0.0.1/", "box"), "http://10.0.0.1/");
    }
}
