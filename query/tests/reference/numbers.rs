//! Numbers as Go writes them, for annotations and labels.

/// Go's `%g`: the shortest digits, with an exponent below 1e-4 and above the precision, which counts as 6 here.
pub(crate) fn shortest(value: f64) -> String {
    general(value, None)
}

/// Go's `%.2g`.
pub(crate) fn two_digits(value: f64) -> String {
    general(value, Some(2))
}

fn general(value: f64, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = match precision {
        None => format!("{value:e}"),
        Some(precision) => format!("{value:.*e}", precision - 1),
    };
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let limit = match precision {
        None => 6,
        Some(precision) => precision as i32,
    };
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(digits), exponent.abs());
    }
    let plain: f64 = scientific.parse().unwrap_or(value);
    trim(&format!("{plain}"))
}

/// A number as OpenMetrics writes it: never without a point or an exponent.
pub(crate) fn open_metrics(value: f64) -> String {
    let text = if value == 0.0 { "0".to_owned() } else { shortest(value) };
    if value.is_finite() && !text.contains(['e', '.']) { format!("{text}.0") } else { text }
}

/// A number as `count_values` writes it: the shortest digits without an exponent.
pub(crate) fn plain(value: f64) -> String {
    if value.is_infinite() { shortest(value) } else { format!("{value}") }
}

/// A time in UTC to the second, as RFC 3339 has it.
pub(crate) fn time(ms: i64) -> String {
    // Cut towards zero, as Go divides.
    let unix = ms / 1000;
    let part = |name: &str| crate::date::part(name, unix) as i64;
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        part("year"),
        part("month"),
        part("day_of_month"),
        part("hour"),
        part("minute"),
        unix.rem_euclid(60)
    )
}
