//! Edit: one change of the manifest, and its bytes. `docs/format.md`, "Manifest", has the picture.
//!
//! ```text
//! record := version u8 = 1, edits until the end
//! edit   := tag u8, varint body bytes, body
//! 1 snapshot   varint part, u8 last        what follows, over all parts, replaces everything; first edit of its record
//! 2 directory  varint partitions
//! 3 tenant     varint id, text name
//! 4 metadata   varint tenant, u8 type, text family, text help, text unit
//! 5 add        segment: varint id, varint partition, u8 level, zigzag min time, zigzag max time, varint first offset,
//!              varint end offset, varint series, varint samples, varint bytes
//! 6 remove     varint segment id
//! 7 applied    varint partition, varint offset
//! 8 add        as 5, then varint offset below which deletions are applied; 5 says that it is the end offset
//! 9 delete     varint partition, varint offset, varint tenant, the payload of the deletion's record
//! 10 forget    varint partition, varint offset: the deletion there has nothing left to hide
//! text   := varint bytes, UTF-8
//! ```

use varve_model::write::{Metadata, MetricType};
use varve_model::{TenantId, TenantName, TimeRange};

use crate::deletion::DeletionSpec;
use crate::record::Malformed;
use crate::record::number::{self, Reader};

/// Version of the manifest's records.
const VERSION: u8 = 1;

/// What the manifest knows of a live segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentEntry {
    /// Its id: the name of its file.
    pub id: u64,
    /// Its partition.
    pub partition: u32,
    /// 0 from a flush; one more than the highest source from a compaction.
    pub level: u8,
    /// From its oldest to its newest sample.
    pub range: TimeRange,
    /// First offset it covers.
    pub first: u64,
    /// Offset behind the last it covers.
    pub end: u64,
    /// Series in it.
    pub series: u64,
    /// Samples in it.
    pub samples: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Deletions at lower offsets have been applied to it; others hide what they name in it.
    pub clean: u64,
}

/// One change.
#[derive(Clone, PartialEq, Debug)]
pub enum Edit {
    /// Part of a whole catalog: part 0 begins one, the last makes it take effect.
    Snapshot {
        /// Number of the part.
        part: u32,
        /// Whether it is the last.
        last: bool,
    },
    /// The directory has so many partitions.
    Directory {
        /// How many.
        partitions: u32,
    },
    /// A tenant is known.
    Tenant {
        /// Its id.
        id: TenantId,
        /// Its name.
        name: TenantName,
    },
    /// Metadata of a family; the last one counts.
    Metadata {
        /// Whose.
        tenant: TenantId,
        /// What.
        metadata: Metadata,
    },
    /// A segment lives from now on.
    Add(SegmentEntry),
    /// A segment lives no more.
    Remove {
        /// Its id.
        id: u64,
    },
    /// Everything below an offset is in segments.
    Applied {
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
    },
    /// A deletion whose record in the log may go.
    Delete {
        /// The partition.
        partition: u32,
        /// The offset of the record.
        offset: u64,
        /// Whose samples.
        tenant: TenantId,
        /// Which.
        spec: DeletionSpec,
    },
    /// A deletion has nothing left to hide.
    Forget {
        /// The partition.
        partition: u32,
        /// The offset of its record.
        offset: u64,
    },
}

/// Encodes a record.
pub fn encode(edits: &[Edit]) -> Vec<u8> {
    let mut out = vec![VERSION];
    let mut body = Vec::new();
    for edit in edits {
        body.clear();
        let tag = encode_body(edit, &mut body);
        out.push(tag);
        number::push_bytes(&mut out, &body);
    }
    out
}

fn encode_body(edit: &Edit, body: &mut Vec<u8>) -> u8 {
    match edit {
        Edit::Snapshot { part, last } => {
            number::push(body, u64::from(*part));
            body.push(u8::from(*last));
            1
        }
        Edit::Directory { partitions } => {
            number::push(body, u64::from(*partitions));
            2
        }
        Edit::Tenant { id, name } => {
            number::push(body, u64::from(id.0));
            number::push_bytes(body, name.as_str().as_bytes());
            3
        }
        Edit::Metadata { tenant, metadata } => {
            number::push(body, u64::from(tenant.0));
            body.push(metadata.kind as u8);
            for text in [&metadata.family, &metadata.help, &metadata.unit] {
                number::push_bytes(body, text.as_bytes());
            }
            4
        }
        Edit::Add(segment) => {
            number::push(body, segment.id);
            number::push(body, u64::from(segment.partition));
            body.push(segment.level);
            number::push_signed(body, segment.range.min);
            number::push_signed(body, segment.range.max);
            for value in [segment.first, segment.end, segment.series, segment.samples, segment.bytes] {
                number::push(body, value);
            }
            if segment.clean == segment.end {
                return 5;
            }
            number::push(body, segment.clean);
            8
        }
        Edit::Remove { id } => {
            number::push(body, *id);
            6
        }
        Edit::Applied { partition, offset } => {
            number::push(body, u64::from(*partition));
            number::push(body, *offset);
            7
        }
        Edit::Delete { partition, offset, tenant, spec } => {
            number::push(body, u64::from(*partition));
            number::push(body, *offset);
            number::push(body, u64::from(tenant.0));
            spec.encode(body);
            9
        }
        Edit::Forget { partition, offset } => {
            number::push(body, u64::from(*partition));
            number::push(body, *offset);
            10
        }
    }
}

/// Decodes a record.
pub fn decode(payload: &[u8]) -> Result<Vec<Edit>, Malformed> {
    let mut reader = Reader::new(payload);
    if reader.byte()? != VERSION {
        return Err(Malformed("unknown version of a manifest record"));
    }
    let mut edits = Vec::new();
    while !reader.is_empty() {
        let tag = reader.byte()?;
        let mut body = Reader::new(reader.bytes()?);
        edits.push(decode_body(tag, &mut body)?);
        if !body.is_empty() {
            return Err(Malformed("bytes behind a manifest edit"));
        }
    }
    Ok(edits)
}

fn decode_body(tag: u8, body: &mut Reader<'_>) -> Result<Edit, Malformed> {
    Ok(match tag {
        1 => {
            let part = body.small()?;
            let last = match body.byte()? {
                0 => false,
                1 => true,
                _ => return Err(Malformed("flag is neither 0 nor 1")),
            };
            Edit::Snapshot { part, last }
        }
        2 => Edit::Directory { partitions: body.small()? },
        3 => {
            let id = TenantId(body.small()?);
            let name = TenantName::parse(body.text()?).map_err(|_| Malformed("bad tenant name"))?;
            Edit::Tenant { id, name }
        }
        4 => {
            let tenant = TenantId(body.small()?);
            let kind = MetricType::from_number(u64::from(body.byte()?));
            let (family, help, unit) = (body.text()?.to_owned(), body.text()?.to_owned(), body.text()?.to_owned());
            Edit::Metadata { tenant, metadata: Metadata { family, kind, help, unit } }
        }
        5 | 8 => {
            let mut entry = SegmentEntry {
                id: body.number()?,
                partition: body.small()?,
                level: body.byte()?,
                range: TimeRange { min: body.signed()?, max: body.signed()? },
                first: body.number()?,
                end: body.number()?,
                series: body.number()?,
                samples: body.number()?,
                bytes: body.number()?,
                clean: 0,
            };
            entry.clean = if tag == 8 { body.number()? } else { entry.end };
            Edit::Add(entry)
        }
        6 => Edit::Remove { id: body.number()? },
        7 => Edit::Applied { partition: body.small()?, offset: body.number()? },
        9 => Edit::Delete {
            partition: body.small()?,
            offset: body.number()?,
            tenant: TenantId(body.small()?),
            spec: DeletionSpec::decode(body)?,
        },
        10 => Edit::Forget { partition: body.small()?, offset: body.number()? },
        _ => return Err(Malformed("unknown manifest edit")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use varve_model::{MatchOp, Matcher};

    fn example() -> Vec<Edit> {
        let entry = SegmentEntry {
            id: 7,
            partition: 1,
            level: 2,
            range: TimeRange { min: -5, max: 1_700_000_000_000 },
            first: 100,
            end: 300,
            series: 10,
            samples: 200,
            bytes: 4096,
            clean: 300,
        };
        let matcher = Matcher::new(MatchOp::Equal, "job", "a", 1 << 20).unwrap();
        let spec = DeletionSpec { matchers: vec![matcher], range: TimeRange { min: 0, max: 1000 } };
        let metadata = Metadata {
            family: "up".to_owned(),
            kind: MetricType::Gauge,
            help: "Whether it is up.".to_owned(),
            unit: String::new(),
        };
        vec![
            Edit::Snapshot { part: 0, last: true },
            Edit::Directory { partitions: 2 },
            Edit::Tenant { id: TenantId(1), name: TenantName::default() },
            Edit::Metadata { tenant: TenantId(1), metadata },
            Edit::Add(entry.clone()),
            Edit::Remove { id: 3 },
            Edit::Applied { partition: 1, offset: 300 },
            Edit::Add(SegmentEntry { clean: 301, ..entry }),
            Edit::Delete { partition: 1, offset: 299, tenant: TenantId(1), spec },
            Edit::Forget { partition: 1, offset: 200 },
        ]
    }

    #[test]
    fn golden_bytes() {
        let bytes = encode(&example());
        assert_eq!(crate::codec::hex(&bytes), crate::record::golden("manifest record"));
        assert_eq!(decode(&bytes).unwrap(), example());
    }

    proptest! {
        #[test]
        fn damaged_records_never_panic(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let mut bytes = encode(&example());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = decode(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = decode(&bytes);
        }
    }
}
