//! The words and kinds of errors that all stores on a disk share.

use std::io;
use std::path::Path;

use ipns_core::store::StoreError;

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Corrupt { path: text(path), reason: reason.into() }
}

pub(crate) fn io_failure(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Io { path: text(path), reason: reason.into() }
}

/// A failure of the system to do what `action` says.
pub(crate) fn system_failure(path: &Path, error: &io::Error, action: &str) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path: text(path) },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            io_failure(path, format!("cannot {action}: {error}; check its owner and mode"))
        }
        _ => io_failure(path, format!("cannot {action}: {error}")),
    }
}
