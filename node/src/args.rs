//! The command line.

mod coord;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

pub use self::coord::{
    CreateArgs, DeadCommand, ElectArgs, LockArgs, QueueCommand, SessionArgs, TreeCommand, VotersCommand,
};
use crate::config::{Layers, parse_duration};
use crate::failure::EXIT_HELP;
use crate::request::PutMode;

/// A replicated store that keeps working when the network does not.
#[derive(Debug, Parser)]
#[command(name = "foreshore", version, after_help = EXIT_HELP, max_term_width = 100)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub struct Global {
    /// Data directory [default: ./foreshore-data]
    #[arg(long, short, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data: Option<PathBuf>,
    /// Configuration file [default: foreshore.toml in the data directory]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// The space to work in: its local name or its id [default: default]
    #[arg(long, short, global = true)]
    pub space: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What is logged to stderr: a level, or a filter such as foreshore=debug [default: info when running a peer]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look: auto, human or json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a peer until it is told to stop
    Run(Box<RunArgs>),
    /// Write a JSON value into a document by the smallest set of edits
    Put(PutArgs),
    /// Print a document, or a part of it, as JSON
    Get(GetArgs),
    /// List documents under a prefix
    List(ListArgs),
    /// Print a line for every change under a prefix
    Watch(WatchArgs),
    /// Delete a document on every peer
    Delete {
        /// The document
        path: String,
    },
    /// Wait until this peer has what a bookmark stands for
    Wait(WaitArgs),
    /// Print the changes of a document, newest first
    History(HistoryArgs),
    /// Entries that live as long as the peer that set them: presence, service registries
    Soft {
        /// What to do
        #[command(subcommand)]
        command: SoftCommand,
    },
    /// Who offers a service, and where: entries that live with the peer that registered them
    Services {
        /// What to do
        #[command(subcommand)]
        command: ServicesCommand,
    },
    /// Signals to whoever is connected, kept nowhere
    Topic {
        /// What to do
        #[command(subcommand)]
        command: TopicCommand,
    },
    /// Run a program under a lock that only one holder has, or several that share it
    Lock(LockArgs),
    /// Stand for election, and run a program while this command leads
    Elect(ElectArgs),
    /// A small tree of nodes that everybody sees alike, with versions and watches
    Tree {
        /// What to do
        #[command(subcommand)]
        command: TreeCommand,
    },
    /// Queues of work: each item goes to one worker at a time, until one has done it
    Queue {
        /// What to do
        #[command(subcommand)]
        command: QueueCommand,
    },
    /// The peers that agree on locks, elections, the tree and queues
    Voters {
        /// What to do; without it, they are listed
        #[command(subcommand)]
        command: Option<VotersCommand>,
    },
    /// What `lock`, `elect` and `queue work` run programs through: one that ends with this command
    #[command(hide = true)]
    Supervised {
        /// The process that it is to end with
        parent: i32,
        /// The program
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Show or create spaces
    Space {
        /// What to do; without it, the spaces are listed
        #[command(subcommand)]
        command: Option<SpaceCommand>,
    },
    /// Make an invitation into a space; it is a secret
    Invite(InviteArgs),
    /// Become a member of a space by an invitation
    Join(JoinArgs),
    /// List the members of a space
    Members,
    /// Take rights from a device, on every peer and for good
    Revoke(RevokeArgs),
    /// Hand the space to a new root key; the old one can do nothing afterwards
    RotateRoot,
    /// Edits that left documents with a revoked device's
    Evicted {
        /// What to do; without it, they are listed
        #[command(subcommand)]
        command: Option<EvictedCommand>,
    },
    /// List connected peers
    Peers,
    /// Print figures of the peer
    Status,
    /// Tokens that open /v1 of the HTTP port to programs elsewhere: a path, to read or to write, until a time
    Token {
        /// What to do
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Write a portable copy of a space: its facts and every document with its history
    Export {
        /// The file; `-` or nothing: standard output
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Take in a portable copy
    Import {
        /// The file; `-` or nothing: standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Print the configuration and where each value came from
    Config(Box<RunArgs>),
    /// Check a store, also one that does not open, and say what was found
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Options of a peer. Each is also a key of the configuration file and an environment variable.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Where peers may connect: an IP address for TCP, QUIC and WebSocket, a multiaddr, or off; repeatable
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,
    /// A peer to stay connected to, as a multiaddr; repeatable
    #[arg(long, value_name = "MULTIADDR")]
    pub dial: Vec<String>,
    /// A circuit relay to be reachable through, as a multiaddr that ends in /p2p/ and its id; repeatable
    #[arg(long, value_name = "MULTIADDR")]
    pub relays: Vec<String>,
    /// Be a circuit relay for whoever reaches this peer, within limits
    #[arg(long, value_name = "SWITCH", num_args = 0..=1, default_missing_value = "on", require_equals = true)]
    pub relay: Option<String>,
    /// Look for peers on the local network by multicast DNS, and be found there
    #[arg(long, value_name = "SWITCH", num_args = 0..=1, default_missing_value = "on", require_equals = true)]
    pub mdns: Option<String>,
    /// An address at which this peer is reached though it does not listen on it, as a multiaddr; repeatable
    #[arg(long, value_name = "MULTIADDR")]
    pub advertise: Vec<String>,
    /// Whether members tell each other where members are: on or off
    #[arg(long, value_name = "SWITCH")]
    pub peer_exchange: Option<String>,
    /// Address of health, metrics and status, or off
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<String>,
    /// A host name that the HTTP port answers to, besides IP addresses and localhost; repeatable
    #[arg(long, value_name = "HOST")]
    pub http_hosts: Vec<String>,
    /// A file of mode 0600 with the token that metrics, status and grants take from other machines
    #[arg(long, value_name = "FILE")]
    pub http_token_file: Option<String>,
    /// Address of a port for metrics alone
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<String>,
    /// Serve JSON at /v1 of the HTTP port: to this machine (local, which a bare flag says) and to whoever has a token, or only
    /// to the latter (token)
    #[arg(long, value_name = "WHOM", num_args = 0..=1, default_missing_value = "local", require_equals = true)]
    pub http_api: Option<String>,
    /// An origin whose pages may use /v1, each with a token, or *; repeatable
    #[arg(long, value_name = "ORIGIN")]
    pub http_cors: Vec<String>,
    /// Address at which clients of ZooKeeper are served, such as 127.0.0.1:2181, or off
    #[arg(long, value_name = "ADDRESS")]
    pub zookeeper: Option<String>,
    /// The space whose tree clients of ZooKeeper see [default: `default`, or the only one]
    #[arg(long, value_name = "SPACE")]
    pub zookeeper_space: Option<String>,
    /// Address at which clients of automerge-repo are served, such as 127.0.0.1:3030, or off
    #[arg(long, value_name = "ADDRESS")]
    pub automerge_repo: Option<String>,
    /// The space whose documents clients of automerge-repo see [default: `default`, or the only one]
    #[arg(long, value_name = "SPACE")]
    pub automerge_repo_space: Option<String>,
    /// Under which path the documents of clients of automerge-repo are
    #[arg(long, value_name = "PREFIX")]
    pub automerge_repo_prefix: Option<String>,
    /// redb, or memory to keep nothing
    #[arg(long, value_name = "KIND")]
    pub storage: Option<String>,
    /// Page cache of the store
    #[arg(long, value_name = "SIZE")]
    pub cache: Option<String>,
    /// Memory for documents in use
    #[arg(long, value_name = "SIZE")]
    pub hot_memory: Option<String>,
    /// How often neighbours compare roots without any other reason
    #[arg(long, value_name = "DURATION")]
    pub reconcile_period: Option<String>,
    /// How long soft entries outlive their peer's last sign of life; it gives three in that time
    #[arg(long, value_name = "DURATION")]
    pub soft_ttl: Option<String>,
    /// Connections to peers at once
    #[arg(long, value_name = "N")]
    pub max_connections: Option<String>,
    /// Connections of one address at once by peers that have not proved to be members
    #[arg(long, value_name = "N")]
    pub address_connections: Option<String>,
    /// The address of a proxy, behind which limits of an address do not bind; repeatable
    #[arg(long, value_name = "ADDRESS")]
    pub trusted_addresses: Vec<String>,
    /// Bytes a second that are read of one peer
    #[arg(long, value_name = "SIZE")]
    pub link_rate: Option<String>,
}

/// Options of `put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The document
    pub path: String,
    /// The value as JSON; `-` or nothing: standard input
    pub value: Option<String>,
    /// A JSON Pointer (RFC 6901) to the part to write
    #[arg(long, value_name = "POINTER", default_value = "")]
    pub at: String,
    /// Write the place anew instead of editing what is there
    #[arg(long, conflicts_with = "merge")]
    pub replace: bool,
    /// Change only the keys that the value names; null removes one (RFC 7396)
    #[arg(long)]
    pub merge: bool,
    /// Take the value as plain text instead of JSON
    #[arg(long)]
    pub text: bool,
    /// Wait until this many other peers have stored it durably
    #[arg(long, value_name = "PEERS", default_value_t = 0)]
    pub synced: usize,
    /// Give up waiting after this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<std::time::Duration>,
}

impl PutArgs {
    /// How the value is put.
    pub fn mode(&self) -> PutMode {
        match (self.replace, self.merge) {
            (true, _) => PutMode::Replace,
            (_, true) => PutMode::Merge,
            _ => PutMode::Diff,
        }
    }
}

/// Options of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The document
    pub path: String,
    /// A JSON Pointer (RFC 6901) to a part
    #[arg(long, value_name = "POINTER", default_value = "")]
    pub at: String,
    /// Print a string without quotes
    #[arg(long)]
    pub raw: bool,
    /// Tag kinds that JSON lacks, so that `put` restores them exactly
    #[arg(long)]
    pub tagged: bool,
    /// Only a state that has what this bookmark stands for; wait for it
    #[arg(long, value_name = "BOOKMARK")]
    pub at_least: Option<String>,
    /// Give up waiting after this long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s", requires = "at_least")]
    pub timeout: std::time::Duration,
}

/// Options of `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The bookmark, as `--json` prints it with what was written or read; `-` or nothing: standard input
    pub bookmark: Option<String>,
    /// Give up waiting after this long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub timeout: std::time::Duration,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only documents here and below
    #[arg(default_value = "/")]
    pub prefix: String,
    /// At most this many documents
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    pub limit: usize,
    /// Only paths after this one
    #[arg(long, value_name = "PATH")]
    pub after: Option<String>,
    /// Also sizes, times and heads
    #[arg(long, short)]
    pub long: bool,
}

/// Options of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Only documents here and below
    #[arg(default_value = "/")]
    pub prefix: String,
    /// Print each document's value with its change
    #[arg(long)]
    pub values: bool,
    /// Stop after this many lines
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

/// What `soft` can do.
#[derive(Debug, Subcommand)]
pub enum SoftCommand {
    /// Set the running peer's entry at a path; it lives until the peer stops, or until it is deleted
    Set {
        /// Where; other peers may have entries of their own there
        path: String,
        /// The value as JSON; `-` or nothing: standard input
        value: Option<String>,
        /// Take the value as plain text instead of JSON
        #[arg(long)]
        text: bool,
    },
    /// Print every peer's entry at a path
    Get {
        /// Where
        path: String,
    },
    /// List entries under a prefix
    List {
        /// Only entries here and below
        #[arg(default_value = "/")]
        prefix: String,
    },
    /// Print a line for every entry that is set or deleted, or lapses
    Watch {
        /// Only entries here and below
        #[arg(default_value = "/")]
        prefix: String,
        /// Stop after this many lines
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Delete the running peer's entry at a path
    Delete {
        /// Where
        path: String,
    },
}

/// What `services` can do.
#[derive(Debug, Subcommand)]
pub enum ServicesCommand {
    /// List where services are offered
    List {
        /// The service; without it, all of them
        name: Option<String>,
    },
    /// Print a line for every endpoint that is offered, changes or is gone, beginning with those that are there
    Watch {
        /// The service; without it, all of them
        name: Option<String>,
        /// Stop after this many lines
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Offer a service at an endpoint until this command, or COMMAND, ends
    Register(RegisterArgs),
}

/// Options of `services register`.
#[derive(Debug, Args)]
#[command(after_help = REGISTER_HELP)]
pub struct RegisterArgs {
    /// The service: letters, digits, `-`, `_` and `.`
    pub name: String,
    /// Its address, as callers are to read it: host:port, a URL
    pub endpoint: String,
    /// What else is said of the endpoint; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub meta: Vec<(String, String)>,
    /// What provides the service: it is offered as long as this runs
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// How `services register` ends.
const REGISTER_HELP: &str = "The running peer offers the endpoint. If it stops, the command stays, and offers the endpoint again \
once the peer is back.

Exit status with COMMAND: its own; 128 and the signal's number if a signal ended it; 125 if it was not started, because the \
service was refused or no peer runs; 126 and 127 if it cannot be started. SIGTERM and SIGINT first take the offer back, \
then go to COMMAND, which has 10 s to end; a second one ends it at once. Without COMMAND: as for other commands, and 0 when \
told to stop.";

/// What `topic` can do.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Publish a signal at a path, to every connected peer that may read it
    Pub {
        /// Where
        path: String,
        /// The value as JSON, at most 4 KiB; `-` or nothing: standard input
        value: Option<String>,
        /// Take the value as plain text instead of JSON
        #[arg(long)]
        text: bool,
    },
    /// Print a line for every signal that is published from now on, and say what was missed
    Sub {
        /// Only signals here and below
        #[arg(default_value = "/")]
        prefix: String,
        /// Stop after this many lines
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
}

/// Options of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The document
    pub path: String,
    /// At most this many changes
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
}

/// Whose rights end.
#[derive(Debug, Clone, Args)]
pub struct RevokeArgs {
    /// The device, or the first letters of it, as `members` shows it
    #[arg(required_unless_present = "expired")]
    pub device: Option<String>,
    /// Only this grant of it, as `members --json` shows it; repeatable. Otherwise the device is removed, and no grant brings
    /// it back
    #[arg(long, value_name = "FACT")]
    pub grant: Vec<String>,
    /// Drop all that it wrote, and what others wrote on top of that; otherwise what this peer has of it stays
    #[arg(long)]
    pub keep_nothing: bool,
    /// Instead: every grant that has ended by this machine's clock
    #[arg(long, conflicts_with_all = ["device", "grant", "keep_nothing"])]
    pub expired: bool,
}

/// What `evicted` can do.
#[derive(Debug, Subcommand)]
pub enum EvictedCommand {
    /// List them
    List {
        /// Under here
        #[arg(default_value = "/")]
        prefix: String,
    },
    /// Make this device's edits again that left with what they stood on
    Rebase {
        /// The document
        path: String,
        /// Those of other devices, too: let one peer do that
        #[arg(long)]
        others: bool,
    },
    /// Forget them, in this store
    Discard {
        /// The document
        path: String,
    },
}

/// What `space` can do.
#[derive(Debug, Subcommand)]
pub enum SpaceCommand {
    /// List the spaces of this store
    List,
    /// Create a space
    Create {
        /// Its local name
        name: String,
    },
    /// Write the root key of the space (--space) into a new file that only its owner may read
    RootKey {
        /// Where; nothing may be there
        file: PathBuf,
    },
}

/// Roles that an invitation can hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InviteRole {
    /// May read
    Reader,
    /// May read and write
    Writer,
    /// May also invite and grant
    Admin,
    /// May be made a voter; says nothing of reading or writing
    Voter,
}

impl InviteRole {
    /// The role's name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            InviteRole::Reader => "reader",
            InviteRole::Writer => "writer",
            InviteRole::Admin => "admin",
            InviteRole::Voter => "voter",
        }
    }
}

/// Options of `invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// What its holder may do
    #[arg(long, default_value = "writer")]
    pub role: InviteRole,
    /// Where
    #[arg(long, default_value = "/")]
    pub prefix: String,
    /// How long it can be accepted; `never` for ever
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = expiry)]
    pub expires: Expiry,
    /// An address of a peer to put into it, as a multiaddr; default: where this peer listens; repeatable
    #[arg(long, value_name = "MULTIADDR")]
    pub address: Vec<String>,
    /// Print the secret even if the output is not a terminal
    #[arg(long)]
    pub print: bool,
    /// No QR code
    #[arg(long)]
    pub no_qr: bool,
}

/// How long an invitation lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// For ever.
    Never,
    /// This long.
    After(std::time::Duration),
}

/// Options of `join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// The invitation; `-` or nothing: read from standard input, where other users of the machine cannot see it
    pub invitation: Option<String>,
    /// Local name of the space
    #[arg(long)]
    pub name: Option<String>,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Skip the checksums of every page, which take a full read of the file
    #[arg(long)]
    pub quick: bool,
    /// Also pack the store's file; needs room for a second one
    #[arg(long)]
    pub compact: bool,
    /// Print at most this many findings
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
}

/// What to do with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once
    Create(TokenArgs),
    /// List tokens: what each opens, and until when; not the tokens themselves
    List,
    /// Take a token back
    Revoke {
        /// Its id, as `foreshore token list` shows it
        id: String,
    },
}

/// Options of `token create`.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// What it opens: this path and everything under it
    #[arg(long, value_name = "PREFIX", default_value = "/")]
    pub path: String,
    /// It reads (which it does in any case)
    #[arg(long)]
    pub read: bool,
    /// It reads and writes
    #[arg(long)]
    pub write: bool,
    /// How long it is good: 500ms, 30s, 5m, 2h, 7d or never
    #[arg(long, value_name = "DURATION", value_parser = expiry, default_value = "never")]
    pub expires: Expiry,
    /// What it is for, to know it by in the list
    #[arg(long, default_value = "")]
    pub name: String,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as key=value".into()),
    }
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    parse_duration(text).ok_or_else(|| "write it as 500ms, 30s, 5m, 2h or 7d".into())
}

fn expiry(text: &str) -> Result<Expiry, String> {
    match text {
        "never" => Ok(Expiry::Never),
        _ => duration(text).map(Expiry::After),
    }
}

impl Cli {
    /// The configuration layers that flags and the environment make.
    pub fn layers(&self, environment: impl IntoIterator<Item = (String, String)>) -> Layers {
        let mut layers = Layers::new(environment);
        let Global { data, config, space, log, log_format, .. } = &self.global;
        layers
            .file(config.clone())
            .flag("data", data.as_ref().map(|data| data.to_string_lossy()))
            .flag("space", space.clone())
            .flag("log", log.clone())
            .flag("log_format", log_format.clone());
        if let Command::Run(run) | Command::Config(run) = &self.command {
            layers
                .flags("listen", &run.listen)
                .flags("dial", &run.dial)
                .flags("relays", &run.relays)
                .flag("relay", run.relay.clone())
                .flag("mdns", run.mdns.clone())
                .flags("advertise", &run.advertise)
                .flag("peer_exchange", run.peer_exchange.clone())
                .flags("http_hosts", &run.http_hosts)
                .flag("http", run.http.clone())
                .flag("http_token_file", run.http_token_file.clone())
                .flag("metrics", run.metrics.clone())
                .flag("address_connections", run.address_connections.clone())
                .flags("trusted_addresses", &run.trusted_addresses)
                .flag("link_rate", run.link_rate.clone())
                .flag("http_api", run.http_api.clone())
                .flags("http_cors", &run.http_cors)
                .flag("zookeeper", run.zookeeper.clone())
                .flag("zookeeper_space", run.zookeeper_space.clone())
                .flag("automerge_repo", run.automerge_repo.clone())
                .flag("automerge_repo_space", run.automerge_repo_space.clone())
                .flag("automerge_repo_prefix", run.automerge_repo_prefix.clone())
                .flag("storage", run.storage.clone())
                .flag("cache", run.cache.clone())
                .flag("hot_memory", run.hot_memory.clone())
                .flag("reconcile_period", run.reconcile_period.clone())
                .flag("soft_ttl", run.soft_ttl.clone())
                .flag("max_connections", run.max_connections.clone());
        }
        layers
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_has_a_flag() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        let flags: Vec<_> = command.get_arguments().chain(run.get_arguments()).filter_map(|a| a.get_long()).collect();
        for key in crate::config::KEYS {
            assert!(flags.contains(&&key.flag()[2..]), "{} has no flag", key.name);
        }
    }

    #[test]
    fn a_negative_or_unitless_duration_is_refused() {
        for bad in ["7", "-1s", "soon"] {
            assert!(Cli::try_parse_from(["foreshore", "invite", "--expires", bad]).is_err(), "{bad}");
        }
    }
}
