//! Making a new file appear under its name whole and durable, or not at all.

use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// The folder of `path`, as something that can be opened.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// An empty file, readable by its owner alone, in the folder of `path`. Dropping it removes it.
pub(crate) fn draft(path: &Path) -> io::Result<NamedTempFile> {
    // tempfile creates with mode 0600; the leading dot keeps what a crash leaves behind out of listings.
    tempfile::Builder::new().prefix(".ipns-").suffix(".tmp").tempfile_in(folder(path))
}

/// Gives `draft` the name `path` once its contents are on the disk.
///
/// Fails with [`io::ErrorKind::AlreadyExists`] when there is something of that name, however lately it came.
pub(crate) fn publish(draft: NamedTempFile, path: &Path) -> io::Result<()> {
    draft.as_file().sync_all()?;
    draft.persist_noclobber(path).map_err(|failed| failed.error)?;
    sync_folder(path)
}

/// Makes a file with these contents, whole and durable or not at all, readable by its owner alone.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when there is something of that name, and whatever else the system says.
pub fn create_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = draft(path)?;
    file.write_all(contents)?;
    publish(file, path)
}

/// Makes the creation, renaming or removal of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened as a file, and the system journals its changes by itself.
    #[cfg(unix)]
    std::fs::File::open(folder(path))?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
