//! `ipns daemon`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipns_server::api::Api;
use ipns_server::{DaemonFile, DaemonInfo, Failure, Server, ServerConfig, token};
use serde_json::json;
use tokio::signal;

use crate::args::DaemonArgs;
use crate::backend::start;
use crate::settings::Settings;
use crate::{files, output};

/// Where the daemon listens unless told otherwise.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8190);
/// How long what is under way may still take when the daemon is told to stop.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) async fn run(settings: &Settings, args: DaemonArgs) -> Result<u8, Failure> {
    let api = start(settings).await?;
    let address = args.http.or(settings.file.http).unwrap_or(DEFAULT_ADDRESS);
    let served = serve(settings, &args, address, api.clone()).await;
    api.node().shutdown(GRACE).await;
    served.map(|()| 0)
}

async fn serve(settings: &Settings, args: &DaemonArgs, address: SocketAddr, api: Api) -> Result<(), Failure> {
    let started = api.now();
    let config = ServerConfig {
        token: Some(token::create(&settings.home)?),
        socket: cfg!(unix).then(|| settings.home.join("admin.sock")),
        ..ServerConfig::default()
    };
    let server = Server::bind(&[address], api, config).await?;
    let bound = server.local_addr();
    let file = DaemonFile::write(&settings.home, DaemonInfo::of(&server, started))?;
    if let Some(path) = &args.http_port_file {
        files::write(path, format!("{}\n", bound.port()).as_bytes())?;
    }
    if settings.json {
        output::document(&json!({ "ready": true, "http": format!("http://{bound}"), "home": settings.home }))?;
    } else {
        output::line(format!("ready http=http://{bound}"))?;
    }
    server.serve(stop()).await;
    drop(file);
    Ok(())
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
