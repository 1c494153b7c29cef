//! Durations and sizes as the configuration writes them.

use std::fmt;

/// A duration of whole milliseconds, not negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Duration(pub u64);

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Duration {
    /// Parses `1h30m` and the like: units from large to small, each once; `0` needs none.
    pub fn parse(text: &str) -> Result<Duration, String> {
        if text == "0" {
            return Ok(Duration(0));
        }
        if text.is_empty() {
            return Err("empty duration string".to_owned());
        }
        let invalid = || format!("not a valid duration string: {text:?}");
        let (mut rest, mut total, mut next) = (text, 0u64, 0);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, behind) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| invalid())?;
            let letters = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
            let (unit, behind) = behind.split_at(letters);
            if unit.is_empty() {
                return Err(invalid());
            }
            let place = UNITS.iter().position(|(word, _)| *word == unit);
            let place = place.ok_or_else(|| format!("unknown unit {unit:?} in duration {text:?}"))?;
            if place < next {
                return Err(invalid());
            }
            next = place + 1;
            let scale = UNITS.get(place).map_or(1, |(_, scale)| *scale);
            let more = number.checked_mul(scale).and_then(|more| total.checked_add(more));
            // Prometheus counts nanoseconds in 63 bits.
            total = more.filter(|total| *total <= i64::MAX as u64 / 1_000_000).ok_or("duration out of range")?;
            rest = behind;
        }
        Ok(Duration(total))
    }

    /// Milliseconds.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// Seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> std::time::Duration {
        std::time::Duration::from_millis(duration.0)
    }
}

/// As Prometheus writes it: years and weeks only where nothing is left.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in UNITS {
            let exact = matches!(unit, "y" | "w");
            if left / scale > 0 && (!exact || left.is_multiple_of(scale)) {
                write!(f, "{}{unit}", left / scale)?;
                left %= scale;
            }
        }
        Ok(())
    }
}

/// Parses a size such as `10MB`: units are powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let invalid = || format!("units: invalid {text}");
    if text == "0" {
        return Ok(0);
    }
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "B" => 0,
        "KB" | "KiB" => 10,
        "MB" | "MiB" => 20,
        "GB" | "GiB" => 30,
        "TB" | "TiB" => 40,
        "PB" | "PiB" => 50,
        "EB" | "EiB" => 60,
        _ => return Err(format!("units: unknown unit {unit} in {text}")),
    };
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let bytes = number * (1u64 << shift) as f64;
    if bytes < i64::MAX as f64 { Ok(bytes as u64) } else { Err(invalid()) }
}

/// A size as Prometheus writes it: `1MiB512KiB`.
pub(crate) fn print_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0".to_owned();
    }
    let mut left = bytes;
    let mut out = String::new();
    for (unit, shift) in [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)] {
        if left >> shift > 0 {
            out.push_str(&format!("{}{unit}", left >> shift));
            left &= (1 << shift) - 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_prometheus_does() {
        for (text, millis, written) in [
            ("15s", 15_000, "15s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90d", 90 * 86_400_000, "90d"),
            ("1w", 604_800_000, "1w"),
            ("365d", 31_536_000_000, "1y"),
            ("1m5ms", 60_005, "1m5ms"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(Duration::parse(text), Ok(Duration(millis)));
            assert_eq!(Duration(millis).to_string(), written);
        }
        for text in ["", "5", "1m1h", "1s1s", "-1s", "1x", "s", "1.5s", "999999999999y"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("10MB"), Ok(10 << 20));
        assert_eq!(parse_size("1.5KiB"), Ok(1536));
        assert_eq!(parse_size("0"), Ok(0));
        assert!(parse_size("10").is_err());
        assert_eq!(print_size(10 << 20), "10MiB");
        assert_eq!(print_size((1 << 20) + 512 * 1024), "1MiB512KiB");
    }
}
