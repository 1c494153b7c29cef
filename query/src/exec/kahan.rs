//! Compensated addition (Neumaier's form of Kahan's), step for step as Prometheus adds, so that sums agree to the bit.

/// Adds `value` to `sum` with compensation `c`.
#[inline]
pub(crate) fn add(value: f64, sum: f64, c: f64) -> (f64, f64) {
    let total = sum + value;
    if total.is_infinite() {
        (total, 0.0)
    } else if sum.abs() >= value.abs() {
        (total, c + ((sum - total) + value))
    } else {
        (total, c + ((value - total) + sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_large_ones() {
        let (sum, c) = [1.0, 1e100, 1.0, -1e100].iter().fold((0.0, 0.0), |(s, c), v| add(*v, s, c));
        assert_eq!(sum + c, 2.0);
    }
}
