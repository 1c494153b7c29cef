//! check and dump: read a data directory that no server has open.

use std::io;
use std::path::Path;

use varve_vfs::Env;

use crate::error::Result;
use crate::status::Damage;

/// Verifies every byte of a data directory: log, manifest, segments. Changes nothing.
pub fn check(_env: &Env, _dir: &Path) -> Result<Vec<Damage>> {
    unimplemented!()
}

/// Prints any file of ours (log file, segment) readably.
pub fn dump(_env: &Env, _path: &Path, _out: &mut dyn io::Write) -> Result<()> {
    unimplemented!()
}
