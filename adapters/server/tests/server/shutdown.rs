//! The end in good order.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::raw::{connect, get, one, rest};
use crate::world::{World, gate, gate_settings, idle, record, soon};

#[tokio::test]
async fn a_request_under_way_is_answered() {
    let (gate, mut keeper) = gate();
    let world = World::start(|builder| builder.custom_router(gate_settings(), gate)).await;
    let addr = world.addr;
    let mut idle = connect(addr).await;
    idle.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(one(&mut idle).await.status, 200);
    let mut fresh = connect(addr).await;
    let path = format!("/routing/v1/ipns/{}", record(1).0);
    let waiting = tokio::spawn(async move { get(addr, &path).await });
    soon(keeper.entered.recv()).await.unwrap();

    let (_home, node, serving) = world.stop();
    // Whoever waits for nothing is let go, and nobody new comes in.
    assert!(rest(&mut idle).await.is_empty());
    assert!(rest(&mut fresh).await.is_empty());
    soon(async { while TcpStream::connect(addr).await.is_ok() {} }).await;
    assert!(!serving.is_finished());
    keeper.open();
    let answer = soon(waiting).await.unwrap();
    assert_eq!((answer.status, answer.body), (200, record(2).1.to_vec()));
    soon(serving).await.unwrap();
    soon(node.shutdown(Duration::from_secs(5))).await;
}

#[tokio::test]
async fn but_not_for_ever() {
    let (gate, mut keeper) = gate();
    let world = World::configured(
        |builder| builder.custom_router(gate_settings(), gate),
        |config| config.grace = Duration::from_millis(100),
    )
    .await;
    let addr = world.addr;
    let mut stream = connect(addr).await;
    let ask = format!("GET /routing/v1/ipns/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", record(1).0);
    stream.write_all(ask.as_bytes()).await.unwrap();
    soon(keeper.entered.recv()).await.unwrap();
    assert_eq!(world.node.stats().load, 1);
    let (_home, node, serving) = world.stop();
    soon(serving).await.unwrap();
    assert!(rest(&mut stream).await.is_empty());
    // The node is told that nobody waits any more.
    idle(&node).await;
}

#[tokio::test]
async fn a_server_without_its_node_is_not_ready() {
    let world = World::start(|builder| builder).await;
    assert_eq!(get(world.addr, "/readyz").await.status, 200);
    world.node.shutdown(Duration::from_secs(5)).await;
    assert_eq!(get(world.addr, "/readyz").await.status, 503);
    assert_eq!(get(world.addr, "/healthz").await.status, 200);
    let routing = get(world.addr, &format!("/routing/v1/ipns/{}", record(1).0)).await;
    assert_eq!((routing.status, routing.code().as_str()), (503, "stopped"));
    assert_eq!(world.client().list().await.err().unwrap().error.code, "stopped");
    assert!(world.client().status().await.is_ok());
}
