//! Tickets: the one write on its way, and reads with what they are for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::batch::Effects;
use super::ship::ShipmentRead;
use super::{Engine, Event};
use crate::id::{DocumentId, SpaceId};
use crate::io::{LinkId, Output, ReadOp, StorageFailure, StorageReply, StorageTask, StorageWork, Ticket, WriteOp};
use crate::time::Timestamp;

/// First pause before a failed write is tried again; doubles up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// Longest pause between attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// What a read is for.
#[derive(Debug)]
pub(super) enum ReadPurpose {
    /// A document's chunks and endorsements.
    Load(DocumentId),
    /// The next pieces of a link's shipments.
    Ship(ShipmentRead),
    /// A page of an export.
    Export(super::command::ExportRead),
    /// The endorsements of a document that guests change.
    Admit(Box<super::guest::AdmitRead>),
    /// Changes of a document, for who asked.
    Changes(super::guest::ChangesRead),
    /// A page of the endorsements, to find what is to be reviewed.
    ReviewScan(SpaceId),
    /// A page of the endorsements, to find what is to be kept of a device.
    Revoke(Box<super::revoke::Revoking>),
    /// What is set aside of a document.
    Aside(super::aside::AsideRead),
    /// The endorsements of an actor that contradicted itself.
    Suspect(Box<super::revoke::Suspicion>),
    /// Everything of a document, to be judged anew.
    Review { space: SpaceId, document: DocumentId, base: u64 },
    /// The logs of consensus groups.
    #[cfg(feature = "coord")]
    Coord,
    /// The log of one group that is to begin anew.
    #[cfg(feature = "coord")]
    CoordRebuild(SpaceId, crate::io::RequestId),
}

/// The write on its way.
#[derive(Debug)]
pub(super) struct Flight {
    ticket: Ticket,
    ops: Vec<WriteOp>,
    pub(super) effects: Effects,
    backoff: Duration,
    retry_at: Option<Timestamp>,
}

/// State towards the storage backend.
#[derive(Debug, Default)]
pub(super) struct Storage {
    next_ticket: u64,
    reads: BTreeMap<Ticket, ReadPurpose>,
    flight: Option<Flight>,
    /// The host epoch that every write names.
    pub(super) epoch: Vec<u8>,
    /// The next arrival number.
    pub(super) next_arrival: u64,
}

impl Storage {
    pub(super) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    pub(super) fn is_flight(&self, ticket: Ticket) -> bool {
        self.flight.as_ref().is_some_and(|f| f.ticket == ticket)
    }

    pub(super) fn flying(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether the write on its way holds something that must not be told before it is durable although it is known
    /// already (rosters take own facts in at once).
    pub(super) fn holds_back(&self) -> bool {
        self.flight.as_ref().is_some_and(|f| f.effects.holds_back)
    }

    /// Whether the write on its way holds what this link was handed already: until it is durable, roots differ.
    pub(super) fn is_behind(&self, link: &LinkId) -> bool {
        self.flight.as_ref().is_some_and(|f| f.effects.ahead.contains(link))
    }

    pub(super) fn take_read(&mut self, ticket: Ticket) -> Option<ReadPurpose> {
        self.reads.remove(&ticket)
    }

    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        self.flight.as_ref().and_then(|f| f.retry_at)
    }
}

impl Engine {
    pub(super) fn read(&mut self, purpose: ReadPurpose, ops: Vec<ReadOp>) {
        let ticket = self.storage.ticket();
        self.storage.reads.insert(ticket, purpose);
        self.out.push_back(Output::Storage(StorageTask { ticket, work: StorageWork::Read { ops } }));
    }

    /// Sends the one write on its way.
    pub(super) fn fly(&mut self, ops: Vec<WriteOp>, effects: Effects) {
        debug_assert!(self.storage.flight.is_none(), "one write at a time");
        let ticket = self.storage.ticket();
        self.counters.storage_writes += 1;
        let epoch = Some(self.storage.epoch.clone());
        let work = StorageWork::Write { ops: ops.clone(), epoch };
        self.storage.flight = Some(Flight { ticket, ops, effects, backoff: MIN_BACKOFF, retry_at: None });
        self.out.push_back(Output::Storage(StorageTask { ticket, work }));
    }

    pub(super) fn on_written(&mut self, result: Result<StorageReply, StorageFailure>) {
        let Some(mut flight) = self.storage.flight.take() else { return };
        match result {
            Ok(_) => {
                if flight.backoff != MIN_BACKOFF {
                    self.emit(Event::StorageTrouble(None));
                }
                self.apply(flight.effects);
            }
            Err(failure @ StorageFailure::HostEpochChanged) => {
                self.fail_batch(flight.effects, &failure);
                self.emit(Event::StorageTrouble(Some(failure)));
                self.shut_down();
            }
            Err(failure) => {
                if flight.backoff == MIN_BACKOFF {
                    self.emit(Event::StorageTrouble(Some(failure)));
                }
                // The batch is not given up: what programs and peers are waiting for happens once there is room again.
                flight.retry_at = Some(self.now.mono + flight.backoff);
                flight.backoff = (flight.backoff * 2).min(MAX_BACKOFF);
                self.storage.flight = Some(flight);
            }
        }
    }

    pub(super) fn retry_write(&mut self) {
        let Some(flight) = &mut self.storage.flight else { return };
        if flight.retry_at.is_none_or(|at| at > self.now.mono) {
            return;
        }
        flight.retry_at = None;
        self.storage.next_ticket += 1;
        flight.ticket = Ticket(self.storage.next_ticket);
        let work = StorageWork::Write { ops: flight.ops.clone(), epoch: Some(self.storage.epoch.clone()) };
        let task = StorageTask { ticket: flight.ticket, work };
        self.out.push_back(Output::Storage(task));
    }

    pub(super) fn on_read(&mut self, purpose: ReadPurpose, result: Result<StorageReply, StorageFailure>) {
        let rows = match result {
            Ok(StorageReply::Read(rows)) => Ok(rows),
            Ok(StorageReply::Written) => {
                Err(StorageFailure::Io { detail: "a read was answered as if it were a write".into() })
            }
            Err(failure) => Err(failure),
        };
        match purpose {
            ReadPurpose::Load(document) => self.on_loaded(document, rows),
            ReadPurpose::Ship(read) => self.on_shipment_read(read, rows),
            ReadPurpose::Export(read) => self.on_export_read(read, rows),
            ReadPurpose::Admit(read) => self.on_admit_rows(*read, rows),
            ReadPurpose::Changes(read) => self.on_changes_read(&read, rows),
            ReadPurpose::Revoke(revoking) => self.on_revoke_scan(revoking, rows),
            ReadPurpose::Aside(read) => self.on_aside_rows(read, rows),
            ReadPurpose::Suspect(suspicion) => self.on_suspect_rows(&suspicion, rows),
            ReadPurpose::ReviewScan(space) => self.on_review_scan(space, rows),
            ReadPurpose::Review { space, document, base } => self.on_review_rows(space, document, base, rows),
            #[cfg(feature = "coord")]
            ReadPurpose::Coord => self.on_coord_rows(rows),
            #[cfg(feature = "coord")]
            ReadPurpose::CoordRebuild(space, request) => self.on_rebuild_rows(space, request, rows),
        }
    }
}
