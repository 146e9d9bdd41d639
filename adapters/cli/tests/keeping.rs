//! Names that stay alive: followed ones, own ones, and those that could not be sent at first.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::collections::BTreeMap;

use serde_json::Value as Json;
use support::{Daemon, Home, OTHER, Ongoing, VALUE, eventually, record};

#[test]
fn a_followed_name_outlives_its_publisher_and_a_restart_of_its_keeper() {
    let publisher = Home::new(&[]);
    let publishing = Daemon::start(&publisher);
    let name = publisher.key("site");
    publisher.json(&["publish", VALUE, "--allow-offline"]);

    let keeper = Home::new(&[&publishing.url]);
    let keeping = Daemon::start(&keeper);
    let followed = keeper.run(&["follow", &name]);
    assert_eq!((followed.code, followed.stdout), (0, format!("following {name}\n")));
    assert_eq!(followed.stderr, "", "a daemon runs: nothing is left to do");
    eventually("the record of the followed name", || (keeper.kept(&name)["value"] == VALUE).then_some(()));
    assert_eq!(keeping.terminate(), Some(0));
    drop(publishing);

    let keeping = Daemon::start(&keeper);
    let kept = keeper.kept(&name);
    assert_eq!((&kept["kind"], &kept["value"], &kept["sequence"]), (&"followed".into(), &VALUE.into(), &0.into()));
    let third = Home::new(&[&keeping.url]);
    assert_eq!(third.run(&["resolve", &name]).stdout, format!("{VALUE}\n"));

    assert_eq!(keeper.run(&["follow", &name]).stdout, format!("following {name} already\n"));
    assert_eq!(keeper.run(&["unfollow", &name]).stdout, format!("no longer following {name}\n"));
    assert_eq!(keeper.json(&["list"]), Json::Array(Vec::new()));
    assert_eq!(keeper.fails(3, &["unfollow", &name]), "not_followed");
}

#[test]
fn without_a_daemon_a_name_is_followed_once_there_is_one() {
    let middle = Home::new(&[]);
    let routing = Daemon::start(&middle);
    let publisher = Home::new(&[&routing.url]);
    let name = publisher.key("site");
    publisher.json(&["publish", VALUE]);

    let keeper = Home::new(&[&routing.url]);
    let said = keeper.run(&["follow", &name]);
    assert_eq!(said.code, 0);
    assert!(said.stderr.contains("ipns daemon"), "{}", said.stderr);
    assert_eq!(keeper.kept(&name)["value"], Json::Null, "nobody has looked yet");
    let _daemon = Daemon::start(&keeper);
    let kept = eventually("the first turn", || Some(keeper.kept(&name)).filter(|kept| kept["acks"] == 1));
    assert_eq!((&kept["value"], &kept["failures"]), (&VALUE.into(), &0.into()));
    assert!(kept["last_sent"].is_string() && kept["next"].is_string(), "{kept}");
}

#[test]
fn a_list_with_bad_lines_is_followed_but_for_those() {
    let home = Home::new(&[]);
    let names: Vec<String> = (1..=3).map(|seed| record(seed, 0, VALUE).0.to_string()).collect();
    let long = "x".repeat(2000);
    let list =
        format!("# friends\n{}\n\nnonsense # not a name\n{}\n{long}\n  {} # the last\n", names[0], names[1], names[2]);

    let said = home.run_with(&["follow", "--file", "-"], list.as_bytes());
    assert_eq!(said.code, 4, "{}", said.stderr);
    assert_eq!(said.stdout, "following 3 names, 3 of them new; 2 could not be\n");
    for line in ["error: line 4: nonsense: ", "error: line 6: "] {
        assert!(said.stderr.contains(line), "{}", said.stderr);
    }
    assert_eq!(home.json(&["list"]).as_array().unwrap().len(), 3);

    let file = home.path("friends");
    std::fs::write(&file, list).unwrap();
    let _daemon = Daemon::start(&home);
    let said = home.run(&["follow", "-f", &file, "--json"]);
    let lines: Vec<Json> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((said.code, lines.len()), (4, 5));
    let good: Vec<&Json> = lines.iter().filter(|line| line["changed"] == false).map(|line| &line["name"]).collect();
    assert_eq!(good, names.iter().collect::<Vec<_>>());
    let bad = |code: &str| lines.iter().find(|line| line["error"]["code"] == code).unwrap()["line"].clone();
    assert_eq!((bad("name_malformed"), bad("line_malformed")), (4.into(), 6.into()));

    std::fs::write(&file, names.join("\n")).unwrap();
    assert_eq!(home.run(&["follow", "-f", &file]).code, 0);
    assert_eq!(home.fails(1, &["follow", "-f", &home.path("missing")]), "file");
    assert_eq!(home.fails(2, &["follow"]), "usage");
}

#[test]
fn everything_that_is_kept_is_sent_now_and_listed() {
    let middle = Home::new(&[]);
    let routing = Daemon::start(&middle);
    let friend = Home::new(&[&routing.url]);
    let followed = friend.key("friend");
    friend.json(&["publish", OTHER]);

    let home = Home::new(&[&routing.url]);
    for with_daemon in [false, true] {
        let _daemon = with_daemon.then(|| Daemon::start(&home));
        if !with_daemon {
            home.key("site");
            home.json(&["publish", VALUE, "-k", "site"]);
            home.json(&["follow", &followed]);
        }
        let own = home.json(&["republish", "site"]);
        assert_eq!((&own["sequence"], &own["receipts"][0]["ok"]), (&0.into(), &true.into()));
        let said = home.run(&["republish", "--json"]);
        let sent: BTreeMap<String, String> = said
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<Json>(line).unwrap())
            .map(|line| (line["name"].as_str().unwrap().to_owned(), line["value"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!((said.code, sent.len()), (0, 2), "{}", said.stderr);
        assert_eq!(sent[&followed], OTHER);
        let text = home.run(&["republish", &followed]).stdout;
        assert!(text.starts_with(&format!("Sent {followed}: {OTHER}\nsequence 0, ")), "{text}");
        assert!(text.contains(&format!("  {}: ok", routing.url)), "{text}");
    }

    let rows: Vec<String> = home.run(&["list"]).stdout.lines().map(str::to_owned).collect();
    let columns = ["KEY", "NAME", "KIND", "VALUE", "SEQUENCE", "VALID UNTIL", "LAST SENT", "ACKS", "NEXT", "FAILURES"];
    let begins: Vec<usize> = columns.iter().map(|column| rows[0].find(column).unwrap()).collect();
    assert!(begins.is_sorted() && rows[0].ends_with("LAST ERROR"), "{rows:?}");
    assert_eq!(rows.len(), 3);
    for row in &rows[1..] {
        assert!(begins[1..].iter().all(|begin| row.as_bytes()[begin - 1] == b' '), "{row}");
    }
    assert!(rows[1].starts_with("site") && rows[1].contains("own") && rows[1].contains(VALUE), "{rows:?}");
    assert!(rows[2].starts_with("-  ") && rows[2].contains("followed") && rows[2].contains(OTHER), "{rows:?}");

    let (stranger, _) = record(9, 0, VALUE);
    assert_eq!(home.fails(3, &["republish", &stranger.to_string()]), "not_kept");
    drop(routing);
    assert_eq!(home.fails(5, &["republish", "site"]), "policy_not_met");
    let kept = home.kept(&followed);
    assert_eq!(kept["failures"], 0, "only the own name failed");
    let own = home.json(&["list"])[0].clone();
    assert!(own["failures"] == 1 && own["last_error"].is_string(), "{own}");
}

#[test]
fn what_was_published_offline_is_sent_when_the_router_is_back() {
    let middle = Home::new(&[]);
    let routing = Daemon::start(&middle);
    let (url, address) = (routing.url.clone(), routing.address());
    let home = Home::new(&[&url]);
    home.configure("[keep]\nretry = \"1s\"");
    let name = home.key("site");
    let _daemon = Daemon::start(&home);
    drop(routing);
    let said = home.run(&["publish", VALUE, "--allow-offline"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.ends_with("stored; it is sent when a router can be reached\n"), "{}", said.stdout);
    assert!(home.kept(&name)["failures"].as_u64() >= Some(1));

    let _routing = Daemon::start_at(&middle, &address);
    let third = Home::new(&[&url]);
    eventually("the record", || (third.run(&["resolve", &name, "-n"]).stdout == format!("{VALUE}\n")).then_some(()));
    let kept = eventually("the receipt", || Some(home.kept(&name)).filter(|kept| kept["acks"] == 1));
    assert_eq!((&kept["failures"], &kept["last_error"]), (&0.into(), &Json::Null));
}

#[test]
fn a_daemon_signs_anew_with_everything_but_the_end_as_it_was() {
    let middle = Home::new(&[]);
    let routing = Daemon::start(&middle);
    let home = Home::new(&[&routing.url]);
    home.configure("[keep]\ninterval = \"1m\"");
    let name = home.key("site");
    // Published without a daemon, so that the daemon must have found the key by itself.
    let options = ["--ttl", "3s", "--v2-only", "--metadata", "_note=hello", "--sequence", "41"];
    let first = home.json(&[&["publish", VALUE, "-t", "12s"][..], &options].concat());
    let daemon = Daemon::start(&home);
    let kept = eventually("a record that lives longer", || {
        Some(home.kept(&name)).filter(|kept| kept["validity"] != first["validity"])
    });
    assert_eq!((&kept["sequence"], &kept["expired"]), (&41.into(), &false.into()));
    assert_eq!(daemon.metric("ipns_not_renewed_total"), 0.0, "it had the key from the beginning");
    // The record is known before its turn has ended.
    eventually("the turn", || (daemon.metric("ipns_kept_total{result=\"ok\"}") >= 1.0).then_some(()));

    let third = Home::new(&[&routing.url]);
    let file = third.path("record");
    let found = eventually("the record at the router", || {
        third.run(&["get", &name, "-o", &file]);
        let found = third.run(&["inspect", &file, "--name", &name, "--json"]).json();
        (found["validity"] != first["validity"]).then_some(found)
    });
    assert!(found["validity"].as_str() > first["validity"].as_str(), "{found}");
    assert_eq!((&found["value"], &found["sequence"], &found["v1"]), (&VALUE.into(), &41.into(), &false.into()));
    assert_eq!((&found["ttl_ns"], &found["metadata"]["_note"]), (&3_000_000_000_u64.into(), &"hello".into()));
}

#[test]
fn a_watch_tells_of_every_change() {
    let middle = Home::new(&[]);
    let routing = Daemon::start(&middle);
    let home = Home::new(&[&routing.url]);
    let name = home.key("site");
    home.json(&["publish", VALUE, "--ttl", "1s"]);
    let daemon = Daemon::start(&home);
    let stranger = Home::new(&[&routing.url]);

    let path = format!("/ipns/{name}/a");
    let mut through_daemon = Ongoing::start(&home, &["resolve", "--stream", "--watch", &path, "--json"]);
    let mut alone = Ongoing::start(&stranger, &["resolve", "--watch", &name, "--json"]);
    let seen = |change: &Json| (change["value"].as_str().unwrap().to_owned(), change["sequence"].as_u64().unwrap());
    assert_eq!(seen(&through_daemon.json()), (format!("{VALUE}/a"), 0));
    assert_eq!(seen(&alone.json()), (VALUE.to_owned(), 0));
    home.json(&["publish", OTHER, "--ttl", "1s"]);
    assert_eq!(seen(&through_daemon.json()), (format!("{OTHER}/a"), 1));
    assert_eq!(seen(&alone.json()), (OTHER.to_owned(), 1));

    #[cfg(unix)]
    {
        assert_eq!(alone.interrupt(), Some(0));
        let begun = std::time::Instant::now();
        assert_eq!(daemon.terminate(), Some(0));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "a watch holds nothing up");
        assert_eq!(through_daemon.json()["error"]["code"], "stopped");
        assert_eq!(through_daemon.ended(), Some(1));
    }
    assert_eq!(stranger.run(&["resolve", "-w", &name, "--timeout", "1s"]).stdout, format!("{OTHER}\n"));
    let (nobody, _) = record(9, 0, VALUE);
    assert_eq!(stranger.fails(5, &["resolve", "-w", &nobody.to_string(), "--timeout", "1s"]), "timeout");
    assert_eq!(stranger.fails(2, &["resolve", "-w", &name, "--offline"]), "usage");
}

#[test]
fn a_key_that_goes_takes_its_name_along() {
    for with_daemon in [false, true] {
        let home = Home::new(&[]);
        let name = home.key("site");
        home.json(&["publish", VALUE, "--allow-offline"]);
        let _daemon = with_daemon.then(|| Daemon::start(&home));
        home.run(&["key", "export", "site", "-o", &home.path("copy")]);
        home.run(&["key", "import", "twin", &home.path("copy")]);
        assert_eq!(home.run(&["key", "rm", "twin"]).stdout, format!("{name}\n"));
        assert_eq!(home.kept(&name)["kind"], "own", "another key still owns it");
        assert_eq!(home.run(&["key", "rm", "site"]).code, 0);
        assert_eq!(home.json(&["list"]), Json::Array(Vec::new()));
    }
}

#[test]
fn keeping_has_settings() {
    let home = Home::new(&[]);
    assert_eq!(home.json(&["config", "show"])["settings"]["keep"]["interval"], "4h");
    home.configure("[keep]\nenabled = false\nmax_followed = 7");
    assert!(home.run(&["config", "show"]).stdout.contains("enabled = false\ninterval = \"4h\""));
    let _daemon = Daemon::start(&home);
    let name = record(1, 0, VALUE).0.to_string();
    home.json(&["follow", &name]);
    assert_eq!(home.kept(&name)["next"], Json::Null, "it is told to keep nothing alive");
    home.configure("[keep]\ninterval = \"5s\"");
    assert_eq!(home.fails(2, &["list"]), "config_malformed");
}

#[test]
fn no_more_names_are_followed_than_allowed() {
    let home = Home::new(&[]);
    home.configure("[keep]\nmax_followed = 2");
    let _daemon = Daemon::start(&home);
    let names: Vec<String> = (1..=3).map(|seed| record(seed, 0, VALUE).0.to_string()).collect();
    let said = home.run(&["follow", &names[0], &names[1], &names[2], "--json"]);
    assert_eq!((said.code, said.json()["error"]["code"].as_str()), (1, Some("followed_too_many")));
    assert_eq!(home.json(&["list"]).as_array().unwrap().len(), 2);
}

#[test]
fn a_record_signed_for_later_is_sent_by_a_daemon_when_its_time_has_come() {
    let router = Home::new(&[]);
    let routing = Daemon::start(&router);
    let home = Home::new(&[&routing.url]);
    let ((now, now_bytes), (later, later_bytes)) = (record(21, 4, VALUE), record(22, 5, OTHER));
    let file = home.path("record");
    let put = |bytes: &[u8], name: &ipns_core::Name, at: &str| {
        std::fs::write(&file, bytes).unwrap();
        home.run(&["put", &file, "--name", &name.to_string(), "--at", at])
    };
    let queued = put(&later_bytes, &later, "2098-12-31T00:00:00Z");
    assert_eq!((queued.code, queued.stdout), (0, format!("{later} is sent at 2098-12-31T00:00:00Z\n")));
    // Its time was before the daemon began.
    assert_eq!(put(&now_bytes, &now, "2020-01-01T00:00:00Z").code, 0);
    let mismatched = put(&now_bytes, &later, "2098-12-31T00:00:00Z");
    assert_eq!(mismatched.code, 4, "{}", mismatched.stderr);

    let _daemon = Daemon::start(&home);
    eventually("the record whose time has come", || (home.kept(&now.to_string())["acks"] == 1).then_some(()));
    let reader = Home::new(&[&routing.url]);
    assert_eq!(reader.run(&["resolve", &now.to_string()]).stdout, format!("{VALUE}\n"));
    assert_eq!(reader.fails(3, &["resolve", &later.to_string()]), "not_found");
    assert_eq!(home.kept(&later.to_string())["kind"], "queued");
}
