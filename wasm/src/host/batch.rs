//! Edits of several documents that are stored together or not at all.

use std::collections::BTreeSet;

use foreshore::peer::{CommandError, Commit, DocumentError};
use futures::future::join_all;
use serde_json::{Value as Json, json};

use super::document::ServedRef;
use super::{Answer, Inner, closed};
use crate::errors::Failure;
use crate::ops;
use crate::patches;
use crate::request::Part;
use crate::session::Edit;

impl Part {
    pub(super) fn into_edit(self) -> Edit {
        let Self { seq, base, ops, message, .. } = self;
        Edit { seq, base, ops, message }
    }
}

/// A document of a batch, and what is done to it.
struct Seat {
    doc: u32,
    served: ServedRef,
    edit: Edit,
}

impl Inner {
    /// Makes a batch. Every document waits behind what its page sent before; when all have come that far, the edits are made
    /// in one go. Two batches queue at all their documents in the same order, so neither waits for the other for ever.
    /// Answers with the heads of each document.
    pub(super) async fn edit_together(&self, space: &str, parts: Vec<Part>) -> Answer {
        let seat = |part: Part| Ok(Seat { doc: part.doc, served: self.served(part.doc)?, edit: part.into_edit() });
        let seats = parts.into_iter().map(seat).collect::<Result<Vec<Seat>, Failure>>()?;
        let documents: BTreeSet<u32> = seats.iter().map(|seat| seat.doc).collect();
        if documents.len() < seats.len() {
            return Err(Failure::new("INVALID", "a batch has one edit of each document"));
        }
        // Without a pause before this, or an edit that was sent later would be made earlier.
        let (reached, held): (Vec<_>, Vec<_>) = seats.iter().map(|seat| seat.served.hold()).unzip();
        for reached in join_all(reached).await {
            reached.map_err(|_| closed("document"))?;
        }
        let made = match seats.first() {
            Some(seat) => {
                let document = seat.served.session().document().clone();
                document.ready().await;
                self.make_together(space, &seats).await
            }
            None => return Ok(json!([])),
        };
        if made.is_err() {
            roll_back(&seats);
        }
        drop(held);
        let commit = made?;
        let stored = commit.durable_all().await;
        if matches!(&stored, Err(error) if !matches!(error, CommandError::Closed)) {
            roll_back(&seats);
        }
        let stored = stored.map_err(|error| Failure::from(DocumentError::from(error)))?;
        let heads = |seat: &Seat| {
            let id = seat.served.session().document().id();
            let found = stored.iter().find(|(document, _)| *document == id);
            found.map_or_else(|| patches::heads(seat.served.session().shown()), |(_, heads)| patches::heads(heads))
        };
        Ok(seats.iter().map(heads).collect::<Json>())
    }

    async fn make_together(&self, space: &str, seats: &[Seat]) -> Result<Commit, Failure> {
        let space = self.space(space).await?;
        // All are told, so that each knows what its page shows.
        let begun: Vec<Result<(), Failure>> =
            seats.iter().map(|seat| seat.served.session_mut().begin_edit(&seat.edit)).collect();
        begun.into_iter().collect::<Result<(), Failure>>()?;
        let commit = space.batch(|batch| {
            for Seat { served, edit, .. } in seats {
                let session = served.session();
                let message = edit.message.as_deref();
                batch.edit_with(session.document(), Some(session.shown()), message, |root| ops::apply(root, &edit.ops));
            }
        })?;
        for Seat { doc, served, edit } in seats {
            let id = served.session().document().id();
            let hash = commit.changes().iter().find(|(document, _)| *document == id).map(|(_, hash)| *hash);
            served.session_mut().edited(hash);
            let hash = hash.map(|hash| hash.to_string());
            self.tell(&json!({ "event": "made", "doc": doc, "seq": edit.seq, "hash": hash }));
        }
        Ok(commit)
    }
}

fn roll_back(seats: &[Seat]) {
    for seat in seats {
        seat.served.session_mut().roll_back();
        seat.served.look();
    }
}
