//! Parts of a UTC date, by counting days.

pub(crate) fn part(part: &str, unix: i64) -> f64 {
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = unix.div_euclid(86_400);
    let (mut year, mut day) = (1970, days);
    while day < 0 {
        year -= 1;
        day += if leap(year) { 366 } else { 365 };
    }
    while day >= if leap(year) { 366 } else { 365 } {
        day -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let day_of_year = day + 1;
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    (match part {
        "minute" => unix.rem_euclid(3600) / 60,
        "hour" => unix.rem_euclid(86_400) / 3600,
        "day_of_week" => (days + 4).rem_euclid(7),
        "day_of_month" => day + 1,
        "day_of_year" => day_of_year,
        "days_in_month" => lengths[month],
        "month" => month as i64 + 1,
        _ => year,
    }) as f64
}
