//! What every handle shares: the way to the driver, and the bounds on what is under way.
//!
//! Commands that are waited for hold one of [`MAX_COMMANDS`] places until they are answered, whether anybody still waits
//! or not. Edits are sent from inside a document's lock and cannot wait, so they have a budget of their own, and are
//! refused at its bound before anything has happened. Together they bound the driver's queue.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::hub::Hub;
use crate::engine::{Command, CommandError, Reply};
use crate::id::{DeviceId, Incarnation, PeerId};
use crate::io::RequestId;
use crate::net::{Address, Clock, Edit, Request, Sink};
use crate::time::WallTime;

/// Most commands under way at once; further ones wait for a place.
pub const MAX_COMMANDS: usize = 4096;

/// Most edits that are not stored yet. At a few hundred bytes each this is about 10 MiB.
pub const MAX_UNSTORED_EDITS: usize = 32_768;

/// Most bytes of edits that are not stored yet.
pub const MAX_UNSTORED_BYTES: usize = 64 << 20;

/// The shared half of all handles.
pub(crate) struct Client {
    requests: mpsc::UnboundedSender<Request>,
    edits: mpsc::UnboundedSender<Edit>,
    next: AtomicU64,
    places: Arc<Semaphore>,
    unstored: Unstored,
    clock: Clock,
    pub(crate) hub: Arc<Hub>,
    pub(crate) device: DeviceId,
    pub(crate) peer: PeerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) listen: Arc<Mutex<Vec<Address>>>,
}

/// Edits that are on their way to the store.
#[derive(Default)]
struct Unstored {
    edits: AtomicUsize,
    bytes: AtomicUsize,
    /// Fires whenever an edit is answered.
    room: Notify,
}

/// Who this peer turned out to be.
pub(crate) struct Who {
    pub(crate) device: DeviceId,
    pub(crate) peer: PeerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) listen: Arc<Mutex<Vec<Address>>>,
}

impl Client {
    pub(crate) fn new(
        requests: mpsc::UnboundedSender<Request>,
        edits: mpsc::UnboundedSender<Edit>,
        hub: Arc<Hub>,
        who: Who,
    ) -> Self {
        Self {
            requests,
            edits,
            next: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(MAX_COMMANDS)),
            unstored: Unstored::default(),
            clock: Clock::new(),
            hub,
            device: who.device,
            peer: who.peer,
            incarnation: who.incarnation,
            listen: who.listen,
        }
    }

    /// The wall clock, for labels.
    pub(crate) fn wall(&self) -> WallTime {
        self.clock.now().wall
    }

    /// Milliseconds of the monotonic clock, for spans of time.
    pub(crate) fn millis(&self) -> u64 {
        self.clock.mono().as_micros() / 1000
    }

    fn request_id(&self) -> RequestId {
        RequestId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks and waits. Dropping the future gives up waiting: the engine is told, and does what it has begun.
    pub(crate) async fn call(self: &Arc<Self>, command: Command) -> Result<Reply, CommandError> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| CommandError::Closed)?;
        let (answer, result) = oneshot::channel();
        let request = self.request_id();
        let sink: Sink = Box::new(move |result| {
            drop(place);
            let _ = answer.send(result);
        });
        let mut waiting = Waiting { client: self.clone(), request: Some(request) };
        self.post(request, command, sink)?;
        let result = result.await;
        waiting.request = None;
        result.unwrap_or(Err(CommandError::Closed))
    }

    /// [`Client::call`] for what has to be given back: an answer that came, and that nobody took, goes to `unclaimed`.
    #[cfg(feature = "coord")]
    pub(crate) async fn call_or(
        self: &Arc<Self>,
        command: Command,
        unclaimed: impl FnOnce(Reply) + Send + 'static,
    ) -> Result<Reply, CommandError> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| CommandError::Closed)?;
        // Answered and given up may cross: whoever comes second finds what the first has left.
        let left: Arc<Mutex<Left>> = Arc::new(Mutex::new(Left::Nothing));
        let (answered, answer) = oneshot::channel::<()>();
        let request = self.request_id();
        let shared = left.clone();
        let sink: Sink = Box::new(move |result| {
            drop(place);
            let mut left = shared.lock().unwrap_or_else(PoisonError::into_inner);
            match (std::mem::replace(&mut *left, Left::Nothing), result) {
                (Left::GivenUp, Ok(reply)) => {
                    drop(left);
                    unclaimed(reply);
                }
                (Left::GivenUp, Err(_)) => {}
                (_, result) => {
                    *left = Left::Answer(Box::new(result), Box::new(unclaimed));
                    let _ = answered.send(());
                }
            }
        });
        let mut waiting = Waiting { client: self.clone(), request: Some(request) };
        let claim = Claim(left);
        self.post(request, command, sink)?;
        let closed = answer.await.is_err();
        waiting.request = None;
        match std::mem::replace(&mut *claim.0.lock().unwrap_or_else(PoisonError::into_inner), Left::Nothing) {
            Left::Answer(result, _) if !closed => *result,
            _ => Err(CommandError::Closed),
        }
    }

    /// Sends a command whose answer goes to `sink`; never waits.
    fn post(&self, request: RequestId, command: Command, sink: Sink) -> Result<(), CommandError> {
        self.requests.send(Request::Command { request, command, sink }).map_err(|_| CommandError::Closed)
    }

    /// Sends a command that nobody waits for, outside the bounds: for the rare ones that follow from an answer.
    pub(crate) fn tell(&self, command: Command, sink: Sink) {
        // A driver that is gone needs no telling.
        let _ = self.post(self.request_id(), command, sink);
    }

    /// Sends a command now; the answer comes later, to whoever still waits for it. Refused when too many are under way.
    pub(crate) fn send(
        &self,
        command: Command,
    ) -> Result<oneshot::Receiver<Result<Reply, CommandError>>, CommandError> {
        let busy = CommandError::Busy { what: "commands under way", bound: MAX_COMMANDS as u64 };
        let place = self.places.clone().try_acquire_owned().map_err(|_| busy)?;
        let (answer, result) = oneshot::channel();
        let sink: Sink = Box::new(move |result| {
            drop(place);
            let _ = answer.send(result);
        });
        self.post(self.request_id(), command, sink)?;
        Ok(result)
    }

    /// Whether another edit may be made. Checked before the edit, so each thread can exceed the bytes by one edit.
    pub(crate) fn edit_room(&self) -> bool {
        self.unstored.edits.load(Ordering::Relaxed) < MAX_UNSTORED_EDITS
            && self.unstored.bytes.load(Ordering::Relaxed) < MAX_UNSTORED_BYTES
    }

    /// Waits until another edit may be made.
    pub(crate) async fn wait_edit_room(&self) {
        loop {
            let mut room = pin!(self.unstored.room.notified());
            // Listening begins before looking: an answer in between is not missed.
            room.as_mut().enable();
            if self.edit_room() || self.is_closed() {
                return;
            }
            room.await;
        }
    }

    /// Whether the peer is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Hands an edit of `bytes` to the engine. Call it while the document is locked, so that edits arrive in order.
    pub(crate) fn commit(
        self: &Arc<Self>,
        command: Command,
        bytes: usize,
        done: impl FnOnce(Result<Reply, CommandError>) + Send + 'static,
    ) -> Result<(), CommandError> {
        self.unstored.edits.fetch_add(1, Ordering::Relaxed);
        self.unstored.bytes.fetch_add(bytes, Ordering::Relaxed);
        let client = self.clone();
        let release = move || {
            client.unstored.edits.fetch_sub(1, Ordering::Relaxed);
            client.unstored.bytes.fetch_sub(bytes, Ordering::Relaxed);
            client.unstored.room.notify_waiters();
        };
        let sink: Sink = Box::new(move |result| {
            release();
            done(result);
        });
        // The sink of a refused command is dropped with it; the driver is gone and nobody counts any more.
        self.edits.send(Edit { request: self.request_id(), command, sink }).map_err(|_| CommandError::Closed)
    }

    /// Sends a request to the driver itself and waits.
    pub(crate) async fn ask<R>(&self, request: impl FnOnce(oneshot::Sender<R>) -> Request) -> Result<R, CommandError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).map_err(|_| CommandError::Closed)?;
        answer.await.map_err(|_| CommandError::Closed)
    }

    /// Sends a request that has no answer.
    pub(crate) fn notify(&self, request: Request) {
        let _ = self.requests.send(request);
    }

    /// Addresses that peers can dial, as the listeners last reported them.
    pub(crate) fn listen_addresses(&self) -> Vec<Address> {
        self.listen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What an answer and whoever waits for it leave each other.
#[cfg(feature = "coord")]
enum Left {
    Nothing,
    Answer(Box<Result<Reply, CommandError>>, Box<dyn FnOnce(Reply) + Send>),
    GivenUp,
}

/// Whoever waits. Dropped before the answer was taken, it leaves word of that, or gives the answer back.
#[cfg(feature = "coord")]
struct Claim(Arc<Mutex<Left>>);

#[cfg(feature = "coord")]
impl Drop for Claim {
    fn drop(&mut self) {
        let left = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), Left::GivenUp);
        if let Left::Answer(result, unclaimed) = left
            && let Ok(reply) = *result
        {
            unclaimed(reply);
        }
    }
}

/// Tells the engine when nobody waits for an answer any more.
struct Waiting {
    client: Arc<Client>,
    request: Option<RequestId>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            self.client.notify(Request::Cancel(request));
        }
    }
}
