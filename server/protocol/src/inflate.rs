//! Decompression of request bodies, bounded before and while it happens.
//!
//! Each function replaces the content of `out` and reuses its memory; old bytes are overwritten, not zeroed first, so
//! a buffer that comes back from an earlier request costs nothing. More than `bytes_max` bytes is
//! [`Error::Limit`], anything unreadable is [`Error::Compressed`]; in both cases `out` is empty afterwards.
//! Before memory is written the caller's [`Room`] is asked for it.

use std::io::Read;

use crate::Error;

/// A zstd frame may ask for a window of this many bytes (as a power of two): what RFC 8878 asks every decoder to
/// support, and all that levels up to 19 use.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Snappy cannot shrink better: its densest element is 3 bytes for 64.
const SNAPPY_RATIO_MAX: usize = 22;

/// Called with the number of bytes that `out` is about to hold; an error of it ends the decompression.
pub type Room<'a> = &'a mut dyn FnMut(u64) -> Result<(), Error>;

/// A stream asks for room in steps of its size so far, and at least of this many bytes.
const STEP_BYTES_MIN: usize = 16 << 10;

fn too_large(bytes_max: usize, got: u64) -> Error {
    Error::Limit {
        limit: "bytes of the decompressed body",
        max: bytes_max as u64,
        got,
        setting: "decompressed_bytes_max",
    }
}

/// Decompresses a snappy block (not the framing format): what remote write 1.0 sends.
pub fn snappy(input: &[u8], bytes_max: usize, room: Room<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let result = snappy_into(input, bytes_max, room, out);
    if result.is_err() {
        out.clear();
    }
    result
}

fn snappy_into(input: &[u8], bytes_max: usize, room: Room<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let malformed = |what: String| Error::Compressed { encoding: "snappy", what };
    let bytes = snap::raw::decompress_len(input).map_err(|e| malformed(e.to_string()))?;
    if bytes > bytes_max {
        return Err(too_large(bytes_max, bytes as u64));
    }
    if bytes > input.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(malformed(format!("{} bytes cannot hold the {bytes} they claim", input.len())));
    }
    room(bytes as u64)?;
    out.resize(bytes, 0);
    let written = snap::raw::Decoder::new().decompress(input, out).map_err(|e| malformed(e.to_string()))?;
    if written == bytes { Ok(()) } else { Err(malformed(format!("{written} bytes instead of {bytes}"))) }
}

/// Decompresses gzip, also of several members.
pub fn gzip(input: &[u8], bytes_max: usize, room: Room<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    stream("gzip", flate2::bufread::MultiGzDecoder::new(input), bytes_max, room, out)
}

/// Decompresses zstd, also of several frames. Frames that want a window above 8 MiB are refused.
pub fn zstd(input: &[u8], bytes_max: usize, room: Room<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    out.clear();
    let malformed = |e: std::io::Error| Error::Compressed { encoding: "zstd", what: e.to_string() };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(malformed)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(malformed)?;
    stream("zstd", decoder, bytes_max, room, out)
}

fn stream(
    encoding: &'static str,
    reader: impl Read,
    bytes_max: usize,
    room: Room<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    out.clear();
    let result = stream_into(encoding, reader, bytes_max, room, out);
    if result.is_err() {
        out.clear();
    }
    result
}

/// Reads one byte more than is allowed, to tell "as much as allowed" from "too much".
fn stream_into(
    encoding: &'static str,
    mut reader: impl Read,
    bytes_max: usize,
    room: Room<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    loop {
        let left = bytes_max.saturating_add(1) - out.len();
        let step = out.len().max(STEP_BYTES_MIN).min(left);
        room((out.len() + step) as u64)?;
        let read = reader.by_ref().take(step as u64).read_to_end(out);
        let read = read.map_err(|error| Error::Compressed { encoding, what: error.to_string() })?;
        if out.len() > bytes_max {
            return Err(too_large(bytes_max, out.len() as u64));
        }
        if read < step {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    type Inflate = fn(&[u8], usize, Room<'_>, &mut Vec<u8>) -> Result<(), Error>;
    const ALL: [Inflate; 3] = [snappy, gzip, zstd];

    fn deflate(plain: &[u8]) -> [Vec<u8>; 3] {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(plain).unwrap();
        [
            snap::raw::Encoder::new().compress_vec(plain).unwrap(),
            gz.finish().unwrap(),
            zstd::stream::encode_all(plain, 1).unwrap(),
        ]
    }

    #[test]
    fn a_bomb_is_a_limit_and_takes_no_more_memory_than_allowed() {
        for (inflate, packed) in ALL.iter().zip(deflate(&vec![0; 8 << 20])) {
            let mut out = Vec::new();
            let error = inflate(&packed, 1 << 20, &mut |_| Ok(()), &mut out).unwrap_err();
            assert!(matches!(error, Error::Limit { max: 0x10_0000, setting: "decompressed_bytes_max", .. }), "{error}");
            assert!(out.is_empty());
            assert!(out.capacity() <= 2 << 20, "{}", out.capacity());
        }
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        for (inflate, packed) in ALL.iter().zip(deflate(&[7; 1000])) {
            let mut out = b"old content that goes".repeat(99);
            inflate(&packed, 1000, &mut |_| Ok(()), &mut out).unwrap();
            assert_eq!(out, [7; 1000]);
            assert!(matches!(inflate(&packed, 999, &mut |_| Ok(()), &mut out), Err(Error::Limit { .. })));
        }
    }

    #[test]
    fn room_is_asked_for_before_it_is_taken() {
        for (inflate, packed) in ALL.iter().zip(deflate(&vec![0; 1 << 20])) {
            let (mut out, mut asked) = (Vec::new(), 0);
            let mut room = |bytes| {
                asked = bytes;
                Ok(())
            };
            inflate(&packed, 1 << 27, &mut room, &mut out).unwrap();
            assert!((1 << 20..=2 << 20).contains(&asked), "{asked}");
            let (mut out, mut given) = (Vec::new(), 0);
            let full = Error::Limit { limit: "room", max: 1, got: 2, setting: "none" };
            let mut room = |bytes| {
                if bytes > 100_000 {
                    return Err(full.clone());
                }
                given = bytes;
                Ok(())
            };
            assert_eq!(inflate(&packed, 1 << 27, &mut room, &mut out), Err(full.clone()));
            assert!(out.is_empty() && out.capacity() as u64 <= 4 * given, "{}", out.capacity());
        }
    }

    #[test]
    fn a_claimed_size_that_cannot_be_is_refused_before_memory_is_taken() {
        let mut out = Vec::new();
        let claims_a_gigabyte = [0x80, 0x80, 0x80, 0x80, 0x04, 0x00, b'a'];
        assert!(matches!(
            snappy(&claims_a_gigabyte, 2 << 30, &mut |_| Ok(()), &mut out),
            Err(Error::Compressed { .. })
        ));
        assert_eq!(out.capacity(), 0);
        for claim in [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0][..], &[], &[0x80]] {
            assert!(snappy(claim, 1 << 20, &mut |_| Ok(()), &mut out).is_err(), "{claim:?}");
        }
    }

    #[test]
    fn a_zstd_window_above_the_limit_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(25).unwrap();
        encoder.write_all(&vec![1; 1 << 20]).unwrap();
        let error = zstd(&encoder.finish().unwrap(), 1 << 30, &mut |_| Ok(()), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, Error::Compressed { encoding: "zstd", .. }), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn round_trip(plain in proptest::collection::vec(0u8..4, 0..5000)) {
            for (inflate, packed) in ALL.iter().zip(deflate(&plain)) {
                let mut out = Vec::new();
                inflate(&packed, plain.len(), &mut |_| Ok(()), &mut out).unwrap();
                prop_assert_eq!(&out, &plain);
            }
        }

        #[test]
        fn a_cut_body_is_malformed(plain in proptest::collection::vec(any::<u8>(), 1..500), part in 0.0..1.0) {
            for (inflate, packed) in ALL.iter().zip(deflate(&plain)) {
                let cut = (packed.len() as f64 * part) as usize;
                if cut > 0 {
                    let result = inflate(&packed[..cut], 1 << 20, &mut |_| Ok(()), &mut Vec::new());
                    prop_assert!(matches!(result, Err(Error::Compressed { .. })), "{:?}", result);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for inflate in ALL {
                let mut out = Vec::new();
                if inflate(&bytes, 4096, &mut |_| Ok(()), &mut out).is_err() {
                    prop_assert!(out.is_empty());
                }
                prop_assert!(out.len() <= 4096);
            }
        }
    }
}
