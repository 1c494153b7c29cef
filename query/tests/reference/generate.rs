//! Random data and random expressions over it, as text.

use std::collections::BTreeMap;

use crate::evaluate::{METRIC_NAME, STALE, Set};
use crate::random::Random;

pub(crate) type Data = BTreeMap<Set, BTreeMap<i64, f64>>;

/// Milliseconds that the data covers.
pub(crate) const SPAN: i64 = 20 * 60_000;

fn labels(pairs: &[(&str, &str)]) -> Set {
    pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

/// Counters with resets, gauges with NaN and infinities, and a classic histogram; with gaps, stale markers, and times on
/// and off the grid. All values are short binary fractions, so that sums of them are exact in any order.
pub(crate) fn data(random: &mut Random, begin: i64) -> Data {
    let mut data = Data::new();
    for job in ["a", "b"] {
        for instance in ["0", "1", "2"] {
            if random.one_in(6) {
                continue;
            }
            let zone = random.of(&["", "x", "y"]);
            let of = |name: &str| labels(&[(METRIC_NAME, name), ("job", job), ("instance", instance), ("zone", zone)]);
            data.insert(of("c_total"), counter(random, begin));
            let values = gauge(random, begin);
            data.insert(of("g"), values);
        }
        let info = [(METRIC_NAME, "info"), ("job", job), ("team", random.of(&["red", "blue"]))];
        let constant = random.of(&[1.0, 1.0, 2.0]);
        data.insert(labels(&info), times(random, begin).into_iter().map(|t| (t, constant)).collect());
        let times = times(random, begin);
        let mut counts = [0.0f64; 4];
        let bounds = ["-1", "0.5", "2", "+Inf"];
        for time in times {
            if random.one_in(30) {
                counts = [0.0; 4];
            }
            let mut below = 0.0;
            for (i, le) in bounds.iter().enumerate() {
                below += random.below(4) as f64 * if i == 0 { 0.5 } else { 1.0 };
                counts[i] += below;
                let series = labels(&[(METRIC_NAME, "h_bucket"), ("job", job), ("le", le)]);
                data.entry(series).or_default().insert(time, counts[i]);
            }
        }
    }
    data
}

/// Times of one series: every 15 seconds more or less, with outages.
fn times(random: &mut Random, begin: i64) -> Vec<i64> {
    let phase = if random.one_in(3) { 0 } else { random.between(0, 14_999) };
    let jitter = random.of(&[0, 0, 200, 4000]);
    let mut times = Vec::new();
    let mut time = begin + phase + if random.one_in(4) { random.between(0, SPAN / 2) } else { 0 };
    while time <= begin + SPAN {
        times.push(time);
        time += 15_000 + random.between(-jitter, jitter);
        if random.one_in(20) {
            time += random.between(1, 8 * 60_000);
        }
    }
    times
}

/// Fills a series; sometimes it ends in a stale marker before an outage.
fn fill(random: &mut Random, begin: i64, mut next: impl FnMut(&mut Random) -> f64) -> BTreeMap<i64, f64> {
    let mut samples = BTreeMap::new();
    for time in times(random, begin) {
        let value = if random.one_in(25) { f64::from_bits(STALE) } else { next(random) };
        samples.insert(time, value);
    }
    samples
}

fn counter(random: &mut Random, begin: i64) -> BTreeMap<i64, f64> {
    let mut value = random.below(100) as f64;
    fill(random, begin, |random| {
        value = if random.one_in(15) { random.below(10) as f64 } else { value + random.below(40) as f64 / 8.0 };
        value
    })
}

fn gauge(random: &mut Random, begin: i64) -> BTreeMap<i64, f64> {
    let wild = random.one_in(3);
    fill(random, begin, |random| match random.below(40) {
        0 if wild => f64::NAN,
        1 if wild => f64::INFINITY,
        2 if wild => f64::NEG_INFINITY,
        3 => 0.0,
        4 => -0.0,
        _ => random.between(-80, 80) as f64 / 8.0,
    })
}

/// Writes expressions.
pub(crate) struct Writer<'a> {
    pub(crate) random: &'a mut Random,
    /// Seconds around which `@` looks.
    pub(crate) begin: i64,
}

const DURATIONS: &[&str] = &["15s", "30s", "1m", "1m30s", "2m", "5m", "7s", "100"];

impl Writer<'_> {
    /// An expression that a range query answers.
    pub(crate) fn expression(&mut self) -> String {
        if self.random.one_in(12) { self.scalar(3) } else { self.vector(3) }
    }

    fn duration(&mut self) -> &'static str {
        self.random.of(DURATIONS)
    }

    fn labels(&mut self) -> String {
        let all = ["job", "instance", "zone", "team", "le", "missing", "__name__"];
        let count = self.random.below(3);
        (0..count).map(|_| self.random.of(&all)).collect::<Vec<_>>().join(",")
    }

    fn selector(&mut self) -> String {
        let name = self.random.of(&["c_total", "c_total", "g", "g", "h_bucket", "info", "nothing"]);
        let matcher = match self.random.below(12) {
            0 => "{job=\"a\"}",
            1 => "{job!=\"a\"}",
            2 => "{instance=~\"0|1\"}",
            3 => "{instance!~\"0.*\"}",
            4 => "{zone=\"\"}",
            5 => "{zone=~\".+\",job=\"b\"}",
            6 => "{job=\"a\",instance=\"1\"}",
            _ => "",
        };
        if self.random.one_in(25) {
            return "{__name__=~\"c_total|g\"}".to_owned();
        }
        format!("{name}{matcher}")
    }

    fn modifiers(&mut self) -> String {
        let mut text = String::new();
        if self.random.one_in(8) {
            let offset = self.random.of(&["30s", "1m", "-1m", "15s", "5m", "-30s", "7"]);
            text.push_str(&format!(" offset {offset}"));
        }
        if self.random.one_in(8) {
            let at = match self.random.below(4) {
                0 => "start()".to_owned(),
                1 => "end()".to_owned(),
                _ => format!("{:.3}", (self.begin + self.random.between(0, SPAN)) as f64 / 1000.0),
            };
            text.push_str(&format!(" @ {at}"));
        }
        text
    }

    fn matrix(&mut self, depth: u32) -> String {
        if depth > 0 && self.random.one_in(4) {
            let inner = self.vector(depth - 1);
            let (range, step) = (self.duration(), self.random.of(&["", "15s", "30s", "20s", "7s"]));
            return format!("({inner})[{range}:{step}]{}", self.modifiers());
        }
        let range = match self.random.below(12) {
            0 => "step() + 1m",
            1 => "max_of(step(), 45s)",
            _ => self.duration(),
        };
        format!("{}[{range}]{}", self.selector(), self.modifiers())
    }

    fn scalar(&mut self, depth: u32) -> String {
        match self.random.below(if depth == 0 { 6 } else { 10 }) {
            0 => "time()".to_owned(),
            1 => self.random.of(&["pi()", "step()", "range()", "start()", "end()"]).to_owned(),
            2..=5 => self.random.of(&["0", "1", "2", "-1", "0.5", "3", "10", "NaN", "Inf", "0.9"]).to_owned(),
            6 => format!("scalar({})", self.vector(depth - 1)),
            7 => format!("max_of({}, {})", self.scalar(depth - 1), self.scalar(depth - 1)),
            8 => format!("({} <= bool {})", self.scalar(depth - 1), self.scalar(depth - 1)),
            _ => {
                let op = self.random.of(&["+", "-", "*", "/", "%"]);
                format!("({} {op} {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
        }
    }

    fn vector(&mut self, depth: u32) -> String {
        if depth == 0 {
            return format!("{}{}", self.selector(), self.modifiers());
        }
        match self.random.below(20) {
            0 | 1 => format!("{}{}", self.selector(), self.modifiers()),
            2..=6 => self.over_range(depth),
            7..=10 => self.aggregation(depth - 1),
            11..=13 => self.binary(depth - 1),
            14 => self.with_scalar(depth - 1),
            15 => self.histogram(depth - 1),
            16 => format!("-{}{}", self.selector(), self.modifiers()),
            17 => self.relabelled(depth - 1),
            _ => self.function(depth - 1),
        }
    }

    fn over_range(&mut self, depth: u32) -> String {
        let function = self.random.of(&[
            "rate",
            "rate",
            "increase",
            "delta",
            "irate",
            "idelta",
            "changes",
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
            "quantile",
            "ahead",
            "smooth",
        ]);
        let matrix = self.matrix(depth - 1);
        match function {
            "quantile" => format!("quantile_over_time({}, {matrix})", self.scalar(0)),
            "ahead" => format!("predict_linear({matrix}, {})", self.random.of(&["60", "-30", "0"])),
            "smooth" => format!("double_exponential_smoothing({matrix}, 0.25, 0.5)"),
            function => format!("{function}({matrix})"),
        }
    }

    fn aggregation(&mut self, depth: u32) -> String {
        let op = self.random.of(&[
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
        ]);
        let param = match op {
            "topk" | "bottomk" => format!("{}, ", self.random.of(&["0", "1", "2", "3", "100"])),
            "count_values" => format!("\"{}\", ", self.random.of(&["v", "job"])),
            "quantile" => format!("{}, ", self.random.of(&["0", "0.3", "0.5", "1", "2", "-1", "NaN"])),
            _ => String::new(),
        };
        let grouping = match self.random.below(3) {
            0 => String::new(),
            1 => format!(" by ({})", self.labels()),
            _ => format!(" without ({})", self.labels()),
        };
        format!("{op}{grouping} ({param}{})", self.vector(depth))
    }

    fn binary(&mut self, depth: u32) -> String {
        let op = self.random.of(&[
            "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", "<", ">=", "== bool", "> bool", "and", "or", "unless",
        ]);
        let (left, right) = (self.vector(depth), self.vector(depth));
        let set = matches!(op, "and" | "or" | "unless");
        let mut matching = String::new();
        if self.random.one_in(2) {
            matching = format!(" {}({})", self.random.of(&["on", "ignoring"]), self.labels());
            if !set && self.random.one_in(2) {
                // What is matched on cannot be included.
                let include = self.random.of(&["", "()", "(team)", "(zone2)"]);
                let side = self.random.of(&["group_left", "group_right"]);
                if !matching.contains("team") || include != "(team)" {
                    matching.push_str(&format!(" {side}{include}"));
                }
            }
        }
        if !set && self.random.one_in(8) {
            matching.push_str(self.random.of(&[" fill(0)", " fill_left(2)", " fill_right(-1)"]));
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
        let op = self.random.of(&["+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<= bool", ">="]);
        let (vector, scalar) = (self.vector(depth), self.scalar(depth));
        if self.random.one_in(2) { format!("({vector}) {op} {scalar}") } else { format!("{scalar} {op} ({vector})") }
    }

    fn histogram(&mut self, depth: u32) -> String {
        let of = match self.random.below(4) {
            0 => format!("h_bucket{}", self.modifiers()),
            1 => format!("rate(h_bucket[{}])", self.duration()),
            2 => format!("sum by (le) (increase(h_bucket[{}]))", self.duration()),
            _ => self.vector(depth),
        };
        if self.random.one_in(4) {
            return format!("histogram_fraction({}, {}, {of})", self.scalar(0), self.scalar(0));
        }
        format!("histogram_quantile({}, {of})", self.random.of(&["0", "0.5", "0.9", "1", "2", "-1", "NaN", "0.25"]))
    }

    fn relabelled(&mut self, depth: u32) -> String {
        let vector = self.vector(depth);
        self.random
            .of(&[
                "label_replace(V, \"new\", \"$1\", \"job\", \"(.*)\")",
                "label_replace(V, \"zone\", \"\", \"zone\", \"x\")",
                "label_replace(V, \"job\", \"j-${1}$2\", \"instance\", \"([01])(.*)\")",
                "label_replace(V, \"__name__\", \"n\", \"job\", \"a\")",
                "label_join(V, \"new\", \"-\", \"job\", \"instance\", \"missing\")",
                "label_join(V, \"zone\", \"\", \"missing\")",
            ])
            .replace('V', &vector)
    }

    fn function(&mut self, depth: u32) -> String {
        let vector = self.vector(depth);
        let function = self.random.of(&[
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
            "atan",
            "deg",
            "rad",
            "sgn",
            "round",
            "round2",
            "clamp",
            "clamp_min",
            "clamp_max",
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
            "vector",
            "minute()",
            "timestamp of",
            "absent of",
        ]);
        match function {
            "round2" => format!("round({vector}, {})", self.random.of(&["0.5", "3", "0.1", "-2"])),
            "clamp" => format!("clamp({vector}, {}, {})", self.scalar(0), self.scalar(0)),
            "clamp_min" | "clamp_max" => format!("{function}({vector}, {})", self.scalar(depth)),
            "vector" => format!("vector({})", self.scalar(depth)),
            "minute()" => "minute()".to_owned(),
            "timestamp of" => format!("timestamp({})", self.selector()),
            "absent of" => format!("absent({}{})", self.selector(), self.modifiers()),
            function => format!("{function}({vector})"),
        }
    }
}
