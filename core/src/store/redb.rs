//! The native store: one [redb](https://docs.rs/redb) file in a data directory.
//!
//! redb is a copy-on-write B-tree with two commit slots: a commit writes new pages, syncs, and flips a slot, so that a
//! crash at any point leaves the previous commit whole. A small write becomes durable in a [`journal`] beside the file and
//! waits in memory ([`fresh`]) for the commit that takes it in; a large one, and the first few of an opening, are such commits
//! themselves.
//!
//! Invariants:
//! - one process a directory, by an advisory lock beside redb's own;
//! - redb's page cache has a small bound ([`RedbOptions::cache_bytes`]), because its default of 1 GiB counts as
//!   resident memory; the system's page cache does the work;
//! - redb latches after an I/O error. The database object is dropped then and opened again by the next call, so a disk
//!   that has room again needs no restart;
//! - a panic inside redb on damaged pages is contained here and becomes [`StorageFailure::Corrupt`].

mod fresh;
pub(crate) mod journal;

use std::cell::RefCell;
use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    WriteTransaction, backends::FileBackend,
};

use self::fresh::Fresh;
use self::journal::Journal;
pub use super::directory::OpenError;
use super::directory::{Directory, is_full, open_error};
use super::{Backend, Batch, EPOCH_KEY, FORMAT, FORMAT_KEY, MAX_READ_BYTES, format_row, read_too_large};
use crate::io::{ReadOp, Rows, StorageFailure, Table, WriteOp};
use crate::wire::Reader;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Rw<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

const fn definition(table: Table) -> Definition {
    TableDefinition::new(table.name())
}

/// How a store file is opened.
#[derive(Debug, Clone)]
pub struct RedbOptions {
    cache_bytes: usize,
    quick_repair: bool,
    verify: bool,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_bytes: 16 << 20, quick_repair: false, verify: false }
    }
}

impl RedbOptions {
    /// The defaults of each setter.
    pub fn new() -> Self {
        Self::default()
    }

    /// redb's page cache. Default 16 MiB; worst-case resident memory is this much. A larger one saves system calls where
    /// the same pages are read again and again; a smaller one costs them. At least 1 MiB is used.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes.max(1 << 20);
        self
    }

    /// Saves redb's allocator state with every commit: an open after a crash no longer reads the whole file, and every
    /// commit costs a second sync. Default off.
    pub fn quick_repair(mut self, on: bool) -> Self {
        self.quick_repair = on;
        self
    }

    /// Verifies the checksum of every page before the first use. Reads the whole file. Default off.
    pub fn verify(mut self, on: bool) -> Self {
        self.verify = on;
        self
    }
}

/// Page cache for reading one row.
const PEEK_CACHE: usize = 1 << 20;

/// What runs in one transaction with the format number: brings rows of `from` to `from + 1`.
struct Migration {
    from: u64,
    run: fn(&WriteTransaction) -> Result<(), redb::Error>,
}

/// One entry for each raise of [`FORMAT`], oldest first.
const MIGRATIONS: &[Migration] = &[];

/// A [`Backend`] over one redb file. Dropping it closes the file cleanly.
#[derive(Debug)]
pub struct Redb {
    options: RedbOptions,
    /// `None` after a failure that redb wants to be reopened for.
    open: RefCell<Option<Open>>,
    place: Place,
}

/// An open file, and the journal before it once there is one.
#[derive(Debug)]
struct Open {
    database: Database,
    journal: Option<Journal>,
    /// What the journal holds and the file does not; empty without a journal.
    fresh: Fresh,
    /// Durable commits since the opening, or since the journal was last given up.
    commits: u32,
}

#[derive(Debug)]
enum Place {
    Directory(Directory),
    /// Simulated devices of a test; they cannot be opened again.
    #[cfg(test)]
    Device(tests::Device),
}

impl Place {
    fn directory(&self) -> Option<&Directory> {
        match self {
            Place::Directory(directory) => Some(directory),
            #[cfg(test)]
            Place::Device(_) => None,
        }
    }

    /// A new journal: whole, zeroed and durable. Takes the place of one that is void.
    fn new_journal(&self) -> io::Result<Box<dyn journal::Device>> {
        match self {
            Place::Directory(directory) => Ok(Box::new(directory.new_journal(journal::JOURNAL_BYTES)?)),
            #[cfg(test)]
            Place::Device(device) => Ok(Box::new(device.new_journal()?)),
        }
    }

    /// The journal that an earlier opening left.
    fn old_journal(&self) -> io::Result<Option<Box<dyn journal::Device>>> {
        match self {
            Place::Directory(directory) => Ok(directory.old_journal()?.map(|file| Box::new(file) as _)),
            #[cfg(test)]
            Place::Device(device) => Ok(Some(Box::new(device.clone()))),
        }
    }
}

impl Redb {
    /// Opens the store in a data directory with default options, making both if need be.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(directory, RedbOptions::default())
    }

    /// Opens the store in a data directory. After a crash redb reads the file once to rebuild what is free.
    pub fn open_with(directory: impl AsRef<Path>, options: RedbOptions) -> Result<Self, OpenError> {
        let mut directory = Directory::open(directory.as_ref())?;
        let path = directory.store_path();
        if directory.has_store() {
            refuse_newer(&path)?;
        }
        directory.take_up()?;
        if !directory.has_store() {
            let new = open_file(directory.new_file()?, &options).map_err(|e| refusal(&path, e))?;
            prepare(&new, MIGRATIONS, &path)?;
            contained(|| new.close().map_err(|e| failure(e.into()))).map_err(|e| refusal(&path, e))?;
            directory.adopt_new_file()?;
        }
        let database = open_file(directory.store_file()?, &options).map_err(|e| refusal(&path, e))?;
        Self::start(database, options, Place::Directory(directory), &path)
    }

    /// Takes in what the journal of a crashed process holds and brings the rows to this format.
    fn start(database: Database, options: RedbOptions, place: Place, path: &Path) -> Result<Self, OpenError> {
        refuse_newer_rows(&database, path)?;
        let mut open = contained(|| Open::take_up(database, &place).map_err(failure)).map_err(|e| refusal(path, e))?;
        if !is_prepared(&open.database) {
            contained(|| open.settle().map_err(failure)).map_err(|e| refusal(path, e))?;
            prepare(&open.database, MIGRATIONS, path)?;
        }
        Ok(Self { options, open: RefCell::new(Some(open)), place })
    }

    /// Opens a store on a simulated device.
    #[cfg(test)]
    fn on_device(device: tests::Device, options: RedbOptions) -> Result<Self, OpenError> {
        let path = Path::new("device");
        let database = open_device(device.clone(), &options).map_err(|e| refusal(path, e))?;
        Self::start(database, options, Place::Device(device), path)
    }

    /// Runs `work` on the open database, opening it again first if an earlier failure closed it. Drops the database
    /// after a failure: redb latches after an I/O error.
    fn with<T>(&self, work: impl FnOnce(&mut Open) -> Result<T, redb::Error>) -> Result<T, StorageFailure> {
        let mut slot = self.open.borrow_mut();
        if slot.is_none() {
            *slot = Some(self.reopen()?);
        }
        let open = slot.as_mut().expect("opened above");
        // Stays set if `work` panics: the object's state is unknown then. A write that failed half way has left rows in memory
        // that the journal does not have.
        let mut spoiled = true;
        let result = contained(|| {
            let result = work(open);
            spoiled = result.is_err();
            result.map_err(failure)
        });
        if spoiled {
            let open = slot.take();
            // Closing meets the same damage again, perhaps.
            let _ = contained(|| {
                drop(open);
                Ok(())
            });
        }
        result
    }

    fn rewrite(&mut self) -> Result<(), StorageFailure> {
        let options = self.options.clone();
        let Some(directory) = self.place.directory() else { return Ok(()) };
        let copied = self.with(|open| {
            let file = directory.new_file().map_err(|e| redb::Error::Io(std::io::Error::other(e)))?;
            let mut builder = Database::builder();
            let mut new = builder.set_cache_size(options.cache_bytes).create_with_backend(FileBackend::new(file)?)?;
            open.settle()?;
            copy(&open.database, &new)?;
            while new.compact()? {}
            Ok(new.close()?)
        });
        if let Err(failure) = copied {
            directory.discard_new_file();
            return Err(failure);
        }
        // Closed first, so that no late write can reach the old file's name.
        let old = self.open.take();
        let _ = contained(|| {
            drop(old);
            Ok(())
        });
        directory.adopt_new_file().map_err(|e| StorageFailure::Io { detail: e.to_string() })?;
        directory.remove_journal();
        Ok(())
    }

    fn reopen(&self) -> Result<Open, StorageFailure> {
        let Some(directory) = self.place.directory() else {
            return Err(StorageFailure::Io { detail: "the simulated device has failed".into() });
        };
        let file = directory.store_file().map_err(|e| match e {
            OpenError::Full { .. } => StorageFailure::Full,
            OpenError::Corrupt { detail } => StorageFailure::Corrupt { detail },
            other => StorageFailure::Io { detail: other.to_string() },
        })?;
        let database = open_file(file, &self.options)?;
        contained(|| Open::take_up(database, &self.place).map_err(failure))
    }
}

impl Open {
    /// An open file, and what the journal of a process holds that did not close it. Writes nothing to the file, so that a
    /// store on a full disk opens and can be read.
    fn take_up(database: Database, place: &Place) -> Result<Self, redb::Error> {
        let mut open = Self { database, journal: None, fresh: Fresh::default(), commits: 0 };
        let Some(generation) = journal::generation_of(&open.database)? else { return Ok(open) };
        let Some(mut device) = place.old_journal()? else {
            return Err(redb::Error::Corrupted(format!(
                "{} is missing, which holds the newest writes; put it back beside the store, or, if it is lost for good, \
                 an empty file of mode 0600 in its place gives them up",
                Directory::JOURNAL
            )));
        };
        let bytes = device.load()?;
        let found = journal::records(&bytes, &generation).map_err(redb::Error::Corrupted)?;
        for (table, key, value) in found.groups.iter().flatten() {
            open.fresh.put((*table, key, value.as_deref()));
        }
        open.journal = Some(Journal::resume(device, generation, &found)?);
        Ok(open)
    }

    /// Carries out a group: in the journal if it fits there, in the file otherwise.
    fn write(
        &mut self,
        batches: &[Batch<'_>],
        quick_repair: bool,
        place: &Place,
    ) -> Result<Vec<Result<(), StorageFailure>>, redb::Error> {
        if self.journal.is_none() && journal::is_worth(self.commits) {
            // Without room for a journal there may be room for the write. Tried again after as many more.
            self.journal = place.new_journal().ok().map(Journal::new);
            self.commits = 0;
        }
        let begun = self.journal.as_ref().is_some_and(Journal::is_begun);
        if begun && is_small(batches) {
            return self.write_journal(batches, quick_repair);
        }
        let txn = self.database.begin_write()?;
        let answers = {
            let mut tables = OpenTables::new(&txn);
            tables.apply_fresh(&self.fresh)?;
            batches.iter().map(|(ops, epoch)| tables.apply(ops, *epoch)).collect::<Result<Vec<_>, _>>()?
        };
        if answers.iter().any(Result::is_ok) {
            self.checkpoint(txn, quick_repair)?;
        } else {
            txn.abort()?;
        }
        Ok(answers)
    }

    /// Rows go to memory first: a journal that fails takes all of this object with it.
    fn write_journal(
        &mut self,
        batches: &[Batch<'_>],
        quick_repair: bool,
    ) -> Result<Vec<Result<(), StorageFailure>>, redb::Error> {
        let mut answers = Vec::with_capacity(batches.len());
        for (ops, epoch) in batches {
            answers.push(match epoch {
                Some(expected) if !self.is_epoch(expected)? => Err(StorageFailure::HostEpochChanged),
                _ => {
                    ops.iter().filter_map(fresh::row).for_each(|row| self.fresh.put(row));
                    Ok(())
                }
            });
        }
        let done = batches.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()).flat_map(|((ops, _), _)| *ops);
        let record = journal::encode(done.filter_map(fresh::row));
        let kept = match &mut self.journal {
            Some(journal) if !record.is_empty() => journal.append(&record)?,
            _ => true,
        };
        if !kept {
            let txn = self.database.begin_write()?;
            OpenTables::new(&txn).apply_fresh(&self.fresh)?;
            self.checkpoint(txn, quick_repair)?;
        }
        Ok(answers)
    }

    fn is_epoch(&self, expected: &[u8]) -> Result<bool, redb::Error> {
        if let Some(fresh) = self.fresh.get(Table::Meta, EPOCH_KEY) {
            return Ok(fresh == Some(expected));
        }
        let held = self.database.begin_read()?.open_table(definition(Table::Meta))?.get(EPOCH_KEY)?;
        Ok(held.is_some_and(|held| held.value() == expected))
    }

    /// Commits a transaction that has all fresh rows.
    fn checkpoint(&mut self, mut txn: WriteTransaction, quick_repair: bool) -> Result<(), redb::Error> {
        match &mut self.journal {
            Some(journal) => journal.turn(&txn)?,
            None => self.commits += 1,
        }
        txn.set_durability(Durability::Immediate)?;
        txn.set_quick_repair(quick_repair);
        txn.commit()?;
        if let Some(journal) = &mut self.journal {
            journal.turned();
        }
        self.fresh.clear();
        Ok(())
    }

    /// Brings everything into the file, which needs no journal from there on.
    fn settle(&mut self) -> Result<(), redb::Error> {
        if self.journal.is_none() {
            return Ok(());
        }
        let mut txn = self.database.begin_write()?;
        OpenTables::new(&txn).apply_fresh(&self.fresh)?;
        journal::retire(&txn)?;
        txn.set_durability(Durability::Immediate)?;
        txn.commit()?;
        (self.journal, self.commits) = (None, 0);
        self.fresh.clear();
        Ok(())
    }
}

/// Whether a group is worth a place in the journal, and touches rows that it names.
fn is_small(batches: &[Batch<'_>]) -> bool {
    let mut bytes = 0;
    batches.iter().flat_map(|(ops, _)| *ops).all(|op| match fresh::row(op) {
        Some((_, key, value)) => {
            bytes += key.len() + value.map_or(0, <[u8]>::len);
            bytes <= journal::MAX_RECORD
        }
        None => false,
    })
}

impl Backend for Redb {
    fn identity(&self) -> Vec<u8> {
        self.place.directory().map_or_else(|| vec![0; 32], Directory::identity)
    }

    fn write(&mut self, batches: &[Batch<'_>]) -> Vec<Result<(), StorageFailure>> {
        let quick_repair = self.options.quick_repair;
        match self.with(|open| open.write(batches, quick_repair, &self.place)) {
            Ok(answers) => answers,
            Err(failure) => batches.iter().map(|_| Err(failure.clone())).collect(),
        }
    }

    fn read(&self, ops: &[ReadOp]) -> Result<Vec<Rows>, StorageFailure> {
        self.with(|open| {
            let txn = open.database.begin_read()?;
            let mut budget = MAX_READ_BYTES;
            let rows = ops
                .iter()
                .map(|op| scan(&txn, &open.fresh, op, &mut budget))
                .collect::<Result<Vec<_>, redb::Error>>()?;
            Ok((budget > 0).then_some(rows))
        })?
        .ok_or_else(read_too_large)
    }

    /// Writes all rows into a new file in key order and puts it in the place of the old one. Rows that came in random
    /// order leave a third of their pages empty; in key order redb fills them (268 against 189 bytes for 174 of data,
    /// measured). Needs room for both files, and takes about 10 s for a gigabyte. A crash leaves the old file.
    fn compact(&mut self) -> Result<bool, StorageFailure> {
        let before = self.allocated_bytes();
        self.rewrite()?;
        Ok(self.allocated_bytes() < before)
    }

    fn check(&mut self) -> Result<(), StorageFailure> {
        // `false`: something was wrong and has been repaired; redb does not say what.
        let checked = self.with(|open| {
            open.settle()?;
            Ok(open.database.check_integrity()?)
        });
        match checked? {
            true => Ok(()),
            false => Err(StorageFailure::Corrupt { detail: "page checksums or free lists did not match".into() }),
        }
    }

    #[cfg(unix)]
    fn allocated_bytes(&self) -> u64 {
        self.place.directory().map_or(0, Directory::allocated_bytes)
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let closed = contained(|| {
            open.settle().map_err(failure)?;
            open.database.close().map_err(|e| failure(e.into()))
        });
        if closed.is_ok()
            && let Some(directory) = self.place.directory()
        {
            directory.remove_journal();
            directory.record_life();
        }
    }
}

/// Refuses a store of a newer format before anything touches it: opening for writing would mark the file. Whatever else
/// may be wrong is left for that opening to find.
fn refuse_newer(path: &Path) -> Result<(), OpenError> {
    let peek = || {
        let database =
            Database::builder().set_cache_size(PEEK_CACHE).open_read_only(path).map_err(|e| failure(e.into()))?;
        format_of(&database).map_err(failure)
    };
    match contained(peek) {
        Ok(Some(found)) if found > FORMAT => Err(OpenError::NewerFormat { found, supported: FORMAT }),
        _ => Ok(()),
    }
}

fn open_file(file: File, options: &RedbOptions) -> Result<Database, StorageFailure> {
    open_device(FileBackend::new(file).map_err(|e| failure(e.into()))?, options)
}

fn open_device(device: impl StorageBackend, options: &RedbOptions) -> Result<Database, StorageFailure> {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes).set_check_integrity_on_open(options.verify);
    contained(|| builder.create_with_backend(device).map_err(|e| failure(e.into())))
}

/// Refuses rows of a newer format, which an unclean close kept [`refuse_newer`] from reading.
fn refuse_newer_rows(database: &Database, path: &Path) -> Result<(), OpenError> {
    match contained(|| format_of(database).map_err(failure)).map_err(|e| refusal(path, e))? {
        Some(found) if found > FORMAT => Err(OpenError::NewerFormat { found, supported: FORMAT }),
        _ => Ok(()),
    }
}

/// Makes the tables of a new store; checks the format of an old one and migrates it, all in one transaction.
fn prepare(database: &Database, migrations: &[Migration], path: &Path) -> Result<(), OpenError> {
    let found = contained(|| format_of(database).map_err(failure)).map_err(|e| refusal(path, e))?;
    match found {
        Some(FORMAT) if has_all_tables(database) => return Ok(()),
        Some(found) if found > FORMAT => return Err(OpenError::NewerFormat { found, supported: FORMAT }),
        _ => {}
    }
    let write = || -> Result<(), redb::Error> {
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        for table in Table::ALL {
            txn.open_table(definition(table))?;
        }
        for migration in migrations.iter().filter(|m| found.is_some_and(|found| m.from >= found)) {
            (migration.run)(&txn)?;
        }
        txn.open_table(definition(Table::Meta))?.insert(FORMAT_KEY, format_row(FORMAT).as_slice())?;
        Ok(txn.commit()?)
    };
    contained(|| write().map_err(failure)).map_err(|source| match found {
        Some(from) => OpenError::Migration { from, source },
        None => refusal(path, source),
    })
}

/// Whether there is nothing to make and nothing to migrate. Tables that came without a change of any row are made when they
/// are missing.
fn is_prepared(database: &Database) -> bool {
    matches!(contained(|| format_of(database).map_err(failure)), Ok(Some(FORMAT))) && has_all_tables(database)
}

fn has_all_tables(database: &Database) -> bool {
    let Ok(txn) = database.begin_read() else { return false };
    Table::ALL.iter().all(|table| txn.open_table(definition(*table)).is_ok())
}

/// The store's format; `None` if the file is new.
fn format_of(database: &impl ReadableDatabase) -> Result<Option<u64>, redb::Error> {
    let txn = database.begin_read()?;
    let meta = match txn.open_table(definition(Table::Meta)) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let bytes = meta.get(FORMAT_KEY)?.map(|guard| guard.value().to_vec());
    let Some(bytes) = bytes else { return Ok(None) };
    let mut r = Reader::new(&bytes);
    match r.varint("format").and_then(|format| r.finish().map(|()| format)) {
        Ok(format) => Ok(Some(format)),
        Err(e) => Err(redb::Error::Corrupted(format!("the format number: {e}"))),
    }
}

/// Bytes of one transaction of [`copy`].
const COPY_BYTES: usize = 32 << 20;

/// Copies every table in key order.
fn copy(from: &Database, to: &Database) -> Result<(), redb::Error> {
    let source = from.begin_read()?;
    for table in Table::ALL {
        let mut rows = source.open_table(definition(table))?.range::<&[u8]>(..)?.peekable();
        // Once at least, so that empty tables exist.
        loop {
            let txn = to.begin_write()?;
            {
                let mut target = txn.open_table(definition(table))?;
                let mut bytes = 0;
                while bytes < COPY_BYTES
                    && let Some(row) = rows.next()
                {
                    let (key, value) = row?;
                    bytes += key.value().len() + value.value().len();
                    target.insert(key.value(), value.value())?;
                }
            }
            txn.commit()?;
            if rows.peek().is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// The tables of one transaction, opened when first used: each open costs a lookup in redb's root.
struct OpenTables<'txn> {
    txn: &'txn WriteTransaction,
    open: [Option<Rw<'txn>>; Table::ALL.len()],
}

impl<'txn> OpenTables<'txn> {
    fn new(txn: &'txn WriteTransaction) -> Self {
        Self { txn, open: Default::default() }
    }

    fn table(&mut self, table: Table) -> Result<&mut Rw<'txn>, redb::Error> {
        let slot = &mut self.open[table as usize];
        if slot.is_none() {
            *slot = Some(self.txn.open_table(definition(table))?);
        }
        Ok(slot.as_mut().expect("filled above"))
    }

    fn apply_fresh(&mut self, fresh: &Fresh) -> Result<(), redb::Error> {
        for (table, key, value) in fresh.rows() {
            let table = self.table(table)?;
            match value {
                Some(value) => drop(table.insert(key, value)?),
                None => drop(table.remove(key)?),
            }
        }
        Ok(())
    }

    fn apply(&mut self, ops: &[WriteOp], epoch: Option<&[u8]>) -> Result<Result<(), StorageFailure>, redb::Error> {
        if let Some(expected) = epoch {
            let held = self.table(Table::Meta)?.get(EPOCH_KEY)?;
            if held.is_none_or(|held| held.value() != expected) {
                return Ok(Err(StorageFailure::HostEpochChanged));
            }
        }
        for op in ops {
            match op {
                WriteOp::Put(table, key, value) => {
                    self.table(*table)?.insert(key.as_slice(), value.as_slice())?;
                }
                WriteOp::Delete(table, key) => {
                    self.table(*table)?.remove(key.as_slice())?;
                }
                WriteOp::DeleteRange(table, from, to) if from < to => {
                    self.table(*table)?.retain_in(from.as_slice()..to.as_slice(), |_, _| false)?;
                }
                WriteOp::DeleteRange(..) => {}
            }
        }
        Ok(Ok(()))
    }
}

/// Carries out one read, taking its bytes off `budget`, which ends at 0 when it did not suffice.
fn scan(txn: &ReadTransaction, fresh: &Fresh, op: &ReadOp, budget: &mut usize) -> Result<Rows, redb::Error> {
    let mut rows = Rows::default();
    let mut push = |key: &[u8], value: &[u8]| {
        *budget = budget.saturating_sub(key.len() + value.len());
        if *budget > 0 {
            rows.push(key, value);
        }
        *budget > 0
    };
    match op {
        ReadOp::Get(table, key) => match fresh.get(*table, key) {
            Some(None) => {}
            Some(Some(value)) => drop(push(key, value)),
            None => {
                if let Some(value) = txn.open_table(definition(*table))?.get(key.as_slice())? {
                    push(key, value.value());
                }
            }
        },
        ReadOp::Scan { table, from, to, limit } => {
            if to.as_ref().is_some_and(|to| to <= from) {
                return Ok(rows);
            }
            let end = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut old =
                txn.open_table(definition(*table))?.range::<&[u8]>((Bound::Included(from.as_slice()), end))?;
            let mut new = fresh.range(*table, from, to.as_deref()).peekable();
            let (mut stored, mut left) = (old.next().transpose()?, *limit);
            while left > 0 {
                // Which comes next; of two states of one row the fresh one counts.
                let order = match (&stored, new.peek()) {
                    (None, None) => break,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some((key, _)), Some((fresh, _))) => key.value().cmp(fresh.as_slice()),
                };
                let row = if order.is_ge() { new.next() } else { None };
                let more = match (row, &stored) {
                    (Some((key, Some(value))), _) => Some(push(key, value)),
                    (Some((_, None)), _) => None,
                    (None, Some((key, value))) => Some(push(key.value(), value.value())),
                    (None, None) => break,
                };
                left -= usize::from(more.is_some());
                if more == Some(false) {
                    break;
                }
                if order.is_le() {
                    stored = old.next().transpose()?;
                }
            }
        }
    }
    Ok(rows)
}

/// Turns a panic into [`StorageFailure::Corrupt`]: redb asserts on pages that break its own rules, and pages do so only
/// when something else wrote to them.
fn contained<T>(work: impl FnOnce() -> Result<T, StorageFailure>) -> Result<T, StorageFailure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(StorageFailure::Corrupt { detail: said.unwrap_or("a page breaks the rules of its format").to_owned() })
    })
}

fn failure(error: redb::Error) -> StorageFailure {
    match error {
        redb::Error::Io(e) if is_full(&e) => StorageFailure::Full,
        // Not a redb file, or one that ends before its own header says.
        redb::Error::Io(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            StorageFailure::Corrupt { detail: e.to_string() }
        }
        redb::Error::Corrupted(detail) => StorageFailure::Corrupt { detail },
        e @ (redb::Error::TableTypeMismatch { .. } | redb::Error::TableDoesNotExist(_)) => {
            StorageFailure::Corrupt { detail: e.to_string() }
        }
        e => StorageFailure::Io { detail: e.to_string() },
    }
}

fn refusal(path: &Path, failure: StorageFailure) -> OpenError {
    match failure {
        StorageFailure::Full => OpenError::Full { path: path.to_owned() },
        StorageFailure::Corrupt { detail } => OpenError::Corrupt { detail },
        other => open_error(path, std::io::Error::other(other)),
    }
}

#[cfg(test)]
mod tests;
