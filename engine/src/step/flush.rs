//! Flush: turns the frozen part of a head into segments, one a window of time.
//!
//! 1. Write each segment to `tmp/`, sync it, rename it into `segments/`, sync the directories.
//! 2. Append one record to the manifest: the segments and the offset up to which the partition is in segments. Sync.
//! 3. Swap the version and take out the frozen head in one publication.
//!
//! Invariants:
//! * A crash before the sync of 2 leaves files nobody names: opening the engine deletes them.
//! * A crash after it leaves the segments and the offset together: replay starts behind the flushed records.
//! * Readers hold an `Arc<State>`; no reader ever sees a sample twice or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use varve_model::{Column, TimeRange};
use varve_vfs::Env;

use super::window::{width_for, window_end, window_of};
use super::{Change, Claim, discard, publish};
use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::head::registry::Known;
use crate::head::{FrozenHead, Head};
use crate::open::{Layout, segment_name};
use crate::segment::meta::join;
use crate::segment::{SegmentHeader, SegmentMeta, SegmentWriter};

/// Writes a frozen head's samples.
pub(crate) fn run(env: &Env, claim: &Claim, frozen: Arc<FrozenHead>) -> Result<Change> {
    let mut ids = Vec::new();
    let written = write(env, claim, &frozen, &mut ids);
    let published = written.and_then(|written| publish(env, &claim.inner, written, None));
    if published.is_err() {
        let layout = Layout(&claim.inner.dir);
        for id in ids {
            discard(env, &layout.tmp().join(segment_name(id)));
            discard(env, &layout.segment(id));
        }
    }
    Ok(Change { name: "flush", add: published?, remove: Vec::new(), flushed: Some(frozen) })
}

/// Writes one segment a window; `ids` names all that were begun.
fn write(env: &Env, claim: &Claim, frozen: &FrozenHead, ids: &mut Vec<u64>) -> Result<Vec<SegmentMeta>> {
    let inner = &claim.inner;
    let head = &frozen.head;
    let series = labelled(inner, claim.partition, head, &head.ids())?;
    let width = width_for(join(head.range(), head.exemplars.range()));
    let mut writers: BTreeMap<i64, SegmentWriter> = BTreeMap::new();
    let mut create = |window: i64, writers: &mut BTreeMap<i64, SegmentWriter>| -> Result<()> {
        if let std::collections::btree_map::Entry::Vacant(place) = writers.entry(window) {
            let segment = inner.segment_id();
            ids.push(segment);
            let header = SegmentHeader {
                id: segment,
                partition: claim.partition,
                level: 0,
                first: head.first,
                last: frozen.end,
            };
            let path = Layout(&inner.dir).tmp().join(segment_name(segment));
            place.insert(SegmentWriter::create(env, &path, header)?);
        }
        Ok(())
    };
    let (mut column, mut part) = (Column::default(), Column::default());
    for (id, known) in &series {
        column.clear();
        head.read(*id, TimeRange::ALL, &mut column);
        let mut rest = Rest { floats: 0, histograms: 0 };
        while let Some(window) = rest.split(&column, width, &mut part) {
            create(window, &mut writers)?;
            let Some(writer) = writers.get_mut(&window) else { continue };
            // A window that holds all of the series needs no copy.
            let all = part.is_empty();
            writer.add_series(known.tenant, &known.labels, if all { &column } else { &part })?;
        }
    }
    for (id, known) in labelled(inner, claim.partition, head, &head.exemplars.ids())? {
        let exemplars = head.exemplars.read(id, TimeRange::ALL);
        for own in exemplars.chunk_by(|a, b| window_of(a.time, width) == window_of(b.time, width)) {
            let Some(first) = own.first() else { continue };
            let window = window_of(first.time, width);
            create(window, &mut writers)?;
            if let Some(writer) = writers.get_mut(&window) {
                writer.add_exemplars(known.tenant, &known.labels, own)?;
            }
        }
    }
    writers.into_values().map(SegmentWriter::finish).collect()
}

/// Series of a head with their labels, in order of (tenant, labels).
fn labelled(inner: &Inner, partition: u32, head: &Head, present: &[u32]) -> Result<Vec<(u32, Known)>> {
    let mut series = inner.registry(partition).known(present);
    // The registry keeps every series that a held head has samples of: to lose one here would be to lose samples. Only
    // a deletion may have emptied it meanwhile.
    if series.len() != present.len() {
        let known: std::collections::BTreeSet<u32> = series.iter().map(|(id, _)| *id).collect();
        let lost = present.iter().filter(|id| !known.contains(id) && !head.lacks(**id)).count();
        if lost > 0 {
            return Err(Error::Log(format!("{lost} series of a head have no labels")));
        }
    }
    series.sort_by(|(_, a), (_, b)| a.tenant.cmp(&b.tenant).then_with(|| a.labels.cmp(&b.labels)));
    Ok(series)
}

/// What is left of a column to be split.
struct Rest {
    floats: usize,
    histograms: usize,
}

impl Rest {
    /// Takes the samples of the next window into `part`, which stays empty when they are the whole column. `None` when
    /// nothing is left.
    fn split(&mut self, column: &Column, width: i64, part: &mut Column) -> Option<i64> {
        part.clear();
        let times = column.times.get(self.floats..).unwrap_or_default();
        let histograms = column.histograms.get(self.histograms..).unwrap_or_default();
        let first = match (times.first(), histograms.first()) {
            (Some(&a), Some((b, _))) => a.min(*b),
            (Some(&a), None) => a,
            (None, Some((b, _))) => *b,
            (None, None) => return None,
        };
        let window = window_of(first, width);
        let end = window_end(window, width);
        let floats = times.partition_point(|&time| time <= end);
        let own = histograms.partition_point(|(time, _)| *time <= end);
        let all = floats == column.times.len() && own == column.histograms.len();
        if !all {
            part.times.extend_from_slice(times.get(..floats).unwrap_or_default());
            let values = column.values.get(self.floats..self.floats + floats).unwrap_or_default();
            part.values.extend_from_slice(values);
            part.histograms.extend_from_slice(histograms.get(..own).unwrap_or_default());
            // Empty where there is none.
            let starts = column.starts.get(self.floats..self.floats + floats).unwrap_or_default();
            part.starts.extend_from_slice(starts);
            let starts = column.histogram_starts.get(self.histograms..self.histograms + own).unwrap_or_default();
            part.histogram_starts.extend_from_slice(starts);
            part.align_starts();
        }
        self.floats += floats;
        self.histograms += own;
        Some(window)
    }
}
