//! Soft state in the engine: commands, links, time.
//!
//! The protocol is [`crate::soft`]; here it gets the roster's answers, the device's key, links and clocks. Soft state is
//! never stored, so nothing here waits for the disk: a command is answered at once, and what it changed leaves with the
//! next frames.
//!
//! **Window.** Each message of news is acknowledged, and no further one leaves a link before that: what a stalled stream
//! holds back stays here, where it ages and where newer news takes its place. A peer that owes an acknowledgement for a
//! whole ttl is spoken to again; its stream is about to be given up or has lost something.
//!
//! **Waking.** After a sleep or a stop what lies in this process's own buffers is of unknown age, so peers are asked for
//! their digests, and news that comes before the answer is dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;

use super::link::protocol;
use super::{CommandError, Engine, Event, Phase, Reply, SoftInfo};
use crate::config::lacks;
use crate::id::{Path, Prefix, SpaceId};
use crate::io::{CloseReason, LinkId};
use crate::soft::{self, Clock, LeaseTerms, OwnerId, State};
use crate::time::{Now, Timestamp, WallTime};
use crate::trust::{DeviceKey, Roster};
use crate::wire::Codec;
use crate::wire::v1::Message;

/// How late a timer must be for this process to have been stopped. Less would take a busy machine for a stopped one, at the
/// cost of a digest a link; more lets news that waited so long pass for fresh.
const STOPPED: Duration = Duration::from_secs(2);

/// What the engine holds of soft state.
#[derive(Debug, Default)]
pub(super) struct SoftSide {
    clock: Clock,
    /// Now, sleep included.
    now: Now,
    /// When the store was opened, by the wall clock: where own incarnations begin.
    pub(super) opened: WallTime,
    states: BTreeMap<SpaceId, State>,
    /// Messages of news that a link's peer has not acknowledged, and when the last one left.
    unanswered: BTreeMap<LinkId, (u32, Timestamp)>,
    /// While there are links: when to look whether time has stood still.
    beat: Option<Timestamp>,
}

impl SoftSide {
    fn has_links(&self) -> bool {
        self.states.values().any(State::is_linked)
    }
}

#[cfg(test)]
impl SoftSide {
    pub(super) fn state(&self, space: &SpaceId) -> &State {
        &self.states[space]
    }
}

type Handled = Result<(), CloseReason>;

impl Engine {
    /// Reads the clocks, and lets what has lapsed be gone before anything else happens.
    pub(super) fn soft_time(&mut self) {
        let (now, slept) = self.soft.clock.read(self.now);
        self.soft.now = now;
        // A heart that beats late says that this process was stopped, even where the clocks agree.
        let beat = self.soft.beat.take().or(Some(now.mono)).filter(|_| self.soft.has_links());
        if !slept.is_zero() || beat.is_some_and(|beat| now.mono >= beat + STOPPED) {
            self.soft.states.values_mut().for_each(|state| state.wake(slept));
        }
        self.soft.beat = beat.map(|beat| if now.mono >= beat { now.mono + self.config.soft_period } else { beat });
        self.tick_soft();
    }

    /// Whatever soft state has to do by now, and what came of what was done.
    pub(super) fn tick_soft(&mut self) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        let Some(identity) = &self.identity else { return };
        for (space, state) in &mut self.soft.states {
            state.tick(self.soft.now, &identity.key, &mut self.rng);
            self.busy_links.extend(state.busy_links());
            for event in state.take_events() {
                self.out.push_back(crate::io::Output::Event(Event::SoftChanged { space: *space, event }));
            }
        }
    }

    pub(super) fn soft_timer(&self) -> Option<Timestamp> {
        let next = self.soft.states.values().filter_map(State::next_timer).chain(self.soft.beat).min()?;
        Some(self.soft.clock.machine_time(next))
    }

    /// The space's soft state, made when first asked for, with what own writes need.
    fn soft_state(&mut self, space: SpaceId) -> (&mut State, Now, (&DeviceKey, &mut ChaCha12Rng)) {
        let identity = self.identity.as_ref().expect("set before the phase becomes Open");
        let owner = OwnerId { device: identity.device, peer: identity.peer };
        let incarnation = soft::incarnation(self.soft.opened, identity.incarnation);
        let terms = LeaseTerms { ttl: self.config.soft_ttl, period: self.config.soft_period };
        let state = self.soft.states.entry(space).or_insert_with(|| State::new(space, owner, incarnation, terms));
        (state, self.soft.now, (&identity.key, &mut self.rng))
    }

    pub(super) fn soft_set(
        &mut self,
        space: SpaceId,
        path: Path,
        value: Vec<u8>,
    ) -> Result<Option<Reply>, CommandError> {
        let device = self.identity().device;
        if !self.space(&space)?.roster.can_write(&device, &path) {
            return Err(CommandError::Denied { action: "write soft state at", path: path.to_string() });
        }
        let (state, now, author) = self.soft_state(space);
        let version = state.set(now, author, path, value.into())?;
        Ok(Some(Reply::SoftWritten { version }))
    }

    pub(super) fn soft_delete(&mut self, space: SpaceId, path: &Path) -> Result<Option<Reply>, CommandError> {
        self.space(&space)?;
        let (state, now, author) = self.soft_state(space);
        let deleted = state.delete(now, author, path);
        Ok(Some(Reply::Deleted(deleted)))
    }

    pub(super) fn soft_list(
        &self,
        space: SpaceId,
        prefix: &Prefix,
        after: Option<&Path>,
        limit: usize,
    ) -> Result<Option<Reply>, CommandError> {
        self.space(&space)?;
        let limit = limit.clamp(1, super::MAX_LIST);
        let Some(state) = self.soft.states.get(&space) else {
            return Ok(Some(Reply::SoftList { items: Vec::new(), next: None }));
        };
        let (items, more) = state.list(prefix, after, limit, self.soft.now.mono);
        let next = items.last().filter(|_| more).map(|item| item.path.clone());
        Ok(Some(Reply::SoftList { items, next }))
    }

    pub(super) fn soft_get(&self, space: SpaceId, path: &Path) -> Result<Option<Reply>, CommandError> {
        self.space(&space)?;
        let state = self.soft.states.get(&space);
        let items: Vec<SoftInfo> = state.map(|s| s.get(path, self.soft.now.mono)).unwrap_or_default();
        Ok(Some(Reply::SoftList { items, next: None }))
    }

    /// Owners that live, bytes of their entries, and news dropped.
    pub(super) fn soft_figures(&self) -> (u64, u64, u64) {
        self.soft.states.values().fold((0, 0, 0), |(owners, bytes, refused), state| {
            let (lives, _, holds) = state.figures();
            (owners + lives as u64, bytes + holds as u64, refused + state.refused())
        })
    }

    /// Says goodbye on every link: own entries are gone at once, not a ttl later.
    pub(super) fn soft_release(&mut self) {
        let Some(identity) = &self.identity else { return };
        for state in self.soft.states.values_mut() {
            state.release(self.soft.now, &identity.key);
        }
        // The last words do not wait for anybody.
        self.soft.unanswered.clear();
        self.tick_soft();
    }

    /// What both ends of a link see of a space is known, or has changed.
    pub(super) fn soft_domains(&mut self, id: LinkId, space: SpaceId) {
        let Some(common) = self.links.get(&id).and_then(|link| link.spaces.get(&space)) else { return };
        if common.device.is_some() && common.wanted.is_some() && !common.quiet {
            let domains = common.domains.clone();
            self.soft_state(space).0.connect(id, domains);
            self.busy_links.insert(id);
        }
    }

    /// A link, or a space on it, is gone.
    pub(super) fn soft_unlinked(&mut self, id: LinkId, space: Option<SpaceId>) {
        if space.is_none() {
            self.soft.unanswered.remove(&id);
        }
        let states = self.soft.states.iter_mut().filter(|(of, _)| space.is_none_or(|space| **of == space));
        for (_, state) in states {
            state.disconnect(id);
            self.busy_links.extend(state.busy_links());
        }
    }

    pub(super) fn on_soft(&mut self, id: LinkId, space: SpaceId, body: &[u8]) -> Handled {
        let message = soft::Message::from_bytes(body).map_err(|error| protocol(error.to_string()))?;
        let now = self.soft.now;
        let (Some(state), Some(common)) = (self.soft.states.get_mut(&space), self.spaces.get(&space)) else {
            return Ok(());
        };
        let roster: &Roster = &common.roster;
        let outcome = match message {
            soft::Message::News(news) => {
                self.links.get_mut(&id).expect("checked by the caller").out.control(Message::SoftAck);
                let all = lacks!(self.config, SoftRights);
                state.on_news(id, now, news, &|device, path| all || roster.can_write(device, path))
            }
            soft::Message::Digest { first, last, graft, asks, answers, owners } => {
                state.on_digest(id, now, (first, last, graft), (asks, answers), owners)
            }
            soft::Message::Fetch(fetches) => {
                state.on_fetch(id, now, fetches);
                Ok(())
            }
            soft::Message::Have(owners) => {
                state.on_have(id, now, owners);
                Ok(())
            }
            soft::Message::Prune(owners) => {
                state.on_prune(id, owners);
                Ok(())
            }
        };
        outcome.map_err(|error| protocol(error.to_string()))
    }

    pub(super) fn on_soft_ack(&mut self, id: LinkId) {
        // One too many is no harm: the window was opened because it took too long.
        if let Some((unanswered, _)) = self.soft.unanswered.get_mut(&id) {
            *unanswered = unanswered.saturating_sub(1);
        }
    }

    /// Queues what a link is to be told.
    pub(super) fn pump_soft(&mut self, id: LinkId) {
        let now = self.soft.now.mono;
        let Some(link) = self.links.get_mut(&id) else { return };
        let (unanswered, since) = self.soft.unanswered.get(&id).copied().unwrap_or_default();
        let window = unanswered == 0 || now >= since + self.config.soft_ttl;
        let mut sent = 0;
        for (space, common) in &link.spaces {
            let Some(state) = self.soft.states.get_mut(space) else { continue };
            for message in state.poll_link(id, now, window) {
                sent += u32::from(matches!(message, soft::Message::News(_)));
                link.out.control(Message::Soft { space: common.tag, body: message.to_bytes() });
            }
        }
        if sent > 0 {
            self.soft.unanswered.insert(id, (sent, now));
        }
    }
}
