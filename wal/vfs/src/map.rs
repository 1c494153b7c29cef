//! Memory maps of sealed files: the one unsafe block of this crate, behind a safe face.
//!
//! The map is read-only and taken of files that are never written or cut again once they bear their name.

#![expect(unsafe_code, reason = "a memory map is unsafe by nature; listed in docs/unsafe.md")]

use std::fs::File;
use std::io;

use crate::Map;

/// Maps all of `file`, read-only.
pub(crate) fn map(file: &File) -> io::Result<Map> {
    if file.metadata()?.len() == 0 {
        // An empty range cannot be mapped.
        return Ok(Map(Box::new(Vec::new())));
    }
    // SAFETY: the bytes must not change while they are borrowed. `File::map` is for sealed files: the segment
    // writer renames a file into place only when it is complete, and no code of ours opens such a file for writing
    // or cuts it; the directory lock keeps other processes of ours out.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Map(Box::new(map)))
}
