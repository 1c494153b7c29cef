//! What is stored: series, label names, label values, metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use varve_engine::Snapshot;
use varve_engine::index::Texts;
use varve_model::write::Metadata;
use varve_model::{Labels, Matcher, TenantId, TenantName, TimeRange};
use varve_query::budget::{Budget, Held};
use varve_query::promql;

use super::error::ApiError;
use super::params::{Params, unescape};
use super::work::{self, AnswerWriter};
use super::{Answer, json, read, request, success};
use crate::app::App;
use crate::self_scrape::own_tenant;

/// The selectors of a call; each is a conjunction, the call asks for the union. `wrong` words a wrong one.
pub fn selectors(
    app: &App,
    params: &Params,
    wrong: impl Fn(String) -> ApiError,
) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let all = any_selectors(app, params, &wrong)?;
    if all.iter().any(|matchers| matchers.iter().all(Matcher::matches_absent)) {
        return Err(wrong("match[] must contain at least one non-empty matcher".to_owned()));
    }
    Ok(all)
}

/// [`selectors`] that may also ask for everything.
pub fn any_selectors(
    app: &App,
    params: &Params,
    wrong: &impl Fn(String) -> ApiError,
) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let options = read::parse_options(app);
    let parse = |text: &&str| {
        promql::parse_selector(text, &options).map_err(|error| match error {
            varve_query::Error::Parse(what) => wrong(what),
            other => other.into(),
        })
    };
    params.all("match[]").iter().map(parse).collect()
}

/// How `series` and the admin calls word a wrong selector; the others word it as it is.
pub fn wrong_match(what: String) -> ApiError {
    ApiError::parameter("match[]", what)
}

/// Lists that are held before they become one.
const LISTS: usize = 64;

/// The union of what each selector finds. Checks between selectors that the caller is still there and has time.
fn union(
    selectors: &[Vec<Matcher>],
    budget: &Budget,
    one: &dyn Fn(&[Matcher]) -> varve_engine::Result<Arc<Texts>>,
) -> Result<Arc<Texts>, ApiError> {
    let everything = [Vec::new()];
    let selectors = if selectors.is_empty() { &everything } else { selectors };
    let mut lists = Vec::new();
    for matchers in selectors {
        budget.check()?;
        if lists.len() == LISTS {
            lists = vec![Texts::union(lists)];
        }
        lists.push(one(matchers)?);
    }
    Ok(Texts::union(lists))
}

/// The label sets that any selector finds, in order. Those that are new with a selector count for the series of the
/// query, and all of them for its bytes.
fn all_series(
    snapshot: &Snapshot,
    tenant: TenantId,
    selectors: &[Vec<Matcher>],
    range: TimeRange,
    budget: &Budget,
) -> Result<(Vec<Labels>, Option<Held>), ApiError> {
    let (mut all, mut held): (Vec<Labels>, _) = (Vec::new(), None);
    for matchers in selectors {
        budget.check()?;
        let known = all.len();
        let found = snapshot.select(tenant, matchers, range, budget.limits().query_series_max)?;
        all.extend((0..found.len()).map(|index| found.labels(index)));
        all.sort_unstable();
        all.dedup();
        budget.select((all.len() - known) as u64)?;
        let bytes = all.iter().map(|labels| (size_of::<Labels>() + labels.as_label_bytes().len()) as u64).sum();
        held = Some(budget.hold(bytes)?);
    }
    Ok((all, held))
}

/// Writes a list of `count` items with its warning when it was cut.
fn write_list<T>(
    out: &mut AnswerWriter,
    items: impl ExactSizeIterator<Item = T>,
    limit: Option<usize>,
    item: impl Fn(&mut Vec<u8>, T),
) {
    out.buffer().extend_from_slice(b"{\"status\":\"success\",\"data\":[");
    let (count, all) = (limit.unwrap_or(usize::MAX), items.len());
    for (i, one) in items.take(count).enumerate() {
        if i > 0 {
            out.buffer().push(b',');
        }
        item(out.buffer(), one);
        if !out.flush_if_large() {
            return;
        }
    }
    out.buffer().push(b']');
    if count < all {
        out.buffer().extend_from_slice(b",\"warnings\":[\"results truncated due to limit\"]");
    }
    out.buffer().push(b'}');
}

/// `/api/v1/series`
pub async fn series(app: Arc<App>, request: Request<Body>) -> Answer {
    let reader = read::Reader::of(&app, request.headers())?;
    let params = request::params(&app, request).await?;
    if params.all("match[]").is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let limit = params.limit("limit")?;
    let range = params.range()?;
    work::run(&app, params.timeout()?, move |app, budget, out| {
        let selectors = selectors(app, &params, wrong_match)?;
        let snapshot = reader.snapshot(app)?;
        let (all, _held) = all_series(&snapshot, reader.tenant, &selectors, range, budget)?;
        write_list(out, all.iter(), limit, json::push_labels);
        Ok(())
    })
    .await
}

/// `/api/v1/labels`
pub async fn names(app: Arc<App>, request: Request<Body>) -> Answer {
    let reader = read::Reader::of(&app, request.headers())?;
    let params = request::params(&app, request).await?;
    let limit = params.limit("limit")?;
    let range = params.range()?;
    work::run(&app, params.timeout()?, move |app, budget, out| {
        let selectors = selectors(app, &params, ApiError::bad_data)?;
        let snapshot = reader.snapshot(app)?;
        let found = union(&selectors, budget, &|matchers| snapshot.label_names(reader.tenant, matchers, range))?;
        write_list(out, found.iter(), limit, json::push_string);
        Ok(())
    })
    .await
}

/// `/api/v1/label/{name}/values`
pub async fn values(app: Arc<App>, request: Request<Body>) -> Answer {
    let reader = read::Reader::of(&app, request.headers())?;
    let path = request.uri().path();
    let name = path.strip_prefix("/api/v1/label/").and_then(|rest| rest.strip_suffix("/values")).unwrap_or_default();
    let name = decode_name(&unescape(name.as_bytes(), false)?);
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    let params = request::params(&app, request).await?;
    let limit = params.limit("limit")?;
    let range: TimeRange = params.range()?;
    work::run(&app, params.timeout()?, move |app, budget, out| {
        let selectors = selectors(app, &params, ApiError::bad_data)?;
        let snapshot = reader.snapshot(app)?;
        let found =
            union(&selectors, budget, &|matchers| snapshot.label_values(reader.tenant, &name, matchers, range))?;
        write_list(out, found.iter(), limit, json::push_string);
        Ok(())
    })
    .await
}

/// Undoes the escaping of label names that are not plain words: `U__a_2e_b` is `a.b`, `__` is `_`. A text that is not
/// escaped this way is the name itself.
fn decode_name(name: &str) -> String {
    let decode = || {
        let mut rest = name.strip_prefix("U__")?.chars();
        let mut out = String::new();
        while let Some(c) = rest.next() {
            if c != '_' {
                out.push(c);
                continue;
            }
            let code: String = rest.by_ref().take_while(|c| *c != '_').collect();
            match code.as_str() {
                "" => out.push('_'),
                _ if code.len() <= 6 => out.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?),
                _ => return None,
            }
        }
        Some(out)
    };
    decode().unwrap_or_else(|| name.to_owned())
}

/// `/api/v1/metadata`
pub async fn metadata(app: Arc<App>, request: Request<Body>) -> Answer {
    let names = request::tenant_names(request.headers())?;
    let params = request::params(&app, request).await?;
    let limit = |name: &str| match params.text(name) {
        "" => Ok(None),
        // Below zero is no limit, as everywhere in this call of Prometheus.
        text => text
            .parse::<i64>()
            .map(|n| usize::try_from(n).ok())
            .map_err(|_| ApiError::bad_data(format!("{name} must be a number"))),
    };
    let families = limit("limit")?;
    // One entry a family is within any limit.
    limit("limit_per_metric")?;
    let engine = &app.store()?.engine;
    let own = names.contains(&TenantName::default()).then(own_tenant);
    // The first that knows a family tells of it.
    let mut metadata: BTreeMap<String, Metadata> = BTreeMap::new();
    for tenant in names.iter().chain(&own).filter_map(|name| engine.find_tenant(name)) {
        for one in engine.metadata(tenant) {
            metadata.entry(one.family.clone()).or_insert(one);
        }
    }
    let wanted = params.text("metric");
    let chosen =
        metadata.values().filter(|m| wanted.is_empty() || m.family == wanted).take(families.unwrap_or(usize::MAX));
    Ok(success(|out| {
        out.push(b'{');
        for (i, one) in chosen.enumerate() {
            if i > 0 {
                out.push(b',');
            }
            push_metadata(out, one);
        }
        out.push(b'}');
    }))
}

fn push_metadata(out: &mut Vec<u8>, one: &Metadata) {
    json::push_string(out, &one.family);
    out.extend_from_slice(b":[");
    for (key, value) in [("{\"type\":", one.kind.as_str()), (",\"help\":", &one.help), (",\"unit\":", &one.unit)] {
        out.extend_from_slice(key.as_bytes());
        json::push_string(out, value);
    }
    out.extend_from_slice(b"}]");
}

#[cfg(test)]
mod tests {
    use super::decode_name;

    #[test]
    fn escaped_names_are_decoded() {
        for (escaped, expected) in [
            ("job", "job"),
            ("U__a_2e_b", "a.b"),
            ("U__a__b", "a_b"),
            ("U___1f600_", "😀"),
            ("U__bad_zz_", "U__bad_zz_"),
            ("U__huge_1234567_", "U__huge_1234567_"),
        ] {
            assert_eq!(decode_name(escaped), expected, "{escaped}");
        }
    }
}
