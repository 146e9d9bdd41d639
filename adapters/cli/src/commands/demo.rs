//! `ipns demo`: a private network on this machine, from real parts: servers on sockets, stores on disk, two homes.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use ipns_core::key::KeyType;
use ipns_server::api::{Api, PublishRequest, ResolveRequest, generate_key};
use ipns_server::report::{PublishReport, ReceiptReport, ResolveReport};
use ipns_server::{Failure, Server, ServerConfig, exit};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::args::DemoArgs;
use crate::backend::start;
use crate::output;
use crate::settings::{File, RouterSetting, Settings};

const FIRST: &str = "/ipfs/bafkqaddimvwgy3zao5xxe3debi";
const SECOND: &str = "/ipfs/bafkqaddimvwgy3zamftwc2lobi";

/// A line of the table: what was done over which router, and what came of it.
#[derive(Serialize)]
struct Row {
    step: &'static str,
    #[serde(flatten)]
    receipt: ReceiptReport,
}

struct RoutingServer {
    url: String,
    api: Api,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

pub(crate) async fn run(settings: &Settings, args: &DemoArgs) -> Result<u8, Failure> {
    let begun = Instant::now();
    let folder = tempfile::tempdir().map_err(|error| Failure::new(exit::FAILED, "demo", error.to_string()))?;
    let mut servers = Vec::new();
    for index in 0..args.nodes {
        servers.push(serve(&folder.path().join(format!("server-{index}"))).await?);
    }
    let urls: Vec<String> = servers.iter().map(|server| server.url.clone()).collect();
    say(&format!("{} routing servers on 127.0.0.1, each with a store of its own", servers.len()));
    let rows = tell(folder.path(), &urls).await;
    for server in servers {
        let _ = server.stop.send(());
        let _ = server.task.await;
        server.api.node().shutdown(Duration::from_secs(1)).await;
    }
    let rows = rows?;
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

/// The story: Alice publishes and updates, Bob resolves, Alice's machine restarts.
async fn tell(folder: &Path, urls: &[String]) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let alice = start(&home(folder, "alice", urls)).await?;
    let bob = start(&home(folder, "bob", urls)).await?;
    let key = generate_key(alice.keys(), "site", KeyType::Ed25519, 0)?;
    say(&format!("Alice made a key; her name is {}", key.name));

    let first = publish(&alice, FIRST).await?;
    say(&format!("Alice published sequence {}: {}", first.sequence, first.value));
    rows.extend(first.receipts.into_iter().map(|receipt| Row { step: "publish", receipt }));

    let seen = resolve(&bob, &key.name).await?;
    expect(&seen.value, FIRST)?;
    say(&format!("Bob resolved it: {} in {} ms", seen.value, seen.ms));
    rows.extend(seen.receipts.into_iter().map(|receipt| Row { step: "resolve", receipt }));

    let second = publish(&alice, SECOND).await?;
    say(&format!("Alice published sequence {}: {}", second.sequence, second.value));
    rows.extend(second.receipts.into_iter().map(|receipt| Row { step: "update", receipt }));

    let seen = resolve(&bob, &key.name).await?;
    expect(&seen.value, SECOND)?;
    say(&format!("Bob sees the update: {} in {} ms", seen.value, seen.ms));
    rows.extend(seen.receipts.into_iter().map(|receipt| Row { step: "resolve", receipt }));

    alice.node().shutdown(Duration::from_secs(1)).await;
    let alice = start(&home(folder, "alice", urls)).await?;
    let third = publish(&alice, FIRST).await?;
    say(&format!("Alice restarted and published sequence {}: no sequence is ever used twice", third.sequence));
    if third.sequence <= second.sequence {
        return Err(Failure::new(exit::FAILED, "demo", "the sequence did not rise"));
    }
    rows.extend(third.receipts.into_iter().map(|receipt| Row { step: "after a restart", receipt }));
    alice.node().shutdown(Duration::from_secs(1)).await;
    bob.node().shutdown(Duration::from_secs(1)).await;
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

async fn serve(home: &Path) -> Result<RoutingServer, Failure> {
    let api = start(&settings(home.to_path_buf(), Vec::new())).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(&[address], api.clone(), ServerConfig::default()).await?;
    let url = format!("http://{}", server.local_addr());
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.serve(async {
        let _ = stopped.await;
    }));
    Ok(RoutingServer { url, api, stop, task })
}

fn home(folder: &Path, name: &str, urls: &[String]) -> Settings {
    settings(folder.join(name), urls.iter().cloned().map(RouterSetting::Name).collect())
}

fn settings(home: std::path::PathBuf, routers: Vec<RouterSetting>) -> Settings {
    Settings { home, file: File { routers: Some(routers), ..File::default() }, json: false, routers_given: false }
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
