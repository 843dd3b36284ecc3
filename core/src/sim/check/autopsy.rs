//! Opening a copy of a store as a fresh process would, to see what is really in it.

use std::collections::{BTreeMap, VecDeque};

use super::Violation;
use crate::config::EngineConfig;
use crate::document::value::Value;
use crate::engine::index::Entry;
use crate::engine::{Command, Event, MAX_LIST, Reply, keys};
use crate::id::{ChangeHash, DocumentId, Path, Prefix, SpaceId};
use crate::io::{self, Input, Output, RequestId, StorageReply, StorageTask, StorageWork};
use crate::sim::check::{CommitId, Edit};
use crate::sim::cluster::Cluster;
use crate::sim::network::NodeId;
use crate::sim::node::{Factory, Machine};
use crate::store::{Backend, Memory};
use crate::time::{Now, Timestamp, WallTime};

/// What a store holds.
pub type Corpse = BTreeMap<Path, (u32, Vec<ChangeHash>, Option<Value>)>;

/// An engine alone with its tables.
struct Table {
    machine: Box<dyn Machine>,
    tables: Memory,
    replies: VecDeque<Event>,
    requests: u64,
}

impl Table {
    fn feed(&mut self, input: Input) {
        // Late enough for nothing to be in the future of what was written.
        let now = Now { mono: Timestamp::from_micros(1 << 41), wall: WallTime(1_790_000_000_000) };
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.machine.handle(now, input);
            while let Some(output) = self.machine.poll() {
                match output {
                    Output::Storage(task) => inputs.push_back(self.store(task)),
                    Output::Event(event) => self.replies.push_back(event),
                    _ => {}
                }
            }
        }
    }

    fn store(&mut self, StorageTask { ticket, work }: StorageTask) -> Input {
        let result = match work {
            StorageWork::Write { ops, epoch } => self
                .tables
                .write(&[(ops.as_slice(), epoch.as_deref())])
                .pop()
                .unwrap_or(Ok(()))
                .map(|()| StorageReply::Written),
            StorageWork::Read { ops } => self.tables.read(&ops).map(StorageReply::Read),
        };
        Input::StorageDone { ticket, result }
    }

    fn ask(&mut self, command: Command) -> Option<Reply> {
        self.requests += 1;
        let wanted = RequestId(self.requests);
        self.feed(Input::Command { request: wanted, command });
        std::iter::from_fn(|| self.replies.pop_front()).find_map(|event| match event {
            Event::Reply { request, result } if request == wanted => result.ok(),
            _ => None,
        })
    }
}

/// Opens a copy of `tables`, lists what is in it, and reads the documents that `reads` names.
fn open(factory: Factory, tables: Memory, space: SpaceId, reads: impl Fn(&Path) -> bool) -> Result<Corpse, String> {
    let config = EngineConfig { store_identity: tables.identity(), ..EngineConfig::default() };
    let machine = factory(config, [7; 32]);
    let mut table = Table { machine, tables, replies: VecDeque::new(), requests: 0 };
    table.feed(Input::Wake);
    let opened = table.replies.iter().any(|event| matches!(event, Event::Opened { .. }));
    if !opened {
        return Err(format!("{:?}", table.replies.pop_front()));
    }
    let list = Command::List { space, prefix: Prefix::root(), after: None, limit: MAX_LIST };
    // A store that never got to know the space holds nothing of it.
    let Some(Reply::List { items, .. }) = table.ask(list) else { return Ok(Corpse::new()) };
    let mut corpse = Corpse::new();
    for item in items {
        let read = reads(&item.path).then(|| table.ask(Command::Read { space, path: item.path.clone() })).flatten();
        let value = match read {
            Some(Reply::Value(value)) => value.map(|(value, _)| value),
            _ => None,
        };
        corpse.insert(item.path, (item.generation, item.heads, value));
    }
    Ok(corpse)
}

impl Cluster {
    /// What the store of a node holds for certain, with the values of the documents that `reads` names.
    pub fn autopsy(&self, id: NodeId, reads: impl Fn(&Path) -> bool) -> Result<Corpse, Violation> {
        let Some(space) = self.space else { return Ok(Corpse::new()) };
        open(self.factory, self.node(id).disk.durable().clone(), space, reads)
            .map_err(|error| Violation::StoreUnopenable { node: id, error })
    }

    /// `synced(peers)` was answered: so many others must have the commit in their durable tables now, or a deletion that
    /// covers it.
    pub(in crate::sim) fn check_synced(&mut self, id: NodeId, commit: CommitId, document: DocumentId, wanted: usize) {
        let Some(space) = self.space else { return };
        let edits = &self.checks.commits[commit.0].edits;
        let Some(edit) = edits.iter().rfind(|edit| edit.document == document).cloned() else { return };
        let others: Vec<NodeId> = self.nodes.iter().map(|node| node.id).filter(|other| *other != id).collect();
        let mut found = 0;
        for other in others {
            match self.autopsy(other, |path| *path == edit.path) {
                Ok(corpse) => {
                    let has = corpse.get(&edit.path).is_some_and(|(generation, _, value)| {
                        *generation > edit.generation
                            || *generation == edit.generation
                                && value.as_ref().is_some_and(|value| value.get(&edit.key).is_some())
                    });
                    // A generation, and its tombstone, may be stored before the tombstone that makes room for it.
                    let tables = self.node(other).disk.durable();
                    let early = corpse.get(&edit.path).is_none_or(|(generation, ..)| *generation < edit.generation)
                        && tables.table(io::Table::Chunks).any(|row| is_stored(row, &edit));
                    let deleted = tables.table(io::Table::Index).any(|row| is_deleted(row, &space, &edit));
                    found += usize::from(has || deleted || early);
                }
                Err(violation) => self.checks.fail(violation),
            }
        }
        self.checks.tally.synced += 1;
        if found < wanted && self.scenario.honest() && !self.scenario.judges() {
            self.checks.fail(Violation::NotSynced { node: id, path: edit.path, key: edit.key, wanted, found });
        }
    }
}

/// Whether a row of table `chunks` is the change of an edit: a change carries the beginning of its hash behind its magic.
fn is_stored((key, value): (&[u8], &[u8]), edit: &Edit) -> bool {
    key.starts_with(&edit.document.0) && value.get(5..9) == Some(&edit.hash.0[..4])
}

/// Whether a row of table `index` is the generation of an edit, with a tombstone.
fn is_deleted((key, value): (&[u8], &[u8]), space: &SpaceId, edit: &Edit) -> bool {
    let Ok((_, path, generation)) = keys::parse_index(key) else { return false };
    path == edit.path
        && generation == edit.generation
        && Entry::decode(space, path, generation, value).is_ok_and(|entry| entry.tombstones.is_some())
}
