//! Configuration of the engine. Every field says its default, what it trades and its bound.

use std::time::Duration;

/// A defence that a simulation leaves out, to see that its checks would notice.
#[cfg(feature = "sim")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defence {
    /// Proofs of membership have to hold.
    Membership,
    /// A peer is told only of what its grants let it read.
    Reading,
    /// Changes are endorsed by devices that may write there, and the signatures hold.
    Endorsements,
    /// Soft entries are of devices that may write there.
    SoftRights,
    /// Signals are of devices that may write there.
    TopicRights,
    /// Data comes against credit.
    Credit,
    /// Sessions of reconciliation are begun at a bounded rate.
    Sessions,
    /// A peer publishes at a bounded rate. Left out it floods, which the others have to bear.
    Publishing,
}

/// Configuration of an [`Engine`](crate::engine::Engine).
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Identity of the store file as the backend sees it (device, inode, birth). A seal that names another identity does
    /// not count, so a copied store begins a new incarnation.
    pub store_identity: Vec<u8>,
    /// How often a link's roots are compared without any other reason, jittered by ±25 %. Default 15 s. Shorter finds a
    /// lost push sooner and costs at most 64 B a period and link.
    pub reconcile_period: Duration,
    /// Estimated bytes of hydrated documents to keep. Default 256 MiB. Documents that a handle or watcher holds are kept
    /// beyond it.
    pub hot_budget: usize,
    /// Estimated bytes of loaded logs (rows, no contents) to keep. Default 64 MiB.
    pub log_budget: usize,
    /// Bytes of changes that wait for dependencies. Default 256 MiB. A chain of changes is admitted
    /// whole, so this bounds the history that a peer can bring in one piece; at the bound the newest are dropped.
    pub orphan_budget: usize,
    /// Most facts in one device's chain, but the root's. Default 65,536. What a member says beyond it is refused and counted; an
    /// own one fails with its reason. At most 4 KiB of memory and disk a fact, so that one member takes at most 256 MiB of
    /// everybody. A revocation of a device that wrote in 25,000 documents takes about a thousand. Peers of one space should
    /// have the same bound: those with a greater one offer the others in vain what they have more.
    pub signer_facts: u64,
    /// Bytes of one peer's data that may wait here unverified or unstored: the credit given to a link. Default 4 MiB.
    /// Worst-case memory is this times the number of links.
    pub link_window: usize,
    /// Most changes in one storage commit. Default 8,192. More amortises fsync better and acknowledges later.
    pub max_batch: usize,
    /// Most links at once. Default 256.
    pub max_links: usize,
    /// Time a link may take to complete its handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long fresh changes gather for a peer that had not acknowledged the push before when the first of them was made.
    /// Default 20 ms. Otherwise they leave at once. What gathers shares an endorsement: longer costs latency under load
    /// and saves about 130 B for each change that would have gone alone.
    pub push_interval: Duration,
    /// How long a document must rest before its chunks are compacted into a snapshot. Default 5 s. Shorter saves disk
    /// sooner and opens documents more often.
    pub compact_after: Duration,
    /// Whether fresh changes are pushed at once. Default true; reconciliation alone converges too, a period later.
    pub push: bool,
    /// Whether changes are pushed, and shown in documents that are open, while they are being written, instead of once they
    /// are durable. Saves a disk's delay at either end of each hop. What is acknowledged, indexed, told to prefix watches or
    /// compared with peers is durable all the same, and an own change that a crash takes from here comes back from who
    /// got it: no later life of the store signs as the one that made it. Default true, and false in a browser, where a
    /// page makes its edits again when the tab that was to store them is gone: whoever had got them would have them twice.
    pub run_ahead: bool,
    /// Whether a space of more than a dozen known peers is spread over few neighbours, chosen here: links with them are asked
    /// for, and others given up. Default true. Without it every link is a neighbour, which costs everybody as many copies
    /// of a change's announcement as it has links.
    pub overlay: bool,
    /// How long an own soft entry outlives this peer where nobody hears of it any more. Default 15 s, at least 1 s, at
    /// most 10 min. Shorter shows sooner that a peer is gone, and takes a bad moment of the network for a death.
    pub soft_ttl: Duration,
    /// How often the lease on own soft entries is renewed. Default 5 s, at least 200 ms, at most half of `soft_ttl`.
    /// Shorter survives more lost renewals; each costs every other peer about 45 bytes.
    pub soft_period: Duration,
    /// Whether this store may vote on strong state. Default true, and false in a browser, whose storage may be copied or
    /// rolled back unseen: a voter that forgets what it has said breaks the promises of its whole group. Without it the
    /// spaces made here have no voter, no group is founded here, and who wants to add this peer to one is told so.
    pub votes: bool,
    /// A defence that is left out. Default none.
    #[cfg(feature = "sim")]
    pub without: Option<Defence>,
}

/// Whether a defence is left out: never but in a simulation that says so.
macro_rules! lacks {
    ($config:expr, $defence:ident) => {{
        #[cfg(feature = "sim")]
        let lacks = $config.without == Some(crate::config::Defence::$defence);
        #[cfg(not(feature = "sim"))]
        let lacks = false;
        lacks
    }};
}
pub(crate) use lacks;

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            store_identity: Vec::new(),
            reconcile_period: Duration::from_secs(15),
            hot_budget: 256 << 20,
            log_budget: 64 << 20,
            orphan_budget: 256 << 20,
            signer_facts: 65_536,
            link_window: 4 << 20,
            max_batch: 8192,
            max_links: 256,
            handshake_timeout: Duration::from_secs(10),
            push_interval: Duration::from_millis(20),
            compact_after: Duration::from_secs(5),
            push: true,
            run_ahead: !cfg!(target_arch = "wasm32"),
            overlay: true,
            soft_ttl: Duration::from_secs(15),
            soft_period: Duration::from_secs(5),
            votes: !cfg!(target_arch = "wasm32"),
            #[cfg(feature = "sim")]
            without: None,
        }
    }
}
