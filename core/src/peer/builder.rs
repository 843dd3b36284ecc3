//! Starting a peer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use thiserror::Error;
#[cfg(not(target_arch = "wasm32"))]
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::Peer;
use super::client::{Client, Who};
use super::hub::Hub;
use crate::config::EngineConfig;
use crate::engine::{Engine, OpenError};
use crate::io::Input;
use crate::net::{self, Address, AddressError, Backoff, Driver, NetConfig, Notice, Parts, RelayLimits, Runtime};
use crate::store::{Answers, Backend, Memory, TaskStore};

/// Why a peer does not start. The store is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// Called outside a tokio runtime.
    #[error("no tokio runtime here: call it inside one, use `spawn_on`, or `foreshore::peer::blocking`")]
    NoRuntime,
    /// An address to listen on or to dial is malformed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nothing was said about where data is kept.
    #[error("say where to keep data: `store(Redb::open(…)?)`, or `in_memory()`")]
    NoStore,
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address.
        address: Address,
        /// What the system says.
        why: String,
    },
    /// Threads, random numbers or transports cannot be had.
    #[error("cannot start the peer: {0}")]
    System(#[source] std::io::Error),
    /// It was closed while it started.
    #[error("the peer was closed while it started")]
    Closed,
}

impl From<net::StartError> for SpawnError {
    fn from(error: net::StartError) -> Self {
        match error {
            net::StartError::Open(error) => SpawnError::Open(error),
            net::StartError::Transport(error) => SpawnError::System(error),
            net::StartError::Listen { address, why } => SpawnError::Listen { address, why },
        }
    }
}

/// Where a peer keeps its data.
enum Store {
    Memory,
    Backend(Box<dyn Backend>),
    Tasks { identity: Vec<u8>, start: Box<dyn FnOnce(Answers) -> Box<dyn TaskStore> + Send> },
}

/// What a peer is started with. See [`Peer::builder`].
///
/// ## Defaults
/// No listener, no bootstrap, no relay, no mDNS, [`EngineConfig::default`], redial after 250 ms to 30 s, links with up to 12
/// members on its own, at most 256 connections. Where data is kept has no default.
#[must_use = "nothing happens until `spawn`"]
pub struct Builder {
    store: Option<Store>,
    engine: EngineConfig,
    net: NetConfig,
    /// The first address that did not parse.
    invalid: Option<AddressError>,
    #[cfg(feature = "sim")]
    liar: Option<net::Lies>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            store: None,
            engine: EngineConfig::default(),
            net: NetConfig::default(),
            invalid: None,
            #[cfg(feature = "sim")]
            liar: None,
        }
    }

    /// Keeps data in this store, e.g. `Redb::open("data")?`.
    pub fn store(mut self, backend: impl Backend + 'static) -> Self {
        self.store = Some(Store::Backend(Box::new(backend)));
        self
    }

    /// Keeps data in memory: it is gone with the peer.
    pub fn in_memory(mut self) -> Self {
        self.store = Some(Store::Memory);
        self
    }

    /// Keeps data in a store that is sent tasks, for platforms where a [`Backend`] cannot be called: `start` is given
    /// where the answers go. `identity` is what [`Backend::identity`] would say.
    pub fn task_store<S: TaskStore>(
        mut self,
        identity: Vec<u8>,
        start: impl FnOnce(Answers) -> S + Send + 'static,
    ) -> Self {
        self.store = Some(Store::Tasks { identity, start: Box::new(|answers| Box::new(start(answers))) });
        self
    }

    /// Listens on an address, e.g. `/ip4/127.0.0.1/tcp/0`; see [`Address`] for the forms. May be called several times.
    pub fn listen(mut self, address: impl AsRef<str>) -> Self {
        if let Some(address) = self.parse(address.as_ref()) {
            // `…/p2p-circuit` is how libp2p writes "through this relay"; that it is away does not keep a peer from starting.
            if address.is_relayed() {
                return self.relay(address.to_string());
            }
            self.net.listen.push(address);
        }
        self
    }

    /// Is reachable through a circuit relay, given by an address that ends in `/p2p/` and the relay's id. May be called for
    /// up to 4 relays.
    pub fn relay(mut self, address: impl AsRef<str>) -> Self {
        if let Some(address) = self.parse(address.as_ref()) {
            match net::is_relay(&address) {
                true => self.net.relays.push(address),
                false => drop(self.invalid.get_or_insert(AddressError {
                    text: address.to_string(),
                    why: "a relay's address ends in /p2p/ and its id".into(),
                })),
            }
        }
        self
    }

    /// Is a circuit relay for whoever reaches this peer, within limits; see [`RelayLimits`](crate::net::RelayLimits). Without
    /// effect in a browser, which nobody can reach.
    pub fn serve_relay(mut self, limits: RelayLimits) -> Self {
        self.net.relay = Some(limits);
        self
    }

    /// Looks for peers on the local network by multicast DNS, and is found there. Without effect in a browser.
    pub fn mdns(mut self, on: bool) -> Self {
        self.net.mdns = on;
        self
    }

    /// Is reached at an address on which it does not listen itself: of a router that forwards, of a load balancer.
    pub fn advertise(mut self, address: impl AsRef<str>) -> Self {
        if let Some(address) = self.parse(address.as_ref()) {
            self.net.advertise.push(address);
        }
        self
    }

    /// Stays connected to whoever is at an address. May be called several times.
    pub fn bootstrap(mut self, address: impl AsRef<str>) -> Self {
        if let Some(address) = self.parse(address.as_ref()) {
            self.net.bootstrap.push(address);
        }
        self
    }

    fn parse(&mut self, text: &str) -> Option<Address> {
        match text.parse() {
            Ok(address) => Some(address),
            Err(error) => {
                self.invalid.get_or_insert(error);
                None
            }
        }
    }

    /// Bounds of the wait between two attempts to reach a peer.
    pub fn redial(mut self, min: Duration, max: Duration) -> Self {
        self.net.backoff = Backoff { min, max: max.max(min) };
        self
    }

    /// Most connections at once.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.net.max_connections = connections;
        self
    }

    /// Sets fields of the engine's configuration: `.engine(|c| c.push = false)`. The store's identity is filled in.
    pub fn engine(mut self, set: impl FnOnce(&mut EngineConfig)) -> Self {
        set(&mut self.engine);
        self
    }

    /// Makes this peer a liar on its links. For tests of the others.
    #[cfg(feature = "sim")]
    pub fn liar(mut self, lies: net::Lies) -> Self {
        self.liar = Some(lies);
        self
    }

    /// Sets fields of the network's configuration.
    pub fn network(mut self, set: impl FnOnce(&mut NetConfig)) -> Self {
        set(&mut self.net);
        self
    }

    /// Starts the peer on the event loop of the page or worker. It is ready when this returns: the store is open.
    #[cfg(target_arch = "wasm32")]
    pub async fn spawn(self) -> Result<Peer, SpawnError> {
        self.spawn_by(Runtime).await
    }

    /// Starts the peer on the current tokio runtime. It is ready when this returns: the store is open, and every
    /// listener has its address.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn spawn(self) -> Result<Peer, SpawnError> {
        let handle = Handle::try_current().map_err(|_| SpawnError::NoRuntime)?;
        self.spawn_on(handle).await
    }

    /// [`Builder::spawn`] on a given runtime, whose I/O and time drivers must be enabled.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn spawn_on(self, handle: Handle) -> Result<Peer, SpawnError> {
        self.spawn_by(Runtime::new(handle)).await
    }

    async fn spawn_by(self, runtime: Runtime) -> Result<Peer, SpawnError> {
        if let Some(error) = self.invalid {
            return Err(error.into());
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| SpawnError::System(std::io::Error::other(error)))?;
        let mut rng = ChaCha12Rng::from_seed(seed);
        let (done, storage_done) = mpsc::unbounded_channel();
        // Nobody asks for answers once the driver is gone.
        let answers: Answers = Box::new(move |ticket, result| drop(done.send(Input::StorageDone { ticket, result })));
        let (identity, storage) = match self.store {
            None => return Err(SpawnError::NoStore),
            Some(Store::Tasks { identity, start }) => (identity, start(answers)),
            Some(Store::Backend(backend)) => (backend.identity(), carry_out(backend, answers)?),
            Some(Store::Memory) => {
                let memory = Memory::new(draw(&mut rng));
                (memory.identity(), carry_out(Box::new(memory), answers)?)
            }
        };
        let mut config = self.engine;
        config.store_identity = identity;
        config.max_links = config.max_links.min(self.net.max_connections as usize);
        let overlay = config.overlay;
        let engine = Engine::new(config, draw(&mut rng));
        #[cfg(feature = "sim")]
        let engine: Box<dyn net::Machine> = match self.liar {
            Some(lies) => Box::new(net::liar::Liar::new(engine, lies)),
            None => Box::new(engine),
        };

        let (requests, driver_requests) = mpsc::unbounded_channel();
        let (edits, driver_edits) = mpsc::unbounded_channel();
        let (started, opened) = oneshot::channel();
        let hub = Arc::new(Hub::default());
        let listen: Arc<Mutex<Vec<Address>>> = Arc::default();
        let driver = Driver::new(Parts {
            machine: engine,
            config: self.net,
            overlay,
            runtime: runtime.clone(),
            transport: Box::new(net::native),
            storage,
            storage_done,
            requests: driver_requests,
            edits: driver_edits,
            notices: notices(hub.clone(), listen.clone()),
            started,
            rng,
        });
        runtime.spawn(driver.run());
        let opened = opened.await.map_err(|_| SpawnError::Closed)??;
        *listen.lock().unwrap_or_else(PoisonError::into_inner) = opened.listen;
        let who = Who { device: opened.device, peer: opened.peer, incarnation: opened.incarnation, listen };
        Ok(Peer { client: Arc::new(Client::new(requests, edits, hub, who)) })
    }
}

/// Passes what the driver tells on to whoever watches.
fn notices(hub: Arc<Hub>, listen: Arc<Mutex<Vec<Address>>>) -> Box<dyn FnMut(Notice) + Send> {
    Box::new(move |notice| {
        if let Notice::Listening(addresses) = &notice {
            listen.lock().unwrap_or_else(PoisonError::into_inner).clone_from(addresses);
        }
        hub.publish(notice);
    })
}

fn draw<const N: usize>(rng: &mut ChaCha12Rng) -> [u8; N] {
    use rand_core::Rng as _;
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Puts a backend where it may wait for its device: on a thread, where there are threads.
#[cfg(not(target_arch = "wasm32"))]
fn carry_out(backend: Box<dyn Backend>, answers: Answers) -> Result<Box<dyn TaskStore>, SpawnError> {
    use crate::io::StorageTask;
    use crate::store::StorageThread;

    struct Threaded(StorageThread);

    impl TaskStore for Threaded {
        fn submit(&mut self, task: StorageTask) {
            self.0.submit(task);
        }

        fn close(self: Box<Self>) {
            self.0.close();
        }
    }

    let done = move |input| {
        if let Input::StorageDone { ticket, result } = input {
            answers(ticket, result);
        }
    };
    Ok(Box::new(Threaded(StorageThread::spawn(backend, done).map_err(SpawnError::System)?)))
}

/// Puts a backend where its tasks come in.
#[cfg(target_arch = "wasm32")]
fn carry_out(backend: Box<dyn Backend>, answers: Answers) -> Result<Box<dyn TaskStore>, SpawnError> {
    Ok(Box::new(crate::store::Inline::new(backend, answers)))
}
