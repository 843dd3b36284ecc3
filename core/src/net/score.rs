//! What peers have done lately that no honest peer does, forgotten with time.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId as NetPeerId;

use crate::time::Timestamp;

/// Peers that are remembered; at the bound the one with the least goes.
const MAX_PEERS: usize = 1_024;

/// Below this share of the limit a peer that was shut out is let in again: one more violation shuts it out no sooner than
/// several would have at first.
const LET_IN: f64 = 0.5;

#[derive(Debug, Clone, Copy)]
struct Score {
    value: f64,
    at: Timestamp,
    shunned: bool,
}

/// Scores of peers; they halve in a fixed time.
#[derive(Debug)]
pub(crate) struct Scores {
    limit: f64,
    half_life: Duration,
    peers: BTreeMap<NetPeerId, Score>,
}

impl Scores {
    pub(crate) fn new(limit: u32, half_life: Duration) -> Self {
        Self {
            limit: f64::from(limit.max(1)),
            half_life: half_life.max(Duration::from_secs(1)),
            peers: BTreeMap::new(),
        }
    }

    fn faded(&self, score: &Score, now: Timestamp) -> f64 {
        score.value * (-now.since(score.at).as_secs_f64() / self.half_life.as_secs_f64()).exp2()
    }

    /// Counts a violation. Whether the peer is shut out by now.
    pub(crate) fn add(&mut self, peer: NetPeerId, now: Timestamp) -> bool {
        let before = self.peers.get(&peer).map_or(0.0, |score| self.faded(score, now));
        let was_shunned = self.is_shunned(&peer, now);
        let shunned = was_shunned || before + 1.0 >= self.limit;
        self.peers.insert(peer, Score { value: before + 1.0, at: now, shunned });
        if self.peers.len() > MAX_PEERS {
            let faded = |score: &Score| self.faded(score, now);
            let least =
                self.peers.iter().filter(|(id, _)| **id != peer).min_by(|a, b| faded(a.1).total_cmp(&faded(b.1)));
            if let Some(least) = least.map(|(id, _)| *id) {
                self.peers.remove(&least);
            }
        }
        shunned
    }

    /// Whether connections with the peer are refused.
    pub(crate) fn is_shunned(&self, peer: &NetPeerId, now: Timestamp) -> bool {
        self.peers.get(peer).is_some_and(|score| score.shunned && self.faded(score, now) >= self.limit * LET_IN)
    }

    /// How many peers are shut out.
    pub(crate) fn shunned(&self, now: Timestamp) -> usize {
        self.peers.keys().filter(|peer| self.is_shunned(peer, now)).count()
    }

    /// A peer is let in whatever it did.
    pub(crate) fn forgive(&mut self, peer: &NetPeerId) {
        self.peers.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Timestamp = |seconds| Timestamp::from_micros(seconds * 1_000_000);

    #[test]
    fn a_peer_that_goes_on_is_shut_out_and_let_in_again_after_a_while() {
        let mut scores = Scores::new(3, Duration::from_secs(600));
        let (liar, honest) = (NetPeerId::random(), NetPeerId::random());
        assert!(!scores.add(liar, AT(0)) && !scores.add(liar, AT(1)) && !scores.add(honest, AT(1)));
        // The first two have faded a little; one more shuts it out, and another one after that.
        assert!(!scores.add(liar, AT(2)) && scores.add(liar, AT(3)));
        assert!(scores.is_shunned(&liar, AT(4)) && !scores.is_shunned(&honest, AT(4)));
        assert_eq!(scores.shunned(AT(4)), 1);
        assert!(scores.is_shunned(&liar, AT(600)));
        assert!(!scores.is_shunned(&liar, AT(1_200)));
        scores.add(liar, AT(4));
        scores.forgive(&liar);
        assert!(!scores.is_shunned(&liar, AT(4)));
    }

    #[test]
    fn a_mistake_now_and_then_is_forgiven() {
        let mut scores = Scores::new(3, Duration::from_secs(600));
        let peer = NetPeerId::random();
        assert!((0..100).all(|hour| !scores.add(peer, AT(hour * 3_600))));
    }

    #[test]
    fn a_crowd_of_liars_does_not_grow_the_table_and_frees_none_of_the_worst() {
        let mut scores = Scores::new(2, Duration::from_secs(600));
        let worst = NetPeerId::random();
        (0..5).for_each(|n| assert_eq!(scores.add(worst, AT(0)), n > 0));
        (0..2 * MAX_PEERS).for_each(|_| assert!(!scores.add(NetPeerId::random(), AT(1))));
        assert_eq!(scores.peers.len(), MAX_PEERS);
        assert!(scores.is_shunned(&worst, AT(2)));
    }
}
