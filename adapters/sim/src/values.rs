//! The records that passive servers keep. Millions of copies of a few hundred thousand: a copy is twelve bytes.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use ipns_core::dht::{Refused, VALUE_LIFETIME, ValueRecord};
use ipns_core::record::{Checks, compare};
use ipns_core::{Name, Timestamp, Verified};

/// A record that some server keeps, verified once for all of them.
#[derive(Debug)]
struct Known {
    record: Verified,
    copies: u32,
}

/// A name, and those of its records that some server keeps.
#[derive(Debug)]
struct Named {
    key: Bytes,
    known: Vec<u32>,
}

/// What a server keeps of a name: which record, and until which second.
#[derive(Debug, Clone, Copy)]
struct Copy {
    known: u32,
    until: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Values {
    names: Vec<Named>,
    by_key: HashMap<Bytes, u32>,
    known: Vec<Option<Known>>,
    /// Places in `known` that are free.
    free: Vec<u32>,
    /// By server and name.
    copies: HashMap<u32, HashMap<u32, Copy>>,
}

impl Values {
    fn known(&self, known: u32) -> Option<&Verified> {
        self.known[known as usize].as_ref().map(|known| &known.record)
    }

    /// The record that a server keeps under a key.
    pub(crate) fn get(&self, now: Duration, server: u32, key: &[u8]) -> Option<(&Bytes, &Verified)> {
        let name = self.by_key.get(key)?;
        let copy = self.copies.get(&server)?.get(name).filter(|copy| u64::from(copy.until) > now.as_secs())?;
        Some((&self.names[*name as usize].key, self.known(copy.known)?))
    }

    /// The servers that keep anything.
    pub(crate) fn servers(&self) -> impl Iterator<Item = u32> + '_ {
        self.copies.keys().copied()
    }

    /// A server is gone, and all that it kept.
    pub(crate) fn remove(&mut self, server: u32) {
        for (name, copy) in self.copies.remove(&server).unwrap_or_default() {
            self.drop_copy(name, copy.known);
        }
    }

    fn drop_copy(&mut self, name: u32, known: u32) {
        let Some(kept) = &mut self.known[known as usize] else { return };
        kept.copies -= 1;
        if kept.copies == 0 {
            self.known[known as usize] = None;
            self.free.push(known);
            self.names[name as usize].known.retain(|other| *other != known);
        }
    }

    /// A server is sent a record.
    pub(crate) fn put(
        &mut self,
        now: Duration,
        wall: Timestamp,
        server: u32,
        sent: &ValueRecord,
    ) -> Result<(), Refused> {
        let name = self.name(&sent.key);
        let same = |known: &&u32| self.known(**known).is_some_and(|record| *record.as_bytes() == sent.value);
        let known = self.names[name as usize].known.iter().find(same).copied();
        let record = match known.and_then(|known| self.known(known)) {
            Some(record) => record.clone(),
            None => {
                let of = Name::from_routing_key(&sent.key).map_err(|_| Refused::UnknownKey)?;
                Checks::at(Timestamp::MIN).verify(sent.value.clone(), &of)?
            }
        };
        if record.is_expired(wall) {
            Checks::at(wall).verify(sent.value.clone(), record.name())?;
        }
        let held = self.copies.get(&server).and_then(|copies| copies.get(&name)).copied();
        let alive = held.filter(|held| u64::from(held.until) > now.as_secs());
        if let Some(held) = alive.and_then(|held| self.known(held.known))
            && compare(&record, held).is_lt()
        {
            return Err(Refused::Older);
        }
        let until = now + VALUE_LIFETIME.min(record.eol().saturating_since(wall));
        let known = known.unwrap_or_else(|| self.add(name, record));
        self.known[known as usize].iter_mut().for_each(|known| known.copies += 1);
        let copy = Copy { known, until: u32::try_from(until.as_secs()).unwrap_or(u32::MAX) };
        self.copies.entry(server).or_default().insert(name, copy);
        if let Some(held) = held {
            self.drop_copy(name, held.known);
        }
        Ok(())
    }

    fn name(&mut self, key: &Bytes) -> u32 {
        if let Some(name) = self.by_key.get(key) {
            return *name;
        }
        let name = self.names.len() as u32;
        self.names.push(Named { key: key.clone(), known: Vec::new() });
        self.by_key.insert(key.clone(), name);
        name
    }

    fn add(&mut self, name: u32, record: Verified) -> u32 {
        let known = Some(Known { record, copies: 0 });
        let at = match self.free.pop() {
            Some(free) => {
                self.known[free as usize] = known;
                free
            }
            None => {
                self.known.push(known);
                self.known.len() as u32 - 1
            }
        };
        self.names[name as usize].known.push(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipns_core::key::{KeyType, SecretKey, Signer};
    use ipns_core::record::RecordBuilder;

    const WALL: Timestamp = Timestamp::UNIX_EPOCH;

    fn sent(sequence: u64, lives: u64) -> ValueRecord {
        let key = SecretKey::generate(KeyType::Ed25519, [1; 32], 0).unwrap();
        let eol = WALL + Duration::from_secs(lives);
        let record = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), sequence, eol).sign(&key).unwrap();
        let name = key.public_key().to_name();
        ValueRecord { key: name.routing_key().into(), value: record.as_bytes().clone(), received: None }
    }

    #[test]
    fn a_server_keeps_the_newest_and_nothing_is_left_of_what_nobody_keeps() {
        let mut values = Values::default();
        let now = Duration::ZERO;
        let (old, new) = (sent(1, 1000), sent(2, 100));
        for server in 0..3 {
            values.put(now, WALL, server, &old).unwrap();
        }
        values.put(now, WALL, 0, &new).unwrap();
        values.put(now, WALL, 0, &new).unwrap();
        assert!(matches!(values.put(now, WALL, 0, &old), Err(Refused::Older)));
        let sequence = |values: &Values, at, server| {
            values.get(Duration::from_secs(at), server, &old.key).map(|(_, record)| record.sequence())
        };
        assert_eq!([0, 1, 3].map(|server| sequence(&values, 99, server)), [Some(2), Some(1), None]);
        assert_eq!((sequence(&values, 100, 0), sequence(&values, 100, 1)), (None, Some(1)));
        for server in 0..3 {
            values.remove(server);
        }
        assert_eq!((values.known.len(), values.free.len(), values.copies.len()), (2, 2, 0));
        assert!(values.names[0].known.is_empty());
    }
}
