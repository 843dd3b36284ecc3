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

/// A device that remembers what was synced, and can lose or tear what was not.
#[derive(Debug, Clone, Default)]
struct Device(Arc<Mutex<DeviceState>>);

#[derive(Debug, Default)]
struct DeviceState {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// Writes since the last sync, as (offset, bytes).
    unsynced: Vec<(u64, Vec<u8>)>,
    /// Bytes that may still be written; `None`: any number.
    room: Option<usize>,
    /// Syncs until the power goes; `None`: never. Every call fails from then on.
    syncs_left: Option<usize>,
}

impl DeviceState {
    fn dead(&self) -> io::Result<()> {
        if self.syncs_left == Some(0) { Err(io::Error::other("the power is gone")) } else { Ok(()) }
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

impl StorageBackend for Device {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let bytes = state.now.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.dead()?;
        state.now.resize(len as usize, 0);
        // File systems journal sizes; what was cut off is gone.
        let len = state.now.len();
        state.durable.resize(len, 0);
        state.unsynced.retain(|(offset, data)| *offset as usize + data.len() <= len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.dead()?;
        if let Some(left) = &mut state.syncs_left {
            *left -= 1;
            if *left == 0 {
                return Err(io::Error::other("the power is gone"));
            }
        }
        state.durable = state.now.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.dead()?;
        if let Some(room) = state.room {
            state.room = Some(room.checked_sub(data.len()).ok_or(io::ErrorKind::StorageFull)?);
        }
        state.now[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        state.unsynced.push((offset, data.to_vec()));
        Ok(())
    }
}

fn device_with(bytes: Vec<u8>) -> Device {
    let device = Device::default();
    *device.0.lock().unwrap() = DeviceState { durable: bytes.clone(), now: bytes, ..DeviceState::default() };
    device
}

/// A small generator, enough to roll dice in a test.
fn dice(mut seed: u32) -> impl FnMut() -> u32 {
    move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    }
}

#[test]
fn a_power_cut_at_any_sync_loses_nothing_acknowledged_and_leaves_a_store_that_opens() {
    for cut in 1..24 {
        let mut roll = dice(cut);
        let device = Device::default();
        let mut acknowledged = BTreeMap::new();
        let mut attempted = BTreeMap::new();
        // A new store is made in a file of its own, so a cut while it is made costs nothing.
        drop(Redb::on_device(device.clone(), RedbOptions::new()).unwrap());
        device.0.lock().unwrap().syncs_left = Some(cut as usize);
        if let Ok(mut store) = Redb::on_device(device.clone(), RedbOptions::new()) {
            for n in 0..40u32 {
                let (key, value) = ((roll() % 16).to_le_bytes(), vec![n as u8; roll() as usize % 9000]);
                let answer = store.write(&[(&[put(&key, &value)], None)]).remove(0);
                attempted.insert(key.to_vec(), value.clone());
                if answer.is_err() {
                    break;
                }
                acknowledged.insert(key.to_vec(), value);
            }
        }
        let bytes = device.0.lock().unwrap().after_crash(&mut roll);
        let after = Redb::on_device(device_with(bytes), RedbOptions::new())
            .unwrap_or_else(|e| panic!("cut at sync {cut}: does not open: {e}"));
        let found = contents(&after);
        // The write that the power cut may have landed whole, or not at all.
        assert!(found == acknowledged || found == attempted, "cut at sync {cut}: an acknowledged write is lost");
    }
}

#[test]
fn a_full_disk_fails_the_write_alone_and_says_so() {
    let device = Device::default();
    let mut store = Redb::on_device(device.clone(), RedbOptions::new()).unwrap();
    assert_eq!(store.write(&[(&[put(b"k", b"kept")], None)]), [Ok(())]);
    device.0.lock().unwrap().room = Some(0);
    assert_eq!(store.write(&[(&[put(b"l", &[1; 100_000])], None)]), [Err(StorageFailure::Full)]);
    let bytes = device.0.lock().unwrap().now.clone();
    let after = Redb::on_device(device_with(bytes), RedbOptions::new()).unwrap();
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
    let migrate = |run| store.with(|db| Ok(prepare(db, &[Migration { from: 0, run }], path))).unwrap();
    assert!(matches!(migrate(fail), Err(OpenError::Migration { from: 0, .. })));
    assert_eq!(contents(&store).len(), 0);
    migrate(rename).unwrap();
    assert_eq!(contents(&store).len(), 1);
    assert_eq!(store.with(|db| format_of(db)), Ok(Some(FORMAT)));
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
    drop(Redb::open(parent.path()).unwrap());
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
    state.now.clone()
}

/// Uses a damaged store in every way; the only demand is an answer instead of a panic.
fn survive(bytes: Vec<u8>, verify: bool) -> Result<(), String> {
    let mut store =
        Redb::on_device(device_with(bytes), RedbOptions::new().verify(verify)).map_err(|e| e.to_string())?;
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
