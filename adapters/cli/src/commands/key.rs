//! `ipns key`. Keys are files: no daemon is needed, and a running one sees changes at once. A key that goes takes its
//! name from those that are kept alive.

use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_server::api::{KeyReport, describe_key, generate_key, has_key, list_keys, load_key, store_key, take_new};
use ipns_server::keeping::NamesRequest;
use ipns_server::{Failure, exit};
use ipns_store::KeyStore;
use serde_json::json;

use crate::args::{KeyCommand, KeyFormat, KeyKind};
use crate::backend::{Backend, open_keys};
use crate::settings::Settings;
use crate::{files, output};

pub(crate) async fn run(settings: &Settings, command: KeyCommand) -> Result<u8, Failure> {
    let keys = open_keys(&settings.home)?;
    match command {
        KeyCommand::Gen { name, kind, bits } => {
            let kind = match kind {
                KeyKind::Ed25519 => KeyType::Ed25519,
                KeyKind::Rsa => KeyType::Rsa,
                KeyKind::Secp256k1 => KeyType::Secp256k1,
                KeyKind::Ecdsa => KeyType::Ecdsa,
            };
            print(settings, &generate_key(&keys, &name, kind, bits)?)
        }
        KeyCommand::List => list(settings, &list_keys(&keys)?),
        KeyCommand::Rm { names } => {
            disown(settings, remove(settings, &keys, names)?).await?;
            Ok(0)
        }
        KeyCommand::Rename { old, new, force } => {
            keys.rename(&old, &new, force)?;
            print(settings, &describe_key(&new, &load_key(&keys, &new)?))
        }
        KeyCommand::Import { name, file } => {
            let bytes = files::read(&file)?;
            let key = SecretKey::import(&bytes).map_err(|error| {
                let message = format!("{}: {error}", file.display());
                Failure::new(exit::FAILED, error.code(), message)
            })?;
            print(settings, &store_key(&keys, &name, &key)?)
        }
        KeyCommand::Export { name, output, format } => {
            let key = load_key(&keys, &name)?;
            // Whoever has the copy may publish with it before we do.
            take_new(&keys, &name, &key);
            match format {
                KeyFormat::Protobuf => files::write_secret(&output, &key.encode_protobuf())?,
                KeyFormat::Pem => files::write_secret(&output, key.to_pem()?.as_bytes())?,
            }
            if settings.json {
                output::document(&json!({ "key": name, "file": output }))?;
            }
            Ok(0)
        }
    }
}

/// Deletes keys, and returns the names that no other key owns.
fn remove(settings: &Settings, keys: &KeyStore, names: Vec<String>) -> Result<Vec<String>, Failure> {
    let mut gone = Vec::new();
    for name in names {
        let key = match load_key(keys, &name) {
            Ok(key) => Some(key),
            // A key that cannot be read can still be removed.
            Err(failure) if failure.error.code != "key_not_found" => None,
            Err(failure) => return Err(failure),
        };
        keys.remove(&name)?;
        match key {
            Some(key) => {
                let owned = key.public_key().to_name();
                if !has_key(keys, &owned)? {
                    gone.push(owned.to_string());
                }
                print(settings, &describe_key(&name, &key))?;
            }
            None => output::line(&name)?,
        }
    }
    Ok(gone)
}

/// Nobody can sign for these names any more: they are not kept alive any more.
async fn disown(settings: &Settings, names: Vec<String>) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let backend = Backend::open(&settings.offline()).await?;
    let disowned = backend.disown(NamesRequest { names }).await;
    backend.close(false).await;
    disowned.map(|_| ())
}

/// Like `ipfs key gen`: the name that the key owns, and nothing else.
fn print(settings: &Settings, key: &KeyReport) -> Result<u8, Failure> {
    if settings.json {
        output::document(key)?
    } else {
        output::line(&key.name)?
    }
    Ok(0)
}

fn list(settings: &Settings, keys: &[KeyReport]) -> Result<u8, Failure> {
    if settings.json {
        output::document(&keys)?;
        return Ok(0);
    }
    if keys.is_empty() {
        eprint_hint("no key yet; make one with `ipns key gen NAME`");
        return Ok(0);
    }
    let rows: Vec<_> = keys.iter().map(|key| vec![key.key.clone(), key.kind.clone(), key.name.clone()]).collect();
    output::line(output::table(&["KEY", "TYPE", "NAME"], &rows))?;
    Ok(0)
}

fn eprint_hint(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
