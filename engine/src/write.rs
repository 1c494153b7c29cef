//! Write: what a shard is handed and what it answers; and the route from a batch to shards.
//!
//! A batch is decoded once and shared: each shard gets the same `Arc` and the list of the series it owns.

use std::sync::Arc;

use varve_model::{RefusalReason, TenantId, WriteBatch};

/// One request's part for one shard.
#[derive(Clone, Debug)]
pub struct Write {
    /// Whose data it is.
    pub tenant: TenantId,
    /// The whole request.
    pub batch: Arc<WriteBatch>,
    /// Indices into `batch.series` of the series this shard owns, ascending; see [`route`].
    pub series: Vec<u32>,
}

/// What became of a write that was stored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Samples (float and histogram) that are durable and visible.
    pub accepted: u64,
    /// What was refused, in order of series.
    pub refused: Vec<Refused>,
    /// Exemplars that are durable and visible; one that was there already counts.
    pub exemplars: u64,
    /// Exemplars that were refused, in the order sent; `samples` counts exemplars.
    pub exemplars_refused: Vec<Refused>,
}

/// Samples of one series that were refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Index of the series in the batch.
    pub series: u32,
    /// How many samples of it.
    pub samples: u32,
    /// Why.
    pub reason: RefusalReason,
}

/// Divides a batch among `partitions` shards: per shard the indices of its series. O(series).
pub fn route(batch: &WriteBatch, partitions: u32) -> Vec<Vec<u32>> {
    let expected = batch.series.len() / partitions.max(1) as usize;
    let mut shards: Vec<Vec<u32>> =
        (0..partitions.max(1)).map(|_| Vec::with_capacity(expected + expected / 8 + 8)).collect();
    for (index, series) in batch.series.iter().enumerate() {
        let shard = series.hash.partition(partitions.max(1)) as usize;
        if let Some(list) = shards.get_mut(shard) {
            list.push(index as u32);
        }
    }
    shards
}
