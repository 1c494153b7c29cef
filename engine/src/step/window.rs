//! Windows: the aligned spans of time that segments keep to, so that age and queries touch few of them.

use varve_model::{Millis, TimeRange};

/// Width of windows, small to large: two hours, a day, thirty days.
pub(crate) const WIDTHS_MS: [i64; 3] = [2 * 3_600_000, 24 * 3_600_000, 30 * 24 * 3_600_000];
/// Windows into which one flush is split at most; with more, wider ones are used.
const SPLIT_MAX: i64 = 12;

/// The window of a width that holds a time; named by its number.
pub(crate) fn window_of(time: Millis, width: i64) -> i64 {
    time.div_euclid(width)
}

/// The last millisecond of a window.
pub(crate) fn window_end(window: i64, width: i64) -> Millis {
    window.saturating_mul(width).saturating_add(width - 1)
}

/// The width into which data of this range is split. The widest is used whatever the number.
pub(crate) fn width_for(range: TimeRange) -> i64 {
    let windows =
        |width: i64| window_of(range.max, width).saturating_sub(window_of(range.min, width)).saturating_add(1);
    WIDTHS_MS.into_iter().find(|&width| windows(width) <= SPLIT_MAX).unwrap_or_else(|| {
        // Spans of more than a year: as few windows as asked, whatever their width.
        let [.., widest] = WIDTHS_MS;
        (windows(widest) / SPLIT_MAX + 1).saturating_mul(widest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_is_split_into_few_windows() {
        for (min, max) in
            [(0, 1), (-1, 1), (0, 86_400_000), (0, 9 * 86_400_000), (i64::MIN, i64::MAX), (5, 40 * 365 * 86_400_000)]
        {
            let width = width_for(TimeRange { min, max });
            assert!(window_of(max, width) - window_of(min, width) < 2 * SPLIT_MAX, "{min} {max} {width}");
        }
        assert_eq!(width_for(TimeRange { min: 0, max: 1 }), WIDTHS_MS[0]);
        assert_eq!(width_for(TimeRange { min: 0, max: 3 * 86_400_000 }), WIDTHS_MS[1]);
        assert_eq!(window_of(-1, 10), -1);
        assert_eq!(window_end(-1, 10), -1);
    }
}
