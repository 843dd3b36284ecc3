//! What follows from an entry: events, answers, ends of sessions, in this order.

use super::{ChannelId, Owned, RETRY_TICKS, Voter, is_passing};
use crate::coord::command::Body;
use crate::coord::reply::{Answer, Origin, Output, Reply};
use crate::coord::serve::talk::Tell;
use crate::coord::session::SessionId;
use crate::coord::watch::Event;

impl Voter {
    pub(super) fn on_applied(&mut self, output: Output) {
        if let Some(duties) = &mut self.duties {
            duties.observe(&output);
        }
        if output.index > self.covered {
            let events = self.watches.feed(output.index, &output.changes);
            self.tell_events(events);
        }
        let zxid = output.index;
        match (output.origin, output.reply) {
            (Some(Origin::Open(session)), Some(reply)) => self.opened(session, zxid, reply),
            (Some(Origin::Attach(session, nonce)), Some(reply)) => self.attached(session, nonce, zxid, reply),
            (Some(Origin::Request { session, attachment, seq }), Some(reply)) => {
                self.replied(session, attachment, seq, zxid, reply);
            }
            _ => {}
        }
        for settled in output.settled {
            if let Some(id) = self.owners.get(&settled.session).copied() {
                self.tell(id, Tell::Reply { seq: settled.seq, zxid, reply: settled.reply });
            }
        }
        for session in output.ended {
            if let Some(id) = self.disown(session) {
                self.tell(id, Tell::Lost);
                self.retire(id);
            }
        }
    }

    pub(super) fn tell_events(&mut self, events: Vec<Event>) {
        for event in events {
            if let Some(id) = self.owners.get(&event.session).copied() {
                self.tell(id, Tell::Event { zxid: event.zxid, kind: event.kind, path: event.path });
            }
        }
    }

    fn opened(&mut self, session: SessionId, zxid: u64, reply: Reply) {
        let Some(entering) = self.opening.remove(&session) else { return };
        let Body::Open { password, .. } = entering.body else { return };
        let (id, nonce) = (entering.channel, entering.nonce);
        match reply {
            Ok(Answer::Opened { ttl_ms }) => {
                self.own(id, Owned { session, attachment: 0, attempt: 0 });
                self.tell(id, Tell::Opened { nonce, session, password, ttl_ms, zxid });
            }
            Ok(_) => {}
            Err(error) => self.tell(id, Tell::Failed { nonce, error }),
        }
    }

    fn attached(&mut self, session: SessionId, own: u64, zxid: u64, reply: Reply) {
        let entering = self.attaching.remove(&(session, own));
        let reply = match reply {
            Ok(Answer::Attached { attachment, next_seq, ttl_ms }) => Ok((attachment, next_seq, ttl_ms)),
            Ok(_) => return,
            Err(error) => Err(error),
        };
        if let Ok((attachment, ..)) = reply
            && let Some(old) = self.owners.get(&session).copied()
        {
            if entering.is_none() && self.is_attempt(old, own) {
                return self.attached_again(old, attachment);
            }
            // Whoever had it has it no more, here as elsewhere. The same channel begins anew too: its client sets its watches
            // again, from where it was told everything.
            self.disown(session);
            if entering.as_ref().is_none_or(|entering| entering.channel != old) {
                self.tell(old, Tell::Moved);
                self.retire(old);
            }
        }
        let Some(entering) = entering else { return };
        let (id, nonce) = (entering.channel, entering.nonce);
        match reply {
            Ok((attachment, next_seq, ttl_ms)) => {
                self.own(id, Owned { session, attachment, attempt: own });
                self.tell(id, Tell::Attached { nonce, next_seq, ttl_ms, zxid });
            }
            Err(error) => self.tell(id, Tell::Failed { nonce, error }),
        }
    }

    fn is_attempt(&self, id: ChannelId, attempt: u64) -> bool {
        self.channels.get(&id).and_then(|channel| channel.owned).is_some_and(|owned| owned.attempt == attempt)
    }

    /// A second copy of the entry that attached a channel: it was passed on again. Requests that are on their way carry the
    /// earlier number and are refused, so they are passed on once more under the new one.
    fn attached_again(&mut self, id: ChannelId, attachment: u64) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if let Some(owned) = &mut channel.owned {
            owned.attachment = attachment;
        }
        channel.pending.values_mut().for_each(|(request, _)| request.attachment = attachment);
        channel.age = RETRY_TICKS;
    }

    /// A channel has this session from now on, and no other.
    fn own(&mut self, id: ChannelId, owned: Owned) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let before = channel.owned.replace(owned);
        channel.pending.clear();
        channel.pending_bytes = 0;
        let identities = channel.identities.clone();
        if let Some(before) = before.filter(|before| before.session != owned.session) {
            self.owners.remove(&before.session);
            self.watches.end(before.session);
        }
        self.owners.insert(owned.session, id);
        self.watches.identify(owned.session, identities);
    }

    fn replied(&mut self, session: SessionId, attachment: u64, seq: u64, zxid: u64, reply: Reply) {
        let Some(id) = self.owners.get(&session).copied() else { return };
        let Some(channel) = self.channels.get_mut(&id) else { return };
        // An answer to what was sent over an earlier connection is not for this one, which asks for itself.
        if channel.owned.is_none_or(|owned| owned.attachment != attachment) {
            return;
        }
        if reply.as_ref().is_err_and(is_passing) {
            channel.age = RETRY_TICKS;
            return;
        }
        if let Some((_, size)) = channel.pending.remove(&seq) {
            channel.pending_bytes = channel.pending_bytes.saturating_sub(size);
            channel.age = 0;
        }
        self.tell(id, Tell::Reply { seq, zxid, reply });
        self.ready.insert(id);
    }

    /// The state jumped ahead: what happened between was not seen here.
    pub(super) fn on_installed(&mut self) {
        let applied = self.group.applied().index;
        let events = self.watches.jump(self.group.machine().tree(), applied);
        self.covered = applied;
        self.tell_events(events);
        let owned: Vec<(SessionId, ChannelId)> = self.owners.iter().map(|(session, id)| (*session, *id)).collect();
        for (session, id) in owned {
            self.on_skipped(session, id, applied);
        }
        self.again = true;
    }

    /// What became of a session while this voter's state jumped ahead.
    fn on_skipped(&mut self, session: SessionId, id: ChannelId, zxid: u64) {
        let Some(found) = self.group.machine().sessions().find(session) else {
            self.disown(session);
            self.tell(id, Tell::Lost);
            return self.retire(id);
        };
        let attachment = self.channels.get(&id).and_then(|channel| channel.owned).map(|owned| owned.attachment);
        if attachment != Some(found.attachment()) {
            self.disown(session);
            self.tell(id, Tell::Moved);
            return self.retire(id);
        }
        let kept: Vec<(u64, Reply)> = found.replies.iter().map(|(seq, reply)| (*seq, reply.clone())).collect();
        for (seq, reply) in kept {
            self.tell(id, Tell::Reply { seq, zxid, reply });
        }
        self.tell(id, Tell::Skipped);
        self.ready.insert(id);
    }
}
