//! The encodings of columns: runs of values, of differences, and of booleans.
//!
//! A column is a list of runs: `n > 0` and a value that stands for n rows, `n < 0` and that many values, `0` and a
//! count of null rows; a column of differences has those of consecutive values; a boolean column is run lengths of
//! false and true in turn. All numbers are LEB128. Readers here take the longest runs only, and give rows one by one.

use super::ColumnError;
use crate::wire::{DecodeError, Reader};

/// A value that a run-length encoded column can hold.
pub(super) trait Cell<'a>: Copy + PartialEq {
    /// Reads one value.
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

/// Walks a run-length encoded column. A column of no bytes has as many nulls as one likes.
pub(super) struct Rle<'a, T> {
    rest: Reader<'a>,
    empty: bool,
    /// Rows left in the current run.
    pub(super) left: u64,
    run: Run<T>,
    /// The row before, unless it is null.
    last: Option<T>,
    only_nulls: bool,
    pub(super) column: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Run<T> {
    Start,
    Null,
    Value(T),
    Literal,
}

impl<'a, T: Cell<'a>> Rle<'a, T> {
    pub(super) fn new(data: &'a [u8], column: &'static str) -> Self {
        let (rest, empty) = (Reader::new(data), data.is_empty());
        Self { rest, empty, left: 0, run: Run::Start, last: None, only_nulls: true, column }
    }

    /// Opens the next run; false at the end of the column. A run that could have been part of the one before is a
    /// second spelling.
    pub(super) fn next_run(&mut self) -> Result<bool, ColumnError> {
        if self.rest.remaining() == 0 {
            return Ok(false);
        }
        let malformed = Err(ColumnError::Malformed { column: self.column });
        match read_i64(&mut self.rest, self.column)? {
            0 => {
                self.left = self.rest.varint(self.column)?;
                if self.left == 0 || self.run == Run::Null {
                    return malformed;
                }
                (self.run, self.last) = (Run::Null, None);
            }
            count @ 1.. => {
                let value = T::read(&mut self.rest, self.column)?;
                if count == 1 || self.last == Some(value) {
                    return malformed;
                }
                self.left = count.unsigned_abs();
                (self.run, self.last, self.only_nulls) = (Run::Value(value), Some(value), false);
            }
            count => {
                if self.run == Run::Literal {
                    return malformed;
                }
                (self.left, self.run, self.only_nulls) = (count.unsigned_abs(), Run::Literal, false);
            }
        }
        Ok(true)
    }

    /// Steps over the rest of the current run. A literal run takes a byte a row at least, so this ends with the bytes.
    pub(super) fn skip_run(&mut self) -> Result<(), ColumnError> {
        while self.run == Run::Literal && self.left > 0 {
            self.next()?;
        }
        self.left = 0;
        Ok(())
    }

    /// The next row; `None` for null.
    pub(super) fn next(&mut self) -> Result<Option<T>, ColumnError> {
        if self.empty {
            return Ok(None);
        }
        if self.left == 0 && !self.next_run()? {
            return Err(ColumnError::Rows { column: self.column });
        }
        self.left -= 1;
        match self.run {
            Run::Start | Run::Null => Ok(None),
            Run::Value(value) => Ok(Some(value)),
            Run::Literal => {
                let value = T::read(&mut self.rest, self.column)?;
                if self.last.replace(value) == Some(value) {
                    return Err(ColumnError::Malformed { column: self.column });
                }
                Ok(Some(value))
            }
        }
    }

    /// The next row of a column that has no null.
    pub(super) fn need(&mut self) -> Result<T, ColumnError> {
        self.next()?.ok_or(ColumnError::Rows { column: self.column })
    }

    pub(super) fn finish(self) -> Result<(), ColumnError> {
        if self.left > 0 || self.rest.remaining() > 0 {
            Err(ColumnError::Rows { column: self.column })
        } else if self.only_nulls && !self.empty {
            Err(ColumnError::Malformed { column: self.column })
        } else {
            Ok(())
        }
    }
}

/// A run-length encoded column of differences.
pub(super) struct Delta<'a> {
    rle: Rle<'a, i64>,
    value: i64,
}

impl<'a> Delta<'a> {
    pub(super) fn new(data: &'a [u8], column: &'static str) -> Self {
        Self { rle: Rle::new(data, column), value: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Option<u64>, ColumnError> {
        let column = self.rle.column;
        let Some(delta) = self.rle.next()? else { return Ok(None) };
        self.value = self.value.checked_add(delta).ok_or(ColumnError::Malformed { column })?;
        u64::try_from(self.value).map(Some).map_err(|_| ColumnError::Reference { column })
    }

    pub(super) fn finish(self) -> Result<(), ColumnError> {
        self.rle.finish()
    }
}

/// A column of run lengths of false and true in turn, beginning with false. A column of no bytes is all false.
pub(super) struct Booleans<'a> {
    rest: Reader<'a>,
    pub(super) empty: bool,
    left: u64,
    runs: u64,
    column: &'static str,
}

impl<'a> Booleans<'a> {
    pub(super) fn new(data: &'a [u8], column: &'static str) -> Self {
        Self { rest: Reader::new(data), empty: data.is_empty(), left: 0, runs: 0, column }
    }

    pub(super) fn next(&mut self) -> Result<bool, ColumnError> {
        if self.empty {
            return Ok(false);
        }
        while self.left == 0 {
            if self.rest.remaining() == 0 {
                return Err(ColumnError::Rows { column: self.column });
            }
            self.left = self.rest.varint(self.column)?;
            self.runs += 1;
            // Only the very first run, of false, may be empty.
            if self.left == 0 && self.runs > 1 {
                return Err(ColumnError::Malformed { column: self.column });
            }
        }
        self.left -= 1;
        Ok(self.runs.is_multiple_of(2))
    }

    pub(super) fn finish(self) -> Result<(), ColumnError> {
        if self.left > 0 || self.rest.remaining() > 0 { Err(ColumnError::Rows { column: self.column }) } else { Ok(()) }
    }
}

/// A signed LEB128 integer in minimal form.
pub(in crate::document::chunk) fn read_i64(r: &mut Reader<'_>, field: &'static str) -> Result<i64, DecodeError> {
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
