//! Targets of the query languages.

use varve_query::promql::{ParseOptions, parse, parse_selector, pretty, print};

/// A PromQL expression: what is printed is parsed again to the same print. Also tried as a selector.
pub fn promql(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let options = ParseOptions { regex_bytes_max: 1 << 18, ..ParseOptions::default() };
    let _ = parse_selector(text, &options);
    let Ok(expr) = parse(text, &options) else { return };
    let printed = print(&expr);
    for text in [&printed, &pretty(&expr)] {
        match parse(text, &options) {
            Ok(again) => assert_eq!(print(&again), printed),
            Err(error) => panic!("{text:?} is printed, but {error}"),
        }
    }
}
