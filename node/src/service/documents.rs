//! Documents: put, get, wait, list, watch, delete, history.

use std::time::Duration;

use foreshore::document::{PutMode as Mode, Value};
use foreshore::engine::MAX_LIST;
use foreshore::id::{ChangeHash, Path, Prefix};
use foreshore::peer::{Bookmark, BookmarkError, Document as Handle, DocumentError, Space, SpaceChange};
use serde_json::Value as Json;

use super::{Service, give, refused, refused_document};
use crate::control::Items;
use crate::failure::{Code, Failure};
use crate::request::{Change, Document, Listed, Page, PutMode, Reached, Removed, Revision, Written};

impl Service {
    pub(super) async fn put(
        &self,
        space: &str,
        path: &str,
        at: &str,
        value: &Json,
        mode: PutMode,
        synced: usize,
    ) -> Result<Written, Failure> {
        let path = parse_path(path)?;
        let mode = match mode {
            PutMode::Diff => Mode::Diff,
            PutMode::Replace => Mode::Replace,
            PutMode::Merge => Mode::Merge,
        };
        if at.is_empty() && !value.is_object() {
            return Err(Failure::invalid("value", "a document is a JSON object")
                .hint("--at /key writes a part of it, whatever its kind"));
        }
        let space = self.space(space).await?;
        let document: Handle<Value> = space.document(&path).await.map_err(refused)?;
        let commit = loop {
            match document.edit(|draft| draft.put_json(at, value, mode)) {
                Err(DocumentError::Busy) => document.ready().await,
                edited => break edited.map_err(refused_document)?,
            }
        };
        let heads = commit.durable().await.map_err(refused)?;
        if heads.is_empty() {
            return Err(Failure::invalid("value", "a new document has at least one key"));
        }
        if synced > 0 {
            document.synced(synced).await.map_err(refused_document)?;
        }
        let bookmark = match commit.hash() {
            Some(_) => commit.bookmark().await,
            // It was that way already: what is here stands for it.
            None => space.bookmark_of(vec![path.clone()]).await,
        };
        Ok(Written {
            bookmark: bookmark.map_err(refused)?.to_string(),
            path: path.to_string(),
            document: document.id().to_string(),
            heads: texts(&heads),
            changed: commit.hash().is_some(),
        })
    }

    pub(crate) async fn get(
        &self,
        space: &str,
        path: &str,
        at: &str,
        tagged: bool,
        at_least: Option<&str>,
        wait: Duration,
    ) -> Result<Document, Failure> {
        let path = parse_path(path)?;
        check_pointer(at)?;
        let at_least = at_least.map(parse_bookmark).transpose()?;
        let mut read = self.space_of(space, at_least.as_ref()).await?.read::<Value>(&path);
        if let Some(bookmark) = &at_least {
            read = read.at_least(bookmark).timeout(wait);
        }
        let fresh = read.await.map_err(refused)?;
        let found = fresh.value.ok_or_else(|| no_document(&path))?;
        let value = part(&found, &path, at, tagged)?;
        Ok(Document { path: path.to_string(), heads: texts(&fresh.heads), value, bookmark: fresh.bookmark.to_string() })
    }

    pub(super) async fn wait(&self, space: &str, bookmark: &str, wait: Duration) -> Result<Reached, Failure> {
        let bookmark = parse_bookmark(bookmark)?;
        let space = self.space_of(space, Some(&bookmark)).await?;
        let reached = space.reach(&bookmark).timeout(wait).await.map_err(refused)?;
        Ok(Reached { space: space.name().to_owned(), bookmark: reached.to_string() })
    }

    /// Waits until the peer has what a bookmark stands for.
    pub(crate) async fn reach(&self, space: &Space, bookmark: &Bookmark) -> Result<Bookmark, Failure> {
        space.reach(bookmark).await.map_err(refused)
    }

    /// Stands for what is here at some paths.
    pub(crate) async fn bookmark_of(&self, space: &Space, paths: Vec<Path>) -> Result<Bookmark, Failure> {
        space.bookmark_of(paths).await.map_err(refused)
    }

    /// The space that a request names, or else the one that its bookmark is of.
    async fn space_of(&self, name: &str, bookmark: Option<&Bookmark>) -> Result<Space, Failure> {
        match bookmark {
            Some(bookmark) if name.is_empty() => self.space(&bookmark.space().to_bech32()).await,
            _ => self.space(name).await,
        }
    }

    pub(super) async fn list(
        &self,
        space: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        items: &Items,
    ) -> Result<Page, Failure> {
        let prefix = parse_prefix(prefix)?;
        let mut after = after.map(parse_path).transpose()?;
        let space = self.space(space).await?;
        let mut left = limit;
        while left > 0 {
            let page = space.list(&prefix).limit(left.min(MAX_LIST)).after(after).await.map_err(refused)?;
            left = left.saturating_sub(page.items.len());
            for info in page.items {
                let line = Listed {
                    path: info.path.to_string(),
                    document: info.document.to_string(),
                    heads: texts(&info.heads),
                    bytes: info.bytes,
                    changed_at: info.changed_at.0,
                };
                give(items, line).await?;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(Page { next: after.map(|path| path.to_string()) })
    }

    pub(super) async fn watch(
        &self,
        space: &str,
        prefix: &str,
        values: bool,
        count: Option<u64>,
        items: &Items,
    ) -> Result<(), Failure> {
        let prefix = parse_prefix(prefix)?;
        let space = self.space(space).await?;
        let mut changes = space.watch(&prefix).map_err(refused)?;
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0 {
            let change = match changes.next().await {
                None => return Err(Failure::new(Code::Interrupted, "the peer stopped")),
                Some(SpaceChange::Document(change)) => {
                    let value = match values && !change.deleted {
                        true => {
                            let fresh = space.read::<Value>(&change.path).await.map_err(refused)?;
                            fresh.value.map(|value| value.to_json())
                        }
                        false => None,
                    };
                    let kind = if change.deleted { "deleted" } else { "changed" };
                    Change { path: change.path.to_string(), kind: kind.into(), remote: change.remote, value }
                }
                // More than was kept has happened: list again.
                Some(_) => Change { path: prefix.to_string(), kind: "resync".into(), remote: false, value: None },
            };
            give(items, change).await?;
            left -= 1;
        }
        Ok(())
    }

    pub(super) async fn delete(&self, space: &str, path: &str) -> Result<Removed, Failure> {
        let path = parse_path(path)?;
        let space = self.space(space).await?;
        let deleted = space.delete(&path).await.map_err(refused)?;
        let bookmark = space.bookmark_of(vec![path.clone()]).await.map_err(refused)?;
        Ok(Removed { path: path.to_string(), deleted, bookmark: bookmark.to_string() })
    }

    pub(super) async fn history(&self, space: &str, path: &str, limit: usize, items: &Items) -> Result<(), Failure> {
        let path = parse_path(path)?;
        let space = self.space(space).await?;
        let document: Handle<Value> = space.document(&path).await.map_err(refused)?;
        if document.heads().map_err(refused_document)?.is_empty() {
            return Err(no_document(&path));
        }
        for entry in document.history(None, limit).map_err(refused_document)? {
            let line = Revision {
                hash: entry.hash.to_string(),
                actor: entry.actor.as_bytes().iter().map(|b| format!("{b:02x}")).collect(),
                seq: entry.seq,
                time: entry.time.0,
                ops: entry.ops,
                message: entry.message,
            };
            give(items, line).await?;
        }
        Ok(())
    }
}

fn check_pointer(at: &str) -> Result<(), Failure> {
    match at.is_empty() || at.starts_with('/') {
        true => Ok(()),
        false => Err(Failure::invalid("pointer", "a JSON Pointer is empty or begins with a slash, as in /a/0")),
    }
}

/// What a JSON Pointer leads to in a document.
pub(super) fn part(value: &Value, path: &Path, at: &str, tagged: bool) -> Result<Json, Failure> {
    check_pointer(at)?;
    let mut whole = if tagged { value.to_tagged_json() } else { value.to_json() };
    let found = whole.pointer_mut(at).map(Json::take);
    found.ok_or_else(|| Failure::new(Code::NotFound, format_args!("{path} holds nothing at {at}")))
}

pub(super) fn no_document(path: &Path) -> Failure {
    Failure::new(Code::NotFound, format_args!("no document at {path}"))
}

pub(super) fn parse_path(text: &str) -> Result<Path, Failure> {
    Path::parse(text).map_err(|e| Failure::invalid(&format!("path {text:?}"), e))
}

pub(super) fn parse_prefix(text: &str) -> Result<Prefix, Failure> {
    Prefix::parse(text).map_err(|e| Failure::invalid(&format!("prefix {text:?}"), e))
}

pub(super) fn parse_bookmark(text: &str) -> Result<Bookmark, Failure> {
    text.parse().map_err(|e: BookmarkError| Failure::invalid("bookmark", e))
}

pub(super) fn texts(hashes: &[ChangeHash]) -> Vec<String> {
    hashes.iter().map(ToString::to_string).collect()
}
