//! Values of settings as text: numbers with units in, canonical text out.
//!
//! Bytes take `KiB`, `MiB`, `GiB`, `TiB`; milliseconds take durations such as `15s`, `2h30m` or `30d`. A plain number
//! is always the unit of the setting's name.

use std::path::PathBuf;

/// What a setting's value means; decides which units its text may carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A number of bytes.
    Bytes,
    /// A number of milliseconds.
    Millis,
    /// A plain number.
    Count,
    /// `true` or `false`.
    Switch,
    /// Any text.
    Text,
    /// Names with commas between them.
    Names,
}

/// A type a setting's field may have.
pub trait Field {
    /// The value as text without units.
    fn show(&self) -> String;
    /// Takes a value from text; the error says what was expected.
    fn take(&mut self, kind: Kind, text: &str) -> Result<(), String>;
}

macro_rules! number_field {
    ($($type:ty),*) => { $(
        impl Field for $type {
            fn show(&self) -> String {
                self.to_string()
            }
            fn take(&mut self, kind: Kind, text: &str) -> Result<(), String> {
                let number = parse_number(kind, text)?;
                *self = <$type>::try_from(number)
                    .map_err(|_| format!("{text:?} is out of range; the largest value is {}", <$type>::MAX))?;
                Ok(())
            }
        }
    )* };
}
number_field!(u16, u32, u64, usize, i64);

impl Field for bool {
    fn show(&self) -> String {
        self.to_string()
    }
    fn take(&mut self, _: Kind, text: &str) -> Result<(), String> {
        *self = match text {
            "true" | "on" | "yes" | "1" => true,
            "false" | "off" | "no" | "0" => false,
            _ => return Err(format!("{text:?} is neither true nor false")),
        };
        Ok(())
    }
}

impl Field for String {
    fn show(&self) -> String {
        self.clone()
    }
    fn take(&mut self, _: Kind, text: &str) -> Result<(), String> {
        text.clone_into(self);
        Ok(())
    }
}

impl Field for PathBuf {
    fn show(&self) -> String {
        self.display().to_string()
    }
    fn take(&mut self, _: Kind, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Err("a path may not be empty".to_owned());
        }
        *self = PathBuf::from(text);
        Ok(())
    }
}

const BYTE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

fn parse_number(kind: Kind, text: &str) -> Result<u64, String> {
    let text = text.trim();
    let plain = text.replace('_', "");
    if let Ok(number) = plain.parse::<u64>() {
        return Ok(number);
    }
    let parsed = match kind {
        Kind::Bytes => BYTE_UNITS.iter().find_map(|(unit, scale)| {
            let number = plain.strip_suffix(unit)?.trim();
            number.parse::<u64>().ok()?.checked_mul(*scale)
        }),
        Kind::Millis => parse_duration_ms(&plain).and_then(|ms| u64::try_from(ms).ok()),
        Kind::Count | Kind::Switch | Kind::Text | Kind::Names => None,
    };
    parsed.ok_or_else(|| match kind {
        Kind::Bytes => format!("{text:?} is not a number of bytes such as 1048576 or 64MiB"),
        Kind::Millis => format!("{text:?} is neither a number of milliseconds nor a duration such as 15s or 30d"),
        Kind::Count | Kind::Switch | Kind::Text | Kind::Names => format!("{text:?} is not a whole number"),
    })
}

/// Parses a duration of Prometheus, `1h30m`, `500ms`, `2w`: units from large to small, each once. `None` when it is
/// not one or does not fit.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0i64;
    let mut units = UNITS.as_slice();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters)?;
        let place = units.iter().position(|(name, _)| *name == unit)?;
        let (_, scale) = units.get(place)?;
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(*scale)?)?;
        units = units.get(place + 1..)?;
        rest = after;
    }
    if text.is_empty() { None } else { Some(total) }
}

/// A canonical value with its unit, for people.
pub fn pretty(kind: Kind, text: &str) -> String {
    let Ok(number) = text.parse::<u64>() else {
        return if text.is_empty() { "(empty)".to_owned() } else { text.to_owned() };
    };
    let largest = |units: &[(&str, u64)]| {
        units
            .iter()
            .find(|(_, scale)| number >= *scale && number.is_multiple_of(*scale))
            .map(|(unit, scale)| format!("{}{unit}", number / scale))
    };
    match kind {
        Kind::Bytes => largest(&[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]),
        Kind::Millis => largest(&[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]),
        Kind::Count | Kind::Switch | Kind::Text | Kind::Names => None,
    }
    .unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, text: &str, expected: Option<u64>) {
        assert_eq!(parse_number(kind, text).ok(), expected, "{text}");
    }

    #[test]
    fn numbers_take_the_units_of_their_kind_only() {
        check(Kind::Bytes, "64MiB", Some(64 << 20));
        check(Kind::Bytes, "1_000", Some(1000));
        check(Kind::Bytes, "10s", None);
        check(Kind::Millis, "1h30m", Some(5_400_000));
        check(Kind::Millis, "30d", Some(30 * 86_400_000));
        check(Kind::Millis, "250", Some(250));
        check(Kind::Millis, "30m1h", None);
        check(Kind::Millis, "1h1h", None);
        check(Kind::Millis, "99999999999999999999d", None);
        check(Kind::Count, "5KiB", None);
        check(Kind::Count, "-1", None);
    }

    #[test]
    fn pretty_values_are_read_back() {
        for (kind, value) in [(Kind::Bytes, 32u64 << 20), (Kind::Millis, 90_000), (Kind::Millis, 86_400_000)] {
            assert_eq!(parse_number(kind, &pretty(kind, &value.to_string())), Ok(value));
        }
    }
}
