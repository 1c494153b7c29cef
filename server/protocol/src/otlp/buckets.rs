//! Dense buckets of OpenTelemetry as the sparse ones of a native histogram.
//!
//! OpenTelemetry's bucket 0 of an exponential histogram holds (1, base], Prometheus's bucket 0 holds (1/base, 1]: the
//! index grows by one. A scale that is finer than Prometheus knows is brought down by joining 2, 4, 8 … buckets.

use varve_model::histogram::Span;

use crate::Error;
use crate::budget::Budget;
use crate::protobuf::{Reader, Value};

/// Empty buckets up to this many stand among the others rather than begin a span.
const GAP_MAX: i64 = 2;

/// Counts of buckets in a row.
#[derive(Default)]
pub(super) struct Dense {
    /// Index of the first.
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}

/// Sparse buckets, and what they hold together.
pub(super) struct Sparse {
    pub(super) spans: Vec<Span>,
    pub(super) counts: Vec<f64>,
    pub(super) sum: u64,
    /// Index behind the last bucket.
    pub(super) end: i64,
}

impl Dense {
    pub(super) fn push(&mut self, count: u64, budget: &mut Budget) -> Result<(), Error> {
        // As a count here, and as a float in the histogram.
        budget.spend(16)?;
        self.counts.push(count);
        Ok(())
    }

    /// `Buckets { offset = 1 (sint32), bucket_counts = 2 (uint64)* }`.
    pub(super) fn read(mut message: Reader<'_>, budget: &mut Budget) -> Result<Dense, Error> {
        let mut dense = Dense::default();
        while let Some(field) = message.field()? {
            match (field.number, field.value) {
                (1, Value::Varint(offset)) => {
                    dense.offset = crate::protobuf::zigzag(offset & u64::from(u32::MAX)) as i32;
                }
                (2, Value::Varint(count)) => dense.push(count, budget)?,
                (2, Value::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        dense.push(packed.varint()?, budget)?;
                    }
                }
                (1 | 2, _) => return Err(message.malformed("field of Buckets with a wrong type")),
                _ => {}
            }
        }
        Ok(dense)
    }

    /// The buckets with something in them; each index is divided by 2^`scale_down`, then `shift` is added.
    pub(super) fn sparse(&self, scale_down: u32, shift: i64) -> Result<Sparse, &'static str> {
        let mut sparse = Sparse { spans: Vec::new(), counts: Vec::new(), sum: 0, end: 0 };
        let mut joined: Option<(i64, u64)> = None;
        for (place, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count != 0) {
            let index = ((i64::from(self.offset) + place as i64) >> scale_down.min(63)) + shift;
            joined = match joined {
                Some((same, before)) if same == index => Some((index, before.saturating_add(count))),
                other => {
                    sparse.push(other)?;
                    Some((index, count))
                }
            };
        }
        sparse.push(joined)?;
        Ok(sparse)
    }
}

impl Sparse {
    fn push(&mut self, bucket: Option<(i64, u64)>) -> Result<(), &'static str> {
        let Some((index, count)) = bucket else { return Ok(()) };
        let gap = index - self.end;
        match self.spans.last_mut() {
            Some(span) if gap <= GAP_MAX => {
                self.counts.extend((0..gap).map(|_| 0.0));
                span.length += gap as u32 + 1;
            }
            _ => {
                let offset = i32::try_from(gap).map_err(|_| "buckets beyond any index")?;
                self.spans.push(Span { offset, length: 1 });
            }
        }
        self.counts.push(count as f64);
        self.sum = self.sum.saturating_add(count);
        self.end = index + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(offset: i32, counts: &[u64], scale_down: u32, shift: i64, spans: &[(i32, u32)], expected: &[f64]) {
        let sparse = Dense { offset, counts: counts.to_vec() }.sparse(scale_down, shift).unwrap();
        let found: Vec<_> = sparse.spans.iter().map(|span| (span.offset, span.length)).collect();
        assert_eq!((&found[..], &sparse.counts[..]), (spans, expected));
        assert_eq!(sparse.sum as f64, expected.iter().sum::<f64>());
    }

    #[test]
    fn what_is_empty_is_left_out_and_what_is_too_fine_is_joined() {
        check(0, &[], 0, 1, &[], &[]);
        check(0, &[0, 0], 0, 1, &[], &[]);
        check(-2, &[1, 2, 3], 0, 1, &[(-1, 3)], &[1.0, 2.0, 3.0]);
        check(0, &[1, 0, 0, 2], 0, 1, &[(1, 4)], &[1.0, 0.0, 0.0, 2.0]);
        check(0, &[1, 0, 0, 0, 2], 0, 1, &[(1, 1), (3, 1)], &[1.0, 2.0]);
        check(0, &[1, 1, 1, 1, 1], 1, 1, &[(1, 3)], &[2.0, 2.0, 1.0]);
        check(-3, &[1, 1, 1, 1], 1, 1, &[(-1, 3)], &[1.0, 2.0, 1.0]);
        check(-3, &[1, 1, 1, 1], 40, 1, &[(0, 2)], &[3.0, 1.0]);
        check(0, &[0, 5, 0], 0, 0, &[(1, 1)], &[5.0]);
    }

    #[test]
    fn indices_that_do_not_fit_are_refused() {
        assert!(Dense { offset: i32::MAX, counts: vec![1] }.sparse(0, 1).is_err());
        assert!(Dense { offset: i32::MIN, counts: vec![1] }.sparse(0, 1).is_ok());
    }
}
