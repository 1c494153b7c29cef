//! Copy: a data directory of its own with what is in segments, to be opened like any other.
//!
//! ```text
//! copy/segments/<id>.seg   the live segments, byte by byte
//! copy/log/_manifest       names them, the tenants, metadata, deletions that still hide
//! copy/log/metrics         empty: what was not flushed is not in the copy
//! ```
//! Invariants:
//! * One version is copied: compaction and retention meanwhile change nothing, for open files outlive their names.
//! * The manifest names segments when all are there and synced.
//! * In the copy offsets go on behind all that its segments and deletions know of: a deletion of the original never hides
//!   what is written there, and one that is made there hides in each segment.

use std::io;
use std::path::Path;

use varve_wal::{Log, LogSettings, Offset, PartitionId, TopicName};

use crate::engine::{Inner, TOPIC};
use crate::error::{Error, Result};
use crate::manifest::catalog::parts;
use crate::manifest::{Edit, Store};
use crate::open::{self, Layout};
use crate::settings::EngineSettings;

/// What a copy holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their samples; what deletions hide counts.
    pub samples: u64,
}

/// Writes the copy to `dir`, which must not exist or be empty. After an error what is there is rubbish.
pub(crate) fn run(inner: &Inner, dir: &Path) -> Result<Copied> {
    let env = &inner.env;
    let layout = Layout(dir);
    let io = |doing: &'static str| move |error| Error::io(doing, dir, error);
    env.vfs.create_dir(dir).map_err(io("creating"))?;
    if !env.vfs.list(dir).map_err(io("listing"))?.is_empty() {
        return Err(Error::io("copying to", dir, io::ErrorKind::AlreadyExists.into()));
    }
    let _lock = open::lock(env, dir)?;
    for part in [&layout.log(), &layout.segments(), &layout.tmp(), &layout.quarantine()] {
        env.vfs.create_dir(part).map_err(io("creating"))?;
    }
    let version = inner.state.load().version.clone();
    let mut copied = Copied::default();
    let mut edits = Vec::new();
    for live in &version.segments {
        live.segment.copy_to(env, &layout.segment(live.entry.id))?;
        copied.segments += 1;
        copied.bytes += live.entry.bytes;
        copied.samples += live.entry.samples;
        edits.push(Edit::Add(live.entry.clone()));
    }
    env.vfs.sync_dir(&layout.segments()).map_err(io("syncing"))?;

    let (log, _) = Log::open(env.clone(), &layout.log(), LogSettings::default())?;
    let settings = EngineSettings { partitions: inner.partitions, ..inner.settings.clone() };
    let mut manifest = Store::open(&log, open::manifest_file_bytes(&settings), &mut Vec::new())?;
    let now = env.clock.wall().0.div_euclid(1_000_000);
    let topic = TopicName::new(TOPIC)?;
    let catalog = inner.manifest().catalog().clone();
    let tenants = catalog.tenants.iter().map(|(id, name)| Edit::Tenant { id: *id, name: name.clone() });
    edits.splice(0..0, tenants);
    open::make(&log, &topic, &settings, &mut manifest, now)?;
    for partition in 0..inner.partitions {
        let offset = version.end(partition);
        log.begin_at(&topic, PartitionId(partition), Offset(offset))?;
        edits.push(Edit::Applied { partition, offset });
    }
    edits.extend(version.deletions.iter().map(|deletion| Edit::Delete {
        partition: deletion.partition,
        offset: deletion.offset,
        tenant: deletion.tenant,
        spec: deletion.spec.clone(),
    }));
    edits.extend(catalog.metadata_edits());
    for part in parts(edits) {
        manifest.commit(&part, now)?;
    }
    manifest.idle()?;
    for part in [Some(dir), dir.parent()].into_iter().flatten().filter(|part| !part.as_os_str().is_empty()) {
        env.vfs.sync_dir(part).map_err(io("syncing"))?;
    }
    Ok(copied)
}
