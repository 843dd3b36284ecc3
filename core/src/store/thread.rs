//! The storage thread: carries out the engine's storage tasks beside the runtime.
//!
//! One thread owns the backend. It takes every write that is queued, up to [`MAX_GROUP_TASKS`] and
//! [`MAX_GROUP_BYTES`], into one durable transaction (group commit), so that one fsync carries as much as piled up
//! while the previous one was under way. Answers come in the order of the tasks.
//!
//! Invariant: a read sees every write that was submitted before it and none that was submitted after.
//!
//! The queue itself is not bounded here: the engine bounds what it has in flight, and is the only submitter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use super::{Backend, Batch};
use crate::io::{Input, StorageFailure, StorageReply, StorageTask, StorageWork, Ticket, WriteOp};

/// Most write tasks of one transaction. What one fsync costs is spread thin long before (SPIKE measured 0.185 ms for one
/// record and 0.403 ms for 64).
pub const MAX_GROUP_TASKS: usize = 1024;

/// Bytes of writes after which a group is closed, so that dirty pages stay bounded.
pub const MAX_GROUP_BYTES: usize = 8 << 20;

type Maintenance = Box<dyn FnOnce(&mut dyn Backend) + Send>;

enum Job {
    Task(StorageTask),
    Maintain(Maintenance),
    Close,
}

/// Counters of a storage thread, for metrics.
#[derive(Debug, Default)]
pub struct StorageCounters {
    queued: AtomicUsize,
    commits: AtomicU64,
    writes: AtomicU64,
    failures: AtomicU64,
}

impl StorageCounters {
    /// Jobs submitted and not answered yet.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Durable transactions so far.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Write tasks so far; divided by [`StorageCounters::commits`] it is the mean group size.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Tasks that failed so far.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// A thread that owns a [`Backend`]. Dropping it carries out what is queued, then closes the backend.
#[derive(Debug)]
pub struct StorageThread {
    jobs: Sender<Job>,
    counters: Arc<StorageCounters>,
    thread: Option<JoinHandle<()>>,
}

impl StorageThread {
    /// Starts the thread. `done` is called on it with one [`Input::StorageDone`] a task, and must not block for long:
    /// the next commit waits for it.
    ///
    /// # Errors
    /// When the operating system refuses another thread.
    pub fn spawn(backend: Box<dyn Backend>, done: impl FnMut(Input) + Send + 'static) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let counters = Arc::new(StorageCounters::default());
        let worker = Worker { backend, done: Box::new(done), counters: counters.clone() };
        let thread = std::thread::Builder::new().name("foreshore-storage".into()).spawn(move || worker.run(&queue))?;
        Ok(Self { jobs, counters, thread: Some(thread) })
    }

    /// Queues a task; the answer comes through `done`. A task submitted after the thread died is dropped, which a driver
    /// notices by the missing answer; the thread ends only by [`StorageThread::close`] or a panic of `done`.
    pub fn submit(&self, task: StorageTask) {
        self.send(Job::Task(task));
    }

    /// Runs `work` with the backend between two tasks: compaction, checks, statistics. The thread is busy until it
    /// returns.
    pub fn maintain(&self, work: impl FnOnce(&mut dyn Backend) + Send + 'static) {
        self.send(Job::Maintain(Box::new(work)));
    }

    /// The thread's counters.
    pub fn counters(&self) -> Arc<StorageCounters> {
        self.counters.clone()
    }

    /// Carries out everything queued, closes the backend and waits for both. Blocks: call it outside a runtime's
    /// workers.
    pub fn close(mut self) {
        self.join();
    }

    fn send(&self, job: Job) {
        self.counters.queued.fetch_add(1, Ordering::Relaxed);
        if self.jobs.send(job).is_err() {
            self.counters.queued.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.jobs.send(Job::Close);
            // A panic on the thread has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

impl Drop for StorageThread {
    fn drop(&mut self) {
        self.join();
    }
}

struct Worker {
    backend: Box<dyn Backend>,
    done: Box<dyn FnMut(Input) + Send>,
    counters: Arc<StorageCounters>,
}

/// Writes gathered for one transaction.
type Group = Vec<(Ticket, Vec<WriteOp>, Option<Vec<u8>>)>;

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        // What ended a group and has to be carried out after it.
        let mut held = None;
        while let Some(job) = held.take().or_else(|| queue.recv().ok()) {
            match job {
                Job::Close => return,
                Job::Maintain(work) => {
                    work(&mut *self.backend);
                    self.counters.queued.fetch_sub(1, Ordering::Relaxed);
                }
                Job::Task(StorageTask { ticket, work: StorageWork::Read { ops } }) => {
                    let result = self.backend.read(&ops).map(StorageReply::Read);
                    self.answer(ticket, result);
                }
                Job::Task(StorageTask { ticket, work: StorageWork::Write { ops, epoch } }) => {
                    let mut group = vec![(ticket, ops, epoch)];
                    held = gather(queue, &mut group);
                    self.commit(&group);
                }
            }
        }
    }

    fn commit(&mut self, group: &Group) {
        let batches: Vec<Batch<'_>> = group.iter().map(|(_, ops, epoch)| (ops.as_slice(), epoch.as_deref())).collect();
        let results = self.backend.write(&batches);
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.writes.fetch_add(group.len() as u64, Ordering::Relaxed);
        for ((ticket, ..), result) in group.iter().zip(results) {
            self.answer(*ticket, result.map(|()| StorageReply::Written));
        }
    }

    fn answer(&mut self, ticket: Ticket, result: Result<StorageReply, StorageFailure>) {
        if result.is_err() {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.counters.queued.fetch_sub(1, Ordering::Relaxed);
        (self.done)(Input::StorageDone { ticket, result });
    }
}

/// Takes queued writes into `group` until the queue is empty, a bound is reached, or another kind of job comes, which is
/// returned.
fn gather(queue: &Receiver<Job>, group: &mut Group) -> Option<Job> {
    let mut bytes = group.iter().map(|(_, ops, _)| weight(ops)).sum::<usize>();
    while group.len() < MAX_GROUP_TASKS && bytes < MAX_GROUP_BYTES {
        match queue.try_recv() {
            Ok(Job::Task(StorageTask { ticket, work: StorageWork::Write { ops, epoch } })) => {
                bytes += weight(&ops);
                group.push((ticket, ops, epoch));
            }
            Ok(other) => return Some(other),
            Err(_) => return None,
        }
    }
    None
}

fn weight(ops: &[WriteOp]) -> usize {
    ops.iter()
        .map(|op| match op {
            WriteOp::Put(_, key, value) => key.len() + value.len(),
            WriteOp::Delete(_, key) => key.len(),
            WriteOp::DeleteRange(_, from, to) => from.len() + to.len(),
        })
        .sum()
}
