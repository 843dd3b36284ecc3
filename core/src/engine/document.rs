//! Working state of documents in use: logs that are loaded, hydrated cells, inboxes, and who waits for them.
//!
//! A document at rest has no entry here. Reading its rows is asked for at most once at a time; whatever waits (an inbox,
//! a program that opens it, a difference that has to be worked out) is served when they come.

use std::collections::BTreeSet;

use super::batch::Draft;
use super::ingest::Inbox;
use super::storage::ReadPurpose;
use super::{CommandError, Engine, Reply, Weigh, keys};
use crate::document::hot::{Author, HotCell, HotDocument, HotError};
use crate::document::log::Log;
use crate::document::row;
use crate::document::template::Template;
use crate::id::{ChangeHash, DocumentId, Path, SpaceId};
use crate::io::{LinkId, ReadOp, RequestId, Rows, StorageFailure, Table};
use crate::trust::Endorsement;

/// Most documents whose rows are being read at once.
const MAX_LOADS: usize = 256;

/// What waits for a document's rows.
#[derive(Debug)]
pub(super) enum LoadWait {
    /// Nothing but the log.
    Log,
    /// A program that opens it.
    Open(RequestId, Template),
    /// A program that reads it once.
    Read(RequestId),
    /// A program that reads it once, with a bookmark.
    SessionRead(RequestId),
    /// A bookmark that names it.
    Session(RequestId),
    /// A program that looks at what was set aside.
    SetAside(RequestId),
    /// A link that matches ids with what the document once was.
    Resolve(LinkId),
    /// A link that told its heads.
    Compare { link: LinkId, heads: Vec<ChangeHash>, offer: bool },
    /// Compaction, if it is due.
    Compact,
    /// A link that asked for changes by hash.
    Fetch { link: LinkId, hashes: Vec<ChangeHash> },
}

impl LoadWait {
    /// Whether serving it hands the document to Automerge.
    fn opens(&self) -> bool {
        use LoadWait::{Compact, Open, Read, SessionRead, SetAside};
        matches!(self, Open(..) | Read(_) | SessionRead(_) | SetAside(_) | Compact)
    }

    fn needs_log_only(&self) -> bool {
        use LoadWait::{Compare, Fetch, Log, Resolve, Session};
        matches!(self, Log | Session(_) | Resolve(_) | Compare { .. } | Fetch { .. })
    }

    /// Whether a hydrated document serves it.
    fn needs_cell_only(&self) -> bool {
        use LoadWait::{Open, Read, SessionRead};
        matches!(self, Open(..) | Read(_) | SessionRead(_))
    }
}

/// A document in use.
#[derive(Debug)]
pub(super) struct Working {
    pub(super) space: SpaceId,
    pub(super) path: Path,
    pub(super) generation: u32,
    pub(super) log: Option<Log>,
    pub(super) cell: Option<HotCell>,
    pub(super) inbox: Inbox,
    /// Endorsements whose chains are not complete here yet.
    pub(super) held: Vec<Endorsement>,
    pub(super) waits: Vec<LoadWait>,
    /// The newest arrival when the rows were asked for.
    loading: Option<u64>,
    /// All that is stored of it is being judged anew: nothing is admitted to it meanwhile.
    pub(super) reviewing: bool,
    /// Deleted, and in [`Engine::let_go_of_deleted`]'s queue.
    leaving: bool,
    used: u64,
}

impl Weigh for Working {
    fn weight(&self) -> usize {
        self.log.as_ref().map_or(0, Log::bytes)
    }
}

impl Engine {
    /// The working state of a document, begun if there is none.
    pub(super) fn working(&mut self, space: SpaceId, path: &Path, generation: u32, id: DocumentId) -> &mut Working {
        self.uses += 1;
        let used = self.uses;
        let entry = self.spaces.get(&space).and_then(|s| s.index.by_id(&id));
        let (known, deleted) = entry.map_or((false, false), |e| (e.chunks > 0, e.deleted()));
        let working = self.documents.entry(id).or_insert_with(|| Working {
            space,
            path: path.clone(),
            generation,
            // Of a document that has no chunk there is nothing to read.
            log: (!known).then(Log::new),
            cell: None,
            inbox: Inbox::default(),
            held: Vec::new(),
            waits: Vec::new(),
            loading: None,
            reviewing: false,
            leaving: false,
            used,
        });
        working.used = used;
        if deleted && !std::mem::replace(&mut working.leaving, true) {
            self.leaving.push_back(id);
        }
        working
    }

    /// A generation was deleted: what is kept of it in memory goes when nobody uses it any more.
    pub(super) fn on_deleted(&mut self, id: DocumentId) {
        if let Some(working) = self.documents.get_mut(&id)
            && !std::mem::replace(&mut working.leaving, true)
        {
            self.leaving.push_back(id);
        }
    }

    /// Path and generation of a document that is known or in use.
    pub(super) fn place_of(&self, space: &SpaceId, id: &DocumentId) -> Option<(Path, u32)> {
        if let Some(working) = self.documents.get(id).filter(|w| w.space == *space) {
            return Some((working.path.clone(), working.generation));
        }
        let entry = self.spaces.get(space)?.index.by_id(id)?;
        Some((entry.path.clone(), entry.generation))
    }

    /// Has a document's rows read, and then `wait` served.
    pub(super) fn await_rows(&mut self, space: SpaceId, path: &Path, generation: u32, id: DocumentId, wait: LoadWait) {
        self.working(space, path, generation, id).waits.push(wait);
        self.pending_loads.insert(id);
    }

    /// Serves what can be served without reading, and reads the rest, a bounded number at a time.
    pub(super) fn start_loads(&mut self) {
        while self.loads < MAX_LOADS {
            let Some(id) = self.pending_loads.pop_first() else { break };
            let Some(working) = self.documents.get_mut(&id) else { continue };
            if working.loading.is_some() {
                continue;
            }
            // Whoever opens or reads what is hydrated needs no rows: a document in use is opened as often as a page likes.
            let hot =
                working.cell.as_ref().is_some_and(|cell| matches!(cell.with(|hot| hot.is_quarantined()), Ok(false)));
            let at_hand = working.waits.iter().all(|wait| wait.needs_log_only() || (hot && wait.needs_cell_only()));
            let nothing_stored = working.log.as_ref().is_some_and(Log::is_empty);
            if working.log.is_some() && (at_hand || nothing_stored) {
                self.serve(id, Some(&Rows::default()));
                continue;
            }
            let entry = self.spaces.get(&working.space).and_then(|s| s.index.by_id(&id));
            working.loading = Some(entry.map_or(0, |e| e.arrival));
            self.loads += 1;
            let end = keys::after_document(&id);
            let scan = ReadOp::Scan { table: Table::Chunks, from: id.0.to_vec(), to: end, limit: usize::MAX };
            self.read(ReadPurpose::Load(id), vec![scan]);
        }
    }

    pub(super) fn on_loaded(&mut self, id: DocumentId, rows: Result<Vec<Rows>, StorageFailure>) {
        self.loads = self.loads.saturating_sub(1);
        let Some(working) = self.documents.get_mut(&id) else { return };
        let asked_at = working.loading.take();
        let entry = self.spaces.get(&working.space).and_then(|s| s.index.by_id(&id));
        if asked_at != Some(entry.map_or(0, |e| e.arrival)) {
            // A write became durable in between, and the rows may be of before: read again.
            self.pending_loads.insert(id);
            return;
        }
        match rows {
            Ok(rows) => {
                let rows = rows.into_iter().next().unwrap_or_default();
                if working.log.is_none() {
                    match Log::load(&rows) {
                        Ok(log) => working.log = Some(log),
                        Err(error) => {
                            let detail = error.to_string();
                            return self.fail_waits(id, CommandError::Storage(StorageFailure::Corrupt { detail }));
                        }
                    }
                }
                self.serve(id, Some(&rows));
            }
            Err(failure) => self.fail_waits(id, CommandError::Storage(failure)),
        }
    }

    fn fail_waits(&mut self, id: DocumentId, error: CommandError) {
        let Some(working) = self.documents.get_mut(&id) else { return };
        let waits = std::mem::take(&mut working.waits);
        let resolved = working.inbox.drop_all();
        for wait in waits {
            match wait {
                LoadWait::Open(request, _) | LoadWait::Read(request) | LoadWait::SetAside(request) => {
                    self.reply(request, Err(error.clone()));
                }
                LoadWait::SessionRead(request) | LoadWait::Session(request) => {
                    self.fail_session(request, error.clone());
                }
                LoadWait::Log | LoadWait::Compare { .. } | LoadWait::Fetch { .. } => {}
                LoadWait::Compact => self.compaction_done(&id),
                LoadWait::Resolve(link) => self.on_resolvable(link, id),
            }
        }
        self.pending.resolved.extend(resolved);
    }

    fn serve(&mut self, id: DocumentId, rows: Option<&Rows>) {
        let Some(working) = self.documents.get_mut(&id) else { return };
        let mut waits = std::mem::take(&mut working.waits);
        if !working.inbox.is_empty() {
            self.ready.insert(id);
        }
        let cold = working.cell.is_none();
        if cold
            && waits.iter().any(LoadWait::opens)
            && let Some(rows) = rows
            && !self.may_open(id, rows)
        {
            let (opening, other) = waits.into_iter().partition(LoadWait::opens);
            self.documents.get_mut(&id).expect("looked at above").waits = opening;
            waits = other;
        }
        for wait in waits {
            match wait {
                LoadWait::Log => {}
                LoadWait::Resolve(link) => self.on_resolvable(link, id),
                LoadWait::Compare { link, heads, offer } => self.on_comparable(link, id, &heads, offer),
                LoadWait::Fetch { link, hashes } => self.on_fetchable(link, id, &hashes),
                LoadWait::Compact => self.compact_loaded(id, rows),
                LoadWait::Open(request, template) => {
                    let result = self.hydrate(id, template, rows);
                    self.reply(request, result);
                }
                LoadWait::Read(request) => {
                    let result = self.read_once(id, rows).map(|value| Reply::Value(Some(value)));
                    self.reply(request, result);
                }
                LoadWait::SessionRead(request) => self.on_session_read(request, id, rows),
                LoadWait::Session(request) => self.on_session_log(request, id),
                LoadWait::SetAside(request) => {
                    let result = self.read_once(id, rows).map(|value| Reply::SetAside(vec![value]));
                    self.reply(request, result);
                }
            }
        }
    }

    fn author(&self, id: DocumentId) -> Author {
        let identity = self.identity();
        Author { device: identity.device, document: id, incarnation: identity.incarnation }
    }

    /// The hydrated document: the one that is hot, or a new one from its rows.
    fn hydrate(&mut self, id: DocumentId, template: Template, rows: Option<&Rows>) -> Result<Reply, CommandError> {
        let author = self.author(id);
        let working = self.documents.get_mut(&id).expect("served documents are in use");
        let (path, generation) = (working.path.clone(), working.generation);
        if let Some(cell) = working.cell.clone() {
            if matches!(cell.with(|hot| hot.is_quarantined()), Ok(true)) {
                // Applying what came in failed; the object is made anew without the culprits, for all who share it.
                let chunks = self.visible_without_culprits(id, rows)?;
                let made = cell.with(|hot| hot.reload(chunks)).and_then(|r| r);
                made.map_err(|_| CommandError::Quarantined(path))?;
                let _ = cell.with(|hot| self.block_hidden(&id, hot));
            }
            let widened = cell.with(|hot| hot.widen(&template)).and_then(|r| r);
            widened.map_err(|error| invalid_template(&error.to_string()))?;
            return Ok(Reply::Document { document: id, generation, cell });
        }
        let chunks = visible_chunks(rows);
        let mut hot = match HotDocument::load(author, template.clone(), chunks) {
            Ok(hot) => hot,
            Err(HotError::Quarantined { .. }) => self.hydrate_without_culprits(id, template, rows)?,
            Err(error) => return Err(invalid_template(&error.to_string())),
        };
        self.block_hidden(&id, &mut hot);
        self.block_spent(&id, &mut hot);
        self.hot_estimate += hot.estimate_bytes();
        let cell = HotCell::new(hot);
        let working = self.documents.get_mut(&id).expect("served documents are in use");
        working.cell = Some(cell.clone());
        self.opened_well(id);
        Ok(Reply::Document { document: id, generation, cell })
    }

    /// Keeps edits off own actors of which the view does not show every change.
    fn block_hidden(&self, id: &DocumentId, hot: &mut HotDocument) {
        if let Some(log) = self.documents.get(id).and_then(|w| w.log.as_ref()).filter(|log| log.has_hidden()) {
            hot.block_actors(log.rows().iter().filter(|row| row.is_hidden()).map(|row| log.actor_of(row)));
        }
    }

    /// Keeps edits off own actors of which some changes were set aside.
    fn block_spent(&self, id: &DocumentId, hot: &mut HotDocument) {
        let Some(space) = self.documents.get(id).map(|working| working.space) else { return };
        let entry = self.spaces.get(&space).and_then(|state| state.index.by_id(id));
        if let Some(aside) = entry.and_then(|entry| entry.aside.as_deref()) {
            hot.block_actors(aside.spent.iter());
        }
    }

    fn hydrate_without_culprits(
        &mut self,
        id: DocumentId,
        template: Template,
        rows: Option<&Rows>,
    ) -> Result<HotDocument, CommandError> {
        let chunks = self.visible_without_culprits(id, rows)?;
        let path = self.documents[&id].path.clone();
        HotDocument::load(self.author(id), template, chunks).map_err(|_| CommandError::Quarantined(path))
    }

    fn visible_without_culprits(&mut self, id: DocumentId, rows: Option<&Rows>) -> Result<Vec<Vec<u8>>, CommandError> {
        let path = self.documents[&id].path.clone();
        let rows = rows.ok_or(CommandError::Quarantined(path))?;
        Ok(self.without_culprits(id, rows))
    }

    /// The value of a document without keeping it hot.
    pub(super) fn read_once(
        &mut self,
        id: DocumentId,
        rows: Option<&Rows>,
    ) -> Result<(crate::document::value::Value, Vec<ChangeHash>), CommandError> {
        let author = self.author(id);
        let working = &self.documents[&id];
        let path = working.path.clone();
        let failed = |_| CommandError::Quarantined(path.clone());
        if let Some(cell) = &working.cell {
            return cell.with(|hot| Ok((hot.value()?, hot.heads()?))).and_then(|r| r).map_err(failed);
        }
        let mut hot = match HotDocument::load(author, Template::default(), visible_chunks(rows)) {
            Ok(hot) => hot,
            Err(_) => self.hydrate_without_culprits(id, Template::default(), rows)?,
        };
        let read = (hot.value().map_err(failed)?, hot.heads().map_err(failed)?);
        self.opened_well(id);
        Ok(read)
    }

    /// A durable draft reaches the log and the hydrated document.
    pub(super) fn settle_working(&mut self, draft: &Draft) {
        let Some(working) = self.documents.get_mut(&draft.entry.id) else { return };
        if draft.compacted {
            working.log = None;
        }
        if draft.entry.deleted() {
            self.sessions.bury(working.log.as_ref(), &draft.entry);
            // Its chunks may be gone; what was set aside is read from disk.
            (working.log, working.cell) = (None, None);
            return;
        }
        if let Some(log) = &mut working.log {
            let settled = draft.admitted.iter().try_for_each(|(at, c)| log.admit(std::slice::from_ref(c), *at));
            if settled.is_err() || draft.admitted.len() != draft.fresh.len() {
                // It is read from disk again, where everything is.
                working.log = None;
            }
        }
        if !draft.shown {
            self.show_remote(draft);
        }
    }

    /// What others made reaches the hydrated document. Whether it did.
    pub(super) fn show_remote(&mut self, draft: &Draft) -> bool {
        let Some(working) = self.documents.get_mut(&draft.entry.id).filter(|_| draft.remote) else { return false };
        let Some(cell) = &working.cell else { return false };
        let chunks: Vec<_> = draft.remote_chunks().map(|(hash, bytes)| (hash, bytes.to_vec())).collect();
        if chunks.is_empty() {
            return false;
        }
        let shown = matches!(cell.with(|hot| hot.push_remote(chunks)), Ok(Ok(())));
        if !shown {
            cell.retire();
            working.cell = None;
        }
        shown
    }

    /// Forgets the hydrated document; handles that hold it keep what they see until they open it anew.
    pub(super) fn drop_cell(&mut self, id: &DocumentId) {
        if let Some(cell) = self.documents.get_mut(id).and_then(|working| working.cell.take()) {
            cell.retire();
        }
    }

    pub(super) fn drop_log(&mut self, id: &DocumentId) {
        if let Some(working) = self.documents.get_mut(id) {
            working.log = None;
        }
    }

    /// Lets go of deleted documents that nobody uses. They would go last otherwise, since the budgets are for many
    /// documents in use, and a program that deletes and makes anew would fill them with what nobody asks for again.
    pub(super) fn let_go_of_deleted(&mut self) {
        // A few at a time: handles may hold any number of them.
        for _ in 0..self.leaving.len().min(LEAVING_A_TURN) {
            let Some(id) = self.leaving.pop_front() else { return };
            let Some(working) = self.documents.get(&id) else { continue };
            if !working.idle() || self.ready.contains(&id) {
                self.leaving.push_back(id);
                continue;
            }
            self.hot_estimate = self.hot_estimate.saturating_sub(working.hot_bytes());
            self.documents.remove(&id);
        }
    }

    /// Lets go of what nobody uses, the least recently used first, down to seven eighths of the budgets.
    pub(super) fn evict(&mut self) {
        if self.documents.len() < self.evict_at && self.hot_estimate < self.evict_hot_at {
            return;
        }
        let idle = self.documents.iter().filter(|(id, w)| w.idle() && !self.ready.contains(*id));
        let idle: BTreeSet<(u64, DocumentId)> = idle.map(|(id, w)| (w.used, *id)).collect();
        let mut hot: usize = self.documents.values().map(Working::hot_bytes).sum();
        let mut logs: usize = self.documents.values().map(Weigh::weight).sum();
        let (hot_budget, log_budget) = (self.config.hot_budget, self.config.log_budget);
        let over = |hot: usize, logs: usize, documents: usize| {
            hot > hot_budget / 8 * 7 || logs > log_budget / 8 * 7 || documents > MAX_WORKING / 8 * 7
        };
        if hot > hot_budget || logs > log_budget || self.documents.len() > MAX_WORKING {
            for (_, id) in idle {
                if !over(hot, logs, self.documents.len()) {
                    break;
                }
                if let Some(working) = self.documents.remove(&id) {
                    hot -= working.hot_bytes();
                    logs -= working.weight();
                }
            }
        }
        // Weighing everything is not free: look again after some growth, however much handles hold.
        self.evict_at = self.documents.len() + self.documents.len() / 8 + 64;
        self.hot_estimate = hot;
        self.evict_hot_at = (hot + hot / 8).max(hot_budget);
    }
}

/// Most documents in use at once that nobody holds.
const MAX_WORKING: usize = 65_536;

/// Deleted documents that one turn looks at.
const LEAVING_A_TURN: usize = 8;

impl Working {
    fn idle(&self) -> bool {
        self.loading.is_none()
            && !self.reviewing
            && self.waits.is_empty()
            && self.inbox.is_empty()
            && self.cell.as_ref().is_none_or(|cell| cell.shares() <= 1)
    }

    pub(super) fn hot_bytes(&self) -> usize {
        let bytes = self.cell.as_ref().and_then(|cell| cell.with(|hot| hot.estimate_bytes()).ok());
        bytes.unwrap_or(0)
    }
}

fn invalid_template(why: &str) -> CommandError {
    CommandError::Invalid { what: "template", why: why.to_owned() }
}

fn visible_chunks(rows: Option<&Rows>) -> Vec<Vec<u8>> {
    let rows = rows.into_iter().flat_map(Rows::iter);
    rows.filter_map(|(key, value)| row::StoredRow::read(key, value).ok())
        .filter(|row| !row.hidden)
        .map(|row| row.bytes.to_vec())
        .collect()
}
