//! The Kademlia of libp2p, as server and as client.

use ipns_core::dht::{Request, Response, RpcError};
use ipns_core::routing::NetEvent;
use libp2p::kad;
use libp2p::swarm::SwarmEvent;
use tokio::time::timeout;

use crate::world::*;

fn with_kad() -> Setup {
    // The protocol belongs to kad::Behaviour there.
    Setup { kad: true, protocols: vec![], ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kad_answers_us() {
    for (over, lazy) in [(Over::Tcp, false), (Over::Tcp, true), (Over::Quic, false), (Over::Quic, true)] {
        let (mut asker, server) =
            (Party::with(Setup { lazy, ..Setup::default() }).await, Party::with(with_kad()).await);
        let (known, at) = (info(1).id, info(1).addresses[0].clone());
        server
            .act(move |swarm| {
                let kad = swarm.behaviour_mut().kad.as_mut().unwrap();
                kad.set_mode(Some(kad::Mode::Server));
                kad.add_address(&known, at);
            })
            .await;
        let find = Request::FindNode { key: known.to_bytes().into() };
        // The mode reaches a connection a little later.
        let closer = loop {
            match asker.asked(&server, over, find.clone()).await {
                Ok(Response::FindNode { closer }) => break closer,
                other => assert_eq!(other, Err(RpcError::Unsupported)),
            }
        };
        // kad puts the peer's id behind its addresses.
        assert_eq!(closer[0].addresses, [info(1).addresses[0].clone().with_p2p(known).unwrap()]);
        assert_eq!(closer[0].id, known);
        let put = Request::PutValue { record: record() };
        assert_eq!(asker.asked(&server, over, put).await, Ok(Response::PutValue { record: record() }));
        let get = asker.asked(&server, over, Request::GetValue { key: record().key }).await;
        assert!(matches!(get, Ok(Response::GetValue { record: Some(got), .. }) if got.value == record().value));
        let provide = Request::AddProvider { key: key("k"), providers: vec![info(2)] };
        assert_eq!(asker.asked(&server, over, provide).await, Ok(Response::AddProvider));
        let providers = asker.asked(&server, over, Request::GetProviders { key: key("k") }).await;
        assert!(matches!(providers, Ok(Response::GetProviders { .. })));
        // It knows no PING.
        assert!(asker.asked(&server, over, Request::Ping).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_answer_kad() {
    for over in BOTH {
        let (mut client, mut server) = (Party::with(with_kad()).await, Party::new().await);
        server.serve(PUBLIC, converse);
        server.usage().await;
        let (peer, address) = (server.peer, server.address(over));
        let (get, put, closest) = client
            .act(move |swarm| {
                let kad = swarm.behaviour_mut().kad.as_mut().unwrap();
                kad.add_address(&peer, address);
                let stored = kad::Record::new(record().key.to_vec(), record().value.to_vec());
                (
                    kad.get_record(record().key.to_vec().into()),
                    kad.put_record(stored, kad::Quorum::One).unwrap(),
                    kad.get_closest_peers(info(9).id),
                )
            })
            .await;
        let (mut found, mut stored, mut peers) = (None, false, None);
        timeout(SOON, async {
            while found.is_none() || !stored || peers.is_none() {
                let query = client.swarm_until(|event| match event {
                    SwarmEvent::Behaviour(StackEvent::Kad(kad::Event::OutboundQueryProgressed {
                        id, result, ..
                    })) => Some((id, result)),
                    _ => None,
                });
                match query.await {
                    (id, kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(record)))) if id == get => {
                        found = Some(record.record.value);
                    }
                    (id, kad::QueryResult::PutRecord(result)) if id == put => {
                        assert!(result.is_ok(), "{result:?}");
                        stored = true;
                    }
                    (id, kad::QueryResult::GetClosestPeers(result)) if id == closest => {
                        let closest = result.map(|ok| ok.peers).unwrap_or_default();
                        peers = Some(closest.into_iter().map(|info| info.peer_id).collect::<Vec<_>>());
                    }
                    _ => {}
                }
            }
        })
        .await
        .expect("kad's queries end");
        assert_eq!(found.unwrap(), record().value);
        // The others that we named cannot be reached.
        assert_eq!(peers.unwrap(), [server.peer]);
        for wanted in [Request::PutValue { record: record() }, Request::GetValue { key: record().key }] {
            server
                .until(|event| match event {
                    NetEvent::Request { request, .. } => (*request == wanted).then_some(()),
                    _ => None,
                })
                .await;
        }
        server.usage_is(|usage| usage.inbound_streams == 0).await;
    }
}
