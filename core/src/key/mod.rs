//! Public and private keys of names, and the [`Signer`] through which a private key may live elsewhere.

mod rsa_public;

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use k256::ecdsa::signature::hazmat::PrehashVerifier;
use pkcs8::der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use pkcs8::der::{Decode, Encode};
use pkcs8::{AlgorithmIdentifierRef, LineEnding, PrivateKeyInfoRef, SecretDocument};
use prost::Message;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey};
use rsa::traits::PublicKeyParts;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use rsa_public::RsaPublic;

/// The kinds of key that can own a name (libp2p peer-id spec, "Key Types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// RSA of 2048 to 8192 bits; signs PKCS#1 v1.5 with SHA2-256.
    Rsa,
    /// Ed25519: the default.
    Ed25519,
    /// ECDSA on secp256k1 with SHA2-256.
    Secp256k1,
    /// ECDSA on P-256 with SHA2-256.
    Ecdsa,
}

impl KeyType {
    /// The lower-case name, as `ipns key gen --type` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
            Self::Secp256k1 => "secp256k1",
            Self::Ecdsa => "ecdsa",
        }
    }

    fn from_wire(code: i32) -> Option<Self> {
        [Self::Rsa, Self::Ed25519, Self::Secp256k1, Self::Ecdsa].get(usize::try_from(code).ok()?).copied()
    }

    fn to_wire(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::str::FromStr for KeyType {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        [Self::Rsa, Self::Ed25519, Self::Secp256k1, Self::Ecdsa]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(KeyError::UnsupportedType)
    }
}

/// Why a key cannot be read, made or used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes are no key in the expected format.
    #[error("malformed key: {0}")]
    Malformed(&'static str),
    /// A kind of key, or a curve, that is not supported.
    #[error("unsupported key type; rsa, ed25519, secp256k1 and ecdsa (P-256) are supported")]
    UnsupportedType,
    /// An RSA key of another size.
    #[error("RSA keys must have 2048 to 8192 bits, this one has {bits}")]
    RsaSize {
        /// The modulus' length in bits.
        bits: usize,
    },
}

impl KeyError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "key_malformed",
            Self::UnsupportedType => "key_type_unsupported",
            Self::RsaSize { .. } => "key_rsa_size",
        }
    }
}

/// `PublicKey` and `PrivateKey` of the peer-id spec have the same shape.
#[derive(Clone, PartialEq, Message)]
struct KeyProto {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "2")]
    data: Option<Vec<u8>>,
}

/// The protobuf of an Ed25519 public key is this and 32 bytes.
const ED25519_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// A decoded public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Public);

#[derive(Clone, PartialEq, Eq)]
enum Public {
    Ed25519(VerifyingKey),
    Rsa(RsaPublic),
    Secp256k1(k256::ecdsa::VerifyingKey),
    Ecdsa(p256::ecdsa::VerifyingKey),
}

/// SubjectPublicKeyInfo of P-256 (RFC 5480) up to an uncompressed point.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Where in it the length of all that follows stands.
const P256_SPKI_LENGTH: usize = 1;
/// Where in it the length of the bit string stands, which is the point and one byte.
const P256_POINT_LENGTH: usize = 24;

impl PublicKey {
    /// Decodes the protobuf of the libp2p peer-id spec.
    ///
    /// # Errors
    /// When the bytes are not a key, or one of an unsupported type or size.
    pub fn decode_protobuf(bytes: &[u8]) -> Result<Self, KeyError> {
        if let Some(point) = bytes.strip_prefix(&ED25519_PREFIX)
            && let Ok(point) = <&[u8; 32]>::try_from(point)
        {
            return Self::from_ed25519(point);
        }
        let proto = KeyProto::decode(bytes).map_err(|_| KeyError::Malformed("not a PublicKey protobuf"))?;
        let (Some(kind), Some(data)) = (proto.kind, proto.data) else {
            return Err(KeyError::Malformed("a PublicKey protobuf needs a type and data"));
        };
        let kind = KeyType::from_wire(kind).ok_or(KeyError::UnsupportedType)?;
        let unfit = KeyError::Malformed("the key data does not fit its type");
        let key = match kind {
            KeyType::Ed25519 => {
                let point =
                    data.as_slice().try_into().map_err(|_| KeyError::Malformed("Ed25519 keys have 32 bytes"))?;
                return Self::from_ed25519(point);
            }
            KeyType::Rsa => Public::Rsa(rsa_from_spki(&data)?),
            KeyType::Secp256k1 => {
                Public::Secp256k1(k256::ecdsa::VerifyingKey::from_sec1_bytes(&data).map_err(|_| unfit)?)
            }
            KeyType::Ecdsa => Public::Ecdsa(p256_from_spki(&data).ok_or(unfit)?),
        };
        Ok(Self(key))
    }

    /// An Ed25519 key from its 32 bytes.
    ///
    /// # Errors
    /// When the bytes are not a point of the curve.
    pub fn from_ed25519(point: &[u8; 32]) -> Result<Self, KeyError> {
        VerifyingKey::from_bytes(point)
            .map(|key| Self(Public::Ed25519(key)))
            .map_err(|_| KeyError::Malformed("not a point of Ed25519"))
    }

    /// The protobuf of the libp2p peer-id spec.
    pub fn encode_protobuf(&self) -> Vec<u8> {
        let data = match &self.0 {
            Public::Ed25519(key) => return [ED25519_PREFIX.as_slice(), key.as_bytes()].concat(),
            Public::Rsa(key) => key.encode_x509(),
            Public::Secp256k1(key) => key.to_sec1_point(true).as_bytes().to_vec(),
            Public::Ecdsa(key) => [P256_SPKI.as_slice(), key.to_sec1_point(false).as_bytes()].concat(),
        };
        KeyProto { kind: Some(self.key_type().to_wire()), data: Some(data) }.encode_to_vec()
    }

    /// What kind of key this is.
    pub fn key_type(&self) -> KeyType {
        match &self.0 {
            Public::Ed25519(_) => KeyType::Ed25519,
            Public::Rsa(_) => KeyType::Rsa,
            Public::Secp256k1(_) => KeyType::Secp256k1,
            Public::Ecdsa(_) => KeyType::Ecdsa,
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Public::Ed25519(key) => {
                Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            Public::Rsa(key) => key.verify(message, signature),
            Public::Secp256k1(key) => k256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(&Sha256::digest(message), &signature).is_ok()),
            Public::Ecdsa(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }

    pub(crate) fn as_ed25519(&self) -> Option<&VerifyingKey> {
        match &self.0 {
            Public::Ed25519(key) => Some(key),
            _ => None,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.key_type(), self.to_name())
    }
}

/// Something that signs for one name: a key in memory, a hardware module, a wallet.
///
/// A driver calls it when the engine asks with [`Output::Sign`](crate::engine::Output::Sign); it may block.
pub trait Signer: Send + Sync {
    /// The public half, which is the name.
    fn public_key(&self) -> PublicKey;

    /// A signature over `message`, in the form that the libp2p peer-id spec gives for the key's type.
    ///
    /// # Errors
    /// When the key is away, locked or refuses.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Why a signer did not sign.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the signer refused: {reason}")]
pub struct SignError {
    /// The signer's words.
    pub reason: String,
}

impl SignError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        "sign_failed"
    }
}

/// A private key in memory. Its secret is wiped when dropped and never printed.
pub struct SecretKey(Secret);

enum Secret {
    Ed25519(Box<SigningKey>),
    Rsa(Box<rsa::RsaPrivateKey>),
    Secp256k1(Box<k256::ecdsa::SigningKey>),
    /// The key for signing, and its SEC1 form for export.
    Ecdsa(Box<p256::ecdsa::SigningKey>, Zeroizing<Vec<u8>>),
}

const OID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const OID_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const OID_EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const OID_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const OID_SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");
const PEM_LABEL: &str = "PRIVATE KEY";

impl SecretKey {
    /// Makes a key from 32 bytes of the caller's randomness; the same seed gives the same key.
    ///
    /// `rsa_bits` counts for RSA only. RSA takes from tenths of a second to minutes.
    ///
    /// # Errors
    /// When `rsa_bits` is not 2048 to 8192.
    ///
    /// ```
    /// use ipns_core::key::{KeyType, SecretKey, Signer};
    ///
    /// let key = SecretKey::generate(KeyType::Ed25519, [7; 32], 0)?;
    /// assert!(key.public_key().to_name().to_string().starts_with("k51"));
    /// # Ok::<(), ipns_core::key::KeyError>(())
    /// ```
    pub fn generate(kind: KeyType, mut seed: [u8; 32], rsa_bits: usize) -> Result<Self, KeyError> {
        let mut random = ChaCha20Rng::from_seed(seed);
        let secret = match kind {
            KeyType::Ed25519 => Ok(Self(Secret::Ed25519(Box::new(SigningKey::from_bytes(&seed))))),
            KeyType::Rsa => check_rsa_bits(rsa_bits).and_then(|()| {
                rsa::RsaPrivateKey::new(&mut random, rsa_bits)
                    .map(|key| Self(Secret::Rsa(Box::new(key))))
                    .map_err(|_| KeyError::Malformed("no RSA key of that size"))
            }),
            KeyType::Secp256k1 | KeyType::Ecdsa => loop {
                // All but one in 2^32 candidates is a valid scalar.
                let mut scalar = Zeroizing::new([0; 32]);
                random.fill_bytes(scalar.as_mut_slice());
                if let Ok(key) = Self::from_scalar(kind, &scalar) {
                    break Ok(key);
                }
            },
        };
        seed.zeroize();
        secret
    }

    fn from_scalar(kind: KeyType, scalar: &[u8; 32]) -> Result<Self, KeyError> {
        let bad = |_| KeyError::Malformed("the scalar is out of range");
        let secret = match kind {
            KeyType::Secp256k1 => {
                let key = k256::ecdsa::SigningKey::from_slice(scalar).map_err(bad)?;
                Secret::Secp256k1(Box::new(key))
            }
            KeyType::Ecdsa => {
                let key = p256::ecdsa::SigningKey::from_slice(scalar).map_err(bad)?;
                let public = key.verifying_key().to_sec1_point(false);
                let sec1 = to_sec1(scalar, Some(&OID_P256), public.as_bytes())
                    .map_err(|_| KeyError::Malformed("the key cannot be written"))?;
                Secret::Ecdsa(Box::new(key), sec1)
            }
            KeyType::Ed25519 | KeyType::Rsa => return Err(KeyError::UnsupportedType),
        };
        Ok(Self(secret))
    }

    /// Reads the format `libp2p-protobuf-cleartext`: the PrivateKey protobuf of the peer-id spec.
    ///
    /// # Errors
    /// When the bytes are not a key, or one of an unsupported type or size.
    pub fn decode_protobuf(bytes: &[u8]) -> Result<Self, KeyError> {
        let proto = KeyProto::decode(bytes).map_err(|_| KeyError::Malformed("not a PrivateKey protobuf"))?;
        let (Some(kind), Some(data)) = (proto.kind, proto.data.map(Zeroizing::new)) else {
            return Err(KeyError::Malformed("a PrivateKey protobuf needs a type and data"));
        };
        match KeyType::from_wire(kind).ok_or(KeyError::UnsupportedType)? {
            KeyType::Ed25519 => Self::from_ed25519_data(&data),
            KeyType::Rsa => Self::from_pkcs1(&data),
            KeyType::Secp256k1 => {
                let scalar =
                    data.as_slice().try_into().map_err(|_| KeyError::Malformed("secp256k1 keys have 32 bytes"))?;
                Self::from_scalar(KeyType::Secp256k1, scalar)
            }
            KeyType::Ecdsa => Self::from_sec1(&data, Some(OID_P256)),
        }
    }

    /// Seed and public key; very old files repeat the public key once more (peer-id spec, "Ed25519").
    fn from_ed25519_data(data: &[u8]) -> Result<Self, KeyError> {
        let (seed, public) = match data.len() {
            64 => (&data[..32], &data[32..]),
            96 if data[32..64] == data[64..] => (&data[..32], &data[32..64]),
            _ => return Err(KeyError::Malformed("Ed25519 keys have 64 bytes")),
        };
        let key = Self::from_ed25519_seed(seed)?;
        match &key.0 {
            Secret::Ed25519(pair) if pair.verifying_key().as_bytes() == public => Ok(key),
            _ => Err(KeyError::Malformed("the public half does not belong to the private one")),
        }
    }

    fn from_ed25519_seed(seed: &[u8]) -> Result<Self, KeyError> {
        let seed = seed.try_into().map_err(|_| KeyError::Malformed("Ed25519 seeds have 32 bytes"))?;
        Ok(Self(Secret::Ed25519(Box::new(SigningKey::from_bytes(seed)))))
    }

    fn from_pkcs1(der: &[u8]) -> Result<Self, KeyError> {
        let key = rsa::RsaPrivateKey::from_pkcs1_der(der).map_err(|_| KeyError::Malformed("not an RSA private key"))?;
        check_rsa_bits(key.n().bits())?;
        Ok(Self(Secret::Rsa(Box::new(key))))
    }

    /// SEC1 `ECPrivateKey`; the curve stands in it or, in PKCS#8, beside it.
    fn from_sec1(der: &[u8], curve: Option<ObjectIdentifier>) -> Result<Self, KeyError> {
        let key = sec1::EcPrivateKey::from_der(der).map_err(|_| KeyError::Malformed("not an EC private key"))?;
        let scalar =
            key.private_key.try_into().map_err(|_| KeyError::Malformed("private keys of this curve have 32 bytes"))?;
        let named = key.parameters.and_then(sec1::EcParameters::named_curve);
        match named.or(curve) {
            Some(OID_P256) => Self::from_scalar(KeyType::Ecdsa, scalar),
            Some(OID_SECP256K1) => Self::from_scalar(KeyType::Secp256k1, scalar),
            _ => Err(KeyError::UnsupportedType),
        }
    }

    /// Writes the format `libp2p-protobuf-cleartext`.
    pub fn encode_protobuf(&self) -> Zeroizing<Vec<u8>> {
        let data = match &self.0 {
            Secret::Ed25519(key) => key.to_keypair_bytes().to_vec(),
            Secret::Rsa(key) => self.pkcs1(key).to_vec(),
            Secret::Secp256k1(key) => Zeroizing::new(key.to_bytes()).to_vec(),
            Secret::Ecdsa(_, sec1) => sec1.to_vec(),
        };
        let mut proto = KeyProto { kind: Some(self.key_type().to_wire()), data: Some(data) };
        let encoded = Zeroizing::new(proto.encode_to_vec());
        proto.data.zeroize();
        encoded
    }

    fn pkcs1(&self, key: &rsa::RsaPrivateKey) -> Zeroizing<Vec<u8>> {
        #[expect(clippy::expect_used, reason = "the key was made or parsed as a two-prime key")]
        let document = key.to_pkcs1_der().expect("a two-prime key has a PKCS#1 form");
        Zeroizing::new(document.as_bytes().to_vec())
    }

    /// Reads the format `pem-pkcs8-cleartext` (RFC 5958 in RFC 7468).
    ///
    /// # Errors
    /// When the text is not such a key, or one of an unsupported type or size.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, document) =
            SecretDocument::from_pem(text).map_err(|_| KeyError::Malformed("not a PEM file with a private key"))?;
        if label != PEM_LABEL {
            return Err(KeyError::Malformed("expected a PEM block of type PRIVATE KEY (PKCS#8, not encrypted)"));
        }
        let info = PrivateKeyInfoRef::from_der(document.as_bytes())
            .map_err(|_| KeyError::Malformed("not a PKCS#8 private key"))?;
        let inner = info.private_key.as_bytes();
        match info.algorithm.oid {
            OID_ED25519 => {
                let seed = <&OctetStringRef>::from_der(inner)
                    .map_err(|_| KeyError::Malformed("not an Ed25519 private key"))?;
                Self::from_ed25519_seed(seed.as_bytes())
            }
            OID_RSA => Self::from_pkcs1(inner),
            OID_EC => {
                let curve = info.algorithm.parameters_oid().ok();
                Self::from_sec1(inner, curve)
            }
            _ => Err(KeyError::UnsupportedType),
        }
    }

    /// Writes the format `pem-pkcs8-cleartext`.
    ///
    /// # Errors
    /// When the key does not fit the format; no key that this library makes or reads is such.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let unwritable = |_| KeyError::Malformed("the key cannot be written as PKCS#8");
        let null = Some(AnyRef::NULL);
        let curve = |oid: &'static ObjectIdentifier| Some(AnyRef::from(oid));
        let (oid, parameters, inner) = match &self.0 {
            Secret::Ed25519(key) => {
                let seed = Zeroizing::new(key.to_bytes());
                let inner =
                    OctetStringRef::new(seed.as_slice()).and_then(|octets| octets.to_der()).map_err(unwritable)?;
                (OID_ED25519, None, Zeroizing::new(inner))
            }
            Secret::Rsa(key) => (OID_RSA, null, self.pkcs1(key)),
            // The curve stands beside the key: Go and OpenSSL leave it out of the key itself (RFC 5915, section 3).
            Secret::Secp256k1(key) => {
                let public = key.verifying_key().to_sec1_point(false);
                let inner = to_sec1(&Zeroizing::new(key.to_bytes()), None, public.as_bytes()).map_err(unwritable)?;
                (OID_EC, curve(&OID_SECP256K1), inner)
            }
            Secret::Ecdsa(key, _) => {
                let public = key.verifying_key().to_sec1_point(false);
                let inner = to_sec1(&Zeroizing::new(key.to_bytes()), None, public.as_bytes()).map_err(unwritable)?;
                (OID_EC, curve(&OID_P256), inner)
            }
        };
        let inner = OctetStringRef::new(&inner).map_err(unwritable)?;
        let info = PrivateKeyInfoRef::new(AlgorithmIdentifierRef { oid, parameters }, inner);
        let document = SecretDocument::try_from(&info).map_err(|_| unwritable(pkcs8::der::ErrorKind::Failed.into()))?;
        document.to_pem(PEM_LABEL, LineEnding::LF).map_err(unwritable)
    }

    /// Reads either format, told apart by the PEM header.
    ///
    /// # Errors
    /// When the bytes are in neither format.
    pub fn import(bytes: &[u8]) -> Result<Self, KeyError> {
        match core::str::from_utf8(bytes) {
            Ok(text) if text.trim_start().starts_with("-----BEGIN") => Self::from_pem(text.trim_start()),
            _ => Self::decode_protobuf(bytes),
        }
    }

    /// What kind of key this is.
    pub fn key_type(&self) -> KeyType {
        self.public_key().key_type()
    }
}

impl Signer for SecretKey {
    fn public_key(&self) -> PublicKey {
        match &self.0 {
            Secret::Ed25519(key) => PublicKey(Public::Ed25519(key.verifying_key())),
            Secret::Rsa(key) => PublicKey(Public::Rsa(rsa_public(key))),
            Secret::Secp256k1(key) => PublicKey(Public::Secp256k1(*key.verifying_key())),
            Secret::Ecdsa(key, _) => PublicKey(Public::Ecdsa(*key.verifying_key())),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let refused = |error: &dyn fmt::Display| SignError { reason: error.to_string() };
        match &self.0 {
            Secret::Ed25519(key) => Ok(key.sign(message).to_vec()),
            Secret::Rsa(key) => {
                let digest = Sha256::digest(message);
                // Blinding needs numbers that an observer cannot guess: key and message give them without a random source.
                let blinding = Sha256::new().chain_update(self.pkcs1(key)).chain_update(digest).finalize();
                let mut random = ChaCha20Rng::from_seed(blinding.into());
                key.sign_with_rng(&mut random, rsa_public::scheme(), &digest).map_err(|e| refused(&e))
            }
            Secret::Secp256k1(key) => {
                let signature: k256::ecdsa::Signature = key.try_sign(message).map_err(|e| refused(&e))?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Secret::Ecdsa(key, _) => {
                let signature: p256::ecdsa::DerSignature = key.try_sign(message).map_err(|e| refused(&e))?;
                Ok(signature.as_bytes().to_vec())
            }
        }
    }
}

/// SEC1 `ECPrivateKey` of a scalar and its uncompressed point.
fn to_sec1(scalar: &[u8], curve: Option<&ObjectIdentifier>, point: &[u8]) -> pkcs8::der::Result<Zeroizing<Vec<u8>>> {
    let parameters = curve.map(|oid| sec1::EcParameters::NamedCurve(*oid));
    sec1::EcPrivateKey { private_key: scalar, parameters, public_key: Some(point) }.to_der().map(Zeroizing::new)
}

fn rsa_public(key: &rsa::RsaPrivateKey) -> RsaPublic {
    use rsa::pkcs8::EncodePublicKey;
    #[expect(clippy::expect_used, reason = "the encoder and the decoder are of the same standard")]
    key.to_public_key()
        .to_public_key_der()
        .ok()
        .and_then(|spki| RsaPublic::try_decode_x509(spki.as_bytes()).ok())
        .expect("an RSA key has an SPKI form")
}

fn rsa_from_spki(der: &[u8]) -> Result<RsaPublic, KeyError> {
    let key = RsaPublic::try_decode_x509(der).map_err(|_| KeyError::Malformed("the key data does not fit its type"))?;
    let pkcs1 = key.encode_pkcs1();
    let parsed = rsa::pkcs1::RsaPublicKey::try_from(pkcs1.as_slice())
        .map_err(|_| KeyError::Malformed("not an RSA public key"))?;
    check_rsa_bits(bit_length(parsed.modulus.as_bytes()))?;
    Ok(key)
}

/// The key in SubjectPublicKeyInfo, read as libp2p does: the length of the whole is not compared, a compressed point and
/// bytes after the point are taken.
fn p256_from_spki(der: &[u8]) -> Option<p256::ecdsa::VerifyingKey> {
    let (head, rest) = der.split_at_checked(P256_SPKI.len())?;
    let same = |at: usize| at == P256_SPKI_LENGTH || at == P256_POINT_LENGTH || head[at] == P256_SPKI[at];
    let point = rest.get(..usize::from(head[P256_POINT_LENGTH]).checked_sub(1)?)?;
    if !(0..head.len()).all(same) {
        return None;
    }
    p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()
}

fn check_rsa_bits(bits: usize) -> Result<(), KeyError> {
    if (2048..=8192).contains(&bits) { Ok(()) } else { Err(KeyError::RsaSize { bits }) }
}

fn bit_length(big_endian: &[u8]) -> usize {
    match big_endian.iter().position(|byte| *byte != 0) {
        Some(first) => (big_endian.len() - first) * 8 - big_endian[first].leading_zeros() as usize,
        None => 0,
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, …)", self.key_type())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "std")]
    use libp2p_identity as libp2p;
    use proptest::prelude::*;

    fn one_of_each() -> Vec<SecretKey> {
        [KeyType::Ed25519, KeyType::Rsa, KeyType::Secp256k1, KeyType::Ecdsa]
            .map(|kind| SecretKey::generate(kind, [1; 32], 2048).unwrap())
            .into()
    }

    #[test]
    fn every_type_signs_exports_and_imports() {
        for key in one_of_each() {
            let public = key.public_key();
            let signature = key.sign(b"message").unwrap();
            assert!(public.verify(b"message", &signature), "{key:?}");
            assert!(!public.verify(b"massage", &signature), "{key:?}");
            assert_eq!(PublicKey::decode_protobuf(&public.encode_protobuf()).unwrap(), public);
            for copy in [
                SecretKey::import(&key.encode_protobuf()).unwrap(),
                SecretKey::import(key.to_pem().unwrap().as_bytes()).unwrap(),
            ] {
                assert_eq!(copy.public_key(), public, "{key:?}");
                assert_eq!(copy.encode_protobuf(), key.encode_protobuf(), "{key:?}");
            }
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = SecretKey::generate(KeyType::Ed25519, [0xab; 32], 0).unwrap();
        assert_eq!(format!("{key:?}"), "SecretKey(ed25519, …)");
    }

    #[test]
    fn rsa_sizes_are_bounded() {
        assert_eq!(SecretKey::generate(KeyType::Rsa, [1; 32], 1024).unwrap_err(), KeyError::RsaSize { bits: 1024 });
        assert!(SecretKey::generate(KeyType::Rsa, [1; 32], 8193).is_err());
    }

    #[test]
    fn a_foreign_public_half_is_refused() {
        let mut bytes = SecretKey::generate(KeyType::Ed25519, [1; 32], 0).unwrap().encode_protobuf().to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(matches!(SecretKey::decode_protobuf(&bytes), Err(KeyError::Malformed(_))));
    }

    #[cfg(feature = "std")]
    #[test]
    fn peer_ids_agree_with_libp2p() {
        for key in one_of_each() {
            let public = key.public_key();
            let theirs = libp2p::PublicKey::try_decode_protobuf(&public.encode_protobuf()).unwrap();
            assert_eq!(public.to_name().to_peer_id(), theirs.to_peer_id());
        }
    }

    #[cfg(feature = "std")]
    #[test]
    fn secrets_are_written_as_libp2p_writes_them() {
        for key in one_of_each().into_iter().filter(|key| key.key_type() != KeyType::Rsa) {
            let encoded = key.encode_protobuf();
            let theirs = libp2p::Keypair::from_protobuf_encoding(&encoded).unwrap();
            assert_eq!(theirs.to_protobuf_encoding().unwrap(), *encoded);
            assert_eq!(theirs.public().encode_protobuf(), key.public_key().encode_protobuf());
            assert_eq!(theirs.sign(b"message").unwrap(), key.sign(b"message").unwrap());
        }
    }

    #[cfg(feature = "std")]
    fn elliptic() -> impl Strategy<Value = SecretKey> {
        (prop::sample::select(vec![KeyType::Secp256k1, KeyType::Ecdsa]), any::<[u8; 32]>())
            .prop_map(|(kind, seed)| SecretKey::generate(kind, seed, 0).unwrap())
    }

    #[cfg(feature = "std")]
    proptest! {
        #[test]
        fn public_keys_are_read_as_libp2p_reads_them(
            key in elliptic(), compressed: bool, at: prop::sample::Index, flip: u8, length in 0..110_usize,
        ) {
            let encoded = key.public_key().encode_protobuf();
            let mut data = KeyProto::decode(encoded.as_slice()).unwrap().data.unwrap();
            match &key.0 {
                Secret::Secp256k1(key) => data = key.verifying_key().to_sec1_point(compressed).as_bytes().to_vec(),
                Secret::Ecdsa(key, _) if compressed => {
                    data.truncate(P256_SPKI.len());
                    data[P256_POINT_LENGTH] = 34;
                    data.extend_from_slice(key.verifying_key().to_sec1_point(true).as_bytes());
                }
                _ => {}
            }
            let at = at.index(data.len());
            data[at] ^= if flip % 4 == 0 { flip } else { 0 };
            data.resize(if length % 4 == 0 { length } else { data.len() }, 1);
            let bytes = KeyProto { kind: Some(key.key_type().to_wire()), data: Some(data) }.encode_to_vec();
            let (ours, theirs) = (PublicKey::decode_protobuf(&bytes), libp2p::PublicKey::try_decode_protobuf(&bytes));
            prop_assert_eq!(ours.is_ok(), theirs.is_ok());
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                prop_assert_eq!(ours.encode_protobuf(), theirs.encode_protobuf());
            }
        }

        #[test]
        fn signatures_are_read_as_libp2p_reads_them(key in elliptic(), at: prop::sample::Index, flip: u8) {
            let theirs = libp2p::PublicKey::try_decode_protobuf(&key.public_key().encode_protobuf()).unwrap();
            let mut signature = key.sign(b"message").unwrap();
            prop_assert!(theirs.verify(b"message", &signature));
            let at = at.index(signature.len());
            signature[at] ^= flip;
            prop_assert_eq!(key.public_key().verify(b"message", &signature), theirs.verify(b"message", &signature));
        }

        #[test]
        fn high_signatures_are_taken_as_libp2p_takes_them(key in elliptic()) {
            let signature = key.sign(b"message").unwrap();
            let other = match key.key_type() {
                KeyType::Ecdsa => {
                    let read = p256::ecdsa::Signature::from_der(&signature).unwrap();
                    let (r, s) = read.split_scalars();
                    p256::ecdsa::Signature::from_scalars(r, -s).unwrap().to_der().as_bytes().to_vec()
                }
                _ => {
                    let read = k256::ecdsa::Signature::from_der(&signature).unwrap();
                    let (r, s) = read.split_scalars();
                    k256::ecdsa::Signature::from_scalars(r, -s).unwrap().to_der().as_bytes().to_vec()
                }
            };
            let theirs = libp2p::PublicKey::try_decode_protobuf(&key.public_key().encode_protobuf()).unwrap();
            prop_assert_eq!(key.public_key().verify(b"message", &other), theirs.verify(b"message", &other));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PublicKey::decode_protobuf(&bytes);
            let _ = SecretKey::import(&bytes);
        }
    }
}
