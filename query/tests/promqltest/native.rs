//! Histograms of test scripts: `{{schema:… buckets:[…]}}`, sums of them, and classic histograms as custom buckets.

use std::collections::BTreeMap;

use varve_model::histogram::{Histogram, ResetHint, Span};
use varve_model::{Labels, LabelsBuilder};

use super::{Item, Load, number};

/// The schema of custom buckets.
const CUSTOM: i32 = -53;

/// A histogram with its buckets by number.
#[derive(Clone, Default)]
struct Native {
    plain: Histogram,
    positive: BTreeMap<i32, f64>,
    negative: BTreeMap<i32, f64>,
}

fn counts(text: &str) -> Result<Vec<f64>, String> {
    let inner =
        text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or_else(|| format!("no list {text:?}"))?;
    inner.split_whitespace().map(number).collect()
}

/// The fields between the braces: `name:value`, where a value may be a list in brackets.
fn fields(mut text: &str) -> Result<Vec<(&str, &str)>, String> {
    let mut fields = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return Ok(fields);
        }
        let (name, rest) = text.split_once(':').ok_or_else(|| format!("no field {text:?}"))?;
        let end = match rest.starts_with('[') {
            true => rest.find(']').ok_or_else(|| format!("no end of {rest:?}"))? + 1,
            false => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        fields.push((name, &rest[..end]));
        text = &rest[end..];
    }
}

impl Native {
    fn parse(text: &str) -> Result<Native, String> {
        let mut native = Native::default();
        native.plain.is_float = true;
        let (mut offsets, mut lists) = ([0, 0], [Vec::new(), Vec::new()]);
        for (name, value) in fields(text)? {
            let plain = &mut native.plain;
            let whole = || value.parse::<i32>().map_err(|error| format!("{value:?}: {error}"));
            match name {
                "schema" => plain.schema = whole()?,
                "sum" => plain.sum = number(value)?,
                "count" => plain.count = number(value)?,
                "z_bucket" => plain.zero_count = number(value)?,
                "z_bucket_w" => plain.zero_threshold = number(value)?,
                "custom_values" => plain.custom_bounds = counts(value)?,
                "offset" => offsets[0] = whole()?,
                "n_offset" => offsets[1] = whole()?,
                "buckets" => lists[0] = counts(value)?,
                "n_buckets" => lists[1] = counts(value)?,
                "counter_reset_hint" => {
                    plain.reset_hint = match value {
                        "unknown" => ResetHint::Unknown,
                        "reset" => ResetHint::Reset,
                        "not_reset" => ResetHint::NoReset,
                        "gauge" => ResetHint::Gauge,
                        _ => return Err(format!("unknown hint {value:?}")),
                    }
                }
                _ => return Err(format!("unknown field {name:?}")),
            }
        }
        let [positive, negative] = lists;
        native.positive = (offsets[0]..).zip(positive).collect();
        native.negative = (offsets[1]..).zip(negative).collect();
        Ok(native)
    }

    fn add(&mut self, other: &Native, sign: f64) {
        let (plain, more) = (&mut self.plain, &other.plain);
        plain.sum += sign * more.sum;
        plain.count += sign * more.count;
        plain.zero_count += sign * more.zero_count;
        if plain.reset_hint != more.reset_hint {
            let gauge = [plain.reset_hint, more.reset_hint].contains(&ResetHint::Gauge);
            plain.reset_hint = if gauge { ResetHint::Gauge } else { ResetHint::Unknown };
        }
        let shift = (more.schema - plain.schema).max(0);
        for (into, from) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            for (index, count) in from {
                *into.entry(((index - 1) >> shift) + 1).or_default() += sign * count;
            }
        }
    }

    fn build(&self) -> Histogram {
        let side = |buckets: &BTreeMap<i32, f64>| {
            let mut next = 0;
            let mut spans: Vec<Span> = Vec::new();
            for index in buckets.keys() {
                match spans.last_mut() {
                    Some(span) if *index == next => span.length += 1,
                    _ => spans.push(Span { offset: index - next, length: 1 }),
                }
                next = index + 1;
            }
            (spans, buckets.values().copied().collect())
        };
        let (positive_spans, positive) = side(&self.positive);
        let (negative_spans, negative) = side(&self.negative);
        Histogram { positive_spans, positive, negative_spans, negative, ..self.plain.clone() }
    }
}

/// Reads `{{…}}`, `{{…}}xN` or `{{…}}+{{…}}xN`, adds the histograms to `items`; what follows.
pub(super) fn items<'a>(text: &'a str, items: &mut Vec<Item>) -> Result<&'a str, String> {
    let one = |text: &'a str| -> Result<(Native, &'a str), String> {
        let (body, rest) = text.split_once("}}").ok_or("unfinished histogram")?;
        Ok((Native::parse(body)?, rest))
    };
    let push = |items: &mut Vec<Item>, native: &Native| items.push(Item::Histogram(Box::new(native.build())));
    let (mut native, mut rest) = one(text.strip_prefix("{{").ok_or("no histogram")?)?;
    push(items, &native);
    let signs = [("+{{", 1.0), ("-{{", -1.0)];
    let step = signs.iter().find_map(|(begin, sign)| Some((rest.strip_prefix(begin)?, *sign)));
    let step = match step {
        Some((text, sign)) => {
            let (step, after) = one(text)?;
            rest = after;
            Some((step, sign))
        }
        None => None,
    };
    if let Some(times) = rest.strip_prefix('x') {
        let end = times.find(|c: char| !c.is_ascii_digit()).unwrap_or(times.len());
        for _ in 0..times[..end].parse::<usize>().map_err(|error| error.to_string())? {
            if let Some((step, sign)) = &step {
                native.add(step, *sign);
            }
            push(items, &native);
        }
        rest = &times[end..];
    }
    Ok(rest)
}

/// What is known of a classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// Cumulative counts with their bounds.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    fn build(mut self) -> Histogram {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let highest = self.buckets.last().copied();
        let total = match highest {
            Some((bound, count)) if bound == f64::INFINITY => self.count.unwrap_or(count),
            Some((_, count)) => self.count.unwrap_or(count),
            None => self.count.unwrap_or(0.0),
        };
        if highest.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, total));
        }
        let plain = Histogram {
            schema: CUSTOM,
            is_float: true,
            count: total,
            sum: self.sum,
            custom_bounds: self.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(),
            ..Histogram::default()
        };
        let mut native = Native { plain, ..Native::default() };
        let mut before = 0.0;
        for (index, (_, count)) in self.buckets.iter().enumerate() {
            if *count != before {
                native.positive.insert(index as i32, count - before);
            }
            before = *count;
        }
        native.build()
    }
}

/// Adds to a load the classic histograms among its series as native ones.
pub(super) fn convert(load: &mut Load) -> Result<(), String> {
    let mut families: Vec<(Labels, BTreeMap<usize, Classic>)> = Vec::new();
    for (labels, items) in &load.series {
        let name = labels.metric_name();
        let Some(suffix) = ["_bucket", "_count", "_sum"].into_iter().find(|suffix| name.ends_with(suffix)) else {
            continue;
        };
        let bound = match suffix {
            "_bucket" => match number(labels.get("le").unwrap_or_default()) {
                Ok(bound) if !bound.is_nan() => bound,
                _ => continue,
            },
            _ => f64::NAN,
        };
        let mut builder = LabelsBuilder::default();
        for (label, value) in labels.iter().filter(|(label, _)| *label != "le") {
            builder.set(label, value);
        }
        builder.set("__name__", name.strip_suffix(suffix).unwrap_or(name));
        let family = builder.build().map_err(|error| format!("{error:?}"))?;
        let place = families.iter().position(|(other, _)| *other == family).unwrap_or_else(|| {
            families.push((family, BTreeMap::new()));
            families.len() - 1
        });
        for (at, item) in items.iter().enumerate() {
            let Item::Float(value) = item else { continue };
            let classic = families[place].1.entry(at).or_default();
            match suffix {
                "_bucket" => {
                    classic.buckets.retain(|(other, _)| *other != bound);
                    classic.buckets.push((bound, *value));
                }
                "_count" => classic.count = Some(*value),
                _ => classic.sum = *value,
            }
        }
    }
    for (labels, times) in families {
        let mut items = Vec::new();
        for (at, classic) in times {
            items.resize(at, Item::Omitted);
            items.push(Item::Histogram(Box::new(classic.build())));
        }
        load.series.push((labels, items));
    }
    Ok(())
}
