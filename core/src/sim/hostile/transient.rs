//! Leases and signals: without the right, played on, and made younger than they are.

use super::*;
use crate::engine::{Command, Reply};
use crate::io::LinkId;
use crate::soft::{Message as Soft, News};
use crate::wire::Codec;

/// Paths of soft entries that a seat shows, of others.
fn shown(scene: &mut Scene, n: usize) -> Vec<Path> {
    let (space, prefix) = (scene.world.space, Prefix::root());
    match scene.world.ask(n, Command::SoftList { space, prefix, after: None, limit: 1_000 }) {
        Some(Ok(Reply::SoftList { items, .. })) => items.into_iter().map(|item| item.path).collect(),
        other => panic!("no list: {other:?}"),
    }
}

/// A reader of `/pub`, linked with seat 0 beside the guest.
fn reader(scene: &mut Scene) -> Guest {
    let mut reader = Guest::reader(&mut scene.world);
    let link: LinkId = scene.world.link();
    scene.world.input(0, Input::Linked { link, peer: STRANGER, initiator: false });
    reader.enter_as(&mut scene.world, link, STRANGER);
    scene.world.run_for(500);
    reader
}

#[test]
fn entries_of_who_may_only_read_are_shown_to_nobody() {
    let sets = |set: &dyn Fn(&mut EngineConfig)| {
        let mut scene = Scene::new(set);
        let mut reader = reader(&mut scene);
        for _ in 0..8 {
            scene.work();
            reader.soft_at(&mut scene.world, "/pub/z", b"hello");
        }
        let seen = [0, 1].map(|n| shown(&mut scene, n).len());
        let refused = scene.world.status(0).soft_refused;
        scene.world.input(0, Input::Unlinked { link: reader.link });
        assert!(scene.is_as_left());
        (seen, refused > 0, scene.end())
    };
    let before = Scene::new(usual).world.honest_bytes;
    let (seen, refused, bytes) = sets(&usual);
    assert!(seen == [0, 0] && refused, "{seen:?}");
    assert!(bytes - before <= 2 * quiet());
    assert_eq!(sets(&without(Defence::SoftRights)).0, [1, 1], "without the defence they are");
}

#[test]
fn signals_of_who_may_only_read_are_heard_by_nobody() {
    let says = |set: &dyn Fn(&mut EngineConfig)| {
        let mut scene = Scene::new(set);
        let mut reader = reader(&mut scene);
        for _ in 0..8 {
            scene.work();
            reader.topic(&mut scene.world, 0, b"hello");
        }
        let heard = [0, 1].map(|n| scene.world.status(n).topic_delivered);
        scene.world.input(0, Input::Unlinked { link: reader.link });
        assert!(scene.is_as_left());
        (heard, scene.end())
    };
    let before = Scene::new(usual).world.honest_bytes;
    let (heard, bytes) = says(&usual);
    assert_eq!(heard, [0, 0]);
    assert!(bytes - before <= 2 * quiet());
    assert_eq!(says(&without(Defence::TopicRights)).0, [8, 8], "without the defence they are");
}

/// News of an owner that is gone, as it was and with every age rewritten to none.
#[test]
fn an_owner_that_is_gone_is_not_raised_by_what_was_recorded_of_it() {
    let mut scene = Scene::new(usual);
    let before = scene.world.honest_bytes;
    scene.guest.soft_at(&mut scene.world, "/pub/z", b"alive");
    scene.world.run_for(6_000);
    // A renewal, too.
    scene.guest.soft_at(&mut scene.world, "/pub/z", b"alive still");
    scene.world.run_for(500);
    assert_eq!([0, 1].map(|n| shown(&mut scene, n).len()), [1, 1], "it was there");
    scene.world.run_for(120_000);
    assert_eq!([0, 1].map(|n| shown(&mut scene, n).len()), [0, 0], "it is gone");
    let recorded = scene.guest.recorded.clone();
    assert!(recorded.len() >= 2);
    let young = |body: &Vec<u8>| {
        let mut soft = Soft::from_bytes(body).expect("an own message reads");
        if let Soft::News(news) = &mut soft {
            for one in news {
                match one {
                    News::Renewal { age, hops, .. } | News::Lease { age, hops, .. } | News::Again { age, hops, .. } => {
                        (*age, *hops) = (0, 1);
                    }
                    News::Entries { .. } => {}
                }
            }
        }
        soft.to_bytes()
    };
    let space = scene.guest.tag;
    for round in 0..8 {
        scene.work();
        for body in &recorded {
            for body in [body.clone(), young(body)] {
                scene.say(&Message::Soft { space, body });
            }
            assert_eq!([0, 1].map(|n| shown(&mut scene, n).len()), [0, 0], "the dead are shown, round {round}");
        }
        scene.world.run_for(1_000);
    }
    assert_eq!(scene.closed(), None, "it could have been a slow relay");
    assert!(scene.is_as_left());
    let bytes = scene.end() - before;
    let mut quiet = Scene::new(usual);
    let before = quiet.world.honest_bytes;
    for _ in 0..8 {
        quiet.work();
        quiet.world.run_for(16_000);
    }
    let quiet = quiet.end() - before;
    assert!(bytes <= 2 * quiet, "{bytes} bytes instead of {quiet}");
}
