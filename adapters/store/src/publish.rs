//! Making a new file or folder appear under its name whole and durable, or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use tempfile::{NamedTempFile, TempDir, TempPath};

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

/// An empty folder, for its owner alone, in the folder of `path`. Dropping it removes it.
pub(crate) fn draft_folder(path: &Path) -> io::Result<TempDir> {
    // tempfile creates with the modes of the system's default, and what is in a store is its owner's alone.
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.prefix(".ipns-").suffix(".tmp").tempdir_in(folder(path))
}

/// Gives the folder `draft` the name `path` once it is on the disk; what is in it must be already.
///
/// Fails with an error of which [`is_taken`] when there is something of that name, other than an empty folder.
#[cfg(feature = "rocksdb")]
pub(crate) fn publish_folder(draft: TempDir, path: &Path) -> io::Result<()> {
    sync(draft.path())?;
    fs::rename(draft.path(), path)?;
    // Its name is no longer the draft's, and what has that name is not to be removed.
    let _ = draft.keep();
    sync_folder(path)
}

/// Gives a draft, a file or folder that is whole and on the disk, its name in the same file system.
///
/// Fails with an error of which [`is_taken`] when there is something of that name, other than an empty folder.
pub(crate) fn rename_draft(from: &Path, to: &Path) -> io::Result<()> {
    if fs::metadata(from)?.is_dir() {
        fs::rename(from, to)?;
    } else {
        TempPath::try_from_path(from)?.persist_noclobber(to).map_err(|failed| failed.error)?;
    }
    sync_folder(to)
}

/// Whether it says that the name of a new file or folder is taken.
pub(crate) fn is_taken(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | NotADirectory)
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
    sync(folder(path))
}

/// Makes what was created in `folder`, renamed or removed durable.
fn sync(folder: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened as a file, and the system journals its changes by itself.
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
