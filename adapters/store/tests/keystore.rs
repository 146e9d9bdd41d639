//! The directory of private keys.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::path::{Path, PathBuf};

use ipns_store::{KeyStore, KeyStoreError, MAX_KEY_NAME_BYTES};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf, KeyStore) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("deep").join("keystore");
    let keys = KeyStore::open(&dir).unwrap();
    (folder, dir, keys)
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn not_found(name: &str) -> KeyStoreError {
    KeyStoreError::NotFound { name: name.to_owned() }
}

fn exists(name: &str) -> KeyStoreError {
    KeyStoreError::Exists { name: name.to_owned() }
}

#[test]
fn a_key_is_kept_under_its_name() {
    let (_folder, dir, keys) = place();
    assert_eq!(keys.list().unwrap(), Vec::<String>::new());
    assert!(!keys.contains("self").unwrap());
    keys.put("self", b"secret").unwrap();
    keys.put("empty", b"").unwrap();
    // Names as Kubo would give.
    assert_eq!(files(&dir), ["key_mvwxa5dz", "key_onswyzq"]);
    assert_eq!(fs::read(dir.join("key_onswyzq")).unwrap(), b"secret");

    let again = KeyStore::open(&dir).unwrap();
    assert_eq!(again.path(), dir);
    assert_eq!(*again.get("self").unwrap(), b"secret");
    assert_eq!(*again.get("empty").unwrap(), b"");
    assert!(again.contains("self").unwrap());
    assert_eq!(again.list().unwrap(), ["empty", "self"]);
}

#[test]
fn a_key_that_kubo_wrote_is_found() {
    let (_folder, dir, keys) = place();
    fs::write(dir.join("key_nv4wwzlz"), b"from kubo").unwrap();
    assert_eq!(keys.list().unwrap(), ["mykey"]);
    assert_eq!(*keys.get("mykey").unwrap(), b"from kubo");
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let (_folder, dir, keys) = place();
    keys.put("a", b"first").unwrap();
    assert_eq!(keys.put("a", b"second"), Err(exists("a")));
    assert_eq!(*keys.get("a").unwrap(), b"first");
    assert_eq!(files(&dir).len(), 1, "a draft was left behind");
    keys.put("A", b"another").unwrap();
    assert_eq!(keys.list().unwrap(), ["A", "a"]);
}

#[test]
fn one_of_many_that_put_at_once_wins() {
    let (_folder, dir, keys) = place();
    let gate = std::sync::Barrier::new(8);
    let won: Vec<u8> = std::thread::scope(|scope| {
        let put = |number: u8| {
            let (keys, gate) = (&keys, &gate);
            move || {
                gate.wait();
                match keys.put("a", &[number; 100]) {
                    Ok(()) => Some(number),
                    Err(error) => {
                        assert_eq!(error, exists("a"));
                        None
                    }
                }
            }
        };
        let all: Vec<_> = (0..8).map(|number| scope.spawn(put(number))).collect();
        all.into_iter().filter_map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(won.len(), 1);
    assert_eq!(*keys.get("a").unwrap(), [won[0]; 100]);
    assert_eq!(files(&dir).len(), 1);
}

#[test]
fn a_removed_key_is_gone() {
    let (_folder, dir, keys) = place();
    keys.put("a", b"secret").unwrap();
    keys.remove("a").unwrap();
    assert_eq!(keys.remove("a"), Err(not_found("a")));
    assert_eq!(keys.get("a").unwrap_err(), not_found("a"));
    assert_eq!(files(&dir), Vec::<String>::new());
    keys.put("a", b"new").unwrap();
    assert_eq!(*keys.get("a").unwrap(), b"new");
}

#[test]
fn a_new_key_is_new_once() {
    let (_folder, dir, keys) = place();
    keys.put("a", b"A").unwrap();
    assert!(!keys.take_new("a", "name of A").unwrap(), "nobody said so");
    keys.mark_new("a", "name of A").unwrap();
    assert_eq!((files(&dir).len(), keys.list().unwrap()), (2, vec!["a".to_owned()]));
    let again = KeyStore::open(&dir).unwrap();
    assert!(again.take_new("a", "name of A").unwrap());
    assert!(!keys.take_new("a", "name of A").unwrap());
    assert_eq!(files(&dir).len(), 1);

    // Another key of that name is not the one that was new.
    keys.mark_new("a", "name of A").unwrap();
    assert!(!keys.take_new("a", "name of B").unwrap() && !keys.take_new("a", "name of A").unwrap());
    keys.mark_new("a", "name of A").unwrap();
    keys.mark_new("a", "name of C").unwrap();
    assert!(keys.take_new("a", "name of C").unwrap());

    // A key that has gone, or has another name, is not new under either.
    keys.mark_new("a", "name of A").unwrap();
    keys.rename("a", "b", false).unwrap();
    assert_eq!(files(&dir).len(), 1);
    keys.mark_new("b", "name of A").unwrap();
    keys.rename("b", "c", true).unwrap();
    assert_eq!(files(&dir).len(), 1);
    keys.mark_new("c", "name of A").unwrap();
    keys.remove("c").unwrap();
    assert_eq!(files(&dir), Vec::<String>::new());
    assert!(keys.mark_new("", "name").is_err() && keys.take_new("a/b", "name").is_err());
}

#[test]
fn of_many_that_take_a_new_key_one_has_it() {
    let (_folder, _dir, keys) = place();
    keys.put("a", b"A").unwrap();
    keys.mark_new("a", "A").unwrap();
    let gate = std::sync::Barrier::new(8);
    let took = std::thread::scope(|scope| {
        let take = || {
            gate.wait();
            keys.take_new("a", "A").unwrap()
        };
        let all: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
        all.into_iter().map(|one| one.join().unwrap()).filter(|took| *took).count()
    });
    assert_eq!(took, 1);
}

#[test]
fn a_renamed_key_has_its_new_name_only() {
    let (_folder, dir, keys) = place();
    keys.put("a", b"A").unwrap();
    keys.put("b", b"B").unwrap();
    for force in [false, true] {
        assert_eq!(keys.rename("absent", "c", force), Err(not_found("absent")));
        assert_eq!(keys.rename("absent", "absent", force), Err(not_found("absent")));
        keys.rename("a", "a", force).unwrap();
    }
    assert_eq!(keys.rename("a", "b", false), Err(exists("b")));
    assert_eq!((&**keys.get("a").unwrap(), &**keys.get("b").unwrap()), (&b"A"[..], &b"B"[..]));

    keys.rename("a", "c", false).unwrap();
    assert_eq!(keys.list().unwrap(), ["b", "c"]);
    keys.rename("c", "b", true).unwrap();
    assert_eq!(keys.list().unwrap(), ["b"]);
    assert_eq!(*keys.get("b").unwrap(), b"A");
    keys.rename("b", "d", true).unwrap();
    assert_eq!(keys.list().unwrap(), ["d"]);
    assert_eq!(files(&dir).len(), 1);
}

#[test]
fn names_have_rules() {
    let (_folder, dir, keys) = place();
    let too_long = "x".repeat(MAX_KEY_NAME_BYTES + 1);
    for name in ["", "-", "-rf", "a/b", "/", "../x", "a\0", "a\nb", "\u{7f}", "\u{85}", &too_long] {
        let expected = |error: KeyStoreError| {
            assert!(matches!(error, KeyStoreError::InvalidName { .. }), "{name:?}: {error}");
            assert_eq!(error.code(), "key_name_invalid");
            assert!(!error.to_string().contains('\0') && !error.to_string().contains('\n'));
        };
        expected(keys.put(name, b"").unwrap_err());
        expected(keys.get(name).unwrap_err());
        expected(keys.remove(name).unwrap_err());
        expected(keys.contains(name).unwrap_err());
        expected(keys.rename(name, "a", false).unwrap_err());
        keys.put("a", b"").unwrap();
        expected(keys.rename("a", name, true).unwrap_err());
        keys.remove("a").unwrap();
    }
    let longest = "x".repeat(MAX_KEY_NAME_BYTES);
    let mut names = ["self", "a-", "..", ".", "a b", "ключ", "鍵", "a\\b", "key_a", &longest];
    for name in names {
        keys.put(name, name.as_bytes()).unwrap();
        assert_eq!(*keys.get(name).unwrap(), name.as_bytes());
    }
    names.sort_unstable();
    assert_eq!(keys.list().unwrap(), names);
    assert_eq!(files(&dir).len(), names.len());
}

#[test]
fn other_files_are_passed_over() {
    let (_folder, dir, keys) = place();
    for other in ["notes.txt", "key_", "key_1", "key_ONSWYZQ", ".ipns-abc.tmp", "key_74======"] {
        fs::write(dir.join(other), b"").unwrap();
    }
    keys.put("a", b"").unwrap();
    assert_eq!(keys.list().unwrap(), ["a"]);
    assert!(!keys.contains("self").unwrap());
}

#[test]
fn errors_say_where_and_have_a_code() {
    let (_folder, dir, keys) = place();
    fs::remove_dir(&dir).unwrap();
    for error in [keys.list().unwrap_err(), keys.put("a", b"secret").unwrap_err()] {
        assert_eq!(error.code(), "keystore_io");
        let text = error.to_string();
        assert!(text.contains(&dir.display().to_string()) && !text.contains("secret"), "{text}");
    }
    fs::write(&dir, b"").unwrap();
    assert_eq!(KeyStore::open(&dir).unwrap_err().code(), "keystore_io");
    assert_eq!(exists("a").code(), "key_exists");
    assert_eq!(not_found("a").code(), "key_not_found");
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_their_owners_alone() {
        let (_folder, dir, keys) = place();
        keys.put("a", b"secret").unwrap();
        let file = dir.join(&files(&dir)[0]);
        assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
        keys.rename("a", "b", false).unwrap();
        assert_eq!(mode(&dir.join(&files(&dir)[0])), 0o600);
    }

    #[test]
    fn an_exposed_key_is_read_all_the_same() {
        let (_folder, dir, keys) = place();
        keys.put("a", b"secret").unwrap();
        let file = dir.join(&files(&dir)[0]);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(*keys.get("a").unwrap(), b"secret");
        assert_eq!(mode(&file), 0o644);
    }
}
