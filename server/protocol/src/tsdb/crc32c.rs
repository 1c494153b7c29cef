//! CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), the checksum of all files of Prometheus's storage.
//!
//! Eight bytes at a time by eight tables that are made at compile time: fast enough for a tool that then sends what it
//! read over a socket.

const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[0]` advances by one byte; `TABLES[k]` by one byte and `k` zero bytes.
static TABLES: [[u32; 256]; 8] = tables();

#[expect(clippy::indexing_slicing, reason = "indices are constants below the lengths; runs at compile time")]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

/// The checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
    let mut crc = u32::MAX;
    let (words, rest) = bytes.as_chunks::<8>();
    for &[a, b, c, d, e, f, g, h] in words {
        let [p, q, r, s] = (crc ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
        crc = at(t7, p) ^ at(t6, q) ^ at(t5, r) ^ at(t4, s) ^ at(t3, e) ^ at(t2, f) ^ at(t1, g) ^ at(t0, h);
    }
    for &byte in rest {
        crc = crc >> 8 ^ at(t0, crc as u8 ^ byte);
    }
    !crc
}

#[inline]
#[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
fn at(table: &[u32; 256], byte: u8) -> u32 {
    table[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of the polynomial's catalogue");
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa, "RFC 3720, B.4");
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43, "RFC 3720, B.4");
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e, "RFC 3720, B.4");
        assert_eq!(crc32c(b""), 0);
    }
}
