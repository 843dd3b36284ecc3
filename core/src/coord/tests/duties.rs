//! What a leader counts.

use super::*;
use crate::coord::duty::{Duties, PROPOSE_AGAIN_MS, Touch};
use crate::coord::tree::CONTAINER_MS;

/// A leader that applies what it proposes.
struct Leader {
    rig: Rig,
    duties: Duties,
}

impl Leader {
    fn new(rig: Rig) -> Self {
        let mut duties = Duties::of(&rig.machine);
        duties.advance(0);
        Self { rig, duties }
    }

    fn run<T>(&mut self, act: impl FnOnce(&mut Rig) -> T) -> T {
        let result = act(&mut self.rig);
        let last = self.rig.last.clone();
        self.duties.observe(&last);
        // A tick at the very moment: what began is counted from here.
        self.duties.advance(0);
        self.same_as_new();
        result
    }

    /// Lets time pass in one step, and applies what is due.
    fn pass(&mut self, ms: u64) -> usize {
        let due = self.duties.advance(ms);
        for body in &due {
            self.run(|rig| rig.apply(body.clone()));
        }
        due.len()
    }

    /// What was gathered from outputs is what a new leader would find.
    fn same_as_new(&self) {
        assert_eq!(self.duties.len(), Duties::of(&self.rig.machine).len());
    }
}

#[test]
fn a_silent_session_expires_after_its_ttl_and_a_busy_one_lives() {
    let mut leader = Leader::new(Rig::with_sessions(3));
    assert_eq!(leader.pass(9_999), 0);
    leader.run(|rig| rig.op(1, check("/", -1))).unwrap();
    assert_eq!(leader.duties.touch(SessionId(2)), Touch::Renewed);
    leader.duties.advance(0);
    assert_eq!(leader.pass(1), 1);
    assert_eq!(leader.rig.last.ended, [SessionId(3)]);
    assert_eq!(leader.duties.touch(SessionId(3)), Touch::Unknown);
    assert_eq!(leader.pass(9_998), 0);
    assert_eq!(leader.pass(1), 2);
    assert!(leader.duties.is_empty());
}

/// A leader that had stood still took what waited for it, then let the time pass that it had missed: sessions that had just
/// given a sign of life were expired at once.
#[test]
fn time_in_which_a_leader_stood_still_is_not_charged_to_what_began_afterwards() {
    let mut leader = Leader::new(Rig::with_sessions(2));
    assert_eq!(leader.pass(9_000), 0);
    assert_eq!(leader.duties.touch(SessionId(1)), Touch::Renewed);
    let due = leader.duties.advance(9_500);
    assert!(matches!(due[..], [Body::Expire { session: SessionId(2), .. }]), "{due:?}");
    assert_eq!(leader.duties.advance(9_999).len(), 1, "the other's expiry again");
    let due = leader.duties.advance(1);
    assert!(matches!(due[..], [Body::Expire { session: SessionId(1), .. }]), "{due:?}");
}

#[test]
fn no_sign_of_life_is_taken_once_the_expiry_is_proposed() {
    let mut leader = Leader::new(Rig::with_sessions(1));
    assert_eq!(leader.duties.next_ms(), Some(10_000));
    assert_eq!(leader.duties.advance(10_000).len(), 1);
    assert_eq!(leader.duties.touch(SessionId(1)), Touch::Expiring);
    // The proposal was lost: it is made again.
    assert_eq!(leader.duties.advance(PROPOSE_AGAIN_MS - 1).len(), 0);
    assert_eq!(leader.duties.advance(1).len(), 1);
    // A request that was ahead of it in the log saves the session.
    leader.run(|rig| rig.op(1, check("/", -1))).unwrap();
    assert_eq!(leader.duties.touch(SessionId(1)), Touch::Renewed);
}

#[test]
fn a_new_leader_gives_everything_its_full_period() {
    let mut leader = Leader::new(Rig::with_sessions(1));
    leader.run(|rig| rig.op(1, create("/t", Mode::Ttl(500)))).unwrap();
    assert_eq!(leader.pass(499), 0);
    let mut leader = Leader::new(std::mem::replace(&mut leader.rig, Rig::new()));
    assert_eq!(leader.pass(499), 0);
    assert_eq!(leader.pass(1), 1);
    assert!(leader.rig.machine.tree().stat("/t").is_err());
}

#[test]
fn ttl_nodes_and_containers_are_counted_while_they_have_no_children() {
    let mut leader = Leader::new(Rig::with_sessions(1));
    leader.run(|rig| rig.op(1, create("/t", Mode::Ttl(500)))).unwrap();
    leader.run(|rig| rig.op(1, create("/c", Mode::Container))).unwrap();
    assert_eq!(leader.duties.len(), 2, "the session and the TTL node");
    leader.run(|rig| rig.create("/t/x"));
    leader.run(|rig| rig.create("/c/x"));
    assert_eq!(leader.duties.len(), 1);
    leader.run(|rig| rig.op(1, delete("/t/x", -1))).unwrap();
    leader.run(|rig| rig.op(1, delete("/c/x", -1))).unwrap();
    assert_eq!(leader.duties.len(), 3);
    assert_eq!(leader.pass(400), 0);
    leader.run(|rig| rig.op(1, set("/t", "again", -1))).unwrap();
    assert_eq!(leader.pass(400), 0);
    assert_eq!(leader.pass(100), 1);
    assert!(leader.rig.machine.tree().stat("/t").is_err());
    while leader.duties.advance(0).is_empty() && leader.rig.machine.tree().stat("/c").is_ok() {
        leader.run(|rig| rig.op(1, check("/", -1))).unwrap();
        leader.pass(5_000);
    }
    assert!(leader.rig.machine.tree().stat("/c").is_err());
    assert!(leader.rig.machine.sessions().find(SessionId(1)).is_some());
    // Created and deleted by hand, in one entry.
    leader.run(|rig| rig.ask(1, Command::Multi(vec![create("/u", Mode::Ttl(9)), delete("/u", -1)]))).unwrap();
    assert_eq!(leader.duties.len(), 1);
    assert_eq!(CONTAINER_MS, 60_000);
}

#[test]
fn waiters_delays_and_claims_are_counted_while_they_last() {
    let mut leader = Leader::new(Rig::with_sessions(3));
    let lock = |wait, delay| acquire(Kind::Lock, "/l", Share::Exclusive, wait, delay);
    leader.run(|rig| rig.ask(1, lock(Wait::Deadline(700), 300))).unwrap();
    assert_eq!(leader.duties.len(), 3, "granted at once: no deadline runs");
    leader.run(|rig| rig.ask(2, lock(Wait::Deadline(700), 0))).unwrap();
    assert_eq!(leader.duties.len(), 4);
    leader.pass(700);
    assert_eq!(leader.rig.last.settled[0].reply, Err(CoordError::DeadlinePassed));
    assert_eq!(leader.duties.len(), 3);
    leader.run(|rig| rig.ask(2, lock(Wait::Forever, 0))).unwrap();
    leader.run(|rig| rig.expire(1));
    assert_eq!(leader.duties.len(), 3, "two sessions and the delay");
    leader.pass(300);
    assert_eq!(leader.rig.last.settled, [granted(2, 1, leader.rig.index)]);
    assert_eq!(leader.duties.len(), 2);
    leader.run(|rig| rig.ask(2, Command::Enqueue { path: "/q".into(), body: data("x"), max_attempts: 2 })).unwrap();
    leader.run(|rig| rig.ask(3, Command::Claim { path: "/q".into(), visibility_ms: 50 })).unwrap();
    assert_eq!(leader.duties.len(), 3);
    leader.pass(50);
    assert_eq!(leader.rig.machine.queues().find(&path("/q")).unwrap().ready(), 1);
    assert_eq!(leader.duties.len(), 2);
}
