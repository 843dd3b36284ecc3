//! Topics as programs use them, over real sockets.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value as Json, json};

use crate::engine::TopicError;
use crate::peer::tests::{builder, pair, soon};
use crate::peer::{CommandError, MAX_WAITING_SIGNALS, Topic, blocking};
use crate::topic::MAX_PAYLOAD;
use crate::trust::Role;

/// Publishes until the other side's first signal is heard: two peers that have just met may not have agreed on what they
/// share.
async fn meet(from: &Topic<Json>, heard: &mut crate::peer::Signals<Json>) {
    soon(async {
        loop {
            from.publish(&json!("hello")).unwrap().await.unwrap();
            let wait = tokio::time::timeout(Duration::from_millis(20), heard.next());
            if wait.await.is_ok() {
                return;
            }
        }
    })
    .await;
    // What was said more than once until then has been heard or is about to be.
    from.publish(&json!("met")).unwrap().await.unwrap();
    soon(async { while heard.next().await.expect("the peer runs").value != "met" {} }).await;
}

#[tokio::test]
async fn a_signal_is_heard_by_the_other_peer_and_here() {
    let ((a, home), (_b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let (here, far) = (home.topic::<Json>("/signals").unwrap(), there.topic::<Json>("/signals").unwrap());
    let (mut own, mut heard) = (here.subscribe(), far.subscribe());
    let mut under = there.signals::<Json>("/").unwrap();
    let mut elsewhere = there.topic::<Json>("/signals/below").unwrap().subscribe();
    meet(&here, &mut heard).await;
    for n in 0..50 {
        let published = soon(here.publish(&json!(n)).unwrap()).await.unwrap();
        assert_eq!(published.peers, 1);
    }
    for n in 0..50 {
        let signal = soon(StreamExt::next(&mut heard)).await.unwrap();
        assert_eq!((signal.value, signal.missed, signal.dropped, signal.mine), (json!(n), 0, 0, false));
        assert_eq!((signal.sender.peer, signal.path.as_str()), (a.peer_id(), "/signals"));
    }
    soon(async { while !(own.next().await.expect("the peer runs").value == 49) {} }).await;
    soon(async { while !(under.next().await.expect("the peer runs").value == 49) {} }).await;
    soon(home.topic::<Json>("/signals/below").unwrap().publish(&json!("deep")).unwrap()).await.unwrap();
    assert_eq!(soon(elsewhere.next()).await.unwrap().value, "deep", "and nothing of the topic above it");
    soon(a.shutdown()).await.unwrap();
    soon(async { while own.next().await.is_some() {} }).await;
}

#[tokio::test]
async fn a_subscriber_that_reads_late_is_told_how_much_it_dropped_and_another_loses_nothing() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    let topic = space.topic::<u64>("/signals").unwrap();
    let (mut late, mut prompt) = (topic.subscribe(), topic.subscribe());
    let all = MAX_WAITING_SIGNALS as u64 + 40;
    for n in 0..all {
        loop {
            match soon(topic.publish(&n).unwrap()).await {
                Ok(_) => break,
                Err(CommandError::Topic(TopicError::RateExceeded { wait })) => tokio::time::sleep(wait).await,
                Err(error) => panic!("{error}"),
            }
        }
        let heard = soon(prompt.next()).await.unwrap();
        assert_eq!((heard.value, heard.dropped, heard.mine), (n, 0, true));
    }
    let first = soon(late.next()).await.unwrap();
    assert_eq!((first.value, first.dropped), (40, 40), "the oldest went, and the next one says so");
    for n in 41..all {
        let heard = soon(late.next()).await.unwrap();
        assert_eq!((heard.value, heard.dropped), (n, 0));
    }
}

#[tokio::test]
async fn signals_are_refused_by_name() {
    let ((_a, home), (_b, _there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let topic = home.topic::<String>("/s").unwrap();
    let refused = soon(topic.publish(&"x".repeat(MAX_PAYLOAD)).unwrap()).await.unwrap_err();
    let too_large = TopicError::PayloadTooLarge { bytes: MAX_PAYLOAD + 2, max: MAX_PAYLOAD };
    assert_eq!(refused, CommandError::Topic(too_large));
    assert!(matches!(home.topic::<String>("/a//b"), Err(CommandError::Invalid { what: "path", .. })));
    let reader = soon(builder().spawn()).await.unwrap();
    let invitation = soon(home.invite(Role::Reader)).await.unwrap();
    let there = soon(reader.join(&invitation)).await.unwrap();
    let refused = soon(there.topic::<u32>("/s").unwrap().publish(&1).unwrap()).await.unwrap_err();
    assert!(matches!(refused, CommandError::Topic(TopicError::NoGrant { .. })), "{refused}");
    let mut sent = 0;
    let refused = soon(async {
        loop {
            match topic.publish(&String::new()).unwrap().await {
                Ok(_) => sent += 1,
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(matches!(refused, CommandError::Topic(TopicError::RateExceeded { .. })), "{refused}");
    assert!(sent >= 400, "{sent}");
}

#[test]
fn topics_work_without_a_runtime() {
    let peer = blocking::spawn(builder()).unwrap();
    let space = peer.wait(peer.create_space("home")).unwrap();
    let topic = space.topic::<u32>("/signals").unwrap();
    let mut heard = topic.subscribe();
    assert_eq!(peer.wait(topic.publish(&7).unwrap()).unwrap().peers, 0);
    let signal = peer.wait(heard.next()).unwrap();
    assert_eq!((signal.value, signal.mine, signal.seq), (7, true, 1));
    peer.close().unwrap();
}
