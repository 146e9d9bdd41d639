//! The header of a store: how one is recognised, and which schema it has.

use redb::{
    Error, MultimapTableHandle, ReadTransaction, ReadableTable, TableDefinition, TableError, TableHandle,
    WriteTransaction,
};

use crate::migrate;

/// A table of the store: bytes to bytes.
pub(crate) type Bytes<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

/// The schema of new stores, in all backends: which tables there are, and what their keys and values mean.
///
/// An additional table is no change of it. A new version needs a step of `migrate.rs` for redb, and one for RocksDB.
pub(crate) const CURRENT: u64 = 2;

const HEADER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ipns_schema");
/// What tells a store of ours from any other.
pub(crate) const MAGIC: (&str, &[u8]) = ("magic", b"IPNS store of ipns-store");
/// The key of the version, which is 8 bytes, little-endian.
pub(crate) const VERSION: &str = "version";

/// The schema version of the file, or `None` when the file is not ours.
///
/// # Errors
/// When the file cannot be read, or is ours with a header that makes no sense.
pub(crate) fn identify(read: &ReadTransaction) -> Result<Option<u64>, Error> {
    let header = match read.open_table(HEADER) {
        Ok(header) => header,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(TableError::TableDoesNotExist(_)) => return Ok(is_version_1(read)?.then_some(1)),
        // Someone else's table of the same name.
        Err(_) => return Ok(None),
    };
    if header.get(MAGIC.0)?.is_none_or(|magic| magic.value() != MAGIC.1) {
        return Ok(None);
    }
    let version = header
        .get(VERSION)?
        .and_then(|version| parse_version(version.value()))
        .ok_or_else(|| Error::Corrupted("its header has no schema version".to_owned()))?;
    Ok(Some(version))
}

/// The version that stands in a header.
pub(crate) fn parse_version(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes).filter(|version| *version > 0)
}

/// Whether this is a file from before there was a header: its one table is ours and so are all keys in it.
fn is_version_1(read: &ReadTransaction) -> Result<bool, Error> {
    let tables = read.list_tables()?.map(|table| table.name().to_owned());
    let multimaps = read.list_multimap_tables()?.map(|table| table.name().to_owned());
    if !tables.chain(multimaps).eq([migrate::VERSION_1.name()]) {
        return Ok(false);
    }
    let table = match read.open_table(migrate::VERSION_1) {
        Ok(table) => table,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Ok(false),
    };
    for entry in table.iter()? {
        if migrate::split_version_1_key(entry?.0.value()).is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the header of schema `version`.
pub(crate) fn write(transaction: &WriteTransaction, version: u64) -> Result<(), Error> {
    let mut header = transaction.open_table(HEADER)?;
    header.insert(MAGIC.0, MAGIC.1)?;
    header.insert(VERSION, version.to_le_bytes().as_slice())?;
    Ok(())
}
