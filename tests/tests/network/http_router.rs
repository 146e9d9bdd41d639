//! Names over HTTP routers: our server, and the one in js.

use std::sync::{Arc, mpsc};
use std::thread;

use futures_channel::oneshot;
use ipns_core::Value;
use ipns_core::engine::Resolve;
use ipns_core::key::Signer;
use ipns_core::routing::Router;
use ipns_core::routing::http::client::Endpoint;
use ipns_driver::{Handle, Node};
use ipns_server::api::Api;
use ipns_server::{Server, ServerConfig};
use ipns_store::{KeyStore, MemoryStore};

use crate::on::{On, on_each_runtime};
use crate::ours::{key, name};
use crate::peers;

on_each_runtime!(over_our_server, over_the_js_server);

/// A server of ours with a node without routers behind it, on a thread and a runtime of its own.
struct OurServer {
    url: String,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl OurServer {
    fn start() -> Self {
        let ((stop, stopped), (tell, told)) = (oneshot::channel(), mpsc::channel());
        let thread = thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let home = tempfile::tempdir().unwrap();
                let node = ipns_tokio::spawn(Node::builder(MemoryStore::new())).unwrap();
                let api = Api::new(node, Arc::new(KeyStore::open(home.path()).unwrap()));
                let server = Server::bind(&[([127, 0, 0, 1], 0).into()], api, ServerConfig::default()).await.unwrap();
                tell.send(format!("http://{}", server.local_addr())).unwrap();
                server
                    .serve(async {
                        let _ = stopped.await;
                    })
                    .await;
            });
        });
        Self { url: told.recv().unwrap(), stop, thread }
    }

    fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}

fn node(on: On, url: &str) -> Handle {
    on.spawn(Node::builder(MemoryStore::new()).router(Router::http(Endpoint::new(url).unwrap())))
}

async fn publishes_and_resolves(on: On, url: &str) {
    let (alice, bob) = (node(on, url), node(on, url));
    let signer: Arc<dyn Signer> = Arc::new(key(1));
    for (text, sequence) in [("/ipfs/bafkqac3jobxhgidsn5rww4yk", 0), ("/ipfs/bafkqaaa", 1)] {
        let value: Value = text.parse().unwrap();
        let published = alice.publish_value(&signer, value.clone()).await.unwrap();
        assert!(published.receipts[0].is_ok(), "{:?}", published.receipts);
        let found = bob.resolve(name(1), Resolve { cache: false, ..Resolve::default() }).await.unwrap();
        assert_eq!((found.value, found.record.sequence()), (value, sequence));
    }
}

async fn over_our_server(on: On) {
    let server = OurServer::start();
    publishes_and_resolves(on, &server.url).await;
    let bob = node(on, &server.url);
    let nobody = bob.resolve(name(9), Resolve::default()).await.unwrap_err();
    assert_eq!(nobody.code(), "not_found", "{nobody:?}");
    server.stop();
    let error = bob.resolve(name(1), Resolve::default()).await.unwrap_err();
    assert_eq!(error.code(), "unreachable", "{error:?}");
}

async fn over_the_js_server(on: On) {
    let Some(js) = peers::js_http().await else { return };
    publishes_and_resolves(on, &format!("http://127.0.0.1:{}", js.ready["port"])).await;
}
