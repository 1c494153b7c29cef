//! A column of integers: whichever of five shapes takes the fewest bytes, its rest in frames.
//!
//! ```text
//! 0 step    start, step                 x[i] = start + i * step; no frames
//! 1 offset  frames of x[i]
//! 2 delta   start, frames of d[i]       x[i] = x[i-1] + d[i], x[-1] = start
//! 3 delta2  start, first, frames of e   d[i] = d[i-1] + e[i], d[-1] = first
//! 4 line    start, step, frames of r    x[i] = start + i * step + r[i]
//! ```
//! Start, step and first are zigzag varints; all sums wrap, so any column of `i64` comes back exactly. `d[0]` and
//! `e[0]` stand for nothing: they are chosen to cost least, so that a column of 1,024 fills its groups of 128.

use super::Malformed;
use super::frame::{self, FRAME_LEN, Frame, GROUP_LEN, Plan};
use super::varint::{Bytes, len_of_bits, write_i64, zigzag};
use bitpacking::{BitPacker, BitPacker4x};

/// The shape of a column; the discriminant is on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Shape {
    /// Equal steps.
    Step = 0,
    /// Around one value.
    Offset = 1,
    /// Similar steps.
    Delta = 2,
    /// Slowly changing steps.
    Delta2 = 3,
    /// Around a line: a schedule with jitter.
    Line = 4,
}

impl Shape {
    /// The shape of a discriminant.
    pub(crate) fn from_bits(bits: u8) -> Result<Shape, Malformed> {
        match bits {
            0 => Ok(Shape::Step),
            1 => Ok(Shape::Offset),
            2 => Ok(Shape::Delta),
            3 => Ok(Shape::Delta2),
            4 => Ok(Shape::Line),
            _ => Err(Malformed("unknown shape of integers")),
        }
    }
}

/// A column reduced to what its frames hold.
#[derive(Debug)]
pub(crate) struct Shaped {
    /// Its shape.
    pub(crate) shape: Shape,
    /// `start`, and `step` or `first`: as many as the shape has.
    parameters: [Option<i64>; 2],
    /// What the frames hold; empty for `Shape::Step`.
    pub(crate) rest: Vec<i64>,
    plans: Vec<Plan>,
    /// Bytes that [`Shaped::write`] will take, nearly exact.
    pub(crate) bytes: usize,
}

/// Finds the cheapest shape. `values` has at least one.
pub(crate) fn shape(values: &[i64]) -> Shaped {
    assert!(!values.is_empty());
    let first = values.first().copied().unwrap_or(0);
    let step = steps(values).next().unwrap_or(0);
    if steps(values).all(|other| other == step) {
        let parameters = [Some(first), Some(step)];
        let bytes = parameter_bytes(&parameters);
        return Shaped { shape: Shape::Step, parameters, rest: Vec::new(), plans: Vec::new(), bytes };
    }
    // Two in three columns are best as deltas; each other shape is tried against the best so far.
    let mut deltas = Vec::with_capacity(values.len());
    deltas.push(step);
    deltas.extend(steps(values));
    let mut deltas2 = Vec::with_capacity(values.len());
    deltas2.push(0);
    deltas2.extend(steps(&deltas));
    let before = first.wrapping_sub(step);
    let slope = slope(values);
    let line: Vec<i64> = values
        .iter()
        .enumerate()
        .map(|(i, value)| value.wrapping_sub(first.wrapping_add(slope.wrapping_mul(i as i64))))
        .collect();
    [
        plan_shape(Shape::Delta, [Some(before), None], deltas),
        plan_shape(Shape::Delta2, [Some(before), Some(step)], deltas2),
        plan_shape(Shape::Line, [Some(first), Some(slope)], line),
        plan_shape(Shape::Offset, [None, None], values.to_vec()),
    ]
    .into_iter()
    .min_by_key(|shaped| shaped.bytes)
    .unwrap_or_else(|| unreachable!("four shapes were planned"))
}

fn plan_shape(shape: Shape, parameters: [Option<i64>; 2], rest: Vec<i64>) -> Shaped {
    let plans: Vec<Plan> = rest.chunks(FRAME_LEN).map(frame::plan).collect();
    let bytes = parameter_bytes(&parameters) + plans.iter().map(|plan| plan.bytes).sum::<usize>();
    Shaped { shape, parameters, rest, plans, bytes }
}

fn parameter_bytes(parameters: &[Option<i64>; 2]) -> usize {
    parameters.iter().flatten().map(|value| len_of_bits(64 - zigzag(*value).leading_zeros())).sum()
}

/// From each value to the next.
fn steps(values: &[i64]) -> impl Iterator<Item = i64> {
    values.iter().zip(values.iter().skip(1)).map(|(this, next)| next.wrapping_sub(*this))
}

/// The mean step, rounded.
fn slope(values: &[i64]) -> i64 {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return 0 };
    let steps = (values.len() as i128 - 1).max(1);
    let rise = i128::from(*last) - i128::from(*first);
    ((rise + rise.signum() * steps / 2) / steps) as i64
}

impl Shaped {
    /// Appends the parameters and the frames. The shape itself is the caller's to write.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.write_parameters(out);
        for (values, plan) in self.rest.chunks(FRAME_LEN).zip(&self.plans) {
            frame::write(values, plan, out);
        }
    }

    /// Appends `start`, `step`, `first`: those the shape has.
    pub(crate) fn write_parameters(&self, out: &mut Vec<u8>) {
        for parameter in self.parameters.iter().flatten() {
            write_i64(out, *parameter);
        }
    }
}

/// What is known of a column before its frames; carries the sums from frame to frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    shape: Shape,
    start: i64,
    step: i64,
}

impl Sums {
    /// Reads the parameters of a shape.
    pub(crate) fn read(shape: Shape, bytes: &mut Bytes<'_>) -> Result<Sums, Malformed> {
        let start = if shape == Shape::Offset { 0 } else { bytes.i64()? };
        let step = match shape {
            Shape::Offset | Shape::Delta => 0,
            Shape::Step | Shape::Delta2 | Shape::Line => bytes.i64()?,
        };
        Ok(Sums { shape, start, step })
    }

    /// Turns the running sums of a group's offsets into values of a `Shape::Delta` column. No value waits for the one
    /// before it, so this is vector code: twice as fast as adding up.
    #[inline]
    fn restore_sums(
        &mut self,
        frame: &mut Frame<'_>,
        sums: &[u32; GROUP_LEN],
        group: &mut [u64; GROUP_LEN],
    ) -> Result<(), Malformed> {
        let mut line = self.start as u64;
        for (to, from) in group.iter_mut().zip(sums) {
            line = line.wrapping_add(frame.base as u64);
            *to = line.wrapping_add(u64::from(*from));
        }
        frame.patch_sums(group)?;
        self.start = group.last().map_or(0, |last| *last as i64);
        Ok(())
    }

    /// Turns the next offsets of a frame into values of the column, in place.
    #[inline]
    pub(crate) fn restore(&mut self, base: i64, block: &mut [u64]) {
        let (mut start, mut step) = (self.start, self.step);
        match self.shape {
            Shape::Offset => {
                for to in block {
                    *to = to.wrapping_add(base as u64);
                }
            }
            Shape::Delta => {
                for to in block {
                    start = start.wrapping_add(base.wrapping_add(*to as i64));
                    *to = start as u64;
                }
            }
            Shape::Delta2 => {
                for to in block {
                    step = step.wrapping_add(base.wrapping_add(*to as i64));
                    start = start.wrapping_add(step);
                    *to = start as u64;
                }
            }
            Shape::Step | Shape::Line => {
                let mut line = start.wrapping_add(base);
                start = start.wrapping_add(step.wrapping_mul(block.len() as i64));
                for to in block {
                    *to = to.wrapping_add(line as u64);
                    line = line.wrapping_add(step);
                }
            }
        }
        (self.start, self.step) = (start, step);
    }
}

/// Reads a column of `count` integers and hands it on in groups of up to 128.
#[inline]
pub(crate) fn read(
    shape: Shape,
    bytes: &mut Bytes<'_>,
    count: usize,
    mut sink: impl FnMut(&[u64]),
) -> Result<(), Malformed> {
    let mut sums = Sums::read(shape, bytes)?;
    let packer = BitPacker4x::new();
    let mut group = [0; GROUP_LEN];
    let mut low = [0; GROUP_LEN];
    let mut left = count;
    while left > 0 {
        let frame_len = left.min(FRAME_LEN);
        let mut frame = if shape == Shape::Step { None } else { Some(Frame::read(bytes, frame_len)?) };
        let mut frame_left = frame_len;
        while frame_left > 0 {
            let group_len = match &mut frame {
                None => {
                    let count = frame_left.min(GROUP_LEN);
                    let (steps, _) = group.split_at_mut(count);
                    steps.fill(0);
                    sums.restore(0, steps);
                    count
                }
                Some(frame) => {
                    if shape == Shape::Delta && frame.next_sums(&packer, &mut low)? {
                        sums.restore_sums(frame, &low, &mut group)?;
                        GROUP_LEN
                    } else {
                        let count = frame.next_group(&packer, &mut group)?;
                        sums.restore(frame.base, group.split_at_mut(count).0);
                        count
                    }
                }
            };
            sink(group.split_at(group_len).0);
            frame_left -= group_len;
        }
        left -= frame_len;
    }
    Ok(())
}
