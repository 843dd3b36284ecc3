//! Revocations and lies: honest engines agree on what leaves, and engines that do not hear of it, or that sign anew after a
//! restore, are caught.

use super::*;
use crate::config::EngineConfig;
use crate::engine::{Engine, Keep};
use crate::io::{Input, Output};
use crate::time::Now;
use crate::trust::{Fact, FactBody};
use crate::wire::Codec;
use crate::wire::v1::{Message, decode_frame};

/// The real engine, to which nobody tells of a revocation.
struct Deaf(Engine);

impl Machine for Deaf {
    fn handle(&mut self, now: Now, input: Input) {
        let input = match input {
            Input::Frame { link, bytes } => Input::Frame { link, bytes: without_revocations(bytes) },
            other => other,
        };
        self.0.handle(now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        self.0.poll()
    }
}

fn without_revocations(frame: Vec<u8>) -> Vec<u8> {
    let Ok(messages) = decode_frame(&frame) else { return frame };
    let mut out = Vec::new();
    for (message, _) in messages {
        let message = match message {
            Message::Facts { space, number, mut facts } => {
                let revokes = |fact: &Fact| matches!(fact.body(), FactBody::Revocation(_));
                facts.retain(|bytes| !Fact::from_bytes(bytes).is_ok_and(|fact| revokes(&fact)));
                Message::Facts { space, number, facts }
            }
            other => other,
        };
        message.append_to(&mut out);
    }
    out
}

fn deaf(config: EngineConfig, seed: [u8; 32]) -> Box<dyn Machine> {
    Box::new(Deaf(Engine::new(config, seed)))
}

/// The real engine, which takes every store for the one that it closed.
fn gullible(config: EngineConfig, seed: [u8; 32]) -> Box<dyn Machine> {
    Box::new(Engine::new(EngineConfig { store_identity: b"the same".to_vec(), ..config }, seed))
}

fn revoking() -> Scenario {
    let mut scenario = Scenario::plain(3, Profile::WIFI);
    scenario.pace = Duration::from_millis(300);
    let apart = Fault::Partition(vec![NodeId(0)], vec![NodeId(1), NodeId(2)], Duration::from_secs(6));
    scenario.faults.push((Duration::from_secs(6), apart));
    scenario.faults.push((Duration::from_secs(10), Fault::Revoke(NodeId(2), Keep::Known)));
    scenario
}

#[test]
fn what_a_revoked_device_wrote_leaves_on_every_peer_alike() {
    let (mut revoked, mut evicted) = (0, 0);
    for seed in 0..5 {
        let scenario = if seed < 2 { revoking() } else { Scenario::named("revocations", seed).unwrap() };
        let report = run(scenario, seed, super::super::node::engine).unwrap_or_else(|failure| panic!("{failure}"));
        (revoked, evicted) = (revoked + report.tally.revoked, evicted + report.tally.evicted);
    }
    assert!(revoked >= 4 && evicted > 0, "{revoked} revoked, {evicted} evicted");
}

#[test]
fn what_a_device_signed_twice_leaves_on_every_peer_alike() {
    let mut evicted = 0;
    for seed in 0..5 {
        let scenario = Scenario::named("liars", seed).unwrap();
        let report = run(scenario, seed, super::super::node::engine).unwrap_or_else(|failure| panic!("{failure}"));
        evicted += report.tally.evicted;
    }
    assert!(evicted > 0, "nothing was ever proved");
}

#[test]
fn an_engine_that_does_not_hear_of_revocations_is_caught() {
    let violation = caught(revoking, deaf);
    let expected = matches!(violation, Violation::BeyondFrontier { .. } | Violation::NotConverged { .. });
    assert!(expected, "{violation}");
}

#[test]
fn an_engine_that_goes_on_with_its_life_after_a_restore_is_caught() {
    let scenario = || {
        let mut scenario = Scenario::plain(3, Profile::LAN);
        scenario.pace = Duration::from_millis(200);
        // A copy of a store that was closed cleanly, put back after it has gone on.
        scenario.faults.push((Duration::from_secs(6), Fault::Fork(NodeId(1), Duration::from_millis(200))));
        scenario.faults.push((Duration::from_secs(12), Fault::Restore(NodeId(1), Duration::from_millis(200))));
        scenario
    };
    let violation = caught(scenario, gullible);
    let expected = matches!(
        violation,
        Violation::FalselyAccused { .. } | Violation::EvictedWithoutCause { .. } | Violation::WrongReply { .. }
    );
    assert!(expected, "{violation}");
    // The real one begins a new life then, and contradicts nothing.
    for seed in 0..3 {
        run(scenario(), seed, super::super::node::engine).unwrap_or_else(|failure| panic!("{failure}"));
    }
}
