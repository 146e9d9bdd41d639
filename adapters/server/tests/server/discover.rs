//! How a command finds the daemon of its home.

use ipns_server::{AdminClient, DaemonFile, DaemonInfo, exit, token};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::world::World;

fn info(http: String) -> DaemonInfo {
    DaemonInfo { pid: 1, http, started: "2026-11-23T10:00:00Z".into(), socket: None }
}

#[tokio::test]
async fn a_running_daemon_is_found_by_socket_and_by_port() {
    for with_socket in [true, false] {
        let world = World::configured(
            |builder| builder,
            |config| {
                if !with_socket {
                    config.socket = None;
                }
            },
        )
        .await;
        let home = world.home.path();
        let info = DaemonFile::read(home).unwrap();
        assert_eq!((info.pid, info.http), (std::process::id(), world.url()));
        assert_eq!(info.socket.is_some(), with_socket && cfg!(unix));
        let client = AdminClient::discover(home).await.unwrap().unwrap();
        assert_eq!(client.status().await.unwrap().pid, std::process::id());

        // With the token of another home it answers, but not to us.
        token::create(home).unwrap();
        let refused = AdminClient::discover(home).await.unwrap_err();
        assert_eq!((refused.error.code.as_str(), refused.exit), ("daemon_unauthorized", exit::FAILED));
        std::fs::remove_file(token::path(home)).unwrap();
        assert_eq!(AdminClient::discover(home).await.unwrap_err().error.code, "daemon_unauthorized");

        // A clean exit leaves nothing behind.
        let (home, _, serving) = world.stop();
        serving.await.unwrap();
        assert!(AdminClient::discover(home.path()).await.unwrap().is_none());
        let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["keys"]);
    }
}

#[tokio::test]
async fn a_stale_file_is_no_daemon() {
    let home = tempfile::tempdir().unwrap();
    assert!(AdminClient::discover(home.path()).await.unwrap().is_none());
    token::create(home.path()).unwrap();

    // A port that was free a moment ago and has nobody behind it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let _file = DaemonFile::write(home.path(), info(url)).unwrap();
    assert!(AdminClient::discover(home.path()).await.unwrap().is_none());

    // The socket of a daemon that was killed.
    let socket = home.path().join("admin.sock");
    #[cfg(unix)]
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let killed = DaemonInfo { socket: Some(socket), ..info("http://127.0.0.1:9".into()) };
    let _file = DaemonFile::write(home.path(), killed).unwrap();
    assert!(AdminClient::discover(home.path()).await.unwrap().is_none());

    // The port is another's by now.
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "220 mail\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let other = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Until the client has gone.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        });
        let _file = DaemonFile::write(home.path(), info(url)).unwrap();
        assert!(AdminClient::discover(home.path()).await.unwrap().is_none(), "{answer}");
        other.await.unwrap();
    }

    // A token is for this machine alone.
    let _file = DaemonFile::write(home.path(), info("http://example.com".into())).unwrap();
    assert!(AdminClient::discover(home.path()).await.unwrap().is_none());
}
