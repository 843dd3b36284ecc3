//! Soft state of the real engine in storms, and planted bugs that the checkers catch.

use std::time::Duration;

use crate::config::EngineConfig;
use crate::engine::Engine;
use crate::io::{Input, Output};
use crate::sim::check::Violation;
use crate::sim::cluster::Fault;
use crate::sim::network::{NodeId, Profile};
use crate::sim::node::Machine;
use crate::sim::{Options, Report, Scenario, run_scenario};
use crate::time::{Now, Timestamp, WallTime};

fn named(name: &str, seed: u64) -> Report {
    let scenario = Scenario::named(name, seed).unwrap();
    run_scenario(scenario, seed, Options::default()).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn soft_promises_hold_in_storms() {
    let seeds = if std::env::var_os("FORESHORE_LONG").is_some() { 100 } else { 5 };
    for name in ["presence", "sleepers", "lapses", "replays"] {
        for seed in 500..500 + seeds {
            named(name, seed);
        }
    }
}

#[test]
fn one_seed_gives_one_trace_with_soft_state() {
    assert_eq!(named("sleepers", 7).trace_hash, named("sleepers", 7).trace_hash);
    assert_ne!(named("sleepers", 7).trace_hash, named("sleepers", 8).trace_hash);
}

/// Three peers with soft state, one of which dies for good in the middle.
fn a_death(at: Duration) -> Scenario {
    let mut scenario = Scenario::plain(3, Profile::LAN);
    scenario.soft_per_mille = 900;
    scenario.wall_error = Duration::from_secs(60);
    scenario.storm = Duration::from_secs(120);
    scenario.faults.push((at, Fault::Crash(NodeId(1), Duration::from_secs(300))));
    scenario
}

/// An engine whose clocks run at a tenth of their speed: its leases lapse far too late.
struct Slow(Engine);

impl Machine for Slow {
    fn handle(&mut self, now: Now, input: Input) {
        let mono = Timestamp::from_micros(now.mono.as_micros() / 10);
        self.0.handle(Now { mono, wall: WallTime(now.wall.0 / 10) }, input);
    }

    fn poll(&mut self) -> Option<Output> {
        match self.0.poll() {
            Some(Output::Wake { at }) => Some(Output::Wake { at: Timestamp::from_micros(at.as_micros() * 10) }),
            other => other,
        }
    }
}

/// An engine that keeps what it is told of others' deaths to itself.
struct Silent(Engine);

impl Machine for Silent {
    fn handle(&mut self, now: Now, input: Input) {
        self.0.handle(now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        loop {
            match self.0.poll() {
                Some(Output::Event(crate::engine::Event::SoftChanged { event, .. }))
                    if event.change == crate::engine::SoftChange::Expired => {}
                other => return other,
            }
        }
    }
}

fn caught(factory: fn(EngineConfig, [u8; 32]) -> Box<dyn Machine>) -> Violation {
    let options = Options { factory, ..Options::default() };
    let failure = (0..6).find_map(|seed| run_scenario(a_death(Duration::from_secs(40)), seed, options).err());
    failure.expect("one of six seeds shows the planted bug").violation
}

#[test]
fn an_honest_engine_survives_a_death() {
    let scenario = a_death(Duration::from_secs(40));
    run_scenario(scenario, 3, Options::default()).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn an_engine_that_lets_leases_live_too_long_is_caught() {
    let violation = caught(|config, seed| Box::new(Slow(Engine::new(config, seed))));
    assert!(matches!(violation, Violation::SoftOutlived { .. }), "{violation}");
}

#[test]
fn an_engine_that_does_not_tell_of_lapses_is_caught() {
    let violation = caught(|config, seed| Box::new(Silent(Engine::new(config, seed))));
    assert!(matches!(violation, Violation::SoftOutlived { .. } | Violation::WrongReply { .. }), "{violation}");
}
