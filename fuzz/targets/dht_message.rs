//! Frames and messages of the DHT, as any peer may send them.
#![no_main]

use ipns_core::dht::{
    MAX_ADDRESSES, MAX_PEERS, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, PeerInfo, Request, Response, frame,
};
use libfuzzer_sys::fuzz_target;

fn bounded(peers: &[PeerInfo]) {
    assert!(peers.len() <= MAX_PEERS);
    assert!(peers.iter().all(|peer| peer.addresses.len() <= MAX_ADDRESSES));
}

fuzz_target!(|data: &[u8]| {
    for limit in [MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES] {
        if let Ok(Some(range)) = frame::decode(data, limit) {
            assert!(range.end <= data.len() && range.len() <= limit);
            let again = frame::encode(&data[range.clone()]);
            let inner = frame::decode(&again, limit).unwrap().unwrap();
            assert_eq!(&again[inner], &data[range]);
        }
    }
    if let Ok(request) = Request::decode(data) {
        if let Request::AddProvider { providers, .. } = &request {
            bounded(providers);
        }
        assert!(!request.key().is_empty() || request == Request::Ping);
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(response) = Response::decode(data) {
        bounded(response.closer());
        if let Response::GetProviders { providers, .. } = &response {
            bounded(providers);
        }
        if let Some(bytes) = response.encode() {
            assert_eq!(Response::decode(&bytes), Ok(response));
        }
    }
});
