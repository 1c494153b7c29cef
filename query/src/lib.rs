//! Query languages and the one executor of Varve.

pub mod error;
pub mod promql;
pub mod source;

pub use error::Error;
