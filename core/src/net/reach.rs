//! One peer to reach: when to try, by which of its addresses, and how long to wait after it failed.
//!
//! **Backoff** with decorrelated jitter (M. Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015): each
//! wait is drawn between the shortest one and three times the wait before, up to the longest, so that peers which lost the
//! same server do not come back in step, at the bound neither. It starts anew once a connection has lived for [`STABLE`],
//! and when the network is known to be back.
//!
//! **Direct first.** An attempt goes to the addresses without a relay; those through one follow at once if it fails. A
//! circuit costs the relay's traffic and a longer way, and an open one would often win a race.
//!
//! Pure: time and randomness come in, dialling is the driver's.

use std::time::Duration;

use libp2p::Multiaddr;
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use super::route;
use crate::time::Timestamp;

/// A connection that lived this long was a success: the next failure starts from the shortest wait.
pub(crate) const STABLE: Duration = Duration::from_secs(10);

/// Bounds of the wait between two attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest wait. Default 250 ms.
    pub min: Duration,
    /// The longest wait, however often it failed. Default 30 s: a peer that comes back is found within it, and a dead
    /// address costs a packet every half minute.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_millis(250), max: Duration::from_secs(30) }
    }
}

/// The waits between attempts that fail.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Retry {
    last: Option<Duration>,
    failures: u32,
}

impl Retry {
    /// How long to wait after another failure.
    pub(crate) fn next(&mut self, backoff: Backoff, rng: &mut ChaCha12Rng) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let top = self.last.unwrap_or(backoff.min).saturating_mul(3).min(backoff.max).max(backoff.min);
        let range = u64::try_from((top - backoff.min).as_micros()).unwrap_or(u64::MAX - 1);
        let wait = backoff.min + Duration::from_micros(rng.next_u64() % (range + 1));
        self.last = Some(wait);
        wait
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be dialled at this time.
    Waiting(Timestamp),
    /// An attempt is under way.
    Dialling,
    /// Connected, or not to be dialled for now.
    Resting,
}

/// Where a peer stands with being reached.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    state: State,
    retry: Retry,
    /// The direct addresses have just failed: those through relays are next.
    relayed: bool,
    /// The network came back while an attempt was under way, which may have been lost with it.
    hurried: bool,
}

impl Reach {
    /// To be dialled at this time.
    pub(crate) fn at(at: Timestamp) -> Self {
        Self { state: State::Waiting(at), retry: Retry::default(), relayed: false, hurried: false }
    }

    /// At rest until [`Reach::disconnected`] or [`Reach::hurry`].
    pub(crate) fn resting() -> Self {
        Self { state: State::Resting, ..Self::at(Timestamp::ZERO) }
    }

    /// When to dial, if that is only a question of time.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        if let State::Waiting(at) = self.state { Some(at) } else { None }
    }

    /// Whether an attempt is under way.
    pub(crate) fn is_dialling(&self) -> bool {
        self.state == State::Dialling
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.retry.failures()
    }

    /// An attempt begins: which of the addresses it goes to.
    pub(crate) fn begin(&mut self, addresses: &[Multiaddr]) -> Vec<Multiaddr> {
        self.state = State::Dialling;
        let (relayed, direct): (Vec<_>, Vec<_>) = addresses.iter().cloned().partition(route::is_relayed);
        self.relayed = !relayed.is_empty() && (self.relayed || direct.is_empty());
        if self.relayed { relayed } else { direct }
    }

    /// Not to be dialled for now.
    pub(crate) fn rest(&mut self) {
        self.state = State::Resting;
    }

    /// A connection is up.
    pub(crate) fn connected(&mut self) {
        self.state = State::Resting;
        (self.relayed, self.hurried) = (false, false);
    }

    /// The attempt failed. `relays`: the peer has addresses through relays too.
    pub(crate) fn failed(&mut self, relays: bool, now: Timestamp, backoff: Backoff, rng: &mut ChaCha12Rng) {
        let through_relays = std::mem::take(&mut self.relayed);
        self.state = if relays && !through_relays {
            self.relayed = true;
            State::Waiting(now)
        } else if std::mem::take(&mut self.hurried) {
            State::Waiting(now)
        } else {
            State::Waiting(now + self.retry.next(backoff, rng))
        };
    }

    /// The last connection is gone after `lived`.
    pub(crate) fn disconnected(&mut self, lived: Duration, now: Timestamp, backoff: Backoff, rng: &mut ChaCha12Rng) {
        if lived >= STABLE {
            self.retry = Retry::default();
        }
        if self.state == State::Resting {
            self.state = State::Waiting(now + self.retry.next(backoff, rng));
        }
    }

    /// Dials at once, as if it had never failed, also a peer at rest.
    pub(crate) fn hurry(&mut self, now: Timestamp) {
        self.retry = Retry::default();
        match self.state {
            State::Dialling => self.hurried = true,
            _ => self.state = State::Waiting(now),
        }
    }

    /// Dials at once, failures counting on.
    pub(crate) fn free(&mut self, now: Timestamp) {
        if self.state != State::Dialling {
            self.state = State::Waiting(now);
        }
    }

    /// The network is back: what waits is dialled at once, and what is being dialled once more if it fails.
    pub(crate) fn network_back(&mut self, now: Timestamp) {
        if self.state != State::Resting {
            self.hurry(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    const AT: fn(u64) -> Timestamp = |ms| Timestamp::from_micros(ms * 1000);

    fn rng(seed: u64) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(seed)
    }

    fn direct() -> Multiaddr {
        "/ip4/127.0.0.1/tcp/1".parse().unwrap()
    }

    fn circuit() -> Multiaddr {
        let relay = libp2p::PeerId::random();
        format!("/ip4/127.0.0.1/tcp/2/p2p/{relay}/p2p-circuit").parse().unwrap()
    }

    #[test]
    fn waits_lie_between_the_shortest_and_three_times_the_one_before() {
        let backoff = Backoff::default();
        for seed in 0..50 {
            let (mut rng, mut retry, mut before) = (rng(seed), Retry::default(), backoff.min);
            for _ in 0..40 {
                let wait = retry.next(backoff, &mut rng);
                assert!(wait >= backoff.min && wait <= (before * 3).min(backoff.max), "{wait:?} after {before:?}");
                before = wait;
            }
            assert_eq!(retry.failures(), 40);
        }
    }

    #[test]
    fn many_peers_that_lost_one_server_do_not_come_back_together() {
        let backoff = Backoff::default();
        let mut waits: Vec<Duration> = (0..200)
            .map(|seed| {
                let (mut rng, mut retry) = (rng(seed), Retry::default());
                (0..20).map(|_| retry.next(backoff, &mut rng)).last().unwrap()
            })
            .collect();
        waits.sort_unstable();
        let second = Duration::from_secs(1);
        let crowd =
            waits.iter().map(|from| waits.iter().filter(|w| **w >= *from && **w < *from + second).count()).max();
        assert!(crowd.unwrap() <= 50, "{crowd:?} of 200 peers dial within one second");
    }

    #[test]
    fn a_connection_that_lived_starts_the_waits_anew_and_one_that_did_not_goes_on() {
        let (backoff, mut rng) = (Backoff::default(), rng(1));
        let mut reach = Reach::at(AT(0));
        for _ in 0..10 {
            reach.begin(&[direct()]);
            reach.failed(false, AT(0), backoff, &mut rng);
        }
        reach.connected();
        reach.disconnected(Duration::from_secs(1), AT(0), backoff, &mut rng);
        assert_eq!(reach.failures(), 11);
        reach.connected();
        reach.disconnected(STABLE, AT(0), backoff, &mut rng);
        assert_eq!(reach.failures(), 1);
        assert!(reach.due().unwrap() <= AT(750));
    }

    #[test]
    fn relays_are_tried_at_once_when_the_direct_addresses_fail_and_only_then() {
        let (backoff, mut rng) = (Backoff::default(), rng(1));
        let (direct, circuit) = (direct(), circuit());
        let both = [circuit.clone(), direct.clone()];
        let mut reach = Reach::at(AT(0));
        for _ in 0..3 {
            assert_eq!(reach.begin(&both), std::slice::from_ref(&direct));
            reach.failed(true, AT(5), backoff, &mut rng);
            assert_eq!(reach.due(), Some(AT(5)));
            assert_eq!(reach.begin(&both), std::slice::from_ref(&circuit));
            reach.failed(true, AT(5), backoff, &mut rng);
            assert!(reach.due().unwrap() > AT(5));
        }
        let mut only = Reach::at(AT(0));
        assert_eq!(only.begin(std::slice::from_ref(&circuit)), [circuit]);
        only.failed(true, AT(5), backoff, &mut rng);
        assert!(only.due().unwrap() > AT(5), "there is nothing else to try");
    }

    #[test]
    fn a_network_that_comes_back_is_used_at_once_also_by_an_attempt_that_was_lost_with_it() {
        let (backoff, mut rng) = (Backoff::default(), rng(1));
        let mut reach = Reach::at(AT(0));
        reach.begin(&[direct()]);
        reach.failed(false, AT(0), backoff, &mut rng);
        reach.network_back(AT(1));
        assert_eq!(reach.due(), Some(AT(1)));
        reach.begin(&[direct()]);
        reach.network_back(AT(2));
        assert!(reach.is_dialling());
        reach.failed(false, AT(3), backoff, &mut rng);
        assert_eq!(reach.due(), Some(AT(3)));
        reach.connected();
        reach.network_back(AT(4));
        assert_eq!(reach.due(), None, "a peer that is connected is left alone");
    }
}
