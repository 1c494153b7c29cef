//! `POST /api/v1/read`: remote read 1.0, samples in one message or chunks in a stream.
//!
//! Series come in order of labels in both forms. Samples and series count against the limits of a query; the message
//! of samples is held twice, plain and compressed, which is charged before it is made. The stream goes out piece by
//! piece, so that no more of it is in memory than a few frames.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use varve_model::{Column, Labels, Matcher};
use varve_protocol::remote_read::{
    self, Form, ReadQuery, ReadRequest, decode_read_request, push_chunks, push_frames, push_result, push_series,
};
use varve_query::budget::Budget;

use super::body::{self, BodyLimit};
use super::error::ApiError;
use super::ingest::Encoding;
use super::work::{self, AnswerWriter};
use super::{Answer, read};
use crate::app::App;

const CHUNKS: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// `POST /api/v1/read`
pub async fn remote_read(app: Arc<App>, request: Request<Body>) -> Answer {
    let reader = read::Reader::of(&app, request.headers())?;
    let encoding = Encoding::of(request.headers(), Encoding::Snappy)?;
    let limits = &app.settings.limits;
    let bytes_max = limits.query_text_bytes_max.into();
    let mut body = body::read(&app, request, BodyLimit { bytes_max, setting: "query_text_bytes_max" }).await?;
    let asked = body.decode(encoding, decode_read_request)?;
    drop(body.into_held());
    work::run(&app, None, move |app, budget, out| match asked.form {
        Form::Samples => samples(app, &reader, &asked, budget, out),
        Form::StreamedChunks => chunks(app, &reader, &asked, budget, out),
    })
    .await
}

/// Calls `take` with every series of a query that has samples, in order of labels, until it says `false`.
fn each_series(
    app: &App,
    reader: &read::Reader,
    query: &ReadQuery,
    budget: &Budget,
    take: &mut dyn FnMut(&Labels, &Column) -> Result<bool, ApiError>,
) -> Result<(), ApiError> {
    let regex_bytes_max = app.settings.limits.regex_bytes_max as usize;
    let matcher = |(op, name, value): &(_, String, String)| Matcher::new(*op, name, value, regex_bytes_max);
    let matchers: Vec<Matcher> =
        query.matchers.iter().map(matcher).collect::<Result<_, _>>().map_err(ApiError::bad_data)?;
    let selection = reader.snapshot(app)?.select(reader.tenant, &matchers, query.range, budget.series_left())?;
    budget.select(selection.len() as u64)?;
    let mut order: Vec<(Labels, usize)> = (0..selection.len()).map(|index| (selection.labels(index), index)).collect();
    order.sort_unstable();
    let mut column = Column::default();
    for (labels, index) in order {
        budget.check()?;
        selection.read(index, query.range, &mut column)?;
        budget.read(column.len() as u64)?;
        if !column.is_empty() && !take(&labels, &column)? {
            return Ok(());
        }
    }
    Ok(())
}

fn samples(
    app: &App,
    reader: &read::Reader,
    asked: &ReadRequest,
    budget: &Budget,
    out: &mut AnswerWriter,
) -> Result<(), ApiError> {
    let samples_max = app.settings.limits.remote_read_samples_max;
    let (mut response, mut result, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    let mut samples = 0;
    for query in &asked.queries {
        result.clear();
        each_series(app, reader, query, budget, &mut |labels, column| {
            samples += column.len() as u64;
            if samples > samples_max {
                let what = format!("exceeded sample limit ({samples_max}); raise `remote_read_samples_max`");
                return Err(ApiError::bad_data(what));
            }
            let before = result.len();
            push_series(&mut result, labels, column, &mut scratch);
            // In the result, in the answer, and compressed.
            budget.keep(3 * (result.len() - before) as u64)?;
            Ok(true)
        })?;
        push_result(&mut response, &result);
    }
    drop(result);
    let compressed = remote_read::compress(&response)?;
    out.set_kind("application/x-protobuf".to_owned());
    out.set_encoding("snappy");
    *out.buffer() = compressed;
    Ok(())
}

fn chunks(
    app: &App,
    reader: &read::Reader,
    asked: &ReadRequest,
    budget: &Budget,
    out: &mut AnswerWriter,
) -> Result<(), ApiError> {
    let frame_bytes_max = app.settings.limits.remote_read_frame_bytes_max as usize;
    out.set_kind(CHUNKS.to_owned());
    let mut encoded = Vec::new();
    for (number, query) in asked.queries.iter().enumerate() {
        each_series(app, reader, query, budget, &mut |labels, column| {
            encoded.clear();
            push_chunks(column, &mut encoded);
            push_frames(out.buffer(), labels, &encoded, number as u64, frame_bytes_max);
            Ok(out.flush_if_large())
        })?;
    }
    Ok(())
}
