//! How many commits a store has had, kept beside its log: when the log has fewer, some were lost.
//!
//! RocksDB takes a log or a manifest that ends too early for one that a crash cut off, and goes on with what is left.
//! That is right for a commit which nobody was told of, and loses all others. So each commit carries its number, and
//! is told of only when that number is on the disk a second time, in this file. The file is also the store's lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ipns_core::store::StoreError;

use crate::failure::{corrupt, system_failure, text};

/// Its name in the folder of the store.
pub(crate) const NAME: &str = "ipns.tally";
const MAGIC: [u8; 16] = *b"IPNS store tally";
/// The magic, the count and a checksum: within one sector, so that no crash leaves half of it.
const BYTES: usize = 32;

/// The open and locked file.
pub(crate) struct Tally {
    file: File,
    folder: PathBuf,
    count: u64,
}

impl Tally {
    /// Makes the file of a new store.
    pub(crate) fn create(folder: &Path) -> io::Result<()> {
        let mut file = File::create_new(folder.join(NAME))?;
        file.write_all(&encode(0))?;
        file.sync_all()
    }

    /// Opens and locks the file of the store in `folder`; `None` when there is none.
    pub(crate) fn open(folder: &Path) -> Result<Option<Self>, StoreError> {
        let failed = |error: io::Error| system_failure(folder, &error, "read and lock the store's tally");
        let mut file = match OpenOptions::new().read(true).write(true).open(folder.join(NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(system_failure(folder, &error, "open the store for reading and writing")),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: text(folder) }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        let count = decode(&bytes).ok_or_else(|| corrupt(folder, format!("{NAME} is not what was written")))?;
        Ok(Some(Self { file, folder: folder.to_owned(), count }))
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Notes that there have been `count` commits; on the disk when it returns.
    pub(crate) fn set(&mut self, count: u64) -> Result<(), StoreError> {
        let mut write = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&encode(count))?;
            self.file.sync_data()
        };
        write().map_err(|error| system_failure(&self.folder, &error, "write the store's tally"))?;
        self.count = count;
        Ok(())
    }
}

fn encode(count: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..16].copy_from_slice(&MAGIC);
    bytes[16..24].copy_from_slice(&count.to_le_bytes());
    let sum = checksum(&bytes[..24]);
    bytes[24..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let count = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    (bytes == encode(count)).then_some(count)
}

/// FNV-1a: no change of a single byte leaves it as it was.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Tally::open(folder.path()).unwrap().is_none());
        Tally::create(folder.path()).unwrap();
        for count in [0, 1, 300, u64::MAX] {
            let mut tally = Tally::open(folder.path()).unwrap().unwrap();
            tally.set(count).unwrap();
            assert!(matches!(Tally::open(folder.path()), Err(StoreError::Locked { .. })));
            drop(tally);
            assert_eq!(Tally::open(folder.path()).unwrap().unwrap().count(), count);
        }
    }

    #[test]
    fn every_changed_byte_is_found() {
        let sound = encode(7);
        for byte in 0..BYTES {
            for bit in 0..8 {
                let mut damaged = sound;
                damaged[byte] ^= 1 << bit;
                assert_eq!(decode(&damaged), None, "byte {byte}");
            }
            assert_eq!(decode(&sound[..byte]), None);
        }
        assert_eq!(decode(&[&sound[..], &[0]].concat()), None);
    }
}
