//! Fuzzing in small: every committed input, and a few altered ones of each target.
//!
//! `cargo xtask fuzz` runs the same targets for as long as one likes.

use foreshore::fuzz::Campaign;
use foreshore_tests::fuzz::{corpus, targets};
use foreshore_tests::is_long;

/// Altered inputs of each target: a second or two in all. Whole peers are slower by a thousand.
fn times(target: &str) -> u64 {
    let times = match target {
        "engine" => 25,
        "store" => 50,
        "snapshot" | "voter" | "log" | "responder" => 150,
        _ => 1_500,
    };
    if is_long() { 20 * times } else { times }
}

/// Inputs that broke something once lie there too.
#[test]
fn every_committed_input_is_handled() {
    for target in targets() {
        let inputs = corpus(target.name).unwrap_or_else(|error| panic!("{}: {error}", target.name));
        assert!(!inputs.is_empty(), "{}: `cargo xtask fuzz --write-corpus`", target.name);
        let mut campaign = Campaign::new(target, 0, []);
        for (name, input) in inputs {
            if let Err(finding) = campaign.handle(&input) {
                panic!("{}/{name}: {}", finding.target, finding.why);
            }
        }
    }
}

#[test]
fn altered_inputs_are_handled() {
    for target in targets() {
        let mut campaign = Campaign::new(target, 7, []);
        let outcome = (0..times(target.name)).try_for_each(|_| campaign.step());
        if let Err(finding) = outcome {
            let hex: String = finding.input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{}: {}\n{hex}", finding.target, finding.why);
        }
        assert_eq!(campaign.executions(), times(target.name));
    }
}
