//! Which store a home has, and opening it.

use std::path::PathBuf;

use ipns_server::{Failure, exit};
use ipns_store::{AnyStore, Backend, StoreError};

use crate::settings::Settings;

/// The kind of this home's store: the one asked for, else the one that is there, else redb. Fails rather than to begin
/// an empty store beside one that is there.
pub(crate) fn choose(settings: &Settings) -> Result<Backend, Failure> {
    let present = present(settings);
    let chosen = match (settings.file.store, &present[..]) {
        (Some(asked), _) => asked,
        (None, []) => Backend::default(),
        (None, [one]) => *one,
        (None, [one, other, ..]) => {
            let message = format!(
                "{} has a store of kind {one} and one of kind {other}; repeat ipns store migrate if one was broken off, \
                 else move away the one that is older, or say which with --store",
                settings.home.display()
            );
            return Err(Failure::new(exit::STORE, "store_ambiguous", message));
        }
    };
    if let Some(other) = present.iter().find(|_| chosen != Backend::Memory && !present.contains(&chosen)) {
        let message = format!(
            "{} has a store of kind {other}, not {chosen}; to go on with what is in it: \
             ipns store migrate --to {chosen}",
            settings.home.display()
        );
        return Err(Failure::new(exit::STORE, "store_other_kind", message));
    }
    built_in(chosen)?;
    Ok(chosen)
}

/// The kinds of which this home has a store.
pub(crate) fn present(settings: &Settings) -> Vec<Backend> {
    let is_there = |backend: &Backend| place(settings, *backend).is_some_and(|path| path.symlink_metadata().is_ok());
    Backend::ALL.into_iter().filter(is_there).collect()
}

/// Where this home has a store of that kind.
pub(crate) fn place(settings: &Settings, backend: Backend) -> Option<PathBuf> {
    backend.place_in(&settings.home)
}

/// Says how to build what this program was built without.
pub(crate) fn built_in(backend: Backend) -> Result<(), Failure> {
    if backend.is_built_in() {
        return Ok(());
    }
    let message = format!(
        "this program was built without {backend}; build it with: cargo install ipns-cli --features {backend}, or use \
         --store redb"
    );
    Err(Failure::new(exit::STORE, "store_not_built_in", message))
}

/// Opens the store of this home, or makes one.
pub(crate) async fn open(settings: &Settings) -> Result<AnyStore, Failure> {
    let backend = choose(settings)?;
    let path = place(settings, backend).unwrap_or_default();
    blocking(move || Ok(backend.open(path)?)).await
}

/// Runs what takes long and waits for the disk: opening verifies all of a store.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(StoreError::Io { path: "store".into(), reason: format!("the work on it was interrupted: {error}") }.into())
    })
}
