//! `HOME/daemon.json`: where the daemon of a home can be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipns_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, exit};
use crate::private_file;
use crate::server::Server;

const FILE: &str = "daemon.json";
/// The file holds three short members; what is longer is something else.
const MAX_BYTES: u64 = 64 << 10;

/// What a daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Its process.
    pub pid: u32,
    /// The base URL of its HTTP, as this machine reaches it.
    pub http: String,
    /// When it started (RFC 3339).
    pub started: String,
    /// Its socket file, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl DaemonInfo {
    /// What this process says of a server.
    pub fn of(server: &Server, started: Timestamp) -> Self {
        // The admin interface answers loopback alone, so of several addresses one that it answers is the right one.
        let addrs: Vec<SocketAddr> = server.local_addrs().iter().copied().map(reachable).collect();
        let local = addrs.iter().find(|addr| addr.ip().is_loopback()).or(addrs.first());
        Self {
            pid: std::process::id(),
            http: local.map(|addr| format!("http://{addr}")).unwrap_or_default(),
            started: started.to_string(),
            socket: server.socket().map(Path::to_owned),
        }
    }
}

/// The address under which this machine reaches a listener that listens on all of its addresses.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// The file while its daemon runs; dropping it removes the file.
#[derive(Debug)]
pub struct DaemonFile {
    home: PathBuf,
    info: DaemonInfo,
}

impl DaemonFile {
    /// Writes `HOME/daemon.json` with mode 0600.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(home: &Path, info: DaemonInfo) -> Result<Self, Failure> {
        let mut text = serde_json::to_string(&info)
            .map_err(|error| Failure::new(exit::FAILED, "failed", format!("{FILE} cannot be written: {error}")))?;
        text.push('\n');
        private_file::write(&home.join(FILE), text.as_bytes())?;
        Ok(Self { home: home.to_owned(), info })
    }

    /// What is in it.
    pub fn info(&self) -> &DaemonInfo {
        &self.info
    }

    /// Reads `HOME/daemon.json`; `None` if there is none or it is no such file.
    pub fn read(home: &Path) -> Option<DaemonInfo> {
        use std::io::Read;
        let path = home.join(FILE);
        let mut text = String::new();
        std::fs::File::open(&path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text)
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "the file is not a daemon's; ignored"))
            .ok()
    }
}

impl Drop for DaemonFile {
    fn drop(&mut self) {
        // A later daemon may have replaced the file of one that was slow to end.
        if Self::read(&self.home).as_ref() == Some(&self.info)
            && let Err(error) = std::fs::remove_file(self.home.join(FILE))
        {
            tracing::warn!(%error, "{FILE} cannot be removed; it is harmless");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(pid: u32) -> DaemonInfo {
        DaemonInfo { pid, http: "http://127.0.0.1:1".into(), started: "2026-11-23T10:00:00Z".into(), socket: None }
    }

    #[test]
    fn the_file_lives_as_long_as_its_daemon() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(DaemonFile::read(home.path()), None);
        let first = DaemonFile::write(home.path(), info(1)).unwrap();
        assert_eq!(DaemonFile::read(home.path()), Some(info(1)));
        let second = DaemonFile::write(home.path(), info(2)).unwrap();
        drop(first);
        assert_eq!(DaemonFile::read(home.path()), Some(info(2)));
        drop(second);
        assert_eq!(DaemonFile::read(home.path()), None);
        std::fs::write(home.path().join(FILE), "{").unwrap();
        assert_eq!(DaemonFile::read(home.path()), None);
    }

    #[test]
    fn an_address_for_everyone_is_reached_by_loopback() {
        for (listened, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("127.0.0.2:80", "127.0.0.2:80"),
        ] {
            assert_eq!(reachable(listened.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
