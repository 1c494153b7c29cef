//! MemoryFile: bytes in memory as a file, so that a segment can be opened from any bytes.

use std::io;

use varve_vfs::{File, Map};

/// A read-only file in memory.
#[derive(Debug)]
pub(crate) struct MemoryFile(pub(crate) Vec<u8>);

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::PermissionDenied.into())
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.0.get(at..)).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, _buf: &[u8], _at: u64) -> io::Result<()> {
        read_only()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        Ok(Map(Box::new(self.0.clone())))
    }
}
