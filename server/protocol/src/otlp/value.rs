//! `AnyValue` of attributes as a label value: texts as they are, numbers in Go's notation, bytes in base64, lists and
//! maps as JSON, as the collector's libraries print them.

use std::borrow::Cow;

use crate::Error;
use crate::protobuf::{Reader, Value};

/// Lists and maps in each other; deeper ones are refused.
const DEPTH_MAX: u32 = 16;

/// `AnyValue { string = 1, bool = 2, int = 3, double = 4, array = 5, kvlist = 6, bytes = 7 }` as text.
pub(super) fn text<'a>(message: Reader<'a>) -> Result<Cow<'a, str>, Error> {
    let Some((number, value)) = last_field(message)? else { return Ok("".into()) };
    Ok(match (number, value) {
        (1, Value::Bytes(bytes)) => utf8(bytes)?.into(),
        (4, Value::Fixed64(bits)) => double(f64::from_bits(bits)).into(),
        (7, Value::Bytes(bytes)) => base64(bytes.rest()).into(),
        _ => {
            let mut out = String::new();
            push_json(message, &mut out, 0)?;
            out.into()
        }
    })
}

/// The text of a string field.
pub(super) fn utf8<'a>(bytes: Reader<'a>) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes.rest()).map_err(|_| bytes.malformed("text is not UTF-8"))
}

/// A value is one of several fields; the last one holds.
fn last_field<'a>(mut message: Reader<'a>) -> Result<Option<(u32, Value<'a>)>, Error> {
    let mut last = None;
    while let Some(field) = message.field()? {
        match (field.number, field.value) {
            (1 | 5 | 6 | 7, Value::Bytes(_)) | (2 | 3, Value::Varint(_)) | (4, Value::Fixed64(_)) => {
                last = Some((field.number, field.value));
            }
            (1..=7, _) => return Err(message.malformed("field of AnyValue with a wrong type")),
            _ => {}
        }
    }
    Ok(last)
}

fn push_json(message: Reader<'_>, out: &mut String, depth: u32) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(message.malformed("attributes nested too deeply"));
    }
    match last_field(message)? {
        None => {
            if depth > 0 {
                out.push_str("null");
            }
        }
        Some((1, Value::Bytes(bytes))) => push_string(utf8(bytes)?, out),
        Some((2, Value::Varint(bool))) => out.push_str(if bool != 0 { "true" } else { "false" }),
        Some((3, Value::Varint(int))) => out.push_str(&(int as i64).to_string()),
        Some((4, Value::Fixed64(bits))) => out.push_str(&double(f64::from_bits(bits))),
        Some((5, Value::Bytes(mut list))) => {
            out.push('[');
            let begin = out.len();
            while let Some(field) = list.field()? {
                if let (1, Value::Bytes(value)) = (field.number, field.value) {
                    if out.len() > begin {
                        out.push(',');
                    }
                    push_json(value, out, depth + 1)?;
                }
            }
            out.push(']');
        }
        Some((6, Value::Bytes(mut list))) => {
            let mut entries = Vec::new();
            while let Some(field) = list.field()? {
                if let (1, Value::Bytes(pair)) = (field.number, field.value) {
                    entries.push(key_value(pair)?);
                }
            }
            // Sorted, and of one key the last value.
            entries.sort_by_key(|(key, _)| *key);
            entries.reverse();
            entries.dedup_by_key(|(key, _)| *key);
            entries.reverse();
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_string(key, out);
                out.push(':');
                match value {
                    Some(value) => push_json(value, out, depth + 1)?,
                    None => out.push_str("null"),
                }
            }
            out.push('}');
        }
        Some((_, Value::Bytes(bytes))) => push_string(&base64(bytes.rest()), out),
        Some(_) => {}
    }
    Ok(())
}

/// `KeyValue { key = 1, value = 2 }`.
pub(super) fn key_value<'a>(mut pair: Reader<'a>) -> Result<(&'a str, Option<Reader<'a>>), Error> {
    let (mut key, mut value) = ("", None);
    while let Some(field) = pair.field()? {
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => key = utf8(text)?,
            (2, Value::Bytes(message)) => value = Some(message),
            (1 | 2, _) => return Err(pair.malformed("field of KeyValue with a wrong type")),
            _ => {}
        }
    }
    Ok((key, value))
}

/// A JSON string as Go writes it: what HTML could mistake is escaped too.
fn push_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// As Go's JSON writes numbers: plain from 1e-6 up to 1e21, else with an exponent of no leading zero.
fn double(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "json: unsupported value: NaN".to_owned()
    } else if value.is_infinite() {
        format!("json: unsupported value: {}Inf", if value > 0.0 { "+" } else { "-" })
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        if text.contains("e-") { text } else { text.replace('e', "e+") }
    } else {
        value.to_string()
    }
}

/// A float as `strconv.FormatFloat(value, 'f', -1, 64)` writes it: bounds and quantiles.
pub(super) fn plain(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        format!("{}Inf", if value > 0.0 { "+" } else { "-" })
    } else {
        value.to_string()
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |value: u32| DIGITS.get(value as usize & 63).map_or('A', |digit| char::from(*digit));
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(three.get(at).copied().unwrap_or(0)));
        let word = a << 16 | b << 8 | c;
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            out.push(if index <= three.len() { digit(word >> shift) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protobuf::push_varint;

    fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![field << 3 | 2];
        push_varint(&mut out, content.len() as u64);
        [&out[..], content].concat()
    }

    #[track_caller]
    fn check(message: &[u8], expected: &str) {
        assert_eq!(text(Reader::new(message)).unwrap(), expected);
    }

    #[test]
    fn each_kind_of_value_is_a_text() {
        check(b"", "");
        check(&bytes(1, "é<".as_bytes()), "é<");
        check(&[0x10, 1], "true");
        check(&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "-1");
        let double = |value: f64| [&[0x21][..], &value.to_le_bytes()].concat();
        check(&double(1.5), "1.5");
        check(&double(1e21), "1e+21");
        check(&double(1e-7), "1e-7");
        check(&double(100.0), "100");
        check(&bytes(7, b"ab"), "YWI=");
        check(&bytes(7, b"abc"), "YWJj");
        check(&bytes(7, b"a"), "YQ==");
        let list = [bytes(1, &bytes(1, b"a<")), bytes(1, &[0x18, 2]), bytes(1, b"")].concat();
        check(&bytes(5, &list), "[\"a\\u003c\",2,null]");
        let pair = |key: &[u8], value: &[u8]| bytes(1, &[bytes(1, key), bytes(2, value)].concat());
        let map = [pair(b"b", &[0x18, 2]), pair(b"a", &bytes(1, b"x")), pair(b"b", &[0x18, 3])].concat();
        check(&bytes(6, &map), "{\"a\":\"x\",\"b\":3}");
    }

    #[test]
    fn deep_values_are_refused() {
        let mut message = Vec::new();
        for _ in 0..100 {
            message = bytes(5, &bytes(1, &message));
        }
        assert!(text(Reader::new(&message)).is_err());
    }
}
