//! The strong path over real loopback sockets.

use super::*;
use crate::coord::CoordError;
use crate::coord::command::Command as Call;
use crate::coord::serve::client::State;
use crate::coord::serve::talk::{Ask, Query, Tell};
use crate::coord::session::SessionId;
use crate::coord::watch::{EventKind, Watch};
use crate::engine::{CoordFailure, CoordStatus, Operation};
use crate::peer::coord::{LockLost, Op};

/// A peer alone with its space: the space's only voter.
async fn alone() -> (Peer, Space) {
    let peer = listening("/ip4/127.0.0.1/tcp/0").await;
    let space = soon(peer.create_space("home")).await.unwrap();
    (peer, space)
}

/// Another member, linked with `home`; a voter by its grants if `votes`.
async fn member(home: &Space, votes: bool) -> (Peer, Space) {
    let peer = listening("/ip4/127.0.0.1/tcp/0").await;
    let space = soon(peer.join(&soon(home.invite(Role::Writer)).await.unwrap())).await.unwrap();
    if votes {
        soon(peer.join(&soon(home.invite(Role::Voter)).await.unwrap())).await.unwrap();
    }
    (peer, space)
}

async fn status_when(space: &Space, what: &str, holds: impl Fn(&CoordStatus) -> bool) -> CoordStatus {
    let waiting = async {
        loop {
            let status = space.coordination().await.unwrap();
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(status) => status,
        Err(_) => panic!("{what} does not come about: {:#?}", space.coordination().await.unwrap()),
    }
}

/// Repeats a change of the group until it is taken: a newcomer has to be linked and to catch up first.
async fn change(space: &Space, operation: Operation) {
    let tried = async {
        while let Err(error) = space.change_voters(operation).await {
            assert!(matches!(error, CommandError::Coord(_)), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(tried).await;
}

/// Three peers that vote in one space, the first one leading.
async fn three() -> [(Peer, Space); 3] {
    let first = alone().await;
    status_when(&first.1, "a leader", |status| status.leads).await;
    let second = member(&first.1, true).await;
    let third = member(&first.1, true).await;
    for (peer, _) in [&second, &third] {
        change(&first.1, Operation::Add(peer.peer_id())).await;
        status_when(&first.1, "a learner", |status| status.learners.contains(&peer.peer_id())).await;
        change(&first.1, Operation::Promote(peer.peer_id())).await;
        status_when(&first.1, "a voter", |status| status.voters.contains(&peer.peer_id())).await;
    }
    for (_, space) in [&second, &third] {
        status_when(space, "three voters", |status| status.voters.len() == 3 && status.leader.is_some()).await;
    }
    [first, second, third]
}

#[tokio::test]
async fn a_fresh_space_has_locks_at_once_and_tokens_rise() {
    let (_peer, space) = alone().await;
    let one = soon(space.coordinator()).await.unwrap();
    let two = soon(space.coordinator()).await.unwrap();
    let held = soon(one.lock("/cron")).await.unwrap();
    let refused = soon(two.lock("/cron").try_once()).await.unwrap_err();
    assert_eq!(refused, CommandError::Coord(CoordFailure::Coord(CoordError::NotAvailable)));
    let late = soon(two.lock("/cron").deadline(Duration::from_millis(50))).await.unwrap_err();
    assert_eq!(late, CommandError::Coord(CoordFailure::Coord(CoordError::DeadlinePassed)));
    let waiting = tokio::spawn(two.lock("/cron").into_future());
    soon(async { while soon(one.holders("/cron")).await.unwrap().1 != 1 {} }).await;
    let before = held.token();
    assert_eq!(held.run(async { 7 }).await, Ok(7));
    soon(held.release()).await.unwrap();
    let next = soon(waiting).await.unwrap().unwrap();
    assert!(next.token() > before);
    // A handle that is dropped gives back what it held.
    drop(next);
    drop(soon(one.lock("/cron").deadline(PATIENCE)).await.unwrap());
}

#[tokio::test]
async fn a_session_that_ends_loses_its_locks_and_says_so() {
    let (_peer, space) = alone().await;
    let one = soon(space.coordinator().ttl(Duration::from_secs(1))).await.unwrap();
    let held = soon(one.lock("/cron")).await.unwrap();
    let two = soon(space.coordinator()).await.unwrap();
    let waiting = tokio::spawn(two.lock("/cron").deadline(PATIENCE).into_future());
    soon(one.close()).await.unwrap();
    drop(soon(waiting).await.unwrap().unwrap());
    soon(held.lost()).await;
    assert_eq!(held.run(async {}).await, Err(LockLost));
    assert_eq!(one.state(), State::Lost);
    let over = soon(one.tree().get("/")).await.unwrap_err();
    assert!(matches!(over, CommandError::Coord(CoordFailure::UnknownClient | CoordFailure::Lost)), "{over}");
}

#[tokio::test]
async fn the_tree_is_shared_watched_and_atomic() {
    let (_peer, home) = alone().await;
    let (_guest, there) = member(&home, false).await;
    let mine = soon(home.coordinator()).await.unwrap();
    // A member that does not vote is a client of the one that does.
    let theirs = soon(there.coordinator()).await.unwrap();
    soon(theirs.connected()).await.unwrap();
    let mut events = theirs.events();
    soon(theirs.watch(Watch::Recursive, "/config")).await.unwrap();
    let tree = mine.tree();
    assert_eq!(soon(tree.create("/config", "")).await.unwrap(), "/config");
    let name = soon(tree.create("/config/n-", "x").ephemeral().sequential()).await.unwrap();
    assert_eq!(name, "/config/n-0000000000");
    let seen = [soon(events.next()).await.unwrap(), soon(events.next()).await.unwrap()];
    assert_eq!(
        seen.each_ref().map(|event| (event.kind, event.path.as_str())),
        [(EventKind::Created, "/config"), (EventKind::Created, "/config/n-0000000000"),]
    );
    let found = soon(theirs.tree().linear().get(&name)).await.unwrap().unwrap();
    assert_eq!((found.data.as_slice(), found.stat.version), (&b"x"[..], 0));
    let ops = vec![
        Op::Set { path: name.clone(), data: (*b"y").into(), version: 0 },
        Op::Delete { path: "/config".into(), version: 9 },
    ];
    let failed = soon(tree.multi(ops)).await.unwrap_err();
    assert!(matches!(&failed, CommandError::Coord(CoordFailure::Coord(CoordError::Multi { at: 1, .. }))), "{failed}");
    assert_eq!(soon(tree.get(&name)).await.unwrap().unwrap().stat.version, 0);
    assert_eq!(soon(theirs.tree().linear().children("/config")).await.unwrap(), ["n-0000000000"]);
    // What is ephemeral goes with its session.
    soon(mine.close()).await.unwrap();
    soon(async { while soon(theirs.tree().stat(&name)).await.unwrap().is_some() {} }).await;
}

#[tokio::test]
async fn work_in_a_queue_is_done_once_or_tried_again() {
    let (_peer, space) = alone().await;
    let coordinator = soon(space.coordinator()).await.unwrap();
    let queue = coordinator.queue("/jobs");
    let first = soon(queue.put("a", 2)).await.unwrap();
    soon(queue.put("b", 2)).await.unwrap();
    let claimed = soon(queue.claim(PATIENCE)).await.unwrap().unwrap();
    assert_eq!((claimed.item, claimed.body.as_slice(), claimed.attempt), (first, &b"a"[..], 1));
    soon(queue.nack(&claimed)).await.unwrap();
    let again = soon(queue.claim(PATIENCE)).await.unwrap().unwrap();
    assert_eq!((again.item, again.attempt), (first, 2));
    soon(queue.nack(&again)).await.unwrap();
    assert_eq!(soon(queue.state()).await.unwrap(), (1, 0, vec![first]));
    assert_eq!(soon(queue.item(first)).await.unwrap(), Some((b"a".to_vec(), 2)));
    assert_eq!(soon(queue.item(first + 1_000)).await.unwrap(), None);
    let other = soon(queue.claim(PATIENCE)).await.unwrap().unwrap();
    soon(queue.ack(&other)).await.unwrap();
    assert_eq!(soon(queue.claim(PATIENCE)).await.unwrap(), None);
}

#[tokio::test]
async fn a_session_says_for_how_long_it_holds_what_it_has() {
    let (_peer, space) = alone().await;
    let ttl = Duration::from_secs(6);
    let session = soon(space.coordinator().ttl(ttl)).await.unwrap();
    soon(session.connected()).await.unwrap();
    let held = soon(session.lock("/cron")).await.unwrap();
    let lease = soon(session.lease()).await.unwrap();
    // Two thirds of the time since the newest sign of life.
    assert!(lease > Duration::ZERO && lease <= ttl * 2 / 3, "{lease:?}");
    assert!(!held.is_lost());
    soon(session.close()).await.unwrap();
    soon(session.over()).await;
    assert_eq!(soon(session.lease()).await.unwrap_or_default(), Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_hands_over_to_a_voter_that_lives() {
    let [(_first, home), (second, _), (third, there)] = three().await;
    assert_eq!(soon(home.coordination()).await.unwrap().progress.len(), 3);
    soon(second.shutdown()).await.unwrap();
    // Whoever was silent for an election's time is not asked any more; until then it may be.
    let handed = async {
        while soon(home.coordination()).await.unwrap().leads {
            let _ = home.change_voters(Operation::HandOver).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(handed).await;
    status_when(&there, "the living voter leads", |status| status.leads).await;
    let leader = Some(third.peer_id());
    status_when(&home, "it is known", |status| status.leader == leader).await;
    let refused = soon(home.change_voters(Operation::HandOver)).await.unwrap_err();
    assert_eq!(refused, CommandError::Coord(CoordFailure::NotLeader { leader }));
}

/// What was to be said to a peer at the moment in which its connection was lost went to a stream on that connection, which was
/// never opened; and everything later waited behind it, also when the peer was linked again.
#[tokio::test]
async fn a_peer_is_spoken_to_again_after_its_connection_broke() {
    let (peer, home) = alone().await;
    let (guest, there) = member(&home, false).await;
    let coordinator = soon(there.coordinator().patience(PATIENCE)).await.unwrap();
    soon(coordinator.connected()).await.unwrap();
    for n in 0..3 {
        soon(peer.block(guest.peer_id())).await.unwrap();
        soon(async {
            while coordinator.state() == State::Connected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        soon(peer.unblock(guest.peer_id())).await.unwrap();
        soon(coordinator.tree().create(format!("/{n}"), "")).await.unwrap();
    }
    assert_eq!(soon(coordinator.tree().linear().children("/")).await.unwrap(), ["0", "1", "2"]);
}

#[tokio::test]
async fn a_space_without_reachable_voters_refuses_and_does_not_guess() {
    let (peer, home) = alone().await;
    let (_guest, there) = member(&home, false).await;
    let coordinator = soon(there.coordinator().patience(Duration::from_millis(300))).await.unwrap();
    soon(coordinator.connected()).await.unwrap();
    soon(peer.shutdown()).await.unwrap();
    let linear = soon(coordinator.tree().linear().get("/")).await.unwrap_err();
    assert_eq!(linear, CommandError::Coord(CoordFailure::NoQuorum));
    let lock = soon(coordinator.lock("/a").try_once()).await.unwrap_err();
    assert!(matches!(lock, CommandError::Coord(CoordFailure::NoQuorum | CoordFailure::Unknown)), "{lock}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_voters_survive_the_leader_and_agree() {
    let [(first, home), (second, there), (_third, elsewhere)] = three().await;
    let coordinator = soon(elsewhere.coordinator()).await.unwrap();
    let held = soon(coordinator.lock("/cron")).await.unwrap();
    soon(coordinator.tree().create("/kept", "1")).await.unwrap();
    let refused = soon(there.change_voters(Operation::Remove(first.peer_id()))).await.unwrap_err();
    let leader = Some(first.peer_id());
    assert_eq!(refused, CommandError::Coord(CoordFailure::NotLeader { leader }));
    let before = soon(home.coordination()).await.unwrap();
    soon(first.shutdown()).await.unwrap();
    let after =
        status_when(&there, "another leader", |status| status.leader.is_some_and(|leader| leader != first.peer_id()))
            .await;
    assert!(after.term > before.term);
    // The session outlives the leader, and what it holds.
    let kept = soon(coordinator.tree().linear().get("/kept")).await.unwrap().unwrap();
    assert_eq!(kept.data, b"1");
    assert!(!held.is_lost());
    let other = soon(there.coordinator()).await.unwrap();
    let refused = soon(other.lock("/cron").try_once()).await.unwrap_err();
    assert_eq!(refused, CommandError::Coord(CoordFailure::Coord(CoordError::NotAvailable)));
    let token = held.token();
    soon(held.release()).await.unwrap();
    assert!(soon(other.lock("/cron")).await.unwrap().token() > token);
    let applied = soon(there.coordination()).await.unwrap().applied;
    let [one, two] = [&there, &elsewhere]
        .map(|space| async move { status_when(space, "the same state", |status| status.applied >= applied).await });
    let (one, two) = (one.await, two.await);
    if one.applied == two.applied {
        assert_eq!(one.digest, two.digest);
    }
    assert_eq!(one.voters.len(), 3);
    drop(second);
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn a_voter_that_restarts_goes_on_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Peer::builder().store(crate::store::Redb::open(dir.path()).unwrap());
    let peer = soon(open().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let coordinator = soon(space.coordinator()).await.unwrap();
    let held = soon(coordinator.lock("/cron")).await.unwrap();
    soon(coordinator.tree().create("/kept", "1")).await.unwrap();
    let token = held.token();
    drop((held, coordinator));
    soon(peer.shutdown()).await.unwrap();
    let peer = soon(open().spawn()).await.unwrap();
    let space = soon(peer.space("home")).await.unwrap().unwrap();
    let coordinator = soon(space.coordinator()).await.unwrap();
    assert_eq!(soon(coordinator.tree().get("/kept")).await.unwrap().unwrap().data, b"1");
    assert!(soon(coordinator.lock("/cron")).await.unwrap().token() > token);
}

#[tokio::test]
async fn recipes_hold_what_they_say() {
    let (_peer, space) = alone().await;
    let one = soon(space.coordinator()).await.unwrap();
    let two = soon(space.coordinator()).await.unwrap();

    let counters = (one.counter("/app/hits"), two.counter("/app/hits"));
    assert_eq!(soon(counters.0.get()).await.unwrap(), 0);
    let add = async |counter: &crate::peer::coord::Counter| {
        for _ in 0..10 {
            counter.add(1).await.unwrap();
        }
    };
    soon(async { tokio::join!(add(&counters.0), add(&counters.1)) }).await;
    assert_eq!(soon(counters.0.add(-5)).await.unwrap(), 15);
    soon(one.tree().set("/app/hits", "many", None)).await.unwrap();
    assert!(matches!(soon(counters.1.add(1)).await, Err(CommandError::Invalid { what: "counter", .. })));

    let gate = one.barrier("/app/gate");
    assert!(soon(gate.shut()).await.unwrap());
    assert!(!soon(gate.shut()).await.unwrap());
    let waiting = tokio::spawn(async move { two.barrier("/app/gate").wait().await });
    assert!(soon(gate.lift()).await.unwrap());
    soon(waiting).await.unwrap().unwrap();
    assert!(!soon(gate.lift()).await.unwrap());
}

#[tokio::test]
async fn a_semaphore_has_as_many_holders_as_permits_and_no_more() {
    let (_peer, space) = alone().await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(soon(space.coordinator()).await.unwrap());
    }
    let semaphores: Vec<_> = sessions.iter().map(|session| session.semaphore("/pool", 2)).collect();
    let first = soon(semaphores[0].acquire()).await.unwrap();
    let second = soon(semaphores[1].acquire()).await.unwrap();
    assert!(soon(semaphores[2].try_acquire()).await.unwrap().is_none());
    let third = semaphores[2].clone();
    let waiting = tokio::spawn(async move { third.acquire().await });
    soon(async { while semaphores[0].asked().await.unwrap() != 3 {} }).await;
    assert!(!waiting.is_finished());
    assert_eq!(second.run(async { 5 }).await, Ok(5));
    soon(first.release()).await.unwrap();
    let third = soon(waiting).await.unwrap().unwrap();
    // A holder whose session ends frees its permit, and learns of it.
    soon(sessions[1].close()).await.unwrap();
    soon(second.lost()).await;
    assert_eq!(second.run(async {}).await, Err(LockLost));
    drop(soon(semaphores[0].acquire()).await.unwrap());
    drop(third);
    soon(async { while semaphores[0].asked().await.unwrap() != 0 {} }).await;
}

/// A wish that was dropped while its node was on the way stood for a permit for as long as the session lived.
#[tokio::test]
async fn a_permit_that_nobody_waits_for_any_more_is_given_back() {
    let (_peer, space) = alone().await;
    let one = soon(space.coordinator()).await.unwrap();
    soon(one.connected()).await.unwrap();
    let semaphore = one.semaphore("/pool", 1);
    drop(soon(semaphore.acquire()).await.unwrap());
    for _ in 0..10 {
        let mut wish = Box::pin(semaphore.acquire());
        assert!(futures::poll!(&mut wish).is_pending());
        drop(wish);
    }
    soon(semaphore.acquire()).await.unwrap().release().await.unwrap();
    soon(async { while semaphore.asked().await.unwrap() != 0 {} }).await;
}

#[tokio::test]
async fn all_parties_of_a_double_barrier_come_and_leave_together() {
    let (_peer, space) = alone().await;
    let party = |coordinator: crate::peer::coord::Coordinator| async move {
        let barrier = coordinator.double_barrier("/work", 2);
        for _ in 0..20 {
            barrier.enter().await?.leave().await?;
        }
        Ok::<_, CommandError>(())
    };
    let one = tokio::spawn(party(soon(space.coordinator()).await.unwrap()));
    let watcher = soon(space.coordinator()).await.unwrap();
    let names = async || watcher.tree().linear().children("/work").await.unwrap_or_default();
    soon(async { while names().await.len() != 1 {} }).await;
    assert!(!one.is_finished());
    let two = tokio::spawn(party(soon(space.coordinator()).await.unwrap()));
    soon(one).await.unwrap().unwrap();
    soon(two).await.unwrap().unwrap();
    assert_eq!(soon(names()).await, Vec::<String>::new());
}

#[tokio::test]
async fn members_of_a_group_and_leaders_are_seen_to_come_and_go() {
    let (_peer, space) = alone().await;
    let one = soon(space.coordinator()).await.unwrap();
    let two = soon(space.coordinator()).await.unwrap();
    let (ours, theirs) = (one.group("/workers"), two.group("/workers"));
    let waiting = tokio::spawn({
        let group = ours.clone();
        async move { group.wait_for(|members| members.len() == 2).await }
    });
    let a = soon(ours.join("a", "here")).await.unwrap();
    let b = soon(theirs.join("b", "there")).await.unwrap();
    let both = vec![("a".to_owned(), b"here".to_vec()), ("b".to_owned(), b"there".to_vec())];
    assert_eq!(soon(waiting).await.unwrap().unwrap(), both);
    assert!(soon(theirs.join("a", "again")).await.is_err());
    assert!(matches!(soon(theirs.join("a/b", "")).await, Err(CommandError::Invalid { what: "member", .. })));
    soon(two.close()).await.unwrap();
    soon(b.lost()).await;
    assert_eq!(soon(ours.wait_for(|members| members.len() == 1)).await.unwrap(), both[..1]);
    soon(a.leave()).await.unwrap();
    assert_eq!(soon(ours.members()).await.unwrap(), vec![]);

    let mut observer = soon(one.election("/leader").observe()).await.unwrap();
    assert_eq!(soon(observer.next()).await.unwrap(), None);
    let other = soon(space.coordinator()).await.unwrap();
    let leads = soon(other.election("/leader").campaign("me")).await.unwrap();
    let seen = soon(observer.next()).await.unwrap().expect("somebody leads");
    assert_eq!((seen.token, &*seen.value), (leads.token(), &b"me"[..]));
    soon(leads.proclaim("still me")).await.unwrap();
    assert_eq!(&*soon(observer.next()).await.unwrap().expect("it leads").value, &b"still me"[..]);
    soon(leads.resign()).await.unwrap();
    assert_eq!(soon(observer.next()).await.unwrap(), None);
}

/// A grant that had arrived when its future was dropped was held on to for as long as the session lived.
#[tokio::test]
async fn a_grant_that_nobody_takes_is_given_back() {
    let (_peer, space) = alone().await;
    let one = soon(space.coordinator()).await.unwrap();
    let two = soon(space.coordinator()).await.unwrap();
    let mut wish = Box::pin(one.lock("/cron").into_future());
    assert!(futures::poll!(&mut wish).is_pending(), "it is asked for, and nobody looks any more");
    soon(async { while two.holders("/cron").await.unwrap().0.is_empty() {} }).await;
    drop(wish);
    soon(two.lock("/cron")).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_holder_is_known_by_its_peer() {
    let (peer, space) = alone().await;
    let coordinator = soon(space.coordinator()).await.unwrap();
    let held = soon(coordinator.lock("/cron")).await.unwrap();
    let _leads = soon(coordinator.election("/leader").campaign("me")).await.unwrap();
    let (holders, _) = soon(coordinator.holders("/cron")).await.unwrap();
    let leader = soon(coordinator.election("/leader").leader()).await.unwrap().unwrap();
    assert_eq!((holders[0].token, &*holders[0].owner), (held.token(), &peer.peer_id().0[..]));
    assert_eq!((&*leader.owner, &*leader.value), (&peer.peer_id().0[..], &b"me"[..]));
}

#[tokio::test]
async fn a_peer_that_never_votes_says_so_and_founds_nothing() {
    let (_voter, home) = alone().await;
    status_when(&home, "a leader", |status| status.leads).await;
    let peer = Peer::builder().in_memory().listen("/ip4/127.0.0.1/tcp/0").engine(|engine| engine.votes = false);
    let peer = soon(peer.spawn()).await.unwrap();
    for role in [Role::Writer, Role::Voter] {
        soon(peer.join(&soon(home.invite(role)).await.unwrap())).await.unwrap();
    }
    let refused = soon(async {
        loop {
            match home.change_voters(Operation::Add(peer.peer_id())).await {
                // Until it is linked and its grant is known.
                Err(CommandError::Coord(CoordFailure::NotAVoter)) => {
                    tokio::time::sleep(Duration::from_millis(20)).await
                }
                other => return other,
            }
        }
    });
    assert_eq!(refused.await, Err(CommandError::Coord(CoordFailure::CannotVote)));
    let own = soon(peer.create_space("own")).await.unwrap();
    let none = soon(own.coordinator()).await.unwrap_err();
    assert_eq!(none, CommandError::Coord(CoordFailure::NoQuorum));
}

/// Whoever is told that a voter's connection is gone asks it anew at once. That found the connection that had just closed, and
/// waited for a stream on it for ever, also when there was another connection.
#[tokio::test]
async fn a_session_comes_back_with_the_only_voter() {
    let (voter, home) = alone().await;
    let (peer, space) = member(&home, false).await;
    let coordinator = soon(space.coordinator().ttl(Duration::from_secs(3600))).await.unwrap();
    soon(coordinator.connected()).await.unwrap();
    for _ in 0..3 {
        let token = soon(coordinator.lock("/cron")).await.unwrap().token();
        soon(voter.block(peer.peer_id())).await.unwrap();
        soon(async {
            while coordinator.state() == State::Connected {
                tokio::task::yield_now().await
            }
        })
        .await;
        soon(voter.unblock(peer.peer_id())).await.unwrap();
        soon(coordinator.connected()).await.unwrap();
        assert!(soon(coordinator.lock("/cron")).await.unwrap().token() > token);
    }
}

/// Whoever invited a voter before anybody needed the group had one that nobody founded.
#[tokio::test]
async fn inviting_a_voter_founds_the_group() {
    let (_home, home) = alone().await;
    let (peer, space) = member(&home, true).await;
    status_when(&home, "a leader", |status| status.leads).await;
    change(&home, Operation::Add(peer.peer_id())).await;
    drop(soon(soon(space.coordinator()).await.unwrap().lock("/cron")).await.unwrap());
}

/// Two of three voters are gone for good. The third begins anew: the tree is there, tokens go on rising, others join the new
/// group, and a voter that comes back after all, with the log of the old one, does not vote any more until it is added.
#[tokio::test]
async fn a_group_without_a_majority_begins_anew_on_a_survivor() {
    let [first, second, third] = three().await;
    let refused = soon(first.1.change_voters(Operation::Rebuild)).await.unwrap_err();
    assert!(matches!(refused, CommandError::Coord(CoordFailure::Change(_))), "a majority is there: {refused}");
    let before = {
        let coordinator = soon(second.1.coordinator()).await.unwrap();
        soon(coordinator.tree().create("/kept", "data")).await.unwrap();
        let held = soon(coordinator.lock("/cron")).await.unwrap();
        let token = held.token();
        soon(held.release()).await.unwrap();
        token
    };
    let last = soon(first.1.coordination()).await.unwrap().committed;
    status_when(&third.1, "the survivor in step", |status| status.committed >= last).await;
    soon(first.0.shutdown()).await.unwrap();
    // The second one is only cut off: it will come back.
    let (second_id, third_id) = (second.0.peer_id(), third.0.peer_id());
    soon(third.0.block(second_id)).await.unwrap();
    soon(second.0.block(third_id)).await.unwrap();
    status_when(&third.1, "nobody to lead", |status| status.leader.is_none()).await;

    change(&third.1, Operation::Rebuild).await;
    let status = status_when(&third.1, "a new life", |status| status.leads).await;
    assert_eq!((status.generation, status.voters), (2, vec![third_id]));
    let coordinator = soon(third.1.coordinator()).await.unwrap();
    assert_eq!(soon(coordinator.tree().linear().get("/kept")).await.unwrap().unwrap().data, b"data");
    let token = soon(coordinator.lock("/cron").deadline(PATIENCE)).await.unwrap().token();
    assert!(token > before && token.generation == 1, "{token} after {before}");

    soon(third.0.unblock(second_id)).await.unwrap();
    soon(second.0.unblock(third_id)).await.unwrap();
    let over = status_when(&second.1, "the old life to end", |status| status.broken.is_some()).await;
    assert!(over.broken.unwrap().contains("generation 2"));
    change(&third.1, Operation::Add(second_id)).await;
    status_when(&third.1, "a learner", |status| status.learners.contains(&second_id)).await;
    change(&third.1, Operation::Promote(second_id)).await;
    let joined = status_when(&second.1, "a voter of the new life", |status| status.voters.len() == 2).await;
    assert_eq!(joined.generation, 2);
    let same =
        status_when(&second.1, "the same state", |status| status.applied >= last && !status.digest.is_empty()).await;
    assert_eq!((same.broken, same.nodes), (None, soon(third.1.coordination()).await.unwrap().nodes));
}

/// What the other end of a line says, as far as it answers.
async fn answer<T>(line: &crate::peer::coord::Line, mut find: impl FnMut(Tell) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = find(line.next().await.expect("the line goes on")) {
                return found;
            }
        }
    };
    soon(found).await
}

async fn attach(line: &crate::peer::coord::Line, session: SessionId, password: [u8; 16]) -> u64 {
    line.say(vec![Ask::Attach { nonce: 1, session, password, seen: 0 }]);
    answer(line, |tell| match tell {
        Tell::Attached { next_seq, .. } => Some(next_seq),
        Tell::Failed { error, .. } => panic!("{error}"),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_its_line_and_goes_on_over_another_peers() {
    let (_home, space) = alone().await;
    status_when(&space, "a leader", |status| status.leads).await;
    let (_guest, guests) = member(&space, false).await;
    let line = soon(space.line()).await.unwrap();
    assert!(line.is_own());
    let address = Ask::Authenticate { id: 9, scheme: "ip".into(), secret: b"10.0.0.1".to_vec() };
    line.say(vec![address, Ask::Open { nonce: 1, ttl_ms: 60_000 }]);
    let (session, password) = answer(&line, |tell| match tell {
        Tell::Opened { session, password, .. } => Some((session, password)),
        _ => None,
    })
    .await;
    let acl = crate::peer::coord::Acl::open();
    let (path, data) = ("/mine".to_owned(), Vec::new().into());
    let op = Op::Create { path, data, acl, mode: crate::peer::coord::Mode::Ephemeral, sequential: false };
    line.say(vec![Ask::Call { seq: 0, acked_below: 0, command: Call::Op(op) }]);
    let created = |tell| if let Tell::Reply { seq: 0, reply, .. } = tell { Some(reply) } else { None };
    assert!(answer(&line, created).await.is_ok());

    // At a peer that does not vote: it may not have met the voter yet.
    let other = async {
        loop {
            match guests.line().await {
                Ok(line) => return line,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let other = soon(other).await;
    assert!(!other.is_own());
    assert_eq!(attach(&other, session, password).await, 1);
    answer(&line, |tell| matches!(tell, Tell::Moved).then_some(())).await;
    let query = Query::Exists("/mine".into());
    other.say(vec![Ask::Read { id: 5, after: 1, linear: true, query, watch: false }]);
    let found = |tell| if let Tell::Read { id: 5, found, .. } = tell { Some(found) } else { None };
    assert!(answer(&other, found).await.is_ok());
    drop((line, other));

    let again = soon(space.line()).await.unwrap();
    assert_eq!(attach(&again, session, password).await, 1);
    again.say(vec![Ask::Call { seq: 1, acked_below: 1, command: Call::Close }]);
    answer(&again, |tell| matches!(tell, Tell::Lost).then_some(())).await;
    assert_eq!(status_when(&space, "it is gone", |status| status.sessions == 0).await.nodes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_ends_when_the_voter_at_its_other_end_goes() {
    let (home, space) = alone().await;
    let (_guest, guests) = member(&space, false).await;
    let line = async {
        loop {
            match guests.line().await {
                Ok(line) => return line,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let line = soon(line).await;
    line.say(vec![Ask::Open { nonce: 1, ttl_ms: 60_000 }]);
    answer(&line, |tell| matches!(tell, Tell::Opened { .. }).then_some(())).await;
    soon(home.shutdown()).await.unwrap();
    let ended = async { while line.next().await.is_some() {} };
    soon(ended).await;
}
