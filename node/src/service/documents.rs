//! Documents: put, get, list, watch, delete, history.

use foreshore::document::{PutMode as Mode, Value};
use foreshore::engine::MAX_LIST;
use foreshore::id::{ChangeHash, Path, Prefix};
use foreshore::peer::{Document as Handle, DocumentError, SpaceChange};
use serde_json::Value as Json;

use super::{Service, give, refused, refused_document};
use crate::control::Items;
use crate::failure::{Code, Failure};
use crate::request::{Change, Document, Listed, Page, PutMode, Removed, Revision, Written};

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
        Ok(Written {
            path: path.to_string(),
            document: document.id().to_string(),
            heads: texts(&heads),
            changed: commit.hash().is_some(),
        })
    }

    pub(super) async fn get(&self, space: &str, path: &str, at: &str, tagged: bool) -> Result<Document, Failure> {
        let path = parse_path(path)?;
        if !(at.is_empty() || at.starts_with('/')) {
            return Err(Failure::invalid("pointer", "a JSON Pointer is empty or begins with a slash, as in /a/0"));
        }
        let found = self.space(space).await?.read(&path).await.map_err(refused)?;
        let snapshot = found.ok_or_else(|| no_document(&path))?;
        let mut whole = if tagged { snapshot.value.to_tagged_json() } else { snapshot.value.to_json() };
        let value = whole
            .pointer_mut(at)
            .map(Json::take)
            .ok_or_else(|| Failure::new(Code::NotFound, format_args!("{path} holds nothing at {at}")))?;
        Ok(Document { path: path.to_string(), heads: texts(&snapshot.heads), value })
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
                        true => space.read(&change.path).await.map_err(refused)?.map(|s| s.value.to_json()),
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
        let deleted = self.space(space).await?.delete(&path).await.map_err(refused)?;
        Ok(Removed { path: path.to_string(), deleted })
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

fn no_document(path: &Path) -> Failure {
    Failure::new(Code::NotFound, format_args!("no document at {path}"))
}

pub(super) fn parse_path(text: &str) -> Result<Path, Failure> {
    Path::parse(text).map_err(|e| Failure::invalid(&format!("path {text:?}"), e))
}

pub(super) fn parse_prefix(text: &str) -> Result<Prefix, Failure> {
    Prefix::parse(text).map_err(|e| Failure::invalid(&format!("prefix {text:?}"), e))
}

fn texts(hashes: &[ChangeHash]) -> Vec<String> {
    hashes.iter().map(ToString::to_string).collect()
}
