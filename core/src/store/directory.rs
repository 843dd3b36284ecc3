//! A data directory: who holds it, and whether the store file in it is the one that was closed cleanly here.
//!
//! Files: `store.redb` (the store; a new one is made whole as `store.new` and then renamed, so that a crash during the
//! first start leaves nothing that does not open), `store.journal` (newest writes, while the store is open and after a crash;
//! see the journal of the redb backend), `lock` (held with an advisory lock while open; its text is the holder's process id),
//! `life` (present only between a clean close and the next open).
//!
//! The *life record* ties a clean close to the file it closed. It holds the store's [`identity`](super::Backend::identity),
//! which is 32 random bytes, and where and how the file was left: device, inode, birth time, size and change time. On open
//! it is taken away; only if all of them still match does the identity live on. Copying another file over the store in
//! place keeps device, inode and birth time, but not the change time, so a restored backup gets a new identity. A snapshot
//! of a whole block device cannot be told apart from inside it; whoever rolls one back must remove `life`.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::FORMAT;
use crate::io::StorageFailure;
use crate::wire::{Reader, Writer};

/// Why a data directory did not open. Nothing in it has changed, save that a missing directory may have been made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the directory open. Talk to that process, or end it.
    #[error("{} is in use{}", directory.display(), holder(*pid))]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The holder's process id, if it wrote one that can be read.
        pid: Option<u32>,
    },
    /// The store was written by a newer release. Use that release; this one would not understand its rows.
    #[error("the store has format {found}, this release reads up to {supported}: use a newer release of foreshore")]
    NewerFormat {
        /// The store's format.
        found: u64,
        /// The newest that this build reads.
        supported: u64,
    },
    /// An older store could not be brought to this format. It is unchanged.
    #[error("migrating the store from format {from} to {FORMAT} failed: {source}")]
    Migration {
        /// The store's format.
        from: u64,
        /// What went wrong.
        source: StorageFailure,
    },
    /// The directory or the store in it cannot be written.
    #[error("{} cannot be written: check its owner, its mode and whether its file system is mounted read-only", path.display())]
    ReadOnly {
        /// What could not be written.
        path: PathBuf,
    },
    /// The store, which holds keys, may be read or written by other users. `chmod 600` it; where somebody may have read it,
    /// the device's grants are to be revoked.
    #[error("{} holds keys and others may read or write it (mode {mode:o}): chmod 600 it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The path names something that is not a directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// No room on the device.
    #[error("the disk that holds {} is full", path.display())]
    Full {
        /// What needed room.
        path: PathBuf,
    },
    /// The store's bytes are damaged.
    #[error("the store is damaged: {detail}; run `foreshore doctor`")]
    Corrupt {
        /// What the backend said.
        detail: String,
    },
    /// Another failure of the operating system.
    #[error("opening {} failed: {source}", path.display())]
    Io {
        /// What was being opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| " by another process".to_owned(), |pid| format!(" by process {pid}"))
}

/// Sorts an I/O error of `path` into the kinds that people act on.
pub(super) fn open_error(path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path },
        ErrorKind::NotADirectory => OpenError::NotADirectory { path },
        _ if is_full(&source) => OpenError::Full { path },
        _ => OpenError::Io { path, source },
    }
}

/// Whether there is no room, by space, quota or file size limit.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// The mode of a file, if others than its owner have a right to it.
#[cfg(unix)]
fn exposed(metadata: &Metadata) -> Option<u32> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// A data directory held by this process.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    identity: [u8; 32],
    /// Released by the system when the file is closed, also when the process is killed.
    _lock: File,
}

impl Directory {
    const STORE: &'static str = "store.redb";
    const NEW: &'static str = "store.new";
    pub(super) const JOURNAL: &'static str = "store.journal";
    const LOCK: &'static str = "lock";
    const LIFE: &'static str = "life";

    /// Makes the directory if need be (mode 0700) and locks it. The life of the store in it is not taken up yet.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        make_directory(path)?;
        let lock = lock(path)?;
        Ok(Self { path: path.to_owned(), identity: [0; 32], _lock: lock })
    }

    /// Takes up the life of the store, which is about to be written: its identity goes on or a new one begins.
    pub(super) fn take_up(&mut self) -> Result<(), OpenError> {
        self.identity = match self.take_life() {
            Some(identity) => identity,
            None => fresh_identity().map_err(|e| open_error(&self.path, e))?,
        };
        // Without this a power cut could bring the taken record back beside a store that has moved on.
        sync_directory(&self.path).map_err(|e| open_error(&self.path, e))
    }

    pub(super) fn store_path(&self) -> PathBuf {
        self.path.join(Self::STORE)
    }

    /// Whether there is a store file, whole or damaged.
    pub(super) fn has_store(&self) -> bool {
        self.store_path().symlink_metadata().is_ok()
    }

    /// Makes an empty file (mode 0600) for a new store, in place of what an interrupted start may have left.
    pub(super) fn new_file(&self) -> Result<File, OpenError> {
        // With whatever mode somebody gave it.
        self.discard_new_file();
        let path = self.path.join(Self::NEW);
        let mut options = OpenOptions::new();
        private(options.read(true).write(true).create(true).truncate(true))
            .open(&path)
            .map_err(|e| open_error(&path, e))
    }

    /// Removes a new file that did not get finished.
    pub(super) fn discard_new_file(&self) {
        let _ = std::fs::remove_file(self.path.join(Self::NEW));
    }

    /// Makes the finished new file the store.
    pub(super) fn adopt_new_file(&self) -> Result<(), OpenError> {
        let (new, store) = (self.path.join(Self::NEW), self.store_path());
        std::fs::rename(&new, &store).and_then(|()| sync_directory(&self.path)).map_err(|e| open_error(&store, e))
    }

    /// Makes a journal of this many zero bytes (mode 0600), durably, so that a write in it changes no metadata and syncs at
    /// the price of its own bytes.
    pub(super) fn new_journal(&self, bytes: u64) -> io::Result<File> {
        self.remove_journal();
        let mut options = OpenOptions::new();
        let mut file =
            private(options.read(true).write(true).create(true).truncate(true)).open(self.path.join(Self::JOURNAL))?;
        io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
        file.sync_all()?;
        sync_directory(&self.path)?;
        Ok(file)
    }

    /// Opens the journal that is there.
    pub(super) fn old_journal(&self) -> io::Result<Option<File>> {
        match OpenOptions::new().read(true).write(true).open(self.path.join(Self::JOURNAL)) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Removes a journal whose records are in the store. One that cannot be removed is void all the same.
    pub(super) fn remove_journal(&self) {
        let _ = std::fs::remove_file(self.path.join(Self::JOURNAL));
    }

    /// Bytes that the store and its journal occupy on the device.
    #[cfg(unix)]
    pub(super) fn allocated_bytes(&self) -> u64 {
        let allocated = |name| {
            let metadata = std::fs::metadata(self.path.join(name)).ok()?;
            Some(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512)
        };
        [Self::STORE, Self::JOURNAL].into_iter().filter_map(allocated).sum()
    }

    /// Opens the existing store file for reading and writing. Neither it nor a journal may be open to others.
    pub(super) fn store_file(&self) -> Result<File, OpenError> {
        let path = self.store_path();
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| open_error(&path, e))?;
        let metadata = file.metadata().map_err(|e| open_error(&path, e))?;
        // redb would take an empty file for a new store.
        if metadata.len() == 0 {
            return Err(OpenError::Corrupt { detail: "store.redb is empty".into() });
        }
        #[cfg(unix)]
        {
            let journal = self.path.join(Self::JOURNAL);
            let of_journal = std::fs::metadata(&journal).ok().map(|metadata| (journal, metadata));
            for (path, metadata) in std::iter::once((path, metadata)).chain(of_journal) {
                if let Some(mode) = exposed(&metadata) {
                    return Err(OpenError::Exposed { path, mode });
                }
            }
        }
        Ok(file)
    }

    /// The store's identity: stable from a clean close to the next open, random otherwise.
    pub(super) fn identity(&self) -> Vec<u8> {
        self.identity.to_vec()
    }

    /// Records that the store was closed cleanly. Failing to is harmless: the next open begins a new life.
    pub(super) fn record_life(&self) {
        let record = || -> io::Result<()> {
            let state = closed_state(&std::fs::metadata(self.store_path())?);
            let path = self.path.join(Self::LIFE);
            let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(path)?;
            file.write_all(&[&self.identity[..], &state].concat())?;
            file.sync_all()?;
            sync_directory(&self.path)
        };
        let _ = record();
    }

    /// Removes the life record and returns its identity if it describes the store file as it is now.
    fn take_life(&self) -> Option<[u8; 32]> {
        let path = self.path.join(Self::LIFE);
        let record = std::fs::read(&path).ok()?;
        // A record that cannot be removed could be believed twice, so it counts only once it is gone.
        std::fs::remove_file(&path).ok()?;
        let mut r = Reader::new(&record);
        let identity = r.array::<32>("identity").ok()?;
        let state = closed_state(&std::fs::metadata(self.store_path()).ok()?);
        (r.rest() == state).then_some(identity)
    }
}

fn fresh_identity() -> io::Result<[u8; 32]> {
    let mut identity = [0; 32];
    getrandom::fill(&mut identity).map_err(io::Error::other)?;
    Ok(identity)
}

fn make_directory(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => OpenError::NotADirectory { path: path.to_owned() },
        _ => open_error(path, e),
    })
}

/// Takes the directory's lock, or says who has it.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(Directory::LOCK);
    let mut file = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
        .open(&path)
        .map_err(|e| match open_error(&path, e) {
            OpenError::ReadOnly { .. } => OpenError::ReadOnly { path: directory.to_owned() },
            other => other,
        })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.take(16).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::Locked { directory: directory.to_owned(), pid });
        }
        Err(TryLockError::Error(e)) => return Err(open_error(&path, e)),
    }
    let write_pid = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write_pid(&mut file).map_err(|e| open_error(&path, e))?;
    Ok(file)
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What a copy does not share and no writer leaves as it was.
fn closed_state(metadata: &Metadata) -> Vec<u8> {
    let nanos = |time: io::Result<std::time::SystemTime>| {
        let since = time.ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    };
    let mut w = Writer::new();
    w.u64_le(metadata.len()).u64_le(nanos(metadata.created()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        w.u64_le(metadata.dev()).u64_le(metadata.ino());
        w.u64_le(metadata.ctime() as u64).u64_le(metadata.ctime_nsec() as u64);
    }
    #[cfg(not(unix))]
    w.u64_le(nanos(metadata.modified()));
    w.finish()
}
