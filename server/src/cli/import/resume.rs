//! The note of an import: how far it is, so that the next run goes on from there.
//!
//! One small JSON file, replaced as a whole after acknowledgements, removed at the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use varve_vfs::{Env, Open};

/// Notes are not written more often.
const INTERVAL: Duration = Duration::from_secs(1);
const BYTES_MAX: u64 = 1 << 20;

/// The file of notes, if there is one.
pub(super) struct Notes {
    env: Env,
    path: Option<PathBuf>,
    written: Option<Duration>,
    /// The newest note, when it is not in the file yet.
    pending: Option<Value>,
}

impl Notes {
    pub(super) fn new(env: &Env, path: Option<&Path>) -> Notes {
        let env = Env { vfs: Arc::clone(&env.vfs), clock: Arc::clone(&env.clock), seed: env.seed };
        Notes { env, path: path.map(Path::to_owned), written: None, pending: None }
    }

    /// What the run before noted. `None` when there is no note.
    pub(super) fn read(&self) -> Result<Option<Value>, String> {
        let Some(path) = &self.path else { return Ok(None) };
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let file = match self.env.vfs.open(path, Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let len = file.len().map_err(|error| failed(&error))?;
        let mut text = vec![0; len.min(BYTES_MAX) as usize];
        file.read_at(&mut text, 0).map_err(|error| failed(&error))?;
        serde_json::from_slice(&text).map(Some).map_err(|error| failed(&format!("not a note of an import: {error}")))
    }

    /// Notes how far the import is: in the file now and then, and at the latest when this is dropped.
    pub(super) fn write(&mut self, note: Value) -> Result<(), String> {
        self.pending = Some(note);
        let now = self.env.clock.elapsed();
        if self.written.is_some_and(|at| now.saturating_sub(at) < INTERVAL) {
            return Ok(());
        }
        self.written = Some(now);
        self.replace()
    }

    fn replace(&mut self) -> Result<(), String> {
        let (Some(path), Some(note)) = (&self.path, self.pending.take()) else { return Ok(()) };
        let fresh = path.with_extension("new");
        let text = note.to_string();
        let replace = || {
            let _ = self.env.vfs.remove(&fresh);
            let file = self.env.vfs.open(&fresh, Open::Create)?;
            file.write_at(text.as_bytes(), 0)?;
            file.sync()?;
            self.env.vfs.rename(&fresh, path)
        };
        replace().map_err(|error| format!("cannot note progress in {}: {error}", path.display()))
    }

    /// Removes the note: all is done.
    pub(super) fn finish(&mut self) {
        self.pending = None;
        if let Some(path) = &self.path {
            let _ = self.env.vfs.remove(path);
        }
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        // The import failed already, and says why.
        let _ = self.replace();
    }
}
