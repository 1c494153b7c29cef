//! The loop of one target: waits for its place in the interval, scrapes, writes, and when it ends, marks its series
//! stale.
//!
//! A scrape is one batch: samples, stale markers of what has gone, and the series about the scrape itself. A failed
//! scrape is an empty one with `up` 0. When the target is gone for good the loop waits two intervals and a little, as
//! a target that comes back must not find a gap, and marks what nobody else scrapes meanwhile. When the server stops,
//! nothing is marked: it will be back.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderName, HeaderValue};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};
use varve_model::{Millis, SeriesHash, WriteBatch};
use varve_protocol::scrape::{Media, read};

use crate::Surroundings;
use crate::append::{Appender, Counts, push_report, push_stale};
use crate::blocking::Heavy;
use crate::cache::Cache;
use crate::client::{Fetch, FetchError};
use crate::config::ScrapeConfig;
use crate::target::{Health, LastScrape, Target};

/// A scrape this close to its place in the interval gets exactly that time.
const TOLERANCE_MS: i64 = 2;

/// How a loop ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// Another loop goes on with its memory.
    HandOver,
    /// The target is gone.
    Gone,
}

/// A running loop.
pub(crate) struct Running {
    pub(crate) target: Arc<Target>,
    stop: oneshot::Sender<Stop>,
    stopped: oneshot::Receiver<()>,
    /// Why the target must not be scraped, if so.
    pub(crate) forced: watch::Sender<Option<String>>,
}

impl Running {
    /// Starts a loop. `before`: the loop that ends first, and whether this one takes over its memory.
    pub(crate) fn start(
        target: Arc<Target>,
        config: Arc<ScrapeConfig>,
        surroundings: Arc<Surroundings>,
        before: Option<(Running, bool)>,
    ) -> Running {
        let mut wait_for = None;
        let mut cache = Arc::new(Mutex::new(Cache::default()));
        if let Some((before, reuse)) = before {
            if reuse {
                cache = before.target.cache();
            }
            let _ = before.stop.send(if reuse { Stop::HandOver } else { Stop::Gone });
            wait_for = Some(before.stopped);
        }
        target.set_cache(Arc::clone(&cache));
        surroundings.lives.add(&target);
        let (stop, stop_seen) = oneshot::channel();
        let (stopped_seen, stopped) = oneshot::channel();
        let (forced, forced_seen) = watch::channel(None);
        let this = Loop {
            client: (surroundings.open_client)(Arc::new(config.client.clone())),
            headers: headers(&target, &config),
            target: Arc::clone(&target),
            config,
            cache,
            surroundings,
            forced: forced_seen,
            body_bytes: 0,
        };
        tokio::spawn(async move {
            if let Some(before) = wait_for {
                let _ = before.await;
            }
            this.run(stop_seen, stopped_seen).await;
        });
        Running { target, stop, stopped, forced }
    }

    /// Ends the loop of a target that is gone.
    pub(crate) fn gone(self) {
        let _ = self.stop.send(Stop::Gone);
    }
}

fn headers(target: &Target, config: &ScrapeConfig) -> Vec<(HeaderName, HeaderValue)> {
    let encoding = if config.enable_compression { "gzip" } else { "identity" };
    let seconds = target.timeout().seconds().to_string();
    let mut headers = vec![(ACCEPT_ENCODING, HeaderValue::from_static(encoding))];
    headers.extend(HeaderValue::from_str(&config.accept()).ok().map(|value| (ACCEPT, value)));
    let name = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
    headers.extend(HeaderValue::from_str(&seconds).ok().map(|value| (name, value)));
    headers
}

struct Loop {
    target: Arc<Target>,
    config: Arc<ScrapeConfig>,
    cache: Arc<Mutex<Cache>>,
    client: Box<dyn Fetch>,
    headers: Vec<(HeaderName, HeaderValue)>,
    surroundings: Arc<Surroundings>,
    forced: watch::Receiver<Option<String>>,
    /// Size of the last body.
    body_bytes: usize,
}

impl Loop {
    async fn run(mut self, mut stop: oneshot::Receiver<Stop>, stopped: oneshot::Sender<()>) {
        // Held to the end, so that the agent knows when all loops have ended.
        let _alive = self.surroundings.alive.clone();
        let mut shutdown = self.surroundings.shutdown.clone();
        let interval = Duration::from(self.target.interval());
        let offset = self.target.offset(self.surroundings.clock.wall().0, self.surroundings.seed);
        let mut ticks = tokio::time::interval_at(Instant::now() + offset, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut aligned: Option<Millis> = None;
        let mut scraped = false;
        let how = loop {
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return,
                how = &mut stop => break how,
                _ = ticks.tick() => {}
            }
            let now = self.surroundings.now();
            let time = align(&mut aligned, now, self.target.interval().0 as i64);
            self.scrape(time).await;
            scraped = true;
        };
        // Without a word the pool has ended, and with it the agent.
        let _ = stopped.send(());
        let Ok(how) = how else { return };
        self.surroundings.lives.remove(&self.target);
        if how == Stop::Gone && scraped {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => {}
                () = self.mark_gone(&mut ticks, interval) => {}
            }
        }
    }

    /// Marks what nobody scrapes any more, after a while.
    async fn mark_gone(&mut self, ticks: &mut tokio::time::Interval, interval: Duration) {
        ticks.tick().await;
        let time = self.surroundings.now();
        ticks.tick().await;
        sleep(interval / 10).await;
        let mut batch = self.surroundings.sink.batch();
        let others = self.surroundings.lives.caches(&self.target);
        let mut here: HashSet<SeriesHash> = HashSet::new();
        for other in &others {
            here.extend(lock(other).tracked());
        }
        {
            let mut cache = lock(&self.cache);
            cache.begin();
            let mut stale = cache.stale(false);
            stale.retain(|entry| !here.contains(&entry.hash));
            push_stale(&mut batch, &stale, time);
        }
        if others.is_empty() {
            for (name, _) in self.reports(&Scraped::default()) {
                push_report(&mut batch, &self.target, name, time, None);
            }
        }
        store(&self.surroundings, &self.target, batch).await;
    }

    async fn scrape(&mut self, time: Millis) {
        let surroundings = Arc::clone(&self.surroundings);
        let metrics = &surroundings.metrics;
        let begin = surroundings.clock.elapsed();
        let mut batch = surroundings.sink.batch();
        let forced = self.forced.borrow().clone();
        let mut scraped = Scraped::default();
        let mut body = surroundings.buffers.take(self.body_bytes);
        let fetched = match forced {
            Some(error) => Err(FetchError::Failed(error)),
            None => {
                let mut shutdown = surroundings.shutdown.clone();
                tokio::select! {
                    // Nothing of a scrape that is cut off by the end of the server is written.
                    _ = shutdown.wait_for(|stop| *stop) => return,
                    fetched = self.fetch(&mut body) => fetched,
                }
            }
        };
        let result = match fetched {
            Ok(content_type) => {
                self.body_bytes = body.len().max(self.body_bytes / 2);
                scraped.bytes = body.len() as f64;
                let heavy = Heavy::of(body.len()).await;
                heavy.run(|| self.take(&mut body, &content_type, time, &mut batch, &mut scraped.counts))
            }
            Err(error) => {
                if error == FetchError::TooLarge {
                    metrics.body_size_limit.add(1);
                    scraped.bytes = -1.0;
                }
                Err(error.to_string())
            }
        };
        surroundings.buffers.give(body);
        scraped.failed = result.is_err();
        if result.is_err() {
            batch.clear();
        }
        self.finish(time, &mut batch, scraped.failed);
        scraped.seconds = surroundings.clock.elapsed().saturating_sub(begin).as_secs_f64();
        for (name, value) in self.reports(&scraped) {
            push_report(&mut batch, &self.target, name, time, Some(value));
        }
        metrics.count(&scraped);
        let error = result.err().unwrap_or_default();
        if !error.is_empty() {
            tracing::debug!(target = self.target.url(), %error, "scrape failed");
        }
        let health = if scraped.failed { Health::Down } else { Health::Up };
        let duration = Duration::from_secs_f64(scraped.seconds);
        self.target.report(LastScrape { time: Some(time), duration, health, error });
        if !store(&surroundings, &self.target, batch).await {
            lock(&self.cache).say_again();
        }
    }

    async fn fetch(&mut self, body: &mut Vec<u8>) -> Result<String, FetchError> {
        let own = if self.config.body_size_limit == 0 { u64::MAX } else { self.config.body_size_limit };
        let bytes_max = own.min(self.surroundings.body_bytes_max);
        let url = self.target.url();
        match timeout(self.target.timeout().into(), self.client.get(url, &self.headers, bytes_max, body)).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Failed(format!("Get {url:?}: context deadline exceeded"))),
        }
    }

    /// Reads a body into the batch.
    fn take(
        &self,
        body: &mut Vec<u8>,
        content_type: &str,
        time: Millis,
        batch: &mut WriteBatch,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let mut cache = lock(&self.cache);
        cache.begin();
        if body.is_empty() {
            return Ok(());
        }
        let media = Media::of(content_type, self.config.fallback.map(|protocol| protocol.media()))?;
        if media == Media::Text {
            body.push(b'\n');
        }
        let options = self.target.options(&self.config);
        let bytes_max = self.surroundings.body_bytes_max;
        let mut appender = Appender::new(&self.target, &self.config, &mut cache, batch, time, bytes_max);
        let result = read(body, media, options, &mut appender).and_then(|()| appender.finish());
        *counts = appender.counts;
        result
    }

    /// Stale markers and metadata, and the end of the scrape in the cache.
    fn finish(&self, time: Millis, batch: &mut WriteBatch, failed: bool) {
        let mut cache = lock(&self.cache);
        // A scrape that never came to its body has not begun.
        if failed {
            cache.begin_failed();
        }
        let stale = cache.stale(failed);
        push_stale(batch, &stale, time);
        cache.take_changed(&mut batch.metadata);
        if cache.end(failed) {
            self.surroundings.metrics.cache_flushes.add(1);
        }
    }

    /// The series about a scrape.
    fn reports(&self, scraped: &Scraped) -> Vec<(&'static str, f64)> {
        let mut out = vec![
            ("up", if scraped.failed { 0.0 } else { 1.0 }),
            ("scrape_duration_seconds", scraped.seconds),
            ("scrape_samples_scraped", scraped.counts.total as f64),
            ("scrape_samples_post_metric_relabeling", scraped.counts.kept as f64),
            ("scrape_series_added", scraped.counts.new_series as f64),
        ];
        if self.config.extra_metrics == Some(true) {
            out.push(("scrape_timeout_seconds", self.target.timeout().seconds()));
            out.push(("scrape_sample_limit", self.config.sample_limit as f64));
            out.push(("scrape_body_size_bytes", scraped.bytes));
        }
        out
    }
}

/// Hands a batch over; whether it was stored.
async fn store(surroundings: &Surroundings, target: &Target, batch: WriteBatch) -> bool {
    let stored = surroundings.sink.append(batch).await;
    match &stored {
        Ok(refused) => surroundings.metrics.samples_refused.add(*refused),
        Err(error) => {
            surroundings.metrics.scrapes_lost.add(1);
            tracing::warn!(target = target.url(), %error, "a scrape could not be stored");
        }
    }
    stored.is_ok()
}

/// What a scrape came to.
#[derive(Default)]
pub(crate) struct Scraped {
    pub(crate) counts: Counts,
    pub(crate) failed: bool,
    pub(crate) seconds: f64,
    /// Size of the body; -1 where it was too large.
    pub(crate) bytes: f64,
}

pub(crate) fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of a scrape: its place in the interval where the clock is close to it, so that times are evenly spaced.
fn align(aligned: &mut Option<Millis>, now: Millis, interval: i64) -> Millis {
    let place = aligned.get_or_insert(now);
    if interval > 0 && now - *place >= interval {
        *place += (now - *place) / interval * interval;
    }
    // A clock that was set back begins anew.
    if now < *place - interval {
        *place = now;
    }
    let late = now - *place;
    if (0..=TOLERANCE_MS.min(interval / 100)).contains(&late) { *place } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_aligned_where_they_are_close() {
        let mut aligned = None;
        let times = [1000, 11_001, 21_002, 31_003, 41_500, 71_001].map(|now| align(&mut aligned, now, 10_000));
        assert_eq!(times, [1000, 11_000, 21_000, 31_003, 41_500, 71_000]);
    }
}
