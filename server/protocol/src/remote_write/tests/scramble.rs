//! Another legal encoding of the same request: fields shuffled, varints padded, unknown fields in between. Within one
//! message the order of fields with the same number stays, because it is the order of a repeated field.

use prost::Message;

use super::oracle::{Exemplar, Label, TimeSeries, WriteRequest};
use crate::protobuf::push_varint;

/// A small generator, so that one seed of proptest decides everything.
pub(super) struct Dice(pub u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

fn padded(out: &mut Vec<u8>, value: u64, dice: &mut Dice) {
    push_varint(out, value);
    let bytes = out.len();
    let spare = 10 - crate::protobuf::varint_bytes(value);
    if dice.roll(3) == 0 && spare > 0 {
        let more = 1 + dice.roll(spare as u64) as usize;
        out[bytes - 1] |= 0x80;
        out.extend(vec![0x80; more - 1]);
        out.push(0);
    }
}

type Encoded = (u32, Vec<u8>);

/// A field with wire type 2.
fn field(number: u32, content: &[u8], dice: &mut Dice) -> Encoded {
    let mut out = Vec::new();
    // The tag is a 32-bit number for prost, so it is not padded beyond five bytes: not at all.
    push_varint(&mut out, u64::from(number << 3 | 2));
    padded(&mut out, content.len() as u64, dice);
    out.extend_from_slice(content);
    (number, out)
}

/// Joins fields in an order that keeps those of one number in theirs, with unknown fields among them.
fn message(mut fields: Vec<Encoded>, dice: &mut Dice) -> Vec<u8> {
    if dice.roll(3) == 0 {
        let unknown: [&[u8]; 4] = [&[0x78, 5], &[0x7a, 2, 1, 2], &[0x79, 0, 1, 2, 3, 4, 5, 6, 7], &[0x7d, 1, 2, 3, 4]];
        fields.push((15, unknown[dice.roll(4) as usize].to_vec()));
    }
    let mut out = Vec::new();
    while !fields.is_empty() {
        let pick = dice.roll(fields.len() as u64) as usize;
        let number = fields[pick].0;
        let first = fields.iter().position(|field| field.0 == number).unwrap();
        out.extend(fields.remove(first).1);
    }
    out
}

fn label(label: &Label, dice: &mut Dice) -> Vec<u8> {
    let mut fields = Vec::new();
    if dice.roll(8) == 0 {
        // An earlier value that the later one replaces.
        fields.push(field(1, b"replaced", dice));
        fields.push(field(2, b"replaced", dice));
    }
    fields.push(field(1, &label.name, dice));
    fields.push(field(2, &label.value, dice));
    message(fields, dice)
}

fn labels(labels: &[Label], fields: &mut Vec<Encoded>, dice: &mut Dice) {
    for l in labels {
        let content = label(l, dice);
        fields.push(field(1, &content, dice));
    }
}

fn exemplar(exemplar: &Exemplar, dice: &mut Dice) -> Vec<u8> {
    let mut fields = Vec::new();
    labels(&exemplar.labels, &mut fields, dice);
    let rest = Exemplar { labels: Vec::new(), ..exemplar.clone() };
    fields.push((2, rest.encode_to_vec()));
    message(fields, dice)
}

fn series(series: &TimeSeries, dice: &mut Dice) -> Vec<u8> {
    let mut fields = Vec::new();
    labels(&series.labels, &mut fields, dice);
    for sample in &series.samples {
        fields.push(field(2, &sample.encode_to_vec(), dice));
    }
    for e in &series.exemplars {
        let content = exemplar(e, dice);
        fields.push(field(3, &content, dice));
    }
    for histogram in &series.histograms {
        fields.push(field(4, &histogram.encode_to_vec(), dice));
    }
    message(fields, dice)
}

/// The request in another legal encoding.
pub(super) fn scramble(request: &WriteRequest, seed: u64) -> Vec<u8> {
    let dice = &mut Dice(seed);
    let mut fields = Vec::new();
    for s in &request.timeseries {
        let content = series(s, dice);
        fields.push(field(1, &content, dice));
    }
    for metadata in &request.metadata {
        fields.push(field(3, &metadata.encode_to_vec(), dice));
    }
    message(fields, dice)
}
