//! The law of folding: a store that says that it has what a point stands for has it.
//!
//! Stores are linked, cut, crashed, closed and put back to older states at random while documents are edited, deleted and
//! begun anew. Now and then a store makes a point, and the test notes what the store had at that moment, by name. Ever
//! after, whenever any store claims the point, everything noted has to be covered there by the ancestry that the test has
//! itself kept, change by change.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_core::Rng;

use super::sessions::path;
use super::*;
use crate::document::chunk::Chunk;
use crate::session::Bookmark;
use crate::trust::Tombstone;
use crate::wire::Codec;

const PATHS: [&str; 4] = ["/a/x", "/a/y", "/b", "/c/d/e"];
const STORES: usize = 3;

/// What a store had of a path: the generation, and its heads; none: that it is deleted.
type Had = (Path, u32, Vec<ChangeHash>);

struct World {
    net: Net,
    space: SpaceId,
    dice: ChaCha12Rng,
    /// Direct dependencies of every change ever made.
    deps: BTreeMap<ChangeHash, Vec<ChangeHash>>,
    points: Vec<(Bookmark, Vec<Had>)>,
    backups: BTreeMap<usize, Memory>,
    identities: u64,
    claimed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let period = std::time::Duration::from_millis(150);
        let config = EngineConfig { store_identity: b"test".to_vec(), reconcile_period: period, ..Default::default() };
        let mut net = Net::with(STORES, |_| config.clone());
        let space = net.create_space(0);
        for n in 1..STORES {
            net.join(0, n, space, Role::Writer, "/");
            net.connect(0, n);
            net.run_for(100);
        }
        let dice = ChaCha12Rng::from_seed([seed as u8; 32]);
        let (deps, points, backups) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { net, space, dice, deps, points, backups, identities: seed, claimed: 0 }
    }

    fn below(&mut self, n: usize) -> usize {
        (self.dice.next_u32() as usize) % n
    }

    fn step(&mut self) {
        let (n, at) = (self.below(STORES), PATHS[self.below(PATHS.len())]);
        match self.below(20) {
            0..7 => self.edit(n, at),
            7..9 => drop(self.net.call(n, Command::Delete { space: self.space, path: path(at) }).unwrap()),
            9..11 => self.link(n),
            11..13 => (0..STORES).for_each(|m| self.net.cut(n, m)),
            13 => self.net.restart(n),
            14 => {
                self.net.call(n, Command::Close).unwrap();
                self.net.restart(n);
            }
            15 => drop(self.backups.insert(n, self.net.nodes[n].store.clone())),
            16 => self.restore(n),
            _ => self.point(n),
        }
        let millis = self.below(400) as u64;
        self.net.run_for(millis);
        self.check();
    }

    fn edit(&mut self, n: usize, at: &str) {
        let cell = self.net.open(n, self.space, at);
        let value = self.dice.next_u32() as i64;
        let change = edit(&cell, "x", value);
        let chunk = Chunk::parse_stored(change.bytes.clone()).unwrap();
        self.deps.insert(change.hash, chunk.deps().to_vec());
        // Refused where a deletion came just before it: then it is nowhere.
        let _ = self.net.call(n, Command::Commit { space: self.space, changes: vec![change] });
    }

    fn link(&mut self, n: usize) {
        let other = (n + 1 + self.below(STORES - 1)) % STORES;
        if !self.net.wires.iter().any(|((a, _), (b, _))| (*a, *b) == (n, other)) {
            self.net.connect(n, other);
        }
    }

    /// Puts a store back to how it once was, in a new file.
    fn restore(&mut self, n: usize) {
        let Some(backup) = self.backups.remove(&n) else { return };
        (0..STORES).for_each(|m| self.net.cut(n, m));
        self.net.nodes[n].store = backup;
        self.identities += 1;
        self.net.nodes[n].engine.config.store_identity = self.identities.to_le_bytes().to_vec();
        self.net.restart(n);
    }

    fn point(&mut self, n: usize) {
        let Ok(Reply::Bookmark(point)) = self.net.call(n, Command::Bookmark { space: self.space, paths: vec![] })
        else {
            panic!("a store makes points at any time");
        };
        let index = &self.net.nodes[n].engine.spaces[&self.space].index;
        let had = PATHS.iter().filter_map(|at| {
            let live = index.live_generation(&path(at));
            match index.live_entry(&path(at)) {
                Some(entry) => Some((path(at), live, entry.heads.to_vec())),
                None => live.checked_sub(1).map(|last| (path(at), last, Vec::new())),
            }
        });
        let had = had.collect();
        self.points.push((*point, had));
    }

    fn check(&mut self) {
        for n in 0..STORES {
            for at in 0..self.points.len() {
                let (point, had) = self.points[at].clone();
                let command =
                    Command::Reach { space: self.space, bookmark: point, wait: Some(std::time::Duration::ZERO) };
                match self.net.call(n, command) {
                    Ok(_) => self.claimed += 1,
                    Err(CommandError::NotYet { .. }) => continue,
                    Err(error) => panic!("{error}"),
                }
                for (path, generation, heads) in &had {
                    assert!(self.has(n, path, *generation, heads), "store {n} claims {path} of {had:?} and has it not");
                }
            }
        }
    }

    /// Whether a store covers a state, by the test's own ancestry.
    fn has(&self, n: usize, path: &Path, generation: u32, heads: &[ChangeHash]) -> bool {
        let index = &self.net.nodes[n].engine.spaces[&self.space].index;
        if index.live_generation(path) < generation + u32::from(heads.is_empty()) {
            return false;
        }
        let Some(entry) = index.generation(path, generation) else { return heads.is_empty() };
        let mut todo = match &entry.tombstones {
            None => entry.heads.to_vec(),
            Some(tombstones) => {
                tombstones.iter().flat_map(|t| Tombstone::from_bytes(t).unwrap().heads().to_vec()).collect()
            }
        };
        let mut covered = BTreeSet::new();
        while let Some(change) = todo.pop() {
            if covered.insert(change) {
                todo.extend(self.deps.get(&change).into_iter().flatten());
            }
        }
        heads.iter().all(|head| covered.contains(head))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_store_that_claims_a_point_has_what_it_stands_for(seed in 0u64..256) {
        let mut world = World::new(seed);
        (0..60).for_each(|_| world.step());
        prop_assert!(world.points.is_empty() || world.claimed > 0);
    }
}

#[test]
fn new_points_are_claimed_by_everybody_who_is_in_step() {
    for seed in 0..4 {
        let mut world = World::new(seed);
        (0..40).for_each(|_| world.step());
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            world.net.cut(a, b);
            world.net.connect(a, b);
        }
        world.net.run_for(3_000);
        world.points.clear();
        (0..STORES).for_each(|n| world.point(n));
        world.net.run_for(1_000);
        world.claimed = 0;
        world.check();
        assert_eq!(world.claimed, (STORES * STORES) as u64, "seed {seed}");
    }
}
