//! Functions over instant vectors and scalars, one family a file.

pub(crate) mod date;
pub(crate) mod histogram;
pub(crate) mod label;
pub(crate) mod math;
pub(crate) mod sort;
