//! A file that holds the entries of a store of any kind, to be kept or carried elsewhere.
//!
//! ```text
//! header   "IPNS store file\n", format version (u32), schema version (u64)
//! entry    length of the table's name (u8, not 0), the name, length of the key (u32), the key,
//!          length of the value (u32), the value
//! end      0 (u8), number of entries (u64)
//! checksum SHA-256 of all before
//! ```
//! Integers are little-endian.

use std::io::{self, Read, Write};

use ipns_core::store::{MAX_KEY_BYTES, MAX_VALUE_BYTES, Table};
use sha2::{Digest, Sha256};

const MAGIC: [u8; 16] = *b"IPNS store file\n";
const FORMAT: u32 = 1;

/// Why a file cannot be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It does not begin as such files do.
    Foreign,
    /// It is of a later format or schema: what it has, and what is known.
    TooNew(u64, u64),
    /// It is not what was written.
    Damaged(String),
    /// The system's words.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it ends too early".to_owned()),
            _ => Self::Io(error),
        }
    }
}

/// Writes such a file.
pub(crate) struct Writer<W> {
    to: W,
    digest: Sha256,
    entries: u64,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(to: W, schema: u64) -> io::Result<Self> {
        let mut writer = Self { to, digest: Sha256::new(), entries: 0 };
        writer.write(&MAGIC)?;
        writer.write(&FORMAT.to_le_bytes())?;
        writer.write(&schema.to_le_bytes())?;
        Ok(writer)
    }

    pub(crate) fn entry(&mut self, table: Table, key: &[u8], value: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let name = table.as_str().as_bytes();
        self.write(&[u8::try_from(name.len()).map_err(too_long)?])?;
        self.write(name)?;
        for part in [key, value] {
            self.write(&u32::try_from(part.len()).map_err(too_long)?.to_le_bytes())?;
            self.write(part)?;
        }
        self.entries += 1;
        Ok(())
    }

    /// Ends the file. Returns what it was written to, and how many entries it has.
    pub(crate) fn finish(mut self) -> io::Result<(W, u64)> {
        self.write(&[0])?;
        self.write(&self.entries.to_le_bytes())?;
        self.to.write_all(&self.digest.finalize())?;
        self.to.flush()?;
        Ok((self.to, self.entries))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.to.write_all(bytes)
    }
}

/// Reads such a file, never more of it at once than an entry may have.
pub(crate) struct Reader<R> {
    from: R,
    digest: Sha256,
    entries: u64,
}

/// A table, a key and a value.
pub(crate) type Entry = (Table, Vec<u8>, Vec<u8>);

impl<R: Read> Reader<R> {
    /// Begins a file of at most this schema.
    pub(crate) fn new(from: R, schema: u64) -> Result<Self, Fault> {
        let mut reader = Self { from, digest: Sha256::new(), entries: 0 };
        match reader.array::<16>() {
            Ok(MAGIC) => {}
            Ok(_) | Err(Fault::Damaged(_)) => return Err(Fault::Foreign),
            Err(other) => return Err(other),
        }
        let format = u32::from_le_bytes(reader.array()?);
        if format != FORMAT {
            return Err(Fault::TooNew(format.into(), FORMAT.into()));
        }
        match u64::from_le_bytes(reader.array()?) {
            found if found > schema => Err(Fault::TooNew(found, schema)),
            found if found < schema => Err(Fault::Damaged(format!("no file has schema {found}"))),
            _ => Ok(reader),
        }
    }

    /// The next entry; `None` at the end, when all of the file is found to be what was written.
    pub(crate) fn entry(&mut self) -> Result<Option<Entry>, Fault> {
        let [len] = self.array()?;
        if len == 0 {
            return self.end().map(|()| None);
        }
        let name = self.bytes(len.into())?;
        let table = Table::ALL.into_iter().find(|table| table.as_str().as_bytes() == name);
        let table = table.ok_or_else(|| {
            Fault::Damaged(format!("it has a table `{}` that is not known here", String::from_utf8_lossy(&name)))
        })?;
        let key = self.part("key", MAX_KEY_BYTES)?;
        let value = self.part("value", MAX_VALUE_BYTES)?;
        self.entries += 1;
        Ok(Some((table, key, value)))
    }

    fn end(&mut self) -> Result<(), Fault> {
        let entries = u64::from_le_bytes(self.array()?);
        let computed = self.digest.clone().finalize();
        let mut written = [0; 32];
        self.from.read_exact(&mut written)?;
        if computed.as_slice() != written || entries != self.entries {
            return Err(Fault::Damaged("its checksum is another".to_owned()));
        }
        match self.from.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Fault::Damaged("it goes on behind its end".to_owned())),
        }
    }

    fn part(&mut self, what: &str, limit: usize) -> Result<Vec<u8>, Fault> {
        let len = u32::from_le_bytes(self.array()?);
        match usize::try_from(len) {
            Ok(len) if len <= limit => self.bytes(len),
            _ => Err(Fault::Damaged(format!("it has a {what} of {len} bytes"))),
        }
    }

    fn bytes(&mut self, len: usize) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; len];
        self.from.read_exact(&mut bytes)?;
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.digest.update(bytes);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), 2).unwrap();
        writer.entry(Table::Own, b"key", b"value").unwrap();
        writer.entry(Table::Peers, b"", b"").unwrap();
        writer.finish().unwrap().0
    }

    fn read(bytes: &[u8]) -> Result<Vec<Entry>, Fault> {
        let mut reader = Reader::new(bytes, 2)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }

    #[test]
    fn entries_are_read_back() {
        let expected = vec![(Table::Own, b"key".to_vec(), b"value".to_vec()), (Table::Peers, Vec::new(), Vec::new())];
        assert_eq!(read(&file()).unwrap(), expected);
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_found() {
        let sound = file();
        for byte in 0..sound.len() {
            for bit in 0..8 {
                let mut damaged = sound.clone();
                damaged[byte] ^= 1 << bit;
                assert!(read(&damaged).is_err(), "byte {byte}, bit {bit}");
            }
            assert!(matches!(read(&sound[..byte]), Err(Fault::Foreign | Fault::Damaged(_))), "cut to {byte}");
        }
        assert!(matches!(read(&[&sound[..], b"!"].concat()), Err(Fault::Damaged(_))));
    }

    #[test]
    fn a_length_costs_no_memory() {
        let mut bomb = file()[..28].to_vec();
        bomb.extend(b"\x03own\xFF\xFF\xFF\xFF");
        assert!(matches!(read(&bomb), Err(Fault::Damaged(reason)) if reason.contains("key of 4294967295 bytes")));
    }

    #[test]
    fn later_formats_and_schemas_are_too_new() {
        let mut later = file();
        later[16] = 2;
        assert!(matches!(read(&later), Err(Fault::TooNew(2, 1))));
        assert!(matches!(Reader::new(&file()[..], 1), Err(Fault::TooNew(2, 1))));
    }
}
