//! Floats that are decimals: `value == integer / 10^exponent`, bit for bit.
//!
//! Division, not multiplication by a reciprocal: a decimal text parses to the correctly rounded quotient, and so does
//! this. What does not fit (NaN, the stale marker, -0.0, infinities, stray noise) is an exception and leaves the column,
//! so that the column's pattern goes on behind it.

/// 10^0 to 10^14: exact as floats.
pub(super) const POWERS: [f64; 15] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];
/// Largest magnitude of an integer: floats hold each up to it.
const INTEGER_MAX: u64 = 1 << 53;
/// Distance between the integers of a chunk, exclusive: sums and products on the way back stay exact.
const RANGE_MAX: i64 = 1 << 51;
/// Values that are looked at to guess the exponent.
const SAMPLE_LEN: usize = 16;

/// A chunk as integers over one power of ten.
#[derive(Clone, Debug)]
pub(super) struct Decimals {
    /// The power of ten, an index of [`POWERS`].
    pub(super) exponent: u8,
    /// Integers of all values but the exceptions; never empty.
    pub(super) integers: Vec<i64>,
    /// Places among all values, ascending, and bits.
    pub(super) exceptions: Vec<(usize, u64)>,
}

/// Finds the smallest exponent that fits all values but one in eight. `None` when there is none, or when the integers
/// lie 2^51 apart.
pub(super) fn find(values: &[f64]) -> Option<Decimals> {
    let exceptions_max = values.len() / 8 + 1;
    let mut exponent = guess(values)?;
    loop {
        let decimals = at_exponent(values, exponent);
        if decimals.exceptions.len() <= exceptions_max {
            let (min, max) = decimals.integers.iter().fold((i64::MAX, i64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            return (!decimals.integers.is_empty() && max - min < RANGE_MAX).then_some(decimals);
        }
        let misfits = decimals.exceptions.iter().take(4 * SAMPLE_LEN);
        exponent = misfits.filter_map(|&(_, bits)| smallest(f64::from_bits(bits), exponent + 1)).min()?;
    }
}

/// The largest exponent of a few values, one odd one left out; `None` when most of them have none.
fn guess(values: &[f64]) -> Option<u8> {
    let mut exponents = [0; SAMPLE_LEN];
    let (mut seen, mut found) = (0, 0);
    for value in values.iter().step_by(values.len().div_ceil(SAMPLE_LEN).max(1)) {
        seen += 1;
        if let (Some(exponent), Some(to)) = (smallest(*value, 0), exponents.get_mut(found)) {
            *to = exponent;
            found += 1;
        }
    }
    let exponents = exponents.split_at_mut(found).0;
    exponents.sort_unstable();
    if found * 2 < seen { None } else { exponents.get(found.checked_sub(1 + found / 12)?).copied() }
}

/// The smallest exponent from `from` upwards that fits.
fn smallest(value: f64, from: u8) -> Option<u8> {
    POWERS
        .iter()
        .enumerate()
        .skip(usize::from(from))
        .find(|(_, power)| fit(value, **power).is_some())
        .map(|(i, _)| i as u8)
}

#[inline(always)]
fn fit(value: f64, power: f64) -> Option<i64> {
    let scaled = value * power;
    // Above 2^52 there are no halves to round.
    let half = if scaled.abs() < (1u64 << 52) as f64 { 0.5f64.copysign(scaled) } else { 0.0 };
    let integer = (scaled + half) as i64;
    let fits = integer.unsigned_abs() <= INTEGER_MAX && (integer as f64 / power).to_bits() == value.to_bits();
    fits.then_some(integer)
}

fn at_exponent(values: &[f64], exponent: u8) -> Decimals {
    let power = POWERS.get(usize::from(exponent)).copied().unwrap_or(1.0);
    let mut integers = Vec::with_capacity(values.len());
    let mut exceptions = Vec::new();
    for (at, &value) in values.iter().enumerate() {
        match fit(value, power) {
            Some(integer) => integers.push(integer),
            None => exceptions.push((at, value.to_bits())),
        }
    }
    Decimals { exponent, integers, exceptions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_texts_fit_the_smallest_exponent() {
        for (text, exponent, integer) in [
            ("0.1", 1, 1),
            ("1234.56", 2, 123_456),
            ("-7", 0, -7),
            ("0.00000000000001", 14, 1),
            ("9007199254740992", 0, 1 << 53),
        ] {
            let value: f64 = text.parse().unwrap();
            assert_eq!(smallest(value, 0), Some(exponent), "{text}");
            assert_eq!(fit(value, POWERS[usize::from(exponent)]), Some(integer), "{text}");
        }
        for value in [-0.0, f64::NAN, f64::INFINITY, 1.0 / 3.0, 1e300, f64::MIN_POSITIVE, 1e17] {
            assert_eq!(smallest(value, 0), None, "{value}");
        }
    }

    #[test]
    fn one_odd_value_does_not_raise_the_exponent() {
        let mut values: Vec<f64> = (0..100).map(|i| f64::from(i) / 10.0).collect();
        values[0] = 0.123_456_789;
        values[50] = f64::NAN;
        let decimals = find(&values).unwrap();
        assert_eq!(decimals.exponent, 1);
        assert_eq!(decimals.exceptions.iter().map(|e| e.0).collect::<Vec<_>>(), [0, 50]);
        assert_eq!(decimals.integers.len(), 98);
    }

    #[test]
    fn far_integers_are_refused() {
        assert!(find(&[0.0, (1u64 << 51) as f64]).is_none());
        assert!(find(&[1.0, (1u64 << 51) as f64]).is_some());
    }
}
