#!/usr/bin/env python3
"""What the crates cost a program that uses them: crates, build time, size, memory. Prints a table.

    tests/footprint.py                                  # everything; a cold build of each, which takes long
    tests/footprint.py --only core,http --runtime smol  # some of it
    tests/footprint.py --shared-target DIR              # quicker: builds share DIR, and their time is not told

Each row is a program of its own, generated in a folder that is removed at the end, which depends on the checkout by
path and has its Cargo.lock and its release profile, stripped. It must print the right value, or the script fails. Its
store is a map of a few lines, or none, so that no store is counted. Everything it asks is on 127.0.0.1. Linux only:
memory is read from /proc.
"""
import argparse, contextlib, http.server, json, os, pathlib, re, shutil, subprocess, sys, tempfile, threading, time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "footprint"
RUNTIMES = {
    "tokio": ("ipns-tokio", ["rt-multi-thread"], "tokio::runtime::Runtime::new()?.block_on"),
    "smol": ("ipns-smol", [], "smol::block_on"),
    "async-std": ("ipns-async-std", [], "async_std::task::block_on"),
}

RECORD = """
use std::{error::Error, fs};

use ipns_core::record::Checks;

fn main() -> Result<(), Box<dyn Error>> {
    let [file, name] = [1, 2].map(|n| std::env::args().nth(n).unwrap_or_default());
    let seconds = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    let now = ipns_core::Timestamp::from_unix_secs(seconds as i64);
    let record = Checks::at(now).verify(fs::read(file)?, &name.parse()?)?;
    println!("value {}", record.value()?);
    println!("{}", fs::read_to_string("/proc/self/status")?);
    Ok(())
}
"""

CORE = """
#[allow(dead_code)]
#[path = "PLAIN_THREAD"]
mod plain_thread;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [url, name] = [1, 2].map(|n| std::env::args().nth(n).unwrap_or_default());
    println!("value {}", plain_thread::resolve(&url, name.parse()?)?);
    println!("{}", std::fs::read_to_string("/proc/self/status")?);
    Ok(())
}
""".replace("PLAIN_THREAD", str(ROOT / "core/examples/plain_thread.rs"))

NODE = """
use std::{collections::BTreeMap, error::Error};

use ipns_core::store::{Entries, Store, StoreError, Table, Write};
use ADAPTER::*;

#[derive(Default)]
struct Map(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Store for Map {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }
    fn scan(&self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Entries, StoreError> {
        let wanted = |(its, key): &(Table, Vec<u8>)| *its == table && after.is_none_or(|after| &key[..] > after);
        let entries = self.0.iter().filter(|(at, _)| wanted(at)).take(limit);
        Ok(entries.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        for Write { table, key, value } in batch.iter().cloned() {
            match value {
                Some(value) => drop(self.0.insert((table, key), value)),
                None => drop(self.0.remove(&(table, key))),
            }
        }
        Ok(())
    }
}

async fn resolve(node: &Handle, name: &str) -> Result<(), Box<dyn Error>> {
    println!("value {}", node.resolve(name.parse()?, Default::default()).await?.value);
    println!("{}", std::fs::read_to_string("/proc/self/status")?);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    BLOCK_ON(run())
}
"""

HTTP = NODE + """
use ipns_core::routing::{Router as Settings, http::client::Endpoint};

async fn run() -> Result<(), Box<dyn Error>> {
    let [url, name] = [1, 2].map(|n| std::env::args().nth(n).unwrap_or_default());
    let node = spawn(Node::builder(Map::default()).router(Settings::http(Endpoint::new(&url)?)))?;
    resolve(&node, &name).await
}
"""

# A DHT takes three: a server, whoever leaves the record there, and the client that is measured.
DHT = NODE + """
use std::{thread::sleep, time::Duration};

use ipns_core::dht::{Config, Mode, PeerInfo};
use ipns_core::engine::Put;
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::Router as Settings;

async fn run() -> Result<(), Box<dyn Error>> {
    let [what, at, name, file] = [1, 2, 3, 4].map(|n| std::env::args().nth(n).unwrap_or_default());
    let serves = what == "serve";
    let key = SecretKey::generate(KeyType::Ed25519, [what.len() as u8; 32], 0)?;
    let peer = key.public_key().to_name().to_peer_id();
    let seeds = match serves {
        true => Vec::new(),
        false => vec![PeerInfo::from_multiaddr(&at.parse()?).ok_or("no peer")?],
    };
    let mode = if serves { Mode::Server } else { Mode::Client };
    let dht = Config { mode, seeds, ..Config::custom(peer, "/footprint/kad/1.0.0") };
    let listen = if serves { vec!["/ip4/127.0.0.1/tcp/0".parse()?] } else { Vec::new() };
    let network = NodeConfig { listen, confirm_listen_addresses: true, autonat: false, ..NodeConfig::default() };
    let builder = Node::builder(Map::default()).router(Settings::dht("dht", dht));
    let (node, listening) = spawn_with_network(builder, network, &key).await?;
    match &what[..] {
        "serve" => {
            while !node.health().await?.iter().all(|dht| dht.serving) {
                sleep(Duration::from_millis(5));
            }
            println!("{}/p2p/{peer}", listening.addresses.first().ok_or("no address")?);
            std::io::stdin().read_line(&mut String::new())?;
            Ok(())
        }
        "put" => {
            let (name, record) = (name.parse()?, std::fs::read(file)?.into());
            let (keep, policy) = (false, Default::default());
            node.put(Put { name, record, force: false, keep, policy, allow_offline: false }).await?;
            Ok(())
        }
        _ => resolve(&node, &name).await,
    }
}
"""


def fail(text):
    sys.exit(f"footprint: {text}")


def run(command, **options):
    """What a command prints; when it fails, so does the script."""
    shown = " ".join(map(str, command))
    try:
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, **options)
    except subprocess.TimeoutExpired:
        fail(f"{shown}: not done in time")
    if done.returncode:
        fail(f"{shown}: status {done.returncode}")
    return done.stdout


def the_record():
    """A record of the test vectors: its file, its name and its value. It lives for a hundred years."""
    rows = json.loads((ROOT / "tests/vectors/manifest.json").read_text())
    row = next(row for row in rows if row["file"] == "records/js-ed25519-v1v2.ipns-record")
    return ROOT / "tests/vectors" / row["file"], row["name"], row["expect"]["value"]


def spec(dependency):
    return dependency if isinstance(dependency, dict) else {"version": dependency}


def manifest(kind, runtime):
    """The Cargo.toml of a program."""
    text = (ROOT / "Cargo.toml").read_text()
    shared = tomllib.loads(text)["workspace"]["dependencies"]
    needs = {"ipns-core": {"path": str(ROOT / "core")}}
    if kind == "record":
        needs["ipns-core"]["default-features"] = False
    if kind == "core":
        needs |= {name: spec(shared[name]) for name in ["bytes", "http"]}
    if runtime:
        adapter, features, _ = RUNTIMES[runtime]
        needs[adapter] = {"path": str(ROOT / shared[adapter]["path"]), "default-features": False, "features": [kind]}
        needs[runtime] = {**spec(shared[runtime]), "features": features}
    inline = lambda table: ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
    profile = re.search(r"^\[profile\.release\]\n(?:[^\[].*\n)*", text, re.MULTILINE).group()
    return "\n".join([
        f'[package]\nname = "{PACKAGE}"\nversion = "0.0.0"\nedition = "2024"\n',
        "[dependencies]",
        *(f"{name} = {{ {inline(table)} }}" for name, table in needs.items()),
        f"\n{profile.rstrip()}\nstrip = true\n\n[workspace]\n",
    ])


def generate(folder, kind, runtime):
    source = {"record": RECORD, "core": CORE, "http": HTTP, "dht": DHT}[kind]
    if runtime:
        adapter, _, block_on = RUNTIMES[runtime]
        source = source.replace("ADAPTER", adapter.replace("-", "_")).replace("BLOCK_ON", block_on)
    (folder / "src").mkdir(parents=True)
    (folder / "src/main.rs").write_text(source)
    (folder / "Cargo.toml").write_text(manifest(kind, runtime))
    shutil.copy(ROOT / "Cargo.lock", folder)


def count(folder):
    """How many crates a program depends on."""
    tree = run(["cargo", "tree", "-q", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}"], cwd=folder)
    crates = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    return len([crate for crate in crates if crate[0] != PACKAGE])


@contextlib.contextmanager
def router(record, name):
    """An HTTP router that has one record."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            found = self.path == f"/routing/v1/ipns/{name}"
            body = record if found else b""
            self.send_response(200 if found else 404)
            self.send_header("content-type", "application/vnd.ipfs.ipns-record")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def dht_server(program, record, name):
    """The program once more, as a DHT server that was sent the record."""
    server = subprocess.Popen([program, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().strip()
        run([program, "put", address, name, record], timeout=60)
        yield address
    finally:
        server.kill()
        server.wait()


def resident(program, kind):
    """Bytes of memory after the program found the right value."""
    record, name, value = the_record()
    if kind == "record":
        said = run([program, record, name], timeout=60)
    elif kind in ("core", "http"):
        with router(record.read_bytes(), name) as url:
            said = run([program, url, name], timeout=60)
    else:
        with dht_server(program, record, name) as address:
            said = run([program, "resolve", address, name], timeout=60)
    if said.splitlines()[:1] != [f"value {value}"]:
        fail(f"{program} does not say {value} but: {said[:200]}")
    return int(re.search(r"^VmRSS:\s+(\d+) kB$", said, re.MULTILINE).group(1)) * 1024


def measure(folder, kind, runtime, shared):
    generate(folder, kind, runtime)
    # What is downloaded, and what of Cargo.lock is not needed here, is no part of the build.
    run(["cargo", "fetch", "-q"], cwd=folder)
    target = pathlib.Path(shared).resolve() if shared else folder / "target"
    environment = {key: value for key, value in os.environ.items() if not re.match(r"RUSTC_WRAPPER|CARGO_BUILD_", key)}
    begun = time.monotonic()
    environment["CARGO_TARGET_DIR"] = str(target)
    run(["cargo", "build", "-q", "--release", "--locked"], cwd=folder, env=environment)
    took = time.monotonic() - begun
    program = target / "release" / PACKAGE
    row = {"program": kind, "runtime": runtime, "crates": count(folder)}
    row["build_seconds"] = None if shared else round(took)
    row |= {"binary_bytes": program.stat().st_size, "resident_bytes": resident(program, kind)}
    shutil.rmtree(folder)
    print(f"{kind} {runtime or ''}: built in {took:.0f} s", file=sys.stderr)
    return row


def table(rows):
    yield "| program | crates | cold build | binary | memory |"
    yield "|---|---|---|---|---|"
    what = {
        "record": "verifies a record, `ipns-core` without `std`",
        "core": "resolves over HTTP, `ipns-core` and a plain thread",
        "http": "resolves over HTTP",
        "dht": "resolves over a DHT",
    }
    mib = lambda size: f"{size / 2**20:.1f} MiB"
    for row in rows:
        title = what[row["program"]] + (f", {row['runtime']}" if row["runtime"] else "")
        took = "" if row["build_seconds"] is None else f"{row['build_seconds']} s"
        yield f"| {title} | {row['crates']} | {took} | {mib(row['binary_bytes'])} | {mib(row['resident_bytes'])} |"


def several(known):
    def read(text):
        if unknown := [word for word in text.split(",") if word not in known]:
            raise argparse.ArgumentTypeError(f"no such thing: {', '.join(unknown)}")
        return text.split(",")

    return read


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds, runtimes = ["record", "core", "http", "dht"], list(RUNTIMES)
    parser.add_argument("--only", type=several(kinds), default=kinds, help=f"some of {','.join(kinds)}")
    parser.add_argument("--runtime", type=several(runtimes), default=runtimes, help=f"some of {','.join(runtimes)}")
    parser.add_argument("--shared-target", metavar="DIR", help="build in DIR and keep it; build times are left out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for kind in options.only:
            for runtime in options.runtime if kind in ("http", "dht") else [None]:
                rows.append(measure(pathlib.Path(temporary) / PACKAGE, kind, runtime, options.shared_target))
    print(json.dumps(rows, indent=1) if options.json else "\n".join(table(rows)))


main()
