//! Every target over its own seeds, and a short campaign each.

use super::*;

#[test]
fn names_are_unique_and_seeds_are_taken() {
    let targets = targets();
    let names: std::collections::BTreeSet<&str> = targets.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), targets.len());
    for target in targets {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        let taken = seeds.iter().filter(|seed| (target.run)(seed).accepted).count();
        assert!(taken > 0, "{}: no seed of {} is taken", target.name, seeds.len());
        assert!(seeds.iter().all(|seed| seed.len() <= target.max_len), "{}", target.name);
    }
}

#[test]
fn parts_are_read_as_they_are_joined() {
    let bytes = join([b"one".as_slice(), b"", b"three"]);
    assert_eq!(parts(&bytes), [b"one".as_slice(), b"", b"three"]);
    assert_eq!(parts(&[9, 0, 1]), [[1].as_slice()]);
    assert_eq!(parts(&[9]), Vec::<&[u8]>::new());
}

/// A target that breaks is found, and what broke it is named.
#[test]
fn a_broken_invariant_is_a_finding() {
    fn seeds() -> Vec<Vec<u8>> {
        vec![vec![5, b'h', b'e', b'l', b'l', b'o']]
    }
    fn broken(bytes: &[u8]) -> Verdict {
        let len = usize::from(bytes.first().copied().unwrap_or(0));
        assert!(len <= bytes.len(), "believed a length");
        Verdict::accepted(len as u64)
    }
    let mut campaign = Campaign::new(Target::new("broken", seeds, broken), 1, []);
    campaign.replay().unwrap();
    let found = (0..10_000).find_map(|_| campaign.step().err()).expect("a length that lies");
    assert_eq!((found.target, found.why.as_str()), ("broken", "believed a length"));
    assert!(usize::from(found.input[0]) > found.input.len());
}
