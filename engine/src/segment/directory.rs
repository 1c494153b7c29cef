//! Directory: where every block of a segment is, and what the segment is. The only table that opening reads.
//!
//! ```text
//! directory := header fields, totals, tenants, then per section: varint blocks, per block
//!              varint (at - end of the section's previous block, 64 for the first), varint bytes, varint units,
//!              then the tenants that have exemplars
//! ```
//! A section's units (series, columns, bytes, tenants) are counted through its blocks, so the block of a unit is a
//! binary search. A block costs 5 to 7 bytes here.

use varve_model::{TenantId, TimeRange};

use super::layout::{FRAME_BYTES, HEADER_BYTES, Section, VERSION};
use super::meta::{EMPTY, ExemplarMeta, SegmentHeader, SegmentMeta, TenantMeta, join};
use crate::codec::Malformed;
use crate::index::postings::IDS_MAX;
use crate::index::varint::{Input, put, put_signed};

/// A block in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    /// Its first byte.
    pub(crate) at: u64,
    /// Its length with the frame.
    pub(crate) bytes: u32,
    /// Its first unit.
    pub(crate) first: u64,
    /// How many units it holds.
    pub(crate) units: u64,
}

/// All blocks of a segment, by section.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Directory {
    sections: [Vec<Block>; Section::ALL.len()],
}

impl Directory {
    /// The blocks of a section in order.
    pub(crate) fn blocks(&self, section: Section) -> &[Block] {
        self.sections.get(section as usize).map_or(&[], Vec::as_slice)
    }

    /// Adds a block behind the section's last.
    pub(crate) fn push(&mut self, section: Section, at: u64, bytes: u32, units: u64) {
        let first = self.units(section);
        if let Some(blocks) = self.sections.get_mut(section as usize) {
            blocks.push(Block { at, bytes, first, units });
        }
    }

    /// Units of a section.
    pub(crate) fn units(&self, section: Section) -> u64 {
        self.blocks(section).last().map_or(0, |block| block.first + block.units)
    }

    /// The block that holds a unit, with its index.
    pub(crate) fn find(&self, section: Section, unit: u64) -> Option<(u32, Block)> {
        let blocks = self.blocks(section);
        let index = blocks.partition_point(|block| block.first + block.units <= unit);
        blocks.get(index).map(|block| (index as u32, *block))
    }

    pub(crate) fn encode(&self, meta: &SegmentMeta, out: &mut Vec<u8>) {
        let header = &meta.header;
        for number in [header.id, u64::from(header.partition), u64::from(header.level), header.first, header.last] {
            put(out, number);
        }
        put(out, meta.tenants.len() as u64);
        for tenant in &meta.tenants {
            put(out, u64::from(tenant.tenant.0));
            put(out, u64::from(tenant.series));
            put(out, tenant.samples);
            put_signed(out, tenant.range.min);
            put_signed(out, tenant.range.max);
        }
        for section in Section::of_version(VERSION).iter().copied() {
            let blocks = self.blocks(section);
            put(out, blocks.len() as u64);
            let mut end = HEADER_BYTES as u64;
            for block in blocks {
                put(out, block.at - end);
                put(out, u64::from(block.bytes));
                put(out, block.units);
                end = block.at + u64::from(block.bytes);
            }
        }
        put(out, meta.exemplars.len() as u64);
        for about in &meta.exemplars {
            put(out, u64::from(about.tenant.0));
            put(out, about.exemplars);
            put_signed(out, about.range.min);
            put_signed(out, about.range.max);
        }
    }

    /// Decodes the directory of a file of this version; it begins at byte `limit` of `file_bytes`: every block ends at
    /// or before it.
    pub(crate) fn decode(
        payload: &[u8],
        version: u16,
        limit: u64,
        file_bytes: u64,
    ) -> Result<(Directory, SegmentMeta), Malformed> {
        let mut input = Input::new(payload);
        let header = SegmentHeader {
            id: input.varint()?,
            partition: input.u32()?,
            level: u8::try_from(input.varint()?).map_err(|_| Malformed("level exceeds 255"))?,
            first: input.varint()?,
            last: input.varint()?,
        };
        let mut meta = SegmentMeta {
            header,
            range: EMPTY,
            series: 0,
            samples: 0,
            bytes: file_bytes,
            tenants: Vec::new(),
            exemplars: Vec::new(),
        };
        for _ in 0..input.count()? {
            let tenant = TenantMeta {
                tenant: TenantId(input.u32()?),
                first_series: meta.series as u32,
                series: input.u32()?,
                samples: input.varint()?,
                range: TimeRange { min: input.signed()?, max: input.signed()? },
            };
            if meta.tenants.last().is_some_and(|before| before.tenant >= tenant.tenant) {
                return Err(Malformed("tenants are not ascending"));
            }
            meta.series += u64::from(tenant.series);
            meta.samples = meta.samples.checked_add(tenant.samples).ok_or(Malformed("samples overflow"))?;
            meta.range = join(meta.range, tenant.range);
            if meta.series > u64::from(IDS_MAX) {
                return Err(Malformed("too many series"));
            }
            meta.tenants.push(tenant);
        }
        let mut directory = Directory::default();
        for section in Section::of_version(version).iter().copied() {
            let mut end = HEADER_BYTES as u64;
            let mut units_end = 0u64;
            for _ in 0..input.count()? {
                let at = end.checked_add(input.varint()?).ok_or(Malformed("block lies past the end"))?;
                let bytes = input.u32()?;
                let units = input.varint()?;
                end = at.checked_add(u64::from(bytes)).ok_or(Malformed("block lies past the end"))?;
                if end > limit || (bytes as usize) < FRAME_BYTES {
                    return Err(Malformed("block lies past the end"));
                }
                units_end = units_end.checked_add(units).ok_or(Malformed("units overflow"))?;
                directory.push(section, at, bytes, units);
            }
        }
        if version > 1 {
            for _ in 0..input.count()? {
                let about = ExemplarMeta {
                    tenant: TenantId(input.u32()?),
                    exemplars: input.varint()?,
                    range: TimeRange { min: input.signed()?, max: input.signed()? },
                };
                if meta.exemplars.last().is_some_and(|before| before.tenant >= about.tenant) {
                    return Err(Malformed("tenants of exemplars are not ascending"));
                }
                meta.range = join(meta.range, about.range);
                meta.exemplars.push(about);
            }
        }
        input.end()?;
        let units = |section, expected: u64| directory.units(section) == expected;
        if !units(Section::Series, meta.series)
            || !units(Section::Chunks, meta.series)
            || !units(Section::Terms, meta.tenants.len() as u64)
            || directory.units(Section::Columns) > u64::from(u32::MAX)
        {
            return Err(Malformed("sections do not hold what the directory says"));
        }
        Ok((directory, meta))
    }
}
