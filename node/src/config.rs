//! Configuration: one table of keys, four layers, and for every value where it came from.
//!
//! Layers, strongest first: flags, environment (`FORESHORE_…`), a TOML file, defaults. A key has the same name in all of
//! them: `hot_memory` in the file is `FORESHORE_HOT_MEMORY` and `--hot-memory`. Values are kept as text until the layers
//! are merged, so that an error can name the key, the place and what was expected, whichever layer it came from.
//!
//! The file is `--config FILE`, else `FORESHORE_CONFIG`, else `foreshore.toml` in the data directory if it is there.

mod layer;
mod value;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use foreshore::id::Prefix;
use serde::Serialize;
use thiserror::Error;

pub use self::layer::{Layers, Raw, Source};
pub use self::value::{HttpApi, HttpListen, ListenAddress, LogFormat, StorageKind, parse_duration};

/// A key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the file. The flag has dashes for underscores, the environment variable is its upper case behind
    /// `FORESHORE_`.
    pub name: &'static str,
    /// Whether it holds a list: an array in the file, a repeated flag, commas in the environment.
    pub list: bool,
    /// The default as text, for people.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
}

const fn key(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, list: false, default, about }
}

const fn list(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, list: true, default, about }
}

/// Every key there is.
pub const KEYS: &[Key] = &[
    key("data", "./foreshore-data", "data directory"),
    key("space", "default", "the space that commands work in: its local name or its id"),
    key("storage", "redb", "redb, or memory to keep nothing"),
    key("cache", "16MiB", "page cache of the store; counts as resident memory"),
    list(
        "listen",
        "127.0.0.1",
        "where peers may connect: an IP address (TCP and QUIC on port 4801, WebSocket on 4802) or a multiaddr; `off`",
    ),
    list("dial", "", "peers to stay connected to, as multiaddrs"),
    list("relays", "", "circuit relays to be reachable through, as multiaddrs that end in /p2p/ and the relay's id"),
    key("relay", "off", "whether this peer is a circuit relay for whoever reaches it, within limits"),
    key("mdns", "off", "whether peers are looked for on the local network by multicast DNS"),
    list("advertise", "", "addresses at which this peer is reached though it does not listen on them"),
    key("peer_exchange", "on", "whether members tell each other where members are"),
    key("http", "127.0.0.1:4800", "address of health, metrics and status; `off`"),
    key(
        "http_token_file",
        "",
        "file of mode 0600 with the token that metrics, status and grants take from other machines",
    ),
    key("metrics", "", "address of a port for metrics alone, which the HTTP port then does not have"),
    list("http_hosts", "", "host names that the HTTP port answers to, besides IP addresses and localhost"),
    key(
        "http_api",
        "off",
        "whether the HTTP port serves JSON at /v1: off, local (this machine without a token, others with one) or token",
    ),
    list(
        "http_cors",
        "",
        "origins whose pages may use /v1, each with a token, such as https://app.example.org; `*`: all",
    ),
    key("zookeeper", "off", "address at which clients of ZooKeeper are served; `off`"),
    key(
        "zookeeper_space",
        "",
        "the space whose tree they see: its local name or its id; nothing: `default`, or the only one",
    ),
    key("automerge_repo", "off", "address at which clients of automerge-repo are served; `off`"),
    key(
        "automerge_repo_space",
        "",
        "the space whose documents they see: its local name or its id; nothing: `default`, or the only one",
    ),
    key("automerge_repo_prefix", "/automerge", "under which path their documents are"),
    key("log", "info", "what is logged: a level, or a filter such as foreshore=debug"),
    key("log_format", "auto", "auto (human on a terminal, JSON otherwise), human or json"),
    key("hot_memory", "256MiB", "memory for documents in use; documents that a handle holds are kept beyond it"),
    key("reconcile_period", "15s", "how often neighbours compare roots without any other reason"),
    key("soft_ttl", "15s", "how long soft entries outlive their peer's last sign of life; it gives three in that time"),
    key("max_connections", "256", "connections to peers at once"),
    key("address_connections", "32", "connections of one address at once by peers that have not proved to be members"),
    list("trusted_addresses", "127.0.0.1,::1", "addresses of proxies, behind which limits of an address do not bind"),
    key("link_rate", "64MiB", "bytes a second that are read of one peer"),
];

/// Finds a key by its name in the file.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

impl Key {
    /// The environment variable of this key.
    pub fn variable(&self) -> String {
        format!("FORESHORE_{}", self.name.to_uppercase())
    }

    /// The flag of this key.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }
}

/// Why a configuration is refused. Nothing has been opened or changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {}: {why}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The file is not TOML.
    #[error("configuration file {}, line {line}: {why}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What the parser said.
        why: String,
    },
    /// The file sets a key that there is not.
    #[error("{origin}: there is no key `{key}`{}", similar(nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it is set.
        origin: Source,
        /// The key that was meant, perhaps.
        nearest: Option<&'static str>,
    },
    /// A value is not what its key takes.
    #[error("{origin}: `{key}` is {value:?}, but {expected}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// Where it is set.
        origin: Source,
        /// What it is set to.
        value: String,
        /// What would be right.
        expected: String,
    },
}

fn similar(nearest: &Option<&'static str>) -> String {
    nearest.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

/// The merged configuration of a peer.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "KEYS documents each")]
pub struct Config {
    pub data: Setting<PathBuf>,
    pub space: Setting<String>,
    pub storage: Setting<StorageKind>,
    pub cache: Setting<u64>,
    pub listen: Setting<Vec<ListenAddress>>,
    pub dial: Setting<Vec<ListenAddress>>,
    pub relays: Setting<Vec<ListenAddress>>,
    pub relay: Setting<bool>,
    pub mdns: Setting<bool>,
    pub advertise: Setting<Vec<ListenAddress>>,
    pub peer_exchange: Setting<bool>,
    pub http: Setting<HttpListen>,
    pub http_hosts: Setting<Vec<String>>,
    pub http_token_file: Setting<Option<PathBuf>>,
    pub metrics: Setting<Option<SocketAddr>>,
    pub http_api: Setting<HttpApi>,
    pub http_cors: Setting<Vec<String>>,
    pub zookeeper: Setting<HttpListen>,
    pub zookeeper_space: Setting<String>,
    pub automerge_repo: Setting<HttpListen>,
    pub automerge_repo_space: Setting<String>,
    pub automerge_repo_prefix: Setting<Prefix>,
    pub log: Setting<String>,
    pub log_format: Setting<LogFormat>,
    pub hot_memory: Setting<u64>,
    pub reconcile_period: Setting<Duration>,
    pub soft_ttl: Setting<Duration>,
    pub max_connections: Setting<u32>,
    pub address_connections: Setting<u32>,
    pub trusted_addresses: Setting<Vec<IpAddr>>,
    pub link_rate: Setting<u64>,
    /// Each key's text after merging, for `foreshore config`.
    pub raw: Vec<(&'static Key, Setting<Raw>)>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Merges and parses the layers.
    pub fn load(layers: Layers) -> Result<Self, ConfigError> {
        let (layers, file) = layers.with_file()?;
        Ok(Self {
            data: layers.one("data", value::path)?,
            space: layers.one("space", value::name)?,
            storage: layers.one("storage", value::storage)?,
            cache: layers.one("cache", value::bytes(1 << 20, 64 << 30))?,
            listen: layers.many("listen", value::listen)?,
            dial: layers.many("dial", value::dial)?,
            relays: layers.many("relays", value::dial)?,
            relay: layers.one("relay", value::switch)?,
            mdns: layers.one("mdns", value::switch)?,
            advertise: layers.many("advertise", value::dial)?,
            peer_exchange: layers.one("peer_exchange", value::switch)?,
            http: layers.one("http", value::http)?,
            http_hosts: layers.many("http_hosts", |text| value::host(text).map(|host| vec![host]))?,
            http_token_file: layers.one("http_token_file", value::file)?,
            metrics: layers.one("metrics", value::address)?,
            http_api: layers.one("http_api", value::http_api)?,
            http_cors: layers.many("http_cors", |text| value::origin(text).map(|origin| vec![origin]))?,
            zookeeper: layers.one("zookeeper", value::http)?,
            zookeeper_space: layers.one("zookeeper_space", value::any_name)?,
            automerge_repo: layers.one("automerge_repo", value::http)?,
            automerge_repo_space: layers.one("automerge_repo_space", value::any_name)?,
            automerge_repo_prefix: layers.one("automerge_repo_prefix", value::prefix)?,
            log: layers.one("log", value::filter)?,
            log_format: layers.one("log_format", value::log_format)?,
            hot_memory: layers.one("hot_memory", value::bytes(1 << 20, 1 << 40))?,
            reconcile_period: layers.one("reconcile_period", value::duration(1, 24 * 3600))?,
            soft_ttl: layers.one("soft_ttl", value::duration(1, 600))?,
            max_connections: layers.one("max_connections", value::count(1, 100_000))?,
            address_connections: layers.one("address_connections", value::count(1, 100_000))?,
            trusted_addresses: layers.many("trusted_addresses", |text| value::ip(text).map(|ip| vec![ip]))?,
            link_rate: layers.one("link_rate", value::bytes(64 << 10, 1 << 40))?,
            raw: layers.merged(),
            file,
        })
    }
}

#[cfg(test)]
mod tests;
