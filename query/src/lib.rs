//! Query languages and the one executor of Varve.

pub mod annotation;
pub mod answer;
pub mod budget;
pub mod error;
pub mod exec;
pub mod histogram;
pub mod promql;
pub mod request;
pub mod source;
pub mod step_counts;

pub use annotation::Annotations;
pub use answer::{Answer, Value};
pub use budget::Budget;
pub use error::Error;
pub use exec::{Pool, run};
pub use request::{Mode, RangeRequest};
