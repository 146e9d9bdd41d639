//! `ipns key` as people use it.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use support::Home;

#[test]
fn every_type_is_made_listed_renamed_and_removed() {
    let home = Home::new(&[]);
    for kind in ["ed25519", "rsa", "secp256k1", "ecdsa"] {
        let made = home.json(&["key", "gen", kind, "--type", kind]);
        assert_eq!(made["type"], kind);
    }
    let list = home.json(&["key", "list"]);
    assert_eq!(list.as_array().unwrap().len(), 4);
    home.json(&["key", "rename", "rsa", "old friend"]);
    assert_eq!(home.fails(7, &["key", "rename", "ecdsa", "old friend"]), "key_exists");
    home.json(&["key", "rm", "old friend"]);
    assert_eq!(home.fails(7, &["key", "rm", "old friend"]), "key_not_found");
    assert_eq!(home.fails(7, &["key", "gen", "ecdsa"]), "key_exists");
    assert_eq!(home.fails(1, &["key", "gen", "small", "--type", "rsa", "--bits", "1024"]), "key_rsa_size");
}

#[test]
fn exported_keys_come_back_the_same() {
    let (home, other) = (Home::new(&[]), Home::new(&[]));
    for kind in ["ed25519", "rsa", "secp256k1", "ecdsa"] {
        let made = home.json(&["key", "gen", kind, "--type", kind]);
        for format in ["libp2p-protobuf-cleartext", "pem-pkcs8-cleartext"] {
            let file = home.path(&format!("{kind}.{format}"));
            home.json(&["key", "export", kind, "-o", &file, "--format", format]);
            let imported = other.json(&["key", "import", &format!("{kind}-{format}"), &file]);
            assert_eq!(imported["name"], made["name"], "{kind} {format}");
            assert_eq!(home.fails(1, &["key", "export", kind, "-o", &file]), "file", "never over a file");
        }
    }
    assert_eq!(home.fails(1, &["key", "import", "nothing", &home.path("keystore/../ed25519.none")]), "file");
}

#[cfg(unix)]
#[test]
fn key_files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new(&[]);
    home.key("mine");
    home.run(&["key", "export", "mine", "-o", &home.path("exported")]);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut files = 0;
    for file in std::fs::read_dir(home.dir.path().join("keystore")).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
        files += 1;
    }
    assert_eq!(files, 1);
    assert_eq!(mode(&home.dir.path().join("exported")), 0o600);
    assert_eq!(mode(&home.dir.path().join("keystore")), 0o700);
}
