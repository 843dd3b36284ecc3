//! Reads and watches of clients, each channel's in its own order.
//!
//! A read waits for the channel's requests that came before it, and, if it is to be linear, for a round to a majority. What
//! it finds and the watch that it sets are of one state.

use super::{ChannelId, MAX_READS, Voter};
use crate::coord::acl::Identity;
use crate::coord::claim::Kind;
use crate::coord::error::{Bounded, CoordError};
use crate::coord::machine::Machine;
use crate::coord::path::NodePath;
use crate::coord::serve::talk::{
    Found, Frame, Holding, Leading, MAX_ANSWER_BYTES, MAX_FRAME_BYTES, MAX_QUERIES, Query, Refusal, Standing, Subject,
    Tell,
};
use crate::coord::session::SessionId;
use crate::coord::watch::{Watch, Watches};
use crate::id::PeerId;
use crate::wire::Codec;

/// What a channel waits to have done.
#[derive(Debug)]
pub(super) enum Wish {
    Read {
        id: u64,
        after: u64,
        /// The round that it waits for.
        round: Option<u64>,
        query: Query,
        watch: bool,
    },
    Watch {
        id: u64,
        watch: Watch,
        path: String,
        on: bool,
    },
    Rearm {
        seen: u64,
        watches: Vec<(Watch, NodePath)>,
    },
}

/// What consensus was asked to confirm.
#[derive(Debug)]
pub(super) enum Round {
    /// A channel's linear read.
    Read(ChannelId),
    /// That this voter led when it took signs of life.
    Touch { from: PeerId, round: u64, renewed: Vec<SessionId> },
}

impl Voter {
    pub(super) fn read(&mut self, id: ChannelId, name: u64, after: u64, linear: bool, query: Query, watch: bool) {
        let mut round = None;
        if linear {
            match self.begin_round(Round::Read(id)) {
                Some(ctx) => round = Some(ctx),
                None => return self.tell(id, Tell::Refused { of: Subject::Read(name), why: Refusal::Busy }),
            }
        }
        self.wish(id, Wish::Read { id: name, after, round, query, watch });
    }

    /// Asks consensus for a round; `None` if too many are asked for.
    pub(super) fn begin_round(&mut self, what: Round) -> Option<u64> {
        self.contexts += 1;
        self.group.read(self.contexts).ok()?;
        self.rounds.insert(self.contexts, what);
        Some(self.contexts)
    }

    pub(super) fn wish(&mut self, id: ChannelId, wish: Wish) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let of = match &wish {
            Wish::Read { id, .. } | Wish::Watch { id, .. } => Subject::Read(*id),
            Wish::Rearm { .. } => Subject::Rearm,
        };
        if channel.owned.is_none() {
            return self.tell(id, Tell::Refused { of, why: Refusal::NoSession });
        }
        if channel.wishes.len() >= MAX_READS {
            return self.tell(id, Tell::Refused { of, why: Refusal::Busy });
        }
        channel.wishes.push_back(wish);
        self.grant_wishes(id);
    }

    /// Does what the channel waits for, as far as it can be done.
    pub(super) fn grant_wishes(&mut self, id: ChannelId) {
        loop {
            let Some(channel) = self.channels.get_mut(&id) else { return };
            let (Some(owned), Some(wish)) = (channel.owned, channel.wishes.front()) else { return };
            if let Wish::Read { after, round, .. } = wish {
                let session = self.group.machine().sessions().find(owned.session);
                if round.is_some() || session.is_none_or(|session| session.next_seq() < *after) {
                    return;
                }
            }
            let Some(wish) = channel.wishes.pop_front() else { return };
            self.grant_wish(id, owned.session, wish);
        }
    }

    fn grant_wish(&mut self, id: ChannelId, session: SessionId, wish: Wish) {
        let zxid = self.group.applied().index;
        match wish {
            Wish::Read { id: name, query, watch, .. } => {
                let identities = self.channels.get(&id).map(|channel| channel.identities.clone()).unwrap_or_default();
                let mut found = find((self.group.machine(), &self.watches), &query, session, &identities);
                if watch && let Err(error) = self.watch_what_was_read(session, &query, &found) {
                    found = Err(error);
                }
                let (own, several) = (self.is_own(id), matches!(query, Query::Many(_)));
                let frame = Frame::Tell(id.1, Tell::Read { id: name, zxid, found });
                // One answer is bounded where it is found; several are by what a frame takes.
                let bytes = if own && !several { Vec::new() } else { frame.to_bytes() };
                if bytes.len() > MAX_FRAME_BYTES {
                    return self.tell(id, Tell::Refused { of: Subject::Read(name), why: Refusal::TooLarge });
                }
                match frame {
                    Frame::Tell(_, tell) if own => self.tell(id, tell),
                    _ => self.out.push_back(super::Output::Send { to: id.0, bytes }),
                }
            }
            Wish::Watch { id: name, watch, path, on } => {
                let done = NodePath::parse(&path).map_err(CoordError::from).and_then(|path| {
                    if on {
                        self.watches.add(session, watch, &path)
                    } else {
                        self.watches.remove(session, watch, &path);
                        Ok(())
                    }
                });
                self.tell(id, Tell::Read { id: name, zxid, found: done.map(|()| Found::Nothing) });
            }
            Wish::Rearm { seen, watches } => {
                let tree = self.group.machine().tree();
                match self.watches.rearm(session, &watches, seen.min(zxid), tree, zxid) {
                    Ok(events) => self.tell_events(events),
                    Err(_) => self.tell(id, Tell::Refused { of: Subject::Rearm, why: Refusal::Busy }),
                }
            }
        }
    }

    fn watch_what_was_read(
        &mut self,
        session: SessionId,
        query: &Query,
        found: &Result<Found, CoordError>,
    ) -> Result<(), CoordError> {
        let (path, watch) = match (query, found) {
            (Query::Data(path), Ok(_)) | (Query::Exists(path), Ok(_)) => (path, Watch::Data),
            (Query::Exists(path), Err(CoordError::NoNode)) => (path, Watch::Exists),
            (Query::Children(path), Ok(_)) => (path, Watch::Children),
            (Query::Leader(path), Ok(_)) => (path, Watch::Leader),
            (Query::Queue(path), Ok(_)) => (path, Watch::Queue),
            _ => return Ok(()),
        };
        self.watches.add(session, watch, &NodePath::parse(path)?)
    }

    /// A round was confirmed up to an index, or failed.
    pub(super) fn on_round(&mut self, ctx: u64, index: Option<u64>) {
        match (self.rounds.remove(&ctx), index) {
            (Some(Round::Read(id)), Some(_)) => {
                let wishes = self.channels.get_mut(&id).map(|channel| channel.wishes.iter_mut());
                for wish in wishes.into_iter().flatten() {
                    if let Wish::Read { round, .. } = wish
                        && *round == Some(ctx)
                    {
                        *round = None;
                    }
                }
                self.ready.insert(id);
            }
            (Some(Round::Read(id)), None) => {
                let Some(channel) = self.channels.get_mut(&id) else { return };
                let place = channel
                    .wishes
                    .iter()
                    .position(|wish| matches!(wish, Wish::Read { round, .. } if *round == Some(ctx)));
                if let Some(Wish::Read { id: name, .. }) = place.and_then(|place| channel.wishes.remove(place)) {
                    self.tell(id, Tell::Refused { of: Subject::Read(name), why: Refusal::NoQuorum });
                    self.ready.insert(id);
                }
            }
            (Some(Round::Touch { from, round, renewed }), Some(index)) => {
                self.confirm_touch(from, round, index, renewed)
            }
            (Some(Round::Touch { .. }) | None, _) => {}
        }
    }
}

/// What is found at the present state.
fn find(
    (machine, watches): (&Machine, &Watches),
    query: &Query,
    session: SessionId,
    identities: &[Identity],
) -> Result<Found, CoordError> {
    Ok(match query {
        Query::Nothing => Found::Nothing,
        Query::Data(path) => {
            let (data, stat) = machine.tree().get(path, identities)?;
            Found::Data(data, stat)
        }
        Query::Exists(path) => Found::Exists(machine.tree().stat(path)?),
        Query::Children(path) => {
            let (names, stat) = machine.tree().children(path, identities)?;
            let names: Vec<String> = names.map(str::to_owned).collect();
            fits(&names)?;
            Found::Children(names, stat)
        }
        Query::Acl(path) => {
            let (acl, stat) = machine.tree().acl(path, identities)?;
            Found::Acl(acl, stat)
        }
        Query::Leader(path) => Found::Leader(machine.claims().leader(&NodePath::parse(path)?).map(|holder| Leading {
            session: holder.session,
            owner: owner(machine, holder.session),
            token: holder.token,
            value: holder.value.clone(),
        })),
        Query::Lock(path) => {
            let resource = machine.claims().find(Kind::Lock, &NodePath::parse(path)?);
            let holders = resource.into_iter().flat_map(|resource| resource.holders()).take(MAX_QUERIES);
            let holders = holders.map(|held| Holding {
                session: held.session,
                owner: owner(machine, held.session),
                share: held.share,
                token: held.token,
            });
            Found::Lock(holders.collect(), resource.map_or(0, |resource| resource.waiters().len() as u32))
        }
        Query::Queue(path) => {
            let queue = machine.queues().find(&NodePath::parse(path)?);
            let items = || queue.into_iter().flat_map(|queue| queue.items());
            Found::Queue {
                ready: queue.map_or(0, |queue| queue.ready() as u32),
                claimed: items().filter(|(_, item)| item.claimed().is_some()).count() as u32,
                dead: items().filter(|(_, item)| item.is_dead()).map(|(number, _)| number).take(MAX_QUERIES).collect(),
            }
        }
        Query::Item(path, number) => {
            let queue = machine.queues().find(&NodePath::parse(path)?).ok_or(CoordError::NoItem)?;
            let item = queue.items().find(|(n, _)| n == number).map(|(_, item)| item).ok_or(CoordError::NoItem)?;
            Found::Item(item.body().clone(), item.attempts())
        }
        Query::Many(queries) => {
            let find = |query| find((machine, watches), query, session, identities);
            Found::Many(queries.iter().map(find).collect())
        }
        Query::Standing(seq) => Found::Standing(standing(machine, session, *seq)),
        Query::Watches(path) => Found::Watches(watches.kinds_of(session, &NodePath::parse(path)?)),
        Query::Ephemerals(prefix) => {
            let paths = machine.tree().ephemerals(session).map(NodePath::as_str);
            let paths: Vec<String> = paths.filter(|path| path.starts_with(prefix)).map(str::to_owned).collect();
            fits(&paths)?;
            Found::Paths(paths)
        }
        Query::Descendants(path) => {
            let path = NodePath::parse(path)?;
            machine.tree().get(path.as_str(), identities)?;
            Found::Count(machine.tree().descendants(&path) as u64)
        }
    })
}

/// Whether names fit into one answer.
fn fits(names: &[String]) -> Result<(), CoordError> {
    let bytes: usize = names.iter().map(|name| name.len() + 2).sum();
    if bytes > MAX_ANSWER_BYTES {
        return Err(CoordError::TooLarge { what: Bounded::Data, max: MAX_ANSWER_BYTES as u64 });
    }
    Ok(())
}

/// Whom the voter that opened a session knew its client as.
fn owner(machine: &Machine, session: SessionId) -> std::sync::Arc<[u8]> {
    machine.sessions().find(session).map_or_else(Default::default, |session| session.owner().into())
}

fn standing(machine: &Machine, session: SessionId, seq: u64) -> Standing {
    let Some((kind, path)) = machine.claims().request(session, seq) else { return Standing::Over };
    let held = machine.claims().find(kind, path).into_iter().flat_map(|resource| resource.holders());
    let mut held = held.filter(|holder| holder.session == session && holder.seq == seq);
    held.next().map_or(Standing::Waits, |holder| Standing::Holds(holder.token))
}
