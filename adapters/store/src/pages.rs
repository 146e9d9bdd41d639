//! Going through a table a page at a time, so that no table need fit into memory.

use ipns_core::store::{Store, StoreError, Table};

const PAGE: usize = 256;

/// Calls `each` with every entry of `table`, in key order, until it fails.
pub(crate) fn for_each<E: From<StoreError>>(
    store: &(impl Store + ?Sized),
    table: Table,
    mut each: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut after = None;
    loop {
        let page = store.scan(table, after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        for (key, value) in page {
            each(key, value)?;
        }
    }
}
