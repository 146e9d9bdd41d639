//! Which of several records is the newest (IPNS record spec, "Record Selection").

use core::cmp::Ordering;

use super::verify::Verified;

/// Orders two verified records of one name: the higher sequence wins, then the later end of life, then the bytewise
/// larger record. Equal only for identical bytes, so every node selects the same one.
pub fn compare(a: &Verified, b: &Verified) -> Ordering {
    (a.sequence(), a.eol(), a.as_bytes()).cmp(&(b.sequence(), b.eol(), b.as_bytes()))
}

/// The newest of several verified records of one name.
pub fn select<'a>(records: impl IntoIterator<Item = &'a Verified>) -> Option<&'a Verified> {
    records.into_iter().max_by(|a, b| compare(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyType, SecretKey, Signer};
    use crate::record::{Checks, RecordBuilder, Version};
    use crate::time::Timestamp;
    use proptest::prelude::*;

    fn record(sequence: u64, eol: i64, value: u8, v2_only: bool) -> Verified {
        let key = SecretKey::generate(KeyType::Ed25519, [3; 32], 0).unwrap();
        let value = format!("/ipfs/bafkqaaa/{value}").parse().unwrap();
        let mut builder = RecordBuilder::new(value, sequence, Timestamp::from_unix_secs(eol));
        builder.version = if v2_only { Version::V2Only } else { Version::V1AndV2 };
        let bytes = builder.sign(&key).unwrap().as_bytes().clone();
        Checks::at(Timestamp::UNIX_EPOCH).verify(bytes, &key.public_key().to_name()).unwrap()
    }

    fn any_record() -> impl Strategy<Value = Verified> {
        (0..3_u64, 1..4_i64, 0..3_u8, any::<bool>()).prop_map(|(s, e, v, v2)| record(s, e, v, v2))
    }

    fn max(a: Verified, b: Verified) -> Verified {
        select([&a, &b]).unwrap().clone()
    }

    #[test]
    fn sequence_then_life_then_bytes() {
        assert!(compare(&record(2, 1, 0, false), &record(1, 9, 9, false)).is_gt());
        assert!(compare(&record(1, 2, 0, false), &record(1, 1, 9, false)).is_gt());
        let (a, b) = (record(1, 1, 0, false), record(1, 1, 1, false));
        assert_eq!(compare(&a, &b), a.as_bytes().cmp(b.as_bytes()));
        assert!(select([]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_total_order(a in any_record(), b in any_record(), c in any_record()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &b).is_eq(), a.as_bytes() == b.as_bytes());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }

        #[test]
        fn a_semilattice(a in any_record(), b in any_record(), c in any_record()) {
            prop_assert_eq!(max(a.clone(), a.clone()), a.clone());
            prop_assert_eq!(max(a.clone(), b.clone()), max(b.clone(), a.clone()));
            prop_assert_eq!(max(max(a.clone(), b.clone()), c.clone()), max(a, max(b, c)));
        }
    }
}
