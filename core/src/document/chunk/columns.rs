//! The op columns of a change: run-length encoded tables, walked without writing anything out.
//!
//! A dozen bytes of run lengths ([`rle`]) can claim 2⁶² rows, so
//! every count is held against the chunk's limits before anything is done that many times, and nothing is allocated.
//!
//! Only the spelling that an encoder makes is taken: longest runs, no column of nulls, no actor in the table that no op
//! names, predecessors in order. Automerge throws chunks away and encodes them anew when somebody asks for a change or
//! saves; a second spelling would come back under another hash, and what 0.12 saved then does not load.

mod rle;

use smallvec::SmallVec;
use thiserror::Error;

use super::ChunkLimits;
use crate::id::Actor;
use crate::wire::{DecodeError, Reader};

pub(super) use rle::read_i64;
use rle::{Booleans, Cell, Delta, Rle};

/// Why the columns of a change are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ColumnError {
    /// A column that no version of the format knows, a deflated one, one out of order, or one that is listed empty.
    #[error("column {spec} is unknown, deflated, empty or out of order")]
    Layout {
        /// The column's specification as the chunk has it.
        spec: u64,
    },
    /// A run or a value in it is malformed.
    #[error("column {column} is malformed")]
    Malformed {
        /// Which column.
        column: &'static str,
    },
    /// It has fewer or more rows than there are ops.
    #[error("column {column} does not have one row an op")]
    Rows {
        /// Which column.
        column: &'static str,
    },
    /// More ops, predecessors or written-out names than the limits allow.
    #[error("{what} are over their bound of {max}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// An op names an op that cannot be before it, or an actor that is not in the chunk's table.
    #[error("column {column} names an op or actor that cannot be there")]
    Reference {
        /// Which column.
        column: &'static str,
    },
    /// An op that has no meaning: an unknown action, an increment by something that is not a number, an insertion
    /// under a map key, a deletion of nothing.
    #[error("an op has no meaning")]
    Meaningless,
    /// The actor table lists an actor that no op names.
    #[error("the actor table lists an actor that no op names")]
    UnusedActor,
}

impl From<DecodeError> for ColumnError {
    fn from(error: DecodeError) -> Self {
        let column = match error {
            DecodeError::Truncated { field } | DecodeError::TooLarge { field, .. } | DecodeError::Invalid { field } => {
                field
            }
            DecodeError::Trailing { .. } => "value",
        };
        Self::Malformed { column }
    }
}

/// The columns that a change may have, in their order: specification (`id << 4 | type`) and name.
const KNOWN: [(u64, &str); 14] = [
    (1, "object actor"),
    (2, "object counter"),
    (17, "key actor"),
    (19, "key counter"),
    (21, "key string"),
    (52, "insert"),
    (66, "action"),
    (86, "value metadata"),
    (87, "value"),
    (112, "predecessor count"),
    (113, "predecessor actor"),
    (115, "predecessor counter"),
    (148, "expand"),
    (165, "mark name"),
];

// Positions in `KNOWN`.
const OBJ_ACTOR: usize = 0;
const OBJ_CTR: usize = 1;
const KEY_ACTOR: usize = 2;
const KEY_CTR: usize = 3;
const KEY_STR: usize = 4;
const INSERT: usize = 5;
const ACTION: usize = 6;
const VALUE_META: usize = 7;
const VALUE: usize = 8;
const PRED_COUNT: usize = 9;
const PRED_ACTOR: usize = 10;
const PRED_CTR: usize = 11;
const EXPAND: usize = 12;
const MARK_NAME: usize = 13;

// Types of values, the low four bits of their metadata.
const VALUE_NULL: u64 = 0;
const VALUE_TRUE: u64 = 2;
const VALUE_UINT: u64 = 3;
const VALUE_INT: u64 = 4;
const VALUE_FLOAT: u64 = 5;
const VALUE_STRING: u64 = 6;
const VALUE_COUNTER: u64 = 8;
const VALUE_TIMESTAMP: u64 = 9;

/// What an op does.
enum Action {
    /// Makes a map, list, text or table.
    Make,
    Set,
    Delete,
    Increment,
    Mark,
}

impl Action {
    fn of(number: u64) -> Option<Self> {
        match number {
            0 | 2 | 4 | 6 => Some(Self::Make),
            1 => Some(Self::Set),
            3 => Some(Self::Delete),
            5 => Some(Self::Increment),
            7 => Some(Self::Mark),
            _ => None,
        }
    }
}

/// The bytes of each column, empty where the change has none.
pub(super) struct Columns<'a> {
    data: [&'a [u8]; KNOWN.len()],
}

impl<'a> Columns<'a> {
    /// Reads the column list and cuts out the columns behind it.
    pub(super) fn read(r: &mut Reader<'a>) -> Result<Self, super::ChunkError> {
        let count = r.varint_max(KNOWN.len() as u64, "column count")?;
        let mut lengths = [0; KNOWN.len()];
        let mut known = 0;
        for _ in 0..count {
            let spec = r.varint("column")?;
            let len = r.varint("column length")?;
            // Only forward: a spec that stands before the last one, or twice, is not found.
            let found = KNOWN[known..].iter().position(|(k, _)| *k == spec);
            let at = known + found.filter(|_| len > 0).ok_or(ColumnError::Layout { spec })?;
            lengths[at] = len;
            known = at + 1;
        }
        let mut data: [&'a [u8]; KNOWN.len()] = [&[]; KNOWN.len()];
        for (at, len) in lengths.into_iter().enumerate() {
            let len = usize::try_from(len).map_err(|_| DecodeError::Truncated { field: KNOWN[at].1 })?;
            data[at] = r.take(len, KNOWN[at].1)?;
        }
        Ok(Self { data })
    }

    /// Number of ops: the rows of the action column, by its runs.
    pub(super) fn op_count(&self, max: u64) -> Result<u64, ColumnError> {
        let mut rle = self.rle::<u64>(ACTION);
        let mut count = 0u64;
        while rle.next_run()? {
            count = count.saturating_add(rle.left);
            if count > max {
                return Err(ColumnError::TooMany { what: "ops", max });
            }
            rle.skip_run()?;
        }
        Ok(count)
    }

    /// Walks all columns together, op by op, so that each holds exactly what `ops` ops need.
    pub(super) fn check(
        &self,
        ops: u64,
        start_op: u64,
        actors: ActorTable,
        limits: &ChunkLimits,
    ) -> Result<(), ColumnError> {
        // Half of an id pair without the other half would be read as "no id at all".
        for (actor, counter) in [(OBJ_ACTOR, OBJ_CTR), (PRED_ACTOR, PRED_CTR)] {
            if self.data[actor].is_empty() != self.data[counter].is_empty() {
                return Err(ColumnError::Rows { column: KNOWN[counter].1 });
            }
        }
        if ops > 0 && self.data[INSERT].is_empty() {
            return Err(ColumnError::Rows { column: KNOWN[INSERT].1 });
        }
        let mut row = RowReader::new(self, actors, limits);
        for op in 0..ops {
            row.check_op(start_op.saturating_add(op))?;
        }
        row.finish()
    }

    fn rle<T: Cell<'a>>(&self, column: usize) -> Rle<'a, T> {
        Rle::new(self.data[column], KNOWN[column].1)
    }

    fn delta(&self, column: usize) -> Delta<'a> {
        Delta::new(self.data[column], KNOWN[column].1)
    }

    fn booleans(&self, column: usize) -> Booleans<'a> {
        Booleans::new(self.data[column], KNOWN[column].1)
    }
}

/// The actor table of a chunk: the author at 0, then the others in order of their bytes.
pub(super) struct ActorTable {
    /// Entries, the author included.
    len: u64,
    /// How many of the others come before the author in order of their bytes.
    before_author: u64,
    /// One bit an entry that an op names. The author's is always set.
    used: SmallVec<[u64; 1]>,
}

impl ActorTable {
    pub(super) fn new(author: &Actor, others: &[Actor]) -> Self {
        let before_author = others.iter().filter(|other| *other < author).count() as u64;
        let mut used = SmallVec::from_elem(0, others.len() / 64 + 1);
        used[0] = 1;
        Self { len: 1 + others.len() as u64, before_author, used }
    }

    fn name(&mut self, actor: u64) -> bool {
        let known = actor < self.len;
        if known {
            self.used[actor as usize / 64] |= 1 << (actor % 64);
        }
        known
    }

    /// Orders entries by their actors' bytes, provided that the others are sorted.
    fn rank(&self, actor: u64) -> u64 {
        if actor == 0 { 2 * self.before_author } else { 2 * actor - 1 }
    }

    fn all_used(&self) -> bool {
        self.used.iter().map(|word| u64::from(word.count_ones())).sum::<u64>() == self.len
    }
}

/// All columns, advanced op by op.
struct RowReader<'a> {
    obj_actor: Rle<'a, u64>,
    obj_ctr: Rle<'a, u64>,
    key_actor: Rle<'a, u64>,
    key_ctr: Delta<'a>,
    key_str: Rle<'a, &'a str>,
    insert: Booleans<'a>,
    action: Rle<'a, u64>,
    value_meta: Rle<'a, u64>,
    value: Reader<'a>,
    pred_count: Rle<'a, u64>,
    pred_actor: Rle<'a, u64>,
    pred_ctr: Delta<'a>,
    expand: Booleans<'a>,
    mark_name: Rle<'a, &'a str>,
    actors: ActorTable,
    expands: bool,
    preds: u64,
    names: u64,
    max_preds: u64,
    max_names: u64,
}

impl<'a> RowReader<'a> {
    fn new(columns: &Columns<'a>, actors: ActorTable, limits: &ChunkLimits) -> Self {
        Self {
            obj_actor: columns.rle(OBJ_ACTOR),
            obj_ctr: columns.rle(OBJ_CTR),
            key_actor: columns.rle(KEY_ACTOR),
            key_ctr: columns.delta(KEY_CTR),
            key_str: columns.rle(KEY_STR),
            insert: columns.booleans(INSERT),
            action: columns.rle(ACTION),
            value_meta: columns.rle(VALUE_META),
            value: Reader::new(columns.data[VALUE]),
            pred_count: columns.rle(PRED_COUNT),
            pred_actor: columns.rle(PRED_ACTOR),
            pred_ctr: columns.delta(PRED_CTR),
            expand: columns.booleans(EXPAND),
            mark_name: columns.rle(MARK_NAME),
            actors,
            expands: false,
            preds: 0,
            names: 0,
            max_preds: limits.max_ops,
            max_names: limits.max_names,
        }
    }

    /// Checks one op, whose own counter is `own`.
    fn check_op(&mut self, own: u64) -> Result<(), ColumnError> {
        self.check_object(own)?;
        let insert = self.insert.next()?;
        self.check_key(own, insert)?;
        let action = self.action.need()?;
        let value = self.check_value()?;
        let preds = self.check_preds(own)?;
        let expand = self.expand.next()?;
        self.expands |= expand;
        let mark = self.mark_name.next()?;
        if let Some(name) = mark {
            self.count_name(name)?;
        }
        let plain = !expand && mark.is_none();
        let meant = match Action::of(action) {
            Some(Action::Make) => plain && value == VALUE_NULL,
            Some(Action::Set) => plain,
            // Automerge keeps no row of a deletion, only its number with what it deletes.
            Some(Action::Delete) => plain && value == VALUE_NULL && preds > 0 && !insert,
            Some(Action::Increment) => plain && matches!(value, VALUE_UINT | VALUE_INT),
            // A mark begins with a name and a value, and ends with neither.
            Some(Action::Mark) => mark.is_some() || value == VALUE_NULL,
            None => false,
        };
        if meant { Ok(()) } else { Err(ColumnError::Meaningless) }
    }

    fn check_object(&mut self, own: u64) -> Result<(), ColumnError> {
        match (self.obj_actor.next()?, self.obj_ctr.next()?) {
            (None, None) => Ok(()),
            (Some(actor), Some(counter)) => self.check_id(actor, counter, own, OBJ_CTR),
            _ => Err(ColumnError::Rows { column: KNOWN[OBJ_CTR].1 }),
        }
    }

    fn check_key(&mut self, own: u64, insert: bool) -> Result<(), ColumnError> {
        match (self.key_actor.next()?, self.key_ctr.next()?, self.key_str.next()?) {
            (None, None, Some(name)) if !insert => self.count_name(name),
            // The head of a sequence: something can only be inserted behind it.
            (None, Some(0), None) if insert => Ok(()),
            (Some(actor), Some(counter), None) => self.check_id(actor, counter, own, KEY_CTR),
            (None, None, Some(_)) | (None, Some(0), None) => Err(ColumnError::Meaningless),
            _ => Err(ColumnError::Rows { column: "key" }),
        }
    }

    /// Checks the predecessors of one op and tells how many there are.
    fn check_preds(&mut self, own: u64) -> Result<u64, ColumnError> {
        let count = self.pred_count.need()?;
        self.preds = self.preds.saturating_add(count);
        if self.preds > self.max_preds {
            return Err(ColumnError::TooMany { what: "predecessors", max: self.max_preds });
        }
        let mut last = None;
        for _ in 0..count {
            let actor = self.pred_actor.need()?;
            let counter = self.pred_ctr.next()?.ok_or(ColumnError::Rows { column: KNOWN[PRED_CTR].1 })?;
            self.check_id(actor, counter, own, PRED_CTR)?;
            let rank = Some((counter, self.actors.rank(actor)));
            if last.is_some() && last >= rank {
                return Err(ColumnError::Malformed { column: "predecessor" });
            }
            last = rank;
        }
        Ok(count)
    }

    /// An op can only name ops that were there before it, and counters grow along every dependency.
    fn check_id(&mut self, actor: u64, counter: u64, own: u64, column: usize) -> Result<(), ColumnError> {
        if (1..own).contains(&counter) && self.actors.name(actor) {
            Ok(())
        } else {
            Err(ColumnError::Reference { column: KNOWN[column].1 })
        }
    }

    /// Checks the value of one op and tells its type.
    fn check_value(&mut self) -> Result<u64, ColumnError> {
        let meta = self.value_meta.need()?;
        let len = usize::try_from(meta >> 4).map_err(|_| ColumnError::Malformed { column: "value" })?;
        let mut r = Reader::new(self.value.take(len, "value")?);
        match meta & 0xf {
            VALUE_NULL..=VALUE_TRUE => {}
            VALUE_UINT => drop(r.varint("value")?),
            VALUE_INT | VALUE_COUNTER | VALUE_TIMESTAMP => drop(read_i64(&mut r, "value")?),
            VALUE_FLOAT => drop(r.array::<8>("value")?),
            VALUE_STRING => {
                std::str::from_utf8(r.rest()).map_err(|_| ColumnError::Malformed { column: "value" })?;
            }
            // Bytes, and types of later versions, which are kept as they are.
            _ => drop(r.rest()),
        }
        r.finish()?;
        Ok(meta & 0xf)
    }

    fn count_name(&mut self, name: &str) -> Result<(), ColumnError> {
        self.names = self.names.saturating_add(name.len() as u64);
        if self.names > self.max_names {
            return Err(ColumnError::TooMany { what: "bytes of names", max: self.max_names });
        }
        Ok(())
    }

    fn finish(self) -> Result<(), ColumnError> {
        for rle in [self.obj_actor, self.obj_ctr, self.key_actor, self.action, self.value_meta, self.pred_count] {
            rle.finish()?;
        }
        self.pred_actor.finish()?;
        for delta in [self.key_ctr, self.pred_ctr] {
            delta.finish()?;
        }
        for names in [self.key_str, self.mark_name] {
            names.finish()?;
        }
        // An expand column that is all false is left out.
        if !self.expand.empty && !self.expands {
            return Err(ColumnError::Malformed { column: KNOWN[EXPAND].1 });
        }
        for booleans in [self.insert, self.expand] {
            booleans.finish()?;
        }
        if self.value.remaining() > 0 {
            return Err(ColumnError::Rows { column: KNOWN[VALUE].1 });
        }
        if self.actors.all_used() { Ok(()) } else { Err(ColumnError::UnusedActor) }
    }
}
