//! Queries over HTTP: `query`, `query_range` and what belongs to the language. Parameters, words and errors are
//! Prometheus's.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use varve_engine::Snapshot;
use varve_model::{Labels, Millis, TenantId, TenantName};
use varve_query::answer::{Answer as Evaluated, Cell, Value};
use varve_query::budget::Budget;
use varve_query::exec::{self, Touched};
use varve_query::promql::ast::Expr;
use varve_query::promql::{self, ParseOptions};
use varve_query::request::{Mode, RangeRequest};
use varve_query::source::Estimate;

use super::error::ApiError;
use super::params::{self, Params};
use super::work::{self, AnswerWriter};
use super::{Answer, ast, json, request, success};
use crate::app::App;
use crate::self_scrape::own_tenant;

/// The tenant of a query whose name never wrote: it owns nothing, so that every query answers as on an empty store.
const NOBODY: TenantId = TenantId(u32::MAX);

/// Warnings that an answer shows, and infos.
const ANNOTATIONS_MAX: usize = 10;

/// The id under which the data of several tenants is read as that of one.
const TOGETHER: TenantId = TenantId(u32::MAX - 1);

/// Whose data a request reads.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The id to ask under.
    pub tenant: TenantId,
    /// Whose data it sees besides its own.
    owners: Vec<TenantId>,
}

impl Reader {
    /// Who reads, by the request's header.
    pub fn of(app: &App, headers: &HeaderMap) -> Result<Reader, ApiError> {
        let names = request::tenant_names(headers)?;
        let engine = &app.store()?.engine;
        if let [name] = &names[..] {
            return Ok(Reader { tenant: engine.find_tenant(name).unwrap_or(NOBODY), owners: Vec::new() });
        }
        let mut owners: Vec<TenantId> = names.iter().filter_map(|name| engine.find_tenant(name)).collect();
        if names.contains(&TenantName::default()) {
            owners.extend(engine.find_tenant(&own_tenant()));
        }
        // In order of ids: in that of names the own tenant may stand twice, apart.
        owners.sort_unstable();
        owners.dedup();
        Ok(Reader { tenant: TOGETHER, owners })
    }

    /// What it sees.
    pub fn snapshot(&self, app: &App) -> Result<Snapshot, ApiError> {
        let all = app.snapshot()?;
        Ok(self.owners.iter().fold(all, |snapshot, owner| snapshot.sharing(self.tenant, *owner)))
    }
}

/// How texts are parsed under the limits of this server.
pub fn parse_options(app: &App) -> ParseOptions {
    let limits = &app.settings.limits;
    ParseOptions {
        regex_bytes_max: limits.regex_bytes_max as usize,
        text_bytes_max: limits.query_text_bytes_max,
        ..ParseOptions::default()
    }
}

fn parse(app: &App, text: &str) -> Result<Expr, ApiError> {
    promql::parse(text, &parse_options(app)).map_err(of_query)
}

/// What is wrong with the text of a query is wrong with its parameter.
fn of_query(error: varve_query::Error) -> ApiError {
    match error {
        varve_query::Error::Parse(what) => ApiError::parameter("query", what),
        other => other.into(),
    }
}

/// `/api/v1/query`
pub async fn query(app: Arc<App>, request: Request<Body>) -> Answer {
    let reader = Reader::of(&app, request.headers())?;
    let params = request::params(&app, request).await?;
    let limit = params.limit("limit")?;
    let time = params.time_or("time", app.now())?;
    let timeout = params.timeout()?;
    let asked = RangeRequest { lookback_ms: lookback(&app, &params)?, ..RangeRequest::instant(reader.tenant, time) };
    evaluate(app, reader, params, asked, limit, timeout).await
}

/// `/api/v1/query_range`
pub async fn query_range(app: Arc<App>, request: Request<Body>) -> Answer {
    let reader = Reader::of(&app, request.headers())?;
    let params = request::params(&app, request).await?;
    let limit = params.limit("limit")?;
    let start = params.time("start")?;
    let end = params.time("end")?;
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step =
        params.duration("step")?.ok_or_else(|| ApiError::parameter("step", "cannot parse \"\" to a valid duration"))?;
    if step <= 0 {
        let what = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", what));
    }
    let steps = (i128::from(end) - i128::from(start)) / i128::from(step);
    let steps_max = app.settings.limits.query_steps_max;
    if steps > i128::from(steps_max) {
        return Err(ApiError::bad_data(format!(
            "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX) or raise `query_steps_max`",
            thousands(steps_max)
        )));
    }
    let timeout = params.timeout()?;
    let lookback_ms = lookback(&app, &params)?;
    let asked = RangeRequest { lookback_ms, ..RangeRequest::range(reader.tenant, start, end, step) };
    evaluate(app, reader, params, asked, limit, timeout).await
}

fn lookback(app: &App, params: &Params) -> Result<i64, ApiError> {
    let default = i64::try_from(app.settings.server.lookback_ms).unwrap_or(i64::MAX);
    match params.text("lookback_delta") {
        "" => Ok(default),
        // As in Prometheus, what is not positive means the default.
        text => match params::parse_step(text) {
            Ok(ms) => Ok(if ms > 0 { ms } else { default }),
            Err(what) => Err(ApiError::bad_data(format!("error parsing lookback delta duration: {what}"))),
        },
    }
}

/// The remark on a value of `stats` that will not be understood for ever.
fn stats_warning(value: &str) -> Option<String> {
    match value {
        "" | "true" | "all" => None,
        other => Some(format!(
            "value {other:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
        )),
    }
}

/// 11000 is `11,000`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

async fn evaluate(
    app: Arc<App>,
    reader: Reader,
    params: Params,
    asked: RangeRequest,
    limit: Option<usize>,
    timeout: Option<i64>,
) -> Answer {
    let explain = params.switch("explain").map_err(|what| ApiError::parameter("explain", what))?;
    work::run(&app, timeout, move |app, budget, out| {
        let begin = app.elapsed();
        let expr = parse(app, params.text("query"))?;
        let asked = RangeRequest { features: app.settings.server.enable_feature.of_queries(), ..asked };
        let store = app.store()?;
        if !params.text("stats").is_empty() {
            budget.count_steps();
        }
        let source = reader.snapshot(app)?;
        if explain {
            let found = exec::explain(&expr, &asked, &source, budget)?;
            write_explanation(out.buffer(), &found, asked.mode, budget);
            return Ok(());
        }
        let answer = exec::run(&expr, &asked, &source, budget, &store.pool).map_err(of_query)?;
        let seconds = app.elapsed().saturating_sub(begin).as_secs_f64();
        let asked = Asked { text: params.text("query"), limit, stats: params.text("stats"), seconds };
        write_answer(out, answer, &asked, budget);
        Ok(())
    })
    .await
}

/// Writes an answer without elements that tells what would be touched, by selector and in all.
fn write_explanation(out: &mut Vec<u8>, found: &[Touched], mode: Mode, budget: &Budget) {
    let kind = if mode == Mode::Range { "matrix" } else { "vector" };
    out.extend_from_slice(
        format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":[],\"explain\":{{\"selectors\":["
        )
        .as_bytes(),
    );
    let push = |out: &mut Vec<u8>, estimate: &Estimate| {
        let Estimate { series, chunks, bytes, samples } = estimate;
        let text = format!("\"series\":{series},\"chunks\":{chunks},\"bytes\":{bytes},\"samples\":{samples}");
        out.extend_from_slice(text.as_bytes());
    };
    let mut total = Estimate::default();
    for (i, touched) in found.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",{\"selector\":" } else { b"{\"selector\":" });
        json::push_string(out, &touched.selector);
        for (name, time) in [("start", touched.range.min), ("end", touched.range.max)] {
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            json::push_time(out, time);
        }
        out.push(b',');
        push(out, &touched.estimate);
        out.push(b'}');
        total.add(touched.estimate);
    }
    out.extend_from_slice(b"],\"total\":{");
    push(out, &total);
    let limits = budget.limits();
    let text = format!(
        "}},\"limits\":{{\"query_series_max\":{},\"query_samples_max\":{}}}",
        limits.query_series_max, limits.query_samples_max
    );
    out.extend_from_slice(text.as_bytes());
    if let Err(error) = budget.foresee(total.samples) {
        out.extend_from_slice(b",\"refused\":");
        json::push_string(out, &error.to_string());
    }
    out.extend_from_slice(b"}}}");
}

/// What the form of an answer depends on.
struct Asked<'a> {
    text: &'a str,
    limit: Option<usize>,
    /// The parameter `stats`.
    stats: &'a str,
    /// How long the evaluation took.
    seconds: f64,
}

/// Writes the envelope and the value; stops early when the client has left.
fn write_answer(out: &mut AnswerWriter, answer: Evaluated, asked: &Asked<'_>, budget: &Budget) {
    let (mut warnings, infos) = answer.annotations.texts(asked.text, ANNOTATIONS_MAX);
    warnings.extend(stats_warning(asked.stats));
    let kind = match &answer.value {
        Value::Scalar(_) => "scalar",
        Value::String(_) => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    let buffer = out.buffer();
    buffer.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"resultType\":\"");
    buffer.extend_from_slice(kind.as_bytes());
    buffer.extend_from_slice(b"\",\"result\":");
    let shown = |len: usize| asked.limit.map_or(len, |limit| limit.min(len));
    let truncated = match answer.value {
        Value::Scalar(value) => {
            // Never with an exponent, unlike the values of series.
            buffer.push(b'[');
            json::push_time(buffer, answer.time);
            buffer.extend_from_slice(b",\"");
            json::push_plain_float(buffer, value);
            buffer.extend_from_slice(b"\"]");
            false
        }
        Value::String(text) => {
            buffer.push(b'[');
            json::push_time(buffer, answer.time);
            buffer.push(b',');
            json::push_string(buffer, &text);
            buffer.push(b']');
            false
        }
        Value::Vector(elements) => {
            let count = shown(elements.len());
            let truncated = count < elements.len();
            buffer.push(b'[');
            for (i, element) in elements.into_iter().take(count).enumerate() {
                push_element(out.buffer(), i, &element.labels, answer.time, &element.value);
                if !out.flush_if_large() {
                    return;
                }
            }
            out.buffer().push(b']');
            truncated
        }
        Value::Matrix(series) => {
            let count = shown(series.len());
            let truncated = count < series.len();
            buffer.push(b'[');
            // Series by series: what is written is freed.
            for (i, series) in series.into_iter().take(count).enumerate() {
                let buffer = out.buffer();
                buffer.extend_from_slice(if i > 0 { b",{\"metric\":" } else { b"{\"metric\":" });
                json::push_labels(buffer, &series.labels);
                let points = series.points;
                if !points.times.is_empty() {
                    buffer.extend_from_slice(b",\"values\":[");
                    for (i, (time, value)) in points.times.iter().zip(&points.values).enumerate() {
                        if i > 0 {
                            buffer.push(b',');
                        }
                        json::push_sample(buffer, *time, *value);
                    }
                    buffer.push(b']');
                }
                if !points.histograms.is_empty() {
                    buffer.extend_from_slice(b",\"histograms\":[");
                    for (i, (time, histogram)) in points.histograms.iter().enumerate() {
                        if i > 0 {
                            buffer.push(b',');
                        }
                        json::push_histogram_sample(buffer, *time, histogram);
                    }
                    buffer.push(b']');
                }
                buffer.push(b'}');
                if !out.flush_if_large() {
                    return;
                }
            }
            out.buffer().push(b']');
            truncated
        }
    };
    if truncated {
        warnings.push("results truncated due to limit".to_owned());
    }
    let buffer = out.buffer();
    if !asked.stats.is_empty() {
        push_stats(buffer, asked, budget);
    }
    buffer.push(b'}');
    for (name, texts) in [("warnings", &warnings), ("infos", &infos)] {
        if !texts.is_empty() {
            buffer.extend_from_slice(format!(",\"{name}\":").as_bytes());
            json::push_strings(buffer, texts.iter().map(String::as_str));
        }
    }
    buffer.push(b'}');
}

fn push_element(out: &mut Vec<u8>, index: usize, labels: &Labels, time: Millis, value: &Cell) {
    out.extend_from_slice(if index > 0 { b",{\"metric\":" } else { b"{\"metric\":" });
    json::push_labels(out, labels);
    match value {
        Cell::Float(value) => {
            out.extend_from_slice(b",\"value\":");
            json::push_sample(out, time, *value);
        }
        Cell::Histogram(histogram) => {
            out.extend_from_slice(b",\"histogram\":");
            json::push_histogram_sample(out, time, histogram);
        }
    }
    out.push(b'}');
}

/// What the evaluation cost; by step too when `stats` is `all`.
fn push_stats(out: &mut Vec<u8>, asked: &Asked<'_>, budget: &Budget) {
    let stats = budget.stats();
    out.extend_from_slice(b",\"stats\":{\"timings\":{");
    for (i, name) in ["evalTotalTime", "innerEvalTime", "execTotalTime"].iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::push_string(out, name);
        out.push(b':');
        json::push_float(out, asked.seconds);
    }
    for name in ["resultSortTime", "queryPreparationTime", "execQueueTime"] {
        out.extend_from_slice(format!(",\"{name}\":0").as_bytes());
    }
    out.extend_from_slice(b"},\"samples\":{");
    let counts = budget.step_counts();
    let (touched, read): (Vec<u64>, Vec<u64>) =
        counts.map(|counts| (counts.touched().collect(), counts.read().collect())).unwrap_or_default();
    for (name, steps) in [("totalQueryableSamples", &touched), ("samplesRead", &read)] {
        if let Some(counts) = counts.filter(|_| asked.stats == "all") {
            out.extend_from_slice(format!("\"{name}PerStep\":[").as_bytes());
            for (step, count) in steps.iter().enumerate() {
                out.extend_from_slice(if step > 0 { b",[" } else { b"[" });
                json::push_time(out, counts.start.saturating_add((step as i64).saturating_mul(counts.step)));
                out.push(b',');
                json::push_u64(out, *count);
                out.push(b']');
            }
            out.extend_from_slice(b"],");
        }
        out.extend_from_slice(format!("\"{name}\":{},", steps.iter().sum::<u64>()).as_bytes());
    }
    out.extend_from_slice(b"\"peakSamples\":");
    json::push_u64(out, stats.bytes_peak / 16);
    // What is not Prometheus's: samples as they came from storage, series, memory.
    for (name, value) in
        [("storedSamples", stats.samples), ("seriesSelected", stats.series), ("peakBytes", stats.bytes_peak)]
    {
        out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    }
    out.extend_from_slice(b"}}");
}

/// `/api/v1/format_query`
pub async fn format_query(app: Arc<App>, request: Request<Body>) -> Answer {
    let params = request::params(&app, request).await?;
    let expr = parse(&app, params.text("query"))?;
    Ok(success(|out| json::push_string(out, &promql::pretty(&expr))))
}

/// `/api/v1/parse_query`
pub async fn parse_query(app: Arc<App>, request: Request<Body>) -> Answer {
    let params = request::params(&app, request).await?;
    let expr = parse(&app, params.text("query"))?;
    Ok(success(|out| ast::push(out, &expr)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn large_numbers_have_commas() {
        assert_eq!(super::thousands(11_000), "11,000");
        assert_eq!(super::thousands(999), "999");
        assert_eq!(super::thousands(1_234_567), "1,234,567");
    }
}
