//! What is due when: events in the order of (time, the order in which they were scheduled).

use std::collections::BTreeMap;

use crate::time::Timestamp;

/// A queue of events on virtual time.
#[derive(Debug, Clone)]
pub struct EventQueue<E> {
    events: BTreeMap<(Timestamp, u64), E>,
    scheduled: u64,
    now: Timestamp,
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), scheduled: 0, now: Timestamp::ZERO }
    }
}

impl<E> EventQueue<E> {
    /// Virtual time: that of the last event taken.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Schedules an event; a time that has passed means now.
    pub fn at(&mut self, time: Timestamp, event: E) {
        self.scheduled += 1;
        self.events.insert((time.max(self.now), self.scheduled), event);
    }

    /// Takes the next event if it is due at or before `until`, and moves time to it.
    pub fn next_until(&mut self, until: Timestamp) -> Option<(Timestamp, E)> {
        let entry = self.events.first_entry()?;
        if entry.key().0 > until {
            return None;
        }
        let ((time, _), event) = entry.remove_entry();
        self.now = time;
        Some((time, event))
    }

    /// Moves time on to `time` when nothing is due before it.
    pub fn advance(&mut self, time: Timestamp) {
        self.now = self.now.max(time);
    }

    /// Events that wait.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_instant_keep_their_order() {
        let mut queue = EventQueue::default();
        let at = Timestamp::from_micros;
        queue.at(at(20), "c");
        queue.at(at(10), "a");
        queue.at(at(10), "b");
        let mut taken = Vec::new();
        while let Some((_, event)) = queue.next_until(at(15)) {
            taken.push(event);
        }
        assert_eq!((taken, queue.len(), queue.now()), (vec!["a", "b"], 1, at(10)));
        queue.at(at(5), "late");
        assert_eq!(queue.next_until(at(15)), Some((at(10), "late")));
    }
}
