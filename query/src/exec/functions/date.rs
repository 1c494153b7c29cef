//! Calendar functions over seconds since 1970 in UTC (proleptic Gregorian).

/// A day of the calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Date {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
}

/// The date of a day counted from 1970-01-01, by eras of 400 years that begin on 1 March.
fn date(days: i64) -> Date {
    let shifted = i128::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097) as i64;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + (era * 400) as i64 + i64::from(month <= 2);
    Date { year, month, day }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The calendar function of seconds by its name.
pub(crate) fn part(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "minute" => |seconds| (whole(seconds).rem_euclid(3_600) / 60) as f64,
        "hour" => |seconds| (whole(seconds).rem_euclid(86_400) / 3_600) as f64,
        "day_of_week" => |seconds| (days(seconds) + 4).rem_euclid(7) as f64,
        "day_of_month" => |seconds| date(days(seconds)).day as f64,
        "day_of_year" => |seconds| {
            let date = date(days(seconds));
            ((1..date.month).map(|month| days_in_month(date.year, month)).sum::<i64>() + date.day) as f64
        },
        "days_in_month" => |seconds| {
            let date = date(days(seconds));
            days_in_month(date.year, date.month) as f64
        },
        "month" => |seconds| date(days(seconds)).month as f64,
        "year" => |seconds| date(days(seconds)).year as f64,
        _ => return None,
    })
}

/// Whole seconds, towards zero; NaN and what does not fit become the least integer, as the hardware has it.
fn whole(seconds: f64) -> i64 {
    if seconds.is_nan() || seconds.abs() >= 9.3e18 { i64::MIN } else { seconds as i64 }
}

fn days(seconds: f64) -> i64 {
    whole(seconds).div_euclid(86_400)
}

/// `2006-01-02T15:04:05Z`
pub(crate) fn text(seconds: i64) -> String {
    let Date { year, month, day } = date(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, seconds: f64, expected: f64) {
        assert_eq!(part(name).map(|part| part(seconds)), Some(expected), "{name}({seconds})");
    }

    #[test]
    fn known_days() {
        // 2016-02-29T23:59:59Z, a Monday.
        for (name, expected) in [
            ("year", 2016.0),
            ("month", 2.0),
            ("day_of_month", 29.0),
            ("day_of_week", 1.0),
            ("day_of_year", 60.0),
            ("days_in_month", 29.0),
            ("hour", 23.0),
            ("minute", 59.0),
        ] {
            check(name, 1_456_790_399.0, expected);
        }
        check("year", -1.0, 1969.0);
        check("day_of_week", 0.0, 4.0);
        check("day_of_year", -1.0, 365.0);
    }

    #[test]
    fn consecutive_days_are_consecutive() {
        let mut last = date(-800_000);
        for day in -799_999..800_000 {
            let next = date(day);
            let expected = if last.day < days_in_month(last.year, last.month) {
                Date { day: last.day + 1, ..last }
            } else if last.month < 12 {
                Date { day: 1, month: last.month + 1, ..last }
            } else {
                Date { day: 1, month: 1, year: last.year + 1 }
            };
            assert_eq!(next, expected);
            last = next;
        }
    }

    #[test]
    fn nothing_overflows() {
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 9.2e18, -9.2e18] {
            for name in
                ["minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"]
            {
                assert!(part(name).unwrap()(seconds).is_finite());
            }
        }
    }
}
