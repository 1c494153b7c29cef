//! Functions from float to float, with Go's results at the edges.

/// The function of one float by its name.
pub(crate) fn unary(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => |degrees| degrees * std::f64::consts::PI / 180.0,
        "deg" => |radians| radians * 180.0 / std::f64::consts::PI,
        "sgn" => |value| match value {
            value if value < 0.0 => -1.0,
            value if value > 0.0 => 1.0,
            value => value,
        },
        _ => return None,
    })
}

/// Rounds to a multiple of `nearest`, ties up.
pub(crate) fn round(value: f64, nearest: f64) -> f64 {
    let inverse = 1.0 / nearest;
    (value * inverse + 0.5).floor() / inverse
}

/// The larger; NaN wins over all but infinity.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// The smaller; NaN wins over all but minus infinity.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_round_up() {
        assert_eq!(round(2.5, 1.0), 3.0);
        assert_eq!(round(-2.5, 1.0), -2.0);
        assert_eq!(round(17.0, 5.0), 15.0);
    }

    #[test]
    fn nan_is_not_lost() {
        assert!(max(f64::NAN, 1.0).is_nan());
        assert_eq!(max(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert_eq!(min(f64::NAN, f64::NEG_INFINITY), f64::NEG_INFINITY);
    }
}
