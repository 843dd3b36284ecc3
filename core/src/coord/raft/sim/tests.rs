//! Groups keep every promise on every seed that is tried, a seed gives one trace, and what is planted is caught.

use super::{Options, Planted, Violation, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Few by default; `COORD_FROM` and `COORD_SEEDS` choose others, `COORD_ECHO` prints every line.
/// `cargo xtask sim --scenario consensus` runs many more.
#[test]
fn groups_keep_every_promise() {
    let (from, seeds) = (number("COORD_FROM", 0), number("COORD_SEEDS", 12));
    let options = Options { echo: std::env::var_os("COORD_ECHO").is_some(), ..Options::default() };
    let mut total = super::Report::default();
    for seed in from..from + seeds {
        let report = run(seed, options).unwrap_or_else(|failure| panic!("{failure}"));
        total.steps += report.steps;
        total.acknowledged += report.acknowledged;
        total.reads += report.reads;
        total.leaders += report.leaders;
        total.crashes += report.crashes;
        total.torn += report.torn;
        total.changes += report.changes;
        total.installed += report.installed;
    }
    println!("{seeds} seeds: {total:?}");
    assert!(total.acknowledged > 50 * seeds && total.reads > 10 * seeds && total.leaders >= seeds);
}

/// A voter that was being replaced led, applied its own removal and fell silent. Of the voters that stayed one was dead, and
/// the others, who had not applied the removal, needed the silent one for a majority of before: nobody led any more.
#[test]
fn a_group_outlives_the_removal_of_its_leader_with_a_voter_dead() {
    let report = run(6833, Options::default()).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.changes > 0 && report.acknowledged > 0);
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
fn a_reply_that_leaves_before_its_write_is_durable_is_caught() {
    let violation = caught(Planted::SendBeforeFsync);
    let expected = matches!(
        violation,
        Violation::CommitsDiffer { .. }
            | Violation::AcknowledgedLost { .. }
            | Violation::LeaderLacks { .. }
            | Violation::TwoLeaders { .. }
            | Violation::LogsDiffer { .. }
            | Violation::DigestsDiffer { .. }
            | Violation::Refused { .. }
    );
    assert!(expected, "{violation}");
}

#[test]
fn a_read_that_asks_no_majority_is_caught() {
    let violation = caught(Planted::ReadWithoutQuorum);
    assert!(matches!(violation, Violation::StaleRead { .. }), "{violation}");
}
