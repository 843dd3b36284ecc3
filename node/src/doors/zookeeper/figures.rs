//! What a door counts: of each connection, and of all that there were.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::talk::Answered;

/// Figures of one connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) from: SocketAddr,
    pub(super) since: Instant,
    pub(super) session: Option<u64>,
    pub(super) ttl_ms: u64,
    pub(super) received: u64,
    pub(super) answered: Answered,
    pub(super) outstanding: usize,
    pub(super) last_code: i32,
    pub(super) last_xid: i32,
}

/// Figures of connections that are gone, all together.
#[derive(Clone, Copy, Debug, Default)]
struct Gone {
    received: u64,
    sent: u64,
    answers: u64,
    total_ms: u64,
    slowest_ms: u64,
}

/// All together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Total {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) connections: usize,
    pub(super) outstanding: usize,
    pub(super) mean_ms: f64,
    pub(super) slowest_ms: u64,
}

/// The figures of a door.
pub(super) struct Figures {
    pub(super) since: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    clients: BTreeMap<u64, Arc<Mutex<Client>>>,
    gone: Gone,
}

/// One connection's place among the figures, for as long as it lasts.
pub(super) struct Place<'a> {
    figures: &'a Figures,
    number: u64,
    client: Arc<Mutex<Client>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Figures {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), inner: Mutex::default() }
    }

    /// A connection more.
    pub(super) fn enter(&self, from: SocketAddr) -> Place<'_> {
        let client = Client {
            from,
            since: Instant::now(),
            session: None,
            ttl_ms: 0,
            received: 0,
            answered: Answered::default(),
            outstanding: 0,
            last_code: 0,
            last_xid: 0,
        };
        let client = Arc::new(Mutex::new(client));
        let mut inner = lock(&self.inner);
        inner.next += 1;
        let number = inner.next;
        inner.clients.insert(number, client.clone());
        Place { figures: self, number, client }
    }

    /// Every connection, oldest first.
    pub(super) fn clients(&self) -> Vec<Client> {
        lock(&self.inner).clients.values().map(|client| lock(client).clone()).collect()
    }

    /// All together, connections that are gone included.
    pub(super) fn total(&self) -> Total {
        let clients = self.clients();
        let mut all = lock(&self.inner).gone;
        for client in &clients {
            all.add(client);
        }
        Total {
            received: all.received,
            sent: all.sent,
            connections: clients.len(),
            outstanding: clients.iter().map(|client| client.outstanding).sum(),
            mean_ms: all.total_ms as f64 / all.answers.max(1) as f64,
            slowest_ms: all.slowest_ms,
        }
    }
}

impl Gone {
    fn add(&mut self, client: &Client) {
        self.received += client.received;
        self.sent += client.answered.sent;
        self.answers += client.answered.answers;
        self.total_ms += client.answered.total_ms;
        self.slowest_ms = self.slowest_ms.max(client.answered.slowest_ms);
    }
}

impl Place<'_> {
    /// Changes what is known of the connection.
    pub(super) fn note(&self, change: impl FnOnce(&mut Client)) {
        change(&mut lock(&self.client));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = lock(&self.figures.inner);
        inner.clients.remove(&self.number);
        let client = lock(&self.client);
        inner.gone.add(&client);
    }
}
