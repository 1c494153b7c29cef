//! Sender: collects series into batches and remote-writes them, each until it is acknowledged.
//!
//! ```text
//! begin · push … ──> WriteBatch ── full ──> snappy ──> POST /api/v1/write ── 2xx ──> the next position is saved
//!                                              ▲           │ 429, 5xx, no connection: later again
//!                                              └───────────┘ 400: refused samples are counted, all else is stored
//! ```
//! An acknowledgement means durable. Writing the same sample twice changes nothing, so a run that was interrupted goes
//! on from the position of its last acknowledgement and may send a little again.

use std::collections::BTreeMap;
use std::time::Duration;

use varve_model::write::{WriteExemplar, WriteSeries};
use varve_model::{Histogram, Millis, SeriesHash, WriteBatch};
use varve_protocol::remote_write::{encode_v1, encode_v2};

use super::client::Server;
use super::progress::Progress;

/// A batch is sent when it has this many samples,
const SAMPLES_MAX: usize = 50_000;
/// or this many series,
const SERIES_MAX: usize = 10_000;
/// or this many bytes.
const BYTES_MAX: usize = 4 << 20;
/// How long a server may refuse or be away before the command gives up.
const TRIES_MAX: u32 = 40;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(15);

const V1: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];
const V2: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "2.0.0"),
];

/// What came of it.
#[derive(Default, Debug)]
pub(super) struct Outcome {
    /// Samples that were sent and acknowledged as stored.
    pub(super) stored: u64,
    /// Samples refused, by the server's reason.
    pub(super) refused: BTreeMap<String, u64>,
    /// How often a batch had to be sent again.
    pub(super) retries: u64,
}

/// Called after each acknowledgement with the position up to which all is stored.
pub(super) type Save<'a, P> = &'a mut dyn FnMut(&P) -> Result<(), String>;

/// Collects and sends. `P` says where in the source the caller is.
pub(super) struct Sender<'a, P> {
    server: &'a Server,
    save: Save<'a, P>,
    position: P,
    batch: WriteBatch,
    histogram_bytes: usize,
    pub(super) outcome: Outcome,
}

impl<'a, P> Sender<'a, P> {
    pub(super) fn new(server: &'a Server, begin: P, save: Save<'a, P>) -> Sender<'a, P> {
        let (batch, outcome) = (WriteBatch::default(), Outcome::default());
        Sender { server, save, position: begin, batch, histogram_bytes: 0, outcome }
    }

    /// Says that everything before `position` was pushed.
    pub(super) fn reach(&mut self, position: P) {
        self.position = position;
    }

    /// Begins a series by its label bytes.
    pub(super) fn begin(&mut self, label_bytes: &[u8], hash: SeriesHash) {
        let begin = self.batch.bytes.len() as u32;
        self.batch.bytes.extend_from_slice(label_bytes);
        let (samples, histograms) = (self.batch.times.len() as u32, self.batch.histograms.len() as u32);
        self.batch.series.push(WriteSeries {
            labels: begin..self.batch.bytes.len() as u32,
            hash,
            samples: samples..samples,
            histograms: histograms..histograms,
        });
    }

    /// Adds a float sample to the series begun last.
    pub(super) fn push(&mut self, time: Millis, value: f64, start: Millis) {
        self.batch.push_sample(time, value);
        if start != 0 {
            self.batch.set_start(start);
        }
    }

    /// Adds a histogram sample to the series begun last.
    pub(super) fn push_histogram(&mut self, time: Millis, histogram: Histogram, start: Millis) {
        self.histogram_bytes += 128 + 9 * (histogram.positive.len() + histogram.negative.len());
        self.batch.push_histogram(time, histogram);
        if start != 0 {
            self.batch.set_histogram_start(start);
        }
    }

    /// Adds an exemplar to the series begun last.
    pub(super) fn push_exemplar(&mut self, label_bytes: &[u8], time: Millis, value: f64) {
        let Some(series) = self.batch.series.len().checked_sub(1) else { return };
        let begin = self.batch.bytes.len() as u32;
        self.batch.bytes.extend_from_slice(label_bytes);
        let labels = begin..self.batch.bytes.len() as u32;
        self.batch.exemplars.push(WriteExemplar { series: series as u32, labels, time, value });
    }

    /// Adds metadata.
    pub(super) fn push_metadata(&mut self, metadata: varve_model::write::Metadata) {
        self.batch.metadata.push(metadata);
    }

    /// Whether the batch should go.
    pub(super) fn is_full(&self) -> bool {
        let bytes = self.batch.bytes.len() + self.histogram_bytes + 16 * self.batch.times.len();
        self.batch.samples() >= SAMPLES_MAX || self.batch.series.len() >= SERIES_MAX || bytes >= BYTES_MAX
    }

    /// Sends what was collected, if anything, and saves the position.
    pub(super) fn flush(&mut self, progress: &mut Progress) -> Result<(), String> {
        if !self.batch.series.is_empty() || !self.batch.metadata.is_empty() {
            let mut body = Vec::new();
            // Only the second version has start timestamps, and only the first has metadata of any family.
            let v2 = !self.batch.starts.is_empty() || !self.batch.histogram_starts.is_empty();
            if v2 {
                encode_v2(&self.batch, &mut body);
            } else {
                encode_v1(&self.batch, &mut body);
            }
            let packed =
                snap::raw::Encoder::new().compress_vec(&body).map_err(|error| format!("cannot compress: {error}"))?;
            let refused = self.deliver(&packed, if v2 { &V2 } else { &V1 }, progress)?;
            self.outcome.stored += (self.batch.samples() as u64).saturating_sub(refused);
            self.batch.clear();
            self.histogram_bytes = 0;
        }
        (self.save)(&self.position)
    }

    /// Sends one body until it is acknowledged; how many samples were refused.
    fn deliver(&mut self, body: &[u8], headers: &[(&str, &str)], progress: &mut Progress) -> Result<u64, String> {
        let mut pause = PAUSE_MIN;
        for attempt in 1.. {
            let (why, wait) = match self.server.send("POST", "/api/v1/write", headers, body) {
                Ok(answer) if answer.status / 100 == 2 => return Ok(0),
                Ok(answer) if answer.status == 400 => {
                    let text = answer.error();
                    return refusals(&text, &mut self.outcome.refused).ok_or(text);
                }
                Ok(answer) if matches!(answer.status, 408 | 429 | 500..=599) => {
                    let after = answer.header("retry-after").and_then(|text| text.parse().ok());
                    (answer.error(), after.map(Duration::from_secs))
                }
                Ok(answer) => return Err(answer.error()),
                Err(why) => (why, None),
            };
            if attempt >= TRIES_MAX {
                return Err(format!("given up after {attempt} tries: {why}"));
            }
            if attempt == 3 {
                progress.say(&format!("waiting for the server: {why}"));
            }
            self.outcome.retries += 1;
            sleep(wait.unwrap_or(pause).min(PAUSE_MAX));
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(0)
    }
}

#[expect(clippy::disallowed_methods, reason = "a client that waits for a busy server has nothing else to do")]
fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// Reads the text by which a write says that samples were refused: `3 of 10 samples refused, the others are stored; 2
/// for REASON, first in series …; 1 for REASON: WHY …`. `None` when it says something else.
fn refusals(text: &str, reasons: &mut BTreeMap<String, u64>) -> Option<u64> {
    let (count, rest) = text.split_once(" of ")?;
    let count: u64 = count.parse().ok()?;
    let (_, rest) = rest.split_once(" samples refused")?;
    let mut left = count;
    for part in rest.split("; ").skip(1) {
        let Some((number, reason)) = part.split_once(" for ") else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        let reason = reason.split(", first in series ").next().unwrap_or_default();
        let number = number.min(left);
        left -= number;
        *reasons.entry(reason.to_owned()).or_default() += number;
    }
    if left > 0 {
        *reasons.entry("reasons not told".to_owned()).or_default() += left;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_reason() {
        let mut reasons = BTreeMap::new();
        let text = "3 of 10 samples refused, the others are stored; 2 for timestamp older than the retention keeps \
                    (setting `retention_ms`), first in series {a=\"b\"}; 1 for histogram that contradicts itself: bad";
        assert_eq!(refusals(text, &mut reasons), Some(3));
        assert_eq!(refusals(text, &mut reasons), Some(3));
        assert_eq!(reasons.get("timestamp older than the retention keeps (setting `retention_ms`)"), Some(&4));
        assert_eq!(reasons.get("histogram that contradicts itself: bad"), Some(&2));
        assert_eq!(refusals("malformed protobuf", &mut reasons), None);
        assert_eq!(refusals("5 of 9 samples refused", &mut reasons), Some(5));
        assert_eq!(reasons.get("reasons not told"), Some(&5));
    }
}
