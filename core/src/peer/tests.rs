//! Peers as programs use them, over real loopback sockets and, where it matters, a real store.

use std::future::{Future, IntoFuture};
use std::time::Duration;

use autosurgeon::{Hydrate, Reconcile};

use super::*;
use crate::document::{HotError, Template, Value};
use crate::trust::Role;

#[cfg(feature = "coord")]
mod coord;
mod hostile;
#[cfg(feature = "redb")]
mod network;

/// Longer than anything here takes on a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn soon<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future.into_future()).await.expect("it happens within the patience of a test")
}

pub(super) fn builder() -> Builder {
    Peer::builder().in_memory().redial(Duration::from_millis(20), Duration::from_millis(200))
}

async fn listening(address: &str) -> Peer {
    soon(builder().listen(address).spawn()).await.unwrap()
}

/// Two peers with one space, linked over `address`.
pub(super) async fn pair(address: &str) -> ((Peer, Space), (Peer, Space)) {
    let a = listening(address).await;
    let home = soon(a.create_space("home")).await.unwrap();
    let invitation = soon(home.invite(Role::Writer)).await.unwrap();
    let b = soon(builder().spawn()).await.unwrap();
    let there = soon(b.join(&invitation)).await.unwrap();
    ((a, home), (b, there))
}

/// Waits until the document's value satisfies a condition.
async fn until<T>(document: &Document<T>, condition: impl Fn(&Value) -> bool) -> Value {
    let mut watch = document.watch().unwrap();
    soon(async {
        loop {
            let value = document.value().unwrap();
            if condition(&value) {
                return value;
            }
            watch.next().await.expect("the peer runs").unwrap();
        }
    })
    .await
}

async fn in_step_over(address: &str) {
    let ((_a, home), (_b, there)) = pair(address).await;
    let left = soon(home.document("/lists/food")).await.unwrap();
    let right = soon(there.document("/lists/food")).await.unwrap();
    let commit = left.edit(|d| d.put("bread", 2)).unwrap();
    soon(commit.durable()).await.unwrap();
    until(&right, |v| v.get("bread").and_then(Value::as_i64) == Some(2)).await;
    let commit = right.edit(|d| d.put("milk", 1)).unwrap();
    soon(commit.synced(1)).await.unwrap();
    until(&left, |v| v.get("milk").is_some()).await;
    assert_eq!(left.heads().unwrap(), right.heads().unwrap());
    assert_eq!(left.value().unwrap(), right.value().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_stay_in_step_over_tcp() {
    in_step_over("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test]
async fn documents_stay_in_step_over_quic() {
    in_step_over("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

#[tokio::test]
async fn documents_stay_in_step_over_websocket() {
    in_step_over("/ip4/127.0.0.1/tcp/0/ws").await;
}

#[tokio::test]
async fn what_diverged_behind_a_cut_converges_when_it_heals() {
    let ((a, home), (b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let left = soon(home.document("/notes")).await.unwrap();
    let right = soon(there.document("/notes")).await.unwrap();
    left.edit(|d| d.put("both", true)).unwrap();
    until(&right, |v| v.get("both").is_some()).await;
    let mut events = b.events();
    soon(a.block(b.peer_id())).await.unwrap();
    soon(async { while !matches!(events.next().await, Some(PeerEvent::Unlinked { .. })) {} }).await;
    for i in 0..20 {
        left.edit(|d| d.put(&format!("left{i}"), i)).unwrap();
        right.edit(|d| d.put(&format!("right{i}"), i)).unwrap();
    }
    assert!(right.value().unwrap().get("left0").is_none());
    soon(a.unblock(b.peer_id())).await.unwrap();
    until(&left, |v| v.get("right19").is_some()).await;
    until(&right, |v| v.get("left19").is_some()).await;
    assert_eq!(left.heads().unwrap(), right.heads().unwrap());
}

#[tokio::test]
async fn a_restarted_peer_has_what_was_durable() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Peer::builder().store(crate::store::Redb::open(dir.path()).unwrap());
    let peer = soon(open().spawn()).await.unwrap();
    let (id, device) = (peer.peer_id(), peer.device());
    let space = soon(peer.create_space("home")).await.unwrap();
    let note = soon(space.document("/note")).await.unwrap();
    soon(note.edit(|d| d.put("kept", "yes")).unwrap().durable()).await.unwrap();
    let heads = note.heads().unwrap();
    soon(peer.shutdown()).await.unwrap();
    assert!(matches!(soon(peer.spaces()).await, Err(CommandError::Closed)));
    assert!(matches!(note.edit(|d| d.put("kept", "no")), Err(DocumentError::Command(CommandError::Closed))));

    let peer = soon(open().spawn()).await.unwrap();
    assert_eq!((peer.peer_id(), peer.device()), (id, device));
    let space = soon(peer.space("home")).await.unwrap().expect("the space is there");
    let snapshot = soon(space.read::<Value>("/note")).await.unwrap();
    assert_eq!(snapshot.heads, heads);
    let value = snapshot.value.expect("the document is there");
    assert_eq!(value.get("kept").and_then(Value::as_str), Some("yes"));
    let page = soon(space.list("/").limit(10)).await.unwrap();
    assert_eq!(page.items.iter().map(|item| item.path.as_str()).collect::<Vec<_>>(), ["/note"]);
}

#[test]
fn a_program_without_a_runtime_blocks() {
    let peer = blocking::spawn(Peer::builder().in_memory()).unwrap();
    let space = peer.wait(peer.create_space("home")).unwrap();
    let note = peer.wait(space.document("/note")).unwrap();
    peer.wait(note.edit(|d| d.put("a", 1)).unwrap().durable()).unwrap();
    assert_eq!(peer.wait(space.list("/")).unwrap().items.len(), 1);
    peer.close().unwrap();
}

#[test]
fn spawning_outside_a_runtime_is_an_error() {
    let refused = futures::executor::block_on(Peer::builder().in_memory().spawn());
    assert!(matches!(refused, Err(SpawnError::NoRuntime)));
}

#[tokio::test]
async fn malformed_addresses_and_missing_stores_are_named() {
    let refused = Peer::builder().in_memory().listen("127.0.0.1:80").spawn().await;
    assert!(matches!(refused, Err(SpawnError::Address(error)) if error.text == "127.0.0.1:80"));
    assert!(matches!(Peer::builder().spawn().await, Err(SpawnError::NoStore)));
}

#[tokio::test]
async fn opening_a_document_inside_an_edit_is_an_error_and_never_a_deadlock() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let (a, b) = (soon(space.document("/a")).await.unwrap(), soon(space.document("/b")).await.unwrap());
    a.edit(|d| {
        for other in [&a, &b] {
            assert!(matches!(other.edit(|d| d.put("x", 1)), Err(DocumentError::Hot(HotError::Reentrant))));
            assert!(matches!(other.get(), Err(DocumentError::Hot(HotError::Reentrant))));
        }
        d.put("done", true)
    })
    .unwrap();
    assert!(a.value().unwrap().get("done").is_some());
}

#[tokio::test]
async fn a_dropped_future_gives_up_waiting_and_nothing_else() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let note = soon(space.document("/note")).await.unwrap();
    let commit = note.edit(|d| d.put("a", 1)).unwrap();
    let mut nobody = Box::pin(commit.synced(1));
    assert!(futures::poll!(nobody.as_mut()).is_pending());
    soon(commit.durable()).await.unwrap();
    for _ in 0..3 {
        assert!(futures::poll!(nobody.as_mut()).is_pending(), "there is no other peer");
        tokio::task::yield_now().await;
    }
    drop(nobody);
    let mut making = Box::pin(peer.create_space("other"));
    assert!(futures::poll!(making.as_mut()).is_pending());
    drop(making);
    soon(async {
        while peer.space("other").await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[derive(Debug, Clone, Default, PartialEq, Hydrate, Reconcile)]
struct Todos {
    title: String,
    items: Vec<String>,
}

#[tokio::test]
async fn a_document_reads_and_writes_as_a_rust_type() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let initial = serde_json::json!({"title": "", "items": []});
    let template = Template::new(&Value::from_json(&initial).unwrap()).unwrap();
    let todos: Document<Todos> = soon(space.document_with("/todos", &template)).await.unwrap();
    assert_eq!(*todos.get().unwrap(), Todos::default());
    let commit = todos
        .update(|t| {
            t.title = "today".into();
            t.items.push("bread".into());
        })
        .unwrap();
    soon(commit.durable()).await.unwrap();
    let now = todos.get().unwrap();
    assert_eq!(*now, Todos { title: "today".into(), items: vec!["bread".into()] });
    assert!(Arc::ptr_eq(&now, &todos.clone().get().unwrap()), "read once for each state");
    todos.edit(|d| d.put("title", 7)).unwrap();
    assert!(matches!(todos.get(), Err(DocumentError::Content { .. })));
    assert!(matches!(todos.update(|t| t.title.clear()), Err(DocumentError::Content { .. })));
}

#[tokio::test]
async fn a_window_and_a_watch_follow_a_prefix() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let mut window = space.window("/lists", 2).unwrap();
    assert_eq!(soon(window.next()).await.unwrap().unwrap(), []);
    let mut watch = space.watch("/lists").unwrap();
    for path in ["/other", "/lists/b", "/lists/a", "/lists/c"] {
        let document = soon(space.document(path)).await.unwrap();
        soon(document.edit(|d| d.put("x", 1)).unwrap().durable()).await.unwrap();
    }
    let Some(SpaceChange::Document(change)) = soon(watch.next()).await else { panic!("nothing was missed") };
    assert_eq!((change.path.as_str(), change.deleted), ("/lists/b", false));
    soon(async {
        loop {
            let shown = window.next().await.unwrap().unwrap();
            if shown.iter().map(|item| item.path.as_str()).eq(["/lists/a", "/lists/b"]) {
                break;
            }
        }
    })
    .await;
    assert!(soon(space.delete("/lists/a")).await.unwrap());
    let shown = soon(window.next()).await.unwrap().unwrap();
    assert_eq!(shown.iter().map(|item| item.path.as_str()).collect::<Vec<_>>(), ["/lists/b", "/lists/c"]);
}

#[tokio::test]
async fn a_deleted_document_refuses_edits_and_its_path_opens_anew() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let note = soon(space.document("/note")).await.unwrap();
    soon(note.edit(|d| d.put("a", 1)).unwrap().durable()).await.unwrap();
    let mut watch = note.watch().unwrap();
    assert!(soon(space.delete("/note")).await.unwrap());
    assert!(soon(watch.next()).await.unwrap().unwrap().deleted);
    assert!(soon(watch.next()).await.is_none());
    assert!(matches!(note.edit(|d| d.put("a", 2)), Err(DocumentError::Deleted(_))));
    let again = soon(space.document("/note")).await.unwrap();
    assert_eq!((again.generation(), again.heads().unwrap()), (1, Vec::new()));
}

#[tokio::test]
async fn who_reads_anew_waits_for_changes_without_their_patches() {
    let ((_a, home), (_b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let left = soon(home.document("/note")).await.unwrap();
    let right = soon(there.document("/note")).await.unwrap();
    let mut watch = right.watch().unwrap();
    for n in 1..=2 {
        left.edit(|d| d.put("n", n)).unwrap();
        while right.value().unwrap().get("n").and_then(Value::as_i64) != Some(n) {
            assert!(soon(watch.changed()).await);
        }
    }
    // The patches start where the last ones ended, wherever that was.
    left.edit(|d| d.put("n", 3)).unwrap();
    let change = soon(watch.next()).await.unwrap().unwrap();
    assert!(change.from.is_empty());
    assert!(soon(home.delete("/note")).await.unwrap());
    // Told of once, after what was raised before.
    soon(async { while watch.changed().await {} }).await;
    assert!(matches!(right.edit(|d| d.put("n", 4)), Err(DocumentError::Deleted(_))));
    assert!(soon(watch.next()).await.is_none());
}

#[tokio::test]
async fn events_tell_of_links_and_their_end() {
    let ((a, _), (b, _)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let mut events = a.events();
    soon(async {
        loop {
            let status = a.status().await.unwrap();
            if status.network.links.len() == 1 && status.engine.links.len() == 1 {
                assert_eq!(status.network.links[0].peer, b.peer_id());
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(b.shutdown()).await.unwrap();
    soon(async {
        while !matches!(events.next().await, Some(PeerEvent::Unlinked { peer, .. }) if peer == b.peer_id()) {}
    })
    .await;
    soon(a.shutdown()).await.unwrap();
    soon(async { while !matches!(events.next().await, Some(PeerEvent::Closed)) {} }).await;
    assert!(soon(events.next()).await.is_none());
}

#[test]
fn every_handle_is_send_and_sync() {
    fn check<T: Clone + Send + Sync>() {}
    fn sends<F: Future + Send>(_: impl Fn(&'static Space) -> F) {}
    check::<Peer>();
    check::<Space>();
    check::<Document<Value>>();
    check::<Document<Todos>>();
    check::<Commit>();
    check::<blocking::Peer>();
    sends(|space| space.document("/a"));
    sends(|space| space.read::<Value>("/a").into_future());
}

#[tokio::test]
async fn a_batch_happens_whole_or_not_at_all() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let (a, b) = (soon(space.document("/a")).await.unwrap(), soon(space.document("/b")).await.unwrap());
    let commit = space
        .batch(|batch| {
            batch.edit(&a, |d| d.put("n", 1)).edit(&b, |d| d.put("n", 1)).edit(&a, |d| d.put("m", 2));
        })
        .unwrap();
    assert_eq!(commit.changes().len(), 2, "one change for each document");
    assert_eq!(soon(commit.durable_all()).await.unwrap().len(), 2);
    let before = (a.heads().unwrap(), b.heads().unwrap());
    let failed = space.batch(|batch| {
        for document in [&a, &b] {
            batch.edit(document, |d| d.put("n", 2));
        }
        for document in [&a, &b] {
            batch.edit(document, |d| d.text("absent").map(drop));
        }
    });
    assert!(matches!(failed, Err(DocumentError::Hot(HotError::Edit(_)))));
    assert_eq!((a.heads().unwrap(), b.heads().unwrap()), before);
    assert_eq!(a.value().unwrap().get("n").and_then(Value::as_i64), Some(1));
    soon(a.edit(|d| d.put("n", 3)).unwrap().durable()).await.unwrap();
}

#[tokio::test]
async fn a_watch_reports_patches_of_its_part() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let note = soon(space.document("/note")).await.unwrap();
    note.edit(|d| d.put("body", Value::text("hello"))).unwrap();
    let mut watch = note.watch_at(["body"]).unwrap();
    note.edit(|d| d.put("title", "x")).unwrap();
    note.edit(|d| d.text("body")?.splice(5..5, "!")).unwrap();
    let change = soon(watch.next()).await.unwrap().unwrap();
    let patches = change.patches.expect("the heads before are known");
    assert!(
        matches!(&patches[..], [crate::document::Patch::Text { edits, .. }] if edits[0].insert == "!"),
        "{patches:?}"
    );
    let cursor = note.cursor(["body"], 5, crate::document::Side::After).unwrap();
    note.edit(|d| d.text("body")?.splice(0..0, ">> ")).unwrap();
    assert_eq!(note.locate(["body"], &[cursor]).unwrap(), [Some(8)]);
    assert_eq!(note.history(None, 10).unwrap().len(), 4);
}

#[tokio::test]
async fn a_burst_of_edits_is_stored_whole_and_in_order() {
    const EDITS: i64 = 3_000;
    let ((_a, home), (_b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let left = soon(home.document("/burst")).await.unwrap();
    let right = soon(there.document("/burst")).await.unwrap();
    let mut last = None;
    for i in 0..EDITS {
        last = Some(left.edit(|d| d.put("n", i)).unwrap());
    }
    soon(last.expect("there were edits").durable()).await.unwrap();
    until(&right, |v| v.get("n").and_then(Value::as_i64) == Some(EDITS - 1)).await;
    assert_eq!(left.heads().unwrap(), right.heads().unwrap());
    assert_eq!(right.history(None, usize::MAX).unwrap().len() as i64, EDITS);
}

#[tokio::test]
async fn undo_takes_back_what_this_handle_edited() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let mine = soon(space.document("/note")).await.unwrap();
    let other = soon(space.document("/note")).await.unwrap();
    let undo = mine.undo_manager(Vec::<&str>::new(), Duration::ZERO);
    mine.edit(|d| d.put("body", Value::text("one"))).unwrap();
    undo.boundary();
    mine.edit(|d| d.text("body")?.splice(3..3, " two")).unwrap();
    other.edit(|d| d.text("body")?.splice(0..0, "zero ")).unwrap();
    let body = || mine.read(|d| Ok(d.text("body")?.to_string())).unwrap();
    soon(undo.undo().unwrap().expect("there is a step").durable()).await.unwrap();
    assert_eq!(body(), "zero one");
    undo.redo().unwrap().expect("it can be redone");
    assert_eq!(body(), "zero one two");
    assert!(undo.can_undo() && !undo.can_redo());
}

#[tokio::test]
async fn a_refused_edit_disappears_when_the_document_is_read_anew() {
    let a = listening("/ip4/127.0.0.1/tcp/0").await;
    let home = soon(a.create_space("home")).await.unwrap();
    let note = soon(home.document("/note")).await.unwrap();
    soon(note.edit(|d| d.put("a", 1)).unwrap().durable()).await.unwrap();
    let invitation = soon(home.invite(Role::Reader)).await.unwrap();
    let b = soon(builder().spawn()).await.unwrap();
    let there = soon(b.join(&invitation)).await.unwrap();
    let seen = soon(there.document("/note")).await.unwrap();
    until(&seen, |v| v.get("a").is_some()).await;
    let refused = seen.edit(|d| d.put("a", 2)).unwrap();
    assert!(matches!(soon(refused.durable()).await, Err(CommandError::Denied { .. })));
    soon(seen.ready()).await;
    let value = until(&seen, |v| v.get("a").and_then(Value::as_i64) == Some(1)).await;
    assert_eq!(value, note.value().unwrap());
    soon(note.edit(|d| d.put("a", 3)).unwrap().durable()).await.unwrap();
    until(&seen, |v| v.get("a").and_then(Value::as_i64) == Some(3)).await;
}

#[tokio::test]
async fn a_store_is_free_again_when_a_start_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Peer::builder().store(crate::store::Redb::open(dir.path()).expect("the store is free"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = soon(open().listen(format!("/ip4/127.0.0.1/tcp/{port}")).spawn()).await;
    assert!(matches!(refused, Err(SpawnError::Listen { .. })));
    soon(open().spawn()).await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_program_leaves_the_document_usable() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let (a, b) = (soon(space.document("/a")).await.unwrap(), soon(space.document("/b")).await.unwrap());
    a.edit(|d| d.put("n", 1)).unwrap();
    let unwinds = |act: &mut dyn FnMut()| {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).is_err());
    };
    unwinds(&mut || drop(a.read(|_| -> Result<(), _> { panic!("in a read") })));
    unwinds(&mut || {
        let _ = a.edit(|d| {
            d.put("n", 2)?;
            panic!("in an edit")
        });
    });
    unwinds(&mut || {
        let _ = space.batch(|batch| {
            batch.edit(&a, |d| d.put("n", 3)).edit(&b, |_| panic!("in a batch")).edit(&a, |d| d.put("n", 4));
        });
    });
    assert_eq!(a.value().unwrap().get("n").and_then(Value::as_i64), Some(1));
    soon(a.edit(|d| d.put("n", 5)).unwrap().durable()).await.unwrap();
    soon(b.edit(|d| d.put("n", 5)).unwrap().durable()).await.unwrap();
}

#[tokio::test]
async fn changes_travel_through_a_peer_in_between() {
    let hub = listening("/ip4/127.0.0.1/tcp/0").await;
    let space = soon(hub.create_space("home")).await.unwrap();
    let mut documents = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..3 {
        let invitation = soon(space.invite(Role::Writer).expires_in(Duration::from_secs(3600))).await.unwrap();
        let leaf = soon(builder().spawn()).await.unwrap();
        let joined = soon(leaf.join_as(&invitation, "there")).await.unwrap();
        documents.push(soon(joined.document("/shared")).await.unwrap());
        peers.push(leaf);
    }
    for (i, document) in documents.iter().enumerate() {
        document.edit(|d| d.put(&format!("leaf{i}"), true)).unwrap();
    }
    let all = |v: &Value| (0..3).all(|i| v.get(&format!("leaf{i}")).is_some());
    for document in &documents {
        until(document, all).await;
    }
    let heads = documents[0].heads().unwrap();
    assert!(documents.iter().all(|document| document.heads().unwrap() == heads));
    let members = soon(space.members(None, 10)).await.unwrap();
    assert_eq!(members.len(), 4);
    // The hub goes and comes back under the same address: the leaves find it again by themselves.
    for leaf in &peers {
        soon(hub.block(leaf.peer_id())).await.unwrap();
    }
    documents[0].edit(|d| d.put("late", 1)).unwrap();
    for leaf in &peers {
        soon(hub.unblock(leaf.peer_id())).await.unwrap();
    }
    until(&documents[2], |v| v.get("late").is_some()).await;
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Service {
    url: String,
}

fn service(url: &str) -> Service {
    Service { url: url.into() }
}

#[tokio::test]
async fn soft_entries_are_seen_by_others_and_go_with_their_peer() {
    let ((_a, home), (b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let here = home.soft::<Service>("/services").unwrap();
    let far = there.soft::<Service>("/services").unwrap();
    let mut watch = here.watch();
    assert!(soon(far.set("api", &service("one")).unwrap()).await.unwrap());
    let Some(SoftNews::Set { key, value, owner, mine: false, .. }) = soon(watch.next()).await else {
        panic!("the watcher is told")
    };
    assert_eq!((key.as_str(), value, owner.peer), ("api", service("one"), b.peer_id()));
    soon(here.set("api", &service("mine")).unwrap()).await.unwrap();
    soon(here.set("api/v2", &service("two")).unwrap()).await.unwrap();
    let all = soon(here.entries()).await.unwrap();
    let mut keys: Vec<_> = all.iter().map(|item| (item.key.as_str(), item.mine)).collect();
    keys.sort_unstable();
    assert_eq!(keys, [("api", false), ("api", true), ("api/v2", true)]);
    assert!(!soon(far.delete("nothing").unwrap()).await.unwrap());
    soon(b.shutdown()).await.unwrap();
    soon(async {
        loop {
            match watch.next().await {
                Some(SoftNews::Gone { key, expired: false, mine: false, .. }) if key == "api" => return,
                Some(_) => {}
                None => panic!("the peer runs"),
            }
        }
    })
    .await;
    assert_eq!(soon(here.get("api")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn presence_shows_the_others() {
    let ((_a, home), (_b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let alice = home.presence("/room", "alice".to_owned()).unwrap();
    let mut others = alice.watch();
    assert_eq!(soon(others.next()).await.unwrap().unwrap(), []);
    let bob = there.presence("/room", "bob".to_owned()).unwrap();
    let names = |here: Vec<SoftItem<String>>| here.into_iter().map(|item| item.value).collect::<Vec<_>>();
    assert_eq!(names(soon(others.next()).await.unwrap().unwrap()), ["bob"]);
    soon(bob.set("bob, busy".into()).unwrap()).await.unwrap();
    assert_eq!(*bob.mine(), "bob, busy");
    assert_eq!(names(soon(others.next()).await.unwrap().unwrap()), ["bob, busy"]);
    soon(bob.leave().unwrap()).await.unwrap();
    assert_eq!(names(soon(others.next()).await.unwrap().unwrap()), [""; 0]);
}

#[tokio::test]
async fn a_soft_entry_over_a_bound_or_with_a_bad_key_is_refused_by_name() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let soft = space.soft::<String>("/s").unwrap();
    let long = "x".repeat(crate::soft::MAX_VALUE);
    let refused = soon(soft.set("a", &long).unwrap()).await;
    assert!(matches!(refused, Err(CommandError::Soft(SoftError::ValueTooLarge { .. }))), "{refused:?}");
    for key in ["a//b", "/a", "..", "a/"] {
        assert!(matches!(soft.set(key, &String::new()), Err(CommandError::Invalid { what: "path", .. })), "{key}");
    }
}

#[test]
fn soft_state_works_without_a_runtime() {
    let peer = blocking::spawn(builder()).unwrap();
    let space = peer.wait(peer.create_space("home")).unwrap();
    let soft = space.soft::<u32>("/load").unwrap();
    peer.wait(soft.set("me", &7).unwrap()).unwrap();
    let found = peer.wait(soft.entries()).unwrap();
    assert_eq!((found[0].value, found[0].mine, found[0].away), (7, true, false));
    peer.close().unwrap();
}

#[tokio::test]
async fn a_read_with_a_bookmark_waits_for_the_write_that_made_it() {
    let ((a, home), (b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let note = soon(home.document("/note")).await.unwrap();
    soon(note.edit(|d| d.put("n", 1)).unwrap().synced(1)).await.unwrap();
    soon(b.block(a.peer_id())).await.unwrap();
    let commit = note.edit(|d| d.put("n", 2)).unwrap();
    let bookmark = soon(commit.bookmark()).await.unwrap();
    // As a browser's cookie or a header of a request would carry it.
    let bookmark: Bookmark = bookmark.to_string().parse().unwrap();
    let refused = soon(there.read::<Value>("/other").at_least(&bookmark).timeout(Duration::from_millis(20))).await;
    let Err(CommandError::NotYet { missing }) = refused else { panic!("{refused:?}") };
    assert_eq!(missing.documents[0].path.as_str(), "/note");
    let waits = soon(there.read::<Todos>("/note").at_least(&bookmark).timeout(PATIENCE));
    let heals = async {
        soon(b.unblock(a.peer_id())).await.unwrap();
    };
    let (fresh, ()) = futures::join!(waits, heals);
    let wrong = fresh.unwrap_err();
    assert!(matches!(wrong, CommandError::Invalid { what: "type", .. }), "a note is no list of things to do: {wrong}");
    let fresh = soon(there.read::<Value>("/note").at_least(&bookmark)).await.unwrap();
    assert_eq!(fresh.value.unwrap().get("n").and_then(Value::as_i64), Some(2));
    assert_eq!(soon(there.reach(&bookmark)).await.unwrap().documents().count(), 1);
}

#[tokio::test]
async fn bookmarks_are_of_reads_deletions_and_whole_stores_too() {
    let ((_a, home), (_b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let initial = serde_json::json!({"title": "", "items": []});
    let template = Template::new(&Value::from_json(&initial).unwrap()).unwrap();
    let list: Document<Todos> = soon(home.document_with("/todo", &template)).await.unwrap();
    soon(list.update(|t| t.title = "shore".into()).unwrap().durable()).await.unwrap();
    let all = soon(home.bookmark()).await.unwrap();
    let fresh = soon(there.read::<Todos>("/todo").at_least(&all)).await.unwrap();
    assert_eq!(fresh.value.unwrap().title, "shore");
    assert!(soon(home.delete("/todo")).await.unwrap());
    let gone = soon(home.bookmark_of(vec!["/todo".parse().unwrap()])).await.unwrap();
    let fresh = soon(there.read::<Value>("/todo").at_least(&gone)).await.unwrap();
    assert_eq!(fresh.value, None);
    assert!(!fresh.bookmark.is_empty(), "that it is gone has been seen");
}

#[test]
fn a_program_without_a_runtime_reads_with_a_bookmark() {
    let peer = blocking::spawn(Peer::builder().in_memory()).unwrap();
    let space = peer.wait(peer.create_space("home")).unwrap();
    let note = peer.wait(space.document("/note")).unwrap();
    let bookmark = peer.wait(note.edit(|d| d.put("n", 1)).unwrap().bookmark()).unwrap();
    let fresh = peer.wait(space.read::<Value>("/note").at_least(&bookmark)).unwrap();
    assert_eq!(fresh.bookmark.documents().count(), 1);
    peer.close().unwrap();
}

#[tokio::test]
async fn an_edit_that_was_decided_on_other_heads_is_not_made() {
    let peer = soon(builder().spawn()).await.unwrap();
    let home = soon(peer.create_space("home")).await.unwrap();
    let notes = soon(home.document("/notes")).await.unwrap();
    let (count, first) = notes.edit_if(<[_]>::is_empty, |d| d.put("n", 1).map(|()| 7)).unwrap();
    assert_eq!(count, 7);
    let seen = soon(first.durable()).await.unwrap();
    notes.edit_if(|heads| heads == seen, |d| d.put("n", 2)).unwrap();
    let mut looked = false;
    let late = notes.edit_if(
        |heads| heads == seen,
        |d| {
            looked = true;
            d.put("n", 3)
        },
    );
    match late {
        Err(DocumentError::Moved { heads, .. }) => assert_eq!(heads, notes.heads().unwrap()),
        other => panic!("{other:?}"),
    }
    assert!(!looked, "what is not to be made is not begun");
    assert_eq!(notes.value().unwrap().get("n").and_then(Value::as_i64), Some(2));
    // What an edit itself gives up for is told as before.
    let refused = notes.edit_if(|_| true, |_| Err::<(), _>(crate::document::EditError::aborted("no")));
    assert!(matches!(refused, Err(DocumentError::Hot(HotError::Edit(crate::document::EditError::Aborted(_))))));
}
