//! check and dump: read a data directory that no server has open.

use std::io;
use std::path::Path;

use varve_vfs::Env;

use crate::error::{Error, Result};
use crate::open::Layout;
use crate::segment::{BlockCache, Segment};
use crate::status::Damage;

/// Verifies every byte of a data directory: log, manifest, segments. Changes nothing.
pub fn check(env: &Env, dir: &Path) -> Result<Vec<Damage>> {
    let layout = Layout(dir);
    let mut damages = Vec::new();
    let log = varve_wal::check(env, &layout.log())?;
    damages.extend(log.damaged.iter().map(|damage| Damage {
        path: damage.path.clone(),
        at: damage.at,
        what: format!("{} ({} bytes, offsets {} to {})", damage.what, damage.bytes, damage.first, damage.end),
    }));
    let names = env.vfs.list(&layout.segments()).map_err(|e| Error::io("listing", &layout.segments(), e))?;
    for name in names.iter().filter(|name| name.ends_with(".seg")) {
        let path = layout.segments().join(name);
        match Segment::open(env, &path, BlockCache::new(1 << 20)) {
            Ok(segment) => damages.extend(segment.verify()),
            Err(Error::Damaged { path, at, what }) => damages.push(Damage { path, at, what }),
            Err(error) => damages.push(Damage { path, at: 0, what: error.to_string() }),
        }
    }
    Ok(damages)
}

/// Prints any file of ours readably: a segment, a log file and the records in it.
pub fn dump(env: &Env, path: &Path, out: &mut dyn io::Write) -> Result<()> {
    if path.extension().is_some_and(|extension| extension == "seg") {
        return crate::segment::dump(env, path, out);
    }
    varve_wal::dump(env, path, out)?;
    Ok(())
}
