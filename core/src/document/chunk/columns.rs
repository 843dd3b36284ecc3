//! The op columns of a change: run-length encoded tables, walked without writing anything out.
//!
//! A column is a list of runs: `n > 0` and a value that stands for n rows, `n < 0` and that many values, `0` and a
//! count of null rows. A boolean column is run lengths of false and true in turn. So a dozen bytes can claim 2⁶² rows;
//! every count is held against the chunk's limits before anything is done that many times, and nothing is allocated.

use thiserror::Error;

use super::ChunkLimits;
use crate::wire::{DecodeError, Reader};

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
    /// under a map key.
    #[error("an op has no meaning")]
    Meaningless,
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

    /// Walks all columns together, op by op, so that each holds exactly what `ops` ops need. `actors` is the length of
    /// the chunk's actor table.
    pub(super) fn check(&self, ops: u64, start_op: u64, actors: u64, limits: &ChunkLimits) -> Result<(), ColumnError> {
        // Half of an id pair without the other half would be read as "no id at all".
        for (actor, counter) in [(OBJ_ACTOR, OBJ_CTR), (PRED_ACTOR, PRED_CTR)] {
            if self.data[actor].is_empty() != self.data[counter].is_empty() {
                return Err(ColumnError::Rows { column: KNOWN[counter].1 });
            }
        }
        let mut row = RowReader::new(self, actors, limits);
        for op in 0..ops {
            row.check_op(start_op.saturating_add(op))?;
        }
        row.finish()
    }

    fn rle<T: Cell<'a>>(&self, column: usize) -> Rle<'a, T> {
        Rle { rest: Reader::new(self.data[column]), left: 0, run: Run::Null, column: KNOWN[column].1 }
    }
}

/// A value that a run-length encoded column can hold.
trait Cell<'a>: Copy {
    fn read(r: &mut Reader<'a>, column: &'static str) -> Result<Self, DecodeError>;
}

impl<'a> Cell<'a> for u64 {
    fn read(r: &mut Reader<'a>, column: &'static str) -> Result<Self, DecodeError> {
        r.varint(column)
    }
}

impl<'a> Cell<'a> for i64 {
    fn read(r: &mut Reader<'a>, column: &'static str) -> Result<Self, DecodeError> {
        read_i64(r, column)
    }
}

impl<'a> Cell<'a> for &'a str {
    fn read(r: &mut Reader<'a>, column: &'static str) -> Result<Self, DecodeError> {
        r.str(r.remaining(), column)
    }
}

/// Walks a run-length encoded column.
struct Rle<'a, T> {
    rest: Reader<'a>,
    /// Rows left in the current run.
    left: u64,
    run: Run<T>,
    column: &'static str,
}

#[derive(Clone, Copy)]
enum Run<T> {
    Null,
    Value(T),
    Literal,
}

impl<'a, T: Cell<'a>> Rle<'a, T> {
    /// Opens the next run; false at the end of the column. Runs of no rows are refused: they are a second spelling.
    fn next_run(&mut self) -> Result<bool, ColumnError> {
        if self.rest.remaining() == 0 {
            return Ok(false);
        }
        let count = read_i64(&mut self.rest, self.column)?;
        (self.left, self.run) = match count {
            0 => (self.rest.varint(self.column)?, Run::Null),
            1.. => (count.unsigned_abs(), Run::Value(T::read(&mut self.rest, self.column)?)),
            _ => (count.unsigned_abs(), Run::Literal),
        };
        if self.left == 0 { Err(ColumnError::Malformed { column: self.column }) } else { Ok(true) }
    }

    /// Steps over the rest of the current run. A literal run takes a byte a row at least, so this ends with the bytes.
    fn skip_run(&mut self) -> Result<(), ColumnError> {
        if matches!(self.run, Run::Literal) {
            for _ in 0..self.left {
                T::read(&mut self.rest, self.column)?;
            }
        }
        self.left = 0;
        Ok(())
    }

    /// The next row; `None` for null and past the end of the column.
    fn next(&mut self) -> Result<Option<T>, ColumnError> {
        if self.left == 0 && !self.next_run()? {
            return Ok(None);
        }
        self.left -= 1;
        match self.run {
            Run::Null => Ok(None),
            Run::Value(value) => Ok(Some(value)),
            Run::Literal => Ok(Some(T::read(&mut self.rest, self.column)?)),
        }
    }

    /// The next row of a column that has no null.
    fn need(&mut self) -> Result<T, ColumnError> {
        self.next()?.ok_or(ColumnError::Rows { column: self.column })
    }

    fn finish(self) -> Result<(), ColumnError> {
        if self.left > 0 || self.rest.remaining() > 0 { Err(ColumnError::Rows { column: self.column }) } else { Ok(()) }
    }
}

/// A run-length encoded column of differences.
struct Delta<'a> {
    rle: Rle<'a, i64>,
    value: i64,
}

impl Delta<'_> {
    fn next(&mut self) -> Result<Option<u64>, ColumnError> {
        let column = self.rle.column;
        let Some(delta) = self.rle.next()? else { return Ok(None) };
        self.value = self.value.checked_add(delta).ok_or(ColumnError::Malformed { column })?;
        u64::try_from(self.value).map(Some).map_err(|_| ColumnError::Reference { column })
    }
}

/// A column of run lengths of false and true in turn, beginning with false.
struct Booleans<'a> {
    rest: Reader<'a>,
    left: u64,
    value: bool,
    column: &'static str,
}

impl<'a> Booleans<'a> {
    fn new(columns: &Columns<'a>, column: usize) -> Self {
        Self { rest: Reader::new(columns.data[column]), left: 0, value: true, column: KNOWN[column].1 }
    }

    fn next(&mut self) -> Result<Option<bool>, ColumnError> {
        let mut first = self.value && self.left == 0;
        while self.left == 0 {
            if self.rest.remaining() == 0 {
                return Ok(None);
            }
            self.left = self.rest.varint(self.column)?;
            self.value = !self.value;
            // Only the very first run, of false, may be empty.
            if self.left == 0 && !std::mem::take(&mut first) {
                return Err(ColumnError::Malformed { column: self.column });
            }
        }
        self.left -= 1;
        Ok(Some(self.value))
    }

    fn finish(self) -> Result<(), ColumnError> {
        if self.left > 0 || self.rest.remaining() > 0 { Err(ColumnError::Rows { column: self.column }) } else { Ok(()) }
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
    actors: u64,
    preds: u64,
    names: u64,
    max_preds: u64,
    max_names: u64,
}

impl<'a> RowReader<'a> {
    fn new(columns: &Columns<'a>, actors: u64, limits: &ChunkLimits) -> Self {
        Self {
            obj_actor: columns.rle(OBJ_ACTOR),
            obj_ctr: columns.rle(OBJ_CTR),
            key_actor: columns.rle(KEY_ACTOR),
            key_ctr: Delta { rle: columns.rle(KEY_CTR), value: 0 },
            key_str: columns.rle(KEY_STR),
            insert: Booleans::new(columns, INSERT),
            action: columns.rle(ACTION),
            value_meta: columns.rle(VALUE_META),
            value: Reader::new(columns.data[VALUE]),
            pred_count: columns.rle(PRED_COUNT),
            pred_actor: columns.rle(PRED_ACTOR),
            pred_ctr: Delta { rle: columns.rle(PRED_CTR), value: 0 },
            expand: Booleans::new(columns, EXPAND),
            mark_name: columns.rle(MARK_NAME),
            actors,
            preds: 0,
            names: 0,
            max_preds: limits.max_ops,
            max_names: limits.max_names,
        }
    }

    /// Checks one op, whose own counter is `own`.
    fn check_op(&mut self, own: u64) -> Result<(), ColumnError> {
        self.check_object(own)?;
        let insert = self.insert.next()?.ok_or(ColumnError::Rows { column: KNOWN[INSERT].1 })?;
        self.check_key(own, insert)?;
        let action = self.action.need()?;
        let numeric = self.check_value()?;
        // 0 to 7 are all the actions there are; 5 is an increment.
        if action > 7 || (action == 5 && !numeric) {
            return Err(ColumnError::Meaningless);
        }
        self.check_preds(own)?;
        self.expand.next()?;
        if let Some(name) = self.mark_name.next()? {
            self.count_name(name)?;
        }
        Ok(())
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

    fn check_preds(&mut self, own: u64) -> Result<(), ColumnError> {
        let count = self.pred_count.need()?;
        self.preds = self.preds.saturating_add(count);
        if self.preds > self.max_preds {
            return Err(ColumnError::TooMany { what: "predecessors", max: self.max_preds });
        }
        for _ in 0..count {
            let actor = self.pred_actor.need()?;
            let counter = self.pred_ctr.next()?.ok_or(ColumnError::Rows { column: KNOWN[PRED_CTR].1 })?;
            self.check_id(actor, counter, own, PRED_CTR)?;
        }
        Ok(())
    }

    /// An op can only name ops that were there before it, and counters grow along every dependency.
    fn check_id(&self, actor: u64, counter: u64, own: u64, column: usize) -> Result<(), ColumnError> {
        if actor < self.actors && (1..own).contains(&counter) {
            Ok(())
        } else {
            Err(ColumnError::Reference { column: KNOWN[column].1 })
        }
    }

    /// Checks the value of one op and tells whether it is an integer.
    fn check_value(&mut self) -> Result<bool, ColumnError> {
        let meta = self.value_meta.need()?;
        let bytes = self.value.bytes_of(meta >> 4)?;
        let mut r = Reader::new(bytes);
        match meta & 0xf {
            // Null, false and true have no bytes.
            0..=2 => {}
            3 => drop(r.varint("value")?),
            // Integer, counter, timestamp.
            4 | 8 | 9 => drop(read_i64(&mut r, "value")?),
            5 => drop(r.array::<8>("value")?),
            6 => drop(std::str::from_utf8(r.rest()).map_err(|_| ColumnError::Malformed { column: "value" })?),
            // Bytes, and types of later versions, which are kept as they are.
            _ => drop(r.rest()),
        }
        r.finish()?;
        Ok(matches!(meta & 0xf, 3 | 4))
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
            delta.rle.finish()?;
        }
        for names in [self.key_str, self.mark_name] {
            names.finish()?;
        }
        for booleans in [self.insert, self.expand] {
            booleans.finish()?;
        }
        if self.value.remaining() > 0 { Err(ColumnError::Rows { column: KNOWN[VALUE].1 }) } else { Ok(()) }
    }
}

/// Reads lengths that come from the metadata column.
trait BytesOf<'a> {
    fn bytes_of(&mut self, len: u64) -> Result<&'a [u8], ColumnError>;
}

impl<'a> BytesOf<'a> for Reader<'a> {
    fn bytes_of(&mut self, len: u64) -> Result<&'a [u8], ColumnError> {
        let len = usize::try_from(len).map_err(|_| ColumnError::Malformed { column: "value" })?;
        Ok(self.take(len, "value")?)
    }
}

/// A signed LEB128 integer in minimal form.
pub(super) fn read_i64(r: &mut Reader<'_>, field: &'static str) -> Result<i64, DecodeError> {
    let mut value = 0i64;
    let mut previous = None;
    for shift in (0..64).step_by(7) {
        let byte = r.u8(field)?;
        // The tenth byte has room for the sign bit alone.
        if shift == 63 && byte != 0 && byte != 0x7f {
            return Err(DecodeError::Invalid { field });
        }
        value |= i64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let sign = byte & 0x40 != 0;
            // A last byte that only repeats the sign would be a second spelling of a shorter number.
            let repeats = previous.is_some_and(|p: u8| matches!((byte, p & 0x40 != 0), (0, false) | (0x7f, true)));
            if repeats {
                return Err(DecodeError::Invalid { field });
            }
            return Ok(if sign && shift < 57 { value | (-1 << (shift + 7)) } else { value });
        }
        previous = Some(byte);
    }
    Err(DecodeError::Invalid { field })
}
