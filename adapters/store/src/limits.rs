//! The size limits of a batch, the same for every store.

use ipns_core::store::{MAX_KEY_BYTES, MAX_VALUE_BYTES, StoreError, Write};

/// Refuses a batch with a key or a value over the limit.
pub(crate) fn check(batch: &[Write]) -> Result<(), StoreError> {
    for write in batch {
        let value_bytes = write.value.as_ref().map_or(0, Vec::len);
        let (what, bytes, limit) = if write.key.len() > MAX_KEY_BYTES {
            ("key", write.key.len(), MAX_KEY_BYTES)
        } else if value_bytes > MAX_VALUE_BYTES {
            ("value", value_bytes, MAX_VALUE_BYTES)
        } else {
            continue;
        };
        return Err(StoreError::TooLarge { what, size: bytes, limit });
    }
    Ok(())
}
