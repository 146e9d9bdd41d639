//! The program as its users run it: processes, homes in temporary directories, sockets on 127.0.0.1.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;

pub const VALUE: &str = "/ipfs/bafkqaddimvwgy3zao5xxe3debi";
pub const OTHER: &str = "/ipfs/bafkqaaa";

/// A home with the routers that its commands use.
pub struct Home {
    pub dir: TempDir,
    routers: Vec<String>,
    /// Other global options.
    options: Vec<String>,
}

/// What a command said.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    pub fn new(routers: &[&str]) -> Self {
        let routers = if routers.is_empty() { vec!["none"] } else { routers.to_vec() };
        let routers = routers.into_iter().map(Into::into).collect();
        Self { dir: tempfile::tempdir().unwrap(), routers, options: Vec::new() }
    }

    /// One whose only router is a DHT on this machine, joined by these addresses.
    pub fn dht(entrances: &[&str]) -> Self {
        let mut options = vec!["--allow-private-addrs", "--listen", "/ip4/127.0.0.1/tcp/0"];
        for entrance in entrances {
            options.extend(["--bootstrap", entrance]);
        }
        Self { options: options.into_iter().map(Into::into).collect(), ..Self::new(&["dht"]) }
    }

    /// The same home with other options.
    pub fn with(self, options: &[&str]) -> Self {
        Self { options: [self.options, options.iter().map(|&option| option.into()).collect()].concat(), ..self }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.arg("--home").arg(self.dir.path()).arg("--no-default-bootstrap");
        for router in &self.routers {
            command.arg("--router").arg(router);
        }
        command.args(&self.options).args(args).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Said {
        Said::from(self.command(args).output().unwrap())
    }

    /// Runs a command that must succeed, and reads the JSON that it prints.
    pub fn json(&self, args: &[&str]) -> Json {
        let said = self.run(&[args, &["--json"]].concat());
        assert_eq!(said.code, 0, "{args:?}: {}{}", said.stdout, said.stderr);
        said.json()
    }

    /// Runs a command that must fail with `code`, and returns the code of its error.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let said = self.run(&[args, &["--json"]].concat());
        assert_eq!(said.code, code, "{args:?}: {}{}", said.stdout, said.stderr);
        assert!(said.stderr.contains("error: "), "{args:?}: {}", said.stderr);
        said.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    /// Makes a key and returns its name.
    pub fn key(&self, key: &str) -> String {
        self.run(&["key", "gen", key]).stdout.trim().to_owned()
    }

    /// Runs a command that reads `input`.
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Said::from(child.wait_with_output().unwrap())
    }

    /// What it keeps alive by a name.
    pub fn kept(&self, name: &str) -> Json {
        let list = self.json(&["list"]);
        list.as_array().unwrap().iter().find(|kept| kept["name"] == name).cloned().unwrap_or_default()
    }

    /// Writes its settings.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.dir.path().join("config.toml"), text).unwrap();
    }

    pub fn path(&self, file: &str) -> String {
        self.dir.path().join(file).to_str().unwrap().to_owned()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    pub fn json(&self) -> Json {
        serde_json::from_str(self.stdout.lines().last().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipns"));
    command.env_remove("IPNS_HOME").env("NO_COLOR", "1");
    command
}

/// A daemon that is ready, and stops when dropped.
pub struct Daemon {
    child: Child,
    pub url: String,
    /// Where it listens for peers.
    pub peers: Vec<String>,
    lines: BufReader<std::process::ChildStdout>,
}

impl Daemon {
    pub fn start(home: &Home) -> Self {
        Self::start_at(home, "127.0.0.1:0")
    }

    /// One that listens at an address such as that of a daemon that has ended.
    pub fn start_at(home: &Home, address: &str) -> Self {
        let mut child = home
            .command(&["daemon", "--http", address, "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut daemon = Self { child, url: String::new(), peers: Vec::new(), lines };
        let ready = next_line(&mut daemon.lines);
        assert_eq!(ready["ready"], true, "{ready}");
        let peers = ready["addresses"].as_array().unwrap().iter().map(|peer| peer.as_str().unwrap().to_owned());
        daemon.peers = peers.collect();
        daemon.url = ready["http"].as_str().unwrap().to_owned();
        daemon
    }

    /// Waits until it says that it has joined a DHT, and returns what it says.
    pub fn joined(&mut self) -> Json {
        loop {
            let said = next_line(&mut self.lines);
            if said["joined"] == true {
                return said;
            }
        }
    }

    /// The address of its HTTP server.
    pub fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    /// The value of one of its metrics.
    pub fn metric(&self, series: &str) -> f64 {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, as an operating system does, and waits until it has.
    #[cfg(unix)]
    pub fn terminate(mut self) -> Option<i32> {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next_line(lines: &mut impl BufRead) -> Json {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// Asks again and again for what must come; each time is a process of its own, or more.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        match ask() {
            Some(answer) => return answer,
            None => assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not come"),
        }
    }
}

/// A command that goes on, whose lines are read as they come; it ends when dropped.
pub struct Ongoing {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Ongoing {
    pub fn start(home: &Home, args: &[&str]) -> Self {
        let mut child = home.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Its next line.
    pub fn json(&mut self) -> Json {
        next_line(&mut self.lines)
    }

    /// Its exit status once it has ended by itself.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Interrupts it as someone at a terminal does.
    #[cfg(unix)]
    pub fn interrupt(&mut self) -> Option<i32> {
        assert!(Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status().unwrap().success());
        self.ended()
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request as a scripted server sees it.
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
}

/// What a scripted server answers: status, content type, body, after a while.
pub struct Answer {
    pub status: u16,
    pub kind: &'static str,
    pub body: Vec<u8>,
    pub delay: Duration,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, kind: "text/plain", body: b"scripted".to_vec(), delay: Duration::ZERO }
    }

    pub fn record(bytes: &[u8]) -> Self {
        Self { status: 200, kind: "application/vnd.ipfs.ipns-record", body: bytes.to_vec(), delay: Duration::ZERO }
    }

    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// An HTTP server that does as told. Returns its URL; it lives until the test process ends.
pub fn scripted(script: impl FnMut(Request) -> Answer + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let script = Arc::new(Mutex::new(script));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            std::thread::spawn(move || serve(stream, &script));
        }
    });
    url
}

fn serve(mut stream: TcpStream, script: &Mutex<impl FnMut(Request) -> Answer>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        match header.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = script.lock().ok()?(Request { method, path, body });
    // The delay is what is tested here, not a wait for something else.
    std::thread::sleep(answer.delay);
    write!(
        stream,
        "HTTP/1.1 {} Scripted\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.kind,
        answer.body.len()
    )
    .ok()?;
    stream.write_all(&answer.body).ok()
}

/// A port on which nobody listens.
pub fn dead() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A record of a name that exists nowhere else, from a fixed key.
pub fn record(seed: u8, sequence: u64, value: &str) -> (ipns_core::Name, Vec<u8>) {
    use ipns_core::key::{KeyType, SecretKey, Signer};
    let key = SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap();
    let eol = "2099-01-01T00:00:00Z".parse().unwrap();
    let record = ipns_core::record::RecordBuilder::new(value.parse().unwrap(), sequence, eol).sign(&key).unwrap();
    (key.public_key().to_name(), record.as_bytes().to_vec())
}

/// The folder of the project's own test material.
pub fn material(below: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(below)
}
