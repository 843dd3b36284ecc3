//! What waits for time to pass, and programs that wait for other peers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::{CommandError, Engine, Phase, Reply};
use crate::id::SpaceId;
use crate::io::{CloseReason, LinkId};
use crate::time::Timestamp;

/// When links want to be looked at, all of them in order.
#[derive(Debug, Default)]
pub(super) struct LinkTimers {
    due: BTreeSet<(Timestamp, LinkId)>,
    of: BTreeMap<LinkId, Vec<Timestamp>>,
}

impl LinkTimers {
    fn set(&mut self, id: LinkId, timers: Vec<Timestamp>) {
        for at in self.of.remove(&id).into_iter().flatten() {
            self.due.remove(&(at, id));
        }
        self.due.extend(timers.iter().map(|at| (*at, id)));
        if !timers.is_empty() {
            self.of.insert(id, timers);
        }
    }

    /// Links of which some timer is over.
    fn overdue(&self, now: Timestamp) -> BTreeSet<LinkId> {
        self.due.range(..=(now, LinkId(u64::MAX))).map(|(_, id)| *id).collect()
    }

    /// The first timer that is still to come.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let after = Bound::Excluded((now, LinkId(u64::MAX)));
        self.due.range((after, Bound::Unbounded)).next().map(|(at, _)| *at)
    }
}

impl Engine {
    /// Answers programs that wait for peers, where enough peers have stored what they wait for.
    pub(super) fn check_sync_waits(&mut self) {
        if self.sync_waits.is_empty() {
            return;
        }
        let mut done = Vec::new();
        self.sync_waits.retain(|wait| {
            let entry = self.spaces.get(&wait.space).and_then(|s| s.index.by_id(&wait.document));
            let has = |link: &super::link::Link| {
                let Some(common) = link.spaces.get(&wait.space) else { return false };
                let by_root = entry.is_some_and(|e| {
                    e.arrival <= link.sync.in_step_arrival && super::space::covered(&common.domains, &e.path)
                });
                by_root || link.confirmed.has(&wait.document, &wait.heads)
            };
            let peers: BTreeSet<_> = self.links.values().filter(|l| has(l)).map(|l| l.peer).collect();
            let enough = peers.len() >= wait.peers;
            if enough {
                done.push(wait.request);
            }
            !enough
        });
        for request in done {
            self.reply(request, Ok::<Reply, CommandError>(Reply::Done));
        }
    }

    /// Documents with changes that no connected peer is known to have stored.
    pub(super) fn pending_documents(&self, space: &SpaceId) -> u64 {
        let stored = self.links.values().filter(|l| l.spaces.contains_key(space)).map(|l| l.sync.in_step_arrival).max();
        let Some(state) = self.spaces.get(space) else { return 0 };
        state.index.arrived_since(stored.unwrap_or(0)).filter(|e| e.exists()).count() as u64
    }

    pub(super) fn run_timers(&mut self) {
        if !matches!(self.phase, Phase::Open | Phase::Closing) {
            return;
        }
        self.retry_write();
        self.run_compaction();
        self.run_sessions();
        self.tick_topics();
        #[cfg(feature = "coord")]
        self.tick_coord();
        let now = self.now.mono;
        let timeout = self.config.handshake_timeout;
        self.note_link_timers();
        for id in self.link_timers.overdue(now) {
            let Some(link) = self.links.get(&id) else { continue };
            if link.hello.is_none() && now >= link.opened_at + timeout {
                self.close_link(id, CloseReason::Timeout);
                continue;
            }
            if link.timers().any(|at| at <= now) {
                self.busy_links.insert(id);
                self.ask_overdue(id);
            }
        }
    }

    /// Finds the timers of links again that were touched.
    pub(super) fn note_link_timers(&mut self) {
        let timeout = self.config.handshake_timeout;
        for id in self.links.take_touched() {
            let timers = self.links.get(&id).map(|link| {
                let handshake = link.hello.is_none().then(|| link.opened_at + timeout);
                link.timers().chain(handshake).collect()
            });
            self.link_timers.set(id, timers.unwrap_or_default());
        }
    }

    /// The next moment at which time alone lets something happen. What is over by now and has not happened waits for an
    /// answer or a frame, and must not hide what is still to come.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        let now = self.now.mono;
        let storage = self
            .storage
            .retry_at()
            .into_iter()
            .chain(self.compaction_timer())
            .chain(self.soft_timer())
            .chain(self.topic_timer())
            .chain(self.overlay_timer());
        #[cfg(feature = "coord")]
        let storage = storage.chain(self.coord_timer());
        storage.chain(self.link_timers.next(now)).chain(self.sessions.timer()).filter(|at| *at > now).min()
    }
}
