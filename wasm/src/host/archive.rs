//! Portable copies of a space, piece by piece.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use foreshore::id::Path;
use foreshore::peer::{ArchiveItem, ArchiveReader, ArchiveWriter};
use serde_json::{Value as Json, json};

use super::{Answer, Inner};
use crate::errors::Failure;
use crate::request::Request;

/// Most copies that are under way at once.
const MAX_COPIES: usize = 8;

/// A copy that is under way.
pub(super) enum Copy {
    /// What is behind has gone out; `None`: all has.
    Out(ArchiveWriter, Option<Option<Path>>),
    In(ArchiveReader, Totals),
}

#[derive(Default)]
pub(super) struct Totals {
    changes: u64,
    refused: u64,
}

impl Inner {
    pub(super) async fn answer_archive(&self, request: Request) -> Answer {
        match request {
            Request::Export { space, live } => self.export(&space, live).await,
            Request::Import { space, live, bytes } => self.import(&space, live, bytes).await,
            other => Err(Failure::invalid("request", format!("{other:?}"))),
        }
    }

    /// The copy that a number names, taken out while it is worked on: a failure ends it.
    fn take_copy(&self, live: u32) -> Result<Option<Copy>, Failure> {
        let mut copies = self.copies.borrow_mut();
        let found = copies.remove(&live);
        if found.is_none() && copies.len() >= MAX_COPIES {
            return Err(Failure::new("TOO_LARGE", format!("{MAX_COPIES} copies are under way")).retryable());
        }
        Ok(found)
    }

    async fn export(&self, space: &str, live: u32) -> Answer {
        let space = self.space(space).await?;
        let (mut writer, after) = match self.take_copy(live)? {
            Some(Copy::Out(writer, after)) => (writer, after),
            _ => {
                let (writer, head) = ArchiveWriter::begin(space.id());
                self.copies.borrow_mut().insert(live, Copy::Out(writer, Some(None)));
                return Ok(BASE64.encode(head).into());
            }
        };
        let Some(after) = after else { return Ok(Json::Null) };
        let page = space.export(after).await?;
        let mut piece = writer.page(&page.page).map_err(|error| Failure::new("TOO_LARGE", error))?;
        let next = page.next.map(Some);
        if next.is_none() {
            piece.extend(writer.finish());
        }
        self.copies.borrow_mut().insert(live, Copy::Out(writer, next));
        Ok(BASE64.encode(piece).into())
    }

    async fn import(&self, space: &str, live: u32, bytes: Option<String>) -> Answer {
        let space = self.space(space).await?;
        let (mut reader, mut totals) = match self.take_copy(live)? {
            Some(Copy::In(reader, totals)) => (reader, totals),
            _ => Default::default(),
        };
        let damaged = |error| Failure::new("INVALID", error).hint("what came whole before this was taken in");
        match &bytes {
            Some(bytes) => {
                reader.feed(&BASE64.decode(bytes).map_err(|error| Failure::invalid("bytes", error))?);
            }
            None => reader.close().map_err(damaged)?,
        }
        while let Some(item) = reader.next_item().map_err(damaged)? {
            match item {
                ArchiveItem::Space(of) if of != space.id().to_bech32() => {
                    return Err(Failure::new("INVALID", format!("this is a copy of the space {of}, not of this one")));
                }
                ArchiveItem::Page(page) => {
                    let imported = space.import(page).await?;
                    totals.changes += imported.changes;
                    totals.refused += imported.refused;
                }
                _ => {}
            }
        }
        let said = json!({ "changes": totals.changes, "refused": totals.refused });
        if bytes.is_some() {
            self.copies.borrow_mut().insert(live, Copy::In(reader, totals));
        }
        Ok(said)
    }
}
