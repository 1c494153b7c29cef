//! check and dump: read a data directory that no server has open.
//!
//! The log verifies its files and the segments theirs; here is what only the engine knows: that records say something,
//! and that what the manifest names is there.

use std::io;
use std::path::{Path, PathBuf};

use varve_model::Labels;
use varve_vfs::{Env, Open};
use varve_wal::{FileHeader, Header};

use crate::deletion::DeletionSpec;
use crate::engine::TOPIC;
use crate::error::{Error, Result};
use crate::manifest::catalog::Replay;
use crate::manifest::{edit, store};
use crate::open::{Layout, lock, segment_name};
use crate::record::metrics::Decoder;
use crate::record::{KIND_DELETION, KIND_MANIFEST, KIND_METRICS, Rows};
use crate::segment::{BlockCache, Segment};
use crate::status::Damage;

/// Bytes of a log file before its batches.
const LOG_HEADER_BYTES: usize = 64;

/// Verifies every byte of a data directory: log, records, manifest, segments. Repairs nothing.
/// [`Error::Locked`] while a server has the directory open.
pub fn check(env: &Env, dir: &Path) -> Result<Vec<Damage>> {
    // A directory that may not be written to cannot be locked; reading it is harmless.
    let _lock = match lock(env, dir) {
        Err(error @ Error::Locked { .. }) => return Err(error),
        lock => lock.ok(),
    };
    let layout = Layout(dir);
    let mut damages = Vec::new();
    let log = varve_wal::check(env, &layout.log())?;
    damages.extend(log.damaged.iter().map(|damage| Damage {
        path: damage.path.clone(),
        at: damage.at,
        what: format!("{} ({} bytes, offsets {} to {})", damage.what, damage.bytes, damage.first, damage.end),
    }));
    check_records(env, &layout, &mut damages)?;
    let mut replay = Replay::default();
    for path in log_files(env, &layout.log().join(store::TOPIC).join("0"))? {
        let mut bad = Vec::new();
        each_batch(env, &path, &mut |header, payload| {
            if header.record.kind == KIND_MANIFEST {
                match edit::decode(payload) {
                    Ok(edits) => replay.apply(header.base_offset, &edits),
                    Err(error) => bad.push((header.base_offset, error)),
                }
            }
        })?;
        damages.extend(bad.into_iter().map(|(offset, error)| malformed(&path, offset, &error)));
    }
    for id in replay.finish().0.segments.keys() {
        if !names(env, &layout.segments())?.contains(&segment_name(*id)) {
            let what = "the segment is missing; the manifest names it".to_owned();
            damages.push(Damage { path: layout.segment(*id), at: 0, what });
        }
    }
    for name in names(env, &layout.segments())?.iter().filter(|name| name.ends_with(".seg")) {
        let path = layout.segments().join(name);
        match Segment::open(env, &path, BlockCache::new(1 << 20)) {
            Ok(segment) => damages.extend(segment.verify()),
            Err(Error::Damaged { path, at, what }) => damages.push(Damage { path, at, what }),
            Err(error) => damages.push(Damage { path, at: 0, what: error.to_string() }),
        }
    }
    Ok(damages)
}

fn malformed(path: &Path, offset: u64, error: &crate::record::Malformed) -> Damage {
    Damage { path: path.to_owned(), at: 0, what: format!("record at offset {offset}: {error}") }
}

fn check_records(env: &Env, layout: &Layout<'_>, damages: &mut Vec<Damage>) -> Result<()> {
    let topic = layout.log().join(TOPIC);
    for partition in names(env, &topic)?.iter().filter(|name| name.parse::<u32>().is_ok()) {
        for path in log_files(env, &topic.join(partition))? {
            let mut decoder = Decoder::default();
            let mut rows = Rows::default();
            let mut bad = Vec::new();
            each_batch(env, &path, &mut |header, payload| {
                if header.record.kind == KIND_DELETION
                    && let Err(error) = DeletionSpec::from_record(payload)
                {
                    bad.push((header.base_offset, error));
                }
                if header.record.kind == KIND_METRICS {
                    let tenant = varve_model::TenantId(header.record.tenant);
                    if let Err(error) = decoder.decode(payload, tenant, &mut |_, _| 0, Some(&mut rows)) {
                        bad.push((header.base_offset, error));
                    }
                }
            })?;
            damages.extend(bad.into_iter().map(|(offset, error)| malformed(&path, offset, &error)));
        }
    }
    Ok(())
}

/// Prints any file of ours readably: a segment, or a log file with its records.
pub fn dump(env: &Env, path: &Path, out: &mut dyn io::Write) -> Result<()> {
    if path.extension().is_some_and(|extension| extension == "seg") {
        return crate::segment::dump(env, path, out);
    }
    if !varve_wal::dump(env, path, out)? {
        let what = "neither a segment nor a file of the log".to_owned();
        return Err(Error::Damaged { path: path.to_owned(), at: 0, what });
    }
    if path.extension().is_none_or(|extension| extension != "log") {
        return Ok(());
    }
    let mut decoder = Decoder::default();
    let mut series: Vec<Labels> = Vec::new();
    let mut rows = Rows::default();
    let mut written = Ok(());
    each_batch(env, path, &mut |header, payload| {
        if written.is_err() {
            return;
        }
        written = match header.record.kind {
            KIND_METRICS => {
                let mut resolve = |_, labels| {
                    series.push(labels);
                    (series.len() - 1) as u32
                };
                let tenant = varve_model::TenantId(header.record.tenant);
                match decoder.decode(payload, tenant, &mut resolve, Some(&mut rows)) {
                    Ok(_) => dump_rows(header, &rows, &series, out),
                    Err(error) => writeln!(out, "record at offset {}: {error}", header.base_offset),
                }
            }
            KIND_DELETION => match DeletionSpec::from_record(payload) {
                Ok(spec) => {
                    let (offset, tenant, range) = (header.base_offset, header.record.tenant, spec.range);
                    let matchers = &spec.matchers;
                    writeln!(
                        out,
                        "deletion at offset {offset}: tenant {tenant} {matchers:?} {}..={}",
                        range.min, range.max
                    )
                }
                Err(error) => writeln!(out, "deletion at offset {}: {error}", header.base_offset),
            },
            KIND_MANIFEST => match edit::decode(payload) {
                Ok(edits) => {
                    edits.iter().try_for_each(|edit| writeln!(out, "edit at offset {}: {edit:?}", header.base_offset))
                }
                Err(error) => writeln!(out, "record at offset {}: {error}", header.base_offset),
            },
            _ => Ok(()),
        };
    })?;
    written.map_err(|error| Error::io("writing", Path::new("output"), error))
}

fn dump_rows(header: &Header, rows: &Rows, series: &[Labels], out: &mut dyn io::Write) -> io::Result<()> {
    let (offset, tenant) = (header.base_offset, header.record.tenant);
    let none = Labels::default();
    let labels = |id: u32| series.get(id as usize).unwrap_or(&none);
    let mut samples = rows.times.iter().zip(&rows.values);
    for entry in &rows.entries {
        for (time, value) in samples.by_ref().take(entry.count as usize) {
            writeln!(out, "record at offset {offset}: tenant {tenant} {} {value} @{time}", labels(entry.series))?;
        }
    }
    for (id, time, histogram) in &rows.histograms {
        writeln!(out, "record at offset {offset}: tenant {tenant} {} {histogram:?} @{time}", labels(*id))?;
    }
    for exemplar in &rows.exemplars {
        let (value, time) = (exemplar.value, exemplar.time);
        let own = Labels::from_label_bytes(&exemplar.labels).unwrap_or_default();
        let of = labels(exemplar.series);
        writeln!(out, "record at offset {offset}: tenant {tenant} {of} exemplar {own} {value} @{time}")?;
    }
    Ok(())
}

/// Calls `each` with the batches of a log file, up to the first place that is none: what is behind it the log's own
/// check tells.
fn each_batch(env: &Env, path: &Path, each: &mut dyn FnMut(&Header, &[u8])) -> Result<()> {
    let io = |error| Error::io("reading", path, error);
    let file = env.vfs.open(path, Open::Read).map_err(io)?;
    let mut bytes = vec![0; usize::try_from(file.len().map_err(io)?).unwrap_or(0)];
    file.read_at(&mut bytes, 0).map_err(io)?;
    let back = bytes.len().saturating_sub(LOG_HEADER_BYTES);
    let header = FileHeader::decode(&bytes).or_else(|_| FileHeader::decode(bytes.get(back..).unwrap_or_default()));
    if let Ok((_, header)) = header {
        // The zeros behind the last batch are none.
        let _ = varve_wal::decode_all(bytes.get(LOG_HEADER_BYTES..).unwrap_or_default(), header.salt, each);
    }
    Ok(())
}

fn names(env: &Env, dir: &Path) -> Result<Vec<String>> {
    env.vfs.list(dir).map_err(|error| Error::io("listing", dir, error))
}

/// Log files in order of offsets.
fn log_files(env: &Env, dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(names(env, dir)?.iter().filter(|name| name.ends_with(".log")).map(|name| dir.join(name)).collect())
}
