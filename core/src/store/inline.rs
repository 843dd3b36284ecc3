//! A backend that is called where the task comes in: for platforms with one thread, and stores that never wait.

use super::{Answers, Backend, TaskStore};
use crate::io::{StorageReply, StorageTask, StorageWork};

/// A [`TaskStore`] over a [`Backend`] that answers before `submit` returns.
pub struct Inline {
    backend: Box<dyn Backend>,
    answers: Answers,
}

impl Inline {
    /// Answers from `backend`.
    pub fn new(backend: Box<dyn Backend>, answers: Answers) -> Self {
        Self { backend, answers }
    }
}

impl TaskStore for Inline {
    fn submit(&mut self, task: StorageTask) {
        let result = match &task.work {
            StorageWork::Read { ops } => self.backend.read(ops).map(StorageReply::Read),
            StorageWork::Write { ops, epoch } => {
                let written = self.backend.write(&[(ops.as_slice(), epoch.as_deref())]).pop();
                written.unwrap_or(Ok(())).map(|()| StorageReply::Written)
            }
        };
        (self.answers)(task.ticket, result);
    }

    fn close(self: Box<Self>) {}
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::io::{ReadOp, StorageFailure, Table, Ticket, WriteOp};
    use crate::store::{EPOCH_KEY, Memory};

    #[test]
    fn every_task_is_answered_in_order_and_a_stale_epoch_writes_nothing() {
        let (tell, told) = channel();
        let answers: Answers = Box::new(move |ticket, result| tell.send((ticket, result)).unwrap());
        let mut store = Inline::new(Box::new(Memory::new([0; 16])), answers);
        let put = |key: &[u8]| vec![WriteOp::Put(Table::Meta, key.to_vec(), b"1".to_vec())];
        let get = |key: &[u8]| vec![ReadOp::Get(Table::Meta, key.to_vec())];
        let works = [
            StorageWork::Write { ops: put(EPOCH_KEY), epoch: None },
            StorageWork::Write { ops: put(b"a"), epoch: Some(b"1".to_vec()) },
            StorageWork::Write { ops: put(b"b"), epoch: Some(b"2".to_vec()) },
            StorageWork::Read { ops: [get(b"a"), get(b"b")].concat() },
        ];
        for (i, work) in works.into_iter().enumerate() {
            store.submit(StorageTask { ticket: Ticket(i as u64), work });
        }
        let answers: Vec<_> = told.try_iter().collect();
        assert_eq!(answers.iter().map(|(ticket, _)| ticket.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(answers[1].1, Ok(StorageReply::Written));
        assert_eq!(answers[2].1, Err(StorageFailure::HostEpochChanged));
        let Ok(StorageReply::Read(rows)) = &answers[3].1 else { panic!("{answers:?}") };
        assert_eq!(rows.iter().map(crate::io::Rows::len).collect::<Vec<_>>(), [1, 0]);
    }
}
