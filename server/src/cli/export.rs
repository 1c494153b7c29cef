//! `varve export`: writes the samples of a running server out, as they arrive.
//!
//! ```text
//! selector ── POST /api/v1/read ──> frames of chunks ──> column ──> text
//! ```
//! One frame is in memory at a time, so that the size of what is exported does not matter to either side. An answer
//! that was cut ends with an error, and in OpenMetrics without `# EOF`. Any server with remote read in streamed chunks
//! will do.

mod format;

use std::collections::HashSet;
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use varve_model::{Column, Labels, Matcher, SeriesHash, TimeRange};
use varve_protocol::remote_read::{decode_frame, push_read_request};
use varve_protocol::tsdb::{crc32c, decode_chunk};
use varve_query::promql::ast::ExprKind;
use varve_query::promql::{self, ParseOptions};
use varve_vfs::{Env, File, Open};

use super::client::{self, Server};
use super::progress::{Progress, Unit, amount, duration};
use super::{fail, query};
use format::{Format, Left};

/// Bytes of a frame.
const FRAME_BYTES_MAX: u64 = 256 << 20;
const EVERYTHING: &str = "{__name__!=\"\"}";

/// The command.
pub(super) fn command() -> Command {
    let text = |name: &'static str, value_name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value_name).allow_hyphen_values(true).help(help)
    };
    Command::new("export")
        .about("Write samples of a running server as text")
        .after_help(
            "OpenMetrics cannot say native histograms; they are in the JSON lines only. Stale markers are left out. Both \
             are counted at the end. The time of a request is bounded by the server; --slice asks for one slice of time \
             after another, and a series then comes once a slice.",
        )
        .args(client::args("Server to read from; any with remote read"))
        .arg(text("match", "SELECTOR", "Series to export; may be given several times [default: all]").action(ArgAction::Append))
        .arg(text("start", "TIME", "First time: seconds since 1970, RFC 3339, or -30d (before now) [default: all]"))
        .arg(text("end", "TIME", "Last time [default: all]"))
        .arg(text("slice", "DURATION", "Ask for slices of time of this length, such as 1d; needs --start"))
        .arg(
            text("format", "FORMAT", "openmetrics, or json: one series a line, {\"metric\":…,\"values\":…,\"timestamps\":…}")
                .value_parser(["openmetrics", "json"])
                .default_value("openmetrics"),
        )
        .arg(
            text("output", "FILE", "File to write; it must not exist yet [default: standard output]")
                .value_parser(value_parser!(PathBuf)),
        )
}

/// Exports.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    match export(matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Failed(why)) => fail(why),
        // Who reads has seen enough.
        Err(Stop::Closed) => ExitCode::SUCCESS,
    }
}

enum Stop {
    Failed(String),
    Closed,
}

impl From<String> for Stop {
    fn from(why: String) -> Stop {
        Stop::Failed(why)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Stop::Closed,
            _ => Stop::Failed(format!("cannot write: {error}")),
        }
    }
}

fn export(matches: &ArgMatches) -> Result<(), Stop> {
    let env = Env::os();
    let now = env.clock.wall().0.div_euclid(1_000_000);
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let time = |name: &str| {
        text(name).map(|text| query::moment(text, now).map_err(|why| format!("--{name}: {why}"))).transpose()
    };
    let (start, end) = (time("start")?, time("end")?);
    let slices = match text("slice") {
        None => vec![TimeRange { min: start.unwrap_or(i64::MIN), max: end.unwrap_or(i64::MAX) }],
        Some(length) => {
            let length = crate::config::value::parse_duration_ms(length).filter(|length| *length > 0);
            let length = length.ok_or_else(|| "--slice: not a duration such as 1d".to_owned())?;
            let start = start.ok_or_else(|| "--slice needs --start".to_owned())?;
            slices(start, end.unwrap_or(now), length)
        }
    };
    let selectors: Vec<&str> = match matches.get_many::<String>("match") {
        Some(given) => given.map(String::as_str).collect(),
        None => vec![EVERYTHING],
    };
    let selectors = selectors.iter().map(|text| selector(text)).collect::<Result<Vec<_>, _>>()?;
    let server = Server::of(matches)?;
    let output: Box<dyn Write> = match matches.get_one::<PathBuf>("output") {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => {
            let file = env.vfs.open(path, Open::Create).map_err(|error| format!("{}: {error}", path.display()))?;
            Box::new(Output { file, at: 0 })
        }
    };
    let mut export = Export {
        server,
        out: BufWriter::with_capacity(1 << 20, output),
        format: if text("format") == Some("json") { Format::Json } else { Format::OpenMetrics },
        progress: Progress::new(Arc::clone(&env.clock), Unit::Samples, 0),
        left: Left::default(),
        samples: 0,
    };
    for slice in slices {
        // A series that two selectors name comes once.
        let mut seen = HashSet::new();
        for matchers in &selectors {
            let now_seen = export.selection(slice, matchers, &seen, selectors.len() > 1)?;
            seen.extend(now_seen);
        }
    }
    if export.format == Format::OpenMetrics {
        export.out.write_all(b"# EOF\n")?;
    }
    export.out.flush()?;
    let Export { mut progress, samples, left, .. } = export;
    progress.say(&format!(
        "{samples} samples exported in {} ({}/s), {} stale markers left out",
        duration(progress.elapsed().as_secs()),
        amount(Unit::Samples, progress.rate() as u64),
        left.stale
    ));
    if left.histograms > 0 {
        progress.say(&format!(
            "  {} native histograms left out: OpenMetrics cannot say them; use --format json",
            left.histograms
        ));
    }
    Ok(())
}

/// The matchers of a selector.
fn selector(text: &str) -> Result<Vec<Matcher>, String> {
    let parsed = promql::parse(text, &ParseOptions::default()).map_err(|error| format!("--match: {error}"))?;
    match parsed.kind {
        ExprKind::VectorSelector(selector)
            if selector.offset.is_none() && selector.at.is_none() && selector.extended.is_none() =>
        {
            Ok(selector.matchers)
        }
        _ => Err(format!("--match: {text:?} is not a plain selector")),
    }
}

/// `[start, end]` in pieces of `length`.
fn slices(start: i64, end: i64, length: i64) -> Vec<TimeRange> {
    let mut slices = Vec::new();
    let mut min = start;
    while min <= end {
        let max = min.saturating_add(length - 1).min(end);
        slices.push(TimeRange { min, max });
        if max == i64::MAX {
            break;
        }
        min = max + 1;
    }
    slices
}

struct Export {
    server: Server,
    out: BufWriter<Box<dyn Write>>,
    format: Format,
    progress: Progress,
    left: Left,
    samples: u64,
}

impl Export {
    /// Writes the series of a selection that are not in `seen`; gives them when `remember`.
    fn selection(
        &mut self,
        range: TimeRange,
        matchers: &[Matcher],
        seen: &HashSet<SeriesHash>,
        remember: bool,
    ) -> Result<Vec<SeriesHash>, Stop> {
        const HEADERS: [(&str, &str); 3] = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Read-Version", "0.1.0"),
        ];
        let mut body = Vec::new();
        push_read_request(&mut body, range, matchers);
        let packed =
            snap::raw::Encoder::new().compress_vec(&body).map_err(|error| format!("cannot compress: {error}"))?;
        let mut answer = self.server.send("POST", "/api/v1/read", &HEADERS, &packed)?;
        if answer.status != 200 {
            return Err(Stop::Failed(answer.error()));
        }
        if !answer.header("content-type").is_some_and(|kind| kind.contains("streamed-protobuf")) {
            return Err(Stop::Failed("the server does not stream chunks".to_owned()));
        }
        let mut found = Vec::new();
        let (mut message, mut column, mut text) = (Vec::new(), Column::default(), Vec::new());
        while read_frame(&mut answer.body, &mut message)? {
            let frame = decode_frame(&message).map_err(|error| error.to_string())?;
            let labels = Labels::from_label_bytes(frame.labels).map_err(|error| format!("labels: {error:?}"))?;
            if seen.contains(&labels.hash()) {
                continue;
            }
            if remember && found.last() != Some(&labels.hash()) {
                found.push(labels.hash());
            }
            column.clear();
            for (encoding, data) in frame.chunks {
                decode_chunk(encoding, data, &mut column).map_err(str::to_owned)?;
            }
            // A server may send whole chunks.
            format::trim(&mut column, range);
            text.clear();
            let samples = self.format.push(&mut text, &labels, &column, &mut self.left);
            self.out.write_all(&text)?;
            self.samples += samples;
            self.progress.add(samples);
        }
        Ok(found)
    }
}

/// Reads the next frame; `false` at the end.
fn read_frame(body: &mut impl Read, message: &mut Vec<u8>) -> Result<bool, String> {
    let failed = |error: std::io::Error| format!("the export ended too early, try --slice 1d: {error}");
    let mut len = 0u64;
    for shift in (0..35).step_by(7) {
        let mut byte = [0];
        if body.read(&mut byte).map_err(failed)? == 0 {
            return if shift == 0 { Ok(false) } else { Err("the export ended within a frame".to_owned()) };
        }
        len |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            break;
        }
    }
    if len > FRAME_BYTES_MAX {
        return Err(format!("a frame of {len} bytes is too large"));
    }
    let mut sum = [0; 4];
    body.read_exact(&mut sum).map_err(failed)?;
    message.clear();
    let read = body.take(len).read_to_end(message).map_err(failed)?;
    if read as u64 != len {
        return Err("the export ended within a frame".to_owned());
    }
    if crc32c(message) != u32::from_be_bytes(sum) {
        return Err("a frame's checksum does not match".to_owned());
    }
    Ok(true)
}

/// A file that is written from its begin on.
struct Output {
    file: Arc<dyn File>,
    at: u64,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_the_range_once() {
        let of = |start, end, length| slices(start, end, length).iter().map(|s| (s.min, s.max)).collect::<Vec<_>>();
        assert_eq!(of(0, 25, 10), [(0, 9), (10, 19), (20, 25)]);
        assert_eq!(of(5, 5, 10), [(5, 5)]);
        assert_eq!(of(6, 5, 10), []);
        assert_eq!(of(i64::MAX - 1, i64::MAX, 10), [(i64::MAX - 1, i64::MAX)]);
    }

    #[test]
    fn frames_end_cleanly_or_with_an_error() {
        let mut frame = vec![3];
        frame.extend_from_slice(&crc32c(b"abc").to_be_bytes());
        frame.extend_from_slice(b"abc");
        let mut message = Vec::new();
        let mut body = &frame[..];
        assert_eq!(read_frame(&mut body, &mut message), Ok(true));
        assert_eq!(message, b"abc");
        assert_eq!(read_frame(&mut body, &mut message), Ok(false));
        for end in 1..frame.len() {
            assert!(read_frame(&mut &frame[..end], &mut message).is_err(), "{end}");
        }
        frame[7] ^= 1;
        assert!(read_frame(&mut &frame[..], &mut message).is_err());
    }

    #[test]
    fn selectors_are_plain() {
        assert_eq!(selector("up{job=\"a\"}").map(|matchers| matchers.len()), Ok(2));
        assert!(selector("up offset 5m").is_err());
        assert!(selector("rate(up[5m])").is_err());
    }
}
