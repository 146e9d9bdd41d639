//! Where connections come from: TCP addresses and, on Unix, a socket file.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};

/// All listeners of one server.
pub(crate) struct Listeners {
    tcp: Vec<TcpListener>,
    addrs: Vec<SocketAddr>,
    #[cfg(unix)]
    socket: Option<socket::SocketFile>,
    turn: usize,
}

/// A connection that has come in.
pub(crate) enum Incoming {
    Tcp(TcpStream, SocketAddr),
    #[cfg(unix)]
    Socket(tokio::net::UnixStream),
}

impl Listeners {
    /// Listens on every address, or on none.
    pub(crate) async fn bind(wanted: &[SocketAddr]) -> Result<Self, (SocketAddr, io::Error)> {
        let (mut tcp, mut addrs) = (Vec::new(), Vec::new());
        for addr in wanted {
            let listener = TcpListener::bind(addr).await.map_err(|error| (*addr, error))?;
            addrs.push(listener.local_addr().map_err(|error| (*addr, error))?);
            tcp.push(listener);
        }
        Ok(Self {
            tcp,
            addrs,
            #[cfg(unix)]
            socket: None,
            turn: 0,
        })
    }

    /// Listens on a socket file too, which must not exist unless it is one.
    #[cfg(unix)]
    pub(crate) fn bind_socket(&mut self, path: &Path) -> io::Result<()> {
        self.socket = Some(socket::SocketFile::bind(path)?);
        Ok(())
    }

    #[cfg(not(unix))]
    pub(crate) fn bind_socket(&mut self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    #[cfg(unix)]
    pub(crate) fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(socket::SocketFile::path)
    }

    #[cfg(not(unix))]
    pub(crate) fn socket(&self) -> Option<&Path> {
        None
    }

    /// The next connection to any of them, whose turn comes round.
    pub(crate) async fn accept(&mut self) -> io::Result<Incoming> {
        poll_fn(|cx| {
            #[cfg(unix)]
            if let Some(socket) = &self.socket
                && let Poll::Ready(result) = socket.listener().poll_accept(cx)
            {
                return Poll::Ready(result.map(|(stream, _)| Incoming::Socket(stream)));
            }
            let (earlier, later) = self.tcp.split_at(self.turn.min(self.tcp.len()));
            for (place, listener) in later.iter().chain(earlier).enumerate() {
                if let Poll::Ready(result) = listener.poll_accept(cx) {
                    self.turn = (self.turn + place + 1) % self.tcp.len();
                    return Poll::Ready(result.map(|(stream, peer)| Incoming::Tcp(stream, peer)));
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(unix)]
mod socket {
    use std::fs::{self, Permissions};
    use std::io;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};

    use tokio::net::UnixListener;

    /// A socket file for its owner alone. It is removed when it is dropped.
    pub(crate) struct SocketFile {
        listener: UnixListener,
        path: PathBuf,
        identity: (u64, u64),
    }

    impl SocketFile {
        pub(crate) fn bind(path: &Path) -> io::Result<Self> {
            if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
            }
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // A socket is made with whatever the umask leaves; nobody else can reach it until it has its own mode.
            let private = tempfile::Builder::new()
                .prefix(".ipns-")
                .rand_bytes(4)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(folder)?;
            let draft = private.path().join("s");
            let listener = UnixListener::bind(&draft)?;
            fs::set_permissions(&draft, Permissions::from_mode(0o600))?;
            fs::rename(&draft, path)?;
            Ok(Self { listener, path: path.to_owned(), identity: identity(path)? })
        }

        pub(crate) fn listener(&self) -> &UnixListener {
            &self.listener
        }

        pub(crate) fn path(&self) -> &Path {
            &self.path
        }
    }

    impl Drop for SocketFile {
        fn drop(&mut self) {
            // A later daemon may have replaced it.
            if identity(&self.path).is_ok_and(|found| found == self.identity)
                && let Err(error) = fs::remove_file(&self.path)
            {
                tracing::warn!(path = %self.path.display(), %error, "the socket file cannot be removed; it is harmless");
            }
        }
    }

    fn identity(path: &Path) -> io::Result<(u64, u64)> {
        fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[tokio::test]
        async fn the_file_is_its_owners_alone_and_goes_with_its_server() {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("admin.sock");
            let first = SocketFile::bind(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
            let second = SocketFile::bind(&path).unwrap();
            drop(first);
            tokio::net::UnixStream::connect(&path).await.unwrap();
            drop(second);
            assert!(!path.exists());
            fs::write(&path, "precious").unwrap();
            assert_eq!(SocketFile::bind(&path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        }
    }
}
