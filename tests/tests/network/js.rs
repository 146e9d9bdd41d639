//! Among twenty js-libp2p DHT servers.

use data_encoding::BASE64;
use ipns_core::dht::{PUBLIC_PROTOCOL, PeerInfo, Standing};
use serde_json::json;

use crate::asker::{Asker, put_bytes};
use crate::on::{On, on_each_runtime};
use crate::ours::{Options, name, peer_at};
use crate::peers;

const VALUE: &str = "/ipfs/bafkqac3jobxhgidsn5rww4yk";
const OTHER: &str = "/ipfs/bafkqaaa";
/// The key of a publisher in js.
const SEED: &str = "0101010101010101010101010101010101010101010101010101010101010101";

on_each_runtime!(among_js_nodes, peers_and_providers_among_js_nodes);

async fn among_js_nodes(on: On) {
    let Some(js) = peers::js(20, PUBLIC_PROTOCOL).await else { return };
    let entrances: Vec<PeerInfo> = js.addresses[..2].iter().map(|address| peer_at(address)).collect();
    let ours = Options::server(1, &entrances).on(on).start().await;
    ours.stands(Standing::Joined).await;
    ours.until("ten js peers", |dht| dht.health.live >= 10).await;

    // We publish, js gets it; an update too.
    for (value, sequence) in [(VALUE, 0), (OTHER, 1)] {
        let published = ours.publish(1, value).await.unwrap();
        let tally = published.receipts[0].outcome.clone().unwrap();
        assert!(tally.acks >= 10, "{:?}", published.receipts);
        for node in [0, 7, 19] {
            let got = js.tell("resolve", json!({ "node": node, "name": name(1).to_string() })).await;
            assert_eq!((&got["value"], &got["sequence"]), (&json!(value), &json!(sequence)), "{got}");
        }
    }

    // js publishes, we resolve; and with so few nodes in the network, it stores the record on our server, too.
    let put = js.tell("publish", json!({ "node": 3, "seed": SEED, "value": VALUE, "sequence": 5 })).await;
    let theirs: ipns_core::Name = put["name"].as_str().unwrap().parse().unwrap();
    let found = ours.resolve(theirs).await.unwrap();
    assert_eq!((found.value.as_str(), found.record.sequence()), (VALUE, 5));
    let stored = put["stored"].as_array().unwrap();
    assert!(stored.contains(&json!(ours.info.id.to_string())), "js stores on our node: {put}");

    // We serve it, to js and to anybody.
    let older = BASE64.decode(put["record"].as_str().unwrap().as_bytes()).unwrap();
    let mut asker = Asker::new(on, PUBLIC_PROTOCOL).await;
    assert_eq!(asker.record(&ours.info, &theirs).await.unwrap(), older);
    let newer = js.tell("publish", json!({ "node": 9, "seed": SEED, "value": OTHER, "sequence": 6 })).await;
    let newest = BASE64.decode(newer["record"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(asker.record(&ours.info, &theirs).await.unwrap(), newest);

    // An older record that is replayed to us is refused, whoever brings it.
    let refused = asker.ask(&ours.info, put_bytes(&theirs, older.clone().into())).await;
    assert_eq!(refused.unwrap_err().code(), "rpc_reset");
    let replay = json!({ "node": 12, "name": theirs.to_string(), "record": BASE64.encode(&older) });
    let replayed = js.ask("put", replay).await;
    let stored = replayed["stored"].as_array().cloned().unwrap_or_default();
    assert!(!stored.contains(&json!(ours.info.id.to_string())), "{replayed}");
    assert_eq!(asker.record(&ours.info, &theirs).await.unwrap(), newest);
    // js servers took the replay; a resolve of ours finds the newest all the same, and puts them right.
    let found = ours.resolve(theirs).await.unwrap();
    assert_eq!((found.value.as_str(), found.record.sequence()), (OTHER, 6));
}

async fn peers_and_providers_among_js_nodes(on: On) {
    let Some(js) = peers::js(8, PUBLIC_PROTOCOL).await else { return };
    let ours = Options::server(2, &[peer_at(&js.addresses[0])]).on(on).start().await;
    ours.stands(Standing::Joined).await;
    ours.until("all js peers", |dht| dht.health.live >= 8).await;

    let found = ours.node.find_peer(peer_at(&js.addresses[6]).id).await.unwrap();
    assert_eq!(found.addresses, peer_at(&js.addresses[6]).addresses);
    let asked = js.tell("findPeer", json!({ "node": 5, "peer": ours.info.id.to_string() })).await;
    assert!(asked["addrs"].to_string().contains(&ours.info.addresses[0].to_string()), "{asked}");

    let cid: cid::Cid = "bafkreidfdrlkeq4m4xnxuyx6iae76fdm4wgl5d4xzsb77ixhyqwumhz244".parse().unwrap();
    let provided = ours.node.provide(cid.hash().to_bytes()).await.unwrap();
    assert!(provided[0].1.acked >= 5, "{provided:?}");
    let found = js.tell("findProviders", json!({ "node": 4, "cid": cid.to_string() })).await;
    assert!(found["providers"].to_string().contains(&ours.info.id.to_string()), "{found}");

    // js reads the key as a CID, so that only SHA2-256 multihashes, which are CIDs of version 0, are keys to it.
    let other: cid::Cid = "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am".parse().unwrap();
    js.tell("provide", json!({ "node": 3, "cid": other.to_string() })).await;
    let found = ours.node.find_providers(other.hash().to_bytes(), 1).await.unwrap();
    assert_eq!(found[0].id, peer_at(&js.addresses[3]).id);
}
