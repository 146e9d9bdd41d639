//! `ipns daemon`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipns_core::dht::{Multiaddr, Standing};
use ipns_server::api::Api;
use ipns_server::{DaemonFile, DaemonInfo, Failure, Server, ServerConfig, token};
use ipns_tokio::{Handle, Listening};
use serde_json::json;
use tokio::signal;

use crate::args::DaemonArgs;
use crate::backend::{Role, Running, health_changes, start};
use crate::settings::Settings;
use crate::{files, keeper, output};

/// Where the daemon listens unless told otherwise.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8190);
/// How long what is under way may still take when the daemon is told to stop.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) async fn run(settings: &Settings, args: DaemonArgs) -> Result<u8, Failure> {
    let Running { api, listening } = start(settings, Role::Daemon).await?;
    let address = args.http.or(settings.file.http).unwrap_or(DEFAULT_ADDRESS);
    let served = serve(settings, &args, address, api.clone(), listening.as_ref()).await;
    api.node().shutdown(GRACE).await;
    served.map(|()| 0)
}

async fn serve(
    settings: &Settings,
    args: &DaemonArgs,
    address: SocketAddr,
    api: Api,
    listening: Option<&Listening>,
) -> Result<(), Failure> {
    let node = api.node().clone();
    let started = api.now();
    let config = ServerConfig {
        token: Some(token::create(&settings.home)?),
        socket: cfg!(unix).then(|| settings.home.join("admin.sock")),
        ..ServerConfig::default()
    };
    let keeping = tokio::spawn(keeper::run(api.clone()));
    let server = Server::bind(&[address], api, config).await?;
    let bound = server.local_addr();
    let file = DaemonFile::write(&settings.home, DaemonInfo::of(&server, started))?;
    if let Some(path) = &args.http_port_file {
        files::write(path, format!("{}\n", bound.port()).as_bytes())?;
    }
    let peer = listening.map(|listening| listening.peer.to_string());
    let full = |address: &Multiaddr| format!("{address}/p2p/{}", peer.as_deref().unwrap_or_default());
    let addresses: Vec<String> = listening.iter().flat_map(|listening| &listening.addresses).map(full).collect();
    if settings.json {
        let http = format!("http://{bound}");
        let ready = json!({ "ready": true, "http": http, "home": settings.home, "peer": peer, "addresses": addresses });
        output::document(&ready)?;
    } else {
        let peers: Vec<String> = addresses.iter().map(|address| format!(" peers={address}")).collect();
        output::line(format!("ready http=http://{bound}{}", peers.concat()))?;
    }
    let standing = tokio::spawn(tell_standing(node, settings.json));
    server.serve(stop()).await;
    standing.abort();
    keeping.abort();
    drop(file);
    Ok(())
}

/// Says when the node has joined a DHT and when it is alone in one.
async fn tell_standing(node: Handle, json: bool) {
    let mut events = node.events();
    let mut told: BTreeMap<String, Standing> = BTreeMap::new();
    loop {
        for dht in node.health().await.unwrap_or_default() {
            let (standing, live, known) = (dht.health.standing, dht.health.live, dht.health.known);
            if standing == Standing::Joining || told.insert(dht.label.clone(), standing) == Some(standing) {
                continue;
            }
            let joined = standing == Standing::Joined;
            // Whoever reads this may have gone away; the daemon goes on.
            let _ = match (json, joined) {
                (true, _) => {
                    output::document(&json!({ "dht": dht.label, "joined": joined, "live": live, "known": known }))
                }
                (false, true) => output::line(format!("joined {}: {live} live servers, {known} known", dht.label)),
                (false, false) => output::line(format!("alone in {}: no server answers; trying again", dht.label)),
            };
        }
        if !health_changes(&mut events).await {
            return;
        }
    }
}

/// Ends when the operating system, or someone at the terminal, asks the program to stop.
async fn stop() {
    #[cfg(unix)]
    {
        if let Ok(mut terminate) = signal::unix::signal(signal::unix::SignalKind::terminate()) {
            tokio::select! {
                _ = signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = signal::ctrl_c().await;
}
