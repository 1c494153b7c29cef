//! Chunks of floats: XOR, as every Prometheus writes them, and XOR2 with joint control bits and start timestamps.
//!
//! Times are deltas of deltas, values the XOR with the value before; XOR2 leaves stale markers out of that chain.
//! Arithmetic on times wraps, as it does in Prometheus: a time is a number like any other to the decoder.

use varve_model::{Column, STALE_NAN_BITS};

use super::bits::{Bits, Xor, signed};
use super::chunk::{Starts, push_float};

/// Decodes an XOR chunk without the number of its samples. `None`: the bits end too early.
pub(super) fn xor(data: &[u8], samples: u16, out: &mut Column) -> Option<()> {
    let mut bits = Bits::new(data);
    let mut time = 0i64;
    let mut delta = 0i64;
    let mut value = Xor::default();
    for index in 0..samples {
        match index {
            0 => {
                time = bits.varint()?;
                value = Xor::of(bits.read(64)?);
            }
            1 => {
                delta = bits.uvarint()? as i64;
                time = time.wrapping_add(delta);
                value.next(&mut bits)?;
            }
            _ => {
                let width = match bits.ones(4)? {
                    0 => 0,
                    1 => 14,
                    2 => 17,
                    3 => 20,
                    _ => 64,
                };
                if width > 0 {
                    delta = delta.wrapping_add(signed(bits.read(width)?, width));
                }
                time = time.wrapping_add(delta);
                value.next(&mut bits)?;
            }
        }
        push_float(out, time, value.value(), 0);
    }
    Some(())
}

/// Decodes an XOR2 chunk without the number of its samples.
pub(super) fn xor2(data: &[u8], samples: u16, out: &mut Column) -> Option<()> {
    let (&header, data) = data.split_first()?;
    let mut starts = Starts::new(header);
    let mut bits = Bits::new(data);
    let mut time = 0i64;
    let mut delta = 0i64;
    // The last value that is no stale marker.
    let mut value = Xor::default();
    for index in 0..samples {
        let before = time;
        let mut stale = false;
        match index {
            0 => {
                time = bits.varint()?;
                let first = bits.read(64)?;
                stale = first == STALE_NAN_BITS;
                if !stale {
                    value = Xor::of(first);
                }
            }
            1 => {
                delta = bits.uvarint()? as i64;
                time = time.wrapping_add(delta);
                stale = changed(&mut value, &mut bits)?;
            }
            _ => {
                let ones = bits.ones(5)?;
                let width = match ones {
                    2 => 13,
                    3 => 20,
                    4 => 64,
                    _ => 0,
                };
                if width > 0 {
                    let raw = bits.read(width)?;
                    // Two's complement here, unlike in XOR.
                    let change = (raw << (64 - width)) as i64 >> (64 - width);
                    delta = delta.wrapping_add(change);
                }
                time = time.wrapping_add(delta);
                match ones {
                    0 => {}
                    1 if bits.bit()? => value.new_window(&mut bits)?,
                    1 => value.in_window(&mut bits)?,
                    5 => stale = true,
                    _ => stale = changed(&mut value, &mut bits)?,
                }
            }
        }
        let start = starts.next(&mut bits, index, time, before)?;
        push_float(out, time, if stale { f64::from_bits(STALE_NAN_BITS) } else { value.value() }, start);
    }
    Some(())
}

/// `varbit_xor2`; whether the sample is a stale marker.
fn changed(value: &mut Xor, bits: &mut Bits<'_>) -> Option<bool> {
    match bits.ones(3)? {
        0 => {}
        1 => value.in_window(bits)?,
        2 => value.new_window(bits)?,
        _ => return Some(true),
    }
    Some(false)
}
