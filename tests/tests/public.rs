//! The public vectors of the IPFS gateway-conformance suite, read from where they are and never committed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "these are tests")]

use std::path::Path;

use bytes::Bytes;
use cid::Cid;
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use ipns_core::key::PublicKey;
use ipns_core::record::{Checks, Inspection, Record, RecordError, Version};
use ipns_core::routing::http::server::found;
use ipns_core::value::Target;
use ipns_core::{Name, Timestamp, Value, Verified};
use ipns_tests::vectors;
use ipns_tests::wire::{self, number};
use multibase::Base;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const V1: &str = "ipns_records/k51qzi5uqu5dm4tm0wt8srkg9h9suud4wuiwjimndrkydqm81cqtlb5ak6p7ku_v1";
const V1_V2: &str = "ipns_records/k51qzi5uqu5dlkw8pxuw9qmqayfdeh4kfebhmreauqdc6a7c3y7d5i9fi8mk9w_v1-v2";
const BAD_VALUE: &str =
    "ipns_records/k51qzi5uqu5dlmit2tuwdvnx4sbnyqgmvbxftl0eo3f33wwtb9gr7yozae9kpw_v1-v2-broken-v1-value";
const BAD_SIGNATURE_V2: &str =
    "ipns_records/k51qzi5uqu5diamp7qnnvs1p1gzmku3eijkeijs3418j23j077zrkok63xdm8c_v1-v2-broken-signature-v2";
const BAD_SIGNATURE_V1: &str =
    "ipns_records/k51qzi5uqu5dilgf7gorsh9vcqqq4myo6jd4zmqkuy9pxyxi5fua3uf7axph4y_v1-v2-broken-signature-v1";
const V2: &str = "ipns_records/k51qzi5uqu5dit2ku9mutlfgwyz8u730on38kd10m97m36bjt66my99hb6103f_v2";
const SUBPATH: &str = "gateway-cache/k51qzi5uqu5djokp3m1keo36hoxtd6u3a1d2rg1camf6al7p3huy63dojlm57c";
const CENTURY_TTL: &str = "gateway-cache/k51qzi5uqu5dlxdsdu5fpuu7h69wu4ohp32iwm9pdt9nq3y5rpn3ln9j12zfhe";
const ED25519: &str = "subdomain_gateway/12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d";
const RSA: &str = "subdomain_gateway/QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3";
const ED25519_COPY: &str = "tooling_ipns/12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d";
const RSA_COPY: &str = "tooling_ipns/QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3";
const FIVE_DIGITS: &str = "tooling_ipns/k51qzi5uqu5dh71qgwangrt6r0nd4094i88nsady6qgd1dhjcyfsaqmpp143ab";
const SECOND: &str = "tooling_ipns/k51qzi5uqu5dgh7y9l90nqs6tvnzcm9erbt8fhzg3fu79p5qt9zb2izvfu51ki";
const DAG_CBOR: &str = "path_gateway_dag/k51qzi5uqu5dghjous0agrwavl8vzl64xckoqzwqeqwudfr74kfd11zcyk3b7l";
const DAG_JSON: &str = "path_gateway_dag/k51qzi5uqu5dhjghbwdvbo6mi40htrq6e2z4pwgp15pgv3ho1azvidttzh8yy2";

const HELLO: &str = "/ipfs/bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am";
const SPEC_EOL: &str = "2123-08-14T12:17:03.694052Z";
const HALF_HOUR: u64 = 1_800_000_000_000;
const CENTURY: u64 = 3_155_760_000_000_000_000;

/// A valid record: file, size, value, sequence, TTL in nanoseconds, validity.
type Valid = (&'static str, usize, &'static str, u64, u64, &'static str);

#[rustfmt::skip]
const VALID: [Valid; 13] = [
    (V1_V2, 326, "/ipfs/bafkqaddwgevxmmraojswg33smq", 0, HALF_HOUR, SPEC_EOL),
    (BAD_SIGNATURE_V1, 334, "/ipfs/bafkqahtwgevxmmrao5uxi2bamjzg623fnyqhg2lhnzqxi5lsmuqhmmi", 0, HALF_HOUR, SPEC_EOL),
    (V2, 188, "/ipfs/bafkqadtwgiww63tmpeqhezldn5zgi", 0, HALF_HOUR, SPEC_EOL),
    (SUBPATH, 409, "/ipfs/bafybeib3ffl2teiqdncv3mkz4r23b5ctrwkzrrhctdbne6iboayxuxk5ui/root2", 0, HALF_HOUR, "2126-01-31T15:56:12.714899293Z"),
    (CENTURY_TTL, 394, "/ipfs/bafybeib3ffl2teiqdncv3mkz4r23b5ctrwkzrrhctdbne6iboayxuxk5ui", 0, CENTURY, "2123-04-12T15:32:22.646144Z"),
    (ED25519, 394, HELLO, 0, CENTURY, "2123-04-12T13:44:59.801728Z"),
    (RSA, 1082, HELLO, 0, CENTURY, "2123-04-12T13:43:57.238038Z"),
    (ED25519_COPY, 394, HELLO, 0, CENTURY, "2123-04-12T13:44:59.801728Z"),
    (RSA_COPY, 1082, HELLO, 0, CENTURY, "2123-04-12T13:43:57.238038Z"),
    (FIVE_DIGITS, 392, "/ipfs/bafkreidfdrlkeq4m4xnxuyx6iae76fdm4wgl5d4xzsb77ixhyqwumhz244", 0, CENTURY, "2123-04-12T13:36:58.23727Z"),
    (SECOND, 349, "/ipfs/bafyaaeykceeaeeqlnbswy3dpo5xxe3debimaw", 1, 60_000_000_000, "2123-03-17T12:44:50.801257Z"),
    (DAG_CBOR, 394, "/ipfs/bafyreibs4utpgbn7uqegmd2goqz4bkyflre2ek2iwv743fhvylwi4zeeim", 0, CENTURY, "2123-04-13T08:09:51.891396Z"),
    (DAG_JSON, 398, "/ipfs/baguqeeram5ujjqrwheyaty3w5gdsmoz6vittchvhk723jjqxk7hakxkd47xq", 0, CENTURY, "2123-04-13T08:09:21.159744Z"),
];

/// Records that are not valid: file, size, code of the error.
const INVALID: [(&str, usize, &str); 3] =
    [(V1, 144, "signature_missing"), (BAD_VALUE, 377, "field_mismatch"), (BAD_SIGNATURE_V2, 334, "signature_invalid")];

/// The public vectors, or none with a word about it.
struct Public(std::path::PathBuf);

impl Public {
    fn here() -> Option<Self> {
        let place = vectors::public();
        if place.is_none() {
            eprintln!("skipped: IPNS_VECTORS does not say where the public vectors are");
        }
        place.map(Self)
    }

    fn bytes(&self, file: &str) -> Vec<u8> {
        vectors::read(&self.0.join("public").join(format!("{file}.ipns-record")))
    }

    fn verify(&self, file: &str) -> Result<Verified, RecordError> {
        now().verify(self.bytes(file), &name_of(file))
    }
}

fn now() -> Checks {
    Checks::at("2026-06-01T00:00:00Z".parse().unwrap())
}

/// A file is called after its name, and what follows `_` says what it is.
fn name_of(file: &str) -> Name {
    let stem = file.rsplit('/').next().unwrap();
    stem.split('_').next().unwrap().parse().expect(file)
}

#[test]
fn every_valid_record() {
    let Some(public) = Public::here() else { return };
    for (file, size, value, sequence, ttl, validity) in VALID {
        let record = public.verify(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(record.as_bytes().len(), size, "{file}");
        assert_eq!(record.value().unwrap().to_string(), value, "{file}");
        assert_eq!((record.sequence(), record.validity_bytes()), (sequence, validity.as_bytes()), "{file}");
        assert_eq!(record.ttl().unwrap().as_nanos(), u128::from(ttl), "{file}");
        assert_eq!(record.eol(), validity.parse::<Timestamp>().unwrap(), "{file}");
        assert_eq!(record.version() == Version::V2Only, file == V2, "{file}");
        assert!(record.metadata().is_empty(), "{file}");

        let inspection = Inspection::new(public.bytes(file), Some(&name_of(file)), &now());
        assert_eq!(inspection.error, None, "{file}");
        assert_eq!((inspection.sequence, inspection.ttl_ns), (Some(sequence), Some(ttl)), "{file}");
        assert_eq!((inspection.size, inspection.v1, inspection.expired), (size, file != V2, Some(false)), "{file}");
        assert_eq!(inspection.public_key.unwrap().embedded, file.contains("/Qm"), "{file}");

        let after = Checks::at(record.eol()).verify(public.bytes(file), &name_of(file));
        assert_eq!(after, Err(RecordError::Expired { eol: record.eol() }), "{file}");
        assert_eq!(now().verify(public.bytes(file), &name_of(V1)).unwrap_err().code(), no_key_of(file), "{file}");
    }
}

/// Under somebody else's inline name an embedded key is not the name's; without one, the signature is not.
fn no_key_of(file: &str) -> &'static str {
    if file.contains("/Qm") { "public_key_mismatch" } else { "signature_invalid" }
}

#[test]
fn every_invalid_record() {
    let Some(public) = Public::here() else { return };
    for (file, size, code) in INVALID {
        assert_eq!(public.bytes(file).len(), size, "{file}");
        assert_eq!(public.verify(file).unwrap_err().code(), code, "{file}");
        let inspection = Inspection::new(public.bytes(file), Some(&name_of(file)), &now());
        assert_eq!(inspection.error.unwrap().code(), code, "{file}");
        assert_eq!(inspection.sequence, Some(0), "what can be read is shown: {file}");
    }
}

#[test]
fn no_record_is_left_out() {
    let Some(public) = Public::here() else { return };
    let mut here = Vec::new();
    list(&public.0.join("public"), &mut here);
    here.sort();
    let mut known: Vec<_> = VALID.iter().map(|row| row.0).chain(INVALID.iter().map(|row| row.0)).collect();
    known.sort_unstable();
    assert_eq!(here, known);
}

fn list(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "ipns-record") {
            let folder = folder.file_name().unwrap().to_str().unwrap();
            found.push(format!("{folder}/{}", path.file_stem().unwrap().to_str().unwrap()));
        }
    }
}

#[test]
fn a_batch_says_what_each_alone_says() {
    let Some(public) = Public::here() else { return };
    let files = VALID.iter().map(|row| row.0).chain(INVALID.iter().map(|row| row.0));
    let records: Vec<(Bytes, Name)> = files.map(|file| (public.bytes(file).into(), name_of(file))).collect();
    let alone: Vec<_> = records.iter().map(|(bytes, name)| now().verify(bytes.clone(), name)).collect();
    assert_eq!(now().verify_batch(&records), alone);
    assert!(now().verify_batch(&records[..VALID.len()]).iter().all(Result::is_ok));
}

#[test]
fn every_valid_record_is_written_in_the_same_bytes() {
    let Some(public) = Public::here() else { return };
    for (file, ..) in VALID {
        assert_eq!(*Record::decode(public.bytes(file)).unwrap().as_bytes(), public.bytes(file), "{file}");
        assert_eq!(*wire::rebuild(&public.verify(file).unwrap()).as_bytes(), public.bytes(file), "{file}");
    }
}

#[test]
fn what_is_broken_is_broken_as_the_spec_says() {
    let Some(public) = Public::here() else { return };
    let verified_by = |file: &str, prefix: &[u8], message: &[u8], signature| {
        let bytes = public.bytes(file);
        let key = name_of(file).inline_public_key().unwrap();
        key.verify(&[prefix, message].concat(), wire::content(&bytes, signature).unwrap())
    };
    let v2_of = |file: &str| {
        let bytes = public.bytes(file);
        verified_by(file, b"ipns-signature:", wire::content(&bytes, number::DATA).unwrap(), number::SIGNATURE_V2)
    };
    let v1_of =
        |file: &str, value: &[u8]| verified_by(file, value, format!("{SPEC_EOL}EOL").as_bytes(), number::SIGNATURE_V1);
    let value_of = |file: &str| wire::content(&public.bytes(file), number::VALUE).unwrap().to_vec();

    // Only `value` differs, and each signature is right over the signed value.
    let signed = b"/ipfs/bafkqahtwgevxmmraojswg33smqqho2lunaqge4tpnnsw4idwmfwhkzi";
    let shown = b"/ipfs/bafkqaglumvzxi2lom4qgeyleebuxa3ttebzgky3pojshgcq";
    assert_eq!(value_of(BAD_VALUE), shown);
    assert_eq!(Record::decode(public.bytes(BAD_VALUE)).unwrap().value_bytes(), signed);
    assert!(v2_of(BAD_VALUE) && v1_of(BAD_VALUE, signed) && !v1_of(BAD_VALUE, shown));
    assert_eq!(public.verify(BAD_VALUE), Err(RecordError::FieldMismatch("value")));

    // A right signatureV1 saves nothing.
    assert!(!v2_of(BAD_SIGNATURE_V2) && v1_of(BAD_SIGNATURE_V2, &value_of(BAD_SIGNATURE_V2)));

    // A wrong one does no harm.
    assert!(v2_of(BAD_SIGNATURE_V1));
    assert_eq!(wire::content(&public.bytes(BAD_SIGNATURE_V1), number::SIGNATURE_V1), Some(&b"invalid stuff"[..]));

    let numbers: Vec<_> = wire::fields(&public.bytes(V2)).unwrap().iter().map(|field| field.number).collect();
    assert_eq!(numbers, [number::SIGNATURE_V2, number::DATA]);
    assert!(v1_of(V1, &value_of(V1)) && wire::content(&public.bytes(V1), number::DATA).is_none());
}

#[test]
fn the_embedded_key_is_bound_to_the_name() {
    let Some(public) = Public::here() else { return };
    let (bytes, name) = (public.bytes(RSA), name_of(RSA));
    assert_eq!(name.to_string(), "k2k4r8m7xvggw5pxxk3abrkwyer625hg01hfyggrai7lk1m63fuihi7w");
    assert_eq!(Inspection::new(bytes.clone(), None, &now()).name, Some(name));
    assert_eq!(Record::decode(bytes.clone()).unwrap().embedded_name(), Some(name));

    let dropped = wire::with(&bytes, number::PUBLIC_KEY, None);
    assert_eq!(now().verify(dropped, &name), Err(RecordError::PublicKeyMissing));
    let other = name_of(ED25519).inline_public_key().unwrap().encode_protobuf();
    let swapped = wire::with(&bytes, number::PUBLIC_KEY, Some(&other));
    assert_eq!(now().verify(swapped, &name), Err(RecordError::PublicKeyMismatch));
    let garbage = wire::with(&bytes, number::PUBLIC_KEY, Some(b"garbage"));
    assert_eq!(now().verify(garbage, &name).unwrap_err().code(), "public_key_malformed");
}

#[test]
fn the_copies_are_copies_and_the_spellings_agree() {
    let Some(public) = Public::here() else { return };
    assert_eq!(public.bytes(ED25519), public.bytes(ED25519_COPY));
    assert_eq!(public.bytes(RSA), public.bytes(RSA_COPY));
    let base36 = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";
    assert_eq!(name_of(ED25519).to_string(), base36);

    let links = String::from_utf8(vectors::read(&public.0.join("public/dnslink_ipns/dnslink.yml"))).unwrap();
    let paths: Vec<Value> = links.lines().filter_map(|line| line.trim().strip_prefix("path: ")?.parse().ok()).collect();
    assert_eq!(paths.len(), 2, "{links}");
    for path in paths {
        assert_eq!(path.target(), Target::Name(name_of(ED25519), ""), "{path}");
    }
}

#[test]
fn values_lead_where_the_suite_says() {
    let Some(public) = Public::here() else { return };
    let codec_of = |file| {
        let value = public.verify(file).unwrap().value().unwrap();
        value.as_str().strip_prefix("/ipfs/").unwrap().parse::<Cid>().unwrap().codec()
    };
    assert_eq!((codec_of(DAG_CBOR), codec_of(DAG_JSON)), (0x71, 0x0129));
    let below = public.verify(SUBPATH).unwrap().value().unwrap().join("/root3/root4/index.html");
    assert!(below.as_str().ends_with("/root2/root3/root4/index.html"), "{below}");
}

#[test]
fn answers_may_be_kept_for_the_ttl() {
    let Some(public) = Public::here() else { return };
    let at = now().at;
    let cache_of = |file| {
        let response = found(Some(&public.verify(file).unwrap()), false, None, at, at);
        response.headers()["cache-control"].to_str().unwrap().to_owned()
    };
    assert!(cache_of(V1_V2).contains("max-age=1800,"), "{}", cache_of(V1_V2));
    assert!(cache_of(SECOND).contains("max-age=60,"), "{}", cache_of(SECOND));
    // The TTL of a hundred years ends three years after the record does.
    let left = public.verify(CENTURY_TTL).unwrap().eol().saturating_since(at).as_secs();
    assert!(left < CENTURY / 1_000_000_000);
    assert!(cache_of(CENTURY_TTL).contains(&format!("max-age={left},")), "{}", cache_of(CENTURY_TTL));
}

/// One of the nine names, in every spelling.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameRow {
    key_type: String,
    base58btc: String,
    base36: String,
    base32: String,
    multihash_hex: String,
    routing_key_hex: String,
    kad_id_of_routing_key: String,
    kad_id_of_peer: String,
    pubsub_topic: String,
    boxo_publisher_datastore_key: String,
    kad_value_datastore_key: String,
    #[serde(rename = "source")]
    _source: String,
}

#[test]
fn every_column_of_every_name() {
    let Some(public) = Public::here() else { return };
    let rows: Vec<NameRow> = vectors::json(&public.0.join("names.json"));
    assert_eq!(rows.len(), 9);
    for row in rows {
        let name: Name = row.base36.parse().expect(&row.base36);
        assert_eq!(name.to_string(), row.base36);
        assert_eq!(name.to_base58(), row.base58btc);
        assert_eq!(name.to_peer_id().to_string(), row.base58btc);
        assert_eq!(name.to_cid_string(Base::Base32Lower), row.base32);
        assert_eq!(name.to_cid().to_string(), row.base32);
        assert_eq!(HEXLOWER.encode(&name.to_bytes()), row.multihash_hex);
        assert_eq!(HEXLOWER.encode(&name.routing_key()), row.routing_key_hex);
        assert_eq!(HEXLOWER.encode(&name.dht_id()), row.kad_id_of_routing_key);
        assert_eq!(HEXLOWER.encode(&Sha256::digest(name.to_bytes())), row.kad_id_of_peer);
        assert_eq!(name.pubsub_topic(), row.pubsub_topic);
        let datastore = |key: &[u8]| format!("/ipns/{}", BASE32_NOPAD.encode(key));
        assert_eq!(datastore(&name.to_bytes()), row.boxo_publisher_datastore_key);
        assert_eq!(datastore(&name.routing_key()), row.kad_value_datastore_key);

        let inline = matches!(row.key_type.as_str(), "Ed25519" | "Secp256k1");
        let key = name.inline_public_key();
        assert_eq!(key.as_ref().map(PublicKey::to_name), inline.then_some(name), "{}", row.base36);
        if let Some(key) = key {
            assert_eq!(key.key_type().as_str(), row.key_type.to_lowercase());
        }

        let hash = HEXLOWER.decode(row.multihash_hex.as_bytes()).unwrap();
        assert_eq!(Name::from_bytes(&hash), Ok(name));
        let routing_key = HEXLOWER.decode(row.routing_key_hex.as_bytes()).unwrap();
        assert_eq!(Name::from_routing_key(&routing_key), Ok(name));
        let upper = [Base::Base36Upper, Base::Base32Upper, Base::Base16Upper].map(|base| name.to_cid_string(base));
        let others = [Base::Base58Btc, Base::Base16Lower, Base::Base64Url].map(|base| name.to_cid_string(base));
        for spelling in [row.base58btc, row.base36, row.base32].iter().chain(&upper).chain(&others) {
            for text in [spelling.clone(), format!("/ipns/{spelling}"), format!("ipns://{spelling}")] {
                assert_eq!(text.parse(), Ok(name), "{text}");
            }
        }
    }
}
