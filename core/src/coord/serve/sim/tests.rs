//! Voters and clients keep every promise on every seed that is tried, a seed gives one trace, and what is planted is caught.

use super::{Options, Planted, Report, Violation, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Few by default; `COORD_FROM` and `COORD_SEEDS` choose others, `COORD_ECHO` prints every line.
#[test]
fn clients_are_told_nothing_but_the_truth() {
    let (from, seeds) = (number("COORD_FROM", 0), number("COORD_SEEDS", 100));
    let options = Options { echo: std::env::var_os("COORD_ECHO").is_some(), ..Options::default() };
    let mut total = Report::default();
    let mut failed = Vec::new();
    for seed in from..from + seeds {
        match run(seed, options) {
            Ok(report) => total.add(&report),
            Err(failure) => failed.push(failure),
        }
    }
    println!("{seeds} seeds: {total:?}");
    let lines: Vec<String> = failed.iter().map(|failure| format!("{}: {}", failure.seed, failure.violation)).collect();
    if let Some(first) = failed.first() {
        panic!("{first}\n{} of {seeds} failed:\n{}", failed.len(), lines.join("\n"));
    }
    assert!(total.replies > 100 * seeds && total.grants > seeds && total.operations > 50 * seeds);
    assert_eq!(total.undecided, 0);
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
    assert!(matches!(violation, Violation::NotLinearizable { .. } | Violation::EndedEarly { .. }), "{violation}");
}
