//! Health, own metrics, and what clients ask to find out whom they talk to.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use varve_model::Millis;

use super::error::{ApiError, no_content};
use super::{Answer, json, params, plain, request, success};
use crate::app::App;
use crate::config::TABLE;
use crate::metrics as own;

/// The version of Prometheus whose API this server speaks. Clients decide by it what they may ask.
const API_VERSION: &str = "3.14.0";
/// Entries of each list of `status/tsdb` when nobody says otherwise, and at most.
const TOP_DEFAULT: usize = 10;
const TOP_MAX: i64 = 10_000;

/// `/`: clients ask it to see whether somebody is there.
pub async fn home(_: Arc<App>, _: Request<Body>) -> Answer {
    Ok(plain(concat!(
        "Varve ",
        env!("CARGO_PKG_VERSION"),
        ": metrics on a durable log, asked as Prometheus is.\n\n",
        "  /api/v1/query?query=up    a query\n",
        "  /api/v1/openapi.yaml      every call there is\n",
        "  /metrics                  how this server does\n",
    )))
}

/// `/-/healthy`: the process answers.
pub async fn healthy(_: Arc<App>, _: Request<Body>) -> Answer {
    Ok(plain("Varve is Healthy.\n"))
}

/// `/-/ready`: every acknowledged write is visible, and every shard takes writes.
pub async fn ready(app: Arc<App>, _: Request<Body>) -> Answer {
    app.ready()?;
    Ok(plain("Varve is Ready.\n"))
}

/// `/-/flush`: asks for all heads to be written to segments, in the background.
pub async fn flush(app: Arc<App>, _: Request<Body>) -> Answer {
    app.store()?.engine.request_flush();
    Ok(plain("Flush requested.\n"))
}

/// `/metrics`
pub async fn metrics(app: Arc<App>, _: Request<Body>) -> Answer {
    let mut response = plain(own::exposition(&app));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn fixed(data: &'static str) -> Answer {
    Ok(success(|out| out.extend_from_slice(data.as_bytes())))
}

/// `/api/v1/notifications`: none.
pub async fn notifications(_: Arc<App>, _: Request<Body>) -> Answer {
    fixed("[]")
}

/// `/api/v1/notifications/live`: not offered; the client polls instead.
pub async fn notifications_live(_: Arc<App>, _: Request<Body>) -> Answer {
    Ok(no_content())
}

/// Writes an object of texts.
fn push_texts<'a>(out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'a str, String)>) {
    out.push(b'{');
    for (i, (name, value)) in pairs.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::push_string(out, name);
        out.push(b':');
        json::push_string(out, &value);
    }
    out.push(b'}');
}

fn build() -> [(&'static str, &'static str); 8] {
    [
        ("version", API_VERSION),
        ("revision", ""),
        ("branch", ""),
        ("buildUser", ""),
        ("buildDate", ""),
        ("goVersion", ""),
        ("application", "Varve"),
        ("applicationVersion", env!("CARGO_PKG_VERSION")),
    ]
}

/// `/version`: [`buildinfo`] without its envelope.
pub async fn version(_: Arc<App>, _: Request<Body>) -> Answer {
    let mut out = Vec::new();
    push_texts(&mut out, build().iter().map(|(name, value)| (*name, (*value).to_owned())));
    Ok(super::json_response(out))
}

/// `/api/v1/status/walreplay`: the log is read back before anything is served, so this is asked of a server that has
/// done so, or waits.
pub async fn walreplay(_: Arc<App>, _: Request<Body>) -> Answer {
    fixed(r#"{"min":0,"max":0,"current":0}"#)
}

/// `/api/v1/status/buildinfo`. No key `features`: clients would take the server for another product.
pub async fn buildinfo(_: Arc<App>, _: Request<Body>) -> Answer {
    Ok(success(|out| push_texts(out, build().iter().map(|(name, value)| (*name, (*value).to_owned())))))
}

/// `/api/v1/status/flags`: every setting with its value.
pub async fn flags(app: Arc<App>, _: Request<Body>) -> Answer {
    let flags: Vec<(String, String)> =
        TABLE.iter().map(|setting| (setting.flag(), (setting.show)(&app.settings))).collect();
    Ok(success(|out| push_texts(out, flags.iter().map(|(name, value)| (name.as_str(), value.clone())))))
}

/// `/api/v1/status/config`: what the scraper was told as YAML, or the settings where there is no scraper.
pub async fn config(app: Arc<App>, _: Request<Body>) -> Answer {
    if let Some(agent) = app.scraper.agent() {
        let yaml = agent.config().print();
        return Ok(success(|out| push_texts(out, std::iter::once(("yaml", yaml)))));
    }
    let mut yaml = String::new();
    let mut section = "server";
    for setting in TABLE {
        if setting.section != section {
            section = setting.section;
            yaml.push_str(&format!("{section}:\n"));
        }
        let indent = if section == "server" { "" } else { "  " };
        let value = (setting.show)(&app.settings);
        let value = if value.parse::<f64>().is_ok() || value == "true" || value == "false" {
            value
        } else {
            format!("{value:?}")
        };
        yaml.push_str(&format!("{indent}{}: {value}\n", setting.name));
    }
    Ok(success(|out| push_texts(out, std::iter::once(("yaml", yaml)))))
}

/// `/api/v1/status/runtimeinfo`
pub async fn runtimeinfo(app: Arc<App>, _: Request<Body>) -> Answer {
    let start = (app.metrics.started_seconds * 1000.0) as Millis;
    let retention =
        crate::config::value::pretty(crate::config::value::Kind::Millis, &app.settings.engine.retention_ms.to_string());
    let series: u64 = app.store()?.engine.status().shards.iter().map(|shard| shard.series).sum();
    Ok(success(|out| {
        let texts = [
            ("startTime", rfc3339(start)),
            ("serverTime", rfc3339(app.now())),
            ("CWD", String::new()),
            ("hostname", String::new()),
            ("lastConfigTime", rfc3339(app.scraper.read_at().max(start))),
            ("GOGC", String::new()),
            ("GODEBUG", String::new()),
            ("storageRetention", retention),
        ];
        push_texts(out, texts.iter().map(|(name, value)| (*name, value.clone())));
        out.pop();
        out.extend_from_slice(
            format!(
                ",\"reloadConfigSuccess\":{},\"corruptionCount\":{},\"goroutineCount\":0,\"GOMAXPROCS\":0,\"GOMEMLIMIT\":0,\"timeSeriesCount\":{series}}}",
                app.scraper.reload_succeeded(),
                app.metrics.recovery_reports.get()
            )
            .as_bytes(),
        );
    }))
}

/// `/api/v1/status/tsdb`: where the tenant's series go.
pub async fn tsdb(app: Arc<App>, request: Request<Body>) -> Answer {
    let name = request::tenant_name(request.headers())?;
    let params = params::Params::parse(request.uri().query().unwrap_or_default().as_bytes())?;
    let top = match params.text("limit") {
        "" => TOP_DEFAULT,
        text => match params::parse_number(text) {
            Ok(limit) if limit > TOP_MAX => {
                return Err(ApiError::bad_data(format!("limit must not exceed {TOP_MAX}")));
            }
            Ok(limit) if limit > 0 => limit as usize,
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    super::work::run(&app, None, move |app, _, out| {
        let engine = &app.store()?.engine;
        let status = engine.status();
        let cardinality = match engine.find_tenant(&name) {
            Some(tenant) => engine.snapshot().cardinality(tenant, top)?,
            None => varve_engine::Cardinality::default(),
        };
        let chunks: u64 = status.shards.iter().map(|shard| shard.head_chunks).sum();
        let min_time = status.shards.iter().filter_map(|shard| shard.min_time).min().unwrap_or(0);
        let max_time = status.shards.iter().filter_map(|shard| shard.max_time).max().unwrap_or(0);
        let buffer = out.buffer();
        buffer.extend_from_slice(
            format!(
                "{{\"status\":\"success\",\"data\":{{\"headStats\":{{\"numSeries\":{},\"numLabelPairs\":{},\"chunkCount\":{chunks},\"minTime\":{min_time},\"maxTime\":{max_time}}}",
                cardinality.series, cardinality.label_pairs
            )
            .as_bytes(),
        );
        let lists = [
            ("seriesCountByMetricName", &cardinality.by_metric),
            ("labelValueCountByLabelName", &cardinality.values_by_label),
            ("memoryInBytesByLabelName", &cardinality.bytes_by_label),
            ("seriesCountByLabelValuePair", &cardinality.by_pair),
        ];
        for (key, list) in lists {
            buffer.extend_from_slice(format!(",\"{key}\":[").as_bytes());
            for (i, (name, value)) in list.iter().enumerate() {
                buffer.extend_from_slice(if i > 0 { b",{\"name\":" } else { b"{\"name\":" });
                json::push_string(buffer, name);
                buffer.extend_from_slice(format!(",\"value\":{value}}}").as_bytes());
            }
            buffer.push(b']');
        }
        buffer.extend_from_slice(b"}}");
        Ok(())
    })
    .await
}

/// A time as RFC 3339 in UTC.
pub(super) fn rfc3339(time: Millis) -> String {
    let days = time.div_euclid(86_400_000);
    let ms = time.rem_euclid(86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// The date of a day since 1970-01-01, by eras of 400 years that begin in March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_read() {
        for time in [0, 1, 951_782_400_000, 1_435_781_451_781, -1, 4_102_444_799_999] {
            assert_eq!(params::parse_time(&rfc3339(time)), Ok(time), "{}", rfc3339(time));
        }
    }
}
