//! The program in a DHT of its own: daemons and commands as processes, on 127.0.0.1.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value as Json, json};
use support::{Daemon, Home, OTHER, VALUE, record};

/// So many daemons that have joined each other, with their homes.
fn network(count: usize) -> (Vec<Home>, Vec<Daemon>) {
    let (mut homes, mut daemons): (Vec<Home>, Vec<Daemon>) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let entrances: Vec<&str> = daemons.iter().take(2).map(|daemon| daemon.peers[0].as_str()).collect();
        let home = Home::dht(&entrances);
        daemons.push(Daemon::start(&home));
        homes.push(home);
    }
    for daemon in &mut daemons {
        let joined = daemon.joined();
        assert!(joined["dht"] == "dht" && joined["live"].as_u64() >= Some(1), "{joined}");
    }
    (homes, daemons)
}

#[test]
fn names_over_the_dht_alone() {
    let (homes, mut daemons) = network(6);
    // Through a daemon, and without one.
    let name = homes[2].key("site");
    let published = homes[2].json(&["publish", VALUE]);
    let receipt = &published["receipts"][0];
    assert_eq!((&receipt["router"], &receipt["ok"], &receipt["acks"]), (&"dht".into(), &true.into(), &5.into()));
    let peers = receipt["peers"].as_object().unwrap();
    assert!(peers.len() == 5 && peers.values().all(|said| said == "acked"), "{receipt}");
    let entrance = daemons[0].peers[0].clone();
    let alone = Home::dht(&[&entrance]);
    let resolved = alone.json(&["resolve", &name, "--no-cache"]);
    assert_eq!((&resolved["value"], &resolved["sources"]), (&VALUE.into(), &json!(["dht"])));
    assert!(resolved["freshness"]["miss_probability"].as_f64().unwrap() <= 1e-3, "{resolved}");
    assert_eq!(alone.run(&["resolve", &name, "--freshness", "first"]).stdout, format!("{VALUE}\n"));

    // An update from another machine with the same key: its home knows no sequence, the network does.
    let key = homes[2].path("site.key");
    assert_eq!(homes[2].run(&["key", "export", "site", "-o", &key]).code, 0);
    assert_eq!(alone.run(&["key", "import", "site", &key]).code, 0);
    assert_eq!(alone.json(&["publish", OTHER])["sequence"], 1);
    for home in &homes {
        assert_eq!(home.run(&["resolve", &name, "--no-cache"]).stdout, format!("{OTHER}\n"));
    }

    // Raw records, and the rule that an older one is not sent over a newer one.
    let (raw, bytes) = record(7, 3, VALUE);
    let (raw, file) = (raw.to_string(), alone.path("raw"));
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(alone.json(&["put", &file, "--name", &raw])["receipts"][0]["acks"], 6);
    let got = homes[4].path("got");
    assert_eq!(homes[4].run(&["get", &raw, "-o", &got]).code, 0);
    assert_eq!(std::fs::read(&got).unwrap(), bytes);
    std::fs::write(&file, record(7, 2, OTHER).1).unwrap();
    assert_eq!(alone.fails(6, &["put", &file, "--name", &raw]), "sequence_too_low");

    // Two go, one comes back with nothing but its home.
    daemons.pop().unwrap().kill();
    daemons.pop().unwrap().kill();
    let back = homes.into_iter().nth(4).unwrap();
    let mut daemon = Daemon::start(&back);
    daemon.joined();
    assert_eq!(back.run(&["resolve", &name, "--no-cache"]).stdout, format!("{OTHER}\n"));
}

#[test]
fn looking_inside() {
    let (homes, daemons) = network(4);
    let id = |daemon: &Daemon| daemon.peers[0].rsplit('/').next().unwrap().to_owned();
    let stranger = Home::dht(&[&daemons[0].peers[0]]);
    for home in [&homes[1], &stranger] {
        let found = home.json(&["dht", "find-peer", &id(&daemons[3])]);
        assert!(daemons[3].peers[0].starts_with(found[0]["peers"][0]["addresses"][0].as_str().unwrap()), "{found}");
        let closest = home.json(&["dht", "closest", &id(&daemons[2])]);
        assert_eq!(closest[0]["peers"][0]["id"], id(&daemons[2]), "{closest}");
        let pong = home.json(&["dht", "ping", &daemons[2].peers[0]]);
        assert!(pong[0]["ms"].as_f64().unwrap() < 5_000.0, "{pong}");
        let table = home.json(&["dht", "table"]);
        assert!(table[0]["peers"].as_array().unwrap().len() >= 3, "{table}");
        assert_eq!(table[0]["health"]["standing"], "joined");
    }
    let cid = "bafkreidfdrlkeq4m4xnxuyx6iae76fdm4wgl5d4xzsb77ixhyqwumhz244";
    assert_eq!(homes[2].fails(3, &["dht", "find-providers", cid]), "not_found");
    let nobody = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d";
    assert_eq!(homes[2].fails(5, &["dht", "ping", nobody]), "unreachable");
    // A daemon has a network of its own, and says so to who names another.
    let said = homes[1].run(&["dht", "table", "--dht-protocol", "/own/kad/1.0.0"]);
    assert!(said.code == 0 && said.stderr.contains("its own routers and network"), "{}", said.stderr);
    assert_eq!(homes[1].json(&["dht", "provide", cid])[0]["acks"], 3);
    let found = homes[2].json(&["dht", "find-providers", cid]);
    assert_eq!(found[0]["peers"][0]["id"], id(&daemons[1]), "{found}");
    assert!(homes[3].run(&["dht", "table"]).stdout.contains("joined: 3 live peers"));
    assert_eq!(Home::new(&[]).fails(2, &["dht", "table"]), "no_dht");
    assert_eq!(stranger.fails(2, &["dht", "ping", "nobody"]), "peer_malformed");
}

#[test]
fn several_dhts_and_http_at_once() {
    let lan = ["--dht-protocol", "/ipfs/kad/1.0.0", "--dht-protocol", "/ipfs/lan/kad/1.0.0"];
    let first = Home::dht(&[]).with(&lan);
    let one = Daemon::start(&first);
    let second = Home::dht(&[&one.peers[0]]).with(&lan);
    let mut two = Daemon::start(&second);
    let mut joined = [two.joined()["dht"].clone(), two.joined()["dht"].clone()];
    joined.sort_by_key(Json::to_string);
    assert_eq!(joined, ["dht", "lan"]);
    let name = second.key("site");
    let published = second.json(&["publish", VALUE, "--wait", "all"]);
    let routers: Vec<&str> =
        published["receipts"].as_array().unwrap().iter().map(|receipt| receipt["router"].as_str().unwrap()).collect();
    assert_eq!(routers, ["dht", "lan"]);
    // Whoever speaks only HTTP gets it from a daemon that asks its DHTs.
    let web = Home::new(&[&one.url]);
    assert_eq!(web.run(&["resolve", &name]).stdout, format!("{VALUE}\n"));
    web.key("other");
    let published = web.json(&["publish", OTHER]);
    let other = published["name"].as_str().unwrap();
    assert_eq!(second.run(&["resolve", other, "--no-cache"]).stdout, format!("{OTHER}\n"));
}

#[test]
fn wrong_words_are_usage_errors() {
    let home = Home::new(&["dht"]);
    for (options, code) in [
        (["--listen", "localhost:4001"], "address_malformed"),
        (["--bootstrap", "/ip4/127.0.0.1/tcp/1"], "peer_malformed"),
        (["--dht-protocol", "kad"], "protocol_malformed"),
    ] {
        let said = home.run(
            &[&options[..], &["resolve", "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam", "--json"]]
                .concat(),
        );
        assert_eq!((said.code, &said.json()["error"]["code"]), (2, &code.into()), "{}", said.stderr);
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let home = home.with(&["--listen", &listen]);
    let said = home.run(&["daemon", "--http", "127.0.0.1:0"]);
    assert!(said.code == 1 && said.stderr.contains("choose another address with --listen"), "{}", said.stderr);
}

#[test]
fn the_smallest_demo() {
    let home = Home::new(&[]);
    let told = home.json(&["demo", "--nodes", "2"]);
    let rows = told["rows"].as_array().unwrap();
    assert!(rows.len() >= 8 && rows.iter().any(|row| row["router"] == "dht" && row["ok"] == true), "{told}");
    assert_eq!(home.run(&["demo", "--nodes", "1"]).code, 2);
}
