//! Targets of the chunk encodings. The first two bytes say how many samples to expect, as a chunk's directory does.

use varve_engine::codec::gorilla::Appender;
use varve_engine::codec::values::Effort;
use varve_engine::codec::{
    gorilla as stream, histogram as histogram_codec, times as time_codec, values as value_codec,
};

fn split(data: &[u8]) -> Option<(usize, &[u8])> {
    let (count, bytes) = data.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_le_bytes(*count)) % 4096, bytes))
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A head chunk. Where the times ascend, the samples are appended and decoded again.
pub fn gorilla(data: &[u8]) {
    let Some((count, bytes)) = split(data) else { return };
    let (mut times, mut values) = (Vec::new(), Vec::new());
    if stream::decode(bytes, count, &mut times, &mut values).is_err() {
        return assert!(times.is_empty() && values.is_empty());
    }
    assert_eq!((times.len(), values.len()), (count, count));
    if !times.windows(2).all(|pair| pair[0] < pair[1]) {
        return;
    }
    let mut appender = Appender::new();
    times.iter().zip(&values).for_each(|(&time, &value)| appender.push(time, value));
    let (mut times_again, mut values_again) = (Vec::new(), Vec::new());
    let decoded = stream::decode(appender.bytes(), count, &mut times_again, &mut values_again);
    assert_eq!(decoded, Ok(()));
    assert_eq!((times_again, bits(&values_again)), (times, bits(&values)));
}

/// The times of a chunk.
pub fn times(data: &[u8]) {
    let Some((count, bytes)) = split(data) else { return };
    let mut times = Vec::new();
    if time_codec::decode(bytes, count, &mut times).is_err() {
        return assert!(times.is_empty());
    }
    assert_eq!(times.len(), count);
    let (mut encoded, mut again) = (Vec::new(), Vec::new());
    time_codec::encode(&times, &mut encoded);
    assert_eq!(time_codec::decode(&encoded, count, &mut again), Ok(()));
    assert_eq!(again, times);
}

/// The values of a chunk.
pub fn values(data: &[u8]) {
    let Some((count, bytes)) = split(data) else { return };
    let mut values = Vec::new();
    if value_codec::decode(bytes, count, &mut values).is_err() {
        return assert!(values.is_empty());
    }
    assert_eq!(values.len(), count);
    for effort in [Effort::Hot, Effort::Cold] {
        let (mut encoded, mut again) = (Vec::new(), Vec::new());
        value_codec::encode(&values, effort, &mut encoded);
        assert_eq!(value_codec::decode(&encoded, count, &mut again), Ok(()));
        assert_eq!(bits(&again), bits(&values));
    }
}

/// The native histograms of a chunk. Compared by their encoding, because NaN is not equal to itself.
pub fn histograms(data: &[u8]) {
    let Some((count, bytes)) = split(data) else { return };
    let count = count % 512;
    let mut histograms = Vec::new();
    if histogram_codec::decode(bytes, count, &mut histograms).is_err() {
        return assert!(histograms.is_empty());
    }
    assert_eq!(histograms.len(), count);
    let (mut encoded, mut again, mut encoded_again) = (Vec::new(), Vec::new(), Vec::new());
    histogram_codec::encode(&histograms, &mut encoded);
    assert_eq!(histogram_codec::decode(&encoded, count, &mut again), Ok(()));
    histogram_codec::encode(&again, &mut encoded_again);
    assert_eq!(encoded, encoded_again);
    assert_eq!(format!("{histograms:?}"), format!("{again:?}"));
}
