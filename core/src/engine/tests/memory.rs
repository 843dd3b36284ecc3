//! What is kept in memory, and what is read from the store.

use super::*;

#[test]
fn hydrated_documents_stay_within_their_budget() {
    let config = |_| EngineConfig { hot_budget: 1 << 20, store_identity: b"t".to_vec(), ..EngineConfig::default() };
    let mut net = Net::with(1, config);
    let space = net.create_space(0);
    for n in 0..400 {
        net.put(0, space, &format!("/d/{n}"), "x", n);
        // Replies hold the documents that they opened.
        net.nodes[0].events.clear();
    }
    let status = net.status(0);
    assert!(status.hot_bytes < 4 << 20, "{} bytes of {} documents", status.hot_bytes, status.hot_documents);
    let held: Vec<_> = (0..100).map(|n| net.open(0, space, &format!("/d/{n}"))).collect();
    for n in 100..400 {
        net.open(0, space, &format!("/d/{n}"));
        net.nodes[0].events.clear();
    }
    let still = held.iter().filter(|cell| cell.shares() > 1).count();
    assert_eq!(still, 100, "what a handle holds stays hot");
}

#[test]
fn what_is_hydrated_is_opened_and_read_without_a_look_at_the_store() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(0, 1);
    net.put(0, space, "/a", "x", 0);
    net.restart(0);
    net.connect(0, 1);
    let held = net.open(0, space, "/a");
    assert!(net.nodes[0].scans > 0, "what is not hydrated is read");
    let before = net.nodes[0].scans;
    for n in 1..20 {
        net.put(1, space, "/a", "x", n);
        net.run_for(50);
        let again = net.open(0, space, "/a");
        assert_eq!(again.with(|hot| hot.heads().unwrap()).unwrap(), held.with(|hot| hot.heads().unwrap()).unwrap());
        assert_eq!(net.value(0, space, "/a"), map(&[("x", n)]));
    }
    assert_eq!(net.nodes[0].scans, before);
}

#[test]
fn deleted_documents_leave_memory_when_nobody_holds_them() {
    let mut net = Net::new(2);
    let space = net.create_space(0);
    net.join(0, 1, space, Role::Writer, "/");
    net.connect(0, 1);
    let path = Path::parse("/a").unwrap();
    for n in 0..60 {
        let writer = n % 2;
        net.put(writer, space, "/a", "x", n as i64);
        net.open(1 - writer, space, "/a");
        net.run_for(50);
        // Replies hold the documents that they opened.
        net.nodes.iter_mut().for_each(|node| node.events.clear());
        let deleter = n / 2 % 2;
        assert!(matches!(net.call(deleter, Command::Delete { space, path: path.clone() }), Ok(Reply::Deleted(true))));
        net.run_for(50);
    }
    for n in 0..2 {
        net.nodes[n].events.clear();
        net.run_for(50);
        let engine = &net.nodes[n].engine;
        assert!(engine.documents.len() <= 2, "{} of 60 deleted documents are in memory", engine.documents.len());
        assert!(engine.leaving.len() <= 2, "{} wait to leave", engine.leaving.len());
    }
    let held = net.open(0, space, "/a");
    net.put(0, space, "/a", "x", 61);
    assert!(matches!(net.call(0, Command::Delete { space, path }), Ok(Reply::Deleted(true))));
    net.run_for(50);
    assert!(held.shares() > 1, "what a handle holds stays");
}
