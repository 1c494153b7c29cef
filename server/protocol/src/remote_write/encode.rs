//! The other direction: a batch as a request of remote write 1.0 or 2.0. For senders, load generators and tests; not
//! tuned.
//!
//! Label bytes are the wire form of 1.0 already, so they are copied; 2.0 has a table of symbols, in the order in which
//! they are first used. Histograms with integer counts are sent as deltas.

use std::collections::BTreeMap;

use std::ops::Range;

use varve_model::histogram::Span;
use varve_model::labels::{METRIC_NAME, split_body, split_label};
use varve_model::write::Metadata;
use varve_model::{Histogram, Millis, WriteBatch};

use crate::metadata::family_of;
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
            push_histogram(&mut inner, *time, histogram, 0);
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

/// Texts and their indices.
#[derive(Default)]
struct Symbols<'a> {
    indices: BTreeMap<&'a [u8], u64>,
    encoded: Vec<u8>,
}

impl<'a> Symbols<'a> {
    fn index(&mut self, text: &'a [u8]) -> u64 {
        let next = self.indices.len() as u64;
        *self.indices.entry(text).or_insert_with(|| {
            push_bytes(&mut self.encoded, 4, text);
            next
        })
    }

    /// Field 1 of a series or exemplar: the references of its labels.
    fn push_refs(&mut self, mut label_bytes: &'a [u8], out: &mut Vec<u8>) {
        let mut refs = Vec::new();
        while let Some((body, rest)) = split_label(label_bytes) {
            if let Some((name, value)) = split_body(body) {
                push_varint(&mut refs, self.index(name));
                push_varint(&mut refs, self.index(value));
            }
            label_bytes = rest;
        }
        push_bytes(out, 1, &refs);
    }
}

/// Appends the body, not compressed, that [`super::decode_v2`] reads as `batch`. Metadata goes with the series whose
/// metric name is that of the family; what belongs to none is not sent.
pub fn encode_v2(batch: &WriteBatch, out: &mut Vec<u8>) {
    let mut symbols = Symbols::default();
    symbols.index(b"");
    let mut exemplars = batch.exemplars.iter().peekable();
    let (mut message, mut inner, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for (index, series) in batch.series.iter().enumerate() {
        message.clear();
        symbols.push_refs(batch.label_bytes(series), &mut message);
        for at in series.samples.start as usize..series.samples.end as usize {
            let (Some(time), Some(value)) = (batch.times.get(at), batch.values.get(at)) else { break };
            inner.clear();
            push_float(&mut inner, 1, *value);
            push_number(&mut inner, 2, *time as u64);
            if batch.start(at) != 0 {
                push_number(&mut inner, 3, batch.start(at) as u64);
            }
            push_bytes(&mut message, 2, &inner);
        }
        for at in series.histograms.start as usize..series.histograms.end as usize {
            let Some((time, histogram)) = batch.histograms.get(at) else { break };
            inner.clear();
            push_histogram(&mut inner, *time, histogram, batch.histogram_start(at));
            push_bytes(&mut message, 3, &inner);
        }
        while let Some(exemplar) = exemplars.next_if(|exemplar| exemplar.series as usize == index) {
            inner.clear();
            symbols.push_refs(slice(&batch.bytes, &exemplar.labels), &mut inner);
            push_float(&mut inner, 2, exemplar.value);
            push_number(&mut inner, 3, exemplar.time as u64);
            push_bytes(&mut message, 4, &inner);
        }
        let name = metric_name(batch.label_bytes(series));
        let family = |metadata: &&Metadata| family_of(name, metadata.kind) == metadata.family;
        if let Some(metadata) = batch.metadata.iter().find(family) {
            inner.clear();
            push_number(&mut inner, 1, metadata.kind as u64);
            push_number(&mut inner, 3, symbols.index(metadata.help.as_bytes()));
            push_number(&mut inner, 4, symbols.index(metadata.unit.as_bytes()));
            push_bytes(&mut message, 5, &inner);
        }
        push_bytes(&mut all, 5, &message);
    }
    out.extend_from_slice(&symbols.encoded);
    out.extend_from_slice(&all);
}

fn metric_name(mut label_bytes: &[u8]) -> &str {
    while let Some((body, rest)) = split_label(label_bytes) {
        match split_body(body) {
            Some((name, value)) if name == METRIC_NAME.as_bytes() => {
                return std::str::from_utf8(value).unwrap_or_default();
            }
            _ => label_bytes = rest,
        }
    }
    ""
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

pub(crate) fn push_histogram(out: &mut Vec<u8>, time: Millis, histogram: &Histogram, start: Millis) {
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
    if start != 0 {
        out.extend_from_slice(&[0x88, 0x01]);
        push_varint(out, start as u64);
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
