//! With whom to link, and which links are neighbours: the engine's side of [`crate::overlay`].
//!
//! Each space that links speak of has a state of its own. What a state asks for becomes a wish to the driver
//! ([`Output::Link`]), what it lets go a quiet link: nothing fresh, soft or passing goes over it, and roots are compared as
//! on every link, so that whatever is not pushed is found a period later. A link that is quiet in every space is offered to
//! the driver for closing ([`Output::Surplus`]) by the end that opened it, which alone knows whether it is configured.
//!
//! Addresses are the driver's: with a sample of known peers it is asked to tell where they are ([`Event::PeersNamed`]), and
//! what it learns makes a peer reachable ([`Input::Reachable`](crate::io::Input::Reachable)).

use std::collections::BTreeMap;

use super::broadcast::carried;
use super::link::protocol;
use super::space::canonical;
use super::sync::Handled;
use super::{Engine, Event};
use crate::id::{PeerId, SpaceId};
use crate::io::{LinkId, Output};
use crate::overlay::{Effect, Message as Said, Share, State};
use crate::time::Timestamp;
use crate::wire::Codec;
use crate::wire::v1::Message;

/// What the engine holds of who is whose neighbour.
#[derive(Debug, Default)]
pub(super) struct OverlaySide {
    states: BTreeMap<SpaceId, State>,
}

impl Engine {
    fn overlay_state(&mut self, space: SpaceId) -> &mut State {
        let (me, now) = (self.identity().peer, self.now.mono);
        self.overlay.states.entry(space).or_insert_with(|| State::new(me, now))
    }

    /// What both ends of a link see of a space is known, or has changed.
    pub(super) fn overlay_domains(&mut self, id: LinkId, space: SpaceId) {
        if !self.config.overlay {
            return;
        }
        let own = self.identity().device;
        let (Some(link), Some(state)) = (self.links.get(&id), self.spaces.get(&space)) else { return };
        let Some(common) = link.spaces.get(&space).filter(|common| common.device.is_some()) else { return };
        let Some(wanted) = &common.wanted else { return };
        let (peer, mine) = (link.peer, state.interests(&own));
        let share = if common.domains.is_empty() {
            Share::Nothing
        } else if common.domains == mine && canonical(wanted.clone()) == mine {
            Share::Whole
        } else {
            Share::Part
        };
        let now = self.now.mono;
        self.overlay_state(space).connect(id, peer, share, now);
        self.after_overlay(space);
    }

    /// A link, or a space on it, is gone.
    pub(super) fn overlay_unlinked(&mut self, id: LinkId, space: Option<SpaceId>) {
        let now = self.now.mono;
        for (_, state) in self.overlay.states.iter_mut().filter(|(of, _)| space.is_none_or(|space| **of == space)) {
            state.disconnect(id, now);
        }
    }

    pub(super) fn on_overlay(&mut self, id: LinkId, space: SpaceId, body: &[u8]) -> Handled {
        let said = Said::from_bytes(body).map_err(|error| protocol(error.to_string()))?;
        if let Some(state) = self.overlay.states.get_mut(&space) {
            let (links, recent) = (&self.links, &self.recent);
            state.on_message(id, said, self.now.mono, &mut self.rng, &|link| carried(links, recent, &space, link));
            self.after_overlay(space);
        }
        Ok(())
    }

    pub(super) fn on_unreachable(&mut self, peer: &PeerId) {
        let now = self.now.mono;
        self.overlay.states.values_mut().for_each(|state| state.unreachable(peer, now, &mut self.rng));
    }

    pub(super) fn on_reachable(&mut self, peer: PeerId, space: Option<SpaceId>, source: Option<PeerId>) {
        if !self.config.overlay || self.identity.is_none() {
            return;
        }
        let now = self.now.mono;
        let spaces: Vec<SpaceId> =
            self.spaces.keys().filter(|of| space.is_none_or(|space| space == **of)).copied().collect();
        for space in spaces {
            self.overlay_state(space);
            let state = self.overlay.states.get_mut(&space).expect("made above");
            state.reachable(peer, source, now, &mut self.rng);
        }
    }

    pub(super) fn tick_overlay(&mut self) {
        let now = self.now.mono;
        let due = |state: &State| state.next_timer().is_some_and(|at| at <= now);
        let spaces: Vec<SpaceId> =
            self.overlay.states.iter().filter(|(_, state)| due(state)).map(|(space, _)| *space).collect();
        for space in spaces {
            let state = self.overlay.states.get_mut(&space).expect("listed above");
            let (links, recent) = (&self.links, &self.recent);
            state.tick(now, &mut self.rng, &|link| carried(links, recent, &space, link));
            self.after_overlay(space);
        }
    }

    pub(super) fn overlay_timer(&self) -> Option<Timestamp> {
        self.overlay.states.values().filter_map(State::next_timer).min()
    }

    fn after_overlay(&mut self, space: SpaceId) {
        while let Some(effect) = self.overlay.states.get_mut(&space).and_then(State::poll) {
            match effect {
                Effect::Send(link, said) => self.say_overlay(link, space, &said),
                Effect::Link { peer, .. } => self.wish_for(peer, space),
                Effect::Neighbour { link, is } => self.set_neighbour(link, space, is),
                Effect::Surplus { link } => self.offer_surplus(link),
            }
        }
    }

    fn say_overlay(&mut self, id: LinkId, space: SpaceId, said: &Said) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get(&space) else { return };
        link.out.control(Message::Overlay { space: common.tag, body: said.to_bytes() });
        self.busy_links.insert(id);
        if let Said::Peers { sample, .. } = said
            && !sample.is_empty()
        {
            let peers = sample.iter().map(|contact| contact.peer).collect();
            self.emit(Event::PeersNamed { link: id, space, peers });
        }
    }

    /// Asks the driver for a link, unless there is one, which then has not come as far as this space.
    fn wish_for(&mut self, peer: PeerId, space: SpaceId) {
        let timeout = self.config.handshake_timeout;
        let Some(link) = self.links.values().find(|link| link.peer == peer) else {
            self.out.push_back(Output::Link { peer });
            return;
        };
        if link.opened_at + timeout <= self.now.mono {
            let state = self.overlay.states.get_mut(&space).expect("it wishes");
            state.unreachable(&peer, self.now.mono, &mut self.rng);
        }
    }

    fn set_neighbour(&mut self, id: LinkId, space: SpaceId, is: bool) {
        let now = self.now.mono;
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get_mut(&space) else { return };
        common.quiet = !is;
        // Both ends forget what they agreed on at the same place of the stream.
        if !common.tree.is_complete() {
            link.sync.look_later(now);
        }
        common.tree.forget();
        if is {
            // What was not pushed meanwhile is looked for at once.
            link.sync.gap();
            self.soft_domains(id, space);
            self.topic_domains(id, space);
        } else {
            self.soft_unlinked(id, Some(space));
            self.topic_unlinked(id, Some(space));
            self.regrow(id, Some(space));
        }
        self.busy_links.insert(id);
    }

    /// Offers a link for closing that no space needs, once nothing is under way on it.
    fn offer_surplus(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id).filter(|link| link.initiator) else { return };
        let needed =
            link.spaces.values().any(|common| common.device.is_none() || !common.quiet && !common.domains.is_empty());
        if !needed && link.settled() && !link.is_resolving() {
            self.out.push_back(Output::Surplus { peer: link.peer });
        }
    }
}
