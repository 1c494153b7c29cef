//! Retention: which log files may go, by age, by bytes, and never past the slowest internal consumer.
//!
//! Invariants:
//! * Files go from the front, one by one, each durably gone before the next: a crash leaves no hole.
//! * The newest file stays.
//! * A file is set aside as a spare only when no cursor reads it, and used when its new name is durable.

use std::sync::Arc;

use crate::bounds::Bound;
use crate::counters::add;
use crate::error::{Error, Result};
use crate::file::{LogFile, index_name};
use crate::log::Shared;
use crate::partition::{Partition, State};
use crate::spares::{self, Spares};
use crate::topic::remove_if_there;

/// What retention did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retained {
    /// Log files that left the log.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them serve again as spares.
    pub recycled: u64,
}

/// How many files may go, from the oldest on, and the offset where the log begins then.
fn going(state: &State, now_ms: i64) -> (usize, u64) {
    let mut bytes: u64 = state.files.iter().map(|file| file.file_bytes).sum();
    let floor = state.positions.values().copied().min().unwrap_or(u64::MAX);
    let (mut count, mut first) = (0, 0);
    for pair in state.files.windows(2) {
        let [file, next] = pair else { break };
        let old = match state.settings.retention_ms {
            // As soon as its consumers are past it, whatever the clock says; but there must be one.
            Some(0) => !state.positions.is_empty(),
            Some(age_ms) => i128::from(file.extent().max_time) + i128::from(age_ms) <= i128::from(now_ms),
            None => false,
        };
        let large = state.settings.retention_bytes.is_some_and(|max| bytes > max);
        if floor < next.base || !(old || large) {
            break;
        }
        bytes -= file.file_bytes;
        (count, first) = (count + 1, next.base);
    }
    (count, first)
}

/// Takes the oldest file off the list, and the place where it can wait as a spare.
fn take_oldest(partition: &Partition) -> (Arc<LogFile>, Option<usize>) {
    let mut state = partition.state();
    assert!(state.files.len() > 1, "the newest file stays");
    let file = state.files.remove(0);
    // Whoever else holds the file may be reading it: then its bytes must stay.
    let unread = Arc::strong_count(&file) == 1;
    let fits = unread && file.file_bytes == state.settings.log_file_bytes && file.extent().whole;
    let spare = if fits { state.spares.reserve() } else { None };
    (file, spare)
}

/// Applies retention to one partition.
pub(crate) fn retain(shared: &Shared, partition: &Partition, now_ms: i64, retained: &mut Retained) -> Result<()> {
    let done = remove_files(shared, partition, now_ms, retained);
    add(&shared.counters.retention_failures, u64::from(done.is_err()));
    done
}

fn remove_files(shared: &Shared, partition: &Partition, now_ms: i64, retained: &mut Retained) -> Result<()> {
    let vfs = &shared.env.vfs;
    let sync = || vfs.sync_dir(&partition.dir).map_err(|error| Error::io("sync", &partition.dir, error));
    let _retaining = partition.retaining();
    let (count, first) = going(&partition.state(), now_ms);
    if count > 0 {
        match Bound::Oldest.write(&shared.env, &partition.dir, first) {
            Ok(()) => {}
            // Where even this needs space, making some comes first: no bound claims nothing.
            Err(Error::Full { .. }) => {
                remove_if_there(&shared.env, &partition.dir.join(Bound::Oldest.name()))?;
                sync()?;
            }
            Err(error) => return Err(error),
        }
    }
    for _ in 0..count {
        let (file, spare) = take_oldest(partition);
        let removed = (|| {
            if partition.state().unsynced {
                // An earlier removal may not be durable yet: this one must not overtake it.
                sync()?;
                partition.state().unsynced = false;
            }
            if let Some(place) = spare {
                let aside = partition.dir.join(spares::name(place));
                vfs.rename(&file.path, &aside).map_err(|error| Error::io("rename", &file.path, error))
            } else {
                vfs.remove(&file.path).map_err(|error| Error::io("remove", &file.path, error))
            }
        })();
        if let Err(error) = removed {
            // It is still there: were it forgotten, the next one would go and leave a hole behind it.
            let mut state = partition.state();
            state.files.insert(0, file);
            if let Some(place) = spare {
                state.spares.free(place);
            }
            return Err(error);
        }
        retained.files += 1;
        retained.bytes += file.file_bytes;
        add(&shared.counters.files_removed, 1);
        partition.state().unsynced = true;
        let synced = sync();
        {
            let mut state = partition.state();
            state.unsynced = synced.is_err();
            if let Some(place) = spare {
                // One whose name may not last is overwritten by the next.
                let known = if synced.is_ok() { Spares::ready } else { Spares::free };
                known(&mut state.spares, place);
                retained.recycled += u64::from(synced.is_ok());
            }
        }
        synced?;
        remove_if_there(&shared.env, &partition.dir.join(index_name(file.base)))?;
    }
    Ok(())
}
