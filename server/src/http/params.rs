//! Parameters of a request: the query string and a form body, merged as Go merges them (the body's values first), and
//! the values that Prometheus's API has: times, steps, durations, limits.
//!
//! Strict where a guess could answer another question: a broken escape or text that is not UTF-8 is refused.

use varve_model::Millis;

use super::error::ApiError;
use crate::config::value::parse_duration_ms;

/// Decoded parameters in order.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, String)>);

/// Earliest and latest time that a request can name, as Prometheus has them for series and labels.
const TIME_MIN: Millis = i64::MIN;
const TIME_MAX: Millis = i64::MAX;
/// How clients that are written in Go name these two.
const EARLIEST: &str = "-292273086-05-16T16:47:06Z";
const LATEST: &str = "292277025-08-18T07:12:54.999999999Z";

impl Params {
    /// Decodes `a=b&c=d`.
    pub fn parse(text: &[u8]) -> Result<Params, ApiError> {
        let mut params = Params::default();
        params.add(text)?;
        Ok(params)
    }

    /// Decodes and appends.
    pub fn add(&mut self, text: &[u8]) -> Result<(), ApiError> {
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
                None => (pair, &b""[..]),
            };
            self.0.push((unescape(name, true)?, unescape(value, true)?));
        }
        Ok(())
    }

    /// The first value of a name; absent and empty are told apart.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name, or the empty string.
    pub fn text(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    /// All values of a name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Every name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A time that must be there.
    pub fn time(&self, name: &str) -> Result<Millis, ApiError> {
        parse_time(self.text(name)).map_err(|what| ApiError::parameter(name, what))
    }

    /// A time, or a default when absent or empty.
    pub fn time_or(&self, name: &str, default: Millis) -> Result<Millis, ApiError> {
        match self.text(name) {
            "" => Ok(default),
            text => parse_time(text)
                .map_err(|what| ApiError::parameter(name, format!("invalid time value for '{name}': {what}"))),
        }
    }

    /// `start` and `end` of series and label calls: everything when absent. An end before the start is no error but a
    /// range in which nothing lies.
    pub fn range(&self) -> Result<varve_model::TimeRange, ApiError> {
        let min = self.time_or("start", TIME_MIN)?;
        let max = self.time_or("end", TIME_MAX)?;
        Ok(if min <= max {
            varve_model::TimeRange { min, max }
        } else {
            varve_model::TimeRange { min: TIME_MAX, max: TIME_MAX }
        })
    }

    /// A duration in milliseconds, `None` when absent or empty.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.text(name) {
            "" => Ok(None),
            text => parse_step(text).map(Some).map_err(|what| ApiError::parameter(name, what)),
        }
    }

    /// `timeout`: positive, or absent.
    pub fn timeout(&self) -> Result<Option<i64>, ApiError> {
        match self.duration("timeout")? {
            Some(ms) if ms <= 0 => Err(ApiError::parameter("timeout", "a timeout must be positive")),
            timeout => Ok(timeout),
        }
    }

    /// `limit`: 0 and absent mean no limit.
    pub fn limit(&self, name: &str) -> Result<Option<usize>, ApiError> {
        match self.text(name) {
            "" => Ok(None),
            text => match parse_number(text).map_err(|what| ApiError::parameter(name, what))? {
                limit if limit < 0 => Err(ApiError::parameter(name, "limit must be non-negative")),
                0 => Ok(None),
                limit => Ok(usize::try_from(limit).ok()),
            },
        }
    }

    /// A switch; absent and empty are `false`. The error is what Go says of it.
    pub fn switch(&self, name: &str) -> Result<bool, String> {
        parse_switch(self.text(name))
    }
}

/// A switch; empty is `false`. The error is what Go says of it.
pub fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        text => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// A whole number. The error is what Go says of it.
pub fn parse_number(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|error| {
        let what = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {text:?}: {what}")
    })
}

/// Undoes percent escapes, and `+` in forms.
pub fn unescape(text: &[u8], plus: bool) -> Result<String, ApiError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'+' if plus => out.push(b' '),
            b'%' => {
                let mut digit = || bytes.next().and_then(|d| char::from(*d).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                    _ => return Err(ApiError::bad_data("invalid URL escape in the parameters")),
                }
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).map_err(|_| ApiError::bad_data("a parameter is not valid UTF-8"))
}

/// A time: seconds since 1970 with decimals, or RFC 3339. The error is the text behind `invalid parameter`.
pub fn parse_time(text: &str) -> Result<Millis, String> {
    let wrong = || format!("cannot parse {text:?} to a valid timestamp");
    if let Ok(seconds) = text.parse::<f64>() {
        // Rust reads the words that Go reads too; none is a time.
        if !seconds.is_finite() || text.bytes().any(|b| b == b'_') {
            return Err(wrong());
        }
        let ms = (seconds * 1000.0).round();
        if ms.abs() > 9_223_372_036_854_775_000.0 {
            return Err(wrong());
        }
        return Ok(ms as i64);
    }
    match text {
        EARLIEST => Ok(TIME_MIN),
        LATEST => Ok(TIME_MAX),
        _ => parse_rfc3339(text).ok_or_else(wrong),
    }
}

/// A step or duration: seconds as a float, or `5m`. The error is the text behind `invalid parameter`.
pub fn parse_step(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = seconds * 1000.0;
        if !ms.is_finite() || ms.abs() > 9_223_372_036_854.0 {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok(ms as i64);
    }
    parse_duration_ms(text).ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

fn parse_rfc3339(text: &str) -> Option<Millis> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    let is = |at: usize, allowed: &[u8]| bytes.get(at).is_some_and(|b| allowed.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > days || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut fraction_ms = 0;
    if is(at, b".,") {
        let digits = bytes.get(at + 1..)?.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let mut scale = 100;
        for byte in bytes.get(at + 1..at + 1 + digits)?.iter().take(3) {
            fraction_ms += i64::from(byte - b'0') * scale;
            scale /= 10;
        }
        at += 1 + digits;
    }
    let offset_minutes = match bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && is(at + 3, b":") => {
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let days = days_since_1970(year, month, day);
    Some((((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second) * 1000 + fraction_ms)
}

/// Days from 1970-01-01 of a date of the Gregorian calendar, by whole eras of 400 years that begin in March.
pub fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn time(text: &str, expected: Option<Millis>) {
        assert_eq!(parse_time(text).ok(), expected, "{text}");
    }

    #[test]
    fn times_are_seconds_or_rfc3339() {
        time("0", Some(0));
        time("1435781451.781", Some(1_435_781_451_781));
        time("-1.5", Some(-1_500));
        time("1e9", Some(1_000_000_000_000));
        time("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781));
        time("2015-07-01T22:10:51.781+02:00", Some(1_435_781_451_781));
        time("1969-12-31T23:59:59Z", Some(-1_000));
        time("2000-02-29T00:00:00Z", Some(951_782_400_000));
        time(EARLIEST, Some(TIME_MIN));
        time(LATEST, Some(TIME_MAX));
        for wrong in [
            "",
            "x",
            "NaN",
            "Inf",
            "1e400",
            "9223372036854775807",
            "2026-13-45T00:00:00Z",
            "2026-01-01T00:00:00",
            "0x10",
            "2023-02-29T00:00:00Z",
            "2026-01-01T00:00:00.Z",
        ] {
            time(wrong, None);
        }
    }

    #[test]
    fn steps_are_seconds_or_durations() {
        assert_eq!(parse_step("15"), Ok(15_000));
        assert_eq!(parse_step("0.5"), Ok(500));
        assert_eq!(parse_step("1h30m"), Ok(5_400_000));
        for wrong in ["", "abc", "NaN", "Inf", "1e300", "5m5m"] {
            assert!(parse_step(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn escapes_are_undone_or_refused() {
        let params = Params::parse(b"query=a%2Bb+c&match[]=x&match%5B%5D=y&empty=&flag").unwrap();
        assert_eq!(params.text("query"), "a+b c");
        assert_eq!(params.all("match[]"), ["x", "y"]);
        assert_eq!(params.find("empty"), Some(""));
        assert_eq!(params.find("flag"), Some(""));
        assert_eq!(params.find("none"), None);
        for wrong in [&b"a=%zz"[..], b"a=%f", b"a=%ff%fe", b"%=1"] {
            assert_eq!(Params::parse(wrong).unwrap_err().status(), 400);
        }
    }

    #[test]
    fn limits_are_numbers() {
        assert_eq!(Params::parse(b"limit=5").unwrap().limit("limit").unwrap(), Some(5));
        assert_eq!(Params::parse(b"limit=0").unwrap().limit("limit").unwrap(), None);
        assert!(Params::parse(b"limit=-1").unwrap().limit("limit").is_err());
        let error = Params::parse(b"limit=abc").unwrap().limit("limit").unwrap_err();
        assert_eq!(error.text(), "invalid parameter \"limit\": strconv.Atoi: parsing \"abc\": invalid syntax");
        let error = Params::parse(b"limit=99999999999999999999").unwrap().limit("limit").unwrap_err();
        assert!(error.text().ends_with("value out of range"), "{error}");
    }
}
