//! What programs build of the tree, ready to use: [`Counter`], [`Semaphore`], [`Barrier`], [`DoubleBarrier`], [`Group`]. They
//! are the recipes that ZooKeeper's documentation describes, on nodes that other clients of the tree see and can take part in.
//!
//! Each lives at a path; parents that are missing are made as containers, and go when they are empty. A wait looks, with a
//! watch, and looks again when something happened: it costs a linearizable read at its beginning and one for each event.

use std::future::Future;
use std::pin::pin;

use futures::future::{Either, select};
use tokio::sync::watch;

use super::lock::LockLost;
use super::{Coordinator, CoordinatorEvents, NodeData, Op, SessionNow, Tree, is};
use crate::coord::command::Command as Call;
use crate::coord::error::CoordError;
use crate::coord::serve::client::State;
use crate::engine::{CommandError, CoordFailure};

/// Names of nodes of a recipe whose order is that of asking.
const TURN: &str = "n-";
/// Names of nodes that say that all have come to a round of a [`DoubleBarrier`], with the round's last turn.
const READY: &str = "ready-";

/// Makes the parents of a path, as far as they are missing.
async fn make_parents(tree: &Tree, path: &str) -> Result<(), CommandError> {
    for (at, _) in path.match_indices('/').skip(1) {
        match tree.create(&path[..at], Vec::new()).container().await {
            Ok(_) => {}
            Err(error) if is(&error, &CoordError::NodeExists) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Creates a node; parents that are missing, or that go meanwhile because they were empty, are made.
async fn make(tree: &Tree, path: &str, data: &[u8], ephemeral: bool, turn: bool) -> Result<String, CommandError> {
    loop {
        let mut create = tree.create(path, data);
        if ephemeral {
            create = create.ephemeral();
        }
        if turn {
            create = create.sequential();
        }
        match create.await {
            Err(error) if is(&error, &CoordError::NoNode) => make_parents(tree, path).await?,
            made => return made,
        }
    }
}

/// The names of a node's children, sorted; none where it is missing.
async fn names(tree: &Tree, path: &str) -> Result<Vec<String>, CommandError> {
    match tree.children(path).await {
        Ok(mut names) => {
            names.sort_unstable();
            Ok(names)
        }
        Err(error) if is(&error, &CoordError::NoNode) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The last name of a path.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Looks again and again: what is watched tells when.
pub(super) struct Look {
    /// Reads with it are linearizable and set watches.
    tree: Tree,
    events: CoordinatorEvents,
    now: watch::Receiver<SessionNow>,
}

impl Look {
    pub(super) fn new(coordinator: &Coordinator) -> Self {
        // Listening begins before looking: an event in between is not missed.
        let (events, now) = (coordinator.events(), coordinator.now());
        Self { tree: coordinator.tree().linear().watching(), events, now }
    }

    /// Waits until something that was watched happened, or may have.
    pub(super) async fn again(&mut self) -> Result<(), CommandError> {
        let over = pin!(self.now.wait_for(|now| now.state == State::Lost));
        match select(pin!(self.events.next()), over).await {
            Either::Left((Some(_), _)) => Ok(()),
            Either::Left((None, _)) => Err(CommandError::Closed),
            Either::Right(_) => Err(CoordFailure::Lost.into()),
        }
    }
}

impl Coordinator {
    /// A number that everybody counts up and down.
    pub fn counter(&self, path: impl Into<String>) -> Counter {
        Counter { coordinator: self.clone(), path: path.into() }
    }

    /// A lock that up to `permits` sessions hold at once. Everybody has to name the same number.
    pub fn semaphore(&self, path: impl Into<String>, permits: usize) -> Semaphore {
        Semaphore { coordinator: self.clone(), path: path.into(), permits }
    }

    /// A gate that is shut until somebody lifts it.
    pub fn barrier(&self, path: impl Into<String>) -> Barrier {
        Barrier { coordinator: self.clone(), path: path.into() }
    }

    /// A gate that opens when `parties` sessions have come, and again when all have left.
    pub fn double_barrier(&self, path: impl Into<String>, parties: usize) -> DoubleBarrier {
        DoubleBarrier { coordinator: self.clone(), path: path.into(), parties }
    }

    /// Who is there.
    pub fn group(&self, path: impl Into<String>) -> Group {
        Group { coordinator: self.clone(), path: path.into() }
    }
}

/// A number at a path, from [`Coordinator::counter`]; 0 where there is none yet. It is kept as decimal digits.
#[derive(Debug, Clone)]
pub struct Counter {
    coordinator: Coordinator,
    path: String,
}

impl Counter {
    /// The number; everything that was acknowledged to anyone before is in it.
    pub async fn get(&self) -> Result<i64, CommandError> {
        let found = self.coordinator.tree().linear().get(&self.path).await?;
        found.map_or(Ok(0), |found| self.parse(&found))
    }

    /// Adds to it; what it is then. An addition that others overtake is tried again: each costs a read and a write. After
    /// [`CoordFailure::Unknown`] it was done or not.
    ///
    /// # Errors
    /// [`CommandError::Invalid`] where what is there is no number, or would be one beyond an `i64`. Nothing has changed.
    pub async fn add(&self, delta: i64) -> Result<i64, CommandError> {
        let tree = self.coordinator.tree().linear();
        loop {
            let found = tree.get(&self.path).await?;
            let before = found.as_ref().map_or(Ok(0), |found| self.parse(found))?;
            let after = before.checked_add(delta).ok_or_else(|| self.invalid("it does not go beyond 64 bits"))?;
            let text = after.to_string().into_bytes();
            let written = match found {
                Some(found) => tree.set(&self.path, text, Some(found.stat.version)).await.map(drop),
                None => make(&tree, &self.path, &text, false, false).await.map(drop),
            };
            match written {
                Ok(()) => return Ok(after),
                Err(CommandError::Coord(CoordFailure::Coord(
                    CoordError::BadVersion { .. } | CoordError::NodeExists | CoordError::NoNode,
                ))) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn parse(&self, found: &NodeData) -> Result<i64, CommandError> {
        if found.data.is_empty() {
            return Ok(0);
        }
        let number = std::str::from_utf8(&found.data).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.invalid("what is there is no number"))
    }

    fn invalid(&self, why: &str) -> CommandError {
        CommandError::Invalid { what: "counter", why: format!("{}: {why}", self.path) }
    }
}

/// A node that is this session's, and is deleted when this is dropped.
struct Own {
    coordinator: Coordinator,
    path: String,
    now: watch::Receiver<SessionNow>,
    lapses: u64,
    gone: bool,
}

impl Own {
    async fn make(coordinator: &Coordinator, path: &str, data: &[u8], turn: bool) -> Result<Self, CommandError> {
        let now = coordinator.now();
        let lapses = now.borrow().lapses;
        let path = make(&coordinator.tree(), path, data, true, turn).await?;
        Ok(Self { coordinator: coordinator.clone(), path, now, lapses, gone: false })
    }

    async fn lost(&self) {
        let (mut now, lapses) = (self.now.clone(), self.lapses);
        // An error: the peer is closed, and with it the session.
        let _ = now.wait_for(|now| now.state == State::Lost || now.lapses != lapses).await;
    }

    fn is_lost(&self) -> bool {
        let now = self.now.borrow();
        now.state == State::Lost || now.lapses != self.lapses
    }

    /// Where it fails, or the future is dropped, dropping this says it again.
    async fn delete(mut self) -> Result<(), CommandError> {
        match self.coordinator.tree().delete(&self.path, None).await {
            Err(error) if !is(&error, &CoordError::NoNode) => Err(error),
            _ => {
                self.gone = true;
                Ok(())
            }
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if !self.gone {
            self.coordinator.post(Call::Op(Op::Delete { path: self.path.clone(), version: -1 }));
        }
    }
}

/// A lock for several holders, from [`Coordinator::semaphore`]. Who asked first holds first.
#[derive(Debug, Clone)]
pub struct Semaphore {
    coordinator: Coordinator,
    path: String,
    permits: usize,
}

impl Semaphore {
    /// Waits for a permit. Dropping the future takes the wish back.
    pub async fn acquire(&self) -> Result<Permit, CommandError> {
        let own = Own::make(&self.coordinator, &format!("{}/{TURN}", self.path), &[], true).await?;
        let mut look = Look::new(&self.coordinator);
        loop {
            match self.turn(&look, &own).await? {
                true => return Ok(Permit { own }),
                false => look.again().await?,
            }
        }
    }

    /// A permit, if one is free.
    pub async fn try_acquire(&self) -> Result<Option<Permit>, CommandError> {
        let own = Own::make(&self.coordinator, &format!("{}/{TURN}", self.path), &[], true).await?;
        if self.turn(&Look::new(&self.coordinator), &own).await? {
            return Ok(Some(Permit { own }));
        }
        own.delete().await.map(|()| None)
    }

    /// Whether fewer than all permits are with those who asked before.
    async fn turn(&self, look: &Look, own: &Own) -> Result<bool, CommandError> {
        let names = names(&look.tree, &self.path).await?;
        let mine = names.iter().filter(|name| name.starts_with(TURN)).position(|found| found == name(&own.path));
        // Its node is gone with the session, or somebody deleted it.
        mine.map(|ahead| ahead < self.permits).ok_or(CoordFailure::Lost.into())
    }

    /// How many hold a permit or wait for one.
    pub async fn asked(&self) -> Result<usize, CommandError> {
        Ok(names(&self.coordinator.tree().linear(), &self.path).await?.len())
    }
}

/// One of a semaphore's permits. Dropping it gives it back, without waiting for that.
#[must_use = "a permit is given back when it is dropped"]
pub struct Permit {
    own: Own,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("node", &self.own.path).finish()
    }
}

impl Permit {
    /// Whether it was lost.
    pub fn is_lost(&self) -> bool {
        self.own.is_lost()
    }

    /// Waits until it is lost: from then on nothing may be done in its name.
    pub async fn lost(&self) {
        self.own.lost().await;
    }

    /// Runs work as long as the permit is held. `Err`: it was lost, and the work dropped where it stood.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, LockLost> {
        if self.is_lost() {
            return Err(LockLost);
        }
        match select(pin!(work), pin!(self.lost())).await {
            Either::Left((done, _)) => Ok(done),
            Either::Right(((), _)) => Err(LockLost),
        }
    }

    /// Gives it back, and waits until that is done.
    pub async fn release(self) -> Result<(), CommandError> {
        self.own.delete().await
    }
}

/// A gate, from [`Coordinator::barrier`]: shut as long as its node is there.
#[derive(Debug, Clone)]
pub struct Barrier {
    coordinator: Coordinator,
    path: String,
}

impl Barrier {
    /// Shuts it. `false`: it was shut already.
    pub async fn shut(&self) -> Result<bool, CommandError> {
        match make(&self.coordinator.tree(), &self.path, &[], false, false).await {
            Ok(_) => Ok(true),
            Err(error) if is(&error, &CoordError::NodeExists) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lifts it. `false`: it was not shut.
    pub async fn lift(&self) -> Result<bool, CommandError> {
        match self.coordinator.tree().delete(&self.path, None).await {
            Ok(()) => Ok(true),
            Err(error) if is(&error, &CoordError::NoNode) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until it is not shut.
    pub async fn wait(&self) -> Result<(), CommandError> {
        let mut look = Look::new(&self.coordinator);
        while look.tree.stat(&self.path).await?.is_some() {
            look.again().await?;
        }
        Ok(())
    }
}

/// A gate for a number of parties, from [`Coordinator::double_barrier`]. A party that dies before all have come is not counted.
#[derive(Debug, Clone)]
pub struct DoubleBarrier {
    coordinator: Coordinator,
    path: String,
    parties: usize,
}

impl DoubleBarrier {
    /// Comes, and waits until all parties have. Dropping the future leaves.
    pub async fn enter(&self) -> Result<Inside, CommandError> {
        let own = Own::make(&self.coordinator, &format!("{}/{TURN}", self.path), &[], true).await?;
        let mine = name(&own.path).strip_prefix(TURN).unwrap_or_default().to_owned();
        let mut look = Look::new(&self.coordinator);
        loop {
            let names = names(&look.tree, &self.path).await?;
            // A round is open up to the last turn that it counted: one that came later waits for the next.
            let open = names.iter().filter_map(|name| name.strip_prefix(READY)).find(|last| **last >= *mine);
            if let Some(last) = open {
                return Ok(Inside { own, path: self.path.clone(), last: last.to_owned() });
            }
            let shut = names.iter().filter_map(|name| name.strip_prefix(READY)).max().unwrap_or_default();
            let turns: Vec<&str> =
                names.iter().filter_map(|name| name.strip_prefix(TURN)).filter(|t| *t > shut).collect();
            if let Some(last) = turns.last().filter(|_| turns.len() >= self.parties) {
                // Whoever sees that all have come says so, for those who look when some have left again.
                match make(&self.coordinator.tree(), &format!("{}/{READY}{last}", self.path), &[], false, false).await {
                    Ok(_) => {}
                    Err(error) if is(&error, &CoordError::NodeExists) => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            look.again().await?;
        }
    }
}

/// A party that all others have joined. Dropping it leaves, without waiting for the others.
#[must_use = "a party leaves when this is dropped"]
pub struct Inside {
    own: Own,
    path: String,
    /// The last turn of the round.
    last: String,
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").field("node", &self.own.path).finish()
    }
}

impl Inside {
    /// Leaves, and waits until all others of the round have left too.
    pub async fn leave(self) -> Result<(), CommandError> {
        let Self { own, path, last } = self;
        let coordinator = own.coordinator.clone();
        own.delete().await?;
        let mut look = Look::new(&coordinator);
        let within = |name: &String| name.strip_prefix(TURN).is_some_and(|turn| turn <= &*last);
        while names(&look.tree, &path).await?.iter().any(within) {
            look.again().await?;
        }
        // All may try; the next round has a name of its own.
        match coordinator.tree().delete(format!("{path}/{READY}{last}"), None).await {
            Ok(()) => Ok(()),
            Err(error) if is(&error, &CoordError::NoNode) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Who is there at a path, from [`Coordinator::group`]: each member as long as its session lives.
#[derive(Debug, Clone)]
pub struct Group {
    coordinator: Coordinator,
    path: String,
}

impl Group {
    /// Joins under a name that nobody else has; `value` is what the others learn.
    ///
    /// # Errors
    /// [`CoordError::NodeExists`]: the name is taken.
    pub async fn join(&self, name: &str, value: impl AsRef<[u8]>) -> Result<Membership, CommandError> {
        if name.is_empty() || name.contains('/') {
            let why = format!("{name:?} is no name: it has at least one character, and no slash");
            return Err(CommandError::Invalid { what: "member", why });
        }
        let path = format!("{}/{name}", self.path);
        Own::make(&self.coordinator, &path, value.as_ref(), false).await.map(|own| Membership { own })
    }

    /// The members by name, sorted, with what each says of itself.
    pub async fn members(&self) -> Result<Vec<(String, Vec<u8>)>, CommandError> {
        let tree = self.coordinator.tree().linear();
        let names = names(&tree, &self.path).await?;
        self.read(&tree, names).await
    }

    /// Waits until `enough` holds of the members, and returns them.
    pub async fn wait_for(
        &self,
        enough: impl Fn(&[(String, Vec<u8>)]) -> bool,
    ) -> Result<Vec<(String, Vec<u8>)>, CommandError> {
        let mut look = Look::new(&self.coordinator);
        loop {
            // A group that nobody has joined yet has no node to watch the children of.
            let names = match look.tree.children(&self.path).await {
                Err(error) if is(&error, &CoordError::NoNode) => {
                    make_parents(&look.tree, &format!("{}/", self.path)).await?;
                    continue;
                }
                names => names?,
            };
            let members = self.read(&look.tree, names).await?;
            if enough(&members) {
                return Ok(members);
            }
            look.again().await?;
        }
    }

    async fn read(&self, tree: &Tree, mut names: Vec<String>) -> Result<Vec<(String, Vec<u8>)>, CommandError> {
        names.sort_unstable();
        let mut members = Vec::new();
        for name in names {
            // One that left in between is no member.
            if let Some(found) = tree.get(format!("{}/{name}", self.path)).await? {
                members.push((name, found.data));
            }
        }
        Ok(members)
    }
}

/// A member of a group. Dropping it leaves, without waiting for that.
#[must_use = "a member leaves when this is dropped"]
pub struct Membership {
    own: Own,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("node", &self.own.path).finish()
    }
}

impl Membership {
    /// Whether the session that it belongs to lapsed or ended: others may not see it any more.
    pub fn is_lost(&self) -> bool {
        self.own.is_lost()
    }

    /// Waits until it is lost.
    pub async fn lost(&self) {
        self.own.lost().await;
    }

    /// Leaves, and waits until that is done.
    pub async fn leave(self) -> Result<(), CommandError> {
        self.own.delete().await
    }
}
