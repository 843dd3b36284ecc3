//! Edits of documents by whoever has read them: whole values, JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902), each only
//! where the document is still what it was read as.
//!
//! A patch is applied to what the document holds as JSON, inside the edit, so that nothing comes in between; what differs
//! afterwards is then edited place by place. Places that a patch leaves alone are not touched, whatever kind of value they hold.

use foreshore::document::edit::MapDraft;
use foreshore::document::{EditError, PutMode, Value};
use foreshore::id::ChangeHash;
use foreshore::peer::{Document as Handle, DocumentError};
use serde_json::Value as Json;

use super::documents::{no_document, parse_bookmark, parse_path, part, texts};
use super::{Service, refused, refused_document};
use crate::failure::{Code, Failure};
use crate::request::{Document, Removed, Written};

/// Bytes that the operations of one JSON Patch may copy.
const MAX_COPIED_BYTES: usize = 4 << 20;

/// An edit of a whole document.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    /// The document becomes equal to an object.
    Value(Json),
    /// JSON Merge Patch.
    Merge(Json),
    /// JSON Patch.
    Patch(json_patch::Patch),
}

/// What an edit was decided on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Precondition {
    /// Some document lives there.
    pub(crate) exists: bool,
    /// None does.
    pub(crate) absent: bool,
    /// Its heads are one of these sets; `None`: whichever.
    pub(crate) heads: Option<Vec<Vec<String>>>,
}

impl Precondition {
    fn is_none(&self) -> bool {
        !self.exists && !self.absent && self.heads.is_none()
    }

    fn holds(&self, heads: &[String]) -> bool {
        let mut heads = heads.to_vec();
        heads.sort_unstable();
        (!self.exists || !heads.is_empty())
            && (!self.absent || heads.is_empty())
            && self.heads.as_ref().is_none_or(|sets| !heads.is_empty() && sets.contains(&heads))
    }

    /// Why it does not hold.
    fn failed(&self, path: &str, heads: &[String]) -> Failure {
        let (what, hint) = match () {
            () if self.absent => ("a document is there already", "read it, and patch it"),
            () if heads.is_empty() => ("no document is there", "leave the precondition out to make one"),
            () => ("the document has changed since it was read", "read it again, and decide again"),
        };
        Failure::new(Code::Conflict, format_args!("{path}: {what}")).hint(hint).reason("precondition_failed")
    }
}

impl Service {
    /// Edits a document. With `after`, only once this peer has what that bookmark stands for; the bookmark that comes back
    /// stands for both.
    pub(crate) async fn edit(
        &self,
        space: &str,
        path: &str,
        edit: &Edit,
        only: &Precondition,
        after: Option<&str>,
    ) -> Result<(Written, bool), Failure> {
        let path = parse_path(path)?;
        let space = self.space(space).await?;
        let after = after.map(parse_bookmark).transpose()?;
        let seen = match &after {
            Some(bookmark) => Some(space.reach(bookmark).await.map_err(refused)?),
            None => None,
        };
        let document: Handle<Value> = space.document(&path).await.map_err(refused)?;
        // A patch is of something.
        let makes = matches!(edit, Edit::Value(_));
        let mut created = false;
        let commit = loop {
            let fits = |heads: &[ChangeHash]| {
                created = heads.is_empty();
                (makes || !created) && only.holds(&texts(heads))
            };
            match document.edit_if(fits, |draft| apply(draft, edit)) {
                Err(DocumentError::Busy) => document.ready().await,
                Err(DocumentError::Moved { heads, .. }) if heads.is_empty() && only.is_none() => {
                    return Err(no_document(&path));
                }
                Err(DocumentError::Moved { heads, .. }) => return Err(only.failed(path.as_str(), &texts(&heads))),
                edited => break edited.map_err(refused_document)?.1,
            }
        };
        let heads = commit.durable().await.map_err(refused)?;
        if heads.is_empty() {
            let failure = Failure::new(Code::Conflict, "a new document has at least one key");
            return Err(failure.hint("put a key into it").reason("empty_document"));
        }
        let bookmark = match commit.hash() {
            Some(_) => commit.bookmark().await,
            // It was that way already: what is here stands for it.
            None => space.bookmark_of(vec![path.clone()]).await,
        };
        let mut bookmark = bookmark.map_err(refused)?;
        if let Some(seen) = seen {
            let mut both = seen;
            both.merge(&bookmark).map_err(|error| Failure::invalid("bookmark", error))?;
            bookmark = both;
        }
        let written = Written {
            bookmark: bookmark.to_string(),
            path: path.to_string(),
            document: document.id().to_string(),
            heads: texts(&heads),
            changed: commit.hash().is_some(),
        };
        Ok((written, created))
    }

    /// A document, or a part of it, as it was at earlier heads.
    pub(crate) async fn value_at(
        &self,
        space: &str,
        path: &str,
        heads: &[String],
        (at, tagged): (&str, bool),
    ) -> Result<Document, Failure> {
        let path = parse_path(path)?;
        let parse = |text: &String| text.parse::<ChangeHash>().map_err(|error| Failure::invalid("heads", error));
        let then = heads.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let space = self.space(space).await?;
        let document: Handle<Value> = space.document(&path).await.map_err(refused)?;
        if document.heads().map_err(refused_document)?.is_empty() {
            return Err(no_document(&path));
        }
        let value = part(&document.value_at(&then).map_err(refused_document)?, &path, at, tagged)?;
        let bookmark = space.bookmark_of(vec![path.clone()]).await.map_err(refused)?;
        Ok(Document { path: path.to_string(), heads: heads.to_vec(), value, bookmark: bookmark.to_string() })
    }

    /// Deletes a document. The precondition is looked at right before: an edit that comes in between is set aside by the
    /// deletion, as are those of peers that did not know of it.
    pub(crate) async fn delete_if(
        &self,
        space: &str,
        path: &str,
        only: &Precondition,
        after: Option<&str>,
    ) -> Result<Removed, Failure> {
        let path = parse_path(path)?;
        let space = self.space(space).await?;
        let after = after.map(parse_bookmark).transpose()?;
        if let Some(bookmark) = &after {
            space.reach(bookmark).await.map_err(refused)?;
        }
        let heads = space.read::<Value>(&path).await.map_err(refused)?.heads;
        if !only.holds(&texts(&heads)) {
            return Err(only.failed(path.as_str(), &texts(&heads)));
        }
        let deleted = space.delete(&path).await.map_err(refused)?;
        let mut bookmark = space.bookmark_of(vec![path.clone()]).await.map_err(refused)?;
        if let Some(mut both) = after {
            both.forget(&path);
            both.merge(&bookmark).map_err(|error| Failure::invalid("bookmark", error))?;
            bookmark = both;
        }
        Ok(Removed { path: path.to_string(), deleted, bookmark: bookmark.to_string() })
    }
}

fn apply(draft: &mut MapDraft<'_>, edit: &Edit) -> Result<(), EditError> {
    let before = draft.value().to_json();
    let after = match edit {
        Edit::Value(value) => value.clone(),
        Edit::Merge(patch) => {
            let mut after = before.clone();
            json_patch::merge(&mut after, patch);
            after
        }
        Edit::Patch(patch) => patched(&before, patch).map_err(EditError::aborted)?,
    };
    if !after.is_object() {
        let failure = Failure::invalid("value", "a document is a JSON object, and stays one");
        return Err(EditError::aborted(failure.reason("not_an_object")));
    }
    change(draft, "", &before, &after)
}

/// Applies a patch. What it copies is counted: a few operations that copy what was copied before would otherwise make of a short
/// patch a document of any size.
fn patched(before: &Json, patch: &json_patch::Patch) -> Result<Json, Failure> {
    let (mut after, mut copied) = (before.clone(), 0);
    for operation in &patch.0 {
        if let json_patch::PatchOperation::Copy(copy) = operation {
            copied += after.pointer(copy.from.as_str()).map_or(0, size);
            if copied > MAX_COPIED_BYTES {
                let message = format_args!("a patch copies at most {MAX_COPIED_BYTES} bytes");
                return Err(Failure::new(Code::Invalid, message).reason("too_large"));
            }
        }
        json_patch::patch(&mut after, std::slice::from_ref(operation)).map_err(|error| no_place(&error))?;
    }
    Ok(after)
}

/// Bytes of a value, roughly.
fn size(value: &Json) -> usize {
    match value {
        Json::String(text) => 8 + text.len(),
        Json::Array(items) => 8 + items.iter().map(size).sum::<usize>(),
        Json::Object(fields) => 8 + fields.iter().map(|(key, value)| 8 + key.len() + size(value)).sum::<usize>(),
        _ => 8,
    }
}

fn no_place(error: &json_patch::PatchError) -> Failure {
    let failure = Failure::new(Code::Conflict, format_args!("the patch does not fit the document: {error}"));
    failure.hint("read the document again; no operation was applied").reason("patch_does_not_fit")
}

/// Edits what differs, as deep down as it does.
fn change(draft: &mut MapDraft<'_>, at: &str, before: &Json, after: &Json) -> Result<(), EditError> {
    match (before, after) {
        (before, after) if before == after => Ok(()),
        (Json::Object(old), Json::Object(new)) if !is_tag(old) && !is_tag(new) => {
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                draft.delete_at(&below(at, key))?;
            }
            for (key, value) in new {
                match old.get(key) {
                    Some(known) => change(draft, &below(at, key), known, value)?,
                    None => draft.put_json(&below(at, key), value, PutMode::Diff)?,
                }
            }
            Ok(())
        }
        (Json::Array(old), Json::Array(new)) if old.len() == new.len() => {
            let pairs = old.iter().zip(new).enumerate();
            pairs
                .map(|(index, (old, new))| (below(at, &index.to_string()), old, new))
                .try_for_each(|(place, old, new)| change(draft, &place, old, new))
        }
        (_, after) => draft.put_json(at, after, PutMode::Diff),
    }
}

/// Whether an object stands for a value that JSON has no kind for, such as `{"$bytes": …}`: it is one value.
fn is_tag(object: &serde_json::Map<String, Json>) -> bool {
    object.len() == 1 && object.keys().all(|key| key.starts_with('$'))
}

/// A JSON Pointer (RFC 6901) one step further.
fn below(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}
