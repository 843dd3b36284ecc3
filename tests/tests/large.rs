//! Large things between two peers on real sockets, with memory in bounds.

use std::time::Duration;

use foreshore::document::Value;
use foreshore::peer::{Document, DocumentError, Peer};
use foreshore::store::Redb;
use foreshore::trust::Role;
use foreshore_tests::cluster::{multiaddr, tcp_port};
use foreshore_tests::typist::arrive;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

/// Bytes of one edit: incompressible, so that they weigh on disk and on the wire what they weigh here.
const PIECE: usize = 50_000;

/// A whole run takes seconds; this ends one that hangs.
const PATIENCE: Duration = Duration::from_secs(440);

/// Most resident memory that this process has had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

async fn write(document: &Document, pieces: usize) {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut bytes = vec![0; PIECE];
    let mut last = None;
    for n in 0..pieces {
        rng.fill_bytes(&mut bytes);
        last = Some(loop {
            match document.edit(|draft| draft.put(&format!("k{}", n % 64), Value::Bytes(bytes.clone()))) {
                Ok(commit) => break commit,
                Err(DocumentError::Busy) => document.ready().await,
                Err(error) => panic!("{error}"),
            }
        });
    }
    last.expect("at least one piece").durable().await.unwrap();
}

/// 100 MB of one document's history in the long form, 10 MB otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_document_crosses_with_memory_in_bounds() {
    let size = if std::env::var_os("FORESHORE_LONG").is_some() { 100_000_000 } else { 10_000_000 };
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| Redb::open(directory.path().join(name)).unwrap();
    let run = async {
        let first = Peer::builder().store(open("first")).listen("/ip4/127.0.0.1/tcp/0").spawn().await.unwrap();
        let space = first.create_space("large").await.unwrap();
        let document: Document = space.document("/large").await.unwrap();
        write(&document, size / PIECE).await;
        let heads = document.heads().unwrap();
        let invitation = space.invite(Role::Writer).addresses(Vec::new()).await.unwrap();
        let port = first.listen_addresses().iter().find_map(|address| tcp_port(&address.to_string())).unwrap();
        let address = multiaddr((std::net::Ipv4Addr::LOCALHOST, port).into());
        let before = peak_bytes();
        let second = Peer::builder().store(open("second")).bootstrap(address).spawn().await.unwrap();
        let there = second.join(&invitation).await.unwrap();
        let copy: Document = there.document("/large").await.unwrap();
        arrive(&there, &copy, &heads).await.unwrap();
        assert_eq!(copy.value().unwrap(), document.value().unwrap());
        let status = second.status().await.unwrap().engine;
        assert_eq!((status.orphans, status.refused_changes), (0, 0));
        // The chain waits whole until its endorsement comes, and is then judged, written, kept for a retry and opened at
        // once, each with a copy: 16 times its size in 100 MB, both peers together. It grows with the chain, never with
        // the number of messages it came in.
        let grown = peak_bytes().saturating_sub(before);
        let bound = 20 * size as u64 + (128 << 20);
        assert!(grown < bound, "{grown} bytes more for a document of {size}; the bound is {bound}");
        println!("{size} bytes crossed; the peak grew by {grown} bytes");
        second.shutdown().await.unwrap();
        first.shutdown().await.unwrap();
    };
    tokio::time::timeout(PATIENCE, run).await.expect("it arrives in time");
}
