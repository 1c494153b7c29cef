//! Literals of PromQL: numbers, durations and strings, from their text and back to it.
//!
//! Numbers and strings follow Go's syntax, as Prometheus does: `0x1F`, `1_000`, a leading zero is octal when the digits
//! allow it, floats print in the shortest form that reads back the same. Durations are milliseconds, units in order
//! (`1d12h`), each at most once; a year is 365 days.

use std::fmt::Write;

/// The value of a number token; the error says what Go would say.
pub(super) fn parse_number(token: &str) -> Result<f64, String> {
    let range = || Err(format!("error parsing number: strconv.ParseFloat: parsing {token:?}: value out of range"));
    let syntax = || Err(format!("error parsing number: strconv.ParseFloat: parsing {token:?}: invalid syntax"));
    if token.eq_ignore_ascii_case("inf") {
        return Ok(f64::INFINITY);
    }
    if token.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    if !underscores_separate_digits(token) {
        return syntax();
    }
    let plain: std::borrow::Cow<'_, str> =
        if token.contains('_') { token.replace('_', "").into() } else { token.into() };
    if let Some(hex) = plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        // Too large for an integer, it would need an exponent to be a float.
        return i64::from_str_radix(hex, 16).map(|n| n as f64).or_else(|_| syntax());
    }
    if plain.len() > 1
        && plain.starts_with('0')
        && plain.bytes().all(|b| matches!(b, b'0'..=b'7'))
        && let Ok(n) = i64::from_str_radix(&plain, 8)
    {
        return Ok(n as f64);
    }
    match plain.parse::<f64>() {
        Ok(value) if value.is_infinite() => range(),
        Ok(value) => Ok(value),
        Err(_) => syntax(),
    }
}

/// Whether each underscore stands between digits, or between the prefix of a hexadecimal number and a digit.
fn underscores_separate_digits(token: &str) -> bool {
    let hex = token.starts_with("0x") || token.starts_with("0X");
    let is_digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    let bytes = token.as_bytes();
    bytes.iter().enumerate().filter(|(_, b)| **b == b'_').all(|(i, _)| {
        let before = i.checked_sub(1).and_then(|i| bytes.get(i)).copied();
        let after = bytes.get(i + 1).copied();
        (before.is_some_and(is_digit) || (hex && i == 2)) && after.is_some_and(is_digit)
    })
}

/// Units with their milliseconds, in the order in which they must be written.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Most milliseconds a duration may have: Go's nanoseconds in 63 bits.
const DURATION_MS_MAX: i64 = i64::MAX / 1_000_000;

/// The milliseconds of a duration token.
pub(super) fn parse_duration(token: &str) -> Result<i64, String> {
    let invalid = || format!("not a valid duration string: {}", quoted(token));
    let mut rest = token;
    let mut total = 0i64;
    let mut units_left = &UNITS[..];
    while !rest.is_empty() {
        let (count, tail) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        if count.is_empty() || unit.is_empty() {
            return Err(invalid());
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(format!("unknown unit {} in duration {}", quoted(unit), quoted(token)));
        }
        let place = units_left.iter().position(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let ms = units_left[place].1;
        units_left = &units_left[place + 1..];
        total = count
            .parse::<i64>()
            .ok()
            .and_then(|count| count.checked_mul(ms))
            .and_then(|ms| total.checked_add(ms))
            .filter(|total| *total <= DURATION_MS_MAX)
            .ok_or_else(|| "duration out of range".to_owned())?;
        rest = tail;
    }
    Ok(total)
}

/// Writes milliseconds as Prometheus does: `90m` is `1h30m`; weeks, days and years only where they fit exactly.
pub(super) fn push_duration(out: &mut String, ms: i64) {
    if ms == 0 {
        out.push_str("0s");
        return;
    }
    if ms < 0 {
        out.push('-');
    }
    let mut rest = ms.unsigned_abs();
    for (unit, unit_ms) in UNITS {
        let unit_ms = unit_ms.unsigned_abs();
        let exact_only = matches!(unit, "y" | "w" | "d");
        if rest < unit_ms || (exact_only && !rest.is_multiple_of(unit_ms)) {
            continue;
        }
        let _ = write!(out, "{}{unit}", rest / unit_ms);
        rest %= unit_ms;
    }
}

/// Writes a number in decimal notation without exponent, in the shortest form that reads back the same.
pub(super) fn push_number(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let _ = write!(out, "{value}");
    }
}

/// Writes a number as Go's `%v`: with an exponent when it is below 1e-4 or from 1e21.
pub(super) fn push_number_short(out: &mut String, value: f64) {
    let magnitude = value.abs();
    if value.is_finite() && magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        if let Some((mantissa, exponent)) = text.split_once('e') {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
            return;
        }
    }
    push_number(out, value);
}

/// Writes a string between double quotes with Go's escapes.
pub(super) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            c if c.is_ascii() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if is_printable(c) => out.push(c),
            c if u32::from(c) < 0x10000 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
}

/// Whether a character beyond ASCII shows on paper.
fn is_printable(c: char) -> bool {
    // Behind a letter, so that combining marks, which print, are not escaped for standing alone.
    let mut text = [0; 8];
    text[0] = b'a';
    let len = 1 + c.encode_utf8(&mut text[1..]).len();
    std::str::from_utf8(&text[..len]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

/// A string as error texts show it.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// The value of a string token, quotes included in `token`. Byte escapes that do not add up to UTF-8 become
/// replacement characters: no stored label can equal them anyway.
pub(super) fn unquote(token: &str) -> String {
    let Some(inner) = token.get(1..token.len().saturating_sub(1)) else { return String::new() };
    if token.starts_with('`') || !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            push_char(&mut out, c);
            continue;
        }
        let digits = |chars: &mut std::str::Chars<'_>, value: u32, count: usize, base: u32| {
            chars
                .take(count)
                .fold(value, |value, c| value.wrapping_mul(base).wrapping_add(c.to_digit(base).unwrap_or(0)))
        };
        match chars.next() {
            Some('a') => out.push(0x07),
            Some('b') => out.push(0x08),
            Some('f') => out.push(0x0c),
            Some('n') => out.push(b'\n'),
            Some('r') => out.push(b'\r'),
            Some('t') => out.push(b'\t'),
            Some('v') => out.push(0x0b),
            Some('x') => out.push(digits(&mut chars, 0, 2, 16) as u8),
            Some('u') => push_code_point(&mut out, digits(&mut chars, 0, 4, 16)),
            Some('U') => push_code_point(&mut out, digits(&mut chars, 0, 8, 16)),
            Some(c @ '0'..='7') => out.push(digits(&mut chars, c.to_digit(8).unwrap_or(0), 2, 8) as u8),
            Some(c) => push_char(&mut out, c),
            None => {}
        }
    }
    match String::from_utf8(out) {
        Ok(text) => text,
        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
    }
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn push_code_point(out: &mut Vec<u8>, code_point: u32) {
    push_char(out, char::from_u32(code_point).unwrap_or(char::REPLACEMENT_CHARACTER));
}
