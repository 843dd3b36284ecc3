//! The simulator proved on a toy engine: honest toys keep every promise, and each planted bug is caught by the checker
//! that is there for it.

use std::time::Duration;

mod movers;
mod standing;

use super::check::Violation;
use super::cluster::Fault;
use super::disk::{DiskBug, DiskProfile};
use super::network::{Mischief, NodeId, Profile};
use super::node::{Factory, Machine};
use super::scenario::{Failure, Options, Report, Scenario, run_scenario};
use super::toy::{Flaw, Toy};

macro_rules! toy {
    ($flaw:expr) => {
        |config, seed| Box::new(Toy::new(config, seed, $flaw)) as Box<dyn Machine>
    };
}

fn run(scenario: Scenario, seed: u64, factory: Factory) -> Result<Report, Box<Failure>> {
    run_scenario(scenario, seed, Options { factory, ..Options::default() })
}

/// Toys know no interests, grants, epochs or tampered streams.
const FOR_TOYS: [&str; 6] = ["calm", "links", "partitions", "crashes", "late", "clocks"];

#[test]
fn honest_toys_keep_every_promise() {
    for seed in 0..12 {
        let name = FOR_TOYS[seed as usize % FOR_TOYS.len()];
        let scenario = Scenario::named(name, seed).unwrap();
        let report = run(scenario, seed, toy!(Flaw::None)).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.lines > 20, "{report:?}");
    }
}

#[test]
fn one_seed_gives_one_trace() {
    let trace = |seed| {
        let scenario = Scenario::named("crashes", seed).unwrap();
        run(scenario, seed, toy!(Flaw::None)).unwrap_or_else(|failure| panic!("{failure}")).trace_hash
    };
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}

/// Crashes node 1 every two seconds of an otherwise plain run.
fn crashing(mut scenario: Scenario) -> Scenario {
    for n in 1..9 {
        let at = Duration::from_millis(2_000 * n + 700);
        scenario.faults.push((at, Fault::Crash(NodeId(1), Duration::from_millis(300))));
    }
    scenario.pace = Duration::from_millis(250);
    scenario
}

/// The first violation that any of some seeds shows.
fn caught(scenario: impl Fn() -> Scenario, factory: Factory) -> Violation {
    let failure = (0..12).find_map(|seed| run(scenario(), seed, factory).err());
    failure.expect("one of twelve seeds shows the planted bug").violation
}

#[test]
fn a_disk_that_answers_too_early_is_caught() {
    let scenario = || {
        let mut scenario = crashing(Scenario::plain(2, Profile::MOBILE));
        scenario.nodes[1].bug = Some(DiskBug::AckBeforeDurable(Duration::from_secs(3)));
        scenario
    };
    let violation = caught(scenario, toy!(Flaw::None));
    let expected = matches!(
        violation,
        Violation::AcknowledgedLost { .. }
            | Violation::Vanished { .. }
            | Violation::SpaceLost { .. }
            | Violation::Contract { .. }
    );
    assert!(expected, "{violation}");
}

#[test]
fn an_engine_that_answers_too_early_is_caught() {
    let scenario = || {
        let mut scenario = crashing(Scenario::plain(2, Profile::MOBILE));
        scenario.nodes[1].disk = DiskProfile::CARD;
        scenario
    };
    let violation = caught(scenario, toy!(Flaw::EarlyAck));
    assert!(matches!(violation, Violation::AcknowledgedLost { .. } | Violation::Vanished { .. }), "{violation}");
}

#[test]
fn a_network_that_drops_and_alters_frames_for_ever_is_caught() {
    let scenario = || {
        let mut scenario = Scenario::plain(2, Profile::LAN);
        let mischief = Mischief { drop: 300, corrupt: 300, ..Mischief::NONE };
        scenario.faults.push((Duration::from_secs(1), Fault::Mischief(mischief)));
        scenario
    };
    // The toy checks nothing: what the network makes of its frames ends in its store.
    let violation = caught(scenario, toy!(Flaw::None));
    let expected = matches!(violation, Violation::NotConverged { .. } | Violation::Panicked { .. });
    assert!(expected, "{violation}");
}

#[test]
fn an_engine_that_forgets_deletions_is_caught() {
    let scenario = || {
        let mut scenario = Scenario::plain(3, Profile::LAN);
        scenario.deletes_per_mille = 1000;
        scenario
    };
    let violation = caught(scenario, toy!(Flaw::Undead));
    assert!(matches!(violation, Violation::NotConverged { .. } | Violation::CameBack { .. }), "{violation}");
}

#[test]
fn an_engine_that_never_falls_silent_is_caught() {
    let violation = caught(|| Scenario::plain(2, Profile::LAN), toy!(Flaw::Chatty));
    assert!(matches!(violation, Violation::Chatter { .. }), "{violation}");
}

#[test]
fn an_engine_that_ignores_interests_is_caught() {
    let scenario = || Scenario::named("interests", 3).unwrap();
    let violation = caught(scenario, toy!(Flaw::None));
    assert!(matches!(violation, Violation::Leaked { .. }), "{violation}");
}

#[test]
fn an_engine_that_talks_to_strangers_is_caught() {
    let scenario = || Scenario::named("roles", 3).unwrap();
    let violation = caught(scenario, toy!(Flaw::None));
    let expected = matches!(violation, Violation::Leaked { .. } | Violation::Contract { .. });
    assert!(expected, "{violation}");
}

#[test]
fn a_failure_names_its_seed_and_how_to_replay_it() {
    let failure = run(Scenario::plain(2, Profile::LAN), 3, toy!(Flaw::Chatty)).unwrap_err();
    let text = failure.to_string();
    assert!(text.starts_with("seed 3 (plain)") && text.contains("cargo xtask sim --seeds 1 --from 3"), "{text}");
}
