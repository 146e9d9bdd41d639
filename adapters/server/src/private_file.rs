//! Files for their owner alone, which appear whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use crate::failure::{Failure, exit};

/// Writes `contents` to `path` with mode 0600, in place of what was there.
pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    try_write(path, contents).map_err(|error| io_failure("write", path, &error))
}

fn try_write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // tempfile creates with mode 0600.
    let mut draft = tempfile::Builder::new().prefix(".ipns-").suffix(".tmp").tempfile_in(folder)?;
    draft.write_all(contents)?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

pub(crate) fn io_failure(action: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot {action} {}: {error}; check the directory and its permissions", path.display());
    Failure::new(exit::STORE, "home_io", message)
}
