//! Large transfers, and what is left of one when its link breaks.

use super::*;

/// Writes one change of `pieces` times 40,000 bytes that do not compress.
fn put_large(net: &mut Net, n: usize, space: SpaceId, pieces: usize) {
    let cell = net.open(n, space, "/big");
    let mut noise = blake3::Hasher::new().update(b"incompressible").finalize_xof();
    let (_, change) = cell
        .with(|hot| {
            hot.edit(&EditOptions::default(), |draft| {
                for n in 0..pieces {
                    let mut bytes = vec![0; 40_000];
                    noise.fill(&mut bytes);
                    draft.put(&format!("k{n}"), Value::Bytes(bytes))?;
                }
                Ok(())
            })
        })
        .unwrap()
        .unwrap();
    net.call(n, Command::Commit { space, changes: vec![change.unwrap()] }).unwrap();
}

impl Net {
    /// Links two nodes and cuts them again when `bytes` have arrived at the first. Returns what has.
    fn connect_until(&mut self, a: usize, b: usize, bytes: u64) -> u64 {
        self.connect_without_settling(a, b);
        let arrived = |net: &Net| net.nodes[a].engine.links.values().map(|link| link.bytes_received).sum::<u64>();
        while arrived(self) < bytes {
            assert!(self.step(), "it came to rest before {bytes} bytes had arrived");
        }
        let count = arrived(self);
        self.cut(a, b);
        count
    }
}

#[test]
fn many_small_documents_cross_within_their_credit() {
    let config = |_| EngineConfig { link_window: 128 << 10, store_identity: b"t".to_vec(), ..EngineConfig::default() };
    let mut net = Net::with(2, config);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    let path = |n| format!("/d/{n}");
    for n in 0..1500 {
        net.put(0, space, &path(n), "x", n);
    }
    net.connect(1, 0);
    net.run_for(3000);
    assert_eq!(net.root(0), net.root(1));
}

#[test]
fn a_change_larger_than_a_frame_crosses_in_parts() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    put_large(&mut net, 0, space, 10);
    net.connect(0, 1);
    net.run_for(1000);
    assert_eq!(net.root(0), net.root(1));
    assert_eq!(net.value(1, space, "/big"), net.value(0, space, "/big"));
}

/// A change was sent again from its first byte after every cut.
#[test]
fn a_large_change_goes_on_where_the_link_broke() {
    for (first, second) in [(0, 1), (1, 0)] {
        let config =
            |_| EngineConfig { link_window: 128 << 10, store_identity: b"t".to_vec(), ..EngineConfig::default() };
        let mut net = Net::with(2, config);
        let space = net.create_space(0);
        net.join(0, 1, space, Role::Writer, "/");
        put_large(&mut net, 0, space, 50);
        let mut arrived = 0;
        for _ in 0..4 {
            arrived += net.connect_until(1, 0, 400_000);
        }
        net.connect(first, second);
        net.run_for(1000);
        arrived += net.nodes[1].engine.links.values().map(|link| link.bytes_received).sum::<u64>();
        assert_eq!(net.root(0), net.root(1));
        assert!(arrived < 2_000_000 * 5 / 4, "{arrived} bytes came for a change of 2,000,000");
    }
}

/// A chain is admitted whole, and a cut in the middle had all of it sent again.
#[test]
fn a_long_chain_goes_on_where_the_link_broke() {
    let config = |_| EngineConfig { link_window: 64 << 10, store_identity: b"t".to_vec(), ..EngineConfig::default() };
    let mut net = Net::with(2, config);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    let cell = net.open(0, space, "/long");
    for n in 0..4_000 {
        let change = edit(&cell, "x", n);
        net.ask(0, Command::Commit { space, changes: vec![change] });
    }
    net.settle();
    let whole: u64 = match net.call(0, Command::List { space, prefix: Prefix::root(), after: None, limit: 10 }) {
        Ok(Reply::List { items, .. }) => items.iter().map(|d| d.bytes).sum(),
        other => panic!("{other:?}"),
    };
    let mut arrived = 0;
    for _ in 0..3 {
        arrived += net.connect_until(1, 0, whole / 4);
    }
    assert!(net.status(1).orphans > 2_000, "the chain is not whole yet");
    net.connect(1, 0);
    net.run_for(1000);
    arrived += net.nodes[1].engine.links.values().map(|link| link.bytes_received).sum::<u64>();
    assert_eq!(net.root(0), net.root(1));
    assert_eq!(net.status(1).orphans, 0);
    assert!(arrived < whole * 5 / 4, "{arrived} bytes came for {whole}");
}
