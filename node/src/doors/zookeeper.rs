//! ZooKeeper's door: the wire protocol of its clients, over TCP, on the strong tree of one space.
//!
//! | room | what it holds |
//! |---|---|
//! | [`jute`] | the encoding |
//! | [`request`], [`reply`] | the records of the protocol, from and to bytes |
//! | [`translate`] | requests as operations and queries of the tree, and what comes of them as answers |
//! | [`talk`] | one session's conversation, without input, output or clock |
//! | `connection` | a socket, a line to a voter, and the conversation between them |
//! | `figures`, `words` | what is counted, and the four-letter words that tell it |
//!
//! A client's session is one of the group's: its number and password are what ZooKeeper's clients come back with, to this peer
//! or to any other. The door keeps nothing that a session needs. Where it cannot go on (the link to the voter ends, nobody
//! leads) it closes the connection, which clients take for what it is and come back.
//!
//! Every buffer has a bound: [`MAX_CONNECTIONS`], [`MAX_FRAME_BYTES`], those of [`talk`], and [`MAX_OUT_BYTES`] of answers that
//! a client does not read; behind it the line fills, to its own bound, and ends.

mod connection;
mod figures;
pub mod jute;
pub mod reply;
pub mod request;
pub mod talk;
pub mod translate;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use self::figures::Figures;
use super::FindSpace;

/// Connections at once; further ones are closed at once. A voter takes so many channels of one peer, and a few more.
pub const MAX_CONNECTIONS: usize = 1_000;

/// Longest frame of a client in bytes, ZooKeeper's `jute.maxbuffer`: a client that announces more is disconnected.
pub const MAX_FRAME_BYTES: usize = 0xf_ffff;

/// Bytes of answers that wait for a client, after which it gets no more until it has read.
pub const MAX_OUT_BYTES: usize = 1 << 20;

/// Between two tries to accept a connection where the system has no room for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A door.
#[derive(Clone)]
pub struct Door {
    inner: Arc<Inner>,
}

struct Inner {
    space: FindSpace,
    data: PathBuf,
    address: SocketAddr,
    figures: Figures,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("address", &self.inner.address).finish_non_exhaustive()
    }
}

impl Door {
    /// A door at this address. The space is looked for anew for each connection, since the peer may join it later; `data` is
    /// what the word `conf` shows as the data directory.
    pub fn new(space: FindSpace, data: PathBuf, address: SocketAddr) -> Self {
        Self { inner: Arc::new(Inner { space, data, address, figures: Figures::new() }) }
    }

    /// Serves until `stop` resolves; then every connection is closed.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send) {
        let (stopping, stopped) = watch::channel(false);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                () = &mut stop => break,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a ZooKeeper client could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = room.clone().try_acquire_owned() else {
                tracing::warn!(%from, "too many ZooKeeper clients: {MAX_CONNECTIONS} are connected");
                continue;
            };
            let (door, stopped) = (self.inner.clone(), stopped.clone());
            connections.spawn(async move {
                connection::serve(&door, stream, from, stopped).await;
                drop(place);
            });
        }
        let _ = stopping.send(true);
        while connections.join_next().await.is_some() {}
    }
}
