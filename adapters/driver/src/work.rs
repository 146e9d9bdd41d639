//! Work that blocks, on threads of its own: the store and the signers. No runtime's blocking pool is needed.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, mpsc};
use std::thread;

use futures_channel::{mpsc as async_mpsc, oneshot};
use ipns_core::Name;
use ipns_core::engine::{Input, SignId, StoreAction, StoreCommand, StoreId, StoreReply};
use ipns_core::key::{SignError, Signer};
use ipns_core::store::{Store, StoreError, Write};

use crate::stats::{Counters, count};

type Inputs = async_mpsc::UnboundedSender<Input>;

/// The most commits that share one transaction.
const MAX_GROUP: usize = 256;

/// The store's thread. It ends, its queue worked off, when the sender is dropped.
pub(crate) struct StoreThread {
    commands: mpsc::Sender<StoreCommand>,
    ended: oneshot::Receiver<()>,
}

impl StoreThread {
    pub(crate) fn start(
        store: Box<dyn Store>,
        inputs: Inputs,
        counters: Arc<Counters>,
    ) -> Result<Self, std::io::Error> {
        let (commands, queue) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("ipns-store".into()).spawn(move || {
            run_store(store, &queue, &inputs, &counters);
            let _ = end.send(());
        })?;
        Ok(Self { commands, ended })
    }

    pub(crate) fn send(&self, command: StoreCommand, inputs: &Inputs) {
        if let Err(mpsc::SendError(command)) = self.commands.send(command) {
            let _ = inputs.unbounded_send(Input::Stored { id: command.id, result: Err(StoreError::Closed) });
        }
    }

    /// Waits until everything sent so far is done and the store is closed.
    pub(crate) async fn close(self) {
        drop(self.commands);
        let _ = self.ended.await;
    }
}

fn run_store(mut store: Box<dyn Store>, queue: &mpsc::Receiver<StoreCommand>, inputs: &Inputs, counters: &Counters) {
    let answer = |id, result| {
        let _ = inputs.unbounded_send(Input::Stored { id, result });
    };
    let mut next = queue.recv().ok();
    while let Some(StoreCommand { id, action }) = next.take() {
        match action {
            StoreAction::Get { table, key } => answer(id, store.get(table, &key).map(StoreReply::Value)),
            StoreAction::Scan { table, after, limit } => {
                answer(id, store.scan(table, after.as_deref(), limit).map(StoreReply::Entries));
            }
            StoreAction::Commit(writes) => {
                // A durable commit is two syncs of the disk: those that wait already share them.
                let mut group = vec![(id, writes)];
                while group.len() < MAX_GROUP && next.is_none() {
                    match queue.try_recv() {
                        Ok(StoreCommand { id, action: StoreAction::Commit(writes) }) => group.push((id, writes)),
                        Ok(other) => next = Some(other),
                        Err(_) => break,
                    }
                }
                for (id, result) in commit(store.as_mut(), group) {
                    if result.is_ok() {
                        count(&counters.commits);
                    }
                    answer(id, result.map(|()| StoreReply::Committed));
                }
            }
        }
        if next.is_none() {
            next = queue.recv().ok();
        }
    }
}

/// Commits a group as one; if that fails, each alone, so that one bad write fails only itself.
fn commit(store: &mut dyn Store, group: Vec<(StoreId, Vec<Write>)>) -> Vec<(StoreId, Result<(), StoreError>)> {
    if group.len() > 1 {
        let all: Vec<Write> = group.iter().flat_map(|(_, writes)| writes.iter().cloned()).collect();
        if store.commit(&all).is_ok() {
            return group.into_iter().map(|(id, _)| (id, Ok(()))).collect();
        }
    }
    group.into_iter().map(|(id, writes)| (id, store.commit(&writes))).collect()
}

/// The keys that a node can sign with.
#[derive(Clone, Default)]
pub(crate) struct Signers(Arc<RwLock<BTreeMap<Name, Arc<dyn Signer>>>>);

impl Signers {
    pub(crate) fn add(&self, signer: Arc<dyn Signer>) -> Name {
        let name = signer.public_key().to_name();
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name, signer);
        name
    }

    pub(crate) fn remove(&self, name: &Name) -> bool {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(name).is_some()
    }

    fn get(&self, name: &Name) -> Option<Arc<dyn Signer>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(name).cloned()
    }
}

/// The signing thread: a hardware key may take a second, an RSA key of 8192 bits a tenth of one.
pub(crate) struct SignThread(mpsc::Sender<(SignId, Name, Vec<u8>)>);

impl SignThread {
    pub(crate) fn start(signers: Signers, inputs: Inputs) -> Result<Self, std::io::Error> {
        let (queue, requests) = mpsc::channel::<(SignId, Name, Vec<u8>)>();
        thread::Builder::new().name("ipns-sign".into()).spawn(move || {
            for (id, name, message) in requests {
                let result = match signers.get(&name) {
                    Some(signer) => signer.sign(&message),
                    None => Err(SignError { reason: format!("this node has no key for {name}") }),
                };
                let _ = inputs.unbounded_send(Input::Signed { id, result });
            }
        })?;
        Ok(Self(queue))
    }

    pub(crate) fn send(&self, id: SignId, name: Name, message: Vec<u8>, inputs: &Inputs) {
        if self.0.send((id, name, message)).is_err() {
            let result = Err(SignError { reason: "the signing thread has ended".into() });
            let _ = inputs.unbounded_send(Input::Signed { id, result });
        }
    }
}
