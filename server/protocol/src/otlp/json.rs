//! JSON of OTLP, rewritten as protobuf: so there is one decoder, and hostile JSON costs no more memory than the protobuf
//! it becomes (which is shorter than the JSON, nearly always).
//!
//! A table says for each message which field of JSON is which field of protobuf. The JSON is read once, from left to
//! right; a message inside a message is written aside and copied behind its length. Unknown fields are skipped, `null`
//! is an absent field, names may also be written in snake case.
//!
//! Differing from the common mapping of protobuf, as OTLP says: trace and span ids are hexadecimal, not base64.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::Error;
use crate::protobuf::push_varint;

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// Varint; also words of an enumeration.
    Number(&'static [(&'static str, u64)]),
    /// Varint in zigzag.
    Signed,
    Bool,
    Fixed64,
    Double,
    Hex,
    Base64,
    Message(&'static Schema),
}

struct Field {
    name: &'static str,
    number: u32,
    kind: Kind,
}

/// A message: its fields by their names in camel case.
struct Schema {
    fields: &'static [Field],
}

macro_rules! schema {
    ($($name:ident { $($field:literal = $number:literal $kind:expr),* $(,)? })*) => {
        $(static $name: Schema = Schema {
            fields: &[ $( Field { name: $field, number: $number, kind: $kind }, )* ],
        };)*
    };
}

use Kind::{Base64, Bool, Double, Fixed64, Hex, Message, Signed, Text};
const NUMBER: Kind = Kind::Number(&[]);
const TEMPORALITY: Kind = Kind::Number(&[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
]);

schema! {
    REQUEST { "resourceMetrics" = 1 Message(&RESOURCE_METRICS) }
    RESOURCE_METRICS { "resource" = 1 Message(&RESOURCE), "scopeMetrics" = 2 Message(&SCOPE_METRICS), "schemaUrl" = 3 Text }
    RESOURCE { "attributes" = 1 Message(&KEY_VALUE) }
    SCOPE_METRICS { "scope" = 1 Message(&SCOPE), "metrics" = 2 Message(&METRIC), "schemaUrl" = 3 Text }
    SCOPE { "name" = 1 Text, "version" = 2 Text, "attributes" = 3 Message(&KEY_VALUE) }
    METRIC {
        "name" = 1 Text, "description" = 2 Text, "unit" = 3 Text, "gauge" = 5 Message(&POINTS), "sum" = 7 Message(&SUM),
        "histogram" = 9 Message(&HISTOGRAM), "exponentialHistogram" = 10 Message(&EXPONENTIAL),
        "summary" = 11 Message(&SUMMARY),
    }
    POINTS { "dataPoints" = 1 Message(&POINT) }
    SUM { "dataPoints" = 1 Message(&POINT), "aggregationTemporality" = 2 TEMPORALITY, "isMonotonic" = 3 Bool }
    HISTOGRAM { "dataPoints" = 1 Message(&HISTOGRAM_POINT), "aggregationTemporality" = 2 TEMPORALITY }
    EXPONENTIAL { "dataPoints" = 1 Message(&EXPONENTIAL_POINT), "aggregationTemporality" = 2 TEMPORALITY }
    SUMMARY { "dataPoints" = 1 Message(&SUMMARY_POINT) }
    POINT {
        "startTimeUnixNano" = 2 Fixed64, "timeUnixNano" = 3 Fixed64, "asDouble" = 4 Double, "exemplars" = 5 Message(&EXEMPLAR),
        "asInt" = 6 Fixed64, "attributes" = 7 Message(&KEY_VALUE), "flags" = 8 NUMBER,
    }
    HISTOGRAM_POINT {
        "startTimeUnixNano" = 2 Fixed64, "timeUnixNano" = 3 Fixed64, "count" = 4 Fixed64, "sum" = 5 Double,
        "bucketCounts" = 6 Fixed64, "explicitBounds" = 7 Double, "exemplars" = 8 Message(&EXEMPLAR),
        "attributes" = 9 Message(&KEY_VALUE), "flags" = 10 NUMBER, "min" = 11 Double, "max" = 12 Double,
    }
    EXPONENTIAL_POINT {
        "attributes" = 1 Message(&KEY_VALUE), "startTimeUnixNano" = 2 Fixed64, "timeUnixNano" = 3 Fixed64,
        "count" = 4 Fixed64, "sum" = 5 Double, "scale" = 6 Signed, "zeroCount" = 7 Fixed64,
        "positive" = 8 Message(&BUCKETS), "negative" = 9 Message(&BUCKETS), "flags" = 10 NUMBER,
        "exemplars" = 11 Message(&EXEMPLAR), "min" = 12 Double, "max" = 13 Double, "zeroThreshold" = 14 Double,
    }
    BUCKETS { "offset" = 1 Signed, "bucketCounts" = 2 NUMBER }
    SUMMARY_POINT {
        "startTimeUnixNano" = 2 Fixed64, "timeUnixNano" = 3 Fixed64, "count" = 4 Fixed64, "sum" = 5 Double,
        "quantileValues" = 6 Message(&QUANTILE), "attributes" = 7 Message(&KEY_VALUE), "flags" = 8 NUMBER,
    }
    QUANTILE { "quantile" = 1 Double, "value" = 2 Double }
    EXEMPLAR {
        "timeUnixNano" = 2 Fixed64, "asDouble" = 3 Double, "spanId" = 4 Hex, "traceId" = 5 Hex, "asInt" = 6 Fixed64,
        "filteredAttributes" = 7 Message(&KEY_VALUE),
    }
    KEY_VALUE { "key" = 1 Text, "value" = 2 Message(&ANY_VALUE) }
    ANY_VALUE {
        "stringValue" = 1 Text, "boolValue" = 2 Bool, "intValue" = 3 NUMBER, "doubleValue" = 4 Double,
        "arrayValue" = 5 Message(&ARRAY), "kvlistValue" = 6 Message(&LIST), "bytesValue" = 7 Base64,
    }
    ARRAY { "values" = 1 Message(&ANY_VALUE) }
    LIST { "values" = 1 Message(&KEY_VALUE) }
}

impl Schema {
    fn find(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name || is_snake(field.name, name))
    }
}

/// Whether `snake` is `camel` in snake case.
fn is_snake(camel: &str, snake: &str) -> bool {
    let mut rest = snake.bytes();
    camel.bytes().all(|byte| match byte {
        b'A'..=b'Z' => rest.next() == Some(b'_') && rest.next() == Some(byte.to_ascii_lowercase()),
        _ => rest.next() == Some(byte),
    }) && rest.next().is_none()
}

/// Appends the protobuf form of a request that is in JSON. What is beyond `bytes_max` ends it.
pub(super) fn to_protobuf(json: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let result = MessageSeed { schema: &REQUEST, out, bytes_max }.deserialize(&mut deserializer);
    result.and_then(|()| deserializer.end()).map_err(|error| {
        let mut what = error.to_string();
        // The place is in fields of its own.
        if let Some(at) = what.rfind(" at line ") {
            what.truncate(at);
        }
        Error::Text { line: error.line().max(1) as u64, what }
    })
}

/// Writes the fields of one JSON object.
struct MessageSeed<'a> {
    schema: &'static Schema,
    out: &'a mut Vec<u8>,
    bytes_max: usize,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(KeySeed(self.schema))? {
            match field {
                Some(field) => map.next_value_seed(FieldSeed { field, out: self.out, bytes_max: self.bytes_max })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            if self.out.len() > self.bytes_max {
                return Err(A::Error::custom(format_args!(
                    "more than {} bytes as protobuf; raise `decompressed_bytes_max` to allow more",
                    self.bytes_max
                )));
            }
        }
        Ok(())
    }
}

struct KeySeed(&'static Schema);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.find(name))
    }
}

/// Writes the value of one field: one, a list of them, or nothing for `null`.
struct FieldSeed<'a> {
    field: &'static Field,
    out: &'a mut Vec<u8>,
    bytes_max: usize,
}

impl FieldSeed<'_> {
    fn tag(&mut self, wire_type: u64) {
        push_varint(self.out, u64::from(self.field.number) << 3 | wire_type);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.tag(2);
        push_varint(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn fixed(&mut self, bits: u64) {
        self.tag(1);
        self.out.extend_from_slice(&bits.to_le_bytes());
    }

    fn varint(&mut self, value: u64) {
        self.tag(0);
        push_varint(self.out, value);
    }

    /// A whole number, its sign within 64 bits.
    fn whole<E: serde::de::Error>(&mut self, value: i128) -> Result<(), E> {
        let out_of_range = || E::custom(format_args!("{value} is out of range for {}", self.field.name));
        let bits = match u64::try_from(value) {
            Ok(bits) => bits,
            Err(_) => i64::try_from(value).map_err(|_| out_of_range())? as u64,
        };
        match self.field.kind {
            Kind::Number(_) => self.varint(bits),
            Kind::Signed => {
                let value = i32::try_from(value).map_err(|_| out_of_range())?;
                self.varint(u64::from(((value << 1) ^ (value >> 31)) as u32));
            }
            Kind::Fixed64 => self.fixed(bits),
            Kind::Double => self.fixed((value as f64).to_bits()),
            _ => return Err(self.wrong("a number")),
        }
        Ok(())
    }

    #[cold]
    fn wrong<E: serde::de::Error>(&self, found: &str) -> E {
        E::custom(format_args!("{} cannot be {found}", self.field.name))
    }
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value of {}", self.field.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => {
                self.varint(value.into());
                Ok(())
            }
            _ => Err(self.wrong("true or false")),
        }
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<(), E> {
        self.whole(value.into())
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<(), E> {
        self.whole(value.into())
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> Result<(), E> {
        if matches!(self.field.kind, Kind::Double) {
            self.fixed(value.to_bits());
            return Ok(());
        }
        // 1e3 is a whole number, too.
        if value.fract() == 0.0 && value.abs() < 9.0e15 {
            return self.whole(value as i128);
        }
        Err(self.wrong("a fraction"))
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<(), E> {
        match self.field.kind {
            Kind::Text => self.bytes(text.as_bytes()),
            Kind::Hex => {
                let bytes = hex(text).ok_or_else(|| self.wrong::<E>("a text that is not hexadecimal"))?;
                self.bytes(&bytes);
            }
            Kind::Base64 => {
                let bytes = base64(text).ok_or_else(|| self.wrong::<E>("a text that is not base64"))?;
                self.bytes(&bytes);
            }
            Kind::Double => {
                let value = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    _ => text.parse().map_err(|_| self.wrong::<E>("this text"))?,
                };
                self.fixed(value.to_bits());
            }
            Kind::Number(words) => match words.iter().find(|(word, _)| *word == text) {
                Some((_, number)) => self.varint(*number),
                None => return self.whole(text.parse().map_err(|_| self.wrong::<E>("this text"))?),
            },
            Kind::Signed | Kind::Fixed64 => {
                return self.whole(text.parse().map_err(|_| self.wrong::<E>("this text"))?);
            }
            Kind::Bool | Kind::Message(_) => return Err(self.wrong("a text")),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list
            .next_element_seed(FieldSeed { field: self.field, out: self.out, bytes_max: self.bytes_max })?
            .is_some()
        {
            if self.out.len() > self.bytes_max {
                return Err(self.wrong("so long"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let Kind::Message(schema) = self.field.kind else { return Err(self.wrong("an object")) };
        let mut inner = Vec::new();
        MessageSeed { schema, out: &mut inner, bytes_max: self.bytes_max }.visit_map(map)?;
        self.bytes(&inner);
        Ok(())
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().map(|byte| char::from(byte).to_digit(16)).collect::<Option<Vec<u32>>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect())
}

/// With or without padding, in the usual or the URL's alphabet.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &[u8]) {
        let mut out = Vec::new();
        to_protobuf(json.as_bytes(), 1 << 20, &mut out).unwrap();
        assert_eq!(out, expected, "{json}");
    }

    #[track_caller]
    fn refused(json: &str, what: &str) {
        let error = to_protobuf(json.as_bytes(), 100, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }

    #[test]
    fn objects_become_messages() {
        check("{}", b"");
        check(r#"{"resourceMetrics":null,"other":[{"a":1}]}"#, b"");
        check(r#"{"resource_metrics":[{},{"schemaUrl":"x"}]}"#, &[0x0a, 0, 0x0a, 3, 0x1a, 1, b'x']);
        let metric = |inner: &str| format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{inner}]}}]}}]}}"#);
        let wrap = |inner: &[u8]| {
            let mut out = inner.to_vec();
            for field in [0x12u8, 0x12, 0x0a] {
                out = [&[field, out.len() as u8], &out[..]].concat();
            }
            out
        };
        check(
            &metric(r#"{"sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","isMonotonic":true}}"#),
            &wrap(&[0x3a, 4, 0x10, 1, 0x18, 1]),
        );
        check(
            &metric(r#"{"gauge":{"dataPoints":[{"asInt":"-1"}]}}"#),
            &wrap(&[0x2a, 11, 0x0a, 9, 0x31, 255, 255, 255, 255, 255, 255, 255, 255]),
        );
        check(
            &metric(r#"{"exponentialHistogram":{"dataPoints":[{"scale":-1,"exemplars":[{"traceId":"0aFF"}]}]}}"#),
            &wrap(&[0x52, 10, 0x0a, 8, 0x30, 1, 0x5a, 4, 0x2a, 2, 0x0a, 0xff]),
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        refused("[]", "expected an object");
        refused("{", "EOF");
        refused("{} x", "trailing");
        refused(r#"{"resourceMetrics":1}"#, "resourceMetrics cannot be a number");
        refused(r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":7}]}}]}"#, "key cannot be a number");
        refused(
            r#"{"resourceMetrics":[{"resource":{"attributes":[{"value":{"intValue":1e300}}]}}]}"#,
            "intValue cannot be a fraction",
        );
        refused(&format!(r#"{{"resourceMetrics":[{{"schemaUrl":"{}"}}]}}"#, "x".repeat(200)), "decompressed_bytes_max");
        let deep = format!("{}1", r#"{"resourceMetrics":[{"resource":{"attributes":[{"value":"#);
        refused(&format!("{deep}{}", r#"{"arrayValue":{"values":["#.repeat(1000)), "");
    }

    #[test]
    fn both_alphabets_of_base64_are_read() {
        assert_eq!(base64("YWI="), Some(b"ab".to_vec()));
        assert_eq!(base64("_-8"), Some(vec![0xff, 0xef]));
        assert_eq!(base64("a b"), None);
    }
}
