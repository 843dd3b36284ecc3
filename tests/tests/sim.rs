//! The simulator over the real engine: many seeds in eight parts, every named scenario, and the same seed twice.
//!
//! `cargo xtask sim` runs more of them, `FORESHORE_LONG=1` multiplies these by twenty.

use std::time::Duration;

use foreshore::sim::check::Violation;
use foreshore::sim::cluster::Fault;
use foreshore::sim::disk::{DiskBug, DiskProfile};
use foreshore::sim::network::{NodeId, Profile};
use foreshore::sim::{self, NAMES, Options, Report, Scenario};

/// Seeds of one part.
const SEEDS: u64 = 13;
/// Seeds of this file begin here, far from those that `cargo xtask sim` begins with.
const FIRST: u64 = 1_000_000;

fn scale() -> u64 {
    if std::env::var_os("FORESHORE_LONG").is_some() { 20 } else { 1 }
}

/// Runs one part of the seeds; a failure says how to replay it.
fn part(number: u64) {
    let seeds = SEEDS * scale();
    let first = FIRST + number * seeds;
    for seed in first..first + seeds {
        let report = sim::run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.inputs > 0, "{report:?}");
    }
}

macro_rules! parts {
    ($($name:ident: $number:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                part($number);
            }
        )*
    };
}

parts! {
    promises_hold_in_storms_one: 0,
    promises_hold_in_storms_two: 1,
    promises_hold_in_storms_three: 2,
    promises_hold_in_storms_four: 3,
    promises_hold_in_storms_five: 4,
    promises_hold_in_storms_six: 5,
    promises_hold_in_storms_seven: 6,
    promises_hold_in_storms_eight: 7,
}

fn named(name: &str, seed: u64) -> Report {
    let scenario = Scenario::named(name, seed).expect("a name of the list");
    sim::run_scenario(scenario, seed, Options::default()).unwrap_or_else(|failure| panic!("{failure}"))
}

/// What `HashMap` order, a clock of its own or an address in a comparison would break.
#[test]
fn one_seed_gives_one_trace() {
    // A crowd takes minutes, and its peers run the same code as the others'.
    for (seed, name) in (7..).zip(NAMES).filter(|(_, name)| *name != "crowd") {
        let (first, second) = (named(name, seed), named(name, seed));
        assert_eq!(first, second, "{name}");
    }
    assert_ne!(named("links", 1).trace_hash, named("links", 2).trace_hash);
}

/// A short run in which node 1 dies again and again and its disk has a planted bug.
fn with_bug(bug: DiskBug, dies_every: Duration) -> Scenario {
    let mut scenario = Scenario::plain(3, Profile::WIFI);
    scenario.pace = Duration::from_millis(200);
    scenario.storm = Duration::from_secs(8);
    scenario.nodes[1].bug = Some(bug);
    // A slow disk, so that a crash finds writes under way.
    scenario.nodes[1].disk = DiskProfile::CARD;
    scenario.edges.retain(|(ends, _)| *ends != [NodeId(1), NodeId(2)]);
    for n in (1..).take_while(|n| dies_every * *n < scenario.storm) {
        scenario.faults.push((dies_every * n, Fault::Crash(NodeId(1), Duration::from_millis(100))));
    }
    scenario
}

/// What the checkers say to a planted bug.
fn caught(bug: DiskBug, dies_every: Duration) -> Violation {
    let run = |seed| sim::run_scenario(with_bug(bug, dies_every), seed, Options::default()).err();
    (0..12).find_map(run).unwrap_or_else(|| panic!("{bug:?} went unseen in twelve seeds")).violation
}

#[test]
fn a_disk_that_answers_before_it_is_durable_is_caught() {
    let violation = caught(DiskBug::AckBeforeDurable(Duration::from_millis(400)), Duration::from_millis(2_300));
    let expected = matches!(
        violation,
        Violation::AcknowledgedLost { .. }
            | Violation::Vanished { .. }
            | Violation::SpaceLost { .. }
            | Violation::NotSynced { .. }
            | Violation::Contract { .. }
    );
    assert!(expected, "{violation}");
}

#[test]
fn a_disk_that_tears_a_write_in_two_is_caught() {
    let violation = caught(DiskBug::TornTask, Duration::from_millis(900));
    println!("{violation}");
}
