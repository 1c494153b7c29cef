//! Dump: prints any file of the log for a reader's eyes.

use std::io::{self, Write};
use std::path::Path;

use varve_vfs::{Env, Open};

use crate::batch::seed_of;
use crate::bounds::Bound;
use crate::error::{Error, Result};
use crate::file::{FILE_HEADER_BYTES, FileHeader, load};
use crate::index;
use crate::scan::{Rest, scan};
use crate::topic::{self, Kept};

/// Prints a log file, an index, a topic's settings or the name of the newest file. False when the file is none of
/// these; bad bytes are printed as such, never an error.
///
/// # Errors
/// The file cannot be opened, or the output not written (told as of the file `output`).
pub fn dump(env: &Env, path: &Path, out: &mut dyn Write) -> Result<bool> {
    let file = env.vfs.open(path, Open::Read).map_err(|error| Error::io("open", path, error))?;
    let len = file.len().map_err(|error| Error::io("measure", path, error))?;
    let loaded = load(&*file, len);
    print(&loaded.bytes, path, out).map_err(|error| Error::io("write", Path::new("output"), error))
}

fn print(bytes: &[u8], path: &Path, out: &mut dyn Write) -> io::Result<bool> {
    if let Some(kept) = index::decode(bytes) {
        let extent = &kept.extent;
        writeln!(out, "index of the log file at offset {} with salt {:#018x}", kept.base, kept.salt)?;
        writeln!(out, "ends at offset {}, byte {}, time {} ms", extent.end_offset, extent.end_at, extent.max_time)?;
        extent
            .index
            .each(&mut |offset, at, time| writeln!(out, "offset {offset} at byte {at}, before it time {time} ms"))?;
        return Ok(true);
    }
    for bound in Bound::ALL {
        if let Some(base) = bound.decode(bytes) {
            writeln!(out, "the {} log file is at offset {base}", bound.name())?;
            return Ok(true);
        }
    }
    if bytes.starts_with(b"VARVETOP") {
        match topic::read_bytes(bytes, path) {
            Ok(Kept::Settings(settings, damaged)) => {
                writeln!(out, "{settings:?}{}", if damaged { ", one of two copies is damaged" } else { "" })?;
            }
            Ok(_) => writeln!(out, "topic settings, damaged")?,
            Err(error) => writeln!(out, "{error}")?,
        }
        return Ok(true);
    }
    let back = bytes.len().saturating_sub(FILE_HEADER_BYTES);
    let headers = [("front", bytes), ("back", &bytes[back..])];
    let Some((place, (version, header))) =
        headers.into_iter().find_map(|(place, bytes)| Some((place, FileHeader::decode(bytes).ok()?)))
    else {
        return Ok(false);
    };
    writeln!(
        out,
        "log file, version {version}, partition {}, base offset {}, salt {:#018x}, made {} ms, {} bytes{}{}",
        header.partition,
        header.base_offset,
        header.salt,
        header.made_ms,
        header.file_bytes,
        if header.recycled { ", recycled" } else { "" },
        if place == "back" { "; the header at the front is damaged" } else { "" },
    )?;
    let end = header.file_bytes.saturating_sub(FILE_HEADER_BYTES as u64);
    let mut written = Ok(());
    let found = scan(bytes, seed_of(header.salt), header.base_offset, u64::MAX, end, &mut |at, batch, payload| {
        let record = &batch.record;
        let line = if batch.is_mark() {
            writeln!(out, "byte {at}: mark, durable below {}", batch.durable_offset)
        } else {
            writeln!(
                out,
                "byte {at}: offset {}, {} records, {} bytes, kind {}, tenant {}, time {} ms, durable below {}, \
                 compression {}, flags {:#06x}, producer {} {} {}: {}",
                batch.base_offset,
                record.records,
                batch.payload_bytes,
                record.kind,
                record.tenant,
                record.time_ms,
                batch.durable_offset,
                record.compression,
                record.flags,
                record.producer,
                record.sequence,
                record.epoch,
                preview(payload),
            )
        };
        if written.is_ok() {
            written = line;
        }
    });
    written?;
    for gap in &found.gaps {
        writeln!(
            out,
            "byte {}: {} bytes damaged: {}; offsets {} to {}",
            gap.at, gap.bytes, gap.what, gap.first, gap.end
        )?;
    }
    let rest = match found.rest {
        Rest::Clean => "zeros".to_owned(),
        Rest::Torn(what) | Rest::Other(what) => format!("no batch of this file ({what})"),
        Rest::Superseded => "superseded".to_owned(),
    };
    writeln!(out, "byte {}: end at offset {}, then {rest}", found.extent.end_at, found.extent.end_offset)?;
    Ok(true)
}

/// The first bytes of a payload, in hexadecimal.
fn preview(payload: &[u8]) -> String {
    let mut text: String = payload.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    if payload.len() > 16 {
        text.push('…');
    }
    text
}
