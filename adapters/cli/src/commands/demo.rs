//! `ipns demo`: a private network on this machine, from real parts: DHT servers and an HTTP router on sockets, stores on
//! disk, two homes.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ipns_core::dht::Standing;
use ipns_core::key::KeyType;
use ipns_server::api::{Api, PublishRequest, ResolveRequest, generate_key};
use ipns_server::report::{PublishReport, ReceiptReport, ResolveReport};
use ipns_server::{Failure, Server, ServerConfig, exit};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::args::DemoArgs;
use crate::backend::{Role, Running, stands, start};
use crate::output;
use crate::settings::{DhtFile, File, RouterSetting, Settings};

const FIRST: &str = "/ipfs/bafkqaddimvwgy3zao5xxe3debi";
const SECOND: &str = "/ipfs/bafkqaddimvwgy3zamftwc2lobi";
/// How long the servers may take to find each other.
const JOINING: Duration = Duration::from_secs(60);

/// A line of the table: what was done over which router, and what came of it.
#[derive(Serialize)]
struct Row {
    step: &'static str,
    #[serde(flatten)]
    receipt: ReceiptReport,
}

/// An HTTP router over a node of the DHT.
struct HttpRouter {
    url: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

pub(crate) async fn run(settings: &Settings, args: &DemoArgs) -> Result<u8, Failure> {
    let begun = Instant::now();
    let folder = tempfile::tempdir().map_err(|error| Failure::new(exit::FAILED, "demo", error.to_string()))?;
    let mut servers = Vec::new();
    let progress = progress(u64::from(args.nodes));
    let grown = grow(folder.path(), args.nodes, &mut servers, &progress).await;
    progress.finish_and_clear();
    let told = match grown {
        Ok(()) => tell(folder.path(), &mut servers).await,
        Err(failure) => Err(failure),
    };
    for server in servers {
        server.api.node().shutdown(Duration::ZERO).await;
    }
    let rows = told?;
    if settings.json {
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        output::document(&serde_json::json!({ "rows": rows, "nodes": args.nodes, "ms": ms }))?;
    } else {
        output::line(String::new())?;
        output::line(table(&rows))?;
        output::line(format!("\neverything in {:.1} s, over real sockets and stores", begun.elapsed().as_secs_f32()))?;
    }
    Ok(0)
}

/// A bar on a terminal, and nothing elsewhere.
fn progress(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

/// Starts the DHT servers, each of which joins through the first, and waits until all of them have.
async fn grow(folder: &Path, count: u8, servers: &mut Vec<Running>, progress: &ProgressBar) -> Result<(), Failure> {
    progress.set_message("starting DHT servers");
    for index in 0..count {
        let home = home(folder, &format!("server-{index}"), &entrances(&servers[..servers.len().min(1)]), &[]);
        servers.push(start(&home, Role::Daemon).await?);
        progress.inc(1);
    }
    progress.reset();
    progress.set_message("waiting for them to join");
    let all = async {
        for server in servers.iter() {
            // The first one knows nobody until others come.
            stands(server.api.node(), |standing| standing == Standing::Joined).await?;
            progress.inc(1);
        }
        Ok(())
    };
    let late = || Failure::new(exit::FAILED, "demo", "the servers did not find each other in time");
    tokio::time::timeout(JOINING, all).await.unwrap_or_else(|_| Err(late()))?;
    say(&format!("{count} DHT servers on 127.0.0.1 have joined, each with a store of its own"));
    Ok(())
}

/// The story: Alice publishes and updates, Bob resolves, servers die, Alice's machine restarts.
async fn tell(folder: &Path, servers: &mut Vec<Running>) -> Result<Vec<Row>, Failure> {
    let router = serve(servers[0].api.clone()).await?;
    say(&format!("one of them is an HTTP router, too: {}", router.url));
    let urls = [router.url.clone()];
    let mut rows = Vec::new();
    let entrances = entrances(&servers[..servers.len().min(3)]);
    let alice_home = home(folder, "alice", &entrances, &urls);
    let alice = start(&alice_home, Role::Command).await?.api;
    let bob = start(&home(folder, "bob", &entrances, &urls), Role::Command).await?.api;
    let key = generate_key(alice.keys(), "site", KeyType::Ed25519, 0)?;
    say(&format!("Alice made a key; her name is {}", key.name));

    let first = publish(&alice, FIRST).await?;
    say(&format!("Alice published sequence {}: {} in {} ms", first.sequence, first.value, first.ms));
    rows.extend(first.receipts.into_iter().map(|receipt| Row { step: "publish", receipt }));

    let seen = resolve(&bob, &key.name).await?;
    expect(&seen.value, FIRST)?;
    say(&format!("Bob resolved it: {} in {} ms, {} answers", seen.value, seen.ms, seen.freshness.answers));
    rows.extend(seen.receipts.into_iter().map(|receipt| Row { step: "resolve", receipt }));

    let second = publish(&alice, SECOND).await?;
    say(&format!("Alice published sequence {}: {}", second.sequence, second.value));
    rows.extend(second.receipts.into_iter().map(|receipt| Row { step: "update", receipt }));

    let dying = (servers.len() / 4).max(1);
    for server in servers.drain(servers.len() - dying..) {
        server.api.node().shutdown(Duration::ZERO).await;
    }
    say(&format!("{dying} servers went away"));
    let seen = resolve(&bob, &key.name).await?;
    expect(&seen.value, SECOND)?;
    say(&format!("Bob sees the update: {} in {} ms", seen.value, seen.ms));
    rows.extend(seen.receipts.into_iter().map(|receipt| Row { step: "resolve", receipt }));

    alice.node().shutdown(Duration::from_secs(1)).await;
    let alice = start(&alice_home, Role::Command).await?.api;
    let third = publish(&alice, FIRST).await?;
    say(&format!("Alice restarted and published sequence {}: no sequence is ever used twice", third.sequence));
    if third.sequence <= second.sequence {
        return Err(Failure::new(exit::FAILED, "demo", "the sequence did not rise"));
    }
    rows.extend(third.receipts.into_iter().map(|receipt| Row { step: "after a restart", receipt }));
    alice.node().shutdown(Duration::ZERO).await;
    bob.node().shutdown(Duration::ZERO).await;
    let _ = router.stop.send(());
    let _ = router.task.await;
    Ok(rows)
}

async fn publish(api: &Api, value: &str) -> Result<PublishReport, Failure> {
    api.publish(PublishRequest { value: value.into(), key: Some("site".into()), ..PublishRequest::default() }).await
}

/// Asks the network: Bob's cache would be right to keep the first answer for its TTL.
async fn resolve(api: &Api, name: &str) -> Result<ResolveReport, Failure> {
    api.resolve_once(&ResolveRequest { name: name.into(), cache: false, ..ResolveRequest::default() }).await
}

fn expect(seen: &str, published: &str) -> Result<(), Failure> {
    if seen == published {
        return Ok(());
    }
    Err(Failure::new(exit::FAILED, "demo", format!("resolved {seen}, but {published} was published")))
}

async fn serve(api: Api) -> Result<HttpRouter, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(&[address], api, ServerConfig::default()).await?;
    let url = format!("http://{}", server.local_addr());
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.serve(async {
        let _ = stopped.await;
    }));
    Ok(HttpRouter { url, stop, task })
}

/// Where others join through these servers.
fn entrances(servers: &[Running]) -> Vec<String> {
    let listening = servers.iter().filter_map(|server| server.listening.as_ref());
    listening.flat_map(|at| at.addresses.iter().map(|address| format!("{address}/p2p/{}", at.peer))).collect()
}

/// A home whose node knows nothing but this network.
fn home(folder: &Path, name: &str, bootstrap: &[String], urls: &[String]) -> Settings {
    let names = std::iter::once("dht".to_owned()).chain(urls.iter().cloned());
    let dht = DhtFile {
        bootstrap: bootstrap.to_vec(),
        default_bootstrap: Some(false),
        allow_private_addrs: Some(true),
        listen: Some(vec!["/ip4/127.0.0.1/tcp/0".into()]),
        ..DhtFile::default()
    };
    let file = File { routers: Some(names.map(RouterSetting::Name).collect()), dht, ..File::default() };
    let home: PathBuf = folder.join(name);
    Settings { home, file, json: false, network_given: false }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn table(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|Row { step, receipt }| {
            let acks = match (receipt.acks, receipt.asked) {
                (Some(acks), Some(asked)) => format!("{acks}/{asked}"),
                _ => receipt.error.clone().unwrap_or_default(),
            };
            let ok = if receipt.ok { "yes" } else { "no" };
            vec![(*step).into(), receipt.router.clone(), ok.into(), acks, receipt.ms.to_string()]
        })
        .collect();
    output::table(&["STEP", "ROUTER", "OK", "ACKS", "MS"], &cells)
}
