//! `ipns store` and `--store` as people use them.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::fs;

use support::{Daemon, Home, OTHER, VALUE};

/// A home with a name that was published twice.
fn published() -> Home {
    let home = Home::new(&[]);
    home.key("site");
    for value in [OTHER, VALUE] {
        home.json(&["publish", value, "--allow-offline"]);
    }
    home
}

#[test]
fn a_store_is_checked_and_compacted() {
    let home = Home::new(&[]);
    assert_eq!(home.fails(7, &["store", "check"]), "store_missing");
    assert!(!home.dir.path().join("store.redb").exists(), "a check makes no store");
    let home = published();
    let report = home.json(&["store", "check"]);
    assert_eq!((&report["ok"], &report["store"], &report["schema"]), (&true.into(), &"redb".into(), &2.into()));
    assert_eq!((&report["tables"][0]["table"], &report["tables"][0]["entries"]), (&"own".into(), &1.into()));
    let said = home.run(&["store", "check"]);
    assert!(said.stdout.contains("TABLE") && said.stdout.contains("records"), "{}", said.stdout);
    let compacted = home.json(&["store", "compact"]);
    assert!(compacted["after"].as_u64().unwrap() <= compacted["before"].as_u64().unwrap());
    assert_eq!(home.json(&["list"]).as_array().unwrap().len(), 1);

    let path = home.dir.path().join("store.redb");
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(9_000);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(home.fails(7, &["store", "check"]), "store_corrupt");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    fs::write(&path, "mine").unwrap();
    assert_eq!(home.fails(7, &["store", "check"]), "store_foreign");
}

#[test]
fn what_is_exported_can_be_imported_and_never_takes_a_name_back() {
    let home = published();
    let file = home.path("export");
    assert!(home.json(&["store", "export", &file])["entries"].as_u64().unwrap() >= 2);
    assert_eq!(home.fails(7, &["store", "export", &file]), "store_io");
    let other = Home::new(&[]);
    assert_eq!(other.json(&["store", "import", &file])["kept"], 0);
    assert_eq!(other.json(&["store", "import", &file])["taken"], 0);
    // All but the key, which is no part of a store.
    for what in ["name", "value", "sequence", "validity"] {
        assert_eq!(other.json(&["list"])[0][what], home.json(&["list"])[0][what]);
    }

    home.json(&["publish", OTHER, "--allow-offline"]);
    let newest = home.json(&["list"]);
    assert_eq!(home.fails(6, &["store", "import", &file]), "import_newer");
    assert_eq!(home.json(&["list"]), newest);
    home.json(&["store", "import", &file, "--force"]);

    fs::write(&file, "mine").unwrap();
    assert_eq!(other.fails(7, &["store", "import", &file]), "store_foreign");
    assert_eq!(other.fails(7, &["store", "import", &home.path("absent")]), "store_io");
}

#[test]
fn a_daemon_that_has_the_store_keeps_it() {
    let home = published();
    let daemon = Daemon::start(&home);
    let file = home.path("export");
    for command in [&["check"][..], &["compact"], &["export", &file], &["import", &file], &["migrate", "--to", "redb"]]
    {
        assert_eq!(home.fails(7, &[&["store"], command].concat()), "store_in_use");
    }
    daemon.kill();
    home.json(&["store", "check"]);
}

#[test]
fn the_kind_of_store_is_chosen() {
    let home = published();
    assert_eq!(home.json(&["config", "show"])["settings"]["store"], "redb");
    assert_eq!(home.fails(2, &["--store", "sqlite", "list"]), "usage");
    // What is in memory is gone with the command, and nothing else changes.
    assert_eq!(home.json(&["--store", "memory", "list"]).as_array().unwrap().len(), 0);
    assert_eq!(home.json(&["list"]).as_array().unwrap().len(), 1);
    assert_eq!(home.fails(2, &["--store", "memory", "store", "check"]), "store_in_memory");
    assert_eq!(home.fails(2, &["store", "migrate", "--to", "memory"]), "store_in_memory");
    assert_eq!(home.fails(2, &["store", "migrate", "--to", "redb"]), "store_same_kind");
    fs::write(home.path("config.toml"), "store = \"memory\"\n").unwrap();
    assert_eq!(home.json(&["config", "show"])["settings"]["store"], "memory");
    assert_eq!(home.json(&["--store", "redb", "config", "show"])["settings"]["store"], "redb");
}

#[cfg(not(feature = "rocksdb"))]
#[test]
fn without_rocksdb_the_program_says_how_to_have_it() {
    let home = Home::new(&[]);
    for command in [&["--store", "rocksdb", "list"][..], &["store", "migrate", "--to", "rocksdb"]] {
        let said = home.run(command);
        assert_eq!(said.code, 7, "{}", said.stderr);
        assert!(said.stderr.contains("--features rocksdb"), "{}", said.stderr);
    }
    // A store that is there is not passed over.
    fs::create_dir(home.dir.path().join("store.rocksdb")).unwrap();
    assert_eq!(home.fails(7, &["list"]), "store_not_built_in");
    assert_eq!(home.fails(7, &["--store", "redb", "list"]), "store_other_kind");
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_store_is_migrated_and_used_on() {
    let home = published();
    let before = home.json(&["list"]);
    assert_eq!(home.fails(7, &["--store", "rocksdb", "list"]), "store_other_kind");
    let said = home.run(&["--store", "rocksdb", "publish", VALUE]);
    assert!(said.stderr.contains("ipns store migrate --to rocksdb"), "{}", said.stderr);
    let migrated = home.json(&["store", "migrate", "--to", "rocksdb"]);
    assert!(migrated["old"].as_str().unwrap().ends_with("store.redb.old"), "{migrated}");
    // Nobody need say which kind it is now.
    assert_eq!(home.json(&["list"]), before);
    assert_eq!(home.json(&["config", "show"])["settings"]["store"], "rocksdb");
    let sequence = home.json(&["publish", OTHER, "--allow-offline"])["sequence"].as_u64().unwrap();
    assert!(sequence > before[0]["sequence"].as_u64().unwrap());
    assert_eq!(home.json(&["store", "check"])["store"], "rocksdb");
    assert_eq!(home.fails(7, &["--store", "redb", "list"]), "store_other_kind");
    home.json(&["store", "migrate", "--to", "redb"]);
    // A migration that was broken off between its last steps leaves both, and is ended by another.
    fs::rename(home.path("store.rocksdb.old"), home.path("store.rocksdb")).unwrap();
    let said = home.run(&["list"]);
    assert!(said.stderr.contains("repeat ipns store migrate"), "{}", said.stderr);
    home.json(&["store", "migrate", "--to", "redb"]);
    assert_eq!(home.json(&["list"])[0]["sequence"], sequence);
    home.json(&["publish", VALUE, "--allow-offline"]);
    // Two that are not the same are not chosen between.
    fs::rename(home.path("store.rocksdb.old"), home.path("store.rocksdb")).unwrap();
    assert_eq!(home.fails(7, &["list"]), "store_ambiguous");
    assert_eq!(home.fails(7, &["store", "migrate", "--to", "redb"]), "store_ambiguous");
}
