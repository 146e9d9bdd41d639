//! Whether a log or a manifest of RocksDB is whole, before RocksDB reads it.
//!
//! It would find most damage by itself, but a manifest with certain changed bytes makes it go round for ever.
//!
//! Both are blocks of 32 KiB with records, of which none goes over the end of a block: checksum (u32, little-endian),
//! length (u16, little-endian), type (u8), payload. The rest of a block that is too short for a header is not used.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const BLOCK: u64 = 32 * 1024;
const HEADER: usize = 7;
/// What makes RocksDB go round for ever.
const TYPE: &str = "a record has a type that is not used";

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Which files there are. All of it must be whole.
    Manifest,
    /// Commits. RocksDB stops where it is not whole, and the tally tells whether one is missing.
    Log,
}

/// What is wrong with the file at `path`, if anything is. A last record that is not whole is not: a crash may have cut
/// it off.
pub(crate) fn fault(path: &Path, kind: Kind) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut start = 0;
    loop {
        let mut block = Vec::new();
        Read::by_ref(&mut file).take(BLOCK).read_to_end(&mut block)?;
        if let Some((offset, fault)) = block_fault(&block) {
            let harmful = kind == Kind::Manifest || fault == TYPE;
            return Ok(harmful.then(|| format!("{fault} at byte {}", start + offset as u64)));
        }
        if (block.len() as u64) < BLOCK {
            return Ok(None);
        }
        start += BLOCK;
    }
}

fn block_fault(block: &[u8]) -> Option<(usize, &'static str)> {
    let mut at = 0;
    while let Some([sum0, sum1, sum2, sum3, len0, len1, kind]) = block[at..].first_chunk::<HEADER>() {
        let len = usize::from(u16::from_le_bytes([*len0, *len1]));
        if block[at..].iter().all(|byte| *byte == 0) {
            // Space that was reserved and never used.
            return None;
        }
        let Some(payload) = block[at + HEADER..].get(..len) else {
            return ((block.len() as u64) == BLOCK).then_some((at, "a record goes over its block"));
        };
        // The whole of a record, or its first part, one in the midst, or its last.
        if !matches!(kind, 1..=4) {
            return Some((at, TYPE));
        }
        let checksum = u32::from_le_bytes([*sum0, *sum1, *sum2, *sum3]);
        if checksum != masked(crc32c(&[&[*kind], payload])) {
            return Some((at, "a record has another checksum"));
        }
        at += HEADER + len;
    }
    None
}

/// As RocksDB writes checksums, so that one of data that has checksums in it is as good as any.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32 with the polynomial of Castagnoli.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0, |crc: u32, byte| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0x82F6_3B78 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The check value of CRC-32C, and one of its test vectors in RFC 3720.
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xE306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8A91_36AA);
    }

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(payload.len()).unwrap().to_le_bytes();
        [&masked(crc32c(&[&[kind], payload])).to_le_bytes()[..], &len, &[kind], payload].concat()
    }

    #[test]
    fn only_the_end_may_be_missing() {
        let sound = [record(1, b"one"), record(2, b"two"), record(4, b""), vec![0; 20]].concat();
        assert_eq!(block_fault(&sound), None);
        let records = sound.len() - 20;
        for len in 0..sound.len() {
            assert_eq!(block_fault(&sound[..len]), None, "cut to {len}");
        }
        for byte in 0..sound.len() {
            for bit in 0..8 {
                let mut damaged = sound.clone();
                damaged[byte] ^= 1 << bit;
                // A length that leads behind the end looks as if a crash had come.
                let looks_cut = byte % 10 == 4 || byte % 10 == 5 || byte >= records;
                assert!(block_fault(&damaged).is_some() || looks_cut, "byte {byte}, bit {bit}");
            }
        }
        assert!(block_fault(&record(5, b"recycled")).is_some());
    }
}
