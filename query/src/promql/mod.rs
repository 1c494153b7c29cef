//! PromQL: text to syntax tree and back.
//!
//! [`parse()`] reads the whole language of Prometheus 3.14, its experimental parts included, and checks it: a tree that it
//! returns is well-typed. [`print()`] writes the canonical text of a tree, [`pretty()`] the same broken into lines. Any text
//! at all may be given: time is linear in it (regular expressions have their own bound), depth is bounded.

pub mod ast;
mod check;
pub mod functions;
mod lex;
mod literal;
mod parse;
mod pretty;
mod print;
#[cfg(test)]
mod tests;

pub use check::value_type;
pub(crate) use literal::quoted;
pub(crate) use parse::position;
pub use parse::{ParseOptions, parse, parse_selector};
pub use pretty::pretty;
pub use print::{print, print_matcher, print_number};
