//! Import of OpenMetrics text: reads pieces that end with a line, decodes each, and sends.
//!
//! Memory does not grow with the file: one piece, and what it decodes to. Timestamps are required, as promtool requires
//! them: without one nobody knows when the sample was.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ArgMatches;
use serde_json::json;
use varve_model::{Labels, Limits, Millis, WriteBatch};
use varve_protocol::Error;
use varve_protocol::exposition::{Format, decode};
use varve_vfs::{File, Open};

use super::Job;
use super::resume::Notes;
use crate::cli::progress::Unit;
use crate::cli::sender::Sender;

/// Bytes of a piece, and of the longest line.
const PIECE_BYTES: usize = 4 << 20;
/// The time that samples without one get; no sample can have it.
const NO_TIME: Millis = Millis::MIN;

/// Imports; whether all went well.
pub(super) fn run(job: &Job, matches: &ArgMatches) -> Result<bool, String> {
    let path = matches.get_one::<PathBuf>("file").map(PathBuf::as_path).unwrap_or(Path::new("-"));
    let mut source = Source::open(job, path)?;
    let notes = Notes::new(&job.env, job.resume.as_deref());
    let note = notes.read()?;
    let mut progress = job.progress(Unit::Bytes, source.len()?);
    let (mut offset, mut line) = (0u64, 0u64);
    if let Some(note) = note {
        (offset, line) = (note["bytes"].as_u64().unwrap_or(0), note["lines"].as_u64().unwrap_or(0));
        source.skip(offset)?;
        progress.skip(offset);
    }
    let mut notes = notes;
    let mut save = |&(bytes, lines): &(u64, u64)| notes.write(json!({"bytes": bytes, "lines": lines}));
    let mut sender = Sender::new(&job.server, (offset, line), &mut save);
    let mut warned = false;
    let mut left_out = 0;
    let mut families = BTreeSet::new();
    let mut batch = WriteBatch::default();
    let labels: Vec<(&str, &str)> = job.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let limits = Limits { decompressed_bytes_max: 1 << 30, series_per_request_max: u32::MAX, ..Limits::default() };
    let (mut piece, mut rest) = (Vec::new(), Vec::new());
    loop {
        sender.reach((offset, line));
        let ended = source.piece(&mut piece, &mut rest)?;
        if let Err(error) = decode(&piece, Format::OpenMetrics, NO_TIME, &labels, &limits, &mut batch) {
            // What is before the mistake is stored, so that the next run begins with it.
            sender.flush(&mut progress)?;
            return Err(match error {
                Error::Text { line: number, what } => format!("{}: line {}: {what}", path.display(), line + number),
                other => other.to_string(),
            });
        }
        if !warned && let Some(&oldest) = batch.times.iter().min() {
            job.warn_of_retention(&mut progress, oldest);
            warned = true;
        }
        for metadata in std::mem::take(&mut batch.metadata) {
            if families.insert(metadata.family.clone()) {
                sender.push_metadata(metadata);
            }
        }
        let mut exemplars = batch.exemplars.iter().peekable();
        for (index, series) in batch.series.iter().enumerate() {
            if sender.is_full() {
                sender.flush(&mut progress)?;
            }
            sender.begin(batch.label_bytes(series), series.hash);
            for at in series.samples.start as usize..series.samples.end as usize {
                let (Some(&time), Some(&value)) = (batch.times.get(at), batch.values.get(at)) else { continue };
                if time == NO_TIME {
                    let labels = Labels::from_label_bytes(batch.label_bytes(series)).unwrap_or_default();
                    let name = labels.metric_name();
                    return Err(format!("{}: a sample of {name} has no timestamp", path.display()));
                }
                if job.range.contains(time) {
                    sender.push(time, value, batch.start(at));
                } else {
                    left_out += 1;
                }
            }
            while let Some(exemplar) = exemplars.next_if(|exemplar| exemplar.series as usize <= index) {
                if exemplar.time != NO_TIME && job.range.contains(exemplar.time) {
                    let labels = batch.bytes.get(exemplar.labels.start as usize..exemplar.labels.end as usize);
                    sender.push_exemplar(labels.unwrap_or_default(), exemplar.time, exemplar.value);
                }
            }
        }
        offset += piece.len() as u64;
        line += piece.iter().filter(|&&byte| byte == b'\n').count() as u64;
        progress.add(piece.len() as u64);
        if ended {
            break;
        }
    }
    sender.reach((offset, line));
    sender.flush(&mut progress)?;
    let outcome = sender.outcome;
    notes.finish();
    Ok(job.summarize(&mut progress, &outcome, left_out, 0))
}

/// A file or standard input.
enum Source {
    File { file: Arc<dyn File>, at: u64 },
    Input(std::io::Stdin),
}

impl Source {
    fn open(job: &Job, path: &Path) -> Result<Source, String> {
        if path == Path::new("-") {
            return Ok(Source::Input(std::io::stdin()));
        }
        let file = job.env.vfs.open(path, Open::Read).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Source::File { file, at: 0 })
    }

    /// Bytes in all; 0 when nobody knows.
    fn len(&self) -> Result<u64, String> {
        match self {
            Source::File { file, .. } => file.len().map_err(|error| error.to_string()),
            Source::Input(_) => Ok(0),
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        match self {
            Source::File { at, .. } => {
                *at = bytes;
                Ok(())
            }
            Source::Input(input) => {
                let skipped = std::io::copy(&mut input.lock().take(bytes), &mut std::io::sink());
                skipped.map(|_| ()).map_err(|error| format!("cannot read: {error}"))
            }
        }
    }

    /// Reads a piece that ends with a line; whether it is the last one. `rest` is kept from call to call.
    fn piece(&mut self, piece: &mut Vec<u8>, rest: &mut Vec<u8>) -> Result<bool, String> {
        piece.clear();
        piece.append(rest);
        let have = piece.len();
        piece.resize(PIECE_BYTES.max(have), 0);
        let mut filled = have;
        let mut ended = false;
        while let Some(room) = piece.get_mut(filled..).filter(|room| !room.is_empty()) {
            let read = self.read(room).map_err(|error| format!("cannot read: {error}"))?;
            if read == 0 {
                ended = true;
                break;
            }
            filled += read;
        }
        piece.truncate(filled);
        if !ended {
            let end = piece.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
            let end = end.ok_or_else(|| format!("a line is longer than {PIECE_BYTES} bytes"))?;
            rest.extend(piece.drain(end..));
        }
        Ok(ended)
    }

    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Source::Input(input) => input.lock().read(room),
            Source::File { file, at } => {
                let left = file.len()?.saturating_sub(*at);
                let count = (room.len() as u64).min(left) as usize;
                let room = room.get_mut(..count).unwrap_or_default();
                file.read_at(room, *at)?;
                *at += count as u64;
                Ok(count)
            }
        }
    }
}
