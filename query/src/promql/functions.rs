//! Functions of PromQL: the one table of their signatures.
//!
//! Sorted by name; names are case-sensitive. What they do is in the executor.

use super::ast::ValueType;
use super::ast::ValueType::{Matrix, Scalar, String as Text, Vector};

/// A signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// The name.
    pub name: &'static str,
    /// Types of the arguments. When `variadic` is not [`Variadic::No`], the last one is that of all further arguments.
    pub args: &'static [ValueType],
    /// Whether the number of arguments may vary.
    pub variadic: Variadic,
    /// Type of the result.
    pub returns: ValueType,
    /// Whether Prometheus has it behind a feature flag.
    pub experimental: bool,
}

/// How the number of arguments may vary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variadic {
    /// All arguments must be there.
    No,
    /// The last argument may be missing or occur up to so many times.
    UpTo(usize),
    /// The last argument may be missing or occur any number of times.
    Any,
}

impl Function {
    /// Fewest arguments.
    pub fn args_min(&self) -> usize {
        match self.variadic {
            Variadic::No => self.args.len(),
            Variadic::UpTo(_) | Variadic::Any => self.args.len() - 1,
        }
    }

    /// Most arguments, when there is a bound.
    pub fn args_max(&self) -> Option<usize> {
        match self.variadic {
            Variadic::No => Some(self.args.len()),
            Variadic::UpTo(count) => Some(self.args.len() - 1 + count),
            Variadic::Any => None,
        }
    }
}

/// The function of that name.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &FUNCTIONS[i])
}

/// All functions, by name.
pub fn all() -> &'static [Function] {
    FUNCTIONS
}

const fn f(name: &'static str, args: &'static [ValueType], returns: ValueType) -> Function {
    Function { name, args, variadic: Variadic::No, returns, experimental: false }
}

const fn variadic(name: &'static str, args: &'static [ValueType], variadic: Variadic, returns: ValueType) -> Function {
    Function { name, args, variadic, returns, experimental: false }
}

const fn experimental(function: Function) -> Function {
    Function { experimental: true, ..function }
}

const ONE: Variadic = Variadic::UpTo(1);

const FUNCTIONS: &[Function] = &[
    f("abs", &[Vector], Vector),
    f("absent", &[Vector], Vector),
    f("absent_over_time", &[Matrix], Vector),
    f("acos", &[Vector], Vector),
    f("acosh", &[Vector], Vector),
    f("asin", &[Vector], Vector),
    f("asinh", &[Vector], Vector),
    f("atan", &[Vector], Vector),
    f("atanh", &[Vector], Vector),
    f("avg_over_time", &[Matrix], Vector),
    f("ceil", &[Vector], Vector),
    f("changes", &[Matrix], Vector),
    f("clamp", &[Vector, Scalar, Scalar], Vector),
    f("clamp_max", &[Vector, Scalar], Vector),
    f("clamp_min", &[Vector, Scalar], Vector),
    f("cos", &[Vector], Vector),
    f("cosh", &[Vector], Vector),
    f("count_over_time", &[Matrix], Vector),
    variadic("day_of_month", &[Vector], ONE, Vector),
    variadic("day_of_week", &[Vector], ONE, Vector),
    variadic("day_of_year", &[Vector], ONE, Vector),
    variadic("days_in_month", &[Vector], ONE, Vector),
    f("deg", &[Vector], Vector),
    f("delta", &[Matrix], Vector),
    f("deriv", &[Matrix], Vector),
    experimental(f("double_exponential_smoothing", &[Matrix, Scalar, Scalar], Vector)),
    experimental(f("end", &[], Scalar)),
    f("exp", &[Vector], Vector),
    f("first_over_time", &[Matrix], Vector),
    f("floor", &[Vector], Vector),
    f("histogram_avg", &[Vector], Vector),
    f("histogram_count", &[Vector], Vector),
    f("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    f("histogram_quantile", &[Scalar, Vector], Vector),
    experimental(variadic("histogram_quantiles", &[Vector, Text, Scalar, Scalar], Variadic::UpTo(9), Vector)),
    f("histogram_stddev", &[Vector], Vector),
    f("histogram_stdvar", &[Vector], Vector),
    f("histogram_sum", &[Vector], Vector),
    variadic("hour", &[Vector], ONE, Vector),
    f("idelta", &[Matrix], Vector),
    f("increase", &[Matrix], Vector),
    experimental(variadic("info", &[Vector, Vector], ONE, Vector)),
    f("irate", &[Matrix], Vector),
    variadic("label_join", &[Vector, Text, Text, Text], Variadic::Any, Vector),
    f("label_replace", &[Vector, Text, Text, Text, Text], Vector),
    f("last_over_time", &[Matrix], Vector),
    f("ln", &[Vector], Vector),
    f("log10", &[Vector], Vector),
    f("log2", &[Vector], Vector),
    experimental(f("mad_over_time", &[Matrix], Vector)),
    experimental(f("max_of", &[Scalar, Scalar], Scalar)),
    f("max_over_time", &[Matrix], Vector),
    experimental(f("min_of", &[Scalar, Scalar], Scalar)),
    f("min_over_time", &[Matrix], Vector),
    variadic("minute", &[Vector], ONE, Vector),
    variadic("month", &[Vector], ONE, Vector),
    f("pi", &[], Scalar),
    f("predict_linear", &[Matrix, Scalar], Vector),
    f("present_over_time", &[Matrix], Vector),
    f("quantile_over_time", &[Scalar, Matrix], Vector),
    f("rad", &[Vector], Vector),
    experimental(f("range", &[], Scalar)),
    f("rate", &[Matrix], Vector),
    f("resets", &[Matrix], Vector),
    variadic("round", &[Vector, Scalar], ONE, Vector),
    f("scalar", &[Vector], Scalar),
    f("sgn", &[Vector], Vector),
    f("sin", &[Vector], Vector),
    f("sinh", &[Vector], Vector),
    f("sort", &[Vector], Vector),
    experimental(variadic("sort_by_label", &[Vector, Text], Variadic::Any, Vector)),
    experimental(variadic("sort_by_label_desc", &[Vector, Text], Variadic::Any, Vector)),
    f("sort_desc", &[Vector], Vector),
    f("sqrt", &[Vector], Vector),
    experimental(f("start", &[], Scalar)),
    experimental(f("start_timestamp", &[Vector], Vector)),
    f("stddev_over_time", &[Matrix], Vector),
    f("stdvar_over_time", &[Matrix], Vector),
    experimental(f("step", &[], Scalar)),
    f("sum_over_time", &[Matrix], Vector),
    f("tan", &[Vector], Vector),
    f("tanh", &[Vector], Vector),
    f("time", &[], Scalar),
    f("timestamp", &[Vector], Vector),
    experimental(f("ts_of_first_over_time", &[Matrix], Vector)),
    experimental(f("ts_of_last_over_time", &[Matrix], Vector)),
    experimental(f("ts_of_max_over_time", &[Matrix], Vector)),
    experimental(f("ts_of_min_over_time", &[Matrix], Vector)),
    f("vector", &[Scalar], Vector),
    variadic("year", &[Vector], ONE, Vector),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_each_name_is_found() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        assert!(FUNCTIONS.iter().all(|f| find(f.name) == Some(f)));
        assert_eq!(find("RATE"), None);
    }

    #[test]
    fn a_variadic_function_has_an_argument_to_repeat() {
        assert!(FUNCTIONS.iter().all(|f| f.variadic == Variadic::No || !f.args.is_empty()));
    }
}
