//! What local programs ask for.

use std::collections::BTreeSet;

use super::api::MAX_LIST;
use super::batch::PendingCommit;
use super::document::LoadWait;
use super::index::Entry;
use super::ingest::Source;
use super::keys::{self, SpaceRecord};
use super::session::Then;
use super::space::Space;
use super::storage::ReadPurpose;
use super::{
    Command, CommandError, DocumentInfo, Engine, LinkStatus, MemberInfo, Phase, Reply, SpaceStatus, StatusReport,
    SyncWait, Weigh,
};
use crate::document::row::StoredRow;
use crate::id::{Actor, DocumentId, Path, Prefix, SpaceId};
use crate::io::{ReadOp, RequestId, Rows, StorageFailure, Table, WriteOp};
use crate::time::WallTime;
use crate::trust::invitation::Offer;
use crate::trust::{Endorsement, Fact, Grant, Invitation, Role, RootKey, Roster, create_space};
use crate::wire::v1::DocumentUpdate;
use crate::wire::{Codec, Reader, Writer};

/// Most spaces of a store: what one handshake can name.
const MAX_SPACES: usize = crate::wire::v1::MAX_SPACES;
/// Most bytes of a local name.
const MAX_NAME: usize = 64;
/// Most commits that wait for a batch.
const MAX_WAITING_COMMITS: usize = 65_536;
/// Most programs that wait for other peers.
const MAX_SYNC_WAITS: usize = 65_536;
/// Documents of one page of an export.
const EXPORT_PAGE: usize = 256;
/// Bytes after which a page of an export ends.
const EXPORT_BYTES: u64 = 4 << 20;
/// Version of an export page.
const EXPORT_VERSION: u64 = 1;

/// An import page that is being taken in.
#[derive(Debug, Default)]
pub(super) struct Import {
    pub(super) changes: u64,
    pub(super) refused: u64,
    /// Documents of the page that no batch has dealt with.
    pub(super) documents: usize,
    /// Of what guests bring: actors of which single changes are vouched for already.
    pub(super) loose: BTreeSet<Actor>,
}

/// An export page whose rows are being read.
#[derive(Debug)]
pub(super) struct ExportRead {
    request: RequestId,
    space: SpaceId,
    documents: Vec<(Path, u32, Vec<Vec<u8>>)>,
    with_facts: bool,
    next: Option<Path>,
}

pub(super) type Outcome = Result<Option<Reply>, CommandError>;

impl Engine {
    pub(super) fn on_command(&mut self, request: RequestId, command: Command) {
        if !matches!(self.phase, Phase::Open) {
            return self.reply(request, Err(CommandError::Closed));
        }
        match self.run(request, command) {
            Ok(None) => {}
            Ok(Some(reply)) => self.reply(request, Ok(reply)),
            Err(error) => self.reply(request, Err(error)),
        }
    }

    /// `Ok(None)`: the reply comes later.
    fn run(&mut self, request: RequestId, command: Command) -> Outcome {
        match command {
            Command::CreateSpace { name } => self.create_space(request, name),
            Command::Join { invitation, name } => self.join(request, &invitation, name),
            Command::Spaces => Ok(Some(Reply::Spaces(self.spaces.values().map(Space::info).collect()))),
            Command::Open { space, path, template } => self.load_live(space, &path, LoadWait::Open(request, template)),
            Command::Commit { space, changes } => self.commit(request, space, changes),
            Command::Read { space, path } => {
                if self.space(&space)?.index.live_entry(&path).is_none() {
                    return Ok(Some(Reply::Value(None)));
                }
                self.load_live(space, &path, LoadWait::Read(request))
            }
            Command::ReadAtLeast { space, path, bookmark, wait } => {
                self.begin_session(request, space, bookmark, wait, Then::Read(path))
            }
            Command::Reach { space, bookmark, wait } => {
                self.begin_session(request, space, bookmark, wait, Then::Reached)
            }
            Command::Bookmark { space, paths } => self.bookmark(space, &paths),
            Command::List { space, prefix, after, limit } => self.list(space, &prefix, after.as_ref(), limit),
            Command::Delete { space, path } => {
                self.space(&space)?;
                self.pending.deletions.push((request, space, path));
                Ok(None)
            }
            Command::Invite { space, role, prefix, not_after, addresses } => {
                self.invite(request, space, role, prefix, not_after, addresses)
            }
            Command::RootKey { space } => {
                let seed = self.space(&space)?.record.root_seed.as_ref();
                Ok(Some(Reply::RootKey(seed.map(|seed| Box::new(RootKey::from_seed(seed))))))
            }
            Command::Members { space, after, limit } => {
                let device = self.identity().device;
                let roster = &self.space(&space)?.roster;
                let members = roster.members(after.as_ref(), limit.min(MAX_LIST));
                let own = |fact: &&Fact| fact.grant().is_some_and(Grant::is_own);
                let info = members.into_iter().map(|m| MemberInfo {
                    device: m.device,
                    roles: m.grants.iter().map(|g| (g.role, g.prefix.clone(), g.not_after)).collect(),
                    grants: roster.grant_facts_of(&m.device).filter(own).map(Fact::hash).collect(),
                    me: m.device == device,
                });
                Ok(Some(Reply::Members(info.collect())))
            }
            Command::Revoke { space, device, grants, keep } => self.revoke(request, space, device, grants, keep),
            Command::RevokeExpired { space } => self.revoke_expired(request, space),
            Command::RotateRoot { space, successor } => self.rotate_root(request, space, successor.map(|key| *key)),
            Command::Evicted { space, prefix } => self.list_evicted(space, &prefix),
            Command::EvictedChanges { space, path } => self.ask_aside(request, space, &path, None),
            Command::DiscardEvicted { space, path, changes } => self.ask_aside(request, space, &path, Some(changes)),
            Command::Interest { space, prefixes } => self.set_interests(request, space, prefixes),
            Command::Synced { space, document, heads, peers } => {
                self.space(&space)?;
                bound("programs that wait for peers", self.sync_waits.len(), MAX_SYNC_WAITS)?;
                self.sync_waits.push(SyncWait { request, space, document, heads, peers });
                self.check_sync_waits();
                Ok(None)
            }
            Command::Cancel { target } => {
                if let Some(at) = self.sync_waits.iter().position(|w| w.request == target) {
                    self.sync_waits.swap_remove(at);
                    self.reply(target, Err(CommandError::Cancelled));
                }
                self.cancel_session(target);
                #[cfg(feature = "coord")]
                self.cancel_coord(target);
                Ok(Some(Reply::Done))
            }
            Command::Reconcile => {
                self.reconcile_all();
                Ok(Some(Reply::Done))
            }
            Command::SetAside { space, path } => self.set_aside(request, space, &path),
            Command::DiscardSetAside { space, path } => self.discard_set_aside(request, space, &path),
            Command::Export { space, after } => self.export(request, space, after),
            Command::Admit { space, path, generation, chunks } => self.admit(request, space, path, generation, chunks),
            Command::Changes { space, path, after } => self.ask_changes(request, space, &path, after),
            Command::Import { space, page } => self.import(request, space, &page),
            Command::TellPeers { link, space, peers } => {
                self.tell_peers(link, space, peers);
                Ok(Some(Reply::Done))
            }
            Command::KeepPeers { book } => {
                self.keep_peers(book);
                Ok(Some(Reply::Done))
            }
            Command::Compact => {
                self.compact_all(request);
                Ok(None)
            }
            Command::Status => Ok(Some(Reply::Status(Box::new(self.status())))),
            Command::SoftSet { space, path, value } => self.soft_set(space, path, value),
            Command::SoftDelete { space, path } => self.soft_delete(space, &path),
            Command::SoftGet { space, path } => self.soft_get(space, &path),
            Command::SoftList { space, prefix, after, limit } => self.soft_list(space, &prefix, after.as_ref(), limit),
            Command::Publish { space, path, payload } => self.publish(space, path, payload),
            #[cfg(feature = "coord")]
            Command::Coord(command) => self.on_coord_command(request, command),
            Command::Close => {
                #[cfg(feature = "coord")]
                self.close_coord();
                self.soft_release();
                self.phase = Phase::Closing;
                self.pending.closing = Some(request);
                Ok(None)
            }
        }
    }

    pub(super) fn space(&self, id: &SpaceId) -> Result<&Space, CommandError> {
        self.spaces.get(id).ok_or(CommandError::UnknownSpace(*id))
    }

    /// Why this device may not do something at a path.
    pub(super) fn denied(&self, space: &SpaceId, action: &'static str, path: &Path) -> CommandError {
        let (device, path) = (self.identity().device, path.to_string());
        match self.spaces.get(space).is_some_and(|state| state.roster.is_revoked(&device)) {
            true => CommandError::Revoked { action, path },
            false => CommandError::Denied { action, path },
        }
    }

    fn check_name(&self, name: &str) -> Result<(), CommandError> {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let why = format!("a space's name has 1 to {MAX_NAME} bytes and no control character");
            return Err(CommandError::Invalid { what: "name", why });
        }
        if self.spaces.values().any(|s| s.record.name == name) {
            return Err(CommandError::SpaceExists(name.to_owned()));
        }
        bound("spaces of a store", self.spaces.len(), MAX_SPACES)
    }

    fn create_space(&mut self, request: RequestId, name: String) -> Outcome {
        self.check_name(&name)?;
        let root = RootKey::generate(&mut self.rng);
        let made = create_space(&root, &self.identity().device, self.config.votes);
        let record = SpaceRecord {
            id: made.space,
            name,
            root_seed: Some(crate::id::Seed(*root.seed())),
            interests: None,
            addresses: Vec::new(),
        };
        self.add_space(request, record, made.roster, made.facts);
        Ok(None)
    }

    fn join(&mut self, request: RequestId, text: &str, name: Option<String>) -> Outcome {
        let invalid = |why: String| CommandError::Invalid { what: "invitation", why };
        let invitation = Invitation::parse(text).map_err(|error| invalid(error.to_string()))?;
        let device = self.identity().device;
        let facts = invitation.accept(&device, self.now.wall).map_err(|error| invalid(error.to_string()))?;
        let id = *invitation.space();
        if self.spaces.contains_key(&id) {
            self.admit_facts(id, facts, None);
            let info = self.space(&id)?.info();
            self.pending.replies.push((request, Ok(Reply::Space(info))));
            return Ok(None);
        }
        let name = name.unwrap_or_else(|| id.to_bech32().chars().take(12).collect());
        self.check_name(&name)?;
        let mut roster = Roster::new(id);
        for fact in &facts {
            roster.insert(fact.clone()).map_err(|error| invalid(error.to_string()))?;
        }
        if !roster.is_member(&device) {
            return Err(invalid("it does not make this device a member".into()));
        }
        let addresses = invitation.addresses().to_vec();
        let record = SpaceRecord { id, name, root_seed: None, interests: None, addresses };
        self.add_space(request, record, roster, facts);
        Ok(None)
    }

    /// Takes a new space in; the reply waits until it is durable, and so does everything told to peers.
    fn add_space(&mut self, request: RequestId, record: SpaceRecord, mut roster: Roster, facts: Vec<Fact>) {
        roster.bound_signers(self.config.signer_facts);
        let number = 1 + self.spaces.values().map(|s| s.number).max().unwrap_or(0);
        let id = record.id;
        self.pending.ops.push(WriteOp::Put(Table::Meta, keys::space(number), record.to_bytes()));
        let mut space = Space::new(number, record, roster, super::index::Index::default());
        for fact in facts {
            let key = keys::fact(number, space.facts_stored);
            space.facts_stored += 1;
            self.pending.ops.push(WriteOp::Put(Table::Facts, key, fact.to_bytes()));
        }
        let info = space.info();
        self.spaces.insert(id, space);
        self.pending.replies.push((request, Ok(Reply::Space(info))));
        self.pending.opened.push(id);
    }

    fn load_live(&mut self, id: SpaceId, path: &Path, wait: LoadWait) -> Outcome {
        let generation = self.space(&id)?.index.live_generation(path);
        let document = DocumentId::derive(&id, path, generation);
        self.await_rows(id, path, generation, document, wait);
        Ok(None)
    }

    fn commit(
        &mut self,
        request: RequestId,
        space: SpaceId,
        changes: Vec<crate::document::local::LocalChange>,
    ) -> Outcome {
        self.space(&space)?;
        bound("commits that wait for storage", self.pending.commits.len(), MAX_WAITING_COMMITS)?;
        self.pending.commits.push_back(PendingCommit { request, space, changes });
        Ok(None)
    }

    fn list(&self, id: SpaceId, prefix: &Prefix, after: Option<&Path>, limit: usize) -> Outcome {
        let limit = limit.clamp(1, MAX_LIST);
        let mut entries = self.space(&id)?.index.living(prefix, after);
        let items: Vec<DocumentInfo> = entries.by_ref().take(limit).map(info).collect();
        let next = entries.next().and_then(|_| items.last().map(|i| i.path.clone()));
        Ok(Some(Reply::List { items, next }))
    }

    fn invite(
        &mut self,
        request: RequestId,
        id: SpaceId,
        role: Role,
        prefix: Prefix,
        not_after: Option<WallTime>,
        addresses: Vec<String>,
    ) -> Outcome {
        // Once others may vote nobody knows any more that there is no group yet.
        #[cfg(feature = "coord")]
        if role == Role::Voter {
            self.ensure_voter(id);
        }
        let key = &self.identity.as_ref().expect("open").key;
        let space = self.spaces.get_mut(&id).ok_or(CommandError::UnknownSpace(id))?;
        let offer = Offer { grants: vec![(role, prefix.clone())], expires: not_after, grants_end: None, addresses };
        let (invitation, facts) =
            Invitation::create(&mut space.roster, key, offer, &mut self.rng).map_err(|error| match error {
                crate::trust::InvitationError::NotAnAdmin { .. } => {
                    CommandError::Denied { action: "invite to", path: prefix.to_string() }
                }
                error => CommandError::Invalid { what: "invitation", why: error.to_string() },
            })?;
        for fact in facts {
            let hash = fact.hash();
            self.pending.facts.push((id, fact, vec![hash], None));
        }
        let text = invitation.to_text().to_string();
        self.pending.replies.push((request, Ok(Reply::Invitation(text))));
        Ok(None)
    }

    fn set_interests(&mut self, request: RequestId, id: SpaceId, prefixes: Vec<Prefix>) -> Outcome {
        bound("prefixes", prefixes.len(), crate::wire::v1::MAX_PREFIXES)?;
        let space = self.spaces.get_mut(&id).ok_or(CommandError::UnknownSpace(id))?;
        space.record.interests = Some(super::space::canonical(prefixes));
        let (number, record) = (space.number, space.record.to_bytes());
        self.pending.ops.push(WriteOp::Put(Table::Meta, keys::space(number), record));
        self.pending.interests_changed.insert(id);
        self.pending.replies.push((request, Ok(Reply::Done)));
        Ok(None)
    }

    /// Deleted generations of a path that still hold changes no tombstone covers.
    fn set_aside_entries(&self, id: &SpaceId, path: &Path) -> Result<Vec<Entry>, CommandError> {
        let space = self.space(id)?;
        let live = space.index.live_generation(path);
        let deleted = (0..live).filter_map(|generation| space.index.generation(path, generation));
        Ok(deleted.filter(|e| e.deleted() && e.chunks > 0).cloned().collect())
    }

    fn set_aside(&mut self, request: RequestId, id: SpaceId, path: &Path) -> Outcome {
        // The newest deleted generation is the one whose edits were just lost.
        let Some(entry) = self.set_aside_entries(&id, path)?.pop() else {
            return Ok(Some(Reply::SetAside(Vec::new())));
        };
        self.await_rows(id, path, entry.generation, entry.id, LoadWait::SetAside(request));
        Ok(None)
    }

    fn discard_set_aside(&mut self, request: RequestId, id: SpaceId, path: &Path) -> Outcome {
        let number = self.space(&id)?.number;
        for mut entry in self.set_aside_entries(&id, path)? {
            entry.chunks = 0;
            entry.bytes = 0;
            self.pending.ops.extend(crate::document::row::delete_all(&entry.id));
            let key = keys::index(number, path, entry.generation);
            self.pending.ops.push(WriteOp::Put(Table::Index, key, entry.encode()));
            self.pending.replaced.push((id, entry));
        }
        self.pending.replies.push((request, Ok(Reply::Done)));
        Ok(None)
    }

    fn status(&mut self) -> StatusReport {
        let root = Prefix::root();
        let ids: Vec<SpaceId> = self.spaces.keys().copied().collect();
        let mut spaces = Vec::new();
        for id in ids {
            let pending = self.pending_documents(&id);
            let Some(space) = self.spaces.get_mut(&id) else { continue };
            let hex = space.domain(&root).root().0.iter().map(|b| format!("{b:02x}")).collect();
            let members = space.roster.members(None, usize::MAX).len() as u64;
            spaces.push(SpaceStatus { info: space.info(), root: hex, members, pending });
        }
        let links: Vec<LinkStatus> = self.links.iter().map(|(id, link)| link.status(*id)).collect();
        let hot: Vec<usize> = self.documents.values().map(|w| w.hot_bytes()).filter(|b| *b > 0).collect();
        let (soft_owners, soft_bytes, soft_refused) = self.soft_figures();
        let topics = self.topic_figures();
        StatusReport {
            spaces,
            links,
            hot_documents: hot.len() as u64,
            hot_bytes: hot.iter().sum::<usize>() as u64,
            log_bytes: self.documents.values().map(Weigh::weight).sum::<usize>() as u64,
            orphans: self.orphans.len() as u64,
            refused_changes: self.counters.refused_changes,
            refused_facts: self.spaces.values().map(|state| state.roster.over_bound()).sum(),
            storage_writes: self.counters.storage_writes,
            signatures_checked: self.counters.signatures_checked,
            soft_owners,
            soft_bytes,
            soft_refused,
            topic_streams: topics.streams,
            topic_bytes: topics.bytes,
            topic_delivered: topics.delivered,
            topic_dropped: topics.dropped,
            topic_refused: topics.refused,
        }
    }

    fn export(&mut self, request: RequestId, id: SpaceId, after: Option<Path>) -> Outcome {
        let space = self.space(&id)?;
        let mut documents: Vec<(Path, u32, Vec<Vec<u8>>)> = Vec::new();
        let (mut bytes, mut ops, mut next) = (0, Vec::new(), None);
        for entry in space.index.under(&Prefix::root(), after.as_ref()) {
            let new_path = documents.last().is_none_or(|(path, ..)| *path != entry.path);
            if new_path && (documents.len() >= EXPORT_PAGE || bytes >= EXPORT_BYTES) {
                next = documents.last().map(|(path, ..)| path.clone());
                break;
            }
            bytes += entry.bytes;
            ops.extend(whole_document(&entry.id));
            let tombstones = entry.tombstones.as_deref().cloned().unwrap_or_default();
            documents.push((entry.path.clone(), entry.generation, tombstones));
        }
        let read = ExportRead { request, space: id, documents, with_facts: after.is_none(), next };
        self.read(ReadPurpose::Export(read), ops);
        Ok(None)
    }

    pub(super) fn on_export_read(&mut self, read: ExportRead, rows: Result<Vec<Rows>, StorageFailure>) {
        let result = rows.map_err(CommandError::Storage).and_then(|rows| self.export_page(&read, &rows));
        self.reply(read.request, result);
    }

    fn export_page(&self, read: &ExportRead, rows: &[Rows]) -> Result<Reply, CommandError> {
        let space = self.space(&read.space)?;
        let mut w = Writer::new();
        w.varint(EXPORT_VERSION).array(&read.space.0);
        let facts: Vec<&Fact> = if read.with_facts { space.roster.facts().collect() } else { Vec::new() };
        w.list(&facts, |w, f| {
            w.bytes(&f.to_bytes());
        });
        w.varint(read.documents.len() as u64);
        for ((path, generation, tombstones), pair) in read.documents.iter().zip(rows.chunks(2)) {
            let chunks = pair[0].iter().filter_map(|(k, v)| StoredRow::read(k, v).ok());
            let chunks = super::ship::expand(chunks);
            let endorsements: Vec<Vec<u8>> = pair[1]
                .iter()
                .filter_map(|(k, v)| Endorsement::from_storage(k, v).ok())
                .map(|e| wire_endorsement(&e, None))
                .collect();
            let update = DocumentUpdate {
                path: path.clone(),
                generation: *generation,
                chunks: chunks.into_iter().map(|(_, bytes)| bytes).collect(),
                endorsements,
                tombstones: tombstones.clone(),
            };
            update.encode_unbounded(&mut w);
        }
        Ok(Reply::Exported { page: w.finish(), next: read.next.clone() })
    }

    fn import(&mut self, request: RequestId, id: SpaceId, page: &[u8]) -> Outcome {
        self.space(&id)?;
        let invalid = |why: String| CommandError::Invalid { what: "page", why };
        let (space, facts, documents) = decode_page(page).map_err(|error| invalid(error.to_string()))?;
        if space != id {
            return Err(invalid(format!("it is of space {space}")));
        }
        let facts: Vec<Fact> = facts.iter().filter_map(|f| Fact::from_bytes(f).ok()).collect();
        self.admit_facts(id, facts, None);
        let source = Source::Import(request);
        self.imports.insert(request, Import { documents: documents.len(), ..Import::default() });
        let mut idle = 0;
        for update in documents {
            idle += usize::from(!self.receive(id, update, source));
        }
        let import = self.imports.get_mut(&request).expect("inserted above");
        import.documents -= idle;
        if import.documents == 0 {
            let import = self.imports.remove(&request).expect("inserted above");
            let reply = Reply::Imported { changes: import.changes, refused: import.refused };
            self.pending.replies.push((request, Ok(reply)));
        }
        Ok(None)
    }
}

/// The space of a page of a portable copy, its facts, and its documents.
pub(crate) fn decode_page(
    page: &[u8],
) -> Result<(SpaceId, Vec<Vec<u8>>, Vec<DocumentUpdate>), crate::wire::DecodeError> {
    let mut r = Reader::new(page);
    r.varint_max(EXPORT_VERSION, "version")?;
    let space = SpaceId(r.array("space")?);
    let facts = r.list(1 << 20, "facts", |r| Ok(r.bytes(crate::wire::v1::MAX_FACT, "fact")?.to_vec()))?;
    let documents = r.list(1 << 20, "documents", DocumentUpdate::decode_unbounded)?;
    r.finish()?;
    Ok((space, facts, documents))
}

/// The two reads that bring everything stored of a document.
pub(super) fn whole_document(id: &DocumentId) -> [ReadOp; 2] {
    [Table::Chunks, Table::Endorsements].map(|table| ReadOp::Scan {
        table,
        from: id.0.to_vec(),
        to: keys::after_document(id),
        limit: usize::MAX,
    })
}

/// An endorsement as it goes over the wire.
pub(super) fn wire_endorsement(endorsement: &Endorsement, roster: Option<&Roster>) -> Vec<u8> {
    let mut w = Writer::new();
    endorsement.encode_wire(&mut w, roster, None);
    w.finish()
}

fn info(entry: &Entry) -> DocumentInfo {
    DocumentInfo {
        path: entry.path.clone(),
        document: entry.id,
        generation: entry.generation,
        heads: entry.heads.to_vec(),
        bytes: entry.bytes,
        changed_at: entry.changed_at(),
    }
}

fn bound(what: &'static str, len: usize, max: usize) -> Result<(), CommandError> {
    if len < max { Ok(()) } else { Err(CommandError::Busy { what, bound: max as u64 }) }
}
