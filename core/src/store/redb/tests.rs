//! Crashes, damage, full disks and refusals.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::*;

fn put(key: &[u8], value: &[u8]) -> WriteOp {
    WriteOp::Put(Table::Chunks, key.to_vec(), value.to_vec())
}

fn everything() -> ReadOp {
    ReadOp::Scan { table: Table::Chunks, from: vec![], to: None, limit: usize::MAX }
}

fn contents(store: &Redb) -> BTreeMap<Vec<u8>, Vec<u8>> {
    store.read(&[everything()]).unwrap()[0].iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
}

/// A device that remembers what was synced, and can lose or tear what was not. It holds the store and its journal.
#[derive(Debug, Clone, Default)]
pub(super) struct Device(Arc<Mutex<DeviceState>>);

#[derive(Debug, Default)]
struct DeviceState {
    store: DeviceFile,
    journal: DeviceFile,
    /// Bytes that may still be written; `None`: any number.
    room: Option<usize>,
    /// Syncs until the power goes; `None`: never. Every call fails from then on.
    syncs_left: Option<usize>,
}

#[derive(Debug, Default)]
struct DeviceFile {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// Writes since the last sync, as (offset, bytes).
    unsynced: Vec<(u64, Vec<u8>)>,
}

impl DeviceState {
    fn dead(&self) -> io::Result<()> {
        if self.syncs_left == Some(0) { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    fn count_sync(&mut self) -> io::Result<()> {
        self.dead()?;
        if let Some(left) = &mut self.syncs_left {
            *left -= 1;
            self.dead()?;
        }
        Ok(())
    }

    fn take_room(&mut self, bytes: usize) -> io::Result<()> {
        self.dead()?;
        if let Some(room) = self.room {
            self.room = Some(room.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?);
        }
        Ok(())
    }

    /// What a power cut leaves.
    fn after_crash(&self, mut dice: impl FnMut() -> u32) -> Device {
        device_with(self.store.after_crash(&mut dice), self.journal.after_crash(&mut dice))
    }
}

impl DeviceFile {
    fn holding(bytes: Vec<u8>) -> Self {
        Self { durable: bytes.clone(), now: bytes, unsynced: vec![] }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.now[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        self.unsynced.push((offset, data.to_vec()));
    }

    fn sync(&mut self) {
        self.durable = self.now.clone();
        self.unsynced.clear();
    }

    /// The bytes after a power cut: of the un-synced writes each is kept, lost or torn as `dice` says.
    fn after_crash(&self, mut dice: impl FnMut() -> u32) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (offset, data) in &self.unsynced {
            let kept = match dice() % 3 {
                0 => 0,
                1 => data.len(),
                // Devices write sectors whole.
                _ => (dice() as usize % (data.len() + 1)) / 512 * 512,
            };
            let (start, end) = (*offset as usize, *offset as usize + kept);
            if kept > 0 && bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start.min(end)..end].copy_from_slice(&data[..kept]);
        }
        bytes
    }
}

impl Device {
    pub(super) fn new_journal(&self) -> io::Result<Self> {
        let mut state = self.0.lock().unwrap();
        state.take_room(journal::JOURNAL_BYTES as usize)?;
        state.count_sync()?;
        state.journal = DeviceFile::holding(vec![0; journal::JOURNAL_BYTES as usize]);
        Ok(self.clone())
    }
}

impl journal::Device for Device {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().unwrap().journal.now.clone())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        // It overwrites what was laid out before, so it needs no room.
        state.dead()?;
        state.journal.write(offset, bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.count_sync()?;
        state.journal.sync();
        Ok(())
    }
}

impl StorageBackend for Device {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().store.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let bytes = state.store.now.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.dead()?;
        let file = &mut state.store;
        file.now.resize(len as usize, 0);
        // File systems journal sizes; what was cut off is gone.
        let len = file.now.len();
        file.durable.resize(len, 0);
        file.unsynced.retain(|(offset, data)| *offset as usize + data.len() <= len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.count_sync()?;
        state.store.sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.take_room(data.len())?;
        state.store.write(offset, data);
        Ok(())
    }
}

fn device_with(store: Vec<u8>, journal: Vec<u8>) -> Device {
    let [store, journal] = [store, journal].map(DeviceFile::holding);
    Device(Arc::new(Mutex::new(DeviceState { store, journal, ..DeviceState::default() })))
}

/// A small generator, enough to roll dice in a test.
fn dice(mut seed: u32) -> impl FnMut() -> u32 {
    move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    }
}

/// Writes until the power goes at sync `cut`, then opens what is left and compares.
fn survives_a_cut(cut: u32) {
    let mut roll = dice(cut);
    let device = Device::default();
    let mut acknowledged = BTreeMap::new();
    let mut attempted = BTreeMap::new();
    // A new store is made in a file of its own, so a cut while it is made costs nothing.
    drop(Redb::on_device(device.clone(), RedbOptions::new()).unwrap());
    device.0.lock().unwrap().syncs_left = Some(cut as usize);
    if let Ok(mut store) = Redb::on_device(device.clone(), RedbOptions::new()) {
        for n in 0.. {
            // Large enough now and then to fill the journal, and to be over the largest record.
            let length = if roll().is_multiple_of(8) { 300_000 } else { 60_000 };
            let (key, value) = ((roll() % 16).to_le_bytes(), vec![n as u8; roll() as usize % length]);
            let answer = store.write(&[(&[put(&key, &value)], None)]).remove(0);
            attempted.insert(key.to_vec(), value.clone());
            if answer.is_err() {
                break;
            }
            acknowledged.insert(key.to_vec(), value);
        }
    }
    let left = device.0.lock().unwrap().after_crash(&mut roll);
    let after =
        Redb::on_device(left, RedbOptions::new()).unwrap_or_else(|e| panic!("cut at sync {cut}: does not open: {e}"));
    let found = contents(&after);
    // The write that the power cut may have landed whole, or not at all.
    assert!(found == acknowledged || found == attempted, "cut at sync {cut}: an acknowledged write is lost");
}

#[test]
fn a_power_cut_at_any_sync_loses_nothing_acknowledged_and_leaves_a_store_that_opens() {
    // Through the first durable commits, the beginning of the journal, and several checkpoints.
    (1..24).chain((24..200).step_by(3)).for_each(survives_a_cut);
}

/// A store with a journal in use, and what was acknowledged.
fn store_with_journal(device: &Device) -> (Redb, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut store = Redb::on_device(device.clone(), RedbOptions::new()).unwrap();
    let mut acknowledged = BTreeMap::new();
    for n in 0..40u32 {
        let (key, value) = (n.to_be_bytes(), vec![n as u8; 700]);
        assert_eq!(store.write(&[(&[put(&key, &value)], None)]), [Ok(())]);
        acknowledged.insert(key.to_vec(), value);
    }
    assert!(store.with(|open| Ok(open.journal.as_ref().is_some_and(Journal::holds_records))).unwrap());
    (store, acknowledged)
}

#[test]
fn a_killed_process_loses_nothing_and_a_closed_store_needs_no_journal() {
    let device = Device::default();
    let (store, acknowledged) = store_with_journal(&device);
    let killed = device.0.lock().unwrap().after_crash(|| 0);
    assert_eq!(contents(&Redb::on_device(killed, RedbOptions::new()).unwrap()), acknowledged);
    drop(store);
    let closed = device_with(device.0.lock().unwrap().store.durable.clone(), vec![]);
    assert_eq!(contents(&Redb::on_device(closed, RedbOptions::new()).unwrap()), acknowledged);
}

#[test]
fn a_damaged_journal_is_refused_where_it_was_acknowledged() {
    let device = Device::default();
    let (_store, acknowledged) = store_with_journal(&device);
    let (store, journal) = {
        let state = device.0.lock().unwrap();
        (state.store.durable.clone(), state.journal.durable.clone())
    };
    let records = acknowledged.len() - 17;
    let open = |journal: Vec<u8>| {
        Redb::on_device(device_with(store.clone(), journal), RedbOptions::new()).map(|store| contents(&store).len())
    };
    assert_eq!(open(journal.clone()).unwrap(), acknowledged.len());
    for record in 0..records - 1 {
        for at in [0, 9, 17, 30, 60, 700] {
            let mut bytes = journal.clone();
            bytes[record * 1024 + at] ^= 1;
            assert!(matches!(open(bytes), Err(OpenError::Corrupt { .. })), "record {record}, byte {at}");
        }
    }
    // The newest may be one that was not synced: without it the store is what it was before.
    let mut bytes = journal.clone();
    bytes[(records - 1) * 1024 + 60] ^= 1;
    assert_eq!(open(bytes).unwrap(), acknowledged.len() - 1);
}

#[test]
fn a_write_that_the_journal_cannot_keep_fails_and_the_next_ones_go_on_after_a_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Redb::open(directory.path()).unwrap();
    let mut write = |n: u32| store.write(&[(&[put(&n.to_be_bytes(), &[1; 100])], None)]).remove(0);
    assert!((0..30).all(|n| write(n).is_ok()));
    let broken = std::fs::OpenOptions::new().read(true).open(directory.path().join("store.journal")).unwrap();
    store.open.borrow_mut().as_mut().unwrap().journal.as_mut().unwrap().replace_device(Box::new(broken));
    let mut write = |n: u32| store.write(&[(&[put(&n.to_be_bytes(), &[1; 100])], None)]).remove(0);
    assert!(matches!(write(30), Err(StorageFailure::Io { .. })));
    assert_eq!(write(31), Ok(()));
    let keys: Vec<_> = contents(&store).into_keys().collect();
    assert_eq!(keys, (0..30).chain([31]).map(|n: u32| n.to_be_bytes().to_vec()).collect::<Vec<_>>());
}

#[test]
fn a_lost_journal_is_refused_and_an_empty_one_gives_its_writes_up() {
    let parent = tempfile::tempdir().unwrap();
    let (running, copy) = (parent.path().join("a"), parent.path().join("b"));
    let mut store = Redb::open(&running).unwrap();
    for n in 0..30u32 {
        assert_eq!(store.write(&[(&[put(&n.to_be_bytes(), b"v")], None)]), [Ok(())]);
    }
    std::fs::create_dir(&copy).unwrap();
    let take = |name: &str| std::fs::copy(running.join(name), copy.join(name)).unwrap();
    take("store.redb");
    let refused = Redb::open(&copy).unwrap_err();
    assert!(matches!(&refused, OpenError::Corrupt { detail } if detail.contains("store.journal")), "{refused}");
    take("store.journal");
    assert_eq!(contents(&Redb::open(&copy).unwrap()).len(), 30);
    assert!(!copy.join("store.journal").exists());
    take("store.redb");
    std::fs::write(copy.join("store.journal"), []).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(copy.join("store.journal"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(contents(&Redb::open(&copy).unwrap()).len(), 17);
    drop(store);
    assert!(!running.join("store.journal").exists());
}

#[test]
fn guarded_writes_in_the_journal_fail_alone_and_are_not_replayed() {
    let device = Device::default();
    let (mut store, mut acknowledged) = store_with_journal(&device);
    let epoch = WriteOp::Put(Table::Meta, EPOCH_KEY.to_vec(), b"new".to_vec());
    assert_eq!(store.write(&[(&[epoch], None)]), [Ok(())]);
    let answers = store.write(&[
        (&[put(b"old", b"x")], Some(b"old".as_slice())),
        (&[put(b"new", b"y")], Some(b"new".as_slice())),
        (&[WriteOp::DeleteRange(Table::Chunks, 3u32.to_be_bytes().to_vec(), 5u32.to_be_bytes().to_vec())], None),
        (&[WriteOp::Delete(Table::Chunks, 7u32.to_be_bytes().to_vec())], None),
    ]);
    assert_eq!(answers, [Err(StorageFailure::HostEpochChanged), Ok(()), Ok(()), Ok(())]);
    acknowledged.insert(b"new".to_vec(), b"y".to_vec());
    for gone in [3u32, 4, 7] {
        acknowledged.remove(gone.to_be_bytes().as_slice());
    }
    assert_eq!(contents(&store), acknowledged);
    let killed = device.0.lock().unwrap().after_crash(|| 0);
    assert_eq!(contents(&Redb::on_device(killed, RedbOptions::new()).unwrap()), acknowledged);
}

#[test]
fn compaction_and_checks_take_the_journal_in() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Redb::open(directory.path()).unwrap();
    let write = |store: &mut Redb, n: u32| {
        assert_eq!(store.write(&[(&[put(&n.to_be_bytes(), &[1; 100])], None)]), [Ok(())]);
    };
    (0..30).for_each(|n| write(&mut store, n));
    assert_eq!(store.check(), Ok(()));
    (30..60).for_each(|n| write(&mut store, n));
    store.compact().unwrap();
    (60..90).for_each(|n| write(&mut store, n));
    assert_eq!(contents(&store).len(), 90);
    drop(store);
    assert_eq!(contents(&Redb::open(directory.path()).unwrap()).len(), 90);
}

#[test]
fn a_full_disk_fails_the_write_alone_and_says_so() {
    let device = Device::default();
    let mut store = Redb::on_device(device.clone(), RedbOptions::new()).unwrap();
    assert_eq!(store.write(&[(&[put(b"k", b"kept")], None)]), [Ok(())]);
    device.0.lock().unwrap().room = Some(0);
    assert_eq!(store.write(&[(&[put(b"l", &[1; 100_000])], None)]), [Err(StorageFailure::Full)]);
    let bytes = device.0.lock().unwrap().store.now.clone();
    let after = Redb::on_device(device_with(bytes, vec![]), RedbOptions::new()).unwrap();
    assert_eq!(contents(&after), BTreeMap::from([(b"k".to_vec(), b"kept".to_vec())]));
}

#[test]
fn an_interrupted_first_start_is_started_over() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("store.new"), [0; 5000]).unwrap();
    drop(Redb::open(directory.path()).unwrap());
    assert!(!directory.path().join("store.new").exists());
}

#[test]
fn an_emptied_store_is_damage_and_not_a_new_store() {
    let directory = tempfile::tempdir().unwrap();
    drop(Redb::open(directory.path()).unwrap());
    std::fs::write(directory.path().join("store.redb"), []).unwrap();
    assert!(matches!(Redb::open(directory.path()), Err(OpenError::Corrupt { .. })));
}

#[test]
fn data_survives_a_close() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Redb::open(directory.path()).unwrap();
    store.write(&[(&[put(b"k", b"v")], None)]);
    drop(store);
    assert_eq!(contents(&Redb::open(directory.path()).unwrap()).len(), 1);
}

#[test]
fn a_second_opener_is_told_who_holds_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let held = Redb::open(directory.path()).unwrap();
    match Redb::open(directory.path()) {
        Err(OpenError::Locked { pid, directory: named }) => {
            assert_eq!((pid, named.as_path()), (Some(std::process::id()), directory.path()));
        }
        other => panic!("unexpected {other:?}"),
    }
    drop(held);
    Redb::open(directory.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Redb::open(directory.path()).unwrap();
    let newer = WriteOp::Put(Table::Meta, FORMAT_KEY.to_vec(), format_row(FORMAT + 1));
    store.write(&[(&[newer, put(b"k", b"v")], None)]);
    drop(store);
    let files = || ["store.redb", "life"].map(|name| std::fs::read(directory.path().join(name)).unwrap());
    let before = files();
    for _ in 0..2 {
        let refused = Redb::open(directory.path()).unwrap_err();
        assert!(matches!(refused, OpenError::NewerFormat { found, supported: FORMAT } if found == FORMAT + 1));
    }
    assert_eq!(files(), before);
}

#[test]
fn an_older_format_migrates_in_one_transaction() {
    fn rename(txn: &WriteTransaction) -> Result<(), redb::Error> {
        txn.open_table(definition(Table::Chunks))?.insert(&b"migrated"[..], &b"yes"[..])?;
        Ok(())
    }
    fn fail(txn: &WriteTransaction) -> Result<(), redb::Error> {
        rename(txn)?;
        Err(redb::Error::Corrupted("a row of the old format".into()))
    }
    let directory = tempfile::tempdir().unwrap();
    let mut store = Redb::open(directory.path()).unwrap();
    let older = WriteOp::Put(Table::Meta, FORMAT_KEY.to_vec(), format_row(0));
    store.write(&[(&[older], None)]);
    let path = directory.path();
    let migrate = |run| store.with(|open| Ok(prepare(&open.database, &[Migration { from: 0, run }], path))).unwrap();
    assert!(matches!(migrate(fail), Err(OpenError::Migration { from: 0, .. })));
    assert_eq!(contents(&store).len(), 0);
    migrate(rename).unwrap();
    assert_eq!(contents(&store).len(), 1);
    assert_eq!(store.with(|open| format_of(&open.database)), Ok(Some(FORMAT)));
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/data");
    drop(Redb::open(&directory).unwrap());
    let mode = |name: &str| std::fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("."), mode("store.redb"), mode("lock"), mode("life")], [0o700, 0o600, 0o600, 0o600]);
}

#[test]
fn a_store_that_others_may_read_is_not_opened() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    drop(Redb::open(parent.path()).unwrap());
    let file = parent.path().join("store.redb");
    let chmod = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    for wide in [0o640, 0o604, 0o620, 0o666] {
        chmod(wide);
        assert!(matches!(Redb::open(parent.path()), Err(OpenError::Exposed { mode, .. }) if mode == wide), "{wide:o}");
    }
    chmod(0o600);
    let mut store = Redb::open(parent.path()).unwrap();
    for n in 0..20u32 {
        assert_eq!(store.write(&[(&[put(&n.to_be_bytes(), b"v")], None)]), [Ok(())]);
    }
    // As a process that is killed leaves it.
    let left = tempfile::tempdir().unwrap();
    for name in ["store.redb", "store.journal"] {
        std::fs::copy(parent.path().join(name), left.path().join(name)).unwrap();
    }
    let journal = left.path().join("store.journal");
    assert_eq!(std::fs::metadata(&journal).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&journal, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = Redb::open(left.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Exposed { path, mode: 0o640 } if path == journal));
}

#[test]
fn a_path_that_cannot_be_a_data_directory_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(matches!(Redb::open(&file), Err(OpenError::NotADirectory { path }) if path == file));
    assert!(matches!(Redb::open(file.join("below")), Err(OpenError::NotADirectory { .. })));
}

/// Root may write anywhere, so this uses a file system that nobody can write.
#[test]
fn a_read_only_place_is_named() {
    let refused = Redb::open("/proc/self/foreshore").unwrap_err();
    assert!(matches!(refused, OpenError::ReadOnly { .. } | OpenError::Io { .. }), "{refused:?}");
    let sorted = open_error(Path::new("/d"), io::ErrorKind::ReadOnlyFilesystem.into());
    assert!(matches!(sorted, OpenError::ReadOnly { path } if path == Path::new("/d")));
}

#[test]
fn a_life_goes_on_after_a_clean_close_and_ends_with_a_copy_or_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.redb");
    let open = || Redb::open(directory.path()).unwrap().identity();
    let first = open();
    assert_eq!(open(), first, "a clean close keeps the life");
    // A backup restored in place: same inode, same birth time.
    let backup = std::fs::read(&store).unwrap();
    let second = open();
    assert_eq!(second, first);
    std::fs::write(&store, &backup).unwrap();
    let third = open();
    assert_ne!(third, first, "a restored backup is another life");
    // A crash leaves no record.
    std::fs::remove_file(directory.path().join("life")).unwrap();
    assert_ne!(open(), third);
}

#[test]
fn a_copied_directory_is_another_store() {
    let parent = tempfile::tempdir().unwrap();
    let (a, b) = (parent.path().join("a"), parent.path().join("b"));
    let original = Redb::open(&a).unwrap().identity();
    std::fs::create_dir(&b).unwrap();
    for name in ["store.redb", "life"] {
        std::fs::copy(a.join(name), b.join(name)).unwrap();
    }
    assert_ne!(Redb::open(&b).unwrap().identity(), original);
}

#[test]
fn compaction_packs_rows_and_keeps_the_life() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Redb::open(directory.path()).unwrap();
    let identity = store.identity();
    let mut roll = dice(7);
    for _ in 0..20 {
        let keys: Vec<[u8; 8]> =
            (0..400).map(|_| [roll().to_le_bytes(), roll().to_le_bytes()].concat().try_into().unwrap()).collect();
        let ops: Vec<_> = keys.iter().map(|key| put(key, &[7; 200])).collect();
        store.write(&[(&ops, None)]);
    }
    let rows = contents(&store);
    let raw: usize = rows.iter().map(|(k, v)| k.len() + v.len()).sum();
    assert_eq!(store.compact(), Ok(true));
    assert_eq!(contents(&store), rows);
    assert!(store.allocated_bytes() < raw as u64 * 13 / 10, "{} for {raw}", store.allocated_bytes());
    assert_eq!(store.write(&[(&[put(b"after", b"x")], None)]), [Ok(())]);
    assert_eq!(store.check(), Ok(()));
    drop(store);
    let store = Redb::open(directory.path()).unwrap();
    assert_eq!((store.identity(), contents(&store).len()), (identity, rows.len() + 1));
    assert!(!directory.path().join("store.new").exists());
}

/// A store of about a megabyte, as bytes.
fn sample() -> Vec<u8> {
    let device = Device::default();
    let mut store = Redb::on_device(device.clone(), RedbOptions::new()).unwrap();
    for n in 0..40u32 {
        let ops: Vec<_> = (0..20u32).map(|m| put(&(n * 20 + m).to_be_bytes(), &[m as u8; 1000])).collect();
        assert_eq!(store.write(&[(&ops, None)]), [Ok(())]);
    }
    drop(store);
    let state = device.0.lock().unwrap();
    state.store.now.clone()
}

/// Uses a damaged store in every way; the only demand is an answer instead of a panic.
fn survive(bytes: Vec<u8>, verify: bool) -> Result<(), String> {
    let mut store =
        Redb::on_device(device_with(bytes, vec![]), RedbOptions::new().verify(verify)).map_err(|e| e.to_string())?;
    let read = store.read(&[everything()]).map_err(|e| e.to_string());
    let wrote = store.write(&[(&[put(b"new", &[7; 5000])], None)]).remove(0).map_err(|e| e.to_string());
    let checked = store.check().map_err(|e| e.to_string());
    read.map(|_| ()).and(wrote).and(checked)
}

#[test]
fn truncated_and_overwritten_stores_give_errors_and_no_panic() {
    let whole = sample();
    assert_eq!(survive(whole.clone(), false), Ok(()));
    let mut noticed = 0;
    for cut in [1, 100, 511, 4096, whole.len() / 3, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        noticed += survive(whole[..cut].to_vec(), false).is_err() as usize;
    }
    assert!(noticed >= 7, "{noticed} of 8 truncations noticed");
    let mut roll = dice(1);
    for _ in 0..60 {
        let mut bytes = whole.clone();
        let at = roll() as usize % bytes.len();
        let end = (at + 1 + roll() as usize % 2000).min(bytes.len());
        bytes[at..end].iter_mut().for_each(|b| *b ^= 0x5a);
        let _ = survive(bytes, false);
    }
    assert!(survive(vec![0x5a; 10_000], false).is_err());
}

#[test]
fn verifying_on_open_notices_a_flipped_bit_in_a_value() {
    let mut bytes = sample();
    let at = bytes.windows(900).position(|w| w == [5; 900]).unwrap() + 450;
    bytes[at] ^= 1;
    assert!(survive(bytes, true).is_err());
}

/// Random rows, deletions, ranges and reads against a plain map, with the journal in use and through crashes.
#[test]
fn rows_that_wait_in_memory_read_as_rows_of_the_file() {
    let mut roll = dice(11);
    let mut device = Device::default();
    let mut store = Redb::on_device(device.clone(), RedbOptions::new()).unwrap();
    let mut model = BTreeMap::<Vec<u8>, Vec<u8>>::new();
    let key = |n: u32| (n % 60).to_be_bytes().to_vec();
    for _ in 0..4_000 {
        let ops: Vec<WriteOp> = (0..1 + roll() % 3)
            .map(|_| match roll() % 40 {
                0 => {
                    let from = roll() % 60;
                    WriteOp::DeleteRange(Table::Chunks, key(from), (from + roll() % 4).to_be_bytes().to_vec())
                }
                1..10 => WriteOp::Delete(Table::Chunks, key(roll())),
                _ => put(&key(roll()), &vec![roll() as u8; roll() as usize % 2_000]),
            })
            .collect();
        assert_eq!(store.write(&[(&ops, None)]), [Ok(())]);
        for op in ops {
            match op {
                WriteOp::Put(_, key, value) => drop(model.insert(key, value)),
                WriteOp::Delete(_, key) => drop(model.remove(&key)),
                WriteOp::DeleteRange(_, from, to) => model.retain(|key, _| !(&from..&to).contains(&key)),
            }
        }
        let (from, to, limit) = (key(roll()), key(roll()), roll() as usize % 20);
        let some = key(roll());
        let ops = [
            ReadOp::Scan { table: Table::Chunks, from: from.clone(), to: Some(to.clone()), limit },
            ReadOp::Get(Table::Chunks, some.clone()),
        ];
        let rows = store.read(&ops).unwrap();
        let found: Vec<_> = rows[0].iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        let within = model.iter().filter(|(key, _)| (&from..&to).contains(key)).take(limit);
        assert_eq!(found, within.map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>());
        assert_eq!(rows[1].iter().next().map(|(_, v)| v.to_vec()), model.get(&some).cloned());
        if roll().is_multiple_of(200) {
            // What was acknowledged is synced, so nothing is left to chance.
            let left = device.0.lock().unwrap().after_crash(|| 0);
            device = left;
            store = Redb::on_device(device.clone(), RedbOptions::new()).unwrap();
            assert_eq!(contents(&store), model);
        }
    }
}

#[test]
fn a_full_disk_is_read_and_written_where_the_journal_has_room() {
    let device = Device::default();
    let (store, mut acknowledged) = store_with_journal(&device);
    let full = device.0.lock().unwrap().after_crash(|| 0);
    drop(store);
    // The device counts what overwrites, too, which redb does when it opens after a crash.
    let mut store = Redb::on_device(full.clone(), RedbOptions::new()).unwrap();
    full.0.lock().unwrap().room = Some(0);
    assert_eq!(contents(&store), acknowledged);
    assert_eq!(store.write(&[(&[put(b"small", b"1")], None)]), [Ok(())]);
    acknowledged.insert(b"small".to_vec(), b"1".to_vec());
    assert_eq!(contents(&store), acknowledged);
    assert_eq!(store.write(&[(&[put(b"large", &[1; 400_000])], None)]), [Err(StorageFailure::Full)]);
    let after = full.0.lock().unwrap().after_crash(|| 0);
    assert_eq!(contents(&Redb::on_device(after, RedbOptions::new()).unwrap()), acknowledged);
}
