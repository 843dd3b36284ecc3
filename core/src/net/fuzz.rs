//! What fuzzers run of the network's own readers.

use std::str::FromStr;

use libp2p::{Multiaddr, PeerId as NetPeerId};

use super::Address;
use super::book::Book;
use super::frame::Decoder;
use super::reach::Backoff;
use crate::fuzz::{Target, Verdict};
use crate::io::MAX_FRAME;
use crate::time::{Timestamp, WallTime};

pub(crate) const TARGETS: &[Target] = &[
    Target::new("stream", streams, stream),
    Target::new("address", addresses, address),
    Target::new("book", books, book),
];

/// A byte stream in pieces of any size gives the same frames, none over the bound.
fn stream(bytes: &[u8]) -> Verdict {
    let cut = |step: usize| {
        let mut decoder = Decoder::new(MAX_FRAME);
        let mut frames = Vec::new();
        for piece in bytes.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() {
                let space = decoder.space();
                let taken = rest.len().min(space.len());
                space[..taken].copy_from_slice(&rest[..taken]);
                decoder.advance(taken);
                rest = &rest[taken..];
                loop {
                    match decoder.next_frame() {
                        Ok(Some(frame)) => frames.push(frame),
                        Ok(None) => break,
                        Err(error) => return (frames, Some(error)),
                    }
                }
            }
        }
        (frames, None)
    };
    let (frames, error) = cut(usize::MAX);
    assert_eq!(cut(7), (frames.clone(), error), "how the bytes come decides");
    assert!(frames.iter().all(|frame| (1..=MAX_FRAME).contains(&frame.len())), "a frame over its bound");
    match error {
        Some(error) => Verdict::refused(&error),
        None => Verdict::accepted(frames.len().min(20) as u64),
    }
}

fn streams() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for len in [1usize, 5, 127, 128, 300] {
        super::frame::push_prefix(&mut all, len);
        all.extend(vec![len as u8; len]);
    }
    vec![all, vec![1, 7], vec![0x80, 0x80, 4]]
}

fn address(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::refused(&"no text") };
    match Address::from_str(text) {
        Ok(address) => {
            let again = Address::from_str(&address.to_string());
            assert_eq!(again.as_ref(), Ok(&address), "{text:?} is written as something else");
            let (_, relay) = (super::route::scope(&address.0), super::is_relay(&address));
            Verdict::accepted(u64::from(relay) | u64::from(address.is_relayed()) << 1)
        }
        Err(_) => Verdict::refused(&"no address"),
    }
}

fn addresses() -> Vec<Vec<u8>> {
    let peer = peer(1);
    [
        "/ip4/192.0.2.7/tcp/4801".to_owned(),
        "/ip6/2001:db8::1/udp/4801/quic-v1".to_owned(),
        format!("/dns4/node.example.org/tcp/443/tls/ws/p2p/{peer}"),
        format!("/ip4/192.0.2.7/tcp/4801/p2p/{peer}/p2p-circuit/p2p/{peer}"),
        "/ip4/127.0.0.1/tcp/1/ws".to_owned(),
        "127.0.0.1:4801".to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

fn peer(n: u8) -> NetPeerId {
    crate::net::identity::to_net(&crate::id::PeerId(*crate::trust::DeviceKey::from_seed(&[n; 32]).device().as_bytes()))
        .expect("a key")
}

fn empty() -> Book {
    Book::new(peer(9), Backoff::default(), rand_core::SeedableRng::seed_from_u64(1))
}

/// A row is taken in whole or passed over, and what is kept of it fits a row.
fn book(bytes: &[u8]) -> Verdict {
    let mut book = empty();
    let (now, wall) = (Timestamp::from_micros(1), WallTime(1_790_000_000_000));
    if !book.restore(bytes, now, wall) {
        return Verdict::refused(&"no book");
    }
    let row = book.encode();
    let mut again = empty();
    assert!(again.restore(&row, now, wall), "an own row does not read");
    assert_eq!(again.encode(), row, "another book came back");
    Verdict::accepted(book.entries().len().min(9) as u64)
}

fn books() -> Vec<Vec<u8>> {
    let at: Multiaddr = "/ip4/192.0.2.7/tcp/4801".parse().expect("an address");
    let mut w = crate::wire::Writer::new();
    w.u8(1).list(&[1u8, 2, 3], |w, n| {
        w.bytes(&peer(*n).to_bytes()).zigzag(1_789_999_000_000).list(&[[*n; 32]], |w, space| {
            w.array(space);
        });
        for _ in 0..2 {
            w.list(std::slice::from_ref(&at), |w, at| {
                w.bytes(&at.to_vec());
            });
        }
        w.extensions(&[]);
    });
    vec![w.finish(), empty().encode()]
}
