//! A peer inside this process: the whole of `foreshore run`, or what stands in for it while a command runs.

use std::path::Path;
use std::time::Duration;

use foreshore::peer::{Builder, Peer, RelayLimits, SpawnError};
use foreshore::store::{OpenError, Redb, RedbOptions};
use thiserror::Error;

use super::Service;
use crate::config::{Config, Source, StorageKind};
use crate::failure::{Code, Failure};

/// How long a store that this very process is closing may take to let go of its lock.
const RELEASE: Duration = Duration::from_secs(5);

/// How long a close may take: inside the ten seconds that a service manager grants.
const CLOSE: Duration = Duration::from_secs(6);

/// How long a close may take while writing fails.
const NO_ROOM_TO_CLOSE: Duration = Duration::from_millis(200);

/// What a directory without a store means, and whether to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A store must be there. No listeners.
    Existing,
    /// A store is made if none is there. No listeners.
    Create,
    /// A store is made if none is there, with a space `default` in it, and listeners are opened.
    Serve,
}

/// Why there is no peer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalError {
    /// No store, and none was to be made.
    #[error("no store in {0}")]
    Missing(String),
    /// The configuration says to keep nothing, and the command has no running peer to talk to.
    #[error("`storage` is memory and no peer runs, so there is nothing to work on")]
    NothingKept,
    /// The store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The peer does not start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The first space cannot be made.
    #[error(transparent)]
    Space(#[from] foreshore::peer::CommandError),
}

impl LocalError {
    /// Whether another process has the store.
    pub fn is_locked(&self) -> bool {
        matches!(self, LocalError::Open(OpenError::Locked { .. }))
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::Missing(_) => Failure::new(Code::NotFound, error)
                .hint("`foreshore run` starts one there; --data names another directory"),
            LocalError::NothingKept => Failure::new(Code::NotFound, error),
            LocalError::Open(error) => open_failure(&error),
            LocalError::Spawn(error) => spawn_failure(error),
            LocalError::Space(error) => super::refused(error),
        }
    }
}

/// A store that does not open, for people and shells.
pub fn open_failure(error: &OpenError) -> Failure {
    match error {
        OpenError::Corrupt { .. } => Failure::new(Code::Damaged, error),
        OpenError::Locked { .. } => Failure::new(Code::Store, error)
            .hint("a peer that runs there answers commands by itself; a second one needs a --data of its own"),
        _ => Failure::new(Code::Store, error),
    }
}

fn spawn_failure(error: SpawnError) -> Failure {
    let code = match &error {
        SpawnError::Address(_) => Code::Invalid,
        SpawnError::Open(foreshore::engine::OpenError::Corrupt { .. }) => Code::Damaged,
        SpawnError::Open(_) => Code::Store,
        _ => Code::Failed,
    };
    Failure::new(code, error)
}

/// A peer of this process.
pub struct Local {
    service: Service,
    notes: Vec<String>,
}

impl Local {
    /// Whether the configured directory holds a store.
    pub fn has_store(config: &Config) -> bool {
        config.data.value.join("store.redb").exists()
    }

    /// Opens the store and starts a peer on it.
    pub async fn open(config: &Config, opening: Opening) -> Result<Self, LocalError> {
        let kept = config.storage.value == StorageKind::Redb;
        if opening != Opening::Serve {
            if !kept {
                return Err(LocalError::NothingKept);
            }
            if opening == Opening::Existing && !Self::has_store(config) {
                return Err(LocalError::Missing(config.data.value.display().to_string()));
            }
        }
        let mut notes = Vec::new();
        let peer = match spawn(config, opening, false).await {
            Err(LocalError::Spawn(SpawnError::Listen { address, why })) if config.listen.source == Source::Default => {
                notes.push(format!("{address} is not to be had ({why}), listening on other ports"));
                respawn(config, opening).await?
            }
            started => started?,
        };
        if opening == Opening::Serve && peer.spaces().await?.is_empty() {
            peer.create_space("default").await?;
        }
        let service = Service::new(peer, config.data.value.clone());
        Ok(Self { service, notes })
    }

    /// What answers requests.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What had to be arranged otherwise than usual.
    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// Whether nobody outside this machine can connect.
    pub fn listens_on_loopback_only(&self) -> bool {
        let addresses = self.service.peer().listen_addresses();
        addresses.iter().all(|address| {
            let text = address.to_string();
            text.starts_with("/ip4/127.") || text.starts_with("/ip6/::1/")
        })
    }

    /// Closes the peer and its store. A close writes; where writing fails it is not waited for, and the next start begins
    /// a new incarnation.
    pub async fn close(self) {
        let patience = if self.service.in_trouble() { NO_ROOM_TO_CLOSE } else { CLOSE };
        match tokio::time::timeout(patience, self.service.peer().shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "closing the store"),
            Err(_) => tracing::warn!("the store was not closed in time"),
        }
    }
}

/// Starts over after a listener failed. The first attempt's store is being closed meanwhile.
async fn respawn(config: &Config, opening: Opening) -> Result<Peer, LocalError> {
    let deadline = tokio::time::Instant::now() + RELEASE;
    loop {
        match spawn(config, opening, true).await {
            Err(error) if error.is_locked() && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            started => return started,
        }
    }
}

async fn spawn(config: &Config, opening: Opening, any_port: bool) -> Result<Peer, LocalError> {
    let mut builder = match config.storage.value {
        StorageKind::Memory => {
            make_directory(&config.data.value)?;
            Peer::builder().in_memory()
        }
        StorageKind::Redb => Peer::builder().store(open_store(config).await?),
    };
    builder = settings(builder, config, opening == Opening::Serve);
    if opening == Opening::Serve {
        for address in &config.listen.value {
            builder = match any_port {
                true => builder.listen(address.with_any_port().as_str()),
                false => builder.listen(address.as_str()),
            };
        }
    }
    Ok(builder.spawn().await?)
}

/// `serves`: others may connect here.
fn settings(builder: Builder, config: &Config, serves: bool) -> Builder {
    let hot = usize::try_from(config.hot_memory.value).unwrap_or(usize::MAX);
    let builder = builder.max_connections(config.max_connections.value).engine(|engine| {
        engine.hot_budget = hot;
        engine.reconcile_period = config.reconcile_period.value;
        engine.soft_ttl = config.soft_ttl.value;
        engine.soft_period = config.soft_ttl.value / 3;
    });
    let (mdns, exchange) = (config.mdns.value, config.peer_exchange.value);
    let builder = builder.mdns(mdns && serves).network(|net| {
        net.peer_exchange = exchange;
        net.limits.connections_per_address = config.address_connections.value;
        net.limits.trusted.clone_from(&config.trusted_addresses.value);
        let rate = &mut net.limits.bytes;
        (rate.per_second, rate.burst) = (config.link_rate.value, config.link_rate.value);
    });
    let builder = config.dial.value.iter().fold(builder, |builder, address| builder.bootstrap(address.as_str()));
    if !serves {
        return builder;
    }
    let builder = match config.relay.value {
        true => builder.serve_relay(RelayLimits::default()),
        false => builder,
    };
    let builder = config.relays.value.iter().fold(builder, |builder, address| builder.relay(address.as_str()));
    config.advertise.value.iter().fold(builder, |builder, address| builder.advertise(address.as_str()))
}

/// Opening may repair after a crash, which reads the whole file: not on the runtime's threads.
async fn open_store(config: &Config) -> Result<Redb, OpenError> {
    let directory = config.data.value.clone();
    let cache = usize::try_from(config.cache.value).unwrap_or(usize::MAX);
    let opened =
        tokio::task::spawn_blocking(move || Redb::open_with(directory, RedbOptions::new().cache_bytes(cache))).await;
    opened.unwrap_or_else(|panic| Err(OpenError::Corrupt { detail: panic.to_string() }))
}

/// A peer without a store still has a control socket, and that has a directory.
fn make_directory(path: &Path) -> Result<(), OpenError> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(path).map_err(|source| OpenError::Io { path: path.into(), source })
}
