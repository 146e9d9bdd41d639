//! Commands that go through a running daemon, and daemons that come and go.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use support::{Daemon, Home, OTHER, VALUE};

#[test]
fn commands_go_through_the_daemon_of_their_home() {
    let middle = Home::new(&[]);
    let routing = Daemon::start(&middle);
    let home = Home::new(&[&routing.url]);
    let daemon = Daemon::start(&home);
    let name = home.key("site");
    assert_eq!(home.json(&["publish", VALUE])["sequence"], 0);
    assert_eq!(home.json(&["resolve", "site", "--no-cache"])["value"], VALUE);
    let lines = home.run(&["resolve", &name, "--stream", "--json", "--no-cache"]);
    let last: serde_json::Value = serde_json::from_str(lines.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["final"], true);
    let list = home.json(&["list"]);
    assert_eq!(
        (&list[0]["name"], &list[0]["key"], &list[0]["acks"]),
        (&name.as_str().into(), &"site".into(), &1.into())
    );
    let file = home.path("record");
    assert_eq!(home.run(&["get", &name, "-o", &file]).code, 0);
    assert_eq!(home.json(&["put", &file, "--name", &name])["sequence"], 0);
    assert_eq!(home.fails(6, &["publish", VALUE, "--if-sequence", "7"]), "sequence_changed");
    assert_eq!(home.fails(4, &["resolve", "nonsense"]), "name_malformed");
    assert_eq!(daemon.terminate(), Some(0));

    assert_eq!(home.json(&["publish", OTHER])["sequence"], 1, "without the daemon, and its store is whole");
    assert_eq!(home.json(&["list"])[0]["sequence"], 1);
}

#[test]
fn a_killed_daemon_stands_in_nobodys_way() {
    let home = Home::new(&[]);
    home.key("site");
    let daemon = Daemon::start(&home);
    home.json(&["publish", VALUE, "--allow-offline"]);
    daemon.kill();
    assert_eq!(home.json(&["publish", OTHER, "--allow-offline"])["sequence"], 1);
    let daemon = Daemon::start(&home);
    assert_eq!(home.json(&["publish", OTHER, "--allow-offline"])["sequence"], 2);
    drop(daemon);
}

#[test]
fn commands_at_once_on_one_home_wait_for_each_other() {
    let home = Home::new(&[]);
    home.key("site");
    let running: Vec<_> = (0..6)
        .map(|_| {
            let mut command = home.command(&["publish", VALUE, "--allow-offline", "--json"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut sequences: Vec<u64> = running
        .into_iter()
        .map(|child| support::Said::from(child.wait_with_output().unwrap()).json()["sequence"].as_u64().unwrap())
        .collect();
    sequences.sort_unstable();
    assert_eq!(sequences, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn the_port_file_has_the_port() {
    let home = Home::new(&[]);
    let file = home.path("port");
    let mut child = home
        .command(&["daemon", "--http", "127.0.0.1:0", "--http-port-file", &file])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    let port = std::fs::read_to_string(&file).unwrap();
    assert_eq!(line, format!("ready http=http://127.0.0.1:{}\n", port.trim()));
    child.kill().unwrap();
    child.wait().unwrap();
}
