//! Names: of metrics with their units and types, of labels, of units, as Prometheus translates OpenTelemetry's.
//!
//! ```text
//! http.server.duration, unit s, histogram          http_server_duration_seconds
//! requests, unit 1, monotonic sum                  requests_total
//! memory.utilization, unit 1, gauge                memory_utilization_ratio
//! disk.io, unit By/s, gauge                        disk_io_bytes_per_second
//! ```
//! Units in braces are annotations and are left out. What a unit or type would add is not added twice.

use std::borrow::Cow;

use super::Strategy;

/// What a metric's type adds to its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NameKind {
    Gauge,
    Counter,
    Other,
}

const UNITS: [(&str, &str); 27] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
    ("", ""),
];

const PER_UNITS: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

fn known<'a>(table: &[(&str, &'static str)], unit: &'a str) -> &'a str {
    table.iter().find(|(short, _)| *short == unit).map_or(unit, |(_, long)| long)
}

/// The words of a unit: of what, and per what (`per_second`). Either may be empty.
fn unit_words(unit: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let plain = |part: &str| !part.is_empty() && !part.contains(['{', '}']);
    let (main, per) = (main.trim(), per.trim());
    let main = if plain(main) { known(&UNITS, main) } else { "" };
    let per = if plain(per) { known(&PER_UNITS, per) } else { "" };
    (main.into(), if per.is_empty() { "".into() } else { format!("per_{per}").into() })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// Only letters, digits, colons and single underscores, none of them first.
fn cleaned(unit: &str) -> String {
    let mut out = String::with_capacity(unit.len());
    for c in unit.chars().map(|c| if is_word(c) { c } else { '_' }) {
        if c != '_' || !(out.is_empty() || out.ends_with('_')) {
            out.push(c);
        }
    }
    out
}

/// The unit as metadata has it.
pub(super) fn unit(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    let (main, per) = (cleaned(&main), cleaned(&per));
    let joined = match (main.as_str(), per.as_str()) {
        ("", per) => per.to_owned(),
        (main, "") => main.to_owned(),
        (main, per) => format!("{main}_{per}"),
    };
    let joined = joined.strip_prefix('_').unwrap_or(&joined);
    joined.strip_suffix('_').unwrap_or(joined).to_owned()
}

/// The name of a metric; the error says why there is none.
pub(super) fn metric(name: &str, unit: &str, kind: NameKind, strategy: Strategy) -> Result<String, &'static str> {
    let named = match (strategy.escapes(), strategy.has_suffixes()) {
        (true, true) => escaped_with_suffixes(name, unit, kind),
        (true, false) => {
            let words: Vec<&str> =
                name.split(|c: char| !is_word(c) && c != '_').filter(|word| !word.is_empty()).collect();
            not_a_digit_first(words.join("_"))
        }
        (false, true) => with_suffixes(name, unit, kind),
        (false, false) => name.to_owned(),
    };
    if named.is_empty() {
        return Err("its name is empty");
    }
    if strategy.escapes() && named != name && named.bytes().all(|byte| byte == b'_') {
        return Err("nothing of its name is left");
    }
    Ok(named)
}

fn not_a_digit_first(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn escaped_with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let (main, per) = unit_words(unit);
    let (mut main, per) = (cleaned(&main), cleaned(&per));
    let mut words: Vec<&str> = name.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()).collect();
    let mut per = if per == "per_" { "" } else { per.strip_suffix('_').unwrap_or(&per) };
    if words.contains(&main.as_str()) {
        main.clear();
    }
    if words.contains(&per) {
        per = "";
    }
    if !per.is_empty() && main.ends_with('_') {
        main.pop();
    }
    words.extend([main.as_str(), per].iter().filter(|word| !word.is_empty()));
    let suffix = match kind {
        NameKind::Counter => Some("total"),
        NameKind::Gauge if unit == "1" => Some("ratio"),
        NameKind::Gauge | NameKind::Other => None,
    };
    if let Some(suffix) = suffix {
        words.retain(|word| *word != suffix);
        words.push(suffix);
    }
    not_a_digit_first(words.join("_"))
}

/// Suffixes behind a name that is left as it is, whatever divides its words.
fn with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let (main, per) = unit_words(unit);
    let without = |name: String, suffix: &str| match name.strip_suffix(suffix) {
        // The suffix goes with one character before it, which divides it from the name.
        Some(stem) if stem.chars().nth(1).is_some() => {
            let end = stem.char_indices().next_back().map_or(0, |(at, _)| at);
            stem.get(..end).unwrap_or_default().to_owned()
        }
        _ => name,
    };
    let suffix = match kind {
        NameKind::Counter => "total",
        NameKind::Gauge if unit == "1" => "ratio",
        NameKind::Gauge | NameKind::Other => "",
    };
    let mut name = name.to_owned();
    if !suffix.is_empty() {
        name = without(name, suffix);
    }
    if !per.is_empty() {
        name = without(name, &per);
    }
    if !main.is_empty() && !name.ends_with(&*main) {
        name = format!("{name}_{main}");
    }
    for suffix in [&*per, suffix].into_iter().filter(|suffix| !suffix.is_empty()) {
        name = format!("{name}_{suffix}");
    }
    name
}

/// How the names of labels are made from those of attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LabelNames {
    pub(super) escapes: bool,
    /// `_a` becomes `key_a`.
    pub(super) marks_underscore: bool,
    /// `a__b` stays.
    pub(super) keeps_underscores: bool,
}

impl LabelNames {
    /// The name of a label; the error says why there is none.
    pub(super) fn of<'a>(self, attribute: &'a str) -> Result<Cow<'a, str>, &'static str> {
        let name: Cow<'a, str> = if self.escapes { self.escaped(attribute) } else { attribute.into() };
        if name.bytes().all(|byte| byte == b'_') {
            return Err("an attribute whose name is empty or nothing but underscores");
        }
        Ok(name)
    }

    fn escaped<'a>(self, attribute: &'a str) -> Cow<'a, str> {
        let is_plain = attribute.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let name: Cow<'a, str> = if self.keeps_underscores {
            if is_plain {
                attribute.into()
            } else {
                attribute.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
            }
        } else {
            single_underscores(attribute).into()
        };
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            format!("key_{name}").into()
        } else if self.marks_underscore && name.starts_with('_') && !name.starts_with("__") {
            format!("key{name}").into()
        } else {
            name
        }
    }
}

/// Each run of characters that cannot be in a name becomes one underscore; `__reserved__` keeps its own.
fn single_underscores(attribute: &str) -> String {
    let inner = attribute.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    let mut out = String::with_capacity(attribute.len());
    for c in inner.unwrap_or(attribute).chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    if inner.is_some() { format!("__{out}__") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NameKind::{Counter, Gauge, Other};

    #[track_caller]
    fn check(strategy: Strategy, name: &str, unit: &str, kind: NameKind, expected: &str) {
        assert_eq!(metric(name, unit, kind, strategy).unwrap_or_default(), expected);
    }

    #[test]
    fn names_carry_units_and_types_once() {
        let check =
            |name, unit, kind, expected| check(Strategy::UnderscoreEscapingWithSuffixes, name, unit, kind, expected);
        check("http.server.duration", "s", Other, "http_server_duration_seconds");
        check("system.memory.usage_bytes", "By", Gauge, "system_memory_usage_bytes");
        check("requests", "1", Counter, "requests_total");
        check("requests.total", "{request}", Counter, "requests_total");
        check("cpu.utilization", "1", Gauge, "cpu_utilization_ratio");
        check("disk.io", "By/s", Gauge, "disk_io_bytes_per_second");
        check("disk.io", "/s", Gauge, "disk_io_per_second");
        check("disk.io", "By/{op}", Gauge, "disk_io_bytes");
        check("speed", "km/h", Gauge, "speed_km_per_hour");
        check("2xx", "", Gauge, "_2xx");
        check("a__b..c", "", Gauge, "a_b_c");
        check("grüße", "", Gauge, "gr_e");
        check("ns:metric", "%", Gauge, "ns:metric_percent");
        check("...", "", Gauge, "");
        check("", "s", Gauge, "seconds");
        check("total_x", "", Counter, "x_total");
    }

    #[test]
    fn other_strategies_leave_more_as_it_is() {
        check(Strategy::UnderscoreEscapingWithoutSuffixes, "a.b__c", "s", Counter, "a_b__c");
        check(Strategy::NoTranslation, "a.b c", "s", Counter, "a.b c");
        let check =
            |name, unit, kind, expected| check(Strategy::NoUtf8EscapingWithSuffixes, name, unit, kind, expected);
        check("a.b", "s", Counter, "a.b_seconds_total");
        check("a.total", "s", Counter, "a_seconds_total");
        check("a.b.seconds", "s", Other, "a.b.seconds");
        check("a.ratio", "1", Gauge, "a_ratio");
        check("x", "By/s", Gauge, "x_bytes_per_second");
        check("total", "", Counter, "total_total");
    }

    #[test]
    fn units_of_metadata_are_words() {
        for (given, expected) in
            [("s", "seconds"), ("By/s", "bytes_per_second"), ("1", ""), ("{x}", ""), ("a b", "a_b")]
        {
            assert_eq!(unit(given), expected, "{given}");
        }
    }

    #[test]
    fn labels_are_escaped_as_asked() {
        let names = LabelNames { escapes: true, marks_underscore: true, keeps_underscores: true };
        let check = |names: LabelNames, given: &str, expected: &str| {
            assert_eq!(names.of(given).unwrap_or_default(), expected, "{given} {names:?}");
        };
        check(names, "http.status_code", "http_status_code");
        check(names, "1a", "key_1a");
        check(names, "_a", "key_a");
        check(names, "__a__", "__a__");
        check(names, "a..b", "a__b");
        check(names, "", "");
        check(names, "..", "");
        let single = LabelNames { keeps_underscores: false, ..names };
        check(single, "a..b", "a_b");
        check(single, "__a..b__", "__a_b__");
        check(LabelNames { escapes: false, ..names }, "http.status", "http.status");
        check(LabelNames { marks_underscore: false, ..names }, "_a", "_a");
    }
}
