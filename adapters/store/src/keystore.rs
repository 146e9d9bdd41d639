//! A directory of private keys.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use data_encoding::BASE32_NOPAD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::publish;

const PREFIX: &str = "key_";
/// Of the file that says that a key is new.
const NEW_PREFIX: &str = "new_";
const MAX_FILE_NAME_BYTES: usize = 255;

/// The longest key name in bytes: in base32 behind `key_`, it still makes a file name.
pub const MAX_KEY_NAME_BYTES: usize = 156;

/// Private keys, one file each, in a directory that only its owner may enter.
///
/// The file of a key is named `key_` and the key's name in lowercase base32 without padding, as Kubo does, so that
/// names that differ only in case stay apart on every file system. What is in a file is the caller's business. Beside a
/// key that is [new](Self::mark_new) there is a file named `new_` in the place of `key_`.
///
/// Every change is on the disk when it returns, and a crash leaves the old state or the new. It can also leave a
/// file `.ipns-*.tmp` behind, which may hold a key and may be deleted.
#[derive(Debug, Clone)]
pub struct KeyStore {
    dir: PathBuf,
}

/// Why the key store failed. [`code`](KeyStoreError::code) is stable. No error contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// There is a key of this name already.
    #[error("there is a key named {name:?} already; choose another name or remove that key first")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is no key of this name.
    #[error("there is no key named {name:?}; list the keys to see those there are")]
    NotFound {
        /// The name.
        name: String,
    },
    /// No key can have this name.
    #[error("a key cannot be named {name:?}: {reason}; choose another name")]
    InvalidName {
        /// The name.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The operating system failed us.
    #[error("cannot {action} {path}: {reason}; check the file system, its free space and its permissions")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: String,
        /// The system's words.
        reason: String,
    },
}

impl KeyStoreError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "key_exists",
            Self::NotFound { .. } => "key_not_found",
            Self::InvalidName { .. } => "key_name_invalid",
            Self::Io { .. } => "keystore_io",
        }
    }
}

impl KeyStore {
    /// The key store in `dir`, which is created (for its owner alone) when it does not exist.
    ///
    /// # Errors
    /// [`Io`](KeyStoreError::Io) when `dir` cannot be created or is not a directory.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, KeyStoreError> {
        let dir = dir.as_ref();
        create_private_dir(dir).map_err(failed("create the directory", dir))?;
        let found = fs::metadata(dir).map_err(failed("read the directory", dir))?;
        if !found.is_dir() {
            return Err(failed("open the directory", dir)(io::ErrorKind::NotADirectory.into()));
        }
        warn_if_exposed(dir, &found);
        Ok(Self { dir: dir.to_owned() })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Keeps `key` under `name`.
    ///
    /// # Errors
    /// [`Exists`](KeyStoreError::Exists) when the name is taken, however lately;
    /// [`InvalidName`](KeyStoreError::InvalidName); [`Io`](KeyStoreError::Io).
    pub fn put(&self, name: &str, key: &[u8]) -> Result<(), KeyStoreError> {
        let path = self.file(name)?;
        publish::create_file(&path, key).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeyStoreError::Exists { name: name.to_owned() },
            _ => failed("write", &path)(error),
        })
    }

    /// The key under `name`. Logs a warning when others than its owner may read the file.
    ///
    /// # Errors
    /// [`NotFound`](KeyStoreError::NotFound); [`InvalidName`](KeyStoreError::InvalidName);
    /// [`Io`](KeyStoreError::Io).
    pub fn get(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, KeyStoreError> {
        let path = self.file(name)?;
        let attempt = || -> io::Result<Zeroizing<Vec<u8>>> {
            let mut file = File::open(&path)?;
            let found = file.metadata()?;
            warn_if_exposed(&path, &found);
            // Sized at once: a vector that grows leaves copies of the key behind.
            let len = usize::try_from(found.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let mut key = Zeroizing::new(vec![0; len]);
            file.read_exact(&mut key)?;
            Ok(key)
        };
        attempt().map_err(missing(name, "read", &path))
    }

    /// Notes that the key named `name`, which owns `owned`, was made just now and nobody has a copy of it.
    ///
    /// # Errors
    /// [`InvalidName`](KeyStoreError::InvalidName); [`Io`](KeyStoreError::Io). The key is not new then, as it were.
    pub fn mark_new(&self, name: &str, owned: &str) -> Result<(), KeyStoreError> {
        let mark = self.mark(name)?;
        remove_if_there(&mark).map_err(failed("remove", &mark))?;
        publish::create_file(&mark, owned.as_bytes()).map_err(failed("write", &mark))
    }

    /// Whether the key named `name`, which owns `owned`, is new. From now on it is not, whatever happens: that is on the
    /// disk when this returns. Whoever publishes with a key, or gives it away, calls this first.
    ///
    /// # Errors
    /// [`InvalidName`](KeyStoreError::InvalidName); [`Io`](KeyStoreError::Io).
    pub fn take_new(&self, name: &str, owned: &str) -> Result<bool, KeyStoreError> {
        let mark = self.mark(name)?;
        let noted = match fs::read(&mark) {
            Ok(noted) => noted,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("read", &mark)(error)),
        };
        // Of two that take it at once, one removes it.
        match fs::remove_file(&mark).and_then(|()| publish::sync_folder(&mark)) {
            Ok(()) => Ok(noted == owned.as_bytes()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("remove", &mark)(error)),
        }
    }

    /// Whether there is a key named `name`.
    ///
    /// # Errors
    /// [`InvalidName`](KeyStoreError::InvalidName); [`Io`](KeyStoreError::Io).
    pub fn contains(&self, name: &str) -> Result<bool, KeyStoreError> {
        let path = self.file(name)?;
        path.try_exists().map_err(failed("look for", &path))
    }

    /// Deletes the key named `name`.
    ///
    /// # Errors
    /// [`NotFound`](KeyStoreError::NotFound); [`InvalidName`](KeyStoreError::InvalidName);
    /// [`Io`](KeyStoreError::Io).
    pub fn remove(&self, name: &str) -> Result<(), KeyStoreError> {
        let (path, mark) = (self.file(name)?, self.mark(name)?);
        fs::remove_file(&path)
            .and_then(|()| remove_if_there(&mark))
            .and_then(|()| publish::sync_folder(&path))
            .map_err(missing(name, "remove", &path))
    }

    /// Gives the key named `old` the name `new`. With `force`, it replaces a key that has that name. It is not
    /// [new](Self::mark_new) any more.
    ///
    /// A crash meanwhile can leave the key under both names when it was not forced, but never under none.
    ///
    /// # Errors
    /// [`NotFound`](KeyStoreError::NotFound) for `old`; [`Exists`](KeyStoreError::Exists) for `new` unless
    /// forced; [`InvalidName`](KeyStoreError::InvalidName) for either; [`Io`](KeyStoreError::Io).
    pub fn rename(&self, old: &str, new: &str, force: bool) -> Result<(), KeyStoreError> {
        let (from, to) = (self.file(old)?, self.file(new)?);
        let key = self.get(old)?;
        if from == to {
            return Ok(());
        }
        if force {
            let mark = self.mark(old)?;
            return remove_if_there(&mark)
                .and_then(|()| fs::rename(&from, &to))
                .and_then(|()| publish::sync_folder(&to))
                .map_err(missing(old, "rename", &from));
        }
        // A plain rename would replace a key that appears between a check and the rename.
        self.put(new, &key)?;
        self.remove(old)
    }

    /// The names of all keys, sorted. Files that are not named as keys are passed over.
    ///
    /// # Errors
    /// [`Io`](KeyStoreError::Io) when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<String>, KeyStoreError> {
        let attempt = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                names.extend(entry?.file_name().to_str().and_then(key_name));
            }
            names.sort();
            Ok(names)
        };
        attempt().map_err(failed("list", &self.dir))
    }

    fn file(&self, name: &str) -> Result<PathBuf, KeyStoreError> {
        self.beside(PREFIX, name)
    }

    /// The file that says that a key is new.
    fn mark(&self, name: &str) -> Result<PathBuf, KeyStoreError> {
        self.beside(NEW_PREFIX, name)
    }

    fn beside(&self, prefix: &str, name: &str) -> Result<PathBuf, KeyStoreError> {
        file_name(prefix, name)
            .map(|file| self.dir.join(file))
            .map_err(|reason| KeyStoreError::InvalidName { name: name.to_owned(), reason })
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The name of a file of the key named `name`, or the rule that the name breaks.
fn file_name(prefix: &str, name: &str) -> Result<String, &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.starts_with('-') {
        return Err("it begins with a dash, as options of commands do");
    }
    if name.contains('/') {
        return Err("it contains a slash");
    }
    if name.chars().any(char::is_control) {
        return Err("it contains a control character");
    }
    let file = format!("{prefix}{}", BASE32_NOPAD.encode(name.as_bytes()).to_ascii_lowercase());
    if file.len() > MAX_FILE_NAME_BYTES {
        return Err("it is longer than 156 bytes");
    }
    Ok(file)
}

/// The name of the key that a file named `file` holds, if it is the file of a key.
fn key_name(file: &str) -> Option<String> {
    let encoded = file.strip_prefix(PREFIX)?.to_ascii_uppercase();
    let name = String::from_utf8(BASE32_NOPAD.decode(encoded.as_bytes()).ok()?).ok()?;
    // Only what `get` would find again under the name: not an upper-case spelling, not a name that is refused.
    file_name(PREFIX, &name).is_ok_and(|expected| expected == file).then_some(name)
}

fn create_private_dir(dir: &Path) -> io::Result<()> {
    if dir.try_exists()? {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    publish::sync_folder(dir)
}

fn warn_if_exposed(path: &Path, found: &fs::Metadata) {
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!(
                path = %path.display(),
                mode = %format_args!("{mode:03o}"),
                "others than the owner have access to private keys; take it from them with chmod go-rwx"
            );
        }
    }
    #[cfg(not(unix))]
    let _ = (path, found);
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> KeyStoreError {
    move |error| KeyStoreError::Io { action, path: path.display().to_string(), reason: error.to_string() }
}

/// As [`failed`], but a missing file is a missing key.
fn missing(name: &str, action: &'static str, path: &Path) -> impl Fn(io::Error) -> KeyStoreError {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => KeyStoreError::NotFound { name: name.to_owned() },
        _ => failed(action, path)(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_is_the_longest_that_fits() {
        assert!(file_name(PREFIX, &"a".repeat(MAX_KEY_NAME_BYTES)).unwrap().len() <= MAX_FILE_NAME_BYTES);
        let reason = file_name(PREFIX, &"a".repeat(MAX_KEY_NAME_BYTES + 1)).unwrap_err();
        assert!(reason.contains(&MAX_KEY_NAME_BYTES.to_string()));
    }

    #[test]
    fn only_the_exact_file_name_is_a_key() {
        // "self" in base32, as Kubo would write it.
        assert_eq!(file_name(PREFIX, "self").unwrap(), "key_onswyzq");
        assert_eq!(key_name("key_onswyzq").unwrap(), "self");
        for other in
            ["key_ONSWYZQ", "key_onswyzq=", "onswyzq", "key_", "key_1", ".ipns-x.tmp", "key_f5qq", "new_onswyzq"]
        {
            assert_eq!(key_name(other), None, "{other}");
        }
    }
}
