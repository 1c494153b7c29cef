//! Dump: a segment file as text, for people: what it is, where its blocks are, which series it has.

use std::io::{self, Write};
use std::path::Path;

use varve_model::TimeRange;
use varve_vfs::Env;

use super::cache::BlockCache;
use super::layout::Section;
use super::reader::{ReadScratch, Segment};
use crate::error::Result;

/// Writes the segment at `path` as text. What cannot be read is said in its place.
pub fn dump(env: &Env, path: &Path, out: &mut dyn Write) -> Result<()> {
    let segment = Segment::open(env, path, BlockCache::new(1 << 20))?;
    segment.dump(out).map_err(|e| crate::Error::io("writing the dump of", path, e))
}

impl Segment {
    /// Writes what the segment is and where its bytes go.
    pub fn dump_sections(&self, out: &mut dyn Write) -> io::Result<()> {
        self.dump_blocks(out, false)
    }

    fn dump_blocks(&self, out: &mut dyn Write, each: bool) -> io::Result<()> {
        let meta = self.meta();
        let header = &meta.header;
        writeln!(
            out,
            "segment {} partition {} level {} offsets [{}, {}) bytes {}",
            header.id, header.partition, header.level, header.first, header.last, meta.bytes
        )?;
        writeln!(out, "series {} samples {} times {}..={}", meta.series, meta.samples, meta.range.min, meta.range.max)?;
        for section in Section::ALL {
            let blocks = self.directory.blocks(section);
            let bytes: u64 = blocks.iter().map(|block| u64::from(block.bytes)).sum();
            writeln!(
                out,
                "section {:<8} blocks {} bytes {bytes} units {}",
                section.name(),
                blocks.len(),
                self.directory.units(section)
            )?;
            for block in blocks.iter().filter(|_| each) {
                let state = match self.load(*block) {
                    Ok(payload) => format!("payload {}", payload.len()),
                    Err(error) => error.to_string(),
                };
                writeln!(
                    out,
                    "  block at {} bytes {} units {}+{} {state}",
                    block.at, block.bytes, block.first, block.units
                )?;
            }
        }
        Ok(())
    }

    /// Writes the segment as text.
    pub fn dump(&self, out: &mut dyn Write) -> io::Result<()> {
        self.dump_blocks(out, true)?;
        let mut scratch = ReadScratch::default();
        for tenant in &self.meta().tenants {
            writeln!(
                out,
                "tenant {} series {} samples {} times {}..={}",
                tenant.tenant.0, tenant.series, tenant.samples, tenant.range.min, tenant.range.max
            )?;
            for series in tenant.first_series..tenant.end_series() {
                match self.labels_with(&mut scratch, series) {
                    Ok(labels) => writeln!(out, "  series {series} {labels}")?,
                    Err(error) => writeln!(out, "  series {series} {error}")?,
                }
                let (row, chunks) = match self.chunk_rows(&mut scratch, series) {
                    Ok(found) => found,
                    Err(error) => {
                        writeln!(out, "    {error}")?;
                        continue;
                    }
                };
                for (number, chunk) in chunks.get(row).unwrap_or_default().iter().enumerate() {
                    let kind = if chunk.histogram { "histograms" } else { "floats" };
                    let times = match self.column_row(&mut scratch, chunk.column) {
                        Ok(about) => format!("count {} times {}..={}", about.count, about.range.min, about.range.max),
                        Err(error) => error.to_string(),
                    };
                    let starts = chunks.starts(row).get(number).filter(|starts| starts.bytes > 0);
                    let starts = starts.map_or_else(String::new, |s| format!(" starts at {}+{}", s.address, s.bytes));
                    writeln!(
                        out,
                        "    {kind} column {} values at {}+{}{starts} {times}",
                        chunk.column, chunk.address, chunk.bytes
                    )?;
                }
            }
        }
        for index in 0..self.directory.blocks(Section::Exemplars).len() {
            match self.exemplar_block(index) {
                Ok(entries) => {
                    for entry in entries.unwrap_or_default() {
                        for exemplar in &entry.exemplars {
                            let (tenant, labels) = (entry.tenant.0, &entry.labels);
                            let (own, value, time) = (&exemplar.labels, exemplar.value, exemplar.time);
                            writeln!(out, "exemplar tenant {tenant} {labels} {own} {value} @{time}")?;
                        }
                    }
                }
                Err(error) => writeln!(out, "exemplars {error}")?,
            }
        }
        Ok(())
    }

    /// Writes every sample of a series as `time value` lines.
    pub fn dump_samples(&self, series: u32, out: &mut dyn Write) -> Result<()> {
        let mut column = varve_model::Column::default();
        self.read(series, TimeRange::ALL, &mut column)?;
        let mut write = || -> io::Result<()> {
            for (time, value) in column.times.iter().zip(&column.values) {
                writeln!(out, "{time} {value:?}")?;
            }
            for (time, histogram) in &column.histograms {
                writeln!(out, "{time} {histogram:?}")?;
            }
            Ok(())
        };
        write().map_err(|e| crate::Error::io("writing the dump of", self.path(), e))
    }
}
