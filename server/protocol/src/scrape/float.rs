//! Numbers as the exposition formats write and read them.

/// Bits of the NaN that Prometheus stores for a NaN in a text; never the stale marker.
pub(super) const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Reads a number as Go's `ParseFloat` does, without hexadecimal and underscores; the error is Prometheus's.
pub fn parse_float(text: &str) -> Result<f64, String> {
    if text.contains(['p', 'P', '_']) {
        return Err("unsupported character in float".to_owned());
    }
    let failed = |why: &str| format!("strconv.ParseFloat: parsing {text:?}: {why}");
    let value: f64 = text.parse().map_err(|_| failed("invalid syntax"))?;
    // Where Rust takes a sign before a NaN and makes a huge number infinite, Go does not.
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    if value.is_nan() {
        return if text.starts_with(['+', '-']) { Err(failed("invalid syntax")) } else { Ok(f64::from_bits(NAN_BITS)) };
    }
    if value.is_infinite() && digits { Err(failed("value out of range")) } else { Ok(value) }
}

/// Writes a number as OpenMetrics wants it in `le` and `quantile`: shortest form, with a point or an exponent.
pub fn open_metrics_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Shortest digits: `d.ddde-x`.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) && exponent < 6 {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_go_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-1.0, "-1.0"),
            (0.5, "0.5"),
            (100.0, "100.0"),
            (123_456.0, "123456.0"),
            (1e6, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ];
        for (value, text) in cases {
            assert_eq!(open_metrics_float(value), text);
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in ["", "1e999", "+NaN", "0x1p3", "1_0", "abc", "1e", "."] {
            assert!(parse_float(text).is_err(), "{text}");
        }
        for (text, value) in [("1e3", 1e3), ("+Inf", f64::INFINITY), ("-inf", f64::NEG_INFINITY), (".5", 0.5)] {
            assert_eq!(parse_float(text), Ok(value));
        }
        assert_eq!(parse_float("NaN").map(f64::to_bits), Ok(NAN_BITS));
    }
}
