//! `http_sd_configs`: lists of targets as JSON from a URL.

use std::sync::Arc;
use std::time::Duration;

use super::file::parse_json;
use super::{Publisher, TargetGroup, ticks};
use crate::Surroundings;
use crate::client::Client;
use crate::config::client::redacted;
use crate::config::{ClientConfig, FILE_BYTES_MAX};
use hyper::header::{ACCEPT, HeaderName, HeaderValue};

pub(super) async fn run(
    url: String,
    refresh: Duration,
    config: ClientConfig,
    surroundings: Arc<Surroundings>,
    publisher: Publisher,
) {
    let shown = redacted(&url);
    let mut client = Client::new(Arc::new(config));
    let mut ticks = ticks(refresh);
    loop {
        ticks.tick().await;
        let asked = tokio::time::timeout(refresh.max(Duration::from_secs(1)), ask(&mut client, &url, refresh)).await;
        let asked = asked.unwrap_or_else(|_| {
            client = Client::new(client.config());
            Err(format!("Get {shown:?}: context deadline exceeded"))
        });
        match asked {
            Ok(list) => publisher.publish(list),
            Err(error) => {
                surroundings.metrics.discovery_failures.add(1);
                tracing::error!(url = shown, %error, "http discovery keeps what it knew");
            }
        }
    }
}

async fn ask(client: &mut Client, url: &str, refresh: Duration) -> Result<Vec<TargetGroup>, String> {
    let seconds = HeaderValue::from_str(&refresh.as_secs_f64().to_string()).map_err(|error| error.to_string())?;
    let headers = [
        (ACCEPT, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("x-prometheus-refresh-interval-seconds"), seconds),
    ];
    let mut body = Vec::new();
    let content_type = client.ask(url, &headers, FILE_BYTES_MAX, &mut body).await.map_err(|error| error.to_string())?;
    let (media_type, parameter) = content_type.split_once(';').unwrap_or((&content_type, ""));
    let charset = parameter.trim().to_ascii_lowercase().replace('"', "");
    if !media_type.trim().eq_ignore_ascii_case("application/json") || !matches!(charset.as_str(), "" | "charset=utf-8")
    {
        return Err(format!("unsupported content type {content_type:?}"));
    }
    let groups = parse_json(&body)?;
    let of = |(i, group)| TargetGroup::of(group, format!("{url}:{i}"), Some(("__meta_url", url)));
    Ok(groups.into_iter().enumerate().map(of).collect())
}
