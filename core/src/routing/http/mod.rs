//! IPNS over HTTP: the part of [Delegated Routing V1] that carries records, `/routing/v1/ipns/{name}`.
//!
//! Two halves, both pure: [`client`] writes requests and reads responses, [`server`] reads requests and writes
//! responses. Neither opens a connection, reads a clock or draws a random number. Neither trusts a record either: what
//! the client reads goes through [`Checks`](crate::record::Checks), and the server serves only what did.
//!
//! "No record" may arrive as 404 or as a 200 of another content type ([IPIP-513]); the server says 404.
//!
//! [Delegated Routing V1]: https://specs.ipfs.tech/routing/http-routing-v1/
//! [IPIP-513]: https://specs.ipfs.tech/ipips/ipip-0513/

mod backoff;
pub mod client;
mod date;
mod endpoint;
mod fault;
mod media;
mod negotiate;
mod respond;
pub mod server;

pub use date::{format_date, parse_date};
pub use media::{MEDIA_TYPE, PATH_PREFIX, etag};

#[cfg(test)]
mod tests {
    use super::client::{Endpoint, GetAnswer, read_get};
    use super::server::{Asked, found, read_request};
    use crate::key::{KeyType, SecretKey, Signer};
    use crate::record::{Checks, RecordBuilder};
    use crate::time::Timestamp;

    #[test]
    fn the_client_reads_what_the_server_writes() {
        let key = SecretKey::generate(KeyType::Ed25519, [7; 32], 0).unwrap();
        let name = key.public_key().to_name();
        let (at, eol) = (Timestamp::from_unix_secs(0), Timestamp::from_unix_secs(3600));
        let unverified = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), 3, eol).sign(&key).unwrap();
        let record = Checks::at(at).verify_record(unverified, &name).unwrap();
        let endpoint = Endpoint::new("https://example.org").unwrap();
        let serve = |etag: Option<&str>| match read_request(&endpoint.get_request(record.name(), etag)) {
            Asked::Get { name, head, if_none_match } => {
                assert_eq!(name, *record.name());
                found(Some(&record), head, if_none_match.as_deref(), at, at)
            }
            other => panic!("{other:?}"),
        };
        let Ok(GetAnswer::Record { bytes, etag: Some(tag) }) = read_get(&serve(None)) else {
            panic!("no record");
        };
        assert_eq!(Checks::at(at).verify(bytes, record.name()).unwrap(), record);

        let again = serve(Some(&tag));
        assert_eq!(read_get(&again), Ok(GetAnswer::NotModified));
        assert!(again.body().is_empty());
        for name in ["etag", "cache-control", "expires", "last-modified", "vary", "access-control-allow-origin"] {
            assert_eq!(again.headers().get(name), serve(None).headers().get(name), "{name}");
        }
        for name in ["content-length", "content-type"] {
            assert_eq!(again.headers().get(name), None, "{name}");
        }
        assert!(matches!(read_get(&serve(Some("\"other\""))), Ok(GetAnswer::Record { .. })));
    }
}
