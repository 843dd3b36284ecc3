//! One peer's neighbours in one space.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha12Rng;

use super::known::{Known, below, bounded, jittered};
use super::message::{Message, Wish};
use super::{
    ANSWER_EVERY, ASK_AGAIN, ATTEMPT, BACK_TO_MESH, DEGREE, EXPLORE, FULL_MESH, INTRODUCE_AFTER, LONELY,
    LONELY_ATTEMPTS, MAX_ATTEMPTS, MAX_DEGREE, MAX_SAMPLE, PARTED, PROVEN, SHUFFLE, SHUFFLE_IN_MESH, SURPLUS_AFTER,
    TRIM_EVERY, YOUNG,
};
use crate::id::PeerId;
use crate::io::LinkId;
use crate::time::Timestamp;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell a link's peer.
    Send(LinkId, Message),
    /// Open a link with this peer, at these addresses or others.
    Link {
        /// Who.
        peer: PeerId,
        /// Where it may be reached.
        addresses: Vec<String>,
    },
    /// The link is a neighbour, or is none.
    Neighbour {
        /// Which.
        link: LinkId,
        /// Whether it is.
        is: bool,
    },
    /// Nobody needs this link.
    Surplus {
        /// Which.
        link: LinkId,
    },
}

/// What the two ends of a link replicate in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Both replicate the same.
    Whole,
    /// Less than either of them replicates, or than one does.
    Part,
    /// Nothing.
    Nothing,
}

/// A link with a member.
#[derive(Debug)]
struct Tie {
    peer: PeerId,
    share: Share,
    /// Since when it has been what it is: a neighbour or quiet.
    since: Timestamp,
    quiet: bool,
    /// Whether the peer has said anything of all this.
    speaks: bool,
    /// Whether this end has.
    introduced: bool,
    /// How many neighbours the peer says that it has.
    neighbours: u8,
    /// A wish to be its neighbour is not answered.
    asked: bool,
    /// Not to be asked before.
    ask_at: Timestamp,
    /// When the peer was last told of others.
    told_at: Option<Timestamp>,
    /// When to say that nobody needs it.
    surplus_at: Timestamp,
}

impl Tie {
    fn is_equal(&self) -> bool {
        self.share == Share::Whole
    }

    fn awaits_introduction(&self) -> bool {
        self.is_equal() && !self.introduced
    }
}

/// How much of the broadcast flows over a link, either way: who goes is chosen among those that carry least. Any number
/// does that grows with it.
pub type Carried<'a> = &'a dyn Fn(LinkId) -> usize;

/// One peer's neighbours in one space.
#[derive(Debug)]
pub struct State {
    me: PeerId,
    ties: BTreeMap<LinkId, Tie>,
    known: Known,
    addresses: Vec<String>,
    /// More peers are known than a full mesh takes.
    bounded: bool,
    /// Links that were asked for, each with the time to stop waiting.
    attempts: BTreeMap<PeerId, Timestamp>,
    shuffle_at: Timestamp,
    explore_at: Timestamp,
    trim_at: Timestamp,
    wake: Option<Timestamp>,
    effects: VecDeque<Effect>,
}

impl State {
    /// Nobody is known.
    pub fn new(me: PeerId, now: Timestamp) -> Self {
        Self {
            me,
            ties: BTreeMap::new(),
            known: Known::default(),
            addresses: Vec::new(),
            bounded: false,
            attempts: BTreeMap::new(),
            shuffle_at: now + SHUFFLE,
            explore_at: now + EXPLORE,
            trim_at: now,
            wake: None,
            effects: VecDeque::new(),
        }
    }

    /// Where this peer can be reached, as far as it knows.
    pub fn set_addresses(&mut self, addresses: Vec<String>) {
        self.addresses = bounded(addresses);
    }

    /// The next effect, if any.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`State::tick`] has something to do.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.wake
    }

    /// Links that are neighbours.
    pub fn neighbours(&self) -> impl Iterator<Item = LinkId> {
        self.ties.iter().filter(|(_, tie)| !tie.quiet).map(|(link, _)| *link)
    }

    /// Peers that are known, linked ones included.
    pub fn known(&self) -> usize {
        self.known.count()
    }

    /// A link with a member, or news of what the two have in common.
    pub fn connect(&mut self, link: LinkId, peer: PeerId, share: Share, now: Timestamp) {
        if peer == self.me {
            return;
        }
        if let Some(tie) = self.ties.get_mut(&link) {
            if std::mem::replace(&mut tie.share, share) != share {
                self.set_quiet(link, share == Share::Nothing, now);
                self.look(now);
            }
            return;
        }
        self.known.met(peer);
        self.attempts.remove(&peer);
        let tie = Tie {
            peer,
            share,
            since: now,
            quiet: share == Share::Nothing,
            speaks: false,
            introduced: false,
            neighbours: 0,
            asked: false,
            ask_at: now,
            told_at: None,
            surplus_at: now + SURPLUS_AFTER,
        };
        self.ties.insert(link, tie);
        self.shuffle_at = self.shuffle_at.min(now + SHUFFLE);
        self.look(now);
    }

    /// A link is gone, or its peer is no member any more.
    pub fn disconnect(&mut self, link: LinkId, now: Timestamp) {
        let Some(tie) = self.ties.remove(&link) else { return };
        if !self.ties.values().any(|other| other.peer == tie.peer) {
            self.known.parted(&tie.peer, if tie.quiet { ASK_AGAIN } else { PARTED }, now);
        }
        self.look(now);
    }

    /// A link that was asked for cannot be had.
    pub fn unreachable(&mut self, peer: &PeerId, now: Timestamp, rng: &mut ChaCha12Rng) {
        if self.attempts.remove(peer).is_some() {
            self.known.failed(peer, now, rng);
            self.look(now);
        }
    }

    /// Whoever dials knows where a peer is, on the word of a link's peer or by itself.
    pub fn reachable(&mut self, peer: PeerId, source: Option<PeerId>, now: Timestamp, rng: &mut ChaCha12Rng) {
        if peer != self.me {
            self.known.reachable(peer, source);
            self.known.trim(&self.linked(), rng);
            self.look(now);
        }
    }

    /// What a link's peer says.
    pub fn on_message(
        &mut self,
        link: LinkId,
        message: Message,
        now: Timestamp,
        rng: &mut ChaCha12Rng,
        carried: Carried<'_>,
    ) {
        let Some(tie) = self.ties.get_mut(&link) else { return };
        tie.speaks = true;
        match message {
            Message::Peers { asks, neighbours, addresses, sample } => {
                tie.neighbours = neighbours;
                let peer = tie.peer;
                self.known.reachable_at(&peer, addresses);
                for contact in sample.into_iter().filter(|contact| contact.peer != self.me) {
                    if self.known.heard_of(contact, peer) {
                        self.shuffle_at = self.shuffle_at.min(now + SHUFFLE);
                    }
                }
                self.known.trim(&self.linked(), rng);
                if asks {
                    self.tell_peers(link, false, now, rng);
                    self.correct(link);
                }
                self.part_if_both_have_enough(link, now, carried);
            }
            // The peer takes what is shared for more than this end does, or has not heard that it is more by now.
            _ if tie.share != Share::Whole => {}
            Message::Neighbour { wish, neighbours } => {
                tie.neighbours = neighbours;
                self.on_wish(link, wish, now);
            }
            Message::Disconnect => {
                (tie.asked, tie.ask_at) = (false, now + ASK_AGAIN);
                self.set_quiet(link, true, now);
            }
        }
        self.look(now);
    }

    /// Only neighbours are asked for their peers: who asks over a quiet link takes it for a neighbour, since one of the two
    /// learnt later than the other what they share.
    fn correct(&mut self, link: LinkId) {
        if self.ties.get(&link).is_some_and(|tie| tie.quiet && !tie.asked && tie.share == Share::Whole) {
            self.effects.push_back(Effect::Send(link, Message::Disconnect));
        }
    }

    fn on_wish(&mut self, link: LinkId, wish: Wish, now: Timestamp) {
        let room = !self.bounded || self.degree() < MAX_DEGREE;
        let neighbours = self.told_degree();
        let Some(tie) = self.ties.get_mut(&link) else { return };
        match wish {
            Wish::Granted if tie.asked => {
                tie.asked = false;
                self.set_quiet(link, false, now);
            }
            // What was asked for was taken back meanwhile.
            Wish::Granted if tie.quiet => self.effects.push_back(Effect::Send(link, Message::Disconnect)),
            Wish::Granted => {}
            Wish::IfRoom | Wish::Priority if !tie.quiet || room || wish == Wish::Priority => {
                tie.asked = false;
                self.set_quiet(link, false, now);
                let granted = Message::Neighbour { wish: Wish::Granted, neighbours };
                self.effects.push_back(Effect::Send(link, granted));
            }
            Wish::IfRoom | Wish::Priority => self.effects.push_back(Effect::Send(link, Message::Disconnect)),
        }
    }

    /// Whatever is due.
    pub fn tick(&mut self, now: Timestamp, rng: &mut ChaCha12Rng, carried: Carried<'_>) {
        if self.wake.is_none_or(|at| at > now) {
            return;
        }
        let limit = if self.bounded { BACK_TO_MESH } else { FULL_MESH };
        self.bounded = self.known.count() > limit;
        self.expire(now, rng);
        self.introduce(now, rng);
        self.shuffle(now, rng);
        self.trim(now, rng, carried);
        self.widen(now, rng);
        self.give_up_surplus(now);
        self.wake = self.next(now);
    }

    /// Stops waiting for links that do not come, and for answers.
    fn expire(&mut self, now: Timestamp, rng: &mut ChaCha12Rng) {
        let over: Vec<PeerId> = self.attempts.iter().filter(|(_, at)| **at <= now).map(|(peer, _)| *peer).collect();
        for peer in over {
            self.attempts.remove(&peer);
            self.known.failed(&peer, now, rng);
        }
        for tie in self.ties.values_mut().filter(|tie| tie.asked && tie.ask_at <= now) {
            (tie.asked, tie.ask_at) = (false, now + ASK_AGAIN);
        }
    }

    /// Introduces this end on links that have lasted a moment.
    fn introduce(&mut self, now: Timestamp, rng: &mut ChaCha12Rng) {
        let due = |tie: &Tie| tie.awaits_introduction() && tie.since + INTRODUCE_AFTER <= now;
        let fresh: Vec<LinkId> = self.ties.iter().filter(|(_, tie)| due(tie)).map(|(link, _)| *link).collect();
        for link in fresh {
            self.ties.get_mut(&link).expect("listed above").introduced = true;
            self.tell_peers(link, false, now, rng);
        }
    }

    /// Exchanges known peers with a random neighbour.
    fn shuffle(&mut self, now: Timestamp, rng: &mut ChaCha12Rng) {
        if self.shuffle_at > now {
            return;
        }
        let period = if self.bounded { SHUFFLE } else { SHUFFLE_IN_MESH };
        self.shuffle_at = now + jittered(period, rng);
        let speaking: Vec<LinkId> = self.spoken_with().map(|(link, _)| link).collect();
        if !speaking.is_empty() {
            let link = speaking[below(speaking.len(), rng)];
            self.tell_peers(link, true, now, rng);
        }
    }

    fn tell_peers(&mut self, link: LinkId, asks: bool, now: Timestamp, rng: &mut ChaCha12Rng) {
        let neighbours = self.told_degree();
        let Some(tie) = self.ties.get_mut(&link) else { return };
        // An answer costs much more than a question: who only asks is not served for ever.
        if !asks && tie.told_at.is_some_and(|at| at + ANSWER_EVERY > now) {
            return;
        }
        tie.told_at = Some(now);
        let sample = self.known.sample(MAX_SAMPLE, &tie.peer, rng);
        let addresses = self.addresses.clone();
        self.effects.push_back(Effect::Send(link, Message::Peers { asks, neighbours, addresses, sample }));
    }

    /// Lets one neighbour go if there are too many.
    fn trim(&mut self, now: Timestamp, rng: &mut ChaCha12Rng, carried: Carried<'_>) {
        if !self.bounded || self.degree() <= MAX_DEGREE || self.trim_at > now {
            return;
        }
        self.trim_at = now + jittered(TRIM_EVERY, rng);
        let proven = self.proven();
        let others = self.spoken_with().filter(|(link, _)| !proven.contains(link));
        let rank = |(link, tie): (LinkId, &Tie)| (Reverse(carried(link)), tie.neighbours);
        let first = others.clone().map(rank).max();
        let first: Vec<LinkId> = others.filter(|tie| Some(rank(*tie)) == first).map(|(link, _)| link).collect();
        if !first.is_empty() {
            self.let_go(first[below(first.len(), rng)], now);
        }
    }

    /// Where both ends have more neighbours than they look for, neither loses by parting.
    fn part_if_both_have_enough(&mut self, link: LinkId, now: Timestamp, carried: Carried<'_>) {
        let old = self.ties.get(&link).filter(|tie| tie.is_equal() && !tie.quiet && tie.since + YOUNG <= now);
        let theirs = old.map_or(0, |tie| usize::from(tie.neighbours));
        let both = self.bounded && self.degree() > DEGREE && theirs > DEGREE;
        if both && carried(link) == 0 && !self.proven().contains(&link) {
            self.let_go(link, now);
        }
    }

    /// Looks for neighbours where there are too few, and for others now and then.
    fn widen(&mut self, now: Timestamp, rng: &mut ChaCha12Rng) {
        let explores = self.bounded && self.explore_at <= now;
        if explores {
            self.explore_at = now + jittered(EXPLORE, rng);
        }
        let degree = self.neighbours().count();
        let hoped = self.ties.values().filter(|tie| tie.asked).count() + self.attempts.len();
        let mut missing = self.wanted().saturating_sub(degree + hoped);
        let (wish, neighbours) = (if degree <= LONELY { Wish::Priority } else { Wish::IfRoom }, self.told_degree());
        let askable = |tie: &Tie| tie.is_equal() && tie.quiet && !tie.asked && tie.ask_at <= now;
        let mut quiet: Vec<LinkId> = self.ties.iter().filter(|(_, tie)| askable(tie)).map(|(link, _)| *link).collect();
        while missing > 0 && !quiet.is_empty() {
            let link = quiet.swap_remove(below(quiet.len(), rng));
            let tie = self.ties.get_mut(&link).expect("listed above");
            (tie.asked, tie.ask_at) = (true, now + ATTEMPT);
            self.effects.push_back(Effect::Send(link, Message::Neighbour { wish, neighbours }));
            missing -= 1;
        }
        let most = self.most_attempts();
        let mut attempts = missing.min(most).max(usize::from(explores));
        while attempts > 0 && self.attempts.len() < most {
            let Some((peer, addresses)) = self.known.candidate(now, &self.taken(), rng) else { break };
            self.attempts.insert(peer, now + ATTEMPT);
            self.effects.push_back(Effect::Link { peer, addresses });
            attempts -= 1;
        }
    }

    /// Quiet links that nobody has wanted back.
    fn give_up_surplus(&mut self, now: Timestamp) {
        let enough = self.bounded && self.degree() >= PROVEN;
        for (link, tie) in self.ties.iter_mut().filter(|(_, tie)| tie.quiet && tie.surplus_at <= now) {
            tie.surplus_at = now + SURPLUS_AFTER;
            if enough {
                self.effects.push_back(Effect::Surplus { link: *link });
            }
        }
    }

    fn let_go(&mut self, link: LinkId, now: Timestamp) {
        self.effects.push_back(Effect::Send(link, Message::Disconnect));
        if let Some(tie) = self.ties.get_mut(&link) {
            (tie.asked, tie.ask_at) = (false, now + 2 * ASK_AGAIN);
        }
        self.set_quiet(link, true, now);
    }

    fn set_quiet(&mut self, link: LinkId, quiet: bool, now: Timestamp) {
        let Some(tie) = self.ties.get_mut(&link).filter(|tie| tie.quiet != quiet) else { return };
        (tie.quiet, tie.since, tie.surplus_at) = (quiet, now, now + SURPLUS_AFTER);
        self.effects.push_back(Effect::Neighbour { link, is: !quiet });
    }

    /// Neighbours that replicate the same and speak of all this.
    fn spoken_with(&self) -> impl Iterator<Item = (LinkId, &Tie)> + Clone {
        let spoken = self.ties.iter().filter(|(_, tie)| tie.is_equal() && !tie.quiet && tie.speaks);
        spoken.map(|(link, tie)| (*link, tie))
    }

    fn degree(&self) -> usize {
        self.spoken_with().count()
    }

    /// How many links are asked for at once.
    fn most_attempts(&self) -> usize {
        if self.neighbours().count() <= LONELY { LONELY_ATTEMPTS } else { MAX_ATTEMPTS }
    }

    /// How many neighbours are looked for.
    fn wanted(&self) -> usize {
        if self.bounded { DEGREE } else { usize::MAX }
    }

    /// Neighbours, as peers are told.
    fn told_degree(&self) -> u8 {
        u8::try_from(self.neighbours().count()).unwrap_or(u8::MAX)
    }

    /// The oldest neighbours.
    fn proven(&self) -> BTreeSet<LinkId> {
        let mut oldest: Vec<(Timestamp, LinkId)> = self.spoken_with().map(|(link, tie)| (tie.since, link)).collect();
        oldest.sort_unstable();
        oldest.into_iter().take(PROVEN).map(|(_, link)| link).collect()
    }

    fn linked(&self) -> BTreeSet<PeerId> {
        self.ties.values().map(|tie| tie.peer).collect()
    }

    fn taken(&self) -> BTreeSet<PeerId> {
        self.ties.values().map(|tie| tie.peer).chain(self.attempts.keys().copied()).chain([self.me]).collect()
    }

    /// Something has happened: everything is looked at in this turn.
    fn look(&mut self, now: Timestamp) {
        self.wake = Some(now);
    }

    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let lacks = self.neighbours().count() < self.wanted();
        let ties = self.ties.values();
        let introductions = ties.clone().filter(|tie| tie.awaits_introduction()).map(|tie| tie.since + INTRODUCE_AFTER);
        let surplus = ties.clone().filter(|tie| tie.quiet).map(|tie| tie.surplus_at);
        let asks = ties.filter(|tie| tie.asked || tie.is_equal() && tie.quiet && lacks).map(|tie| tie.ask_at);
        let known = lacks && self.attempts.len() < self.most_attempts();
        let known = if known { self.known.next_at(&self.taken()) } else { None };
        let trim = Some(self.trim_at).filter(|_| self.bounded && self.degree() > MAX_DEGREE);
        let explore = Some(self.explore_at).filter(|_| self.bounded);
        let shuffle = Some(self.shuffle_at).filter(|_| !self.ties.is_empty());
        let soon = introductions.chain(surplus).chain(asks).chain(self.attempts.values().copied());
        // What is over by now waits for something else than time.
        soon.chain(known).chain(trim).chain(explore).chain(shuffle).filter(|at| *at > now).min()
    }
}
