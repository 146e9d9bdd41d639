//! RSA public keys: those of libp2p, for which ring verifies, or where there is no std those of the `rsa` crate.

use rsa::Pkcs1v15Sign;

#[cfg(feature = "std")]
pub(super) use libp2p_identity::rsa::PublicKey as RsaPublic;
#[cfg(not(feature = "std"))]
pub(super) use plain::PublicKey as RsaPublic;

/// DigestInfo of SHA2-256 (RFC 8017, section 9.2, note 1).
const SHA256_DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// PKCS#1 v1.5 with SHA2-256.
pub(super) fn scheme() -> Pkcs1v15Sign {
    Pkcs1v15Sign { hash_len: Some(32), prefix: SHA256_DIGEST_INFO.into() }
}

/// What libp2p's keys can do, with nothing but the `rsa` crate; tests compare the two.
#[cfg(any(test, not(feature = "std")))]
mod plain {
    use alloc::vec::Vec;

    use pkcs8::der::asn1::{AnyRef, BitStringRef};
    use pkcs8::der::{Decode, Encode};
    use pkcs8::spki::SubjectPublicKeyInfoRef;
    use pkcs8::{AlgorithmIdentifierRef, ObjectIdentifier};
    use rsa::BigUint;
    use sha2::{Digest, Sha256};

    use crate::key::rsa_public::scheme;

    const OID_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    pub(crate) const ALGORITHM: AlgorithmIdentifierRef<'static> =
        AlgorithmIdentifierRef { oid: OID_RSA, parameters: Some(AnyRef::NULL) };
    /// The largest modulus in bits; the crate's own limit is half of it.
    const MAX_BITS: usize = 8192;

    /// The key's PKCS#1 form.
    #[derive(Clone, PartialEq, Eq)]
    pub(crate) struct PublicKey(Vec<u8>);

    impl PublicKey {
        /// Reads SubjectPublicKeyInfo, strictly in DER. The numbers of the key are judged when it verifies.
        pub(crate) fn try_decode_x509(der: &[u8]) -> Result<Self, pkcs8::spki::Error> {
            let info = SubjectPublicKeyInfoRef::from_der(der)?;
            match info.subject_public_key.as_bytes() {
                Some(pkcs1) if info.algorithm == ALGORITHM => Ok(Self(pkcs1.to_vec())),
                _ => Err(pkcs8::spki::Error::KeyMalformed),
            }
        }

        pub(crate) fn encode_x509(&self) -> Vec<u8> {
            #[expect(clippy::expect_used, reason = "its parts were read or written as DER before")]
            BitStringRef::from_bytes(&self.0)
                .and_then(|key| SubjectPublicKeyInfoRef { algorithm: ALGORITHM, subject_public_key: key }.to_der())
                .expect("an RSA key has an SPKI form")
        }

        pub(crate) fn encode_pkcs1(&self) -> Vec<u8> {
            self.0.clone()
        }

        pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
            // The crate wants what ring wants: an odd modulus, an odd exponent of 3 to 2^33 - 1, and a signature as long
            // as the modulus and below it.
            rsa::pkcs1::RsaPublicKey::try_from(self.0.as_slice())
                .ok()
                .and_then(|key| {
                    let number = |digits: rsa::pkcs1::UintRef<'_>| BigUint::from_bytes_be(digits.as_bytes());
                    rsa::RsaPublicKey::new_with_max_size(number(key.modulus), number(key.public_exponent), MAX_BITS)
                        .ok()
                })
                .is_some_and(|key| key.verify(scheme(), &Sha256::digest(message), signature).is_ok())
        }
    }
}

#[cfg(test)]
#[cfg(feature = "std")]
mod tests {
    use super::{plain, scheme};
    use libp2p_identity::rsa::PublicKey as Theirs;
    use pkcs8::der::Encode;
    use pkcs8::der::asn1::BitStringRef;
    use pkcs8::spki::SubjectPublicKeyInfoRef;
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;
    use rsa::BigUint;
    use rsa::pkcs1::UintRef;
    use rsa::traits::PublicKeyParts;
    use sha2::{Digest, Sha256};
    use std::sync::LazyLock;

    static KEY: LazyLock<rsa::RsaPrivateKey> =
        LazyLock::new(|| rsa::RsaPrivateKey::new(&mut ChaCha20Rng::from_seed([9; 32]), 2048).unwrap());

    fn spki(modulus: &BigUint, exponent: &BigUint) -> Vec<u8> {
        let (modulus, exponent) = (modulus.to_bytes_be(), exponent.to_bytes_be());
        let key = rsa::pkcs1::RsaPublicKey {
            modulus: UintRef::new(&modulus).unwrap(),
            public_exponent: UintRef::new(&exponent).unwrap(),
        };
        let pkcs1 = rsa::pkcs1::der::Encode::to_der(&key).unwrap();
        let subject_public_key = BitStringRef::from_bytes(&pkcs1).unwrap();
        SubjectPublicKeyInfoRef { algorithm: plain::ALGORITHM, subject_public_key }.to_der().unwrap()
    }

    fn sign(message: &[u8]) -> Vec<u8> {
        KEY.sign(scheme(), &Sha256::digest(message)).unwrap()
    }

    /// What both say, which must be the same.
    fn verified(spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let (theirs, ours) = (Theirs::try_decode_x509(spki).unwrap(), plain::PublicKey::try_decode_x509(spki).unwrap());
        assert_eq!((ours.encode_x509(), ours.encode_pkcs1()), (theirs.encode_x509(), theirs.encode_pkcs1()));
        let said = ours.verify(message, signature);
        assert_eq!(said, theirs.verify(message, signature));
        said
    }

    #[test]
    fn they_agree_about_signatures() {
        let spki = spki(KEY.n(), KEY.e());
        let signature = sign(b"message");
        assert!(verified(&spki, b"message", &signature));
        assert!(!verified(&spki, b"massage", &signature));
        let number = BigUint::from_bytes_be(&signature);
        let beyond = (&number + KEY.n()).to_bytes_be();
        for wrong in [&[][..], &signature[1..], &[&[0], &signature[..]].concat(), &beyond, &[0; 256], &[0xff; 256]] {
            assert!(!verified(&spki, b"message", wrong));
        }
        // Another hash, and the digest without its DigestInfo.
        for other in [rsa::Pkcs1v15Sign::new_unprefixed(), rsa::Pkcs1v15Sign { hash_len: None, prefix: [0x30].into() }]
        {
            assert!(!verified(&spki, b"message", &KEY.sign(other, &Sha256::digest(b"message")).unwrap()));
        }
    }

    #[test]
    fn they_agree_about_strange_keys() {
        let signature = sign(b"message");
        let one = BigUint::from(1_u8);
        let padded = BigUint::from_bytes_be(&signature).modpow(KEY.e(), KEY.n()).to_bytes_be();
        let padded = [&[0], &padded[..]].concat();
        assert_eq!(padded.len(), 256);
        for exponent in [0, 1, 2, 3, 4, 65_536, 65_537, (1 << 33) - 1, 1 << 33, (1 << 33) + 1, u64::MAX] {
            let right = exponent == 65_537;
            let key = spki(KEY.n(), &BigUint::from(exponent));
            assert_eq!(verified(&key, b"message", &signature), right, "{exponent}");
            // To an exponent of one the padded digest is its own signature.
            assert!(!verified(&key, b"message", &padded));
        }
        assert!(!verified(&spki(&(KEY.n() + &one), KEY.e()), b"message", &signature));
        assert!(!verified(&spki(&(KEY.n() << 1), KEY.e()), b"message", &signature));
    }

    #[test]
    fn they_agree_about_large_keys() {
        // Any odd number is a modulus to those who only verify.
        for bits in [4096_usize, 4097, 8191, 8192] {
            let modulus = (BigUint::from(1_u8) << (bits - 1)) + BigUint::from(1_u8);
            let mut signature = vec![0; bits.div_ceil(8)];
            signature[bits.div_ceil(8) - 1] = 1;
            assert!(!verified(&spki(&modulus, &BigUint::from(3_u8)), b"message", &signature));
        }
        let key = rsa::RsaPrivateKey::new(&mut ChaCha20Rng::from_seed([8; 32]), 4104).unwrap();
        let signature = key.sign(scheme(), &Sha256::digest(b"message")).unwrap();
        assert!(verified(&spki(key.n(), key.e()), b"message", &signature));
    }

    #[test]
    fn ours_is_the_stricter_reader() {
        let der = spki(KEY.n(), KEY.e());
        let mut ec = der.clone();
        ec[14] ^= 1;
        for wrong in [&der[..der.len() - 1], &[&der[..], &[0]].concat(), &ec, b""] {
            assert!(plain::PublicKey::try_decode_x509(wrong).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_ours_reads_theirs_reads(at: prop::sample::Index, flip in 1..=255_u8) {
            let mut der = spki(KEY.n(), KEY.e());
            let at = at.index(der.len());
            der[at] ^= flip;
            if plain::PublicKey::try_decode_x509(&der).is_ok() {
                prop_assert!(!verified(&der, b"message", &sign(b"message")));
            }
        }

        #[test]
        fn no_changed_bit_of_a_signature_is_taken(at: prop::sample::Index, flip in 1..=255_u8) {
            let mut signature = sign(b"message");
            let at = at.index(signature.len());
            signature[at] ^= flip;
            prop_assert!(!verified(&spki(KEY.n(), KEY.e()), b"message", &signature));
        }
    }
}
