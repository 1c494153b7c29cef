//! Native histograms as Prometheus models them (`prompb.Histogram`, the native histogram specification): exponential
//! buckets by schema, or custom bounds. Counts are kept as floats when `float` is set, as integers otherwise.

/// Counter reset hint of a histogram sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum ResetHint {
    /// The reader must find out.
    #[default]
    Unknown = 0,
    /// A reset happened before this sample.
    Reset = 1,
    /// No reset happened.
    NoReset = 2,
    /// A gauge: resets mean nothing.
    Gauge = 3,
}

/// A run of consecutive buckets: `offset` empty buckets after the previous span, then `length` buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// Gap to the previous span; for the first span the index of its first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// One native histogram. Bucket counts are absolute (not deltas), one per bucket that the spans name.
/// Integer histograms hold integral counts below 2^53 exactly; `is_float` says which kind it was.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Histogram {
    /// Resolution: -4 to 8 for exponential buckets, -53 for custom bounds.
    pub schema: i32,
    /// Whether the counts are floats.
    pub is_float: bool,
    /// Counter reset hint.
    pub reset_hint: ResetHint,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations; the stale marker here makes the sample stale.
    pub sum: f64,
    /// Spans of the positive buckets.
    pub positive_spans: Vec<Span>,
    /// Counts of the positive buckets.
    pub positive: Vec<f64>,
    /// Spans of the negative buckets.
    pub negative_spans: Vec<Span>,
    /// Counts of the negative buckets.
    pub negative: Vec<f64>,
    /// Upper bounds of custom buckets (schema -53 only), ascending.
    pub custom_bounds: Vec<f64>,
}

// Every part takes as many bytes.
const _: () = assert!(size_of::<Span>() == size_of::<f64>());

impl Histogram {
    /// Its buckets, spans and bounds: what its size grows with.
    pub fn parts(&self) -> usize {
        let spans = self.positive_spans.len() + self.negative_spans.len();
        spans + self.positive.len() + self.negative.len() + self.custom_bounds.len()
    }

    /// Bytes it takes in memory, itself included.
    pub fn bytes(&self) -> usize {
        size_of::<Histogram>() + size_of::<f64>() * self.parts()
    }
}
