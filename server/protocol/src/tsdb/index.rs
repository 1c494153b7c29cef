//! The index of a block: which series there are, and where their chunks lie.
//!
//! ```text
//! BA AA D7 00 │ version │ symbols │ series … │ … │ postings … │ … │ table of postings │ table of contents (52 bytes)
//! ```
//! All series are found as Prometheus finds them: by the postings of the empty label pair. In version 1 a symbol is
//! named by its place in the file and a series by its own; later a symbol by its number and a series by a sixteenth
//! of its place. Opening costs one pass over the symbols and the table of postings, and four bytes a symbol.

use varve_model::Millis;

use super::Error;
use super::cursor::Cursor;

const MAGIC: u32 = 0xbaaa_d700;
const NEWEST: u8 = 3;
const CONTENTS_BYTES: usize = 6 * 8 + 4;

/// Where a chunk lies and which times it covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkMeta {
    /// Time of its first sample.
    pub min: Millis,
    /// Time of its last sample.
    pub max: Millis,
    /// Number of the chunk file, from 0.
    pub segment: u32,
    /// Byte of the chunk in that file.
    pub at: u32,
}

/// An index; borrowed from the bytes of its file.
pub struct Index<'a> {
    file: &'a [u8],
    version: u8,
    /// The section of the symbols: what is between its length and its checksum.
    symbols: Cursor<'a>,
    /// Where in that section each symbol begins; empty in version 1.
    symbol_places: Vec<u32>,
    /// References of all series, four bytes each.
    series: &'a [u8],
}

impl<'a> Index<'a> {
    /// Opens an index; verifies its table of contents, symbols and list of series.
    pub fn open(file: &'a [u8]) -> Result<Index<'a>, Error> {
        let mut header = Cursor::new(file, 0);
        if header.be32()? != MAGIC {
            return Err(Error::damaged(0, "not an index"));
        }
        let version = match header.byte()? {
            0 => return Err(Error::damaged(4, "an index of version 0")),
            version if version <= NEWEST => version,
            found => return Err(Error::Newer { what: "index version", found: found.into(), newest: NEWEST.into() }),
        };
        let begin = file.len().checked_sub(CONTENTS_BYTES).ok_or_else(|| header.damaged("the file ends too early"))?;
        let mut contents = Cursor::at(file, begin as u64, "")?.checked(CONTENTS_BYTES - 4)?;
        let symbols = contents.be64()?;
        let [_series, _label_indices, _label_table, _postings] =
            [contents.be64()?, contents.be64()?, contents.be64()?, contents.be64()?];
        let postings_table = contents.be64()?;

        let symbols = Cursor::at(file, symbols, "the symbols begin behind the end of the file")?.section()?;
        let symbol_places = if version == 1 { Vec::new() } else { symbol_places(symbols)? };
        let series = match all_postings(file, postings_table)? {
            Some(at) => postings(file, at)?,
            None => &[],
        };
        Ok(Index { file, version, symbols, symbol_places, series })
    }

    /// How many series there are.
    pub fn series_count(&self) -> usize {
        self.series.len() / 4
    }

    /// Reads series `index`: its labels and its chunks replace what the vectors hold. Gives its reference, by which
    /// tombstones name it.
    pub fn series(
        &self,
        index: usize,
        labels: &mut Vec<(&'a str, &'a str)>,
        chunks: &mut Vec<ChunkMeta>,
    ) -> Result<u64, Error> {
        labels.clear();
        chunks.clear();
        let (references, _) = self.series.as_chunks::<4>();
        let Some(&reference) = references.get(index) else { return Err(Error::damaged(0, "no such series")) };
        let reference = u64::from(u32::from_be_bytes(reference));
        let at = if self.version == 1 { reference } else { reference * 16 };
        let mut cursor = Cursor::at(self.file, at, "a series begins behind the end of the file")?;
        let len = cursor.count()?;
        let mut entry = cursor.checked(len)?;
        for _ in 0..entry.count()? {
            let (name, value) = (entry.uvarint()?, entry.uvarint()?);
            labels.push((self.symbol(name, &entry)?, self.symbol(value, &entry)?));
        }
        read_chunks(&mut entry, chunks)?;
        Ok(reference)
    }

    fn symbol(&self, reference: u64, at: &Cursor<'_>) -> Result<&'a str, Error> {
        let section = self.symbols.position() as u64;
        let place = if self.version == 1 {
            reference.checked_sub(section)
        } else {
            usize::try_from(reference).ok().and_then(|i| self.symbol_places.get(i)).map(|&place| place.into())
        };
        let mut symbols = self.symbols;
        let place = place.and_then(|place| usize::try_from(place).ok()).filter(|&place| place < symbols.len());
        let Some(place) = place else { return Err(at.damaged("a label refers to no symbol")) };
        symbols.take(place)?;
        symbols.text()
    }
}

/// Where in the section each symbol begins.
fn symbol_places(section: Cursor<'_>) -> Result<Vec<u32>, Error> {
    let mut cursor = section;
    let count = cursor.be32()? as usize;
    if count > cursor.len() {
        return Err(cursor.damaged("more symbols than bytes"));
    }
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        places.push((cursor.position() - section.position()) as u32);
        let len = cursor.count()?;
        cursor.take(len)?;
    }
    Ok(places)
}

/// Where the postings of the empty label pair begin: the list of all series.
fn all_postings(file: &[u8], table: u64) -> Result<Option<u64>, Error> {
    if table == 0 {
        return Ok(None);
    }
    let mut table = Cursor::at(file, table, "the table of postings begins behind the end of the file")?.section()?;
    for _ in 0..table.be32()? {
        let strings = table.uvarint()?;
        if strings != 2 {
            return Err(table.damaged("an entry of the table of postings that is no label pair"));
        }
        let (name, value) = (table.text()?, table.text()?);
        let at = table.uvarint()?;
        if name.is_empty() && value.is_empty() {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn postings(file: &[u8], at: u64) -> Result<&[u8], Error> {
    let mut list = Cursor::at(file, at, "postings begin behind the end of the file")?.section()?;
    let count = list.be32()? as usize;
    match count.checked_mul(4).filter(|&bytes| bytes == list.len()) {
        Some(bytes) => list.take(bytes),
        None => Err(list.damaged("postings of another length than they say")),
    }
}

fn read_chunks(entry: &mut Cursor<'_>, chunks: &mut Vec<ChunkMeta>) -> Result<(), Error> {
    let count = entry.count()?;
    let (mut time, mut reference) = (0i64, 0i64);
    for index in 0..count {
        let (min, max);
        if index == 0 {
            min = entry.varint()?;
            max = min.wrapping_add(entry.uvarint()? as i64);
            reference = entry.uvarint()? as i64;
        } else {
            min = time.wrapping_add(entry.uvarint()? as i64);
            max = min.wrapping_add(entry.uvarint()? as i64);
            reference = reference.wrapping_add(entry.varint()?);
        }
        time = max;
        let segment = (reference as u64 >> 32) as u32;
        chunks.push(ChunkMeta { min, max, segment, at: reference as u64 as u32 });
    }
    Ok(())
}
