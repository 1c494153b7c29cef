//! Compensated addition, so that sums agree with Prometheus's to the bit.
//!
//! Prometheus uses Neumaier's form, which asks which operand is larger; Knuth's two-sum gives the same rounding error,
//! exact in both, without the question, so that loops over steps run in vector registers.

/// Adds `value` to `sum` with compensation `c`. An infinite sum needs no compensation.
#[inline]
pub(crate) fn add(value: f64, sum: f64, c: f64) -> (f64, f64) {
    let (total, c) = add_finite(value, sum, c);
    (total, if total.is_infinite() { 0.0 } else { c })
}

/// [`add`] for sums that stay finite; the compensation is without meaning once the sum does not.
#[inline]
pub(crate) fn add_finite(value: f64, sum: f64, c: f64) -> (f64, f64) {
    let total = sum + value;
    let moved = total - sum;
    let error = (sum - (total - moved)) + (value - moved);
    (total, c + error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_large_ones() {
        let (sum, c) = [1.0, 1e100, 1.0, -1e100].iter().fold((0.0, 0.0), |(s, c), v| add(*v, s, c));
        assert_eq!(sum + c, 2.0);
    }

    /// As it is usually written.
    fn neumaier(value: f64, sum: f64, c: f64) -> (f64, f64) {
        let total = sum + value;
        if total.is_infinite() {
            (total, 0.0)
        } else if sum.abs() >= value.abs() {
            (total, c + ((sum - total) + value))
        } else {
            (total, c + ((value - total) + sum))
        }
    }

    proptest::proptest! {
        #[test]
        fn both_forms_agree_to_the_bit(values in proptest::collection::vec(proptest::num::f64::ANY, 0..20)) {
            let (mut ours, mut theirs) = ((0.0, 0.0), (0.0, 0.0));
            for value in values {
                ours = add(value, ours.0, ours.1);
                theirs = neumaier(value, theirs.0, theirs.1);
                let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
                proptest::prop_assert!(same(ours.0, theirs.0));
                proptest::prop_assert!(same(ours.1, theirs.1) || ours.0.is_nan());
            }
        }
    }
}
