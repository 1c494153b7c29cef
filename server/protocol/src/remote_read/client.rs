//! The other side of remote read: what a client asks, and the frames it is answered.
//!
//! The labels of a frame are label bytes and its chunks are chunks of Prometheus's storage, so both are borrowed from
//! the message and read by what reads blocks.

use varve_model::{MatchOp, Matcher, TimeRange};

use super::push_message;
use crate::Error;
use crate::protobuf::{Reader, Value, push_varint};
use crate::tsdb::Encoding;

/// Appends a request, not compressed, for the samples of one selection as streamed chunks.
pub fn push_read_request(out: &mut Vec<u8>, range: TimeRange, matchers: &[Matcher]) {
    let mut query = Vec::new();
    for (field, millis) in [(1u8, range.min), (2, range.max)] {
        query.push(field << 3);
        push_varint(&mut query, millis as u64);
    }
    for matcher in matchers {
        let kind = match matcher.op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        };
        let mut message = vec![1 << 3, kind];
        push_message(&mut message, 2, matcher.name.as_bytes());
        push_message(&mut message, 3, matcher.value.as_bytes());
        push_message(&mut query, 3, &message);
    }
    push_message(out, 1, &query);
    // STREAMED_XOR_CHUNKS
    out.extend_from_slice(&[2 << 3, 1]);
}

/// One frame: the labels of a series as label bytes, and the encoding and data of each chunk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frame<'a> {
    /// Label bytes, each label once more behind its field number.
    pub labels: &'a [u8],
    /// Chunks in order of time.
    pub chunks: Vec<(Encoding, &'a [u8])>,
}

/// Reads a frame's message, behind its length and checksum. A frame without a series is empty.
pub fn decode_frame(message: &[u8]) -> Result<Frame<'_>, Error> {
    let mut reader = Reader::new(message);
    let mut frame = Frame::default();
    while let Some(field) = reader.field()? {
        match (field.number, field.value) {
            (1, Value::Bytes(series)) => {
                if !frame.labels.is_empty() || !frame.chunks.is_empty() {
                    return Err(series.malformed("a frame with two series"));
                }
                read_series(series, &mut frame)?;
            }
            (1, _) => return Err(reader.malformed("field of ChunkedReadResponse with a wrong type")),
            _ => {}
        }
    }
    Ok(frame)
}

/// `ChunkedSeries { labels = 1, chunks = 2 }`, labels before chunks.
fn read_series<'a>(mut series: Reader<'a>, frame: &mut Frame<'a>) -> Result<(), Error> {
    let whole = series.rest();
    let mut labels = 0;
    while let Some(field) = series.field()? {
        match (field.number, field.value) {
            (1, Value::Bytes(_)) if frame.chunks.is_empty() => labels = whole.len() - series.rest().len(),
            (1, Value::Bytes(_)) => return Err(series.malformed("labels behind chunks")),
            (2, Value::Bytes(chunk)) => frame.chunks.push(read_chunk(chunk)?),
            (1 | 2, _) => return Err(series.malformed("field of ChunkedSeries with a wrong type")),
            _ => {}
        }
    }
    frame.labels = whole.get(..labels).unwrap_or_default();
    Ok(())
}

/// `Chunk { min_time_ms = 1, max_time_ms = 2, type = 3, data = 4 }`.
fn read_chunk(mut chunk: Reader<'_>) -> Result<(Encoding, &[u8]), Error> {
    let (mut encoding, mut data) = (None, &[][..]);
    while let Some(field) = chunk.field()? {
        match (field.number, field.value) {
            (3, Value::Varint(number)) => encoding = u8::try_from(number).ok().and_then(Encoding::from_number),
            (4, Value::Bytes(bytes)) => data = bytes.rest(),
            _ => {}
        }
    }
    match encoding {
        Some(encoding) => Ok((encoding, data)),
        None => Err(chunk.malformed("a chunk in an encoding that is not understood")),
    }
}

#[cfg(test)]
mod tests {
    use varve_model::{Column, Labels};

    use super::super::{Form, decode_read_request, push_chunks, push_frames};
    use super::*;
    use crate::tsdb::decode_chunk;

    #[test]
    fn the_server_reads_what_is_asked() {
        let matcher = |op, name: &str, value: &str| Matcher::new(op, name, value, 1 << 20).unwrap();
        let matchers = [matcher(MatchOp::Regex, "__name__", "a.+"), matcher(MatchOp::NotEqual, "b", "")];
        let mut body = Vec::new();
        push_read_request(&mut body, TimeRange { min: -5, max: i64::MAX }, &matchers);
        let asked = decode_read_request(&body).unwrap();
        assert_eq!(asked.form, Form::StreamedChunks);
        assert_eq!(asked.queries[0].range, TimeRange { min: -5, max: i64::MAX });
        let expected = matchers.map(|m| (m.op, m.name.to_string(), m.value.to_string()));
        assert_eq!(asked.queries[0].matchers, expected);
    }

    #[test]
    fn frames_are_read_back() {
        let mut builder = varve_model::LabelsBuilder::default();
        builder.push("__name__", "up");
        builder.push("a", "b");
        let labels = builder.build().unwrap();
        let column =
            Column { times: (0..500).collect(), values: (0..500).map(f64::from).collect(), ..Column::default() };
        let (mut chunks, mut frames) = (Vec::new(), Vec::new());
        push_chunks(&column, &mut chunks);
        push_frames(&mut frames, &labels, &chunks, 0, 100);
        let (mut back, mut rest, mut count) = (Column::default(), &frames[..], 0);
        while let Some(&first) = rest.first() {
            let (len, skip) = if first < 0x80 {
                (usize::from(first), 1)
            } else {
                (usize::from(first & 0x7f) | usize::from(rest[1]) << 7, 2)
            };
            let message = &rest[skip + 4..skip + 4 + len];
            let frame = decode_frame(message).unwrap();
            assert_eq!(Labels::from_label_bytes(frame.labels).as_ref(), Ok(&labels));
            for (encoding, data) in frame.chunks {
                decode_chunk(encoding, data, &mut back).unwrap();
            }
            rest = &rest[skip + 4 + len..];
            count += 1;
        }
        assert!(count > 1);
        assert_eq!((back.times, back.values), (column.times, column.values));
    }
}
