//! Calls of functions over instant vectors and scalars; range functions are handed to the scan.

use varve_model::{Histogram, Labels};

use crate::annotation::{Annotation, Notes};
use crate::error::Error;
use crate::exec::block::{ABSENT, StepBlock, Value, is_absent};
use crate::exec::eval::{Evaluated, Evaluator, ill_typed};
use crate::exec::functions::histogram::{Distributions, Measure};
use crate::exec::functions::{date, histogram, label, math, sort};
use crate::exec::remarks::is_invalid_quantile;
use crate::exec::scalar::Scalar;
use crate::exec::scan::Wanted;
use crate::exec::steps::Steps;
use crate::exec::strip;
use crate::exec::window::RangeFunction;
use crate::histogram as native;
use crate::promql::ast::{Expr, ExprKind, Span};
use crate::request::Mode;

impl Evaluator<'_> {
    /// Evaluates a call.
    pub(super) fn call(&self, function: &str, args: &[Expr], span: Span, steps: Steps) -> Result<Evaluated, Error> {
        if let Some(value) = self.scalar_call(function, args, steps)? {
            return Ok(Evaluated::Scalar(value));
        }
        self.check_modifier(function, args)?;
        if function == "absent_over_time" {
            let argument = args.first().ok_or_else(|| ill_typed("range vector"))?;
            let scan = self.windows(RangeFunction::Present, argument, Vec::new(), steps, self.notes(args, 0))?;
            let present = scan.presence(self.pool, self.budget)?;
            return self.absent(argument, &present);
        }
        if let Some(function) = RangeFunction::named(function) {
            return Ok(Evaluated::Vector(self.range_call(function, args, steps)?.collect(self.pool, self.budget)?));
        }
        if let Some(part) = date::part(function) {
            return self.date(part, args.first(), steps);
        }
        let late = self.late();
        let vector = |number: usize| match args.get(number) {
            Some(arg) => self.vector(arg, steps),
            None => Err(ill_typed("instant vector")),
        };
        let scalar = |number: usize| match args.get(number) {
            Some(arg) => self.scalar(arg, steps),
            None => Err(ill_typed("scalar")),
        };
        if let Some(unary) = math::unary(function) {
            return elementwise(late, vector(0)?, |_, value| unary(value));
        }
        let block = match function {
            "round" => {
                let nearest = if args.len() > 1 { scalar(1)? } else { self.constant(1.0, steps)? };
                return elementwise(late, vector(0)?, |step, value| math::round(value, nearest[step]));
            }
            "clamp" => return clamp(late, vector(0)?, &scalar(1)?, &scalar(2)?),
            "clamp_min" => return clamp(late, vector(0)?, &scalar(1)?, &self.constant(f64::INFINITY, steps)?),
            "clamp_max" => return clamp(late, vector(0)?, &self.constant(f64::NEG_INFINITY, steps)?, &scalar(1)?),
            "timestamp" => match args.first().map(|arg| &strip(arg).kind) {
                Some(ExprKind::VectorSelector(selector)) => {
                    self.newest(selector, steps, Wanted::Time)?.collect(self.pool, self.budget)?
                }
                _ => {
                    let mut block = vector(0)?;
                    block.map_histograms(self.budget, |_, _| Some(Value::Float(0.0)))?;
                    return elementwise(late, block, |step, _| steps.time(step) as f64 / 1000.0);
                }
            },
            "vector" => {
                let mut block = StepBlock::new(steps.count);
                block.push(Labels::default(), &scalar(0)?, self.budget)?;
                block
            }
            "absent" => {
                let argument = args.first().ok_or_else(|| ill_typed("instant vector"))?;
                let present = present_steps(&vector(0)?);
                return self.absent(argument, &present);
            }
            "label_replace" => {
                let mut block = vector(0)?;
                let arguments = label::Replace {
                    target: self.string(args, 1)?,
                    replacement: self.string(args, 2)?,
                    source: self.string(args, 3)?,
                    pattern: self.string(args, 4)?,
                };
                label::replace(&mut block, &arguments, self.budget)?;
                block
            }
            "label_join" => {
                let mut block = vector(0)?;
                let sources = (3..args.len()).map(|n| self.string(args, n)).collect::<Result<Vec<_>, _>>()?;
                label::join(&mut block, self.string(args, 1)?, self.string(args, 2)?, &sources, self.budget)?;
                block
            }
            "sort" | "sort_desc" if self.request.mode == Mode::Instant && steps.count == 1 => {
                sort::by_value(&mut vector(0)?, function == "sort_desc", self.budget)?
            }
            "sort_by_label" | "sort_by_label_desc" if self.request.mode == Mode::Instant && steps.count == 1 => {
                let names = (1..args.len()).map(|n| Ok(self.string(args, n)?.to_owned()));
                let names = names.collect::<Result<Vec<_>, Error>>()?;
                sort::by_labels(&vector(0)?, &names, function == "sort_by_label_desc", self.budget)?
            }
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
                if steps.count > 1 {
                    self.annotations.add(&Annotation::SortInRangeQuery, span);
                }
                let mut block = vector(0)?;
                if matches!(function, "sort" | "sort_desc") {
                    block.drop_histograms();
                }
                block
            }
            "histogram_quantile" => {
                let quantiles = scalar(0)?;
                remark_quantiles(&quantiles, &self.notes(args, 0));
                let notes = self.notes(args, 1);
                let outcome = self.distributions(&notes, steps);
                outcome.evaluate(&vector(1)?, 1, &|_, labels| Ok(labels.clone()), &|_, step| {
                    Some(Measure::Quantile(quantiles[step]))
                })?
            }
            "histogram_quantiles" => {
                let name = self.string(args, 1)?;
                let quantiles = (2..args.len()).map(&scalar).collect::<Result<Vec<_>, _>>()?;
                for (number, quantiles) in quantiles.iter().enumerate() {
                    remark_quantiles(quantiles, &self.notes(args, 2 + number));
                }
                // A quantile that changes from step to step makes a series for each of its values.
                let _held = self.budget.hold_cells(quantiles.len(), steps.count.saturating_mul(3))?;
                let series = distinct(&quantiles);
                let labels_of = |number: usize, labels: &Labels| {
                    let mut builder = labels.to_builder();
                    builder.set(name, &histogram::quantile_label(series[number].1));
                    label::built(builder)
                };
                let notes = self.notes(args, 0);
                let outcome = self.distributions(&notes, steps);
                outcome.evaluate(&vector(0)?, series.len(), &labels_of, &|number, step| {
                    let (argument, q) = series[number];
                    (quantiles[argument][step].to_bits() == q.to_bits()).then_some(Measure::Quantile(q))
                })?
            }
            "histogram_fraction" => {
                let (lower, upper) = (scalar(0)?, scalar(1)?);
                let notes = self.notes(args, 2);
                let outcome = self.distributions(&notes, steps);
                outcome.evaluate(&vector(2)?, 1, &|_, labels| Ok(labels.clone()), &|_, step| {
                    Some(Measure::Fraction(lower[step], upper[step]))
                })?
            }
            "histogram_avg" => of_histograms(late, vector(0)?, |histogram| histogram.sum / histogram.count)?,
            "histogram_count" => of_histograms(late, vector(0)?, |histogram| histogram.count)?,
            "histogram_sum" => of_histograms(late, vector(0)?, |histogram| histogram.sum)?,
            "histogram_stddev" => of_histograms(late, vector(0)?, |histogram| native::variance(histogram).sqrt())?,
            "histogram_stdvar" => of_histograms(late, vector(0)?, native::variance)?,
            "start_timestamp" => match args.first().map(|arg| &strip(arg).kind) {
                Some(ExprKind::VectorSelector(selector)) if self.request.features.start_timestamps => {
                    self.newest(selector, steps, Wanted::Start)?.collect(self.pool, self.budget)?
                }
                // What was computed did not begin.
                _ => {
                    vector(0)?;
                    StepBlock::new(steps.count)
                }
            },
            "info" => self.info(args, steps)?,
            _ => return Err(ill_typed("a function")),
        };
        Ok(Evaluated::Vector(block))
    }

    fn distributions<'n>(&'n self, notes: &'n Notes, steps: Steps) -> Distributions<'n> {
        Distributions { notes, steps, budget: self.budget, named: self.late() }
    }

    /// Functions whose value is a scalar.
    fn scalar_call(&self, function: &str, args: &[Expr], steps: Steps) -> Result<Option<Scalar>, Error> {
        let constant = |value: f64| self.constant(value, steps).map(Some);
        let scalar = |values: &mut dyn Iterator<Item = f64>| Scalar::new(values, steps.count, self.budget).map(Some);
        let request = self.request;
        match (function, args) {
            ("time", _) => scalar(&mut steps.times().map(|time| time as f64 / 1000.0)),
            ("pi", _) => constant(std::f64::consts::PI),
            ("start", _) => constant(request.start as f64 / 1000.0),
            ("end", _) => constant(request.end as f64 / 1000.0),
            ("range", _) => constant(request.end.saturating_sub(request.start) as f64 / 1000.0),
            ("step", _) => constant(if request.start == request.end { 0.0 } else { request.step as f64 / 1000.0 }),
            ("max_of" | "min_of", [a, b]) => {
                let (mut a, b) = (self.scalar(a, steps)?, self.scalar(b, steps)?);
                let of = if function == "max_of" { math::max } else { math::min };
                a.iter_mut().zip(b.iter()).for_each(|(a, b)| *a = of(*a, *b));
                Ok(Some(a))
            }
            ("scalar", [arg]) => {
                let mut block = self.vector(arg, steps)?;
                block.drop_histograms();
                let mut values = self.constant(ABSENT, steps)?;
                for (_, row) in block.iter() {
                    for (value, cell) in values.iter_mut().zip(row).filter(|(_, cell)| !is_absent(**cell)) {
                        *value = if is_absent(*value) { *cell } else { f64::NAN };
                    }
                }
                values.iter_mut().filter(|value| is_absent(**value)).for_each(|value| *value = f64::NAN);
                Ok(Some(values))
            }
            _ => Ok(None),
        }
    }

    fn date(&self, part: fn(f64) -> f64, arg: Option<&Expr>, steps: Steps) -> Result<Evaluated, Error> {
        match arg {
            Some(arg) => elementwise(self.late(), self.vector(arg, steps)?, |_, value| part(value)),
            None => {
                let row: Vec<f64> = steps.times().map(|time| part(time.div_euclid(1000) as f64)).collect();
                let mut block = StepBlock::new(steps.count);
                block.push(Labels::default(), &row, self.budget)?;
                Ok(Evaluated::Vector(block))
            }
        }
    }

    /// One where nothing is present.
    fn absent(&self, argument: &Expr, present: &[bool]) -> Result<Evaluated, Error> {
        let labels = match &strip(argument).kind {
            ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => {
                label::of_absent(&selector.matchers)?
            }
            _ => Labels::default(),
        };
        let row: Vec<f64> = present.iter().map(|present| if *present { ABSENT } else { 1.0 }).collect();
        let mut block = StepBlock::new(row.len());
        block.push(labels, &row, self.budget)?;
        Ok(Evaluated::Vector(block))
    }
}

/// What is said of the quantiles of a function: each that is outside [0, 1].
fn remark_quantiles(quantiles: &[f64], notes: &Notes) {
    let mut said = None;
    for q in quantiles.iter().filter(|q| is_invalid_quantile(**q)) {
        if said.replace(q.to_bits()) != Some(q.to_bits()) {
            notes.add(&Annotation::InvalidQuantile(*q));
        }
    }
}

/// The values that each argument takes: number of the argument and value.
fn distinct(arguments: &[Scalar]) -> Vec<(usize, f64)> {
    let mut values = Vec::new();
    for (number, argument) in arguments.iter().enumerate() {
        let mut bits: Vec<u64> = argument.iter().map(|value| value.to_bits()).collect();
        bits.sort_unstable();
        bits.dedup();
        values.extend(bits.into_iter().map(|bits| (number, f64::from_bits(bits))));
    }
    values
}

fn present_steps(block: &StepBlock) -> Vec<bool> {
    let mut present = vec![false; block.steps()];
    for (_, row) in block.iter() {
        for (present, cell) in present.iter_mut().zip(row) {
            *present |= !is_absent(*cell);
        }
    }
    present
}

/// A function of each histogram; the result is another metric.
fn of_histograms(late: bool, mut block: StepBlock, value: impl Fn(&Histogram) -> f64) -> Result<StepBlock, Error> {
    block.floats_of_histograms(|_, histogram| value(histogram));
    block.drop_names(late)?;
    Ok(block)
}

/// A function of each value; the result is another metric.
fn elementwise(late: bool, mut block: StepBlock, change: impl FnMut(usize, f64) -> f64) -> Result<Evaluated, Error> {
    block.map_cells(change);
    block.drop_names(late)?;
    Ok(Evaluated::Vector(block))
}

fn clamp(late: bool, block: StepBlock, min: &[f64], max: &[f64]) -> Result<Evaluated, Error> {
    elementwise(late, block, |step, value| {
        if max[step] < min[step] { ABSENT } else { math::max(min[step], math::min(max[step], value)) }
    })
}
