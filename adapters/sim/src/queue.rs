//! The event queue: what happens next, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Events by their time; those of one moment in the order in which they were put in.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// Nanoseconds, the place in the order of those of one moment, and the slot.
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    /// What is in the heap is small and ordered; the events stay where they are.
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), sequence: 0 }
    }

    pub(crate) fn push(&mut self, at: Duration, event: E) {
        self.sequence += 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(event);
                slot
            }
            None => {
                self.slots.push(Some(event));
                self.slots.len() as u32 - 1
            }
        };
        self.heap.push(Reverse((nanos(at), self.sequence, slot)));
    }

    pub(crate) fn next_time(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((at, ..))| Duration::from_nanos(*at))
    }

    pub(crate) fn pop(&mut self) -> Option<(Duration, E)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        let event = self.slots[slot as usize].take()?;
        self.free.push(slot);
        Some((Duration::from_nanos(at), event))
    }
}

/// What is later than 584 years comes then.
fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_and_then_by_order() {
        let mut queue = Queue::new();
        for (at, event) in [(3, 'd'), (1, 'a'), (3, 'e'), (1, 'b'), (2, 'c')] {
            queue.push(Duration::from_secs(at), event);
        }
        assert_eq!(queue.next_time(), Some(Duration::from_secs(1)));
        let order: String = std::iter::from_fn(|| queue.pop().map(|(_, event)| event)).collect();
        assert_eq!(order, "abcde");
        queue.push(Duration::ZERO, 'x');
        assert_eq!(queue.slots.len(), 5);
        queue.push(Duration::MAX, 'z');
        queue.push(Duration::from_secs(500 * 366 * 86_400), 'y');
        let last: String = std::iter::from_fn(|| queue.pop().map(|(_, event)| event)).collect();
        assert_eq!(last, "xyz");
    }
}
