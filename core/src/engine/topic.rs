//! Topics in the engine: commands, links, time.
//!
//! The protocol is [`crate::topic`]; here it gets the roster's answers, the device's key, links and clocks. Nothing of it is
//! stored but the number of this peer's life, which is above that of every former one even where the wall clock went back:
//! receivers refuse the signals of a life that is over. A store that was put back from a copy may not know of its latest life;
//! receivers tell it, and it goes on above that.

use std::collections::BTreeMap;

use super::command::Outcome;
use super::link::protocol;
use super::{CommandError, Engine, Event, Reply};
use crate::id::{Incarnation, Path, SpaceId};
use crate::io::{CloseReason, LinkId, Output};
use crate::soft::{self, OwnerId};
use crate::time::{Timestamp, WallTime};
use crate::topic::{self, Figures, Rate, State, TopicError};
use crate::trust::Roster;
use crate::wire::Codec;
use crate::wire::v1::Message;

/// What the low bits of a life may count: a peer that publishes at very many paths begins incarnations within its life.
const LIFE: u64 = 1 << 16;

/// How many lives one may be above the one before, where the clock does not say: two that begin from one copy of a store
/// differ, but for one chance in so many.
const SPREAD: u64 = 1 << 12;

/// The life that begins: of the time at which it does, unless a former one was above that.
pub(super) fn next_life(former: Option<u64>, opened: WallTime, store: Incarnation) -> u64 {
    let step = LIFE * (1 + (store.0 >> 32) % SPREAD);
    soft::incarnation(opened, store).max(former.map_or(0, |former| former.saturating_add(step)))
}

/// What the engine holds of topics.
#[derive(Debug, Default)]
pub(super) struct TopicSide {
    /// This peer's life.
    pub(super) life: u64,
    states: BTreeMap<SpaceId, State>,
}

type Handled = Result<(), CloseReason>;

impl Engine {
    /// The space's topics, made when first asked for.
    fn topic_state(&mut self, space: SpaceId) -> &mut State {
        let identity = self.identity.as_ref().expect("set before the phase becomes Open");
        let (sender, life, now) =
            (OwnerId { device: identity.device, peer: identity.peer }, self.topics.life, self.now.mono);
        let unbounded = crate::config::lacks!(self.config, Publishing);
        self.topics.states.entry(space).or_insert_with(|| {
            let state = State::new(space, sender, life, now);
            if unbounded { state.publishing(Rate { per_second: 1 << 30, burst: 1 << 30 }, now) } else { state }
        })
    }

    pub(super) fn publish(&mut self, space: SpaceId, path: Path, payload: Vec<u8>) -> Outcome {
        let device = self.identity().device;
        if !self.space(&space)?.roster.can_write(&device, &path) {
            return Err(TopicError::NoGrant { path }.into());
        }
        let (now, key) = (self.now, self.identity().key.clone());
        let (seq, peers) =
            self.topic_state(space).publish(now, &key, path, payload.into()).map_err(CommandError::from)?;
        self.after_topics(space);
        Ok(Some(Reply::Published { seq, peers }))
    }

    /// Tells programs what came, and lets links send what there is.
    fn after_topics(&mut self, space: SpaceId) {
        let Some(state) = self.topics.states.get_mut(&space) else { return };
        self.busy_links.extend(state.take_busy());
        let events = state.take_events().into_iter();
        self.out.extend(events.map(|event| Output::Event(Event::Signalled { space, event })));
    }

    /// What both ends of a link see of a space is known, or has changed.
    pub(super) fn topic_domains(&mut self, id: LinkId, space: SpaceId) {
        let Some(link) = self.links.get(&id) else { return };
        let Some(common) = link.spaces.get(&space).filter(|s| s.device.is_some() && s.wanted.is_some() && !s.quiet)
        else {
            return;
        };
        let (peer, domains, now) = (link.peer, common.domains.clone(), self.now.mono);
        self.topic_state(space).connect(id, peer, domains, now);
    }

    /// A link, or a space on it, is gone.
    pub(super) fn topic_unlinked(&mut self, id: LinkId, space: Option<SpaceId>) {
        for (_, state) in self.topics.states.iter_mut().filter(|(of, _)| space.is_none_or(|space| **of == space)) {
            state.disconnect(id);
            self.busy_links.extend(state.take_busy());
        }
    }

    pub(super) fn on_topic(&mut self, id: LinkId, space: SpaceId, body: &[u8]) -> Handled {
        let message = topic::Message::from_bytes(body).map_err(|error| protocol(error.to_string()))?;
        let (Some(state), Some(common)) = (self.topics.states.get_mut(&space), self.spaces.get(&space)) else {
            return Ok(());
        };
        let roster: &Roster = &common.roster;
        let all = crate::config::lacks!(self.config, TopicRights);
        let may_write = |device: &_, path: &_| all || roster.can_write(device, path);
        let outcome = state.on_message(id, self.now, message, body.len(), &may_write);
        self.after_topics(space);
        outcome.map_err(|error| protocol(error.to_string()))
    }

    /// Queues what a link is to be sent: no more than its window lets leave now.
    pub(super) fn pump_topics(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        for (space, common) in &link.spaces {
            let Some(state) = self.topics.states.get_mut(space) else { continue };
            for body in state.poll_link(id, self.now.mono) {
                link.out.control(Message::Topic { space: common.tag, body });
            }
        }
    }

    pub(super) fn tick_topics(&mut self) {
        let now = self.now.mono;
        for state in self.topics.states.values_mut() {
            state.tick(now);
            self.busy_links.extend(state.take_busy());
        }
    }

    pub(super) fn topic_timer(&self) -> Option<Timestamp> {
        self.topics.states.values().filter_map(State::next_timer).min()
    }

    /// Figures of all spaces.
    pub(super) fn topic_figures(&self) -> Figures {
        self.topics.states.values().map(State::figures).fold(Figures::default(), |sum, of| Figures {
            streams: sum.streams + of.streams,
            bytes: sum.bytes + of.bytes,
            delivered: sum.delivered + of.delivered,
            dropped: sum.dropped + of.dropped,
            refused: sum.refused + of.refused,
        })
    }
}
