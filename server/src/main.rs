//! `varve`: parse arguments, hand over.
fn main() {}
