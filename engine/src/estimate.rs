//! Estimate: what reading a selection will touch, from the tables of chunks alone: nothing is decoded.

use varve_model::TimeRange;

use crate::error::Result;
use crate::segment::{ReadScratch, Segment};

/// What a read touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Estimate {
    /// Series, each label set once.
    pub series: u64,
    /// Chunks that reach into the range; each is decoded whole.
    pub chunks: u64,
    /// Their bytes as stored.
    pub bytes: u64,
    /// Samples in the range, about: of a chunk that sticks out its share of the range counts. What was written twice,
    /// or is hidden by a deletion, counts.
    pub samples: u64,
}

impl Estimate {
    /// Adds another one, of other series.
    pub fn add(&mut self, other: Estimate) {
        self.series += other.series;
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.samples += other.samples;
    }

    /// Adds a chunk of `count` samples over `own` if it reaches into `range`.
    pub(crate) fn chunk(&mut self, own: TimeRange, count: u64, bytes: u64, range: TimeRange) {
        if !own.overlaps(&range) {
            return;
        }
        self.chunks += 1;
        self.bytes += bytes;
        self.samples += share(own, count, range);
    }
}

/// How many of `count` samples over `own` lie in `range`, if they are spread evenly; at least one.
pub(crate) fn share(own: TimeRange, count: u64, range: TimeRange) -> u64 {
    let all = own.max.abs_diff(own.min);
    let part = own.max.min(range.max).abs_diff(own.min.max(range.min));
    let share = u128::from(count) * u128::from(part) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).clamp(1, count.max(1))
}

impl Segment {
    /// Adds what reading a series over `range` touches here.
    pub(crate) fn estimate(
        &self,
        scratch: &mut ReadScratch,
        series: u32,
        range: TimeRange,
        into: &mut Estimate,
    ) -> Result<()> {
        let (row, chunks) = self.chunk_rows(scratch, series)?;
        for chunk in chunks.get(row).unwrap_or_default() {
            let about = self.column_row(scratch, chunk.column)?;
            into.chunk(about.range, u64::from(about.count), u64::from(chunk.bytes), range);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_sticks_out_counts_in_proportion() {
        let range = |min, max| TimeRange { min, max };
        let check = |asked: TimeRange, expected: (u64, u64, u64)| {
            let mut estimate = Estimate::default();
            estimate.chunk(range(0, 1000), 100, 70, asked);
            assert_eq!((estimate.chunks, estimate.bytes, estimate.samples), expected);
        };
        check(TimeRange::ALL, (1, 70, 100));
        check(range(500, 2000), (1, 70, 50));
        check(range(400, 600), (1, 70, 20));
        check(range(1000, 2000), (1, 70, 1));
        check(range(1001, 2000), (0, 0, 0));
        check(range(i64::MIN, -1), (0, 0, 0));
    }
}
