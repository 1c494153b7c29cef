//! Check: verifies every byte of a log directory that anything will ever read, and changes none.

use std::path::Path;

use varve_vfs::{Env, Open};

use crate::bounds::Bound;
use crate::error::{Error, Result};
use crate::file::parse_name;
use crate::index;
use crate::log::open_topics;
use crate::recover::{Damage, Quarantine, Recovery};
use crate::topic::{Offset, TopicName};

/// Reads every log file of the log in `dir`, whatever its index says, and every index. A torn tail is in
/// [`Recovery::torn`], everything else that does not hold in [`Recovery::damaged`].
///
/// # Errors
/// A directory or file cannot be opened, or is of a newer version.
pub fn check(env: &Env, dir: &Path) -> Result<Recovery> {
    let mut recovery = Recovery::default();
    let mut quarantine = Quarantine { dir: dir.to_owned(), bytes_left: 0 };
    open_topics(env, dir, &mut quarantine, &mut recovery, false, true)?;
    for topic in list(env, dir) {
        if TopicName::new(&topic).is_err() {
            continue;
        }
        for partition in list(env, &dir.join(&topic)) {
            let dir = dir.join(&topic).join(partition);
            for name in list(env, &dir) {
                let path = dir.join(&name);
                if parse_name(&name, ".idx").is_some() && index::read(env, &path).is_none() {
                    tell(&mut recovery, &path, "the index; it is made again from its log file");
                }
                for bound in Bound::ALL {
                    if name == bound.name() && bound.decode(&read(env, &path)?).is_none() {
                        tell(&mut recovery, &path, "the note of the oldest or newest log file");
                    }
                }
            }
        }
    }
    Ok(recovery)
}

fn list(env: &Env, dir: &Path) -> Vec<String> {
    // Files have no names in them.
    env.vfs.list(dir).unwrap_or_default()
}

fn read(env: &Env, path: &Path) -> Result<Vec<u8>> {
    let file = env.vfs.open(path, Open::Read).map_err(|error| Error::io("open", path, error))?;
    let len = file.len().map_err(|error| Error::io("measure", path, error))?.min(4096);
    let mut bytes = vec![0; len as usize];
    file.read_at(&mut bytes, 0).map_err(|error| Error::io("read", path, error))?;
    Ok(bytes)
}

fn tell(recovery: &mut Recovery, path: &Path, what: &'static str) {
    let path = path.to_owned();
    let (first, end) = (Offset(0), Offset(0));
    recovery.damaged.push(Damage { path, at: 0, bytes: 0, what, first, end, quarantined: None });
}
