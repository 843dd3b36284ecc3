use super::*;

#[test]
fn generated_traces_replay_to_their_end_on_bare_automerge() {
    for seed in 0..4 {
        let trace = generate(seed, Shape::default());
        assert_eq!(replay(&trace), trace.end, "seed {seed}");
        assert!(!trace.is_basic_plane(), "seed {seed} has no astral character");
        assert!(trace.txns.iter().any(|txn| txn.parents.len() > 1), "seed {seed} never merges");
    }
}

#[test]
fn one_seed_gives_one_trace() {
    assert_eq!(generate(7, Shape::default()), generate(7, Shape::default()));
    assert_ne!(generate(7, Shape::default()), generate(8, Shape::default()));
}

#[test]
fn positions_turn_into_code_units() {
    let patch = Patch { at: 2, deleted: 2, inserted: "x".into() };
    assert_eq!(patch.in_utf16("a😀b🦀c"), Splice { at: 3, deleted: 3, inserted: "x" });
    assert_eq!(patch.in_utf16("abcd"), Splice { at: 2, deleted: 2, inserted: "x" });
}

#[test]
fn malformed_traces_are_refused() {
    let txn = |parents: &str, agent: u32| format!(r#"{{"parents":{parents},"agent":{agent},"patches":[[0,0,"a"]]}}"#);
    let trace = |txns: &[String]| {
        Trace::parse(&format!(r#"{{"kind":"concurrent","endContent":"","numAgents":2,"txns":[{}]}}"#, txns.join(",")))
    };
    assert!(trace(&[txn("[]", 0), txn("[0]", 1)]).is_ok());
    assert!(trace(&[txn("[0]", 0)]).is_err(), "its own parent");
    assert!(trace(&[txn("[]", 2)]).is_err(), "an agent too many");
    assert!(trace(&[txn("[]", 0), txn("[]", 0)]).is_err(), "an agent that forgets its own");
    assert!(Trace::parse("{}").is_err());
}

#[test]
fn published_traces_have_the_shape_that_is_relied_on() {
    for (name, agents, txns) in
        [("friendsforever", 2, 26_078), ("clownschool", 3, 23_136), ("sveltecomponent", 1, 18_335)]
    {
        let Some(trace) = Trace::load_or_say_skipped(name) else { continue };
        assert_eq!((trace.agents, trace.txns.len()), (agents, txns), "{name}");
        assert_eq!(trace.frontier().len(), 1, "{name}");
    }
}

/// The whole of a trace takes minutes without optimisation, since every edit at older heads looks at history: long runs
/// check where it ends, others only that two replays of its beginning agree.
#[test]
fn published_traces_replay_to_their_end_on_bare_automerge() {
    for name in ["friendsforever", "clownschool"] {
        let Some(trace) = Trace::load_or_say_skipped(name) else { continue };
        if crate::is_long() {
            assert_eq!(replay(&trace), trace.end, "{name}");
        } else {
            let beginning = trace.prefix(1_000);
            assert_eq!(replay(&beginning), beginning.end, "{name}");
        }
    }
}
