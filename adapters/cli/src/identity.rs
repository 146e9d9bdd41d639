//! Who this node is among its peers: a key of its own, so that names are not tied to machines.

use std::path::Path;

use ipns_core::key::{KeyType, SecretKey};
use ipns_server::{Failure, exit};

const FILE: &str = "peer.key";

/// The key of this home's node; made when there is none.
pub(crate) fn load_or_create(home: &Path) -> Result<SecretKey, Failure> {
    let path = home.join(FILE);
    let failed = |code: &str, reason: String| Failure::new(exit::STORE, code, format!("{}: {reason}", path.display()));
    match std::fs::read(&path) {
        Ok(bytes) => SecretKey::decode_protobuf(&bytes).map_err(|error| {
            failed(error.code(), format!("not the key of a node ({error}); restore it, or move it away for a new one"))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)
                .map_err(|error| Failure::new(exit::FAILED, "no_randomness", error.to_string()))?;
            let key = SecretKey::generate(KeyType::Ed25519, seed, 0)?;
            ipns_store::create_file(&path, &key.encode_protobuf())
                .map_err(|error| failed("peer_key", error.to_string()))?;
            Ok(key)
        }
        Err(error) => Err(failed("peer_key", error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipns_core::key::Signer;

    #[test]
    fn a_node_stays_who_it_is() {
        let home = tempfile::tempdir().unwrap();
        let first = load_or_create(home.path()).unwrap();
        assert_eq!(load_or_create(home.path()).unwrap().public_key(), first.public_key());
        std::fs::write(home.path().join(FILE), b"nonsense").unwrap();
        assert_eq!(load_or_create(home.path()).unwrap_err().exit, exit::STORE);
    }
}
