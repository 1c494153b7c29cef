//! Remote read 1.0 (`prometheus.ReadRequest`): what is asked, and the two forms of the answer.
//!
//! ```text
//! SAMPLES              snappy( ReadResponse { results = 1: QueryResult { timeseries = 1: TimeSeries }* } )
//! STREAMED_XOR_CHUNKS  frame*       frame := varint(bytes) crc32c (4 bytes, big-endian) ChunkedReadResponse
//! ```
//! `TimeSeries` and the labels of `ChunkedSeries` are label bytes as they are stored, so they are copied. A frame holds
//! chunks of one series and is cut at about the size that is asked for; one chunk more may be in it.
//!
//! Writers append to a buffer of the caller, who sends it piece by piece.

mod bits;
mod chunk;
mod client;
#[cfg(test)]
mod tests;

use varve_model::{Column, Labels, MatchOp, TimeRange};

use crate::Error;
use crate::protobuf::{Reader, Value, push_varint, varint_bytes};
use crate::remote_write::push_histogram;
use crate::tsdb::crc32c;

pub use chunk::{Chunk, push_chunks};
pub use client::{Frame, decode_frame, push_read_request};

/// Queries in one request; Prometheus's clients send one.
pub const QUERIES_MAX: usize = 1000;
/// Matchers of one query.
pub const MATCHERS_MAX: usize = 10_000;

/// The form of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One message with all samples.
    Samples,
    /// A stream of frames with chunks in Prometheus's own encodings.
    StreamedChunks,
}

/// What is asked.
#[derive(Clone, PartialEq, Debug)]
pub struct ReadRequest {
    /// In the order of the answer.
    pub queries: Vec<ReadQuery>,
    /// The first form the client accepts that there is.
    pub form: Form,
}

/// One selection. Hints are not looked at: they allow an answer to be shorter, and ours is exact.
#[derive(Clone, PartialEq, Debug)]
pub struct ReadQuery {
    /// Which samples, both ends inclusive.
    pub range: TimeRange,
    /// Operator, label name, value.
    pub matchers: Vec<(MatchOp, String, String)>,
}

/// Reads a decompressed request. A form that does not exist is an error only if the client accepts no other.
pub fn decode_read_request(body: &[u8]) -> Result<ReadRequest, Error> {
    let mut request = Reader::new(body);
    let mut queries = Vec::new();
    // The first that is known.
    let mut form = None;
    let mut is_choosy = false;
    let mut accept = |kind: u64| {
        is_choosy = true;
        form = form.or(match kind {
            0 => Some(Form::Samples),
            1 => Some(Form::StreamedChunks),
            _ => None,
        });
    };
    while let Some(field) = request.field()? {
        match (field.number, field.value) {
            (1, Value::Bytes(query)) => {
                if queries.len() >= QUERIES_MAX {
                    return Err(request.malformed("more than 1000 queries"));
                }
                queries.push(read_query(query)?);
            }
            (2, Value::Varint(kind)) => accept(kind),
            (2, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    accept(packed.varint()?);
                }
            }
            (1 | 2, _) => return Err(request.malformed("field of ReadRequest with a wrong type")),
            _ => {}
        }
    }
    match form {
        Some(form) => Ok(ReadRequest { queries, form }),
        None if is_choosy => Err(request.malformed("none of the accepted response types is known")),
        None => Ok(ReadRequest { queries, form: Form::Samples }),
    }
}

/// `Query { start_timestamp_ms = 1, end_timestamp_ms = 2, matchers = 3, hints = 4 }`.
fn read_query(mut query: Reader<'_>) -> Result<ReadQuery, Error> {
    let (mut min, mut max, mut matchers) = (0, 0, Vec::new());
    while let Some(field) = query.field()? {
        match (field.number, field.value) {
            (1, Value::Varint(millis)) => min = millis as i64,
            (2, Value::Varint(millis)) => max = millis as i64,
            (3, Value::Bytes(matcher)) => {
                if matchers.len() >= MATCHERS_MAX {
                    return Err(query.malformed("more than 10000 matchers"));
                }
                matchers.push(read_matcher(matcher)?);
            }
            (1..=3, _) => return Err(query.malformed("field of Query with a wrong type")),
            _ => {}
        }
    }
    Ok(ReadQuery { range: TimeRange { min, max }, matchers })
}

/// `LabelMatcher { type = 1, name = 2, value = 3 }`.
fn read_matcher(mut matcher: Reader<'_>) -> Result<(MatchOp, String, String), Error> {
    let text = |text: Reader<'_>| match std::str::from_utf8(text.rest()) {
        Ok(plain) => Ok(plain.to_owned()),
        Err(_) => Err(text.malformed("matcher is not UTF-8")),
    };
    let (mut op, mut name, mut value) = (MatchOp::Equal, String::new(), String::new());
    while let Some(field) = matcher.field()? {
        match (field.number, field.value) {
            (1, Value::Varint(kind)) => {
                op = match kind {
                    0 => MatchOp::Equal,
                    1 => MatchOp::NotEqual,
                    2 => MatchOp::Regex,
                    3 => MatchOp::NotRegex,
                    _ => return Err(matcher.malformed("unknown type of matcher")),
                }
            }
            (2, Value::Bytes(bytes)) => name = text(bytes)?,
            (3, Value::Bytes(bytes)) => value = text(bytes)?,
            (1..=3, _) => return Err(matcher.malformed("field of LabelMatcher with a wrong type")),
            _ => {}
        }
    }
    Ok((op, name, value))
}

fn push_message(out: &mut Vec<u8>, field: u8, message: &[u8]) {
    out.push(field << 3 | 2);
    push_varint(out, message.len() as u64);
    out.extend_from_slice(message);
}

/// Appends one series to a `QueryResult`. `scratch` is memory to be used again.
pub fn push_series(out: &mut Vec<u8>, labels: &Labels, column: &Column, scratch: &mut Vec<u8>) {
    scratch.clear();
    scratch.extend_from_slice(labels.as_label_bytes());
    for (&time, &value) in column.times.iter().zip(&column.values) {
        // A zero is not written, as Go writes messages; a negative zero is.
        let value_bytes = if value.to_bits() == 0 { 0 } else { 9 };
        let time_bytes = if time == 0 { 0 } else { 1 + varint_bytes(time as u64) };
        scratch.extend_from_slice(&[0x12, (value_bytes + time_bytes) as u8]);
        if value_bytes > 0 {
            scratch.push(0x09);
            scratch.extend_from_slice(&value.to_le_bytes());
        }
        if time_bytes > 0 {
            scratch.push(0x10);
            push_varint(scratch, time as u64);
        }
    }
    let mut message = Vec::new();
    for (time, histogram) in &column.histograms {
        message.clear();
        push_histogram(&mut message, *time, histogram, 0);
        push_message(scratch, 4, &message);
    }
    push_message(out, 1, scratch);
}

/// Appends a `QueryResult` to a `ReadResponse`.
pub fn push_result(out: &mut Vec<u8>, result: &[u8]) {
    push_message(out, 1, result);
}

/// Compresses a `ReadResponse` to the snappy block that clients expect.
pub fn compress(response: &[u8]) -> Result<Vec<u8>, Error> {
    snap::raw::Encoder::new().compress_vec(response).map_err(|_| Error::Limit {
        limit: "bytes of the answer to a remote read",
        max: u32::MAX.into(),
        got: response.len() as u64,
        setting: "remote_read_samples_max",
    })
}

/// Appends the frames of one series of query `query` of the request: its chunks, as many to a frame as fit into
/// `frame_bytes_max`, at least one.
pub fn push_frames(out: &mut Vec<u8>, labels: &Labels, chunks: &[Chunk], query: u64, frame_bytes_max: usize) {
    let labels = labels.as_label_bytes();
    let room = frame_bytes_max.saturating_sub(labels.len());
    let (mut series, mut encoded) = (labels.to_vec(), Vec::new());
    for (index, chunk) in chunks.iter().enumerate() {
        encoded.clear();
        let numbers = [(1, chunk.min_time as u64), (2, chunk.max_time as u64), (3, chunk.encoding as u64)];
        for (field, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
            encoded.push(field << 3);
            push_varint(&mut encoded, number);
        }
        push_message(&mut encoded, 4, &chunk.data);
        push_message(&mut series, 2, &encoded);
        if series.len() - labels.len() >= room || index + 1 == chunks.len() {
            push_frame(out, &series, query);
            series.truncate(labels.len());
        }
    }
}

/// `ChunkedReadResponse { chunked_series = 1, query_index = 2 }` in its frame.
fn push_frame(out: &mut Vec<u8>, series: &[u8], query: u64) {
    let mut message = Vec::with_capacity(series.len() + 16);
    push_message(&mut message, 1, series);
    if query != 0 {
        message.push(2 << 3);
        push_varint(&mut message, query);
    }
    push_varint(out, message.len() as u64);
    out.extend_from_slice(&crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
}
