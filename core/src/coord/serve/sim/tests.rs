//! Voters and clients keep every promise on every seed that is tried, a seed gives one trace, and what is planted is caught.

use super::{Options, Planted, Report, Violation, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Forty by default, in four parts that run at once; `COORD_FROM` and `COORD_SEEDS` choose others, `COORD_ECHO` prints every
/// line. `cargo xtask sim --scenario coord` runs many more.
fn clients_are_told_the_truth(part: u64) {
    let seeds = number("COORD_SEEDS", 40).div_ceil(4);
    let from = number("COORD_FROM", 0) + part * seeds;
    let options = Options { echo: std::env::var_os("COORD_ECHO").is_some(), ..Options::default() };
    let mut total = Report::default();
    for seed in from..from + seeds {
        total.add(&run(seed, options).unwrap_or_else(|failure| panic!("{failure}")));
    }
    println!("{seeds} seeds from {from}: {total:?}");
    assert!(total.replies > 50 * seeds && total.reads > 50 * seeds && total.operations > 50 * seeds);
    assert!(total.grants > 2 * seeds && total.events > 10 * seeds && total.leaders > seeds);
    assert_eq!(total.undecided, 0);
}

#[test]
fn clients_are_told_the_truth_1() {
    clients_are_told_the_truth(0);
}

#[test]
fn clients_are_told_the_truth_2() {
    clients_are_told_the_truth(1);
}

#[test]
fn clients_are_told_the_truth_3() {
    clients_are_told_the_truth(2);
}

#[test]
fn clients_are_told_the_truth_4() {
    clients_are_told_the_truth(3);
}

#[test]
fn one_seed_gives_one_trace() {
    let trace = |seed| run(seed, Options::default()).unwrap_or_else(|failure| panic!("{failure}")).trace;
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}

fn caught(bug: Planted) -> Violation {
    let options = Options { planted: Some(bug), ..Options::default() };
    let failure = (0..60).find_map(|seed| run(seed, options).err());
    failure.expect("one of sixty seeds shows the planted bug").violation
}

#[test]
fn what_is_acknowledged_before_it_is_durable_is_caught() {
    let violation = caught(Planted::AcknowledgeBeforeFsync);
    assert!(
        matches!(
            violation,
            Violation::Consensus(_)
                | Violation::NotLinearizable { .. }
                | Violation::NotOnce { .. }
                | Violation::WentBack { .. }
                // A follower that lost what it had acknowledged is not offered it again.
                | Violation::NotHealed { .. }
        ),
        "{violation}"
    );
}

#[test]
fn a_release_by_name_is_caught() {
    let violation = caught(Planted::ReleaseByName);
    assert!(matches!(violation, Violation::TwoHolders { .. } | Violation::TokenNotGreater { .. }), "{violation}");
}

#[test]
fn a_read_from_a_deposed_leader_is_caught() {
    let violation = caught(Planted::StaleRead);
    assert!(matches!(violation, Violation::NotLinearizable { .. }), "{violation}");
}
