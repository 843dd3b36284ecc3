//! Carrying an inverse out at the present state: what is still the author's to take back, and no more.

use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::Transactable;
use automerge::{Cursor as Element, ObjId, ObjType, Prop, ReadDoc};

use super::Memory;
use super::plan::{Copied, Inverse, MarkBack, Run, Was};
use crate::document::cursor::{self, Place as Placed};
use crate::document::edit::{EditError, Place, Tx};
use crate::document::patch::Step;
use crate::document::value::{MAX_DEPTH, to_scalar};

/// Carries out the inverse of one span.
pub(super) fn out(tx: &mut Tx, plan: &[Inverse], memory: &mut Memory) -> Result<(), EditError> {
    plan.iter().try_for_each(|inverse| one(tx, inverse, memory))
}

fn one(tx: &mut Tx, inverse: &Inverse, memory: &mut Memory) -> Result<(), EditError> {
    match inverse {
        Inverse::Text { obj, runs, marks } => {
            runs.iter().try_for_each(|run| text_run(tx, obj, run, memory))?;
            marks.iter().try_for_each(|mark| mark_back(tx, obj, mark, memory))
        }
        Inverse::List { obj, runs } => runs.iter().try_for_each(|run| list_run(tx, obj, run, memory)),
        Inverse::Put { obj, key, value, absent } => {
            let obj = memory.object(obj);
            let Some(now) = writers(tx, &obj, key) else { return Ok(()) };
            // Somebody else wrote it since, or deleted what the span had put.
            if now.iter().any(|id| !ours(tx, id, memory)) || (now.is_empty() && !absent) {
                return Ok(());
            }
            write(tx, &obj, Place::Key(key), value, memory)
        }
        Inverse::Delete { obj, key } => {
            let obj = memory.object(obj);
            let now = writers(tx, &obj, key).unwrap_or_default();
            if now.is_empty() || now.iter().any(|id| !ours(tx, id, memory) || others_inside(tx, id, memory, MAX_DEPTH))
            {
                return Ok(());
            }
            Ok(tx.tell(|tx| tx.delete(&obj, key.as_str()))?)
        }
        Inverse::PutElement { obj, element, value } => {
            let Some(index) = index_of(tx, obj, element, memory) else { return Ok(()) };
            let obj = memory.object(obj);
            let now =
                tx.ask(|tx| tx.get_all(&obj, index).map(|all| all.into_iter().map(|(_, id)| id).collect::<Vec<_>>()))?;
            if now.iter().any(|id| !ours(tx, id, memory)) {
                return Ok(());
            }
            write(tx, &obj, Place::Index(index), value, memory)
        }
        Inverse::Add { obj, key, by } => {
            let obj = memory.object(obj);
            let counter = tx.ask(|tx| matches!(tx.get(&obj, key.as_str()), Ok(Some((value, _))) if value.is_counter()));
            if counter { Ok(tx.tell(|tx| tx.increment(&obj, key.as_str(), *by))?) } else { Ok(()) }
        }
        Inverse::AddElement { obj, element, by } => {
            let Some(index) = index_of(tx, obj, element, memory) else { return Ok(()) };
            let obj = memory.object(obj);
            let counter = tx.ask(|tx| matches!(tx.get(&obj, index), Ok(Some((value, _))) if value.is_counter()));
            if counter { Ok(tx.tell(|tx| tx.increment(&obj, index, *by))?) } else { Ok(()) }
        }
    }
}

/// Where an element that `was` held is in the text that stands for it now.
fn find(tx: &Tx, was: &ObjId, name: &str, memory: &Memory) -> Option<Placed> {
    let element = Element::try_from(memory.element(was, name)?.as_str()).ok()?;
    tx.ask(|tx| cursor::place(tx, &memory.object(was), &element, None))
}

fn text_run(tx: &mut Tx, was: &ObjId, run: &Run<String>, memory: &mut Memory) -> Result<(), EditError> {
    let obj = &memory.object(was);
    let visible = |name: &String| find(tx, was, name, memory).filter(|place| place.visible);
    let mut gone: Vec<(usize, usize)> =
        run.remove.iter().filter_map(visible).map(|place| (place.start, place.width)).collect();
    gone.sort_unstable();
    for (start, width) in gone.into_iter().rev() {
        tx.tell(|tx| tx.splice_text(obj, start, width as isize, ""))?;
    }
    if run.insert.is_empty() {
        return Ok(());
    }
    let after = run.after.as_ref().and_then(|name| find(tx, was, name, memory));
    let at = after.map_or(0, |place| place.start + place.width);
    tx.tell(|tx| tx.splice_text(obj, at, 0, &run.insert))?;
    let width = run.insert.encode_utf16().count();
    let new = element_names(tx, obj, at, width);
    if new.len() == run.names.len() {
        run.names.iter().zip(new).for_each(|(old, new)| memory.remember(old, new, obj));
    }
    Ok(())
}

/// Names of the elements of a range of text.
fn element_names(tx: &Tx, obj: &ObjId, at: usize, width: usize) -> Vec<String> {
    let mut names: Vec<String> = tx.ask(|tx| {
        (at..at + width).filter_map(|at| tx.get_cursor(obj, at, None).ok()).map(|cursor| cursor.to_string()).collect()
    });
    names.dedup();
    names
}

fn mark_back(tx: &mut Tx, was: &ObjId, mark: &MarkBack, memory: &Memory) -> Result<(), EditError> {
    let ends = (find(tx, was, &mark.first, memory), find(tx, was, &mark.last, memory));
    let (Some(first), Some(last)) = ends else { return Ok(()) };
    let (from, to) = (first.start, last.start + last.width);
    let Some(value) = to_scalar(&mark.value).filter(|_| from < to) else { return Ok(()) };
    let mark = Mark::new(mark.name.clone(), value, from, to);
    Ok(tx.tell(|tx| tx.mark(memory.object(was), mark, ExpandMark::None))?)
}

fn list_run(tx: &mut Tx, was: &ObjId, run: &Run<Vec<Copied>>, memory: &mut Memory) -> Result<(), EditError> {
    let obj = &memory.object(was);
    for name in &run.remove {
        let Some(index) = index_of(tx, was, name, memory) else { continue };
        let now =
            tx.ask(|tx| tx.get_all(obj, index).map(|all| all.into_iter().map(|(_, id)| id).collect::<Vec<_>>()))?;
        if now.iter().all(|id| ours(tx, id, memory) && !others_inside(tx, id, memory, MAX_DEPTH)) {
            tx.tell(|tx| tx.delete(obj, index))?;
        }
    }
    let start = match &run.after {
        // Where the neighbour is gone too, the place it left.
        Some(name) => match index_of(tx, was, name, memory) {
            Some(index) => index + 1,
            None => find(tx, was, name, memory).map_or(0, |place| place.start),
        },
        None => 0,
    };
    for (at, (copied, name)) in (start..).zip(run.insert.iter().zip(&run.names)) {
        write(tx, obj, Place::Insert(at), copied, memory)?;
        if let Some(new) = tx.ask(|tx| tx.keys(obj).nth(at)) {
            memory.remember(name, new, obj);
        }
    }
    Ok(())
}

/// Writes a value again and remembers which object stands for which.
fn write(tx: &mut Tx, obj: &ObjId, place: Place<'_>, copied: &Copied, memory: &mut Memory) -> Result<(), EditError> {
    let new = tx.write(obj, place, &copied.value)?;
    if let (Some(new), Some(was)) = (new, &copied.was) {
        rename(tx, was, &new, memory);
    }
    Ok(())
}

fn rename(tx: &Tx, was: &Was, new: &ObjId, memory: &mut Memory) {
    if was.obj != *new {
        memory.objects.insert(was.obj.clone(), new.clone());
    }
    if !was.elements.is_empty() {
        let names = match tx.ask(|tx| tx.object_type(new)) {
            Ok(ObjType::Text) => element_names(tx, new, 0, tx.ask(|tx| tx.length(new))),
            _ => tx.ask(|tx| tx.keys(new).collect()),
        };
        if names.len() == was.elements.len() {
            was.elements.iter().zip(names).for_each(|(old, name)| memory.remember(old, name, new));
        }
    }
    for (step, inner) in &was.inside {
        let prop = match step {
            Step::Key(key) => Prop::from(key.as_str()),
            Step::Index(index) => Prop::from(*index),
        };
        let object = tx.ask(|tx| match tx.get(new, prop) {
            Ok(Some((automerge::Value::Object(_), id))) => Some(id),
            _ => None,
        });
        if let Some(id) = object {
            rename(tx, inner, &id, memory);
        }
    }
}

/// Ids of the operations whose values are under a key; `None` if there is no such object.
fn writers(tx: &Tx, obj: &ObjId, key: &str) -> Option<Vec<ObjId>> {
    tx.ask(|tx| tx.get_all(obj, key).ok().map(|all| all.into_iter().map(|(_, id)| id).collect()))
}

/// Whether an operation is of a recorded change or of this very one.
fn ours(tx: &Tx, id: &ObjId, memory: &Memory) -> bool {
    memory.is_ours(id) || tx.ask(|tx| tx.hash_for_opid(id)).is_none()
}

/// Whether an object holds something that is not ours.
fn others_inside(tx: &Tx, obj: &ObjId, memory: &Memory, left: usize) -> bool {
    let Ok(kind) = tx.ask(|tx| tx.object_type(obj)) else { return false };
    let Some(left) = left.checked_sub(1) else { return true };
    let items: Vec<(bool, ObjId)> = tx.ask(|tx| match kind {
        ObjType::List | ObjType::Text => tx
            .list_range(obj, ..)
            .map(|item| (matches!(item.value, automerge::ValueRef::Object(_)), item.id()))
            .collect(),
        _ => tx
            .map_range(obj, ..)
            .map(|item| (matches!(item.value, automerge::ValueRef::Object(_)), item.id()))
            .collect(),
    });
    items.iter().any(|(object, id)| !ours(tx, id, memory) || (*object && others_inside(tx, id, memory, left)))
}

/// Where an element that `was` held is in the list that stands for it now; `None` if it is gone.
fn index_of(tx: &Tx, was: &ObjId, name: &str, memory: &Memory) -> Option<usize> {
    let name = memory.element(was, name)?;
    tx.ask(|tx| tx.keys(memory.object(was)).position(|key| key == name))
}
