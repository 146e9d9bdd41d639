//! IPNS names: one type for every spelling.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use cid::Cid;
use data_encoding::BASE64URL_NOPAD;
#[cfg(feature = "std")]
use libp2p_identity::PeerId;
use multibase::Base;
use multihash::Multihash;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::key::PublicKey;

/// The multicodec of a CID that names a libp2p public key.
pub(crate) const LIBP2P_KEY: u64 = 0x72;
const IDENTITY: u64 = 0x00;
const SHA2_256: u64 = 0x12;
/// The longest public key that a name carries itself; longer ones are hashed (libp2p peer-id spec).
pub(crate) const MAX_INLINE_KEY: usize = 42;
/// Longer texts are no spelling of a name; the bound keeps the big-number decoders cheap.
const MAX_TEXT: usize = 512;
const ROUTING_PREFIX: &[u8] = b"/ipns/";

/// An IPNS name: the multihash of a public key, or the key itself when it is short (Ed25519, secp256k1).
///
/// Parses from every spelling in use and prints as CIDv1, codec `libp2p-key`, base36.
///
/// ```
/// use ipns_core::Name;
///
/// let name: Name = "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d".parse()?;
/// assert_eq!(name.to_string(), "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam");
/// # Ok::<(), ipns_core::name::NameError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Multihash<64>);

/// Why a text or bytes are not a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing that could be a name.
    #[error("`{text}` is not an IPNS name; expected k51…, 12D3Koo…, Qm… or another CID or peer id of a public key")]
    Malformed {
        /// The text, cut if it is long.
        text: String,
    },
    /// A CID with another codec than `libp2p-key`.
    #[error("the CID has codec 0x{codec:x}, not libp2p-key (0x72); as a name it would be {suggestion}")]
    WrongCodec {
        /// The codec found.
        codec: u64,
        /// The same multihash as a name.
        suggestion: String,
    },
    /// A multihash that no public key has: neither identity (≤ 42 bytes) nor SHA2-256.
    #[error("multihash 0x{code:x} of {size} bytes cannot name a public key")]
    WrongHash {
        /// The multihash code.
        code: u64,
        /// The digest's size in bytes.
        size: usize,
    },
}

impl NameError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "name_malformed",
            Self::WrongCodec { .. } => "name_wrong_codec",
            Self::WrongHash { .. } => "name_wrong_hash",
        }
    }
}

impl Name {
    /// The name of a public key.
    pub fn from_public_key(key: &PublicKey) -> Self {
        let encoded = key.encode_protobuf();
        let hash = if encoded.len() <= MAX_INLINE_KEY {
            Multihash::wrap(IDENTITY, &encoded)
        } else {
            Multihash::wrap(SHA2_256, &Sha256::digest(&encoded))
        };
        #[expect(clippy::expect_used, reason = "at most 42 bytes or a digest of 32, and a multihash holds 64")]
        Self(hash.expect("a multihash of 64 bytes holds it"))
    }

    /// The name in its binary form: a multihash.
    ///
    /// # Errors
    /// When the bytes are not exactly one multihash that can name a key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
        let hash = Multihash::from_bytes(bytes)
            .map_err(|_| NameError::Malformed { text: shorten(&data_encoding::HEXLOWER.encode(bytes)) })?;
        Self::from_multihash(hash)
    }

    fn from_multihash(hash: Multihash<64>) -> Result<Self, NameError> {
        match (hash.code(), hash.digest().len()) {
            (IDENTITY, 1..=MAX_INLINE_KEY) | (SHA2_256, 32) => Ok(Self(hash)),
            (code, size) => Err(NameError::WrongHash { code, size }),
        }
    }

    /// The name that a binary routing key (`/ipns/` ‖ multihash) stands for.
    ///
    /// # Errors
    /// When the prefix or the multihash is not one.
    pub fn from_routing_key(key: &[u8]) -> Result<Self, NameError> {
        let hash = key
            .strip_prefix(ROUTING_PREFIX)
            .ok_or_else(|| NameError::Malformed { text: shorten(&data_encoding::HEXLOWER.encode(key)) })?;
        Self::from_bytes(hash)
    }

    /// The binary form: the multihash.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// The multihash.
    pub fn multihash(&self) -> &Multihash<64> {
        &self.0
    }

    /// The name as CIDv1 with codec `libp2p-key`.
    pub fn to_cid(&self) -> Cid {
        Cid::new_v1(LIBP2P_KEY, self.0)
    }

    /// The name as a libp2p peer id.
    #[cfg(feature = "std")]
    pub fn to_peer_id(&self) -> PeerId {
        #[expect(clippy::expect_used, reason = "a name's hash is identity of at most 42 bytes or SHA2-256")]
        PeerId::from_multihash(self.0).expect("every name is a peer id")
    }

    /// The key under which routers keep the record: `/ipns/` ‖ multihash (IPNS spec, "Routing record").
    pub fn routing_key(&self) -> Vec<u8> {
        [ROUTING_PREFIX, &self.0.to_bytes()].concat()
    }

    /// The place in the Kademlia key space: SHA2-256 of the routing key.
    pub fn dht_id(&self) -> [u8; 32] {
        Sha256::digest(self.routing_key()).into()
    }

    /// The pubsub topic of IPNS over pubsub: `/record/` and the routing key in base64url without padding.
    pub fn pubsub_topic(&self) -> String {
        format!("/record/{}", BASE64URL_NOPAD.encode(&self.routing_key()))
    }

    /// The public key, if the name carries it. `None` for hashed names (RSA, ECDSA) and for bytes that are no key.
    pub fn inline_public_key(&self) -> Option<PublicKey> {
        PublicKey::decode_protobuf(self.inline_key_bytes()?).ok()
    }

    /// The protobuf of the public key that the name carries, undecoded.
    pub(crate) fn inline_key_bytes(&self) -> Option<&[u8]> {
        (self.0.code() == IDENTITY).then(|| self.0.digest())
    }

    /// Whether `encoded`, a public key's protobuf, is the key that this name stands for.
    pub(crate) fn is_of_key_bytes(&self, encoded: &[u8]) -> bool {
        match self.0.code() {
            IDENTITY => self.0.digest() == encoded,
            _ => self.0.digest() == Sha256::digest(encoded).as_slice(),
        }
    }

    /// The name as a CIDv1 in another multibase, for places that cannot take base36.
    pub fn to_cid_string(&self, base: Base) -> String {
        multibase::encode(base, self.to_cid().to_bytes())
    }

    /// The name as base58btc multihash, as peer ids are written (`12D3Koo…`, `Qm…`).
    pub fn to_base58(&self) -> String {
        Base::Base58Btc.encode(self.0.to_bytes())
    }
}

impl PublicKey {
    /// The name of this key.
    pub fn to_name(&self) -> Name {
        Name::from_public_key(self)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bare = text.strip_prefix("/ipns/").or_else(|| text.strip_prefix("ipns://")).unwrap_or(text);
        // A slash at the end is a habit of URLs, but also a digit of base64.
        match (Self::from_bare(bare, text), bare.strip_suffix('/')) {
            (Err(_), Some(stripped)) => Self::from_bare(stripped, text),
            (result, _) => result,
        }
    }
}

impl Name {
    fn from_bare(bare: &str, text: &str) -> Result<Self, NameError> {
        let malformed = || NameError::Malformed { text: shorten(text) };
        if bare.is_empty() || bare.len() > MAX_TEXT || !bare.is_ascii() {
            return Err(malformed());
        }
        // A bare base58 multihash has no multibase prefix; `1` and `Q` are not CIDv1 spellings of a key.
        if bare.starts_with('1') || (bare.starts_with("Qm") && bare.len() == 46) {
            let bytes = Base::Base58Btc.decode(bare).map_err(|_| malformed())?;
            return Self::from_bytes(&bytes).map_err(|error| match error {
                NameError::Malformed { .. } => malformed(),
                other => other,
            });
        }
        let (_, bytes) = multibase::decode(bare).map_err(|_| malformed())?;
        let cid = Cid::read_bytes(bytes.as_slice()).map_err(|_| malformed())?;
        if cid.version() != cid::Version::V1 || cid.encoded_len() != bytes.len() {
            return Err(malformed());
        }
        let name = Self::from_multihash(*cid.hash());
        if cid.codec() != LIBP2P_KEY {
            return Err(match name {
                Ok(name) => NameError::WrongCodec { codec: cid.codec(), suggestion: name.to_string() },
                Err(error) => error,
            });
        }
        name
    }
}

/// The canonical spelling: CIDv1, codec `libp2p-key`, base36 (`k51…`, `k2k4…`).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_cid_string(Base::Base36Lower))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is safe to show in an error.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ED25519: &str = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";

    #[test]
    fn every_multibase_is_read() {
        let name: Name = ED25519.parse().unwrap();
        for base in [
            Base::Base16Lower,
            Base::Base16Upper,
            Base::Base32Lower,
            Base::Base32Upper,
            Base::Base32HexLower,
            Base::Base36Lower,
            Base::Base36Upper,
            Base::Base58Btc,
            Base::Base58Flickr,
            Base::Base64,
            Base::Base64Url,
            Base::Base64UrlPad,
        ] {
            let text = name.to_cid_string(base);
            for spelling in [text.clone(), format!("/ipns/{text}"), format!("ipns://{text}"), format!("/ipns/{text}/")]
            {
                assert_eq!(spelling.parse::<Name>().unwrap(), name, "{spelling}");
            }
        }
        assert_eq!(name.to_base58().parse::<Name>().unwrap(), name);
        assert_eq!(Name::from_routing_key(&name.routing_key()).unwrap(), name);
    }

    #[test]
    fn another_codec_names_the_right_cid() {
        let name: Name = ED25519.parse().unwrap();
        let raw = Cid::new_v1(0x55, *name.multihash());
        match raw.to_string().parse::<Name>() {
            Err(NameError::WrongCodec { codec: 0x55, suggestion }) => assert_eq!(suggestion, ED25519),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in
            ["", "/ipns/", "example.com", "k51", "Qm", "12D3KooW", "bafkqaaa", "/ipfs/bafkqaaa", "1111", "\u{1F600}"]
        {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
        assert!("k".repeat(100_000).parse::<Name>().is_err());
    }

    proptest! {
        #[test]
        fn any_hash_round_trips(digest in any::<[u8; 32]>()) {
            let name = Name::from_multihash(Multihash::wrap(SHA2_256, &digest).unwrap()).unwrap();
            prop_assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
            prop_assert_eq!(name.to_base58().parse::<Name>().unwrap(), name);
            prop_assert_eq!(Name::from_bytes(&name.to_bytes()).unwrap(), name);
        }

        #[test]
        fn no_input_panics(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = text.parse::<Name>();
            let _ = Name::from_bytes(&bytes);
            let _ = Name::from_routing_key(&bytes);
        }
    }
}
