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
    for seed in 0..3 {
        let report = run(roaming(), seed, super::super::node::engine).unwrap_or_else(|failure| panic!("{failure}"));
        let tally = report.tally;
        assert!(tally.session_reads > 20 && tally.session_writes > 5, "{tally:?}");
    }
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
