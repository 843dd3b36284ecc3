//! Facts without end, without authority, and without a place.

use super::*;
use crate::engine::Command;
use crate::id::{DeviceId, FactHash, Prefix};
use crate::trust::fact::Link;
use crate::trust::roster::MAX_PENDING;
use crate::trust::{Fact, FactBody, Grant, Role};
use crate::wire::Codec;

/// Facts by the guest, sent as one message.
fn tell(scene: &mut Scene, facts: &[Fact]) {
    let (space, number) = (scene.guest.tag, scene.guest.next());
    scene.say(&Message::Facts { space, number, facts: facts.iter().map(Codec::to_bytes).collect() });
}

/// Something of a newer version, as long as the guest likes, in its chain.
fn chained(scene: &mut Scene, n: u32) -> Fact {
    let body = FactBody::Unknown { kind: 900, bytes: n.to_le_bytes().into() };
    let fact =
        Fact::sign(&scene.guest.key, &scene.world.space, Link::behind(scene.guest.newest), body).expect("a fact");
    scene.guest.newest = Some((fact.link().seq(), fact.hash()));
    fact
}

#[test]
fn facts_without_a_place_or_authority_fill_no_memory_and_keep_none_out() {
    let mut scene = Scene::new(usual);
    let members = scene.world.status(0).spaces[0].members;
    let known = scene.world.rows(0, Table::Facts).count();
    let before = scene.world.honest_bytes;
    for n in 0..30u32 {
        let (key, space) = (scene.guest.key.clone(), scene.world.space);
        let facts: Vec<Fact> = (0..60u32)
            .map(|m| {
                let mut noise = *blake3::hash(&[n.to_le_bytes(), m.to_le_bytes()].concat()).as_bytes();
                let (link, body) = if m % 2 == 0 {
                    // Behind a fact that there is not.
                    let body = FactBody::Unknown { kind: 900, bytes: noise.into() };
                    (Link::After { seq: 2 + u64::from(m), previous: FactHash(noise) }, body)
                } else {
                    // A right that the guest cannot give.
                    noise[31] = 0;
                    (Link::Unchained, FactBody::Grant(Grant::new(DeviceId(noise), Role::Admin, Prefix::root())))
                };
                Fact::sign(&key, &space, link, body).expect("a fact")
            })
            .collect();
        tell(&mut scene, &facts);
        if n % 4 == 0 {
            scene.work();
        }
    }
    scene.world.run_for(2_000);
    assert_eq!(scene.world.status(0).spaces[0].members, members);
    // What waits is kept over a restart, so it may be in the store; no more of it than may wait.
    assert!(scene.world.rows(0, Table::Facts).count() <= known + MAX_PENDING);
    // A fact that counts passes, at once.
    let command = Command::Invite {
        space: scene.world.space,
        role: Role::Writer,
        prefix: Prefix::root(),
        not_after: None,
        addresses: Vec::new(),
    };
    let there = scene.world.rows(1, Table::Facts).count();
    assert!(matches!(scene.world.ask(0, command), Some(Ok(_))));
    scene.world.run_for(1_000);
    assert_eq!(scene.world.rows(1, Table::Facts).count(), there + 1);
    assert!(scene.is_as_left());
    let bytes = scene.end() - before;
    assert!(bytes <= 2 * quiet() + 2_000, "{bytes}");
}

/// A member may say what has no effect; it may not fill everybody's roster with it.
#[test]
fn a_signer_has_so_many_facts_and_no_more() {
    let told = |most: u64| {
        let mut scene = Scene::new(|config| config.signer_facts = most);
        let known = scene.world.rows(1, Table::Facts).count();
        for n in 0..20 {
            let facts: Vec<Fact> = (0..50).map(|m| chained(&mut scene, 50 * n + m)).collect();
            tell(&mut scene, &facts);
        }
        scene.work();
        scene.world.run_for(2_000);
        let taken = [0, 1].map(|n| scene.world.rows(n, Table::Facts).count());
        assert_eq!(taken[0], taken[1]);
        assert!(scene.is_as_left());
        scene.end();
        taken[1] - known
    };
    // The guest's own grant came in with it.
    assert!((300..=310).contains(&told(300)), "{}", told(300));
    assert!(told(u64::MAX) >= 1_000, "without the bound all of it is taken");
}
