//! Random expressions, as text: all functions, aggregations, operators and modifiers, over the metrics of `data.rs`.

use crate::data::SPAN;
use crate::random::Random;

/// Writes expressions.
pub(crate) struct Writer<'a> {
    pub(crate) random: &'a mut Random,
    /// Milliseconds around which `@` looks.
    pub(crate) begin: i64,
    /// How many parameters of aggregations are being written: in them Prometheus takes `@` for something else.
    pub(crate) in_parameter: u32,
}

const DURATIONS: &[&str] = &["15s", "30s", "1m", "1m", "1m30s", "2m", "2m", "5m", "5m", "7s", "100"];
const PHIS: &[&str] = &["0", "0.5", "0.9", "1", "2", "-1", "NaN", "0.25", "0.75"];

/// Functions of one instant vector of floats and nothing else.
const SIMPLE: &[&str] = &[
    "abs",
    "ceil",
    "floor",
    "exp",
    "sqrt",
    "ln",
    "log2",
    "log10",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "deg",
    "rad",
    "sgn",
    "round",
    "timestamp",
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
    "sort",
    "sort_desc",
    "absent",
];

/// Functions of one range vector and nothing else.
const OVER_RANGE: &[&str] = &[
    "rate",
    "rate",
    "rate",
    "increase",
    "increase",
    "delta",
    "delta",
    "irate",
    "idelta",
    "changes",
    "resets",
    "resets",
    "deriv",
    "count_over_time",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "mad_over_time",
    "present_over_time",
    "first_over_time",
    "last_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
    "absent_over_time",
];

impl Writer<'_> {
    /// An expression for a query.
    pub(crate) fn expression(&mut self, range_vector: bool) -> String {
        if range_vector {
            return self.matrix(2);
        }
        match self.random.below(12) {
            0 => self.scalar(3),
            1..=3 => self.histograms(3),
            _ => self.vector(3),
        }
    }

    fn one_of(&mut self, all: &[&'static str]) -> &'static str {
        self.random.of(all)
    }

    fn duration(&mut self) -> &'static str {
        self.random.of(DURATIONS)
    }

    fn label_list(&mut self) -> String {
        let all = ["job", "instance", "zone", "team", "le", "missing", "__name__", "__type__"];
        let count = self.random.below(3);
        (0..count).map(|_| self.random.of(&all)).collect::<Vec<_>>().join(",")
    }

    fn matchers(&mut self) -> &'static str {
        match self.random.below(12) {
            0 => "{job=\"a\"}",
            1 => "{job!=\"a\"}",
            2 => "{instance=~\"0|1\"}",
            3 => "{instance!~\"0.*\"}",
            4 => "{zone=\"\"}",
            5 => "{zone=~\".+\",job=\"b\"}",
            6 => "{job=\"a\",instance=\"1\"}",
            _ => "",
        }
    }

    fn selector(&mut self) -> String {
        match self.random.below(60) {
            0 | 1 => "{__name__=~\"c_total|g\"}".to_owned(),
            2 => "{__name__=~\"nh|nc|mix\"}".to_owned(),
            3 => "{\"g\"}".to_owned(),
            4..=18 => self.histogram_selector(),
            _ => {
                let names = ["c_total", "c_total", "g", "g", "h_bucket", "info", "t_seconds_total", "mix", "nothing"];
                format!("{}{}", self.random.of(&names), self.matchers())
            }
        }
    }

    fn histogram_selector(&mut self) -> String {
        format!("{}{}", self.random.of(&["nh", "nh", "nh", "nc", "nc", "ng", "mix"]), self.matchers())
    }

    fn modifiers(&mut self) -> String {
        let mut text = String::new();
        if self.random.one_in(8) {
            let offset = self.one_of(&["30s", "1m", "-1m", "15s", "5m", "-30s", "7", "(2 * 30s)", "step()"]);
            text.push_str(&format!(" offset {offset}"));
        }
        if self.in_parameter == 0 && self.random.one_in(8) {
            let at = match self.random.below(4) {
                0 => "start()".to_owned(),
                1 => "end()".to_owned(),
                _ => format!("{:.3}", (self.begin + self.random.between(0, SPAN)) as f64 / 1000.0),
            };
            text.push_str(&format!(" @ {at}"));
        }
        text
    }

    fn range(&mut self) -> &'static str {
        match self.random.below(24) {
            0 => "step() + 1m",
            1 => "max_of(step(), 45s)",
            2 => "min_of(range() + 1m, 2m)",
            3 => "1m + 30s * 2",
            4 => "2 ^ 6",
            5 => "range()",
            _ => self.duration(),
        }
    }

    fn matrix(&mut self, depth: u32) -> String {
        if depth > 0 && self.random.one_in(4) {
            let inner = if self.random.one_in(4) { self.histograms(depth - 1) } else { self.vector(depth - 1) };
            let step = self.one_of(&["", "15s", "30s", "20s", "7s", "step() + 5s"]);
            let range = self.range();
            return format!("({inner})[{range}:{step}]{}", self.modifiers());
        }
        let selector = self.selector();
        self.ranged(&selector)
    }

    fn ranged(&mut self, selector: &str) -> String {
        format!("{selector}[{}]{}", self.range(), self.modifiers())
    }

    fn scalar(&mut self, depth: u32) -> String {
        match self.random.below(if depth == 0 { 6 } else { 10 }) {
            0 => "time()".to_owned(),
            1 => self.one_of(&["pi()", "step()", "range()", "start()", "end()"]).to_owned(),
            2..=5 => self.one_of(&["0", "1", "2", "-1", "0.5", "3", "10", "NaN", "Inf", "0.9"]).to_owned(),
            6 => format!("scalar({})", self.vector(depth - 1)),
            7 => {
                let function = self.one_of(&["max_of", "min_of"]);
                format!("{function}({}, {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            8 => format!("({} <= bool {})", self.scalar(depth - 1), self.scalar(depth - 1)),
            _ => {
                let op = self.one_of(&["+", "-", "*", "/", "%", "^", "atan2"]);
                format!("({} {op} {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
        }
    }

    fn vector(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.instant();
        }
        match self.random.below(30) {
            0 | 1 => self.instant(),
            2..=7 => self.over_range(depth),
            8..=11 => self.aggregation(depth - 1),
            12..=14 => self.binary(depth - 1),
            15 => self.with_scalar(depth - 1),
            16 => self.classic(depth - 1),
            17 => format!("-{}{}", self.selector(), self.modifiers()),
            18 => self.relabelled(depth - 1),
            19..=21 => self.of_histograms(depth - 1),
            22 => self.info(depth - 1),
            _ => self.function(depth - 1),
        }
    }

    fn instant(&mut self) -> String {
        let smoothed = if self.random.one_in(12) { " smoothed" } else { "" };
        format!("{}{smoothed}{}", self.selector(), self.modifiers())
    }

    /// Mostly a vector of histograms.
    fn histograms(&mut self, depth: u32) -> String {
        if depth == 0 {
            return format!("{}{}", self.histogram_selector(), self.modifiers());
        }
        match self.random.below(12) {
            0 => {
                let smoothed = if self.random.one_in(4) { " smoothed" } else { "" };
                format!("{}{smoothed}{}", self.histogram_selector(), self.modifiers())
            }
            1..=3 => {
                let function = self.one_of(&[
                    "rate",
                    "rate",
                    "increase",
                    "delta",
                    "irate",
                    "idelta",
                    "sum_over_time",
                    "avg_over_time",
                    "first_over_time",
                    "last_over_time",
                ]);
                if self.random.one_in(4) {
                    let inner = self.histograms(depth - 1);
                    return format!("{function}(({inner})[{}:{}])", self.duration(), self.one_of(&["15s", "30s", ""]));
                }
                let selector = self.histogram_selector();
                let extended = match function {
                    "rate" | "increase" | "delta" if self.random.one_in(4) => self.one_of(&[" anchored", " smoothed"]),
                    _ => "",
                };
                format!("{function}({selector}[{}]{extended}{})", self.duration(), self.modifiers())
            }
            4 | 5 => {
                let grouping = self.grouping();
                format!("{}{grouping} ({})", self.one_of(&["sum", "avg", "sum", "avg"]), self.histograms(depth - 1))
            }
            6 => {
                let op = self.one_of(&["*", "/", "</", ">/", "</", ">/"]);
                let factor = self.one_of(&["2", "0.5", "-1", "3", "0", "1", "-0.5", "5", "Inf", "NaN", "-Inf"]);
                format!("({}) {op} {factor}", self.histograms(depth - 1))
            }
            7 => format!("{} * ({})", self.one_of(&["2", "-1", "0.5"]), self.histograms(depth - 1)),
            8 | 9 => {
                let op = self.one_of(&["+", "-", "==", "!=", "and", "or", "unless", "</", "*", ">/", "/", ">"]);
                let right = match op {
                    "</" | ">/" | "*" | "/" => self.vector(depth - 1),
                    _ => self.histograms(depth - 1),
                };
                let matching = self.one_of(&["", "", " on(job,instance)", " ignoring(zone)", " ignoring(zone)"]);
                format!("({}) {op}{matching} ({right})", self.histograms(depth - 1))
            }
            10 => format!("-({})", self.histograms(depth - 1)),
            _ => {
                let inner = self.histograms(depth - 1);
                self.relabel(&inner)
            }
        }
    }

    /// A float of each histogram.
    fn of_histograms(&mut self, depth: u32) -> String {
        let of = self.histograms(depth);
        match self.random.below(10) {
            0 => format!("histogram_count({of})"),
            1 => format!("histogram_sum({of})"),
            2 => format!("histogram_avg({of})"),
            3 => format!("histogram_stddev({of})"),
            4 => format!("histogram_stdvar({of})"),
            5 | 6 => format!("histogram_fraction({}, {}, {of})", self.bound(), self.bound()),
            7 => {
                let phis: Vec<&str> = (0..self.random.below(3) + 1).map(|_| self.random.of(PHIS)).collect();
                let label = self.one_of(&["q", "quantile"]);
                format!("histogram_quantiles({of}, \"{label}\", {})", phis.join(", "))
            }
            _ => format!("histogram_quantile({}, {of})", self.one_of(PHIS)),
        }
    }

    fn bound(&mut self) -> &'static str {
        self.one_of(&["0", "1", "2", "-1", "0.5", "3", "-Inf", "Inf", "NaN", "1.5", "-0.25", "7"])
    }

    fn over_range(&mut self, depth: u32) -> String {
        let extra = self.random.below(12);
        if extra == 0 {
            let function = self.one_of(&["rate", "increase", "delta", "resets", "changes", "rate", "increase"]);
            let extended = match function {
                "resets" | "changes" => "anchored",
                _ => self.one_of(&["anchored", "smoothed"]),
            };
            return format!("{function}({}[{}] {extended}{})", self.selector(), self.duration(), self.modifiers());
        }
        let matrix = self.matrix(depth - 1);
        match extra {
            1 => format!("quantile_over_time({}, {matrix})", self.scalar(0)),
            2 => format!("predict_linear({matrix}, {})", self.one_of(&["60", "-30", "0", "time() / 1e9"])),
            3 => format!("double_exponential_smoothing({matrix}, 0.25, 0.5)"),
            _ => format!("{}({matrix})", self.one_of(OVER_RANGE)),
        }
    }

    fn grouping(&mut self) -> String {
        match self.random.below(3) {
            0 => String::new(),
            1 => format!(" by ({})", self.label_list()),
            _ => format!(" without ({})", self.label_list()),
        }
    }

    fn aggregation(&mut self, depth: u32) -> String {
        let op = self.one_of(&[
            "sum",
            "sum",
            "avg",
            "min",
            "max",
            "count",
            "group",
            "stddev",
            "stdvar",
            "topk",
            "bottomk",
            "count_values",
            "quantile",
            "limitk",
            "limit_ratio",
        ]);
        self.in_parameter += 1;
        let written = self.random.one_in(6);
        let param = match op {
            "topk" | "bottomk" if written => format!("{}, ", self.scalar(1)),
            "topk" | "bottomk" => format!("{}, ", self.one_of(&["0", "1", "2", "3", "100"])),
            "limitk" => format!("{}, ", self.one_of(&["0", "1", "3", "100", "100"])),
            "limit_ratio" => format!("{}, ", self.one_of(&["0", "0.5", "-0.5", "0.9", "1", "2", "-0.25", "-2", "NaN"])),
            "count_values" => format!("\"{}\", ", self.one_of(&["v", "job"])),
            "quantile" if written => format!("{}, ", self.scalar(1)),
            "quantile" => format!("{}, ", self.one_of(&["0", "0.3", "0.5", "1", "2", "-1", "NaN"])),
            _ => String::new(),
        };
        self.in_parameter -= 1;
        let grouping = self.grouping();
        let inner = if self.random.one_in(5) { self.histograms(depth) } else { self.vector(depth) };
        format!("{op}{grouping} ({param}{inner})")
    }

    fn binary(&mut self, depth: u32) -> String {
        let op = self.one_of(&[
            "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", "<", ">=", "<=", ">", "== bool", "> bool", "and", "or",
            "unless", "</", ">/",
        ]);
        let (left, right) = (self.vector(depth), self.vector(depth));
        let set = matches!(op, "and" | "or" | "unless");
        let mut matching = String::new();
        if self.random.one_in(2) {
            matching = format!(" {}({})", self.one_of(&["on", "ignoring"]), self.label_list());
            if !set && self.random.one_in(2) {
                // What is matched on cannot be included.
                let include = self.one_of(&["", "()", "(team)", "(zone2)"]);
                let side = self.one_of(&["group_left", "group_right"]);
                if !matching.contains("team") || include != "(team)" {
                    matching.push_str(&format!(" {side}{include}"));
                }
            }
        }
        if !set && self.random.one_in(8) {
            matching.push_str(self.one_of(&[" fill(0)", " fill_left(2)", " fill_right(-1)"]));
        }
        // Empty parentheses behind group_left, lest the operand's own be taken for its labels.
        let matching = if matching.ends_with("group_left") || matching.ends_with("group_right") {
            format!("{matching}()")
        } else {
            matching
        };
        format!("({left}) {op}{matching} ({right})")
    }

    fn with_scalar(&mut self, depth: u32) -> String {
        let op = self.one_of(&["+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<= bool", ">=", "atan2"]);
        let (vector, scalar) = (self.vector(depth), self.scalar(depth));
        if self.random.one_in(2) { format!("({vector}) {op} {scalar}") } else { format!("{scalar} {op} ({vector})") }
    }

    fn classic(&mut self, depth: u32) -> String {
        let of = match self.random.below(4) {
            0 => format!("h_bucket{}", self.modifiers()),
            1 => format!("rate(h_bucket[{}])", self.duration()),
            2 => format!("sum by (le) (increase(h_bucket[{}]))", self.duration()),
            _ => self.vector(depth),
        };
        match self.random.below(8) {
            0 | 1 => format!("histogram_fraction({}, {}, {of})", self.bound(), self.bound()),
            2 => format!("histogram_quantiles({of}, \"q\", {}, {})", self.one_of(PHIS), self.one_of(PHIS)),
            3 => format!("histogram_quantile({}, {of})", self.scalar(1)),
            _ => format!("histogram_quantile({}, {of})", self.one_of(PHIS)),
        }
    }

    fn info(&mut self, depth: u32) -> String {
        let vector = self.vector(depth);
        match self.random.below(8) {
            0 => format!("info({vector}, {{build=~\".+\"}})"),
            1 => format!("info({vector}, {{__name__=\"build_info\"}})"),
            2 => format!("info({vector}, {{__name__=~\".+_info\"}})"),
            3 => format!("info({vector}, {{targe=\"red\"}})"),
            4 => format!("info({vector}, {{__name__!=\"target_info\", build!=\"red\"}})"),
            _ => format!("info({vector})"),
        }
    }

    fn relabelled(&mut self, depth: u32) -> String {
        let vector = self.vector(depth);
        self.relabel(&vector)
    }

    fn relabel(&mut self, vector: &str) -> String {
        self.one_of(&[
            "label_replace(V, \"new\", \"$1\", \"job\", \"(.*)\")",
            "label_replace(V, \"zone\", \"\", \"zone\", \"x\")",
            "label_replace(V, \"job\", \"j-${1}$2\", \"instance\", \"([01])(.*)\")",
            "label_replace(V, \"__name__\", \"n\", \"job\", \"a\")",
            "label_join(V, \"new\", \"-\", \"job\", \"instance\", \"missing\")",
            "label_join(V, \"zone\", \"\", \"missing\")",
        ])
        .replace('V', vector)
    }

    fn function(&mut self, depth: u32) -> String {
        let depth = if self.random.one_in(2) { 0 } else { depth };
        match self.random.below(20) {
            0 => {
                let vector = self.vector(depth);
                format!("round({vector}, {})", self.one_of(&["0.5", "3", "0.1", "-2", "0"]))
            }
            1 => {
                let vector = self.vector(depth);
                format!("clamp({vector}, {}, {})", self.scalar(0), self.scalar(0))
            }
            2 => {
                let vector = self.vector(depth);
                format!("{}({vector}, {})", self.one_of(&["clamp_min", "clamp_max"]), self.scalar(depth))
            }
            3 => format!("vector({})", self.scalar(depth)),
            4 => self.one_of(&["minute()", "hour()", "day_of_week()", "month()", "year()"]).to_owned(),
            5 => format!("timestamp({}{})", self.selector(), self.modifiers()),
            6 => format!("absent({}{})", self.selector(), self.modifiers()),
            7 => {
                let vector = self.vector(depth);
                let labels = self.one_of(&["", ", \"job\"", ", \"instance\", \"zone\"", ", \"le\""]);
                format!("{}({vector}{labels})", self.one_of(&["sort_by_label", "sort_by_label_desc"]))
            }
            8 => {
                let of = if self.random.one_in(4) { self.vector(depth) } else { self.selector() + &self.modifiers() };
                format!("start_timestamp({of})")
            }
            _ => {
                let vector = self.vector(depth);
                format!("{}({vector})", self.one_of(SIMPLE))
            }
        }
    }
}
