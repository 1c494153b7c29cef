//! Target of the files that an import reads: Prometheus's own storage.

use varve_model::{Column, TimeRange};
use varve_protocol::remote_read::push_chunks;
use varve_protocol::tsdb::{CHUNK_BYTES_MAX, Encoding, Error, Index, Segment, decode_chunk, tombstones};

/// The first byte says what the rest is: 1 to 6 the data of a chunk in that encoding, 7 a chunk file, 8 tombstones,
/// 9 an index.
pub fn tsdb(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    match kind {
        1..=6 => chunk(Encoding::from_number(kind).unwrap_or(Encoding::Xor), data),
        7 => {
            let Ok(segment) = Segment::open(data) else { return };
            for at in 0..data.len() as u32 + 8 {
                if let Ok((encoding, data)) = segment.chunk(at) {
                    chunk(encoding, data);
                }
            }
        }
        8 => match tombstones(data) {
            Ok(found) => assert!(found.is_sorted() && found.len() * 3 <= data.len()),
            Err(error) => known(&error, data),
        },
        9 => index(data),
        _ => {}
    }
}

fn known(error: &Error, data: &[u8]) {
    if let Error::Damaged { at, .. } = error {
        assert!(*at <= data.len() as u64 || !error.to_string().is_empty());
    }
}

/// What can be read is encoded and read again.
fn chunk(encoding: Encoding, data: &[u8]) {
    let mut column = Column::default();
    let whole = decode_chunk(encoding, data, &mut column).is_ok();
    assert_eq!(column.times.len(), column.values.len());
    assert!(column.starts.is_empty() || column.starts.len() == column.times.len());
    assert!(column.histogram_starts.is_empty() || column.histogram_starts.len() == column.histograms.len());
    assert!(column.times.len() * 16 <= CHUNK_BYTES_MAX);
    if !whole || !column.histograms.is_empty() {
        return;
    }
    let ascending = column.times.windows(2).all(|pair| pair[0] < pair[1]);
    let in_reach = column.times.iter().all(|time| TimeRange { min: -(1 << 40), max: 1 << 50 }.contains(*time));
    if ascending && in_reach {
        let (mut chunks, mut again) = (Vec::new(), Column::default());
        push_chunks(&column, &mut chunks);
        for chunk in &chunks {
            assert_eq!(decode_chunk(Encoding::Xor, &chunk.data, &mut again), Ok(()));
        }
        let bits = |column: &Column| column.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!((&column.times, bits(&column)), (&again.times, bits(&again)));
    }
}

fn index(data: &[u8]) {
    let index = match Index::open(data) {
        Ok(index) => index,
        Err(error) => return known(&error, data),
    };
    assert!(index.series_count() * 4 <= data.len());
    let (mut labels, mut chunks) = (Vec::new(), Vec::new());
    for number in 0..index.series_count() + 1 {
        match index.series(number, &mut labels, &mut chunks) {
            Ok(_) => assert!(number < index.series_count() && labels.len() + chunks.len() <= data.len()),
            Err(error) => known(&error, data),
        }
    }
}
