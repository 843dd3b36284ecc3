//! Changes that lie about whose they are, that come again, come backwards, or stand on what never comes.

use super::*;

/// Another's name under one's own change, one's own name where one may not write, and others' changes with a bit turned.
fn forge(scene: &mut Scene) {
    let own = chain([100 + scene.edits as u8; 16], 1, 40).remove(0);
    let elsewhere = signed(scene, "/own/a", &own, EndorsementKind::Chain);
    scene.send(update("/own/a", vec![own.clone()], &[elsewhere]));
    let founder = scene.world.device(0);
    let borrowed = Endorsement { device: founder, ..signed(scene, "/pub/x", &own, EndorsementKind::Chain) };
    scene.send(update("/pub/x", vec![own], &[borrowed]));
    for message in scene.hear() {
        let Message::Update { documents, .. } = message else { continue };
        for mut document in documents {
            for (at, chunk) in document.chunks.iter_mut().enumerate() {
                let bit = (at * 37 + scene.edits as usize) % (8 * chunk.len());
                chunk[bit / 8] ^= 1 << (bit % 8);
            }
            scene.send(document);
        }
    }
}

#[test]
fn forged_and_altered_changes_are_not_taken() {
    let kept = day(usual, forge);
    assert!(kept.as_left && kept.status.refused_changes + kept.status.orphans >= 8, "{:?}", kept.status);
    kept.is_cheap(quiet());
    let mut bare = Scene::new(without(Defence::Endorsements));
    bare.work();
    forge(&mut bare);
    bare.world.run_for(2_000);
    assert!(!bare.is_as_left(), "without the defence they are");
}

/// Everything that was heard is said again, ten times and under the right numbers.
#[test]
fn changes_that_come_again_are_stored_and_passed_on_once() {
    let before = day(usual, |_| {});
    let mut recorded: Vec<DocumentUpdate> = Vec::new();
    let after = day(usual, |scene| {
        for message in scene.hear() {
            if let Message::Update { documents, .. } = message {
                recorded.extend(documents);
            }
        }
        for _ in 0..10 {
            recorded.iter().for_each(|update| scene.send(update.clone()));
        }
    });
    assert!(recorded.len() >= 3, "{}", recorded.len());
    assert!(after.as_left);
    assert_eq!((after.rows, after.status.orphans), (before.rows, 0));
    after.is_cheap(before.honest_bytes);
}

#[test]
fn changes_that_come_backwards_or_not_at_all_hold_nobody_up() {
    let says = |backwards: bool| {
        let mut scene = Scene::new(usual);
        let before = scene.world.honest_bytes;
        let mut tips = Vec::new();
        for n in 0..8u8 {
            scene.work();
            let (there, not) = (format!("/pub/there{n}"), format!("/pub/not{n}"));
            let mut chunks = chain([n; 16], 12, 100);
            let newest = chunks.last().expect("twelve").clone();
            let tip = signed(&scene, &there, &newest, EndorsementKind::Chain);
            tips.push((path(&there), tip.hash));
            if backwards {
                chunks.reverse();
                scene.send(update(&there, Vec::new(), std::slice::from_ref(&tip)));
            }
            for chunk in chunks {
                let covered = if !backwards && chunk == newest { vec![tip.clone()] } else { vec![] };
                scene.send(update(&there, vec![chunk], &covered));
            }
            // And half of a chain whose beginning is kept back.
            let torn = chain([200 + n; 16], 12, 100).split_off(6);
            let tip = signed(&scene, &not, &torn[5], EndorsementKind::Chain);
            scene.send(update(&not, torn, &[tip]));
        }
        scene.world.run_for(2_000);
        for n in 0..2 {
            let list = scene.world.list(n);
            let arrived = |(at, tip): &(Path, ChangeHash)| list.get(at).is_some_and(|heads| heads == &[*tip]);
            assert!(tips.iter().all(arrived), "a chain that came backwards is not at {n}");
            assert!(list.keys().all(|path| !path.as_str().starts_with("/pub/not")), "half a chain was taken at {n}");
        }
        assert_eq!(scene.world.status(0).orphans, 8 * 6);
        scene.end() - before
    };
    let (forwards, backwards) = (says(false), says(true));
    assert!(backwards <= 2 * forwards, "{backwards} bytes instead of {forwards}");
}

/// Changes on top of what never comes: what waits is bounded, and what is honest passes.
#[test]
fn a_flood_of_orphans_is_bounded_in_bytes() {
    let flooded = |budget: usize| {
        day(
            |config| config.orphan_budget = budget,
            |scene| {
                for n in 0..20u8 {
                    let actor =
                        [n.wrapping_mul(11), scene.edits as u8, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
                    let second = chain(actor, 2, 10_000).remove(1);
                    let at = format!("/pub/e{n}");
                    let tip = signed(scene, &at, &second, EndorsementKind::Chain);
                    scene.send(update(&at, vec![second], &[tip]));
                }
            },
        )
    };
    let bounded = flooded(100_000);
    assert!((1..=10).contains(&bounded.status.orphans), "{} wait", bounded.status.orphans);
    assert!(bounded.as_left);
    bounded.is_cheap(quiet());
    assert_eq!(flooded(usize::MAX).status.orphans, 8 * 20, "without the bound all of it waits");
}
