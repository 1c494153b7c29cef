//! Histograms that nobody should have stored: nothing here may panic or fail to end on them.

use proptest::prelude::*;
use varve_model::Histogram;
use varve_model::histogram::{ResetHint, Span};

use super::*;

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        proptest::num::f64::ANY,
        Just(0.0),
        Just(1.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        -10.0..10.0f64,
    ]
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    let offset = prop_oneof![any::<i32>(), -5i32..5, Just(i32::MIN), Just(i32::MAX)];
    let length = prop_oneof![any::<u32>(), 0u32..4, Just(u32::MAX)];
    proptest::collection::vec((offset, length).prop_map(|(offset, length)| Span { offset, length }), 0..4)
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let schema = prop_oneof![-4i32..9, any::<i32>(), Just(CUSTOM_SCHEMA), Just(CUSTOM_SCHEMA)];
    let hint =
        prop_oneof![Just(ResetHint::Unknown), Just(ResetHint::Reset), Just(ResetHint::NoReset), Just(ResetHint::Gauge)];
    let counts = || proptest::collection::vec(float(), 0..8);
    let totals = (float(), float(), float(), float());
    (schema, hint, totals, (spans(), counts()), (spans(), counts()), counts()).prop_map(
        |(schema, reset_hint, totals, positive, negative, custom_bounds)| Histogram {
            schema,
            is_float: true,
            reset_hint,
            zero_threshold: totals.0,
            zero_count: totals.1,
            count: totals.2,
            sum: totals.3,
            positive_spans: positive.0,
            positive: positive.1,
            negative_spans: negative.0,
            negative: negative.1,
            custom_bounds,
        },
    )
}

proptest! {
    #[test]
    fn nothing_panics_or_hangs(a in histogram(), b in histogram(), value in float(), other in float()) {
        for below in [true, false] {
            trim(&mut a.clone(), value, below);
        }
        let _ = (quantile(value, &a), fraction(value, other, &a), variance(&a), text(&a), bytes(&a));
        let counts = a.positive.len() + a.negative.len();
        prop_assert!(buckets(&a).len() <= counts + 1);
        prop_assert!(equal(&a, &a) || [a.zero_threshold, 0.0].iter().chain(&a.custom_bounds).any(|v| v.is_nan()));
        let _ = (is_reset(&a, &b), is_reset(&b, &a), equal(&a, &b));
        let mut sum = a.clone();
        let added = add(&mut sum, &b);
        prop_assert_eq!(added.is_err(), is_custom(&a) != is_custom(&b));
        let _ = subtract(&mut sum, &b);
        compact(&mut sum);
        multiply(&mut sum, value);
        divide(&mut sum, other);
        let _ = reduce(&a, b.schema);
        let (mut total, mut mean) = (Sum::of(&a), Mean::of(&a));
        for histogram in [&b, &a, &b] {
            let _ = (total.add(histogram), mean.add(histogram));
        }
        let _ = (total.merge(&Sum::of(&b)), mean.merge(&Mean::of(&b)));
        let _ = (total.finish(), mean.finish());
        let mut column = varve_model::Column { histograms: vec![(0, a.clone()), (1, b), (2, a)], ..Default::default() };
        derive_hints(&mut column);
        keep_totals(&mut column);
    }
}
