//! Writes that nobody waits for and that may come faster than a disk takes them: what DHT nodes keep for others.

use std::collections::BTreeMap;

use crate::store::{Table, Write};

/// The most writes that go to the store in one commit.
const MAX_BATCH: usize = 1024;

/// At most one commit is under way; what comes meanwhile is gathered by its key, so that a flood of writes to the same
/// keys costs no more memory than the keys.
#[derive(Default)]
pub(crate) struct Behind {
    gathered: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    busy: bool,
}

impl Behind {
    pub(crate) fn add(&mut self, write: Write) {
        self.gathered.insert((write.table, write.key), write.value);
    }

    /// The next commit, if none is under way.
    pub(crate) fn next(&mut self) -> Option<Vec<Write>> {
        if self.busy || self.gathered.is_empty() {
            return None;
        }
        self.busy = true;
        let mut batch = Vec::new();
        while batch.len() < MAX_BATCH
            && let Some(((table, key), value)) = self.gathered.pop_first()
        {
            batch.push(Write { table, key, value });
        }
        Some(batch)
    }

    /// The commit under way has ended.
    pub(crate) fn ended(&mut self) {
        self.busy = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: u8, value: u8) -> Write {
        Write { table: Table::Values, key: vec![key], value: Some(vec![value]) }
    }

    #[test]
    fn a_commit_is_bounded() {
        let mut behind = Behind::default();
        for n in 0..=MAX_BATCH {
            behind.add(Write { table: Table::Values, key: n.to_be_bytes().to_vec(), value: None });
        }
        assert_eq!(behind.next().map(|batch| batch.len()), Some(MAX_BATCH));
        behind.ended();
        assert_eq!(behind.next().map(|batch| batch.len()), Some(1));
    }

    #[test]
    fn one_commit_at_a_time_with_the_last_value_of_each_key() {
        let mut behind = Behind::default();
        assert_eq!(behind.next(), None);
        behind.add(write(1, 1));
        assert_eq!(behind.next(), Some(vec![write(1, 1)]));
        behind.add(write(1, 2));
        behind.add(write(2, 2));
        behind.add(write(1, 3));
        assert_eq!(behind.next(), None);
        behind.ended();
        assert_eq!(behind.next(), Some(vec![write(1, 3), write(2, 2)]));
    }
}
