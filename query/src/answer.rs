//! Answers: what a query evaluates to, as plain data. Whoever asked turns it into JSON.

use crate::annotation::Annotations;
use varve_model::histogram::Histogram;
use varve_model::{Column, Labels, Millis};

/// The value of one point.
#[derive(Clone, PartialEq, Debug)]
pub enum Cell {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Box<Histogram>),
}

/// One element of an instant vector.
#[derive(Clone, PartialEq, Debug)]
pub struct VectorElement {
    /// Its labels.
    pub labels: Labels,
    /// Its value; the time is the answer's.
    pub value: Cell,
}

/// One series of a matrix.
#[derive(Clone, Debug)]
pub struct MatrixSeries {
    /// Its labels.
    pub labels: Labels,
    /// Its points, ascending in time.
    pub points: Column,
}

/// The value of a query.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number: instant queries of scalar expressions.
    Scalar(f64),
    /// A text: instant queries of string expressions.
    String(String),
    /// Elements at one time, in the order the expression gives them; sorted only if it sorts.
    Vector(Vec<VectorElement>),
    /// Series with points, sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

/// What the evaluation cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Samples read from storage.
    pub samples: u64,
    /// Series selected.
    pub series: u64,
    /// Most bytes held at once.
    pub bytes_peak: u64,
}

/// The answer to a query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Evaluation time of instant answers.
    pub time: Millis,
    /// The value.
    pub value: Value,
    /// Warnings and infos; [`Annotations::texts`] writes them.
    pub annotations: Annotations,
    /// What it cost.
    pub stats: Stats,
}
