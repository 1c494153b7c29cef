//! The other direction: a batch as `prometheus.WriteRequest`. For senders, load generators and tests; not tuned.
//!
//! Label bytes are the wire form already, so they are copied. Histograms with integer counts are sent as deltas.

use std::ops::Range;

use varve_model::histogram::Span;
use varve_model::write::Metadata;
use varve_model::{Histogram, Millis, WriteBatch};

use crate::protobuf::{push_varint, varint_bytes};

/// Appends the body, not compressed, that [`super::decode_v1`] reads as `batch`.
pub fn encode_v1(batch: &WriteBatch, out: &mut Vec<u8>) {
    let mut exemplars = batch.exemplars.iter().peekable();
    let mut message = Vec::new();
    let mut inner = Vec::new();
    for (index, series) in batch.series.iter().enumerate() {
        message.clear();
        message.extend_from_slice(batch.label_bytes(series));
        let (times, values) = (slice(&batch.times, &series.samples), slice(&batch.values, &series.samples));
        for (&time, &value) in times.iter().zip(values) {
            message.extend_from_slice(&[0x12, (10 + varint_bytes(time as u64)) as u8, 0x09]);
            message.extend_from_slice(&value.to_le_bytes());
            push_number(&mut message, 2, time as u64);
        }
        while let Some(exemplar) = exemplars.next_if(|exemplar| exemplar.series as usize == index) {
            inner.clear();
            inner.extend_from_slice(slice(&batch.bytes, &exemplar.labels));
            push_float(&mut inner, 2, exemplar.value);
            push_number(&mut inner, 3, exemplar.time as u64);
            push_bytes(&mut message, 3, &inner);
        }
        for (time, histogram) in slice(&batch.histograms, &series.histograms) {
            inner.clear();
            push_histogram(&mut inner, *time, histogram);
            push_bytes(&mut message, 4, &inner);
        }
        push_bytes(out, 1, &message);
    }
    for Metadata { family, kind, help, unit } in &batch.metadata {
        message.clear();
        push_number(&mut message, 1, *kind as u64);
        for (number, text) in [(2, family), (4, help), (5, unit)] {
            push_bytes(&mut message, number, text.as_bytes());
        }
        push_bytes(out, 3, &message);
    }
}

fn slice<'a, T>(all: &'a [T], range: &Range<u32>) -> &'a [T] {
    all.get(range.start as usize..range.end as usize).unwrap_or_default()
}

fn push_number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    push_varint(out, value);
}

fn push_float(out: &mut Vec<u8>, field: u8, value: f64) {
    out.push(field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn push_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn push_histogram(out: &mut Vec<u8>, time: Millis, histogram: &Histogram) {
    if histogram.is_float {
        push_float(out, 2, histogram.count);
        push_float(out, 7, histogram.zero_count);
    } else {
        push_number(out, 1, histogram.count as u64);
        push_number(out, 6, histogram.zero_count as u64);
    }
    push_float(out, 3, histogram.sum);
    push_number(out, 4, zigzag(histogram.schema.into()) & u64::from(u32::MAX));
    push_float(out, 5, histogram.zero_threshold);
    push_side(out, 8, &histogram.negative_spans, &histogram.negative, histogram.is_float);
    push_side(out, 11, &histogram.positive_spans, &histogram.positive, histogram.is_float);
    push_number(out, 14, histogram.reset_hint as u64);
    push_number(out, 15, time as u64);
    if !histogram.custom_bounds.is_empty() {
        let mut packed = Vec::new();
        packed.extend(histogram.custom_bounds.iter().flat_map(|bound| bound.to_le_bytes()));
        out.extend_from_slice(&[0x82, 0x01]);
        push_varint(out, packed.len() as u64);
        out.extend_from_slice(&packed);
    }
}

/// Spans in field `field`, deltas or counts in the two that follow.
fn push_side(out: &mut Vec<u8>, field: u8, spans: &[Span], counts: &[f64], is_float: bool) {
    let mut packed = Vec::new();
    for span in spans {
        packed.clear();
        push_number(&mut packed, 1, zigzag(span.offset.into()) & u64::from(u32::MAX));
        push_number(&mut packed, 2, span.length.into());
        push_bytes(out, field, &packed);
    }
    packed.clear();
    if counts.is_empty() {
        return;
    }
    if is_float {
        packed.extend(counts.iter().flat_map(|count| count.to_le_bytes()));
        push_bytes(out, field + 2, &packed);
        return;
    }
    let mut last = 0;
    for &count in counts {
        push_varint(&mut packed, zigzag(count as i64 - last));
        last = count as i64;
    }
    push_bytes(out, field + 1, &packed);
}
