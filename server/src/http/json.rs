//! JSON as Prometheus writes it: values as strings in Go's notation, times as seconds with up to three decimals.
//!
//! Writes into one growing buffer; the caller decides when to send it. Numbers are the hot path: whole numbers are
//! written digit by digit, others by the shortest digits that read back (as Go does), laid out without a second copy.

use varve_model::{Histogram, Labels, Millis};
use varve_query::histogram::{Bucket, buckets};

/// Appends a JSON string with its quotes.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 | 0x7f => b"",
            _ => continue,
        };
        out.extend_from_slice(bytes.get(plain..at).unwrap_or_default());
        if escape.is_empty() {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend_from_slice(escape);
        }
        plain = at + 1;
    }
    out.extend_from_slice(bytes.get(plain..).unwrap_or_default());
    out.push(b'"');
}

/// Appends an array of strings.
pub fn push_strings<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a str>) {
    out.push(b'[');
    for (i, text) in texts.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(out, text);
    }
    out.push(b']');
}

/// Appends a whole number.
pub fn push_u64(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (number % 10) as u8;
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends a time in seconds.
pub fn push_time(out: &mut Vec<u8>, time: Millis) {
    if time < 0 {
        out.push(b'-');
    }
    let magnitude = time.unsigned_abs();
    push_u64(out, magnitude / 1000);
    let fraction = magnitude % 1000;
    if fraction != 0 {
        out.push(b'.');
        for divisor in [100, 10, 1] {
            out.push(b'0' + (fraction / divisor % 10) as u8);
        }
    }
}

/// Appends a float as Go's `FormatFloat(v, 'f', -1, 64)`, or with exponent where Prometheus's JSON has one: below 1e-6
/// and from 1e21. Not quoted.
pub fn push_float(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    let exponent = magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude);
    push_number(out, value, if exponent { Notation::Exponent } else { Notation::Decimal });
}

/// Appends a float as Go's `FormatFloat(v, 'f', -1, 64)`: never an exponent.
pub fn push_plain_float(out: &mut Vec<u8>, value: f64) {
    push_number(out, value, Notation::Decimal);
}

/// Appends a float as Go's `FormatFloat(v, 'g', -1, 64)`, as the text format has it: an exponent below 1e-4 and from
/// 1e6, where digits behind the point do not matter. Zero has no sign.
pub fn push_short_float(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        out.push(b'0');
        return;
    }
    // The exponent of the shortest digits decides; these bounds are exact numbers, which have one digit.
    let exponent = !(1e-4..1e6).contains(&magnitude);
    push_number(out, value, if exponent { Notation::Exponent } else { Notation::Decimal });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Notation {
    Decimal,
    Exponent,
}

fn push_number(out: &mut Vec<u8>, value: f64, notation: Notation) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
        return;
    }
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
        return;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let magnitude = value.abs();
    // Exact below 2^53: the common counters.
    if notation == Notation::Decimal && magnitude < 9_007_199_254_740_992.0 && magnitude.fract() == 0.0 {
        push_u64(out, magnitude as u64);
        return;
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(magnitude);
    let (mantissa, scale) = match text.split_once('e') {
        Some((mantissa, scale)) => (mantissa, scale.parse::<i32>().unwrap_or_default()),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = [0u8; 32];
    let mut count = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if let Some(digit) = digits.get_mut(count) {
            *digit = byte;
            count += 1;
        }
    }
    // value = 0.DIGITS * 10^point
    let mut point = whole.len() as i32 + scale;
    let mut digits = digits.get(..count).unwrap_or_default();
    while let [b'0', rest @ ..] = digits {
        digits = rest;
        point -= 1;
    }
    while let [rest @ .., b'0'] = digits {
        digits = rest;
    }
    match notation {
        Notation::Exponent => push_exponent(out, digits, point),
        Notation::Decimal => push_decimal(out, digits, point),
    }
}

fn push_decimal(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    if point <= 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + point.unsigned_abs() as usize, b'0');
        out.extend_from_slice(digits);
        return;
    }
    let point = point as usize;
    match digits.split_at_checked(point) {
        Some((whole, [])) => out.extend_from_slice(whole),
        Some((whole, fraction)) => {
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        None => {
            out.extend_from_slice(digits);
            out.resize(out.len() + point - digits.len(), b'0');
        }
    }
}

fn push_exponent(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    if let [first, rest @ ..] = digits {
        out.push(*first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
    }
    let power = point - 1;
    out.extend_from_slice(if power < 0 { b"e-" } else { b"e+" });
    if power.unsigned_abs() < 10 {
        out.push(b'0');
    }
    push_u64(out, u64::from(power.unsigned_abs()));
}

/// Appends `[time,"value"]`.
pub fn push_sample(out: &mut Vec<u8>, time: Millis, value: f64) {
    out.push(b'[');
    push_time(out, time);
    out.extend_from_slice(b",\"");
    push_float(out, value);
    out.extend_from_slice(b"\"]");
}

/// Appends `[time,{histogram}]`.
pub fn push_histogram_sample(out: &mut Vec<u8>, time: Millis, histogram: &Histogram) {
    out.push(b'[');
    push_time(out, time);
    out.push(b',');
    push_histogram(out, histogram);
    out.push(b']');
}

/// Appends a label set as an object.
pub fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.push(b'}');
}

/// Which ends of a bucket belong to it, in the numbers of the API.
fn ends(bucket: &Bucket) -> u64 {
    match (bucket.lower_inclusive, bucket.upper_inclusive) {
        (false, true) => 0,
        (true, false) => 1,
        (false, false) => 2,
        (true, true) => 3,
    }
}

fn push_histogram(out: &mut Vec<u8>, histogram: &Histogram) {
    out.extend_from_slice(b"{\"count\":\"");
    push_float(out, histogram.count);
    out.extend_from_slice(b"\",\"sum\":\"");
    push_float(out, histogram.sum);
    out.push(b'"');
    let mut any = false;
    for bucket in buckets(histogram).iter().filter(|bucket| bucket.count != 0.0) {
        out.extend_from_slice(if any { b"," } else { b",\"buckets\":[" });
        any = true;
        out.push(b'[');
        push_u64(out, ends(bucket));
        for value in [bucket.lower, bucket.upper, bucket.count] {
            out.extend_from_slice(b",\"");
            push_float(out, value);
            out.push(b'"');
        }
        out.push(b']');
    }
    if any {
        out.push(b']');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(value: f64) -> String {
        let mut out = Vec::new();
        push_float(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(value: f64, expected: &str) {
        assert_eq!(float(value), expected);
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(-1.5, "-1.5");
        check(0.1, "0.1");
        check(1e20, "100000000000000000000");
        check(1e21, "1e+21");
        check(1.5e21, "1.5e+21");
        check(1e-6, "0.000001");
        check(9.5e-7, "9.5e-07");
        check(1e-300, "1e-300");
        check(5e-324, "5e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        check(9_007_199_254_740_993.0, "9007199254740992");
        check(123_456_789_012_345_680.0, "123456789012345680");
        check(0.000_012_34, "0.00001234");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
        let mut out = Vec::new();
        push_plain_float(&mut out, 1e23);
        assert_eq!(out, b"100000000000000000000000");
    }

    #[test]
    fn the_text_format_prefers_exponents() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (100_000.0, "100000"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (-123_456_789.0, "-1.23456789e+08"),
            (0.0001, "0.0001"),
            (0.000_099_9, "9.99e-05"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = Vec::new();
            push_short_float(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn every_float_reads_back_to_its_bits() {
        let mut bits = 0x1234_5678_9abc_def0u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(bits);
            if value.is_finite() {
                assert_eq!(float(value).parse::<f64>().unwrap().to_bits(), bits);
            }
        }
    }

    #[test]
    fn times_have_up_to_three_decimals() {
        for (time, expected) in [
            (0, "0"),
            (1000, "1"),
            (1001, "1.001"),
            (-1, "-0.001"),
            (1_435_781_430_780, "1435781430.780"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            let mut out = Vec::new();
            push_time(&mut out, time);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        push_string(&mut out, "a\"\\\n\u{1}é");
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"\\\\\\n\\u0001é\"");
    }

    #[test]
    fn a_histogram_has_its_buckets_in_order() {
        use varve_model::histogram::Span;
        let histogram = Histogram {
            schema: 0,
            count: 6.0,
            sum: 3.0,
            zero_count: 1.0,
            zero_threshold: 0.5,
            positive_spans: vec![Span { offset: 1, length: 1 }, Span { offset: 1, length: 1 }],
            positive: vec![2.0, 1.0],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative: vec![0.0, 2.0],
            ..Histogram::default()
        };
        let mut out = Vec::new();
        push_histogram(&mut out, &histogram);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"count":"6","sum":"3","buckets":[[1,"-2","-1","2"],[3,"-0.5","0.5","1"],[0,"1","2","2"],[0,"4","8","1"]]}"#
        );
    }
}
