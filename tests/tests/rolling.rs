//! A rolling restart: three voters are told to stop and started again, one after the other, while clients work.
//!
//! The clients are sessions of a member that does not vote and is not restarted. What they ask is done, or refused in a way that
//! docs/coordination.md lets them ask again for; a lock that is held is held through all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use foreshore::coord::CoordError;
use foreshore::engine::CoordFailure;
use foreshore::peer::coord::{Coordinator, FencingToken};
use foreshore::peer::{CommandError, Peer, Space};
use foreshore_tests::is_long;
use foreshore_tests::voters::{PATIENCE, Voters, until};

/// Sessions that work.
const WORKERS: usize = 8;

/// What the workers did.
#[derive(Default)]
struct Work {
    done: AtomicU64,
    /// Refused so that it may be asked again.
    again: AtomicU64,
    over: AtomicBool,
}

impl Work {
    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Whether it was done. What may not happen ends the test.
    fn note<T>(&self, what: &str, result: Result<T, CommandError>) -> Option<T> {
        match result {
            Ok(value) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                Some(value)
            }
            Err(CommandError::Coord(CoordFailure::NoQuorum | CoordFailure::Busy)) => {
                self.again.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// A session that takes a lock that others want, too, and counts in a node of its own under it.
async fn worker(space: Space, number: usize, work: Arc<Work>) -> (u64, u64) {
    let session = space.coordinator().await.unwrap();
    let (tree, node) = (session.tree(), format!("/counts/{number}"));
    while work.note("create", tree.create(&node, "0").await).is_none() {}
    let (mut count, mut newest) = (0_u64, None::<FencingToken>);
    while !work.over.load(Ordering::Relaxed) {
        let lock = session.lock(format!("/locks/{}", number % 3)).deadline(PATIENCE);
        let Some(lock) = work.note("lock", lock.await) else { continue };
        assert!(newest.is_none_or(|newest| lock.token() > newest), "tokens rise");
        newest = Some(lock.token());
        assert!(!lock.is_lost(), "worker {number} lost its lock");
        let version = i32::try_from(count).unwrap();
        // The version says whether an earlier one that was to be asked again has been done after all.
        if work.note("set", tree.set(&node, (count + 1).to_string(), Some(version)).await).is_some() {
            count += 1;
        }
        work.note("read", tree.clone().linear().children("/counts").await);
        assert!(!lock.is_lost(), "worker {number} lost its lock");
        match lock.release().await {
            // Given back by an earlier try.
            Err(CommandError::Coord(CoordFailure::Coord(CoordError::NotHeld))) => {}
            result => drop(work.note("release", result)),
        }
    }
    let found = loop {
        if let Some(found) = work.note("get", tree.clone().linear().get(&node).await) {
            break found.unwrap();
        }
    };
    let _ = session.close().await;
    (count, String::from_utf8(found.data).unwrap().parse().unwrap())
}

async fn member(voters: &Voters) -> (Peer, Space) {
    let mut builder = Peer::builder().in_memory().listen("/ip4/127.0.0.1/tcp/0");
    for address in voters.addresses() {
        builder = builder.bootstrap(address.as_str());
    }
    let peer = builder.spawn().await.unwrap();
    let first = &voters.voters[0];
    let invitation = first.ok(&["invite", "--print", "--address", &first.listen]);
    let space = peer.join(invitation.trim()).await.unwrap();
    (peer, space)
}

fn restart(voters: &mut Voters, number: usize, work: &Work) {
    voters.voters[number].stop();
    let gone = work.done();
    until("work goes on without one", || (work.done() > gone + 20).then_some(()));
    voters.restart(number);
    voters.wait_whole();
    let back = work.done();
    until("work goes on with all", || (work.done() > back + 20).then_some(()));
}

#[test]
fn voters_are_restarted_in_turn_and_nobody_loses_a_lock_or_a_request() {
    let mut voters = Voters::start(env!("CARGO_BIN_EXE_foreshore-peer"), 3, None, |_| Vec::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (peer, space) = runtime.block_on(member(&voters));
    let session: Coordinator = runtime.block_on(async { space.coordinator().await.unwrap() });
    let work = Arc::new(Work::default());
    let held = runtime.block_on(async {
        session.tree().create("/counts", "").await.unwrap();
        session.lock("/held").await.unwrap()
    });
    let workers: Vec<_> =
        (0..WORKERS).map(|number| runtime.spawn(worker(space.clone(), number, work.clone()))).collect();
    for round in 0..if is_long() { 5 } else { 1 } {
        // Beginning with the one that leads, so that leadership moves.
        let leader = voters.leader();
        for step in 0..3 {
            restart(&mut voters, (leader + step) % 3, &work);
            assert!(!held.is_lost(), "round {round}: the lock was lost");
        }
    }
    work.over.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for worker in workers {
            let (counted, found) = tokio::time::timeout(PATIENCE, worker).await.unwrap().unwrap();
            assert!(counted == found && counted > 0, "counted {counted}, and {found} is there");
        }
        let token = held.token();
        assert!(!held.is_lost());
        held.release().await.unwrap();
        assert!(session.lock("/held").await.unwrap().token() > token);
    });
    voters.agree();
    println!("{} requests, {} asked again", work.done(), work.again.load(Ordering::Relaxed));
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), peer.shutdown()).await }).unwrap().unwrap();
}
