//! Topics of the real engine in storms, and planted bugs that the checkers catch.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::EngineConfig;
use crate::engine::{Engine, Event};
use crate::id::Path;
use crate::io::{Input, Output};
use crate::sim::check::Violation;
use crate::sim::network::Profile;
use crate::sim::node::Machine;
use crate::sim::{Options, Report, Scenario, run_scenario};
use crate::time::Now;

fn named(seed: u64) -> Report {
    let scenario = Scenario::named("topics", seed).unwrap();
    run_scenario(scenario, seed, Options::default()).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn topic_promises_hold_in_storms() {
    let seeds = if std::env::var_os("FORESHORE_LONG").is_some() { 300 } else { 14 };
    let heard: u64 = (700..700 + seeds).map(|seed| named(seed).tally.signals).sum();
    assert!(heard > 50 * seeds, "{heard} signals in {seeds} runs");
}

#[test]
fn one_seed_gives_one_trace_with_topics() {
    assert_eq!(named(7).trace_hash, named(7).trace_hash);
    assert_ne!(named(7).trace_hash, named(8).trace_hash);
}

/// An engine between which and its programs somebody tampers with signals.
struct Tampered {
    engine: Engine,
    held: VecDeque<Output>,
    /// Signals go out by twos.
    pairs: bool,
    ready: VecDeque<Output>,
    tamper: fn(&mut VecDeque<Output>, Output),
}

impl Machine for Tampered {
    fn handle(&mut self, now: Now, input: Input) {
        self.engine.handle(now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Event(Event::Signalled { ref event, .. }) if !event.mine => {
                    (self.tamper)(&mut self.held, output)
                }
                other => return Some(other),
            }
        }
        // Where the order is tampered with, a single one waits for the next, which goes first.
        if self.pairs && self.ready.is_empty() && self.held.len() >= 2 {
            self.ready.extend(self.held.drain(..2).rev());
        }
        if self.pairs { self.ready.pop_front() } else { self.held.pop_front() }
    }
}

fn plain() -> Scenario {
    let mut scenario = Scenario::plain(3, Profile::LAN);
    scenario.topics_per_mille = 800;
    scenario.wall_error = Duration::from_secs(60);
    scenario
}

fn caught(factory: fn(EngineConfig, [u8; 32]) -> Box<dyn Machine>) -> Violation {
    let options = Options { factory, ..Options::default() };
    let failure = (0..4).find_map(|seed| run_scenario(plain(), seed, options).err());
    failure.expect("one of four seeds shows the planted bug").violation
}

macro_rules! tampered {
    ($tamper:expr) => {
        tampered!($tamper, false)
    };
    ($tamper:expr, $pairs:expr) => {
        |config, seed| {
            let engine = Engine::new(config, seed);
            Box::new(Tampered { engine, held: VecDeque::new(), pairs: $pairs, ready: VecDeque::new(), tamper: $tamper })
                as Box<dyn Machine>
        }
    };
}

fn copy(output: &Output, change: impl FnOnce(&mut crate::engine::TopicEvent)) -> Output {
    let Output::Event(Event::Signalled { space, event }) = output else { panic!("only signals are tampered with") };
    let (space, mut event) = (*space, event.clone());
    change(&mut event);
    Output::Event(Event::Signalled { space, event })
}

#[test]
fn an_engine_that_tampers_with_nothing_passes() {
    let options = Options { factory: tampered!(|held, output| held.push_back(output)), ..Options::default() };
    run_scenario(plain(), 1, options).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn an_engine_that_delivers_twice_is_caught() {
    let violation = caught(tampered!(|held, output| {
        held.push_back(copy(&output, |_| {}));
        held.push_back(output);
    }));
    assert!(matches!(violation, Violation::TopicBroken { .. }), "{violation}");
}

#[test]
fn an_engine_that_does_not_tell_what_was_missed_is_caught() {
    // Every third is lost.
    let violation = caught(tampered!(|held, output| {
        let Output::Event(Event::Signalled { event, .. }) = &output else { return };
        if event.seq % 3 != 0 {
            held.push_back(output);
        }
    }));
    assert!(matches!(violation, Violation::TopicBroken { .. }), "{violation}");
}

#[test]
fn an_engine_that_delivers_nothing_is_caught() {
    let violation = caught(tampered!(|_, _| {}));
    assert!(matches!(violation, Violation::TopicLost { .. }), "{violation}");
}

#[test]
fn an_engine_that_delivers_elsewhere_is_caught() {
    let violation = caught(tampered!(|held, output| {
        held.push_back(copy(&output, |event| event.path = Path::parse("/elsewhere").expect("a path")));
    }));
    assert!(matches!(violation, Violation::TopicForeign { .. }), "{violation}");
}

#[test]
fn an_engine_that_delivers_in_another_order_is_caught() {
    let violation = caught(tampered!(|held, output| held.push_back(output), true));
    assert!(matches!(violation, Violation::TopicBroken { .. }), "{violation}");
}
