//! Buffers: write batches and body buffers that requests hand on to each other, so that a steady stream of writes
//! allocates nothing. Bounded in number and in size; what does not fit is freed.
//!
//! Bytes stay in a buffer that is given back, so that who overwrites all of them (a decompressor) need not have them
//! zeroed first: [`Buffers::used_batch`] and [`Buffers::used_body`]. The others come empty.

use crossbeam::queue::ArrayQueue;
use varve_model::WriteBatch;

/// Kept of each kind.
const KEPT: usize = 16;
/// A buffer larger than this is freed rather than kept: one huge request must not stay in memory.
const KEPT_BYTES: usize = 8 << 20;

/// The pool. Lock-free; both ends are a few instructions.
#[derive(Debug)]
pub struct Buffers {
    batches: ArrayQueue<WriteBatch>,
    bodies: ArrayQueue<Vec<u8>>,
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers::new()
    }
}

impl Buffers {
    /// An empty pool.
    pub fn new() -> Buffers {
        Buffers { batches: ArrayQueue::new(KEPT), bodies: ArrayQueue::new(KEPT) }
    }

    /// An empty batch.
    pub fn batch(&self) -> WriteBatch {
        let mut batch = self.used_batch();
        batch.bytes.clear();
        batch
    }

    /// A batch that is empty but for old content of its `bytes`.
    pub fn used_batch(&self) -> WriteBatch {
        self.batches.pop().unwrap_or_default()
    }

    /// Gives a batch back.
    pub fn give_batch(&self, mut batch: WriteBatch) {
        let bytes = batch.bytes.capacity()
            + batch.times.capacity() * 16
            + batch.series.capacity() * size_of::<varve_model::write::WriteSeries>();
        if bytes <= 2 * KEPT_BYTES {
            let bytes = std::mem::take(&mut batch.bytes);
            batch.clear();
            batch.bytes = bytes;
            let _ = self.batches.push(batch);
        }
    }

    /// An empty buffer.
    pub fn body(&self) -> Vec<u8> {
        let mut body = self.used_body();
        body.clear();
        body
    }

    /// A buffer with old content.
    pub fn used_body(&self) -> Vec<u8> {
        self.bodies.pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give_body(&self, body: Vec<u8>) {
        if body.capacity() > 0 && body.capacity() <= KEPT_BYTES {
            let _ = self.bodies.push(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_empty_and_huge_memory_does_not() {
        let buffers = Buffers::new();
        let mut batch = buffers.batch();
        batch.push_series([("a", "b")].into_iter());
        batch.push_sample(1, 1.0);
        let capacity = batch.bytes.capacity();
        buffers.give_batch(batch);
        let again = buffers.batch();
        assert_eq!(again, WriteBatch::default());
        assert_eq!(again.bytes.capacity(), capacity);
        buffers.give_body(vec![1, 2, 3]);
        assert_eq!(buffers.used_body(), [1, 2, 3]);
        buffers.give_body(vec![1, 2, 3]);
        assert!(buffers.body().is_empty());
        buffers.give_body(Vec::with_capacity(KEPT_BYTES + 1));
        assert_eq!(buffers.body().capacity(), 0);
    }
}
