//! Sets of prefixes: what a link covers, and what a renewal vouches for.
//!
//! A renewal says that an owner lives. Whether an entry of it is still as it was is known only to who would have heard of
//! its end: peers to which it was vouched for over links that cover its path, from the owner on. So a renewal vouches for
//! the part of the tree that every link on its way covered, and only entries there live on with it.

use crate::id::Prefix;

/// What lies under both, canonical: sorted, and no prefix contains another.
pub(super) fn intersection(a: &[Prefix], b: &[Prefix]) -> Vec<Prefix> {
    canonical(a.iter().flat_map(|p| b.iter().filter_map(|q| p.intersection(q))).collect())
}

/// What lies under either, canonical.
pub(super) fn union(a: &[Prefix], b: &[Prefix]) -> Vec<Prefix> {
    canonical(a.iter().chain(b).cloned().collect())
}

/// Whether everything under `part` lies under `whole`.
pub(super) fn contains(whole: &[Prefix], part: &[Prefix]) -> bool {
    part.iter().all(|p| whole.iter().any(|q| q.contains(p)))
}

fn canonical(mut prefixes: Vec<Prefix>) -> Vec<Prefix> {
    prefixes.sort_unstable();
    prefixes.dedup();
    let all = prefixes.clone();
    prefixes.retain(|p| !all.iter().any(|q| q != p && q.contains(p)));
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| Prefix::parse(text).unwrap()).collect()
    }

    #[test]
    fn sets_of_prefixes_are_sets() {
        let (a, b) = (prefixes(&["/a", "/b/c"]), prefixes(&["/a/x", "/b", "/z"]));
        assert_eq!(intersection(&a, &b), prefixes(&["/a/x", "/b/c"]));
        assert_eq!(union(&a, &b), prefixes(&["/a", "/b", "/z"]));
        assert!(contains(&a, &prefixes(&["/a/x", "/b/c/d"])) && !contains(&a, &b));
        assert!(contains(&prefixes(&["/"]), &a) && contains(&a, &[]));
    }
}
