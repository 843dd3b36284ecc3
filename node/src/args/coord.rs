//! The command line of the strong path.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::duration;

/// Options of a session.
#[derive(Debug, Clone, Args)]
pub struct SessionArgs {
    /// How long it stays taken after the running peer's last sign of life: 1s to 1h
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub ttl: Duration,
}

/// How a program that was run under a lock or a leadership ends.
const GUARD_HELP: &str = "COMMAND runs with FORESHORE_FENCING_TOKEN set: a number greater than that of every holder before; whatever \
it writes to is to refuse a lesser one than it has seen.

Exit status: that of COMMAND; 128 and the signal's number if a signal ended it; 125 if it was not started, because the lock was \
not to be had; 126 if it was ended because the lock was lost; 127 if it cannot be started; 130 if this command was stopped \
while it waited. Where the lock is lost COMMAND gets SIGTERM, and SIGKILL before anybody else can have the lock. SIGTERM and \
SIGINT go to COMMAND, a second one ends it at once; the lock is given back when it has ended. Without a terminal on standard \
input COMMAND gets a process group of its own, and signals go to all of it.";

/// Options of `lock`.
#[derive(Debug, Args)]
#[command(after_help = GUARD_HELP)]
pub struct LockArgs {
    /// The lock's name, such as /cron
    pub path: String,
    /// Share it with others that share it
    #[arg(long)]
    pub shared: bool,
    /// Wait at most so long for it; without this, for ever
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "once")]
    pub wait: Option<Duration>,
    /// Do not wait for it
    #[arg(long = "try")]
    pub once: bool,
    /// Nobody gets it for so long after its holder was lost: time for what was under way to end; at most 60s
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub delay: Duration,
    /// The session that holds it
    #[command(flatten)]
    pub session: SessionArgs,
    /// Print who holds it and how many wait, and run nothing
    #[arg(long, conflicts_with_all = ["command", "wait", "once", "shared"])]
    pub show: bool,
    /// What runs while the lock is held
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "show")]
    pub command: Vec<OsString>,
}

/// Options of `elect`.
#[derive(Debug, Args)]
#[command(after_help = GUARD_HELP)]
pub struct ElectArgs {
    /// The election's name, such as /leader
    pub path: String,
    /// What others learn of this candidate when it leads, at most 4 KiB
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub value: String,
    /// Stand at most so long; without this, for ever
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub wait: Option<Duration>,
    /// When the leadership is lost, exit 126 instead of standing again
    #[arg(long)]
    pub once: bool,
    /// The session that holds it
    #[command(flatten)]
    pub session: SessionArgs,
    /// Print who leads, and a line for each change, and do not stand
    #[arg(long, conflicts_with_all = ["command", "wait", "once", "value"])]
    pub observe: bool,
    /// Stop after this many lines
    #[arg(long, value_name = "N", requires = "observe")]
    pub count: Option<u64>,
    /// What runs while this command leads
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "observe")]
    pub command: Vec<OsString>,
}

/// What `tree` can do.
#[derive(Debug, Subcommand)]
pub enum TreeCommand {
    /// Print a node's data
    Get {
        /// The node
        path: String,
        /// Print versions, times and owner as well
        #[arg(long)]
        stat: bool,
        /// Take what the voter at hand has, which may be old, without asking a majority
        #[arg(long)]
        stale: bool,
    },
    /// Replace a node's data
    Set {
        /// The node
        path: String,
        /// The data, at most 1 MiB; `-` or nothing: standard input
        value: Option<String>,
        /// Only if the node has this version
        #[arg(long, value_name = "N")]
        version: Option<i32>,
    },
    /// Create a node, and print its path
    Create(CreateArgs),
    /// Delete a node that has no children
    Delete {
        /// The node
        path: String,
        /// Only if the node has this version
        #[arg(long, value_name = "N")]
        version: Option<i32>,
    },
    /// List the children of a node
    Ls {
        /// The node
        #[arg(default_value = "/")]
        path: String,
        /// Take what the voter at hand has, which may be old, without asking a majority
        #[arg(long)]
        stale: bool,
    },
    /// Print a line for every change of a node and of its list of children, from now on
    Watch {
        /// The node; it need not be there
        #[arg(default_value = "/")]
        path: String,
        /// Of everything below it as well
        #[arg(long, short)]
        recursive: bool,
        /// Stop after this many lines
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
}

/// Options of `tree create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The node
    pub path: String,
    /// The data, at most 1 MiB; `-`: standard input; nothing: no data
    pub value: Option<String>,
    /// Add ten digits to its name, counting up under its parent
    #[arg(long)]
    pub sequential: bool,
    /// It lives as long as this command, which stays until it is stopped
    #[arg(long, group = "life")]
    pub ephemeral: bool,
    /// It is gone with its last child
    #[arg(long, group = "life")]
    pub container: bool,
    /// It is gone when it had no children and was not set for so long
    #[arg(long, value_name = "DURATION", value_parser = duration, group = "life")]
    pub ttl: Option<Duration>,
}

/// How `queue work` ends, and what its program gets.
const WORK_HELP: &str = "COMMAND gets the item on standard input, and FORESHORE_FENCING_TOKEN, FORESHORE_ITEM and FORESHORE_ATTEMPT. \
Exit status 0 of COMMAND is the item's end; with any other it is given back, until it was tried as often as it may be, and then \
put aside. COMMAND is ended when the claim is lost or its time is over. Exit status: 0 when the wanted number of items was \
worked on; 130 when stopped: COMMAND gets the signal first, and its item is settled by how it ends.";

/// What `queue` can do.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Put an item at the end, and print its number
    Push {
        /// The queue
        path: String,
        /// The item, at most 256 KiB; `-` or nothing: standard input
        body: Option<String>,
        /// How often it may be tried before it is put aside: 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 5)]
        attempts: u32,
    },
    /// Take the first item that nobody works on. It is the running peer's until it is acknowledged or its time is over
    Pop {
        /// The queue
        path: String,
        /// How long nobody else gets it: 1ms to 1d
        #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "30s")]
        visibility: Duration,
    },
    /// An item is done
    Ack {
        /// The queue
        path: String,
        /// Its number, as `pop` printed it
        item: u64,
        /// The claim's token, as `pop` printed it
        token: u64,
    },
    /// An item was not done, others may try
    Nack {
        /// The queue
        path: String,
        /// Its number, as `pop` printed it
        item: u64,
        /// The claim's token, as `pop` printed it
        token: u64,
    },
    /// How many items are ready, being worked on and put aside
    Stats {
        /// The queue
        path: String,
    },
    /// Print an item without taking it
    Show {
        /// The queue
        path: String,
        /// Its number
        item: u64,
    },
    /// Items that were tried as often as they may be
    Dead {
        /// What to do
        #[command(subcommand)]
        command: DeadCommand,
    },
    /// Run a program for each item, one at a time
    #[command(after_help = WORK_HELP)]
    Work {
        /// The queue
        path: String,
        /// How long one item may take: 1ms to 1d
        #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "5m")]
        visibility: Duration,
        /// Stop after this many items
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// The session that claims items
        #[command(flatten)]
        session: SessionArgs,
        /// The program
        #[arg(last = true, value_name = "COMMAND", required = true)]
        command: Vec<OsString>,
    },
}

/// What `queue dead` can do.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List their numbers, oldest first, at most 1024
    List {
        /// The queue
        path: String,
    },
    /// Put one back at its place
    Revive {
        /// The queue
        path: String,
        /// Its number
        item: u64,
    },
    /// Delete one
    Discard {
        /// The queue
        path: String,
        /// Its number
        item: u64,
    },
}

/// What `voters` can do.
#[derive(Debug, Subcommand)]
pub enum VotersCommand {
    /// Show who votes, who leads and how far everybody is
    List,
    /// Make a connected peer a voter: it receives everything, and votes once it has caught up
    Add {
        /// The peer's id, or how it ends
        peer: String,
        /// It only receives; `promote` makes it vote
        #[arg(long)]
        learner: bool,
    },
    /// Make a peer vote that only receives
    Promote {
        /// The peer's id, or how it ends
        peer: String,
    },
    /// Take a peer out of the group, for good: its log cannot come back
    Remove {
        /// The peer's id, or how it ends
        peer: String,
    },
    /// Put a peer that only receives in the place of a voter, in one step
    Replace {
        /// The voter that leaves
        voter: String,
        /// Who takes its place
        newcomer: String,
    },
    /// Have another voter lead
    Transfer {
        /// Who; without it, whoever is best placed
        peer: Option<String>,
    },
}
