//! The edits that a simulated program makes.

use super::{Asked, Cluster};
use crate::document::edit::{EditError, MapDraft};
use crate::document::hot::{EditOptions, HotCell, HotError};
use crate::document::local::LocalChange;
use crate::document::template::Template;
use crate::document::value::{Kind, Value};
use crate::engine::Command;
use crate::id::Path;
use crate::io::{Input, RequestId};
use crate::sim::check::{Edit, Violation};
use crate::sim::dice::Dice;
use crate::sim::network::NodeId;

/// What every simulated document begins with.
pub fn template() -> Template {
    let initial = Value::Map(
        [
            ("body".to_owned(), Value::text("")),
            ("votes".to_owned(), Value::Counter(0)),
            ("items".to_owned(), Value::List(Vec::new())),
            ("map".to_owned(), Value::map()),
        ]
        .into(),
    );
    Template::new(&initial).expect("a map of four keys is a template")
}

impl Cluster {
    /// Edits the document at `path` once or a few times and commits that; opens it first if it has to.
    pub(super) fn edit(&mut self, id: NodeId, path: &Path) {
        let times = if self.program_dice.chance(200) { self.program_dice.between(2, 5) } else { 1 };
        let paths: Vec<Path> = (0..times).map(|_| path.clone()).collect();
        self.edit_paths(id, &paths);
    }

    /// Edits several open documents and commits all of it as one.
    pub(super) fn edit_batch(&mut self, id: NodeId) {
        let Some(process) = self.process(id) else { return };
        let paths: Vec<Path> = process.program.handles.keys().take(3).cloned().collect();
        self.edit_paths(id, &paths);
    }

    fn edit_paths(&mut self, id: NodeId, paths: &[Path]) {
        let Some(space) = self.space else { return };
        let (mut changes, mut edits) = (Vec::new(), Vec::new());
        for path in paths {
            if !self.node(id).standing.writes(path) && !self.program_dice.chance(30) {
                continue;
            }
            let Some(handle) = self.process(id).and_then(|p| p.program.handles.get(path)) else {
                if edits.is_empty() {
                    return self.open(id, path.clone());
                }
                continue;
            };
            let (document, generation, cell) = (handle.document, handle.generation, handle.cell.clone());
            match self.edit_cell(id, &cell) {
                Ok((key, added, Some(change))) => {
                    edits.push(Edit { path: path.clone(), generation, document, key, added, hash: change.hash });
                    changes.push(change);
                }
                Ok((.., None)) => {}
                Err(error) => return self.edit_failed(id, path, &error),
            }
        }
        if changes.is_empty() {
            return;
        }
        let commit = self.checks.on_commit_asked(id, edits);
        self.ask(id, Command::Commit { space, changes }, Asked::Commit(commit));
    }

    fn edit_failed(&mut self, id: NodeId, path: &Path, error: &HotError) {
        self.note(format_args!("n{} cannot edit {path}: {error}", id.0));
        if self.scenario.honest() {
            let what = format!("an edit of {path} failed: {error}");
            self.checks.fail(Violation::WrongReply { node: id, what });
        }
    }

    pub(in crate::sim) fn edit_cell(
        &mut self,
        id: NodeId,
        cell: &HotCell,
    ) -> Result<(String, i64, Option<LocalChange>), HotError> {
        let now = self.queue.now();
        let node = self.node_mut(id);
        node.edits += 1;
        let key = format!("n{}e{}", id.0, node.edits);
        let options = EditOptions::at(node.clock.read(now).wall);
        let mut dice = self.program_dice.fork();
        let old = dice.chance(100);
        let outcome = cell.with(|document| {
            let heads = document.heads()?;
            let edit = |root: &mut MapDraft<'_>| draw(root, &key, &mut dice);
            if old && let [only] = heads.as_slice() {
                // As a page does whose view is behind; here it is not, and nothing must differ.
                document.edit_at(&[*only], &options, edit)
            } else {
                document.edit(&options, edit)
            }
        })?;
        outcome.map(|(added, change)| (key, added, change))
    }

    /// An edit on a handle of the ghost process. It must not be acknowledged.
    pub(super) fn edit_as_ghost(&mut self, id: NodeId, path: &Path) {
        let Some(space) = self.space else { return };
        let Some(ghost) = self.node(id).ghost.as_ref() else { return };
        let life = ghost.life;
        let handle = ghost.program.handles.get(path).or_else(|| ghost.program.handles.values().next());
        let Some(handle) = handle else { return };
        let (document, generation, cell) = (handle.document, handle.generation, handle.cell.clone());
        let path =
            ghost.program.handles.iter().find(|(_, h)| h.document == document).map_or(path.clone(), |(p, _)| p.clone());
        if let Ok((key, added, Some(change))) = self.edit_cell(id, &cell) {
            let edits = vec![Edit { path, generation, document, key, added, hash: change.hash }];
            let commit = self.checks.on_ghost_commit(id, edits);
            let Some(ghost) = self.node_mut(id).ghost.as_mut() else { return };
            ghost.next_request += 1;
            let request = RequestId(ghost.next_request);
            ghost.program.asked.insert(request, Asked::Commit(commit));
            let command = Command::Commit { space, changes: vec![change] };
            self.feed(id, life, Input::Command { request, command });
        }
    }
}

/// One edit: its own key, and something that may meet what others do. Returns what it added to the counter.
fn draw(root: &mut MapDraft<'_>, key: &str, dice: &mut Dice) -> Result<i64, EditError> {
    root.put(key, dice.below(1 << 20) as i64)?;
    match dice.below(12) {
        0..3 => type_text(root, dice)?,
        3..5 if root.kind("votes")? == Some(Kind::Counter) => {
            let by = dice.between(1, 9) as i64;
            root.counter("votes")?.add(by)?;
            return Ok(by);
        }
        5..7 => change_list(root, dice)?,
        7 => drop(root.put("title", format!("title {}", dice.below(100)))),
        8 if root.kind("map")? == Some(Kind::Map) => {
            let field = format!("f{}", dice.below(4));
            let mut map = root.map("map")?;
            if dice.chance(300) {
                map.delete(&field)?;
            } else {
                map.put(&field, dice.below(1000) as i64)?;
            }
        }
        9 => root.put("blob", Value::Bytes(dice.seed().to_vec()))?,
        10 => big_text(root, dice)?,
        _ => {}
    }
    Ok(0)
}

fn type_text(root: &mut MapDraft<'_>, dice: &mut Dice) -> Result<(), EditError> {
    if root.kind("body")? != Some(Kind::Text) {
        return Ok(());
    }
    let mut text = root.text("body")?;
    let len = text.len() as u64;
    let from = dice.below(len + 1);
    let to = if dice.chance(300) { (from + dice.below(4)).min(len) } else { from };
    let words = ["tide ", "é", "shore\n", "🐚", "", "longer words are typed, too "];
    text.splice(from as usize..to as usize, dice.pick(&words).copied().unwrap_or_default())
}

/// Now and then a paste that does not fit one small frame.
fn big_text(root: &mut MapDraft<'_>, dice: &mut Dice) -> Result<(), EditError> {
    if root.kind("body")? != Some(Kind::Text) || !dice.chance(100) {
        return Ok(());
    }
    // One in ten does not even fit the largest frame.
    let most = if dice.chance(100) { 12_000 } else { 1_200 };
    let words: String = (0..dice.between(100, most)).map(|_| format!("{:x} ", dice.below(1 << 24))).collect();
    root.text("body")?.push(&words)
}

fn change_list(root: &mut MapDraft<'_>, dice: &mut Dice) -> Result<(), EditError> {
    if root.kind("items")? != Some(Kind::List) {
        return Ok(());
    }
    let mut list = root.list("items")?;
    let len = list.len() as u64;
    match dice.below(4) {
        0 if len > 0 => list.delete(dice.below(len) as usize),
        1 if len > 0 => list.put(dice.below(len) as usize, dice.below(100) as i64),
        2 => list.insert(dice.below(len + 1) as usize, format!("item {}", dice.below(1000))),
        _ => list.push(dice.below(1000) as i64),
    }
}
