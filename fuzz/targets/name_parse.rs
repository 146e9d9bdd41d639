//! Whatever is read as a name is one name in every spelling; so it is with values and instants.
#![no_main]

use ipns_core::value::Target;
use ipns_core::{Name, Timestamp, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let found = [Name::from_bytes(bytes), Name::from_routing_key(bytes)];
    found.into_iter().flatten().for_each(every_spelling);
    if let Ok(value) = Value::from_bytes(bytes) {
        read_again(&value);
    }

    let Ok(text) = core::str::from_utf8(bytes) else { return };
    if let Ok(name) = text.parse::<Name>() {
        every_spelling(name);
    }
    if let Ok(value) = text.parse::<Value>() {
        assert_eq!(value.to_string().parse().as_ref(), Ok(&value));
        read_again(&value);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        assert_eq!(instant.to_string().parse(), Ok(instant));
    }
});

fn every_spelling(name: Name) {
    let canonical = name.to_string();
    for text in [
        format!("/ipns/{canonical}"),
        format!("ipns://{canonical}"),
        canonical.to_uppercase(),
        name.to_base58(),
        name.to_cid().to_string(),
        name.to_peer_id().to_string(),
        canonical,
    ] {
        assert_eq!(text.parse(), Ok(name), "{text}");
    }
    assert_eq!(Name::from_bytes(&name.to_bytes()), Ok(name));
    assert_eq!(Name::from_routing_key(&name.routing_key()), Ok(name));
    assert_eq!(name.pubsub_topic().len(), 8 + (name.routing_key().len() * 4).div_ceil(3));
    if let Some(key) = name.inline_public_key() {
        // A key may be written in several ways; our way of writing it names itself.
        let own = key.to_name();
        assert_eq!(own.inline_public_key().as_ref(), Some(&key));
    }
    assert_eq!(Value::from_name(&name).target(), Target::Name(name, ""));
}

fn read_again(value: &Value) {
    assert_eq!(Value::from_bytes(value.as_str().as_bytes()).as_ref(), Ok(value));
    if let Target::Name(name, below) = value.target() {
        assert!(below.is_empty() || below.starts_with('/'));
        assert_eq!(Value::from_name(&name).join(below).target(), Target::Name(name, below.trim_end_matches('/')));
    }
}
