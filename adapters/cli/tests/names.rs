//! The main job: publish in one home, resolve in another, with our daemon between them.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::time::{Duration, Instant};

use support::{Answer, Daemon, Home, OTHER, VALUE, dead, record, scripted};

#[test]
fn published_in_one_home_and_resolved_in_another_by_every_spelling() {
    let middle = Home::new(&[]);
    let daemon = Daemon::start(&middle);
    let (alice, bob) = (Home::new(&[&daemon.url]), Home::new(&[&daemon.url]));
    let name = alice.key("site");
    let published = alice.json(&["publish", VALUE, "-k", "site", "--ttl", "1s"]);
    assert_eq!(published["name"], name.as_str());
    assert_eq!(published["sequence"], 0);
    assert_eq!(published["stored"], true);
    assert_eq!(published["receipts"][0]["ok"], true);

    let parsed: ipns_core::Name = name.parse().unwrap();
    let spellings = [
        name.clone(),
        format!("/ipns/{name}"),
        format!("ipns://{name}"),
        parsed.to_base58(),
        format!("/ipns/{}", parsed.to_base58()),
        parsed.to_cid().to_string(),
    ];
    for spelling in &spellings {
        let seen = bob.json(&["resolve", spelling, "--no-cache"]);
        assert_eq!(seen["value"], VALUE, "{spelling}");
        assert_eq!((&seen["final"], &seen["cached"]), (&true.into(), &false.into()));
        assert_eq!(seen["freshness"]["holders"], 1);
        assert_eq!(seen["sources"][0], published["receipts"][0]["router"]);
    }
    assert_eq!(bob.run(&["resolve", &format!("/ipns/{name}/a/b")]).stdout, format!("{VALUE}/a/b\n"));

    let updated = alice.json(&["publish", OTHER, "-k", "site"]);
    assert_eq!(updated["sequence"], 1);
    for _ in 0..5 {
        assert_eq!(bob.run(&["resolve", &name, "--no-cache"]).stdout, format!("{OTHER}\n"));
    }
    assert_eq!(bob.run(&["resolve", &name]).stdout, format!("{OTHER}\n"), "never the old value again");
    assert_eq!(bob.run(&["resolve", &name, "--offline"]).stdout, format!("{OTHER}\n"));
}

#[test]
fn what_cannot_be_found_or_reached_or_read_has_its_own_exit_status() {
    let middle = Home::new(&[]);
    let daemon = Daemon::start(&middle);
    let home = Home::new(&[&daemon.url]);
    let (name, _) = record(9, 0, VALUE);
    assert_eq!(home.fails(3, &["resolve", &name.to_string()]), "not_found");
    assert_eq!(home.fails(4, &["resolve", "nonsense"]), "name_malformed");
    assert_eq!(home.fails(2, &["resolve"]), "usage");
    assert_eq!(home.fails(7, &["publish", VALUE]), "key_not_found");
    let alone = Home::new(&[&dead()]);
    assert_eq!(alone.fails(5, &["resolve", &name.to_string()]), "unreachable");
    alone.key("site");
    // Somebody else has the key then, as far as is known here.
    alone.run(&["key", "export", "site", "-o", &alone.path("copy")]);
    assert_eq!(alone.fails(5, &["publish", VALUE]), "unread");
    let offline = alone.json(&["publish", VALUE, "--allow-offline"]);
    assert_eq!((&offline["stored"], &offline["receipts"][0]["ok"]), (&true.into(), &false.into()));
    assert_eq!(alone.fails(5, &["publish", VALUE]), "policy_not_met");
    let none = Home::new(&[]);
    none.key("site");
    assert_eq!(none.fails(5, &["publish", VALUE]), "no_router");
}

#[test]
fn sequences_are_the_publishers_to_choose_and_ours_to_guard() {
    let middle = Home::new(&[]);
    let daemon = Daemon::start(&middle);
    let home = Home::new(&[&daemon.url]);
    home.key("site");
    assert_eq!(home.json(&["publish", VALUE, "--sequence", "41"])["sequence"], 41);
    assert_eq!(home.fails(6, &["publish", OTHER, "--sequence", "41"]), "sequence_too_low");
    assert_eq!(home.fails(6, &["publish", OTHER, "--if-sequence", "40"]), "sequence_changed");
    assert_eq!(home.json(&["publish", OTHER, "--if-sequence", "41"])["sequence"], 42);

    // The same key on another machine: its first publish rises above what the network has.
    let other = Home::new(&[&daemon.url]);
    home.run(&["key", "export", "site", "-o", &home.path("key")]);
    other.run(&["key", "import", "site", &home.path("key")]);
    assert_eq!(other.json(&["publish", VALUE])["sequence"], 43);
    assert_eq!(home.json(&["publish", VALUE])["sequence"], 44);
}

#[test]
fn a_key_is_new_until_it_is_published_with_or_given_away() {
    let middle = Home::new(&[]);
    let daemon = Daemon::start(&middle);
    let (home, other) = (Home::new(&[&daemon.url]), Home::new(&[&daemon.url]));
    let new = |key: &str| std::fs::exists(home.path(&format!("keystore/new_{key}"))).unwrap();
    // In base32, as the files of keys are named: a, b, c.
    let (a, b, c) = ("me", "mi", "mm");
    home.key("a");
    assert!(new(a));
    assert_eq!(home.json(&["publish", VALUE, "-k", "a"])["sequence"], 0);
    assert!(!new(a));
    assert_eq!(home.json(&["publish", VALUE, "-k", "a"])["sequence"], 1);

    home.key("b");
    assert!(new(b));
    home.run(&["key", "export", "b", "-o", &home.path("key")]);
    assert!(!new(b));

    // A copy that nobody was told of: what was published with it is risen above all the same.
    home.key("c");
    other.key("c");
    std::fs::copy(home.path("keystore/key_mm"), other.path("keystore/key_mm")).unwrap();
    assert_eq!(
        other.json(&["publish", OTHER, "-k", "c"])["sequence"],
        0,
        "nor is the copy new, which has another name"
    );
    assert!(new(c));
    assert_eq!(home.json(&["publish", VALUE, "-k", "c"])["sequence"], 1);
    assert_eq!(other.json(&["resolve", "c", "--no-cache"])["value"], VALUE);
}

#[test]
fn options_of_a_publish_reach_the_record() {
    let middle = Home::new(&[]);
    let daemon = Daemon::start(&middle);
    let home = Home::new(&[&daemon.url]);
    let name = home.key("site");
    let args = ["publish", VALUE, "--v2-only", "--metadata", "_note=hello", "--ttl", "30m", "-t", "1h"];
    assert_eq!(home.run(&[&args[..], &["-Q"]].concat()).stdout, format!("{name}\n"));
    let file = home.path("record");
    assert_eq!(home.run(&["get", "site", "-o", &file]).code, 0);
    let found = home.json(&["inspect", &file, "--name", "site"]);
    assert_eq!((&found["valid"], &found["v1"]), (&true.into(), &false.into()));
    assert_eq!(found["ttl_ns"], 1_800_000_000_000_u64);
    assert_eq!(found["metadata"]["_note"], "hello");
    assert_eq!(home.fails(1, &["publish", VALUE, "--metadata", "Value=x"]), "metadata_reserved");
}

#[test]
fn put_takes_a_newer_record_and_refuses_an_older_one() {
    let middle = Home::new(&[]);
    let daemon = Daemon::start(&middle);
    let home = Home::new(&[&daemon.url]);
    let (name, old) = record(5, 1, VALUE);
    let (_, new) = record(5, 2, OTHER);
    let name = name.to_string();
    std::fs::write(home.path("old"), old).unwrap();
    std::fs::write(home.path("new"), new).unwrap();
    std::fs::write(home.path("bad"), b"nonsense").unwrap();
    assert_eq!(home.json(&["put", &home.path("new"), "--name", &name])["sequence"], 2);
    assert_eq!(home.json(&["put", &home.path("new"), "--name", &name])["sequence"], 2, "the same again is fine");
    assert_eq!(home.fails(6, &["put", &home.path("old"), "--name", &name]), "sequence_too_low");
    assert_eq!(home.fails(6, &["put", &home.path("old"), "--name", &name, "-f"]), "policy_not_met");
    assert_eq!(home.fails(4, &["put", &home.path("bad"), "--name", &name]), "malformed");
    assert_eq!(home.run(&["resolve", &name, "--no-cache"]).stdout, format!("{OTHER}\n"));
}

#[test]
fn of_three_endpoints_the_slow_one_with_the_newest_wins() {
    let slowness = Duration::from_secs(2);
    let (name, old) = record(6, 1, VALUE);
    let (_, new) = record(6, 2, OTHER);
    let mut failures = 0;
    let flaky = scripted(move |request| {
        assert_eq!(request.method, "GET");
        failures += 1;
        if failures <= 2 { Answer::status(500) } else { Answer::record(&old) }
    });
    let slow = scripted(move |_| Answer::record(&new).after(slowness));
    let gone = dead();
    let home = Home::new(&[&gone, &flaky, &slow]);
    let begun = Instant::now();
    let said =
        home.run(&["--config", &no_writes(&home, &[&gone, &flaky, &slow]), "resolve", &name.to_string(), "--json"]);
    let took = begun.elapsed();
    assert_eq!(said.code, 0, "{}", said.stderr);
    let seen = said.json();
    assert_eq!((&seen["value"], &seen["sequence"]), (&OTHER.into(), &2.into()));
    let receipts = seen["receipts"].as_array().unwrap();
    assert_eq!(receipts[0]["ok"], false);
    assert_eq!(
        (&receipts[1]["ok"], &receipts[1]["sequence"], &receipts[1]["attempts"]),
        (&true.into(), &1.into(), &3.into())
    );
    assert_eq!((&receipts[2]["ok"], &receipts[2]["sequence"]), (&true.into(), &2.into()));
    assert!(took >= slowness && took < slowness * 3, "{took:?}");
}

/// Settings with routers that are only read, so that nothing is corrected behind the test's back.
fn no_writes(home: &Home, urls: &[&str]) -> String {
    let path = home.path("reading.toml");
    let routers: Vec<String> = urls.iter().map(|url| format!("{{ url = \"{url}\", write = false }}")).collect();
    std::fs::write(&path, format!("routers = [{}]", routers.join(", "))).unwrap();
    path
}

#[test]
fn names_that_point_to_names_are_followed() {
    let middle = Home::new(&[]);
    let daemon = Daemon::start(&middle);
    let home = Home::new(&[&daemon.url]);
    let (a, b) = (home.key("a"), home.key("b"));
    home.json(&["publish", VALUE, "-k", "b"]);
    home.json(&["publish", &format!("/ipns/{b}/sub"), "-k", "a"]);
    let seen = home.json(&["resolve", &format!("{a}/file")]);
    assert_eq!(seen["value"], format!("{VALUE}/sub/file"));
    assert_eq!(seen["path"], serde_json::json!([a, b]));
    assert_eq!(home.run(&["resolve", &a, "--recursive=false"]).stdout, format!("/ipns/{b}/sub\n"));
    home.json(&["publish", &format!("/ipns/{a}"), "-k", "b"]);
    assert_eq!(home.fails(1, &["resolve", &a, "--no-cache"]), "loop");
}
