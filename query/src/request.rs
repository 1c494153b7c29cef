//! What a caller asks of the executor besides the expression.

use varve_model::{Millis, TenantId};

/// Lookback of instant selectors when nobody says otherwise: 5 minutes.
pub const LOOKBACK_MS: i64 = 300_000;
/// Step of subqueries that do not name one, when nobody says otherwise: 1 minute.
pub const SUBQUERY_STEP_MS: i64 = 60_000;

/// How a query is to be evaluated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Once, at `start`.
    Instant,
    /// At `start`, `start + step`, … up to `end`.
    Range,
}

/// What Prometheus has behind a flag because it changes the answers of stable queries. All off by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// `promql-delayed-name-removal`: metric names are dropped at the end of the evaluation.
    pub delayed_name_removal: bool,
    /// `use-start-timestamps`: counters are known to be reset where a sample's start timestamp says so, and
    /// `start_timestamp` has something to tell.
    pub start_timestamps: bool,
    /// `type-and-unit-labels`: whether something is a counter is told by its label `__type__`, not by its name.
    pub type_and_unit_labels: bool,
}

/// Whose data, at which times.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    /// Whose data.
    pub tenant: TenantId,
    /// Instant or range.
    pub mode: Mode,
    /// First evaluation time.
    pub start: Millis,
    /// Last evaluation time, inclusive; equals `start` for instant queries.
    pub end: Millis,
    /// Milliseconds between evaluations; positive for range queries, 0 for instant ones.
    pub step: i64,
    /// How far back an instant selector looks, in milliseconds; positive.
    pub lookback_ms: i64,
    /// Step of subqueries that do not name one, in milliseconds; positive.
    pub subquery_step_ms: i64,
    /// What is on.
    pub features: Features,
}

impl RangeRequest {
    /// An instant query with the usual lookback.
    pub fn instant(tenant: TenantId, time: Millis) -> RangeRequest {
        RangeRequest {
            tenant,
            mode: Mode::Instant,
            start: time,
            end: time,
            step: 0,
            lookback_ms: LOOKBACK_MS,
            subquery_step_ms: SUBQUERY_STEP_MS,
            features: Features::default(),
        }
    }

    /// A range query with the usual lookback.
    pub fn range(tenant: TenantId, start: Millis, end: Millis, step: i64) -> RangeRequest {
        RangeRequest { mode: Mode::Range, end, step, ..RangeRequest::instant(tenant, start) }
    }
}
