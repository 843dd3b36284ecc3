//! Clients that move: the engine keeps what they are promised, and an engine that forgets their bookmarks is caught.

use super::*;
use crate::config::EngineConfig;
use crate::engine::{Command, Engine};
use crate::io::{Input, Output};
use crate::session::Bookmark;
use crate::time::Now;

/// The real engine, told that every bookmark asks for nothing.
struct Forgetful(Engine);

impl Machine for Forgetful {
    fn handle(&mut self, now: Now, input: Input) {
        let input = match input {
            Input::Command { request, command: Command::ReadAtLeast { space, path, wait, .. } } => {
                let bookmark = Bookmark::new(space);
                Input::Command { request, command: Command::ReadAtLeast { space, path, bookmark, wait } }
            }
            Input::Command { request, command: Command::Reach { space, wait, .. } } => {
                let bookmark = Bookmark::new(space);
                Input::Command { request, command: Command::Reach { space, bookmark, wait } }
            }
            other => other,
        };
        self.0.handle(now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        self.0.poll()
    }
}

fn forgetful(config: EngineConfig, seed: [u8; 32]) -> Box<dyn Machine> {
    Box::new(Forgetful(Engine::new(config, seed)))
}

/// A few clients on a slow network that is cut now and then.
fn roaming() -> Scenario {
    let mut scenario = Scenario::plain(3, Profile::MOBILE);
    scenario.movers = 3;
    scenario.pace = Duration::from_millis(300);
    for n in 1..5 {
        let apart = Fault::Partition(vec![NodeId(0)], vec![NodeId(1), NodeId(2)], Duration::from_secs(2));
        scenario.faults.push((Duration::from_secs(3 * n), apart));
    }
    scenario
}

#[test]
fn an_engine_that_ignores_bookmarks_is_caught() {
    let violation = caught(roaming, forgetful);
    assert!(matches!(violation, Violation::SessionBroken { .. } | Violation::Uncaused { .. }), "{violation}");
}

#[test]
fn clients_that_move_see_what_they_have_seen() {
    let (mut reads, mut writes) = (0, 0);
    for seed in 0..4 {
        let report = run(roaming(), seed, super::super::node::engine).unwrap_or_else(|failure| panic!("{failure}"));
        (reads, writes) = (reads + report.tally.session_reads, writes + report.tally.session_writes);
    }
    assert!(reads > 50 && writes > 20, "{reads} reads, {writes} edits");
}

#[test]
fn moving_clients_leave_one_trace_a_seed() {
    let trace = |seed| {
        let scenario = Scenario::named("movers", seed).unwrap();
        let report = run(scenario, seed, super::super::node::engine).unwrap_or_else(|failure| panic!("{failure}"));
        report.trace_hash
    };
    assert_eq!(trace(4), trace(4));
}

#[test]
fn on_a_calm_network_few_clients_are_put_off() {
    let (mut answered, mut put_off) = (0, 0);
    for seed in 0..3 {
        let mut scenario = Scenario::plain(3, Profile::LAN);
        scenario.movers = 3;
        scenario.deletes_per_mille = 300;
        let report = run(scenario, seed, super::super::node::engine).unwrap_or_else(|failure| panic!("{failure}"));
        answered += report.tally.session_reads + report.tally.session_writes;
        put_off += report.tally.not_yet;
    }
    assert!(put_off * 10 < answered, "{put_off} put off, {answered} answered");
}
