//! What a decoder has to say besides the batch it filled.

use varve_model::RefusalReason;

/// Samples of one series that are not in the batch because they contradict themselves; their neighbours are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Index of the series in the batch.
    pub series: u32,
    /// Number of its samples that were left out for this reason.
    pub samples: u32,
    /// Why.
    pub reason: RefusalReason,
    /// What exactly is wrong with the first of them.
    pub what: &'static str,
}

/// What was decoded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Samples in the batch, of both kinds.
    pub samples: u64,
    /// Samples that were left out, one entry a series and reason.
    pub refused: Vec<Refused>,
    /// Data points that were left out before they became samples of a series.
    pub rejected: u64,
    /// Series of the batch, by index, whose samples are differences to the one before.
    pub deltas: Vec<u32>,
    /// What was left out or changed without being refused, as sentences; few, however much was sent.
    pub warnings: Vec<String>,
}
