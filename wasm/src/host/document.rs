//! Documents of pages: one task each, which makes edits in order and tells what changed.

use std::rc::Rc;
use std::time::Duration;

use foreshore::document::Side;
use foreshore::id::ChangeHash;
use foreshore::peer::{CommandError, DocumentError, SpaceChange};
use futures::StreamExt as _;
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, select};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::pin::pin;
use wasm_bindgen_futures::spawn_local;

use super::{Answer, Inner, closed, parse, parse_heads, template};
use crate::errors::Failure;
use crate::ops;
use crate::patches;
use crate::request::{Request, Standing};
use crate::session::{Edit, Session};

/// What a document's task is told.
enum Told {
    Edit(Edit, oneshot::Sender<Answer>),
    Ack(u64),
    /// Something may be due.
    Look,
    /// Answered once everything before it is done.
    Fence(oneshot::Sender<()>),
    /// Answered once everything before it is done; nothing behind it is done before it is released.
    Hold(oneshot::Sender<()>, oneshot::Receiver<()>),
}

/// A document that a page has open. Dropping it ends its task.
pub(super) struct Served {
    told: mpsc::UnboundedSender<Told>,
    session: Rc<RefCell<Session>>,
}

impl Served {
    /// Queues an edit; the answer comes when it is stored.
    pub(super) fn edit(&self, edit: Edit) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        // A task that is gone drops the sender, which is an answer too.
        let _ = self.told.unbounded_send(Told::Edit(edit, answer));
        receiver
    }

    /// Waits until everything that the page sent before has been taken in.
    async fn fence(&self) -> Result<(), Failure> {
        let (reached, receiver) = oneshot::channel();
        let _ = self.told.unbounded_send(Told::Fence(reached));
        receiver.await.map_err(|_| closed("document"))
    }

    /// Holds the document once everything that the page sent before has been taken in, until what comes back is dropped.
    pub(super) fn hold(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((reached, receiver), (release, released)) = (oneshot::channel(), oneshot::channel());
        let _ = self.told.unbounded_send(Told::Hold(reached, released));
        (receiver, release)
    }

    /// Something may be due.
    pub(super) fn look(&self) {
        let _ = self.told.unbounded_send(Told::Look);
    }

    pub(super) fn ack(&self, event: u64) {
        let _ = self.told.unbounded_send(Told::Ack(event));
    }
}

impl Inner {
    pub(super) fn served(&self, doc: u32) -> Result<ServedRef, Failure> {
        let documents = self.documents.borrow();
        let served = documents.get(&doc).ok_or_else(|| closed("document"))?;
        Ok(ServedRef(Served { told: served.told.clone(), session: served.session.clone() }))
    }

    pub(super) async fn open_document(
        self: &Rc<Self>,
        space: &str,
        path: &str,
        layers: &[Json],
        doc: u32,
        standings: &[Standing],
    ) -> Answer {
        let standings = standings.iter().map(|s| Ok((parse_heads(&s.heads)?, s.seq)));
        let standings = standings.collect::<Result<Vec<_>, Failure>>()?;
        self.want(space, doc, parse("path", path)?).await?;
        let opened = self.open_wanted(space, path, layers, doc, &standings).await;
        if opened.is_err() {
            self.unwant(doc).await?;
        }
        opened
    }

    async fn open_wanted(
        self: &Rc<Self>,
        space: &str,
        path: &str,
        layers: &[Json],
        doc: u32,
        standings: &[(Vec<ChangeHash>, u64)],
    ) -> Answer {
        let space = self.space(space).await?;
        let document = space.document_with(path, &template(layers)?).await?;
        let changes = space.watch(path)?;
        let (session, mut first, standing) = Session::resume(document, standings)?;
        first["standing"] = json!(standing);
        let session = Rc::new(RefCell::new(session));
        let (told, queue) = mpsc::unbounded();
        let _ = told.unbounded_send(Told::Look);
        self.documents.borrow_mut().insert(doc, Served { told, session: session.clone() });
        spawn_local(serve(self.clone(), doc, session, queue, changes));
        Ok(first)
    }

    pub(super) async fn answer_document(&self, request: Request) -> Answer {
        match request {
            Request::Undo { undo, redo } => {
                let manager = self.undos.borrow().get(&undo).cloned().ok_or_else(|| closed("undo manager"))?;
                let commit = if redo { manager.redo()? } else { manager.undo()? };
                if let Some(commit) = &commit {
                    commit.durable().await?;
                }
                Ok(undo_state(&manager, commit.is_some()))
            }
            Request::UndoBoundary { undo } => {
                if let Some(manager) = self.undos.borrow().get(&undo) {
                    manager.boundary();
                }
                Ok(Json::Null)
            }
            Request::UndoClose { undo } => {
                self.undos.borrow_mut().remove(&undo);
                Ok(Json::Null)
            }
            Request::UndoManager { doc, undo, scope, capture } => {
                let served = self.served(doc)?;
                served.fence().await?;
                let manager = served.session().undo_manager(&scope, Duration::from_millis(capture));
                let state = undo_state(&manager, false);
                self.undos.borrow_mut().insert(undo, manager);
                Ok(state)
            }
            Request::Fence { doc } => {
                let served = self.served(doc)?;
                // The first has what was there told, the second is behind that.
                served.fence().await?;
                served.fence().await?;
                Ok(Json::Null)
            }
            Request::Synced { doc, peers } => {
                let served = self.served(doc)?;
                served.fence().await?;
                let document = served.session().document().clone();
                document.synced(peers).await?;
                Ok(Json::Null)
            }
            Request::Cursor { doc, .. } | Request::Locate { doc, .. } => {
                self.served(doc)?.fence().await?;
                self.look_at_document(request)
            }
            request => self.look_at_document(request),
        }
    }

    fn look_at_document(&self, request: Request) -> Answer {
        match request {
            Request::At { doc, heads } => {
                let served = self.served(doc)?;
                let value = served.session().document().value_at(&parse_heads(&heads)?)?;
                Ok(value.to_tagged_json())
            }
            Request::Diff { doc, from, to } => {
                let served = self.served(doc)?;
                let found = served.session().document().diff(&parse_heads(&from)?, &parse_heads(&to)?)?;
                Ok(patches::patches(&found))
            }
            Request::History { doc, before, limit } => {
                let served = self.served(doc)?;
                let before = before.map(|text| parse("before", &text)).transpose()?;
                let found = served.session().document().history(before, limit)?;
                let change = |c: &foreshore::document::ChangeInfo| {
                    json!({
                        "heads": [c.hash.to_string()], "actor": hex(&c.actor), "time": c.time.0,
                        "message": c.message,
                    })
                };
                Ok(found.iter().map(change).collect())
            }
            Request::Conflicts { doc, at } => {
                let served = self.served(doc)?;
                let found = served.session().document().conflicts(ops::way(&at))?;
                let conflict = |c: &foreshore::document::Conflict| json!({ "value": c.value.to_tagged_json(), "actor": hex(&c.actor), "time": c.time.0 });
                Ok(found.iter().map(conflict).collect())
            }
            Request::Cursor { doc, at, index, before } => {
                let side = if before { Side::Before } else { Side::After };
                Ok(self.served(doc)?.session().cursor(&at, index, side)?.to_string().into())
            }
            Request::Locate { doc, at, cursors } => {
                let parsed = cursors.iter().map(|text| parse("cursor", text)).collect::<Result<Vec<_>, _>>()?;
                Ok(json!(self.served(doc)?.session().locate(&at, &parsed)?))
            }
            other => Err(Failure::invalid("request", format!("{other:?}"))),
        }
    }
}

fn undo_state(manager: &foreshore::peer::Undo, did: bool) -> Json {
    json!({ "did": did, "canUndo": manager.can_undo(), "canRedo": manager.can_redo() })
}

fn hex(actor: &foreshore::id::Actor) -> String {
    actor.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A served document for as long as one request takes.
pub(super) struct ServedRef(Served);

impl ServedRef {
    pub(super) fn session(&self) -> std::cell::Ref<'_, Session> {
        self.0.session.borrow()
    }

    pub(super) fn session_mut(&self) -> std::cell::RefMut<'_, Session> {
        self.0.session.borrow_mut()
    }
}

impl std::ops::Deref for ServedRef {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.0
    }
}

/// Serves one document until the page closes it or the peer ends.
async fn serve(
    inner: Rc<Inner>,
    doc: u32,
    session: Rc<RefCell<Session>>,
    mut queue: mpsc::UnboundedReceiver<Told>,
    mut changes: foreshore::peer::SpaceWatch,
) {
    let path = session.borrow().document().path().clone();
    loop {
        let told = match select(queue.next(), pin!(changes.next())).await {
            Either::Left((None, _)) | Either::Right((None, _)) => return,
            Either::Left((Some(told), _)) => Some(told),
            Either::Right((Some(SpaceChange::Document(change)), _)) if change.path != path => continue,
            Either::Right((Some(_), _)) => None,
        };
        let mut told = told;
        // Edits that came meanwhile are made before the page is told anything: it would drop that in any case.
        while let Some(next) = told {
            let edited = matches!(next, Told::Edit(..) | Told::Hold(..));
            match next {
                Told::Ack(event) => session.borrow_mut().ack(event),
                Told::Edit(edit, answer) => make(&inner, doc, &session, edit, answer).await,
                Told::Fence(reached) => drop(reached.send(())),
                Told::Hold(reached, released) => {
                    let _ = reached.send(());
                    // Released by a word or by nobody being there to say one.
                    let _ = released.await;
                }
                Told::Look => {}
            }
            told = if edited { queue.try_recv().ok() } else { None };
        }
        pump(&inner, doc, &session);
    }
}

fn pump(inner: &Rc<Inner>, doc: u32, session: &Rc<RefCell<Session>>) {
    let event = session.borrow_mut().pump();
    match event {
        Ok(None) => {}
        Ok(Some(mut event)) => {
            event["event"] = "doc".into();
            event["doc"] = doc.into();
            inner.tell(&event);
        }
        Err(error) => {
            let failure = Failure::from(error).to_json();
            inner.tell(&json!({ "event": "docFailed", "doc": doc, "failure": failure }));
        }
    }
}

/// Makes an edit; its answer follows when it is stored, and the next edit need not wait for that.
async fn make(
    inner: &Rc<Inner>,
    doc: u32,
    session: &Rc<RefCell<Session>>,
    edit: Edit,
    answer: oneshot::Sender<Answer>,
) {
    let document = session.borrow().document().clone();
    // Too much on its way: later edits of this page wait behind this one, which is what slows it down.
    document.ready().await;
    let made = session.borrow_mut().edit(&edit);
    match made {
        Err(failure) => drop(answer.send(Err(failure))),
        Ok(commit) => {
            // The page can tell a later host which of its edits this is, whether or not it hears that it is stored.
            let hash = commit.hash().map(|hash| hash.to_string());
            inner.tell(&json!({ "event": "made", "doc": doc, "seq": edit.seq, "hash": hash }));
            let (inner, session) = (inner.clone(), session.clone());
            spawn_local(async move {
                let stored = commit.durable().await;
                if matches!(&stored, Err(error) if !matches!(error, CommandError::Closed)) {
                    session.borrow_mut().roll_back();
                    if let Some(served) = inner.documents.borrow().get(&doc) {
                        served.look();
                    }
                }
                let heads = stored.map(|heads| json!({ "heads": patches::heads(&heads) }));
                let _ = answer.send(heads.map_err(|error| DocumentError::from(error).into()));
            });
        }
    }
}
