//! Soft state for pages: every change of what is followed is told as the whole list, which is small by its bounds.

use std::rc::Rc;

use foreshore::peer::{Soft, SoftItem};
use futures::channel::oneshot;
use futures::future::{Either, select};
use serde_json::{Value as Json, json};
use std::pin::pin;
use wasm_bindgen_futures::spawn_local;

use super::{Answer, Inner, closed, parse};
use crate::errors::Failure;
use crate::request::Request;

/// Entries that a page follows. Dropping it ends its task.
pub(super) struct Followed {
    soft: Soft<Json>,
    _gone: oneshot::Sender<()>,
}

impl Inner {
    pub(super) async fn answer_soft(self: &Rc<Self>, request: Request) -> Answer {
        match request {
            Request::Soft { space, prefix, soft } => {
                self.want(&space, soft, parse("prefix", &prefix)?).await?;
                let handle = self.space(&space).await?.soft::<Json>(prefix.as_str())?;
                let (gone, ended) = oneshot::channel();
                spawn_local(follow(self.clone(), soft, handle.clone(), ended));
                let entries = handle.entries().await?;
                self.softs.borrow_mut().insert(soft, Followed { soft: handle, _gone: gone });
                Ok(entries.iter().map(entry).collect())
            }
            Request::SoftSet { soft, key, value } => {
                let handle = self.soft(soft)?;
                handle.set(&key, &value)?.await?;
                Ok(Json::Null)
            }
            Request::SoftDelete { soft, key } => Ok(self.soft(soft)?.delete(&key)?.await?.into()),
            Request::SoftClose { soft } => {
                self.softs.borrow_mut().remove(&soft);
                self.unwant(soft).await?;
                Ok(Json::Null)
            }
            other => Err(Failure::invalid("request", format!("{other:?}"))),
        }
    }

    fn soft(&self, soft: u32) -> Result<Soft<Json>, Failure> {
        self.softs.borrow().get(&soft).map(|followed| followed.soft.clone()).ok_or_else(closed)
    }
}

async fn follow(inner: Rc<Inner>, id: u32, soft: Soft<Json>, mut ended: oneshot::Receiver<()>) {
    let mut watch = soft.watch();
    loop {
        match select(&mut ended, pin!(watch.next())).await {
            Either::Left(_) | Either::Right((None, _)) => return,
            Either::Right((Some(_), _)) => {}
        }
        // What gathered meanwhile is in the same list.
        let Ok(entries) = soft.entries().await else { return };
        let entries: Vec<Json> = entries.iter().map(entry).collect();
        inner.tell(&json!({ "event": "soft", "soft": id, "entries": entries }));
    }
}

fn entry(item: &SoftItem<Json>) -> Json {
    json!({
        "key": item.key,
        "value": item.value,
        "peer": foreshore::peer::peer_text(&item.owner.peer),
        "member": item.owner.device.to_string(),
        "mine": item.mine,
        "away": item.away,
        "expiresIn": u64::try_from(item.expires_in.as_millis()).unwrap_or(u64::MAX),
    })
}
