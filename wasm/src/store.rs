//! Storage tasks, carried out by JavaScript.
//!
//! The engine's tasks are turned into arrays that IndexedDB takes as they are: its binary keys sort like ours. Tasks run
//! one after the other, in a task of the event loop; the engine has one write on its way at a time, so nothing queues up.
//!
//! The JavaScript side promises what [`foreshore::store`] asks of a backend: a write is one transaction, durable before
//! its promise resolves, and aborts if the epoch row holds something else than the write names.

use foreshore::io::{ReadOp, Rows, StorageFailure, StorageReply, StorageTask, StorageWork, Ticket, WriteOp};
use foreshore::store::{Answers, TaskStore};
use futures::StreamExt as _;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// What the package gives: see `storage.ts`.
    pub type JsStore;

    #[wasm_bindgen(method, catch)]
    async fn write(this: &JsStore, ops: Array, epoch: Option<Uint8Array>) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn read(this: &JsStore, ops: Array) -> Result<JsValue, JsValue>;
}

/// Sends tasks to the event-loop task that has the JavaScript object.
pub(crate) struct Store(UnboundedSender<StorageTask>);

impl Store {
    /// A store whose tasks go out by the receiver.
    pub(crate) fn pair() -> (Self, UnboundedReceiver<StorageTask>) {
        let (tasks, queue) = unbounded();
        (Self(tasks), queue)
    }
}

impl TaskStore for Store {
    fn submit(&mut self, task: StorageTask) {
        // The other end lives as long as this one.
        let _ = self.0.unbounded_send(task);
    }

    fn close(self: Box<Self>) {}
}

/// Carries tasks out until the engine is done.
pub(crate) async fn serve(store: JsStore, mut queue: UnboundedReceiver<StorageTask>, answers: Answers) {
    while let Some(StorageTask { ticket, work }) = queue.next().await {
        let result = match work {
            StorageWork::Write { ops, epoch } => write(&store, &ops, epoch.as_deref()).await,
            StorageWork::Read { ops } => read(&store, &ops).await,
        };
        answer(&answers, ticket, result);
    }
}

fn answer(answers: &Answers, ticket: Ticket, result: Result<StorageReply, JsValue>) {
    answers(ticket, result.map_err(|error| failure(&error)));
}

async fn write(store: &JsStore, ops: &[WriteOp], epoch: Option<&[u8]>) -> Result<StorageReply, JsValue> {
    let list = Array::new();
    for op in ops {
        let row = match op {
            WriteOp::Put(table, key, value) => {
                Array::of4(&"put".into(), &table.name().into(), &bytes(key), &bytes(value))
            }
            WriteOp::Delete(table, key) => Array::of3(&"delete".into(), &table.name().into(), &bytes(key)),
            WriteOp::DeleteRange(table, from, to) => {
                Array::of4(&"clear".into(), &table.name().into(), &bytes(from), &bytes(to))
            }
        };
        list.push(&row);
    }
    store.write(list, epoch.map(Uint8Array::from)).await?;
    Ok(StorageReply::Written)
}

async fn read(store: &JsStore, ops: &[ReadOp]) -> Result<StorageReply, JsValue> {
    let list = Array::new();
    for op in ops {
        let row = match op {
            ReadOp::Get(table, key) => Array::of3(&"get".into(), &table.name().into(), &bytes(key)),
            ReadOp::Scan { table, from, to, limit } => {
                let to = to.as_deref().map_or(JsValue::NULL, bytes);
                let limit = u32::try_from(*limit).unwrap_or(u32::MAX);
                Array::of5(&"scan".into(), &table.name().into(), &bytes(from), &to, &limit.into())
            }
        };
        list.push(&row);
    }
    let answers: Array = store.read(list).await?.dyn_into()?;
    let rows = answers.iter().map(rows).collect::<Result<Vec<_>, _>>()?;
    Ok(StorageReply::Read(rows))
}

/// One answer: keys and values in turn.
fn rows(answer: JsValue) -> Result<Rows, JsValue> {
    let answer: Array = answer.dyn_into()?;
    let mut rows = Rows::default();
    let mut items = answer.iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        rows.push(&Uint8Array::new(&key).to_vec(), &Uint8Array::new(&value).to_vec());
    }
    Ok(rows)
}

fn bytes(bytes: &[u8]) -> JsValue {
    Uint8Array::from(bytes).into()
}

/// A rejection as the engine understands it. The package names what it knows in `kind`.
fn failure(error: &JsValue) -> StorageFailure {
    let text = |key: &str| Reflect::get(error, &key.into()).ok().and_then(|value| value.as_string());
    let detail = text("message").unwrap_or_else(|| format!("{error:?}"));
    match text("kind").as_deref() {
        Some("full") => StorageFailure::Full,
        Some("epoch") => StorageFailure::HostEpochChanged,
        Some("corrupt") => StorageFailure::Corrupt { detail },
        _ => StorageFailure::Io { detail },
    }
}
