//! The secret that the admin interface asks for: `HOME/admin.token`, readable by its owner alone.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::failure::{Failure, exit};
use crate::private_file::{self, io_failure};

/// The name of the file in the home directory.
pub const TOKEN_FILE: &str = "admin.token";
const BYTES: usize = 32;

/// 32 random bytes in hexadecimal.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, Failure> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        getrandom::fill(&mut *bytes)
            .map_err(|error| Failure::new(exit::FAILED, "no_randomness", format!("no randomness: {error}")))?;
        Ok(Self(Zeroizing::new(HEXLOWER.encode(&*bytes))))
    }

    /// The token that `text` is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_ascii();
        let is_token = text.len() == 2 * BYTES && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        is_token.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Whether `presented` is this token; how long that takes says nothing about where they differ.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The file of the token in a home directory.
pub fn path(home: &Path) -> PathBuf {
    home.join(TOKEN_FILE)
}

/// Makes a token and writes it to `HOME/admin.token` in place of the last one: a token that has leaked ends with the
/// daemon that it was for. To be called by whoever holds the store of this home open, so that there is one daemon.
///
/// # Errors
/// When there is no randomness or the file cannot be written.
pub fn create(home: &Path) -> Result<Token, Failure> {
    let token = Token::generate()?;
    let line = Zeroizing::new(format!("{}\n", token.reveal()));
    private_file::write(&path(home), line.as_bytes())?;
    Ok(token)
}

/// The token in `HOME/admin.token`; `None` if there is no such file.
///
/// # Errors
/// When the file cannot be read or holds no token.
pub fn read(home: &Path) -> Result<Option<Token>, Failure> {
    let path = path(home);
    let mut text = Zeroizing::new(String::with_capacity(4 * BYTES));
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_failure("read", &path, &error)),
    };
    file.take(4 * BYTES as u64).read_to_string(&mut text).map_err(|error| io_failure("read", &path, &error))?;
    match Token::parse(&text) {
        Some(token) => Ok(Some(token)),
        None => {
            let message = format!("{} holds no token; restart the daemon, which writes a new one", path.display());
            Err(Failure::new(exit::STORE, "token_malformed", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_only_it_matches() {
        let home = tempfile::tempdir().unwrap();
        assert!(read(home.path()).unwrap().is_none());
        let first = create(home.path()).unwrap();
        assert!(read(home.path()).unwrap().unwrap().matches(first.reveal().as_bytes()));
        let second = create(home.path()).unwrap();
        assert!(!second.matches(first.reveal().as_bytes()));
        assert!(!second.matches(b"") && !second.matches(&second.reveal().as_bytes()[1..]));
        assert_eq!(format!("{second:?}"), "Token(…)");
        std::fs::write(path(home.path()), "no token").unwrap();
        assert_eq!(read(home.path()).unwrap_err().error.code, "token_malformed");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        create(home.path()).unwrap();
        let mode = std::fs::metadata(path(home.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, [TOKEN_FILE]);
    }
}
