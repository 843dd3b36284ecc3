//! Bookmarks at work: who waits for what, and what other stores' logs are proved to hold here.
//!
//! [`crate::session`] says when a bookmark is covered; this room looks it up, waits, and asks. A program that waits is
//! looked at again when something happens to a path that its bookmark names, when roots were equal with a peer, and when
//! its time comes: then what is missing is asked for once more, and at the deadline the answer is
//! [`CommandError::NotYet`]. Reading the own disk does not count as waiting.
//!
//! | room | what it holds |
//! |---|---|
//! | `cover` | whether this store covers a bookmark |
//! | `pull` | asking peers for what is missing |
//! | `vouch` | what equal roots prove, what was set aside, former epochs |
//!
//! **Invariant:** the answer to a read is looked up in the state that covered the bookmark, and names durable changes only.

mod cover;
mod pull;
mod vouch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::command::Outcome;
use super::document::LoadWait;
use super::{CommandError, Engine, Reply};
use crate::document::log::Log;
use crate::document::value::Value;
use crate::id::{ChangeHash, DocumentId, Path, PeerId, Prefix, SpaceId};
use crate::io::{LinkId, RequestId, Rows};
use crate::session::{Bookmark, MAX_DOCUMENTS, Missing, Point, Ranges, Seen, Vouched};
use crate::time::Timestamp;

pub(super) use vouch::put_former_epoch;

/// Most programs that wait with bookmarks; more are refused as [`CommandError::Busy`].
const MAX_WAITS: usize = 4_096;

/// How long a read waits for its own store to make durable what it has seen, before it shows what is durable already.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Most hashes remembered of changes that tombstones cover; the oldest documents are forgotten first.
const MAX_BURIED: usize = 65_536;

/// What a program gets once its bookmark is covered.
#[derive(Debug, Clone)]
pub(super) enum Then {
    /// The bookmark, folded if it was long.
    Reached,
    /// What is at a path.
    Read(Path),
    /// What was read, once it is durable.
    Answer(Box<Answer>),
}

/// A value that was read and shows changes that are not durable yet.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    path: Path,
    generation: u32,
    value: Value,
    heads: Vec<ChangeHash>,
}

/// A program that waits with a bookmark.
#[derive(Debug)]
struct Wait {
    space: SpaceId,
    bookmark: Bookmark,
    then: Then,
    deadline: Option<Timestamp>,
    /// When it is looked at again whatever happens; `None` while the own disk is being read.
    timer: Option<Timestamp>,
    /// How often peers were asked.
    pulls: u32,
    /// Documents whose heads were all found in their logs, which only grow.
    in_log: BTreeSet<DocumentId>,
    /// Documents whose logs are being read.
    loading: BTreeSet<DocumentId>,
    /// The document is being read for the answer.
    reading: bool,
}

/// A log: the peer, the epoch, the space.
type LogName = (PeerId, u64, SpaceId);

/// What one end of a link has told of its log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    former: Vec<(u64, u64)>,
    set_aside: Ranges,
}

/// State of bookmarks.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    waits: BTreeMap<RequestId, Wait>,
    by_path: BTreeMap<(SpaceId, Path), BTreeSet<RequestId>>,
    timers: BTreeSet<(Timestamp, RequestId)>,
    vouched: BTreeMap<LogName, Vouched>,
    /// Where something of this store's own log was set aside.
    set_aside: BTreeMap<SpaceId, Ranges>,
    told: BTreeMap<(LinkId, SpaceId), Told>,
    heard: BTreeMap<(LinkId, SpaceId), Told>,
    /// Changes below the heads that tombstones name, of documents deleted lately: their rows are gone.
    buried: BTreeMap<DocumentId, Vec<ChangeHash>>,
    /// The same documents, the longest buried first.
    buried_order: VecDeque<DocumentId>,
    buried_hashes: usize,
}

impl Sessions {
    /// When somebody wants to be looked at.
    pub(super) fn timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Remembers what a deletion covers before its log is gone.
    pub(super) fn bury(&mut self, log: Option<&Log>, entry: &super::index::Entry) {
        let Some(log) = log else { return };
        let named: Vec<ChangeHash> = cover::named_by_tombstones(entry).into_iter().collect();
        let mut covered: Vec<ChangeHash> = log.ancestors(&named).map(|row| row.hash()).collect();
        covered.sort_unstable();
        if covered.is_empty() {
            return;
        }
        self.buried_hashes += covered.len();
        match self.buried.insert(entry.id, covered) {
            Some(before) => self.buried_hashes -= before.len(),
            None => self.buried_order.push_back(entry.id),
        }
        while self.buried_hashes > MAX_BURIED
            && let Some(oldest) = self.buried_order.pop_front()
        {
            self.buried_hashes -= self.buried.remove(&oldest).map_or(0, |covered| covered.len());
        }
    }

    fn insert(&mut self, request: RequestId, wait: Wait) {
        for (path, ..) in wait.bookmark.documents() {
            self.by_path.entry((wait.space, path.clone())).or_default().insert(request);
        }
        if let Then::Answer(answer) = &wait.then {
            self.by_path.entry((wait.space, answer.path.clone())).or_default().insert(request);
        }
        self.timers.extend(wait.timer.map(|at| (at, request)));
        self.waits.insert(request, wait);
    }

    fn remove(&mut self, request: RequestId) -> Option<Wait> {
        let wait = self.waits.remove(&request)?;
        wait.timer.map(|at| self.timers.remove(&(at, request)));
        let answered = if let Then::Answer(answer) = &wait.then { Some(&answer.path) } else { None };
        for path in wait.bookmark.documents().map(|(path, ..)| path).chain(answered) {
            let key = (wait.space, path.clone());
            if let Some(waiting) = self.by_path.get_mut(&key) {
                waiting.remove(&request);
                if waiting.is_empty() {
                    self.by_path.remove(&key);
                }
            }
        }
        Some(wait)
    }
}

impl Engine {
    pub(super) fn begin_session(
        &mut self,
        request: RequestId,
        space: SpaceId,
        bookmark: Bookmark,
        wait: Option<Duration>,
        then: Then,
    ) -> Outcome {
        self.space(&space)?;
        bookmark.expect_space(&space)?;
        if self.sessions.waits.len() >= MAX_WAITS {
            let (what, bound) = ("programs that wait with bookmarks", MAX_WAITS as u64);
            return Err(CommandError::Busy { what, bound });
        }
        let now = self.now.mono;
        let deadline = wait.map(|wait| now + wait);
        let wait = Wait {
            space,
            bookmark,
            then,
            deadline,
            timer: Some(now),
            pulls: 0,
            in_log: BTreeSet::new(),
            loading: BTreeSet::new(),
            reading: false,
        };
        self.sessions.insert(request, wait);
        self.look(request);
        Ok(None)
    }

    pub(super) fn cancel_session(&mut self, target: RequestId) {
        self.fail_session(target, CommandError::Cancelled);
    }

    pub(super) fn fail_session(&mut self, request: RequestId, error: CommandError) {
        if self.sessions.remove(request).is_some() {
            self.reply(request, Err(error));
        }
    }

    /// The engine is over.
    pub(super) fn close_sessions(&mut self) {
        for request in std::mem::take(&mut self.sessions).waits.into_keys() {
            self.reply(request, Err(CommandError::Closed));
        }
    }

    /// Something durable happened to a path.
    pub(super) fn on_session_news(&mut self, place: &(SpaceId, Path)) {
        let Some(waiting) = self.sessions.by_path.get(place) else { return };
        for request in waiting.clone() {
            self.look(request);
        }
    }

    /// Looks at every wait whose time has come.
    pub(super) fn run_sessions(&mut self) {
        let now = self.now.mono;
        let due = self.sessions.timers.range(..=(now, RequestId(u64::MAX)));
        let due: Vec<RequestId> = due.map(|(_, request)| *request).collect();
        due.into_iter().for_each(|request| self.look(request));
    }

    /// Answers a wait, or has what it lacks read or asked for.
    fn look(&mut self, request: RequestId) {
        let Some(mut wait) = self.sessions.remove(request) else { return };
        let now = self.now.mono;
        let coverage = self.coverage(&mut wait);
        for (path, generation, id) in coverage.loads {
            if wait.loading.insert(id) {
                self.await_rows(wait.space, &path, generation, id, LoadWait::Session(request));
            }
        }
        if wait.reading || !wait.loading.is_empty() {
            // The own disk answers by itself.
            wait.timer = None;
            return self.sessions.insert(request, wait);
        }
        if coverage.missing.is_empty() {
            return self.covered(request, wait);
        }
        if wait.deadline.is_some_and(|at| at <= now) || !coverage.missing.may_come() {
            if let Then::Answer(answer) = &wait.then
                && coverage.missing.is_only(&answer.path)
            {
                return self.answer_durable(request, wait);
            }
            let missing = Box::new(coverage.missing);
            return self.reply(request, Err(CommandError::NotYet { missing }));
        }
        if wait.timer.is_none_or(|at| at <= now) {
            self.pull(&mut wait, &coverage.missing);
        }
        self.sessions.insert(request, wait);
    }

    /// The bookmark is covered, here and now.
    fn covered(&mut self, request: RequestId, mut wait: Wait) {
        match std::mem::replace(&mut wait.then, Then::Reached) {
            Then::Reached => {
                let here = self.here();
                let folded = if wait.bookmark.is_long() { wait.bookmark.fold(&here) } else { Ok(()) };
                wait.bookmark.held_by(here.peer);
                self.reply(
                    request,
                    folded.map(|()| Reply::Bookmark(Box::new(wait.bookmark))).map_err(CommandError::from),
                );
            }
            Then::Read(path) => self.read_covered(request, wait, path),
            Then::Answer(answer) => {
                let Answer { path, generation, value, heads } = *answer;
                let seen = Seen { heads: heads.iter().copied().collect(), deleted: false };
                self.answer(request, wait, &path, Some((generation, seen)), Some((value, heads)));
            }
        }
    }

    fn read_covered(&mut self, request: RequestId, mut wait: Wait, path: Path) {
        let Some(state) = self.spaces.get(&wait.space) else {
            return self.reply(request, Err(CommandError::UnknownSpace(wait.space)));
        };
        let generation = state.index.live_generation(&path);
        let Some(entry) = state.index.live_entry(&path) else {
            let deleted = || Seen { heads: BTreeSet::new(), deleted: true };
            let seen = generation.checked_sub(1).map(|last| (last, deleted()));
            return self.answer(request, wait, &path, seen, None);
        };
        let id = entry.id;
        wait.then = Then::Read(path.clone());
        wait.reading = true;
        wait.timer = None;
        let space = wait.space;
        self.sessions.insert(request, wait);
        self.await_rows(space, &path, generation, id, LoadWait::SessionRead(request));
    }

    /// A document's log is there.
    pub(super) fn on_session_log(&mut self, request: RequestId, id: DocumentId) {
        let Some(wait) = self.sessions.waits.get_mut(&request) else { return };
        wait.loading.remove(&id);
        let mut wait = self.sessions.remove(request).expect("looked up above");
        wait.timer = Some(self.now.mono);
        self.sessions.insert(request, wait);
        self.look(request);
    }

    /// The document that a covered bookmark reads is there.
    pub(super) fn on_session_read(&mut self, request: RequestId, id: DocumentId, rows: Option<&Rows>) {
        let Some(mut wait) = self.sessions.remove(request) else { return };
        wait.reading = false;
        wait.timer = Some(self.now.mono);
        let Then::Read(path) = wait.then.clone() else { return self.sessions.insert(request, wait) };
        let live = self.spaces.get(&wait.space).and_then(|s| s.index.live_entry(&path));
        let generation = live.filter(|entry| entry.id == id).map(|entry| entry.generation);
        let coverage = self.coverage(&mut wait);
        let (Some(generation), true) = (generation, coverage.is_complete()) else {
            // It was deleted while it was read: begin again.
            self.sessions.insert(request, wait);
            return self.look(request);
        };
        match self.read_once(id, rows) {
            Ok((value, heads)) => {
                let patience = self.now.mono + STORE_PATIENCE;
                wait.deadline = wait.deadline.map(|deadline| deadline.max(patience)).or(Some(patience));
                wait.then = Then::Answer(Box::new(Answer { path, generation, value, heads }));
                self.sessions.insert(request, wait);
                self.look(request);
            }
            Err(error) => self.reply(request, Err(error)),
        }
    }

    /// The store does not get around to what a read has seen: it shows what is durable.
    fn answer_durable(&mut self, request: RequestId, wait: Wait) {
        let Then::Answer(answer) = &wait.then else { return };
        let path = answer.path.clone();
        let durable = self.spaces.get(&wait.space).and_then(|s| s.index.live_entry(&path));
        let durable = durable.map(|entry| (entry.id, entry.generation, entry.heads.to_vec()));
        let cell = |id| self.documents.get(&id).and_then(|working| working.cell.clone());
        let shown = durable.and_then(|(id, generation, heads)| {
            let value = cell(id)?.with(|hot| hot.value_at(&heads)).ok()?.ok()?;
            Some((generation, value, heads))
        });
        match shown {
            Some((generation, value, heads)) => {
                let seen = Seen { heads: heads.iter().copied().collect(), deleted: false };
                self.answer(request, wait, &path, Some((generation, seen)), Some((value, heads)));
            }
            // The document was let go of, and with it what was not durable.
            None => self.read_covered(request, wait, path),
        }
    }

    /// Answers a read: what was seen of the path takes the place of what the bookmark said of it.
    fn answer(
        &mut self,
        request: RequestId,
        wait: Wait,
        path: &Path,
        seen: Option<(u32, Seen)>,
        value: Option<(Value, Vec<ChangeHash>)>,
    ) {
        let here = self.here();
        let mut bookmark = wait.bookmark;
        let mut joined = Ok(());
        if let Some((generation, mut seen)) = seen {
            if self.hides_some(&wait.space, path, generation) {
                // What is hidden from the view is in none of its heads, and is still not to be forgotten.
                let known = bookmark.documents().find(|(known, of, _)| *known == path && *of == generation);
                let known = known.map(|(_, _, known)| known.heads.clone());
                seen.heads.extend(known.into_iter().flatten());
            }
            joined = bookmark.supersede(path, generation, seen, &here);
        }
        if bookmark.is_long() {
            joined = joined.and_then(|()| bookmark.fold(&here));
        }
        bookmark.held_by(here.peer);
        self.reply(
            request,
            joined.map(|()| Reply::Read { value, bookmark: Box::new(bookmark) }).map_err(CommandError::from),
        );
    }

    fn hides_some(&self, space: &SpaceId, path: &Path, generation: u32) -> bool {
        let log = self.documents.get(&DocumentId::derive(space, path, generation)).and_then(|w| w.log.as_ref());
        log.is_some_and(Log::has_hidden)
    }

    /// The point in this store's own log that stands for all it has now.
    fn here(&self) -> Point {
        let identity = self.identity();
        let (peer, epoch, seq) = (identity.peer, identity.log_epoch, self.durable_arrival());
        Point { peer, epoch, prefix: Prefix::root(), seq }
    }

    pub(super) fn bookmark(&mut self, id: SpaceId, paths: &[Path]) -> Outcome {
        let here = self.here();
        let index = &self.space(&id)?.index;
        if paths.len() > MAX_DOCUMENTS {
            return Err(CommandError::Busy { what: "documents of a bookmark", bound: MAX_DOCUMENTS as u64 });
        }
        let mut bookmark = Bookmark::new(id).with_hint(here.peer);
        if paths.is_empty() {
            bookmark.add_point(here.clone())?;
        }
        for path in paths {
            let generation = index.live_generation(path);
            match (index.live_entry(path), generation.checked_sub(1)) {
                (Some(entry), _) => {
                    let seen = Seen { heads: entry.heads.iter().copied().collect(), deleted: false };
                    bookmark.supersede(path, generation, seen, &here)?;
                }
                (None, Some(last)) => bookmark.see_deleted(path, last)?,
                (None, None) => {}
            }
        }
        Ok(Some(Reply::Bookmark(Box::new(bookmark))))
    }
}

/// What a look at a bookmark came to.
struct Coverage {
    missing: Missing,
    /// Documents whose logs have to be read before more can be said.
    loads: Vec<(Path, u32, DocumentId)>,
}

impl Coverage {
    fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.loads.is_empty()
    }
}
